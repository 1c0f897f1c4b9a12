"""The whole path: any subset in, labels, segmentation, report and picture out, on the reference's own grid."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
import torch
from overlap import dice
from PIL import Image

import lckd.segment as segment_module
from command import lckd
from lckd import inference
from lckd.anatomy import LABELS, MODALITIES, STRUCTURES, subset_name, subsets
from lckd.errors import Cancelled, InputError
from lckd.model_folder import load_model
from lckd.preprocessing import same_grid
from lckd.report import cost_sentences, expectation
from lckd.segment import Request, segment

HELD_OUT = "Brats18_2013_11_1"
"""A real case that the bundled model was not trained on; a test makes sure of it."""


def labels_of(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def run(inputs: dict[str, Path], output: Path, **options) -> dict:
    return segment(Request([], output, inputs, device="cpu", **options))


def test_the_real_case_was_held_out():
    card = load_model(None).card
    assert HELD_OUT in card["election"]["validation_cases"]


@pytest.mark.parametrize("subset", subsets(), ids=subset_name)
def test_every_subset_of_a_phantom(sequence, tmp_path, subset):
    report = run({name: sequence(name) for name in subset}, tmp_path / "out.nii.gz")
    assert report["expected_dice"] == load_model(None).card["expected_dice"][subset_name(subset)]
    assert [m["modality"] for m in report["missing"]] == [m for m in MODALITIES if m not in subset]


@pytest.mark.parametrize("subset", [("T1",), ("FLAIR",), ("T1ce", "T2"), MODALITIES], ids=subset_name)
def test_subsets_of_a_real_case(brats_case, tmp_path, subset):
    folder = brats_case(HELD_OUT)
    files = {name: folder / f"{HELD_OUT}_{name.lower()}.nii.gz" for name in subset}
    report = run(files, tmp_path / "out.nii.gz")
    found, truth = labels_of(tmp_path / "out.nii.gz"), labels_of(folder / f"{HELD_OUT}_seg.nii.gz")
    assert found.shape == truth.shape
    assert set(np.unique(found)) <= {0, *LABELS.values()}
    assert found.any()
    assert [m["modality"] for m in report["missing"]] == [m for m in MODALITIES if m not in subset]
    if len(subset) == 4:
        assert dice(found > 0, truth > 0) >= 0.7
        assert dice(np.isin(found, [1, 4]), np.isin(truth, [1, 4])) >= 0.4
        assert (found == LABELS["ET"]).any()


def test_command_writes_everything(phantom, tmp_path):
    """The documented command: a folder in, four files out, exit 0."""
    done = lckd("segment", phantom, "-o", tmp_path / "out.seg.nrrd", "--report", tmp_path / "report.json",
                "--picture", tmp_path / "picture.png", "--probabilities", tmp_path / "probabilities")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Research use only" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["inputs"]) == set(MODALITIES) and report["missing"] == []
    assert set(report["volumes_ml"]) == set(STRUCTURES)
    assert report["model"]["sha256"] == load_model(None).card["weights_sha256"]
    assert set(report["seconds"]) == {"load", "read", "align", "prepare", "segment", "write"}
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 1200
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 500
    percent = labels_of(tmp_path / "probabilities" / "WT.nii.gz")
    labels = labels_of(tmp_path / "out.seg.nrrd")
    assert percent.max() <= 100
    assert ((percent > 50) <= (labels > 0)).all()


def test_segmentation_opens_as_segments(phantom, sequence, tmp_path):
    """slicerio, Slicer's own reader of .seg.nrrd for Python, finds names, colours and codes."""
    run({"FLAIR": sequence("FLAIR")}, tmp_path / "out.seg.nrrd")
    read = slicerio.read_segmentation(str(tmp_path / "out.seg.nrrd"))
    assert [s["name"] for s in read["segments"]] == [STRUCTURES[n].title for n in LABELS]
    assert [s["labelValue"] for s in read["segments"]] == list(LABELS.values())
    for segment_, name in zip(read["segments"], LABELS, strict=True):
        code = STRUCTURES[name].type
        assert segment_["terminology"]["type"] == [code.scheme, code.value, code.meaning]
        assert np.allclose(segment_["color"], np.array(STRUCTURES[name].colour) / 255, atol=1e-5)
    image = sitk.ReadImage(str(sequence("FLAIR")))
    assert same_grid(sitk.ReadImage(str(tmp_path / "out.seg.nrrd")), image)


