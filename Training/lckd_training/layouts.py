"""Where labelled cases lie on disk: BraTS folders of every year, nnU-Net raw v2, Decathlon.

Every layout gives the same ``Case``. What a label's number means is read from the layout (BraTS by its values, the
other two by the names in ``dataset.json``) and said; a name that is not understood is refused, never guessed.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from lckd.anatomy import MODALITIES
from lckd.errors import InputError

# What follows the case's name in a BraTS file, of the years to 2021 and from 2023 on.
BRATS_ENDINGS = {
    "T1": ("_t1", "-t1n"),
    "T1ce": ("_t1ce", "-t1c"),
    "T2": ("_t2", "-t2w"),
    "FLAIR": ("_flair", "-t2f"),
    "label": ("_seg", "-seg"),
}
BRATS_2021 = "NCR 1, ED 2, ET 4, or 3 where a file has no 4"
BRATS_2023 = {"NCR": 1, "ED": 2, "ET": 3}
"""What the files named ...-seg hold. In those of 2024 a 4 is a resection cavity: they are refused, it is no tumour."""

CHANNEL_NAMES = {
    "T1": r"t1|t1w|t1n|t1-?weighted",
    "T1ce": r"t1-?(ce|c|gd|gad)|t1w?ce|t1-?contrast",
    "T2": r"t2|t2w|t2-?weighted",
    "FLAIR": r"flair|t2f|t2-?flair",
}
LABEL_NAMES = {
    "ED": r"o?edema|ed|peritumou?ral o?edema",
    "NCR": r"ncr|net|ncr[/ ]net|necro\w*|non-?enhancing( tumou?r)?|necro\w* .*core",
    "ET": r"et|enhancing( tumou?r)?|active tumou?r",
}
REGION_NAMES = {"WT": r"wt|whole( tumou?r)?", "TC": r"tc|(tumou?r )?core", "ET": r"et|enhancing( tumou?r)?"}
SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Channel:
    """A modality on disk: its file, and which volume of it when the file holds several (Decathlon)."""

    path: Path
    index: int | None = None


@dataclass(frozen=True)
class Case:
    """One labelled study on disk: its name, a channel per modality it has, its label file.

    ``coding`` maps NCR, ED and ET to the file's values; None: those of BraTS to 2021, where ET is 4, or 3 in copies
    that number on.
    """

    name: str
    files: dict[str, Channel]
    label: Path
    coding: dict[str, int] | None = field(default=None)


def find_cases(folder: Path) -> list[Case]:
    """The labelled cases of a folder in any of the layouts. Raises InputError when there is none."""
    folder = Path(folder).resolve()  # what is prepared of a case is known by its files' names
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of cases; give one with --data")
    description = folder / "dataset.json"
    cases = _described(folder, description) if description.is_file() else _brats(folder, depth=2)
    if not cases:
        raise InputError(
            f"{folder}: no labelled case found; expected folders like CASE/CASE_flair.nii.gz and CASE_seg, or a "
            "dataset.json of nnU-Net or Decathlon"
        )
    cases.sort(key=lambda case: case.name)  # a run's samples hang on their order
    names = [case.name for case in cases]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{folder}: case {twice} is there twice; take one of them out")
    return cases


def describe(cases: list[Case]) -> str:
    """What a scan found, in words: how many cases, which sequences they have, how labels are coded."""
    complete = sum(len(case.files) == len(MODALITIES) for case in cases)
    lacking = ", ".join(
        f"{count} without {name}" for name in MODALITIES if (count := sum(name not in case.files for case in cases))
    )
    labels = "; elsewhere ".join(sorted({coding_words(case.coding) if case.coding else BRATS_2021 for case in cases}))
    return (
        f"{len(cases)} cases, {complete} with all four sequences{f' ({lacking})' if lacking else ''}; labels: {labels}"
    )


def coding_words(coding: dict[str, int]) -> str:
    """What the numbers of a label file mean, in words."""
    return ", ".join(f"{name} {value}" for name, value in coding.items())


def _brats(folder: Path, depth: int) -> list[Case]:
    """The labelled cases among the folders here, and in folders of such folders (HGG and LGG, to 2019)."""
    cases = []
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        found = {}
        for kind, endings in BRATS_ENDINGS.items():
            for path in (place / f"{place.name}{ending}{suffix}" for ending in endings for suffix in SUFFIXES):
                if path.is_file():
                    found[kind] = path
        label = found.pop("label", None)
        if found and place.name.startswith("BraTS-PED"):
            raise InputError(f"{place}: is of the children's challenge, whose labels mean something else; take it out")
        if label and found:
            coding = BRATS_2023 if label.name.startswith(f"{place.name}-seg") else None
            cases.append(Case(place.name, {name: Channel(path) for name, path in found.items()}, label, coding))
        elif depth > 1:
            cases += _brats(place, depth - 1)
    return cases


def _described(folder: Path, description: Path) -> list[Case]:
    """Cases of a dataset.json: nnU-Net's has ``channel_names``, Decathlon's ``modality`` and a list of files."""
    try:
        facts = json.loads(description.read_text(encoding="utf-8"))
        channels = facts.get("channel_names") or facts["modality"]
        modalities = {int(number): _named(str(name), CHANNEL_NAMES, description) for number, name in channels.items()}
        coding = _coding(facts["labels"], description)
        if "channel_names" not in facts:
            cases = [_decathlon(folder, entry, modalities, coding) for entry in facts.get("training", [])]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{description}: not a dataset.json of nnU-Net or Decathlon ({error!r})") from None
    if twice := [name for name in MODALITIES if [*modalities.values()].count(name) > 1]:
        raise InputError(f"{description}: two of its channels are {twice[0]}; name each as what it is")
    if "channel_names" not in facts:
        return cases
    cases = []
    for label in sorted(path for path in (folder / "labelsTr").glob("*.nii*") if not path.name.startswith(".")):
        name = label.name.split(".nii")[0]
        paths = {m: _first(folder / "imagesTr" / f"{name}_{number:04d}") for number, m in modalities.items()}
        if files := {modality: Channel(path) for modality, path in paths.items() if path}:
            cases.append(Case(name, files, label, coding))
    return cases


def _decathlon(folder: Path, entry: dict, modalities: dict[int, str], coding: dict[str, int]) -> Case:
    """A case whose sequences are the volumes of one four-dimensional file."""
    image = folder / entry["image"]
    files = {modality: Channel(image, number) for number, modality in modalities.items()}
    return Case(image.name.split(".nii")[0], files, folder / entry["label"], coding)


def _coding(labels: dict, description: Path) -> dict[str, int]:
    """The values of NCR, ED and ET: from names of labels (either way round), or from nested regions of labels."""
    named = {str(k): v for k, v in labels.items()}
    if all(key.lstrip("-").isdigit() for key in named):  # Decathlon writes number: name
        named = {str(name): int(number) for number, name in named.items()}
    named = {name: value for name, value in named.items() if name.lower() not in ("background", "ignore")}
    if any(isinstance(value, list) for value in named.values()):
        regions = {
            _named(n, REGION_NAMES, description): set(v if isinstance(v, list) else [v]) for n, v in named.items()
        }
        if lacking := REGION_NAMES.keys() - regions.keys():
            raise InputError(f"{description}: its regions lack {min(lacking)}; it takes WT, TC and ET")
        parts = {"ED": regions["WT"] - regions["TC"], "NCR": regions["TC"] - regions["ET"], "ET": regions["ET"]}
        if any(len(values) != 1 for values in parts.values()):
            raise InputError(f"{description}: its regions do not tell NCR, ED and ET apart")
        return {name: int(min(values)) for name, values in parts.items()}
    return {_named(name, LABEL_NAMES, description): int(value) for name, value in named.items()}


def _named(name: str, names: dict[str, str], description: Path) -> str:
    """What a name in a dataset.json means."""
    plain = name.strip().lower().replace("_", "-")
    for meaning, pattern in names.items():
        if re.fullmatch(pattern, plain) or re.fullmatch(pattern, plain.replace("-", " ")):
            return meaning
    raise InputError(f"{description}: {name!r} is none of {', '.join(names)}; name it so that there is no doubt")


def _first(stem: Path) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := stem.with_name(stem.name + suffix)).is_file()), None)
