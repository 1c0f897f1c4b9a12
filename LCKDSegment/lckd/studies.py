"""From the volumes found to one study: which volume is which sequence, one patient, one volume per sequence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .anatomy import MODALITIES
from .detection import AGENT, Finding, identify
from .errors import InputError
from .volumes import Volume, find_volumes, volume_file

TECHNICAL = {
    "ax", "axial", "tra", "trans", "transverse", "sag", "sagittal", "cor", "coronal", "oax", "osag", "ocor", "obl",
    "2d", "3d", "mr", "mri", "mrhr", "hr", "brain", "head", "se", "tse", "fse", "ir", "gre", "tfl", "mpr", "spc",
    "space", "cube", "vista", "fs", "fat", "sat", "wip", "new", "series", "scan",
}  # fmt: skip
"""Words of protocols that often stand before the sequence's own name."""
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

    def leave_out(self, modality: str, why: str) -> None:
        """Treat a modality as missing after all, because its volume turned out to be of no use."""
        self.others.append((self.volumes.pop(modality), Finding(None, 0.0, [why])))
        del self.findings[modality]
        self.warnings.append(f"{modality} was left out: {why}")

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
        volume = _given_volume(path)
        study.volumes[modality] = volume
        study.findings[modality] = Finding(modality, 1.0, [GIVEN.format(modality)])
        seen = identify(volume.name, volume.tags)
        if seen.modality not in (None, modality) and seen.confidence > 0.8:
            study.warnings.append(f"{volume.name} was given as {modality}, but its name says {seen.modality}")
    _refuse_same_file(study.volumes)
    taken = {volume.key for volume in study.volumes.values()}
    found = judge([volume for volume in volumes if volume.key not in taken])
    candidates = [(v, f) for v, f in found if f.modality and f.modality not in given]
    study.warnings += _refuse_several_studies([volume for volume, _ in candidates])
    for volume, finding in candidates:
        held = study.volumes.get(finding.modality)
        if held:
            choice = f"--{finding.modality.lower()} {volume.address}"
            raise InputError(
                f"“{held.name}” and “{volume.name}” both look like {finding.modality}; choose one: {choice}"
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
    """What the volumes of one patient and time point share: DICOM study, BIDS subject, or folder and case name."""
    if uid := volume.tags.get("StudyInstanceUID"):
        return uid, ""
    if bids := re.match(r"(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?", volume.name):
        return bids.group(0), ""
    folder = volume.path.parent
    if identify(folder.name).modality:  # one folder a sequence
        folder = folder.parent
    case = leading_words(volume.name)
    return str(folder), case if re.search(r"[^\W\d_]", case) and re.search(r"\d", case) else ""


def leading_words(name: str) -> str:
    """What stands before the sequence in a name and may be a case: ``patient_07`` of ``patient_07_AX_t1ce``.

    Planes, techniques and numbers that scanners put there (``301_AX_T1``) are no case.
    """
    leading = []
    for word in re.split(r"[\s_.:-]+", name.casefold()):
        if identify(word).modality or re.fullmatch(AGENT, word) or word in TECHNICAL:
            break
        leading.append(word)
    case = "_".join(leading)
    return case if leading and not case.replace("_", "").isdigit() else ""


def _given_volume(path: Path) -> Volume:
    """The volume of ``--t1 PATH``: a file, a folder with one DICOM series, or ``FOLDER#SERIES_NUMBER``."""
    text, _, number = str(path).rpartition("#") if not Path(path).exists() and "#" in str(path) else (str(path), "", "")
    path = Path(text)
    if not path.is_dir():
        return volume_file(path)
    volumes = [v for v in find_volumes([path]) if not number or v.tags.get("SeriesNumber") == number]
    if len(volumes) != 1:
        raise InputError(f"{path}: {len(volumes)} volumes there; name one as FILE or as FOLDER#SERIES_NUMBER")
    return volumes[0]


def _refuse_same_file(volumes: Mapping[str, Volume]) -> None:
    keys = [volume.key for volume in volumes.values()]
    for modality, volume in volumes.items():
        if keys.count(volume.key) > 1:
            raise InputError(f"{volume.path}: given for two sequences, {modality} among them; give each file once")


def _refuse_several_studies(volumes: list[Volume]) -> list[str]:
    """Refuse volumes that are clearly of several studies; warn where their names only make one wonder."""
    groups = {group_key(volume): volume for volume in volumes}
    if len(groups) > 1:
        first, second = list(groups.values())[:2]
        raise InputError(
            f"{len(groups)} studies among the inputs ({first.address} and {second.address} are not of the same one); "
            "give one at a time"
        )
    cases = {case for volume in volumes if not volume.tags and (case := leading_words(volume.name))}
    return (
        [f"the names begin differently ({', '.join(sorted(cases))}): are all of one patient?"] if len(cases) > 1 else []
    )
