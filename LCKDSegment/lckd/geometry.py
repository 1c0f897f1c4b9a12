"""The grid of a volume in a radiographer's words, and which of several volumes of one sequence shows more."""

from dataclasses import dataclass

import numpy as np

ANISOTROPIC = 1.4  # slices this many times thicker than their pixels make a volume 2-D
THINNEST = 4  # slices; fewer are no volume
SLAB = 100.0  # mm: a field of view that is shorter in one direction does not hold the whole brain


@dataclass(frozen=True)
class Geometry:
    """A grid: voxels along i, j, k; spacing in mm; direction cosines (3, 3), columns i, j, k, in LPS."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image) -> "Geometry":
        """That of a SimpleITK image or image reader."""
        return cls(tuple(image.GetSize()), tuple(image.GetSpacing()), tuple(image.GetDirection()))

    @property
    def thickness(self) -> float:
        """Of a slice, in mm: the longest edge of a voxel."""
        return max(self.spacing)

    @property
    def three_d(self) -> bool:
        return self.thickness <= ANISOTROPIC * min(self.spacing)

    @property
    def shortest(self) -> float:
        """The field of view's shortest edge, in mm."""
        return min(n * step for n, step in zip(self.size, self.spacing, strict=True))

    @property
    def slab(self) -> bool:
        return self.shortest < SLAB

    @property
    def words(self) -> str:
        """``5.5 mm axial`` or ``1 mm 3-D``."""
        if self.three_d:
            return f"{self.thickness:.3g} mm 3-D"
        towards = np.abs(np.array(self.direction).reshape(3, 3)[:, int(np.argmax(self.spacing))])
        return f"{self.thickness:.3g} mm {('sagittal', 'coronal', 'axial')[int(np.argmax(towards))]}"


def preference(geometry: Geometry, in_atlas: bool, derived: bool, confidence: float) -> list[tuple[float, str]]:
    """What speaks against a volume beside others of its sequence, weightiest first: (how much, in words)."""
    return [
        (in_atlas, "it was brought to an atlas"),
        (geometry.slab, "it covers only part of the brain"),
        (derived, "it is derived from another"),
        (not geometry.three_d, "it is 2-D"),
        (round(geometry.thickness, 1), "its slices are thicker"),
        (-round(confidence, 1), "its name is less clear"),
        (-float(np.prod(geometry.size)), "it has fewer voxels"),
    ]
