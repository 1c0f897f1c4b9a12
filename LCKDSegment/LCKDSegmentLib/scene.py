"""From the MRML scene to a study: which loaded volume is which sequence, and its voxels as an image in world space."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from lckd.anatomy import MODALITIES
from lckd.detection import Finding
from lckd.errors import InputError
from lckd.studies import group_key, judge
from lckd.volumes import DICOM_TAGS, Volume

RESULT_ATTRIBUTE = "LCKDSegment.Report"
"""Set on every node that the module made; such nodes are never taken for input."""


@dataclass
class Proposal:
    """What the scene offers: a node per recognised modality, what each volume was taken for, and what to know."""

    nodes: dict[str, object] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)  # by node ID
    notes: list[str] = field(default_factory=list)


def candidate_nodes(scene) -> list:
    """Scalar volumes that may be MR sequences: no label maps, no colour volumes, none hidden, none of our own."""
    nodes = scene.GetNodesByClass("vtkMRMLScalarVolumeNode")
    nodes.UnRegister(None)
    found = [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
    return [
        node
        for node in found
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetAttribute(RESULT_ATTRIBUTE) is None
        and node.GetImageData() is not None
    ]


def propose(scene, database=None) -> Proposal:
    """The best study among the loaded volumes; ``database`` is Slicer's DICOM database, if there is one.

    Volumes of several patients or dates are never mixed: the study with most sequences is taken, and a note says so.
    """
    nodes = candidate_nodes(scene)
    judged = judge([_as_volume(node, database) for node in nodes])
    proposal = Proposal(findings={node.GetID(): finding for node, (_, finding) in zip(nodes, judged, strict=True)})
    groups: dict[object, dict[str, list]] = {}
    for node, (volume, finding) in zip(nodes, judged, strict=True):
        if finding.modality:
            group = groups.setdefault(_study_item(scene, node) or group_key(volume), {})
            group.setdefault(finding.modality, []).append(node)
    if not groups:
        return proposal
    best = max(groups.values(), key=len)
    for modality in MODALITIES:
        if choices := best.get(modality):
            proposal.nodes[modality] = max(choices, key=_detail)
            others = ", ".join(n.GetName() for n in choices if n is not proposal.nodes[modality])
            if others:
                proposal.notes.append(f"Also looks like {modality}, but has fewer or thicker slices: {others}.")
    if len(groups) > 1:
        names = ", ".join(node.GetName() for node in proposal.nodes.values())
        proposal.notes.append(f"{len(groups)} studies are loaded; this is the one of {names}.")
    return proposal


def image_in_world(node):
    """A volume node's voxels as a SimpleITK image in LPS world space, its linear parent transforms applied.

    Raises:
        InputError: a parent transform is not linear or shears the grid, so that no image grid can hold the result.
    """
    import SimpleITK as sitk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    if transform := node.GetParentTransformNode():
        if not transform.IsTransformToWorldLinear():
            raise InputError(f"{node.GetName()}: its parent transform is not linear; harden the transform first")
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        vtk.vtkMatrix4x4.Multiply4x4(to_world, matrix, matrix)
    ijk_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    direction = ijk_to_lps[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise InputError(f"{node.GetName()}: its parent transform shears the volume; harden the transform first")
    image = sitk.GetImageFromArray(voxels(node))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(ijk_to_lps[:3, 3].tolist())
    image.SetDirection(direction.flatten().tolist())
    return image


def voxels(node) -> np.ndarray:
    """A scalar volume node's voxels (k, j, i): a view into the scene's memory, to be read only."""
    data = node.GetImageData()
    array = vtk_to_numpy(data.GetPointData().GetScalars())
    shape = data.GetDimensions()[::-1]
    return array.reshape(shape if array.ndim == 1 else (*shape, array.shape[1]))


def _as_volume(node, database) -> Volume:
    """What detection needs to know of a node: its name, its file, and its DICOM tags where the database has them."""
    storage = node.GetStorageNode()
    path = Path(storage.GetFileName()) if storage and storage.GetFileName() else Path(".")
    return Volume(node.GetName() or "", path, tags=_dicom_tags(node, database))


def _dicom_tags(node, database) -> dict[str, str]:
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not uids or database is None:
        return {}
    values = {key: database.instanceValue(uids[0], tag.replace("|", ",")) for key, tag in DICOM_TAGS.items()}
    return {key: value for key, value in values.items() if value}


def _study_item(scene, node) -> int | None:
    """The subject-hierarchy study that holds a node, or None."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node)
    return (item and hierarchy.GetItemAncestorAtLevel(item, "Study")) or None


def _detail(node) -> float:
    """How much a volume shows: many thin slices beat few thick ones."""
    return -max(node.GetSpacing()) + math.log(1 + np.prod(node.GetImageData().GetDimensions())) / 100
