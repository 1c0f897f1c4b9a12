"""A scripted module from file to result (scripted, modules and boot)."""

import numpy as np
import slicer


def test_module_description(example):
    module = slicer.modules.example
    assert module.title == "Example"
    assert slicer.util.modulePath("Example").endswith("Example.py")
    assert slicer.modules.ExampleInstance.started == 1
    assert slicer.modules.ExampleWidget is example
    assert slicer.util.getModuleWidget("Example") is example
    assert slicer.util.getModuleLogic("Example") is example.logic


def test_selector_and_button(example, ball):
    assert example.ui.inputSelector.currentNode() is ball[0]
    assert example.ui.applyButton.enabled
    slicer.mrmlScene.Clear(False)
    assert not example.ui.applyButton.enabled


def test_a_volume_loaded_earlier_is_picked_on_enter(host, ball, examplePath):
    _, widget = host.loadModule(examplePath)
    host.enter("Example")
    assert widget.ui.inputSelector.currentNode() is ball[0]
    host.unloadModule("Example")


def test_run_with_timer(host, example, ball, tmp_path):
    volume, _ = ball
    example.ui.thresholdSlider.value = 150
    example.ui.applyButton.click()
    assert host.process(5, lambda: example.ui.statusLabel.text == "Done")
    node = example.ui.outputSelector.currentNode()
    got = slicer.util.arrayFromSegmentBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0), volume)
    assert np.array_equal(got > 0, slicer.util.arrayFromVolume(volume) > 150)
    picture = tmp_path / "panel.png"
    host.grab(example, picture)
    assert picture.stat().st_size > 5000
    assert host.problems(example.parent) == []


def test_error_reaches_the_user_and_the_test(troubled, examplePath):
    _, widget = troubled.loadModule(examplePath)
    slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)), name="Bad")
    widget.ui.applyButton.click()
    assert troubled.process(5, lambda: troubled.dialogs.texts("error"))
    assert "bad volume" in troubled.dialogs.texts("error")[0]
    assert len(troubled.problems()) == 1  # the exception that tryWithErrorDisplay raised again
    troubled.unloadModule("Example")


def test_parameter_node(example):
    first = example.logic.getParameterNode()
    assert first is example.logic.getParameterNode()
    assert first.GetAttribute("ModuleName") == "Example"
    assert example.logic.getAllParameterNodes() == [first]
    example.ui.thresholdSlider.value = 7
    assert first.GetParameter("Threshold") == "7.0"


def test_enter_and_reload(host, example, ball):
    assert example.entered == 1
    example.onReload()
    reloaded = slicer.modules.ExampleWidget
    assert reloaded is not example
    assert example.Observations == []
    assert reloaded.ui.inputSelector.currentNode() is ball[0]
    assert not example.ui.inputSelector.visible


def test_the_modules_own_test(example):
    slicer.selfTests["Example"]()


def test_unload_cleans_up(host, examplePath):
    _, widget = host.loadModule(examplePath)
    host.unloadModule("Example")
    assert widget.Observations == []
    assert not hasattr(slicer.modules, "example")
