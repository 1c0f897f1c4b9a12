"""Find labelled cases in BraTS folders, prepare them as inference does, and keep the result on disk.

A case may lack modalities: a centre trains on the protocols it has.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lckd.anatomy import LABELS, MODALITIES
from lckd.errors import InputError
from lckd.nifti import check_nifti
from lckd.preprocessing import Preprocessing, prepare
from lckd.volumes import volume_file

# What follows the case's name in a BraTS file, of the years to 2021 and from 2023 on.
ENDINGS = {
    "T1": ("_t1", "-t1n"),
    "T1ce": ("_t1ce", "-t1c"),
    "T2": ("_t2", "-t2w"),
    "FLAIR": ("_flair", "-t2f"),
    "label": ("_seg", "-seg"),
}
VERSION = 1  # of the cached arrays: raise it when preparing changes, and every cache is made anew


@dataclass(frozen=True)
class Case:
    """One labelled study on disk: its name, a file per modality it has, and its label file."""

    name: str
    files: dict[str, Path]
    label: Path


@dataclass
class CachedCase:
    """A prepared case: ``images`` float16 (k, z, y, x) and ``labels`` uint8 (z, y, x, BraTS values), memory-mapped."""

    name: str
    modalities: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray


def find_cases(folder: Path) -> list[Case]:
    """The labelled cases of a BraTS folder (one folder a case). Raises InputError when there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of cases; give one with --data")
    cases = [case for case in map(_case, sorted(p for p in folder.iterdir() if p.is_dir())) if case]
    if not cases:
        raise InputError(f"{folder}: no labelled case found; expected folders like CASE/CASE_flair.nii.gz and CASE_seg")
    return cases


def _case(folder: Path) -> Case | None:
    found = {}
    for kind, endings in ENDINGS.items():
        for ending in endings:
            for suffix in (".nii.gz", ".nii"):
                path = folder / f"{folder.name}{ending}{suffix}"
                if path.is_file():
                    found[kind] = path
    label = found.pop("label", None)
    return Case(folder.name, found, label) if label and found else None


def cached(case: Case, settings: Preprocessing, cache: Path) -> CachedCase:
    """The prepared case, from the cache when that is not older than its files, its settings or this code."""
    files = [*case.files.values(), case.label]
    facts = [VERSION, settings.as_dict(), [(str(f), os.path.getsize(f), os.path.getmtime(f)) for f in files]]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = Path(cache) / f"{case.name}-{key}"
    if not folder.is_dir():
        _write(case, settings, folder)
    modalities = tuple(m for m in MODALITIES if m in case.files)
    images, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    return CachedCase(case.name, modalities, images, labels)


def _write(case: Case, settings: Preprocessing, folder: Path) -> None:
    volumes = {name: volume_file(path).read() for name, path in case.files.items()}
    reference = next(iter(volumes))
    prepared = prepare(volumes, reference, settings)
    labels = read_labels(case.label, prepared.grid)[prepared.box]
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    np.save(partial / "images.npy", prepared.images.astype(np.float16))
    np.save(partial / "labels.npy", labels)
    (partial / "case.json").write_text(json.dumps({**asdict(case), "settings": settings.as_dict()}, default=str))
    partial.rename(folder)


def read_labels(path: Path, grid: sitk.Image) -> np.ndarray:
    """A BraTS label file on a grid, uint8 (z, y, x), enhancing tumour always as 4.

    Both codes of enhancing tumour are understood: files with 3 and no 4 are of BraTS 2023 or later.
    """
    check_nifti(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(f"{path}: cannot be read as an image; is it damaged?") from None
    labels = sitk.GetArrayViewFromImage(image)
    found = set(np.unique(labels).astype(int).tolist())
    if not found <= {0, 1, 2, 3, 4} or {3, 4} <= found:
        raise InputError(f"{path}: labels {sorted(found)} are not BraTS labels (0, 1, 2 and either 3 or 4)")
    aligned = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)
    aligned = sitk.GetArrayFromImage(aligned)
    aligned[aligned == 3] = LABELS["ET"]
    return aligned


def split(cases: list[Case], validation: list[str], seed: int) -> tuple[list[Case], list[Case]]:
    """Training and validation cases: the named ones held out, or a fifth of the patients drawn by the seed."""
    names = [case.name for case in cases]
    unknown = set(validation) - set(names)
    if unknown:
        raise InputError(f"validation case {sorted(unknown)[0]} is not in the data; mend validation_cases")
    if not validation:
        patients = sorted({patient(name) for name in names})
        drawn = np.random.default_rng(seed).permutation(patients)[: max(1, len(patients) // 5)]
        validation = [name for name in names if patient(name) in drawn]
    held_out = [case for case in cases if case.name in validation]
    training = [case for case in cases if case.name not in validation]
    if not training:
        raise InputError("every case is held out for validation; none is left to train on")
    return training, held_out


def patient(name: str) -> str:
    """The patient of a case: BraTS from 2023 on ends a name in its time point (BraTS-GLI-00001-000)."""
    return re.sub(r"(?<=\d)-\d{3}$", "", name)
