"""The published network: its size, its cost, the authors' weights on it, and its speed beside ours."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from lckd.anatomy import MODALITIES, REGIONS
from lckd.errors import InputError
from lckd.inference import predict
from lckd.model_folder import load_model, sha256
from lckd.paper_network import PATCH, PaperNetwork
from lckd_training.official import THEIR_MODALITIES, THEIR_REGIONS, authors_name, load_state_dict

SMALL = (16, 32, 32)
RECIPES = Path(__file__).parents[2] / "Training" / "configs"


def test_size_and_cost_are_the_papers():
    with torch.device("meta"):
        network, images = PaperNetwork(), torch.empty(1, 4, *PATCH)
    assert sum(p.numel() for p in network.parameters()) == 43_656_672
    with FlopCounterMode(display=False) as counter:
        network(images, MODALITIES)
    assert counter.get_total_flops() / 1e12 == pytest.approx(0.754, abs=0.001)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PaperNetwork().double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def theirs(network):
    """The network's weights as the authors would hold them: their names, their orders."""
    state = {f"module.{authors_name(name)}": value.clone() for name, value in network.state_dict().items()}
    modalities = [MODALITIES.index(name) for name in THEIR_MODALITIES]

    def reorder(key, dimension):
        chunks = state[key].chunk(4, dimension)
        state[key] = torch.cat([chunks[i] for i in modalities], dimension)

    reorder("module.shared_dec.transposeconv_stage3.weight", 0)
    for level in range(4):
        reorder(f"module.shared_dec.shortcut_conv{level}.0.weight", 1)
    head = "module.shared_dec.cls_conv.0.weight"
    state[head] = state[head][[REGIONS.index(name) for name in THEIR_REGIONS]]
    return state


def test_authors_names_are_theirs(network):
    names = {authors_name(name) for name in network.state_dict()}
    assert len(names) == 221
    assert {
        "shared_enc.backbone.conv1.weight", "shared_enc.backbone.layer3.5.norm3.bias",
        "shared_enc.backbone.layer1.0.downsample.0.weight", "shared_enc.asppreduce.1.weight",
        "shared_enc.aspp.branch4.0.weight", "shared_enc.aspp.branch5_norm.bias", "shared_enc.aspp.conv_cat.0.weight",
        "shared_dec.transposeconv_stage0.weight", "shared_dec.shortcut_conv3.1.bias",
        "shared_dec.stage2_de.conv2.weight", "shared_dec.cls_conv.0.weight",
    } <= names  # fmt: skip


THEIRS = {
    "stages.1.0.layers.0.convolution.weight": "shared_enc.backbone.layer2.0.conv1.weight",
    "stages.1.0.layers.1.norm.bias": "shared_enc.backbone.layer2.0.norm2.bias",
    "stages.1.0.layers.2.convolution.weight": "shared_enc.backbone.layer2.0.conv3.weight",
    "stages.1.0.shortcut.norm.weight": "shared_enc.backbone.layer2.0.downsample.1.weight",
    "pyramid.local.0.convolution.weight": "shared_enc.aspp.branch1.0.weight",
    "pyramid.local.1.convolution.weight": "shared_enc.aspp.branch2.0.weight",
    "pyramid.local.2.norm.weight": "shared_enc.aspp.branch3.1.weight",
    "pyramid.local.3.convolution.weight": "shared_enc.aspp.branch4.0.weight",
    "pyramid.whole.convolution.weight": "shared_enc.aspp.branch5_conv.weight",
    "pyramid.merge.norm.bias": "shared_enc.aspp.conv_cat.1.bias",
    "rises.0.weight": "shared_dec.transposeconv_stage3.weight",
    "rises.1.weight": "shared_dec.transposeconv_stage2.weight",
    "rises.3.weight": "shared_dec.transposeconv_stage0.weight",
    "skips.0.convolution.weight": "shared_dec.shortcut_conv3.0.weight",
    "skips.3.norm.weight": "shared_dec.shortcut_conv0.1.weight",
    "refine.0.layers.1.convolution.weight": "shared_dec.stage3_de.conv2.weight",
    "refine.3.layers.0.norm.bias": "shared_dec.stage0_de.norm1.bias",
}
"""Ours, and theirs as their code has it: parts of one shape could be mistaken for each other without an error."""


@pytest.mark.parametrize("name", THEIRS)
def test_each_part_is_its_counterpart(network, name):
    assert name in network.state_dict() and authors_name(name) == THEIRS[name]


@pytest.mark.parametrize("subset", [MODALITIES, ("T1", "FLAIR"), ("T2",)])
def test_authors_weights_give_the_same_logits(network, theirs, subset):
    other = PaperNetwork().double().eval()
    load_state_dict(other, theirs)
    images = torch.randn(1, len(subset), *SMALL, dtype=torch.double)
    assert torch.equal(other(images, subset), network(images, subset))


