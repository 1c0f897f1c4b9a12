"""Training in small: recipes, data, sampling, election, distillation, a run that resumes, and its export."""

import json
import os
import shutil
import signal
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
from lckd.model_folder import default_model, load_model
from lckd_training import evaluation, export
from lckd_training import study as study_module
from lckd_training.config import Config, load_config
from lckd_training.data import CachedCase, cached, split
from lckd_training.distillation import Decoded, Losses, feature_distance
from lckd_training.election import elect, single_teacher
from lckd_training.evaluation import count_pieces, markdown_table, mean_dice, summarise, surface_distance
from lckd_training.layouts import find_cases
from lckd_training.pasting import carve, paste
from lckd_training.run_folder import CHECKPOINT, load_checkpoint
from lckd_training.sampling import Samples, case_order, draw_patch, draw_subsets, draw_views, padded
from lckd_training.study import study
from lckd_training.training import Run, train
from small_phantoms import write_small_phantoms

TINY = ["widths=[4,8]", "depth=1", "patch=32", "final_patch=96", "final_from=1", "iterations=6", "elect_every=3"]
TINY += ["checkpoint_every=2", "workers=0"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_small_phantoms(folder, cases=3, size=48, spacing=1.5, seed=0)
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
    samples = Samples(cases, Config(patch=[32] * 3, final_patch=[48, 32, 64], iterations=10))
    a, b = samples[4], samples[4]
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert a["images"].shape == (4, 32, 32, 32) and samples[9]["images"].shape == (4, 48, 32, 64)
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
    corner = draw_patch(labels, (32, 32, 32), 0.5, np.random.default_rng(0))
    patch = padded(labels[None], corner, (32, 32, 32))
    assert patch.shape == (1, 32, 32, 32) and patch.sum() == 10 * 32 * 32


def case_with(labels: np.ndarray, images: np.ndarray, name: str = "case") -> CachedCase:
    return CachedCase(name, MODALITIES[: len(images)], images.astype(np.float16), labels.astype(np.uint8))


def test_a_pasted_tumour_is_the_donors_in_all_sequences():
    labels = np.zeros((40, 40, 40))
    labels[14:26, 14:26, 14:26], labels[18:22, 18:22, 18:22] = 2, 4
    donor = case_with(labels, np.stack([1 + labels, 10 + labels]))
    tumour = carve(donor, ("T1", "T1ce"), np.random.default_rng(0))
    deep = tumour.labels == 4
    assert deep.any() and (tumour.opacity[tumour.labels > 0] > 0.99).all()
    assert tumour.images[0][deep].max() == pytest.approx(5) and tumour.images[1][deep].max() == pytest.approx(14)
    images, found = np.full((2, 60, 60, 60), 0.5, np.float32), np.zeros((60, 60, 60), np.uint8)
    images[:, :, :, 30:] = 0  # no brain
    paste(images, found, tumour, (30, 30, 20))
    assert 0 < (found == 4).sum() <= deep.sum() and not found[:, :, 30:].any() and not images[:, :, :, 30:].any()
    assert (images[0][found == 4] - images[1][found == 4]).max() == pytest.approx(-9, abs=0.01)
    assert (images[:, 0] == 0.5).sum() == 2 * 60 * 30  # far away nothing changed


@pytest.mark.parametrize("centre", [(0, 0, 0), (31, 15, 30), (-90, 200, 15), (-20, 16, 16), (16, 16, 52)])
def test_a_tumour_is_cut_where_the_patch_ends(centre):
    labels = np.zeros((20, 20, 20))
    labels[4:16, 4:16, 4:16] = 1
    tumour = carve(case_with(labels, np.ones((1, 20, 20, 20)) * 3), ("T1",), np.random.default_rng(1))
    images, found = np.ones((1, 32, 32, 32), np.float32), np.zeros((32, 32, 32), np.uint8)
    paste(images, found, tumour, centre)
    assert images.max() <= 3 and found.any() == (min(centre) > -16 and max(centre) < 48)
    assert (images[0][found > 0] > 2.9).all()


def test_pasted_samples_show_the_tumours_of_others():
    """A healthy host gets a tumour; a donor without one of its sequences gives none."""
    healthy, labels = np.zeros((32, 32, 32)), np.zeros((32, 32, 32))
    labels[8:24, 8:24, 8:24] = 2
    host = case_with(healthy, np.ones((4, 32, 32, 32)), "host")
    whole, poor = case_with(labels, np.ones((4, 32, 32, 32))), case_with(labels, np.ones((2, 32, 32, 32)))
    order = [case_order(2, i, 0) for i in range(20)]
    for donor, pasted, expected in ((whole, 1.0, True), (poor, 1.0, False), (whole, 0.0, False)):
        samples = Samples([host, donor], Config(patch=[32] * 3, iterations=20, pasted=pasted, tumour_centred=1.0))
        seen = [samples[i]["regions"].any().item() for i in range(20) if order[i] == 0]
        assert any(seen) == expected


def test_election_with_hysteresis():
    scores = {"ET": {"T1": 0.1, "T1ce": 0.7}, "WT": {"T2": 0.800, "FLAIR": 0.805}}
    assert elect(scores, {}, 1).teachers == {"ET": "T1ce", "WT": "FLAIR"}
    assert elect(scores, {"ET": "T1", "WT": "T2"}, 1).teachers == {"ET": "T1ce", "WT": "T2"}


def test_a_teacher_gets_no_gradient():
    bottleneck = torch.randn(4, 3, 2, 2, 2, requires_grad=True)
    held = torch.tensor([True, True, False, True])
    whole = torch.ones(3, 8, 8, 8)
    feature_distance(bottleneck, bottleneck, held, [("T1ce", None)], whole).backward()
    moved = bottleneck.grad.flatten(1).abs().sum(1) > 0
    assert moved.tolist() == [True, False, False, True]
    # a teacher that is missing teaches nobody
    assert feature_distance(bottleneck, bottleneck, held, [("T2", None)], whole) == 0


def test_a_lesson_on_a_region_counts_only_where_it_is():
    bottleneck = torch.zeros(4, 2, 2, 2, 2)
    bottleneck[MODALITIES.index("T2"), :, 0] = 1.0  # T2 differs from the teacher in the upper half ...
    regions = torch.zeros(3, 8, 8, 8)
    regions[0, 6:] = 1.0  # ... and the enhancing tumour is in the lower
    held = torch.tensor([False, True, True, False])
    everywhere = feature_distance(bottleneck, bottleneck, held, [("T1ce", None)], regions)
    there = feature_distance(bottleneck, bottleneck, held, [("T1ce", "ET")], regions)
    assert everywhere == pytest.approx(0.5) and there == 0


def test_a_rightly_empty_region_costs_little():
    regions, logits = torch.zeros(3, 8, 8, 8), torch.full((2, 3, 8, 8, 8), -12.0)
    found = Decoded(logits, torch.zeros(4, 2, 1, 1, 1), {})
    losses = Losses(0.1, 0.5)(found, regions, torch.ones(2, 4, dtype=torch.bool), [])
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


def test_pieces_are_counted():
    truth, found = np.zeros((2, 30, 30, 30), bool)
    truth[2:6, 2:6, 2:6] = truth[20:24, 20:24, 20:24] = truth[0, 0, 29] = True  # the last is too small to count
    found[4:8, 4:8, 4:8] = found[12:15, 12:15, 12:15] = True
    assert count_pieces(found, truth) == (2, 1, 1)
    assert count_pieces(found, found) == (2, 2, 0)


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


def test_a_run_leaves_what_says_how_it_went(whole):
    assert Image.open(whole / "elections.png").width > 900
    assert list((whole / "tensorboard").glob("events*"))
    split_ = json.loads((whole / "split.json").read_text())
    assert split_["validation"] == ["Phantom_00_000"] and len(split_["sha256"]) == 64
    assert "iterations: 6" in (whole / "config.yaml").read_text()


def test_a_run_is_not_overwritten(recipe, phantoms, whole):
    with pytest.raises(InputError, match="--resume"):
        run(recipe, phantoms, whole)


def test_export_gives_a_model_that_segments(whole, phantoms, tmp_path, monkeypatch):
    def healthy(folder, cases, size, seed, healthy):
        return write_small_phantoms(folder, cases, 48, 1.5, seed, healthy)

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
    assert "Healthy phantoms (2" in told and "subsets without the region's teacher" in told
    recipe = (tmp_path / "model" / "training" / "config.yaml").read_text()
    assert str(phantoms) not in recipe and "iterations: 6" in recipe
    flair = phantoms / "Phantom_00_000" / "Phantom_00_000_flair.nii.gz"
    out = tmp_path / "out.nii.gz"
    assert main(["segment", str(flair), "-o", str(out), "--model", str(tmp_path / "model"), "--device", "cpu"]) == 0


def test_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(recipe, phantoms, tmp_path):
    with pytest.raises(InputError, match="last checkpoint is kept"):
        run(recipe, phantoms, tmp_path / "run", "learning_rate=1e30", "warm_up=0", "checkpoint_every=1")
    assert not (tmp_path / "run" / (CHECKPOINT + ".partial")).exists()
    state = load_checkpoint(tmp_path / "run", torch.device("cpu"))
    assert 0 < state["iteration"] < 6


def test_gradient_that_is_not_a_number_changes_nothing(phantoms, tmp_path):
    cases = [cached(case, settings(), tmp_path) for case in find_cases(phantoms)]
    config = Config(widths=[4, 8], depth=1, patch=[32] * 3, iterations=2)
    beginning = Run(config, tmp_path, [])
    before = {key: value.clone() for key, value in beginning.network.state_dict().items()}
    beginning.network.head.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(InputError, match="the gradient is"):
        beginning.step([Samples(cases, config)[0]])
    assert all(torch.equal(before[key], value) for key, value in beginning.network.state_dict().items())


def test_ctrl_c_ends_the_iteration_and_saves_it(recipe, phantoms, whole, tmp_path, monkeypatch):
    """Also where it comes while teachers are elected: the election is held, and the resumed run is the whole one."""
    elect_ = Run.elect

    def interrupted(self):
        if self.iteration == 3:
            os.kill(os.getpid(), signal.SIGINT)
        elect_(self)

    monkeypatch.setattr(Run, "elect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, phantoms, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run", torch.device("cpu"))["iteration"] == 3
    monkeypatch.setattr(Run, "elect", elect_)
    run(recipe, phantoms, tmp_path / "run", resume=True)
    a, b = (load_checkpoint(folder, torch.device("cpu")) for folder in (whole, tmp_path / "run"))
    assert a["elections"] == b["elections"]
    assert all(torch.equal(a["average"][key], b["average"][key]) for key in a["average"])


def test_resumed_run_wants_the_same_cases(recipe, phantoms, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    write_small_phantoms(tmp_path / "more", cases=2, size=48, spacing=1.5, seed=0)
    with pytest.raises(InputError, match=r"have changed \(Phantom_00_002"):
        run(recipe, tmp_path / "more", tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["full_until=6", "sampling=ramped"], "must lie before iterations"),
        (["learning_rate_stages=[9]"], "must lie before iterations"),
        (["guidance=joint", "sampling=paper"], "never shows that"),
        (["patch=[32,32,30]"], "does not divide"),
        (["architecture=large"], "choose compact, paper"),
        (["single_teacher=perhaps"], "true or false"),
        (["pasted=50"], "share, from 0 to 1"),
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


def test_single_teacher_is_the_most_frequent():
    assert single_teacher({"ET": "T1ce", "TC": "T2", "WT": "T2"}) == dict.fromkeys(("ET", "TC", "WT"), "T2")
    assert single_teacher({}) == {}


def test_papers_sampling_is_the_full_set_and_then_smaller_ones():
    config, rng = Config(sampling="paper", full_until=100), np.random.default_rng(0)
    assert draw_views(MODALITIES, 99, config, rng) == [MODALITIES]
    drawn = [draw_views(MODALITIES, 100, config, rng) for _ in range(3000)]
    assert all(len(views) == 1 for views in drawn)
    sizes = [len(views[0]) for views in drawn]
    assert all(900 < sizes.count(size) < 1100 for size in (1, 2, 3)) and max(sizes) == 3
    assert draw_views(("T2",), 100, config, rng) == [("T2",)]


def test_ramped_sampling_lets_subsets_in_little_by_little():
    config, rng = Config(sampling="ramped", full_until=1000), np.random.default_rng(0)
    share = {
        i: np.mean([len(draw_views(MODALITIES, i, config, rng)) == 3 for _ in range(1000)]) for i in (0, 500, 1000)
    }
    assert share[0] == 0 and 0.4 < share[500] < 0.6 and share[1000] == 1


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


def test_unknown_strategy_is_refused(recipe):
    with pytest.raises(InputError, match="choose elected, fixed, all, none"):
        load_config(recipe, ["strategy=best"])
