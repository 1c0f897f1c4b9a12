"""From the MRML scene to a study: which loaded volume is which sequence, and its voxels as an image in world space."""

import hashlib
import re
import zlib
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
from lckd.one_patient import days_named, doubt_names, group_key, leading_words
from lckd.studies import best_of, judge
from lckd.volumes import Volume, check_image

RESULT_ATTRIBUTE = "LCKDSegment.Report"
"""Set on every node that the module made; such nodes are never taken for input."""
SEVERAL_STUDIES = (
    "The chosen volumes are of different studies, as far as names and folders tell: are all of one patient?"
)
SAVED_UNSEEN = "A saved scene does not tell which of its volumes are of one patient: are the chosen ones?"
SURE = 0.8
"""From this confidence on a finding is stated without a question mark, and held against the user's own choice."""
STUDY_ATTRIBUTE = "LCKDSegment.Study"
"""Set on a volume read from a file: a digest of the folder (or DICOM study). A saved scene forgets the folders."""
SCENE_FOLDER, UNSEEN = "Data", "saved unseen"
"""Where scene bundles keep their files, and the digest's place for a volume of one that was saved without a digest."""


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
        parent = self.node.GetParentTransformNode()
        moved = parent.GetTransformToWorldMTime() if parent else 0
        stamp = (self.node.GetImageData().GetMTime(), moved, ijk_to_world(self.node).tobytes())
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
        names = [node.GetName() or "" for node in nodes.values()]
        return apart or len(days_named(names)) > 1 or doubtful(nodes.values())

    def patient_untold(self, nodes: dict) -> bool:
        """Whether these volumes, several, come from a scene that was saved before anybody noted their studies."""
        return len(nodes) > 1 and any(self.study_of.get(n.GetID(), "").startswith(UNSEEN) for n in nodes.values())

    def doubts(self, nodes: dict) -> list[str]:
        """What of a choice (modality -> node) made by hand the reader of the result must know."""
        doubts = [SEVERAL_STUDIES] if self.several_studies(nodes) else []
        doubts += [SAVED_UNSEEN] if not doubts and self.patient_untold(nodes) else []
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


def doubtful(nodes) -> bool:
    """Whether volumes' names make one wonder if they are of one patient and time; those of DICOM series say nothing."""
    return bool(
        doubt_names([(n.GetName() or "").casefold() for n in nodes if not n.GetAttribute("DICOM.instanceUIDs")])
    )


def in_scene(node) -> bool:
    """Whether a node is still in the scene. Its ID does not tell: it is given anew to what is loaded later."""
    return node is not None and node.GetScene() is slicer.mrmlScene


def fingerprint(node) -> int:
    """A checksum of a volume's voxels, by which a change is noticed; an image's time stamp also tells of others."""
    return zlib.crc32(np.ascontiguousarray(voxels(node)).view(np.uint8).ravel())


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
        and has_voxels(node)
    ]


def has_voxels(node) -> bool:
    """Whether a volume node holds an image: not one whose file was not found, nor a new one for a result."""
    image = node.GetImageData()
    return image is not None and image.GetPointData().GetScalars() is not None


def propose(scene, database=None, member=None) -> Proposal:
    """The best study among the loaded volumes, or the one that a volume node belongs to.

    Volumes of several patients or dates are never mixed: all studies are offered, the most complete one is taken.

    Args:
        database: Slicer's DICOM database, if there is one.
    """

    volumes = [_as_volume(node, database) for node in candidate_nodes(scene)]
    study_of = _studies_of(scene, volumes)
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


def ijk_to_world(node) -> np.ndarray:
    """The matrix (4, 4) from a volume node's voxels (i, j, k) to world points (RAS, mm), linear transforms included."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    if transform := node.GetParentTransformNode():
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        vtk.vtkMatrix4x4.Multiply4x4(to_world, matrix, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def image_in_world(node):
    """A volume node's voxels as a SimpleITK image in LPS world space, its linear parent transforms applied.

    Raises:
        InputError: a transform is not linear or shears the grid, so that no image grid can hold the result.
    """
    import SimpleITK as sitk

    transform = node.GetParentTransformNode()
    if transform and not transform.IsTransformToWorldLinear():
        raise InputError(f"{node.GetName()}: its parent transform is not linear; harden the transform first")
    ijk_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_world(node)
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


def _studies_of(scene, volumes: list[NodeVolume]) -> dict[str, str]:
    """Node ID -> what it shares with the volumes of its study."""
    items = {volume.node.GetID(): _study_item(scene, volume.node) for volume in volumes}
    found = {}
    for volume in volumes:
        if item := items[volume.node.GetID()]:
            # The hierarchy takes two patients for one whose studies have one identifier.
            beside = [other for other in volumes if items[other.node.GetID()] == item]
            said = [volume.tags.get(tag, "") for tag in ("PatientID", "StudyDate") if _differ(beside, tag)]
            found[volume.node.GetID()] = " ".join([f"study {item}", *said])
        elif not _made_in_slicer(volume):
            found[volume.node.GetID()] = _remembered_key(volume)
    for volume in volumes:
        if volume.node.GetID() not in found:
            found[volume.node.GetID()] = _study_of_origin(volume, volumes, found) or _remembered_key(volume)
    return found


def _differ(volumes: list[NodeVolume], tag: str) -> bool:
    return len({volume.tags[tag] for volume in volumes if volume.tags.get(tag)}) > 1


def _made_in_slicer(volume: NodeVolume) -> bool:
    """Whether nothing but its name tells where a volume comes from."""
    return not volume.path.name and volume.node.GetAttribute(STUDY_ATTRIBUTE) is None


def _study_of_origin(volume: NodeVolume, volumes: list[NodeVolume], found: dict[str, str]) -> str | None:
    """The study of the volumes whose names begin this one's (``T1 N4`` was made of ``T1``), if they are of one.

    ``T1_1`` is only another of that name.
    """

    def begins(name: str) -> bool:
        return bool(name and re.match(rf"{re.escape(name)}(?=\W|_)(?!_\d+$)", volume.name))

    origins = [other for other in volumes if other.node.GetID() in found and begins(other.name)]
    longest = max((len(other.name) for other in origins), default=0)
    studies = {found[other.node.GetID()] for other in origins if len(other.name) == longest}
    return studies.pop() if len(studies) == 1 else None


def _remembered_key(volume: NodeVolume) -> str:
    """What a volume shares with the others of its study: the folder it was in when it was first seen, its case's name.

    Reading a saved scene gives all volumes one folder, and volumes of two patients would become one study.
    """
    place, case = group_key(volume)
    key = volume.node.GetAttribute(STUDY_ATTRIBUTE)
    if key is None:
        key = hashlib.sha256(place.encode()).hexdigest()[:16]  # no names of folders in the scene
        if _from_scene(volume.path) and not volume.tags:
            key = f"{UNSEEN} {key}"
        if volume.path.name:
            volume.node.SetAttribute(STUDY_ATTRIBUTE, key)
    return f"{key} {case}"


def _from_scene(path: Path) -> bool:
    """Whether a file was read with a scene bundle, which keeps its files in one folder and is unpacked for a moment."""
    return path.parent.name == SCENE_FOLDER and (not path.exists() or any(path.parent.parent.glob("*.mrml")))


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
    name = hierarchy.GetItemName(item) if item else leading_words(first.name) or first.path.parent.name or first.name
    patient = item and hierarchy.GetItemAncestorAtLevel(item, "Patient")
    whose = f"{hierarchy.GetItemName(patient)}, " if patient else ""
    return f"{whose}{name}: {', '.join(m for m in MODALITIES if m in volumes)}"
