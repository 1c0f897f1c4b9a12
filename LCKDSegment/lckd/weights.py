"""Weights on disk: a convolution's kernels in few bits with a scale a channel, deflated; the rest in fp16.

A fifth of the size of fp16 throughout; Training/README.md has what that costs. Models of format 2 (kernels in eight
bits, not deflated) and 1 (all in fp16) are read as before.
"""

import zlib

import torch
from torch import Tensor

SCALE, SHAPE = ".scale", ".shape"
KERNEL_DIMENSIONS = 3  # or more: (channels out, channels in, z, y, x), or (modality, channels in, channels out)
LEVELS = ((400_000, 4), (100_000, 7), (0, 63))
"""Of so many weights or more, a kernel's are whole multiples, -n to n, of its channel's scale: large ones bear few."""


def packed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights as they are stored.

    A kernel NAME is uint8, its int8 values deflated by zlib, beside ``NAME.shape`` (int64) and ``NAME.scale`` (float32,
    (channels out, 1, ...)).
    """
    stored = {}
    for name, value in weights.items():
        if value.ndim >= KERNEL_DIMENSIONS:
            largest = value.abs().amax(tuple(range(1, value.ndim)), keepdim=True).float().clamp_min(1e-20)
            # Of few binary digits, so that what was unpacked packs to the same bytes.
            scale = (largest / levels(value.numel())).bfloat16().float()
            kernel = (value / scale).round().to(torch.int8)
            deflated = zlib.compress(kernel.cpu().numpy().tobytes(), level=9)
            stored[name] = torch.frombuffer(bytearray(deflated), dtype=torch.uint8)
            stored[name + SHAPE] = torch.tensor(kernel.shape)
            stored[name + SCALE] = scale.contiguous()
        else:
            stored[name] = value.half().contiguous()
    return stored


def levels(size: int) -> int:
    """How many steps each way from 0 the weights of a kernel of so many have."""
    return next(steps for least, steps in LEVELS if size >= least)


def unpacked(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights as float32. Raises KeyError where a kernel lacks its scale or shape, RuntimeError for damage."""
    weights = {}
    for name, value in stored.items():
        if name.endswith((SCALE, SHAPE)):
            continue
        if value.dtype == torch.uint8:
            value = _inflated(value, stored[name + SHAPE])
        weights[name] = value.float() * stored[name + SCALE] if value.dtype == torch.int8 else value.float()
    return weights


def _inflated(deflated: Tensor, shape: Tensor) -> Tensor:
    try:
        kernel = zlib.decompress(deflated.numpy().tobytes())
    except zlib.error as error:
        raise RuntimeError(f"a kernel is damaged, {error}") from None
    return torch.frombuffer(bytearray(kernel), dtype=torch.int8).reshape(shape.tolist())
