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
from lckd.results import millilitres

from .scene import RESULT_ATTRIBUTE

REPRESENTATION = "Binary labelmap"
MADE_ATTRIBUTE = "LCKDSegment.Made"
"""A digest of the labels as the program made them."""
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
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{reference.GetName()} glioma")
        node.CreateDefaultDisplayNodes()
    node.SetAttribute(RESULT_ATTRIBUTE, json.dumps(report))
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    for name, value in LABELS.items():
        _put_segment(node, name, labels == value)
    node.SetAttribute(MADE_ATTRIBUTE, _digest(labels))
    set_nested(node, nested)
    if fresh:
        _file_beside(scene, node, reference)
    return node


def results(scene) -> list[tuple]:
    """Every result in the scene with its reference volume (None: no longer there), in the order they were made."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return [(node, node.GetNodeReference(role)) for node in nodes if report_of(node)]


def to_fill(scene, reference):
    """The result of this reference volume that a new one may replace, or None: what a person has edited stays."""
    own = [node for node, of in results(scene) if of is reference and not edited(node)]
    return own[-1] if own else None


def edited(node) -> bool:
    """Whether a result's segments are no longer as the program made them."""
    return node.GetAttribute(MADE_ATTRIBUTE) != _digest(labels_of(node))


def set_nested(node, nested: bool) -> None:
    """Add or remove the segments of the nested regions TC and WT, made of the labels as they are now."""
    labels = labels_of(node) if nested else None
    for name in NESTED:
        if nested:
            _put_segment(node, name, np.isin(labels, [LABELS[label] for label in REGION_LABELS[name]]))
        elif node.GetSegmentation().GetSegment(name):
            node.GetSegmentation().RemoveSegment(name)


def keep_alignment(scene, node_ids: dict[str, str], alignment: dict) -> None:
    """Put volumes (modality -> node ID) where they were registered to, by transforms; their voxels stay as they are.

    Args:
        alignment: the report's: modality -> ``to_volume``, the matrix (RAS, mm) from reference points to the volume's.
    """
    for modality, found in alignment.items():
        node = scene.GetNodeByID(node_ids[modality])
        if node is None or found["to_volume"] is None:
            continue
        to_world = vtk.vtkMatrix4x4()
        if parent := node.GetParentTransformNode():
            parent.GetMatrixTransformToWorld(to_world)
        matrix = np.linalg.inv(found["to_volume"]) @ slicer.util.arrayFromVTKMatrix(to_world)
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", f"{node.GetName()} to reference")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        node.SetAndObserveTransformNodeID(transform.GetID())


def labels_of(node) -> np.ndarray:
    """The label array (k, j, i on the grid that it was made on) that a result node holds, its edits included."""
    grid = _grid(node)
    labels = np.zeros(grid.GetDimensions()[::-1], np.uint8)
    for name, value in LABELS.items():
        segment, on_grid = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
        if not node.GetSegmentation().GetSegment(name) or not node.GetBinaryLabelmapRepresentation(name, segment):
            continue
        if segment.IsEmpty():
            continue
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(segment, grid, on_grid)
        labels[vtk_to_numpy(on_grid.GetPointData().GetScalars()).reshape(labels.shape) > 0] = value
    return labels


def current_report(node) -> dict | None:
    """The report with the volumes of the segments as they are now, and a warning where they have been edited."""
    report = report_of(node)
    if report and edited(node):
        report["volumes_ml"] = millilitres(labels_of(node), _grid(node).GetSpacing())
        report["warnings"].insert(
            0, "edited since it was made: the volumes are those of the edited segments, the expected Dice is not"
        )
    return report


def report_of(node) -> dict | None:
    """The report as it was written, or None when the node is not one of ours."""
    text = node.GetAttribute(RESULT_ATTRIBUTE) if node else None
    return json.loads(text) if text else None


def _grid(node):
    """The grid that a result was made on, as an image in the segmentation's own space (its transforms left out)."""
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    grid = slicer.vtkOrientedImageData()
    geometry = node.GetSegmentation().GetConversionParameter(parameter)
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, grid)
    return grid


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels)).hexdigest()


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
