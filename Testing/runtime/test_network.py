"""The network: the fill as the paper has it, missing modalities never computed, the fused normalisation."""

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from overlap import dice

from lckd import inference
from lckd.anatomy import LABELS, MODALITIES, REGIONS
from lckd.errors import InputError
from lckd.inference import count_windows, nested, predict
from lckd.model_folder import load_model
from lckd.network import Convolution, Fusion, Network, depth_to_space, space_to_depth
from lckd.normalisation import InstanceNormLeakyReLU, _Fused
from lckd.paper_network import PaperNetwork
from lckd.postprocessing import apply_rules
from lckd.preprocessing import labels_to_regions, prepare

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "bottleneck layer"])
def network(request):
    torch.manual_seed(0)
    network = Network(widths=(4, 8, 8), depth=1, bottleneck_layer=request.param).eval()
    torch.nn.init.normal_(network.contrast)  # which begins at zero, and then no modality is told from another
    return network


@pytest.mark.parametrize("available", [[1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 1]])
def test_fusion_is_a_convolution_on_features_filled_by_the_mean(available):
    torch.manual_seed(0)
    fusion, mask = Fusion(3), torch.tensor([available], dtype=torch.bool)
    features = torch.randn(1, 4, 3, 2, 2, 2)
    filled = torch.where(mask[0][:, None, None, None, None], features[0], features[0][mask[0]].mean(0))
    expected = torch.einsum("mio,mizyx->ozyx", fusion.weight, filled) + fusion.bias[:, None, None, None]
    assert torch.allclose(fusion(features, mask)[0], expected, atol=1e-5)
    only = features[:, mask[0]]  # as at inference: the missing ones do not exist at all
    assert torch.allclose(fusion(only, mask)[0], expected, atol=1e-5)


def test_a_missing_modality_is_absent(network):
    """What stands in the channels of missing modalities changes nothing: they are not looked at."""
    images = torch.randn(1, 4, 16, 16, 16)
    index = torch.arange(4)
    available = torch.tensor([[False, True, False, True]])
    features = [f[None] for f in network.encode(images[0][:, None], index)]
    other = images.clone()
    other[:, [0, 2]] = 99.0
    changed = [f[None] for f in network.encode(other[0][:, None], index)]
    a, b = network.decode(features, available), network.decode(changed, available)
    assert torch.allclose(a, b)
    assert torch.allclose(a, network(images[:, [1, 3]], ("T1ce", "FLAIR")), atol=1e-5)


def test_no_weight_is_idle(network):
    network.zero_grad()
    network(torch.randn(1, 4, 16, 16, 16), MODALITIES).square().sum().backward()
    assert [name for name, weight in network.named_parameters() if not weight.grad.abs().sum() > 0] == []
    network.zero_grad()


def test_blocks_are_those_of_monai():
    from monai.networks.utils import pixelshuffle, pixelunshuffle

    images = torch.randn(2, 3, 4, 6, 8)
    blocks = space_to_depth(images)
    assert torch.equal(blocks, pixelunshuffle(images, spatial_dims=3, scale_factor=2))
    assert torch.equal(depth_to_space(blocks), pixelshuffle(blocks, spatial_dims=3, scale_factor=2))
    assert torch.equal(depth_to_space(blocks), images)


def test_one_window_is_what_a_sliding_one_gives(network):
    """A study that fits is computed whole; MONAI's sliding window over the same, padded by hand, finds the same."""
    from monai.inferers import sliding_window_inference

    images = np.random.default_rng(0).normal(size=(2, 30, 32, 20)).astype(np.float32)
    whole = predict(network, images, ("T1", "T2"), (32, 32, 32), CPU)
    padded = torch.nn.functional.pad(torch.from_numpy(images)[None], (6, 6, 0, 0, 1, 1))
    with inference.precision(CPU), torch.inference_mode():
        slid = sliding_window_inference(padded, (32,) * 3, 1, lambda x: network(x, ("T1", "T2")).float().sigmoid())
    assert np.allclose(whole, nested(slid[0, :, 1:31, :, 6:26].numpy()), atol=1e-5)


