"""Dice of a network on labelled cases, for all 15 subsets and the three regions, with bootstrap intervals.

The empty-region rule: 1 if truth and prediction are both empty, 0 if only one is.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from lckd.anatomy import REGIONS, subset_name, subsets
from lckd.network import Network

from .data import CachedCase
from .election import case_dice

RESAMPLES = 2000
PER_CASE, SUMMARY = "per_case.csv", "evaluation.json"


def evaluate(network: Network, cases: list[CachedCase], window: int, device: torch.device, echo=print) -> list[dict]:
    """One row (case, subset, ET, TC, WT) for every case and every subset of the modalities it has."""
    rows = []
    for number, case in enumerate(cases, 1):
        for subset in subsets():
            if set(subset) <= set(case.modalities):
                dice = case_dice(network, case, subset, window, device)
                scores = {region: round(float(d), 4) for region, d in zip(REGIONS, dice, strict=True)}
                rows.append({"case": case.name, "subset": subset_name(subset), **scores})
        echo(f"evaluated {case.name} ({number}/{len(cases)})")
    return rows


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


def write_evaluation(rows: list[dict], out: Path) -> dict:
    """Write the per-case CSV, the JSON summary and the Markdown table into a folder; returns the summary."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / PER_CASE).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["case", "subset", *REGIONS])
        writer.writeheader()
        writer.writerows(rows)
    summary = summarise(rows)
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    (out / "evaluation.md").write_text(markdown_table(summary))
    return summary


def markdown_table(summary: dict[str, dict[str, dict]]) -> str:
    """The 15 x 3 table: mean Dice and its interval, and the mean over the subsets below it."""
    lines = ["| sequences | " + " | ".join(REGIONS) + " |", "|---|" + "---|" * len(REGIONS)]
    for subset, regions in summary.items():
        cells = [f"{regions[r]['mean']:.2f} ({regions[r]['low']:.2f} to {regions[r]['high']:.2f})" for r in REGIONS]
        lines.append(f"| {subset} | " + " | ".join(cells) + " |")
    means = [np.mean([regions[r]["mean"] for regions in summary.values()]) for r in REGIONS]
    lines.append("| **mean of the subsets** | " + " | ".join(f"**{m:.2f}**" for m in means) + " |")
    return "\n".join(lines) + "\n"
