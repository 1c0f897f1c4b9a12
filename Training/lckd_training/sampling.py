"""What each iteration sees: a case, a patch, an augmentation and subsets, all a function of (seed, iteration).

Nothing is drawn from a running generator, so a resumed run sees exactly what an uninterrupted one would have seen.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from lckd.anatomy import LABELS, MODALITIES, subsets
from lckd.preprocessing import labels_to_regions

from .augmentation import Augmentation
from .config import Config
from .data import CachedCase

ALL_SUBSETS = subsets()


class Samples(Dataset):
    """Item ``i`` is what iteration ``i`` trains on.

    Returns a dict: ``images`` float32 (4, s, s, s), zeros where the case lacks a modality; ``regions`` float32
    (3, s, s, s); ``available`` bool (views, 4), first the case's full set, then random subsets of it.
    """

    def __init__(self, cases: list[CachedCase], config: Config):
        self.cases, self.config = cases, config

    def __len__(self) -> int:
        return self.config.iterations

    def __getitem__(self, iteration: int) -> dict[str, torch.Tensor]:
        config = self.config
        case = self.cases[case_order(len(self.cases), iteration, config.seed)]
        rng = np.random.default_rng((config.seed, iteration))
        late = iteration >= config.final_from * config.iterations
        size = config.final_patch if late else config.patch
        patch = draw_patch(case.labels, size, config.tumour_centred, rng)
        images = np.zeros((len(MODALITIES), size, size, size), np.float32)
        held = [MODALITIES.index(name) for name in case.modalities]
        images[held] = padded(case.images, patch, size)
        regions = labels_to_regions(padded(case.labels[None], patch, size)[0], LABELS)
        images, regions = Augmentation(size)(images, regions, seed=int(rng.integers(2**31)))
        views = [case.modalities, *draw_subsets(case.modalities, config.subsets_per_sample, rng)]
        available = torch.tensor([[name in view for name in MODALITIES] for view in views])
        return {"images": images, "regions": regions, "available": available}


def case_order(count: int, iteration: int, seed: int) -> int:
    """Every case once per round, each round in an order of its own."""
    round_, place = divmod(iteration, count)
    return int(np.random.default_rng((seed, 1, round_)).permutation(count)[place])


def draw_subsets(modalities: tuple[str, ...], count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Distinct random subsets of the modalities a case has, uniform over all of them, the full set left out."""
    possible = [s for s in ALL_SUBSETS if set(s) < set(modalities)] or [modalities]
    picks = rng.choice(len(possible), size=count, replace=count > len(possible))
    return [possible[i] for i in picks]


def draw_patch(labels: np.ndarray, size: int, tumour_centred: float, rng: np.random.Generator) -> tuple[int, int, int]:
    """The first corner (z, y, x) of a patch; negative where the case is smaller than the patch."""
    centre = [rng.uniform(size / 2, max(size / 2, n - size / 2)) for n in labels.shape]
    if rng.random() < tumour_centred:
        tumour = np.flatnonzero(labels)
        if tumour.size:
            centre = np.unravel_index(tumour[rng.integers(tumour.size)], labels.shape)
            centre = [c + rng.uniform(-size / 4, size / 4) for c in centre]
    corner = []
    for middle, n in zip(centre, labels.shape, strict=True):
        slack = n - size
        corner.append(slack // 2 if slack < 0 else int(np.clip(middle - size / 2, 0, slack)))
    return tuple(corner)


def padded(array: np.ndarray, corner: tuple[int, int, int], size: int) -> np.ndarray:
    """The (c, size, size, size) patch at a corner of (c, z, y, x), zeros outside."""
    out = np.zeros((array.shape[0], size, size, size), array.dtype)
    source, target = [], []
    for first, n in zip(corner, array.shape[1:], strict=True):
        source.append(slice(max(first, 0), min(first + size, n)))
        target.append(slice(max(-first, 0), max(-first, 0) + source[-1].stop - source[-1].start))
    out[:, *target] = array[:, *source]
    return out
