"""Phantom studies on a finer grid than they are made for: heads small enough that tests take seconds."""

from pathlib import Path

import SimpleITK as sitk

from lckd_training.phantom import write_phantoms


def write_small_phantoms(
    folder: Path, cases: int, size: int, spacing: float, seed: int, healthy: bool = False
) -> list[Path]:
    """The cases' folders; volumes of ``size`` voxels an edge, ``spacing`` mm apart."""
    studies = list(write_phantoms(folder, cases, size, seed, healthy))
    for path in (path for study in studies for path in study.iterdir()):
        image = sitk.ReadImage(str(path))
        image.SetSpacing([spacing] * 3)
        sitk.WriteImage(image, str(path))
    return studies
