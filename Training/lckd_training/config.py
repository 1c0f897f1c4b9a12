"""The recipe of a run: one YAML file, every value overridable as ``key=value``, unknown keys refused."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lckd.errors import InputError
from lckd.postprocessing import Rules

STRATEGIES = ("elected", "fixed", "all", "none")


@dataclass
class Config:
    """Every decision of a run. The resolved copy is saved with it as ``config.yaml``."""

    name: str = "lckd"
    data: str = ""
    validation_cases: list[str] = field(default_factory=list)  # empty: a fifth of the patients, drawn by the seed
    seed: int = 0
    # network
    widths: list[int] = field(default_factory=lambda: [16, 48, 96, 128, 128])
    depth: int = 2
    initial: str = ""  # a model folder to start from, its architecture the same; empty: random weights
    # schedule
    iterations: int = 4000
    warm_up: int = 100  # iterations in which the learning rate rises to its value
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    ema: float = 0.999
    precision: str = "bf16-mixed"
    # samples
    patch: int = 96
    final_patch: int = 128  # the last part of a run sees more of the brain at once, as inference does
    final_from: float = 0.75  # ... from this fraction of the iterations on
    tumour_centred: float = 0.67  # share of patches centred on a tumour voxel
    subsets_per_sample: int = 2  # random subsets decoded beside the full set; the encoder runs once for all
    # election and distillation
    strategy: str = "elected"  # who teaches: elected, fixed (fixed_teacher from the start), all, none
    fixed_teacher: str = "FLAIR"
    elect_every: int = 1000
    feature_weight: float = 0.1  # L1 between a teacher's and the others' bottleneck features (the paper's 0.1)
    logit_weight: float = 0.5  # the full set's prediction as a soft target of each subset's
    # what the exported model leaves out, in mL (lckd.postprocessing); 0: nothing
    smallest_piece_ml: float = 0.0
    smallest_et_ml: float = 0.0
    # bookkeeping
    checkpoint_every: int = 100
    workers: int = 1

    @property
    def rules(self) -> Rules:
        return Rules(self.smallest_piece_ml, self.smallest_et_ml)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


def load_config(path: Path, overrides: list[str] = ()) -> Config:
    """The recipe of a YAML file with ``key=value`` overrides. Raises InputError for what it does not know."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such recipe; see Training/configs")
    try:
        values = yaml.safe_load(path.read_text()) or {}
        for override in overrides:
            key, separator, text = override.partition("=")
            if not separator:
                raise InputError(f"{override}: an override is written key=value")
            values[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    fields = {f.name: f for f in dataclasses.fields(Config)}
    for key, value in values.items():
        if key not in fields:
            raise InputError(f"{path}: unknown setting {key!r}; known are {', '.join(fields)}")
        values[key] = _typed(key, value, fields[key].type)
    if values.get("strategy", "elected") not in STRATEGIES:
        raise InputError(f"{path}: strategy {values['strategy']!r}; choose {', '.join(STRATEGIES)}")
    return Config(**values)


def _typed(key: str, value, expected):
    """The value as its field's type: YAML reads ``1e-3`` as text, so numbers are converted, never guessed."""
    if expected in (int, float, str):
        try:
            return expected(value)
        except (TypeError, ValueError):
            raise InputError(f"{key}: {value!r} is not a valid {expected.__name__}") from None
    if not isinstance(value, list):
        raise InputError(f"{key}: {value!r} is not a list")
    return value
