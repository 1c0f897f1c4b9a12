"""A case's healthy half and its mirror image as a brain without a tumour, so that a network learns to find nothing.

Every brain that is trained on has a tumour. What a network learns from them is to find the likeliest place, not that
there may be none; phantoms of healthy brains look too little like brains to teach that.
"""

import numpy as np

from lckd.preprocessing import Preprocessing, normalise

from .data import CachedCase, save_case

LEFT_OVER = 0.01  # share of a tumour that may reach into the healthy half; it stays labelled
SYMMETRIC = 0.9  # Dice of a brain and its mirror image; less is a head that lies askew, whose middle is no plane


def healthy_twin(case: CachedCase, settings: Preprocessing) -> CachedCase | None:
    """The case with the half that has a tumour replaced by the other's mirror image; None where both have some.

    It lies beside the case in the cache, on the same grid (z, y, x along LPS), and is normalised anew.
    """
    folder = case.folder.with_name(f"{case.folder.name}-healthy")
    twin = CachedCase(f"{case.name}-healthy", case.modalities, folder)
    if folder.is_dir():
        return twin
    foreground, labels = np.asarray(case.foreground), np.asarray(case.labels)
    total = sum_of_mirrored(foreground)
    columns, tumour = np.arange(foreground.shape[2]), np.count_nonzero(labels, (0, 1))
    halves = columns <= total / 2, columns >= total / 2
    kept = min(halves, key=lambda half: tumour[half].sum())
    if tumour[kept].sum() >= LEFT_OVER * tumour.sum() or overlap(foreground, total) < SYMMETRIC:
        return None
    source = np.where(kept, columns, total - columns)
    inside = (source >= 0) & (source < columns.size)
    source = np.clip(source, 0, columns.size - 1)
    brain = foreground[:, :, source] & inside
    images = [normalise(np.float32(image[:, :, source]) * inside, brain, settings) for image in case.images]
    facts = {"name": twin.name, "made_of": case.name, "warnings": []}
    save_case(folder, np.stack(images), labels[:, :, source] * inside, brain, facts)
    return twin


def sum_of_mirrored(foreground: np.ndarray) -> int:
    """What the columns of two mirrored voxels add up to: twice where the plane of the brain's best symmetry lies."""
    profile = foreground.sum((0, 1))
    middle = round(2 * np.average(np.arange(profile.size), weights=profile))
    return max(range(middle - 20, middle + 21), key=lambda total: overlap(foreground[::2, ::2], total))


def overlap(foreground: np.ndarray, total: int) -> float:
    """The Dice of a brain (z, y, x) and its mirror image, when columns that are mirrored add up to ``total``."""
    columns = np.arange(foreground.shape[2])
    partner = total - columns
    inside = (partner >= 0) & (partner < columns.size)
    both = foreground[:, :, inside] & foreground[:, :, partner[inside]]
    return 2 * both.sum() / max(1, 2 * foreground.sum())
