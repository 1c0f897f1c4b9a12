"""A tumour of one case in the brain of another, so that few cases show many tumours in many places.

After CarveMix (Zhang et al., MICCAI 2021: the lesion is carved out with a margin of random width) and TumorCP (Yang et
al., MICCAI 2021: it is mirrored, resized and moved). All sequences move together. Nothing here looks like a patient
who exists; it only has to teach that a tumour is told by its tissue and not by its place.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool3d, interpolate

from lckd.preprocessing import bounding_box

from .augmentation import grown
from .data import CachedCase

REACH = (2, 8)  # voxels beyond the tumour that are carved out with it: from, to below
MARGIN = 16  # voxels around a tumour's box, so that the rim and its fading never meet the box's faces
SOFT = 2  # voxels over which the rim fades


@dataclass
class Tumour:
    """A carved tumour: ``images`` (k, z, y, x), ``labels`` (z, y, x), ``opacity`` (z, y, x) from 0 to 1."""

    images: np.ndarray
    labels: np.ndarray
    opacity: np.ndarray


def carve(donor: CachedCase, modalities: tuple[str, ...], rng: np.random.Generator) -> Tumour:
    """The donor's tumour in these modalities, mirrored along random axes, resized by 0.6 to 1.25, in other shades."""
    box = bounding_box(donor.labels, MARGIN)
    chosen = [donor.modalities.index(name) for name in modalities]
    images = torch.from_numpy(donor.images[(chosen, *box)].astype(np.float32))
    labels = torch.from_numpy(donor.labels[box].astype(np.float32))
    mirrored = [axis for axis in range(3) if rng.random() < 0.5]
    images, labels = images.flip([1 + axis for axis in mirrored]), labels.flip(mirrored)
    scale = rng.uniform(0.6, 1.25)
    size = [max(1, round(n * scale)) for n in labels.shape]
    images = interpolate(images[None], size, mode="trilinear")[0]
    seen = images.any(0)
    factor, offset = (
        torch.from_numpy(rng.uniform(*between, (len(chosen), 1, 1, 1)).astype(np.float32))
        for between in ((0.8, 1.25), (-0.3, 0.3))
    )
    images = images * factor + offset
    labels = interpolate(labels[None, None], size, mode="nearest-exact")[0, 0]
    reach = int(rng.integers(*REACH))
    rim = grown(labels > 0, reach).float()
    opacity = avg_pool3d(rim[None], 2 * SOFT + 1, stride=1, padding=SOFT)[0] * seen
    return Tumour(images.numpy(), labels.numpy().astype(np.uint8), opacity.numpy())


def place_in_brain(case: CachedCase, rng: np.random.Generator) -> tuple[int, int, int]:
    """A random voxel (z, y, x) of the case's brain, or of its box should the brain be hard to hit."""
    images = case.images
    for _ in range(100):
        place = tuple(int(rng.integers(n)) for n in images.shape[1:])
        if images[(slice(None), *place)].any():
            break
    return place


def paste(images: np.ndarray, labels: np.ndarray, tumour: Tumour, centre: tuple[int, int, int]) -> None:
    """Put the tumour's middle at ``centre`` of a patch, in place, as far as it lies in the patch and in the brain.

    Args:
        images: (k, z, y, x), the tumour's modalities.
        labels: (z, y, x); what the patch's own tumour had there is covered.
        centre: (z, y, x) in the patch's voxels; may lie outside.
    """
    there, here = [], []
    for middle, n, edge in zip(centre, tumour.labels.shape, labels.shape, strict=True):
        first = middle - n // 2
        start = max(0, -first)
        there.append(slice(start, max(start, min(n, edge - first))))
        here.append(slice(max(0, first), max(0, first) + there[-1].stop - there[-1].start))
    there, here = tuple(there), tuple(here)
    inside = (slice(None), *here)
    opacity = tumour.opacity[there] * images[inside].any(0)
    images[inside] += opacity * (tumour.images[(slice(None), *there)] - images[inside])
    labels[here] = np.where(opacity > 0.5, tumour.labels[there], labels[here])
