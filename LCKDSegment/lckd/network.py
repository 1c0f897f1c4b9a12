"""The compact LCKD network: one encoder for all modalities, features of missing ones filled by the mean, one decoder.

Method: Wang et al., "Learnable Cross-modal Knowledge Distillation for Multi-modal Learning with Missing Modality",
MICCAI 2023 (arXiv 2310.01035). As there, the encoder is shared, each modality enters it alone, a missing modality's
features are the mean of the available ones', and the decoder works on the concatenation of the four. Unlike the
authors' network, skip features are filled in the same way (theirs come from encoding a zero image), so a missing
modality is never encoded, and a study with one sequence costs a fraction of one with four.

Arrays are (batch, ..., z, y, x) at the working grid's 1 mm; sizes must divide by 2 to the number of levels.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .anatomy import MODALITIES, REGIONS
from .normalisation import InstanceNormLeakyReLU


class Convolution(nn.Conv3d):
    """3x3x3 convolution without bias; on a CPU in fp32 where its result is but one or two voxels wide.

    There oneDNN's bfloat16 kernels go wrong: the gradient of the weights where the depth is 2 (processors with
    AVX512-BF16, PyTorch 2.13, a test shows it), a strided result that is 1 wide (AMX, PyTorch issue 169688).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and min(x.shape[2:]) <= 2 * self.stride[0] and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))
        return super().forward(x)


