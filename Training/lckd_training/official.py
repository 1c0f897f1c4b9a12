"""The authors' weights on our paper network: names and orders mapped, nothing missing, nothing left over.

Their ``DualNet`` (github.com/billhhh/LCKD) takes FLAIR, T1, T1ce, T2 and gives ET, WT, TC; ours takes T1, T1ce, T2,
FLAIR and gives ET, TC, WT. Only tensors are taken in: load theirs with ``torch.load(..., weights_only=True)``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lckd.anatomy import MODALITIES, REGIONS
from lckd.errors import InputError
from lckd.paper_network import PaperNetwork

THEIR_MODALITIES = ("FLAIR", "T1", "T1ce", "T2")
THEIR_REGIONS = ("ET", "WT", "TC")
KINDS, PLACES = {"convolution": "conv", "norm": "norm"}, {"convolution": 0, "norm": 1}
"""How they call a layer's part, and its place where the layer is a sequence."""


def load_state_dict(network: PaperNetwork, state: Mapping[str, Tensor]) -> None:
    """Put a state dict of the authors' ``DualNet`` into the network.

    Raises:
        InputError: a tensor is missing, left over or of another shape.
    """
    theirs = {name.removeprefix("module."): value for name, value in state.items()}
    ours = {}
    for name, value in network.state_dict().items():
        their_name = authors_name(name)
        if their_name not in theirs:
            raise InputError(f"the authors' state dict lacks {their_name}; is it of their DualNet?")
        ours[name] = _reordered(name, theirs.pop(their_name))
        if ours[name].shape != value.shape:
            raise InputError(f"{their_name} is {tuple(ours[name].shape)}, not {tuple(value.shape)}; another variant?")
    if theirs:
        raise InputError(f"{sorted(theirs)[0]} has no place in the paper network; is it of another variant?")
    network.load_state_dict(ours)


def authors_name(name: str) -> str:
    """The authors' name of one of our parameters."""
    part, *rest, leaf = name.split(".")
    match part:
        case "stem":
            return f"shared_enc.backbone.{KINDS[rest[0]]}1.{leaf}"
        case "stages":
            level, block, *inner = rest
            return f"shared_enc.backbone.layer{int(level) + 1}.{block}.{_residual(inner)}.{leaf}"
        case "reduce":
            return f"shared_enc.asppreduce.{PLACES[rest[0]]}.{leaf}"
        case "pyramid" if rest[0] == "local":
            return f"shared_enc.aspp.branch{int(rest[1]) + 1}.{PLACES[rest[2]]}.{leaf}"
        case "pyramid" if rest[0] == "whole":
            return f"shared_enc.aspp.branch5_{KINDS[rest[1]]}.{leaf}"
        case "pyramid":
            return f"shared_enc.aspp.conv_cat.{PLACES[rest[1]]}.{leaf}"
        case "rises":
            return f"shared_dec.transposeconv_stage{3 - int(rest[0])}.{leaf}"
        case "skips":
            return f"shared_dec.shortcut_conv{3 - int(rest[0])}.{PLACES[rest[1]]}.{leaf}"
        case "refine":
            return f"shared_dec.stage{3 - int(rest[0])}_de.{_residual(rest[1:])}.{leaf}"
        case _:
            return f"shared_dec.cls_conv.0.{leaf}"


def _residual(inner: list[str]) -> str:
    """``layers.1.norm`` -> ``norm2``; ``shortcut.norm`` -> ``downsample.1``."""
    if inner[0] == "shortcut":
        return f"downsample.{PLACES[inner[1]]}"
    return f"{KINDS[inner[2]]}{int(inner[1]) + 1}"


def _reordered(name: str, value: Tensor) -> Tensor:
    """A tensor with its modalities (the decoder's inputs) or regions (its output) in our order."""
    if name == "head.weight":
        return value[[THEIR_REGIONS.index(region) for region in REGIONS]]
    order = [THEIR_MODALITIES.index(modality) for modality in MODALITIES]
    if name == "rises.0.weight":  # (inputs, outputs, ...)
        return torch.cat([value.chunk(len(order), 0)[i] for i in order], 0)
    if name.startswith("skips.") and name.endswith("convolution.weight"):
        return torch.cat([value.chunk(len(order), 1)[i] for i in order], 1)
    return value
