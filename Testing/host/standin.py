"""What all stand-in widgets share: they are Python classes here but plain C++ objects in Slicer."""

from __future__ import annotations

import weakref

import shiboken6
from PySide6.QtCore import Property


def guarded(method):
    """*method* of a widget as a VTK observer that neither keeps the widget alive nor outlives its C++ side."""
    target = weakref.WeakMethod(method)

    def call(*arguments):
        bound = target()
        if bound is not None and shiboken6.isValid(bound.__self__):
            bound(*arguments)

    return call


class StandIn:
    """Mixin: only private names and what the class declares may be set, as on a C++ object under PythonQt."""

    def __setattr__(self, name, value):
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects "
                "is not allowed"
            )
        super().__setattr__(name, value)


def plainProperty(kind, name: str, default, changed=None):
    """A stored property plus its C++ setter; *changed* is a method of the owner to run after a change.

    Returns (property, setter) because PythonQt offers both ``widget.filters = ..`` and ``widget.setFilters(..)``.
    """

    convert = {bool: bool, int: int, float: float, str: str, "QStringList": list}.get(kind, lambda same: same)

    def read(self):
        return vars(self).get("_" + name, default)

    def write(self, value):
        if value is None or (kind == "QStringList" and isinstance(value, str)):
            raise AttributeError(f"Property '{name}' of type '{kind}' does not accept {value!r}")
        value = convert(value)
        if value == read(self):
            return
        setattr(self, "_" + name, value)
        if changed is not None:
            getattr(self, changed)()

    return Property(kind, read, write), write
