"""Which packages are missing, and the ways by which Slicer gets them."""

import subprocess
import sys
import types

import pytest
import slicer

from lckd.errors import InputError
from LCKDSegmentLib import dependencies


@pytest.fixture
def absent(monkeypatch):
    """Pretend that these requirements are missing until ``installed`` holds them."""

    def pretend(*requirements):
        installed = []
        monkeypatch.setattr(
            dependencies, "missing", lambda wanted=None: [r for r in requirements if r not in installed]
        )
        return installed

    return pretend


@pytest.mark.parametrize("packaging", [True, False])
def test_no_internet_is_a_line_that_names_the_package(host, absent, monkeypatch, packaging):
    def fails(*arguments, **options):
        raise subprocess.CalledProcessError(1, ["python", "-m", "pip"])

    absent("monai>=1.4")
    if packaging:
        monkeypatch.setitem(sys.modules, "slicer.packaging", types.SimpleNamespace(pip_ensure=fails))
        monkeypatch.setattr(slicer, "packaging", sys.modules["slicer.packaging"])
    else:
        monkeypatch.setitem(sys.modules, "slicer.packaging", None)
        monkeypatch.delattr(slicer, "packaging")
        monkeypatch.setattr(slicer.util, "pip_install", fails)
        host.dialogs.answer("confirmOkCancel", True)
    with pytest.raises(InputError, match=r"monai>=1\.4 could not be installed"):
        dependencies.ensure()


def test_everything_is_here():
    assert dependencies.missing() == []


def test_too_old_or_absent_is_missing():
    assert dependencies.missing(["numpy>=1.0", "numpy>=99.0", "no-such-package>=1"]) == [
        "numpy>=99.0",
        "no-such-package>=1",
    ]


def test_torch_without_the_pytorch_extension(host, absent):
    absent(dependencies.TORCH)
    with pytest.raises(InputError, match="Extensions Manager"):
        dependencies.ensure()


def test_torch_through_the_pytorch_extension(host, absent, monkeypatch):
    installed = absent(dependencies.TORCH)

    class PyTorchUtilsLogic:
        def installTorch(self, askConfirmation, torchVersionRequirement):
            assert askConfirmation and torchVersionRequirement == ">=2.6"
            installed.append(dependencies.TORCH)

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    dependencies.ensure()


@pytest.mark.parametrize("agreed", [True, False])
def test_slicer_without_packaging_asks_first(host, absent, monkeypatch, agreed):
    """Slicer 5.10 has no slicer.packaging."""
    absent("monai>=1.4")
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.delattr(slicer, "packaging")
    host.dialogs.answer("confirmOkCancel", agreed)
    if not agreed:
        assert dependencies.ensure() is False
        assert host.packages.installed == []
        return
    with pytest.raises(InputError, match="Not installed: monai"):  # the fake installs nothing
        dependencies.ensure()
    (arguments,) = host.packages.installed
    assert arguments.startswith("-c ") and arguments.endswith('"monai>=1.4"')
    assert "monai>=1.4" in host.dialogs.texts("confirmOkCancel")[0]
