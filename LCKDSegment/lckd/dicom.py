"""Series of DICOM files: which there are in folders, their tags, and whether their slices form a volume."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .geometry import THINNEST

SOP_CLASS = "0008|0016"
OF_FRAMES = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""Enhanced MR, and what archives make of a plain series: one file of several frames."""

SOP_INSTANCE = "0008|0018"

# DICOM keyword -> ITK metadata key, for what tells sequences, patients and dates apart.
DICOM_TAGS = {
    "SeriesDescription": "0008|103e", "ProtocolName": "0018|1030", "Modality": "0008|0060",
    "ImageType": "0008|0008", "BodyPartExamined": "0018|0015", "ScanningSequence": "0018|0020",
    "SequenceVariant": "0018|0021", "SequenceName": "0018|0024", "MRAcquisitionType": "0018|0023",
    "RepetitionTime": "0018|0080", "EchoTime": "0018|0081", "InversionTime": "0018|0082",
    "ContrastBolusAgent": "0018|0010", "PatientID": "0010|0020", "StudyInstanceUID": "0020|000d",
    "StudyDate": "0008|0020", "SeriesInstanceUID": "0020|000e", "SeriesNumber": "0020|0011",
}  # fmt: skip


def find_series(folders: list[Path]) -> Iterator[tuple[str, Path, tuple[str, ...], dict[str, str]]]:
    """Name, folder, files and tags of each series that may form a volume; single images (a scout) are left out.

    A file of several frames is a series of its own. Media spread a series over folders: its parts are put together.
    """
    parts: dict[str, list[tuple[Path, tuple[str, ...]]]] = {}
    for folder in folders:
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            parts.setdefault(uid, []).append((folder, tuple(files)))
    for uid, found in parts.items():
        for folder, files in _together(found) if len(found) > 1 else found:
            header = header_of(files[0])
            kind = header.GetMetaData(SOP_CLASS).strip("\0 ") if header.HasMetaDataKey(SOP_CLASS) else ""
            if len(files) < THINNEST and kind not in OF_FRAMES:
                continue
            tags = {k: _text(header.GetMetaData(t)) for k, t in DICOM_TAGS.items() if header.HasMetaDataKey(t)}
            name = (
                tags.get("SeriesDescription") or tags.get("ProtocolName") or f"Series {tags.get('SeriesNumber', uid)}"
            )
            for whole in [(file,) for file in files] if kind in OF_FRAMES else [files]:
                yield name, folder, whole, tags


def _together(parts: list[tuple[Path, tuple[str, ...]]]) -> list[tuple[Path, tuple[str, ...]]]:
    """The parts of a series as one, in order along its normal; as they are where they do not complete each other.

    Copies do not, nor what lost its identifier to whoever made it anonymous.
    """
    images = {}
    for _, files in parts:
        for file in files:
            header = header_of(file)
            uid = header.GetMetaData(SOP_INSTANCE) if header.HasMetaDataKey(SOP_INSTANCE) else file
            images.setdefault(uid, (float(_normal(header) @ header.GetOrigin()), file, header.GetDirection()))
    if len(images) < sum(len(files) for _, files in parts):
        return [max(parts, key=lambda part: len(part[1]))]
    positions, files, directions = zip(*sorted(images.values()), strict=True)
    apart = np.diff(positions).min(initial=np.inf) > 0.01 and np.ptp(directions, axis=0).max() < 1e-3
    whole = Path(os.path.commonpath([os.path.abspath(folder) for folder, _ in parts]))
    return [(whole, files)] if apart else parts


def header_of(path: str) -> sitk.ImageFileReader:
    """The header of an image file. Raises InputError when it cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as an image ({reason(error)}); is it damaged?") from None
    return reader


def check_slices(slices: tuple[str, ...], name: str) -> None:
    """Refuse a series whose slices are missing, doubled or of two stacks: ITK would only stretch the volume.

    ITK puts files in order, the frames of one file it does not.
    """
    if len(slices) == 1:
        positions = _frame_positions(slices[0], name)
    else:
        headers = [header_of(path) for path in slices]
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
    normal = _normal(header_of(path))
    try:
        frames = dcmread(path, stop_before_pixels=True).PerFrameFunctionalGroupsSequence
        positions = [float(normal @ frame.PlanePositionSequence[0].ImagePositionPatient) for frame in frames]
        if len(positions) < THINNEST:
            raise IndexError
        return positions
    except (AttributeError, IndexError, TypeError, ValueError, InvalidDicomError):
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


def reason(error: Exception) -> str:
    """The last telling line of an ITK exception, which spreads over many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("): ")[-1][:120] if lines else type(error).__name__
