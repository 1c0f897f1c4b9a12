"""Loading a scripted module from its file, as Slicer's C++ module factory does, and ``slicer.modules``."""

from __future__ import annotations

import importlib.util
import os
import sys

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from .mrmlwidgets import qSlicerWidget
from .standin import StandIn


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The Qt widget around a module's Python widget class."""

    def __init__(self, module) -> None:
        super().__init__()
        self._module = module
        self._python = None
        self._entered = False
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)
        self.setObjectName(module.name + "ModuleWidget")

    isEntered = property(lambda self: self._entered)

    def self(self):
        return self._python

    def build(self) -> None:
        """Make the Python widget and run its setup(); slicer.modules.<Name>Widget is set before setup() runs."""
        name = self._module.name
        self._python = getattr(sys.modules[name], name + "Widget")(self)
        setattr(slicer.modules, name + "Widget", self._python)
        self._python.setup()

    reload = build

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()


class qSlicerScriptedLoadableModule(StandIn, QtCore.QObject):
    """The ``parent`` that a module class describes itself on."""

    title = ""
    categories: list = []
    dependencies: list = []
    contributors: list = []
    associatedNodeTypes: list = []
    helpText = ""
    acknowledgementText = ""
    icon = None
    hidden = False
    index = -1
    widgetRepresentationCreationEnabled = True

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._widget = None
        self.setObjectName(os.path.splitext(os.path.basename(path))[0])
        self.icon = QtGui.QIcon()

    path = property(lambda self: self._path)

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.build()
        return self._widget

    def createNewWidgetRepresentation(self):
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget.build()
        return widget

    def logic(self):
        return None


class CoreModule:
    """A C++ module: only its logic exists here."""

    path = ""

    def __init__(self, name: str, logic) -> None:
        self.name = self.title = name
        self._logic = logic

    def logic(self):
        return self._logic

    def widgetRepresentation(self):
        return None


class ModuleManager(QtCore.QObject):
    """slicer.app.moduleManager()."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    moduleUnloaded = Signal(str)

    def __init__(self, logics: dict) -> None:
        super().__init__()
        self._modules = {}
        self._entered = ""
        for name, logic in logics.items():
            self._register(name, CoreModule(name, logic))

    def _register(self, name: str, module) -> None:
        self._modules[name] = module
        setattr(slicer.modules, name.lower(), module)

    def factoryManager(self):
        return self

    def loadedModuleNames(self) -> list[str]:
        return list(self._modules)

    modulesNames = loadedModuleNames

    def module(self, name: str):
        return self._modules.get(name)

    def load(self, path: str):
        """Import the file and let its module class describe the module, which is returned. No widget yet."""
        path = os.path.abspath(path)
        name, folder = os.path.splitext(os.path.basename(path))[0], os.path.dirname(path)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        module = qSlicerScriptedLoadableModule(path)
        instance = getattr(sys.modules[name], name)(module)
        self._register(name, module)
        setattr(slicer.modules, name + "Instance", instance)
        if hasattr(instance, "setup"):
            instance.setup()
        self.moduleLoaded.emit(name)
        return instance

    def unload(self, name: str) -> None:
        """What happens to each module when Slicer closes; the widget's cleanup() runs."""
        self.moduleAboutToBeUnloaded.emit(name)
        module = self._modules.pop(name)
        if self._entered == name:
            self._entered = ""
        if isinstance(module, qSlicerScriptedLoadableModule) and module._widget is not None:
            module._widget.delete()
        for attribute in (name.lower(), name + "Instance", name + "Widget"):
            if hasattr(slicer.modules, attribute):
                delattr(slicer.modules, attribute)
        self.moduleUnloaded.emit(name)

    def select(self, module) -> None:
        """Show a module: exit() of the one shown, enter() of the new one (slicer.util.selectModule)."""
        name = module if isinstance(module, str) else module.name
        if name == self._entered:
            return
        for method, which in (("exit", self._entered), ("enter", name)):
            widget = self._modules[which].widgetRepresentation() if which else None
            if widget is not None:
                getattr(widget, method)()
        self._entered = name

    def selected(self) -> str:
        return self._entered
