"""From a study's volumes to the array the network sees, and back: one function each way, for training and inference.

The working grid covers the reference volume at 1 mm along the patient's axes. A study already on such a grid (BraTS) is
taken voxel for voxel. Arrays are (z, y, x) as SimpleITK gives them; physical space is LPS.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product

import numpy as np
import SimpleITK as sitk

from .anatomy import MODALITIES, REGION_LABELS
from .side_by_side import side_by_side

TOLERANCE = 1e-3  # mm, and for direction cosines: less is rounding in a file's header
UPRIGHT = 0.05  # direction cosines (3 degrees): less is how a head lies, and is not resampled away
RIPPLE, EDGE_RIPPLE = 1e-3, 1e-2  # of the intensities' range: what splines leave of an even background, far and near
OUTSIDE = 0.03  # of a head; more of it outside the reference is told
END_MM, SECTION_MM2 = 10.0, 1500.0  # a volume that ends so far before the head, where that is still so wide, is told
BRAIN_ML = 2000.0  # no adult brain is larger: more foreground than this means that the skull is still there


@dataclass(frozen=True)
class Preprocessing:
    """The settings that travel with a model: grid spacing, intensity clipping, margin around the brain's box."""

    spacing_mm: float = 1.0
    clip_percentiles: tuple[float, float] = (0.5, 99.5)
    margin_mm: float = 4.0

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass
class Prepared:
    """A study on the working grid.

    Attributes:
        images: float32 (k, z, y, x), one channel per available modality, cropped to the brain's box.
        modalities: the names of the channels, in table order.
        grid: an image that holds the working grid's geometry (its voxels mean nothing).
        foreground: booleans (z, y, x) of the box: the brain (or head); there is no tumour outside it.
        box: the slices (z, y, x) of ``images`` in the grid.
        steps: what was done, in words, for the report.
        warnings: what the reader of the result must know.
        left_out: modality -> why its volume is of no use beside the reference.
    """

    images: np.ndarray
    modalities: tuple[str, ...]
    grid: sitk.Image
    foreground: np.ndarray
    box: tuple[slice, ...]
    steps: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def voxel_ml(self) -> float:
        return voxel_ml(self.grid)


def prepare(
    volumes: Mapping[str, sitk.Image],
    reference: str,
    settings: Preprocessing,
    transforms: Mapping[str, sitk.Transform] | None = None,
    brain: sitk.Image | None = None,
) -> Prepared:
    """Bring a study's volumes (modality -> 3-D float32 image) onto one grid, normalise and crop them.

    Args:
        transforms: modality -> from the reference's points to that volume's (LPS, mm); without one it lies as it is.
        brain: the brain as 0 and 1 on the reference's grid, where the volumes still have their skull.
    """
    grid = working_grid(volumes[reference], settings.spacing_mm)
    prepared = Prepared(np.empty(0), (), grid, np.empty(0), ())
    reference_lps = sitk.DICOMOrient(volumes[reference], "LPS")
    if not same_grid(reference_lps, grid):
        prepared.steps.append(f"{reference}: resampled to {settings.spacing_mm:g} mm for the network")
    names = [name for name in MODALITIES if name in volumes]

    def onto_grid(name: str) -> tuple:
        oriented, transform = sitk.DICOMOrient(volumes[name], "LPS"), (transforms or {}).get(name)
        return same_grid(oriented, reference_lps), *_onto_grid(oriented, grid, transform, brain, settings)

    images, masks, outside = {}, {}, {}
    for name, (same, *found) in zip(names, side_by_side(onto_grid, names), strict=True):
        images[name], masks[name], outside[name] = found
        if not same:
            prepared.steps.append(f"{name}: resampled to the grid of {reference}")
    _compare_coverage(masks, reference, prepared)
    prepared.modalities = tuple(name for name in images if name not in prepared.left_out)
    prepared.warnings += [
        f"{outside[name]:.0%} of the head in {name} lies outside {reference}, on whose grid the result is: tumour "
        "there is not in it"
        for name in prepared.modalities
        if outside[name] > OUTSIDE and name != reference
    ]
    union = np.logical_or.reduce([masks[name] for name in prepared.modalities])
    prepared.box = bounding_box(union, margin=round(settings.margin_mm / settings.spacing_mm))
    prepared.images = np.stack([images[name][prepared.box] for name in prepared.modalities])
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray(union[prepared.box].astype(np.uint8)))
    prepared.foreground = sitk.GetArrayFromImage(filled) > 0
    return prepared


