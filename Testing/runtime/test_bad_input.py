"""Every bad input ends in exit status 2 and one clear line, with nothing written."""

import gzip
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from lckd.cli import main
from lckd.model_folder import default_model, sha256

BRAIN = np.pad(np.random.default_rng(0).uniform(50, 100, (20, 20, 20)), 6).astype(np.float32)


def write(array, path, **kwargs):
    sitk.WriteImage(sitk.GetImageFromArray(array, **kwargs), str(path))
    return path


@pytest.fixture
def refused(tmp_path, capsys):
    """Call with inputs and words: the run is refused in one line that has these words, and writes nothing."""

    def check(arguments, *words, output="out/result.nii.gz"):
        (tmp_path / "out").mkdir(exist_ok=True)
        status = main(["segment", *map(str, arguments), "-o", str(tmp_path / output)])
        error = capsys.readouterr().err
        assert status == 2, error
        assert error.startswith("lckd: ") and error.count("\n") == 1, error
        for word in words:
            assert word in error
        assert not list((tmp_path / "out").iterdir())

    return check


def test_no_such_file(refused, tmp_path):
    refused([tmp_path / "t1.nii.gz"], "t1.nii.gz", "no such file")


def test_not_an_image(refused, tmp_path):
    path = tmp_path / "flair.nii"
    path.write_text("not an image at all")
    refused([path], "flair.nii", "cannot be read")


def test_not_a_volume_file(refused, tmp_path):
    path = tmp_path / "flair.txt"
    path.write_text("hello")
    refused([path], "flair.txt", "not a volume file")


def test_truncated_gzip(refused, sequence, tmp_path):
    path = tmp_path / "t2.nii.gz"
    whole = sequence("T2").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused([path], "t2.nii.gz", "too early")


@pytest.mark.parametrize("name", ["case_seg.nii.gz", "case_t1.nii.gz"])
def test_what_lies_in_the_input_folder_is_not_written_over(refused, tmp_path, name):
    """An expert's drawing, say, which no option names as an input."""
    (tmp_path / "case").mkdir()
    for file in ("case_seg.nii.gz", "case_t1.nii.gz"):
        write(BRAIN, tmp_path / "case" / file)
    before = (tmp_path / "case" / name).read_bytes()
    refused([tmp_path / "case"], name, "is there already", output=f"case/{name}")
    assert (tmp_path / "case" / name).read_bytes() == before


def test_images_beside_a_series_given_by_number_are_not_written_over(refused, tmp_path):
    """Nor a DICOM slice by a report."""
    (tmp_path / "exam").mkdir()
    write(BRAIN, tmp_path / "exam" / "case_seg.nii.gz")
    (tmp_path / "exam" / "01.dcm").write_bytes(b"a slice")
    given = ["--flair", f"{tmp_path / 'exam'}#2"]
    refused(given, "is there already", output="exam/case_seg.nii.gz")
    refused([*given, "--report", tmp_path / "exam" / "01.dcm"], "is there already")
    assert (tmp_path / "exam" / "01.dcm").read_bytes() == b"a slice"


def test_an_input_under_another_name_is_not_written_over(refused, tmp_path):
    path = write(BRAIN, tmp_path / "flair.nii.gz")
    (tmp_path / "same.nii.gz").hardlink_to(path)
    refused([path], "is an input", output="same.nii.gz")


def test_one_wrong_bit_in_a_compressed_file(refused, tmp_path, sequence):
    """Unpacked it may well have the right length: its checksum tells."""
    path = tmp_path / "t2.nii.gz"
    data = bytearray(gzip.compress(gzip.decompress(sequence("T2").read_bytes())))
    data[-6] ^= 1
    path.write_bytes(data)
    refused([path], "t2.nii.gz", "not a valid gzip file")


