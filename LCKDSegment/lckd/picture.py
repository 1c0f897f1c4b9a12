"""One picture of a result: three planes through the tumour, the segmentation over the sequence, volumes beside it.

Planes are shown as radiologists read them: the patient's right on the left of axial and coronal planes, the nose to the
left of the sagittal one.
"""

import io
import textwrap

import numpy as np
import SimpleITK as sitk

from .anatomy import LABELS, MODALITIES, REGIONS, STRUCTURES, subset_name
from .postprocessing import find_pieces
from .preprocessing import bounding_box, find_foreground, like
from .report import interval_words, is_uncertain, shortened

PANEL, GAP, SIDE, TOP = 400, 12, 500, 56  # pixels: a plane's edge, space between, the table's width, the title's height
LINE = 220  # letters over the whole width
TALLEST = 3000  # pixels; the picture is cut to what its words need
BACKGROUND, INK, FAINT, WARNING = (14, 16, 20), (235, 238, 242), (150, 158, 168), (240, 200, 120)
FILL = 0.35  # opacity of the segmentation's inside; its outline is opaque
PLANES = (("Axial", "R", "L"), ("Coronal", "R", "L"), ("Sagittal", "A", "P"))


def draw_picture(reference: sitk.Image, labels: np.ndarray, report: dict, brain: sitk.Image | None = None) -> bytes:
    """The PNG of a result: the reference volume with its label array (z, y, x) and the report's words and numbers.

    ``brain`` (0 and 1 on the reference's grid), where the skull shows, gives the window: bright fat must not dim it.
    """
    from PIL import Image, ImageDraw  # only here: a run without a picture does not need Pillow

    image, marks = _upright(reference, labels)
    spacing = image.GetSpacing()[::-1]
    planes = _planes(_grey_levels(image, brain and sitk.DICOMOrient(brain, "LPS")), marks, spacing)
    width = 3 * (PANEL + GAP) + SIDE + GAP
    canvas = Image.new("RGB", (width, TALLEST), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    used = subset_name(report["inputs"])
    missing = [m["modality"] for m in report["missing"]]
    title = f"Glioma segmentation from {used}" + (f" ({', '.join(missing)} missing)" if missing else "")
    pen.text((GAP, 14), title, INK, _font(22))
    for index, ((name, left, right), (grey, marked)) in enumerate(zip(PLANES, planes, strict=True)):
        x = GAP + index * (PANEL + GAP)
        canvas.paste(Image.fromarray(_overlay(grey, marked)), (x, TOP))
        over_image = {"fill": INK, "stroke_width": 2, "stroke_fill": BACKGROUND}  # to be read on bright tissue, too
        pen.text((x + 8, TOP + 6), f"{name}, {report['reference']}", font=_font(15), **over_image)
        pen.text((x + 8, TOP + PANEL // 2), left, font=_font(15), **over_image)
        pen.text((x + PANEL - 18, TOP + PANEL // 2), right, font=_font(15), **over_image)
    _table(pen, GAP + 3 * (PANEL + GAP) + 4, report)
    bottom = _words(pen, TOP + PANEL + GAP, report) + GAP
    pen.text((GAP, bottom), f"{report['notice']}  {report['program']}, model {report['model']['name']} "
             f"{report['model']['version']}", FAINT, _font(14))  # fmt: skip
    stream = io.BytesIO()
    canvas.crop((0, 0, width, bottom + 30)).save(stream, "PNG")
    return stream.getvalue()


def _upright(reference: sitk.Image, labels: np.ndarray) -> tuple[sitk.Image, np.ndarray]:
    """The volume and its labels with axes turned to the closest of LPS."""
    marks = sitk.DICOMOrient(like(labels, reference), "LPS")
    return sitk.DICOMOrient(reference, "LPS"), sitk.GetArrayFromImage(marks)


def _grey_levels(image: sitk.Image, brain: sitk.Image | None) -> np.ndarray:
    """Display values 0 to 255, (z, y, x), windowed to the percentiles of the brain, or of what is not background."""
    values = sitk.GetArrayFromImage(image)
    foreground = sitk.GetArrayViewFromImage(brain) > 0 if brain else find_foreground(image)[0]
    low, high = np.percentile(values[foreground], (1, 99.7)) if foreground.any() else (values.min(), values.max())
    return (255 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def _planes(grey: np.ndarray, marks: np.ndarray, spacing: tuple[float, float, float]):
    """Three square (grey, marks) pairs of PANEL pixels that meet in one point."""
    centre = _centre(marks) if marks.any() else [(part.start + part.stop) // 2 for part in bounding_box(grey > 12, 0)]
    box = bounding_box(grey > 12, margin=0)
    extent = max((part.stop - part.start) * step for part, step in zip(box, spacing, strict=True))
    result = []
    for axis in range(3):
        rows, columns = (a for a in range(3) if a != axis)
        steps = (spacing[rows], spacing[columns])
        middle = [(box[a].start + box[a].stop - 1) / 2 for a in (rows, columns)]
        pair = [
            _square(np.take(volume, centre[axis], axis), middle, steps, extent, interpolator)
            for volume, interpolator in ((grey, sitk.sitkLinear), (marks, sitk.sitkNearestNeighbor))
        ]
        if axis > 0:  # the head's top goes up
            pair = [plane[::-1] for plane in pair]
        result.append((pair[0], pair[1]))
    return result


def _centre(marks: np.ndarray) -> list[int]:
    """A voxel (z, y, x) of the largest piece of tumour, in its core where it has one: where most of it is seen."""
    pieces, sizes = find_pieces(marks > 0)
    largest = pieces == 1 + sizes.argmax()
    core = largest & np.isin(marks, [LABELS["NCR"], LABELS["ET"]])
    centre, at = [], core if core.any() else largest
    for _ in range(3):  # the fullest plane, then the fullest line in it, then the middle of what that line holds
        counts = at.sum(axis=tuple(range(1, at.ndim)))
        full = np.flatnonzero(counts == counts.max())
        centre.append(int(full[len(full) // 2]))
        at = at[centre[-1]]
    return centre


def _square(plane: np.ndarray, middle: list[float], steps: tuple[float, float], extent: float, interpolator):
    """A plane at PANEL x PANEL pixels around its middle, square pixels."""
    image = sitk.GetImageFromArray(plane)
    image.SetSpacing(steps[::-1])
    pixel = extent * 1.06 / PANEL
    origin = [m * s - pixel * (PANEL - 1) / 2 for m, s in zip(middle[::-1], steps[::-1], strict=True)]
    square = sitk.Resample(image, [PANEL, PANEL], sitk.Transform(2, sitk.sitkIdentity), interpolator, origin,
                           [pixel, pixel], [1, 0, 0, 1], 0)  # fmt: skip
    return sitk.GetArrayFromImage(square)


def _overlay(grey: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """RGB plane: translucent fill and opaque outline of every label."""
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for name, value in LABELS.items():
        inside = marks == value
        colour = np.array(STRUCTURES[name].colour, np.float32)
        rgb[inside] = (1 - FILL) * rgb[inside] + FILL * colour
        rgb[outline(inside)] = colour
    return rgb.astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (y, x) that have a neighbour outside it, or outside the plane."""
    padded = np.pad(mask, 1)
    return mask & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def _table(pen, x: int, report: dict) -> None:
    """Volumes by label and region, expected Dice beside the regions, and what went in."""
    y = TOP + 4
    pen.text((x + 298, y), "mL", FAINT, _font(15))
    pen.text((x + 344, y), "expected Dice", FAINT, _font(15))
    for name, structure in STRUCTURES.items():
        y += 28
        if name in LABELS:
            pen.rectangle((x, y + 2, x + 14, y + 16), fill=structure.colour)
        pen.text((x + 24, y), f"{structure.title} ({name})", INK, _font(15))
        pen.text((x + 320, y), f"{report['volumes_ml'][name]:.1f}", INK, _font(15), anchor="ra")
        if is_uncertain(report, name):
            pen.text((x + 322, y), " ?", WARNING, _font(15))
        if name in REGIONS:
            pen.text((x + 344, y), interval_words(report["expected_dice"][name]), INK, _font(15))
    y += 38
    for modality in MODALITIES:
        there = modality in report["inputs"]
        words = report["inputs"][modality]["volume"] if there else "missing"
        pen.text((x, y), modality, INK if there else FAINT, _font(14))
        pen.text((x + 60, y), shortened(words, 48), FAINT, _font(14))
        y += 20


def _words(pen, y: int, report: dict) -> int:
    """Every warning, then what to expect, from y down over the whole width; where they end."""
    warnings = [(f"Warning: {words}", WARNING) for words in report["warnings"]]
    for sentence, colour in [*warnings, *((words, INK) for words in report["expectation"])]:
        for line in textwrap.wrap(sentence, LINE):
            pen.text((GAP, y), line, colour, _font(15))
            y += 20
        y += 4
    return y


def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size)
