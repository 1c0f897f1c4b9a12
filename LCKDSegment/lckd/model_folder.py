"""A model folder: ``model.json`` (what the model is), ``model.safetensors`` (its weights), ``README.md`` (its card).

A folder that fails a check is refused with the reason. Weights are safetensors, checked by SHA-256 before they are
read; a pickle is never loaded.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

from .anatomy import MODALITIES, REGIONS, subset_name, subsets
from .architectures import wrong_architecture
from .errors import InputError
from .postprocessing import LIMITS, Rules
from .preprocessing import Preprocessing

CARD, WEIGHTS = "model.json", "model.safetensors"
FORMAT, READABLE = 3, (1, 2, 3)
"""Of model.json and its weights (lckd.weights): what is written, what is read."""
DEFAULT_MODEL = "compact"

# model.json's schema: dotted key -> type. All are required.
SCHEMA = {
    "format": int, "name": str, "version": str, "licence": str,
    "architecture": dict, "parameters": int,
    "modalities": list, "regions": list,
    "preprocessing.spacing_mm": float, "preprocessing.clip_percentiles": list, "preprocessing.margin_mm": float,
    "inference.window": (int, list),
    "training.data": str, "training.cases": int, "training.iterations": int, "training.recipe": dict,
    "election.teachers": dict, "election.scores": dict, "election.cases": int,
    "expected_dice": dict, "weights_sha256": str,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A checked model folder: its place and the contents of its model.json."""

    folder: Path
    card: dict

    @property
    def title(self) -> str:
        return f"{self.card['name']} {self.card['version']}"

    @property
    def preprocessing(self) -> Preprocessing:
        settings = self.card["preprocessing"]
        return Preprocessing(settings["spacing_mm"], tuple(settings["clip_percentiles"]), settings["margin_mm"])

    @property
    def window(self) -> tuple[int, int, int]:
        """What the network looks at in one go, (z, y, x) in voxels of the working grid."""
        return three_edges(self.card["inference"]["window"])

    @property
    def rules(self) -> Rules:
        """What is done to the network's result; a card that does not name a rule does without it."""
        settings = self.card["inference"]
        return Rules(**{rule.name: settings[rule.name] for rule in fields(Rules) if rule.name in settings})

    @property
    def teachers(self) -> dict[str, str]:
        """Region -> the modality elected to teach it."""
        return self.card["election"]["teachers"]

    def expected_dice(self, modalities) -> dict[str, dict]:
        """Region -> mean, low, high (a bootstrap 95% interval) and cases, for exactly this subset of modalities.

        Of ET also ``mean_where_any`` where some of the cases have none, which count 1 if none is found.
        """
        return self.card["expected_dice"][subset_name(modalities)]

    def network(self):
        """The network with its weights, in evaluation mode, on the CPU. Raises InputError for weights that misfit."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from .architectures import build_network
        from .weights import unpacked

        try:
            network = build_network(self.card["architecture"])
            network.load_state_dict(unpacked(load_file(self.folder / WEIGHTS)))
        except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            path = self.folder / WEIGHTS
            raise InputError(f"{path}: not the weights of this model ({reason}); get it again") from None
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)


def default_model() -> Path:
    """The bundled model: in the source tree, in Slicer's module folder, or inside the installed package."""
    package = Path(__file__).resolve().parent
    places = [package.parents[1] / "Resources", package.parent / "Resources", package]
    for place in places:
        if (place / "Models" / DEFAULT_MODEL / CARD).is_file():
            return place / "Models" / DEFAULT_MODEL
    raise InputError("the bundled model is missing from this installation; install again or name one with --model DIR")


def load_model(folder: Path | None) -> Model:
    """The model of a folder (None: the bundled one), checked but with its weights not yet in memory.

    Raises:
        InputError: a file is missing, model.json breaks the schema or the weights do not have its SHA-256.
    """
    folder = Path(folder) if folder else default_model()
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: not a model folder, it has no {name}; make one with lckd export")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder / CARD}: cannot be read ({error.strerror}); check its permissions") from None
    except ValueError as error:
        raise InputError(f"{folder / CARD}: not valid JSON ({error}); get the model again") from None
    check_card(card, folder / CARD)
    if sha256(folder / WEIGHTS) != card["weights_sha256"]:
        raise InputError(f"{folder / WEIGHTS}: its SHA-256 is not the one in {CARD}; the file is damaged, get it again")
    return Model(folder, card)


def check_card(card: object, path: Path) -> None:
    """Raise InputError naming the first key of a model.json that is missing or wrong."""
    for key, kind in SCHEMA.items():
        value = card
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise InputError(f"{path}: {key} is missing; this is not a complete model card")
            value = value[part]
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise InputError(f"{path}: {key} must be of type {names}, not {type(value).__name__}")
    if card["format"] not in READABLE:
        known = ", ".join(map(str, READABLE))
        raise InputError(f"{path}: is of format {card['format']}, this program reads {known}; update it")
    if tuple(card["modalities"]) != MODALITIES or tuple(card["regions"]) != REGIONS:
        raise InputError(f"{path}: modalities or regions are not {', '.join(MODALITIES)} and {', '.join(REGIONS)}")
    for wrong in _wrong_values(card):
        raise InputError(f"{path}: {wrong}; get the model again or export it anew")


def _wrong_values(card: dict):
    """What in a card of the right types cannot be meant, in words."""
    clip, spacing, margin = (card["preprocessing"][key] for key in ("clip_percentiles", "spacing_mm", "margin_mm"))
    yield from wrong_architecture(card["architecture"], three_edges(card["inference"]["window"]))
    if len(clip) != 2 or not all(isinstance(c, (int, float)) for c in clip) or not 0 <= clip[0] < clip[1] <= 100:
        yield f"preprocessing.clip_percentiles {clip} are not two rising percentages"
    if not 0.3 <= spacing <= 5:
        yield f"preprocessing.spacing_mm {spacing} is not a usable voxel spacing"
    if not 0 <= margin <= 100:
        yield f"preprocessing.margin_mm {margin} is not a usable margin"
    for rule, (least, most) in LIMITS.items():
        value = card["inference"].get(rule, least)
        if not isinstance(value, (int, float)) or not least <= value <= most:
            yield f"inference.{rule} {value} is not a number from {least} to {most}"
    for region, teacher in card["election"]["teachers"].items():
        if region not in REGIONS or teacher not in MODALITIES:
            yield f"election.teachers has {region}: {teacher}"
    for subset in map(subset_name, subsets()):
        regions = card["expected_dice"].get(subset)
        for region in REGIONS:
            scores = regions.get(region) if isinstance(regions, dict) else None
            keys = ("mean", "low", "high", "cases")
            if not isinstance(scores, dict) or not all(isinstance(scores.get(key), (int, float)) for key in keys):
                yield f"expected_dice has no scores of {region} for {subset}"


def three_edges(window: int | list[int]) -> tuple:
    """A window's edges (z, y, x): one number stands for a cube."""
    return tuple(window) if isinstance(window, (list, tuple)) else (window,) * 3


def sha256(path: Path) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
