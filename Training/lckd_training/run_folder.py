"""A run folder: who trains in it, its recipe, its checkpoint, its logs; all so that a stopped run loses nothing."""

import csv
import hashlib
import json
import os
import pickle
from collections.abc import Collection
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from filelock import FileLock, Timeout
from torch import nn

from lckd.architectures import build_network
from lckd.errors import InputError
from lckd.postprocessing import LIMITS

from .config import RECIPE, Config, load_config
from .data import patient
from .distillation import NAMES
from .election import Election
from .election_plot import draw_elections

CHECKPOINT, SPLIT, LOCK, CACHE = "last.pt", "split.json", "trainer.lock", "cache"
RECORDS, HISTORY = "training", "history.md"
"""The part of a model folder that says how its run went, and what came before the run."""
LOSSES, ELECTIONS, PLOT, BOARD = "losses.csv", "elections.jsonl", "elections.png", "tensorboard"
STATE = {"network", "average", "optimiser", "iteration", "elections"}
"""What a checkpoint holds."""
FREE = {"data", "iterations", "final_from", "checkpoint_every", "workers", "precision"}
FREE |= {"inference_window", "mirrored", *LIMITS}
"""What a resumed run may change: how long and where it goes on, how it is kept. Staged guidance keeps its length."""


@contextmanager
def sole_trainer(out: Path):
    """Hold a run folder for this process. Raises InputError while another one, that still lives, holds it."""
    try:
        with FileLock(out / LOCK, timeout=0):  # the system lets go of it when a process dies
            yield
    except Timeout:
        raise InputError(f"{out}: another process trains in it; wait for it, or choose another --out") from None


def read_recipe(run: Path) -> Config:
    """The recipe a run was begun with. Raises InputError when the folder has none, or it is damaged."""
    path = Path(run) / RECIPE
    if not path.is_file():
        raise InputError(f"{run}: not a run folder, it has no {RECIPE}")
    return load_config(path)


def write_recipe(config: Config, data: Path, run: Path) -> None:
    whole = {**config.as_dict(), "data": str(Path(data).resolve())}
    write_whole(run / RECIPE, yaml.safe_dump(whole, sort_keys=False))


def read_split(records: Path) -> dict[str, list[str]]:
    """The cases that were trained on (``training``) and those held out (``validation``), by name.

    Args:
        records: a run folder, or the records in a model folder.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    path = Path(records) / SPLIT
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        return {part: [*names[part]] for part in ("training", "validation")}
    except FileNotFoundError:
        raise InputError(f"{path}: is not there, so nobody knows what was held out; get the folder again") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged, so nobody knows what was held out; get the folder again") from None


def write_split(training: list[str], validation: list[str], run: Path, resume: bool) -> None:
    """Save which cases are trained on and which are held out, with a hash to tell splits apart by.

    Raises:
        InputError: a resumed run would go on with other cases.
    """
    names = {"training": training, "validation": validation}
    if resume and (before := read_split(run))["training"] != training:
        changed = [f"{name} for one" for name in sorted({*before["training"]} ^ {*training})] or ["their order"]
        raise InputError(f"{run}: the cases to train on have changed ({changed[0]}); give the data as it was")
    digest = hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()
    write_whole(run / SPLIT, json.dumps({**names, "sha256": digest}, indent=1))


def check_unseen(held_out: list[str], initial: str) -> None:
    """Raise InputError where the model to begin from was trained on a held-out patient: its Dice there would flatter.

    What an earlier model, that this one was itself begun from, was trained on is not known here.
    """
    split = Path(initial) / RECORDS / SPLIT
    if not (initial and split.is_file()):
        return
    before = read_split(split.parent)
    known = {patient(name) for name in before["training"]}
    if seen := [name for name in held_out if patient(name) in known]:
        raise InputError(
            f"initial={initial}: was trained on {seen[0]}, which is held out here; hold out what it held out, "
            f"validation_cases=[{','.join(before['validation'])}], or cases that it has never seen"
        )


def check_same_recipe(config: Config, out: Path, may_change: Collection[str] = FREE) -> None:
    """Raise InputError when a resumed run's recipe differs in more than how long, where and how it is kept."""
    done = load_checkpoint(out, torch.device("cpu"))["iteration"]
    if config.iterations < done:
        raise InputError(f"{out}: has done {done} iterations already; iterations={config.iterations} comes too late")
    stored = read_recipe(out).as_dict()
    for key, value in config.as_dict().items():
        free = key in may_change and not (key == "iterations" and config.guidance == "staged")
        if not free and stored[key] != value:
            raise InputError(f"{out}: was begun with {key}={stored[key]}, not {value}; resume with the same recipe")


