"""Find the brain in a volume with skull, by the network of deepbet where that package is installed.

deepbet: Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks", Comput
Biol Med 2024; MIT licence. Its two TorchScript networks (10 MB) are all that is used of it: the package itself asks for
a window toolkit and pandas, so it is installed without what it depends on and never imported.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .geometry import Geometry
from .preprocessing import head_mask, like, voxel_ml

HOW_TO_GET = "pip install --no-deps deepbet"
BEST_SUITED = ("T1", "T1ce", "FLAIR", "T2")  # deepbet has learnt T1; its agreement with HD-BET falls in this order
SMALLEST_ML, SMALL_ML, LARGE_ML, LARGEST_ML = 300, 800, 2000, 2400
CANONICAL = "RAS"  # the orientation deepbet has learnt, arrays (x, y, z)
LOCATE, REFINE = (128,) * 3, (256,) * 3  # voxels: the whole volume to find the brain's box; the box to find its edge
MARGIN = 1.2  # of the box
CUT_SHARE = 0.15  # of the mask's largest cross-section on a face of the volume: the brain goes on outside
ALL_SHARE = 0.92  # of what is not dark: a brain in a head is half of it or, where fat is dark, more


def installed() -> bool:
    """Whether a brain extraction is at hand."""
    try:
        return all(path.is_file() for path in _weights())
    except PackageNotFoundError:
        return False


def extract(image: sitk.Image, name: str) -> sitk.Image:
    """The brain of a 3-D float32 volume with skull as an image of 0 and 1 on its grid.

    Raises:
        InputError: there is no brain in it, or not one that could be an adult's.
    """
    import torch
    from torch.nn.functional import interpolate

    locate, refine = _networks()
    oriented = sitk.DICOMOrient(image, CANONICAL)
    whole = torch.from_numpy(sitk.GetArrayFromImage(oriented).transpose(2, 1, 0).copy())[None, None]
    with torch.inference_mode():
        small = interpolate(whole, LOCATE, mode="nearest-exact")
        limits = small.quantile(0.005), small.quantile(0.995)
        found = _largest_piece(locate(_normalised(small, *limits))[0, 1].numpy() > 0.5)
        box = _box(found, whole.shape[2:])
        if box is None:
            raise InputError(f"{name}: no brain found in it; is it an MR volume of a head?")
        inside = interpolate(whole[:, :, *box], REFINE, mode="nearest-exact")
        probability = refine(_normalised(inside, *limits))[:, 1:]
        probability = interpolate(probability, whole[0, 0][box].shape, mode="trilinear")[0, 0].numpy()
    mask = np.zeros(whole.shape[2:], np.uint8)
    mask[box] = _largest_piece(probability > 0.5)
    brain = sitk.BinaryFillhole(like(np.ascontiguousarray(mask.transpose(2, 1, 0)), oriented))
    brain = sitk.Resample(brain, image, sitk.Transform(), sitk.sitkNearestNeighbor)
    volume = millilitres(brain)
    if not is_possible(brain):
        raise InputError(f"{name}: what was found in it measures {volume:.0f} mL, no brain does; is it a head?")
    if volume > ALL_SHARE * millilitres(head_mask(image)):
        raise InputError(f"{name}: no head around what was found in it; is it a phantom?")
    return brain


def extract_best(images: Mapping[str, sitk.Image]) -> tuple[str, sitk.Image]:
    """The brain from the volume (modality -> image) best suited: the modality and the mask on its grid."""
    whole = [name for name, image in images.items() if not Geometry.of(image).slab] or images
    name = next(name for name in BEST_SUITED if name in whole)
    return name, extract(images[name], name)


def is_possible(brain: sitk.Image) -> bool:
    """Whether a mask has the size of a brain: not of a tumour drawn in it, nor of a whole head."""
    return SMALLEST_ML <= millilitres(brain) <= LARGEST_ML


def is_cut(brain: sitk.Image) -> bool:
    """Whether the field of view cuts a brain mask."""
    mask = sitk.GetArrayViewFromImage(brain) > 0
    areas = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return any(max(area[0], area[-1]) > CUT_SHARE * area.max() for area in areas)


def doubts(brain: sitk.Image) -> list[str]:
    """What speaks against a brain mask, in words: its volume, or a field of view that cuts it."""
    if is_cut(brain):
        return ["the field of view cuts through the brain: what lies outside is not segmented"]
    volume = millilitres(brain)
    if not SMALL_ML <= volume <= LARGE_ML:
        return [f"the brain found measures {volume:.0f} mL, unusual for an adult: look at what it left out"]
    return []


def millilitres(mask: sitk.Image) -> float:
    return np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * voxel_ml(mask)


def _weights() -> tuple[Path, Path]:
    """The files of the network that locates the brain and of the one that finds its edge."""
    package = distribution("deepbet")
    return tuple(Path(package.locate_file(f"data/models/{file}")) for file in ("bbox_model.pt", "model.pt"))


def _loaded(path: Path):
    import torch

    with path.open("rb") as stream:  # on Windows torch cannot open a path of other letters than the system's
        return torch.jit.load(stream, map_location="cpu").eval()


@cache
def _networks() -> tuple:
    try:
        return tuple(_loaded(path) for path in _weights())
    except (PackageNotFoundError, RuntimeError, ValueError, OSError):
        raise InputError(f"the brain extraction cannot be loaded; install it anew: {HOW_TO_GET}") from None


def _normalised(values, low, high):
    """Intensities as deepbet has learnt them: clipped, scaled, then standardised to ImageNet's mean and deviation."""
    values = ((values - low) / (high - low)).clamp(0, 1)
    return 0.226 * (values - values.mean()) / values.std() + 0.449


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))
    return sitk.GetArrayFromImage(sitk.RelabelComponent(pieces)) == 1


def _box(found: np.ndarray, shape) -> tuple[slice, ...] | None:
    """The box around a mask found on the small grid, in voxels of the whole volume; None when there is too little."""
    box = []
    for axis, size in enumerate(shape):
        line = np.flatnonzero(found.mean(axis=tuple(a for a in range(3) if a != axis)) > 0.02)
        if line.size == 0:
            return None
        scale = size / found.shape[axis]
        centre, width = (line[0] + line[-1] + 1) / 2 * scale, (line[-1] + 1 - line[0]) * scale * MARGIN
        box.append(slice(max(0, int(centre - width / 2)), min(size, int(centre + width / 2) + 1)))
    return tuple(box)
