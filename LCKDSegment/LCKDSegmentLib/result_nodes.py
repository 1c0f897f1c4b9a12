"""From a finished job to MRML: one segmentation node with named, coloured, coded segments and the report on it."""

import json

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from lckd.anatomy import LABELS, REGION_LABELS, STRUCTURES, terminology_entry

from .scene import RESULT_ATTRIBUTE

REPRESENTATION = "Binary labelmap"
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
    changed = node.StartModify()
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    segmentation.SetSourceRepresentationName(REPRESENTATION)
    for name, value in LABELS.items():
        _add_segment(segmentation, name, labels == value, reference)
    node.EndModify(changed)
    set_nested(node, nested, labels, reference)
    if fresh:
        _file_beside(scene, node, reference)
    return node


def set_nested(node, nested: bool, labels: np.ndarray, reference) -> None:
    """Add or remove the segments of the nested regions TC and WT."""
    segmentation = node.GetSegmentation()
    for name in NESTED:
        if segmentation.GetSegment(name):
            segmentation.RemoveSegment(name)
        if nested:
            mask = np.isin(labels, [LABELS[label] for label in REGION_LABELS[name]])
            _add_segment(segmentation, name, mask, reference)


def labels_of(node, reference) -> np.ndarray:
    """The label array (k, j, i on the reference's grid) that a result node holds, its edits included."""
    labels = np.zeros(reference.GetImageData().GetDimensions()[::-1], np.uint8)
    for name, value in LABELS.items():
        if node.GetSegmentation().GetSegment(name):
            labels[slicer.util.arrayFromSegmentBinaryLabelmap(node, name, reference) > 0] = value
    return labels


def report_of(node) -> dict | None:
    """The report kept on a result node, or None when the node is not one of ours."""
    text = node.GetAttribute(RESULT_ATTRIBUTE) if node else None
    return json.loads(text) if text else None


def _add_segment(segmentation, name: str, mask: np.ndarray, reference) -> None:
    structure = STRUCTURES[name]
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(mask.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(mask, np.uint8).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    matrix = vtk.vtkMatrix4x4()
    reference.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    segment = slicer.vtkSegment()
    segment.SetName(structure.title)
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
