"""What a model is made of: a run that has ended, several that held out different cases, or a model made before.

Several runs of one recipe are a cross-validation. Each case that any of them held out is segmented by the one that was
not trained on it, which tells what to expect; the model is the mean of their weights, and has learnt from all cases.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lckd.anatomy import MODALITIES, REGIONS
from lckd.architectures import build_network
from lckd.errors import InputError
from lckd.model_folder import CARD, load_model

from .config import RECIPE, Config
from .election import elect
from .run_folder import ELECTIONS, RECORDS, SPLIT, averaged_network, read_recipe, read_split

OWN = {"seed", "data", "validation_cases", "repeated_cases"}
"""The settings in which the runs of a cross-validation may differ."""


@dataclass
class Finished:
    """A run, or what a model folder tells of one.

    Attributes:
        split: the cases that were trained on (``training``) and held out (``validation``), by name.
    """

    network: nn.Module
    config: Config
    iteration: int
    elections: list[dict]
    records: Path
    split: dict[str, list[str]]
    version: str = "0.1.0"


def finished(folder: Path) -> Finished:
    """Read a run folder or a model folder. Raises InputError where it is neither, or cannot be made again."""
    folder = Path(folder)
    if not (folder / CARD).is_file():
        network, config, state = averaged_network(folder)
        return Finished(network, config, state["iteration"], state["elections"], folder, read_split(folder))
    model, records = load_model(folder), folder / RECORDS
    runs = model.card["training"].get("runs", 1)
    if runs > 1:
        raise InputError(
            f"{folder}: is the mean of {runs} runs and cannot be measured without them; give their folders instead, "
            f"trained anew, if need be, by the recipes in {folder / RECORDS}"
        )
    if absent := next((name for name in (ELECTIONS, RECIPE, SPLIT) if not (records / name).is_file()), None):
        raise InputError(f"{folder}: lacks {RECORDS}/{absent}, so it can be used but not made again")
    elections = [json.loads(line) for line in (records / ELECTIONS).read_text(encoding="utf-8").splitlines()]
    config, iterations = read_recipe(records), model.card["training"]["iterations"]
    return Finished(model.network(), config, iterations, elections, records, read_split(records), model.card["version"])


def mean_of(runs: Sequence[Finished]) -> Finished:
    """The runs of a cross-validation as one: the mean of their weights and of what their last elections counted.

    Its split names every case under ``training``, those that a run held out under ``validation``, too.

    Raises:
        InputError: the runs are not of one recipe, or two of them held out the same case.
    """
    if len(runs) == 1:
        return runs[0]
    _check_recipes(runs)
    held_out = [name for run in runs for name in run.split["validation"]]
    if twice := {name for name in held_out if held_out.count(name) > 1}:
        raise InputError(f"{min(twice)} is held out by two of the runs; each has to hold out cases of its own")
    network = build_network(runs[0].config.network)
    weights = [run.network.state_dict() for run in runs]
    network.load_state_dict({key: _mean([state[key] for state in weights]) for key in weights[0]})
    trained = sorted({name for run in runs for name in run.split["training"]})
    return replace(
        runs[0],
        network=network,
        elections=_mean_election(runs),
        split={"training": trained, "validation": held_out},
    )


def _check_recipes(runs: Sequence[Finished]) -> None:
    first, *others = runs
    recipe = first.config.as_dict()
    for other in others:
        for key, value in other.config.as_dict().items():
            if key not in OWN and recipe[key] != value:
                raise InputError(
                    f"{other.records}: was trained with {key}={value}, {first.records} with {recipe[key]}; "
                    "several runs are exported together only if they are of one recipe"
                )
        if other.iteration != first.iteration:
            raise InputError(
                f"{other.records}: stands at iteration {other.iteration}, {first.records} at {first.iteration}; "
                "finish both: lckd train ... --resume"
            )


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    stacked = torch.stack(tensors)
    return stacked.mean(0) if stacked.is_floating_point() else stacked[0]


def _mean_election(runs: Sequence[Finished]) -> list[dict]:
    """The last elections as one, each counting by the number of cases its run held out; none where a run had none."""
    if not all(run.elections for run in runs):
        return []
    scores: dict[str, dict[str, float]] = {region: {} for region in REGIONS}
    for region in REGIONS:
        for modality in MODALITIES:
            counted = [
                (run.elections[-1]["scores"][region][modality], len(run.split["validation"]))
                for run in runs
                if modality in run.elections[-1]["scores"].get(region, {})
            ]
            if counted:
                total = sum(score * cases for score, cases in counted)
                scores[region][modality] = round(total / sum(cases for _, cases in counted), 4)
    iteration = runs[0].elections[-1]["iteration"]
    return [{"iteration": iteration, "scores": scores, "teachers": elect(scores, {}, iteration).teachers}]
