"""From the MRML scene to a study: which loaded volume is which sequence, and its voxels as an image in world space."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from lckd.anatomy import MODALITIES
from lckd.appearance import look
from lckd.conditioning import describe
from lckd.detection import Finding, with_appearance
from lckd.dicom import DICOM_TAGS
from lckd.errors import InputError
from lckd.geometry import Geometry
from lckd.one_patient import days_named, group_key, leading_words
from lckd.studies import best_of, judge
from lckd.volumes import Volume, check_image

RESULT_ATTRIBUTE = "LCKDSegment.Report"
"""Set on every node that the module made; such nodes are never taken for input."""
SEVERAL_STUDIES = (
    "The chosen volumes are of different studies, as far as names and folders tell: are all of one patient?"
)
SURE = 0.8
"""From this confidence on a finding is stated without a question mark, and held against the user's own choice."""
STUDY_ATTRIBUTE = "LCKDSegment.Study"
"""Set on a volume read from a file: a digest of the folder (or DICOM study). A saved scene forgets the folders."""


@dataclass(frozen=True)
class NodeVolume(Volume):
    """A loaded volume: what detection needs to know of a node, its image only looked at when it has changed."""

    node: object = None

    def geometry(self) -> Geometry:
        matrix = vtk.vtkMatrix4x4()
        self.node.GetIJKToRASDirectionMatrix(matrix)
        direction = np.diag([-1.0, -1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
        size = self.node.GetImageData().GetDimensions()
        return Geometry(tuple(size), tuple(self.node.GetSpacing()), tuple(direction.flatten()))

    def read(self):
        return check_image(image_in_world(self.node), Path(self.name))

    def look(self):
        """What the image looks like; None for what is no MR volume."""
        return self._remembered(look)

    def describe(self) -> str:
        """Skull or not, slice thickness and plane; empty for what is no MR volume."""
        return self._remembered(describe) or ""

    def _remembered(self, judge):
        key = (self.node.GetID(), judge.__name__)
        to_world = vtk.vtkMatrix4x4()
        self.node.GetIJKToRASMatrix(to_world)
        parent = self.node.GetParentTransformNode()
        moved = parent.GetTransformToWorldMTime() if parent else 0
        stamp = (self.node.GetImageData().GetMTime(), moved, slicer.util.arrayFromVTKMatrix(to_world).tobytes())
        if _REMEMBERED.get(key, (None, None))[0] != stamp:
            try:
                answer = judge(self.read())
            except InputError:
                answer = None
            _REMEMBERED[key] = (stamp, answer)
        return _REMEMBERED[key][1]


_REMEMBERED: dict = {}
"""(node ID, what was asked) -> (time stamp of the image, answer): looking takes some tenths of a second."""


@dataclass
class Proposal:
    """What the scene offers.

    Attributes:
        nodes: modality -> the volume node taken for it, of one study.
        findings: node ID -> what the volume was taken for; ``descriptions``: how it was acquired.
        others: modality -> (node, why it was not taken) of the same study and sequence.
        studies: key -> title of every study with a sequence, most complete first; ``study`` is the one proposed.
        study_of: node ID -> key, of every volume that may be a sequence, recognised or not.
    """

    nodes: dict[str, object] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    others: dict[str, list[tuple]] = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)
    study: str = ""
    study_of: dict[str, str] = field(default_factory=dict)

    def several_studies(self, nodes: dict) -> bool:
        """Whether these volumes (modality -> node) are not of one study, as far as the scene tells."""
        apart = len({self.study_of.get(node.GetID()) for node in nodes.values()}) > 1
        return apart or len(days_named([node.GetName() or "" for node in nodes.values()])) > 1

    def doubts(self, nodes: dict) -> list[str]:
        """What of a choice (modality -> node) made by hand the reader of the result must know."""
        doubts = [SEVERAL_STUDIES] if self.several_studies(nodes) else []
        for modality, node in nodes.items():
            finding = self.findings.get(node.GetID())
            if finding and finding.modality not in (None, modality) and finding.confidence >= SURE:
                doubts.append(
                    f"“{node.GetName()}” was given as {modality}, but looks like {finding.modality}: "
                    f"{'; '.join(finding.evidence)}"
                )
        return doubts

    def volumes_beside(self, nodes: dict) -> set[str]:
        """The node IDs of these volumes (modality -> node) and of all others of their studies."""
        ids = {node.GetID() for node in nodes.values()}
        studies = {self.study_of[node_id] for node_id in ids if node_id in self.study_of}
        return ids | {node_id for node_id, of in self.study_of.items() if of in studies}


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


def propose(scene, database=None, member=None) -> Proposal:
    """The best study among the loaded volumes, or the one that a volume node belongs to.

    Volumes of several patients or dates are never mixed: all studies are offered, the most complete one is taken.

    Args:
        database: Slicer's DICOM database, if there is one.
    """

    volumes = [_as_volume(node, database) for node in candidate_nodes(scene)]
    tagged: dict[int, set] = {}  # the hierarchy takes two patients for one whose studies have one identifier
    for volume in volumes:
        if item := _study_item(scene, volume.node):
            tagged.setdefault(item, set()).update(_patient_and_date(volume))

    def group(volume: NodeVolume) -> str:
        item = _study_item(scene, volume.node)
        if not item:
            return _remembered_key(volume)
        return " ".join([f"study {item}", *(_patient_and_date(volume) if len(tagged[item]) > 1 else [])])

    study_of = {volume.node.GetID(): group(volume) for volume in volumes}
    judged = judge(volumes, lambda volume: study_of[volume.node.GetID()])
    proposal = Proposal(findings={volume.node.GetID(): finding for volume, finding in judged}, study_of=study_of)
    proposal.descriptions = {volume.node.GetID(): volume.describe() for volume, finding in judged if finding.modality}
    groups: dict[str, dict[str, list]] = {}
    for volume, finding in judged:
        if finding.modality:
            sequences = groups.setdefault(study_of[volume.node.GetID()], {})
            sequences.setdefault(finding.modality, []).append((volume, finding))
    if not groups:
        return proposal
    keys = sorted(groups, key=lambda key: -len(groups[key]))
    proposal.studies = {key: _title(scene, groups[key]) for key in keys}
    wanted = member and proposal.study_of.get(member.GetID())
    if wanted and wanted not in groups:  # chosen by hand, since nothing in it was recognised: others are no substitute
        proposal.studies = {wanted: member.GetName(), **proposal.studies}
        proposal.study = wanted
        return proposal
    proposal.study = wanted or keys[0]
    for modality in MODALITIES:
        if several := groups[proposal.study].get(modality):
            (best, finding), notes = best_of(several)
            proposal.nodes[modality] = best.node
            if not finding.unsure:  # what its name says is held against its image
                proposal.findings[best.node.GetID()] = with_appearance(finding, best.look())
            proposal.others[modality] = [(volume.node, why) for volume, why in notes]
    return proposal


def image_in_world(node):
    """A volume node's voxels as a SimpleITK image in LPS world space, its linear parent transforms applied.

    Raises:
        InputError: a transform is not linear or shears the grid, so that no image grid can hold the result.
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
        raise InputError(
            f"{node.GetName()}: a transform has sheared its voxels; resample it first (module Resample "
            "Scalar/Vector/DWI Volume), or use the volume before that transform"
        )
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


def _as_volume(node, database) -> NodeVolume:
    """What detection needs to know of a node: its name, its file, and its DICOM tags where the database has them."""
    storage = node.GetStorageNode()
    path = Path(storage.GetFileName()) if storage and storage.GetFileName() else Path(".")
    return NodeVolume(node.GetName() or "", path, tags=_dicom_tags(node, database), node=node)


def _patient_and_date(volume: NodeVolume) -> list[str]:
    """Both in one text, or nothing where the volume has no tags."""
    said = " ".join(filter(None, [volume.tags.get("PatientID"), volume.tags.get("StudyDate")]))
    return [said] if said else []


def _remembered_key(volume: NodeVolume) -> str:
    """What a volume shares with the others of its study: the folder it was in when it was first seen, its case's name.

    Reading a saved scene gives all volumes one folder, and volumes of two patients would become one study.
    """
    place, case = group_key(volume)
    key = volume.node.GetAttribute(STUDY_ATTRIBUTE)
    if key is None:
        key = hashlib.sha256(place.encode()).hexdigest()[:16]  # no names of folders in the scene
        if volume.path.name:
            volume.node.SetAttribute(STUDY_ATTRIBUTE, key)
    return f"{key} {case}"


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


def _title(scene, volumes: dict[str, list]) -> str:
    """A study as a user tells it from others: its name in the subject hierarchy or in its volumes', its sequences."""
    first = next(iter(volumes.values()))[0][0]
    item = _study_item(scene, first.node)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    name = hierarchy.GetItemName(item) if item else leading_words(first.name) or first.name
    patient = item and hierarchy.GetItemAncestorAtLevel(item, "Patient")
    whose = f"{hierarchy.GetItemName(patient)}, " if patient else ""
    return f"{whose}{name}: {', '.join(m for m in MODALITIES if m in volumes)}"
