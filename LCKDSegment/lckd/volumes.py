"""Read volumes in any format: NIfTI, NRRD and MetaImage files, and folders of them or of DICOM series.

Every volume comes back as a 3-D, finite, float32 SimpleITK image (physical space LPS, millimetres), or the file is
refused with one line that says why.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .geometry import Geometry
from .nifti import check_nifti, tells_orientation

THINNEST = 4  # slices; fewer are no volume
SMALLEST, LARGEST = 20, 1000  # mm; the longest edge of anything that may hold a head
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd")

SOP_CLASS = "0008|0016"
OF_FRAMES = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""Enhanced MR, and what archives make of a plain series: one file of several frames."""

_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# DICOM keyword -> ITK metadata key, for what tells sequences, patients and dates apart.
DICOM_TAGS = {
    "SeriesDescription": "0008|103e", "ProtocolName": "0018|1030", "Modality": "0008|0060",
    "ImageType": "0008|0008", "BodyPartExamined": "0018|0015", "ScanningSequence": "0018|0020",
    "SequenceVariant": "0018|0021", "SequenceName": "0018|0024", "MRAcquisitionType": "0018|0023",
    "RepetitionTime": "0018|0080", "EchoTime": "0018|0081", "InversionTime": "0018|0082",
    "ContrastBolusAgent": "0018|0010", "PatientID": "0010|0020", "StudyInstanceUID": "0020|000d",
    "StudyDate": "0008|0020", "SeriesInstanceUID": "0020|000e", "SeriesNumber": "0020|0011",
}  # fmt: skip


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
        return self.path.resolve(), self.tags.get("SeriesInstanceUID") if self.slices else None

    @property
    def address(self) -> str:
        """How a user names this volume on the command line."""
        return f"{self.path}#{self.tags.get('SeriesNumber', '')}" if self.slices else str(self.path)

    def geometry(self) -> Geometry:
        """Its grid, from headers alone. Raises InputError when they cannot be read."""
        first = _header(self.slices[0] if self.slices else str(self.path))
        found = Geometry.of(first)
        if len(self.slices) < 2:
            return Geometry(
                found.size[:3], found.spacing[:3], found.direction if len(found.direction) == 9 else _UPRIGHT
            )
        second = _header(self.slices[1])
        step = float(np.linalg.norm(np.subtract(second.GetOrigin(), first.GetOrigin()))) or found.spacing[2]
        return Geometry((*found.size[:2], len(self.slices)), (*found.spacing[:2], step), found.direction)

    def look(self):
        """What the image looks like (an ``Appearance``), or None. Raises InputError when it cannot be read."""
        from .appearance import look

        return look(self.read())

    @property
    def tells_orientation(self) -> bool:
        """Whether its file says how the head lies."""
        return not self.path.name.lower().endswith(NIFTI) or tells_orientation(self.path)

    def read(self) -> sitk.Image:
        """The volume as a 3-D float32 image. Raises InputError when it cannot be read or is not one."""
        if self.slices:
            _check_slices(self.slices, self.name)
        source = list(self.slices) if len(self.slices) > 1 else self.slices[0] if self.slices else str(self.path)
        if self.path.name.lower().endswith(NIFTI):
            check_nifti(self.path)
        try:
            image = sitk.ReadImage(source)
        except RuntimeError as error:
            raise InputError(f"{self.path}: cannot be read as an image ({_reason(error)}); is it damaged?") from None
        return check_image(image, self.path)


def find_volumes(inputs: list[Path]) -> list[Volume]:
    """The volumes that files and folders hold, in name order; only headers are read.

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
    return volumes


def volume_file(path: Path) -> Volume:
    """The volume of one file, by its suffix. Raises InputError when there is none."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    _require_utf8(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path}: not a volume file; give {', '.join(SUFFIXES)} or a folder of DICOM series")
    return Volume(stem(path), path)


def _require_utf8(path: Path) -> None:
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
    return image


def _in_folder(folder: Path) -> list[Volume]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    volumes = [volume_file(p) for p in files if p.name.lower().endswith(SUFFIXES)]
    others = sorted({p.parent for p in files if not p.name.lower().endswith(SUFFIXES)})
    return volumes + [volume for parent in others for volume in _dicom_series(parent)]


def _dicom_series(folder: Path) -> list[Volume]:
    """The DICOM series of one folder that may form volumes; a single image (a scout, a report) is left out."""
    volumes = []
    for path in folder.iterdir():
        _require_utf8(path)
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        slices = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        header = _header(slices[0])
        kind = header.GetMetaData(SOP_CLASS).strip("\0 ") if header.HasMetaDataKey(SOP_CLASS) else ""
        of_frames = len(slices) == 1 and kind in OF_FRAMES
        if len(slices) < THINNEST and not of_frames:
            continue
        tags = {k: _text(header.GetMetaData(t)) for k, t in DICOM_TAGS.items() if header.HasMetaDataKey(t)}
        name = tags.get("SeriesDescription") or tags.get("ProtocolName") or f"Series {tags.get('SeriesNumber', uid)}"
        volumes.append(Volume(name, folder, tuple(slices), tags))
    return volumes


def _header(path: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as an image ({_reason(error)}); is it damaged?") from None
    return reader


def _check_slices(slices: tuple[str, ...], name: str) -> None:
    """Refuse a series whose slices are missing, doubled or of two stacks: ITK would only stretch the volume.

    ITK puts files in order, the frames of one file it does not.
    """
    if len(slices) == 1:
        positions = _frame_positions(slices[0], name)
    else:
        headers = [_header(path) for path in slices]
        positions = sorted(float(_normal(header) @ header.GetOrigin()) for header in headers)
    steps = np.diff(positions) * np.sign(positions[-1] - positions[0])
    if steps.max() - steps.min() > 0.1 * np.median(steps) or np.median(steps) < 0.01:
        raise InputError(f"series “{name}”: slices are missing, doubled or uneven; load the complete series again")


def _frame_positions(path: str, name: str) -> list[float]:
    """Where the frames of an enhanced DICOM file lie along their normal, in mm; ITK alone does not tell."""
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError:
        raise InputError(
            f"series “{name}”: one file of several frames; pip install pydicom to read it, or convert it with dcm2niix"
        ) from None
    normal = _normal(_header(path))
    try:
        frames = dcmread(path, stop_before_pixels=True).PerFrameFunctionalGroupsSequence
        positions = [float(normal @ frame.PlanePositionSequence[0].ImagePositionPatient) for frame in frames]
        if len(positions) < THINNEST:
            raise IndexError
        return positions
    except (AttributeError, IndexError, TypeError, InvalidDicomError):
        raise InputError(f"series “{name}”: does not say where its frames lie; convert it with dcm2niix") from None


def _normal(header: sitk.ImageFileReader) -> np.ndarray:
    return np.array(header.GetDirection()).reshape(3, 3)[:, 2]


def _text(value: str) -> str:
    """A DICOM text as GDCM gives it; what is not UTF-8 is read as Latin-1, so that it can be printed."""
    data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return data.decode("latin-1").strip()


def _reason(error: Exception) -> str:
    """The last telling line of an ITK exception, which spreads over many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("): ")[-1][:120] if lines else type(error).__name__
