"""Imagining a missing teacher's features: what it begins as, what is trained when, and a whole run of each kind."""

import numpy as np
import pytest
import torch

from lckd.anatomy import MODALITIES
from lckd.errors import InputError
from lckd.network import Network
from lckd_training.config import Config, load_config
from lckd_training.guidance import STAGES, first_stage_ends, guidance_distance, stage_of, train_only
from lckd_training.run_folder import averaged_network
from lckd_training.sampling import draw_views
from lckd_training.training import train
from small_phantoms import write_small_phantoms

T1CE = MODALITIES.index("T1ce")


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Network((4, 8), 1, guidance=True).eval()
    network.guided[T1CE] = True
    return network


def test_guidance_begins_as_the_mean_fill_and_then_changes_what_is_missing(network):
    images = torch.randn(1, 4, 16, 16, 16)
    plain = Network((4, 8), 1).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    assert torch.allclose(network(images[:, :1], ("T1",)), plain(images[:, :1], ("T1",)), atol=1e-6)
    torch.nn.init.normal_(network.guides[T1CE][1].weight)
    assert not torch.allclose(network(images[:, :1], ("T1",)), plain(images[:, :1], ("T1",)), atol=1e-3)
    assert torch.equal(network(images, MODALITIES), plain(images, MODALITIES)), "nothing is missing, nothing imagined"


def test_what_is_imagined_takes_the_place_of_the_fill(network):
    """A guide that gives exactly the true features gives what the modality itself would, at the bottleneck."""
    bottleneck = torch.randn(1, 4, 8, 3, 3, 3)
    alike = torch.randn(1, 1, 4, 6, 6, 6).expand(1, 4, 4, 6, 6, 6)  # the skip features: the fill is then the truth
    everything = torch.ones(1, 4, dtype=torch.bool)
    lacking = everything.clone()
    lacking[0, T1CE] = False
    difference = bottleneck[:, T1CE] - bottleneck[:, [i for i in range(4) if i != T1CE]].mean(1)
    guided = network.decode([alike, bottleneck], lacking, {T1CE: difference})
    assert torch.allclose(guided, network.decode([alike, bottleneck], everything), atol=1e-4)
    assert not torch.allclose(guided, network.decode([alike, bottleneck], lacking), atol=1e-2)


def test_distance_is_that_of_the_imagined_with_the_true_features_fixed():
    bottleneck = torch.randn(4, 2, 1, 1, 1, requires_grad=True)
    available = torch.tensor([[True] * 4, [True, False, True, True], [False, True, True, True]])
    true = (bottleneck[1] - bottleneck[[0, 2, 3]].mean(0)).detach()
    difference = torch.stack([torch.zeros_like(true), true + 0.5, torch.zeros_like(true)]).requires_grad_()
    distance = guidance_distance(bottleneck, available, {1: difference})
    distance.backward()
    assert distance.item() == pytest.approx(0.5) and bottleneck.grad is None
    assert difference.grad[1].any() and not difference.grad[[0, 2]].any()


def test_stages_follow_one_another_and_freeze_the_rest(network):
    assert [stage_of(i, 100) for i in (0, 39, 40, 55, 70, 99)] == [
        "alone", "alone", "imitate", "through", "joint", "joint"
    ]  # fmt: skip
    assert [i for i in range(1, 101) if first_stage_ends(i, 100)] == [40]
    trained = {}
    for stage, _ in STAGES:
        train_only(network, stage)
        trained[stage] = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert "guides" not in trained["alone"] and "encoder" in trained["alone"]
    assert trained["imitate"] == trained["through"] == {"guides"}
    assert "encoder" not in trained["joint"] and {"guides", "head"} <= trained["joint"]
    config = Config(guidance="staged", iterations=100)
    assert draw_views(("T1", "FLAIR"), 0, config, np.random.default_rng(0)) == [("T1",), ("FLAIR",)]


def test_the_papers_network_has_no_guides(tmp_path):
    (tmp_path / "r.yaml").write_text("architecture: paper\npatch: 32\nfinal_patch: 32\n")
    said = "guidance, brain_norm, mirrored, bottleneck_layer are for architecture=compact only"
    with pytest.raises(InputError, match=said):
        load_config(tmp_path / "r.yaml", ["guidance=joint"])


@pytest.mark.parametrize("kind", ["joint", "staged"])
def test_a_guided_run_ends_with_guides_for_its_teachers(tmp_path, kind):
    write_small_phantoms(tmp_path / "data", cases=2, size=48, spacing=1.5, seed=0)
    config = Config(
        widths=[4, 8], depth=1, patch=[32] * 3, final_patch=[64] * 3, final_from=1.0, iterations=10, elect_every=4,
        strategy="none", guidance=kind, workers=0, warm_up=1, ema=0.0,
    )  # fmt: skip
    out = train(config, tmp_path / "data", tmp_path / "run", resume=False, echo=lambda words: None)
    network, _, state = averaged_network(out)
    teachers = set(state["elections"][-1]["teachers"].values())
    assert network.guided.tolist() == [name in teachers for name in MODALITIES]
    assert len(state["elections"]) == (3 if kind == "joint" else 1)
    learnt = [bool(guide[1].weight.any()) for guide in network.guides]
    assert any(learnt) and all(guided for guided, moved in zip(network.guided.tolist(), learnt, strict=True) if moved)
    rows = (out / "losses.csv").read_text().splitlines()[1:]
    guidance = [float(row.split(",")[-1]) for row in rows]
    if kind == "staged":
        assert not any(guidance[:4]) and any(guidance[4:6]) and not guidance[6]
