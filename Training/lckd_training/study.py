"""Does electing teachers help when the teacher is missing? The ways of teaching side by side under one budget.

All but ``no distillation`` share the full set's soft targets (``logit_weight``); they differ in whose features teach.

Every strategy trains the same recipe with the same samples and the same split (both are functions of the seed) and is
evaluated on the held-out cases. A study that was stopped goes on where it stood.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from lckd.anatomy import REGIONS
from lckd.architectures import PAPER
from lckd.inference import choose_device

from .config import Config, read_config
from .election import NO_RULES, elect
from .evaluation import evaluate, mean_dice, scores_alone, summarise
from .export import held_out
from .layouts import find_cases
from .run_folder import CACHE, CHECKPOINT, averaged_network, check_same_recipe, read_split, write_whole
from .training import train

MAY_CHANGE = ("data", "checkpoint_every", "workers")  # in a study that goes on, where all must have one length
TABLE, RESULTS = "study.md", "study.json"
STRATEGIES = {
    "elected": {"strategy": "elected"},
    "fixed": {"strategy": "fixed"},
    "all": {"strategy": "all"},
    "none": {"strategy": "none"},
    "no distillation": {"strategy": "none", "logit_weight": 0.0},
    "guidance, joint": {"strategy": "none", "guidance": "joint"},
    "guidance, staged": {"strategy": "none", "guidance": "staged"},
}


def study(config: Config, data: Path, out: Path, seeds: int, echo=print) -> str:
    """Train every strategy ``seeds`` times and write the table, as Markdown and JSON; returns the Markdown."""
    out = Path(out)
    arms = {
        name: read_config({**config.as_dict(), **settings}, out)  # refuses before the first one trains
        for name, settings in STRATEGIES.items()
        if "guidance" not in settings or config.architecture != PAPER
    }
    results: dict[str, list[dict]] = {strategy: [] for strategy in arms}
    for seed in range(seeds):
        for strategy, arm in arms.items():
            echo(f"{strategy}, seed {seed}")
            own = dataclasses.replace(arm, seed=config.seed + seed)
            results[strategy].append(_one(own, data, out / f"{strategy.replace(', ', '-')}-{seed}", echo))
    write_whole(out / RESULTS, json.dumps(results, indent=1) + "\n")
    table = markdown(results, config)
    write_whole(out / TABLE, table)
    return table


def _one(config: Config, data: Path, run: Path, echo) -> dict:
    """Train (or go on with) one run and evaluate it: the summary of its subsets and the teachers of its election."""
    result, recipe = run / "result.json", {**config.as_dict(), "data": ""}
    facts = {"recipe": recipe, "cases": sorted(case.name for case in find_cases(data))}
    if result.is_file() and (before := json.loads(result.read_text(encoding="utf-8"))).items() >= facts.items():
        return before
    begun = (run / CHECKPOINT).is_file()
    if begun:
        check_same_recipe(config, run, MAY_CHANGE)
    cache = run.parent / CACHE  # one for all the runs
    train(config, data, run, resume=begun, echo=echo, cache=cache)
    network, *_ = averaged_network(run)
    cases = held_out(read_split(run), data, cache)
    rows = evaluate(network, cases, config.window, choose_device("auto"), NO_RULES, lambda words: None, dice_only=True)
    found = {"summary": summarise(rows), "teachers": elect(scores_alone(rows), {}, 0).teachers, **facts}
    write_whole(result, json.dumps(found))
    return found


def markdown(results: dict[str, list[dict]], config: Config) -> str:
    """Mean Dice over all subsets, and over those without the region's best sequence, by strategy."""
    heads = [f"{region}{words}" for words in ("", " without its teacher") for region in REGIONS]
    seeds = len(results["elected"])
    lines = [
        f"{config.iterations} iterations of {config.name}, {seeds} seed(s). Mean Dice over the subsets, and over those",
        "without the sequence that does best alone.",
        "",
        "| strategy | " + " | ".join(heads) + " | best alone |",
        "|---|" + "---|" * (len(heads) + 1),
    ]
    # The same subsets for every strategy: those without what the elected run's own election names.
    teachers = [found["teachers"] for found in results["elected"]]
    for strategy, runs in results.items():
        cells = []
        for without in (False, True):
            for region in REGIONS:
                scores = [
                    mean_dice(found["summary"], region, best[region] if without else None)
                    for found, best in zip(runs, teachers, strict=True)
                    if region in best or not without  # nobody finds the region: there is no best to be without
                ]
                spread = f" ± {np.std(scores):.3f}" if len(scores) > 1 else ""
                cells.append(f"{np.mean(scores):.3f}{spread}" if scores else "-")
        named = "; ".join(", ".join(f"{r} {m}" for r, m in found["teachers"].items()) for found in runs)
        lines.append(f"| {strategy} | " + " | ".join(cells) + f" | {named} |")
    return "\n".join(lines) + "\n"
