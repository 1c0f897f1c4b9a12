"""From a run to a model folder: weights in eight bits, a checked model.json and a card, nothing typed by hand."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from lckd import __version__
from lckd.anatomy import MODALITIES, REGIONS
from lckd.errors import InputError
from lckd.inference import choose_device
from lckd.model_folder import CARD, FORMAT, WEIGHTS, check_card, sha256
from lckd.preprocessing import Preprocessing
from lckd.report import HOPELESS, NOTICE
from lckd.segment import Request, segment
from lckd.weights import packed, unpacked

from .data import CachedCase, cached
from .election import score_table
from .evaluation import evaluate, markdown_table, worst_cases, write_evaluation
from .layouts import find_cases
from .phantom import write_phantoms
from .run_folder import CACHE, ELECTIONS, LOSSES, PLOT, RECIPE, SPLIT, averaged_network

RECORDS = "training"
"""The part of a model folder that says how its run went."""

HEALTHY = "evaluation/healthy_phantom.png"
LICENCE = "CC BY-NC 4.0; research use only"
METHOD = """\
- Method: H. Wang et al., *Learnable Cross-modal Knowledge Distillation for Multi-modal Learning with Missing Modality*,
  MICCAI 2023, arXiv 2310.01035.
"""
BRATS = """\
- Data: B. Menze et al., *The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS)*, IEEE TMI 2015; S. Bakas et
  al., *Advancing The Cancer Genome Atlas glioma MRI collections*, Scientific Data 2017; S. Bakas et al., arXiv
  1811.02629, 2018; U. Baid et al., *The RSNA-ASNR-MICCAI BraTS 2021 Benchmark*, arXiv 2107.02314, 2021.
"""


def export(run: Path, out: Path, data: Path | None = None, version: str = "0.1.0", echo=print) -> Path:
    """Evaluate a run's averaged network on its held-out cases and write the model folder ``out``.

    Raises:
        InputError: ``out`` holds something else than a model, a held-out case is not in the data, or none is complete.
    """
    run, out = Path(run), Path(out).resolve()
    if out.exists() and not (out / CARD).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds something that is no model, which would be lost; choose another --out")
    network, config, state = averaged_network(run)
    election = state["elections"][-1] if state["elections"] else {"teachers": {}, "scores": {}, "iteration": 0}
    split = json.loads((run / SPLIT).read_text())
    cases = held_out(split, data or config.data, run / CACHE)
    if not any(case.modalities == MODALITIES for case in cases):
        raise InputError(
            f"{run}: no held-out case has all four sequences; nothing would tell what to expect of the model"
        )
    partial = out.with_name(out.name + ".partial")
    (partial / RECORDS).mkdir(parents=True, exist_ok=True)
    weights = packed(network.state_dict())
    network.load_state_dict(unpacked(weights))  # evaluated as it will be loaded
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)
    rows = evaluate(network, cases, config.window, choose_device("auto"), config.rules, echo)
    summary = write_evaluation(rows, partial / "evaluation", election["teachers"])
    save_file(weights, partial / WEIGHTS)
    (partial / WEIGHTS).chmod(0o644)  # safetensors makes it readable by its owner alone
    # Where things lay on the machine that trained is nobody's business.
    recipe = {**config.as_dict(), "data": "", "initial": Path(config.initial).name}
    card = {
        "format": FORMAT,
        "name": config.name,
        "version": version,
        "licence": LICENCE,
        "architecture": config.network,
        "parameters": sum(p.numel() for p in network.parameters()),
        "modalities": list(MODALITIES),
        "regions": list(REGIONS),
        "preprocessing": Preprocessing().as_dict(),
        "inference": {"window": list(config.window), **asdict(config.rules)},
        "training": {
            "data": data_words(split["training"]),
            "cases": len(split["training"]),
            "iterations": state["iteration"],
            "elections": [e["iteration"] for e in state["elections"]],
            "recipe": {k: v for k, v in recipe.items() if k != "validation_cases"},
        },
        "election": {
            "teachers": election["teachers"],
            "scores": election["scores"],
            "cases": len(split["validation" if config.elect_on == "held_out" else "training"]),
            "validation_cases": split["validation"],
        },
        "expected_dice": summary,
        "weights_sha256": sha256(partial / WEIGHTS),
        "made_by": f"lckd {__version__}",
    }
    card = json.loads(json.dumps(card))
    check_card(card, out / CARD)
    (partial / CARD).write_text(json.dumps(card, indent=1) + "\n")
    echo("segmenting a healthy phantom")
    (partial / "README.md").write_text(card_text(card, rows, healthy_millilitres(partial, partial / HEALTHY)))
    (partial / RECORDS / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False))
    for name in (SPLIT, LOSSES, ELECTIONS, PLOT):
        if (run / name).is_file():
            shutil.copyfile(run / name, partial / RECORDS / name)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return out


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


def healthy_millilitres(model: Path, picture: Path, cases: int = 2) -> list[float]:
    """What the model takes for tumour (WT, mL) in phantoms of healthy brains, all four sequences; it should be 0.

    The one where it takes most is drawn: a failure that can be shown, since it is no patient's.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for study in write_phantoms(Path(folder), cases, size=128, seed=7, healthy=True):
            drawn = Path(folder) / f"{study.name}.png"
            report = segment(Request([study], drawn.with_suffix(".nii.gz"), model=model, picture=drawn))
            found.append((report["volumes_ml"]["WT"], drawn))
        shutil.copyfile(max(found)[1], picture)
    return [millilitres for millilitres, _ in found]


