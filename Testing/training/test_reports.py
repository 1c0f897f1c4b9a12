"""What a researcher reads: comparisons, worst cases, the elections' plot, chosen subsets."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lckd.anatomy import MODALITIES, REGIONS, STRUCTURES, subset_name, subsets
from lckd.appearance import TABLE
from lckd.cli import main
from lckd.errors import InputError
from lckd_training import fit_appearance, study
from lckd_training.cli import _subsets
from lckd_training.comparison import compare
from lckd_training.config import Config
from lckd_training.election import Election
from lckd_training.election_plot import COLOURS, draw_elections
from lckd_training.evaluation import PIECES, scores_alone, write_evaluation
from lckd_training.export import keep_few_colours
from lckd_training.phantom import write_phantoms
from lckd_training.worst_cases import FOUND, TRUTH, WorstCases


def evaluation(folder, gain, cases=8):
    folder.mkdir()
    with (folder / "per_case.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["case", "subset", "ET", "TC", "WT"])
        writer.writeheader()
        for case in range(cases):
            for subset in map(subset_name, subsets()):
                writer.writerow(
                    {
                        "case": case,
                        "subset": subset,
                        "ET": 0.5,
                        "TC": 0.5 + gain * (case + 1),
                        "WT": 0.6 + gain * (-1) ** case,
                    }
                )
    return folder


def test_comparison_pairs_the_cases(tmp_path):
    table = compare(evaluation(tmp_path / "a", 0.01), evaluation(tmp_path / "b", 0.0))
    row = next(line for line in table.splitlines() if line.startswith("| T1ce+T2 |"))
    assert row == "| T1ce+T2 | +0.000 (p 1.000) | +0.045 (p 0.008) | +0.000 (p 1.000) |"
    assert "8 cases in common" in table


def test_comparison_of_strangers_is_refused(tmp_path):
    evaluation(tmp_path / "a", 0.0)
    with pytest.raises(InputError, match="holds no evaluation"):
        compare(tmp_path / "a", tmp_path)
    other = evaluation(tmp_path / "b", 0.0)
    (other / "per_case.csv").write_text("case,subset,ET,TC,WT\nsomebody,T1,0,0,0\n")
    with pytest.raises(InputError, match="no case and subset in common"):
        compare(tmp_path / "a", other)


def test_an_evaluation_is_not_compared_with_itself(tmp_path, capsys):
    folder = str(evaluation(tmp_path / "a", 0.0))
    assert main(["evaluate", "model", "--data", str(tmp_path), "--out", folder, "--compare", folder]) == 2
    assert "--compare names the folder" in capsys.readouterr().err


def test_an_evaluation_of_nothing_leaves_nothing(tmp_path):
    assert main(["evaluate", "model", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "report")]) == 2
    assert not (tmp_path / "report").exists()


def test_the_table_of_appearances_can_be_fitted_again(tmp_path, capsys, monkeypatch):
    """What ``lckd.appearance`` holds comes from this script."""
    list(write_phantoms(tmp_path, 3, 64, seed=0))
    monkeypatch.setattr("sys.argv", ["fit_appearance", str(tmp_path)])
    fit_appearance.main()
    told = capsys.readouterr().out
    assert "# 12 volumes" in told and all(f'"{name}": (' in told for name in TABLE)


def test_worst_cases_are_kept_and_drawn(tmp_path):
    worst, size = WorstCases(), (20, 40, 50)
    truth = np.zeros((3, *size), bool)
    truth[:, 5:9, 10:20, 10:20] = True
    found = truth.copy()
    found[:, 14:16, 25:35, 30:40] = True
    images = np.random.default_rng(0).random((2, *size)).astype(np.float16)
    for name, dice in (("good", 0.9), ("bad", 0.3), ("fair", 0.6)):
        case = SimpleNamespace(name=name, modalities=("T1", "FLAIR"), images=images)
        worst.see(case, np.full(3, dice), found, truth)
    assert [kept[0][1] for kept in worst.kept.values()] == ["bad"] * 3
    names = worst.write(tmp_path)
    assert names == ["worst_ET_1.png", "worst_TC_1.png", "worst_WT_1.png"]
    colours = {colour for _, colour in Image.open(tmp_path / names[0]).getcolors(1 << 20)}
    assert FOUND in colours and TRUTH not in colours, "the slice with most that is wrong"


def test_colours_that_mean_something_stay(tmp_path):
    """In a picture of more colours than are kept, of which hardly any pixel has them."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    telling = [*(structure.colour for structure in STRUCTURES.values()), FOUND, TRUTH]
    noise[0, : len(telling)] = telling
    noise[100:] = noise[100:, :, :1]
    Image.fromarray(noise).save(tmp_path / "noise.png")
    keep_few_colours(tmp_path / "noise.png")
    few = Image.open(tmp_path / "noise.png")
    assert len(few.getcolors()) <= 200
    assert [*map(tuple, np.asarray(few.convert("RGB"))[0, : len(telling)].tolist())] == telling
    assert np.ptp(np.asarray(few.convert("RGB"))[100:], axis=2).max() == 0, "grey stays grey"
    before = (tmp_path / "noise.png").read_bytes()
    keep_few_colours(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes() == before


def test_an_evaluation_says_of_what_it_is(tmp_path):
    empty = {f"{r} {of}": 0 for r in REGIONS for of in PIECES} | {f"{r} HD95": None for r in REGIONS}
    rows = [
        {"case": case, "subset": subset, "ET": 1.0, "TC": dice, "WT": dice, "ET empty": True, **empty}
        for case, dice in (("a", 0.5), ("b", 0.75))
        for subset in ("T1", "T1+T1ce+T2+FLAIR")
    ]
    write_evaluation(rows, tmp_path, "model compact 9.9", {})
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "model compact 9.9, 2 case(s)" in page and "0.62 (two cases)" in page
    assert "ET: none below 1" in page and "WT: a 0.50, b 0.75" in page


def test_sequences_alone_are_compared_on_the_same_cases():
    rows = [{"case": "whole", "subset": m, "ET": 0.5, "TC": 0.5, "WT": 0.5} for m in MODALITIES]
    easy = {"case": "easy", "subset": "T1", "ET": 1.0, "TC": 1.0, "WT": 1.0}
    assert scores_alone([*rows, easy])["WT"] == dict.fromkeys(MODALITIES, 0.5)
    assert scores_alone([*rows[1:], easy])["WT"]["T1"] == 1.0


def test_a_study_of_a_region_that_nobody_finds_has_a_table():
    summary = {"T1": {region: {"mean": 0.5} for region in REGIONS}}
    results = {"elected": [{"summary": summary, "teachers": {"WT": "FLAIR"}}]}
    last = study.markdown(results, Config()).splitlines()[-1]
    assert last == "| elected | 0.500 | 0.500 | 0.500 | - | - | 0.500 | WT FLAIR |"


def test_elections_are_plotted(tmp_path):
    scores = {region: dict.fromkeys(MODALITIES, 0.4) | {"T1ce": 0.7} for region in ("ET", "TC", "WT")}
    teachers = dict.fromkeys(scores, "T1ce")
    draw_elections([Election(i, scores, teachers) for i in (100, 200)], tmp_path / "plot.png")
    colours = {colour for _, colour in Image.open(tmp_path / "plot.png").getcolors(1 << 20)}
    assert {COLOURS["T1ce"], COLOURS["FLAIR"]} <= colours


def test_subsets_are_chosen_by_name():
    assert _subsets("FLAIR+T2,T1") == [("T1",), ("T2", "FLAIR")]
    assert len(_subsets("all")) == 15
    with pytest.raises(InputError, match="PD"):
        _subsets("T1+PD")
