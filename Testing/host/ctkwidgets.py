"""Stand-ins for the CTK widgets that module panels use. Property and signal names follow CTK's headers.

Written in the PythonQt dialect, so ``dialect.install()`` must have run before this module is imported.
"""

from __future__ import annotations

import enum

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from . import style
from .standin import StandIn, guarded, plainProperty


class ctkCollapsibleButton(StandIn, QtWidgets.QAbstractButton):
    """A section with a bar that opens and closes it."""

    contentsCollapsed = Signal(bool)
    _BAR = 22

    def __init__(self, text="", parent=None) -> None:
        if isinstance(text, QtWidgets.QWidget):
            text, parent = "", text
        super().__init__(parent)
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._BAR, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(self._show)

    def _show(self, opened: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and not child.isWindow():
                # Keep what the module hid itself hidden: only undo what collapsing did.
                if not opened and not child.isHidden():
                    child.setProperty("hiddenByCollapse", True)
                    child.setVisible(False)
                elif opened and child.property("hiddenByCollapse"):
                    child.setProperty("hiddenByCollapse", None)
                    child.setVisible(True)
        self.setMaximumHeight(16777215 if opened else self._BAR)
        self.updateGeometry()
        self.contentsCollapsed.emit(not opened)

    def childEvent(self, event) -> None:
        """Children that the .ui loader adds after ``collapsed`` was set must be hidden too."""
        super().childEvent(event)
        if event.type() == QtCore.QEvent.Type.ChildAdded and not self.checked:
            QtCore.QTimer.singleShot(0, guarded(self._hideLateChildren))

    def _hideLateChildren(self) -> None:
        if not self.checked:
            self._show(False)

    def _isCollapsed(self) -> bool:
        return not self.checked

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _isCollapsed, setCollapsed)
    flat, setFlat = plainProperty(bool, "flat", False)
    collapsedHeight, setCollapsedHeight = plainProperty(int, "collapsedHeight", 0)

    def sizeHint(self):
        inner = self.layout()
        hint = QtCore.QSize(120, self._BAR)
        if inner is not None and self.checked:
            hint = hint.expandedTo(inner.sizeHint() + QtCore.QSize(0, self._BAR))
        return hint

    def minimumSizeHint(self):
        inner = self.layout()
        opened = inner is not None and self.checked
        return inner.minimumSize() if opened else QtCore.QSize(120, self._BAR)

    def hitButton(self, position) -> bool:
        return position.y() <= self._BAR

    def paintEvent(self, event) -> None:
        style.paintSectionBar(self, self._BAR)


class ctkComboBox(StandIn, QtWidgets.QComboBox):
    """Combo box with a default text that is shown while nothing is selected.

    Qt's own placeholder would not do: with one, QComboBox no longer selects the first item that is added.
    """

    defaultText, setDefaultText = plainProperty(str, "defaultText", "", "update")
    forceDefault, _setForceDefault = plainProperty(bool, "forceDefault", False, "update")

    def paintEvent(self, event) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        if self.currentIndex < 0 or self.forceDefault:
            option.currentText = self.defaultText
        painter.drawComplexControl(QtWidgets.QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_ComboBoxLabel, option)


class ctkCheckBox(StandIn, QtWidgets.QCheckBox):
    """Check box; CTK's indicator icon is left out."""


class ctkDoubleSpinBox(StandIn, QtWidgets.QDoubleSpinBox):
    """Spin box; CTK's unit proxy is left out."""


