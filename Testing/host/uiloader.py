"""Loading Qt Designer files that use Slicer's widgets: what ``qt.QUiLoader`` is inside Slicer."""

from __future__ import annotations

import functools
import operator
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctkwidgets, mrmlwidgets, nodecombobox
from .standin import StandIn


def standInClasses() -> dict[str, type]:
    """Every stand-in widget by its C++ class name."""
    return {
        name: item
        for module in (ctkwidgets, mrmlwidgets, nodecombobox)
        for name, item in vars(module).items()
        if isinstance(item, type) and issubclass(item, StandIn) and issubclass(item, QtWidgets.QWidget)
    }


class UiLoader(QtUiTools.QUiLoader):
    """QUiLoader that knows the stand-ins and makes the file's connections in Python.

    Qt would look the connections up in C++, where a slot like setMRMLScene(vtkMRMLScene*) does not exist.
    """

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._classes = standInClasses()

    def createWidget(self, className, parent=None, name=""):
        if className not in self._classes:
            return super().createWidget(className, parent, name)
        widget = self._classes[className](parent)
        widget.setObjectName(name)
        return widget

    def load(self, source, parent=None):
        """*source* is an open QFile (as slicer.util.loadUI passes it) or a path."""
        tree = ElementTree.fromstring(_read(source))
        self._checkClasses(tree)
        connections = tree.find("connections")
        if connections is not None:
            tree.remove(connections)
        flags = list(self._takeFlags(tree))
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise RuntimeError(self.errorString())
        for name, attribute, value in flags:
            setattr(_find(widget, name), attribute, value)
        for connection in connections if connections is not None else ():
            _connect(widget, *(connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot")))
        return widget

    def _takeFlags(self, tree):
        """Flag properties of stand-ins ("ctkPathLineEdit::Dirs|..."), which Qt cannot set on Python classes."""
        for element in tree.iter("widget"):
            owner = self._classes.get(element.get("class"))
            for item in element.findall("property") if owner else ():
                names = item.findtext("set")
                if names is None:
                    continue
                element.remove(item)
                parts = [getattr(owner, part.rpartition("::")[2]) for part in names.split("|")]
                yield element.get("name"), item.get("name"), functools.reduce(operator.or_, parts)

    def _checkClasses(self, tree) -> None:
        """Say which stand-ins are missing; Qt would quietly put plain widgets in their place."""
        used = {element.get("class") for element in tree.iter("widget")} - {"Line"}
        missing = sorted(name for name in used if name not in self._classes and not hasattr(QtWidgets, name))
        if missing:
            raise RuntimeError(f"The test host has no stand-in for: {', '.join(missing)}")


def _read(source) -> bytes:
    if isinstance(source, QtCore.QIODevice):
        return bytes(source.readAll().data())
    with open(source, "rb") as file:
        return file.read()


def _find(root, name: str):
    found = root if root.objectName == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"The .ui file names an object that it does not have: '{name}'")
    return found


def _connect(root, sender: str, signal: str, receiver: str, slot: str) -> None:
    if not _find(root, sender).connect(signal, _find(root, receiver), slot):
        raise RuntimeError(f"Connection in the .ui file: '{sender}' has no signal '{signal}'")
