"""Loading .ui files through slicer.util.loadUI."""

import pytest
import slicer


def test_children_properties_and_connections(host, examplePath):
    widget = slicer.util.loadUI(str(examplePath.parent / "Resources/UI/Example.ui"))
    ui = slicer.util.childWidgetVariables(widget)
    assert widget.className() == "qMRMLWidget"
    assert ui.inputSelector.nodeTypes == ["vtkMRMLScalarVolumeNode"]
    assert ui.inputSelector.property("SlicerParameterName") == "inputVolume"
    assert ui.modelPath.filters == ui.modelPath.Dirs | ui.modelPath.Readable
    assert ui.thresholdSlider.value == 100
    assert ui.advancedButton.collapsed
    assert ui.inputSelector.mrmlScene() is None
    widget.setMRMLScene(slicer.mrmlScene)
    assert ui.inputSelector.mrmlScene() is slicer.mrmlScene


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ctkSliderWidget", "ctkUnknownWidget"), "ctkUnknownWidget"),
        (("mrmlSceneChanged(", "mrmlSceneChange("), "signal"),
    ],
)
def test_mistakes_are_told(troubled, examplePath, tmp_path, change, message):
    path = tmp_path / "Broken.ui"
    path.write_text((examplePath.parent / "Resources/UI/Example.ui").read_text().replace(*change))
    with pytest.raises(RuntimeError, match=message):
        slicer.util.loadUI(str(path))


def test_missing_file(host):
    with pytest.raises(RuntimeError, match="not found"):
        slicer.util.loadUI("missing.ui")
