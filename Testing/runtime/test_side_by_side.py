"""Volumes are worked on side by side, and nobody can tell but by the clock."""

import threading

import pytest

from lckd.errors import InputError
from lckd.side_by_side import side_by_side


def test_results_come_in_order_whoever_ends_first():
    second_is_done = threading.Event()

    def slow_first(item):
        if item == 1:
            assert second_is_done.wait(10), "the second one is not begun until the first one ends"
        else:
            second_is_done.set()
        return -item

    assert side_by_side(slow_first, (1, 2)) == [-1, -2]
    assert side_by_side(slow_first, ()) == []


def test_the_first_that_fails_is_told():
    def refuse(item):
        if item > 1:
            raise InputError(f"{item} is wrong")

    with pytest.raises(InputError, match="2 is wrong"):
        side_by_side(refuse, (1, 2, 3))
