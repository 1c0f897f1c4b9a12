"""Whether volumes are of one patient and one time point, by DICOM tags, folders and what file names say."""

import os
import re
from pathlib import Path

from .detection import identify
from .errors import InputError
from .volumes import Volume
from .words import AGENT

TECHNICAL = {
    "ax", "axial", "tra", "trans", "transverse", "sag", "sagittal", "cor", "coronal", "oax", "osag", "ocor", "obl",
    "2d", "3d", "mr", "mri", "mrhr", "hr", "brain", "head", "se", "tse", "fse", "ir", "gre", "tfl", "mpr", "spc",
    "space", "cube", "vista", "fs", "fat", "sat", "wip", "new", "series", "scan", "pre", "post", "gado", "gad", "gd",
    "contrast", "kontrast", "native", "nativ", "dark", "fluid", "n4", "registered", "stealth", "navigation", "irm",
    "cerebrale", "wm",
}  # fmt: skip
"""Words of protocols that often stand before the sequence's own name."""

DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
"""A day in a name: 20240131, 2024-01-31."""
TIMES = re.compile(
    r"(?<![a-z0-9])((?:pre|post)[\s_-]?op(?:erative)?|base[\s_-]?line|follow[\s_-]?up|"
    r"(?:tp|time[\s_-]?point|week|wk|visit|month|day|year)[\s_-]?\d+|(?:19|20)\d\d)(?![a-z0-9])"
)
"""A time point in a name."""
PATIENTS = re.compile(r"(?<![a-z0-9])((?:p|pt|pat|patient|subj|subject|case|id)[\s_-]?\d{2,})(?![a-z0-9])")
"""A patient's number in a name."""


def group_key(volume: Volume) -> tuple[str, str]:
    """What the volumes of one patient and time point share: DICOM study, BIDS subject, or folder and case name."""
    # A study's identifier should do, but those who anonymise leave it empty, or give one to several patients.
    tagged = [volume.tags.get(key, "") for key in ("StudyInstanceUID", "PatientID", "StudyDate")]
    if tagged[0]:
        return " ".join(tagged), ""
    if bids := re.match(r"(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?", volume.name):
        return bids.group(0), ""
    folder = Path(os.path.abspath(volume.path)).parent
    if identify(folder.name).modality:  # one folder a sequence
        folder = folder.parent
    case = leading_words(volume.name)
    place = " ".join(filter(None, [str(folder), *tagged]))
    return place, case if re.search(r"[^\W\d_]", case) and re.search(r"\d", case) else ""


def leading_words(name: str) -> str:
    """What stands before the sequence in a name and may be a case: ``patient_07`` of ``patient_07_AX_t1ce``.

    Planes, techniques and numbers that scanners put there (``301_AX_T1``) are no case.
    """
    leading = []
    for word in re.split(r"[\s_.:-]+", name.casefold()):
        if identify(word).modality or AGENT.fullmatch(word) or word in TECHNICAL:
            break
        leading.append(word)
    case = "_".join(leading)
    return case if leading and not case.replace("_", "").isdigit() else ""


def doubt_one_patient(volumes: list[Volume]) -> list[str]:
    """A warning where volumes, some of them given outright, lie apart or are named as of several patients."""
    first, *others = _one_of_each_study(volumes)
    if not others:
        return []
    return [f"{first.address} and {others[0].address} look like different studies: are all of one patient?"]


def _one_of_each_study(volumes: list[Volume]) -> list[Volume]:
    return list({group_key(volume): volume for volume in volumes}.values())


def refuse_several_studies(volumes: list[Volume]) -> list[str]:
    """Refuse volumes that are clearly of several studies; warn where their names only make one wonder."""
    if len(different := _one_of_each_study(volumes)) > 1:
        first, second, *_ = different
        raise InputError(
            f"{len(different)} studies among the inputs ({first.address} and {second.address} are not of the same "
            "one); give one at a time"
        )
    names = [volume.name for volume in volumes if not volume.tags]
    if len(days := days_named(names)) > 1:
        raise InputError(f"the names speak of several dates ({', '.join(days)}); give one study at a time")
    return doubt_names([name.casefold() for name in names])


def days_named(names: list[str]) -> list[str]:
    """The dates that stand in names, each once."""
    return sorted({"-".join(found.group(1, 3, 4)) for name in names for found in DATE.finditer(name)})


def doubt_names(names: list[str]) -> list[str]:
    """Warnings where the names of files (in lower case) make one wonder whether they are of one study."""
    doubts = []
    cases = sorted({case for name in names if (case := leading_words(name))})
    if len(cases) > 1:
        doubts.append(f"the names begin differently ({', '.join(cases)}): are all of one patient?")
    for marks, what in ((TIMES, "time point"), (PATIENTS, "patient")):
        said = sorted({re.sub(r"[\s_-]", "", found[1]) for name in names for found in marks.finditer(name)})
        if len(said) > 1 and not doubts:
            doubts.append(f"the names speak of more than one {what} ({', '.join(said)}): are all of one {what}?")
    return doubts
