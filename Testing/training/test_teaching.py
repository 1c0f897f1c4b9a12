"""Elections, and what the elected and the full set teach: by hand where the formula is short."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lckd.anatomy import MODALITIES
from lckd.preprocessing import Preprocessing
from lckd_training import election, training
from lckd_training.config import Config
from lckd_training.data import cached
from lckd_training.distillation import Decoded, Losses, feature_distance, within
from lckd_training.election import elect, single_modality_scores, single_teacher
from lckd_training.layouts import find_cases
from lckd_training.sampling import Samples
from lckd_training.training import Run


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


def test_outside_the_brain_nothing_counts():
    """There inference leaves out what the network says, so a false region there must not hide those in the brain."""
    brain = torch.zeros(8, 8, 8, dtype=torch.bool)
    brain[:, :, :4] = True
    regions = torch.zeros(3, 8, 8, 8)
    regions[..., 1:3] = 1
    logits = (regions[None] * 20 - 10).repeat(2, 1, 1, 1, 1)
    logits[..., 4:] = 10  # all wrong, but outside
    logits.requires_grad_()
    found, seen = Decoded(logits, torch.zeros(4, 2, 1, 1, 1), {}), torch.ones(2, 4, dtype=torch.bool)
    assert Losses()(found, regions, seen, [])["dice"] > 0.3
    losses = Losses()(within(brain, found), regions, seen, [])
    assert losses["dice"] < 0.01 and losses["cross_entropy"] < 0.01
    sum(losses.values()).backward()
    assert not logits.grad[..., 4:].any() and logits.grad[..., :4].any()


@pytest.mark.parametrize("brain_norm", [True, False])
def test_what_a_network_says_of_background_counts_unless_it_normalises_by_the_brain(tmp_path, brain_norm):
    images, regions = torch.randn(4, 32, 32, 32), torch.zeros(3, 32, 32, 32)
    images[:, :16] = 0
    regions[:, 16:20, 16:20, 16:20] = 1
    run = Run(Config(widths=[4, 8], depth=1, brain_norm=brain_norm, precision="32-true"), tmp_path, [])
    sample = {"images": images, "regions": regions, "available": torch.ones(1, 4, dtype=torch.bool)}
    counts = []
    for bias in (-5.0, 5.0):
        with torch.no_grad():
            run.network.head.weight.zero_()
            run.network.head.bias.fill_(bias)
        counts.append(run.sample_losses(sample)["cross_entropy"].item())
    assert counts[1] == pytest.approx(5.0 / 2 if brain_norm else 5.0, rel=0.05)  # half is background
    assert counts[0] < 0.1


def test_a_large_false_region_teaches():
    """A millilitre in both terms of Dice: the wholly false region still has a slope, and a found one costs the same."""
    nothing = torch.zeros(3, 24, 24, 24)
    there = nothing.clone()
    there[:, 2:22, 2:22, 2:22] = 1
    slopes, costs = [], []
    for smooth in (1.0, 1000.0):
        logits = torch.full((1, 3, 24, 24, 24), 3.0, requires_grad=True)
        dice = Losses(dice_smooth=smooth).dice
        dice(logits, nothing[None]).backward()
        slopes.append(logits.grad.sum().item())
        costs.append(dice(there[None] * 20 - 10, there[None]).item())
    assert slopes[1] > 100 * slopes[0] > 0
    assert max(costs) < 0.01


def test_single_teacher_is_the_most_frequent():
    assert single_teacher({"ET": "T1ce", "TC": "T2", "WT": "T2"}) == dict.fromkeys(("ET", "TC", "WT"), "T2")
    assert single_teacher({}) == {}


def test_where_nothing_is_found_nobody_is_elected():
    scores = {"ET": dict.fromkeys(MODALITIES, 0.0), "WT": {"T2": 0.2, "FLAIR": 0.1}}
    assert elect(scores, {"ET": "T1"}, 1).teachers == {"WT": "T2"}


def test_modalities_are_compared_on_the_same_cases(monkeypatch):
    """Three easy cases with T1ce must not beat ten hard ones without."""
    easy, hard = (
        SimpleNamespace(name=name, modalities=has) for name, has in (("easy", MODALITIES), ("hard", ("FLAIR",)))
    )
    score = {("easy", "FLAIR"): 0.9, ("easy", "T1ce"): 0.8, ("hard", "FLAIR"): 0.1}

    def found(network, case, subsets, *_):
        return [(names, score.get((case.name, *names), 0)) for names in subsets if {*names} <= {*case.modalities}]

    monkeypatch.setattr(election, "found_in_subsets", found)
    monkeypatch.setattr(election, "true_regions", lambda case: None)
    monkeypatch.setattr(election, "region_dice", lambda dice, _: np.full(3, dice))
    both = single_modality_scores(None, [easy, hard], (32,) * 3, None)["WT"]
    assert (both["FLAIR"], both["T1ce"]) == (0.9, 0.8)
    assert single_modality_scores(None, [hard], (32,) * 3, None)["WT"] == {"FLAIR": 0.1}


def test_a_region_that_the_patch_lacks_does_not_dilute_the_others():
    bottleneck, regions = torch.randn(4, 2, 2, 2, 2), torch.zeros(3, 8, 8, 8)
    regions[2, :4] = 1
    held = torch.ones(4, dtype=torch.bool)
    alone = feature_distance(bottleneck, bottleneck, held, [("FLAIR", "WT")], regions)
    assert feature_distance(bottleneck, bottleneck, held, [("T1ce", "ET"), ("FLAIR", "WT")], regions) == alone > 0


def test_each_loss_is_what_it_says():
    torch.manual_seed(0)
    logits, features = torch.randn(2, 3, 4, 4, 4, requires_grad=True), torch.randn(4, 3, 2, 2, 2)
    regions, available = (torch.rand(3, 4, 4, 4) > 0.5).float(), torch.tensor([[True] * 4, [False, False, True, False]])
    losses = Losses(0.1, 0.5, cross_entropy_weight=3.0)(
        Decoded(logits, features, {}), regions, available, [("T1ce", None)]
    )
    found, target = logits.detach().sigmoid(), regions.expand(2, 3, 4, 4, 4)
    space = (2, 3, 4)
    dice = 1 - (2 * (found * target).sum(space) + 1) / (found.sum(space) + target.sum(space) + 1)
    assert torch.allclose(losses["dice"], dice.mean())
    assert torch.allclose(losses["cross_entropy"], 3 * functional.binary_cross_entropy(found, target))
    assert torch.allclose(losses["logit_distillation"], 0.5 * functional.binary_cross_entropy(found[1], found[0]))
    apart = [(features[MODALITIES.index(name)] - features[1]).abs().mean() for name in ("T1", "T2", "FLAIR")]
    assert torch.allclose(losses["feature_distillation"], 0.1 * torch.stack(apart).mean())
    losses["logit_distillation"].backward()
    assert not logits.grad[0].any() and logits.grad[1].any(), "the full set teaches and does not learn"


def test_a_relative_distance_is_not_shortened_by_smaller_features():
    torch.manual_seed(0)
    features, regions = torch.randn(4, 3, 2, 2, 2), torch.ones(3, 4, 4, 4)
    held = torch.tensor([True, True, False, False])
    says = features[1] - features[1].mean((1, 2, 3), keepdim=True)
    expected = (features[0] - features[1]).abs().mean() / says.abs().mean()
    for size in (1.0, 0.01):
        distance = feature_distance(features * size, features * size, held, [("T1ce", None)], regions, relative=True)
        assert torch.allclose(distance, expected)
    regions[0] = 0
    regions[0, :2] = 1  # a lesson on a place has the same unit
    there = feature_distance(features, features, held, [("T1ce", "ET")], regions, relative=True)
    assert torch.allclose(there, (features[0] - features[1])[:, :1].abs().mean() / says.abs().mean())


def test_what_is_taught_may_come_from_the_running_average():
    torch.manual_seed(0)
    logits, features, regions = torch.randn(2, 3, 4, 4, 4), torch.randn(4, 3, 2, 2, 2), torch.ones(3, 4, 4, 4)
    found, taught = Decoded(logits, features, {}), Decoded(torch.randn(1, 3, 4, 4, 4), features + 1, {})
    losses = Losses(1.0, 1.0)(found, regions, torch.ones(2, 4, dtype=torch.bool), [("T1ce", None)], taught)
    soft = functional.binary_cross_entropy(logits[1].sigmoid(), taught.logits[0].sigmoid())
    assert torch.allclose(losses["logit_distillation"], soft)
    distance = feature_distance(features, features + 1, torch.ones(4, dtype=torch.bool), [("T1ce", None)], regions)
    assert torch.allclose(losses["feature_distillation"], distance)


@pytest.fixture
def samples(phantoms, tmp_path):
    """Call with a recipe for its samples of the phantoms."""
    cases = [cached(case, Preprocessing(), tmp_path) for case in find_cases(phantoms)]
    return lambda config: Samples(cases, config)


def test_a_step_has_the_rate_of_its_iteration_and_moves_the_average(samples, tmp_path):
    config = Config(widths=[4, 8], depth=1, patch=[32] * 3, iterations=10, warm_up=4, learning_rate=0.01, ema=0.5)
    beginning, rates = Run(config, tmp_path, []), []
    for beginning.iteration, kept in ((0, 1 / 10), (2, 3 / 12), (9, 0.5)):  # it warms up, too: (1 + i) / (10 + i)
        before = [value.clone() for value in beginning.average.parameters()]
        beginning.step([samples(config)[0]])
        rates.append(beginning.optimiser.param_groups[0]["lr"])
        for old, average, value in zip(
            before, beginning.average.parameters(), beginning.network.parameters(), strict=True
        ):
            assert torch.allclose(average, kept * old + (1 - kept) * value, atol=1e-6)
    assert rates == pytest.approx([0.01 / 4, 0.01 * 3 / 4 * 0.8**0.9, 0.01 * 0.1**0.9])


def test_after_an_election_the_elected_teach_and_the_average_was_judged(samples, tmp_path, monkeypatch):
    config = Config(widths=[4, 8], depth=1, patch=[32] * 3, iterations=10, elect_every=1)
    begun, judged = Run(config, tmp_path, []), []
    scores = {"ET": {"T1ce": 0.7}, "TC": {"T1ce": 0.6}, "WT": {"FLAIR": 0.8}}
    monkeypatch.setattr(training, "single_modality_scores", lambda network, *_: judged.append(network) or scores)
    assert begun.step([samples(config)[0]])["feature_distillation"] == 0
    begun.elect()
    assert judged == [begun.average] and begun.step([samples(config)[0]])["feature_distillation"] > 0
