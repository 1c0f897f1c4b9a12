"""Start the host: after ``boot()``, ``import slicer, qt, ctk, vtk`` work as inside Slicer (once per process)."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
import types

_host: Host | None = None


class Host:
    """Handle for tests: what was started, and how to drive and inspect it."""

    def __init__(self, app, sceneHost, dialogs, packages) -> None:
        self.app = app
        self.sceneHost = sceneHost
        self.scene = sceneHost.scene
        self.dialogs = dialogs
        self.packages = packages
        self.layerCalls: list[dict] = []  # keyword arguments of every slicer.util.setSliceViewerLayers()

    def loadModule(self, path, *dependencies):
        """Load a scripted module by file path, after those it depends on; returns (module, widget) of the first.

        As in Slicer all modules exist before startupCompleted is emitted, and the widget is made after that.
        """
        loaded = [self.app.moduleManager().load(str(item)) for item in (*dependencies, path)]
        self.app.startupCompleted.emit()
        return loaded[-1], loaded[-1].parent.widgetRepresentation().self()

    def unloadModule(self, name: str) -> None:
        self.app.moduleManager().unload(name)

    def enter(self, name: str) -> None:
        self.app.moduleManager().select(name)

    def process(self, seconds: float = 0.0, until=None) -> bool:
        """Run the event loop for a while, or until *until()* is true; returns whether it became true."""
        end = time.monotonic() + seconds
        while True:
            self.app.processEvents()
            if until is not None and until():
                return True
            if time.monotonic() >= end:
                return until is None
            time.sleep(0.005)

    def grab(self, widget, path, width: int = 480, height: int = 0) -> None:
        """Save a picture of a panel (a Qt widget, or a module's Python widget) as wide as Slicer's module panel."""
        widget = getattr(widget, "parent", widget) if not hasattr(widget, "grab") else widget
        widget.setAttribute(sys.modules["qt"].Qt.WA_DontShowOnScreen)  # laid out and painted, but no window
        widget.show()
        self.process()
        needed = widget.layout().heightForWidth(width) if widget.layout() else -1
        widget.resize(width, height or max(needed, widget.sizeHint().height()))
        self.process()
        widget.grab().save(str(path))

    def problems(self, root=None) -> list[str]:
        """Everything that would be wrong in Slicer although nothing failed here; expect []."""
        from . import connections, dialect

        found = [f"exception in a slot or observer: {error!r}" for error in connections.errors]
        found += [f"connect() to an unknown signal: {text}" for text in connections.rejected]
        if root is not None:
            found += [f"attribute on a C++ object: {text}" for text in dialect.illegalAttributes(root)]
        found += [f"dialog answer never asked for: {kind}" for kind in self.dialogs.unused()]
        return found

    def reset(self) -> None:
        """Fresh scene, settings and records between tests; loaded modules stay."""
        from . import connections

        self.scene.Clear(False)
        self.app.settings().clear()
        self.dialogs.clear()
        self.packages.__init__()
        self.layerCalls.clear()
        connections.errors.clear()
        connections.rejected.clear()


def boot(temporaryPath=None, testing=False, terminologyFolder=None, version="5.13.0") -> Host:
    """Start once; later calls return the same host whatever their arguments."""
    global _host
    if _host is None:
        if temporaryPath is None:
            temporaryPath = tempfile.mkdtemp(prefix="slicer-host-")
            atexit.register(shutil.rmtree, temporaryPath, ignore_errors=True)
        _host = _start(str(temporaryPath), testing, terminologyFolder, version)
    return _host


def _start(temporaryPath: str, testing: bool, terminologyFolder, version: str) -> Host:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    # slicer first: it imports every folder named slicer on sys.path, which must not see half a host.
    import slicer

    from . import dialect

    sys.modules["qt"] = dialect.install()
    # The modules below are written in the PythonQt dialect, hence imported only now.
    from . import application, dialogs, environment, layout, modules, scene, storage, style

    app = application.HostApplication(temporaryPath, version, testing)
    style.apply(app)
    sceneHost = scene.SceneHost(temporaryPath, terminologyFolder)
    slicer.app, slicer.mrmlScene = app, sceneHost.scene
    slicer.modules, slicer.selfTests = types.SimpleNamespace(), {}
    _addWidgetClasses(slicer, modules)
    moduleManager = modules.ModuleManager(sceneHost.logics)
    app.attach(sceneHost, storage.IOManager(sceneHost), layout.LayoutManager(sceneHost), moduleManager)
    os.makedirs(app.slicerHome, exist_ok=True)
    environment.addTranslations()
    environment.addPythonSlicer(app.slicerHome)
    packages = environment.Packages()
    packages.patchSlicer()
    shown = dialogs.Dialogs()
    shown.install()
    host = Host(app, sceneHost, shown, packages)
    _patchUtil(slicer, host)
    from . import scripted

    slicer.ScriptedLoadableModule = sys.modules["slicer.ScriptedLoadableModule"] = scripted
    return host


def _addWidgetClasses(slicer, modules) -> None:
    """Stand-ins appear where Slicer has them: ctk classes in ``ctk``, the others in ``slicer``."""
    from .uiloader import UiLoader, standInClasses

    ctk = sys.modules["ctk"] = types.ModuleType("ctk", "CTK stand-ins (test host)")
    for name, item in standInClasses().items():
        setattr(ctk if name.startswith("ctk") else slicer, name, item)
    for name in ("qSlicerScriptedLoadableModule", "qSlicerScriptedLoadableModuleWidget"):
        setattr(slicer, name, getattr(modules, name))
    sys.modules["qt"].QUiLoader = UiLoader


def _patchUtil(slicer, host: Host) -> None:
    """The few functions of the real slicer.util that need a main window, or that tests want to see."""
    real = slicer.util.setSliceViewerLayers

    def setSliceViewerLayers(*args, **kwargs):
        names = real.__code__.co_varnames[: real.__code__.co_argcount]
        host.layerCalls.append(dict(zip(names, args, strict=False)) | kwargs)
        return real(*args, **kwargs)

    manager = host.app.moduleManager()
    replaced = {
        "setSliceViewerLayers": setSliceViewerLayers,
        "selectModule": manager.select,
        "selectedModule": manager.selected,
    }
    for name, function in replaced.items():
        setattr(slicer.util, name, function)
        setattr(slicer, name, function)
