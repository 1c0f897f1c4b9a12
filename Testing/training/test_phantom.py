"""Phantoms: repeatable, in BraTS layout, and with something for teacher election to find."""

import numpy as np
import pytest
import SimpleITK as sitk

from lckd.anatomy import LABELS, MODALITIES
from lckd.cli import main
from lckd_training.layouts import find_cases
from lckd_training.phantom import make_phantom


@pytest.fixture(scope="module")
def study():
    return make_phantom(96, (5, 0))


def contrast_to_noise(image, inside, outside):
    a, b = image[inside].astype(float), image[outside].astype(float)
    return abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2)


def test_same_seed_same_voxels(study):
    images, labels = make_phantom(96, (5, 0))
    assert (labels == study[1]).all()
    assert all((images[m] == study[0][m]).all() for m in MODALITIES)
    assert (make_phantom(96, (5, 1))[1] != labels).any()


def test_enhancing_tumour_shows_only_with_contrast_medium(study):
    images, labels = study
    ratios = {m: contrast_to_noise(images[m], labels == LABELS["ET"], labels == LABELS["ED"]) for m in MODALITIES}
    assert max(ratios, key=ratios.get) == "T1ce"
    assert all(ratios["T1ce"] > 3 * ratios[m] for m in MODALITIES if m != "T1ce"), ratios


def test_whole_tumour_shows_best_on_flair(study):
    images, labels = study
    brain = images["T1"] > 0
    ratios = {m: contrast_to_noise(images[m], labels == LABELS["ED"], brain & (labels == 0)) for m in MODALITIES}
    assert max(ratios, key=ratios.get) == "FLAIR", ratios


def test_labels_are_nested_in_the_brain(study):
    images, labels = study
    assert set(np.unique(labels)) == {0, *LABELS.values()}
    assert (images["T2"][labels > 0] > 0).all()


def test_healthy():
    _, labels = make_phantom(64, 0, healthy=True)
    assert not labels.any()


def test_command(tmp_path, capsys):
    assert main(["phantom", str(tmp_path / "out"), "--cases", "2", "--size", "64", "--seed", "7"]) == 0
    folders = capsys.readouterr().out.split()
    assert [case.name for case in find_cases(tmp_path / "out")] == ["Phantom_07_000", "Phantom_07_001"]
    image = sitk.ReadImage(f"{folders[0]}/Phantom_07_000_t1.nii.gz")
    assert image.GetSize() == (64, 64, 64) and np.allclose(image.GetSpacing(), 3.0)
    assert main(["phantom", str(tmp_path), "--size", "7"]) == 2
    assert "48 to 256" in capsys.readouterr().err
