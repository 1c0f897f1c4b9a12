"""Synthetic glioma studies with labels, for people without data and for the tests.

Real anatomy (the MNI152 tissue maps that nilearn carries), deformed per case; an irregular tumour with necrotic core,
enhancing rim and oedema that spreads along white matter; four contrasts from tissue parameters by the signal equations
of spin echo and inversion recovery. As in patients, the enhancing rim differs from what surrounds it only after
contrast medium, and oedema stands out best on FLAIR. The same seed gives the same voxels.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from lckd.anatomy import LABELS, MODALITIES
from lckd.errors import InputError
from lckd.results import Outputs

FIELD_OF_VIEW = 192.0  # mm, an edge of the cube: a head's brain with room to move
NOISE = 0.02  # standard deviation of the noise in each of the two receive channels, of the brightest tissue's signal


@dataclass(frozen=True)
class Tissue:
    """Relaxation times in ms at 3 T and proton density (1: water)."""

    t1: float
    t2: float
    density: float


TISSUES = {
    "white matter": Tissue(850, 70, 0.70),
    "grey matter": Tissue(1300, 85, 0.82),
    "cerebrospinal fluid": Tissue(4200, 1900, 1.0),
    "NCR": Tissue(2400, 220, 0.94),
    "ED": Tissue(1500, 150, 0.88),
    "ET": Tissue(1550, 145, 0.88),  # before contrast medium no different from the oedema around it
}
ENHANCED_T1 = 420.0  # ms, of the rim with gadolinium


def write_phantoms(out: Path, cases: int, size: int, seed: int, healthy: bool = False):
    """Write ``cases`` studies in BraTS layout (OUT/CASE/CASE_t1.nii.gz ...); yields each case's folder.

    Args:
        size: voxels an edge of the cubic volume; the voxel's edge is 192 mm / size.
        healthy: brains without a tumour; their label is all zero.
    """
    if cases < 1 or not 48 <= size <= 256 or seed < 0:
        raise InputError(
            f"--cases {cases} --size {size} --seed {seed}: at least one case, 48 to 256 voxels, seed from 0"
        )
    for number in range(cases):
        name = f"Phantom_{seed:02d}_{number:03d}"
        folder = Path(out) / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another OUT") from None
        images, labels = make_phantom(size, (seed, number), healthy)
        with Outputs() as outputs:
            for modality, array in images.items():
                outputs.image(_image(array, size), folder / f"{name}_{modality.lower()}.nii.gz")
            outputs.image(_image(labels, size), folder / f"{name}_seg.nii.gz")
        yield folder


def make_phantom(size: int, seed, healthy: bool = False) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One study: modality -> int16 (z, y, x), and its uint8 labels (BraTS values), in LPS axes."""
    rng = np.random.default_rng(seed)
    tissues, brain = deformed_anatomy(size, rng)
    labels = np.zeros(brain.shape, np.uint8)
    if not healthy:
        labels = grow_tumour(tissues["white matter"], brain, FIELD_OF_VIEW / size, rng)
    images = {}
    for modality in MODALITIES:
        signal = sum(fraction * contrast(modality, TISSUES[name]) for name, fraction in tissues.items())
        for name, value in LABELS.items():
            tissue = TISSUES[name]
            if name == "ET" and modality == "T1ce":
                tissue = Tissue(ENHANCED_T1, tissue.t2, tissue.density)
            signal = np.where(labels == value, contrast(modality, tissue), signal)
        # Tissue is never uniform, and neighbours share a voxel: a little of both.
        signal = gaussian_filter(signal, 0.5) * (1 + 0.04 * _smooth_noise(brain.shape, 6, rng))
        images[modality] = _measure(signal, brain, rng)
    return images, labels


def contrast(modality: str, tissue: Tissue) -> float:
    """The signal of a tissue: spin echo for T1, T1ce and T2, inversion recovery spin echo for FLAIR."""
    if modality == "FLAIR":
        repetition, echo, inversion = 9000.0, 110.0, 2450.0
        recovery = abs(1 - 2 * np.exp(-inversion / tissue.t1) + np.exp(-repetition / tissue.t1))
    else:
        repetition, echo = (4500.0, 100.0) if modality == "T2" else (550.0, 10.0)
        recovery = 1 - np.exp(-repetition / tissue.t1)
    return float(tissue.density * recovery * np.exp(-echo / tissue.t2))


