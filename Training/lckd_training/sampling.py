"""What each iteration sees: a case, a patch, an augmentation and subsets, all a function of (seed, iteration).

Nothing is drawn from a running generator, so a resumed run sees exactly what an uninterrupted one would have seen.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from lckd.anatomy import LABELS, MODALITIES, subsets
from lckd.errors import InputError
from lckd.preprocessing import Preprocessing, labels_to_regions

from .augmentation import Augmentation
from .config import Config
from .data import CachedCase
from .enhancement import without_enhancement
from .guidance import stage_of
from .healthy import healthy_twin
from .pasting import carve, paste, place_in_brain

ALL_SUBSETS = subsets()


class Samples(Dataset):
    """Items ``i * batch`` to ``(i + 1) * batch - 1`` are what iteration ``i`` trains on.

    Returns a dict: ``images`` float32 (4, z, y, x), zeros where the case lacks a modality; ``regions`` float32
    (3, z, y, x); ``available`` bool (views, 4), the subsets that are decoded, see ``draw_views``.
    """

    def __init__(self, cases: list[CachedCase], config: Config):
        self.config = config
        self.cases = repeated(cases, config.repeated_cases, config.repeats)
        self.with_tumour = [case for case in cases if config.pasted and case.labels.any()]
        self.healthy = {c.name: healthy_twin(c, Preprocessing()) for c in cases} if config.healthy else {}

    def __len__(self) -> int:
        return self.config.iterations * self.config.batch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        config, iteration = self.config, index // self.config.batch
        case = self.cases[case_order(len(self.cases), index, config.seed)]
        rng = np.random.default_rng((config.seed, index))
        if config.healthy and rng.random() < config.healthy:
            case = self.healthy[case.name] or case
        late = iteration >= config.final_from * config.iterations
        size = config.final_patch if late else config.patch
        donors = self._donors(case) if config.pasted and rng.random() < config.pasted else []
        place = place_in_brain(case, rng) if donors else None
        patch = draw_patch(case.labels, size, config.tumour_centred, rng, place)
        held = [MODALITIES.index(name) for name in case.modalities]
        own = padded(case.images, patch, size).astype(np.float32)
        labels = padded(case.labels[None], patch, size)[0]
        if donors:
            tumour = carve(donors[rng.integers(len(donors))], case.modalities, rng)
            paste(own, labels, tumour, tuple(p - corner for p, corner in zip(place, patch, strict=True)))
        if config.unenhanced and rng.random() < config.unenhanced:
            without_enhancement(own, labels, case.modalities)
        images = np.zeros((len(MODALITIES), *size), np.float32)
        images[held] = own
        regions = labels_to_regions(labels, LABELS)
        images, regions = Augmentation(size)(images, regions, seed=int(rng.integers(2**31)))
        views = draw_views(case.modalities, iteration, config, rng)
        available = torch.tensor([[name in view for name in MODALITIES] for view in views])
        return {"images": images, "regions": regions, "available": available}

    def _donors(self, host: CachedCase) -> list[CachedCase]:
        """The other cases whose tumour could be the host's too: seen in every modality that the host has."""
        return [c for c in self.with_tumour if c is not host and set(host.modalities) <= set(c.modalities)]


def repeated(cases: list[CachedCase], names: list[str], times: int) -> list[CachedCase]:
    """The cases, those of these names so many times. Raises InputError where a name is none of theirs."""
    if unknown := {*names} - {case.name for case in cases}:
        raise InputError(f"repeated case {min(unknown)} is not among those to train on; mend repeated_cases")
    return [case for case in cases for _ in range(times if case.name in names else 1)]


def case_order(count: int, iteration: int, seed: int) -> int:
    """Every case once per round, each round in an order of its own."""
    round_, place = divmod(iteration, count)
    return int(np.random.default_rng((seed, 1, round_)).permutation(count)[place])


def draw_views(
    modalities: tuple[str, ...], iteration: int, config: Config, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """The subsets of a case that are decoded in one sample, by the recipe's ``sampling``.

    - uniform: the full set, and ``subsets_per_sample`` random ones;
    - ramped: the same, but at first only the full set, the subsets joining in with a chance that rises until
      ``full_until``;
    - paper: one subset a sample: the full set until ``full_until``, then one to three modalities, any number alike;
    - guidance=staged overrides it in its first stage: each modality alone.
    """
    if config.guidance == "staged" and stage_of(iteration, config.iterations) == "alone":
        return [(name,) for name in modalities]
    if config.sampling == "paper":
        if iteration < config.full_until or len(modalities) == 1:
            return [modalities]
        size = rng.integers(1, len(modalities))
        return [tuple(sorted(rng.choice(modalities, size, replace=False), key=MODALITIES.index))]
    if config.sampling == "ramped" and rng.random() * config.full_until >= iteration:
        return [modalities]
    return [modalities, *draw_subsets(modalities, config.subsets_per_sample, rng)]


def draw_subsets(modalities: tuple[str, ...], count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Distinct random subsets of the modalities a case has, uniform over all of them, the full set left out."""
    possible = [s for s in ALL_SUBSETS if set(s) < set(modalities)] or [modalities]
    picks = rng.choice(len(possible), size=count, replace=count > len(possible))
    return [possible[i] for i in picks]


def draw_patch(
    labels: np.ndarray,
    size: Sequence[int],
    tumour_centred: float,
    rng: np.random.Generator,
    pasted: tuple[int, int, int] | None = None,
) -> tuple[int, int, int]:
    """The first corner (z, y, x) of a patch of this size; negative where the case is smaller than the patch.

    Args:
        tumour_centred: the share of patches that lie about a tumour voxel, or about ``pasted``, where a tumour will be.
    """
    centre = [rng.uniform(s / 2, max(s / 2, n - s / 2)) for n, s in zip(labels.shape, size, strict=True)]
    if rng.random() < tumour_centred:
        around = pasted or random_tumour_voxel(labels, rng)
        if around:
            centre = [c + rng.uniform(-s / 4, s / 4) for c, s in zip(around, size, strict=True)]
    corner = []
    for middle, n, s in zip(centre, labels.shape, size, strict=True):
        slack = n - s
        corner.append(slack // 2 if slack < 0 else int(np.clip(middle - s / 2, 0, slack)))
    return tuple(corner)


def random_tumour_voxel(labels: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int] | None:
    """A voxel (z, y, x) of the tumour, None where there is none."""
    tumour = np.flatnonzero(labels)
    return np.unravel_index(tumour[rng.integers(tumour.size)], labels.shape) if tumour.size else None


def padded(array: np.ndarray, corner: tuple[int, int, int], size: Sequence[int]) -> np.ndarray:
    """The patch (c, *size) at a corner of (c, z, y, x), zeros outside."""
    out = np.zeros((array.shape[0], *size), array.dtype)
    source, target = [], []
    for first, n, edge in zip(corner, array.shape[1:], size, strict=True):
        source.append(slice(max(first, 0), min(first + edge, n)))
        target.append(slice(max(-first, 0), max(-first, 0) + source[-1].stop - source[-1].start))
    out[:, *target] = array[:, *source]
    return out