@pytest.mark.parametrize(
    ("build", "window"),
    [(lambda: Network((4, 8), 1, brain_norm=True, mirrored=True), size) for size in ((32, 32, 32), (16, 32, 32))]
    + [(PaperNetwork, (16, 32, 32))],
    ids=["one window", "several", "the paper's network"],
)
def test_subsets_in_one_go_are_those_one_by_one(build, window, monkeypatch):
    torch.manual_seed(0)
    network = build().eval()
    depth = 30 if isinstance(network, Network) else 16
    images = np.float32(np.random.default_rng(0).random((3, depth, 32, 32)) + 0.1)
    had, encoded, encode = ("T1", "T2", "FLAIR"), [], network.encode
    subsets = [("T2",), ("T1", "FLAIR"), had]
    alone = [predict(network, images[[had.index(m) for m in s]], s, window, CPU) for s in subsets]
    monkeypatch.setattr(network, "encode", lambda x, *of: encoded.append(len(x)) or encode(x, *of))
    together = inference.predict_subsets(network, images, had, subsets, window, CPU)
    assert together.shape == (3, 3, depth, 32, 32)
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one, other, atol=1e-3), "to rounding, which bfloat16 makes visible"
    runs = count_windows(images.shape[1:], window) * (2 if getattr(network, "mirrored", False) else 1)
    assert encoded.count(len(had)) == runs and encoded.count(2) == 0, "each sequence once a window"


def test_segmenting_needs_no_monai():
    """Two seconds of import that a click on Segment would wait for."""
    code = (
        "import sys, numpy, torch, lckd.segment; from lckd.network import Network; from lckd.inference import predict;"
        "predict(Network([4, 8], 1), numpy.ones((1, 8, 8, 8), 'float32'), ('T1',), (8, 8, 8), torch.device('cpu'));"
        "sys.exit('monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_modality_costs_much_less_than_four():
    """Counted, not timed: floating point operations of the network that ships."""
    from torch.utils.flop_counter import FlopCounterMode

    counts, network = {}, load_model(None).network()
    for modalities in (MODALITIES, ("FLAIR",)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, len(modalities), 64, 64, 64), modalities)
        counts[len(modalities)] = counter.get_total_flops()
    assert counts[1] / counts[4] <= 0.4


def norm_and_volume(*shape: int, masked: bool):
    """A norm with weights of its own, what it may be given (B, C, D, H, W), and a mask or none."""
    torch.manual_seed(0)
    norm, x = InstanceNormLeakyReLU(shape[1]), torch.randn(shape) * 3 + 2
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    return norm, x, (torch.rand(shape[0], 1, *shape[2:]) > 0.4).float() if masked else None


@pytest.mark.parametrize("masked", [False, True])
def test_fused_gradients_are_those_of_autograd(masked):
    """In float32, where nothing is rounded."""
    norm, x, mask = norm_and_volume(2, 4, 6, 6, 6, masked=masked)
    upstream, results = torch.randn_like(x), []
    for fused in (True, False):
        norm.zero_grad()
        values = x.clone(memory_format=torch.channels_last_3d).requires_grad_()
        out = _Fused.apply(values, norm.weight, norm.bias, mask) if fused else norm(values, mask)
        out.backward(upstream)
        results.append((out.detach(), values.grad, norm.weight.grad.clone(), norm.bias.grad.clone()))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("masked", "near"), [(False, 0.05), (True, 0.11)])
def test_fused_normalisation_agrees_with_torch(masked, near):
    norm, x, mask = norm_and_volume(2, 8, 16, 16, 32, masked=masked)
    upstream = torch.randn_like(x)
    fine = x.double().requires_grad_()  # which is left to torch
    coarse = x.bfloat16().to(memory_format=torch.channels_last_3d).requires_grad_()
    norm(fine, mask).backward(upstream.double())
    gradients = [norm.weight.grad.clone(), norm.bias.grad.clone()]
    norm.zero_grad()
    out = norm(coarse, mask)
    out.backward(upstream.bfloat16())
    exact = norm(x.double(), mask).detach()
    assert (out.float() - exact).abs().mean() < 0.003
    slope = (out.detach() * exact).sum() / exact.square().sum()
    assert slope.item() == pytest.approx(1, abs=1e-3)  # no scale is rounded
    assert (coarse.grad.float() - fine.grad).abs().mean() < 0.02 * fine.grad.abs().mean()
    for ours, theirs in zip([norm.weight.grad, norm.bias.grad], gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=0.05, atol=near * theirs.abs().max())


