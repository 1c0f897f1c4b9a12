"""Instance normalisation followed by a leaky ReLU, fused for channels-last tensors on a CPU.

PyTorch's instance normalisation leaves the channels-last layout, and its backward pass costs as much as the convolution
before it. Here the sums over a volume are small matrix products (of bfloat16 the processor's units for it do them), and
the rest is done in place. Everywhere else (CUDA, MPS, few voxels) PyTorch's own functions do the same in fp32; both
agree within the precision they are given.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.01
EPSILON = 1e-5
CHUNK = 512  # voxels summed in bfloat16's matrix unit before the sums go on in fp32
FEW = 4096  # voxels; fewer may be so alike that bfloat16's rounding outweighs their deviation, so they go in fp32


class InstanceNormLeakyReLU(nn.Module):
    """y = leaky_relu(gamma * (x - mean) / std + beta), mean and std per sample and channel. x: (B, C, D, H, W).

    With a mask (B, 1, D, H, W) of zeros and ones, mean and std are those inside it, and y is 0 outside: how much empty
    background a patch holds then changes nothing. Where no gradient is wanted, x may be written over: new memory costs
    a CPU more than the arithmetic.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32) and self._many(x, mask):
            return _Fused.apply(x.contiguous(memory_format=torch.channels_last_3d), self.weight, self.bias, mask)
        if mask is None:
            weight, bias = self.weight.float(), self.bias.float()
            normalised = functional.instance_norm(x.float(), weight=weight, bias=bias, eps=EPSILON)
            return functional.leaky_relu(normalised, SLOPE, inplace=True).to(x.dtype)
        return self._masked(x, mask)

    @staticmethod
    def _many(x: Tensor, mask: Tensor | None) -> bool:
        """Whether every sample has voxels enough for sums in bfloat16."""
        return (x[0, 0].numel() if mask is None else int(mask.flatten(1).sum(1, dtype=torch.float32).min())) >= FEW

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        space, values = (2, 3, 4), x.float()
        voxels = mask.sum(space, keepdim=True, dtype=torch.float32).clamp_min(1)
        about = (values - (values * mask).sum(space, keepdim=True) / voxels) * mask
        deviation = (about.square().sum(space, keepdim=True) / voxels + EPSILON).rsqrt()
        scale, shift = (p.float()[:, None, None, None] for p in (self.weight, self.bias))
        return (functional.leaky_relu(about * deviation * scale + shift, SLOPE) * mask).to(x.dtype)


def _rows(x: Tensor) -> Tensor:
    """A channels-last (B, C, D, H, W) tensor as its (B, voxels, C) view."""
    return x.permute(0, 2, 3, 4, 1).reshape(x.shape[0], -1, x.shape[1])


def _chunks(rows: Tensor) -> Tensor:
    """(B, voxels, C) rows as (chunks, voxels of a chunk, C)."""
    voxels, channels = rows.shape[1:]
    return rows.reshape(-1, CHUNK if voxels % CHUNK == 0 else voxels, channels)


def _sum(rows: Tensor, inside: Tensor | None = None) -> Tensor:
    """The sum over voxels, or those where ``inside`` (B, voxels, 1) is one, in fp32, (B, C)."""
    chunks = _chunks(rows)
    if inside is None:
        taken = chunks.new_ones(1, 1, chunks.shape[1]).expand(len(chunks), 1, -1)
    else:
        taken = _chunks(inside).transpose(1, 2)
    total = torch.bmm(taken, chunks)
    return total.float().reshape(rows.shape[0], -1, rows.shape[2]).sum(1)


def _product(rows: Tensor, other: Tensor) -> Tensor:
    """The sum over voxels of rows * other in fp32, (B, C)."""
    product = torch.bmm(_chunks(rows).transpose(1, 2), _chunks(other)).diagonal(dim1=1, dim2=2)
    return product.float().reshape(rows.shape[0], -1, rows.shape[2]).sum(1)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        rows = _rows(x)
        inside = None if mask is None else mask.to(x.dtype).reshape(len(x), -1, 1)
        voxels = rows.shape[1] if mask is None else mask.flatten(1).sum(1, True, dtype=torch.float32).clamp_min(1)
        mean = _sum(rows, inside) / voxels
        # Squares are summed about the mean, or a large mean would drown the variance in bfloat16's rounding.
        about = mean.to(x.dtype)
        out = torch.sub(rows, about[:, None], out=None if any(ctx.needs_input_grad) else rows)
        if inside is not None:
            out.mul_(inside)
        rest = mean - about.float()
        variance = (_product(out, out) / voxels - rest * rest).clamp_min(0)
        deviation = (variance + EPSILON).rsqrt()  # 1 / standard deviation
        if out.dtype == torch.float32:
            scale = deviation * weight
            torch.addcmul((bias - rest * scale)[:, None], out, scale[:, None], out=out)
        else:  # as one operation, in fp32 within: a scale rounded to bfloat16 would be wrong in the same way everywhere
            for sample, *moments in zip(out, rest, variance, strict=True):
                sample.copy_(functional.batch_norm(sample, *moments, weight.float(), bias.float(), eps=EPSILON))
        out = functional.leaky_relu_(out, SLOPE)
        if inside is not None:
            out.mul_(inside)
        ctx.save_for_backward(x, out, mean, deviation, weight, inside)
        ctx.voxels = voxels
        return out.view(*_channels_last_shape(x)).permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, out, mean, deviation, weight, inside = ctx.saved_tensors
        rows = _rows(x)
        # The sign of the output is the sign of the leaky ReLU's input, so the output stands in for it.
        upstream = _rows(gradient.contiguous(memory_format=torch.channels_last_3d))
        upstream = torch.ops.aten.leaky_relu_backward(upstream, out, SLOPE, True)
        if inside is not None:
            upstream.mul_(inside)
        total, product = _sum(upstream), _product(upstream, rows)
        weight_gradient = (product - mean * total) * deviation  # sum of upstream * normalised x
        scale = deviation * weight.float()
        along_x = -scale * deviation * weight_gradient / ctx.voxels
        constant = -scale * total / ctx.voxels - along_x * mean
        grad = upstream * scale[:, None].to(x.dtype)
        grad.addcmul_(rows, along_x[:, None].to(x.dtype)).add_(constant[:, None].to(x.dtype))
        if inside is not None:
            grad.mul_(inside)
        grad = grad.view(*_channels_last_shape(x)).permute(0, 4, 1, 2, 3)
        return grad, weight_gradient.sum(0).to(weight.dtype), total.sum(0).to(weight.dtype), None


def _channels_last_shape(x: Tensor) -> tuple[int, ...]:
    batch, channels, *space = x.shape
    return (batch, *space, channels)
