"""Training in small: recipes, data, election, distillation, export and the study of ways to teach."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lckd.anatomy import MODALITIES
from lckd.cli import main
from lckd.errors import InputError
from lckd.model_folder import default_model, load_model
from lckd.preprocessing import Preprocessing
from lckd_training import evaluation, export
from lckd_training import study as study_module
from lckd_training.card import enhancement_words, hopeless_words, late_words, method_words
from lckd_training.config import Config, load_config
from lckd_training.data import cached, patient, split
from lckd_training.election import elect, region_dice
from lckd_training.evaluation import count_pieces, markdown_table, mean_dice, summarise, surface_distance
from lckd_training.layouts import Case, find_cases
from lckd_training.run_folder import averaged_network, check_unseen, load_checkpoint
from lckd_training.sampling import Samples
from lckd_training.study import study
from lckd_training.training import Run, train
from small_phantoms import write_small_phantoms
from tiny_runs import TINY, run


def test_recipes_load_and_unknown_settings_are_refused(recipe):
    assert load_config(recipe, ["iterations=7"]).iterations == 7
    assert load_config(recipe).learning_rate == 1e-3
    for wrong, words in (
        ("iteratoins=7", "unknown setting"),
        ("iterations=many", "not a valid int"),
        ("x", "key=value"),
    ):
        with pytest.raises(InputError, match=words):
            load_config(recipe, [wrong])


@pytest.mark.parametrize(
    "words", [["train", "--data", "x"], ["study", "--data", "x", "--out", "y"], ["benchmark", "--training"]]
)
def test_a_wrong_recipe_is_refused_at_once(words):
    """Before torch and all that trains is imported, which takes seconds."""
    code = "import sys; from lckd.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "nowhere.yaml"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 False\n" and "nowhere.yaml: no such recipe" in done.stderr


def test_patients_are_told_apart_by_name():
    names = {
        "BraTS-GLI-00001-000": "BraTS-GLI-00001",
        "sub-01_ses-2_x": "sub-01_x",
        "Brats18_2013_11_1": "Brats18_2013_11_1",
    }
    assert {name: patient(name) for name in names} == names


def test_a_model_that_knows_a_held_out_case_is_no_beginning(recipe, phantoms, tmp_path):
    (tmp_path / "model" / "training").mkdir(parents=True)
    known = {"training": ["Phantom_00_000"], "validation": ["Phantom_00_002"]}
    (tmp_path / "model" / "training" / "split.json").write_text(json.dumps(known))
    words = r"was trained on Phantom_00_000, which is held out here; .*validation_cases=\[Phantom_00_002\]"
    with pytest.raises(InputError, match=words):
        run(recipe, phantoms, tmp_path / "run", f"initial={tmp_path / 'model'}")
    check_unseen(["Phantom_00_001"], str(tmp_path / "model"))


def test_split_is_by_case(phantoms):
    cases = find_cases(phantoms)
    training, validation = split(cases, ["Phantom_00_001"], seed=0)
    assert [c.name for c in validation] == ["Phantom_00_001"] and len(training) == 2
    with pytest.raises(InputError, match="not in the data"):
        split(cases, ["nobody"], seed=0)


@pytest.mark.parametrize("named", [["BraTS-GLI-00001-000"], []])
def test_time_points_of_a_patient_are_not_parted(named):
    cases = [
        Case(f"BraTS-GLI-0000{patient}-00{time}", {}, Path("none")) for patient in range(1, 4) for time in range(2)
    ]
    training, validation = split(cases, named, seed=0)
    assert len(training) == 4 and len({case.name[:15] for case in validation}) == 1 and len(validation) == 2


def test_incomplete_case_and_cache(phantoms, tmp_path):
    shutil.copytree(phantoms / "Phantom_00_002", tmp_path / "data" / "Phantom_00_002")
    (case,), tmp_path = find_cases(tmp_path / "data"), tmp_path / "cache"
    first = cached(case, Preprocessing(), tmp_path)
    assert first.modalities == ("T1", "T2", "FLAIR") and len(first.images) == 3
    stamp = next(tmp_path.iterdir()).stat().st_mtime_ns
    cached(case, Preprocessing(), tmp_path)
    assert next(tmp_path.iterdir()).stat().st_mtime_ns == stamp
    case.files["T1"].path.touch()  # changed: prepared anew
    cached(case, Preprocessing(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_summary_counts_and_brackets():
    rows = [{"case": str(i), "subset": "T2", "ET": 0.0, "TC": i / 10, "WT": 0.8} for i in range(10)]
    regions = summarise(rows)["T2"]
    assert regions["TC"]["cases"] == 10 and regions["TC"]["mean"] == 0.45
    assert (regions["TC"]["low"], regions["TC"]["high"]) == (
        pytest.approx(0.27, abs=0.02),
        pytest.approx(0.63, abs=0.02),
    )
    assert regions["WT"]["low"] == regions["WT"]["high"] == 0.8
    assert "| T2 | 0.00 (0.00 to 0.00) |" in markdown_table(summarise(rows), {})


def test_an_interval_is_over_patients():
    """Four time points of one patient say no more than one."""
    values = np.array([0.2, 0.8, 0.8, 0.8, 0.8])
    one_each = evaluation.bootstrap(values, ["A", "B", "C", "D", "E"])
    one_patient = evaluation.bootstrap(values, ["A", *(f"BraTS-GLI-00001-{n:03d}" for n in range(4))])
    assert one_patient == (0.2, 0.8), "either patient may be drawn twice"
    assert one_each[0] > 0.2


def test_means_leave_out_the_subsets_that_hold_the_teacher():
    rows = [
        {"case": "a", "subset": s, "ET": v, "TC": v, "WT": v} for s, v in (("T1", 0.2), ("T1ce", 0.8), ("T1+T1ce", 0.9))
    ]
    summary = summarise(rows)
    assert mean_dice(summary, "ET", "T1ce") == pytest.approx(0.2)
    assert mean_dice(summary, "ET", None) == pytest.approx(0.6333, abs=1e-3)


def test_a_table_of_some_subsets_says_so():
    rows = [{"case": "a", "subset": s, "ET": 0.5, "TC": 0.4, "WT": 0.3} for s in ("T1+T1ce", "T1ce+T2")]
    table = markdown_table(summarise(rows), {"ET": "T1ce", "WT": "FLAIR"})
    assert "| **mean of these 2** | **0.50** | **0.40** | **0.30** |" in table
    assert "| **mean of subsets without the region's teacher** | - | - | **0.30** |" in table
    assert "0.50 (one case)" in table


def test_et_is_also_told_where_there_is_any():
    rows = [
        {"case": c, "subset": "T2", "ET": e, "TC": 1, "WT": 1, "ET empty": e == 1} for c, e in (("a", 1), ("b", 0.4))
    ]
    assert summarise(rows)["T2"]["ET"] | {"mean": 0.7, "mean_where_any": 0.4} == summarise(rows)["T2"]["ET"]
    assert "mean_where_any" not in summarise(rows[1:])["T2"]["ET"]


def test_surface_distance_is_in_voxels_and_needs_both():
    found = np.zeros((3, 30, 30, 30), bool)
    truth = found.copy()
    found[0, 5:15, 5:15, 5:15] = True
    found[0, 29, 29, 29] = True  # which the 95th percentile leaves out
    truth[0, 5:15, 5:15, 8:18] = True  # three voxels to the side
    truth[1, 3, 3, 3] = True
    distance = surface_distance(found, truth)
    assert distance[0] == pytest.approx(3.0, abs=0.5)
    assert distance[1:] == [None, None]


def test_a_region_that_is_not_there_counts_one_where_none_is_found():
    nothing = np.zeros((3, 4, 4, 4), bool)
    found = nothing.copy()
    found[0, 0, 0, 0] = True
    assert region_dice(found, nothing).tolist() == [0, 1, 1]
    assert region_dice(nothing, found).tolist() == [0, 1, 1]


def test_pieces_are_counted():
    truth, found = np.zeros((2, 30, 30, 30), bool)
    truth[2:6, 2:6, 2:6] = truth[20:24, 20:24, 20:24] = truth[0, 0, 29] = True  # the last is too small to count
    found[4:8, 4:8, 4:8] = found[12:15, 12:15, 12:15] = True
    assert count_pieces(found, truth) == (2, 1, 1)
    assert count_pieces(found, found) == (2, 2, 0)


def test_what_is_exported_is_the_running_average(whole):
    state, (network, _, _) = load_checkpoint(whole, torch.device("cpu")), averaged_network(whole)
    weights = network.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in state["average"].items())
    assert any(not torch.equal(weights[key], value) for key, value in state["network"].items())


def test_a_run_and_a_model_are_evaluated_by_their_commands(whole, phantoms, tmp_path, capsys):
    out = tmp_path / "report"
    command = ["evaluate", str(whole), "--data", str(phantoms), "--subsets", "T1,T2+FLAIR", "--out", str(out)]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "2 of the 3 cases were trained on; their Dice flatters" in told.err
    assert "| T2+FLAIR |" in told.out and "| **mean of these 2** |" in told.out
    rows = (out / "per_case.csv").read_text().splitlines()[1:]
    assert sorted({row.split(",")[1] for row in rows}) == ["T1", "T2+FLAIR"] and len(rows) == 6
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [], "no prepared patients stay behind"
    assert main(["elect", str(whole), "--data", str(phantoms)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("3 cases") and [f"| {region} |" in told for region in ("ET", "TC", "WT")] == [True] * 3


def test_export_gives_a_model_that_segments(whole, phantoms, tmp_path, monkeypatch):
    def healthy(folder, cases, size, seed, healthy=False):
        return write_small_phantoms(folder, 1, 48, 1.5, seed, healthy)

    monkeypatch.setattr(export, "write_phantoms", healthy)
    assert main(["export", str(whole), "--out", str(tmp_path / "model")]) == 0
    card = load_model(tmp_path / "model").card
    state = load_checkpoint(whole, torch.device("cpu"))
    assert card["election"]["teachers"] == state["elections"][-1]["teachers"]
    assert card["training"]["cases"] == 2 and card["election"]["validation_cases"] == ["Phantom_00_000"]
    assert json.loads((tmp_path / "model" / "evaluation" / "evaluation.json").read_text()) == card["expected_dice"]
    page = (tmp_path / "model" / "evaluation" / "evaluation.html").read_text()
    assert "Research use only" in page and "<td>T1+T1ce+T2+FLAIR</td>" in page
    assert Image.open(tmp_path / "model" / "evaluation" / "heat_map.png").size[1] > 15 * 20
    assert Image.open(tmp_path / "model" / "evaluation" / "healthy_phantom.png").width > 1200
    told = (tmp_path / "model" / "README.md").read_text()
    assert re.search(r"in mL. It should be 0:\n\n(\|.*\n){6}\| T1\+T1ce\+T2\+FLAIR \| \d+\.\d \|", told)
    assert "subsets without the region's teacher" in told
    assert "(elected teachers)" in told and "Baid" not in told  # phantoms are no BraTS
    assert load_config(whole / "config.yaml", ["initial="]).initial == ""
    assert "no teachers" in method_words({**card["training"], "elections": [6]}), "the last election teaches nobody"
    recipe = (tmp_path / "model" / "training" / "config.yaml").read_text()
    assert str(phantoms) not in recipe and "iterations: 6" in recipe
    flair = phantoms / "Phantom_00_000" / "Phantom_00_000_flair.nii.gz"
    out = tmp_path / "out.nii.gz"
    assert main(["segment", str(flair), "-o", str(out), "--model", str(tmp_path / "model"), "--device", "cpu"]) == 0


def test_a_model_folder_is_made_again_from_itself(whole, phantoms, tmp_path, monkeypatch):
    """The same numbers and words without the run, which nobody else has."""
    monkeypatch.setattr(export, "write_phantoms", lambda *a, **k: write_small_phantoms(a[0], 1, 48, 1.5, k["seed"]))
    (tmp_path / "before.md").write_text("It was begun twice.")
    data, first, again = ["--data", str(phantoms)], tmp_path / "first", tmp_path / "again"
    told = ["--version", "1.2.3", "--history", str(tmp_path / "before.md")]
    assert main(["export", str(whole), "--out", str(first), *data, *told]) == 0
    assert main(["export", str(first), "--out", str(again), *data]) == 0
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        assert (first / file).read_bytes() == (again / file).read_bytes(), file
    told = (again / "README.md").read_text()
    assert "It was begun twice." in told and "worst_TC_1.png" in told and Path("evaluation/worst_TC_1.png") in files
    assert main(["export", str(whole), "--out", str(again), "--history", "nowhere.md"]) == 2
    (again / "training" / "elections.jsonl").unlink()
    with pytest.raises(InputError, match=r"lacks training/elections.jsonl, so it can be used but not made again"):
        export.export([again], tmp_path / "third")


def test_the_card_says_whose_teaching_came_too_late():
    elections = [{"iteration": i, "teachers": {"ET": "T1ce", "WT": wt}} for i, wt in ((3, "T2"), (6, "FLAIR"))]
    assert late_words(elections, 6) == "\nFLAIR was elected for WT only at the run's end; until then T2 taught it."
    assert late_words(elections, 9) == "" and late_words(elections[1:], 6) == ""
    elections[0]["teachers"].pop("WT")
    assert late_words(elections, 6).endswith("until then nothing did.")


def test_cases_without_enhancement_are_told_apart():
    rows = [
        {"case": case, "subset": subset, "ET": et, "TC": tc, "WT": 0.5, "ET empty": case == "none"}
        for case, subset, et, tc in (
            ("none", "T1", 1, 0),
            ("none", "T2", 0, 0.1),
            ("some", "T1", 0.2, 1),
            ("some", "T2", 0.4, 1),
        )
    ]
    words = enhancement_words(rows, summarise(rows))
    assert "- none: some found in 1 of 2 subsets; Dice of TC 0.00 to 0.10, WT 0.50 to 0.50" in words
    assert "alone, ET's mean of all subsets is 0.30" in words
    assert "Over the other cases" not in enhancement_words(rows[:2], summarise(rows[:2]))
    assert hopeless_words(summarise(rows)) == ", above all from T1 (below 0.3 where there is any)"


def test_a_model_stands_until_the_new_one_does(tmp_path, monkeypatch):
    made, out = tmp_path / "made", tmp_path / "model"
    for folder in (made, out):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    rename = Path.rename

    def broken(path, target):
        if path == made:
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="no"):
        export._put_in_place(made, out, tmp_path / "before")
    assert (out / "name").read_text() == "model"
    monkeypatch.undo()
    export._put_in_place(made, out, tmp_path / "before")
    assert (out / "name").read_text() == "made"


def test_export_loses_nothing_and_wants_every_held_out_case(whole, phantoms, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text('{"format": "layers-model"}')  # another program's
    for place, kept in ((whole, "last.pt"), (tmp_path / "other", "model.json")):
        with pytest.raises(InputError, match="holds something that is no model"):
            export.export([whole], place)
        assert (place / kept).is_file()
    (tmp_path / "Phantom_00_001").symlink_to(phantoms / "Phantom_00_001")
    with pytest.raises(InputError, match="held-out case Phantom_00_000 is not there"):
        export.export([whole], tmp_path / "model", tmp_path)
    assert not list(tmp_path.glob("model*"))


def test_gradient_that_is_not_a_number_changes_nothing(phantoms, tmp_path):
    cases = [cached(case, Preprocessing(), tmp_path) for case in find_cases(phantoms)]
    config = Config(widths=[4, 8], depth=1, patch=[32] * 3, iterations=2)
    beginning = Run(config, tmp_path, [])
    before = {key: value.clone() for key, value in beginning.network.state_dict().items()}
    beginning.network.head.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(InputError, match="the gradient is"):
        beginning.step([Samples(cases, config)[0]])
    assert all(torch.equal(before[key], value) for key, value in beginning.network.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["full_until=6", "sampling=ramped"], "must lie before iterations"),
        (["learning_rate_stages=[9]"], "must lie before iterations"),
        (["guidance=joint", "sampling=paper"], "never shows that"),
        (["patch=[32,32,30]"], "does not divide"),
        (["architecture=large"], "choose compact, paper"),
        (["strategy=best"], "choose elected, fixed, all, none"),
        (["smallest_et_ml=50"], "must be from 0 to 10"),
        (["cross_entropy_weight=-1"], "cannot be negative"),
        (["single_teacher=perhaps"], "true or false"),
        (["pasted=50"], "share, from 0 to 1"),
        (["learning_rate=-1"], "learning_rate -1.0; it must be more than 0"),
        (["ema=2"], "ema 2.0; it must be from 0 to below 1"),
        (["iterations=400.7"], "400.7 is not a valid int"),
        (["learning_rate_stages=[a]"], "'a' is not a valid int"),
        (["widths=16"], "16 is not a list"),
        (["elect_every=0"], "elect_every 0; it must be at least 1"),
        (["seed=-1"], "cannot be negative"),
        (["precision=bf16"], "choose auto, bf16-mixed, 32-true"),
        (["dice_smooth=0"], "must be more than 0"),
        (["inference_window=[160,160,150]"], "inference_window .* does not divide"),
        (["architecture=paper", "brain_norm=true", "patch=32", "final_patch=32"], "compact only"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(recipe, overrides, words):
    with pytest.raises(InputError, match=words):
        load_config(recipe, [*TINY, *overrides])


def test_initial_weights_of_another_architecture_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"of other sizes|of another architecture"):
        Run(Config(widths=[4, 8], depth=1, initial=str(default_model())), tmp_path, [])


@pytest.mark.parametrize(
    ("strategy", "teaching"), [("none", []), ("fixed", ["T2"]), ("all", list(MODALITIES)), ("elected", [])]
)
def test_strategies(strategy, teaching, tmp_path):
    config = Config(widths=[4, 8], depth=1, strategy=strategy, fixed_teacher="T2")
    beginning = Run(config, tmp_path, [])
    assert beginning.lessons == [(name, None) for name in teaching]


@pytest.mark.parametrize(
    ("settings", "lessons"),
    [
        ({}, [("T1ce", None), ("FLAIR", None)]),
        ({"single_teacher": True}, [("T1ce", None)]),
        ({"per_region": True}, [("T1ce", "ET"), ("T1ce", "TC"), ("FLAIR", "WT")]),
    ],
)
def test_who_teaches_after_an_election(settings, lessons, tmp_path):
    elected = Run(Config(widths=[4, 8], depth=1, **settings), tmp_path, [])
    elected.elections.append(elect({"ET": {"T1ce": 0.7}, "TC": {"T1ce": 0.6}, "WT": {"FLAIR": 0.8, "T2": 0.7}}, {}, 1))
    assert elected.lessons == lessons


def test_learning_rate_begins_anew_at_a_stage(tmp_path):
    """The paper's second part jumps from about 0 to (1 - 80/115) ** 0.9 of the rate."""
    config = Config(widths=[4, 8], depth=1, iterations=115_000, learning_rate_stages=[80_000], warm_up=0)
    papers = Run(config, tmp_path, [])
    rates = []
    for papers.iteration in (0, 79_999, 80_000, 114_999):
        rates.append(papers.rate())
    assert rates[0] == 1.0 and rates[1] < 1e-4 and rates[2] == pytest.approx(0.343, abs=0.001) and rates[3] < 1e-4


