"""The Python packages a segmentation needs: which are missing, and how Slicer gets them when the user clicks.

torch comes through the PyTorch extension, which knows the graphics card; the rest from Resources/requirements.txt, by
slicer.packaging where there is one (Slicer 5.12 on), else by slicer.util.pip_install after a question.
"""

import importlib.metadata
import re
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from lckd.errors import InputError

TORCH = "torch>=2.6"


def resource(name: str) -> Path:
    """A file of Resources: beside the module where it is installed, one folder up in the source tree."""
    module = Path(__file__).resolve().parents[1]
    beside = module / "Resources" / name
    return beside if beside.exists() else module.parent / "Resources" / name


def requirements() -> list[str]:
    """The lines of Resources/requirements.txt without comments."""
    lines = resource("requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def missing(wanted: list[str] | None = None) -> list[str]:
    """The requirements (torch and the listed ones) that are not installed, or too old."""
    return [line for line in wanted or [TORCH, *requirements()] if not _satisfied(line)]


def ensure() -> None:
    """Install what is missing, asking first. Raises InputError when something is still missing afterwards."""
    if TORCH in missing():
        _install_torch()
    rest = [line for line in missing() if line != TORCH]
    if rest:
        _install(rest)
    if still := missing():
        raise InputError(_("Not installed: {packages}. Segmentation needs them.").format(packages=", ".join(still)))


def _satisfied(requirement: str) -> bool:
    name, _separator, bound = requirement.partition(">=")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return _numbers(version) >= _numbers(bound)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3])


def _install_torch() -> None:
    try:
        import PyTorchUtils
    except ImportError:
        raise InputError(
            _("PyTorch is missing: install the extension “PyTorch” in the Extensions Manager and start Slicer again.")
        ) from None
    PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=">=2.6")


def _install(packages: list[str]) -> None:
    try:
        from slicer import packaging
    except ImportError:
        packaging = None
    if hasattr(packaging, "pip_ensure"):
        packaging.pip_ensure(packages, requester="LCKDSegment")
        return
    question = _("LCKDSegment needs these Python packages: {packages}. Install them now?")
    if slicer.util.confirmOkCancelDisplay(question.format(packages=", ".join(packages))):
        slicer.util.pip_install(" ".join(f'"{package}"' for package in packages))