def _onto_grid(
    image: sitk.Image,
    grid: sitk.Image,
    transform: sitk.Transform | None,
    brain: sitk.Image | None,
    settings: Preprocessing,
) -> tuple[np.ndarray, np.ndarray, float]:
    """A volume along LPS as the network sees it, its brain or head, and the share of that which lies off the grid."""
    if brain:
        values, mask, foreground = _within_brain(image, grid, transform or sitk.Transform(), brain, settings)
    else:
        mask = foreground = find_foreground(image)[0]
        # Normalised by its own foreground on its own grid: the same numbers whichever other sequences there are,
        # and what is interpolated between brain and background is between dark and nothing.
        values = normalise(sitk.GetArrayFromImage(image), foreground, settings)
        if transform or not same_grid(image, grid):
            values = resample(like(values, image), grid, transform)
            mask = resample(like(foreground.astype(np.float32), image), grid, transform) > 0.5
    return values, mask, 1 - _millilitres(mask, grid) / max(1e-6, _millilitres(foreground, image))


def _within_brain(
    image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, brain: sitk.Image, settings: Preprocessing
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A volume with skull as the network sees it, where the brain is in it on the grid, and on its own voxels.

    The volume is cut after resampling, by the brain as the reference shows it: thick slices leave no stairs.
    """
    brain = sitk.Cast(brain, sitk.sitkFloat32)
    own = resample(brain, image, transform.GetInverse()) > 0.5
    seen = resample(like(np.ones(own.shape, np.float32), image), grid, transform) > 0.5
    mask = seen & (resample(brain, grid) > 0.5)
    low, deviation, clipped = _scale(sitk.GetArrayFromImage(image), own, settings)
    values = resample(like(clipped, image), grid, transform)
    return np.where(mask, (values - low) / deviation, 0).astype(np.float32), mask, own


def working_grid(reference: sitk.Image, spacing: float) -> sitk.Image:
    """An empty image of the reference's extent along the patient's axes (LPS) at isotropic spacing in mm.

    A reference that has that spacing and lies (almost) along the axes gives its own grid, so that nothing is resampled;
    an oblique one is stood upright, because the network has learnt upright heads.
    """
    oriented = sitk.DICOMOrient(reference, "LPS")
    upright = np.allclose(np.array(oriented.GetDirection()).reshape(3, 3), np.eye(3), atol=UPRIGHT)
    if upright and np.allclose(oriented.GetSpacing(), spacing, atol=TOLERANCE):
        size, spacings = oriented.GetSize(), oriented.GetSpacing()
        origin, direction = oriented.GetOrigin(), oriented.GetDirection()
    else:
        limits = [(-0.5, n - 0.5) for n in oriented.GetSize()]
        corners = [oriented.TransformContinuousIndexToPhysicalPoint(corner) for corner in product(*limits)]
        first, last = np.min(corners, axis=0), np.max(corners, axis=0)
        size = np.maximum(np.ceil((last - first) / spacing - TOLERANCE), 1)
        # Both share the centre, so that no half voxel is lost on one side.
        origin = (first + last) / 2 - (size - 1) * spacing / 2
        spacings, direction = (spacing,) * 3, np.eye(3).flatten()
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in spacings])
    grid.SetOrigin([float(o) for o in origin])
    grid.SetDirection([float(d) for d in direction])
    return grid


def same_grid(image: sitk.Image, other: sitk.Image) -> bool:
    """Whether two images have the same voxels in the same places."""
    return image.GetSize() == other.GetSize() and all(
        np.allclose(getattr(image, get)(), getattr(other, get)(), atol=TOLERANCE)
        for get in ("GetSpacing", "GetOrigin", "GetDirection")
    )


def resample(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform | None = None) -> np.ndarray:
    """The image's values on a grid as float32 (z, y, x): linear, 0 outside; the transform is from the grid's points."""
    transform = transform or sitk.Transform()
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32))


def like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    """An array (z, y, x) as an image with another image's geometry."""
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result


def find_foreground(image: sitk.Image) -> tuple[np.ndarray, bool]:
    """The head or brain as booleans (z, y, x), and whether it looks like a brain without skull.

    A stripped or padded volume has one value over much of its grid and its faces, which is then the background; a
    stripped one that splines have resampled has nearly one. Else Otsu's threshold separates head from air.
    """
    values = sitk.GetArrayViewFromImage(image)
    faces = [np.take(values, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    faces = np.concatenate(faces)
    mask = values != _most_frequent(faces)
    even = _is_background(~mask)
    if even and _millilitres(mask, image) <= BRAIN_ML:
        return mask, True
    span = np.percentile(values[::2, ::2, ::2], 99.5) - float(values.min())
    if span > 0:
        step = RIPPLE * span
        apart = np.abs(values - step * _most_frequent(np.rint(faces / step)))
        brain = apart > EDGE_RIPPLE * span
        if _is_background(apart <= step) and _millilitres(brain, image) <= BRAIN_ML:
            return brain, True
    return (mask if even else values > _otsu(values)), False


def _most_frequent(values: np.ndarray) -> float:
    candidates, counts = np.unique(values, return_counts=True)
    return candidates[np.argmax(counts)]


def _is_background(mask: np.ndarray) -> bool:
    return np.count_nonzero(mask) >= 0.2 * mask.size


def head_mask(image: sitk.Image) -> sitk.Image:
    """The head or brain as an image of 0 and 1."""
    return like(find_foreground(image)[0].astype(np.uint8), image)


def coarse(image: sitk.Image, step: float) -> sitk.Image:
    """The image shrunk to voxels of about ``step`` mm; edges that are longer already, or too short, stay."""
    edges = zip(image.GetSize(), image.GetSpacing(), strict=True)
    return sitk.BinShrink(image, [min(n, max(1, round(step / spacing))) for n, spacing in edges])


def normalise(image: np.ndarray, mask: np.ndarray, settings: Preprocessing) -> np.ndarray:
    """Clip to the mask's percentiles, shift the lower one to 0, divide by the deviation; 0 outside the mask.

    So the background, the network's zero padding and the darkest tissue are the same value, and a voxel inside the
    brain that a coarse scaling has rounded to 0 does not stand out.
    """
    low, deviation, values = _scale(image, mask, settings)
    values -= low  # in place: new memory of this size costs more than the arithmetic
    values /= deviation
    values *= mask
    return values


def _scale(image: np.ndarray, mask: np.ndarray, settings: Preprocessing) -> tuple[float, float, np.ndarray]:
    """The lower percentile and the deviation inside the mask (infinite where it holds nothing), the clipped image."""
    inside = image[mask]
    if inside.size == 0:
        return 0.0, np.inf, np.zeros_like(image)
    low, high = np.percentile(inside, settings.clip_percentiles).astype(np.float32)  # float64 would double all below
    deviation = np.float32(np.clip(inside, low, high).std(dtype=np.float64))
    return low, deviation if deviation > 0 else np.inf, np.clip(image, low, high)


def bounding_box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The slices around a mask's true voxels, widened by a margin within the array; the whole array when empty."""
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    box = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(0, int(line[0]) - margin), min(mask.shape[axis], int(line[-1]) + 1 + margin)))
    return tuple(box)


def labels_to_regions(labels: np.ndarray, values: Mapping[str, int]) -> np.ndarray:
    """A label array as (3, z, y, x) booleans in the order of REGIONS; ``values`` gives each label's voxel value."""
    return np.stack([np.isin(labels, [values[n] for n in names]) for names in REGION_LABELS.values()])


def _otsu(values: np.ndarray) -> float:
    sample = sitk.GetImageFromArray(np.ascontiguousarray(values[::2, ::2, ::2]))
    filter_ = sitk.OtsuThresholdImageFilter()
    filter_.Execute(sample)
    return float(filter_.GetThreshold())


def voxel_ml(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing())) / 1000.0


