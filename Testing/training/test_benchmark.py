"""What ``lckd benchmark`` measures adds up; how fast it is, is for the machine at hand to say."""

import pytest
import torch

from lckd.errors import InputError
from lckd_training import benchmark as measuring


def test_stages_add_up_and_ratios_are_of_them(phantoms, monkeypatch):
    monkeypatch.setattr(measuring, "_study", lambda folder: phantoms / "Phantom_00_000")
    monkeypatch.setattr(measuring, "paper_window_seconds", lambda: 2.0)
    found = measuring.benchmark(None, lambda words: None)
    four, one = found["segment_four"], found["segment_one"]
    for measured in (four, one):
        assert set(measured["stages"]) == {"start", "load", "read", "align", "prepare", "segment", "write"}
        assert min(measured["stages"].values()) >= 0
        assert 0.2 < measured["peak_gib"] < 4
    assert found["authors_network_seconds"] == 2.0 * measuring.PAPER_WINDOWS
    ratios = list(found["ratios"].values())
    assert ratios[0] == pytest.approx(24 / four["stages"]["segment"], rel=0.02)
    assert ratios[1] == pytest.approx(one["stages"]["segment"] / four["stages"]["segment"], abs=0.01)


def test_a_command_that_fails_says_why():
    with pytest.raises(InputError, match="failed: oh no"):
        measuring._run("-c", "raise SystemExit('oh no')")


def test_the_memory_is_the_commands_own():
    """A process that is started by a large one counts as large as that, if nobody takes care."""
    held = torch.zeros(1 << 28, dtype=torch.uint8) + 1  # 256 MiB
    assert measuring._run("-c", "pass")[1] < 0.1 and held.numel()
