"""Transforms that make a prepared patch look like another patient, scanner, protocol or preparation.

Geometry moves all channels and the label alike; intensities, slice thickness and a rest of misregistration change per
modality, as scanners and patients do; the edge of the brain changes for all, as brain extractions do.
"""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandAxisFlipd,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
    RandSmoothDeformd,
)
from torch.nn.functional import interpolate, max_pool3d

from lckd.anatomy import MODALITIES


class Augmentation:
    """Call with images (4, z, y, x), regions (3, z, y, x) and a seed; the same seed gives the same result."""

    def __init__(self, size: Sequence[int]):
        both = ("images", "regions")
        geometry = [
            RandFlipd(both, prob=0.5, spatial_axis=2),
            RandAxisFlipd(both, prob=0.3),
            RandAffined(
                both,
                prob=0.3,
                rotate_range=(0.3, 0.3, 0.3),
                scale_range=(0.2, 0.2, 0.2),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
                spatial_size=tuple(size),
            ),
            RandSmoothDeformd(  # every node of a coarse grid goes its own way, up to a twentieth of the patch
                both,
                prob=0.3,
                rand_size=(6, 6, 6),
                def_range=0.1,  # the patch is 2 wide
                field_mode="trilinear",
                align_corners=True,
                grid_mode=("bilinear", "nearest"),
                grid_padding_mode="zeros",
                grid_align_corners=True,
                spatial_size=tuple(size),
            ),
        ]
        intensity = []
        for name in MODALITIES:
            one = {"keys": name, "allow_missing_keys": True}  # a case may lack it
            intensity += [
                RandScaleIntensityd(**one, factors=0.25, prob=0.5),
                RandShiftIntensityd(**one, offsets=0.6, prob=0.3),
                RandHistogramShiftd(**one, num_control_points=(4, 8), prob=0.1),
                RandAdjustContrastd(**one, gamma=(0.7, 1.5), prob=0.3),
                RandGaussianNoised(**one, std=0.15, prob=0.15),
                RandGaussianSmoothd(**one, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0), sigma_z=(0.5, 1.0), prob=0.1),
                RandSimulateLowResolutiond(**one, zoom_range=(0.4, 1.0), prob=0.1),
                RandBiasFieldd(**one, degree=2, coeff_range=(-0.25, 0.25), prob=0.15),
            ]
        self.geometry, self.intensity = Compose(geometry), Compose(intensity)

    def __call__(self, images: np.ndarray, regions: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(seed)
        for transforms in (self.geometry, self.intensity):  # each its own seed, or one's draws are the other's too
            transforms.set_random_state(int(rng.integers(2**32)))
        moved = self.geometry({"images": torch.from_numpy(images), "regions": torch.from_numpy(regions).float()})
        images, regions = moved["images"].as_tensor(), moved["regions"].as_tensor()  # MetaTensors slow every step
        own = images.ne(0)
        present = images.flatten(1).any(1)  # a modality the case lacks stays all zero
        held = [i for i, there in enumerate(present) if there]
        changed = self.intensity({MODALITIES[i]: images[i : i + 1] for i in held})
        for i in held:
            images[i : i + 1] = as_another_acquisition(changed[MODALITIES[i]].as_tensor(), rng)
        images, regions = with_another_brain_edge(images * own, regions, rng)
        return (images * present[:, None, None, None]).float(), regions


def as_another_acquisition(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """An image (1, s, s, s) as if its slices were 2 to 6 mm thick (one in six) or lay a voxel off (one in ten)."""
    if rng.random() < 1 / 6:
        axis, thickness = rng.integers(3), rng.uniform(2, 6)
        coarse = list(image.shape[1:])
        coarse[axis] = max(1, round(coarse[axis] / thickness))
        image = interpolate(interpolate(image[None], coarse, mode="area"), image.shape[1:], mode="trilinear")[0]
    if rng.random() < 0.1:
        image = torch.roll(image, rng.integers(-1, 2, 3).tolist(), (1, 2, 3))
    return image


def with_another_brain_edge(
    images: torch.Tensor, regions: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (4, s, s, s) whose brain mask cut 1 to 3 mm too deep (one in ten) or left a rim of 2 to 4 mm (same).

    What is cut off is no longer labelled in the regions (3, s, s, s) either: results end at the brain mask, too.
    """
    draw = rng.random()
    if draw >= 0.2:
        return images, regions
    seen = sitk.GetImageFromArray(images.any(0).numpy().astype(np.uint8))  # the darkest voxels of a brain are 0, too
    brain = torch.from_numpy(sitk.GetArrayFromImage(sitk.BinaryFillhole(seen))).bool()
    if draw < 0.1:
        kept = ~grown(~brain, int(rng.integers(1, 4)))
        return images * kept, regions * kept
    rim = grown(brain, int(rng.integers(2, 5))) & ~brain
    texture = torch.from_numpy(rng.random((1, 1, 24, 24, 24), np.float32))
    texture = interpolate(texture, images.shape[1:], mode="trilinear")[0]
    level = torch.from_numpy(rng.uniform(0.0, 6.0, (len(images), 1, 1, 1)).astype(np.float32))
    return images + rim * level * texture, regions


def grown(mask: torch.Tensor, voxels: int) -> torch.Tensor:
    """The mask (z, y, x) dilated by a cube of so many voxels to each side."""
    grown = mask[None, None].float()
    for axis in range(3):  # one axis after the other: a cube of 15 voxels at once takes many times longer
        edges, padding = [1, 1, 1], [0, 0, 0]
        edges[axis], padding[axis] = 2 * voxels + 1, voxels
        grown = max_pool3d(grown, edges, stride=1, padding=padding)
    return grown[0, 0].bool()
