"""From the volumes found to one study: which volume is which sequence, one patient, the best volume per sequence."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from math import log
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .anatomy import MODALITIES
from .appearance import look
from .detection import Finding, identify, with_appearance
from .errors import InputError
from .geometry import preference
from .one_patient import doubt_one_patient, group_key, refuse_several_studies
from .side_by_side import side_by_side
from .volumes import Volume, find_volumes, place_and_series, volume_file
from .words import ATLAS, REPEAT

GIVEN = "given as {} by the user"
REFERENCE_ORDER = ("T1ce", "FLAIR", "T2", "T1")
"""Which of several equally sharp sequences gives the grid of the result: the one a reader draws on first."""
MOST_TOGETHER = 6  # volumes told apart by comparing them; of more, each is judged by itself
SWAPPED = 0.3  # by so much more enhanced (a probability) the T1 looks than the T1ce
FITS_NONE = 0.03  # the probability below which an image is rather called none of the four

Judged = list[tuple[Volume, Finding]]


@dataclass
class Study:
    """The volumes of one patient and time point: at most one per modality, what each was taken for, and the rest."""

    volumes: dict[str, Volume]
    findings: dict[str, Finding]
    others: Judged = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    spares: dict[str, list[tuple[Volume, Finding, str]]] = field(default_factory=dict)
    """Modality -> what else looked like it, best first, with the warning that it was not taken."""

    @property
    def available(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if name in self.volumes)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if name not in self.volumes)

    def read(self) -> dict[str, sitk.Image]:
        """The images (modality -> image). Where one is of no use, the next that looked like its sequence is taken.

        Raises:
            InputError: the only volume of a sequence, or one that was given outright, is of no use.
        """
        found = side_by_side(_read, self.volumes.values())
        return {name: self._useful(name, image) for name, image in zip(list(self.volumes), found, strict=True)}

    def _useful(self, modality: str, found: sitk.Image | InputError) -> sitk.Image:
        """What was found in a sequence's file or, where that is an error, in the next one's."""
        if isinstance(found, sitk.Image):
            return found
        if not self.spares.get(modality):
            raise found
        volume, finding, note = self.spares[modality].pop(0)
        self.warnings = [words for words in self.warnings if words != note]
        left = _in_atlas_words(self.volumes[modality])
        self.warnings = [words for words in self.warnings if words not in left]
        self.warnings.append(f"{found}; “{volume.name}” was taken for {modality} instead")
        self.warnings += _in_atlas_words(volume)
        self.others.append((self.volumes[modality], Finding(None, 0.0, [str(found)])))
        self.others = [(other, why) for other, why in self.others if other.key != volume.key]
        self.volumes[modality], self.findings[modality] = volume, finding
        return self._useful(modality, _read(volume))

    def compare_with(self, images: Mapping[str, sitk.Image]) -> None:
        """Look at the images (modality -> image); warn of one that looks like another sequence or lies anyhow.

        Raises:
            InputError: two of them are one image.
        """
        for (one, image), (other, twin) in combinations(images.items(), 2):
            if image.GetSize() == twin.GetSize() and np.array_equal(*map(sitk.GetArrayViewFromImage, (image, twin))):
                names = f"“{self.volumes[one].name}” ({one}) and “{self.volumes[other].name}” ({other})"
                raise InputError(f"{names} hold the same image; leave out the one that is wrong")
        for modality in images:
            if not (volume := self.volumes[modality]).tells_orientation:
                self.warnings.append(
                    f"{volume.name} does not say how the head lies: its sides and directions are a guess"
                )
        unseen = [modality for modality in images if not self.findings[modality].unsure]  # else it has been looked at
        for modality, seen in zip(unseen, side_by_side(look, map(images.get, unseen)), strict=True):
            before = self.findings[modality]
            finding = self.findings[modality] = with_appearance(before, seen)
            if finding.confidence < before.confidence:
                self.warnings.append(f"{self.volumes[modality].name} was taken for {modality}, {finding.evidence[-1]}")
        pair = [self.findings[modality].looks for modality in ("T1", "T1ce") if modality in images]
        if len(pair) == 2 and all(pair) and _enhanced(pair[0]) > _enhanced(pair[1]) + SWAPPED:
            names = [self.volumes[modality].name for modality in ("T1", "T1ce")]
            self.warnings.append(f"T1 “{names[0]}” looks more enhanced than T1ce “{names[1]}”: are they swapped?")

    def leave_out(self, modality: str, why: str) -> None:
        """Treat a modality as missing after all, because its volume turned out to be of no use."""
        self.others.append((self.volumes.pop(modality), Finding(None, 0.0, [why])))
        del self.findings[modality]
        self.warnings.append(f"{modality} was left out: {why}")


def choose_study(volumes: list[Volume], given: Mapping[str, Path]) -> Study:
    """The one study among these volumes; ``given`` names the file of a modality outright.

    Raises:
        InputError: no sequence is recognised, a file is given twice, or there are several studies.
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
    study.warnings += refuse_several_studies([volume for volume, _ in candidates])
    if given:
        study.warnings += doubt_one_patient([*study.volumes.values(), *(volume for volume, _ in candidates)])
    for modality in MODALITIES:
        if several := [(v, f) for v, f in candidates if f.modality == modality]:
            (best, finding), notes = best_of(several)
            study.volumes[modality], study.findings[modality] = best, finding
            found_as = {volume.key: finding for volume, finding in several}
            study.spares[modality] = [
                (v, found_as[v.key], f"{note}; to take it: --{modality.lower()} {v.address}") for v, note in notes
            ]
            study.warnings += [note for _, _, note in study.spares[modality]]
            study.warnings += _in_atlas_words(best)
    if "T1ce" not in study.volumes and study.spares.get("T1"):
        study.warnings.append(
            "there are several T1, and none is said to be after contrast medium; if one is, name it with --t1ce"
        )
    study.others = [(v, f) for v, f in found if v not in study.volumes.values()]
    if not study.volumes:
        names = ", ".join(v.name for v, _ in found[:4])
        raise InputError(
            f"no T1, T1ce, T2 or FLAIR recognised among: {names}; name them with --t1 FILE, --flair FILE ..."
        )
    return study


