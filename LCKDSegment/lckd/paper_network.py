"""The network of the LCKD paper: a weight-standardised 3-D ResNet-50 with ASPP for every modality, one decoder.

Wang et al., MICCAI 2023 (arXiv 2310.01035), as the authors' code has it: 43,656,672 parameters, 0.754 TFLOP for one
80x160x160 patch of four modalities. Written anew from its description; ``official`` maps the authors' weights onto it.

What is theirs and odd is the default, and each has a switch: the ASPP's global branch is constant in space, so the
instance norms on it and after the merge remove it (``global_branch="dead"``; ``"live"`` norms groups of channels);
the skip features of a missing modality come from encoding an image of zeros (``missing_skips="zero_image"``; ``"mean"``
fills them as the bottleneck is filled). Neither switch changes a parameter.
Arrays are (batch, channels, z, y, x); sizes divide by 16, 32, 32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from .anatomy import MODALITIES, REGIONS
from .network import logits_of_subsets, mean_feature

SLOPE = 0.01
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (320, 3, 2))
"""Inner width, blocks and stride of each ResNet stage; a block's output is four times as wide."""
SKIPS = (64, 256, 512, 1024)  # channels of the stem and the first three stages
RISES = (256, 128, 64, 32)  # channels of the decoder's levels, deepest first
BOTTLENECK = 256
PATCH = (80, 160, 160)


class StandardisedConvolution(nn.Conv3d):
    """A convolution without bias whose filters have mean 0 and unbiased deviation 1 (Qiao et al. 2019)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride=1, dilation: int = 1):
        padding = dilation * (size - 1) // 2
        super().__init__(inputs, outputs, size, stride, padding, dilation, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        rows = rows / (rows.var(1, keepdim=True) + 1e-12).sqrt()
        return self._conv_forward(x, rows.view_as(self.weight), None)


class Layer(nn.Module):
    """Standardised convolution, norm (of each channel, or of ``groups`` of them), leaky ReLU (``active``)."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride=1, dilation: int = 1, active: bool = True, groups: int = 0
    ):
        super().__init__()
        self.convolution = StandardisedConvolution(inputs, outputs, size, stride, dilation)
        self.norm = nn.GroupNorm(groups, outputs) if groups else nn.InstanceNorm3d(outputs, affine=True)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        if isinstance(self.norm, nn.InstanceNorm3d) and x[0, 0].numel() == 1:
            x = x * 0 + self.norm.bias[:, None, None, None]  # of one voxel only its shift is left; torch refuses that
        else:
            x = self.norm(x)
        return leaky_relu(x, SLOPE) if self.active else x


class Residual(nn.Module):
    """Layers beside a shortcut, added and rectified; the last layer is not active by itself."""

    def __init__(self, layers: Sequence[Layer], shortcut: Layer | None = None):
        super().__init__()
        self.layers, self.shortcut = nn.Sequential(*layers), shortcut

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.layers(x) + (self.shortcut(x) if self.shortcut else x), SLOPE)


def stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Bottleneck blocks (1x1x1, 3x3x3, 1x1x1); the first one strides and projects."""
    outputs, chain = 4 * width, []
    for index in range(blocks):
        step = stride if index == 0 else 1
        layers = (Layer(inputs, width, 1), Layer(width, width, 3, step), Layer(width, outputs, 1, active=False))
        chain.append(Residual(layers, Layer(inputs, outputs, 1, step, active=False) if index == 0 else None))
        inputs = outputs
    return nn.Sequential(*chain)


class AtrousPyramid(nn.Module):
    """ASPP: a 1x1x1, three dilated 3x3x3 and a global branch, merged by a 1x1x1."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.local = nn.ModuleList([Layer(width, width, 1), *(Layer(width, width, 3, dilation=d) for d in (2, 4, 8))])
        self.whole = Layer(width, width, 1, groups=groups)
        self.merge = Layer(5 * width, width, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.whole(x.mean((2, 3, 4), keepdim=True)).expand_as(x)
        return self.merge(torch.cat([*(branch(x) for branch in self.local), whole], 1))


class PaperNetwork(nn.Module):
    """Encode each modality alone, fill the missing ones' bottleneck with the mean, decode the concatenation.

    Args:
        missing_skips: ``zero_image`` (the authors') or ``mean``: where a missing modality's skip features come from.
        global_branch: ``dead`` (the authors') or ``live``: whether ASPP's global branch changes anything.
    """

    def __init__(self, missing_skips: str = "zero_image", global_branch: str = "dead"):
        super().__init__()
        self.missing_skips = missing_skips
        count = len(MODALITIES)
        self.stem = Layer(1, SKIPS[0], 7, (1, 2, 2))
        self.pool = nn.MaxPool3d(3, 2, 1)
        inputs = (SKIPS[0], *(4 * width for width, _, _ in STAGES))
        self.stages = nn.ModuleList(stage(i, *facts) for i, facts in zip(inputs, STAGES, strict=False))
        self.reduce = Layer(4 * STAGES[-1][0], BOTTLENECK, 1)
        self.pyramid = AtrousPyramid(BOTTLENECK, groups=32 if global_branch == "live" else 0)
        widths = zip((count * BOTTLENECK, *RISES), RISES, strict=False)
        self.rises = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, 2, bias=False) for i, o in widths)
        self.skips = nn.ModuleList(Layer(count * s, o, 1) for s, o in zip(SKIPS[::-1], RISES, strict=True))
        self.refine = nn.ModuleList(Residual((Layer(o, o, 3), Layer(o, o, 3, active=False))) for o in RISES)
        self.head = nn.Conv3d(RISES[-1], len(REGIONS), 1, bias=False)
        for module in (*self.rises, self.head):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def encode(self, images: Tensor, modality: Tensor | None = None) -> list[Tensor]:
        """images (n, 1, z, y, x), one modality each -> skip features, finest first, and the bottleneck last.

        ``modality`` is taken for the compact network's sake; this one is not told which contrast it looks at.
        """
        features = [self.stem(images)]
        x = self.pool(features[0])
        for blocks in self.stages:
            features.append(x := blocks(x))
        return [*features[:-1], self.pyramid(self.reduce(x))]

    def decode(self, features: list[Tensor], available: Tensor) -> Tensor:
        """Features of each level as (batch, k, channels, z, y, x) and (batch, 4) booleans -> logits at full size."""
        zeros = None
        if self.missing_skips == "zero_image" and not available.all():
            depth, height, width = features[0].shape[3:]
            zeros = self.encode(features[0].new_zeros(1, 1, depth, 2 * height, 2 * width))
        columns = []
        for level, feature in enumerate(features):
            mean_fills = zeros is None or level == len(features) - 1  # at the bottleneck in any case, as in the paper
            columns.append(filled(feature, available, None if mean_fills else zeros[level]))
        *skips, x = columns
        for rise, skip, refine, feature in zip(self.rises, self.skips, self.refine, reversed(skips), strict=True):
            x = refine(rise(x) + skip(feature))
        return interpolate(self.head(x), scale_factor=(1, 2, 2), mode="trilinear")

    def forward(self, images: Tensor, modalities: Sequence[str]) -> Tensor:
        """Logits (batch, 3, z, y, x) of images (batch, k, z, y, x), whose k channels are these modalities."""
        return next(logits_of_subsets(self, images, modalities, [modalities]))


def filled(feature: Tensor, available: Tensor, fill: Tensor | None) -> Tensor:
    """The modalities' features side by side, (batch, 4 * channels, z, y, x), missing ones as ``fill`` or as the mean.

    Args:
        feature: (batch, k, channels, z, y, x), of all four modalities or of the available ones alone.
        available: (batch, 4) booleans; where k < 4 the same for the whole batch.
    """
    if available.all():
        return feature.flatten(1, 2)
    available = available.to(feature.device)
    if fill is None:
        fill = mean_feature(feature, available)
    if feature.shape[1] < len(MODALITIES):
        held, feature = feature, feature.new_zeros(len(feature), len(MODALITIES), *feature.shape[2:])
        feature[:, available[0]] = held
    return torch.where(available[:, :, None, None, None, None], feature, fill[:, None]).flatten(1, 2)
