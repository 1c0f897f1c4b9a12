"""Weights on disk come back as they were, but for half a step of a channel's scale."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from lckd.network import Network
from lckd.weights import SCALE, SHAPE, levels, packed, unpacked


def test_kernels_come_back_within_half_a_step(tmp_path):
    torch.manual_seed(0)
    weights = Network([4, 8], 1).state_dict()
    weights["encoder.0.enter.0.weight"][1] = 0  # a channel that does nothing
    weights["encoder.0.enter.0.weight"][2] *= 1e-3  # one that does little keeps its own scale
    save_file(packed(weights), tmp_path / "weights")
    back = unpacked(load_file(tmp_path / "weights"))
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        assert back[name].shape == value.shape and back[name].dtype == torch.float32
        if value.ndim >= 3:
            largest = value.abs().amax(tuple(range(1, value.ndim)), keepdim=True)
            assert ((back[name] - value).abs() <= 0.501 * largest / levels(value.numel())).all(), name
        else:
            assert torch.allclose(back[name], value, rtol=1e-3, atol=1e-6), name


def test_kernels_take_less_than_a_byte_each(tmp_path):
    weights = Network([16, 32, 64], 1).state_dict()
    save_file(packed(weights), tmp_path / "weights")
    kernels = sum(value.numel() for value in weights.values() if value.ndim == 5)
    rest = sum(value.numel() for value in weights.values()) - kernels
    assert (tmp_path / "weights").stat().st_size < 0.95 * kernels + 2 * rest + 20_000


def test_packing_what_was_unpacked_changes_nothing():
    torch.manual_seed(0)
    weights = {"small": torch.randn(8, 8, 3, 3, 3), "large": torch.randn(128, 128, 3, 3, 3), "bias": torch.randn(8)}
    once = packed(weights)
    again = packed(unpacked(once))
    assert again.keys() == once.keys() and all(torch.equal(again[name], value) for name, value in once.items())


def test_large_kernels_have_fewer_levels():
    weights = {"small": torch.randn(8, 8, 3, 3, 3), "large": torch.randn(128, 128, 3, 3, 3)}
    back = unpacked(packed(weights))
    used = {name: len(value[0].unique()) for name, value in back.items()}  # of one channel
    assert used["large"] == 9 and used["small"] > 60


def test_weights_all_in_half_precision_are_read():
    weights = {"a": torch.randn(3, 2, 1, 1, 1), "b": torch.randn(3)}
    back = unpacked({name: value.half() for name, value in weights.items()})
    assert all(torch.allclose(back[name], value, rtol=1e-3, atol=1e-4) for name, value in weights.items())


def test_kernels_that_are_not_deflated_are_read():
    """Format 2."""
    stored = {"a": torch.tensor([[[[[127]]]], [[[[-3]]]]], dtype=torch.int8), "a.scale": torch.ones(2, 1, 1, 1, 1) / 2}
    assert unpacked(stored)["a"].flatten().tolist() == [63.5, -1.5]


@pytest.mark.parametrize("part", [SCALE, SHAPE])
def test_a_kernel_without_its_scale_or_shape_is_refused(part):
    stored = packed({"a": torch.randn(3, 2, 1, 1, 1)})
    del stored["a" + part]
    with pytest.raises(KeyError):
        unpacked(stored)


def test_a_damaged_kernel_is_refused():
    stored = packed({"a": torch.randn(3, 2, 1, 1, 1)})
    stored["a"][2:] = 7
    with pytest.raises(RuntimeError, match="a kernel is damaged"):
        unpacked(stored)