def deformed_anatomy(size: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tissue fractions and the brain mask of a brain that is not the template's: turned, scaled, bent smoothly."""
    spacing = FIELD_OF_VIEW / size
    z, y, x = np.meshgrid(*[(np.arange(size) - (size - 1) / 2) * spacing] * 3, indexing="ij")
    points = np.stack([-x, -y, z]).reshape(3, -1)  # LPS voxel centres as RAS millimetres around the brain's middle
    points = _rotation(rng.uniform(-0.12, 0.12, 3)) @ points / rng.uniform(0.92, 1.06, (3, 1))
    bend = np.stack([_smooth_noise((size,) * 3, 5, rng) for _ in range(3)]).reshape(3, -1)
    points = points + 3.0 * bend + np.array([[0.0], [-18.0], [8.0]])  # mm; the last is the template brain's middle
    fractions = []
    for values, affine in _templates(resolution=2 if size < 128 else 1):
        inverse = np.linalg.inv(affine)
        index = inverse[:3, :3] @ points + inverse[:3, 3:]
        fractions.append(map_coordinates(values, index, order=1).reshape((size,) * 3))
    white, grey, brain = fractions
    brain = brain > 0.5
    white, grey = (np.clip(f, 0, 1) * brain for f in (white, grey))
    total = np.maximum(1.0, white + grey)
    white, grey = white / total, grey / total
    fluid = np.clip(brain - white - grey, 0, 1)
    return {"white matter": white, "grey matter": grey, "cerebrospinal fluid": fluid}, brain


@lru_cache
def _templates(resolution: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """MNI152 white matter, grey matter and brain mask: (values, voxel-to-RAS affine) each, at this many mm."""
    from nilearn import datasets  # a second to import, and only phantoms need it

    loads = (datasets.load_mni152_wm_template, datasets.load_mni152_gm_template, datasets.load_mni152_brain_mask)
    images = [load(resolution=resolution) for load in loads]
    return [(np.asarray(image.dataobj, np.float32), image.affine) for image in images]


def grow_tumour(white: np.ndarray, brain: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Labels of an irregular tumour: necrotic core, enhancing rim, oedema that follows white matter."""
    inner = gaussian_filter(white * 1.0, 6 / spacing) * (gaussian_filter(brain * 1.0, 12 / spacing) > 0.9)
    choices = np.flatnonzero(inner > np.quantile(inner[brain], 0.8))
    centre = np.unravel_index(rng.choice(choices), brain.shape)
    axes = [(np.arange(n) - c) * spacing for n, c in zip(brain.shape, centre, strict=True)]
    grids = np.meshgrid(*axes, indexing="ij")
    stretch = rng.uniform(0.75, 1.25, 3)
    distance = np.sqrt(sum((g * s) ** 2 for g, s in zip(grids, stretch, strict=True)))
    distance = distance + 4.0 * _smooth_noise(brain.shape, 12, rng)
    radius = rng.uniform(12, 22)  # mm, of the enhancing rim's outside
    rim = max(2.2 * spacing, rng.uniform(3.0, 6.0))
    spread = rng.uniform(8, 20) * (0.3 + 1.2 * gaussian_filter(white * 1.0, 2 / spacing))
    labels = np.zeros(brain.shape, np.uint8)
    labels[brain & (distance < radius + spread)] = LABELS["ED"]
    labels[brain & (distance < radius)] = LABELS["ET"]
    labels[brain & (distance < radius - rim)] = LABELS["NCR"]
    return labels


def _measure(signal: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the scanner stores: uneven coil sensitivity, Rician noise, an arbitrary scale, no skull."""
    sensitivity = np.exp(0.15 * _smooth_noise(brain.shape, 3, rng))
    level = NOISE * np.quantile(signal[brain], 0.98)
    real, imaginary = rng.normal(0, level, (2, *brain.shape))
    magnitude = np.sqrt((signal * sensitivity + real) ** 2 + imaginary**2)
    scale = rng.uniform(400, 1500) / np.quantile(magnitude[brain], 0.98)
    return np.where(brain, np.maximum(1, np.rint(magnitude * scale)), 0).astype(np.int16)


def _smooth_noise(shape: tuple[int, ...], knots: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth random values of about unit deviation, with ``knots`` free values along each axis."""
    field = rng.standard_normal((knots,) * 3)
    for n in shape:  # splines are linear and separable: one matrix an axis is a hundred times faster than zooming
        spline = [zoom(knot, n / knots, order=3, mode="nearest", grid_mode=True) for knot in np.eye(knots)]
        field = np.tensordot(field, spline, (0, 0))
    return field / field.std()


def _rotation(angles: np.ndarray) -> np.ndarray:
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*(float(a) for a in angles))
    return np.array(transform.GetMatrix()).reshape(3, 3)


def _image(array: np.ndarray, size: int) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    spacing = FIELD_OF_VIEW / size
    image.SetSpacing((spacing,) * 3)
    image.SetOrigin((-(size - 1) / 2 * spacing,) * 3)
    return image
