"""What the rules change in a network's result, and what they never do."""

from itertools import pairwise

import numpy as np
import pytest

from lckd.postprocessing import CUT, Rules, apply_rules, move_cut

RULES = Rules(smallest_piece_ml=1.0, smallest_et_ml=0.5)
CORE = Rules(least_core=0.1, least_unenhanced_core=0.4)
VOXEL_ML = 0.001
T1CE, FLAIR = ("T1ce",), ("FLAIR",)


def scene(*cubes: tuple[int, int, int, int]) -> np.ndarray:
    """Probabilities with cubes (first voxel, edge of WT, of TC, of ET) along the diagonal."""
    probabilities = np.full((3, 80, 80, 80), 0.01, np.float32)
    for first, *edges in cubes:
        for channel, edge in zip((2, 1, 0), edges, strict=True):
            probabilities[channel, first : first + edge, first : first + edge, first : first + edge] = 0.9
    return probabilities


def with_likely_core(probabilities: np.ndarray) -> np.ndarray:
    """The same with a core that is nowhere certain, and likelier the smaller x is."""
    falling = np.linspace(0.4, 0.02, probabilities.shape[-1], dtype=np.float32)
    probabilities[1] = np.maximum(probabilities[1], falling)
    probabilities[2] = np.maximum(probabilities[2], probabilities[1])
    return probabilities


def found(probabilities: np.ndarray) -> list[int]:
    return [int(np.count_nonzero(region >= CUT)) for region in probabilities]


def test_small_piece_beside_a_large_one_is_left_out():
    result, notes, doubts = apply_rules(scene((0, 30, 20, 15), (60, 8, 5, 3)), RULES, VOXEL_ML, T1CE)
    assert found(result) == [15**3, 20**3, 30**3]
    assert "left out a piece of 0.51 mL" in notes[0] and doubts == []


@pytest.mark.parametrize("cubes", [[(0, 30, 20, 15), (60, 11, 0, 0)], [(0, 9, 5, 4), (60, 8, 4, 4)], [(0, 7, 5, 4)]])
def test_large_pieces_and_small_tumours_stay(cubes):
    before = scene(*cubes)
    result, notes, _ = apply_rules(before, RULES, VOXEL_ML, T1CE)
    assert np.array_equal(result, before) and notes == []


def test_a_drop_of_enhancement_in_a_large_core_is_necrosis():
    result, notes, _ = apply_rules(scene((0, 30, 25, 7)), RULES, VOXEL_ML, T1CE)
    assert found(result) == [0, 25**3, 30**3]
    assert "0.34 mL that looked enhancing" in notes[0]


def test_enhancement_in_a_piece_left_out_does_not_count():
    result, notes, _ = apply_rules(scene((0, 30, 25, 7), (60, 9, 6, 6)), RULES, VOXEL_ML, T1CE)
    assert found(result) == [0, 25**3, 30**3]
    assert "0.34 mL that looked enhancing" in notes[1]


def test_enhancement_of_a_small_core_stays():
    assert found(apply_rules(scene((0, 12, 8, 7)), RULES, VOXEL_ML, T1CE)[0])[0] == 7**3


@pytest.mark.parametrize("modalities", [T1CE, FLAIR])
def test_nothing_found_and_no_rules(modalities):
    every = Rules(1.0, 0.5, 0.3, 0.1, 0.4)
    result, notes, doubts = apply_rules(scene(), every, VOXEL_ML, modalities)
    assert found(result) == [0, 0, 0] and notes == doubts == []
    before = scene((0, 30, 20, 3), (60, 3, 0, 0))
    assert np.array_equal(apply_rules(before, Rules(), VOXEL_ML, modalities)[0], before)


def test_what_came_in_is_not_changed():
    before = with_likely_core(scene((0, 30, 0, 0), (60, 3, 0, 0)))
    copy = before.copy()
    apply_rules(before, Rules(1.0, 0.5, 0.3, 0.1, 0.4), VOXEL_ML, T1CE)
    assert np.array_equal(before, copy)


@pytest.mark.parametrize("cut", [0.1, 0.3, 0.5, 0.8])
def test_a_moved_cut_is_one_half_and_keeps_the_order(cut):
    probabilities = np.array([0, 1e-4, cut - 0.05, cut, cut + 0.05, 0.999, 1], np.float32)
    moved = move_cut(probabilities, cut)
    assert moved[3] == pytest.approx(0.5) and moved[0] == 0 and moved[-1] == 1
    assert all(a < b for a, b in pairwise(moved))


def test_whole_tumour_from_another_probability_on():
    before = scene((0, 30, 20, 15))
    before[2, 30:40, :10, :10] = before[2, 60:70, :10, :10] = 0.35
    result, notes, _ = apply_rules(before, Rules(wt_cut=0.3), VOXEL_ML, T1CE)
    assert found(result) == [15**3, 20**3, 30**3 + 1000], "of what is likely only what is joined to what is likelier"
    assert notes == [] and not result[2, 65, 5, 5]
    result = apply_rules(before, Rules(wt_cut=0.9), VOXEL_ML, T1CE)[0]
    assert (result[1] <= result[2]).all()  # what is surely core stays whole tumour


@pytest.mark.parametrize(("modalities", "share", "why"), [(T1CE, 0.4, "hardly anything"), (FLAIR, 0.1, "T1ce")])
def test_oedema_alone_gets_a_core_where_it_is_likeliest(modalities, share, why):
    before = with_likely_core(scene((0, 30, 0, 0)))
    result, _, doubts = apply_rules(before, CORE, VOXEL_ML, modalities)
    core, whole = result[1] >= CUT, result[2] >= CUT
    assert found(result)[2] == 30**3
    assert share * 30**3 <= core.sum() < (share + 1 / 30) * 30**3  # a slice of x is equally likely throughout
    assert core[whole].sum() == core.sum() and np.argwhere(core)[:, 2].max() < 30 * share
    assert len(doubts) == 1 and why in doubts[0] and "assumed" in doubts[0] and "0.0 mL of tumour core" in doubts[0]


def test_a_core_that_enhances_or_is_large_enough_stays():
    enhancing = with_likely_core(scene((0, 30, 10, 9)))  # 0.027 of the whole
    result, _, doubts = apply_rules(enhancing, CORE, VOXEL_ML, T1CE)
    assert np.array_equal(result, enhancing) and doubts == []
    large = with_likely_core(scene((0, 30, 25, 0)))
    for modalities in (T1CE, FLAIR):
        assert apply_rules(large, CORE, VOXEL_ML, modalities)[2] == []


def test_a_core_is_not_drawn_where_it_cannot_be():
    nowhere = scene((0, 30, 0, 0))
    nowhere[:2] = 0
    result, _, doubts = apply_rules(nowhere, CORE, VOXEL_ML, T1CE)
    assert found(result) == [0, 0, 30**3]
    assert "saw 0.0 mL" in doubts[0] and "drawn" not in doubts[0]


def test_regions_stay_nested():
    probabilities = np.sort(np.random.default_rng(0).random((3, 20, 20, 20), np.float32), axis=0)
    for modalities in (T1CE, FLAIR):
        result = apply_rules(probabilities, Rules(0, 0, 0.3, 0.9, 0.9), 1.0, modalities)[0]
        assert (np.diff(result, axis=0) >= 0).all()
