"""From a result to MRML: segments, geometry, subject hierarchy, the report that stays with the scene."""

import numpy as np
import pytest
import slicer
import vtk
from editing import erase
from vtk.util.numpy_support import vtk_to_numpy

from lckd.anatomy import LABELS, STRUCTURES, terminology_entry
from lckd.results import millilitres
from LCKDSegmentLib import result_nodes

REPORT = {
    "inputs": {"FLAIR": {"volume": "flair"}}, "warnings": ["look"], "volumes_ml": {}, "expected_dice": {}, "notice": "",
}  # fmt: skip


@pytest.fixture
def reference(host):
    node = slicer.util.addVolumeFromArray(np.zeros((10, 12, 14), np.int16), name="flair")
    node.SetSpacing(1, 2, 3)
    node.SetOrigin(4, 5, 6)
    return node


@pytest.fixture
def labels():
    array = np.zeros((10, 12, 14), np.uint8)
    array[2:8, 2:8, 2:8] = LABELS["ED"]
    array[3:6, 3:6, 3:6] = LABELS["NCR"]
    array[4, 4, 4:7] = LABELS["ET"]
    return array


def ids(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]


def test_segments_have_names_colours_and_codes(reference, labels):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    assert ids(node) == list(LABELS)
    for name in LABELS:
        segment = node.GetSegmentation().GetSegment(name)
        assert segment.GetName() == STRUCTURES[name].title
        assert np.allclose(segment.GetColor(), np.array(STRUCTURES[name].colour) / 255)
        entry = vtk.reference("")
        segment.GetTag("TerminologyEntry", entry)
        assert str(entry) == terminology_entry(name)


def test_voxels_and_geometry_come_back(reference, labels):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=True)
    assert (result_nodes.labels_of(node) == labels).all()
    whole = slicer.util.arrayFromSegmentBinaryLabelmap(node, "WT", reference)
    assert ((whole > 0) == (labels > 0)).all()
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is reference


def test_nested_regions_come_and_go(reference, labels):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=True)
    assert ids(node) == [*LABELS, "TC", "WT"]
    result_nodes.set_nested(node, False)
    assert ids(node) == list(LABELS)


def test_same_node_is_used_again(reference, labels):
    first = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    again = result_nodes.show_result(slicer.mrmlScene, labels * 0, reference, REPORT, nested=False, node=first)
    assert again is first
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert not result_nodes.labels_of(again).any()


def test_result_lies_beside_its_input_and_moves_with_it(reference, labels):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(reference), study)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    reference.SetAndObserveTransformNodeID(transform.GetID())
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert node.GetParentTransformNode() is transform


def test_report_survives_saving_the_scene(reference, labels, tmp_path):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    name = node.GetName()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    loaded = slicer.util.getNode(name)
    assert result_nodes.report_of(loaded) == REPORT
    assert ids(loaded) == list(LABELS)
    assert (result_nodes.labels_of(loaded) == labels).all() and not result_nodes.edited(loaded)


def test_nested_regions_lie_on_the_labels_wherever_the_reference_has_gone(reference, labels):
    """Its volume was registered to another scan after the segmentation, and enhancing tumour there is none."""
    labels[labels == LABELS["ET"]] = LABELS["NCR"]
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 20)
    transform.SetMatrixTransformToParent(matrix)
    reference.SetAndObserveTransformNodeID(transform.GetID())
    result_nodes.set_nested(node, True)
    bounds = {}
    for name in ("ED", "WT"):
        segment = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(name, segment)
        bounds[name] = segment.GetBounds()
    assert np.allclose(bounds["ED"], bounds["WT"])
    assert (result_nodes.labels_of(node) == labels).all()


