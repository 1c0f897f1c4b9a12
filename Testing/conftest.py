"""Studies for the tests: phantoms made once a session, and real ones when the data folder is there.

``LCKD_DATA`` names a folder with real studies (``brats/`` with its ``unpack.py``, ``raw/``, ``series_names.csv``).
Tests that need it are skipped without it, and say so.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOST = importlib.util.find_spec("slicer") is not None
collect_ignore = [] if HOST else ["host_tests", "module"]  # the wheel slicer-core exists for Linux and Python 3.11

DATA = Path(os.environ.get("LCKD_DATA", "no LCKD_DATA set")).absolute()


def pytest_report_header() -> str | None:
    return None if HOST else "host and module tests left out: slicer-core is not installed (Linux, Python 3.11 only)"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data."""
    if not DATA.is_dir():
        pytest.skip(f"no real studies here ({DATA}); set LCKD_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def brats_case(data, tmp_path_factory):
    """Call with a case's name for its folder of NIfTI files."""
    out = tmp_path_factory.mktemp("brats")

    def unpack(name: str) -> Path:
        if not (out / name).is_dir():
            subprocess.run([sys.executable, data / "brats" / "unpack.py", out, name], check=True, capture_output=True)
        return out / name

    return unpack


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """A phantom study's folder: four sequences and the label, 1.2 mm: a head small enough for one window."""
    from small_phantoms import write_small_phantoms

    return write_small_phantoms(tmp_path_factory.mktemp("phantom"), cases=1, size=96, spacing=1.2, seed=3)[0]


@pytest.fixture
def sequence(phantom):
    """Call with a modality for the phantom's file of it."""
    return lambda modality: phantom / f"{phantom.name}_{modality.lower()}.nii.gz"