def _millilitres(mask: np.ndarray, image: sitk.Image) -> float:
    return np.count_nonzero(mask) * voxel_ml(image)


def _compare_coverage(masks: Mapping[str, np.ndarray], reference: str, prepared: Prepared) -> None:
    """Leave out a volume that shows nothing of the reference's head; warn of one that shows little of it."""
    base, spacing = masks[reference], prepared.grid.GetSpacing()[0]
    for name, mask in masks.items():
        if name == reference:
            continue
        common = np.count_nonzero(mask & base)
        overlap = common / max(1, min(np.count_nonzero(mask), np.count_nonzero(base)))
        share = common / max(1, np.count_nonzero(base))
        if overlap < 0.05:
            prepared.left_out[name] = f"it does not overlap {reference}; is it of the same patient and position?"
        elif share < 0.8 or overlap < 0.8:
            prepared.warnings.append(
                f"{name} covers only {share:.0%} of the head in {reference}, or is not lined up with it"
            )
        else:
            half = np.s_[::2, ::2, ::2]  # is enough, in an eighth of the time
            ends = _missing_ends(mask[half], base[half], 2 * spacing)
            prepared.warnings += [f"{name} lacks {part} of {reference}" for part in ends]


def _missing_ends(mask: np.ndarray, base: np.ndarray, spacing: float):
    """Where a head (z, y, x along LPS) ends while ``base`` goes on: "the uppermost 25 mm of the head"."""
    for axis, ends in enumerate((("lowest", "uppermost"), ("foremost", "hindmost"), ("rightmost", "leftmost"))):
        others = tuple(other for other in range(3) if other != axis)
        whole, seen = (np.count_nonzero(part, axis=others) for part in (base, mask & base))
        large = whole * spacing**2 >= SECTION_MM2
        for end, step in zip(ends, (1, -1), strict=True):
            blank = np.cumprod((seen < 0.1 * whole)[large][::step])  # 1 until the first slice that it shows
            if (depth := blank.sum() * spacing) >= END_MM:
                yield f"the {end} {depth:.0f} mm of the head"
