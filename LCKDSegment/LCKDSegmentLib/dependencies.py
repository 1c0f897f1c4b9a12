"""The Python packages a segmentation needs: which are missing, and how Slicer gets them when the user clicks.

torch comes through the PyTorch extension, which knows the graphics card; the rest from Resources/requirements.txt, by
slicer.packaging where there is one (Slicer 5.12 on), else by slicer.util.pip_install after a question.
"""

import importlib.metadata
import platform
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from slicer.i18n import tr as _

from lckd import brain
from lckd.errors import InputError

TORCH = "torch>=2.6"
KEPT = ("torch", "numpy", "SimpleITK")
"""Packages that installing ours must leave at their version."""


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


def ensure() -> bool:
    """Install what is missing, asking first; False when the user declined.

    Raises:
        InputError: something cannot be installed here, or is still missing afterwards.
    """
    if TORCH in missing() and not _install_torch():
        return False
    rest = [line for line in missing() if line != TORCH]
    if rest and TORCH not in missing() and not _install(rest):
        return False
    if still := missing():
        raise InputError(_("Not installed: {packages}. Segmentation needs them.").format(packages=", ".join(still)))
    return True


def offer_brain_extraction() -> None:
    """Offer to install deepbet, without the window toolkit and pandas it asks for, where it is not there."""
    if brain.installed():
        return
    question = _(
        "To find the brain in the volumes, LCKDSegment needs the Python package deepbet (10 MB, MIT licence). Install "
        "it now?"
    )
    if slicer.util.confirmOkCancelDisplay(question):
        with _installing("deepbet", _("or choose “Find the brain: never” under Advanced for brains without skull")):
            slicer.util.pip_install(brain.HOW_TO_GET.removeprefix("pip install "))


def _satisfied(requirement: str) -> bool:
    name, _separator, bound = requirement.partition(">=")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return _numbers(version) >= _numbers(bound)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3])


def _install_torch() -> bool:
    """Install torch by the PyTorch extension, which asks; False when the user declined."""
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise InputError(_("PyTorch 2.6 does not exist for Intel macOS, which this Slicer is; use another computer."))
    try:
        import PyTorchUtils
    except ImportError:
        raise InputError(
            _("PyTorch is missing: install the extension “PyTorch” in the Extensions Manager and start Slicer again.")
        ) from None
    with _installing("torch", _("or install it with the module PyTorch Utils")):
        try:
            logic = PyTorchUtils.PyTorchUtilsLogic()
            return logic.installTorch(askConfirmation=True, torchVersionRequirement=">=2.6") is not None
        except (ImportError, OSError, RuntimeError) as error:
            # It imports torch into Slicer too, which a driver or another extension's torch may prevent. Only the child
            # process needs it.
            if TORCH in missing():
                words = _("PyTorch could not be installed ({why}). Start Slicer again, then click Segment once more.")
                raise InputError(words.format(why=(str(error).splitlines() or [type(error).__name__])[0])) from None
            return True


def _offline() -> str:
    return _("or give Slicer's pip the wheels from another computer")


@contextmanager
def _installing(packages: str, otherwise: str):
    """Tell in the status bar that this takes time, and in a line that pip failed, in place of its command line."""
    words = _("{packages} may take minutes to install, in which Slicer does not answer.")
    slicer.util.showStatusMessage(words.format(packages=packages))
    slicer.app.processEvents()
    try:
        yield
    except CalledProcessError:
        words = _(
            "{packages} could not be installed. Is this computer connected to the internet? Start Slicer again and "
            "click Segment before anything else, see the application log, {otherwise}."
        )
        raise InputError(words.format(packages=packages, otherwise=otherwise)) from None
    finally:
        slicer.util.showStatusMessage("")


def _install(packages: list[str]) -> bool:
    """Install packages without touching what others rely on; False when the user declined."""
    try:
        from slicer import packaging
    except ImportError:
        packaging = None
    with tempfile.TemporaryDirectory() as folder:
        # A newer monai may ask for a newer torch; without this, pip would replace the one for the user's graphics card.
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in KEPT))
        if hasattr(packaging, "pip_ensure"):
            try:
                with _installing(", ".join(packages), _offline()):
                    packaging.pip_ensure(packages, constraints=str(constraints), requester="LCKDSegment")
            except RuntimeError as error:
                if "declined" not in str(error):
                    raise
                return False
            return True
        question = _("LCKDSegment needs these Python packages: {packages}. Install them now?")
        if not slicer.util.confirmOkCancelDisplay(question.format(packages=", ".join(packages))):
            return False
        with _installing(", ".join(packages), _offline()):
            slicer.util.pip_install(" ".join(["-c", f'"{constraints}"', *(f'"{package}"' for package in packages)]))
        return True
