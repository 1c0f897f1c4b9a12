"""From runs to a model folder: weights in few bits, a checked model.json and a card, nothing typed by hand."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import yaml
from safetensors.torch import save_file
from torch import nn

from lckd import __version__
from lckd.anatomy import MODALITIES, REGIONS, STRUCTURES, subset_name
from lckd.errors import InputError
from lckd.inference import choose_device
from lckd.model_folder import CARD, FORMAT, WEIGHTS, check_card, load_model, sha256
from lckd.picture import WARNING
from lckd.preprocessing import Preprocessing
from lckd.segment import Request, segment
from lckd.weights import packed, unpacked

from .card import HEALTHY, card_text
from .config import RECIPE, Config
from .data import CachedCase, cached
from .election import VOXEL_ML, comparable, found_in_subsets, true_regions
from .evaluation import evaluate, write_evaluation
from .finished import Finished, finished, mean_of
from .healthy import healthy_twin
from .layouts import find_cases
from .phantom import write_phantoms
from .run_folder import (
    CACHE,
    ELECTIONS,
    HISTORY,
    LOSSES,
    PLOT,
    RECORDS,
    SPLIT,
    write_split,
)
from .worst_cases import FOUND, TRUTH, WorstCases

LICENCE = "CC BY-NC 4.0; research use only"
HEALTHY_SUBSETS = (*((name,) for name in MODALITIES), MODALITIES)
PHANTOMS = 3  # healthy ones, and ones with a tumour


def export(
    runs: Sequence[Path],
    out: Path,
    data: Path | None = None,
    version: str | None = None,
    history: Path | None = None,
    echo=print,
) -> Path:
    """Evaluate the averaged network of a run, or of each of several, on its held-out cases and write the model ``out``.

    Args:
        runs: a run folder; a model folder made before, which is then made again from its weights and records; or
            several run folders of one recipe that held out different cases, see ``finished``.
        version: None: the model folder's, or 0.1.0.
        history: a text file on what came before the run, for the card; None: what the records hold, if anything.

    Raises:
        InputError: ``out`` holds something else than a model, the runs do not go together, a held-out case is not in
            the data, or none is complete.
    """
    out = Path(out).resolve()
    _refuse_to_replace(out)
    runs = [Path(run) for run in runs]
    parts = [finished(run) for run in runs]
    whole = mean_of(parts)
    if history and not history.is_file():
        raise InputError(f"{history}: no such file; --history names a text for the card")
    history = history or whole.records / HISTORY
    for run, part in zip(runs, parts, strict=True):
        if not (data or part.config.data):
            raise InputError(f"{run}: does not say where its data lie; name the folder with --data")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        scratch = Path(scratch)  # on the disk of ``out``; prepared patients do not stay behind
        cases = [
            held_out(part.split, data or part.config.data, (run if part.records == run else scratch) / CACHE)
            for run, part in zip(runs, parts, strict=True)
        ]
        if not any(case.modalities == MODALITIES for of_run in cases for case in of_run):
            raise InputError(
                f"{runs[0]}: no held-out case has all four sequences; nothing would tell what to expect of the model"
            )
        _write_model(whole, parts, cases, scratch / "model", version or whole.version, history, echo)
        _put_in_place(scratch / "model", out, scratch / "before")
    return out


def _write_model(
    whole: Finished,
    parts: list[Finished],
    cases: list[list[CachedCase]],
    partial: Path,
    version: str,
    history: Path,
    echo,
) -> None:
    """Evaluate each part on its cases, and write everything that the model folder of the whole holds."""
    config, split = whole.config, whole.split
    election = whole.elections[-1] if whole.elections else {"teachers": {}, "scores": {}, "iteration": 0}
    (partial / RECORDS).mkdir(parents=True)
    networks = [_as_stored(part.network) for part in parts]  # evaluated as it will be loaded
    device = choose_device("auto")
    rows = [
        row
        for network, of_run in zip(networks, cases, strict=True)
        for row in evaluate(network, of_run, config.window, device, config.rules, echo)
    ]
    summary = write_evaluation(rows, partial / "evaluation", f"model {config.name} {version}", election["teachers"])
    save_file(packed(whole.network.state_dict()), partial / WEIGHTS)
    (partial / WEIGHTS).chmod(0o644)  # safetensors makes it readable by its owner alone
    recipes = [_without_places(part.config) for part in parts]
    common = {key: value for key, value in recipes[0].items() if all(recipe[key] == value for recipe in recipes)}
    compared = comparable({case.name: case.modalities for of_run in cases for case in of_run})
    voters = compared if config.elect_on == "held_out" else split["training"]
    card = {
        "format": FORMAT,
        "name": config.name,
        "version": version,
        "licence": LICENCE,
        "architecture": config.network,
        "parameters": sum(p.numel() for p in whole.network.parameters()),
        "modalities": list(MODALITIES),
        "regions": list(REGIONS),
        "preprocessing": Preprocessing().as_dict(),
        "inference": {"window": list(config.window), **asdict(config.rules)},
        "training": {
            "data": data_words(split["training"]),
            "cases": len(split["training"]),
            "runs": len(parts),
            "iterations": whole.iteration,
            "elections": [e["iteration"] for e in parts[0].elections],
            "recipe": {k: v for k, v in common.items() if k != "validation_cases"},
        },
        "election": {
            "teachers": election["teachers"],
            "scores": election["scores"],
            "cases": len(voters),
            "validation_cases": split["validation"],
        },
        "expected_dice": summary,
        "weights_sha256": sha256(partial / WEIGHTS),
        "made_by": f"lckd {__version__}",
    }
    card = json.loads(json.dumps(card))
    check_card(card, partial / CARD)
    (partial / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    _write_records(parts, recipes, split, partial / RECORDS)
    told = ""
    if history.is_file():
        shutil.copyfile(history, partial / RECORDS / HISTORY)
        told = history.read_text(encoding="utf-8")
    echo("segmenting phantoms")
    healthy = healthy_millilitres(partial, partial / HEALTHY)
    draw_failures(load_model(partial).network(), config, partial / "evaluation")
    for picture in partial.rglob("*.png"):
        keep_few_colours(picture)
    halves: dict[str, list[float]] = {}
    for network, of_run in zip(networks, cases, strict=True):
        for subset, volumes in halves_millilitres(network, of_run, config).items():
            halves.setdefault(subset, []).extend(volumes)
    elections = whole.elections if len(parts) == 1 else []
    (partial / "README.md").write_text(card_text(card, rows, (healthy, halves), elections, told), encoding="utf-8")


def _as_stored(network: nn.Module) -> nn.Module:
    """The network with its weights in few bits, as it will be when loaded."""
    network.load_state_dict(unpacked(packed(network.state_dict())))
    return network


def _without_places(config: Config) -> dict:
    """The recipe, but not where things lay on the machine that trained, which is nobody's business."""
    return {**config.as_dict(), "data": "", "initial": Path(config.initial).name}