def test_labels_2023(sequence, tmp_path):
    run({"T1ce": sequence("T1ce")}, tmp_path / "a.nii.gz")
    run({"T1ce": sequence("T1ce")}, tmp_path / "b.nii.gz", labels="brats2023")
    a, b = labels_of(tmp_path / "a.nii.gz"), labels_of(tmp_path / "b.nii.gz")
    assert 4 in a and 4 not in b
    assert ((a == 4) == (b == 3)).all()


def test_missing_teacher_is_said(sequence, tmp_path):
    model = load_model(None)
    done = lckd("segment", "--t2", sequence("T2"), "-o", tmp_path / "out.nii.gz", "--report", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert expectation(("T2",), model) in done.stdout
    taught = {m["modality"]: m["teaches"] for m in report["missing"]}
    assert taught == {m: [r for r, t in model.teachers.items() if t == m] for m in ("T1", "T1ce", "FLAIR")}
    words = " ".join(report["expectation"])
    for region in taught["T1ce"]:
        here, complete = (model.expected_dice(s)[region]["mean"] for s in (("T2",), MODALITIES))
        assert f"expected {region} Dice {here:.2f} instead of {complete:.2f}" in words


@pytest.mark.parametrize("available", subsets(), ids=subset_name)
def test_what_to_expect_is_said_for_every_subset(available):
    """Every region, with its interval and the number of cases, whichever sequences are missing."""
    model = load_model(None)
    *costs, last = cost_sentences(available, model)
    for region, here in model.expected_dice(available).items():
        assert f"{region} {here['mean']:.2f} ({here['low']:.2f} to {here['high']:.2f})" in last
    assert f"the mean of {model.card['election']['cases']} held-out cases" in last
    assert all(any(name in sentence for sentence in costs) for name in MODALITIES if name not in available)


def test_json_progress(sequence, tmp_path):
    done = lckd("segment", "--flair", sequence("FLAIR"), "-o", tmp_path / "out.nii.gz", "--json-progress")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["stage"] for e in events if e.get("done") == 0] == [
        "load",
        "read",
        "align",
        "prepare",
        "segment",
        "write",
    ]
    assert events[-1]["stage"] == "report" and events[-1]["report"]["missing"]
    windows = [e for e in events if e["stage"] == "segment"]
    assert [e["done"] for e in windows[1:]] == list(range(1, windows[-1]["of"] + 1))


