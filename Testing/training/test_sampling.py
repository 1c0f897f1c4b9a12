"""What an iteration sees: patches, pasted tumours and subsets, all a function of the seed and the iteration."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.transforms import RandBiasFieldd

from lckd.anatomy import MODALITIES
from lckd.errors import InputError
from lckd.preprocessing import Preprocessing
from lckd_training import augmentation
from lckd_training.augmentation import Augmentation, with_another_brain_edge
from lckd_training.config import Config
from lckd_training.data import cached
from lckd_training.enhancement import without_enhancement
from lckd_training.layouts import find_cases
from lckd_training.pasting import carve, paste
from lckd_training.sampling import Samples, case_order, draw_patch, draw_subsets, draw_views, padded, repeated


def test_samples_are_a_function_of_the_iteration(phantoms, tmp_path):
    cases = [cached(case, Preprocessing(), tmp_path) for case in find_cases(phantoms)]
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


def test_repeated_cases_come_more_often():
    cases = [SimpleNamespace(name=name) for name in ("old", "older", "new")]
    often = repeated(cases, ["new"], 3)
    assert [case.name for case in often] == ["old", "older", "new", "new", "new"]
    assert sorted(often[case_order(5, i, 0)].name for i in range(5)) == ["new", "new", "new", "old", "older"]
    with pytest.raises(InputError, match="repeated case held-out is not among those to train on"):
        repeated(cases, ["new", "held-out"], 3)


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


def case_with(labels: np.ndarray, images: np.ndarray, name: str = "case") -> SimpleNamespace:
    """What samples are drawn from, without a folder."""
    arrays = {"images": images.astype(np.float16), "labels": labels.astype(np.uint8)}
    return SimpleNamespace(name=name, modalities=MODALITIES[: len(images)], **arrays)


def test_a_pasted_tumour_is_the_donors_in_all_sequences():
    labels = np.zeros((40, 40, 40))
    labels[14:26, 14:26, 14:26], labels[18:22, 18:22, 18:22] = 2, 4
    donor = case_with(labels, np.stack([1 + labels, 10 + labels]))
    tumour = carve(donor, ("T1", "T1ce"), np.random.default_rng(0))
    deep = tumour.labels == 4
    assert deep.any() and (tumour.opacity[tumour.labels > 0] > 0.99).all()
    for image, level in zip(tumour.images, (5, 14), strict=True):  # another shade, the same all over
        assert 0.8 * level - 0.3 <= image[deep].max() <= 1.25 * level + 0.3
        assert np.ptp(image[deep]) <= 1.25 * 2
    again = carve(donor, ("T1", "T1ce"), np.random.default_rng(1))
    assert abs(np.median(again.images[0][again.labels == 4]) - np.median(tumour.images[0][deep])) > 0.05
    images, found = np.full((2, 60, 60, 60), 0.5, np.float32), np.zeros((60, 60, 60), np.uint8)
    images[:, :, :, 30:] = 0  # no brain
    paste(images, found, tumour, (30, 30, 20))
    assert 0 < (found == 4).sum() <= deep.sum() and not found[:, :, 30:].any() and not images[:, :, :, 30:].any()
    difference, expected = images[0] - images[1], tumour.images[0] - tumour.images[1]
    assert np.median(difference[found == 4]) == pytest.approx(np.median(expected[deep]), abs=0.01)
    assert (images[:, 0] == 0.5).sum() == 2 * 60 * 30  # far away nothing changed


@pytest.mark.parametrize("centre", [(0, 0, 0), (31, 15, 30), (-90, 200, 15), (-20, 16, 16), (16, 16, 52)])
def test_a_tumour_is_cut_where_the_patch_ends(centre):
    labels = np.zeros((20, 20, 20))
    labels[4:16, 4:16, 4:16] = 1
    tumour = carve(case_with(labels, np.ones((1, 20, 20, 20)) * 3), ("T1",), np.random.default_rng(1))
    images, found = np.ones((1, 32, 32, 32), np.float32), np.zeros((32, 32, 32), np.uint8)
    paste(images, found, tumour, centre)
    shade = tumour.images[0][tumour.labels > 0].max()
    assert images.max() <= shade and found.any() == (min(centre) > -16 and max(centre) < 48)
    assert (images[0][found > 0] > shade - 0.1).all()


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


def enhancing_case() -> SimpleNamespace:
    """T1ce has three times T1's contrast, 100 more, and a bright tumour; no sequence else shows that it enhances."""
    rng = np.random.default_rng(0)
    labels, before = np.zeros((32, 32, 32)), rng.normal(5, 1, (32, 32, 32))
    labels[8:20, 8:20, 8:20], labels[11:17, 11:17, 11:17] = 2, 4
    after = 100 + 3 * before + 50 * (labels == 4)
    return case_with(labels, np.stack([before, after, before * 2]))


def test_without_enhancement_t1ce_shows_what_t1_does():
    case = enhancing_case()
    images, labels = case.images.astype(np.float32), case.labels.copy()
    without_enhancement(images, labels, case.modalities)
    enhancing = case.labels == 4
    assert np.abs(images[1] - 100 - 3 * images[0])[enhancing].max() < 1  # float16 rounds 115 to 0.06
    assert (labels == np.where(enhancing, 1, case.labels)).all()
    assert (images[[0, 2]] == case.images[[0, 2]]).all()
    far = np.ones_like(enhancing)
    far[10:18, 10:18, 10:18] = False
    assert (images[1] == case.images[1])[far].all()