def _write_records(parts: list[Finished], recipes: list[dict], split: dict[str, list[str]], records: Path) -> None:
    """Recipe, split, losses and elections; of several runs in a folder each, beside the split of the whole."""
    for number, (part, recipe) in enumerate(zip(parts, recipes, strict=True), 1):
        own = records / f"run{number}" if len(parts) > 1 else records
        own.mkdir(exist_ok=True)
        (own / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        for name in (SPLIT, LOSSES, ELECTIONS, PLOT):
            if (part.records / name).is_file():
                shutil.copyfile(part.records / name, own / name)
    if len(parts) > 1:  # nothing is left that the model has not seen
        write_split(split["training"], [], records, resume=False)


def _put_in_place(made: Path, out: Path, before: Path) -> None:
    """Move a model folder to its place; what was there before stays until the new one stands."""
    if out.exists():
        out.rename(before)
    try:
        made.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise


def _refuse_to_replace(out: Path) -> None:
    """Raise InputError where the model folder to write holds something else than a model, which would be lost."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            check_card(json.loads((out / CARD).read_text(encoding="utf-8")), out / CARD)
    except (InputError, OSError, ValueError):
        raise InputError(
            f"{out}: holds something that is no model, which would be lost; choose another --out"
        ) from None


def held_out(split: dict, data: Path, cache: Path) -> list[CachedCase]:
    """The prepared held-out cases of a run's split. Raises InputError that names one that is not in the data."""
    cases = [case for case in find_cases(data) if case.name in split["validation"]]
    if missing := sorted({*split["validation"]} - {case.name for case in cases}):
        raise InputError(f"{data}: held-out case {missing[0]} is not there; name the folder that has it with --data")
    return [cached(case, Preprocessing(), cache) for case in cases]


def data_words(names: list[str]) -> str:
    """Where the training cases come from, counted by the first part of their names."""
    counts: dict[str, int] = {}
    for name in names:
        source = name.split("_")[0].split("-")[0]
        counts[source] = counts.get(source, 0) + 1
    return ", ".join(f"{count} {source}" for source, count in sorted(counts.items()))


def healthy_millilitres(model: Path, picture: Path) -> dict[str, list[float]]:
    """Subset -> what the model takes for tumour (WT, mL) in each phantom of a healthy brain; it should be 0.

    The one where it takes most is drawn: a failure that can be shown, since it is no patient's.
    """
    found: dict[str, list[float]] = {}
    worst, most = None, -1.0
    with tempfile.TemporaryDirectory() as folder:
        for study in write_phantoms(Path(folder), PHANTOMS, size=128, seed=7, healthy=True):
            for subset in HEALTHY_SUBSETS:
                given = {name: study / f"{study.name}_{name.lower()}.nii.gz" for name in subset}
                request = Request([], Path(folder) / "labels.nii.gz", given, model)
                volume = segment(request)["volumes_ml"]["WT"]
                found.setdefault(subset_name(subset), []).append(volume)
                if volume > most:
                    worst, most = replace(request, picture=picture), volume
        segment(worst)
    return found


def halves_millilitres(network: nn.Module, cases: list[CachedCase], config: Config) -> dict[str, list[float]]:
    """The same in brains made of a case's half without a tumour and its mirror image, outside what is left of it."""
    twins = [twin for case in cases if (twin := healthy_twin(case, Preprocessing()))]
    found: dict[str, list[float]] = {}
    whole, device = REGIONS.index("WT"), choose_device("auto")
    for twin in twins:
        left = true_regions(twin)[whole]
        for subset, regions in found_in_subsets(network, twin, HEALTHY_SUBSETS, config.window, device, config.rules):
            wrong = np.count_nonzero(regions[whole] & ~left)
            found.setdefault(subset_name(subset), []).append(wrong * VOXEL_ML)
    return found


def keep_few_colours(picture: Path) -> None:
    """Write a PNG anew in at most 200 colours: the card's pictures stay in repositories for good, and need no more.

    Grey stays grey, or tissue would seem to be marked; the colours that mean something stay as they are.
    """
    from PIL import Image

    telling = [*(structure.colour for structure in STRUCTURES.values()), TRUTH, FOUND, WARNING]
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    coloured = np.ptp(pixels, axis=2) > 0
    few = np.where(coloured[..., None], pixels, pixels & 0xFC)  # 64 levels of grey
    if coloured.any() and not Image.fromarray(pixels).getcolors(200):  # else it has been through here
        others = Image.fromarray(pixels[coloured][None]).quantize(128, dither=Image.Dither.NONE)
        few[coloured] = np.asarray(others.convert("RGB"))[0]
        for colour in telling:
            few[(pixels == colour).all(-1)] = colour
    joined = few @ np.array([1 << 16, 1 << 8, 1])  # a colour as one number: sorted many times sooner than as three
    colours, numbers = np.unique(joined, return_inverse=True)
    small = Image.fromarray(numbers.reshape(few.shape[:2]).astype(np.uint8))
    small.putpalette([int(colour) >> shift & 0xFF for colour in colours for shift in (16, 8, 0)])
    small.save(picture, "PNG", optimize=True)


def draw_failures(network: nn.Module, config: Config, out: Path) -> None:
    """Draw the worst result of each region in phantoms with a tumour, from T2 alone: what missing sequences cost."""
    worst = WorstCases()
    with tempfile.TemporaryDirectory() as folder:
        list(write_phantoms(Path(folder), PHANTOMS, size=128, seed=7))
        found = [replace(case, files={"T2": case.files["T2"]}) for case in find_cases(folder)]
        cases = [cached(case, Preprocessing(), Path(folder) / CACHE) for case in found]
        device, silent = choose_device("auto"), lambda words: None
        evaluate(network, cases, config.window, device, config.rules, silent, [("T2",)], worst=worst, dice_only=True)
    worst.write(out)