@pytest.mark.parametrize("masked", [False, True])
def test_in_float32_nothing_is_lost_by_fusing_or_by_writing_in_place(masked):
    norm, x, mask = norm_and_volume(2, 8, 16, 32, 32, masked=masked)
    exact = norm(x.double(), mask).detach()
    kept = x.clone().to(memory_format=torch.channels_last_3d).requires_grad_()
    assert (norm(kept, mask) - exact).abs().max() < 1e-4
    assert torch.equal(kept, x), "a gradient still needs it"
    with torch.inference_mode():
        assert (norm(x.to(memory_format=torch.channels_last_3d), mask) - exact).abs().max() < 1e-4


def test_where_no_gradient_is_wanted_the_network_says_the_same():
    """There it writes in place."""
    torch.manual_seed(0)
    network = Network([8, 16], 2, brain_norm=True, bottleneck_layer=True)
    images = torch.zeros(1, 3, 48, 48, 48)
    images[..., 4:, 4:, 4:] = torch.randn(1, 3, 44, 44, 44)
    given = images.clone()
    with torch.inference_mode():
        found = network(given, ("T1", "T2", "FLAIR"))
    assert torch.equal(given, images)
    assert torch.allclose(found, network(images, ("T1", "T2", "FLAIR")), atol=1e-4)


@pytest.mark.parametrize(("edges", "stride"), [((2, 2, 2), 1), ((2, 5, 4), 1), ((4, 4, 4), 2), ((6, 6, 1), 2)])
def test_narrow_convolutions_are_right_in_bfloat16(edges, stride):
    """In bfloat16 oneDNN filled the gradient of these with what the memory held before."""
    torch.manual_seed(0)
    convolution, x = Convolution(8, 16, stride), torch.randn(2, 8, *edges).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = convolution(x)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    coarse, exact = convolution.weight.grad.clone(), convolution.double()
    exact.zero_grad()
    exact(x.double()).backward(upstream.double())
    assert (out.double() - exact(x.double())).abs().max() < 0.05
    assert (coarse - exact.weight.grad).abs().max() < 0.02 * exact.weight.grad.abs().max()


@pytest.mark.parametrize("voxels", [1, 2, 5])
def test_few_voxels_alike_have_the_gradient_of_float32(voxels):
    """A patch may hold hardly any brain; what a few equal voxels have in common is no deviation to divide by."""
    torch.manual_seed(0)
    norm, mask = InstanceNormLeakyReLU(8), torch.zeros(1, 1, 4, 4, 4)
    mask.view(-1)[:voxels] = 1
    x = (torch.randn(1, 8, 1, 1, 1) * 3).expand(1, 8, 4, 4, 4).bfloat16()
    upstream, gradients = torch.randn(1, 8, 4, 4, 4).bfloat16(), []
    for values in (x.double(), x.to(memory_format=torch.channels_last_3d)):
        values = values.detach().requires_grad_()
        norm(values, mask).backward(upstream.to(values.dtype))
        gradients.append(values.grad.double())
    exact, coarse = gradients
    assert (coarse - exact).abs().max() <= 0.02 * max(1, exact.abs().max())