@pytest.mark.parametrize("kept", [("T1ce", "T2"), ("T1", "T2")])
def test_enhancement_stays_where_one_of_the_two_sequences_lacks(kept):
    case = enhancing_case()
    images, labels = np.stack([case.images[case.modalities.index(name)] for name in kept]), case.labels.copy()
    before = images.copy()
    without_enhancement(images, labels, kept)
    assert (images == before).all() and (labels == case.labels).all()


@pytest.mark.parametrize(("share", "enhances"), [(0.0, True), (1.0, False)])
def test_unenhanced_samples_have_a_core_that_does_not_enhance(share, enhances):
    samples = Samples([enhancing_case()], Config(patch=[32] * 3, iterations=3, unenhanced=share))
    for i in range(len(samples)):
        et, tc, _ = samples[i]["regions"]
        assert tc.any() and bool(et.any()) == enhances


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


def test_intensities_are_drawn_apart_from_geometry():
    """With one seed for both, T1 was scaled exactly where the patch was mirrored."""
    augment, pairs = Augmentation((8, 8, 8)), set()
    images = np.random.default_rng(0).uniform(1, 3, (4, 8, 8, 8)).astype(np.float32)
    for seed in range(40):
        augment(images.copy(), np.zeros((3, 8, 8, 8), np.float32), seed)
        pairs.add((augment.geometry.transforms[0]._do_transform, augment.intensity.transforms[0]._do_transform))
    assert len(pairs) == 4


def test_augmentation_keeps_labels_whole_and_background_empty(monkeypatch):
    """What is exactly 0 in an image is what brain_norm takes for background."""
    monkeypatch.setattr(augmentation, "with_another_brain_edge", lambda images, regions, rng: (images, regions))
    z, y, x = np.ogrid[:32, :32, :32]
    brain = (z - 15.5) ** 2 + (y - 15.5) ** 2 + (x - 15.5) ** 2 < 12**2
    images = (brain * np.random.default_rng(0).uniform(1, 3, (4, 32, 32, 32))).astype(np.float32)
    regions = np.stack([brain & (x < edge) for edge in (10, 14, 32)]).astype(np.float32)  # the last is the brain
    for seed in range(12):
        found, moved = Augmentation((32, 32, 32))(images.copy(), regions.copy(), seed)
        assert set(moved.unique().tolist()) == {0, 1} and (moved[0] <= moved[1]).all() and (moved[1] <= moved[2]).all()
        there = moved[2] > 0
        assert not found[:, ~augmentation.grown(there, 3)].any() and found[:, there].ne(0).float().mean() > 0.97


@pytest.mark.parametrize(("draw", "rim"), [(0.05, False), (0.15, True), (0.5, None)])
def test_another_brain_edge(draw, rim):
    """Cut too deep, what is cut off is not labelled; a rim is bright all round; the brain's dark voxels are no edge."""
    images, regions = torch.zeros(4, 20, 20, 20), torch.zeros(3, 20, 20, 20)
    images[:, 4:16, 4:16, 4:16] = 1
    images[:, 10, 10, 10] = 0  # the darkest of a brain
    regions[:, 4:10, 8:12, 8:12] = 1

    class Drawn:
        def __getattr__(self, name):
            return getattr(np.random.default_rng(0), name)

        def random(self, *shape):
            return np.random.default_rng(0).random(*shape) if shape else draw

    found, labelled = with_another_brain_edge(images, regions, Drawn())
    inner = (slice(None), *[slice(7, 13)] * 3)
    assert torch.equal(found[inner], images[inner]) and torch.equal(labelled[inner], regions[inner])
    if rim is None:
        assert torch.equal(found, images) and torch.equal(labelled, regions)
    elif rim:
        assert found[:, 3, 8, 8].all() and not found[:, 10, 10, 10].any() and torch.equal(labelled, regions)
    else:
        assert not found[:, 4].any() and not labelled[:, 4].any() and labelled.any()


def test_images_and_regions_move_alike():
    """A ball that is bright in the images stays where the label says that it is, however it is bent."""
    z, y, x = np.ogrid[:48, :48, :48]
    ball = (z - 23.5) ** 2 + (y - 23.5) ** 2 + (x - 23.5) ** 2 < 15**2
    geometry, bent = Augmentation((48, 48, 48)).geometry, 0
    for seed in range(12):
        geometry.set_random_state(seed)
        patch = {"images": torch.from_numpy(1 + 2.0 * ball)[None], "regions": torch.from_numpy(ball)[None].float()}
        moved = geometry(patch)
        found, region = moved["images"][0] > 2, moved["regions"][0] > 0.5
        assert (found != region).float().mean() < 0.01
        bent += (region.numpy() != ball).mean() > 0.005
    assert 3 <= bent < 12


def test_bias_fields_brighten_either_side():
    fields = [t for t in Augmentation([16] * 3).intensity.transforms if isinstance(t, RandBiasFieldd)]
    fields[0].prob = 1.0
    ratios = []
    for seed in range(40):
        fields[0].set_random_state(seed)
        found = fields[0]({MODALITIES[0]: torch.ones(1, 16, 16, 16)})[MODALITIES[0]]
        ratios.append(float(found[..., 8:].mean() / found[..., :8].mean()))
    assert 10 < sum(ratio > 1 for ratio in ratios) < 30
