"""Is one model better than another? Paired differences of two evaluations of the same cases, with a Wilcoxon test."""

import csv
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

from lckd.anatomy import REGIONS, subset_name, subsets
from lckd.errors import InputError

from .evaluation import PER_CASE


def compare(one: Path, other: Path) -> str:
    """Markdown: by region and subset the mean difference in Dice (one - other) and the Wilcoxon signed-rank p.

    Only cases and subsets that both evaluations hold are compared. A p has its meaning for one comparison that was
    planned; forty-eight of them side by side will show a small one by chance.

    Raises:
        InputError: a folder holds no evaluation, or the two have no case in common.
    """
    first, second = read_dice(one), read_dice(other)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise InputError(f"{one} and {other} have no case and subset in common; evaluate both on the same data")
    cases = len({case for case, _ in common})
    lines = [
        f"Dice of {one} minus that of {other}, {cases} cases in common (mean difference, p of Wilcoxon's test).",
        "",
        "| sequences | " + " | ".join(REGIONS) + " |",
        "|---|" + "---|" * len(REGIONS),
    ]
    for subset in map(subset_name, subsets()):
        if keys := [key for key in common if key[1] == subset]:
            lines.append(_line(subset, np.array([np.subtract(first[key], second[key]) for key in keys])))
    by_case = [
        np.mean([np.subtract(first[key], second[key]) for key in common if key[0] == case], axis=0)
        for case in sorted({case for case, _ in common})
    ]
    lines.append(_line("**mean of a case's subsets**", np.array(by_case)))
    return "\n".join(lines) + "\n"


def read_dice(folder: Path) -> dict[tuple[str, str], list[float]]:
    """(case, subset) -> Dice of the regions, from an evaluation's folder."""
    path = Path(folder) / PER_CASE
    if not path.is_file():
        raise InputError(f"{folder}: holds no evaluation ({PER_CASE}); make one with lckd evaluate")
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            (row["case"], row["subset"]): [float(row[region]) for region in REGIONS] for row in csv.DictReader(stream)
        }


def _line(name: str, differences: np.ndarray) -> str:
    """differences (cases, 3) as a row of the table."""
    cells = []
    for column in differences.T:
        p = wilcoxon(column).pvalue if np.any(column) and len(column) > 1 else 1.0
        cells.append(f"{column.mean():+.3f} (p {p:.3f})")
    return f"| {name} | " + " | ".join(cells) + " |"
