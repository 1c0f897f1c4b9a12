"""A healthy half and its mirror image make a brain without a tumour."""

import numpy as np
import pytest

from lckd.preprocessing import Preprocessing
from lckd_training import export, sampling
from lckd_training.card import healthy_words
from lckd_training.config import Config
from lckd_training.data import CachedCase
from lckd_training.healthy import healthy_twin
from lckd_training.sampling import Samples

SHAPE = (30, 40, 51)
MIDDLE = 22  # column: not the box's


def case_on_disk(folder, tumour=(), skewed=False) -> CachedCase:
    """A brain with darker ventricles and noise, whose middle plane is x = MIDDLE, and a tumour at slices (z, y, x)."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    aside = x - MIDDLE - (y - 20 if skewed else 0)
    brain = ((z - 15) / 14) ** 2 + ((y - 20) / 18) ** 2 + (aside / 20) ** 2 <= 1
    image = brain * (3 + np.random.default_rng(0).normal(0, 0.3, SHAPE))
    image[brain & (np.abs(aside) < 3) & (np.abs(y - 20) < 6)] = 1
    labels = np.zeros(SHAPE, np.uint8)
    for place in tumour:
        labels[place] = 2
    labels[~brain] = 0
    image[labels > 0] = 9
    folder.mkdir()
    np.save(folder / "images.npy", np.stack([image, 2 * image]).astype(np.float16))
    np.save(folder / "labels.npy", labels)
    np.save(folder / "foreground.npy", brain)
    return CachedCase(folder.name, ("T2", "FLAIR"), folder)


RIGHT, LEFT = np.s_[10:20, 14:24, 8:16], np.s_[10:20, 14:24, 28:36]


@pytest.mark.parametrize("place", [RIGHT, LEFT])
def test_a_healthy_half_and_its_mirror_image(tmp_path, place):
    case = case_on_disk(tmp_path / "case", [place])
    twin = healthy_twin(case, Preprocessing())
    assert twin.modalities == case.modalities and twin.images.dtype == np.float16
    assert not twin.labels.any() and twin.labels.shape == SHAPE
    columns = np.arange(2 * MIDDLE + 1)
    for array in (*twin.images, twin.foreground):
        assert np.array_equal(array[:, :, columns], array[:, :, columns[::-1]])
    brain = twin.foreground
    assert brain.sum() == pytest.approx(case.foreground.sum(), rel=0.01)
    for image in twin.images:  # normalised anew: a tumour's brightness no longer tells in the scale
        image = np.float32(image)
        assert image[brain].std() == pytest.approx(1, abs=0.02) and image[brain].min() == 0 and not image[~brain].any()
    kept = np.s_[:, :, MIDDLE + 1 : 2 * MIDDLE] if place is RIGHT else np.s_[:, :, :MIDDLE]
    same = np.corrcoef(twin.images[0][kept].ravel(), case.images[0][kept].ravel())[0, 1]
    assert same > 0.99
    written = twin.folder.stat().st_mtime_ns
    assert healthy_twin(case, Preprocessing()) == twin and twin.folder.stat().st_mtime_ns == written


def test_what_is_left_of_a_tumour_stays_labelled(tmp_path):
    across = case_on_disk(tmp_path / "across", [RIGHT, np.s_[15, 20, 16 : MIDDLE + 3]])
    twin = healthy_twin(across, Preprocessing())
    assert sorted(set(np.argwhere(twin.labels)[:, 2])) == [MIDDLE - 2, MIDDLE - 1, MIDDLE, MIDDLE + 1, MIDDLE + 2]


@pytest.mark.parametrize(
    ("tumour", "skewed"), [([RIGHT, LEFT], False), ([np.s_[10:20, 14:24, 15:30]], False), ([], False), ([RIGHT], True)]
)
def test_no_half_is_healthy_or_there_is_no_middle(tmp_path, tumour, skewed):
    case = case_on_disk(tmp_path / "case", tumour, skewed)
    assert healthy_twin(case, Preprocessing()) is None and [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_share_of_the_samples_is_healthy(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "Augmentation", lambda size: lambda images, regions, seed: (images, regions))
    cases = [case_on_disk(tmp_path / "one", [RIGHT]), case_on_disk(tmp_path / "both", [RIGHT, LEFT])]
    recipe = {"patch": [32] * 3, "iterations": 40, "tumour_centred": 1.0}

    def found(samples):
        return np.array([samples[i]["regions"].any().item() for i in range(40)])

    assert found(Samples(cases, Config(**recipe))).all()
    healthy = found(Samples(cases, Config(**recipe, healthy=1.0)))
    assert healthy.sum() == 20, "the case without a healthy half stays as it is"
    assert 23 <= found(Samples(cases, Config(**recipe, healthy=0.5))).sum() <= 37
    pasted = Samples(cases, Config(**recipe, healthy=1.0, pasted=1.0))
    assert found(pasted).sum() > 30, "tumours are pasted into healthy brains, too"


def test_the_card_tells_what_is_found_in_healthy_halves(tmp_path, monkeypatch):
    case = case_on_disk(tmp_path / "case", [RIGHT, np.s_[15, 20, 16 : MIDDLE + 3]])

    def everything(network, case, subsets, *_):
        wrong = np.zeros((3, *SHAPE), bool)
        wrong[2] = case.foreground
        return [(subset, wrong) for subset in subsets if set(subset) <= set(case.modalities)]

    monkeypatch.setattr(export, "found_in_subsets", everything)
    halves = export.halves_millilitres(None, [case], Config())
    twin = healthy_twin(case, Preprocessing())
    assert halves == {m: [pytest.approx((twin.foreground.sum() - 5) / 1000)] for m in ("T2", "FLAIR")}
    phantoms = {"T2": [0.0, 1.25], "T1": [0.0, 3.0]}
    words = healthy_words(phantoms, {"T2": [4.0]}, "7 BraTS")
    assert "| T2 | 0.0, 1.2 | 4.0 |" in words and "| T1 | 0.0, 3.0 |  |" in words and "mirror image" in words
    words = healthy_words(phantoms, {}, "6 Phantom")
    assert "| T2 | 0.0, 1.2 |\n" in words and "mirror" not in words and "among the training cases" in words
