"""Write an image as a DICOM series with pydicom, as a scanner would have."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid


def write_series(image: sitk.Image, folder: Path, description: str, number: int, study_uid: str, **tags) -> None:
    """One file a slice; ``tags`` are further DICOM keywords and values."""
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    series_uid = generate_uid()
    for index, plane in enumerate(stored(image)):
        data = dataset(MRImageStorage, series_uid, description, number, study_uid)
        data.InstanceNumber = index + 1
        data.Rows, data.Columns = plane.shape
        data.PixelSpacing = [image.GetSpacing()[1], image.GetSpacing()[0]]
        data.SliceThickness = data.SpacingBetweenSlices = image.GetSpacing()[2]
        data.ImageOrientationPatient = [*direction[:, 0], *direction[:, 1]]
        data.ImagePositionPatient = list(image.TransformIndexToPhysicalPoint((0, 0, index)))
        data.PixelData = plane.tobytes()
        for key, value in tags.items():
            setattr(data, key, value)
        data.save_as(folder / f"{number:02d}-{index:04d}.dcm", enforce_file_format=True)


def write_frames(image: sitk.Image, path: Path, description: str, number: int, study_uid: str, order=None) -> None:
    """One enhanced file for all slices, as today's scanners write; ``order`` are the slices that follow each other."""
    array, direction = stored(image), np.array(image.GetDirection()).reshape(3, 3)
    order = range(len(array)) if order is None else order
    data = dataset(EnhancedMRImageStorage, generate_uid(), description, number, study_uid)
    data.InstanceNumber, data.NumberOfFrames = 1, len(order)
    data.Rows, data.Columns = array.shape[1:]
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [image.GetSpacing()[1], image.GetSpacing()[0]]
    measures.SliceThickness = measures.SpacingBetweenSlices = image.GetSpacing()[2]
    orientation.ImageOrientationPatient = [*direction[:, 0], *direction[:, 1]]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = list(image.TransformIndexToPhysicalPoint((0, 0, int(index))))
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = array[list(order)].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def stored(image: sitk.Image) -> np.ndarray:
    """An image's voxels as a scanner stores them."""
    array = sitk.GetArrayFromImage(image)
    return np.rint(array * (4000 / max(1, array.max()))).astype(np.uint16)


def dataset(kind, series_uid: str, description: str, number: int, study_uid: str) -> FileDataset:
    """What all DICOM files of a series have in common."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.PatientName, data.StudyInstanceUID = "P1", "Phantom", study_uid
    data.StudyDate, data.FrameOfReferenceUID = "20260101", generate_uid(entropy_srcs=[study_uid])
    data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = series_uid, number, description
    data.Modality = "MR"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    return data