def judge(
    volumes: list[Volume],
    group: Callable[[Volume], Hashable] | None = None,
) -> Judged:
    """Each volume with what it is: by name and tags, and by the image where these tell nothing.

    Args:
        group: what the volumes of one study share; images of a study are told apart by comparing them.
    """
    judged = [(volume, identify(volume.name, volume.tags)) for volume in volumes]
    judged = [(volume, _by_image(volume, finding) if finding.unsure else finding) for volume, finding in judged]
    groups: dict[Hashable, list[int]] = {}
    for index, (volume, _) in enumerate(judged):
        groups.setdefault((group or group_key)(volume), []).append(index)
    for members in groups.values():
        named = {judged[i][1].modality for i in members if not judged[i][1].unsure}
        seen = [i for i in members if judged[i][1].unsure and judged[i][1].looks]
        if 1 <= len(seen) <= MOST_TOGETHER:
            free = [name for name in MODALITIES if name not in named]
            for i, modality in zip(seen, one_each([judged[i][1].looks for i in seen], free), strict=True):
                judged[i] = (judged[i][0], _together(judged[i][1], modality, len(members)))
    return judged


def one_each(looks: list[Mapping[str, float]], free=MODALITIES) -> list[str | None]:
    """Give each image a modality, none twice, so that they fit what the images look like best together.

    Which of two T1 was taken after contrast medium is a comparison of the two; how sure the model is of each alone
    counts for little there, because it hangs on the scanner.

    Args:
        looks: the probability of every modality for each image.
        free: the modalities to give; an image that fits none of them gets None.
    """

    def fit(modality: str | None, seen: Mapping[str, float]) -> float:
        if modality is None:
            return log(FITS_NONE)
        weighting = seen["T1"] + seen["T1ce"] if modality in ("T1", "T1ce") else seen[modality]
        return log(weighting + 1e-6) + 0.25 * log((seen[modality] + 1e-6) / (weighting + 1e-6))

    slots = sorted({*permutations([*free, *[None] * len(looks)], len(looks))}, key=str)
    return list(max(slots, key=lambda told: sum(map(fit, told, looks))))


