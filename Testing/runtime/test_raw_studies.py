"""Studies as the scanner made them: with skull, thick slices, a patient who moved; and what is no head at all."""

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from dicom import write_series
from lckd import brain, registration
from lckd.anatomy import MODALITIES
from lckd.conditioning import MAY_SHOW_SKULL, condition, describe
from lckd.errors import InputError
from lckd.preprocessing import find_foreground, head_mask, like, same_grid
from lckd.registration import align
from lckd.segment import Request, segment
from lckd.studies import choose_study
from lckd.volumes import find_volumes, volume_file

needs_deepbet = pytest.mark.skipif(not brain.installed(), reason=brain.HOW_TO_GET)
RAW = {"T1": "T1_AX", "T1ce": "MRHR_T1_AX_POST_GAD", "T2": "MRHR_T2_AX", "FLAIR": "MRHR_FLAIR_AX"}
HD_BET = {"T1": "t1", "T1ce": "t1c", "T2": "t2", "FLAIR": "fla"}


@pytest.fixture
def raw(data):
    """Call with a modality for the raw study's file of it."""
    return lambda name: data / "raw" / "TCGA-FG-6692" / f"{RAW[name]}.nii.gz"


@pytest.fixture
def images(sequence):
    """The phantom's four sequences as images, as large as a head: skulls and slabs are told by millimetres."""
    read = {name: volume_file(sequence(name)).read() for name in MODALITIES}
    for image in read.values():
        image.SetSpacing([1.4] * 3)
    return read


def moved(image: sitk.Image, motion: sitk.Transform, slices_mm: float) -> sitk.Image:
    """The image of a patient who has moved, on a grid of thick axial slices."""
    size, spacing = list(image.GetSize()), list(image.GetSpacing())
    size[2], spacing[2] = round(size[2] * spacing[2] / slices_mm), slices_mm
    smooth = sitk.SmoothingRecursiveGaussian(image, [0.5, 0.5, slices_mm / 2.4])
    return sitk.Resample(
        smooth, size, motion, sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection(), 0.0, sitk.sitkFloat32
    )


def with_skull(image: sitk.Image) -> sitk.Image:
    """A phantom brain in a bright shell, noise in the air."""
    inside = like(find_foreground(image)[0].astype(np.uint8), image)
    closed = sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(inside, [3, 3, 3]))
    shell = sitk.GetArrayFromImage(sitk.BinaryDilate(closed, [4, 4, 4]) - sitk.BinaryDilate(closed, [2, 2, 2]))
    array = sitk.GetArrayFromImage(image)
    noise = np.abs(np.random.default_rng(0).normal(0, 0.02 * array.max(), array.shape))
    return like((array + noise + 1.2 * array.max() * shell).astype(np.float32), image)


MOTION = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.1, -0.05, 0.12, (7.0, -6.0, 4.0))


def test_registration_finds_a_known_motion(images):
    centre = images["T1ce"].TransformContinuousIndexToPhysicalPoint([n / 2 for n in images["T1ce"].GetSize()])
    motion = sitk.Euler3DTransform(MOTION)
    motion.SetCenter(centre)
    found = align(images["T1ce"], moved(images["FLAIR"], motion, 4.0))
    both = sitk.CompositeTransform([motion, found.transform])
    assert registration.displacement(motion, head_points(images["T1ce"])) > 8
    assert registration.displacement(both, head_points(images["T1ce"])) < 1
    assert found.offset_mm > 8


def head_points(image: sitk.Image) -> np.ndarray:
    inside = np.argwhere(find_foreground(image)[0])[::2000, ::-1].tolist()
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in inside])


def test_registration_is_deterministic(images):
    thick = moved(images["T2"], MOTION, 4.0)
    first, second = (align(images["T1ce"], thick).transform.GetParameters() for _ in range(2))
    assert first == second


def test_volumes_that_lie_on_each_other_are_not_moved(images):
    done = condition(images, "T1ce", "auto", "auto")
    assert done.transforms == {} and done.brain is None and done.warnings == []