def in_world(node, name: str) -> np.ndarray:
    """The centre of a segment's only voxel in the world (RAS)."""
    image, to_world = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    node.GetBinaryLabelmapRepresentation(name, image)
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    index = np.argwhere(array)[0][::-1] + image.GetExtent()[::2]
    image.GetImageToWorldMatrix(to_world)
    point = to_world.MultiplyPoint((*index, 1))
    if parent := node.GetParentTransformNode():
        parent.GetMatrixTransformToWorld(to_world)
        point = to_world.MultiplyPoint(point)
    return np.array(point[:3])


def test_a_result_lies_on_a_reference_that_has_been_moved(reference, labels):
    """Also where it fills a result made on another place; and millilitres are those of the world."""
    place, matrix = (4, 5, 6), np.diag([2.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = 50
    labels[:] = 0
    labels[place] = LABELS["ET"]
    there = slicer.util.arrayFromVTKMatrix(ijk_to_ras(reference)) @ (*place[::-1], 1)
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    assert np.allclose(in_world(node, "ET"), there[:3])
    volume = result_nodes._volumes_ml(node)["ET"]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    reference.SetAndObserveTransformNodeID(transform.GetID())
    for filled in (None, node):
        made = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False, node=filled)
        assert np.allclose(in_world(made, "ET"), (matrix @ there)[:3])
        assert (result_nodes.labels_of(made) == labels).all()
        assert result_nodes._volumes_ml(made)["ET"] == pytest.approx(2 * volume)


def ijk_to_ras(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


@pytest.mark.parametrize(("name", "overlap"), [("WT", False), ("NCR", True)])
def test_every_edit_is_noticed(reference, labels, name, overlap):
    """Also of the nested regions, and of what lies under another segment."""
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=True)
    assert not result_nodes.edited(node)
    if overlap:  # necrosis painted over oedema, both kept
        under = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation("ED", under)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(under, node, name, logic.MODE_MERGE_MAX)
    else:
        erase(node, name)
    assert result_nodes.edited(node)
    assert result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference) is None
    result_nodes.set_nested(node, False)
    assert result_nodes.edited(node) == overlap, "the regions are gone, and with them what was edited of them"


def test_edited_segments_have_their_own_volumes_and_are_not_written_over(reference, labels):
    report = {**REPORT, "volumes_ml": millilitres(labels, reference.GetSpacing())}
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, report, nested=False)
    assert result_nodes.current_report(node) == report
    assert result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference) is node
    assert node.GetDisplayNode().GetVisibility()
    erase(node, "NCR")
    found = result_nodes.current_report(node)
    assert found["volumes_ml"] == millilitres(labels * (labels != LABELS["NCR"]), reference.GetSpacing())
    assert "edited" in found["warnings"][0] and result_nodes.report_of(node) == report
    assert result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference) is None
    assert not node.GetDisplayNode().GetVisibility(), "two results of one study would hide each other"


def test_edited_labels_count_in_the_regions_that_are_shown(reference, labels):
    """Their segments are as they were; a region that a person has drawn is what was drawn."""
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=True)
    erase(node, "ED")
    left = millilitres(labels * (labels != LABELS["ED"]), reference.GetSpacing())
    assert result_nodes.current_report(node)["volumes_ml"] == left
    assert "shown as they were before the edit" in result_nodes.current_report(node)["warnings"][1]
    erase(node, "WT")
    assert result_nodes.current_report(node)["volumes_ml"] == {**left, "WT": 0.0}


def test_a_renamed_result_is_kept_and_a_hidden_one_shown_again(reference, labels):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    node.GetDisplayNode().SetVisibility(False)
    free = result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference)
    assert result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False, node=free) is node
    assert node.GetDisplayNode().GetVisibility(), "an invisible result looks like nothing found"
    node.SetName("FLAIR only")
    assert result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference) is None
    node.SetName("flair glioma")
    erase(node, "NCR")
    second = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    assert result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference) is second, (
        f"named {second.GetName()}"
    )