def load_checkpoint(run: Path, device: torch.device) -> dict:
    """The last checkpoint of a run folder. Raises InputError when there is none, or it is damaged."""
    path = Path(run) / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{run}: no checkpoint ({CHECKPOINT}) in this folder; train first, without --resume")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if not (isinstance(state, dict) and state.keys() >= STATE):
            raise EOFError
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        if "memory" in str(error) or isinstance(error, PermissionError):
            raise
        raise InputError(f"{path}: damaged; the run cannot go on from it, begin anew in another --out") from None
    return state


def save_checkpoint(run: Path, state: dict) -> None:
    """Write the checkpoint whole or not at all. Raises InputError, the last one kept, when it cannot be written."""
    partial = run / (CHECKPOINT + ".partial")
    try:
        with partial.open("wb") as stream:
            torch.save(state, stream)
            os.fsync(stream.fileno())  # a power cut must not leave a new name with no content
        os.replace(partial, run / CHECKPOINT)
    except (OSError, RuntimeError) as error:  # of a full disk torch makes a RuntimeError
        with suppress(OSError):
            partial.unlink()
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{partial}: cannot be written ({why}); is the disk full? The last checkpoint is kept: make room and add "
            "--resume"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def averaged_network(run: Path) -> tuple[nn.Module, Config, dict]:
    """The running average of a run's last checkpoint, ready to predict, the run's recipe and the checkpoint."""
    state = load_checkpoint(run, torch.device("cpu"))
    config = read_recipe(run)
    network = build_network(config.network)
    network.load_state_dict(state["average"])
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d), config, state


class Logs:
    """What a run writes as it goes: losses as CSV and for TensorBoard, elections as JSON lines and as a plot."""

    def __init__(self, out: Path, iteration: int, elections: list[Election]):
        """Begin, or go on after ``iteration``: what was logged after it will be done, and written, again."""
        from torch.utils.tensorboard import SummaryWriter

        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        head, rows = ",".join(["iteration", *NAMES]) + "\n", []
        if (out / LOSSES).exists() and iteration:
            _, *rows = (out / LOSSES).read_text(encoding="utf-8").splitlines(keepends=True)
            numbers = {str(number) for number in range(1, iteration + 1)}
            rows = [row for row in rows if row.endswith("\n") and row.split(",")[0] in numbers]
        write_whole(out / LOSSES, head + "".join(rows))
        if (out / ELECTIONS).exists() or elections:
            write_whole(out / ELECTIONS, "".join(json.dumps(asdict(e)) + "\n" for e in elections))
        self.board = SummaryWriter(str(out / BOARD), purge_step=iteration + 1)

    def losses(self, iteration: int, losses: dict[str, float], rate: float) -> None:
        with (self.out / LOSSES).open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow([iteration, *(f"{losses[n]:.5f}" for n in NAMES)])
        for name, value in losses.items():
            self.board.add_scalar(f"loss/{name}", value, iteration)
        self.board.add_scalar("learning_rate", rate, iteration)

    def election(self, elections: list[Election]) -> None:
        last = elections[-1]
        with (self.out / ELECTIONS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(last)) + "\n")
        draw_elections(elections, self.out / PLOT)
        for region, of_modality in last.scores.items():
            for modality, score in of_modality.items():
                self.board.add_scalar(f"dice_alone/{region}/{modality}", score, last.iteration)

    def close(self) -> None:
        self.board.close()