def test_registration_that_moves_a_head_too_far_is_refused(images, monkeypatch):
    monkeypatch.setattr(registration, "FARTHEST", 2.0)
    done = condition({"T1ce": images["T1ce"], "T2": moved(images["T2"], MOTION, 4.0)}, "T1ce", "auto", "auto")
    assert done.transforms == {}
    assert "T2 was left where it lies: registration would move it by" in done.warnings[0]


def test_never_means_never(images):
    thick = moved(images["T2"], MOTION, 4.0)
    done = condition({"T1ce": with_skull(images["T1ce"]), "T2": thick}, "T1ce", "never", "never")
    assert done.alignments == {} and done.brain is None
    assert done.warnings[0].startswith("T1ce") and "shows the skull" in done.warnings[0]


def test_a_volume_that_cannot_be_lined_up_does_not_give_the_brain(images, monkeypatch):
    """It would cut the others where its header says that it lies."""
    heads = {name: with_skull(images[name]) for name in ("T1", "T1ce", "FLAIR")}
    far = heads["T1"]
    far.SetOrigin([o + 90 for o in far.GetOrigin()])
    monkeypatch.setattr(brain, "installed", lambda: True)
    monkeypatch.setattr(brain, "extract", lambda image, name: head_mask(images[name]))
    done = condition(heads, "T1ce", "auto", "auto")
    assert done.alignments["T1"].refused
    assert brain.millilitres(done.brain) == pytest.approx(brain.millilitres(head_mask(images["T1ce"])), rel=0.01)


def test_a_brain_that_lies_elsewhere_does_not_blank_the_study(images):
    """Nothing was to be lined up, and the one volume without skull lies beside the others."""
    far = sitk.Image(images["T1"])
    far.SetOrigin([o + 300 for o in far.GetOrigin()])
    near = {"T1ce": with_skull(images["T1ce"]), "T1": far, "FLAIR": images["FLAIR"]}
    done = condition(near, "T1ce", "never", "auto")
    assert any("T1 lies elsewhere than T1ce: the brain is not taken from it" in words for words in done.warnings)
    assert "the brain is that of FLAIR, which has no skull" in done.steps
    assert brain.millilitres(done.brain) == pytest.approx(brain.millilitres(head_mask(images["FLAIR"])), rel=0.01)


def test_a_head_that_lies_elsewhere_does_not_give_the_brain(images, monkeypatch):
    """Though it is the one best suited."""
    far = with_skull(images["T1"])
    far.SetOrigin([o + 300 for o in far.GetOrigin()])
    heads = {"T1ce": with_skull(images["T1ce"]), "T1": far}
    masks = {name: head_mask(images[name]) for name in heads}
    masks["T1"].SetOrigin(far.GetOrigin())
    monkeypatch.setattr(brain, "installed", lambda: True)
    monkeypatch.setattr(brain, "extract", lambda image, name: masks[name])
    done = condition(heads, "T1ce", "never", "auto")
    assert any("T1 lies elsewhere than T1ce" in words for words in done.warnings)
    assert any(words.startswith("T1ce: brain found by deepbet") for words in done.steps)
    assert brain.millilitres(done.brain) == pytest.approx(brain.millilitres(masks["T1ce"]), rel=0.01)


def test_a_far_volume_that_was_moved_is_told(images):
    far = moved(images["T2"], MOTION, 1.4)
    far.SetOrigin([o + 15 for o in far.GetOrigin()])
    done = condition({"T1ce": images["T1ce"], "T2": far}, "T1ce", "auto", "auto")
    assert any("mm off T1ce and was moved; compare them by eye" in words for words in done.warnings)


def test_a_brain_cut_by_the_references_field_of_view_is_said(images, monkeypatch):
    heads = {"T1ce": with_skull(images["T1ce"])[:, :, 20:65], "T1": with_skull(images["T1"])}
    monkeypatch.setattr(brain, "installed", lambda: True)
    monkeypatch.setattr(brain, "extract", lambda image, name: head_mask(images[name]))
    done = condition(heads, "T1ce", "never", "auto")
    assert any("of the brain in T1 lies outside T1ce" in warning for warning in done.warnings)


