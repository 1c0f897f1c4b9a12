"""Prepare labelled cases as inference does and keep the result on disk; tell the bad ones; split by patient.

A case may lack modalities: a centre trains on the protocols it has.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lckd.anatomy import LABELS, MODALITIES
from lckd.conditioning import shows_skull
from lckd.errors import InputError
from lckd.nifti import check_nifti
from lckd.preprocessing import Prepared, Preprocessing, like, prepare
from lckd.studies import choose_reference
from lckd.volumes import check_image, one_volume, volume_file

from .layouts import Case, Channel, coding_words

VERSION = 2  # of the cached arrays: raise it when preparing changes, and every cache is made anew
ROUNDING = 0.02  # a label image may be off whole numbers by this much: some programs store them scaled
WORTH_TELLING, MAY_BE_LOST = 0.001, 0.2  # share of a label image's voxels outside the box around the images' brain


@dataclass(frozen=True)
class CachedCase:
    """A prepared case on disk. Arrays are mapped when asked for: systems allow fewer open files than there are cases.

    Attributes:
        modalities: the channels of ``images``.
    """

    name: str
    modalities: tuple[str, ...]
    folder: Path

    @property
    def images(self) -> np.ndarray:
        """float16 (k, z, y, x)."""
        return np.load(self.folder / "images.npy", mmap_mode="r")

    @property
    def labels(self) -> np.ndarray:
        """uint8 (z, y, x), BraTS values."""
        return np.load(self.folder / "labels.npy", mmap_mode="r")

    @property
    def foreground(self) -> np.ndarray:
        """Booleans (z, y, x): the brain; there is no tumour outside it."""
        return np.load(self.folder / "foreground.npy", mmap_mode="r")

    @property
    def warnings(self) -> list[str]:
        return json.loads((self.folder / "case.json").read_text(encoding="utf-8"))["warnings"]


def prepared_cases(
    cases: list[Case], settings: Preprocessing, cache: Path, skip_bad: bool, echo=print
) -> list[CachedCase]:
    """The prepared cases. Raises InputError that names the first bad one, or goes on without it and says so."""
    good = []
    for case in cases:
        try:
            good.append(cached(case, settings, cache))
            for warning in good[-1].warnings:
                echo(f"case {case.name}: {warning}")
        except InputError as error:
            if not skip_bad:
                raise InputError(f"{error}; mend it, or go on without such cases: --skip-bad") from None
            echo(f"left out {error}")
    if not good:
        raise InputError("no case can be used; mend those that were left out")
    return good


def cached(case: Case, settings: Preprocessing, cache: Path) -> CachedCase:
    """The prepared case, from the cache when that is not older than its files, its settings or this code.

    Raises:
        InputError: the case, named, is of no use.
    """
    channels = {name: channel.index for name, channel in case.files.items()}
    files = [*(channel.path for channel in case.files.values()), case.label]
    try:
        stamps = [(str(f), os.path.getsize(f), os.path.getmtime(f)) for f in files]
    except OSError as error:
        raise InputError(f"case {case.name}: {error.filename}: {error.strerror}") from None
    facts = [VERSION, settings.as_dict(), case.coding, channels, stamps]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = Path(cache) / f"{case.name}-{key}"
    if not folder.is_dir():
        try:
            _write(case, settings, folder)
        except InputError as error:
            raise InputError(f"case {case.name}: {error}") from None
    return CachedCase(case.name, tuple(m for m in MODALITIES if m in case.files), folder)


def _write(case: Case, settings: Preprocessing, folder: Path) -> None:
    volumes = {name: read_channel(channel) for name, channel in case.files.items()}
    prepared = prepare(volumes, choose_reference(volumes), settings)
    for name, why in prepared.left_out.items():
        raise InputError(f"{name}: {why}")
    if skull := [name for name, image in volumes.items() if shows_skull(image)]:
        prepared.warnings.append(f"{', '.join(skull)} may show the skull; cases should be skull-stripped and lined up")
    labels = read_labels(case.label, prepared, case.coding)
    facts = {**asdict(case), "settings": settings.as_dict(), "warnings": prepared.warnings}
    save_case(folder, prepared.images, labels, prepared.foreground, facts)


def save_case(folder: Path, images: np.ndarray, labels: np.ndarray, foreground: np.ndarray, facts: dict) -> None:
    """Write a prepared case whole or not at all; arrays as in ``CachedCase``."""
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        np.save(partial / "images.npy", images.astype(np.float16))
        np.save(partial / "labels.npy", labels)
        np.save(partial / "foreground.npy", foreground)
        (partial / "case.json").write_text(json.dumps(facts, default=str), encoding="utf-8")
        with suppress(OSError):  # another process that shares the cache was faster
            partial.rename(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: could not be written; is the disk full?")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_channel(channel: Channel) -> sitk.Image:
    """A modality's volume as a 3-D float32 image, one of several in a four-dimensional file where it says so."""
    if channel.index is None:
        return volume_file(channel.path).read()
    check_nifti(channel.path)
    try:
        image = sitk.ReadImage(str(channel.path))
        return check_image(image[:, :, :, channel.index], channel.path)
    except (RuntimeError, IndexError, TypeError):
        raise InputError(f"{channel.path}: has no volume {channel.index}; is it or dataset.json damaged?") from None


