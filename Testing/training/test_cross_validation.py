"""Several runs that held out different cases: measured each on its own, exported as one model."""

import csv
import json

import pytest
import torch

from lckd.cli import main
from lckd.errors import InputError
from lckd.model_folder import load_model
from lckd.weights import packed, unpacked
from lckd_training import export
from lckd_training.finished import finished, mean_of
from lckd_training.run_folder import check_unseen, read_split
from tiny_runs import run


@pytest.fixture(scope="module")
def other(recipe, phantoms, tmp_path_factory):
    """The fixture ``whole`` holds out Phantom_00_000."""
    out = tmp_path_factory.mktemp("other") / "run"
    return run(recipe, phantoms, out, "validation_cases=[Phantom_00_001]", "seed=1")


def test_each_run_is_measured_on_its_own_cases_and_the_model_is_their_mean(
    whole, other, phantoms, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "healthy_millilitres", lambda *_: {})  # what is made of phantoms is tested elsewhere
    monkeypatch.setattr(export, "draw_failures", lambda *_: None)
    out, report = tmp_path / "model", tmp_path / "report"
    assert main(["export", str(whole), str(other), "--out", str(out)]) == 0
    model = load_model(out)
    parts = [finished(folder) for folder in (whole, other)]
    states = [part.network.state_dict() for part in parts]
    mean = unpacked(packed({key: (states[0][key] + states[1][key]) / 2 for key in states[0]}))
    assert all(torch.equal(value, mean[key]) for key, value in model.network().state_dict().items())

    card = model.card
    assert card["training"]["runs"] == 2 and card["training"]["cases"] == 3 and card["training"]["iterations"] == 6
    assert card["election"]["validation_cases"] == ["Phantom_00_000", "Phantom_00_001"]
    assert "seed" not in card["training"]["recipe"], "the runs differ in it"
    for region, scores in card["election"]["scores"].items():
        for modality, score in scores.items():
            alone = [part.elections[-1]["scores"][region][modality] for part in parts]
            assert score == pytest.approx(sum(alone) / 2, abs=1e-4)

    assert main(["evaluate", str(other), "--data", str(phantoms), "--out", str(report), "--subsets", "T2"]) == 0
    told = (out / "README.md").read_text()
    assert "by cross-validation on 2 cases" in told and "cannot itself be measured" in told

    def dice(folder, case):
        with (folder / "per_case.csv").open() as stream:
            return next(row["WT"] for row in csv.DictReader(stream) if (row["case"], row["subset"]) == (case, "T2"))

    assert float(dice(out / "evaluation", "Phantom_00_001")) == pytest.approx(
        float(dice(report, "Phantom_00_001")), abs=0.05
    )
    assert {path.name for path in (out / "training").iterdir()} == {"run1", "run2", "split.json"}
    assert read_split(out / "training" / "run2")["validation"] == ["Phantom_00_001"]
    assert json.loads((out / "training" / "split.json").read_text())["validation"] == []
    with pytest.raises(InputError, match="was trained on Phantom_00_000, which is held out here"):
        check_unseen(["Phantom_00_000"], str(out))
    with pytest.raises(InputError, match="is the mean of 2 runs and cannot be measured without them"):
        finished(out)


def test_a_wrong_name_is_told_before_anything_is_prepared(recipe, phantoms, tmp_path):
    with pytest.raises(InputError, match="repeated case nobody is not among those to train on"):
        run(recipe, phantoms, tmp_path / "run", "repeated_cases=[nobody]")
    assert not (tmp_path / "run").exists()


def test_runs_that_do_not_go_together_are_refused(whole, other, recipe, phantoms, tmp_path, capsys):
    assert main(["export", str(whole), str(whole), "--out", str(tmp_path / "model")]) == 2
    assert "Phantom_00_000 is held out by two of the runs" in capsys.readouterr().err
    longer = run(recipe, phantoms, tmp_path / "longer", "validation_cases=[Phantom_00_001]", "iterations=8")
    assert main(["export", str(whole), str(longer), "--out", str(tmp_path / "model")]) == 2
    assert "was trained with iterations=8" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    parts = [finished(folder) for folder in (whole, other)]
    parts[1].iteration = 4
    with pytest.raises(InputError, match=r"stands at iteration 4, .* at 6; finish both"):
        mean_of(parts)
