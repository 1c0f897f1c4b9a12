"""From what the scanner made to what the network knows: look at each volume, line the volumes up, find the brain.

Only what is missing is done: volumes that lie on each other are not moved, a brain without skull is not cut again, and
a study prepared elsewhere passes voxel for voxel.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import SimpleITK as sitk

from . import brain as extraction
from .errors import InputError
from .geometry import Geometry
from .preprocessing import coarse, find_foreground, head_mask
from .registration import Alignment, align, shared_information
from .side_by_side import side_by_side

AUTO, ALWAYS, NEVER = CHOICES = ("auto", "always", "never")
"""Whether a step is done: where it is missing, at all events, not at all."""
HOUNSFIELD_AIR = -900.0
TWIN = 0.4  # a second piece this large beside the head's is another head
PREPARED_HERE = "the brain was found by a program: look at its edge before you trust what lies there"
MAY_SHOW_SKULL = (
    "only part of the head is in it, so whether it shows the skull cannot be told; if it does, say --brain always"
)
# Shared information. Of 264 pairs of one patient's volumes (BraTS) none has less than 0.10, with slices of 5 mm 0.09;
# of 45 pairs of two patients' 33 have less than 0.08. With skull: one study's three pairs, the least 0.06.
SAME_BRAIN, SAME_HEAD = 0.08, 0.05
OTHER_HEAD = "it may be of another patient, or not lined up; compare them by eye"
WHOLE_MM = 130.0  # a brain with all its skull is longer than this in every direction
OUTSIDE, ELSEWHERE = 0.05, 0.5  # of the brain; more outside the reference is told, or makes it useless
THICK = 3.0  # mm; thicker slices are told
FAR_OFF = 20.0  # mm; a volume that was moved by more is told
HEAD_MM = 60.0  # the shortest edge of a field of view that holds enough of a head


@dataclass
class Conditioned:
    """What was found and done; volumes themselves are left as they are.

    Attributes:
        alignments: modality -> how it lies to the reference, for every volume but the reference.
        brain: the brain as 0 and 1 on the reference's grid; None where the volumes are brains already.
        steps, warnings: in words, for the report.
    """

    alignments: dict[str, Alignment] = field(default_factory=dict)
    brain: sitk.Image | None = None
    steps: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def transforms(self) -> dict[str, sitk.Transform]:
        """Modality -> from reference points to the volume's points (LPS, mm), where that is not the identity."""
        return {name: found.transform for name, found in self.alignments.items() if found.transform}

    def forget(self, name: str) -> None:
        """Drop what was said and done about how a volume lies, because it is of no use anyhow."""
        self.warnings = [words for words in self.warnings if not words.startswith((f"{name} ", f"{name}:"))]
        self.steps = [words for words in self.steps if not words.startswith((f"{name}: registered", f"{name}: lined"))]
        self.alignments.pop(name, None)


def condition(images: Mapping[str, sitk.Image], reference: str, register: str, brain: str) -> Conditioned:
    """Line up a study's volumes (modality -> 3-D float32 image) with the reference and find the brain.

    Raises:
        InputError: a volume is no MR volume of one head, or a step is needed that cannot be done here.
    """
    side_by_side(lambda name: refuse_other_things(images[name], name), images)
    skull = dict(zip(images, side_by_side(shows_skull, images.values()), strict=True))
    extract = brain == ALWAYS or (brain == AUTO and any(skull.values()))
    stripped = {name: image for name, image in images.items() if brain == AUTO and not skull[name]}
    masks = {name: head_mask(image) for name, image in stripped.items() if extract or _small(image)}
    doubtful = [name for name, mask in masks.items() if _small(images[name]) and extraction.is_cut(mask)]
    brains = {name: mask for name, mask in masks.items() if name not in doubtful and extraction.is_possible(mask)}
    if extract and not brains and not extraction.installed():
        why = "the brain is to be found" if brain == ALWAYS else f"{next(filter(skull.get, skull))} shows the skull"
        raise InputError(
            f"{why}, and no brain extraction is installed; "
            f"{extraction.HOW_TO_GET}, or give brains without skull, or go on with --brain never"
        )
    done = Conditioned()
    if not extract:  # else the brain found cuts it, skull or not
        done.warnings += [f"{name}: {MAY_SHOW_SKULL}" for name in doubtful]
    others = [name for name in images if name != reference]
    compare = partial(_compare, images[reference], register)
    for name, (found, shared, took) in zip(others, side_by_side(compare, map(images.get, others)), strict=True):
        if found:
            done.alignments[name] = found
            _tell_alignment(name, found, reference, f"({took:.1f} s)", done)
        least = SAME_HEAD if skull[reference] or skull[name] else SAME_BRAIN
        if shared < least:
            done.warnings.append(f"{name} has little in common with {reference}: {OTHER_HEAD}")
    if extract:
        with_skull = {name: image for name, image in images.items() if brain == ALWAYS or skull[name]}
        _find_brain(images, reference, with_skull, brains, done)
    elif any(skull.values()):
        shown = ", ".join(name for name in images if skull[name])
        done.warnings.append(f"{shown}: shows the skull, which the model has never seen: what is found there is wrong")
    return done


def shows_skull(image: sitk.Image) -> bool:
    """Whether a volume shows more than a brain on an empty background."""
    return not find_foreground(image)[1]


def _small(image: sitk.Image) -> bool:
    """Whether what counts as a brain without skull may be part of a head, if the field of view cuts it."""
    return Geometry.of(image).shortest < WHOLE_MM


