"""Stand-ins for the qMRML widgets of module panels, except the node selector (see nodecombobox).

Written in the PythonQt dialect, so ``dialect.install()`` must have run before this module is imported.
"""

from __future__ import annotations

import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .ctkwidgets import ctkMenuButton
from .standin import StandIn, guarded, plainProperty


class Observed:
    """Follow one VTK object at a time."""

    def __init__(self, events: list, method) -> None:
        self._events, self._method = events, guarded(method)
        self._object, self._tags = None, []

    def follow(self, item) -> None:
        for tag in self._tags:
            self._object.RemoveObserver(tag)
        self._object = item
        self._tags = [item.AddObserver(event, self._method) for event in self._events] if item else []


class qMRMLWidget(StandIn, QtWidgets.QWidget):
    """Widget that knows the scene and tells its children; top level of most module .ui files."""

    mrmlSceneChanged = Signal(object, arguments=["vtkMRMLScene*"])

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qSlicerWidget(qMRMLWidget):
    """Same role; older .ui files use it as their top level."""


class ShowsSegmentation:
    """Mixin of the widgets that show one segmentation node and follow its changes."""

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._node = node
        self._observed.follow(node)
        self._update()


class qMRMLSegmentationShow3DButton(ShowsSegmentation, ctkMenuButton):
    """Checkable button that makes or removes the closed surface of a segmentation."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._node = None
        self._observed = Observed([vtk.vtkCommand.AnyEvent], self._update)
        self.setText("Show 3D")
        self.setCheckable(True)
        self.toggled.connect(self._onToggled)
        self._update()

    locked, setLocked = plainProperty(bool, "locked", False, "_update")

    def _hasSurface(self) -> bool:
        return bool(self._node and self._node.GetSegmentation().ContainsRepresentation("Closed surface"))

    def _onToggled(self, on: bool) -> None:
        if self._node is None or on == self._hasSurface():
            return
        if on:
            self._node.CreateClosedSurfaceRepresentation()
            if self._node.GetDisplayNode():
                self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D("Closed surface")
        else:
            self._node.RemoveClosedSurfaceRepresentation()
        self._update()

    def _update(self, *_) -> None:
        filled = bool(self._node and self._node.GetSegmentation().GetNumberOfSegments())
        self.setEnabled(filled and not self.locked)
        blocked = self.blockSignals(True)
        self.setChecked(self._hasSurface())
        self.blockSignals(blocked)


class qMRMLSegmentsTableView(ShowsSegmentation, qMRMLWidget):
    """Segments as rows: visibility, colour, opacity, name. A click on the eye changes the display node."""

    selectionChanged = Signal(QtCore.QItemSelection, QtCore.QItemSelection)
    segmentAboutToBeModified = Signal(str)
    _VISIBILITY, _COLOR, _OPACITY, _NAME = range(4)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._node = None
        self._observed = Observed([vtk.vtkCommand.AnyEvent], self._update)
        self._observedDisplay = Observed([vtk.vtkCommand.ModifiedEvent], self._update)
        self._table = QtWidgets.QTableWidget(0, 4, self)
        self._table.setHorizontalHeaderLabels(["", "", "Opacity", "Name"])
        self._table.verticalHeader().hide()
        self._table.setShowGrid(False)
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        header = self._table.horizontalHeader()
        header.setMinimumSectionSize(26)
        header.setDefaultAlignment(QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter)
        for column, width in ((self._VISIBILITY, 28), (self._COLOR, 28), (self._OPACITY, 62)):
            header.resizeSection(column, width)
        header.setStretchLastSection(True)
        self._table.cellClicked.connect(self._onCell)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged.emit)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._table)

    readOnly, setReadOnly = plainProperty(bool, "readOnly", False)
    filterBarVisible, setFilterBarVisible = plainProperty(bool, "filterBarVisible", False)
    headerVisible, setHeaderVisible = plainProperty(bool, "headerVisible", True, "_update")
    visibilityColumnVisible, setVisibilityColumnVisible = plainProperty(bool, "visibility", True, "_update")
    colorColumnVisible, setColorColumnVisible = plainProperty(bool, "color", True, "_update")
    opacityColumnVisible, setOpacityColumnVisible = plainProperty(bool, "opacity", True, "_update")
    statusColumnVisible, setStatusColumnVisible = plainProperty(bool, "status", False)
    layerColumnVisible, setLayerColumnVisible = plainProperty(bool, "layer", False)

    def tableWidget(self):
        return self._table

    def displayedSegmentIDs(self) -> list[str]:
        return [self.segmentIDForRow(row) for row in range(self._table.rowCount)]

    def segmentIDForRow(self, row: int) -> str:
        item = self._table.item(row, self._NAME)
        return item.data(QtCore.Qt.ItemDataRole.UserRole) if item else ""

    def rowForSegmentID(self, segmentID: str) -> int:
        shown = self.displayedSegmentIDs()
        return shown.index(segmentID) if segmentID in shown else -1

    def selectedSegmentIDs(self) -> list[str]:
        rows = self._table.selectionModel().selectedRows()
        return [self.segmentIDForRow(index.row()) for index in rows]

    def setSelectedSegmentIDs(self, segmentIDs) -> None:
        self._table.clearSelection()
        for segmentID in segmentIDs:
            self._table.selectRow(self.rowForSegmentID(segmentID))

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def setSelectionMode(self, mode: int) -> None:
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(int(mode)))

    segmentCount = Property(int, lambda self: self._table.rowCount)
    selectionMode = Property(int, lambda self: self._table.selectionMode.value, setSelectionMode)

    def _onCell(self, row: int, column: int) -> None:
        if column == self._VISIBILITY and not self.readOnly:
            display, segmentID = self._node.GetDisplayNode(), self.segmentIDForRow(row)
            display.SetSegmentVisibility(segmentID, not display.GetSegmentVisibility(segmentID))

    def _update(self, *_) -> None:
        display = self._node.GetDisplayNode() if self._node else None
        if display is not self._observedDisplay._object:
            self._observedDisplay.follow(display)
        segmentation = self._node.GetSegmentation() if self._node else None
        ids = list(segmentation.GetSegmentIDs()) if segmentation else []
        self._table.horizontalHeader().setVisible(self.headerVisible)
        self._table.setColumnHidden(self._VISIBILITY, not self.visibilityColumnVisible)
        self._table.setColumnHidden(self._COLOR, not self.colorColumnVisible)
        self._table.setColumnHidden(self._OPACITY, not self.opacityColumnVisible)
        self._table.setRowCount(len(ids))
        for row, segmentID in enumerate(ids):
            self._table.setRowHeight(row, 24)
            self._fillRow(row, segmentID, segmentation.GetSegment(segmentID), display)

    def _fillRow(self, row: int, segmentID: str, segment, display) -> None:
        visible = bool(display and display.GetSegmentVisibility(segmentID))
        opacity = display.GetSegmentOpacity3D(segmentID) if display else 1.0
        name = QtWidgets.QTableWidgetItem(segment.GetName())
        name.setData(QtCore.Qt.ItemDataRole.UserRole, segmentID)
        cells = (
            QtWidgets.QTableWidgetItem(_eye(visible), ""),
            QtWidgets.QTableWidgetItem(_swatch(segment.GetColor()), ""),
            QtWidgets.QTableWidgetItem(f"{opacity:.2f}"),
            name,
        )
        for column, cell in enumerate(cells):
            self._table.setItem(row, column, cell)


def _swatch(color) -> QtGui.QIcon:
    pixmap = QtGui.QPixmap(16, 16)
    pixmap.fill(QtGui.QColor.fromRgbF(*color))
    return QtGui.QIcon(pixmap)


def _eye(opened: bool) -> QtGui.QIcon:
    """An eye, open or closed, drawn here because Slicer's icons are not part of the wheel."""
    pixmap = QtGui.QPixmap(16, 16)
    pixmap.fill(QtCore.Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(pixmap)
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    painter.setPen(QtGui.QPen(QtGui.QColor("#404040"), 1.4))
    if opened:
        painter.drawEllipse(QtCore.QRectF(1, 4, 14, 8))
        painter.setBrush(QtGui.QColor("#404040"))
        painter.drawEllipse(QtCore.QRectF(6, 6, 4, 4))
    else:
        painter.drawArc(QtCore.QRectF(1, 3, 14, 9), 190 * 16, 160 * 16)
    painter.end()
    return QtGui.QIcon(pixmap)
