"""From a finished job to MRML: a segmentation node with named, coloured, coded segments and the report on it.

A result belongs to its reference volume, on whose grid it was made. The node keeps that grid, so that transforms which
the volume gets later change nothing.
"""

import hashlib
import json

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from lckd.anatomy import LABELS, REGION_LABELS, STRUCTURES, terminology_entry

from .scene import RESULT_ATTRIBUTE, doubtful, ijk_to_world

REPRESENTATION = "Binary labelmap"
MADE_ATTRIBUTE = "LCKDSegment.Made"
"""A digest of each segment as the program made it."""
NAME_ATTRIBUTE = "LCKDSegment.Name"
"""The name that the program gave it."""
SHOWN_OF_REPORT = {"inputs", "volumes_ml", "expected_dice", "warnings", "notice"}
"""What of a report the panel cannot do without."""
NESTED = ("TC", "WT")
"""The regions shown beside the labels on request; they overlap them."""


def read_labels(path) -> np.ndarray:
    """The label image that the child wrote, (k, j, i) as the reference volume's voxels."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def show_result(scene, labels: np.ndarray, reference, report: dict, nested: bool, node=None):
    """Put labels (k, j, i on the reference volume's grid) into a segmentation node, a new one or the one given.

    The node gets the reference's geometry, parent transform and subject-hierarchy folder, and keeps the report.
    """
    fresh = node is None
    if fresh:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", _title(reference))
        node.CreateDefaultDisplayNodes()
    else:
        if not node.GetName().startswith(_title(reference)):
            node.SetName(_title(reference))
        if node.GetDisplayNode():
            node.GetDisplayNode().SetVisibility(True)
    node.SetAttribute(NAME_ATTRIBUTE, node.GetName())
    node.SetAttribute(RESULT_ATTRIBUTE, json.dumps(report))
    # The transform first: the geometry is stored as it is seen from the segmentation's own space.
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    for name, value in LABELS.items():
        _put_segment(node, name, labels == value)
    set_nested(node, nested)
    if fresh:
        _file_beside(scene, node, reference)
    return node


def show_alone(result, reference, study_ids: set[str], on_reference: set[str]) -> None:
    """Turn the slice views to a result's reference, and hide the results of other studies.

    Args:
        study_ids: the node IDs of the volumes of the result's study.
        on_reference: of those the ones that lie as the reference does; views keep what they show of them.
    """
    scene = reference.GetScene()
    for other in results(scene):
        of = reference_of(other)
        if other is not result and (of is None or of.GetID() not in study_ids) and other.GetDisplayNode():
            other.GetDisplayNode().SetVisibility(False)
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene):
        if view.GetBackgroundVolumeID() not in on_reference:
            view.SetBackgroundVolumeID(reference.GetID())
        if view.GetForegroundVolumeID() not in on_reference:
            view.SetForegroundVolumeID(None)


def jump_to_tumour(labels: np.ndarray, reference) -> None:
    """Move the slice views to the middle of the tumour core, or of the oedema where there is no core.

    Args:
        labels: (k, j, i) on the reference volume's grid.
    """
    found = np.argwhere(np.isin(labels, [LABELS["NCR"], LABELS["ET"]]))
    found = found if len(found) else np.argwhere(labels)
    if not len(found):
        return
    point = ijk_to_world(reference) @ [*np.median(found, axis=0)[::-1], 1.0]
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *point[:3])


def results(scene) -> list:
    """Every result in the scene, in the order they were made."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene) if report_of(node)]


def results_of(scene, volume_ids: set[str]) -> list:
    """The results whose reference is one of these volumes (node IDs), in the order they were made."""
    return [node for node in results(scene) if (volume := reference_of(node)) and volume.GetID() in volume_ids]


def reference_of(node):
    """The volume on whose grid a result was made; None where that is no longer in the scene."""
    return node.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def make_room(scene, volume_ids: set[str], reference):
    """The result of a study (its volumes' node IDs) that a new one may fill, or None; the study's others are hidden.

    What a person has edited or renamed is not filled, nor one of a volume whose name, beside the new reference's, makes
    one wonder: a folder of downloads may hold several patients.
    """
    of_study = results_of(scene, volume_ids)
    free = [node for node in of_study if not renamed(node) and not edited(node)]
    free = [node for node in free if not doubtful([reference_of(node), reference])]
    for node in of_study:
        if node not in free[-1:] and node.GetDisplayNode():
            node.GetDisplayNode().SetVisibility(False)
    return free[-1] if free else None


def renamed(node) -> bool:
    """Whether a result no longer has the name that it was given."""
    return node.GetName() != node.GetAttribute(NAME_ATTRIBUTE)


def edited(node) -> bool:
    """Whether a result's segments are no longer as the program made them."""
    return _differ(node, LABELS) or nested_edited(node)


def nested_edited(node) -> bool:
    """Whether segments of the nested regions are there and no longer as the program made them."""
    return _differ(node, [name for name in NESTED if node.GetSegmentation().GetSegment(name)])


def _differ(node, names) -> bool:
    made = _made(node)
    return any(made.get(name) != _digest(_mask(node, name)) for name in names)


def shows_nested(node) -> bool:
    """Whether a result has the segments of the nested regions."""
    return node.GetSegmentation().GetSegment(NESTED[-1]) is not None


def set_nested(node, nested: bool) -> None:
    """Add or remove the segments of the nested regions TC and WT, made of the labels as they are now."""
    labels = labels_of(node) if nested else None
    for name in NESTED:
        if nested:
            _put_segment(node, name, np.isin(labels, [LABELS[label] for label in REGION_LABELS[name]]))
        elif node.GetSegmentation().GetSegment(name):
            node.GetSegmentation().RemoveSegment(name)


def labels_of(node) -> np.ndarray:
    """The label array (k, j, i on the grid that it was made on) that a result node holds, its edits included."""
    labels = np.zeros(_grid(node).GetDimensions()[::-1], np.uint8)
    for name, value in LABELS.items():
        labels[_mask(node, name)] = value
    return labels


def current_report(node) -> dict | None:
    """The report with the volumes of the segments as they are now, and a warning where they have been edited."""
    report = report_of(node)
    if report is None:
        return None
    labels_edited, regions_edited = _differ(node, LABELS), nested_edited(node)
    if labels_edited or regions_edited:
        report["volumes_ml"] = _volumes_ml(node)
        if labels_edited and not regions_edited and shows_nested(node):
            report["warnings"].insert(
                0, "tumour core and whole tumour are shown as they were before the edit: switch them off and on"
            )
        report["warnings"].insert(
            0, "edited since it was made: the volumes are those of the edited segments, the expected Dice is not"
        )
    return report


def report_of(node) -> dict | None:
    """The report as it was written, or None when the node is not one of ours, or has one that cannot be read."""
    text = node.GetAttribute(RESULT_ATTRIBUTE) if node else None
    try:
        report = json.loads(text) if text else None
    except ValueError:
        return None
    return report if isinstance(report, dict) and report.keys() >= SHOWN_OF_REPORT else None


def _grid(node):
    """The grid that a result was made on, as an image in the segmentation's own space (its transforms left out)."""
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    grid = slicer.vtkOrientedImageData()
    geometry = node.GetSegmentation().GetConversionParameter(parameter)
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, grid)
    return grid