def test_part_of_a_head_in_empty_air_may_show_the_skull(images):
    part = images["T1ce"][:, :, 20:65]  # 63 mm, cut above and below, little enough to be a brain
    assert any(MAY_SHOW_SKULL in warning for warning in condition({"T1ce": part}, "T1ce", "auto", "auto").warnings)
    assert condition({"T1ce": images["T1ce"]}, "T1ce", "auto", "auto").warnings == []


def test_prepared_study_passes_bit_for_bit(phantom, tmp_path):
    results = []
    for choice in ("auto", "never"):
        out = tmp_path / f"{choice}.nii.gz"
        segment(Request([phantom], out, device="cpu", register=choice, brain=choice))
        results.append(sitk.GetArrayFromImage(sitk.ReadImage(str(out))))
    assert np.array_equal(*results)


def test_real_prepared_study_is_left_alone(brats_case):
    study = choose_study(find_volumes([brats_case("Brats18_CBICA_AME_1")]), {})
    done = condition({name: volume.read() for name, volume in study.volumes.items()}, "T1ce", "auto", "auto")
    assert done.transforms == {} and done.brain is None and done.warnings == []


def test_skull_without_brain_extraction_is_refused_with_the_mend(images, monkeypatch):
    monkeypatch.setattr(brain, "installed", lambda: False)
    with pytest.raises(InputError, match=r"skull.*pip install --no-deps deepbet.*--brain never"):
        condition({"T1": with_skull(images["T1"])}, "T1", "auto", "auto")


def test_brain_is_carried_from_a_volume_without_skull(images):
    done = condition({"T1": with_skull(images["T1"]), "T2": images["T2"]}, "T1", "auto", "auto")
    assert dice(done.brain, like(find_foreground(images["T2"])[0].astype(np.uint8), images["T2"])) > 0.98


@pytest.mark.parametrize("what", ["part of a head", "a drawing"])
def test_what_may_be_no_brain_gives_none(images, monkeypatch, what):
    """It would cut the others to a slab, leave them their skull, or cut them to a tumour."""
    head, brain_of = with_skull(images["T1"]), head_mask(images["T1"])
    t2 = images["T2"][:, :, 20:65]
    if what == "a drawing":
        tumour = np.zeros(images["T2"].GetSize()[::-1], np.float32)
        tumour[40:60, 40:60, 40:60] = np.random.default_rng(0).uniform(50, 100, (20, 20, 20))
        t2 = like(tumour, images["T2"])
    monkeypatch.setattr(brain, "installed", lambda: True)
    monkeypatch.setattr(brain, "extract", lambda image, name: brain_of)
    done = condition({"T1": head, "T2": t2}, "T1", "never", "auto")
    assert any("T1: brain found by deepbet" in step for step in done.steps)
    assert dice(done.brain, brain_of) > 0.99
    monkeypatch.setattr(brain, "installed", lambda: False)
    with pytest.raises(InputError, match="T1 shows the skull"):
        condition({"T2": t2, "T1": head}, "T1", "never", "auto")


def dice(one: sitk.Image, other: sitk.Image) -> float:
    a, b = (sitk.GetArrayViewFromImage(image) > 0 for image in (one, other))
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@needs_deepbet
@pytest.mark.parametrize("names", [("T1", "T1ce", "T2", "FLAIR"), ("T1ce", "FLAIR")])
def test_raw_study_brain_agrees_with_hd_bet(raw, data, names):
    done = condition({name: volume_file(raw(name)).read() for name in names}, "T1ce", "auto", "auto")
    for name in names:
        mask = sitk.ReadImage(str(raw(name).parent / "hd-bet" / f"brain_mask_{HD_BET[name]}.nii.gz"), sitk.sitkFloat32)
        on_reference = sitk.Resample(mask, done.brain, done.transforms.get(name, sitk.Transform()), sitk.sitkLinear)
        # The other masks were drawn on other slices: they also show that the volumes now lie on each other.
        assert dice(done.brain, sitk.Cast(on_reference > 0.5, sitk.sitkUInt8)) > (0.97 if name == "T1ce" else 0.93)