def test_state_of_another_network_is_refused(theirs):
    network = PaperNetwork()
    with pytest.raises(InputError, match=r"lacks shared_dec.cls_conv"):
        load_state_dict(network, {k: v for k, v in theirs.items() if "cls_conv" not in k})
    with pytest.raises(InputError, match="no place"):
        load_state_dict(network, {**theirs, "shared_enc.more": torch.zeros(1)})


def test_order_of_the_channels_given_does_not_matter(network):
    images = torch.randn(1, 2, *SMALL, dtype=torch.double)
    assert torch.allclose(network(images, ("T1", "T2")), network(images.flip(1), ("T2", "T1")))


def test_missing_skips_have_a_switch(network):
    filled = PaperNetwork("mean").double().eval()
    filled.load_state_dict(network.state_dict())
    images = torch.randn(1, 4, *SMALL, dtype=torch.double)
    assert torch.equal(filled(images, MODALITIES), network(images, MODALITIES))
    assert not torch.allclose(filled(images[:, :1], ("T1",)), network(images[:, :1], ("T1",)))


def test_global_branch_of_the_pyramid_is_dead(network):
    """Constant in space before an instance norm: what it says is removed (documented in Training/README.md)."""
    x = torch.randn(1, 256, 2, 2, 2, dtype=torch.double)
    before = network.pyramid(x)
    network.pyramid.whole.norm.bias += 3
    try:
        assert torch.allclose(network.pyramid(x), before, atol=1e-8)
    finally:
        network.pyramid.whole.norm.bias -= 3


def test_global_branch_has_a_switch():
    torch.manual_seed(0)
    pyramid = PaperNetwork(global_branch="live").double().pyramid
    x = torch.randn(1, 256, 2, 2, 2, dtype=torch.double)
    before = pyramid(x)
    with torch.no_grad():
        pyramid.whole.norm.bias[:128] += 3
    assert not torch.allclose(pyramid(x), before, atol=1e-3)


def test_views_decoded_together_are_those_decoded_alone(network):
    """Training decodes several subsets of one encoding; inference encodes what there is."""
    images = torch.randn(1, 4, *SMALL, dtype=torch.double)
    available = torch.tensor([[True] * 4, [False, True, False, True]])
    spread = [f[None].expand(2, *f.shape) for f in network.encode(images[0, :, None])]
    together = network.decode(spread, available)
    assert torch.allclose(together[:1], network(images, MODALITIES))
    assert torch.allclose(together[1:], network(images[:, [1, 3]], ("T1ce", "FLAIR")))


def test_a_model_folder_may_hold_the_papers_network(tmp_path):
    bundled = load_model(None)
    torch.manual_seed(0)
    options = {"missing_skips": "mean", "global_branch": "live"}
    network = PaperNetwork(**options).eval()
    weights = {name: value.half() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    save_file(weights, tmp_path / "model.safetensors")
    card = {**bundled.card, "architecture": {"kind": "paper", **options}, "inference": {"window": [16, 32, 32]}}
    card["weights_sha256"] = sha256(tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps(card))
    model = load_model(tmp_path)
    images = torch.randn(1, 2, *SMALL)
    with torch.inference_mode():
        assert torch.allclose(model.network()(images, ("T1", "T2")), network(images, ("T1", "T2")), atol=1e-3)
    probabilities = predict(model.network(), images[0].numpy(), ("T1", "T2"), model.window, torch.device("cpu"))
    assert probabilities.shape == (3, *SMALL)
    (tmp_path / "model.json").write_text(json.dumps({**card, "inference": {"window": [16, 32, 30]}}))
    with pytest.raises(InputError, match=r"inference\.window"):
        load_model(tmp_path)


def test_the_papers_recipe_trains(tmp_path):
    """Its network, optimiser, schedule and sampling; only the patch and the number of iterations are smaller."""
    from lckd.preprocessing import Preprocessing
    from lckd_training.config import load_config
    from lckd_training.phantom import write_phantoms
    from lckd_training.training import Run, Samples, find_cases, prepared_cases

    list(write_phantoms(tmp_path / "data", cases=1, size=48, seed=0))
    smaller = ["patch=[16,32,32]", "iterations=2", "full_until=1", "learning_rate_stages=[1]", "precision=32-true"]
    config = load_config(RECIPES / "paper.yaml", smaller)
    cases = prepared_cases(find_cases(tmp_path / "data"), Preprocessing(), tmp_path / "cache", False)
    run, samples = Run(config, tmp_path, []), Samples(cases, config)
    assert samples[0]["available"].all() and samples[2]["available"].sum() < 4
    before = run.network.head.weight.clone()
    losses = [run.step([samples[2 * i], samples[2 * i + 1]]) for i in (0, 1)]
    assert all(0 < loss["dice"] < 1 for loss in losses) and not torch.equal(run.network.head.weight, before)
    assert run.optimiser.defaults["nesterov"] and run.optimiser.defaults["momentum"] == 0.99