def _mask(node, name: str) -> np.ndarray:
    """A segment's voxels (k, j, i on the result's grid); none where there is no such segment."""
    grid = _grid(node)
    shape = grid.GetDimensions()[::-1]
    segment, on_grid = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    segmentation = node.GetSegmentation()
    if not segmentation.GetSegment(name):
        return np.zeros(shape, bool)
    if not segmentation.ContainsRepresentation(REPRESENTATION):  # a person has made the surfaces the source
        segmentation.CreateRepresentation(REPRESENTATION)
    if not node.GetBinaryLabelmapRepresentation(name, segment) or segment.IsEmpty():
        return np.zeros(shape, bool)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(segment, grid, on_grid)
    return vtk_to_numpy(on_grid.GetPointData().GetScalars()).reshape(shape) > 0


def _volumes_ml(node) -> dict[str, float]:
    """Every structure's volume as its segment is now, overlaps included.

    A region is that of its labels unless a person has edited its own segment: what is shown of it may be older.
    """
    voxel_ml = float(np.prod(_grid(node).GetSpacing())) / 1000 * _growth(node)
    masks = {name: _mask(node, name) for name in LABELS}
    for name in NESTED:
        parts = [masks[label] for label in REGION_LABELS[name]]
        drawn = node.GetSegmentation().GetSegment(name) and _differ(node, [name])
        masks[name] = _mask(node, name) if drawn else np.any(parts, axis=0)
    return {name: round(float(np.count_nonzero(masks[name])) * voxel_ml, 3) for name in STRUCTURES}


def _growth(node) -> float:
    """By how much a segmentation's parent transform makes volumes larger; a report counts millilitres in the world."""
    to_world = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if parent and parent.IsTransformToWorldLinear():
        parent.GetMatrixTransformToWorld(to_world)
    return abs(to_world.Determinant())


def _made(node) -> dict[str, str]:
    """Segment -> digest of its voxels, as the program made it."""
    return json.loads(node.GetAttribute(MADE_ATTRIBUTE) or "{}")


def _digest(mask: np.ndarray) -> str:
    return hashlib.sha256(np.packbits(mask)).hexdigest()


def _title(reference) -> str:
    return f"{reference.GetName()} glioma"


def _put_segment(node, name: str, mask: np.ndarray) -> None:
    """Set a segment's voxels (k, j, i on the result's grid); one that is there keeps how it is shown."""
    structure = STRUCTURES[name]
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(mask.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(mask, np.uint8).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    matrix = vtk.vtkMatrix4x4()
    _grid(node).GetImageToWorldMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    node.SetAttribute(MADE_ATTRIBUTE, json.dumps({**_made(node), name: _digest(mask)}))
    segmentation = node.GetSegmentation()
    if segmentation.GetSegment(name):
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(image, node, name, logic.MODE_REPLACE)
        return
    segmentation.SetSourceRepresentationName(REPRESENTATION)
    segment = slicer.vtkSegment()
    segment.SetName(structure.title)
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    segment.SetColor(*(c / 255 for c in structure.colour))
    segment.SetTag("TerminologyEntry", terminology_entry(name))
    segment.AddRepresentation(REPRESENTATION, image)
    segmentation.AddSegment(segment, name)


def _file_beside(scene, node, reference) -> None:
    """Put the result into the subject-hierarchy folder (study) that holds the reference volume."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(reference)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))
