"""Instance normalisation followed by a leaky ReLU, fused for bfloat16 channels-last tensors on a CPU.

PyTorch's instance normalisation leaves the channels-last layout, and its backward pass costs as much as the convolution
before it. Here the sums over a volume are small matrix products (the processor's bfloat16 units do them), and the rest
is done in place. Everywhere else (fp32, CUDA, MPS) PyTorch's own functions are used; both agree within bfloat16.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.01
EPSILON = 1e-5
CHUNK = 512  # voxels summed in bfloat16's matrix unit before the sums go on in fp32


class InstanceNormLeakyReLU(nn.Module):
    """y = leaky_relu(gamma * (x - mean) / std + beta), mean and std per sample and channel. x: (B, C, D, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16 and x.device.type == "cpu":
            return _Fused.apply(x.contiguous(memory_format=torch.channels_last_3d), self.weight, self.bias)
        return functional.leaky_relu(
            functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON), SLOPE, inplace=True
        )


def _rows(x: Tensor) -> Tensor:
    """A channels-last (B, C, D, H, W) tensor as its (B, voxels, C) view."""
    return x.permute(0, 2, 3, 4, 1).reshape(x.shape[0], -1, x.shape[1])


def _sums(rows: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over voxels of ``rows`` and of ``rows * other``, in fp32: two (B, C) tensors."""
    batch, voxels, channels = rows.shape
    chunk = CHUNK if voxels % CHUNK == 0 else voxels
    a, b = (t.reshape(-1, chunk, channels) for t in (rows, other))
    total = torch.bmm(a.new_ones(1, 1, chunk).expand(len(a), 1, chunk), a)
    product = torch.bmm(a.transpose(1, 2), b).diagonal(dim1=1, dim2=2)
    return tuple(t.float().reshape(batch, -1, channels).sum(1) for t in (total, product))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = _rows(x)
        voxels = rows.shape[1]
        total, squares = _sums(rows, rows)
        mean = total / voxels
        deviation = (squares / voxels - mean * mean).clamp_min(0).add(EPSILON).rsqrt()  # 1 / standard deviation
        scale = deviation * weight.float()
        shift = bias.float() - mean * scale
        out = (rows * scale[:, None].to(x.dtype)).add_(shift[:, None].to(x.dtype))
        out = functional.leaky_relu_(out, SLOPE)
        ctx.save_for_backward(x, out, mean, deviation, weight)
        return out.view(*_channels_last_shape(x)).permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, out, mean, deviation, weight = ctx.saved_tensors
        rows = _rows(x)
        voxels = rows.shape[1]
        # The sign of the output is the sign of the leaky ReLU's input, so the output stands in for it.
        upstream = _rows(gradient.contiguous(memory_format=torch.channels_last_3d))
        upstream = torch.ops.aten.leaky_relu_backward(upstream, out, SLOPE, True)
        total, product = _sums(upstream, rows)
        weight_gradient = (product - mean * total) * deviation  # sum of upstream * normalised x
        scale = deviation * weight.float()
        along_x = -scale * deviation * weight_gradient / voxels
        constant = -scale * total / voxels - along_x * mean
        grad = upstream * scale[:, None].to(x.dtype)
        grad.addcmul_(rows, along_x[:, None].to(x.dtype)).add_(constant[:, None].to(x.dtype))
        grad = grad.view(*_channels_last_shape(x)).permute(0, 4, 1, 2, 3)
        return grad, weight_gradient.sum(0).to(weight.dtype), total.sum(0).to(weight.dtype)


def _channels_last_shape(x: Tensor) -> tuple[int, ...]:
    batch, channels, *space = x.shape
    return (batch, *space, channels)
