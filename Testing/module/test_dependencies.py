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


def pytorch_extension(monkeypatch, install):
    """Stand in for the PyTorch extension, whose installTorch returns the module, or None when the user declines."""

    class PyTorchUtilsLogic:
        def installTorch(self, askConfirmation, torchVersionRequirement):
            assert askConfirmation and torchVersionRequirement == ">=2.6"
            return install()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))


def test_torch_through_the_pytorch_extension(host, absent, monkeypatch):
    installed = absent(dependencies.TORCH)

    def install():
        installed.append(dependencies.TORCH)
        return "the module torch"

    pytorch_extension(monkeypatch, install)
    assert dependencies.ensure() is True


def test_who_declines_torch_meets_no_error(host, absent, monkeypatch):
    absent(dependencies.TORCH, "monai>=1.4")
    pytorch_extension(monkeypatch, lambda: None)  # how the extension says it
    assert dependencies.ensure() is False


@pytest.mark.parametrize("there", [True, False])
def test_torch_that_slicer_itself_cannot_import(host, absent, monkeypatch, there):
    """Only the child process needs it; what was not installed is said in a line."""
    installed = absent(dependencies.TORCH)

    def install():
        installed.extend([dependencies.TORCH] * there)
        raise OSError("[WinError 1114] A dynamic link library (DLL) initialization routine failed")

    pytorch_extension(monkeypatch, install)
    if there:
        assert dependencies.ensure() is True
        return
    with pytest.raises(InputError, match=r"WinError 1114.*Start Slicer again"):
        dependencies.ensure()


@pytest.mark.parametrize(
    ("words", "declined"), [("User declined package installation", True), ("no PythonSlicer", False)]
)
def test_only_a_no_is_taken_for_a_no(host, absent, monkeypatch, words, declined):
    def refuses(*arguments, **options):
        raise RuntimeError(words)

    absent("monai>=1.4")
    monkeypatch.setitem(sys.modules, "slicer.packaging", types.SimpleNamespace(pip_ensure=refuses))
    monkeypatch.setattr(slicer, "packaging", sys.modules["slicer.packaging"])
    if declined:
        assert dependencies.ensure() is False
        return
    with pytest.raises(RuntimeError, match=words):
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
