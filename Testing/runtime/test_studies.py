"""Which volumes make one study: never two patients, and no false alarm on the ways people name their files."""

import json
import os
from pathlib import Path

import pytest
import SimpleITK as sitk

from lckd.cli import main
from lckd.errors import InputError
from lckd.studies import choose_study
from lckd.volumes import find_volumes


@pytest.fixture
def study(tmp_path):
    """Call with file names below a folder for the study chosen among them."""

    def choose(*names, given=None):
        for name in names:
            path = tmp_path / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkUInt8), str(path))
        return choose_study(find_volumes([tmp_path]), given or {})

    return choose


@pytest.mark.parametrize(
    "names",
    [
        ("T1_AX", "MRHR_FLAIR_AX"),
        ("301_T1", "401_FLAIR"),
        ("12_AX_T1", "13_SAG_FLAIR"),
        ("20190101_AX_T1", "20190101_SAG_FLAIR"),
        ("sub-01_acq-3D_T1w", "sub-01_run-02_FLAIR"),
        ("T1/t1", "FLAIR/flair"),
        ("BraTS-GLI-00001-000-t1n", "BraTS-GLI-00001-000-t2f"),
    ],
)
def test_one_patient(study, names):
    assert study(*names).available == ("T1", "FLAIR")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("patient1_t1ce", "patient2_flair"), "2 studies"),
        (("A7-t1", "A8-flair"), "2 studies"),
        (("sub-01_T1w", "sub-02_FLAIR"), "2 studies"),
        (("sub-01_ses-1_T1w", "sub-01_ses-2_FLAIR"), "2 studies"),
        (("case1/t1", "case2/flair"), "2 studies"),
        (("T1_20190301", "FLAIR_20200502"), "several dates"),
        (("2019-03-01_T1", "2020-05-02_FLAIR"), "several dates"),
        (("20190101_T1", "20200101_FLAIR"), "several dates"),
    ],
)
def test_two_patients_or_dates(study, names, why):
    with pytest.raises(InputError, match=why):
        study(*names)


@pytest.mark.parametrize(
    ("names", "doubted"), [(("case1/t1", "case2/flair"), True), (("case1/t1", "case1/flair"), False)]
)
def test_two_patients_given_outright_are_warned_of(study, tmp_path, names, doubted):
    given = {"T1": tmp_path / f"{names[0]}.nii.gz", "FLAIR": tmp_path / f"{names[1]}.nii.gz"}
    for volumes in (given, {"T1": given["T1"]}):
        warnings = study(*names, given=volumes).warnings
        assert ["are all of one patient?" in warning for warning in warnings] == [True] * doubted


def test_names_that_make_one_wonder(study):
    assert "jones, smith" in study("smith_t1", "jones_flair").warnings[0]


def test_bids_contrast_is_not_lost(study):
    assert study("sub-01_T1w", "sub-01_ce-gd_T1w", "sub-01_FLAIR").available == ("T1", "T1ce", "FLAIR")


def test_masks_beside_volumes_are_no_volumes(study):
    chosen = study("flair", "flair_mask", "t1ce", "t1ce_seg")
    assert chosen.available == ("T1ce", "FLAIR")
    assert sorted(volume.name for volume, _ in chosen.others) == ["flair_mask", "t1ce_seg"]


def test_given_file_is_not_taken_a_second_time(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkUInt8), "t2.nii.gz")
    chosen = study("flair", given={"T1ce": Path("t2.nii.gz")})
    assert chosen.available == ("T1ce", "FLAIR")
    assert len(chosen.warnings) == 1 and "its name says T2" in chosen.warnings[0]
    assert os.getcwd() == str(tmp_path)


def test_one_folder_written_in_two_ways_is_one_study(study, tmp_path, monkeypatch):
    study("case/t1", "case/flair")
    monkeypatch.chdir(tmp_path)
    inputs = [Path("case", "..", "case", "t1.nii.gz"), tmp_path / "case" / "flair.nii.gz"]
    assert choose_study(find_volumes(inputs), {}).available == ("T1", "FLAIR")


