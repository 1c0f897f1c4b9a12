"""Dice and surface distance of a network on labelled cases, for all 15 subsets and the three regions.

Dice has bootstrap intervals and the empty-region rule: 1 if truth and prediction are both empty, 0 if only one is. The
95th percentile of the surface distance (HD95, mm; MONAI's) exists only where both are there; its table says how often.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

from lckd.anatomy import MODALITIES, REGIONS, subset_name, subsets
from lckd.network import Network
from lckd.postprocessing import Rules
from lckd.preprocessing import bounding_box

from .data import CachedCase
from .election import found_and_true, region_dice
from .heat_map import draw_heat_map, page

RESAMPLES = 2000
PER_CASE, SUMMARY, HEAT_MAP = "per_case.csv", "evaluation.json", "heat_map.png"


def evaluate(
    network: Network, cases: list[CachedCase], window: int, device: torch.device, rules: Rules, echo=print
) -> list[dict]:
    """One row for every case and subset of what it has: Dice and HD95 (mm) of each region, whether it lacks ET."""
    rows = []
    for number, case in enumerate(cases, 1):
        for subset in subsets():
            if set(subset) <= set(case.modalities):
                found, truth = found_and_true(network, case, subset, window, device, rules)
                dice, distance = region_dice(found, truth), surface_distance(found, truth)
                row = {"case": case.name, "subset": subset_name(subset)}
                row |= {region: round(float(d), 4) for region, d in zip(REGIONS, dice, strict=True)}
                row |= {f"{region} HD95": d for region, d in zip(REGIONS, distance, strict=True)}
                rows.append(row | {"ET empty": not truth[REGIONS.index("ET")].any()})
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


def summarise(rows: Iterable[dict]) -> dict[str, dict[str, dict]]:
    """subset -> region -> mean, median, low, high (bootstrap 95% interval of the mean) and number of cases."""
    rows = list(rows)
    table = {}
    for subset in map(subset_name, subsets()):
        values = np.array([[row[region] for region in REGIONS] for row in rows if row["subset"] == subset], float)
        if len(values):
            picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
            low, high = np.percentile(values[picks].mean(axis=1), (2.5, 97.5), axis=0)
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
    return table


def write_evaluation(rows: list[dict], out: Path, teachers: dict[str, str]) -> dict:
    """Write per-case CSV, JSON summary, Markdown, a heat map and an HTML page into a folder; returns the summary."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / PER_CASE).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    summary = summarise(rows)
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    text = f"{markdown_table(summary, teachers)}\n{distance_table(rows)}\n{worst_cases(rows)}"
    (out / "evaluation.md").write_text(text)
    draw_heat_map(summary, out / HEAT_MAP)
    (out / "evaluation.html").write_text(page(text, HEAT_MAP))
    return summary


def markdown_table(summary: dict[str, dict[str, dict]], teachers: dict[str, str]) -> str:
    """The 15 x 3 table: mean Dice and its interval, then the means over all subsets and over those without teacher."""
    lines = ["| sequences | " + " | ".join(REGIONS) + " |", "|---|" + "---|" * len(REGIONS)]
    for subset, regions in summary.items():
        cells = [f"{regions[r]['mean']:.2f} ({regions[r]['low']:.2f} to {regions[r]['high']:.2f})" for r in REGIONS]
        lines.append(f"| {subset} | " + " | ".join(cells) + " |")
    for words, without_teacher in (("all subsets", False), ("subsets without the region's teacher", True)):
        means = [mean_dice(summary, r, teachers.get(r) if without_teacher else None) for r in REGIONS]
        lines.append(f"| **mean of {words}** | " + " | ".join(f"**{m:.2f}**" for m in means) + " |")
    return "\n".join(lines) + "\n"


def mean_dice(summary: dict[str, dict[str, dict]], region: str, without: str | None) -> float:
    """The mean over the subsets that lack a modality, or over all."""
    means = [regions[region]["mean"] for subset, regions in summary.items() if without not in subset.split("+")]
    return float(np.mean(means)) if means else float("nan")


def scores_alone(rows: list[dict]) -> dict[str, dict[str, float]]:
    """scores[region][modality]: the mean Dice of each modality alone, which elects teachers."""
    alone = {m: [row for row in rows if row["subset"] == m] for m in MODALITIES}
    return {r: {m: float(np.mean([row[r] for row in of])) for m, of in alone.items() if of} for r in REGIONS}


def distance_table(rows: list[dict]) -> str:
    """Median HD95 in mm over the cases where truth and prediction both hold the region, and how many those are."""
    lines = ["| HD95, median in mm | " + " | ".join(REGIONS) + " |", "|---|" + "---|" * len(REGIONS)]
    for subset in map(subset_name, subsets()):
        of = [row for row in rows if row["subset"] == subset]
        values = [[row[f"{r} HD95"] for row in of if row[f"{r} HD95"] is not None] for r in REGIONS]
        cells = [f"{np.median(v):.1f} ({len(v)} of {len(of)})" if v else "none" for v in values]
        if of:
            lines.append(f"| {subset} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def worst_cases(rows: list[dict], count: int = 3) -> str:
    """The cases done worst with all four sequences, region by region."""
    full = [row for row in rows if row["subset"] == "+".join(MODALITIES)]
    lines = ["Worst with all four sequences:", ""]
    for region in REGIONS:
        worst = sorted(full, key=lambda row, r=region: row[r])[:count]
        lines.append(f"- {region}: " + ", ".join(f"{row['case']} {row[region]:.2f}" for row in worst))
    return "\n".join(lines) + "\n"