def doubt_thick_slices(images: Mapping[str, sitk.Image]) -> list[str]:
    """A warning where volumes (modality -> image) have thick slices; sequences that are left out must not be in it."""
    thick = {name: step for name, image in images.items() if (step := Geometry.of(image).thickness) > THICK}
    if not thick:
        return []
    slices = f"slices of {max(thick.values()):.3g} mm ({', '.join(thick)})"
    return [f"{slices}: what is small may lie between them, and edges and mL are rough"]


def describe(image: sitk.Image) -> str:
    """A volume in the words of a radiographer: skull or not, slice thickness and plane."""
    return f"{'with' if shows_skull(image) else 'without'} skull, {Geometry.of(image).words}"


def refuse_other_things(image: sitk.Image, name: str) -> None:
    """Raise InputError for what is plainly no MR volume of one head: CT, a slab, two heads."""
    values = sitk.GetArrayViewFromImage(image)
    air = values[values <= HOUNSFIELD_AIR]
    # An MR volume whose background was painted has one value there, and none below 0 elsewhere.
    painted = air.size and (air == air[0]).all() and values[values > HOUNSFIELD_AIR].min(initial=0) >= 0
    if air.size > 0.05 * values.size and not painted:
        raise InputError(f"{name}: its values are Hounsfield units, as of a CT; give an MR volume")
    extent = Geometry.of(image).shortest
    if extent < HEAD_MM and shows_skull(image):
        raise InputError(
            f"{name}: covers only {extent:.0f} mm of the head; give a volume of the whole head, or leave it out"
        )
    head = head_mask(coarse(image, 4.0))
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.BinaryMorphologicalOpening(head, [1, 1, 1])))
    sizes = np.bincount(sitk.GetArrayViewFromImage(pieces).ravel())[1:]
    if len(sizes) > 1 and sizes[1] > TWIN * sizes[0] and sizes[1] * 0.064 > extraction.SMALLEST_ML:
        raise InputError(f"{name}: two heads in one volume; give a volume of one")


def ends_at_mask(region: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a region (z, y, x) is cut off by the brain mask: a twentieth of it or more lies on the mask's edge."""
    eroded = sitk.BinaryErode(sitk.GetImageFromArray(mask.astype(np.uint8)), [1, 1, 1])
    edge = mask & (sitk.GetArrayViewFromImage(eroded) == 0)
    return bool(region.any() and np.count_nonzero(region & edge) > 0.05 * np.count_nonzero(region))


def _compare(reference: sitk.Image, register: str, image: sitk.Image) -> tuple[Alignment | None, float, float]:
    """How an image lies to the reference, None where that is not asked; what the two then share; seconds it took."""
    started = time.perf_counter()
    found = None if register == NEVER else align(reference, image, register == ALWAYS)
    took = time.perf_counter() - started
    return found, shared_information(reference, image, found.transform if found else None), took


def _tell_alignment(name: str, found: Alignment, reference: str, took: str, done: Conditioned) -> None:
    if found.refused:
        done.warnings.append(f"{name} was left where it lies: {found.refused}; compare it with {reference} by eye")
    elif found.transform:
        done.steps.append(f"{name}: registered to {reference}, it lay {found.offset_mm:.1f} mm off {took}")
        if found.offset_mm > FAR_OFF:
            done.warnings.append(
                f"{name} lay {found.offset_mm:.0f} mm off {reference} and was moved; compare them by eye"
            )
    else:
        done.steps.append(f"{name}: lined up with {reference}, not moved {took}")


def _find_brain(
    images: Mapping[str, sitk.Image],
    reference: str,
    with_skull: Mapping[str, sitk.Image],
    brains: Mapping[str, sitk.Image],
    done: Conditioned,
) -> None:
    """One mask for the study: that of a volume that is a brain already, else extracted from the volume best suited.

    Args:
        with_skull: modality -> image that the brain may be extracted from; ``brains``: modality -> mask to be had.
    """
    refused = {name for name, found in done.alignments.items() if found.refused}  # it would cut the others elsewhere
    for source, mask in brains.items():
        if source not in refused and _take_brain(mask, source, images[reference], reference, done):
            done.steps.append(f"the brain is that of {source}, which has no skull")
            return
    left = {name: image for name, image in with_skull.items() if name not in refused}
    while left:
        started = time.perf_counter()
        source, mask = extraction.extract_best(left)
        if _take_brain(mask, source, images[reference], reference, done):
            volume, took = extraction.millilitres(mask), time.perf_counter() - started
            done.steps.append(f"{source}: brain found by deepbet, {volume:.0f} mL ({took:.1f} s)")
            done.warnings.append(PREPARED_HERE)
            return
        del left[source]
    done.warnings.append(f"{', '.join(with_skull)}: not lined up, so its brain is not found: it keeps its skull")


def _take_brain(mask: sitk.Image, source: str, fixed: sitk.Image, reference: str, done: Conditioned) -> bool:
    """Bring the brain mask of one volume to the reference's grid; False, and a warning, where it lies elsewhere."""
    # From the source's points to the reference's is the inverse of how the source was lined up.
    transform = done.transforms.get(source, sitk.Transform())
    carried = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), fixed, transform, sitk.sitkLinear)
    brain = sitk.Cast(carried > 0.5, sitk.sitkUInt8)
    cut = 1 - extraction.millilitres(brain) / max(1e-6, extraction.millilitres(mask))
    if cut > ELSEWHERE:
        done.warnings.append(f"{source} lies elsewhere than {reference}: the brain is not taken from it")
        return False
    if cut > OUTSIDE:
        done.warnings.append(
            f"{cut:.0%} of the brain in {source} lies outside {reference}, on whose grid the result is: tumour there "
            "is not in it"
        )
    done.warnings += [f"{source}: {doubt}" for doubt in extraction.doubts(mask)]
    done.brain = brain
    return True