def test_truncated_without_compression(refused, tmp_path):
    path = write(BRAIN, tmp_path / "t2.nii")
    path.write_bytes(path.read_bytes()[:5000])
    refused([path], "t2.nii", "too early")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_last_voxel_is_looked_at_too(refused, tmp_path, kind):
    """Of an odd number, in a file read in blocks."""
    array = np.pad(np.random.default_rng(0).uniform(50, 100, (21, 21, 21)), 6).astype(kind)
    array[-1, -1, -1] = np.nan
    refused([write(array, tmp_path / "flair.nii")], "NaN or infinite")


def test_four_dimensions(refused, tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(BRAIN)] * 3)
    sitk.WriteImage(image, str(tmp_path / "flair.nii.gz"))
    refused([tmp_path / "flair.nii.gz"], "4 dimensions")


def test_single_slice(refused, tmp_path):
    refused([write(BRAIN[:1], tmp_path / "flair.nii.gz")], "only 1 slice")


def test_all_zeros(refused, tmp_path):
    refused([write(BRAIN * 0, tmp_path / "flair.nii.gz")], "flair.nii.gz", "empty")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha"])
def test_not_finite(refused, tmp_path, value, suffix):
    array = BRAIN.copy()
    array[10, 10, 10] = value
    refused([write(array, tmp_path / f"flair.{suffix}")], "NaN or infinite")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep names in Unicode")
def test_output_name_in_another_encoding(refused, sequence):
    refused([sequence("T1")], "not in UTF-8", output=os.fsdecode(b"out/M\xfcller.nii.gz"))


def test_output_name_that_is_too_long(refused, sequence):
    refused([sequence("T1")], "choose a shorter", output=f"out/{'long' * 80}.nii.gz")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep names in Unicode")
def test_name_in_another_encoding(refused, tmp_path):
    """ITK would end the whole program."""
    path = tmp_path / os.fsdecode(b"M\xfcller_T1.nii.gz")
    path.write_bytes(b"")
    refused([path], "not in UTF-8; rename it")
    refused([tmp_path], "not in UTF-8; rename it")


def test_colour_image(refused, tmp_path):
    rgb = np.repeat(BRAIN[..., None].astype(np.uint8), 3, axis=3)
    refused([write(rgb, tmp_path / "flair.nii.gz", isVector=True)], "colour")


def test_the_same_file_twice(refused, tmp_path):
    path = write(BRAIN, tmp_path / "scan.nii.gz")
    refused(["--t1", path, "--t2", path], "two sequences")


def test_no_recognisable_sequence(refused, tmp_path):
    refused([write(BRAIN, tmp_path / "adc.nii.gz")], "no T1, T1ce, T2 or FLAIR", "adc", "--flair")


def test_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused([tmp_path / "empty"], "no volume in this folder")


def test_two_studies_in_a_folder(refused, tmp_path):
    for case in ("patient_01", "patient_02"):
        (tmp_path / "all" / case).mkdir(parents=True)
        write(BRAIN, tmp_path / "all" / case / f"{case}_t1.nii.gz")
    refused([tmp_path / "all"], "2 studies", "one at a time")


def test_two_patients_in_one_folder_of_files(refused, tmp_path):
    (tmp_path / "all").mkdir()
    write(BRAIN, tmp_path / "all" / "patient_01_t1.nii.gz")
    write(BRAIN, tmp_path / "all" / "patient_02_flair.nii.gz")
    refused([tmp_path / "all"], "2 studies")


def test_nothing_given(refused):
    refused([], "nothing to segment")


def test_wrong_option(refused, sequence):
    refused([sequence("T1"), "--device", "abacus"], "--device abacus")


def test_an_option_cut_short(refused, sequence):
    refused(["--t1c", sequence("T1ce")], "--t1c")


