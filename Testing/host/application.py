"""``slicer.app``: a real QApplication with the members of qSlicerApplication that scripted modules use."""

from __future__ import annotations

import os
import sys

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal


class HostApplication(QtWidgets.QApplication):
    """One per process. Settings live in an ini file below *temporaryPath*; nothing of the user's is read."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object, arguments=["vtkMRMLScene*"])

    def __init__(self, temporaryPath: str, version: str, testing: bool) -> None:
        super().__init__(["Slicer"])
        self._temporaryPath, self._version, self._testing = temporaryPath, version, testing
        self._sceneHost = self._ioManager = self._layoutManager = self._moduleManager = None
        self.restarts = 0
        self.renderPauses = 0
        self.setApplicationName("Slicer")
        self.setOrganizationName("TestHost")
        self.setApplicationVersion(version)
        self.setQuitOnLastWindowClosed(False)
        settings = QtCore.QSettings
        settings.setDefaultFormat(settings.Format.IniFormat)
        for scope in (settings.Scope.UserScope, settings.Scope.SystemScope):
            settings.setPath(settings.Format.IniFormat, scope, os.path.join(temporaryPath, "settings"))

    def attach(self, sceneHost, ioManager, layoutManager, moduleManager) -> None:
        """Second half of the start: these need Qt to exist."""
        self._sceneHost, self._ioManager = sceneHost, ioManager
        self._layoutManager, self._moduleManager = layoutManager, moduleManager

    # Paths and versions

    temporaryPath = Property(str, lambda self: self._temporaryPath)
    slicerHome = Property(str, lambda self: os.path.join(self._temporaryPath, "home"))
    slicerSharePath = Property(str, lambda self: "share/Slicer-" + self._version.rpartition(".")[0])
    extensionsInstallPath = Property(str, lambda self: os.path.join(self._temporaryPath, "extensions"))
    cachePath = Property(str, lambda self: os.path.join(self._temporaryPath, "cache"))
    launcherExecutableFilePath = Property(str, lambda self: os.path.join(self._temporaryPath, "home", "Slicer"))
    launcherSettingsFilePath = Property(str, lambda self: os.path.join(self._temporaryPath, "home", "Slicer.ini"))
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    majorVersion = Property(int, lambda self: int(self._version.split(".")[0]))
    minorVersion = Property(int, lambda self: int(self._version.split(".")[1]))
    mainApplicationName = Property(str, lambda self: "Slicer")
    revision = Property(str, lambda self: "0")
    repositoryRevision = Property(str, lambda self: "0")
    os = Property(str, lambda self: {"win32": "win", "darwin": "macosx"}.get(sys.platform, "linux"))
    arch = Property(str, lambda self: "amd64")

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    # State

    def testingEnabled(self) -> bool:
        """False unless a test says otherwise: the dialogs that users would see are recorded in any case."""
        return self._testing

    def setTestingEnabled(self, testing: bool) -> None:
        self._testing = testing

    def settings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    userSettings = revisionUserSettings = settings

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def restart(self) -> None:
        self.restarts += 1

    # Parts of the application

    def mrmlScene(self):
        return self._sceneHost.scene

    def applicationLogic(self):
        return self._sceneHost.applicationLogic

    def coreIOManager(self):
        return self._ioManager

    ioManager = coreIOManager

    def layoutManager(self):
        return self._layoutManager

    def moduleManager(self):
        return self._moduleManager

    def pauseRender(self) -> None:
        self.renderPauses += 1

    def resumeRender(self) -> None:
        self.renderPauses -= 1

    def setRenderPaused(self, paused: bool) -> None:
        self.renderPauses = int(paused)
