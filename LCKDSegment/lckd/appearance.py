"""What a volume looks like, whatever it is called: T1, T1ce, T2 or FLAIR by how bright its tissues are.

Ten brightnesses inside the head, each relative to the median, weighed by a multinomial logistic regression. Skin, skull
and face are left out by depth alone, so that a volume with skull and a brain without give about the same numbers.
``python -m lckd_training.fit_appearance`` fits the table below and says how often it is right.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .anatomy import MODALITIES
from .preprocessing import coarse, find_foreground, like

STEP = 3.0  # mm: the grid on which is looked
SKIN = 14.0  # mm from the head's surface to the brain's, about
RIM, MIDDLE, DEEP = (6.0, 10.0), (10.0, 18.0), (28.0, np.inf)  # mm below the brain's surface
HEIGHT = 85.0  # mm from the vertex down; further down are face, neck and posterior fossa
FEWEST = 300  # voxels
STRANGE = 5.0  # deviations from what was fitted: such an image is none that the table knows

# feature: (mean, deviation, weight of T1, of T1ce, of T2, of FLAIR); the last row is the intercept.
TABLE = {
    "p2": (0.595, 0.122, 1.132, -0.736, 1.571, -1.966),
    "p5": (0.710, 0.080, -0.106, 0.362, 0.048, -0.304),
    "p10": (0.787, 0.059, -0.917, -0.612, -0.765, 2.294),
    "p95": (1.542, 0.446, -0.241, -2.182, 0.303, 2.119),
    "p99.8": (2.130, 0.798, -3.304, 1.749, 0.830, 0.724),
    "rim": (0.985, 0.047, -1.436, -0.754, 1.630, 0.560),
    "rim_p90": (1.274, 0.228, 0.716, -1.361, 0.657, -0.012),
    "middle": (0.993, 0.028, 1.605, 1.553, -1.890, -1.268),
    "deep_p10": (0.725, 0.122, -1.052, 0.163, 0.994, -0.106),
    "deep_p98": (1.862, 0.756, -1.535, -0.033, 1.947, -0.380),
    "intercept": (-2.030, 0.862, -0.978, 2.146),
}  # fmt: skip


@dataclass(frozen=True)
class Appearance:
    """The probability of each modality, and what was seen, in words that follow "the image"."""

    probabilities: dict[str, float]
    words: str


def look(image: sitk.Image) -> Appearance | None:
    """Judge a 3-D volume of a head or brain; None where there is too little to see or it is like none of them.

    Never raises for an image.
    """
    try:
        seen = features(image)
    except RuntimeError:  # ITK: not three-dimensional, not of numbers
        return None
    if seen is None:
        return None
    *rows, intercept = TABLE.values()
    scaled = [(np.clip(seen[name], 0, 4) - row[0]) / row[1] for name, row in zip(TABLE, rows, strict=False)]
    if np.abs(scaled).max() > STRANGE:
        return None
    logits = np.array(intercept) + np.array(scaled) @ np.array([row[2:] for row in rows])
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return Appearance(dict(zip(MODALITIES, shares.tolist(), strict=True)), _words(seen))


def features(image: sitk.Image) -> dict[str, float] | None:
    """Brightnesses relative to the median of the brain; None where there are too few voxels of it."""
    image = sitk.DICOMOrient(coarse(sitk.Cast(image, sitk.sitkFloat32), STEP), "LPS")
    foreground, stripped = find_foreground(image)
    head = _filled(like(foreground.astype(np.uint8), image), by_slice=not stripped)
    skin = 0.0 if stripped else SKIN
    mask = sitk.GetArrayViewFromImage(head) > 0
    area = image.GetSpacing()[0] * image.GetSpacing()[1]
    levels = np.flatnonzero(mask.sum(axis=(1, 2)) * area > 500)
    if levels.size == 0:
        return None
    distance = sitk.SignedMaurerDistanceMap(head, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    depth = sitk.GetArrayViewFromImage(distance) - skin
    below_vertex = (levels[-1] - np.arange(len(mask))) * image.GetSpacing()[2]
    upper = (below_vertex < HEIGHT + skin)[:, None, None]
    values = sitk.GetArrayViewFromImage(image)
    brain = values[upper & (depth > RIM[0])]
    if brain.size < FEWEST or np.median(brain) <= 0:
        return None
    shells = [values[upper & (depth > low) & (depth <= high)] for low, high in (RIM, MIDDLE, DEEP)]
    if min(shell.size for shell in shells) < FEWEST // 10:
        return None
    rim, middle, deep = (shell / np.median(brain) for shell in shells)
    brain = brain / np.median(brain)
    seen = {f"p{p:g}": np.percentile(brain, p) for p in (2, 5, 10, 95, 99.8)}
    seen |= {"rim": np.median(rim), "rim_p90": np.percentile(rim, 90), "middle": np.median(middle)}
    seen |= {"deep_p10": np.percentile(deep, 10), "deep_p98": np.percentile(deep, 98)}
    return {name: float(value) for name, value in seen.items()}


def _filled(head: sitk.Image, by_slice: bool) -> sitk.Image:
    """The largest piece of a mask, its gaps closed; slice by slice where sinuses and ears open it."""
    margin = [4, 4, 4]
    closed = sitk.BinaryMorphologicalClosing(sitk.ConstantPad(head, margin, margin, 0), [3, 3, 2])
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.BinaryFillhole(closed))) == 1
    largest = sitk.Crop(largest, margin, margin)
    if not by_slice:
        return largest
    planes = [sitk.BinaryFillhole(sitk.GetImageFromArray(plane)) for plane in sitk.GetArrayFromImage(largest)]
    return like(np.stack([sitk.GetArrayFromImage(plane) for plane in planes]), head)


def _words(seen: dict[str, float]) -> str:
    """What a person would say of it."""
    words = []
    if seen["p95"] > 1.6 or seen["deep_p98"] > 1.8:
        words.append("shows bright fluid")
    elif seen["deep_p10"] < 0.75:
        words.append("shows dark fluid")
    darker = seen["rim"] < seen["middle"]
    words.append("has a cortex darker than its depth" if darker else "has a cortex as bright as its depth")
    if seen["p99.8"] > 2.2 and seen["p95"] < 1.5:
        words.append("shows bright vessels")
    return " and ".join(words) if len(words) < 3 else f"{words[0]}, {words[1]} and {words[2]}"
