"""The losses of a sample: segmentation of every subset, and what the elected teachers and the full set teach.

Feature distillation is the paper's: the mean L1 distance of the other modalities' bottleneck features from a
teacher's, with no gradient into the teacher. It is a mean over pairs (the authors sum), so its weight does not change
with the number of modalities. Logit distillation gives each subset the full set's prediction as a soft target.
"""

from dataclasses import dataclass, replace

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from lckd.anatomy import MODALITIES, REGIONS

from .guidance import guidance_distance

Lesson = tuple[str, str | None]
"""A teacher, and the region it teaches, or None for the whole patch."""

NAMES = ("dice", "cross_entropy", "logit_distillation", "feature_distillation", "guidance")

OUTSIDE = -30.0  # a logit whose probability is nothing


@dataclass
class Decoded:
    """What a network makes of a sample.

    Attributes:
        logits: (views, 3, z, y, x).
        bottleneck: (4, c, z', y', x') features of each modality alone.
        imagined: index of a modality -> (views, c, z', y', x'), see ``lckd.network.Network.imagine``.
    """

    logits: Tensor
    bottleneck: Tensor
    imagined: dict[int, Tensor]


def within(brain: Tensor, decoded: Decoded) -> Decoded:
    """``decoded`` with nothing found outside ``brain`` (z, y, x), as inference has it.

    Out there a network that normalises by the brain's voxels gives sigmoid(bias) everywhere. Counted by Dice, that is
    a false region of millilitres in every patch, beside which those in the brain hardly weigh.
    """
    return replace(decoded, logits=decoded.logits.float().masked_fill(~brain, OUTSIDE))


class Losses:
    """Call for a sample's losses by name; their sum is what is minimised."""

    def __init__(
        self,
        feature_weight: float = 0.0,
        logit_weight: float = 0.0,
        guidance_weight: float = 0.0,
        cross_entropy_weight: float = 1.0,
        dice_smooth: float = 1.0,
        relative_features: bool = False,
    ):
        self.feature_weight, self.logit_weight, self.guidance_weight = feature_weight, logit_weight, guidance_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.relative_features = relative_features
        # In both terms, so that a region rightly found empty costs nothing. One wrongly found in P voxels costs
        # P / (P + smooth), whose slope vanishes as P outgrows it: with 1, a large false region teaches nothing.
        self.dice = DiceLoss(sigmoid=True, smooth_nr=dice_smooth, smooth_dr=dice_smooth)

    def __call__(
        self, found: Decoded, regions: Tensor, available: Tensor, lessons: list[Lesson], taught: Decoded | None = None
    ) -> dict[str, Tensor]:
        """The losses of one sample.

        Args:
            found: the network's. The first view is all that may teach: what the case holds, or sampling=paper's subset.
            regions: the truth (3, z, y, x).
            available: (views, 4) booleans.
            taught: where the lessons come from, if not from ``found`` itself: the running average's, first view alone.
        """
        taught = taught or found
        logits = found.logits.float()
        target = regions.expand_as(logits)
        losses = {
            "dice": self.dice(logits, target),
            "cross_entropy": self.cross_entropy_weight * functional.binary_cross_entropy_with_logits(logits, target),
        }
        if self.logit_weight and len(logits) > 1:
            soft = taught.logits[0].detach().float().sigmoid().expand_as(logits[1:])
            losses["logit_distillation"] = self.logit_weight * functional.binary_cross_entropy_with_logits(
                logits[1:], soft
            )
        if self.feature_weight and lessons:
            distance = feature_distance(
                found.bottleneck, taught.bottleneck, available[0], lessons, regions, self.relative_features
            )
            losses["feature_distillation"] = self.feature_weight * distance
        if self.guidance_weight and found.imagined:
            distance = guidance_distance(found.bottleneck, available, found.imagined)
            losses["guidance"] = self.guidance_weight * distance
        return losses


def feature_distance(
    students: Tensor,
    teachers: Tensor,
    held: Tensor,
    lessons: list[Lesson],
    regions: Tensor,
    relative: bool = False,
) -> Tensor:
    """Mean L1 distance of every held modality's features (4, c, ...) from each held teacher's, teachers fixed.

    Args:
        held: (4,) booleans; a modality that is not there neither teaches nor learns.
        regions: (3, z, y, x); a lesson on a region counts the places of the features that hold some of it.
        relative: in units of how far, on average, the teacher's features lie from their channel's mean. Else the loss
            is served by features that shrink and say nothing, the encoder being the same for teacher and student.
    """
    present = [name for name, there in zip(MODALITIES, held.tolist(), strict=True) if there]
    distances = []
    for teacher, region in lessons:
        absent = region and not regions[REGIONS.index(region)].any()  # it would dilute the other regions' lessons
        if teacher not in present or absent:
            continue
        goal = teachers[MODALITIES.index(teacher)].detach().float()
        unit = (goal - goal.mean((1, 2, 3), keepdim=True)).abs().mean().clamp_min(1e-6) if relative else 1.0
        for student in present:
            if student != teacher:
                difference = (students[MODALITIES.index(student)].float() - goal).abs()
                distances.append(_mean_where(difference, regions, region) / unit)
    return torch.stack(distances).mean() if distances else students.new_zeros(())


def _mean_where(difference: Tensor, regions: Tensor, region: str | None) -> Tensor:
    """The mean of (c, z, y, x) everywhere, or where a region of the truth (3, Z, Y, X) is."""
    if region is None:
        return difference.mean()
    mask = functional.adaptive_max_pool3d(regions[REGIONS.index(region)][None], difference.shape[1:])
    return (difference * mask).sum() / (mask.sum() * len(difference)).clamp(min=1)