class ctkSliderWidget(StandIn, QtWidgets.QWidget):
    """Slider with a spin box, on real numbers."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, 1000)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider)
        row.addWidget(self._spin)
        self._spin.valueChanged.connect(self._onSpin)
        self._slider.sliderMoved.connect(self._onSlider)

    def _onSpin(self, value: float) -> None:
        span = self._spin.maximum - self._spin.minimum
        self._slider.setValue(round((value - self._spin.minimum) / span * 1000) if span else 0)
        self.valueChanged.emit(value)

    def _onSlider(self, position: int) -> None:
        self._spin.setValue(self._spin.minimum + position / 1000 * (self._spin.maximum - self._spin.minimum))
        self.valueIsChanging.emit(self._spin.value)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def setMinimum(self, value: float) -> None:
        self._spin.setMinimum(value)

    def setMaximum(self, value: float) -> None:
        self._spin.setMaximum(value)

    def setRange(self, low: float, high: float) -> None:
        self._spin.setRange(low, high)

    def setSingleStep(self, value: float) -> None:
        self._spin.setSingleStep(value)

    def setDecimals(self, value: int) -> None:
        self._spin.setDecimals(value)

    def setSuffix(self, value: str) -> None:
        self._spin.setSuffix(value)

    value = Property(float, lambda self: self._spin.value, setValue)
    minimum = Property(float, lambda self: self._spin.minimum, setMinimum)
    maximum = Property(float, lambda self: self._spin.maximum, setMaximum)
    singleStep = Property(float, lambda self: self._spin.singleStep, setSingleStep)
    decimals = Property(int, lambda self: self._spin.decimals, setDecimals)
    suffix = Property(str, lambda self: self._spin.suffix, setSuffix)
    pageStep, setPageStep = plainProperty(float, "pageStep", 1.0)
    tracking, setTracking = plainProperty(bool, "tracking", True)


class ctkPathLineEdit(StandIn, QtWidgets.QWidget):
    """Path with a browse button. ``browse()`` asks a file dialog, which tests answer through ``host.dialogs``."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    class Filter(enum.IntFlag):
        """What may be chosen (part of CTK's list)."""

        Dirs = 0x001
        Files = 0x002
        Drives = 0x004
        NoSymLinks = 0x008
        AllEntries = 0x007
        Readable = 0x010
        Writable = 0x020
        Executable = 0x040
        Hidden = 0x100
        NoDotAndDotDot = 0x1000
        NoDot = 0x2000
        NoDotDot = 0x4000

    QtCore.QFlag(Filter)  # lets .ui files set it; as a decorator it would put None in the class's place
    Dirs, Files, Readable, Writable = Filter.Dirs, Filter.Files, Filter.Readable, Filter.Writable
    filters, setFilters = plainProperty(Filter, "filters", Filter.Dirs | Filter.Files | Filter.Readable)
    nameFilters, setNameFilters = plainProperty("QStringList", "nameFilters", [])
    label, setLabel = plainProperty(str, "label", "")
    settingKey, setSettingKey = plainProperty(str, "settingKey", "")
    showHistoryButton, setShowHistoryButton = plainProperty(bool, "showHistoryButton", True, "_update")
    showBrowseButton, setShowBrowseButton = plainProperty(bool, "showBrowseButton", True, "_update")
    minimumContentsLength, setMinimumContentsLength = plainProperty(int, "minimumContentsLength", 0)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QComboBox(self, editable=True)
        self._button = QtWidgets.QToolButton(self, text="...")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self._edit, 1)
        row.addWidget(self._button)
        self._edit.editTextChanged.connect(self.currentPathChanged.emit)
        self._button.clicked.connect(self.browse)

    def _update(self) -> None:
        self._button.setVisible(self.showBrowseButton)

    def comboBox(self):
        return self._edit

    def setCurrentPath(self, path: str) -> None:
        if not isinstance(path, str):
            raise TypeError("ctkPathLineEdit.setCurrentPath needs a str")
        self._edit.setEditText(path)

    currentPath = Property(str, lambda self: self._edit.currentText, setCurrentPath)

    def addCurrentPathToHistory(self) -> None:
        if self._edit.findText(self.currentPath) < 0:
            self._edit.addItem(self.currentPath)

    def browse(self) -> None:
        ask = QtWidgets.QFileDialog
        if self.filters & self.Filter.Files:
            save = self.filters & self.Filter.Writable
            chosen = (ask.getSaveFileName if save else ask.getOpenFileName)(self, self.label, self.currentPath)
        else:
            chosen = ask.getExistingDirectory(self, self.label, self.currentPath)
        if chosen:
            self.setCurrentPath(chosen)


class ctkDirectoryButton(StandIn, QtWidgets.QPushButton):
    """Button that shows and asks for a folder."""

    directoryChanged = Signal(str)

    def setDirectory(self, path: str) -> None:
        if path != self.text:
            self.setText(path)
            self.directoryChanged.emit(path)

    directory = Property(str, lambda self: self.text, setDirectory)


class ctkMenuButton(StandIn, QtWidgets.QPushButton):
    """Push button with a menu arrow at its side."""

    def _arrowArea(self) -> QtCore.QRect:
        area = self.rect
        return QtCore.QRect(area.right() - 18, area.top(), 18, area.height())

    def paintEvent(self, event) -> None:
        super().paintEvent(event)
        painter = QtGui.QPainter(self)
        area = self._arrowArea()
        painter.setPen(self.palette.color(QtGui.QPalette.ColorRole.Mid))
        painter.drawLine(area.left(), 4, area.left(), area.bottom() - 4)
        option = QtWidgets.QStyleOption()
        option.initFrom(self)
        option.rect = area.adjusted(5, 0, -4, 0)
        self.style().drawPrimitive(QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowDown, option, painter, self)
        painter.end()
