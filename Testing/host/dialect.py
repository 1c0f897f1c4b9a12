"""PythonQt's Python dialect on top of PySide6, and the ``qt`` module that Slicer code imports.

PythonQt exposes Qt properties as plain attributes (``button.text = "Apply"``; ``button.text()`` fails). The bridge sits
on the real PySide6 classes, so types stay what they are and ``isinstance`` and subclassing keep working.
"""

from __future__ import annotations

import enum
import functools
import types

import shiboken6
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

from . import connections

_MODULES = (QtCore, QtGui, QtNetwork, QtWidgets, QtUiTools)

# Virtual C++ methods: Qt calls them on subclasses, so they must stay methods (PythonQt shows them as properties).
_KEPT_METHODS = {"sizeHint", "minimumSizeHint"}

# Names of PySide6 that PythonQt lacks or treats differently; product code must not lean on them.
_NOT_IN_PYTHONQT = {"ClassInfo", "Property", "QEnum", "QFlag", "SIGNAL", "SLOT", "Signal", "SignalInstance", "Slot"}

# QFile, QLibrary, QMenu and QProcess look up "connect" their own way and lose the sender; QObject's own way is right.
_lookUp = QtCore.QObject.__getattribute__

_COERCE = {"bool": bool, "int": int, "double": float, "QString": str}


class PropertyBridge:
    """One Qt property as an attribute of instances; on the class itself the original method is still there."""

    def __init__(self, owner: type, meta: QtCore.QMetaProperty) -> None:
        self.name = meta.name()
        self.typeName = meta.typeName()
        self.writable = meta.isWritable()
        self.original = getattr(owner, self.name, None)
        suffix = self.name[:1].upper() + self.name[1:]
        self.setter = "set" + suffix
        # The "is" getter comes first: QTimer.singleShot is a static function and also a property.
        getter = getattr(owner, "is" + suffix, None) or self.original
        # Everything else that is callable is a static getter such as QCoreApplication.applicationName.
        self.getter = getter if isinstance(getter, types.MethodDescriptorType) else None

    def __get__(self, instance, owner=None):
        if instance is None:
            return self.original
        return self.getter(instance) if self.getter else QtCore.QObject.property(instance, self.name)

    def __set__(self, instance, value) -> None:
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of type '{self.typeName}' is not writable")
        refused = AttributeError(
            f"Property '{self.name}' of type '{self.typeName}' does not accept an object of type "
            f"{type(value).__name__} ({value})"
        )
        if value is None and self.typeName in _COERCE:
            raise refused
        try:
            value = _COERCE.get(self.typeName, lambda same: same)(value)
            setter = getattr(type(instance), self.setter, None)
            if setter is not None and not isinstance(setter, types.BuiltinFunctionType):
                setter(instance, value)
            elif not QtCore.QObject.setProperty(instance, self.name, value):
                raise refused
        except (TypeError, ValueError) as error:
            raise refused from error


def _members(module: types.ModuleType) -> dict:
    """The public names of a Qt module; dir() and getattr() because PySide6 makes its classes on first use."""
    return {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}


def _objectClasses() -> list[type]:
    """Every QObject class of the Qt modules, base classes before derived ones."""
    found = {
        item
        for module in _MODULES
        for item in _members(module).values()
        if isinstance(item, type) and issubclass(item, QtCore.QObject)
    }
    return sorted(found, key=lambda item: len(item.__mro__))


def _bridgeProperties(owner: type) -> None:
    meta = owner.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        bridge = PropertyBridge(owner, meta.property(index))
        if bridge.name not in _KEPT_METHODS and not isinstance(bridge.original, QtCore.Signal):
            setattr(owner, bridge.name, bridge)


def _bridgeAttributes(owner: type) -> None:
    """Route connect/disconnect to ours and find enum values on instances (``process.Running``).

    Setting ``QObject.connect`` would not do: shiboken finds that static/instance pair in C++ before it looks here.
    """
    original = owner.__getattribute__

    def attribute(self, name):
        if name in ("connect", "disconnect"):
            return functools.partial(getattr(connections, name), _lookUp(self, name), self)
        try:
            return original(self, name)
        except AttributeError:
            value = getattr(type(self), name, None)
            if isinstance(value, enum.Enum):
                return value
            raise

    owner.__getattribute__ = attribute


def _addConveniences() -> None:
    """Members that PythonQt adds to every QObject."""
    base = QtCore.QObject
    base.name = property(lambda self: self.objectName, lambda self, value: self.setObjectName(str(value)))
    base.className = lambda self: self.metaObject().className()
    base.delete = lambda self: shiboken6.delete(self)  # noqa: PLW0108 - a builtin would not become a method
    for owner in (QtWidgets.QDialog, QtWidgets.QMenu, QtCore.QEventLoop, QtCore.QCoreApplication):
        if not hasattr(owner, "exec_"):
            owner.exec_ = owner.exec


def illegalAttributes(root: QtCore.QObject) -> list[str]:
    """Attributes that Python code hung on plain C++ objects below *root*.

    PythonQt refuses them ("creating new attributes on C++ objects is not allowed"), PySide6 cannot be made to, so a
    misspelt property would pass here and fail in Slicer. Call this at the end of a panel test; expect [].
    """
    found = []
    for item in [root, *root.findChildren(QtCore.QObject)]:
        if not type(item).__module__.startswith("PySide6"):
            continue
        for name, value in vars(item).items():
            if not isinstance(value, QtCore.SignalInstance):
                found.append(f"{type(item).__name__} '{item.objectName}': {name}")
    return found


def install() -> types.ModuleType:
    """Patch PySide6 once and return the module to be imported as ``qt``."""
    for owner in _objectClasses():
        _bridgeProperties(owner)
        if "__getattribute__" in vars(owner):
            _bridgeAttributes(owner)
    _addConveniences()
    connections.collectErrors()
    module = types.ModuleType("qt", "Qt as Slicer's Python sees it (test host)")
    for source in _MODULES:
        for name, value in _members(source).items():
            if name not in _NOT_IN_PYTHONQT:
                setattr(module, name, value)
    return module
