"""The node selector (nodelist and nodecombobox): following the scene, filters, actions."""

import numpy as np
import pytest
import slicer


@pytest.fixture
def make(host):
    def build(**properties):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.addEnabled = selector.removeEnabled = False
        for name, value in properties.items():
            setattr(selector, name, value)
        selector.setMRMLScene(slicer.mrmlScene)
        return selector

    return build


def volume(name, className="vtkMRMLScalarVolumeNode"):
    return slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), np.uint8), name=name, nodeClassName=className)


def test_first_node_is_selected_unless_none_is_allowed(make):
    plain, optional, withActions = make(), make(noneEnabled=True), make(addEnabled=True)
    node = volume("A")
    assert plain.currentNode() is node
    assert plain.currentNodeID == node.GetID()
    assert optional.currentNode() is None
    assert withActions.currentNode() is None  # as in Qt: rows were there before the node
    assert make(addEnabled=True).currentNode() is node  # but a node that exists already is selected


def test_follows_rename_removal_and_clear(make):
    selector, got = make(), []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", got.append)
    first, second = volume("A"), volume("B")
    second.SetName("C")
    assert [node.GetName() for node in selector.nodes()] == ["A", "C"]
    selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert got[:2] == [first, second]
    assert selector.nodes() == [first]
    slicer.mrmlScene.Clear(False)
    assert selector.currentNode() is None
    assert selector.nodeCount() == 0


def test_signals(make):
    selector, nodes, ids, valid = make(noneEnabled=True), [], [], []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", nodes.append)
    selector.connect("currentNodeChanged(bool)", valid.append)
    selector.connect("currentNodeIDChanged(QString)", ids.append)
    node = volume("A")
    selector.setCurrentNodeID(node.GetID())
    selector.setCurrentNode(None)
    assert nodes == [node, None]
    assert valid == [True, False]
    assert ids == [node.GetID(), ""]


def test_filters(make):
    children = make()
    exact = make(showChildNodeTypes=False)
    hidden = make(hideChildNodeTypes=["vtkMRMLLabelMapVolumeNode"])
    marked = make()
    marked.addAttribute("vtkMRMLScalarVolumeNode", "Role", "T1")
    scan, labels = volume("scan"), volume("labels", "vtkMRMLLabelMapVolumeNode")
    assert children.nodes() == [scan, labels]
    assert exact.nodes() == hidden.nodes() == [scan]
    assert marked.nodes() == []
    labels.SetAttribute("Role", "T1")
    assert marked.nodes() == [labels]
    scan.SetHideFromEditors(True)
    assert children.nodes() == [labels]


def test_add_and_rename(make, host):
    selector = make(addEnabled=True, renameEnabled=True, baseName="Result")
    node = selector.addNode()
    assert node.GetName() == "Result"
    assert selector.currentNode() is node
    host.dialogs.answer("getText", "Better")
    selector.renameCurrentNode()
    assert node.GetName() == "Better"
    texts = [selector._combo.itemText(row) for row in range(selector._combo.count)]
    assert texts == ["Better", "", "Rename current Volume", "Create new Volume"]


def test_request_before_the_scene(host):
    node = volume("A")
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    assert not selector.enabled
    selector.setCurrentNodeID(node.GetID())
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.enabled
    assert selector.currentNode() is node


def test_a_deleted_selector_is_left_alone(make):
    selector = make()
    selector.delete()
    node = volume("A")
    node.SetName("B")
    slicer.mrmlScene.RemoveNode(node)
