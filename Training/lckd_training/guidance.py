"""Guidance: imagining the features of a missing teacher instead of filling them with the mean.

Deep Multimodal Guidance (Mallya and Hamarneh, MICCAI 2022) turns an inferior modality's bottleneck features into the
superior one's by a small module G. Here the superior modalities are the elected teachers, and what G imagines takes
the place of the mean fill when a teacher is missing (``lckd.network.Guide``).

``joint`` trains everything in one run, G by its distance from the true features. ``staged`` follows the paper:

1. ``alone``: each modality by itself;            2. ``imitate``: G alone, by its distance from the true features;
3. ``through``: G alone, by what the frozen decoder makes of what it imagines;
4. ``joint``: the decoder, G with it, on every subset, the encoder frozen.

Unlike the paper's, the one encoder and decoder serve all modalities, and skip features are filled by the mean.
"""

from torch import Tensor, nn
from torch.nn import functional

from lckd.anatomy import MODALITIES

STAGES = (("alone", 0.4), ("imitate", 0.55), ("through", 0.7), ("joint", 1.0))
"""Each stage of a staged run and the fraction of the iterations at which it ends; the paper trains each to its end."""

TRAINED = {
    "alone": ("encoder", "contrast", "fusions", "rises", "decoder", "head"),
    "imitate": ("guides",),
    "through": ("guides",),
    "joint": ("guides", "fusions", "rises", "decoder", "head"),
}


def stage_of(iteration: int, iterations: int) -> str:
    """The stage of a staged run that an iteration belongs to."""
    return next(name for name, end in STAGES if iteration < round(end * iterations))


def first_stage_ends(iteration: int, iterations: int) -> bool:
    """Whether the teachers of a staged run are to be elected after so many iterations; they then stay."""
    return stage_of(iteration - 1, iterations) == "alone" != stage_of(min(iteration, iterations - 1), iterations)


def train_only(network: nn.Module, stage: str) -> None:
    """Freeze what a stage does not train."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in TRAINED[stage])
        if not parameter.requires_grad:
            parameter.grad = None  # else the optimiser would go on with the last one


def guidance_distance(bottleneck: Tensor, available: Tensor, imagined: dict[int, Tensor]) -> Tensor:
    """Mean L1 distance of imagined features from the true ones, over the views that lack a modality the case has.

    Args:
        bottleneck: (4, c, z, y, x), true where held. No gradient flows into it from here; the encoder still learns to
            be imagined from, through what was imagined.
        available: (views, 4) booleans, the first row what the case holds.
        imagined: index of a modality -> by how much it was imagined to differ from the mean fill, (views, c, z, y, x).
    """
    total, count = bottleneck.new_zeros(()), 0
    features = bottleneck.detach().float()
    for index, difference in imagined.items():
        for view, row in enumerate(available.tolist()):
            if available[0, index] and not row[index]:
                mean = features[row].mean(0)
                total = total + functional.l1_loss(mean + difference[view].float(), features[index])
                count += 1
    return total / max(1, count)


def guided_modalities(teachers: dict[str, str]) -> list[bool]:
    """Which modalities are imagined when they are missing: the teachers."""
    return [name in teachers.values() for name in MODALITIES]
