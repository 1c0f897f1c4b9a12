"""Volumes as people have them: cut off, of another patient, named twice, scored, resampled by splines, with spikes."""

import numpy as np
import pytest
import SimpleITK as sitk

from lckd.anatomy import MODALITIES
from lckd.conditioning import SAME_BRAIN, condition, refuse_other_things
from lckd.errors import InputError
from lckd.preprocessing import Preprocessing, coarse, find_foreground, like, prepare
from lckd.registration import align, shared_information
from lckd.studies import choose_study
from lckd.volumes import volume_file


@pytest.fixture
def images(sequence):
    """The phantom's four sequences as images."""
    return {name: volume_file(sequence(name)).read() for name in MODALITIES}


def changed(image: sitk.Image, change) -> sitk.Image:
    """The image with another array (z, y, x) of values."""
    return like(np.asarray(change(sitk.GetArrayFromImage(image)), np.float32), image)


def blank(axis: int, part: slice):
    """A change that leaves nothing of the head in a part of an axis (z, y or x), of which it is cut at the head."""

    def change(values):
        lines = np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis)))
        values = np.moveaxis(values.copy(), axis, 0)
        values[lines[part]] = 0
        return np.moveaxis(values, 0, axis)

    return change


@pytest.mark.parametrize(
    ("axis", "part", "end"),
    [
        (0, slice(-18, None), "uppermost"),
        (1, slice(0, 20), "foremost"),
        (1, slice(-20, None), "hindmost"),
        (2, slice(0, 18), "rightmost"),
        (2, slice(-18, None), "leftmost"),
    ],
)
def test_a_volume_that_ends_before_the_head_is_told(images, axis, part, end):
    images["FLAIR"] = changed(images["FLAIR"], blank(axis, part))
    (warning,) = prepare(images, "T1ce", Preprocessing()).warnings
    assert warning.startswith(f"FLAIR lacks the {end}") and warning.endswith("mm of the head of T1ce")
    assert 10 <= int(warning.split()[4]) <= 30


@pytest.mark.parametrize("slices", [1, 3])
def test_a_volume_of_few_thick_slices_can_be_made_coarse(slices):
    image = sitk.Image([60, 60, slices], sitk.sitkFloat32)
    image.SetSpacing((1.0, 1.0, 0.5))
    assert coarse(image, 4.0).GetSize() == (15, 15, 1)


def test_whole_volumes_end_nowhere(images):
    images["T2"] = changed(images["T2"], blank(0, slice(-3, None)))  # 4 mm: a slice
    assert prepare(images, "T1ce", Preprocessing()).warnings == []


def test_a_reference_that_ends_before_the_head_is_told(images):
    lines = np.flatnonzero(sitk.GetArrayFromImage(images["T1ce"]).any(axis=(1, 2)))
    cut = {**images, "T1ce": images["T1ce"][:, :, : int(lines[-1]) - 14]}
    warnings = prepare(cut, "T1ce", Preprocessing()).warnings
    assert sum("of the head in" in words and "lies outside T1ce" in words for words in warnings) == 3


@pytest.mark.parametrize("register", ["auto", "never"])
def test_another_head_is_told(images, register):
    """Phantoms are all made of one brain; upside down it is another."""
    other = changed(images["FLAIR"], lambda values: values[::-1])
    warnings = condition({"T1ce": images["T1ce"], "FLAIR": other}, "T1ce", register, "auto").warnings
    assert any("FLAIR has little in common with T1ce: it may be of another patient" in words for words in warnings)


def test_another_patients_volume_is_told(brats_case):
    """Of two real patients; many such pairs have more in common than that, so silence proves nothing."""
    one, other = (brats_case(name) for name in ("BraTS2021_01657", "BraTS2021_00006"))
    ours = {name: volume_file(one / f"{one.name}_{name.lower()}.nii.gz").read() for name in ("T1ce", "FLAIR")}
    assert condition(ours, "T1ce", "auto", "auto").warnings == []
    ours["FLAIR"] = volume_file(other / f"{other.name}_flair.nii.gz").read()
    (warning,) = condition(ours, "T1ce", "auto", "auto").warnings
    assert warning.startswith("FLAIR has little in common with T1ce")


