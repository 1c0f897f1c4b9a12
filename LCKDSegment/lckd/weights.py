"""Weights on disk: a convolution's kernels in eight bits with a scale for each output channel, the rest in fp16.

Half the size of fp16 throughout. Kernels move by half a percent, about as much as bfloat16 rounds; Training/README.md
has what that costs. Models all in fp16 are read as before.
"""

import torch
from torch import Tensor

SCALE = ".scale"
KERNEL_DIMENSIONS = 5  # (channels out, channels in, z, y, x)


def packed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights as they are stored: kernels int8 beside float32 ``NAME.scale`` (channels out, 1, 1, 1, 1)."""
    stored = {}
    for name, value in weights.items():
        if value.ndim == KERNEL_DIMENSIONS:
            scale = value.abs().amax((1, 2, 3, 4), keepdim=True).float().clamp_min(1e-20) / 127
            stored[name] = (value / scale).round().to(torch.int8).contiguous()
            stored[name + SCALE] = scale.contiguous()
        else:
            stored[name] = value.half().contiguous()
    return stored


def unpacked(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights as float32. Raises KeyError where a kernel lacks its scale."""
    return {
        name: value.float() * stored[name + SCALE] if value.dtype == torch.int8 else value.float()
        for name, value in stored.items()
        if not name.endswith(SCALE)
    }
