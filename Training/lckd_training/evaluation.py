"""Dice and surface distance of a network on labelled cases, for all 15 subsets and the three regions.

Dice has bootstrap intervals and the empty-region rule: 1 if truth and prediction are both empty, 0 if only one is. The
95th percentile of the surface distance (HD95, mm; MONAI's) exists only where both are there; its table says how often.
Pieces are connected parts (26 neighbours) of at least SMALLEST_PIECE voxels; a true one counts as found where any voxel
of it is, and a found one as false where none of it is true.
"""

import csv
import json
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from monai.metrics import compute_hausdorff_distance

from lckd.anatomy import MODALITIES, REGIONS, subset_name, subsets
from lckd.network import Network
from lckd.postprocessing import Rules
from lckd.preprocessing import bounding_box
from lckd.report import interval_words

from .data import CachedCase, patient
from .election import comparable, found_in_subsets, region_dice, score_table, true_regions
from .heat_map import draw_heat_map, page
from .worst_cases import WorstCases

RESAMPLES = 2000
PER_CASE, SUMMARY, HEAT_MAP = "per_case.csv", "evaluation.json", "heat_map.png"
SMALLEST_PIECE = 10  # voxels (mm3): what is smaller is an edge of the drawing, not a lesion
PIECES = ("pieces", "pieces found", "false pieces")
# MONAI 1.5 calls its own function in a way that it calls deprecated; who evaluates can do nothing about it.
warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)


def evaluate(
    network: Network,
    cases: list[CachedCase],
    window: tuple[int, int, int],
    device: torch.device,
    rules: Rules,
    echo=print,
    wanted: Collection[tuple[str, ...]] | None = None,
    worst: WorstCases | None = None,
    dice_only: bool = False,
) -> list[dict]:
    """One row for every case and subset of what it has: Dice, HD95 (mm) and pieces of each region, whether it lacks ET.

    Args:
        wanted: the subsets to evaluate; None: all.
        worst: is shown each case segmented from everything that it has.
        dice_only: leave out HD95 and pieces, which take longer than a small network.
    """
    rows = []
    for number, case in enumerate(cases, 1):
        truth = true_regions(case)
        for subset, found in found_in_subsets(network, case, wanted or subsets(), window, device, rules):
            dice = region_dice(found, truth)
            row = {"case": case.name, "subset": subset_name(subset)}
            row |= {region: round(float(d), 4) for region, d in zip(REGIONS, dice, strict=True)}
            if not dice_only:
                distance = surface_distance(found, truth)
                row |= {f"{region} HD95": d for region, d in zip(REGIONS, distance, strict=True)}
                for region, *masks in zip(REGIONS, found, truth, strict=True):
                    row |= {f"{region} {of}": n for of, n in zip(PIECES, count_pieces(*masks), strict=True)}
            rows.append(row | {"ET empty": not truth[REGIONS.index("ET")].any()})
            if worst and set(subset) == set(case.modalities):
                worst.see(case, dice, found, truth)
        echo(f"evaluated {case.name} ({number}/{len(cases)})")
    return rows


def surface_distance(found: np.ndarray, truth: np.ndarray) -> list[float | None]:
    """HD95 in voxels (mm at the working grid) of each region (3, z, y, x); None where either is empty."""
    distances = []
    for one, other in zip(found, truth, strict=True):
        if not (one.any() and other.any()):
            distances.append(None)
            continue
        box = bounding_box(one | other, margin=1)
        pair = (torch.from_numpy(mask[box].copy())[None, None].float() for mask in (one, other))
        distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95).item()
        distances.append(round(distance, 2))
    return distances