def test_one_patients_volumes_have_much_in_common(images):
    for name in ("T1", "T2", "FLAIR"):
        noisy = sitk.AdditiveGaussianNoise(images[name], 0.05 * float(sitk.GetArrayViewFromImage(images[name]).max()))
        for image in (images[name], noisy):
            assert shared_information(images["T1ce"], image, None) > SAME_BRAIN + 0.02
    far = sitk.Image(images["T2"])
    far.SetOrigin((900.0, 0.0, 0.0))
    assert np.isnan(shared_information(images["T1ce"], far, None))


def test_one_image_under_two_names_is_refused(sequence, tmp_path):
    sitk.WriteImage(sitk.ReadImage(str(sequence("T1"))), str(tmp_path / "t1ce.nii.gz"))
    study = choose_study([], {"T1": sequence("T1"), "T1ce": tmp_path / "t1ce.nii.gz"})
    with pytest.raises(InputError, match=r"\(T1\) and .*t1ce.* \(T1ce\) hold the same image; leave out"):
        study.compare_with(study.read())


def spikes(values):
    """A few voxels that overflowed."""
    inside = np.argwhere(values > 0)
    values = values.copy()
    for place in inside[np.random.default_rng(int(values.sum()) % 97).integers(len(inside), size=20)]:
        values[tuple(place)] = 1e6
    return values


def z_scores(values):
    """With their background at 0, in the middle of the brain's values."""
    brain = values > 0
    return np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0)


@pytest.mark.parametrize("change", [spikes, z_scores])
def test_odd_intensities_do_not_move_what_is_lined_up(images, change):
    odd = {name: changed(image, change) for name, image in images.items()}
    for name in ("T1", "T2", "FLAIR"):
        found = align(odd["T1ce"], odd[name])
        assert found.transform is None and not found.refused, name


def test_a_brain_resampled_by_splines_is_a_brain_still(images):
    image = images["T1"]
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.2, 0.1, 0.15)
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in image.GetSize()]))
    for interpolator in (sitk.sitkLinear, sitk.sitkBSpline):
        mask, stripped = find_foreground(sitk.Resample(image, image, turn, interpolator, 0.0, sitk.sitkFloat32))
        assert stripped
        assert mask.sum() == pytest.approx(find_foreground(image)[0].sum(), rel=0.15)


def test_a_painted_background_is_no_computed_tomogram(images):
    painted = changed(images["T1ce"], lambda values: np.where(values > 0, values, -1024))
    refuse_other_things(painted, "T1ce")
    air = np.random.default_rng(0).normal(-1000, 20, sitk.GetArrayViewFromImage(painted).shape)
    with pytest.raises(InputError, match="Hounsfield"):
        refuse_other_things(changed(painted, lambda values: np.where(values < 0, air, values)), "T1ce")
    with pytest.raises(InputError, match="Hounsfield"):  # padded, and with fat beside water
        refuse_other_things(
            changed(painted, lambda values: np.where(values > 0, values - values.max() / 2, values)), "T1ce"
        )


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR"])
def test_what_is_only_turned_is_not_called_resampled(code):
    size, mm = (40, 44, 36), sitk.Euler3DTransform()
    image = sitk.Resample(sitk.GaussianSource(sitk.sitkFloat32, size, [9.0] * 3, [20.0] * 3), mm)
    image = changed(image, lambda values: np.where(values > 20, values, 0))
    turned = sitk.DICOMOrient(image, code)
    assert prepare({"T1": image, "T2": turned}, "T1", Preprocessing()).steps == []
    assert prepare({"T1": turned, "T2": image}, "T1", Preprocessing()).steps == []