def test_a_renamed_volume_does_not_rename_its_result(reference, labels):
    first = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    reference.SetName("FLAIR of Miller")
    held = result_nodes.make_room(slicer.mrmlScene, {reference.GetID()}, reference)
    assert held is first
    result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False, node=held)
    assert first.GetName() == "FLAIR of Miller glioma" and not result_nodes.renamed(first)


def test_another_studys_result_and_overlay_do_not_lie_over_this_ones(reference, labels):
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    overlay = slicer.util.addVolumeFromArray(np.zeros((3, 3, 3)), name="t1")
    other = slicer.util.addVolumeFromArray(np.zeros((10, 12, 14), np.int16), name="another patient's")
    gone = slicer.util.addVolumeFromArray(np.zeros((10, 12, 14), np.int16), name="gone")
    shown = [
        result_nodes.show_result(slicer.mrmlScene, labels, volume, REPORT, nested=False)
        for volume in (other, gone, reference)
    ]
    slicer.mrmlScene.RemoveNode(gone)
    beside = {reference.GetID(), overlay.GetID()}
    view.SetBackgroundVolumeID(overlay.GetID())
    view.SetForegroundVolumeID(reference.GetID())
    result_nodes.show_alone(shown[2], reference, beside, beside)
    assert [node.GetDisplayNode().GetVisibility() for node in shown] == [False, False, True]
    layers = (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID())
    assert layers == (overlay.GetID(), reference.GetID()), "what a reader has arranged of the study stays"
    view.SetForegroundVolumeID(other.GetID())
    result_nodes.show_alone(shown[2], reference, beside, {reference.GetID()})
    assert (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) == (reference.GetID(), None)


def test_a_result_whose_source_is_its_surface_has_its_volumes(reference, labels):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, {**REPORT, "volumes_ml": {}}, nested=False)
    made = result_nodes._volumes_ml(node)
    assert node.GetSegmentation().CreateRepresentation("Closed surface")
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.GetSegmentation().RemoveRepresentation("Binary labelmap")
    measured = result_nodes.current_report(node)["volumes_ml"]
    assert measured["WT"] == pytest.approx(made["WT"], rel=0.3), "surfaces are smooth"


def test_a_result_is_of_its_reference(reference, labels):
    node = result_nodes.show_result(slicer.mrmlScene, labels, reference, REPORT, nested=False)
    other = slicer.util.addVolumeFromArray(np.zeros((10, 12, 14), np.int16), name="another patient")
    assert result_nodes.make_room(slicer.mrmlScene, {other.GetID()}, other) is None
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "somebody else's")
    assert result_nodes.results(slicer.mrmlScene) == [node]
    again = result_nodes.show_result(slicer.mrmlScene, labels, other, REPORT, nested=False, node=node)
    assert again.GetName() == "another patient glioma" and result_nodes.reference_of(again) is other


def test_the_command_lines_file_opens_as_segments(reference, labels, tmp_path):
    """Slicer's own reader shows the .seg.nrrd of ``lckd segment`` as it would show the module's result."""
    from lckd.results import Outputs, label_image
    from LCKDSegmentLib.scene import image_in_world

    path = tmp_path / "result.seg.nrrd"
    with Outputs() as outputs:
        outputs.image(label_image(labels, image_in_world(reference), segments=True, convention="brats"), path)
    node = slicer.util.loadSegmentation(str(path))
    assert ids(node) == list(LABELS)
    for name in LABELS:
        segment = node.GetSegmentation().GetSegment(name)
        entry = vtk.reference("")
        segment.GetTag("TerminologyEntry", entry)
        assert segment.GetName() == STRUCTURES[name].title and str(entry) == terminology_entry(name)
        assert np.allclose(segment.GetColor(), np.array(STRUCTURES[name].colour) / 255, atol=1e-5)
        shown = slicer.util.arrayFromSegmentBinaryLabelmap(node, name, reference)
        assert ((shown > 0) == (labels == LABELS[name])).all()