def count_pieces(found: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """True pieces of a region (z, y, x), how many of them are found at least in part, and false pieces found."""
    true_pieces, found_pieces = _pieces(truth), _pieces(found)
    hit = np.setdiff1d(true_pieces[found], 0).size
    right = np.setdiff1d(found_pieces[truth], 0).size
    return int(true_pieces.max()), int(hit), int(found_pieces.max() - right)


def _pieces(mask: np.ndarray) -> np.ndarray:
    """Connected parts numbered 1, 2, ...; small ones are 0."""
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    return sitk.GetArrayFromImage(sitk.RelabelComponent(parts, SMALLEST_PIECE))


def summarise(rows: Iterable[dict]) -> dict[str, dict[str, dict]]:
    """subset -> region -> mean, median, low, high (bootstrap 95% interval of the mean) and number of cases.

    Where some cases lack ET, for which finding none counts 1, ET also has ``mean_where_any``, over the other cases.
    """
    rows = list(rows)
    table = {}
    for subset in map(subset_name, subsets()):
        of = [row for row in rows if row["subset"] == subset]
        values = np.array([[row[region] for region in REGIONS] for row in of], float)
        if of:
            low, high = bootstrap(values, [row["case"] for row in of])
            table[subset] = {
                region: {
                    "mean": round(float(values[:, i].mean()), 4),
                    "median": round(float(np.median(values[:, i])), 4),
                    "low": round(float(low[i]), 4),
                    "high": round(float(high[i]), 4),
                    "cases": len(values),
                }
                for i, region in enumerate(REGIONS)
            }
            with_et = [row["ET"] for row in of if not row.get("ET empty")]
            if 0 < len(with_et) < len(of):
                table[subset]["ET"]["mean_where_any"] = round(float(np.mean(with_et)), 4)
    return table


def write_evaluation(
    rows: list[dict], out: Path, of: str, teachers: dict[str, str], worst: WorstCases | None = None
) -> dict:
    """Write per-case CSV, JSON summary, Markdown, a heat map and an HTML page into a folder; returns the summary.

    Args:
        of: what was evaluated, in words.
        worst: adds pictures of the worst cases, which show patients: leave them out of what is passed on.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / PER_CASE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = summarise(rows)
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    alone = score_table(scores_alone(rows), teachers) + "\n"
    cases = len({row["case"] for row in rows})
    how = (
        f"{of}, {cases} case(s). Dice: mean (bootstrap 95% interval of the mean). A region empty in truth and result "
        "counts 1, in only one of them 0.\n"
    )
    tables = (markdown_table(summary, teachers), alone, distance_table(rows), pieces_table(rows), worst_cases(rows))
    text = "\n".join((how, *tables))
    (out / "evaluation.md").write_text(text, encoding="utf-8")
    draw_heat_map(summary, out / HEAT_MAP)
    pictures = [HEAT_MAP, *(worst.write(out) if worst else [])]
    (out / "evaluation.html").write_text(page(text, pictures), encoding="utf-8")
    return summary


def markdown_table(summary: dict[str, dict[str, dict]], teachers: dict[str, str]) -> str:
    """The 15 x 3 table: mean Dice and its interval, then the means over all subsets and over those without teacher."""
    lines = ["| sequences | " + " | ".join(REGIONS) + " |", "|---|" + "---|" * len(REGIONS)]
    for subset, regions in summary.items():
        cells = [interval_words(regions[r]) for r in REGIONS]
        lines.append(f"| {subset} | " + " | ".join(cells) + " |")
    everything = "all subsets" if len(summary) == len(subsets()) else f"these {len(summary)}"
    rows = {
        everything: [mean_dice(summary, r, None) for r in REGIONS],
        "subsets without the region's teacher": [
            mean_dice(summary, r, teachers[r]) if r in teachers else np.nan for r in REGIONS
        ],
    }
    for words, means in rows.items():
        cells = [f"**{mean:.2f}**" if np.isfinite(mean) else "-" for mean in means]
        lines.append(f"| **mean of {words}** | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def mean_dice(summary: dict[str, dict[str, dict]], region: str, without: str | None) -> float:
    """The mean over the subsets that lack a modality, or over all."""
    means = [regions[region]["mean"] for subset, regions in summary.items() if without not in subset.split("+")]
    return float(np.mean(means)) if means else float("nan")


def scores_alone(rows: list[dict]) -> dict[str, dict[str, float]]:
    """scores[region][modality]: the mean Dice of each modality alone, which elects teachers.

    Over the same cases as in an election.
    """
    had: dict[str, set[str]] = {}
    for row in rows:
        had.setdefault(row["case"], set()).update({row["subset"]} & {*MODALITIES})
    compared = comparable(had)
    alone = {m: [row for row in rows if row["subset"] == m and row["case"] in compared] for m in MODALITIES}
    return {r: {m: float(np.mean([row[r] for row in of])) for m, of in alone.items() if of} for r in REGIONS}


def distance_table(rows: list[dict]) -> str:
    """HD95 in mm over the cases where truth and prediction both hold the region: median, mean and its interval."""
    lines = [
        "| HD95 in mm: median; mean (95% interval) | " + " | ".join(REGIONS) + " |",
        "|---|" + "---|" * len(REGIONS),
    ]
    for subset in map(subset_name, subsets()):
        if of := [row for row in rows if row["subset"] == subset]:
            lines.append(f"| {subset} | " + " | ".join(_distance_words(of, region) for region in REGIONS) + " |")
    return "\n".join(lines) + "\n"


def _distance_words(rows: list[dict], region: str) -> str:
    there = [row for row in rows if row[f"{region} HD95"] is not None]
    if not there:
        return "none"
    values = np.array([row[f"{region} HD95"] for row in there])
    low, high = bootstrap(values, [row["case"] for row in there])
    return f"{np.median(values):.1f}; {values.mean():.1f} ({low:.1f} to {high:.1f}), {len(values)} of {len(rows)}"


def bootstrap(values: np.ndarray, cases: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of the mean over the first axis (cases), by drawing patients again, each with all its cases.

    The same values give the same interval.
    """
    numbers: dict[str, int] = {}
    of = [numbers.setdefault(patient(case), len(numbers)) for case in cases]
    sums, counts = np.zeros((len(numbers), *values.shape[1:])), np.bincount(of)
    np.add.at(sums, of, values)
    picks = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = (sums[picks].sum(1).T / counts[picks].sum(1)).T
    return tuple(np.percentile(means, (2.5, 97.5), axis=0))


def pieces_table(rows: list[dict]) -> str:
    """Over all cases of a subset: true pieces, how many of them were found, and false ones."""
    lines = ["| pieces found of all, and false ones | " + " | ".join(REGIONS) + " |", "|---|" + "---|" * len(REGIONS)]
    for subset in map(subset_name, subsets()):
        if of := [row for row in rows if row["subset"] == subset]:
            sums = [[sum(row[f"{region} {name}"] for row in of) for name in PIECES] for region in REGIONS]
            cells = [f"{hit} of {true}, {false} false" for true, hit, false in sums]
            lines.append(f"| {subset} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def worst_cases(rows: list[dict], count: int = 3) -> str:
    """The cases done worst with all four sequences, region by region; empty where none has them all."""
    full = [row for row in rows if row["subset"] == "+".join(MODALITIES)]
    if not full:
        return ""
    lines = ["Worst with all four sequences:", ""]
    for region in REGIONS:
        worst = sorted((row for row in full if row[region] < 1), key=lambda row, r=region: row[r])[:count]
        named = ", ".join(f"{row['case']} {row[region]:.2f}" for row in worst)
        lines.append(f"- {region}: {named or 'none below 1'}")
    return "\n".join(lines) + "\n"