class Layer(nn.Sequential):
    """3x3x3 convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(Convolution(inputs, outputs, stride), InstanceNormLeakyReLU(outputs))

    def forward(self, x: Tensor, brain: Tensor | None = None) -> Tensor:
        convolution, norm = self
        return norm(convolution(x), brain)


class Stage(nn.Module):
    """One encoder level: a layer that enters it (halving the grid below the first level), then ``depth`` residuals."""

    def __init__(self, inputs: int, outputs: int, stride: int, depth: int):
        super().__init__()
        self.enter = Layer(inputs, outputs, stride)
        self.layers = nn.ModuleList(Layer(outputs, outputs) for _ in range(depth))

    def forward(self, x: Tensor, brain: Tensor | None, contrast: Tensor | None = None) -> Tensor:
        x = self.enter(x, brain)
        if contrast is not None:
            x = _inside(_added(x, contrast.to(x.dtype)), brain)
        for layer in self.layers:
            x = _added(layer(x, brain), x)
        return x


class Fusion(nn.Module):
    """A 1x1x1 convolution on the concatenated features of all modalities, missing ones filled by the mean.

    With f_m = mean of the available features for each missing m, the sum over m of W_m f_m is linear in the available
    features alone: available i has the weight W_i + (sum of W_m over missing m) / (number available). So nothing is
    filled or concatenated, and the cost falls with every missing modality.
    """

    def __init__(self, channels: int):
        super().__init__()
        count = len(MODALITIES)
        self.weight = nn.Parameter(torch.randn(count, channels, channels) * (count * channels) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def weights(self, available: Tensor) -> Tensor:
        """(batch, modality) booleans -> (batch, modality, channels in, channels out); zero where missing."""
        present = available.to(self.weight.dtype)
        missing = torch.einsum("bm,mio->bio", 1 - present, self.weight) / present.sum(1)[:, None, None]
        return present[:, :, None, None] * (self.weight + missing[:, None])

    def forward(self, features: Tensor, available: Tensor) -> Tensor:
        """features: (batch, k, channels, z, y, x) of k modalities; available: (batch, 4), k columns of it used."""
        batch, count, channels, *space = features.shape
        weights = self.weights(available)
        if count < len(MODALITIES):  # inference: only the available modalities were encoded, the same for the batch
            weights = weights[:, available[0]]
        rows = features.permute(0, 1, 3, 4, 5, 2).reshape(batch, count, -1, channels).unbind(1)
        first, *others = zip(rows, weights.to(features.dtype).unbind(1), strict=True)
        fused = torch.baddbmm(self.bias.to(features.dtype), *first)
        for row, weight in others:
            fused = fused.baddbmm_(row, weight)
        return fused.view(batch, *space, channels).permute(0, 4, 1, 2, 3)


class Guide(nn.Sequential):
    """What a missing modality's bottleneck features differ by from the mean of the available ones'.

    The guide G of Deep Multimodal Guidance (Mallya and Hamarneh, MICCAI 2022), which turns the features of inferior
    modalities into the superior one's; here a residual on the mean fill, so that it begins as that fill.
    """

    def __init__(self, channels: int):
        last = nn.Conv3d(channels, channels, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(Layer(channels, channels), last)

    def forward(self, x: Tensor, brain: Tensor | None = None) -> Tensor:
        layer, last = self
        difference = last(layer(x, brain))
        return difference if brain is None else difference * brain


class Network(nn.Module):
    """Shared encoder, fusion at every level, light decoder, three nested sigmoid outputs in the order of ``REGIONS``.

    Args:
        widths: channels of each level; the first level lies at half resolution (2 mm), each next at half of that.
        depth: residual layers per encoder level.
        guidance: imagine the bottleneck features of missing modalities named in the buffer ``guided``.
        brain_norm: normalise by the brain's voxels alone, features being zero elsewhere, so that the result
            hardly depends on how much background a window holds. Models made before this lack it.
        mirrored: whether ``predict`` takes the mean over the images and their left-right mirror images.
        bottleneck_layer: a layer on the deepest level's fused features, too, as every other level has. Models made
            before this lack it.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 48, 96, 128, 128),
        depth: int = 2,
        guidance: bool = False,
        brain_norm: bool = False,
        mirrored: bool = False,
        bottleneck_layer: bool = False,
    ):
        super().__init__()
        self.brain_norm, self.mirrored = brain_norm, mirrored
        self.stride = 2 ** len(widths)  # what the edges of images must divide by
        entries = zip([8, *widths], widths, strict=False)
        self.encoder = nn.ModuleList(
            Stage(inputs, outputs, 1 if level == 0 else 2, depth if level else 1)
            for level, (inputs, outputs) in enumerate(entries)
        )
        # Which contrast it looks at is known, so the shared encoder is told: one offset a modality after its stem.
        self.contrast = nn.Parameter(torch.zeros(len(MODALITIES), widths[0]))
        self.fusions = nn.ModuleList(Fusion(width) for width in widths)
        self.bottleneck = nn.ModuleList([Layer(widths[-1], widths[-1])] if bottleneck_layer else [])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))  # deepest first
        self.rises = nn.ModuleList(nn.Conv3d(deep, shallow, 1) for deep, shallow in pairs)
        self.decoder = nn.ModuleList(Layer(shallow, shallow) for _, shallow in pairs)
        self.head = nn.Conv3d(widths[0], 8 * len(REGIONS), 1)
        nn.init.constant_(self.head.bias, -2.0)  # tumour is rare: begin near "none" rather than at one half
        self.guides = nn.ModuleList(Guide(widths[-1]) for _ in MODALITIES if guidance)
        if guidance:
            self.register_buffer("guided", torch.zeros(len(MODALITIES), dtype=torch.bool))

    def encode(self, images: Tensor, modality: Tensor) -> list[Tensor]:
        """images (n, 1, z, y, x), modality (n,) indices into MODALITIES -> features of each level, finest first."""
        x = space_to_depth(images).contiguous(memory_format=torch.channels_last_3d)
        brains = self._brains(x[:, None])
        contrast = self.contrast[modality][:, :, None, None, None]
        features = []
        for level, (stage, brain) in enumerate(zip(self.encoder, brains, strict=True)):
            x = stage(x, brain, contrast if level == 0 else None)
            features.append(x)
        return features

    def _brains(self, finest: Tensor, available: Tensor | None = None) -> list[Tensor | None]:
        """The brain as zeros and ones (b, 1, z, y, x) at each level: where any of (b, k, c, z, y, x) is not zero.

        Outside the brain images and features are exactly zero, so they themselves say where it is.
        """
        if not self.brain_norm:
            return [None] * len(self.encoder)
        there = torch.linalg.vector_norm(finest.detach(), dim=2).ne(0)  # sooner than asking each feature
        if available is not None and there.shape[1] == len(MODALITIES):
            there = there & available[:, :, None, None, None]
        brains = [there.any(1, keepdim=True).float()]
        for _ in self.encoder[1:]:
            brains.append(space_to_depth(brains[-1]).amax(1, keepdim=True))
        return brains

    def imagine(self, bottleneck: Tensor, available: Tensor) -> dict[int, Tensor]:
        """Index of a guided modality -> by how much its features differ from the mean fill, (batch, c, z, y, x).

        Args: as ``decode``, the deepest level alone. Only modalities that some row of ``available`` lacks are there.
        """
        if not self.guides:
            return {}
        mean = mean_feature(bottleneck, available)
        wanted = self.guided.to(available.device) & ~available.all(0)
        brain = mean.ne(0).any(1, keepdim=True).float() if self.brain_norm else None
        return {index: self.guides[index](mean, brain) for index in wanted.nonzero().flatten().tolist()}

    def decode(self, features: list[Tensor], available: Tensor, imagined: dict[int, Tensor] | None = None) -> Tensor:
        """Features of each level as (batch, k, channels, z, y, x) and (batch, 4) booleans -> logits at full size."""
        available = available.to(features[0].device)
        brains = self._brains(features[0], available)
        x = self.fusions[-1](features[-1], available)
        if imagined is None:
            imagined = self.imagine(features[-1], available)
        for index, difference in imagined.items():
            weight = self.fusions[-1].weight[index].to(x.dtype)
            lacking = (~available[:, index, None, None, None, None]).to(x.dtype)
            x = x + lacking * torch.einsum("bizyx,io->bozyx", difference.to(x.dtype), weight)
        for layer in self.bottleneck:
            x = layer(_inside(x, brains[-1]), brains[-1])
        for level, (rise, layer) in enumerate(zip(self.rises, self.decoder, strict=True)):
            shallow = len(features) - 2 - level
            fused = self.fusions[shallow](features[shallow], available)
            x = _added(functional.interpolate(rise(x), scale_factor=2.0, mode="nearest"), fused)
            x = layer(_inside(x, brains[shallow]), brains[shallow])
        return depth_to_space(self.head(x))

    def forward(self, images: Tensor, modalities: Sequence[str]) -> Tensor:
        """Logits (batch, 3, z, y, x) of images (batch, k, z, y, x), whose k channels are these modalities."""
        return next(logits_of_subsets(self, images, modalities, [modalities]))


