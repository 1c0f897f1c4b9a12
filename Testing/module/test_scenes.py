"""The panel while scenes are opened, added and tidied."""

import numpy as np
import slicer
import vtk

LONG = 120  # seconds that a segmentation may take on a busy machine


def settle(host):
    host.process(0.4)


def test_a_scene_added_while_a_segmentation_runs_does_not_take_over_the_panel(host, panel, sequence, tmp_path):
    first = slicer.util.loadVolume(str(sequence("T1")))
    first.SetName("patient2_t1")
    settle(host)
    slicer.util.saveScene(str(tmp_path / "other.mrb"))
    slicer.mrmlScene.RemoveNode(first)
    flair, _ = (slicer.util.loadVolume(str(sequence(name))) for name in ("FLAIR", "T2"))
    settle(host)
    panel.ui.selectorT2.setCurrentNode(None)
    panel.ui.deviceComboBox.setCurrentText("cpu")
    panel.ui.registerComboBox.setCurrentText("never")
    panel.ui.segmentButton.click()
    assert panel.job
    manager = slicer.app.coreIOManager()
    assert manager.loadNodes("SceneFile", {"fileName": str(tmp_path / "other.mrb"), "clear": False})
    assert panel.slots.nodes() == {"FLAIR": flair} and panel.ui.registerComboBox.currentText == "never"
    assert host.process(LONG, lambda: panel.job is None)
    settle(host)
    assert panel.slots.nodes() == {"FLAIR": flair} and "glioma" in panel.ui.resultButton.text
    assert panel.ui.volumeTable.rowCount == 5


def test_a_scene_added_does_not_take_what_was_chosen_by_hand(host, panel, sequence, tmp_path):
    other = slicer.util.loadVolume(str(sequence("T1")))
    other.SetName("PatB_2_t1")
    settle(host)
    panel.ui.selectorT1.setCurrentNode(None)
    panel.ui.selectorFLAIR.setCurrentNode(other)
    panel.ui.brainComboBox.setCurrentText("never")
    slicer.util.saveScene(str(tmp_path / "other.mrb"))
    slicer.mrmlScene.Clear()
    settle(host)
    mine = slicer.util.loadVolume(str(sequence("T2")))
    settle(host)
    panel.ui.selectorT2.setCurrentNode(None)
    panel.ui.selectorT1.setCurrentNode(mine)
    manager = slicer.app.coreIOManager()
    assert manager.loadNodes("SceneFile", {"fileName": str(tmp_path / "other.mrb"), "clear": False})
    settle(host)
    assert panel.slots.nodes() == {"T1": mine} and panel.ui.brainComboBox.currentText == "auto"
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "other.mrb"))
    settle(host)
    assert [node.GetName() for node in panel.slots.nodes().values()] == ["PatB_2_t1"], "opened, it brings its own"
    assert panel.ui.brainComboBox.currentText == "never"


def test_choices_of_a_scene_that_was_closed_do_not_come_back(host, panel, sequence, tmp_path):
    """Though another was added to it while another module was shown, and IDs are given anew."""
    mine = slicer.util.loadVolume(str(sequence("T2")))
    settle(host)
    slicer.util.saveScene(str(tmp_path / "other.mrb"))
    panel.ui.selectorT2.setCurrentNode(None)
    panel.ui.selectorT1.setCurrentNode(mine)
    panel.exit()
    slicer.app.coreIOManager().loadNodes("SceneFile", {"fileName": str(tmp_path / "other.mrb"), "clear": False})
    slicer.mrmlScene.Clear()
    slicer.util.loadVolume(str(sequence("FLAIR")))
    panel.enter()
    settle(host)
    assert list(panel.slots.nodes()) == ["FLAIR"]


def test_a_scene_opened_while_another_module_is_shown_is_left_alone(host, panel, sequence, tmp_path):
    slicer.util.loadVolume(str(sequence("FLAIR")))
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    panel.exit()
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    settle(host)
    assert panel.slots.nodes() == {}
    panel.enter()
    assert list(panel.slots.nodes()) == ["FLAIR"]


def test_a_choice_outlives_a_parameter_node_that_was_removed(host, panel, sequence):
    slicer.util.loadVolume(str(sequence("FLAIR")))
    settle(host)
    slicer.mrmlScene.RemoveNode(panel.logic.getParameterNode())
    settle(host)
    panel.ui.selectorFLAIR.setCurrentNode(None)
    panel.fillSlots()
    assert panel.slots.nodes() == {}


def test_a_volume_without_voxels_stops_nothing(host, panel, sequence):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "t2")
    node.SetAndObserveImageData(vtk.vtkImageData())
    slicer.util.loadVolume(str(sequence("FLAIR")))
    settle(host)
    assert list(panel.slots.nodes()) == ["FLAIR"]
    panel.ui.selectorT2.setCurrentNode(node)
    assert not panel.ui.segmentButton.enabled
    assert "t2 holds no voxels" in panel.ui.segmentButton.toolTip


def test_sequences_that_do_not_exist_are_named(panel):
    node = slicer.util.addVolumeFromArray(np.ones((4, 4, 4)))
    assert "T1c is no sequence" in panel.logic.problem({"T1c": node})
    assert "holds no voxels" in panel.logic.problem({"FLAIR": None})
