"""Write an image as a DICOM series with pydicom, as a scanner would have."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def write_series(image: sitk.Image, folder: Path, description: str, number: int, study_uid: str, **tags) -> None:
    """One file a slice; ``tags`` are further DICOM keywords and values."""
    folder.mkdir(parents=True, exist_ok=True)
    array = sitk.GetArrayFromImage(image)
    array = np.rint(array * (4000 / max(1, array.max()))).astype(np.uint16)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    series_uid = generate_uid()
    for index, plane in enumerate(array):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        data.PatientID, data.PatientName, data.StudyInstanceUID = "P1", "Phantom", study_uid
        data.StudyDate, data.FrameOfReferenceUID = "20260101", generate_uid(entropy_srcs=[study_uid])
        data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = series_uid, number, description
        data.Modality, data.InstanceNumber = "MR", index + 1
        data.Rows, data.Columns = plane.shape
        data.PixelSpacing = [image.GetSpacing()[1], image.GetSpacing()[0]]
        data.SliceThickness = data.SpacingBetweenSlices = image.GetSpacing()[2]
        data.ImageOrientationPatient = [*direction[:, 0], *direction[:, 1]]
        data.ImagePositionPatient = list(image.TransformIndexToPhysicalPoint((0, 0, index)))
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit = 15
        data.PixelData = plane.tobytes()
        for key, value in tags.items():
            setattr(data, key, value)
        data.save_as(folder / f"{number:02d}-{index:04d}.dcm", enforce_file_format=True)