def logits_of_subsets(
    network: nn.Module, images: Tensor, modalities: Sequence[str], subsets: Iterable[Sequence[str]]
) -> Iterator[Tensor]:
    """Logits (batch, 3, z, y, x) of each subset of these modalities, the k channels of images (batch, k, z, y, x).

    Each modality is encoded once, whatever the number of subsets that have it.
    """
    batch, count = images.shape[:2]
    index = torch.tensor([MODALITIES.index(name) for name in modalities], device=images.device).repeat(batch)
    features = network.encode(images.reshape(batch * count, 1, *images.shape[2:]), index)
    features = [feature.unflatten(0, (batch, count)) for feature in features]
    for subset in subsets:
        chosen = [modalities.index(name) for name in MODALITIES if name in subset]
        available = torch.tensor([[name in subset for name in MODALITIES]] * batch, device="cpu")
        all_of_them = chosen == [*range(count)]
        yield network.decode(features if all_of_them else [feature[:, chosen] for feature in features], available)


def _added(new: Tensor, x: Tensor) -> Tensor:
    """new + x, in the place of ``new`` where no gradient will look for it."""
    return new + x if torch.is_grad_enabled() else new.add_(x)


def _inside(new: Tensor, brain: Tensor | None) -> Tensor:
    """``new`` within the brain, likewise."""
    if brain is None:
        return new
    return new * brain.to(new.dtype) if torch.is_grad_enabled() else new.mul_(brain.to(new.dtype))


def space_to_depth(x: Tensor) -> Tensor:
    """Blocks of 2x2x2 voxels as channels: (b, c, 2z, 2y, 2x) -> (b, 8c, z, y, x), as MONAI's pixelunshuffle.

    Written out here because importing MONAI takes two seconds, and nothing else in the network needs it.
    """
    batch, channels, *space = x.shape
    depth, height, width = (n // 2 for n in space)
    blocks = x.reshape(batch, channels, depth, 2, height, 2, width, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return blocks.reshape(batch, 8 * channels, depth, height, width)


def depth_to_space(x: Tensor) -> Tensor:
    """The inverse of ``space_to_depth``."""
    batch, channels, depth, height, width = x.shape
    blocks = x.reshape(batch, channels // 8, 2, 2, 2, depth, height, width).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return blocks.reshape(batch, channels // 8, 2 * depth, 2 * height, 2 * width)


def mean_feature(features: Tensor, available: Tensor) -> Tensor:
    """The mean (batch, c, z, y, x) of the available modalities' features (batch, k, c, z, y, x), k of them or all."""
    if features.shape[1] < len(MODALITIES):
        return features.mean(1)
    there = available[:, :, None, None, None, None].to(features.dtype)
    return (features * there).sum(1) / there.sum(1)
