"""A model card's text: what to expect, how it fails, how it was made; every number from the evaluation at hand."""

from statistics import fmean

from lckd.anatomy import REGIONS
from lckd.postprocessing import CUT
from lckd.report import HOPELESS, NOTICE, where_any

from .election import score_table
from .evaluation import markdown_table, worst_cases
from .run_folder import PLOT, RECORDS

HEALTHY = "evaluation/healthy_phantom.png"
METHOD = """\
- Method: H. Wang et al., *Learnable Cross-modal Knowledge Distillation for Multi-modal Learning with Missing Modality*,
  MICCAI 2023, arXiv 2310.01035.
"""
BRATS = """\
- Data: B. Menze et al., *The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS)*, IEEE TMI 2015; S. Bakas et
  al., *Advancing The Cancer Genome Atlas glioma MRI collections*, Scientific Data 2017; S. Bakas et al., arXiv
  1811.02629, 2018; U. Baid et al., *The RSNA-ASNR-MICCAI BraTS 2021 Benchmark*, arXiv 2107.02314, 2021.
"""


def elected_taught(training: dict) -> bool:
    """Whether in a card's ``training`` the elected taught the others: by their features, before the run was over."""
    recipe = training["recipe"]
    in_time = any(iteration < training["iterations"] for iteration in training["elections"])
    return in_time and recipe["strategy"] == "elected" and recipe["feature_weight"] > 0


def method_words(training: dict) -> str:
    """How the sequences were made to stand in for one another, by what the run did and not by its recipe alone."""
    recipe = training["recipe"]
    teaching = {
        "elected": "learnable cross-modal knowledge distillation (elected teachers)",
        "fixed": f"distillation from {recipe['fixed_teacher']}",
        "all": "every sequence teaching every other",
        "none": "no teachers",
    }[recipe["strategy"]]
    if not recipe["feature_weight"]:
        teaching = "no feature distillation"
    elif recipe["strategy"] == "elected" and not elected_taught(training):
        teaching = "no teachers, since none was elected before this run's end"
    return teaching + (f" and {recipe['guidance']} guidance" if recipe["guidance"] != "none" else "")


def measured_words(training: dict, cases: int) -> str:
    """What the Dice of a card was measured on, and with which weights."""
    chose = ", which also chose the teachers" if training["recipe"]["elect_on"] == "held_out" else ""
    runs = training.get("runs", 1)
    if runs == 1:
        return f"Mean Dice (bootstrap 95% interval) on {cases} held-out cases{chose}."
    return f"""Mean Dice (bootstrap 95% interval) by cross-validation on {cases} cases{chose}:
each was segmented by that one of {runs} networks that had not been trained on it. The model is the mean of the weights
of these {runs}. It has learnt from all of the cases, so it cannot itself be measured on them."""


def again_words(training: dict) -> str:
    """What the records hold, and how to make the card again."""
    runs = training.get("runs", 1)
    if runs == 1:
        return """\
`training/` holds the run's recipe, split, losses and elections. `lckd export MODEL_DIR --out DIR --data DIR`, with this
folder and the held-out cases, makes it again, every measurement in this file included."""
    return f"""\
Each of the {runs} runs held out cases of its own; `training/run1` to `run{runs}` hold their recipes, splits, losses and
elections. `lckd train training/runN/config.yaml initial=MODEL_DIR --data DIR --out RUNN` repeats one; `lckd export RUN1
RUN2 ... --out DIR --data DIR` makes the model of them, and every measurement in this file."""


def rule_words(card: dict) -> str:
    """What is done to the network's result, in words."""
    rules = card["inference"]
    words = []
    if rules["smallest_piece_ml"]:
        words.append(f"pieces under {rules['smallest_piece_ml']:g} mL beside a larger tumour are left out")
    if rules["smallest_et_ml"]:
        words.append(f"less than {rules['smallest_et_ml']:g} mL enhancing in a large core is counted as necrosis")
    if rules["wt_cut"] != CUT:
        words.append(f"whole tumour is what has a probability of at least {rules['wt_cut']:g} and joins what has 0.5")
    if rules["least_core"]:
        words.append(f"without T1ce a core is at least {rules['least_core']:g} of the whole tumour")
    if rules["least_unenhanced_core"]:
        words.append(f"where T1ce hardly enhances, at least {rules['least_unenhanced_core']:g}")
    if rules["least_core"] or rules["least_unenhanced_core"]:
        words[-1] += ": it is drawn where it is likeliest, and the report says that its extent is assumed"
    return ("By rule, " + "; ".join(words) + ".") if words else "No rule is applied to the network's result."


def late_words(elections: list[dict], iterations: int) -> str:
    """Which teachers were elected only when the run was over, and who had taught until then; empty where none was."""
    during = [e for e in elections if e["iteration"] < iterations]
    if not during or during[-1] is elections[-1]:
        return ""
    before, last = during[-1]["teachers"], elections[-1]["teachers"]
    changed = [region for region in last if last[region] != before.get(region)]
    until = {r: f"{before[r]} taught it" if r in before else "nothing did" for r in changed}
    words = [f"{last[r]} was elected for {r} only at the run's end; until then {until[r]}." for r in changed]
    return "".join(f"\n{sentence}" for sentence in words)


