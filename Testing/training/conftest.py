"""Three phantoms, a recipe and a run of it, made once."""

import pytest

from lckd_training import export
from small_phantoms import write_small_phantoms
from tiny_runs import run


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_small_phantoms(folder, cases=3, size=48, spacing=1.5, seed=0)
    (folder / "Phantom_00_002" / "Phantom_00_002_t1ce.nii.gz").unlink()  # a centre without contrast medium
    return folder


@pytest.fixture(autouse=True)
def one_phantom_a_card(monkeypatch):
    """Instead of three, for the sake of time."""
    monkeypatch.setattr(export, "PHANTOMS", 1)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text("name: tiny\nlearning_rate: 1e-3\nvalidation_cases: [Phantom_00_000]\n")
    return path


@pytest.fixture(scope="session")
def whole(recipe, phantoms, tmp_path_factory):
    return run(recipe, phantoms, tmp_path_factory.mktemp("whole") / "run")
