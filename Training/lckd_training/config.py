"""The recipe of a run: one YAML file, every value overridable as ``key=value``, unknown keys refused."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args, get_origin

import yaml

from lckd.anatomy import MODALITIES
from lckd.architectures import KINDS, PAPER, SWITCHES, wrong_architecture
from lckd.errors import InputError
from lckd.model_folder import three_edges
from lckd.postprocessing import LIMITS, Rules

RECIPE = "config.yaml"
"""A run's own copy of its recipe, in its folder."""
CHOICES = {
    "architecture": KINDS,
    "optimiser": ("adamw", "sgd"),
    "sampling": ("uniform", "ramped", "paper"),
    "strategy": ("elected", "fixed", "all", "none"),
    "fixed_teacher": MODALITIES,
    "elect_on": ("held_out", "training"),
    "guidance": ("none", "joint", "staged"),
    "precision": ("auto", "bf16-mixed", "32-true"),
}
SHARES = ("healthy", "pasted", "unenhanced", "tumour_centred", "final_from")


@dataclass
class Config:
    """Every decision of a run. The resolved copy is saved with it as ``config.yaml``."""

    name: str = "lckd"
    data: str = ""
    validation_cases: list[str] = field(default_factory=list)  # empty: a fifth of the patients, drawn by the seed
    seed: int = 0
    # network
    architecture: str = "compact"  # compact: the one that ships; paper: the published one
    widths: list[int] = field(default_factory=lambda: [16, 48, 96, 128, 128])  # compact
    depth: int = 2  # compact
    brain_norm: bool = False  # compact: normalise by the brain's voxels alone (lckd.network)
    mirrored: bool = False  # compact: inference is the mean of a study and its mirror image, at twice the time
    bottleneck_layer: bool = False  # compact: a layer on the deepest level's fused features, too
    missing_skips: str = "mean"  # paper; zero_image is the authors'
    global_branch: str = "live"  # paper; dead is the authors'
    initial: str = ""  # a model folder to start from, its architecture the same; empty: random weights
    # schedule
    iterations: int = 4000
    warm_up: int = 100  # iterations in which the learning rate rises to its value
    optimiser: str = "adamw"  # sgd: with Nesterov momentum 0.99, as in the paper
    learning_rate: float = 1e-3
    learning_rate_stages: list[int] = field(default_factory=list)  # iterations at which its decay ends and begins anew
    weight_decay: float = 1e-4
    clip_norm: float = 1.0  # longer gradients are shortened to this; 0: never
    batch: int = 1  # samples an iteration, shared by all processes; their gradients are accumulated one by one
    ema: float = 0.999
    precision: str = "auto"  # bf16-mixed where the hardware multiplies bfloat16, else 32-true
    # samples
    patch: list[int] = field(default_factory=lambda: [96, 96, 96])  # edges (z, y, x); one number is a cube
    final_patch: list[int] = field(
        default_factory=lambda: [128, 128, 128]
    )  # the last part of a run sees more at once ...
    final_from: float = 0.75  # ... from this fraction of the iterations on
    inference_window: list[int] = field(
        default_factory=list
    )  # of elections and the exported model; empty: as final_patch
    tumour_centred: float = 0.67  # share of patches centred on a tumour voxel
    healthy: float = (
        0.0  # share of samples of which the tumour's half is replaced by the other's mirror image (healthy)
    )
    pasted: float = 0.0  # share of samples that get another case's tumour somewhere in the brain (pasting)
    unenhanced: float = 0.0  # share of samples shown as if the tumour took up no contrast agent (enhancement)
    repeated_cases: list[str] = field(default_factory=list)  # cases that a model to begin from has not seen, say, ...
    repeats: int = 1  # ... come so many times as often as the others
    sampling: str = "uniform"  # which subsets are decoded: see sampling.draw_views
    full_until: int = 0  # ramped: until here subsets become more and more frequent; paper: until here all modalities
    subsets_per_sample: int = 2  # uniform, ramped: decoded beside the full set; the encoder runs once for all
    # losses, election and distillation
    cross_entropy_weight: float = 1.0  # beside Dice; the mean over the regions (the authors sum over the three)
    dice_smooth: float = 1.0  # voxels in both terms of Dice: with more, large false regions weigh, small misses less
    strategy: str = "elected"  # whose features teach: elected, fixed (fixed_teacher from the start), all, none
    fixed_teacher: str = "FLAIR"
    single_teacher: bool = False  # only the modality that is elected for most regions (the paper's LCKD-s)
    elect_every: int = 1000
    elect_on: str = "held_out"  # training: on cases that are trained on, as the authors' code does
    feature_weight: float = 0.1  # L1 between a teacher's and the others' bottleneck features (the paper's 0.1)
    relative_features: bool = False  # that distance over the mean deviation of the teacher's features
    per_region: bool = False  # a region's teacher teaches only where that region is
    logit_weight: float = 0.5  # the full set's prediction as a soft target of each subset's
    ema_teacher: bool = False  # what is taught comes from the running average of the weights
    guidance: str = "none"  # imagine the missing teachers' features: in one run (joint) or in the published stages
    guidance_weight: float = 0.1  # L1 between imagined and true features
    # what the exported model does to the network's result (lckd.postprocessing); these switch it off
    smallest_piece_ml: float = 0.0
    smallest_et_ml: float = 0.0
    wt_cut: float = 0.5
    least_core: float = 0.0
    least_unenhanced_core: float = 0.0
    # bookkeeping
    checkpoint_every: int = 100
    workers: int = 1

    @property
    def rules(self) -> Rules:
        return Rules(**{rule: getattr(self, rule) for rule in LIMITS})

    @property
    def network(self) -> dict:
        """The architecture as a model card has it (lckd.architectures)."""
        if self.architecture == PAPER:
            return {"kind": PAPER, "missing_skips": self.missing_skips, "global_branch": self.global_branch}
        guidance = {"guidance": True} if self.guided else {}
        switches = {name: True for name in SWITCHES if getattr(self, name)}
        return {"widths": self.widths, "depth": self.depth, **guidance, **switches}

    @property
    def guided(self) -> bool:
        return self.guidance != "none"

    @property
    def window(self) -> tuple[int, int, int]:
        """What inference looks at in one go, in voxels."""
        return tuple(self.inference_window or self.final_patch)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


