"""A folder of DICOM series, as it comes from the scanner."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, generate_uid

from dicom import stored, write_frames, write_series
from lckd.errors import InputError
from lckd.preprocessing import same_grid
from lckd.segment import Request, segment
from lckd.studies import choose_study
from lckd.volumes import find_volumes


@pytest.fixture
def exam(sequence, tmp_path):
    """FLAIR (named), T1ce (told by tags alone), diffusion, and a localizer of two slices, in one folder."""
    uid, folder = generate_uid(), tmp_path / "exam"
    flair, t1ce, t2 = (sitk.ReadImage(str(sequence(name))) for name in ("FLAIR", "T1ce", "T2"))
    write_series(t2[:, :, 40:42], folder, "localizer", 1, uid)
    write_series(flair, folder, "t2_tirm_tra_dark-fluid", 2, uid, EchoTime=120, RepetitionTime=9000, InversionTime=2500)
    write_series(t1ce, folder, "SERIES 3", 3, uid, EchoTime=9, RepetitionTime=550, ScanningSequence="SE",
                 ContrastBolusAgent="Gadobutrol")  # fmt: skip
    write_series(t2, folder, "ep2d_diff_b1000", 4, uid, ScanningSequence="EP")
    return folder


def test_series_are_told_apart(exam):
    study = choose_study(find_volumes([exam]), {})
    assert study.available == ("T1ce", "FLAIR")
    assert [volume.name for volume, _ in study.others] == ["ep2d_diff_b1000"]


def test_an_image_without_its_kind_spoils_nothing(exam):
    """As careless anonymisation leaves a secondary capture."""
    other = dcmread(exam / "01-0000.dcm")
    other.SeriesInstanceUID, other.SeriesDescription = generate_uid(), "capture"
    del other.SOPClassUID
    other.save_as(exam / "capture.dcm", enforce_file_format=False)
    assert choose_study(find_volumes([exam]), {}).available == ("T1ce", "FLAIR")


def test_exam_is_segmented_on_the_series_grid(exam, sequence, tmp_path):
    report = segment(Request([exam], tmp_path / "out.nii.gz", device="cpu"))
    assert report["reference"] == "T1ce"
    assert same_grid(sitk.ReadImage(str(tmp_path / "out.nii.gz")), sitk.ReadImage(str(sequence("T1ce"))))


def test_series_with_missing_slices_is_refused(exam, tmp_path):
    for number in (20, 21):
        (exam / f"03-{number:04d}.dcm").unlink()
    with pytest.raises(InputError, match="slices are missing"):
        segment(Request([exam], tmp_path / "out.nii.gz", device="cpu"))


def test_one_bad_series_gives_way_to_another(exam, sequence):
    uid = choose_study(find_volumes([exam]), {}).volumes["FLAIR"].tags["StudyInstanceUID"]
    write_series(sitk.BinShrink(sitk.ReadImage(str(sequence("FLAIR"))), [1, 1, 3]), exam, "flair ax", 7, uid)
    (exam / "02-0020.dcm").unlink()
    study = choose_study(find_volumes([exam]), {})
    study.read()
    assert study.volumes["FLAIR"].name == "flair ax"
    assert any("slices are missing" in warning and "“flair ax” was taken" in warning for warning in study.warnings)
    assert not any("--flair" in warning for warning in study.warnings), "it is taken: there is nothing to name"


def test_a_series_in_several_folders_is_one(exam):
    whole = {volume.name: volume.read() for volume in find_volumes([exam])}
    (exam / "DIR001").mkdir()
    for number, path in enumerate(sorted(exam.glob("02-*.dcm"))):
        if number % 3 == 0:
            path.rename(exam / "DIR001" / path.name)
    volumes = find_volumes([exam])
    assert sorted(volume.name for volume in volumes) == sorted(whole)
    for volume in volumes:
        image = volume.read()
        assert same_grid(image, whole[volume.name]) and sitk.Hash(image) == sitk.Hash(whole[volume.name])


def test_a_series_in_several_folders_is_named_whole(exam):
    """By the address that a report gives for it."""
    for part in (2, 1):
        (exam / f"DIR{part:03d}").mkdir()
        for path in sorted(exam.glob("02-*.dcm"))[::part]:
            path.rename(exam / f"DIR{part:03d}" / path.name)
    (found,) = [volume for volume in find_volumes([exam]) if "dark-fluid" in volume.name]
    again = choose_study([], {"FLAIR": Path(found.address)}).volumes["FLAIR"]
    assert len({Path(file).parent for file in again.slices}) == 2
    assert sitk.Hash(again.read()) == sitk.Hash(found.read())


def test_series_of_one_number_are_named_by_their_identifiers(exam, sequence):
    uid = choose_study(find_volumes([exam]), {}).volumes["FLAIR"].tags["StudyInstanceUID"]
    write_series(sitk.ReadImage(str(sequence("T2"))), exam / "other", "t2", 2, uid)
    with pytest.raises(InputError, match=r"2 series are number 2; name one by its UID, .*exam#1\.") as refusal:
        choose_study([], {"T2": exam.with_name("exam#2")})
    named = Path(str(refusal.value).split("UID, ")[1])
    assert choose_study([], {"T2": named}).volumes["T2"].tags["SeriesNumber"] == "2"


def test_a_copy_of_a_series_is_not_another(exam):
    (exam / "copy").mkdir()
    for path in exam.glob("02-*.dcm"):
        (exam / "copy" / path.name).write_bytes(path.read_bytes())
    names = [volume.name for volume in find_volumes([exam])]
    assert names.count("t2_tirm_tra_dark-fluid") == 1


@pytest.mark.parametrize("tag", ["PatientID", "StudyDate"])
def test_patients_and_dates_under_one_identifier_are_told_apart(exam, sequence, tag):
    """As careless anonymisation leaves them."""
    for path in exam.glob("02-*.dcm"):
        header = dcmread(path)
        setattr(header, tag, "20240229")
        header.save_as(path)
    with pytest.raises(InputError, match="2 studies"):
        choose_study(find_volumes([exam]), {})


def test_the_better_of_two_alike_series_is_taken_and_the_other_can_be_named(exam, sequence):
    uid = choose_study(find_volumes([exam]), {}).volumes["FLAIR"].tags["StudyInstanceUID"]
    thick = sitk.BinShrink(sitk.ReadImage(str(sequence("FLAIR"))), [1, 1, 3])
    write_series(thick, exam, "flair ax", 7, uid)
    study = choose_study(find_volumes([exam]), {})
    assert study.volumes["FLAIR"].name == "t2_tirm_tra_dark-fluid"
    assert any("2-D" in warning and "--flair" in warning and "#7" in warning for warning in study.warnings)
    assert choose_study(find_volumes([exam]), {"FLAIR": exam.with_name("exam#7")}).volumes["FLAIR"].name == "flair ax"


def test_a_repeat_replaces_what_came_before(exam, sequence):
    uid = choose_study(find_volumes([exam]), {}).volumes["FLAIR"].tags["StudyInstanceUID"]
    write_series(sitk.ReadImage(str(sequence("FLAIR"))), exam, "t2_tirm_tra_dark-fluid", 8, uid)
    volumes = find_volumes([exam])
    for order in (volumes, volumes[::-1]):
        study = choose_study(order, {})
        assert study.volumes["FLAIR"].tags["SeriesNumber"] == "8"
        assert any("repeat" in warning for warning in study.warnings)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_series_may_be_one_file_of_several_frames(exam, sequence, tmp_path, backwards):
    """Enhanced DICOM; in either order of its frames, it is where the slices were."""
    image = sitk.ReadImage(str(sequence("FLAIR")))
    order = range(image.GetSize()[2])
    write_frames(
        image, tmp_path / "enhanced" / "1.dcm", "FLAIR", 7, generate_uid(), order[::-1] if backwards else order
    )
    (volume,) = find_volumes([tmp_path / "enhanced"])
    assert volume.tags["SeriesNumber"] == "7" and volume.geometry().size == image.GetSize()
    again = sitk.GetArrayFromImage(sitk.Resample(volume.read(), image))
    assert np.array_equal(again, stored(image))
    assert choose_study([], {"T1": f"{volume.address}"}).volumes["T1"] == volume


def test_frames_that_are_no_even_stack_are_refused(sequence, tmp_path):
    """Two echoes in one file, say."""
    image = sitk.ReadImage(str(sequence("FLAIR")))
    slices = [*range(image.GetSize()[2])]
    for order in (slices * 2, slices[:9] + slices[12:], slices[::2] + slices[1::2], slices[:2] + slices[1::-1] * 3):
        write_frames(image, tmp_path / "enhanced" / "1.dcm", "FLAIR", 7, generate_uid(), order)
        (volume,) = find_volumes([tmp_path / "enhanced"])
        with pytest.raises(InputError, match="“FLAIR”: slices are missing, doubled or uneven"):
            volume.read()


def test_a_report_beside_the_series_is_passed_over(exam):
    """A file that ITK cannot read as an image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = BasicTextSRStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    report.SOPClassUID, report.SOPInstanceUID = BasicTextSRStorage, meta.MediaStorageSOPInstanceUID
    report.SeriesInstanceUID, report.StudyInstanceUID, report.Modality = generate_uid(), generate_uid(), "SR"
    report.save_as(exam / "report.dcm", enforce_file_format=True)
    assert choose_study(find_volumes([exam]), {}).available == ("T1ce", "FLAIR")


def test_without_pydicom_frames_are_refused(sequence, tmp_path, monkeypatch):
    write_frames(sitk.ReadImage(str(sequence("FLAIR"))), tmp_path / "1.dcm", "FLAIR", 7, generate_uid())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match="pip install pydicom"):
        find_volumes([tmp_path])[0].read()


def test_two_studies_are_refused(exam, sequence):
    write_series(sitk.ReadImage(str(sequence("T2"))), exam, "t2_tse", 9, generate_uid())
    with pytest.raises(InputError, match="2 studies"):
        choose_study(find_volumes([exam]), {})
