"""What is known of gliomas beyond the network's voxels; a model's card says whether and how far each rule holds.

Gliomas are one piece, or few large ones: in the labels that the bundled model was trained on, 33 of 35 have no second
piece of 1 mL. A core that enhances enhances more than a drop: with less, "none" is right more often than not (BraTS
entries have long used such a rule, first Isensee et al., arXiv 1809.10483). And oedema alone is no glioma: it has a
core, a large one where hardly anything enhances. In those labels it is 0.40 to 0.67 of the whole tumour in all six
cases that enhance in at most 0.02 of it, and more than 0.1 of it in 26 of the other 29.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .anatomy import REGIONS

SHARE = 0.1  # of the largest piece: a smaller one is never dropped beside it when it has more than this
CORE_SHARE = 0.2  # of the core: enhancement that is more than this of a small core is kept
UNENHANCED = 0.02  # of the whole tumour: with less enhancing, it hardly enhances
CUT = 0.5  # the probability from which on a voxel belongs to a region
ET, TC, WT = map(REGIONS.index, ("ET", "TC", "WT"))


@dataclass(frozen=True)
class Rules:
    """How far each rule goes; the defaults switch it off.

    Attributes:
        smallest_piece_ml: a piece of whole tumour smaller than this, beside a much larger one, is dropped.
        smallest_et_ml: less enhancing tumour than this in all, in a much larger core, is counted as necrosis.
        wt_cut: the network's probability from which on a voxel is whole tumour, in pieces that reach one half.
        least_core: share of the whole tumour; without T1ce, which shows a core best, a smaller one is extended to it.
        least_unenhanced_core: the same where T1ce shows that hardly anything enhances.
    """

    smallest_piece_ml: float = 0.0
    smallest_et_ml: float = 0.0
    wt_cut: float = CUT
    least_core: float = 0.0
    least_unenhanced_core: float = 0.0


LIMITS = {
    "smallest_piece_ml": (0, 10),
    "smallest_et_ml": (0, 10),
    "wt_cut": (0.1, 0.9),
    "least_core": (0, 0.9),
    "least_unenhanced_core": (0, 0.9),
}
"""The least and the most that a model may have of each rule."""


def apply_rules(
    probabilities: np.ndarray, rules: Rules, voxel_ml: float, modalities: tuple[str, ...]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Nested region probabilities (3, z, y, x) with the rules applied; what they changed, in words; what to be wary of.

    Args:
        modalities: what the probabilities were found from.
    """
    probabilities = probabilities.copy()
    sure = probabilities[WT] >= CUT
    if rules.wt_cut != CUT:
        probabilities[WT] = np.maximum(move_cut(probabilities[WT], rules.wt_cut), probabilities[TC])
    notes = [*_drop_pieces(probabilities, sure, rules, voxel_ml), *_drop_small_et(probabilities, rules, voxel_ml)]
    return probabilities, notes, _extend_core(probabilities, rules, voxel_ml, modalities)


def move_cut(probabilities: np.ndarray, cut: float) -> np.ndarray:
    """Probabilities moved so that ``cut`` becomes one half: their log odds less those of ``cut``."""
    yes, no = probabilities * (1 - cut), (1 - probabilities) * cut
    return yes / (yes + no)


def find_pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of a mask (z, y, x), numbered from 1 in an array, and the voxels of each; corners join."""
    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    return pieces, np.bincount(pieces.ravel())[1:]


def _drop_pieces(probabilities: np.ndarray, sure: np.ndarray, rules: Rules, voxel_ml: float) -> list[str]:
    pieces, sizes = find_pieces(probabilities[WT] >= CUT)
    sizes = sizes * voxel_ml
    numbers = np.arange(1, len(sizes) + 1)
    real = np.isin(numbers, pieces[sure])
    small = real & (sizes < min(rules.smallest_piece_ml, SHARE * sizes[real].max(initial=0)))
    if dropped := [*numbers[small | ~real]]:
        probabilities[:, np.isin(pieces, dropped)] = 0
    if not small.any():
        return []
    count = f"{small.sum()} pieces" if small.sum() > 1 else "a piece"
    note = (
        f"left out {count} of {sizes[small].sum():.2f} mL in all, smaller than "
        f"{rules.smallest_piece_ml:g} mL beside a larger tumour"
    )
    return [note]


def _drop_small_et(probabilities: np.ndarray, rules: Rules, voxel_ml: float) -> list[str]:
    et_ml, core_ml = (np.count_nonzero(probabilities[region] >= CUT) * voxel_ml for region in (ET, TC))
    if not 0 < et_ml < min(rules.smallest_et_ml, CORE_SHARE * core_ml):
        return []
    probabilities[ET] = np.minimum(probabilities[ET], 0.49)
    less = f"less than {rules.smallest_et_ml:g} mL"
    return [f"{et_ml:.2f} mL that looked enhancing, {less}, counted as core that does not enhance"]


def _extend_core(probabilities: np.ndarray, rules: Rules, voxel_ml: float, modalities: tuple[str, ...]) -> list[str]:
    whole = probabilities[WT] >= CUT
    enhancing, found, size = (np.count_nonzero(probabilities[region] >= CUT) for region in (ET, TC, WT))
    if "T1ce" not in modalities:
        least, why = rules.least_core, "T1ce, which shows it best, is missing"
    elif enhancing < UNENHANCED * size:
        least, why = rules.least_unenhanced_core, "hardly anything enhances"
    else:
        return []
    wanted = int(least * size)
    if found >= wanted:
        return []
    cut = np.partition(probabilities[TC][whole], size - wanted)[size - wanted]
    # A core that the network thinks impossible is drawn nowhere.
    probabilities[TC] = np.minimum(move_cut(probabilities[TC], max(cut, 1e-6)), probabilities[WT])
    drawn = np.count_nonzero(probabilities[TC] >= CUT)
    found_ml, drawn_ml, whole_ml = (count * voxel_ml for count in (found, drawn, size))
    doubt = f"the network saw {found_ml:.1f} mL of tumour core in {whole_ml:.1f} mL of whole tumour; {why}"
    if drawn == found:
        return [f"{doubt}: there may be far more"]
    drawn_words = f"so {drawn_ml:.1f} mL of core are drawn where likeliest: its extent is assumed"
    return [f"{doubt}. Most such gliomas had more in training, {drawn_words}, and there may be far more"]