def test_where_it_ran_in_the_end_is_in_the_report(sequence, tmp_path, monkeypatch):
    """A card that runs out of memory and then out of windows: the CPU did it, and the report says so."""
    predict = inference.predict

    def forgetful(network, images, modalities, window, device, progress):
        if device.type != "cpu":
            raise RuntimeError("CUDA out of memory")
        return predict(network, images, modalities, window, device, progress)

    monkeypatch.setattr(segment_module, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(inference, "predict", forgetful)
    report = run({"FLAIR": sequence("FLAIR")}, tmp_path / "out.nii.gz")
    assert report["device"] == "cpu"
    told = [step for step in report["preprocessing"] if "memory ran out on cuda" in step]
    assert "smaller" in told[0] and "went on with the CPU" in told[-1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_cancel_leaves_nothing(sequence, tmp_path, how):
    command = [sys.executable, "-m", "lckd", "segment", sequence("FLAIR"), "-o", tmp_path / "out.nii.gz"]
    process = subprocess.Popen(
        [*command, "--json-progress"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a shell's & ignores it
    )  # fmt: skip
    assert any("prepare" in line for line in process.stdout), process.stderr.read()
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "lckd: cancelled\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def whole_tumour(phantom, tmp_path_factory):
    """Call with a function that changes each image: the WT mask, brought back to the phantom's own grid.

    Its tumour is clear, so that what changes with the grid is the geometry's doing.
    """
    tmp_path = tmp_path_factory.mktemp("changed")
    original = sitk.ReadImage(str(phantom / f"{phantom.name}_flair.nii.gz"))

    def result(change) -> np.ndarray:
        files = {}
        for name in ("T1ce", "FLAIR"):
            path = phantom / f"{phantom.name}_{name.lower()}.nii.gz"
            image = change(sitk.ReadImage(str(path), sitk.sitkFloat32))
            files[name] = tmp_path / f"{name}.nii.gz"
            sitk.WriteImage(image, str(files[name]))
        run(files, tmp_path / "out.nii.gz")
        labels = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
        assert same_grid(labels, sitk.ReadImage(str(files["T1ce"])))
        back = sitk.Resample(sitk.Cast(labels > 0, sitk.sitkFloat32), original, sitk.Transform(), sitk.sitkLinear)
        return sitk.GetArrayFromImage(back) > 0.5

    return result


@pytest.fixture(scope="module")
def plain(whole_tumour) -> np.ndarray:
    return whole_tumour(lambda image: image)


@pytest.mark.parametrize("orientation", ["LAS", "RPI", "PIR"])
def test_stored_orientation_does_not_matter(whole_tumour, plain, orientation):
    turned = whole_tumour(lambda image: sitk.DICOMOrient(image, orientation))
    assert dice(plain, turned) >= 0.95


def test_oblique_anisotropic_grid_with_shifted_origin(whole_tumour, plain):
    def oblique(image):
        turn = sitk.Euler3DTransform()
        centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
        turn.SetRotation(0.15, -0.1, 0.2)
        spacing, size = np.array([0.8, 0.8, 2.0]), np.array([160, 160, 70])
        direction = np.array(turn.GetMatrix()).reshape(3, 3)
        origin = np.array(centre) - direction @ ((size - 1) / 2 * spacing)
        return sitk.Resample(image, size.tolist(), sitk.Transform(), sitk.sitkLinear, origin.tolist(),
                             spacing.tolist(), turn.GetMatrix())  # fmt: skip

    assert dice(plain, whole_tumour(oblique)) >= 0.95


@pytest.fixture(scope="module")
def from_flair(phantom, tmp_path_factory) -> np.ndarray:
    """What the phantom's FLAIR alone gives."""
    out = tmp_path_factory.mktemp("flair") / "out.nii.gz"
    run({"FLAIR": phantom / f"{phantom.name}_flair.nii.gz"}, out)
    return labels_of(out)


@pytest.mark.parametrize("suffix", ["nii", "nrrd", "mha"])
def test_any_format_gives_the_same(sequence, from_flair, tmp_path, suffix):
    sitk.WriteImage(sitk.ReadImage(str(sequence("FLAIR"))), str(tmp_path / f"flair.{suffix}"))
    run({"FLAIR": tmp_path / f"flair.{suffix}"}, tmp_path / "out.nii.gz")
    assert (labels_of(tmp_path / "out.nii.gz") == from_flair).all()


def test_inputs_on_different_grids(sequence, tmp_path):
    """A T1ce with another spacing and field of view is brought to the reference's grid, and the report says so."""
    image = sitk.ReadImage(str(sequence("FLAIR")), sitk.sitkFloat32)
    coarse = sitk.Resample(image, [60, 60, 40], sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [3.0, 3.0, 4.5])
    sitk.WriteImage(coarse, str(tmp_path / "flair.nii.gz"))
    report = run({"T1ce": sequence("T1ce"), "FLAIR": tmp_path / "flair.nii.gz"}, tmp_path / "out.nii.gz")
    assert report["reference"] == "T1ce"
    assert "FLAIR: resampled to the grid of T1ce" in report["preprocessing"]


def test_volume_elsewhere_is_left_out(sequence, tmp_path):
    """A volume that does not overlap the reference counts as missing, in what is computed and in what is said."""
    image = sitk.ReadImage(str(sequence("FLAIR")))
    image.SetOrigin([500.0, 500.0, 500.0])
    sitk.WriteImage(image, str(tmp_path / "flair.nii.gz"))
    report = run({"T1ce": sequence("T1ce"), "FLAIR": tmp_path / "flair.nii.gz"}, tmp_path / "out.nii.gz")
    assert list(report["inputs"]) == ["T1ce"]
    assert [m["modality"] for m in report["missing"]] == ["T1", "T2", "FLAIR"]
    (warning,) = [words for words in report["warnings"] if words.startswith("FLAIR ")]
    assert "FLAIR was left out: it does not overlap T1ce" in warning
    assert not any("FLAIR" in step for step in report["preprocessing"] if "lined up" in step or "registered" in step)
    assert report["alignment"] == {}
    run({"T1ce": sequence("T1ce")}, tmp_path / "alone.nii.gz")
    assert (labels_of(tmp_path / "out.nii.gz") == labels_of(tmp_path / "alone.nii.gz")).all()


def test_reference_that_is_a_slab(sequence, tmp_path):
    slab = sitk.ReadImage(str(sequence("T1ce")))[:, :, 40:56]
    sitk.WriteImage(slab, str(tmp_path / "t1ce.nii.gz"))
    report = run({"T1ce": tmp_path / "t1ce.nii.gz", "FLAIR": sequence("FLAIR")}, tmp_path / "out.nii.gz")
    assert any("lies outside T1ce" in warning for warning in report["warnings"])


def test_negative_intensities_are_a_stripped_brain_all_the_same(sequence, from_flair, tmp_path):
    """Z-scored volumes have their background at 0, in the middle of the brain's values."""
    image = sitk.ReadImage(str(sequence("FLAIR")), sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(image)
    brain = array > 0
    array[brain] = (array[brain] - array[brain].mean()) / array[brain].std()
    scored = sitk.GetImageFromArray(array)
    scored.CopyInformation(image)
    sitk.WriteImage(scored, str(tmp_path / "flair.nii.gz"))
    report = run({"FLAIR": tmp_path / "flair.nii.gz"}, tmp_path / "out.nii.gz")
    assert not any("skull" in warning for warning in report["warnings"])
    assert dice(labels_of(tmp_path / "out.nii.gz") > 0, from_flair > 0) > 0.99


def test_thick_slices_are_told(sequence, tmp_path):
    for name in ("T2", "FLAIR"):
        thick = sitk.BinShrink(sitk.ReadImage(str(sequence(name)), sitk.sitkFloat32), [1, 1, 5])
        sitk.WriteImage(thick, str(tmp_path / f"{name}.nii.gz"))
    given = {"T1ce": sequence("T1ce"), **{name: tmp_path / f"{name}.nii.gz" for name in ("T2", "FLAIR")}}
    report = run(given, tmp_path / "out.nii.gz")
    assert any(words.startswith("slices of 6 mm (T2, FLAIR):") for words in report["warnings"])


def test_inputs_may_stand_on_both_sides_of_an_option(sequence, tmp_path):
    done = lckd(
        "segment", sequence("T1"), "-o", tmp_path / "out.nii.gz", sequence("FLAIR"), "--report", tmp_path / "r.json"
    )
    assert done.returncode == 0, done.stderr
    assert [*json.loads((tmp_path / "r.json").read_text())["inputs"]] == ["T1", "FLAIR"]


def test_a_run_that_cannot_write_leaves_no_folder(sequence, tmp_path, monkeypatch):
    def full(self, image, path):
        raise InputError("no room")

    monkeypatch.setattr(segment_module.Outputs, "image", full)
    with pytest.raises(InputError, match="no room"):
        run({"FLAIR": sequence("FLAIR")}, tmp_path / "out.nii.gz", probabilities=tmp_path / "percent")
    assert list(tmp_path.iterdir()) == []


def test_a_stop_is_not_taken_for_damaged_weights(sequence, tmp_path, monkeypatch):
    """Whatever a library makes of exceptions while it loads."""

    def stopped(*arguments, **options):
        raise Cancelled

    monkeypatch.setattr("safetensors.torch.load_file", stopped)
    with pytest.raises(Cancelled):
        run({"FLAIR": sequence("FLAIR")}, tmp_path / "out.nii.gz")


def test_inputs_are_not_overwritten(sequence, tmp_path):
    with pytest.raises(InputError, match="is an input"):
        run({"FLAIR": sequence("FLAIR")}, sequence("FLAIR"))
    with pytest.raises(InputError, match="another output"):
        run({"FLAIR": sequence("FLAIR")}, tmp_path / "a.nii.gz", report=tmp_path / "a.nii.gz")


def test_enhancing_tumour_without_contrast_medium_is_called_a_guess(sequence, tmp_path):
    report = run({"FLAIR": sequence("FLAIR")}, tmp_path / "out.nii.gz")
    assert any("without T1ce its outline is a guess" in warning for warning in report["warnings"])
