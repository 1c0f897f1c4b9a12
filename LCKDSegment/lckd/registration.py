"""Whether two volumes of one head are lined up, and rigid registration where they are not.

SimpleITK's Mattes mutual information over a pyramid, every voxel of the coarse images a sample, so that the same
volumes always give the same transform. Transforms map points of the reference to points of the volume (LPS, mm), which
is what SimpleITK resamples with.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .preprocessing import coarse, find_foreground, head_mask, like

LINED_UP = 1.5  # mm: a coarse search that moves the head less than this finds noise, and nothing is moved
FARTHEST, STEEPEST = 60.0, 35.0  # mm and degrees: a patient in one scanner does not move more between two sequences
COARSE, MIDDLE, FINE = 4.0, 3.0, 2.0  # mm: the grids on which is searched, and (the middle one) compared
BINS = 32


@dataclass(frozen=True)
class Alignment:
    """How a volume lies to the reference.

    Attributes:
        transform: from reference points to the volume's points; None: it stays where its header puts it.
        offset_mm: by how much the head lay off, mean over the head (0 when that is less than can be told).
        refused: why a registration was tried and not used; empty otherwise.
    """

    transform: sitk.Transform | None = None
    offset_mm: float = 0.0
    refused: str = ""

    def as_dict(self) -> dict:
        """For the report; ``to_volume`` is the 4 x 4 matrix, in RAS mm, from reference points to the volume's."""
        return {"offset_mm": round(self.offset_mm, 2), "refused": self.refused, "to_volume": self._matrix()}

    def _matrix(self) -> list[list[float]] | None:
        if self.transform is None:
            return None
        transform = sitk.Euler3DTransform(self.transform)
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
        matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS
        return (flip @ matrix @ flip).round(6).tolist()


def align(reference: sitk.Image, volume: sitk.Image, always: bool = False) -> Alignment:
    """Register a volume to the reference unless they are lined up already (``always``: even then).

    A result that explains the images worse than the start did, or that moves more than a head can, is refused.
    """
    rough, points = _rough(reference, volume)
    if displacement(rough, points) < LINED_UP and not always:
        return Alignment()
    fixed, moving = (_even(coarse(image, FINE)) for image in (reference, volume))
    found = _search(fixed, moving, rough, [(2, 2.0), (1, 1.0)], iterations=200, precision=0.001)
    moved, turned = displacement(found, points), np.rad2deg(_angle(found))
    if moved > FARTHEST or turned > STEEPEST:
        return Alignment(None, moved, f"registration would move it by {moved:.0f} mm and {turned:.0f} degrees")
    if _metric(fixed, moving, found) >= _metric(fixed, moving, sitk.Euler3DTransform()):
        return Alignment(None, 0.0, "registration found nothing better than where it lies")
    return Alignment(found, moved)


def misalignment(reference: sitk.Image, volume: sitk.Image) -> float:
    """By how many mm a volume lies off the reference, about; 0 where that is less than can be told."""
    offset = displacement(*_rough(reference, volume))
    return offset if offset >= LINED_UP else 0.0


def shared_information(reference: sitk.Image, volume: sitk.Image, transform: sitk.Transform | None) -> float:
    """The mutual information of two volumes in the reference's head over their mean entropy, from 0 to 1.

    Not a number where they do not overlap. ``transform`` is as in ``Alignment``.
    """
    fixed, moving = (_even(coarse(image, MIDDLE)) for image in (reference, volume))
    low = float(sitk.GetArrayViewFromImage(moving).min())
    carried = sitk.Resample(moving, fixed, transform or sitk.Transform(), sitk.sitkLinear, low - 1)
    values = sitk.GetArrayViewFromImage(carried)
    seen = find_foreground(fixed)[0] & (values >= low)
    counts = np.histogram2d(sitk.GetArrayViewFromImage(fixed)[seen], values[seen], BINS)[0]
    if not counts.any():
        return float("nan")
    both = counts / counts.sum()
    first, second, joint = (-np.sum(p[p > 0] * np.log(p[p > 0])) for p in (both.sum(1), both.sum(0), both))
    return float(2 * (first + second - joint) / max(1e-9, first + second))


def displacement(transform: sitk.Transform, points: np.ndarray) -> float:
    """Mean distance in mm by which a transform moves points (n, 3)."""
    moved = np.array([transform.TransformPoint(point) for point in points.tolist()])
    return float(np.linalg.norm(moved - points, axis=1).mean())


def _rough(reference: sitk.Image, volume: sitk.Image) -> tuple[sitk.Euler3DTransform, np.ndarray]:
    """A quick search on coarse images, and points of the reference's head."""
    fixed, moving = (_even(coarse(image, COARSE)) for image in (reference, volume))
    points = _head_points(fixed)
    return _search(fixed, moving, _start(fixed, moving, points), [(1, 2.0)], iterations=40, precision=0.1), points


def _head_points(image: sitk.Image) -> np.ndarray:
    """About 200 points (LPS) spread over the head."""
    inside = np.argwhere(find_foreground(image)[0])[:, ::-1]
    chosen = inside[:: max(1, len(inside) // 200)].tolist()
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in chosen])


def _start(fixed: sitk.Image, moving: sitk.Image, points: np.ndarray) -> sitk.Euler3DTransform:
    """Where the headers put the volume; centre on centre where that would leave the heads apart."""
    centre = points.mean(axis=0)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    covered = sitk.GetArrayFromImage(sitk.Resample(head_mask(moving), fixed))[find_foreground(fixed)[0]].mean()
    if covered < 0.4:
        transform.SetTranslation((_head_points(moving).mean(axis=0) - centre).tolist())
    return transform


def _even(image: sitk.Image) -> sitk.Image:
    """An image without what would fill the histogram: spikes, and a background that is not the darkest (z-scores)."""
    head, stripped = find_foreground(image)
    if not head.any():
        return image
    values = sitk.GetArrayFromImage(image)
    low, high = np.percentile(values[head], (0.5, 99.5))
    even = np.where(head, np.clip(values, low, high), low) if stripped else np.minimum(values, high)
    return like(even.astype(np.float32), image)


def _search(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
    levels: list[tuple[int, float]],
    iterations: int,
    precision: float,
) -> sitk.Euler3DTransform:
    """The rigid transform of greatest mutual information; ``levels`` are (shrink factor, smoothing in mm).

    It ends when a step would move the image by less than ``precision`` (mm, about).
    """
    method = _method()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=precision, numberOfIterations=iterations, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink for shrink, _ in levels])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    found = sitk.Euler3DTransform(start)
    method.SetInitialTransform(found, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # the images stopped overlapping on the way
        return sitk.Euler3DTransform(start)
    return found


def _method() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetNumberOfWorkUnits(1)  # several add up in the order in which they end, and no two results are the same
    return method


def _metric(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Negative mutual information: smaller is better."""
    method = _method()
    method.SetInitialTransform(transform)
    try:
        return method.MetricEvaluate(fixed, moving)
    except RuntimeError:  # no overlap
        return 0.0


def _angle(transform: sitk.Euler3DTransform) -> float:
    """The angle of the rotation, in radians."""
    cosine = (np.trace(np.array(transform.GetMatrix()).reshape(3, 3)) - 1) / 2
    return float(np.arccos(np.clip(cosine, -1, 1)))
