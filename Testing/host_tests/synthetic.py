"""A synthetic head-like volume with a three-part segmentation, for pictures and import tests."""

import numpy as np
import slicer
import vtk

NAMES = ("Edema", "Enhancing", "Necrosis")
COLORS = ((0.45, 0.75, 0.35), (0.90, 0.75, 0.25), (0.80, 0.25, 0.25))
CENTRE = (20.0, 15.0, 10.0)  # RAS, mm


def makeBalls(size: int = 64, spacing: float = 3.0):
    """Returns (volume node, segmentation node); the balls sit at CENTRE."""
    half = size * spacing / 2
    axis = (np.arange(size) + 0.5) * spacing - half
    superior, anterior, right = np.meshgrid(axis, axis, axis, indexing="ij")
    head = (right / 70) ** 2 + (anterior / 85) ** 2 + (superior / 75) ** 2
    image = np.where(head < 1, 90 + 25 * np.cos(right / 6) * np.cos(anterior / 7), 0).astype(np.int16)
    image[(head < 1) & (head > 0.88)] = 220
    distance = np.sqrt((right - CENTRE[0]) ** 2 + (anterior - CENTRE[1]) ** 2 + (superior - CENTRE[2]) ** 2)
    labels = np.zeros(image.shape, np.uint8)
    for value, radius in enumerate((34, 22, 11), start=1):
        labels[distance < radius] = value
    image += (labels * 20).astype(np.int16)
    ijkToRAS = np.diag([spacing, spacing, spacing, 1.0])
    ijkToRAS[:3, 3] = spacing / 2 - half
    volume = slicer.util.addVolumeFromArray(image, ijkToRAS, "Head")
    volume.CreateDefaultDisplayNodes()
    return volume, _segment(labels, ijkToRAS, volume)


def _segment(labels, ijkToRAS, volume):
    labelmap = slicer.util.addVolumeFromArray(labels, ijkToRAS, "Labels", "vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Tumor")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    ids = vtk.vtkStringArray()
    for name in NAMES:
        ids.InsertNextValue(name)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node, ids)
    slicer.mrmlScene.RemoveNode(labelmap)
    for name, color in zip(NAMES, COLORS, strict=True):
        segment = node.GetSegmentation().GetSegment(name)
        segment.SetName(name)
        segment.SetColor(*color)
    return node