def test_another_packages_broken_commands_stop_nothing(monkeypatch, capsys):
    class Broken:
        value = "old.cli:add_commands"

        def load(self):
            raise ImportError("no module named old")

    monkeypatch.setattr("lckd.cli.entry_points", lambda group: [Broken()])
    assert main(["model", "show"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["name"] == "compact"
    assert "old.cli:add_commands are left out (no module named old)" in output.err


def test_wrong_output_suffix(refused, sequence):
    refused([sequence("T1")], ".seg.nrrd", ".nii.gz", output="out/result.png")


def test_a_refused_run_leaves_no_folder(refused, sequence, tmp_path):
    refused([sequence("T1"), "--probabilities", tmp_path / "percent", "--model", tmp_path], "not a model folder")
    assert not (tmp_path / "percent").exists()


def test_probabilities_in_the_way_of_a_file(refused, sequence, tmp_path):
    (tmp_path / "file").write_text("")
    refused([sequence("T1"), "--probabilities", tmp_path / "file"], "no folder can be made")


def test_impossible_voxel_spacing(refused, tmp_path):
    image = sitk.GetImageFromArray(BRAIN)
    image.SetSpacing([1000, 1000, 1000])
    sitk.WriteImage(image, str(tmp_path / "flair.nii.gz"))
    refused([tmp_path / "flair.nii.gz"], "not the size of a head")


def test_damaged_header(refused, tmp_path):
    path = write(BRAIN, tmp_path / "flair.nii")
    data = bytearray(path.read_bytes())
    data[108:112] = struct.pack("<f", np.nan)
    path.write_bytes(data)
    refused([path], "header is damaged")


def test_output_folder_missing(refused, sequence):
    refused([sequence("T1")], "no such folder", output="nowhere/result.nii.gz")


def test_output_folder_not_writable(refused, sequence, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # root may write everywhere but into /proc
        folder = "/proc"
    refused([sequence("T1")], "cannot be written", output=f"{folder}/result.nii.gz")


def test_disk_full(sequence, tmp_path):
    """A real write that fails halfway: the process may write no file of more than 2 kB."""

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    command = [sys.executable, "-m", "lckd", "segment", sequence("FLAIR"), "-o", tmp_path / "result.nii.gz"]
    done = subprocess.run(
        [*command, "--device", "cpu"], capture_output=True, text=True, preexec_fn=no_room, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(default_model(), folder, ignore=shutil.ignore_patterns("evaluation"))
    return folder


def test_model_with_wrong_hash(refused, model, sequence):
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused([sequence("T1"), "--model", model], "SHA-256", "model.safetensors")


def test_pickle_named_safetensors(refused, model, sequence):
    import torch

    weights = model / "model.safetensors"
    torch.save({"x": torch.zeros(1)}, weights)
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "weights_sha256": sha256(weights)}))
    refused([sequence("T1"), "--model", model], "not the weights")


@pytest.mark.parametrize("key", ["name", "architecture", "expected_dice", "weights_sha256"])
def test_incomplete_model_card(refused, model, sequence, key):
    card = json.loads((model / "model.json").read_text())
    del card[key]
    (model / "model.json").write_text(json.dumps(card))
    refused([sequence("T1"), "--model", model], "model.json", key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", {"widths": ["a"], "depth": 2}),
        ("architecture", {"widths": [8, 8], "depth": 2, "bottleneck_layer": 1}),
        ("inference", {"window": 33}),
        ("preprocessing", {"spacing_mm": 1e-4, "clip_percentiles": [0.5, 99.5], "margin_mm": 4.0}),
        ("preprocessing", {"spacing_mm": 1.0, "clip_percentiles": [1], "margin_mm": 4.0}),
        ("preprocessing", {"spacing_mm": 1.0, "clip_percentiles": [0.5, 99.5], "margin_mm": -4.0}),
        ("expected_dice", {"T1": []}),
    ],
)
def test_model_card_with_impossible_values(refused, model, sequence, key, value):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, key: value}))
    refused([sequence("T1"), "--model", model], "model.json", key)


def test_not_a_model_folder(refused, sequence, tmp_path):
    refused([sequence("T1"), "--model", tmp_path], "not a model folder")
