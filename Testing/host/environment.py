"""Things outside the process that a module may touch: installing packages, translations, Slicer's own Python."""

from __future__ import annotations

import os
import stat
import sys
import types

import slicer


class Packages:
    """Stands for slicer.util.pip_install and slicer.packaging: records, installs nothing."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.uninstalled: list[str] = []
        self.failure: Exception | None = None  # set it to see what the module does when an installation fails

    def install(self, requirements, *args, **kwargs) -> None:
        if self.failure is not None:
            raise self.failure
        self.installed += [requirements] if isinstance(requirements, str) else [str(item) for item in requirements]

    def uninstall(self, requirements, *args, **kwargs) -> None:
        self.uninstalled += [requirements] if isinstance(requirements, str) else [str(item) for item in requirements]

    def loadRequirements(self, path) -> list[str]:
        with open(path, encoding="utf-8") as file:
            lines = [line.partition("#")[0].strip() for line in file]
        return [line for line in lines if line]

    def patchSlicer(self) -> None:
        for owner in (slicer, slicer.util):
            owner.pip_install = self.install
            owner.pip_uninstall = self.uninstall
        module = types.ModuleType("slicer.packaging", "Recorded fake of slicer.packaging (test host)")
        module.pip_ensure = module.pip_install = self.install
        module.pip_uninstall = self.uninstall
        module.pip_check = lambda requirements, *args, **kwargs: False
        module.load_requirements = self.loadRequirements
        slicer.packaging = sys.modules["slicer.packaging"] = module


def addTranslations() -> None:
    """``from slicer.i18n import tr as _, translate``: no translation is loaded, so the English text comes back."""
    module = types.ModuleType("slicer.i18n", "Translations (test host)")

    def translate(context: str, text: str, disambiguation=None, n: int = -1) -> str:
        if not isinstance(context, str) or not isinstance(text, str):
            raise TypeError("translate(context, text) takes strings")
        return text

    def tr(text: str) -> str:
        return translate("", text)

    module.tr, module.translate = tr, translate
    slicer.i18n = sys.modules["slicer.i18n"] = module


def addPythonSlicer(folder: str) -> str:
    """Put an executable named PythonSlicer on PATH: Slicer code finds its own Python with shutil.which()."""
    path = os.path.join(folder, "PythonSlicer")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")
    return path