def enhancement_words(rows: list[dict], summary: dict[str, dict[str, dict]]) -> str:
    """ET without the cases that have none, and what the model does in those."""
    without = sorted({row["case"] for row in rows if row["ET empty"]})
    if not without:
        return "Every held-out case has enhancing tumour.\n"
    lines = [
        "Held-out cases without enhancing tumour: there, finding any counts 0, and finding none 1, which lifts the",
        "means of sequences that see little.",
    ]
    if len(without) < len({row["case"] for row in rows}):
        mean = fmean(where_any(regions["ET"]) for regions in summary.values())
        lines.append(f"Over the other cases alone, ET's mean of all subsets is {mean:.2f}.")
    lines.append("")
    for case in without:
        of = [row for row in rows if row["case"] == case]
        ranges = ", ".join(f"{r} {min(x[r] for x in of):.2f} to {max(x[r] for x in of):.2f}" for r in ("TC", "WT"))
        found = sum(row["ET"] < 1 for row in of)
        lines.append(f"- {case}: some found in {found} of {len(of)} subsets; Dice of {ranges}")
    return "\n".join(lines) + "\n"


def hopeless_words(summary: dict[str, dict[str, dict]]) -> str:
    """The subsets from which ET is little more than a guess, by the cases that have any."""
    hopeless = [name for name, regions in summary.items() if where_any(regions["ET"]) < HOPELESS]
    return f", above all from {', '.join(hopeless)} (below {HOPELESS} where there is any)" if hopeless else ""


def healthy_words(phantoms: dict[str, list[float]], halves: dict[str, list[float]], data: str) -> str:
    """What was taken for tumour in healthy phantoms and in mirrored healthy halves, by the sequences given (mL)."""
    kind = " (phantoms are among the training cases, too)" if "Phantom" in data else ""
    mirrored = ""
    if halves:
        mirrored = " and in brains made of the half of a held-out case that has no tumour and its mirror image"
    lines = [
        f"What it takes for tumour in phantoms of healthy brains{kind}{mirrored}, in mL. It should be 0:",
        "",
        "| sequences | phantoms |" + (" mirrored halves |" if halves else ""),
        "|---|---|" + ("---|" if halves else ""),
    ]
    for subset, volumes in phantoms.items():
        cells = [volumes, *([halves.get(subset, [])] if halves else [])]
        lines.append(f"| {subset} | " + " | ".join(", ".join(f"{v:.1f}" for v in cell) for cell in cells) + " |")
    return "\n".join(lines)


def card_text(card: dict, rows: list[dict], healthy: tuple[dict, dict], elections: list[dict], told: str) -> str:
    """The model card: what it is, how good, how it fails, how it was made.

    Args:
        healthy: what is found in healthy phantoms and in mirrored halves, see ``healthy_words``.
        told: what came before the run.
    """
    training, election = card["training"], card["election"]
    brats = "brats" in f"{training['data']} {election['validation_cases']}".lower()
    plot = f"\n![The elections of the run]({RECORDS}/{PLOT})\n" if len(elections) > 1 else ""
    seen = "adult gliomas before treatment" if brats else "the cases named above"
    seen += " and phantoms" if brats and "Phantom" in training["data"] else ""
    steps = training["iterations"]
    held = training["recipe"]["elect_on"] == "held_out"
    before = f"\n{told.strip()}\n" if told.strip() else ""
    beginning = f", begun from the weights of {training['recipe']['initial']}" if training["recipe"]["initial"] else ""
    late = late_words(elections, steps) if elected_taught(training) else ""
    voted = elections[-1]["iteration"] if elections else steps
    when = "at the end of the run" if voted == steps else f"at iteration {voted} of {steps}"
    pictures = "\n".join(f"![{region} from T2 alone](evaluation/worst_{region}_1.png)" for region in REGIONS)
    return f"""# {card["name"]} {card["version"]}

**{NOTICE}** Licence: {card["licence"]}.

Segments glioma (enhancing tumour ET, tumour core TC, whole tumour WT) from any subset of T1, T1ce, T2 and FLAIR with
{method_words(training)}. {card["parameters"]:,} parameters. Input: one adult patient,
skull-stripped and lined up, at {card["preprocessing"]["spacing_mm"]:g} mm, which `lckd` sees to.

## What to expect

{measured_words(training, len(election["validation_cases"]))}
A region that neither the expert nor the model drew counts 1, one that only one of them drew 0. With so few cases the
intervals are wide: read them.

{markdown_table(card["expected_dice"], election["teachers"])}
![The same as a picture](evaluation/heat_map.png)

Enhancing tumour (ET) is not seen without T1ce: there its outline is a guess{hopeless_words(card["expected_dice"])}.
HD95 and counts of pieces stand in [evaluation/evaluation.md](evaluation/evaluation.md), every case's numbers in
[evaluation/per_case.csv](evaluation/per_case.csv).

{worst_cases(rows)}
{enhancement_words(rows, card["expected_dice"])}
{healthy_words(*healthy, training["data"])}

The worst of the phantoms, as `lckd segment` draws it:

![A healthy phantom]({HEALTHY})

What T2 alone makes of phantoms with a tumour, the worst of three for each region (truth blue, found orange):

{pictures}

## Teachers

Elected on {"the held-out cases" if held else "cases that were trained on"} by the Dice of each sequence alone,
before the rules, {when}{", the mean of the runs" if training.get("runs", 1) > 1 else ""}.{late}

{score_table(election["scores"], election["teachers"])}
{plot}
## How it was made

{training["cases"]} cases ({training["data"]}), {steps} iterations of the recipe in model.json{beginning}.
{again_words(training)} (The source repository alone has `evaluation/` and `training/`.)
{before}
## Limits

- Enhancing tumour cannot be seen without T1ce: what is drawn then is a guess.
- Trained on {seen} only: not on metastases, children, haemorrhage or resection cavities.
- {rule_words(card)}
- A result with no tumour is no proof that there is none, nor is one with a tumour proof that there is one: it has
  learnt from brains that have one.

## Cite

{METHOD}{BRATS if brats else ""}"""