def test_masked_normalisation_is_that_of_what_lies_inside():
    torch.manual_seed(0)
    norm, x = InstanceNormLeakyReLU(4).double(), torch.randn(1, 4, 6, 6, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(1, 1, 6, 6, 6)
    mask[..., 1:4, 2:5, 3:6] = 1
    inside = (..., slice(1, 4), slice(2, 5), slice(3, 6))
    out = norm(x, mask)
    assert torch.allclose(out[inside], norm(x[inside]), atol=1e-5)
    assert out.abs().sum() == out[inside].abs().sum()
    out.square().sum().backward()
    assert x.grad.abs().sum() == x.grad[inside].abs().sum()
    assert torch.isfinite(norm(x, torch.zeros_like(mask))).all()  # a window without any brain


@pytest.mark.parametrize("modalities", [("FLAIR",), ("T1", "T1ce", "T2", "FLAIR")])
def test_background_changes_nothing(modalities):
    """The same brain in a larger window: the same logits. Without brain_norm, false positives grew with the window."""
    torch.manual_seed(0)
    images = torch.zeros(1, len(modalities), 32, 32, 32)
    images[..., 4:28, 4:28, 4:28] = torch.randn(1, len(modalities), 24, 24, 24)
    padded = torch.nn.functional.pad(images, (16,) * 6)
    for brain_norm in (True, False):
        network = Network([4, 8, 8], 1, brain_norm=brain_norm).eval()
        with torch.no_grad():
            apart = (network(images, modalities) - network(padded, modalities)[..., 16:48, 16:48, 16:48]).abs().max()
        assert (apart < 1e-4) == brain_norm


def test_a_mirrored_network_knows_no_left_and_right():
    torch.manual_seed(0)
    network, images = Network([4, 8], 1, mirrored=True).eval(), torch.randn(2, 16, 16, 16).numpy()
    once = Network([4, 8], 1).eval()
    once.load_state_dict(network.state_dict())
    found, mirror_image = (predict(network, i, ("T1", "T2"), (16,) * 3, CPU) for i in (images, images[..., ::-1]))
    assert np.allclose(found, mirror_image[..., ::-1], atol=1e-5)
    assert not np.allclose(found, predict(once, images, ("T1", "T2"), (16,) * 3, CPU), atol=1e-3)


def test_a_mirrored_network_in_several_windows():
    torch.manual_seed(0)
    network, images, steps = Network([4, 8], 1, mirrored=True).eval(), torch.randn(1, 16, 16, 40).numpy(), []
    arguments = (network, images, ("T1",), (16,) * 3, CPU)
    found = predict(*arguments, lambda done, of: steps.append((done, of)))
    network.mirrored = False
    mirror_image = predict(network, images[..., ::-1], *arguments[2:])[..., ::-1]
    et = (predict(*arguments)[0] + mirror_image[0]) / 2  # which nesting leaves alone
    assert np.allclose(found[0], et, atol=1e-2)
    assert steps == [(n, len(steps)) for n in range(1, len(steps) + 1)]


def test_the_mirror_image_lies_otherwise_on_the_networks_grids(monkeypatch):
    """Five voxels further where the window has room; what is found comes back to where it is."""
    network, seen = Network([4, 8], 1, mirrored=True).eval(), []

    def logits(network, x, modalities, subsets):
        seen.append(np.unravel_index(x.argmax().item(), x.shape[2:]))
        return [torch.cat([x, x, x], 1) * 20 - 10]

    monkeypatch.setattr(inference, "logits_of_subsets", logits)
    images, steps = np.zeros((1, 10, 14, 16), np.float32), []
    images[0, 3, 2, 1] = 1
    found = predict(network, images, ("T1",), (16, 16, 16), CPU, lambda done, of: steps.append((done, of)))
    assert seen == [(3, 2, 1), (3 + 5, 2 + 2, 15 - 1)]
    assert np.argwhere(found[0] > 0.5).tolist() == [[3, 2, 1]] and steps == [(1, 2), (2, 2)]


def test_a_window_is_no_larger_than_the_study_needs(monkeypatch):
    """And one that is a little too large for 160 voxels does not fall back to several windows."""
    network, seen = Network([4, 8], 1, brain_norm=True).eval(), []

    def logits(network, x, modalities, subsets):
        seen.append(x.shape[2:])
        return [x.new_zeros(1, 3, *x.shape[2:])]

    monkeypatch.setattr(inference, "logits_of_subsets", logits)
    found = predict(network, np.ones((1, 21, 30, 16), np.float32), ("T1",), (32, 64, 32), CPU)
    assert [tuple(size) for size in seen] == [(24, 32, 16)] and found.shape == (3, 21, 30, 16)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_fused_normalisation_bears_a_large_mean(side):
    torch.manual_seed(0)
    norm, x = InstanceNormLeakyReLU(4), torch.randn(1, 4, side, side, side) * 0.5 + 5
    x = x.bfloat16().float()  # both see the same values
    coarse = norm(x.bfloat16().to(memory_format=torch.channels_last_3d))
    assert (coarse.float() - norm(x)).abs().max() < 0.05


def test_predict_counts_its_windows_and_nests(network):
    seen = []
    images = np.random.default_rng(0).normal(size=(1, 40, 30, 50)).astype(np.float32)
    probabilities = predict(network, images, ("T2",), (32, 32, 32), CPU, lambda done, of: seen.append((done, of)))
    total = count_windows((40, 30, 50), (32, 32, 32))
    assert seen == [(n, total) for n in range(1, total + 1)]
    assert probabilities.shape == (3, 40, 30, 50)
    assert (probabilities[0] <= probabilities[1]).all() and (probabilities[1] <= probabilities[2]).all()
    assert nested(np.array([[0.9], [0.2], [0.5]])).tolist() == [[0.9], [0.9], [0.9]]


def test_where_memory_runs_out_windows_get_smaller(monkeypatch):
    asked = []

    def predict(network, images, modalities, window, device, progress):
        asked.append(window)
        if window[0] > 64:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 64 GB")
        return np.zeros((3, 4, 4, 4), np.float32)

    monkeypatch.setattr(inference, "predict", predict)
    network = Network((4, 8), 1)
    result, _, notes = inference.predict_within_memory(network, np.zeros((1, 4, 4, 4)), ("T1",), (128,) * 3, CPU)
    assert asked == [(128,) * 3, (96,) * 3, (64,) * 3] and result.shape == (3, 4, 4, 4)
    assert len(notes) == 2 and "memory ran out on cpu with windows of up to 128 x 128 x 128" in notes[0]


def test_a_graphics_card_that_fails_is_given_up_for_the_cpu(monkeypatch):
    def predict(network, images, modalities, window, device, progress):
        if device.type != "cpu":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with")
        return "found"

    monkeypatch.setattr(inference, "predict", predict)
    network, images = None, np.zeros((1, 8, 8, 8), np.float32)
    found, place, notes = inference.predict_within_memory(network, images, ("T1",), (8, 8, 8), torch.device("cuda"))
    assert found == "found" and place.type == "cpu"
    assert notes == [
        "cuda failed (CUDA error: no kernel image is available for execution on the device); went on with the CPU"
    ]


def test_no_room_at_all_is_one_line(monkeypatch):
    def predict(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(inference, "predict", predict)
    with pytest.raises(InputError, match="memory ran out even with the smallest"):
        inference.predict_within_memory(Network((4, 8), 1), np.zeros(1), ("T1",), (128,) * 3, CPU)


@pytest.mark.skipif(not inference.has_bfloat16(CPU), reason="this processor has no bfloat16")
@pytest.mark.parametrize(("available", "alike"), [(("T1ce", "FLAIR"), 0.995), (("T2",), 0.99)])
def test_bfloat16_gives_the_same_segmentation(brats_case, monkeypatch, available, alike):
    """As good as float32 within 0.005 Dice, rules included, on a case the bundled model was not trained on.

    And nearly the same voxels; from T2 alone, which does not show enhancement, its outline is less sure of itself.
    """
    case = brats_case("Brats18_CBICA_AME_1")
    volumes = {m: sitk.ReadImage(str(case / f"{case.name}_{m.lower()}.nii.gz"), sitk.sitkFloat32) for m in available}
    model = load_model(None)
    prepared = prepare(volumes, available[0], model.preprocessing)
    arguments = (model.network(), prepared.images, prepared.modalities, model.window, CPU)
    half = apply_rules(inference.predict(*arguments), model.rules, 1e-3, available)[0] > 0.5
    monkeypatch.setattr(inference, "precision", lambda device: nullcontext())
    full = apply_rules(inference.predict(*arguments), model.rules, 1e-3, available)[0] > 0.5
    labels = sitk.ReadImage(str(case / f"{case.name}_seg.nii.gz"))
    aligned = sitk.GetArrayFromImage(sitk.Resample(labels, prepared.grid, sitk.Transform(), sitk.sitkNearestNeighbor))
    truth = labels_to_regions(aligned[prepared.box], LABELS)
    for region, a, b, true in zip(REGIONS, half, full, truth, strict=True):
        assert dice(a, b) >= alike, f"{region}: {dice(a, b)}"
        assert true.any() and abs(dice(a, true) - dice(b, true)) <= 0.005, f"{region}: {dice(a, true)}, {dice(b, true)}"
