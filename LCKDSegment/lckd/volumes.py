"""Read volumes in any format: NIfTI, NRRD and MetaImage files, and folders of them or of DICOM series.

Every volume comes back as a 3-D, finite, float32 SimpleITK image (physical space LPS, millimetres), or the file is
refused with one line that says why.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .dicom import check_slices, find_series, header_of, reason
from .errors import InputError
from .geometry import THINNEST, Geometry
from .nifti import check_nifti, tells_orientation

FEWEST_VALUES = 16  # different ones; an image of fewer is drawn, not measured
SMALLEST, LARGEST = 20, 1000  # mm; the longest edge of anything that may hold a head
NIFTI = (".nii", ".nii.gz")
NRRD, META = (".nrrd", ".nhdr"), (".mha", ".mhd")
SUFFIXES = (*NIFTI, *NRRD, *META)

_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Volume:
    """A volume on disk, not yet read: its name as a person sees it, its file (or folder and slices), its DICOM tags.

    A DICOM file of several frames is one of one "slice".
    """

    name: str
    path: Path
    slices: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple:
        """What tells this volume from every other, however its path was written."""
        return self.path.resolve(), Path(self.slices[0]).name if self.slices else None

    @property
    def address(self) -> str:
        """How a user names this volume on the command line: a DICOM series by its number, or its UID without one."""
        series = self.tags.get("SeriesNumber") or self.tags.get("SeriesInstanceUID", "")
        return f"{self.path}#{series}" if self.slices else str(self.path)

    def geometry(self) -> Geometry:
        """Its grid, from headers alone. Raises InputError when they cannot be read."""
        first = header_of(self.slices[0] if self.slices else str(self.path))
        found = Geometry.of(first)
        if len(self.slices) < 2:
            return Geometry(
                found.size[:3], found.spacing[:3], found.direction if len(found.direction) == 9 else _UPRIGHT
            )
        second = header_of(self.slices[1])
        step = float(np.linalg.norm(np.subtract(second.GetOrigin(), first.GetOrigin()))) or found.spacing[2]
        return Geometry((*found.size[:2], len(self.slices)), (*found.spacing[:2], step), found.direction)

    def look(self):
        """What the image looks like (an ``Appearance``), or None. Raises InputError when it cannot be read."""
        from .appearance import look

        return look(self.read())

    @property
    def tells_orientation(self) -> bool:
        """Whether its file says how the head lies; ITK takes one that does not as lying along the patient's axes."""
        name = self.path.name.lower()
        if name.endswith(NIFTI):
            return tells_orientation(self.path)
        if not name.endswith((*NRRD, *META)):
            return True
        with self.path.open("rb") as stream:
            header = stream.read(1 << 16)
        words = ("space:",) if name.endswith(NRRD) else ("TransformMatrix", "Orientation", "Rotation")
        return any(f"\n{word}".encode() in header for word in words)

    def read(self) -> sitk.Image:
        """The volume as a 3-D float32 image. Raises InputError when it cannot be read or is not one."""
        if self.slices:
            check_slices(self.slices, self.name)
        source = list(self.slices) if len(self.slices) > 1 else self.slices[0] if self.slices else str(self.path)
        if self.path.name.lower().endswith(NIFTI):
            check_nifti(self.path)
        try:
            image = sitk.ReadImage(source)
        except RuntimeError as error:
            raise InputError(f"{self.path}: cannot be read as an image ({reason(error)}); is it damaged?") from None
        return check_image(image, self.path)


def find_volumes(inputs: list[Path]) -> list[Volume]:
    """The volumes that files and folders hold, each once, in name order; only headers are read.

    Raises:
        InputError: an input does not exist, is no volume file or is a folder without volumes.
    """
    volumes = []
    for path in map(Path, inputs):
        if path.is_dir():
            found = _in_folder(path)
            if not found:
                raise InputError(f"{path}: no volume in this folder (looked for {', '.join(SUFFIXES)}, DICOM)")
            volumes += found
        else:
            volumes.append(volume_file(path))
    return list({volume.key: volume for volume in volumes}.values())


def place_and_series(path: Path) -> tuple[Path, str]:
    """``FOLDER#SERIES`` as its folder and series; any other path with an empty series."""
    path = Path(path)
    folder, _, series = str(path).rpartition("#")
    if path.exists() or not folder or not Path(folder).is_dir():
        return path, ""
    return Path(folder), series


def volume_file(path: Path) -> Volume:
    """The volume of one file, by its suffix. Raises InputError when there is none."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    require_utf8(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path}: not a volume file; give {', '.join(SUFFIXES)} or a folder of DICOM series")
    return Volume(stem(path), path)


def require_utf8(path: Path) -> None:
    """Raise InputError for a name in another encoding, as old archives leave it: ITK would end the program."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{str(path)!a}: its name is not in UTF-8; rename it") from None


def stem(path: Path) -> str:
    """The file's name without its image suffix."""
    name = Path(path).name
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def one_volume(image: sitk.Image, path: Path) -> sitk.Image:
    """The image as a 3-D one with a single value a voxel. Raises InputError where it is another."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: a colour or vector image; give the original, with a single value a voxel")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(f"{path}: has {image.GetDimension()} dimensions; give one 3-D volume per file")
    return image


def check_image(image: sitk.Image, path: Path) -> sitk.Image:
    """The image as 3-D float32. Raises InputError for 4-D, RGB, complex, flat, empty or non-finite images."""
    image = one_volume(image, path)
    if min(image.GetSize()) < THINNEST:
        raise InputError(f"{path}: only {min(image.GetSize())} slice(s); a brain volume is needed, not a single image")
    extents = [n * step for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    if not all(0.05 <= step <= 20 for step in image.GetSpacing()) or max(extents) > LARGEST or max(extents) < SMALLEST:
        shown = " x ".join(f"{extent:g}" for extent in extents)
        raise InputError(f"{path}: {shown} mm is not the size of a head; is its voxel spacing right?")
    try:
        image = sitk.Cast(image, sitk.sitkFloat32)
    except RuntimeError:
        raise InputError(f"{path}: {image.GetPixelIDTypeAsString()} voxels are not MR intensities") from None
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(values.max())  # not finite when any voxel is not, and cheap
    if not np.isfinite([low, high]).all():
        raise InputError(f"{path}: holds NaN or infinite voxels; export the volume again or replace them")
    if low == high:
        raise InputError(f"{path}: every voxel is {low:g}; the volume is empty")
    if _few_values(values):
        few = f"fewer than {FEWEST_VALUES} different values, as a mask or labels do"
        raise InputError(f"{path}: holds {few}; give the MR volume itself")
    return image


def _few_values(values: np.ndarray) -> bool:
    """Whether an array holds few different values; a sample nearly always tells, and the whole takes a second."""
    sample = np.random.default_rng(0).integers(values.size, size=50_000)
    return len(np.unique(values.ravel()[sample])) < FEWEST_VALUES and len(np.unique(values)) < FEWEST_VALUES


def _in_folder(folder: Path) -> list[Volume]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p.relative_to(folder)))
    volumes = [volume_file(p) for p in files if p.name.lower().endswith(SUFFIXES)]
    others = sorted({p.parent for p in files if not p.name.lower().endswith(SUFFIXES)})
    for path in (path for parent in others for path in parent.iterdir()):
        require_utf8(path)
    return volumes + [Volume(*series) for series in find_series(others)]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
