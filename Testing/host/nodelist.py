"""The list half of qMRMLNodeComboBox: which nodes of the scene are rows, and how rows follow the scene.

As in Slicer the rows of a combo box are: None (if allowed), the nodes, then the actions; Qt's own rules on what becomes
current when rows come and go therefore act here as they do there (with actions in the list, for example, the first
node that is added is not selected by itself).
"""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from .ctkwidgets import ctkComboBox
from .standin import StandIn, guarded, plainProperty

NODE_ID = QtCore.Qt.ItemDataRole.UserRole
ACTION = QtCore.Qt.ItemDataRole.UserRole + 1


class NodeListWidget(StandIn, QtWidgets.QWidget):
    """Combo box whose rows are the nodes of a scene that pass the filters; knows nothing of user actions."""

    nodeAdded = Signal(object, arguments=["vtkMRMLNode*"])
    nodeAboutToBeRemoved = Signal(object, arguments=["vtkMRMLNode*"])

    nodeTypes, setNodeTypes = plainProperty("QStringList", "nodeTypes", [], "_rebuild")
    hideChildNodeTypes, setHideChildNodeTypes = plainProperty("QStringList", "hideChild", [], "_rebuild")
    showChildNodeTypes, setShowChildNodeTypes = plainProperty(bool, "showChild", True, "_rebuild")
    showHidden, setShowHidden = plainProperty(bool, "showHidden", False, "_rebuild")
    noneEnabled, setNoneEnabled = plainProperty(bool, "noneEnabled", False, "_rebuild")
    noneDisplay, setNoneDisplay = plainProperty(str, "noneDisplay", "None", "_rebuild")
    addEnabled, setAddEnabled = plainProperty(bool, "addEnabled", True, "_rebuild")
    removeEnabled, setRemoveEnabled = plainProperty(bool, "removeEnabled", True, "_rebuild")
    editEnabled, setEditEnabled = plainProperty(bool, "editEnabled", False, "_rebuild")
    renameEnabled, setRenameEnabled = plainProperty(bool, "renameEnabled", False, "_rebuild")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._scene = None
        self._sceneTags: list[int] = []
        self._nodeTags: dict[str, tuple[object, int]] = {}
        self._attributes: list[tuple[str, str, str | None]] = []
        self._typeLabels: dict[str, str] = {}
        self._requestedID = ""
        self._quiet = False
        self._combo = ctkComboBox(self)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo.currentTextChanged.connect(self._emitCurrent)
        self._model = QtGui.QStandardItemModel(self)
        self._combo.setModel(self._model)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._combo)
        self.setEnabled(False)

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        previous, hadNodes = self.currentNodeID, self.nodeCount() > 0
        for tag in self._sceneTags:
            self._scene.RemoveObserver(tag)
        self._scene, self._sceneTags = scene, []
        if scene is not None:
            kind = slicer.vtkMRMLScene
            self._observe(kind.NodeAddedEvent, self._onNodeAdded)
            self._observe(kind.NodeAboutToBeRemovedEvent, self._onNodeRemoved)
            for event in (kind.EndCloseEvent, kind.EndImportEvent, kind.EndRestoreEvent):
                self._observe(event, self._onSceneReplaced)
        self._quiet = True
        self._rebuild()
        self._quiet = False
        first = self.nodeFromIndex(0)
        automatic = first.GetID() if first and not self.noneEnabled else ""
        self._combo.setCurrentIndex(-1)
        self.setCurrentNodeID(previous if hadNodes else self._requestedID or automatic)
        self._requestedID = ""
        self.setEnabled(scene is not None)

    def _observe(self, event, method) -> None:
        run = guarded(method)

        def call(caller, name, node=None):
            run(node)

        call.CallDataType = vtk.VTK_OBJECT
        self._sceneTags.append(self._scene.AddObserver(event, call))

    def _onSceneReplaced(self, node) -> None:
        self._rebuild()

    def _onNodeAdded(self, node) -> None:
        if node is None or not any(node.IsA(kind) for kind in self.nodeTypes):
            return
        self._follow(node)
        if self._accepts(node) and self._rowOf(node.GetID()) < 0:
            self._model.insertRow(self._firstNodeRow() + self.nodeCount(), _nodeItem(node))
            self.nodeAdded.emit(node)

    def _follow(self, node) -> None:
        """Renaming, hiding and attribute changes of a node may change its row."""
        if node.GetID() not in self._nodeTags:
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, guarded(self._onNodeModified))
            self._nodeTags[node.GetID()] = (node, tag)

    def _onNodeModified(self, node, event=None) -> None:
        row, accepted = self._rowOf(node.GetID()), self._accepts(node)
        if row >= 0 and not accepted:
            self._removeRow(row)
        elif row < 0 and accepted:
            self._model.insertRow(self._firstNodeRow() + self.nodeCount(), _nodeItem(node))
        elif row >= 0 and self._model.item(row).text() != node.GetName():
            self._model.item(row).setText(node.GetName() or "")

    def _onNodeRemoved(self, node) -> None:
        if node is None:
            return
        if node.GetID() in self._nodeTags:
            known, tag = self._nodeTags.pop(node.GetID())
            known.RemoveObserver(tag)
        row = self._rowOf(node.GetID())
        if row >= 0:
            self.nodeAboutToBeRemoved.emit(node)
            self._removeRow(row)

    def _removeRow(self, row: int) -> None:
        self._model.removeRow(row)
        if self.currentNode() is None:
            self.setCurrentNode(None)

    def addAttribute(self, nodeType: str, attributeName: str, attributeValue=None) -> None:
        self._attributes.append((nodeType, attributeName, attributeValue))
        self._rebuild()

    def removeAttribute(self, nodeType: str, attributeName: str) -> None:
        self._attributes = [entry for entry in self._attributes if entry[:2] != (nodeType, attributeName)]
        self._rebuild()

    def _accepts(self, node) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if not any(node.IsA(kind) for kind in self.nodeTypes):
            return False
        if not self.showChildNodeTypes and node.GetClassName() not in self.nodeTypes:
            return False
        if any(node.IsA(kind) for kind in self.hideChildNodeTypes):
            return False
        for kind, name, wanted in self._attributes:
            value = node.GetAttribute(name)
            if node.IsA(kind) and (value is None if wanted is None else value != str(wanted)):
                return False
        return True

    def _firstNodeRow(self) -> int:
        return 1 if self.noneEnabled else 0

    def _rowOf(self, nodeID: str) -> int:
        return self._combo.findData(nodeID, NODE_ID) if nodeID else -1

    def _rebuild(self) -> None:
        """Fill the rows anew, keeping the current node if it is still listed."""
        current = self.currentNodeID
        quiet, self._quiet = self._quiet, True
        self._model.clear()
        if self.noneEnabled:
            self._model.appendRow(QtGui.QStandardItem(self.noneDisplay))
        if self._scene is not None:
            for index in range(self._scene.GetNumberOfNodes()):
                node = self._scene.GetNthNode(index)
                if any(node.IsA(kind) for kind in self.nodeTypes):
                    self._follow(node)
                if self._accepts(node):
                    self._model.appendRow(_nodeItem(node))
            self._appendActions()
        label = self.nodeTypeLabel(self.nodeTypes[0] if self.nodeTypes else "")
        self._combo.setDefaultText(f"Select a {label}")
        row = self._rowOf(current)
        self._combo.setCurrentIndex(row if row >= 0 else 0 if self.noneEnabled else -1)
        self._quiet = quiet
        if current != self.currentNodeID:
            self._emitCurrent()


def _nodeItem(node) -> QtGui.QStandardItem:
    item = QtGui.QStandardItem(node.GetName() or "")
    item.setData(node.GetID(), NODE_ID)
    return item
