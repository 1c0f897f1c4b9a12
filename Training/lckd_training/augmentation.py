"""MONAI transforms that make a prepared patch look like another patient, scanner or protocol.

Geometry moves all channels and the label alike; intensities change per modality, as scanners do.
"""

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandAxisFlipd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandSimulateLowResolutiond,
)

from lckd.anatomy import MODALITIES


class Augmentation:
    """Call with images (4, s, s, s), regions (3, s, s, s) and a seed; the same seed gives the same result."""

    def __init__(self, size: int):
        both = ("images", "regions")
        geometry = [
            RandFlipd(both, prob=0.5, spatial_axis=2),
            RandAxisFlipd(both, prob=0.3),
            RandAffined(
                both,
                prob=0.2,
                rotate_range=(0.3, 0.3, 0.3),
                scale_range=(0.15, 0.15, 0.15),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
                spatial_size=(size,) * 3,
            ),
        ]
        intensity = []
        for name in MODALITIES:
            intensity += [
                RandScaleIntensityd(name, factors=0.2, prob=0.5),
                RandAdjustContrastd(name, gamma=(0.7, 1.5), prob=0.3),
                RandGaussianNoised(name, std=0.15, prob=0.15),
                RandGaussianSmoothd(name, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.1),
                RandSimulateLowResolutiond(name, zoom_range=(0.4, 1.0), prob=0.1),
            ]
        self.geometry, self.intensity = Compose(geometry), Compose(intensity)

    def __call__(self, images: np.ndarray, regions: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.geometry.set_random_state(seed)
        self.intensity.set_random_state(seed)
        moved = self.geometry({"images": torch.from_numpy(images), "regions": torch.from_numpy(regions).float()})
        present = moved["images"].flatten(1).any(1)  # a modality the case lacks stays all zero
        channels = {name: moved["images"][i : i + 1] for i, name in enumerate(MODALITIES)}
        changed = self.intensity(channels)
        images = torch.cat([changed[name] for name in MODALITIES]) * present[:, None, None, None]
        return torch.as_tensor(images).float(), torch.as_tensor(moved["regions"])
