"""The network of the LCKD paper: a weight-standardised 3-D ResNet-50 with ASPP for every modality, one decoder.

Wang et al., MICCAI 2023 (arXiv 2310.01035), as the authors' code has it: 43,656,672 parameters, 0.754 TFLOP for one
80x160x160 patch of four modalities. Written anew from its description; ``official`` maps the authors' weights onto it.

What is theirs and odd is kept, and each has a switch or a note: the ASPP's global branch is constant in space, so the
instance norm after the merge removes it (a dead branch, kept for its parameters); the skip features of a missing
modality come from encoding an image of zeros (``missing_skips="zero_image"``; ``"mean"`` fills them as the bottleneck
is filled).
Arrays are (batch, channels, z, y, x); sizes divide by 16, 32, 32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from lckd.anatomy import MODALITIES, REGIONS

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
    """Standardised convolution, instance norm, leaky ReLU (``active``)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride=1, dilation: int = 1, active: bool = True):
        super().__init__()
        self.convolution = StandardisedConvolution(inputs, outputs, size, stride, dilation)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        # Of one voxel instance norm leaves its shift; torch refuses to compute that.
        x = self.norm(x) if x[0, 0].numel() > 1 else x * 0 + self.norm.bias[:, None, None, None]
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

    def __init__(self, width: int):
        super().__init__()
        self.local = nn.ModuleList([Layer(width, width, 1), *(Layer(width, width, 3, dilation=d) for d in (2, 4, 8))])
        self.whole = Layer(width, width, 1)
        self.merge = Layer(5 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.whole(x.mean((2, 3, 4), keepdim=True)).expand_as(x)
        return self.merge(torch.cat([*(branch(x) for branch in self.local), whole], 1))


class PaperNetwork(nn.Module):
    """Encode each modality alone, fill the missing ones' bottleneck with the mean, decode the concatenation.

    Args:
        missing_skips: ``zero_image`` (the authors') or ``mean``: where a missing modality's skip features come from.
    """

    def __init__(self, missing_skips: str = "zero_image"):
        super().__init__()
        self.missing_skips = missing_skips
        count = len(MODALITIES)
        self.stem = Layer(1, SKIPS[0], 7, (1, 2, 2))
        self.pool = nn.MaxPool3d(3, 2, 1)
        inputs = (SKIPS[0], *(4 * width for width, _, _ in STAGES))
        self.stages = nn.ModuleList(stage(i, *facts) for i, facts in zip(inputs, STAGES, strict=False))
        self.reduce = Layer(4 * STAGES[-1][0], BOTTLENECK, 1)
        self.pyramid = AtrousPyramid(BOTTLENECK)
        widths = zip((count * BOTTLENECK, *RISES), RISES, strict=False)
        self.rises = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, 2, bias=False) for i, o in widths)
        self.skips = nn.ModuleList(Layer(count * s, o, 1) for s, o in zip(SKIPS[::-1], RISES, strict=True))
        self.refine = nn.ModuleList(Residual((Layer(o, o, 3), Layer(o, o, 3, active=False))) for o in RISES)
        self.head = nn.Conv3d(RISES[-1], len(REGIONS), 1, bias=False)
        for module in (*self.rises, self.head):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def encode(self, images: Tensor) -> list[Tensor]:
        """images (n, 1, z, y, x), one modality each -> skip features, finest first, and the bottleneck last."""
        features = [self.stem(images)]
        x = self.pool(features[0])
        for blocks in self.stages:
            features.append(x := blocks(x))
        return [*features[:-1], self.pyramid(self.reduce(x))]

    def forward(self, images: Tensor, modalities: Sequence[str]) -> Tensor:
        """Logits (batch, 3, z, y, x) of images (batch, k, z, y, x), whose k channels are these modalities."""
        places = [modalities.index(name) if name in modalities else None for name in MODALITIES]
        features = [f.unflatten(0, images.shape[:2]) for f in self.encode(images.flatten(0, 1)[:, None])]
        fills = [feature.mean(1) for feature in features]
        if None in places and self.missing_skips == "zero_image":
            zeros = self.encode(torch.zeros_like(images[:, :1]))
            fills[:-1] = zeros[:-1]  # at the bottleneck the mean stands, as in the paper
        columns = [
            torch.cat([fill if place is None else feature[:, place] for place in places], 1)
            for feature, fill in zip(features, fills, strict=True)
        ]
        *skips, x = columns
        for rise, skip, refine, feature in zip(self.rises, self.skips, self.refine, reversed(skips), strict=True):
            x = refine(rise(x) + skip(feature))
        return interpolate(self.head(x), scale_factor=(1, 2, 2), mode="trilinear")
