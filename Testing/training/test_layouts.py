"""Labelled cases as they lie on disk: nnU-Net, Decathlon, BraTS with holes, and what is not understood."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from lckd.anatomy import LABELS, MODALITIES
from lckd.errors import InputError
from lckd.preprocessing import Preprocessing, like
from lckd_training.data import cached, patient, prepared_cases
from lckd_training.layouts import Channel, describe, find_cases
from lckd_training.phantom import write_phantoms


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brats")
    list(write_phantoms(folder, cases=2, size=48, seed=1))
    return folder


@pytest.fixture(scope="module")
def images(brats):
    """The first phantom: modality -> image, and its label image."""
    case = find_cases(brats)[0]
    return {name: sitk.ReadImage(str(channel.path)) for name, channel in case.files.items()}, sitk.ReadImage(
        str(case.label)
    )


def recoded(label: sitk.Image, coding: dict[str, int]) -> sitk.Image:
    array = sitk.GetArrayFromImage(label)
    out = np.zeros_like(array)
    for name, value in coding.items():
        out[array == LABELS[name]] = value
    image = sitk.GetImageFromArray(out)
    image.CopyInformation(label)
    return image


def test_nnunet(images, brats, tmp_path):
    volumes, label = images
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    for number, name in enumerate(("T2", "FLAIR")):
        sitk.WriteImage(volumes[name], str(tmp_path / "imagesTr" / f"one_{number:04d}.nii.gz"))
    sitk.WriteImage(recoded(label, {"ED": 1, "NCR": 2, "ET": 3}), str(tmp_path / "labelsTr" / "one.nii.gz"))
    facts = {
        "channel_names": {"0": "T2w", "1": "Flair"},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    (case,) = find_cases(tmp_path)
    assert sorted(case.files) == ["FLAIR", "T2"] and case.coding == {"ED": 1, "NCR": 2, "ET": 3}
    assert "1 without T1ce" in describe([case]) and "ED 1, NCR 2, ET 3" in describe([case])
    ours = cached(case, Preprocessing(), tmp_path / "cache")
    original = cached(find_cases(brats)[0], Preprocessing(), tmp_path / "cache")
    for value in LABELS.values():
        assert np.count_nonzero(ours.labels == value) == np.count_nonzero(original.labels == value) > 0


def test_decathlon(images, brats, tmp_path):
    volumes, label = images
    order = ("FLAIR", "T1", "T1ce", "T2")
    sitk.WriteImage(sitk.JoinSeries([volumes[name] for name in order]), str(tmp_path / "BRATS_001.nii.gz"))
    sitk.WriteImage(recoded(label, {"ED": 1, "NCR": 2, "ET": 3}), str(tmp_path / "BRATS_001_label.nii.gz"))
    facts = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": [{"image": "./BRATS_001.nii.gz", "label": "./BRATS_001_label.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    (case,) = find_cases(tmp_path)
    ours = cached(case, Preprocessing(), tmp_path / "cache")
    original = cached(find_cases(brats)[0], Preprocessing(), tmp_path / "cache")
    assert ours.modalities == MODALITIES
    assert np.array_equal(ours.images, original.images) and np.array_equal(ours.labels, original.labels)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"channel_names": {"0": "PET"}, "labels": {"background": 0, "ET": 1}}, "'PET' is none of"),
        ({"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}}, "'lesion' is none of"),
        ({"channel_names": {"0": "T1"}}, "not a dataset.json"),
        ({"channel_names": ["T1"], "labels": {"background": 0, "ET": 1}}, "not a dataset.json"),
        ({"channel_names": {"first": "T1"}, "labels": {"background": 0, "ET": 1}}, "not a dataset.json"),
        (
            {"channel_names": {"0": "t1", "1": "T1w"}, "labels": {"background": 0, "ET": 1}},
            "two of its channels are T1",
        ),
        ({"channel_names": {"0": "T1"}, "labels": {"WT": [1, 2], "TC": [2]}}, "its regions lack ET"),
        ({"modality": {"0": "T1"}, "labels": {"1": "ET"}, "training": ["a.nii.gz"]}, "not a dataset.json"),
        ({"modality": {"0": "T1"}, "labels": {"1": "ET"}, "training": [{"image": "a.nii.gz"}]}, "not a dataset.json"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, facts, words):
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=words):
        find_cases(tmp_path)


def test_bad_case_is_named_and_may_be_left_out(brats, tmp_path):
    cases = find_cases(brats)
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(cases[1].label.read_bytes()[:200])
    both = [cases[0], replace(cases[1], name="Bad_01", label=damaged)]
    with pytest.raises(InputError, match=r"case Bad_01: .*--skip-bad"):
        prepared_cases(both, Preprocessing(), tmp_path / "cache", skip_bad=False)
    told = []
    good = prepared_cases(both, Preprocessing(), tmp_path / "cache", skip_bad=True, echo=told.append)
    with pytest.raises(InputError, match="no case can be used"):
        prepared_cases(both[1:], Preprocessing(), tmp_path / "cache", skip_bad=True, echo=told.append)
    assert [case.name for case in good] == [cases[0].name]
    assert "left out case Bad_01" in told[0]


def test_brats_of_2019_lies_a_folder_deeper(brats, tmp_path):
    for grade, name in (("HGG", "Phantom_01_000"), ("LGG", "Phantom_01_001")):
        (tmp_path / grade).mkdir()
        (tmp_path / grade / name).symlink_to(brats / name)
    assert [case.name for case in find_cases(tmp_path)] == ["Phantom_01_000", "Phantom_01_001"]
    (tmp_path / "Phantom_01_000").symlink_to(brats / "Phantom_01_000")
    with pytest.raises(InputError, match="Phantom_01_000 is there twice"):
        find_cases(tmp_path)


@pytest.mark.parametrize(("et", "fits"), [(3, True), (4, False)])
def test_a_resection_cavity_of_2024_is_no_enhancing_tumour(images, tmp_path, et, fits):
    """From 2023 on ET is 3; the 4 of 2024 is where a tumour was taken out."""
    volumes, label = images
    place = tmp_path / "BraTS-GLI-00005-100"
    place.mkdir()
    sitk.WriteImage(volumes["T2"], str(place / f"{place.name}-t2w.nii.gz"))
    sitk.WriteImage(recoded(label, {"NCR": 1, "ED": 2, "ET": et}), str(place / f"{place.name}-seg.nii.gz"))
    (case,) = find_cases(tmp_path)
    assert "ET 3" in describe([case])
    if fits:
        assert np.count_nonzero(cached(case, Preprocessing(), tmp_path / "cache").labels == LABELS["ET"]) > 0
        return
    with pytest.raises(InputError, match=r"holds label 4, which is none of NCR 1, ED 2, ET 3"):
        cached(case, Preprocessing(), tmp_path / "cache")


def test_cases_of_the_childrens_challenge_are_refused(images, tmp_path):
    volumes, label = images
    place = tmp_path / "BraTS-PED-00005-000"
    place.mkdir()
    sitk.WriteImage(volumes["T2"], str(place / f"{place.name}-t2w.nii.gz"))
    sitk.WriteImage(label, str(place / f"{place.name}-seg.nii.gz"))
    with pytest.raises(InputError, match="children's challenge"):
        find_cases(tmp_path)


def test_labels_that_lie_elsewhere_are_refused(brats, tmp_path):
    case = find_cases(brats)[0]
    label = sitk.ReadImage(str(case.label))
    label.SetOrigin((1000.0, 0.0, 0.0))
    some = sitk.GetArrayFromImage(label)
    some[0, 0, :40] = 2  # outside the brain
    sitk.WriteImage(like(some, sitk.ReadImage(str(case.label))), str(tmp_path / "some.nii.gz"))
    warnings = cached(replace(case, label=tmp_path / "some.nii.gz"), Preprocessing(), tmp_path / "cache").warnings
    assert any("of its labels lie outside the images' brain and do not count" in warning for warning in warnings)
    assert cached(case, Preprocessing(), tmp_path / "cache").warnings == []
    sitk.WriteImage(label, str(tmp_path / "far.nii.gz"))
    with pytest.raises(InputError, match="lie elsewhere than the images"):
        cached(replace(case, label=tmp_path / "far.nii.gz"), Preprocessing(), tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: np.where(np.arange(a.shape[1])[:, None] < 3, 2, a), r"\d\d% of its labels lie elsewhere"),
        (lambda a: a * np.float32(0.7), "not whole numbers"),
        (lambda a: np.stack([a, a]), "has 4 dimensions; give one 3-D volume per file"),
    ],
)
def test_labels_that_are_none_are_refused(brats, tmp_path, change, words):
    case = find_cases(brats)[0]
    label = sitk.ReadImage(str(case.label))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(label)), isVector=False)
    if changed.GetDimension() == 3:
        changed.CopyInformation(label)
    sitk.WriteImage(changed, str(tmp_path / "label.nii.gz"))
    with pytest.raises(InputError, match=words):
        cached(replace(case, label=tmp_path / "label.nii.gz"), Preprocessing(), tmp_path / "cache")


@pytest.mark.parametrize("radius", [1, 3])
def test_a_small_lesion_drawn_finely_is_not_called_misplaced(brats, tmp_path, radius):
    """On a finer grid than the images', few or none of the working grid's voxels may fall into it."""
    case = find_cases(brats)[0]
    label = sitk.ReadImage(str(case.label))
    fine = sitk.Expand(label, [3, 3, 3], sitk.sitkNearestNeighbor) * 0
    z, y, x = np.indices(fine.GetSize()[::-1])
    middle = [n // 2 for n in fine.GetSize()[::-1]]
    ball = sum((axis - m) ** 2 for axis, m in zip((z, y, x), middle, strict=True)) <= radius**2
    drawn = sitk.GetImageFromArray(ball.astype(np.uint8))
    drawn.CopyInformation(fine)
    sitk.WriteImage(drawn, str(tmp_path / "fine.nii.gz"))
    assert cached(replace(case, label=tmp_path / "fine.nii.gz"), Preprocessing(), tmp_path / "cache").labels.ndim == 3


def test_labels_a_program_stored_scaled_are_read_as_meant(brats, tmp_path):
    """Otherwise 1.992, nibabel's rounding of 2, would be cut to 1: oedema taken for necrosis."""
    case = find_cases(brats)[0]
    label = sitk.ReadImage(str(case.label))
    changed = sitk.GetArrayFromImage(label) * np.float32(0.996)
    image = sitk.GetImageFromArray(changed)
    image.CopyInformation(label)
    sitk.WriteImage(image, str(tmp_path / "scaled.nii.gz"))
    read = cached(replace(case, label=tmp_path / "scaled.nii.gz"), Preprocessing(), tmp_path / "cache").labels
    assert np.array_equal(read, cached(case, Preprocessing(), tmp_path / "cache").labels) and {2, 4} <= {
        *np.unique(read)
    }


