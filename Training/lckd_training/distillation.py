"""The losses of a sample: segmentation of every subset, and what the elected teachers and the full set teach.

Feature distillation is the paper's: the mean L1 distance of the other modalities' bottleneck features from a
teacher's, with no gradient into the teacher. It is a mean over pairs (the authors sum), so its weight does not change
with the number of modalities. Logit distillation gives each subset the full set's prediction as a soft target.
"""

from itertools import permutations

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from lckd.anatomy import MODALITIES


class Losses:
    """Call for a sample's losses by name; their sum is what is minimised."""

    def __init__(self, feature_weight: float, logit_weight: float):
        self.feature_weight, self.logit_weight = feature_weight, logit_weight
        # Smooth in both terms: a region that is rightly found empty costs nothing.
        self.dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)

    def __call__(self, logits: Tensor, regions: Tensor, bottleneck: Tensor, held: Tensor, teachers: set[str]):
        """logits (views, 3, s, s, s), full set first; regions (3, s, s, s); bottleneck (4, c, ...); held (4,) bool."""
        logits = logits.float()
        target = regions.expand_as(logits)
        losses = {
            "dice": self.dice(logits, target),
            "cross_entropy": functional.binary_cross_entropy_with_logits(logits, target),
        }
        if self.logit_weight and len(logits) > 1:
            taught = logits[0].detach().sigmoid().expand_as(logits[1:])
            distance = functional.binary_cross_entropy_with_logits(logits[1:], taught)
            losses["logit_distillation"] = self.logit_weight * distance
        if self.feature_weight and teachers:
            losses["feature_distillation"] = self.feature_weight * feature_distance(bottleneck, held, teachers)
        return losses


def feature_distance(bottleneck: Tensor, held: Tensor, teachers: set[str]) -> Tensor:
    """Mean L1 distance of every held modality's features (4, c, ...) from each held teacher's, teachers fixed."""
    present = [name for name, there in zip(MODALITIES, held.tolist(), strict=True) if there]
    pairs = [(t, s) for t, s in permutations(present, 2) if t in teachers]
    features = dict(zip(MODALITIES, bottleneck.float(), strict=True))
    distances = [functional.l1_loss(features[s], features[t].detach()) for t, s in pairs]
    return torch.stack(distances).mean() if distances else bottleneck.new_zeros(())
