"""Teacher election: per region, the modality that does best alone on cases that are not trained on.

The paper's t_k = argmax_i of the validation score of region k with only modality i. Scores are Dice means over the
validation cases (MONAI's metric; empty regions by the BraTS rule: 1 if both are empty, 0 if only one is).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice

from lckd.anatomy import LABELS, MODALITIES, REGIONS
from lckd.inference import predict_subsets
from lckd.network import Network
from lckd.postprocessing import Rules, apply_rules
from lckd.preprocessing import labels_to_regions

from .data import CachedCase

NO_RULES = Rules()
VOXEL_ML = 0.001  # prepared cases lie on a grid of 1 mm
HYSTERESIS = 0.01  # a sitting teacher is replaced only by one that is better by more than this


@dataclass
class Election:
    """The outcome: scores[region][modality], and the teacher of each region."""

    iteration: int
    scores: dict[str, dict[str, float]]
    teachers: dict[str, str]


def elect(scores: dict[str, dict[str, float]], sitting: dict[str, str], iteration: int) -> Election:
    """Per region the best modality; the sitting teacher keeps its place in a near tie.

    Where no modality finds a region nobody is elected: the first in a table of zeros has nothing to teach.
    """
    teachers = {}
    for region, of_modality in scores.items():
        best = max(of_modality, key=of_modality.get, default=None)  # none where no case has a single modality
        if best is None or of_modality[best] <= HYSTERESIS:
            continue
        held = sitting.get(region)
        keeps = held in of_modality and of_modality[best] <= of_modality[held] + HYSTERESIS
        teachers[region] = held if keeps else best
    return Election(iteration, scores, teachers)


def single_teacher(teachers: dict[str, str]) -> dict[str, str]:
    """The modality elected for most regions as the teacher of all (the paper's LCKD-s); of equals the first."""
    elected = list(teachers.values())
    return dict.fromkeys(teachers, max(elected, key=elected.count)) if elected else {}


def single_modality_scores(
    network: Network, cases: list[CachedCase], window: tuple[int, int, int], device: torch.device
):
    """scores[region][modality]: mean Dice of each modality alone.

    Over the cases that have every modality that any has, so that all are compared on the same ones; where there are
    none, over the cases that have it.
    """
    compared = comparable({case.name: case.modalities for case in cases})
    cases = [case for case in cases if case.name in compared]
    dice: dict[str, list[np.ndarray]] = {modality: [] for modality in MODALITIES}
    alone = [(modality,) for modality in MODALITIES]
    for case in cases:
        truth = true_regions(case)
        for (modality,), found in found_in_subsets(network, case, alone, window, device):
            dice[modality].append(region_dice(found, truth))
    means = {modality: np.mean(values, axis=0) for modality, values in dice.items() if values}
    return {
        region: {modality: round(float(mean[index]), 4) for modality, mean in means.items()}
        for index, region in enumerate(REGIONS)
    }


def comparable(had: Mapping[str, Iterable[str]]) -> set[str]:
    """Of cases (name -> modalities) those that have every modality that any has; all, where there are none."""
    there = set().union(*had.values())
    return {name for name, has in had.items() if there <= {*has}} or {*had}


def found_in_subsets(
    network: Network,
    case: CachedCase,
    subsets: Iterable[tuple[str, ...]],
    window: tuple[int, int, int],
    device: torch.device,
    rules: Rules = NO_RULES,
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Each of these subsets that the case has, and what is found from it: booleans (3, z, y, x) of ET, TC, WT."""
    subsets = [subset for subset in subsets if set(subset) <= set(case.modalities)]
    if not subsets:
        return
    given = tuple(modality for modality in case.modalities if any(modality in subset for subset in subsets))
    images = np.float32(case.images[[case.modalities.index(modality) for modality in given]])
    everything = predict_subsets(network, images, given, subsets, window, device)
    for subset, probabilities in zip(subsets, everything, strict=True):
        probabilities, _, _ = apply_rules(probabilities * case.foreground, rules, VOXEL_ML, subset)
        yield subset, probabilities >= 0.5


def true_regions(case: CachedCase) -> np.ndarray:
    """The expert's ET, TC, WT of a case: booleans (3, z, y, x)."""
    return labels_to_regions(np.asarray(case.labels), LABELS)


def region_dice(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice (3,) of regions (3, z, y, x); 1 where both are empty, 0 where one is."""
    found, truth = (torch.from_numpy(regions)[None].float() for regions in (found, truth))
    return np.nan_to_num(compute_dice(found, truth, ignore_empty=False)[0].numpy(), nan=1.0)


def score_table(scores: dict[str, dict[str, float]], teachers: dict[str, str]) -> str:
    """The election as Markdown: each modality's Dice alone, and the teacher of each region."""
    lines = ["| region | teacher | " + " | ".join(f"{m} alone" for m in MODALITIES) + " |", "|---|---|" + "---|" * 4]
    for region in REGIONS:
        of = scores.get(region, {})
        cells = " | ".join(f"{of[m]:.2f}" if m in of else "-" for m in MODALITIES)
        lines.append(f"| {region} | {teachers.get(region, 'none')} | {cells} |")
    return "\n".join(lines)