@needs_deepbet
def test_dicom_exam_of_a_raw_study_works_as_it_is(raw, tmp_path):
    """Localizer, diffusion, T1 before contrast and two after it, FLAIR: all in one folder."""
    uid, exam = generate_uid(), tmp_path / "exam"
    series = {name: sitk.ReadImage(str(raw(name)), sitk.sitkFloat32) for name in RAW}
    write_series(series["T2"][:, :, 10:13], exam, "localizer", 1, uid)
    write_series(series["FLAIR"], exam, "AX FLAIR", 2, uid)
    write_series(series["T2"], exam, "ep2d_diff_tra ADC", 3, uid, ImageType=["DERIVED", "PRIMARY", "ADC"])
    write_series(series["T1ce"][:, :, 6:20], exam, "AX T1 +C slab", 4, uid)
    write_series(series["T1ce"], exam, "AX T1 +C", 5, uid)
    report = segment(Request([exam], tmp_path / "out.nii.gz", device="cpu"))
    assert {name: entry["volume"] for name, entry in report["inputs"].items()} == {
        "T1ce": "AX T1 +C", "FLAIR": "AX FLAIR",
    }  # fmt: skip
    assert any("AX T1 +C slab" in warning and "only part of the brain" in warning for warning in report["warnings"])
    assert report["alignment"]["FLAIR"]["offset_mm"] > 5
    assert any("brain found by deepbet" in step for step in report["preprocessing"])
    reference = choose_study(find_volumes([exam]), {}).volumes["T1ce"].read()
    assert same_grid(sitk.ReadImage(str(tmp_path / "out.nii.gz")), reference)
    assert 5 < report["volumes_ml"]["WT"] < 150


def test_description_is_a_radiographers(images, raw):
    assert describe(images["T1"]) == "without skull, 1.4 mm 3-D"
    assert describe(volume_file(raw("T2")).read()) == "with skull, 5.5 mm axial"


def heads(case: str) -> sitk.Image:
    """Things that are not one head, 1.6 mm."""
    z, y, x = (np.mgrid[:120, :140, :140] - np.array([60, 70, 70])[:, None, None, None]) * 1.6
    inside = {
        "bottle": 300.0 * ((x**2 + y**2 < 70**2) & (abs(z) < 85)),
        "knee": np.where(x**2 + y**2 < 65**2, np.where(x**2 + (y - 5) ** 2 < 25**2, 400.0, 120.0), 0.0),
        "ct": np.where(x**2 + y**2 + z**2 < 85**2, 40.0, -1000.0),
        "two heads": 300.0 * (((abs(x) - 60) ** 2 + y**2 + z**2) < 50**2),
        "slab": np.where(x**2 + y**2 < 70**2, 300.0, 0.0),
    }[case]
    noise = np.random.default_rng(0).normal(0, 8, inside.shape)
    image = sitk.GetImageFromArray((inside + noise).astype(np.float32))
    image.SetSpacing((1.6, 1.6, 1.6))
    return image[:, :, 50:70] if case == "slab" else image


@pytest.mark.parametrize(
    ("case", "words"),
    [("ct", "Hounsfield"), ("two heads", "two heads"), ("slab", "covers only 32 mm")],
)
def test_what_is_no_head_is_refused(case, words):
    with pytest.raises(InputError, match=words):
        condition({"T1": heads(case)}, "T1", "auto", "never")


@needs_deepbet
def test_what_holds_no_brain_is_refused_or_told():
    with pytest.raises(InputError, match=r"no head around|no brain"):
        condition({"T1": heads("knee")}, "T1", "auto", "auto")
    assert any("unusual" in words for words in condition({"T1": heads("bottle")}, "T1", "auto", "auto").warnings)


@needs_deepbet
def test_half_a_head_is_told(raw):
    image = volume_file(raw("T1")).read()[:128]
    done = condition({"T1": image}, "T1", "auto", "auto")
    assert any("field of view cuts through the brain" in warning for warning in done.warnings)
