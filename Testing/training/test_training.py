"""Training in small: recipes, data, sampling, election, distillation, a run that resumes, and its export."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from lckd.anatomy import MODALITIES
from lckd.cli import main
from lckd.errors import InputError
from lckd.model_folder import load_model
from lckd_training import evaluation
from lckd_training.config import Config, load_config
from lckd_training.data import cached, split
from lckd_training.distillation import Losses, feature_distance
from lckd_training.election import elect
from lckd_training.evaluation import markdown_table, mean_dice, summarise, surface_distance
from lckd_training.layouts import find_cases
from lckd_training.phantom import write_phantoms
from lckd_training.sampling import Samples, case_order, draw_patch, draw_subsets, padded
from lckd_training.study import study
from lckd_training.training import CHECKPOINT, Run, load_checkpoint, train

TINY = ["widths=[4,8]", "depth=1", "patch=32", "final_patch=96", "final_from=1", "iterations=6", "elect_every=3"]
TINY += ["checkpoint_every=2", "workers=0"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    list(write_phantoms(folder, cases=3, size=48, seed=0))
    (folder / "Phantom_00_002" / "Phantom_00_002_t1ce.nii.gz").unlink()  # a centre without contrast medium
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text("name: tiny\nlearning_rate: 1e-3\nvalidation_cases: [Phantom_00_000]\n")
    return path


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


def test_split_is_by_case(phantoms):
    cases = find_cases(phantoms)
    training, validation = split(cases, ["Phantom_00_001"], seed=0)
    assert [c.name for c in validation] == ["Phantom_00_001"] and len(training) == 2
    with pytest.raises(InputError, match="not in the data"):
        split(cases, ["nobody"], seed=0)


def test_incomplete_case_and_cache(phantoms, tmp_path):
    case = find_cases(phantoms)[2]
    first = cached(case, settings(), tmp_path)
    assert first.modalities == ("T1", "T2", "FLAIR") and len(first.images) == 3
    stamp = next(tmp_path.iterdir()).stat().st_mtime_ns
    cached(case, settings(), tmp_path)
    assert next(tmp_path.iterdir()).stat().st_mtime_ns == stamp
    case.files["T1"].path.touch()  # changed: prepared anew
    cached(case, settings(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def settings():
    from lckd.preprocessing import Preprocessing

    return Preprocessing()


def test_samples_are_a_function_of_the_iteration(phantoms, tmp_path):
    cases = [cached(case, settings(), tmp_path) for case in find_cases(phantoms)]
    samples = Samples(cases, Config(patch=32, final_patch=48, iterations=10))
    a, b = samples[4], samples[4]
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert a["images"].shape == (4, 32, 32, 32) and samples[9]["images"].shape == (4, 48, 48, 48)
    for i in range(6):
        sample = samples[i]
        held = sample["available"][0]
        assert (sample["available"][1:] <= held).all() and sample["available"].any(1).all()
        assert not sample["images"][~held].any()
    assert sorted(case_order(3, i, 0) for i in range(3)) == [0, 1, 2]


def test_subsets_are_drawn_evenly():
    rng = np.random.default_rng(0)
    drawn = [s for _ in range(2800) for s in draw_subsets(MODALITIES, 2, rng)]
    counts = {s: drawn.count(s) for s in set(drawn)}
    assert len(counts) == 14 and MODALITIES not in counts
    assert min(counts.values()) > 320 and max(counts.values()) < 480


def test_patch_of_a_small_case_is_padded():
    labels = np.ones((10, 40, 40), np.uint8)
    corner = draw_patch(labels, 32, 0.5, np.random.default_rng(0))
    patch = padded(labels[None], corner, 32)
    assert patch.shape == (1, 32, 32, 32) and patch.sum() == 10 * 32 * 32


def test_election_with_hysteresis():
    scores = {"ET": {"T1": 0.1, "T1ce": 0.7}, "WT": {"T2": 0.800, "FLAIR": 0.805}}
    assert elect(scores, {}, 1).teachers == {"ET": "T1ce", "WT": "FLAIR"}
    assert elect(scores, {"ET": "T1", "WT": "T2"}, 1).teachers == {"ET": "T1ce", "WT": "T2"}


def test_a_teacher_gets_no_gradient():
    bottleneck = torch.randn(4, 3, 2, 2, 2, requires_grad=True)
    held = torch.tensor([True, True, False, True])
    feature_distance(bottleneck, held, {"T1ce"}).backward()
    moved = bottleneck.grad.flatten(1).abs().sum(1) > 0
    assert moved.tolist() == [True, False, False, True]
    assert feature_distance(bottleneck, held, {"T2"}) == 0  # a teacher that is missing teaches nobody


def test_a_rightly_empty_region_costs_little():
    regions, logits = torch.zeros(3, 8, 8, 8), torch.full((2, 3, 8, 8, 8), -12.0)
    losses = Losses(0.1, 0.5)(logits, regions, torch.zeros(4, 2, 1, 1, 1), torch.ones(4, dtype=torch.bool), set())
    assert losses["dice"] < 0.01


def test_summary_counts_and_brackets():
    rows = [{"case": str(i), "subset": "T2", "ET": 0.0, "TC": i / 10, "WT": 0.8} for i in range(10)]
    regions = summarise(rows)["T2"]
    assert regions["TC"]["cases"] == 10 and regions["TC"]["low"] < 0.45 < regions["TC"]["high"]
    assert regions["WT"]["low"] == regions["WT"]["high"] == 0.8
    assert "| T2 | 0.00 (0.00 to 0.00) |" in markdown_table(summarise(rows), {})


def test_means_leave_out_the_subsets_that_hold_the_teacher():
    rows = [
        {"case": "a", "subset": s, "ET": v, "TC": v, "WT": v} for s, v in (("T1", 0.2), ("T1ce", 0.8), ("T1+T1ce", 0.9))
    ]
    summary = summarise(rows)
    assert mean_dice(summary, "ET", "T1ce") == pytest.approx(0.2)
    assert mean_dice(summary, "ET", None) == pytest.approx(0.6333, abs=1e-3)


def test_surface_distance_is_in_voxels_and_needs_both():
    found = np.zeros((3, 30, 30, 30), bool)
    truth = found.copy()
    found[0, 5:15, 5:15, 5:15] = True
    truth[0, 5:15, 5:15, 8:18] = True  # three voxels to the side
    truth[1, 3, 3, 3] = True
    distance = surface_distance(found, truth)
    assert distance[0] == pytest.approx(3.0, abs=0.5)
    assert distance[1:] == [None, None]


def run(recipe, phantoms, out, *overrides, resume=False):
    return train(load_config(recipe, [*TINY, *overrides]), phantoms, out, resume, echo=lambda text: None)


@pytest.fixture(scope="module")
def whole(recipe, phantoms, tmp_path_factory):
    return run(recipe, phantoms, tmp_path_factory.mktemp("whole") / "run")


def test_a_resumed_run_ends_at_the_same_weights(recipe, phantoms, whole, tmp_path, monkeypatch):
    from lckd_training import training

    step = training.Run.step

    def stops(self, sample):
        if self.iteration == 4:
            raise RuntimeError("the machine goes down")
        return step(self, sample)

    monkeypatch.setattr(training.Run, "step", stops)
    with pytest.raises(RuntimeError):
        run(recipe, phantoms, tmp_path / "run")
    monkeypatch.setattr(training.Run, "step", step)
    run(recipe, phantoms, tmp_path / "run", resume=True)
    a, b = (load_checkpoint(folder, torch.device("cpu")) for folder in (whole, tmp_path / "run"))
    assert a["iteration"] == b["iteration"] == 6
    assert a["elections"] == b["elections"] and len(a["elections"]) == 2
    assert all(torch.equal(a["average"][key], b["average"][key]) for key in a["average"])


def test_a_run_is_not_overwritten(recipe, phantoms, whole):
    with pytest.raises(InputError, match="--resume"):
        run(recipe, phantoms, whole)


def test_export_gives_a_model_that_segments(whole, phantoms, tmp_path):
    assert main(["export", str(whole), "--out", str(tmp_path / "model")]) == 0
    card = load_model(tmp_path / "model").card
    state = load_checkpoint(whole, torch.device("cpu"))
    assert card["election"]["teachers"] == state["elections"][-1]["teachers"]
    assert card["training"]["cases"] == 2 and card["election"]["validation_cases"] == ["Phantom_00_000"]
    assert json.loads((tmp_path / "model" / "evaluation" / "evaluation.json").read_text()) == card["expected_dice"]
    page = (tmp_path / "model" / "evaluation" / "evaluation.html").read_text()
    assert "Research use only" in page and "<td>T1+T1ce+T2+FLAIR</td>" in page
    assert Image.open(tmp_path / "model" / "evaluation" / "heat_map.png").size[1] > 15 * 20
    told = (tmp_path / "model" / "README.md").read_text()
    assert "Healthy phantoms (2" in told and "subsets without the region's teacher" in told
    recipe = (tmp_path / "model" / "training" / "config.yaml").read_text()
    assert str(phantoms) not in recipe and "iterations: 6" in recipe
    flair = phantoms / "Phantom_00_000" / "Phantom_00_000_flair.nii.gz"
    out = tmp_path / "out.nii.gz"
    assert main(["segment", str(flair), "-o", str(out), "--model", str(tmp_path / "model"), "--device", "cpu"]) == 0


def test_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(recipe, phantoms, tmp_path):
    with pytest.raises(InputError, match="last checkpoint is kept"):
        run(recipe, phantoms, tmp_path / "run", "learning_rate=1e30", "warm_up=0")
    assert not (tmp_path / "run" / (CHECKPOINT + ".partial")).exists()


def test_killed_at_any_moment_and_resumed_ends_at_the_same_weights(recipe, phantoms, whole, tmp_path):
    """SIGKILL at random moments; each start goes on from the last checkpoint."""
    out, command = tmp_path / "run", [sys.executable, "-m", "lckd", "train", str(recipe), "--data", str(phantoms)]
    command += ["--out", str(out), *TINY, "checkpoint_every=1"]
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 2:
        resume = ["--resume"] if (out / CHECKPOINT).exists() else []
        process = subprocess.Popen([*command, *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patience = time.monotonic() + 120
        before = done_iterations(out)
        while done_iterations(out) == before and process.poll() is None and time.monotonic() < patience:
            time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.wait()
        kills += 1
    assert 0 < done_iterations(out) < 6, "it was killed on the way"
    assert subprocess.run([*command, "--resume"], capture_output=True, check=False).returncode == 0
    a, b = (load_checkpoint(folder, torch.device("cpu")) for folder in (whole, out))
    assert all(torch.equal(a["average"][key], b["average"][key]) for key in a["average"])
    rows = (out / "losses.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 7)), "nothing is logged twice"
    assert (out / "elections.jsonl").read_text() == (whole / "elections.jsonl").read_text()


def done_iterations(out) -> int:
    return load_checkpoint(out, torch.device("cpu"))["iteration"] if (out / CHECKPOINT).exists() else 0


def test_two_trainers_in_one_folder_are_refused(recipe, phantoms, tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "trainer.pid").write_text(str(sleeper.pid))
        with pytest.raises(InputError, match=f"process {sleeper.pid} trains in it"):
            run(recipe, phantoms, tmp_path / "run")
    finally:
        sleeper.kill()
        sleeper.wait()
    run(recipe, phantoms, tmp_path / "run", "iterations=1")  # a process that is gone holds nothing


@pytest.mark.parametrize(
    ("strategy", "teaching"), [("none", set()), ("fixed", {"T2"}), ("all", set(MODALITIES)), ("elected", set())]
)
def test_strategies(strategy, teaching, tmp_path):
    config = Config(widths=[4, 8], depth=1, strategy=strategy, fixed_teacher="T2")
    beginning = Run(config, tmp_path, [])
    assert beginning.teaching == teaching
    assert (beginning.losses.logit_weight == 0) == (strategy == "none")


def test_study_compares_the_strategies_and_goes_on_where_it_stood(recipe, phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[study.__module__], "STRATEGIES", ("elected", "none"))
    monkeypatch.setattr(evaluation, "subsets", lambda: [(name,) for name in MODALITIES])  # the others take minutes
    config = load_config(recipe, [*TINY, "iterations=1", "elect_every=1"])
    table = study(config, phantoms, tmp_path, seeds=1, echo=lambda words: None)
    assert [line.split(" | ")[0] for line in table.splitlines()[5:]] == ["| elected", "| none"]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")}
    (tmp_path / "none-0" / "result.json").unlink()
    assert study(config, phantoms, tmp_path, seeds=1, echo=lambda words: None) == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")} == stamps


def test_unknown_strategy_is_refused(recipe):
    with pytest.raises(InputError, match="choose elected, fixed, all, none"):
        load_config(recipe, ["strategy=best"])