def method_words(training: dict) -> str:
    """How the sequences were made to stand in for one another, by what the run did and not by its recipe alone."""
    recipe = training["recipe"]
    untaught = not any(i < training["iterations"] for i in training["elections"])
    teaching = {
        "elected": "learnable cross-modal knowledge distillation (elected teachers)",
        "fixed": f"distillation from {recipe['fixed_teacher']}",
        "all": "every sequence teaching every other",
        "none": "no teachers",
    }[recipe["strategy"]]
    if not recipe["feature_weight"]:
        teaching = "no feature distillation"
    elif recipe["strategy"] == "elected" and untaught:
        teaching = "no teachers, since none was elected before this run's end"
    return teaching + (f" and {recipe['guidance']} guidance" if recipe["guidance"] != "none" else "")


def rule_words(card: dict) -> str:
    """What the model leaves out by size, in words."""
    rules = card["inference"]
    words = []
    if rules["smallest_piece_ml"]:
        words.append(f"pieces under {rules['smallest_piece_ml']:g} mL beside a larger tumour are left out")
    if rules["smallest_et_ml"]:
        words.append(f"less than {rules['smallest_et_ml']:g} mL enhancing in a large core is counted as necrosis")
    return ("By rule, " + "; ".join(words) + ".") if words else "Nothing is left out by size."


def card_text(card: dict, rows: list[dict], healthy: list[float]) -> str:
    """The model card: what it is, how good, how it fails, how it was made."""
    training, election = card["training"], card["election"]
    brats = "brats" in f"{training['data']} {election['validation_cases']}".lower()
    history = f"\n![The elections of the run]({RECORDS}/{PLOT})\n" if len(training["elections"]) > 1 else ""
    seen = "adult gliomas before treatment" if brats else "the cases named above"
    steps = training["iterations"]
    held = training["recipe"]["elect_on"] == "held_out"
    chose = ", which chose the teachers but nothing else" if held else ""
    beginning = f", begun from the weights of {training['recipe']['initial']}" if training["recipe"]["initial"] else ""
    without = sorted({row["case"] for row in rows if row["ET empty"]})
    hopeless = [s for s, regions in card["expected_dice"].items() if regions["ET"]["mean"] < HOPELESS]
    worst = f", above all from {', '.join(hopeless)} (below {HOPELESS})" if hopeless else ""
    return f"""# {card["name"]} {card["version"]}

**{NOTICE}** Licence: {card["licence"]}.

Segments glioma (enhancing tumour ET, tumour core TC, whole tumour WT) from any subset of T1, T1ce, T2 and FLAIR with
{method_words(training)}. {card["parameters"]:,} parameters. Input: one adult patient,
skull-stripped and lined up, at {card["preprocessing"]["spacing_mm"]:g} mm, which `lckd` sees to.

## What to expect

Mean Dice (bootstrap 95% interval) on {len(election["validation_cases"])} held-out cases{chose}.
A region that is empty in both counts 1, in one only 0. So few cases make wide intervals: read them.

{markdown_table(card["expected_dice"], election["teachers"])}
![The same as a picture](evaluation/heat_map.png)

Enhancing tumour (ET) is not seen without T1ce: there its outline is a guess{worst}. HD95 and every case's
numbers stand in [evaluation/evaluation.md](evaluation/evaluation.md).

{worst_cases(rows)}
Held-out cases without enhancing tumour: {", ".join(without) or "none"}. There, finding any counts 0, and
finding none 1, which lifts the means of sequences that see little.
Healthy phantoms ({len(healthy)}, four sequences): {", ".join(f"{v:.2f}" for v in healthy)} mL taken for tumour. The
worse one, as `lckd segment` draws it:

![A healthy phantom]({HEALTHY})

## Teachers

Elected on {"the held-out cases" if held else "cases that were trained on"} by the Dice of each sequence alone.

{score_table(election["scores"], election["teachers"])}
{history}
## How it was made

{training["cases"]} cases ({training["data"]}), {steps} iterations of the recipe in model.json{beginning}.
`training/` holds the run's recipe, split, losses and elections. `lckd export RUN --out DIR` makes this folder again,
every number in this file included.

## Limits

- Enhancing tumour cannot be seen without T1ce: what is drawn then is a guess.
- Trained on {seen} only: not on metastases, children, haemorrhage or resection cavities.
- {rule_words(card)}
- A result with no tumour is no proof that there is none.

## Cite

{METHOD}{BRATS if brats else ""}"""