def read_labels(path: Path, prepared: Prepared, coding: dict[str, int] | None) -> np.ndarray:
    """A label file in a prepared study's box, uint8 (z, y, x), in BraTS values with enhancing tumour always as 4.

    Without a coding both BraTS codes of enhancing tumour are understood: files with 3 and no 4 are of 2023 or later.

    Raises:
        InputError: it is damaged, holds values that are no labels, or lies elsewhere than the images.
    """
    check_nifti(path)
    try:
        image = one_volume(sitk.ReadImage(str(path)), path)
    except RuntimeError:
        raise InputError(f"{path}: cannot be read as an image; is it damaged?") from None
    stored = sitk.GetArrayViewFromImage(image)
    labels = np.rint(stored)
    if np.abs(stored - labels).max() > ROUNDING:
        raise InputError(f"{path}: its values are not whole numbers, so it holds no labels; give it as it was drawn")
    found = set(np.unique(labels).astype(int).tolist())
    if coding is None and (not found <= {0, 1, 2, 3, 4} or {3, 4} <= found):
        raise InputError(f"{path}: labels {sorted(found)} are not BraTS labels (0, 1, 2 and either 3 or 4)")
    coding = coding or {**LABELS, "ET": 3 if 3 in found else 4}
    if unknown := found - {0, *coding.values()}:
        raise InputError(f"{path}: holds label {min(unknown)}, which is none of {coding_words(coding)}")
    image = like(labels.astype(np.uint8), image)
    lost = _outside(image, prepared)
    if lost > MAY_BE_LOST:
        raise InputError(
            f"{path}: {lost:.0%} of its labels lie elsewhere than the images; give both the same origin and directions"
        )
    if lost > WORTH_TELLING:
        prepared.warnings.append(f"{lost:.1%} of its labels lie outside the images' brain and do not count")
    table = np.zeros(256, np.uint8)
    for name, value in coding.items():
        table[value] = LABELS[name]
    aligned = sitk.Resample(image, prepared.grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    return table[sitk.GetArrayFromImage(aligned)[prepared.box]]


def _outside(labels: sitk.Image, prepared: Prepared) -> float:
    """The share of a label image's voxels that lie outside a prepared study's box; 0 where there are none."""
    box = np.zeros(prepared.grid.GetSize()[::-1], np.uint8)
    box[prepared.box] = 1
    inside = sitk.Resample(like(box, prepared.grid), labels, sitk.Transform(), sitk.sitkNearestNeighbor)
    drawn = sitk.GetArrayViewFromImage(inside)[sitk.GetArrayViewFromImage(labels) > 0]
    return 1 - float(drawn.mean()) if drawn.size else 0.0


def split(cases: list, validation: list[str], seed: int) -> tuple[list, list]:
    """Training and validation cases: the patients of the named ones held out, or a fifth of them drawn by the seed.

    All time points of a patient go together.
    """
    unknown = set(validation) - {case.name for case in cases}
    if unknown:
        raise InputError(f"validation case {sorted(unknown)[0]} is not in the data; mend validation_cases")
    patients = sorted({patient(case.name) for case in cases})
    drawn = np.random.default_rng(seed).permutation(patients)[: max(1, len(patients) // 5)]
    outside = {patient(name) for name in validation} or {*drawn}
    held_out = [case for case in cases if patient(case.name) in outside]
    training = [case for case in cases if patient(case.name) not in outside]
    if not training:
        raise InputError("every case is held out for validation; none is left to train on")
    return training, held_out


def patient(name: str) -> str:
    """The patient of a case: its name without the time point of BraTS from 2023 on (-000) or of BIDS (_ses-1)."""
    return re.sub(r"^(BraTS-.*\d)-\d{3}$", r"\1", re.sub(r"_ses-[A-Za-z0-9]+", "", name))
