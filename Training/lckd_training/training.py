"""The training loop: an iteration is one patch of each of ``batch`` cases, encoded once and decoded as several subsets.

Lightning Fabric brings devices, precision and several processes (``torchrun``). Everything random is a function of
(seed, iteration), see ``sampling``, so a checkpoint is weights, optimiser, teachers and an iteration number, a resumed
run repeats nothing, and several processes see what one would have seen.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from lckd.anatomy import MODALITIES
from lckd.architectures import build_network
from lckd.errors import InputError
from lckd.model_folder import load_model
from lckd.preprocessing import Preprocessing

from .config import Config
from .data import CachedCase, patient, prepared_cases, split
from .distillation import NAMES, Decoded, Lesson, Losses, guidance_distance, within
from .election import Election, elect, single_modality_scores, single_teacher
from .guidance import first_stage_ends, guided_modalities, stage_of, train_only
from .layouts import describe, find_cases
from .processes import any_process, ignore_interrupts, interruptions, precision_on, print_nothing, start_fabric
from .run_folder import (
    CACHE,
    CHECKPOINT,
    Logs,
    check_same_recipe,
    check_unseen,
    load_checkpoint,
    read_split,
    save_checkpoint,
    sole_trainer,
    write_recipe,
    write_split,
)
from .sampling import Samples, repeated


def train(
    config: Config,
    data: Path,
    out: Path,
    resume: bool,
    skip_bad: bool = False,
    echo=print,
    cache: Path | None = None,
) -> Path:
    """Train to the end of the recipe's schedule in the run folder ``out``; returns that folder.

    Under ``torchrun`` every process calls this; the first one prepares, elects and writes.

    Args:
        cache: where prepared cases are kept; None: in the run folder.
    """
    out = Path(out)
    cache = cache or out / CACHE
    fabric = start_fabric(config)
    first = fabric.global_rank == 0
    if not first:
        echo = print_nothing
    if first and (out / CHECKPOINT).exists() and not resume:
        raise InputError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    found = find_cases(data)
    echo(describe(found))
    validation = config.validation_cases
    if resume:
        check_same_recipe(config, out)
        validation = read_split(out)["validation"]
    groups = split(found, validation, config.seed)
    repeated(groups[0], config.repeated_cases, config.repeats)  # refuses a wrong name before cases are prepared
    if first:
        out.mkdir(parents=True, exist_ok=True)
    with sole_trainer(out) if first else nullcontext():
        with fabric.rank_zero_first():  # the first process fills the cache, the others find it full
            training_cases, held_out = (
                prepared_cases(group, Preprocessing(), cache, skip_bad, echo) for group in groups
            )
            samples = Samples(training_cases, config)
        check_unseen([case.name for case in held_out], config.initial)
        if not training_cases:
            raise InputError(f"{data}: no case is left to train on")
        echo(f"{_count(training_cases)} to train on, {_count(held_out)} held out for election")
        echo(f"on {fabric.device.type}, precision {precision_on(fabric.device, config)}")
        if first:
            write_recipe(config, data, out)
            write_split([c.name for c in training_cases], [c.name for c in held_out], out, resume)
        electing = held_out if config.elect_on == "held_out" else training_cases
        if not electing:
            raise InputError(f"{data}: no case is left to elect teachers on; name some in validation_cases")
        if not any(case.modalities == MODALITIES for case in held_out):
            echo("no held-out case has all four sequences: this run can be trained, but not exported")
        if config.strategy == "elected" and config.guidance != "staged" and config.elect_every >= config.iterations:
            echo(f"no teacher is elected before the run ends, so nobody teaches: elect_every={config.elect_every}")
        begun_from = replace(config, initial="") if resume else config  # a checkpoint needs no other weights
        run = Run(begun_from, out, electing, echo, fabric)
        if resume:
            run.load()
        run.fit(samples)
    return out


def _count(cases: list[CachedCase]) -> str:
    """How many cases, and of how many patients where some have several."""
    patients = len({patient(case.name) for case in cases})
    return f"{len(cases)} cases" + (f" of {patients} patients" if patients < len(cases) else "")


class Views(nn.Module):
    """A sample in one forward, as several processes need it: encode each modality once, decode every view."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, available: Tensor) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """images (4, z, y, x), available (views, 4) -> what ``Decoded`` holds."""
        index = torch.arange(len(MODALITIES), device=images.device)
        features = self.network.encode(images[:, None], index)
        spread = [f[None].expand(len(available), *f.shape) for f in features]
        if not getattr(self.network, "guides", None):
            return self.network.decode(spread, available), features[-1], {}
        imagined = self.network.imagine(spread[-1], available)
        return self.network.decode(spread, available, imagined), features[-1], imagined


class Run:
    """A network in training: its optimiser, its running average (EMA), its teachers and where it stands.

    Args:
        electing: the cases that elections are held on.
    """

    def __init__(self, config: Config, out: Path, electing: list[CachedCase], echo=print, fabric: Fabric | None = None):
        self.config, self.out, self.electing, self.echo = config, out, electing, echo
        self.fabric = fabric or start_fabric(config)
        torch.manual_seed(config.seed)
        self.network = build_network(config.network).to(memory_format=torch.channels_last_3d)
        if config.initial:
            self._begin_from(load_model(config.initial).network().state_dict())
        average = build_network(config.network).to(memory_format=torch.channels_last_3d)
        average.load_state_dict(self.network.state_dict())
        self.average = average.to(self.fabric.device).eval().requires_grad_(False)
        self.views, self.optimiser = self.fabric.setup(Views(self.network), self._optimiser())
        segmentation = {"cross_entropy_weight": config.cross_entropy_weight, "dice_smooth": config.dice_smooth}
        self.losses = Losses(
            config.feature_weight,
            config.logit_weight,
            config.guidance_weight,
            **segmentation,
            relative_features=config.relative_features,
        )
        self.plain = Losses(**segmentation)
        self.iteration = 0
        self.elections: list[Election] = []

    def _begin_from(self, weights: dict[str, Tensor]) -> None:
        """Take over a model's weights; only guides may be new. Raises InputError where they do not fit."""
        try:
            unknown = self.network.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise InputError(
                f"initial={self.config.initial}: of other sizes ({str(error).splitlines()[-1].strip()})"
            ) from None
        misfits = [key for key in unknown.missing_keys if not key.startswith("guide")] + unknown.unexpected_keys
        if misfits:
            raise InputError(f"initial={self.config.initial}: is of another architecture ({misfits[0]})")

    def _optimiser(self) -> torch.optim.Optimizer:
        config, parameters = self.config, self.network.parameters()
        if config.optimiser == "sgd":
            options = {"momentum": 0.99, "nesterov": True, "weight_decay": config.weight_decay}
            return torch.optim.SGD(parameters, config.learning_rate, **options)
        return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)

    @property
    def teachers(self) -> dict[str, str]:
        """Region -> the modality elected last."""
        return self.elections[-1].teachers if self.elections else {}

    @property
    def lessons(self) -> list[Lesson]:
        """Whose features the others learn from now, and where, by the recipe's strategy."""
        config = self.config
        if config.strategy == "elected":
            elected = single_teacher(self.teachers) if config.single_teacher else self.teachers
            if config.per_region:
                return [(teacher, region) for region, teacher in elected.items()]
            return [(name, None) for name in MODALITIES if name in elected.values()]
        return [(name, None) for name in {"fixed": (config.fixed_teacher,), "all": MODALITIES}.get(config.strategy, ())]

    @property
    def stage(self) -> str:
        """The stage of staged guidance that the coming iteration belongs to; of any other run the last one."""
        staged = self.config.guidance == "staged"
        return stage_of(self.iteration, self.config.iterations) if staged else "joint"

    def fit(self, samples: Samples) -> None:
        """Go on from where the run stands to the end of the schedule, saving as it goes.

        Ctrl-C or SIGTERM ends the iteration at hand, saves and raises KeyboardInterrupt; a second one ends at once.
        """
        config, fabric = self.config, self.fabric
        mine = range(fabric.global_rank, config.batch, fabric.world_size)
        rest = [i * config.batch + j for i in range(self.iteration, config.iterations) for j in mine]
        loader = DataLoader(
            Subset(samples, rest), batch_size=None, num_workers=config.workers, worker_init_fn=ignore_interrupts
        )
        logs = Logs(self.out, self.iteration, self.elections) if fabric.global_rank == 0 else None
        bar = tqdm(
            total=config.iterations, initial=self.iteration, unit="it", disable=True if fabric.global_rank else None
        )
        started, begun_at = time.monotonic(), self.iteration
        try:
            with interruptions() as asked:  # the loader's processes start within, so that they do not die of Ctrl-C
                loaded = iter(loader)
                while self.iteration < config.iterations:
                    losses = self.step([fabric.to_device(next(loaded)) for _ in mine])
                    self.iteration += 1
                    bar.update()
                    if logs:
                        logs.losses(self.iteration, losses, config.learning_rate * self.rate())
                    if bar.disable and self.iteration % 20 == 0:
                        self._tell(losses, (time.monotonic() - started) / (self.iteration - begun_at))
                    if self._election_is_due():
                        self.elect()
                        if logs:
                            logs.election(self.elections)
                    ends, stop = self.iteration == config.iterations, any_process(fabric, asked.is_set())
                    if self.iteration % config.checkpoint_every == 0 or ends or stop:
                        self.save()
                    if stop and not ends:
                        self.echo(f"stopped and saved at iteration {self.iteration}; go on: lckd train ... --resume")
                        raise KeyboardInterrupt
        finally:
            bar.close()
            if logs:
                logs.close()

    def step(self, samples: list[dict[str, Tensor]]) -> dict[str, float]:
        """One iteration; returns the losses by name, means over all processes' samples.

        Raises:
            InputError: the loss is not a number.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self.rate()
        if self.config.guidance == "staged":
            train_only(self.network, self.stage)
        self.optimiser.zero_grad()
        sums = torch.zeros(len(NAMES), device=self.fabric.device)
        for number, sample in enumerate(samples, 1):
            with self.fabric.no_backward_sync(self.views, enabled=number < len(samples)):
                losses = self.sample_losses(sample)
                total = sum(losses.values()) / len(samples)
                self._require_finite("loss", total)
                if total.requires_grad:  # an imitating guide learns nothing from a case that lacks its teacher
                    self.fabric.backward(total)
            sums += torch.stack([torch.as_tensor(losses.get(name, 0.0), device=sums.device) for name in NAMES]).detach()
        longest = self.config.clip_norm or math.inf
        norm = self.fabric.clip_gradients(self.views, self.optimiser, max_norm=longest, error_if_nonfinite=False)
        self._require_finite("gradient", norm)
        self.optimiser.step()
        self._average()
        means = self.fabric.all_reduce(sums / len(samples), reduce_op="mean")
        return dict(zip(NAMES, means.tolist(), strict=True))

    def _require_finite(self, name: str, value: Tensor) -> None:
        if not math.isfinite(value.item()):
            raise InputError(
                f"the {name} is {value.item()} at iteration {self.iteration}; the last checkpoint is kept, but going "
                "on from it would end here again: begin anew, in another --out, with a smaller learning_rate or "
                "precision=32-true"
            )

    def sample_losses(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        images, regions, available = sample["images"], sample["regions"], sample["available"]
        found = self._counted(Decoded(*self.views(images, available)), images, regions)
        if self.stage == "imitate":
            return {"guidance": guidance_distance(found.bottleneck, available, found.imagined)}
        if self.stage in ("alone", "through"):
            return self.plain(found, regions, available, [])
        taught = None
        if self.config.ema_teacher:
            with torch.no_grad(), self.fabric.autocast():
                taught = self._counted(Decoded(*Views(self.average)(images, available[:1])), images, regions)
        return self.losses(found, regions, available, self.lessons, taught)

    def _counted(self, decoded: Decoded, images: Tensor, regions: Tensor) -> Decoded:
        """What the losses count: a network with ``brain_norm`` has nothing to say outside the brain."""
        if not self.config.brain_norm:
            return decoded
        return within(images.ne(0).any(0) | regions.bool().any(0), decoded)

    def rate(self) -> float:
        """The learning rate's factor: a linear warm-up, then the polynomial decay of the paper (power 0.9)."""
        ends = [*self.config.learning_rate_stages, self.config.iterations]
        end = next((end for end in ends if self.iteration < end), self.config.iterations)
        rise = min(1.0, (self.iteration + 1) / max(1, self.config.warm_up))
        return rise * max(0.0, 1 - self.iteration / end) ** 0.9

    def _election_is_due(self) -> bool:
        iteration, config = self.iteration, self.config
        if config.guidance == "staged":
            return first_stage_ends(iteration, config.iterations)
        return iteration % config.elect_every == 0 or iteration == config.iterations

    def elect(self) -> None:
        """The first process elects, so that all have the same teachers."""
        election = None
        if self.fabric.global_rank == 0:
            scores = single_modality_scores(self.average, self.electing, self.config.window, self.fabric.device)
            election = elect(scores, self.teachers, self.iteration)
            self.echo(f"iteration {self.iteration}: teachers {election.teachers}, scores {election.scores}")
        self.elections.append(self.fabric.broadcast(election))
        if self.config.guided:
            for network in (self.network, self.average):
                network.guided.copy_(torch.tensor(guided_modalities(self.teachers)))

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "iteration": self.iteration,
            "elections": [asdict(e) for e in self.elections],
        }
        if self.fabric.global_rank == 0:
            save_checkpoint(self.out, state)
        self.fabric.barrier()  # torchrun ends all processes with the first that ends

    def load(self) -> None:
        state = load_checkpoint(self.out, self.fabric.device)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration = state["iteration"]
        self.elections = [Election(**e) for e in state["elections"]]

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.iteration) / (10 + self.iteration))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def _tell(self, losses: dict[str, float], seconds: float) -> None:
        left = seconds * (self.config.iterations - self.iteration) / 60
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items() if value)
        self.echo(f"{self.iteration}/{self.config.iterations} {seconds:.2f} s each, {left:.0f} min left: {shown}")
