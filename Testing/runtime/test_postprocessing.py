"""What a model leaves out by size, and what it never leaves out."""

import numpy as np
import pytest

from lckd.postprocessing import Rules, apply_rules

RULES = Rules(smallest_piece_ml=1.0, smallest_et_ml=0.5)
VOXEL_ML = 0.001


def scene(*cubes: tuple[int, int, int, int]) -> np.ndarray:
    """Probabilities with cubes (first voxel, edge of WT, of TC, of ET) along the diagonal."""
    probabilities = np.full((3, 80, 80, 80), 0.01, np.float32)
    for first, *edges in cubes:
        for channel, edge in zip((2, 1, 0), edges, strict=True):
            probabilities[channel, first : first + edge, first : first + edge, first : first + edge] = 0.9
    return probabilities


def found(probabilities: np.ndarray) -> list[int]:
    return [int(np.count_nonzero(region >= 0.5)) for region in probabilities]


def test_small_piece_beside_a_large_one_is_left_out():
    result, notes = apply_rules(scene((0, 30, 20, 15), (60, 8, 5, 3)), RULES, VOXEL_ML)
    assert found(result) == [15**3, 20**3, 30**3]
    assert "left out 1 pieces of 0.51 mL" in notes[0]


@pytest.mark.parametrize("cubes", [[(0, 30, 20, 15), (60, 11, 0, 0)], [(0, 9, 5, 4), (60, 8, 4, 4)], [(0, 7, 5, 4)]])
def test_large_pieces_and_small_tumours_stay(cubes):
    before = scene(*cubes)
    result, notes = apply_rules(before, RULES, VOXEL_ML)
    assert np.array_equal(result, before) and notes == []


def test_a_drop_of_enhancement_in_a_large_core_is_necrosis():
    result, notes = apply_rules(scene((0, 30, 25, 7)), RULES, VOXEL_ML)
    assert found(result) == [0, 25**3, 30**3]
    assert "0.34 mL that looked enhancing" in notes[0]


def test_enhancement_in_a_piece_left_out_does_not_count():
    result, notes = apply_rules(scene((0, 30, 25, 7), (60, 9, 6, 6)), RULES, VOXEL_ML)
    assert found(result) == [0, 25**3, 30**3]
    assert "0.34 mL that looked enhancing" in notes[1]


def test_enhancement_of_a_small_core_stays():
    assert found(apply_rules(scene((0, 12, 8, 7)), RULES, VOXEL_ML)[0])[0] == 7**3


def test_nothing_found_and_no_rules():
    empty = scene()
    assert apply_rules(empty, RULES, VOXEL_ML)[1] == []
    before = scene((0, 30, 20, 3), (60, 3, 0, 0))
    assert np.array_equal(apply_rules(before, Rules(), VOXEL_ML)[0], before)
