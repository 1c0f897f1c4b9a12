"""The training loop: one iteration is one patch of one case, encoded once and decoded as the full set and subsets.

Lightning Fabric brings devices and precision. Everything random is a function of (seed, iteration), see ``sampling``,
so a checkpoint is weights, optimiser, teachers and an iteration number, and a resumed run repeats nothing.
"""

import csv
import json
import math
import os
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from lightning.fabric import Fabric
from torch.utils.data import DataLoader, Subset

from lckd.anatomy import MODALITIES
from lckd.errors import InputError
from lckd.model_folder import load_model
from lckd.network import Network
from lckd.preprocessing import Preprocessing

from .config import Config
from .data import CachedCase, prepared_cases, split
from .distillation import Losses
from .election import Election, elect, single_modality_scores
from .layouts import describe, find_cases
from .sampling import Samples

CHECKPOINT, LOSSES, ELECTIONS = "last.pt", "losses.csv", "elections.jsonl"


def train(config: Config, data: Path, out: Path, resume: bool, skip_bad: bool = False, echo=print) -> Path:
    """Train to the end of the recipe's schedule in the run folder ``out``; returns that folder."""
    out = Path(out)
    if (out / CHECKPOINT).exists() and not resume:
        raise InputError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    found = find_cases(data)
    echo(describe(found))
    validation = config.validation_cases
    if resume:
        check_same_recipe(config, out)
        validation = json.loads((out / "split.json").read_text())["validation"]
    groups = split(found, validation, config.seed)
    out.mkdir(parents=True, exist_ok=True)
    with sole_trainer(out):
        training_cases, validation_cases = (
            prepared_cases(group, Preprocessing(), out / "cache", skip_bad, echo) for group in groups
        )
        if not training_cases:
            raise InputError(f"{data}: no case is left to train on")
        echo(f"{len(training_cases)} cases to train on, {len(validation_cases)} held out for election")
        (out / "config.yaml").write_text(yaml.safe_dump({**config.as_dict(), "data": str(data)}, sort_keys=False))
        names = {"training": [c.name for c in training_cases], "validation": [c.name for c in validation_cases]}
        (out / "split.json").write_text(json.dumps(names, indent=1))
        run = Run(config, out, validation_cases, echo)
        if resume:
            run.load()
        run.fit(Samples(training_cases, config))
    return out


@contextmanager
def sole_trainer(out: Path):
    """Hold a run folder for this process. Raises InputError while another one that still runs holds it."""
    lock = out / "trainer.pid"
    try:
        held_by = int(lock.read_text())
        os.kill(held_by, 0)
    except (OSError, ValueError):
        pass  # nobody, or a process that is gone
    else:
        if held_by != os.getpid():
            raise InputError(f"{out}: process {held_by} trains in it; wait for it, or choose another --out")
    lock.write_text(str(os.getpid()))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def check_same_recipe(config: Config, out: Path) -> None:
    """Raise InputError when a resumed run's recipe differs in more than how long and how it is kept."""
    load_checkpoint(out, torch.device("cpu"))
    stored = yaml.safe_load((out / "config.yaml").read_text())
    free = {
        "data", "iterations", "final_from", "checkpoint_every", "workers", "smallest_piece_ml", "smallest_et_ml",
    }  # fmt: skip
    for key, value in config.as_dict().items():
        if key not in free and stored.get(key) != value:
            raise InputError(f"{out}: was begun with {key}={stored.get(key)}, not {value}; resume with the same recipe")