def test_a_second_volume_of_a_sequence_is_described_by_itself(tmp_path, capsys):
    """Not by what is said of the volume that was taken."""
    for name, spacing in (("flair_3d", (2.0, 2.0, 2.0)), ("flair_axial", (2.0, 2.0, 6.0))):
        size = [80, 80, round(160 / spacing[2])]
        image = sitk.GaussianSource(sitk.sitkFloat32, size, [40.0] * 3, [80.0] * 3, 100.0, spacing=spacing)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    assert main(["sequences", "--look", "--json", str(tmp_path)]) == 0
    acquired = {row["name"]: row["acquired"] for row in json.loads(capsys.readouterr().out)["volumes"]}
    assert "the reference" in acquired["flair_3d"]
    assert "6 mm" in acquired["flair_axial"] and "the reference" not in acquired["flair_axial"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("T1_preop", "FLAIR_postop"), "postop, preop"),
        (("T1_baseline", "FLAIR_follow-up"), "baseline, followup"),
        (("flair_week12", "t1_week24"), "week12, week24"),
        (("T1_P001", "FLAIR_P002"), "p001, p002"),
        (("2019_T1", "2020_FLAIR"), "2019, 2020"),
    ],
)
def test_names_that_speak_of_several_times_or_patients_are_told(study, names, said):
    (warning,) = study(*names).warnings
    assert said in warning and "?" in warning


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("T1", "T1_MNI"), "T1"),
        (("T1", "wT1"), "T1"),
        (("sub-01_T1w", "sub-01_space-MNI152NLin6Asym_T1w"), "sub-01_T1w"),
        (("T1", "T1_bet"), "T1"),
        (("T1", "T1_2"), "T1_2"),
        (("T1", "T1_repeat"), "T1_repeat"),
    ],
)
def test_the_image_as_it_was_is_taken_before_what_was_made_of_it(study, names, taken):
    found = study(*names)
    assert found.volumes["T1"].name == taken
    assert any("was not taken" in warning for warning in found.warnings)
    assert any("--t1ce" in warning for warning in found.warnings), "one of two T1 may be after contrast medium"


def test_an_image_in_an_atlas_is_told(study):
    assert any("atlas" in warning for warning in study("T1_to_MNI", "FLAIR").warnings)


def test_a_drawing_named_like_a_sequence_gives_way_to_the_image(tmp_path, sequence):
    flair = sitk.ReadImage(str(sequence("FLAIR")))
    sitk.WriteImage(flair, str(tmp_path / "FLAIR_original.nii.gz"))
    sitk.WriteImage(sitk.Cast(flair > 0, sitk.sitkFloat32) * 3, str(tmp_path / "FLAIR_lesion.nii.gz"))
    found = choose_study(find_volumes([tmp_path]), {})
    assert found.volumes["FLAIR"].name == "FLAIR_lesion"
    images = found.read()
    assert found.volumes["FLAIR"].name == "FLAIR_original" and [volume.name for volume, _ in found.others] == [
        "FLAIR_lesion"
    ]
    assert sitk.GetArrayViewFromImage(images["FLAIR"]).max() == sitk.GetArrayViewFromImage(flair).max()
    (warning,) = found.warnings
    assert "mask" in warning and "“FLAIR_original” was taken for FLAIR instead" in warning
    (tmp_path / "FLAIR_original.nii.gz").unlink()
    with pytest.raises(InputError, match="mask or labels"):
        choose_study(find_volumes([tmp_path]), {}).read()


def test_what_is_taken_instead_may_be_in_an_atlas(tmp_path, sequence):
    sitk.WriteImage(sitk.ReadImage(str(sequence("FLAIR"))), str(tmp_path / "FLAIR_to_MNI.nii.gz"))
    sitk.WriteImage(sitk.Image([80, 80, 80], sitk.sitkFloat32), str(tmp_path / "FLAIR.nii.gz"))
    found = choose_study(find_volumes([tmp_path]), {})
    assert found.volumes["FLAIR"].name == "FLAIR"
    found.read()
    assert found.volumes["FLAIR"].name == "FLAIR_to_MNI"
    assert sum("brought to an atlas: sizes" in words for words in found.warnings) == 1


def test_what_is_named_twice_is_one_volume(tmp_path, sequence):
    (tmp_path / "case").mkdir()
    path = tmp_path / "case" / "FLAIR.nii.gz"
    path.write_bytes(sequence("FLAIR").read_bytes())
    for inputs in ([path, path], [path.parent, path], [path.parent / ".." / "case" / path.name, path.parent]):
        study = choose_study(find_volumes(inputs), {})
        assert study.warnings == [] and study.others == []


def test_hidden_folders_are_left_alone(tmp_path, sequence):
    for name in ("FLAIR", ".trash/T1", "kept/.cache/deep/T2"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sequence("FLAIR").read_bytes())
    assert [volume.name for volume in find_volumes([tmp_path])] == ["FLAIR"]
    assert [volume.name for volume in find_volumes([tmp_path / ".trash"])] == ["T1"], "named outright it counts"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_files_that_do_not_say_how_the_head_lies_are_told(tmp_path, sequence, suffix):
    path = tmp_path / f"FLAIR{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(sequence("FLAIR"))), str(path))
    (volume,) = find_volumes([path])
    assert volume.tells_orientation
    said, instead = (
        (b"\nspace: left-posterior-superior", b"\n#") if suffix == ".nrrd" else (b"\nTransformMatrix", b"\nComment")
    )
    header = path.read_bytes()
    assert said in header
    path.write_bytes(header.replace(said, instead))
    assert not volume.tells_orientation
