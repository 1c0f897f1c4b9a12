"""Two rules for what a network finds by mistake; a model's card says whether and at what size they hold.

Gliomas are one piece, or few large ones: in the labels that the bundled model was trained on, 33 of 35 have no second
piece of 1 mL. And a core that enhances enhances more than a drop: with less, "none" is right more often than not
(BraTS entries have long used such a rule, first Isensee et al., arXiv 1809.10483).
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .anatomy import REGIONS

SHARE = 0.1  # of the largest piece: a smaller one is never dropped beside it when it has more than this
CORE_SHARE = 0.2  # of the core: enhancement that is more than this of a small core is kept


@dataclass(frozen=True)
class Rules:
    """Sizes in mL; 0 switches a rule off.

    Attributes:
        smallest_piece_ml: a piece of whole tumour smaller than this, beside a much larger one, is dropped.
        smallest_et_ml: less enhancing tumour than this in all, in a much larger core, is counted as necrosis.
    """

    smallest_piece_ml: float = 0.0
    smallest_et_ml: float = 0.0


def apply_rules(probabilities: np.ndarray, rules: Rules, voxel_ml: float) -> tuple[np.ndarray, list[str]]:
    """Nested region probabilities (3, z, y, x) with the rules applied, and what they changed, in words."""
    notes = []
    whole = probabilities[REGIONS.index("WT")] >= 0.5
    pieces = sitk.GetArrayFromImage(
        sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(whole.astype(np.uint8)), True))
    )
    sizes = np.bincount(pieces.ravel())[1:] * voxel_ml  # largest first
    dropped = [n for n, size in enumerate(sizes, 1) if size < min(rules.smallest_piece_ml, SHARE * sizes[0])]
    if dropped:
        probabilities = np.where(np.isin(pieces, dropped), 0, probabilities)
        notes.append(
            f"left out {len(dropped)} pieces of {sizes[dropped[0] - 1 :].sum():.2f} mL in all, each smaller than "
            f"{rules.smallest_piece_ml:g} mL beside a larger tumour"
        )
    et_ml, core_ml = (np.count_nonzero(probabilities[REGIONS.index(name)] >= 0.5) * voxel_ml for name in ("ET", "TC"))
    if 0 < et_ml < min(rules.smallest_et_ml, CORE_SHARE * core_ml):
        probabilities = probabilities.copy()
        index = REGIONS.index("ET")
        probabilities[index] = np.minimum(probabilities[index], 0.49)
        notes.append(
            f"{et_ml:.2f} mL that looked enhancing, less than {rules.smallest_et_ml:g} mL, counted as necrosis"
        )
    return probabilities, notes