def test_a_case_that_may_be_unsuited_is_told(brats, tmp_path):
    case = find_cases(brats)[0]
    t1 = sitk.ReadImage(str(case.files["T1"].path))
    values = sitk.GetArrayFromImage(t1)
    noisy = values + np.random.default_rng(0).integers(1, 9, values.shape)
    half = np.where(np.arange(len(values))[:, None, None] < 0.55 * len(values), 0, values)
    changed = {}
    for name, array in (("noisy", noisy), ("half", half)):
        image = sitk.GetImageFromArray(array.astype(np.int16))
        image.CopyInformation(t1)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
        changed[name] = replace(case, files={**case.files, "T1": Channel(tmp_path / f"{name}.nii.gz")})
    told = []
    prepared_cases([*changed.values()], Preprocessing(), tmp_path / "cache", skip_bad=False, echo=told.append)
    assert len(told) == 2 and all(case.name in line for line in told)
    assert "T1 may show the skull" in told[0] and "T1 covers only" in told[1]


def test_a_thousand_cases_do_not_hold_a_thousand_files(brats, tmp_path):
    """Also: what is sent to a loader's process is a name, not the voxels."""
    case = cached(find_cases(brats)[0], Preprocessing(), tmp_path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    many = [replace(case, name=str(i)) for i in range(50)]
    assert all(one.labels.any() and one.images.any() and one.foreground.any() for one in many)
    assert (len(os.listdir("/proc/self/fd")) if before else 0) <= before + 2
    assert len(pickle.dumps(case)) < 2000


@pytest.mark.parametrize(
    ("name", "of"),
    [("BraTS-GLI-00005-100", "BraTS-GLI-00005"), ("site1-000", "site1-000"), ("BraTS2021_00005", "BraTS2021_00005")],
)
def test_only_brats_names_end_in_a_time_point(name, of):
    assert patient(name) == of


def test_channels_that_are_named_anew_are_prepared_anew(brats, tmp_path):
    case = find_cases(brats)[0]
    first = cached(case, Preprocessing(), tmp_path)
    swapped = replace(case, files={**case.files, "T1": case.files["T2"], "T2": case.files["T1"]})
    assert np.array_equal(cached(swapped, Preprocessing(), tmp_path).images[[0, 2]], first.images[[2, 0]])


def test_a_case_is_the_same_however_its_folder_is_called(phantoms, monkeypatch):
    monkeypatch.chdir(phantoms.parent)  # or it would be prepared anew for every way of writing it
    assert find_cases(phantoms.name) == find_cases(phantoms)
