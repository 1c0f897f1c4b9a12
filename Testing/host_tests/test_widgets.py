"""Other stand-in widgets, and the strictness they share."""

import ctk
import pytest
import qt
import slicer


def test_unknown_attributes_are_refused(host):
    with pytest.raises(AttributeError, match="not allowed"):
        slicer.qMRMLNodeComboBox().nodeType = "vtkMRMLVolumeNode"


def test_property_types(host):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ("vtkMRMLVolumeNode",)
    assert selector.nodeTypes == ["vtkMRMLVolumeNode"]
    for name, value in (("nodeTypes", "vtkMRMLVolumeNode"), ("noneDisplay", None)):
        with pytest.raises(AttributeError):
            setattr(selector, name, value)
    selector.setNodeTypes(["vtkMRMLModelNode"])
    assert selector.nodeTypes == ["vtkMRMLModelNode"]


def test_collapsible_button(host):
    section, changes = ctk.ctkCollapsibleButton("Advanced"), []
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("a"), qt.QLabel("b")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.hide()
    section.connect("contentsCollapsed(bool)", changes.append)
    section.show()
    section.collapsed = True
    assert not shown.visible
    section.collapsed = False
    assert shown.visible
    assert not hidden.visible
    assert changes == [True, False]


def test_slider(host):
    slider, values = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", values.append)
    slider.maximum = 10
    slider.decimals = 1
    slider.value = 2.5
    assert (slider.value, values) == (2.5, [2.5])


def test_path_line_edit(host):
    from pathlib import Path

    edit, paths = ctk.ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", paths.append)
    edit.filters = ctk.ctkPathLineEdit.Dirs
    host.dialogs.answer("getExistingDirectory", "/data")
    edit.browse()
    assert (edit.currentPath, paths) == ("/data", ["/data"])
    with pytest.raises(TypeError):
        edit.setCurrentPath(Path("/data"))


def test_segments_table_and_3d_button(host, ball):
    _, node = ball
    table, button = slicer.qMRMLSegmentsTableView(), slicer.qMRMLSegmentationShow3DButton()
    assert not button.enabled
    table.setSegmentationNode(node)
    button.setSegmentationNode(node)
    assert table.displayedSegmentIDs() == ["Edema", "Enhancing", "Necrosis"]
    table.tableWidget().cellClicked.emit(1, 0)
    assert not node.GetDisplayNode().GetSegmentVisibility("Enhancing")
    node.GetSegmentation().RemoveSegment("Necrosis")
    assert table.segmentCount == 2
    button.click()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    button.click()
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")