def load_config(path: Path, overrides: list[str] = ()) -> Config:
    """The recipe of a YAML file with ``key=value`` overrides. Raises InputError for what it does not know."""
    path, known = Path(path), [field.name for field in dataclasses.fields(Config)]
    if not path.is_file():
        raise InputError(f"{path}: no such recipe; see Training/configs")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise InputError(f"{path}: not a recipe; write its settings as lines of key: value")
        for override in overrides:
            key, separator, text = override.partition("=")
            if not separator:
                raise InputError(f"{override}: an override is written key=value")
            if key not in known:
                raise InputError(f"{override}: unknown setting {key!r}; known are {', '.join(known)}")
            values[key] = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    return read_config(values, path)


def read_config(values: dict, path: Path) -> Config:
    """The recipe of a mapping. Raises InputError, naming ``path``, for what it does not know or cannot do."""
    fields = {f.name: f for f in dataclasses.fields(Config)}
    for key, value in values.items():
        if key not in fields:
            raise InputError(f"{path}: unknown setting {key!r}; known are {', '.join(fields)}")
        values[key] = _typed(key, value, fields[key].type)
    config = Config(**values)
    for problem in _impossible(config):
        raise InputError(f"{path}: {problem}")
    return config


def _typed(key: str, value, expected):
    """The value as its field's type: YAML reads ``1e-3`` as text, so numbers are converted, never guessed."""
    if get_origin(expected) is list:
        if key in ("patch", "final_patch", "inference_window"):
            value = list(three_edges(value))
        if not isinstance(value, list):
            raise InputError(f"{key}: {value!r} is not a list")
        return [_typed(key, item, *get_args(expected)) for item in value]
    if expected in (int, float, str):
        if value is None:  # key= on a command line
            value = ""
        try:
            if expected is int and float(value) != int(float(value)):
                raise ValueError
            return expected(value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{key}: {value!r} is not a valid {expected.__name__}") from None
    if not isinstance(value, bool):
        raise InputError(f"{key}: {value!r} is not true or false")
    return value


def _impossible(config: Config):
    """What settings of the right types cannot mean, in words."""
    for key, choices in CHOICES.items():
        if getattr(config, key) not in choices:
            yield f"{key} {getattr(config, key)!r}; choose {', '.join(choices)}"
    for key, edges in {
        "patch": config.patch,
        "final_patch": config.final_patch,
        "inference_window": config.window,
    }.items():
        for wrong in wrong_architecture(config.network, tuple(edges)):
            yield wrong.replace("inference.window", key)
    yield from _out_of_range(config)
    if config.learning_rate_stages != sorted(config.learning_rate_stages):
        yield f"learning_rate_stages {config.learning_rate_stages} do not rise"
    for last in [*config.learning_rate_stages, config.full_until]:
        if last >= config.iterations:
            yield f"learning_rate_stages and full_until must lie before iterations={config.iterations}, {last} does not"
    if config.architecture == PAPER and (config.guided or any(getattr(config, switch) for switch in SWITCHES)):
        yield f"guidance, {', '.join(SWITCHES)} are for architecture=compact only"
    if config.guided and config.sampling == "paper":
        yield "guidance learns from what a subset lacks and the case has; sampling=paper never shows that"


def _out_of_range(config: Config):
    """Numbers that are too small, too large or none at all, in words."""
    not_negative = ("seed", "workers", "warm_up", "subsets_per_sample", "weight_decay", "clip_norm")
    weights = ("cross_entropy_weight", "feature_weight", "logit_weight", "guidance_weight")
    limits = (
        ("is a share, from 0 to 1", lambda value: 0 <= value <= 1, SHARES),
        (
            "must be at least 1",
            lambda value: value >= 1,
            ("iterations", "batch", "elect_every", "checkpoint_every", "repeats"),
        ),
        ("cannot be negative", lambda value: value >= 0, (*not_negative, *weights)),
        ("must be more than 0", lambda value: value > 0, ("dice_smooth", "learning_rate")),
        ("must be from 0 to below 1", lambda value: 0 <= value < 1, ("ema",)),
    )
    for rule, (least, most) in LIMITS.items():
        if not least <= getattr(config, rule) <= most:
            yield f"{rule} {getattr(config, rule)}; it must be from {least} to {most}"
    for words, fits, keys in limits:
        for key in keys:
            if not fits(getattr(config, key)):
                yield f"{key} {getattr(config, key)}; it {words}"
