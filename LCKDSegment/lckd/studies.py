"""From the volumes found to one study: which volume is which sequence, one patient, one volume per sequence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .anatomy import MODALITIES
from .detection import Finding, identify, split_words
from .errors import InputError
from .volumes import Volume, volume_file

GIVEN = "given as {} by the user"
REFERENCE_ORDER = ("T1ce", "FLAIR", "T2", "T1")
"""Which available sequence gives the grid of the result: the one a reader draws on first."""


@dataclass
class Study:
    """The volumes of one patient and time point: at most one per modality, what each was taken for, and the rest."""

    volumes: dict[str, Volume]
    findings: dict[str, Finding]
    others: list[tuple[Volume, Finding]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def available(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if name in self.volumes)

    @property
    def reference(self) -> str:
        """The modality on whose grid the result is delivered."""
        return reference_modality(self.volumes)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if name not in self.volumes)


def reference_modality(available) -> str:
    """The modality, of those available, on whose grid the result is delivered."""
    return next(name for name in REFERENCE_ORDER if name in available)


def choose_study(volumes: list[Volume], given: Mapping[str, Path]) -> Study:
    """The one study among these volumes; ``given`` names the file of a modality outright.

    Raises:
        InputError: no sequence is recognised, two volumes are the same sequence, or there are several studies.
    """
    study = Study({}, {})
    for modality, path in given.items():
        volume = volume_file(path)
        study.volumes[modality] = volume
        study.findings[modality] = Finding(modality, 1.0, [GIVEN.format(modality)])
        seen = identify(volume.name)
        if seen.modality not in (None, modality) and seen.confidence > 0.8:
            study.warnings.append(f"{path.name} was given as {modality}, but its name says {seen.modality}")
    _refuse_same_file(study.volumes)
    taken = {volume.path for volume in study.volumes.values()}
    found = judge([volume for volume in volumes if volume.path not in taken])
    candidates = [(v, f) for v, f in found if f.modality and f.modality not in given]
    _refuse_several_studies([volume for volume, _ in candidates])
    for volume, finding in candidates:
        held = study.volumes.get(finding.modality)
        if held:
            option = f"--{finding.modality.lower()}"
            raise InputError(
                f"“{held.name}” and “{volume.name}” in {volume.path.parent} both look like {finding.modality}; "
                f"choose one with {option} FILE"
            )
        study.volumes[finding.modality], study.findings[finding.modality] = volume, finding
    study.others = [(v, f) for v, f in found if v not in study.volumes.values()]
    if not study.volumes:
        names = ", ".join(v.name for v, _ in found[:4])
        raise InputError(
            f"no T1, T1ce, T2 or FLAIR recognised among: {names}; name them with --t1 FILE, --flair FILE ..."
        )
    return study


def judge(volumes: list[Volume]) -> list[tuple[Volume, Finding]]:
    """Each volume with what its name and tags say it is."""
    return [(volume, identify(volume.name, volume.tags)) for volume in volumes]


def group_key(volume: Volume) -> tuple[str, str]:
    """What the volumes of one patient and time point share: DICOM study, or folder and name before its sequence."""
    if uid := volume.tags.get("StudyInstanceUID"):
        return uid, ""
    # The leading words that say nothing about the sequence: CASE_007 of CASE_007_t1ce. Names that differ in more than
    # that (T1_AX beside MRHR_FLAIR_AX) have no number in them and are told apart by their folder alone.
    leading = []
    for word in re.split(r"[\s_.-]+", volume.name):
        if identify(word).modality or not split_words(word) - {"t1", "t2"}:
            break
        leading.append(word)
    case = "_".join(leading) if any(re.search(r"\d{2}", word) for word in leading) else ""
    return str(volume.path.parent), case


def _refuse_same_file(volumes: Mapping[str, Volume]) -> None:
    paths = [volume.path.resolve() for volume in volumes.values()]
    for modality, volume in volumes.items():
        if paths.count(volume.path.resolve()) > 1:
            raise InputError(f"{volume.path}: given for two sequences, {modality} among them; give each file once")


def _refuse_several_studies(volumes: list[Volume]) -> None:
    groups = {group_key(volume): volume for volume in volumes}
    if len(groups) > 1:
        first, second = list(groups.values())[:2]
        where = [f"{v.path.parent.name}/{v.path.name}" if not v.slices else f"“{v.name}”" for v in (first, second)]
        raise InputError(
            f"{len(groups)} studies among the inputs ({where[0]} and {where[1]} are not of the same one); "
            "give one at a time"
        )
