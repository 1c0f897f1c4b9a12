"""Several processes (torchrun, gloo) train as one would."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from lckd.errors import InputError
from lckd_training import processes
from lckd_training.config import Config, load_config
from lckd_training.processes import start_fabric
from lckd_training.run_folder import load_checkpoint
from lckd_training.training import train
from small_phantoms import write_small_phantoms

SETTINGS = ["widths=[4,8]", "depth=1", "patch=32", "final_patch=64", "final_from=1", "iterations=3", "elect_every=2"]
SETTINGS += ["batch=2", "workers=0", "warm_up=1", "precision=32-true", "validation_cases=[Phantom_00_000]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same recipe trained by one process and by two."""
    folder = tmp_path_factory.mktemp("processes")
    write_small_phantoms(folder / "data", cases=3, size=48, spacing=1.5, seed=0)
    (folder / "recipe.yaml").write_text("name: tiny\n")
    recipe, data = folder / "recipe.yaml", folder / "data"
    train(load_config(recipe, SETTINGS), data, folder / "one", resume=False, echo=lambda words: None)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "lckd", "train", str(recipe), "--data", str(data), "--out", str(folder / "two"), *SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_two_processes_have_the_losses_of_one(runs):
    one, two = (list(csv.DictReader((runs / name / "losses.csv").open())) for name in ("one", "two"))
    assert [row["iteration"] for row in one] == [row["iteration"] for row in two] == ["1", "2", "3"]
    for a, b in zip(one, two, strict=True):
        assert np.allclose([float(v) for v in a.values()], [float(v) for v in b.values()], atol=1e-4)


def test_two_processes_end_at_the_weights_of_one(runs):
    one, two = (load_checkpoint(runs / name, torch.device("cpu")) for name in ("one", "two"))
    assert [e["teachers"] for e in one["elections"]] == [e["teachers"] for e in two["elections"]]
    assert all(torch.allclose(one["average"][key], two["average"][key], atol=1e-4) for key in one["average"])


INTERRUPTED = """
import os, signal, sys
import torch.multiprocessing
from lckd.cli import main
from lckd_training.training import Run

step = Run.step

def interrupted(self, samples):
    found = step(self, samples)
    if self.iteration == 1:
        if sys.argv[1] == "spawn":
            os.killpg(os.getpgrp(), signal.SIGINT)
        elif os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)
    return found

if __name__ == "__main__":
    if sys.argv[1] == "spawn":
        torch.multiprocessing.set_start_method("spawn")
    Run.step = interrupted
    sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups")
@pytest.mark.parametrize(
    ("how", "workers"), [([], 1), (["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"], 0)]
)
def test_ctrl_c_reaches_all_that_train_and_none_that_makes_samples(runs, tmp_path, how, workers):
    """Spawned workers (macOS, Windows) go on with the iteration; two trainers both stop though one alone heard it."""
    (tmp_path / "script.py").write_text(INTERRUPTED)
    command = [sys.executable, *how, str(tmp_path / "script.py"), "shared" if how else "spawn"]
    command += ["train", str(runs / "recipe.yaml"), "--data", str(runs / "data"), "--out", str(tmp_path / "run")]
    settings = [*SETTINGS, f"workers={workers}", "elect_every=3"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False, start_new_session=True)
    assert done.returncode != 0
    assert "stopped and saved at iteration 2" in done.stdout, done.stderr[-2000:]
    assert load_checkpoint(tmp_path / "run", torch.device("cpu"))["iteration"] == 2


def test_processes_that_cannot_share_a_batch_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="batch=1 cannot be shared by 2 processes; choose a multiple, batch=2"):
        start_fabric(Config(batch=1))
    with pytest.raises(InputError, match="guidance=staged"):
        start_fabric(Config(batch=2, guidance="staged"))


@pytest.mark.parametrize(
    ("asked", "in_hardware", "used"),
    [
        ("auto", True, True),
        ("auto", False, False),  # emulated, an iteration takes many times as long
        ("bf16-mixed", False, True),
        ("32-true", True, False),
    ],
)
def test_bfloat16_is_trained_in_where_the_device_multiplies_it_or_it_is_asked_for(
    monkeypatch, asked, in_hardware, used
):
    monkeypatch.setattr(processes, "has_bfloat16", lambda device: in_hardware)
    monkeypatch.setattr(processes, "choose_device", lambda name: torch.device("cpu"))
    with start_fabric(Config(precision=asked)).autocast():
        assert torch.is_autocast_enabled("cpu") == used
