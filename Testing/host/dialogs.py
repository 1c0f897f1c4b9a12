"""Dialogs never open: they are recorded, and answered from what the test queued.

A modal dialog would hang an unattended run. Those with a safe default (slicer.util's messages) return what Slicer
returns in testing mode; those without one (file choosers, own dialogs) fail unless the test queued an answer.
"""

from __future__ import annotations

import dataclasses
import logging

import slicer
from PySide6 import QtWidgets

_logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Shown:
    """One dialog that the user would have seen."""

    kind: str
    text: str
    title: str = ""
    detail: str = ""


class Dialogs:
    """What was shown (oldest first) and what to answer next, by kind: "confirmOkCancel", "getOpenFileName", ..."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self._answers: dict[str, list] = {}

    def answer(self, kind: str, *values) -> None:
        """Queue answers for the next dialogs of that kind."""
        self._answers.setdefault(kind, []).extend(values)

    def texts(self, kind: str | None = None) -> list[str]:
        return [item.text for item in self.shown if kind in (None, item.kind)]

    def clear(self) -> None:
        self.shown.clear()
        self._answers.clear()

    def unused(self) -> list[str]:
        """Kinds with answers that nobody asked for: usually a test that did not reach its dialog."""
        return [kind for kind, values in self._answers.items() if values]

    def ask(self, shown: Shown, *default):
        self.shown.append(shown)
        if self._answers.get(shown.kind):
            return self._answers[shown.kind].pop(0)
        if default:
            return default[0]
        raise AssertionError(
            f"{shown.kind} would block ({shown.title} {shown.text}): queue an answer with dialogs.answer"
        )

    def install(self) -> None:
        self._replaceUtil()
        self._replaceQt()

    def _replaceUtil(self) -> None:
        """The public functions of slicer.util; ``import slicer`` copied them into ``slicer`` too."""

        def message(kind, default, level):
            def display(text, windowTitle=None, parent=None, standardButtons=None, **kwargs):
                _logger.log(level, text)
                detail = kwargs.get("detailedText", "")
                return self.ask(Shown(kind, str(text), windowTitle or "", detail), default)

            return display

        def delayDisplay(message, autoCloseMsec=1000, parent=None, **kwargs):
            _logger.info(message)
            self.shown.append(Shown("delay", str(message)))
            slicer.app.processEvents()

        replaced = {"delayDisplay": delayDisplay}
        for kind, level in (("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)):
            replaced[kind + "Display"] = message(kind, None, level)
        for kind in ("confirmOkCancel", "confirmYesNo", "confirmRetryClose"):
            replaced[kind + "Display"] = message(kind, True, logging.INFO)
        replaced["messageBox"] = message("messageBox", QtWidgets.QMessageBox.StandardButton.Ok, logging.INFO)
        for name, function in replaced.items():
            setattr(slicer.util, name, function)
            setattr(slicer, name, function)

    def _replaceQt(self) -> None:
        def static(kind):
            # PythonQt returns the value alone where C++ also fills an out-parameter, so the answer is just the value.
            def choose(parent=None, title="", *arguments, **kwargs):
                return self.ask(Shown(kind, str(title)))

            return staticmethod(choose)

        def execute(dialog):
            text = dialog.text if isinstance(dialog, QtWidgets.QMessageBox) else ""
            return self.ask(Shown(type(dialog).__name__, text, dialog.windowTitle))

        chooser = ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory")
        owners = {
            QtWidgets.QFileDialog: chooser,
            QtWidgets.QInputDialog: ("getText", "getInt", "getDouble", "getItem", "getMultiLineText"),
            QtWidgets.QMessageBox: ("information", "question", "warning", "critical", "about"),
            QtWidgets.QColorDialog: ("getColor",),
        }
        for owner, names in owners.items():
            for name in names:
                setattr(owner, name, static(name))
        for owner in (QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QFileDialog):
            owner.exec = owner.exec_ = execute