def test_study_compares_the_strategies_and_goes_on_where_it_stood(recipe, phantoms, tmp_path, monkeypatch):
    strategies = {name: study_module.STRATEGIES[name] for name in ("elected", "none")}
    monkeypatch.setattr(study_module, "STRATEGIES", strategies)
    monkeypatch.setattr(evaluation, "subsets", lambda: [(name,) for name in MODALITIES])  # the others take minutes
    config = load_config(recipe, [*TINY, "iterations=1", "elect_every=1"])
    table = study(config, phantoms, tmp_path, seeds=1, echo=lambda words: None)
    assert [line.split(" | ")[0] for line in table.splitlines()[5:]] == ["| elected", "| none"]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")}
    (tmp_path / "none-0" / "result.json").unlink()
    assert study(config, phantoms, tmp_path, seeds=1, echo=lambda words: None) == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")} == stamps
    with pytest.raises(InputError, match="was begun with iterations=1"):  # a longer run would go on from a rate of zero
        study(load_config(recipe, [*TINY, "iterations=2"]), phantoms, tmp_path, seeds=1, echo=lambda words: None)


@pytest.mark.parametrize("every", [3, 6])
def test_a_run_in_which_nobody_would_teach_says_so(recipe, phantoms, tmp_path, every):
    told = []
    config = load_config(recipe, [*TINY, f"elect_every={every}"])
    train(config, phantoms, tmp_path / "run", resume=False, echo=told.append)
    assert any("nobody teaches" in words for words in told) == (every == 6)
