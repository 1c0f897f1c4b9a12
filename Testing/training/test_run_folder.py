"""A run that is stopped in any way loses nothing, and nothing is lost to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from lckd.cli import main
from lckd.errors import InputError
from lckd_training.config import RECIPE
from lckd_training.run_folder import (
    CHECKPOINT,
    LOCK,
    LOSSES,
    SPLIT,
    STATE,
    load_checkpoint,
    read_split,
    save_checkpoint,
    write_split,
)
from lckd_training.training import Run
from small_phantoms import write_small_phantoms
from tiny_runs import TINY, run


def test_a_resumed_run_ends_at_the_same_weights(recipe, phantoms, whole, tmp_path, monkeypatch):
    from lckd_training import training

    step = training.Run.step

    def stops(self, sample):
        if self.iteration == 4:
            raise RuntimeError("the machine goes down")
        return step(self, sample)

    monkeypatch.setattr(training.Run, "step", stops)
    with pytest.raises(RuntimeError):
        run(recipe, phantoms, tmp_path / "run")
    monkeypatch.setattr(training.Run, "step", step)
    run(recipe, phantoms, tmp_path / "run", resume=True)
    a, b = (load_checkpoint(folder, torch.device("cpu")) for folder in (whole, tmp_path / "run"))
    assert a["iteration"] == b["iteration"] == 6
    assert a["elections"] == b["elections"] and len(a["elections"]) == 2
    assert all(torch.equal(a["average"][key], b["average"][key]) for key in a["average"])


def test_a_run_leaves_what_says_how_it_went(whole):
    assert Image.open(whole / "elections.png").width > 900
    assert list((whole / "tensorboard").glob("events*"))
    split_ = json.loads((whole / "split.json").read_text())
    assert split_["validation"] == ["Phantom_00_000"] and len(split_["sha256"]) == 64
    assert "iterations: 6" in (whole / "config.yaml").read_text()


def test_a_damaged_checkpoint_is_a_line(whole, tmp_path):
    state = (whole / CHECKPOINT).read_bytes()
    for content in (b"", b"no checkpoint", b"PK\x03\x04 nor this", state[:5000], state[:-100]):
        (tmp_path / CHECKPOINT).write_bytes(content)
        with pytest.raises(InputError, match=r"last\.pt: damaged"):
            load_checkpoint(tmp_path, torch.device("cpu"))
    torch.save({"weights": torch.zeros(3)}, tmp_path / CHECKPOINT)  # another program's
    with pytest.raises(InputError, match=r"last\.pt: damaged"):
        load_checkpoint(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (SPLIT, '{"training": ["Pha', "split.json: damaged"),
        (SPLIT, '["Phantom_00_000"]', "split.json: damaged"),
        (SPLIT, None, "split.json: is not there"),
        (RECIPE, "name: [", "config.yaml: not valid YAML"),
        (RECIPE, "", "config.yaml: not a recipe"),
    ],
)
def test_a_damaged_run_folder_is_a_line(recipe, phantoms, whole, tmp_path, capsys, monkeypatch, name, content, words):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")  # or the command would start itself anew
    out = shutil.copytree(whole, tmp_path / "run")
    (out / name).unlink() if content is None else (out / name).write_text(content)
    data = ["--data", str(phantoms)]
    for arguments in (["train", recipe, "--out", out, "--resume"], ["export", out, "--out", tmp_path / "model"]):
        assert main([*map(str, arguments), *data]) == 2
        assert words in capsys.readouterr().err


def test_a_split_says_who_was_trained_on(whole):
    assert read_split(whole)["validation"] == ["Phantom_00_000"]


def test_a_line_that_is_none_is_no_loss(recipe, phantoms, whole, tmp_path):
    """As a crash may leave it; what is resumed writes the rest."""
    out = shutil.copytree(whole, tmp_path / "run")
    with (out / LOSSES).open("a") as stream:
        stream.write("x,y\n")
    run(recipe, phantoms, out, "iterations=7", resume=True)
    rows = (out / LOSSES).read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 8))


def test_a_run_is_not_overwritten(recipe, phantoms, whole):
    with pytest.raises(InputError, match="--resume"):
        run(recipe, phantoms, whole)


def test_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(recipe, phantoms, tmp_path):
    with pytest.raises(InputError, match="last checkpoint is kept"):
        run(recipe, phantoms, tmp_path / "run", "learning_rate=1e30", "warm_up=0", "checkpoint_every=1")
    assert not (tmp_path / "run" / (CHECKPOINT + ".partial")).exists()
    state = load_checkpoint(tmp_path / "run", torch.device("cpu"))
    assert 0 < state["iteration"] < 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_iteration_and_saves_it(recipe, phantoms, whole, tmp_path, monkeypatch, number):
    """Also where it comes while teachers are elected: the election is held, and the resumed run is the whole one."""
    elect_ = Run.elect

    def interrupted(self):
        if self.iteration == 3:
            os.kill(os.getpid(), number)
        elect_(self)

    monkeypatch.setattr(Run, "elect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, phantoms, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run", torch.device("cpu"))["iteration"] == 3
    monkeypatch.setattr(Run, "elect", elect_)
    run(recipe, phantoms, tmp_path / "run", resume=True)
    a, b = (load_checkpoint(folder, torch.device("cpu")) for folder in (whole, tmp_path / "run"))
    assert a["elections"] == b["elections"]
    assert all(torch.equal(a["average"][key], b["average"][key]) for key in a["average"])


def test_resumed_run_wants_the_same_cases(recipe, phantoms, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    write_small_phantoms(tmp_path / "more", cases=2, size=48, spacing=1.5, seed=0)
    with pytest.raises(InputError, match=r"have changed \(Phantom_00_002"):
        run(recipe, tmp_path / "more", tmp_path / "run", resume=True)
    with pytest.raises(InputError, match=r"have changed \(their order"):
        write_split(["Phantom_00_002", "Phantom_00_001"], [], whole, resume=True)


def test_killed_at_any_moment_and_resumed_ends_at_the_same_weights(recipe, phantoms, whole, tmp_path):
    """SIGKILL at random moments; each start goes on from the last checkpoint."""
    out, command = tmp_path / "run", [sys.executable, "-m", "lckd", "train", str(recipe), "--data", str(phantoms)]
    command += ["--out", str(out), *TINY, "checkpoint_every=1"]
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 2:
        resume = ["--resume"] if (out / CHECKPOINT).exists() else []
        process = subprocess.Popen([*command, *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patience = time.monotonic() + 120
        before = done_iterations(out)
        while done_iterations(out) == before and process.poll() is None and time.monotonic() < patience:
            time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.wait()
        kills += 1
    assert 0 < done_iterations(out) < 6, "it was killed on the way"
    run(recipe, phantoms, out, "checkpoint_every=1", resume=True)
    a, b = (load_checkpoint(folder, torch.device("cpu")) for folder in (whole, out))
    assert all(torch.equal(a["average"][key], b["average"][key]) for key in a["average"])
    rows = (out / "losses.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 7)), "nothing is logged twice"
    assert (out / "elections.jsonl").read_text() == (whole / "elections.jsonl").read_text()


def done_iterations(out) -> int:
    return load_checkpoint(out, torch.device("cpu"))["iteration"] if (out / CHECKPOINT).exists() else 0


def test_two_trainers_in_one_folder_are_refused(recipe, phantoms, tmp_path):
    (tmp_path / "run").mkdir()
    holds = "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{holds}; time.sleep(60)", str(tmp_path / "run" / LOCK)], stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        with pytest.raises(InputError, match="another process trains in it"):
            run(recipe, phantoms, tmp_path / "run")
    finally:
        other.kill()
        other.communicate()
    run(recipe, phantoms, tmp_path / "run", "iterations=1")  # a process that is gone holds nothing


def test_resume_goes_on_with_the_runs_own_recipe(recipe, phantoms, tmp_path, monkeypatch, capsys):
    """The settings of the first command line need not be said again, and new ones lengthen the run."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")  # or the command would start itself anew
    command = ["train", str(recipe), "--data", str(phantoms), "--out", str(tmp_path / "run")]
    assert main([*command, *TINY, "iterations=1"]) == 0
    assert main([*command, "--resume"]) == 0
    assert done_iterations(tmp_path / "run") == 1
    assert main([*command, "--resume", "iterations=2", "precision=32-true"]) == 0
    assert done_iterations(tmp_path / "run") == 2
    assert main([*command, "--resume", "patch=64"]) == 2
    assert "was begun with patch=[32, 32, 32]" in capsys.readouterr().err
    assert main([*command, "--resume", "iterations=1"]) == 2
    assert "has done 2 iterations already" in capsys.readouterr().err
    assert "iterations: 2" in (tmp_path / "run" / RECIPE).read_text()
    assert main([*command, "--resume", "iteration=3"]) == 2
    assert "lckd: iteration=3: unknown setting" in capsys.readouterr().err
    assert main(["train", str(recipe), "--out", str(tmp_path / "run"), "--resume"]) == 0  # it knows its data


def test_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, dict.fromkeys(STATE) | {"iteration": 1})

    def full(state, stream):
        stream.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")  # as torch says it

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="is the disk full"):
        save_checkpoint(tmp_path, {"iteration": 2})
    assert done_iterations(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