class Run:
    """A network in training: its optimiser, its running average (EMA), its teachers and where it stands."""

    def __init__(self, config: Config, out: Path, validation: list[CachedCase], echo=print):
        self.config, self.out, self.validation, self.echo = config, out, validation, echo
        self.fabric = Fabric(accelerator="auto", devices=1, precision=config.precision)
        torch.manual_seed(config.seed)
        network = Network(config.widths, config.depth).to(memory_format=torch.channels_last_3d)
        if config.initial:
            network.load_state_dict(load_model(config.initial).network().state_dict())
        average = Network(config.widths, config.depth).to(memory_format=torch.channels_last_3d)
        average.load_state_dict(network.state_dict())
        self.average = average.to(self.fabric.device).eval().requires_grad_(False)
        optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.network, self.optimiser = self.fabric.setup(network, optimiser)
        self.network.mark_forward_method("encode")
        self.network.mark_forward_method("decode")
        # Without distillation the full set teaches the subsets nothing either.
        self.losses = Losses(config.feature_weight, config.logit_weight if config.strategy != "none" else 0.0)
        self.iteration = 0
        self.elections: list[Election] = []

    @property
    def teachers(self) -> dict[str, str]:
        """Region -> the modality elected last."""
        return self.elections[-1].teachers if self.elections else {}

    @property
    def teaching(self) -> set[str]:
        """The modalities whose features the others learn from now, by the recipe's strategy."""
        return {
            "elected": set(self.teachers.values()),
            "fixed": {self.config.fixed_teacher},
            "all": set(MODALITIES),
            "none": set(),
        }[self.config.strategy]

    def fit(self, samples: Samples) -> None:
        """Go on from where the run stands to the end of the schedule, saving as it goes."""
        config = self.config
        rest = Subset(samples, range(self.iteration, config.iterations))
        loader = DataLoader(rest, batch_size=None, num_workers=config.workers)
        started, first = time.monotonic(), self.iteration
        try:
            for sample in loader:
                losses = self.step({k: v.to(self.fabric.device) for k, v in sample.items()})
                self.iteration += 1
                self._log(losses, (time.monotonic() - started) / (self.iteration - first))
                if self.iteration % config.elect_every == 0 or self.iteration == config.iterations:
                    self.elect()
                if self.iteration % config.checkpoint_every == 0 or self.iteration == config.iterations:
                    self.save()
        except KeyboardInterrupt:
            self.save()
            self.echo(f"stopped and saved at iteration {self.iteration}; go on with: lckd train ... --resume")
            raise

    def step(self, sample: dict[str, torch.Tensor]) -> dict[str, float]:
        """One iteration; returns the losses by name. Raises InputError when the loss is not a number."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self.rate()
        available = sample["available"]
        views = len(available)
        with self.fabric.autocast():
            index = torch.arange(len(MODALITIES), device=available.device)
            features = self.network.encode(sample["images"][:, None], index)
            spread = [f[None].expand(views, *f.shape) for f in features]
            logits = self.network.decode(spread, available)
        losses = self.losses(logits, sample["regions"], features[-1], available[0], self.teaching)
        total = sum(losses.values())
        if not math.isfinite(total.item()):
            raise InputError(f"the loss is {total.item()} at iteration {self.iteration}; the last checkpoint is kept")
        self.optimiser.zero_grad()
        self.fabric.backward(total)
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=1.0, error_if_nonfinite=False)
        self.optimiser.step()
        self._average()
        return {name: value.item() for name, value in losses.items()}

    def rate(self) -> float:
        """The learning rate's factor: a linear warm-up, then the polynomial decay of the paper (power 0.9)."""
        rise = min(1.0, (self.iteration + 1) / max(1, self.config.warm_up))
        return rise * (1 - self.iteration / self.config.iterations) ** 0.9

    def elect(self) -> None:
        scores = single_modality_scores(self.average, self.validation, self.config.final_patch, self.fabric.device)
        election = elect(scores, self.teachers, self.iteration)
        self.elections.append(election)
        with (self.out / ELECTIONS).open("a") as stream:
            stream.write(json.dumps(asdict(election)) + "\n")
        self.echo(f"iteration {self.iteration}: teachers {election.teachers}, scores {election.scores}")

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "iteration": self.iteration,
            "elections": [asdict(e) for e in self.elections],
        }
        partial = self.out / (CHECKPOINT + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.out / CHECKPOINT)

    def load(self) -> None:
        state = load_checkpoint(self.out, self.fabric.device)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration = state["iteration"]
        self.elections = [Election(**e) for e in state["elections"]]
        self._forget_after(state["iteration"])

    def _forget_after(self, iteration: int) -> None:
        """Cut the logs back to the checkpoint: what came after it will be done, and written, again."""
        path = self.out / LOSSES
        if path.exists():
            head, *rows = path.read_text().splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= iteration]
            path.write_text(head + "".join(kept))
        if (self.out / ELECTIONS).exists():
            (self.out / ELECTIONS).write_text("".join(json.dumps(asdict(e)) + "\n" for e in self.elections))

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.iteration) / (10 + self.iteration))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def _log(self, losses: dict[str, float], seconds: float) -> None:
        path = self.out / LOSSES
        new = not path.exists()
        names = ["dice", "cross_entropy", "logit_distillation", "feature_distillation"]
        with path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["iteration", *names])
            writer.writerow([self.iteration, *(f"{losses.get(name, 0):.5f}" for name in names)])
        if self.iteration % 20 == 0:
            left = seconds * (self.config.iterations - self.iteration) / 60
            shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            self.echo(f"{self.iteration}/{self.config.iterations} {seconds:.2f} s each, {left:.0f} min left: {shown}")


def load_checkpoint(run: Path, device: torch.device) -> dict:
    """The last checkpoint of a run folder. Raises InputError when there is none."""
    path = Path(run) / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{run}: no checkpoint ({CHECKPOINT}) in this folder; train first, without --resume")
    return torch.load(path, map_location=device, weights_only=True)


def averaged_network(run: Path) -> tuple[Network, Config, dict]:
    """The running average of a run's last checkpoint, ready to predict, the run's recipe and the checkpoint."""
    state = load_checkpoint(run, torch.device("cpu"))
    config = Config(**yaml.safe_load((Path(run) / "config.yaml").read_text()))
    network = Network(config.widths, config.depth)
    network.load_state_dict(state["average"])
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d), config, state