def best_of(several: Judged) -> tuple[tuple[Volume, Finding], list[tuple[Volume, str]]]:
    """Of volumes of one sequence the one that shows most, and for each other, best first, why not."""
    if len(several) == 1:  # nothing to compare, and a compressed file's geometry takes as long as its voxels
        return several[0], []

    def against(entry):
        volume, finding = entry
        derived = "DERIVED" in volume.tags.get("ImageType", "").upper()
        in_atlas = bool(ATLAS.search(volume.name.casefold()))
        return preference(volume.geometry(), in_atlas, derived, finding.confidence)

    # GDCM lists series by their identifiers, which say nothing of the order in which they were taken.
    later_first = sorted(several, key=lambda entry: _order(entry[0]))[::-1]
    ranked = sorted(later_first, key=lambda entry: [amount for amount, _ in against(entry)])
    best, notes = ranked[0], []
    for entry in ranked[1:]:
        pairs = zip(against(best), against(entry), strict=True)
        longer = _order(best[0])[:2] == _order(entry[0])[:2] and len(best[0].name) < len(entry[0].name)
        last = "its name says that something was done to it" if longer else "a repeat replaces what came before"
        why = next((words for (mine, _), (other, words) in pairs if other > mine), last)
        notes.append((entry[0], f"“{entry[0].name}” looks like {best[1].modality} too and was not taken: {why}"))
    return best, notes


def choose_reference(images: Mapping[str, sitk.Image]) -> str:
    """The modality, of those available, on whose grid the result is delivered: the sharpest volume.

    Volumes with slices up to one and a half times the thinnest are as sharp; of them the first of REFERENCE_ORDER.
    """
    thickness = {name: max(image.GetSpacing()) for name, image in images.items()}
    sharp = [name for name in images if thickness[name] <= 1.5 * min(thickness.values())]
    return next(name for name in REFERENCE_ORDER if name in sharp)


def _enhanced(looks: Mapping[str, float]) -> float:
    """If an image is a T1: the probability that it was taken after contrast medium."""
    return looks["T1ce"] / max(1e-6, looks["T1"] + looks["T1ce"])


def _read(volume: Volume) -> sitk.Image | InputError:
    try:
        return volume.read()
    except InputError as error:
        return error


def _in_atlas_words(volume: Volume) -> list[str]:
    if not ATLAS.search(volume.name.casefold()):
        return []
    return [f"“{volume.name}” seems to have been brought to an atlas: sizes and mL may not be the patient's"]


def _by_image(volume: Volume, finding: Finding) -> Finding:
    try:
        return with_appearance(finding, volume.look())
    except InputError as error:
        return replace(finding, evidence=[*finding.evidence, str(error)])


def _together(finding: Finding, modality: str | None, volumes: int) -> Finding:
    """The finding of an image with the modality it was given beside the other volumes of its study."""
    if modality is None:
        return replace(finding, modality=None)
    if modality == finding.modality or volumes == 1:
        return finding
    words = f"beside the other volumes it is the {modality}"
    return replace(finding, modality=modality, confidence=0.7, evidence=[*finding.evidence, words])


def _order(volume: Volume) -> tuple[int, bool, int]:
    """By which volumes that are otherwise equal are put in order, the one to take last.

    A repeat says so; what else is added to a file's name speaks of what was done to the image.
    """
    return _series_number(volume), bool(REPEAT.search(volume.name.casefold())), -len(volume.name)


def _series_number(volume: Volume) -> int:
    text = volume.tags.get("SeriesNumber", "")
    return int(text[:12]) if text[:12].isdecimal() else 0


def _given_volume(path: Path) -> Volume:
    """The volume of ``--t1 PATH``: a file, a folder with one DICOM series, or ``FOLDER#SERIES``, see ``address``."""
    path, series = place_and_series(path)
    if not path.is_dir():
        return volume_file(path)
    volumes = find_volumes([path])
    if series:
        volumes = [v for v in volumes if series in (v.tags.get("SeriesNumber"), v.tags.get("SeriesInstanceUID"))]
    if len(volumes) == 1:
        return volumes[0]
    if len(uids := {uid for volume in volumes if (uid := volume.tags.get("SeriesInstanceUID"))}) > 1 and series:
        raise InputError(f"{path}: {len(uids)} series are number {series}; name one by its UID, {path}#{min(uids)}")
    raise InputError(f"{path}: {len(volumes)} volumes there; name one as FILE or as FOLDER#SERIES_NUMBER")


def _refuse_same_file(volumes: Mapping[str, Volume]) -> None:
    keys = [volume.key for volume in volumes.values()]
    for modality, volume in volumes.items():
        if keys.count(volume.key) > 1:
            raise InputError(f"{volume.path}: given for two sequences, {modality} among them; give each file once")
