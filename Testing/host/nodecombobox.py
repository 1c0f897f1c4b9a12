"""Stand-in for qMRMLNodeComboBox, the node selector: the current node, its signals and the actions of the list."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .nodelist import ACTION, NODE_ID, NodeListWidget
from .standin import plainProperty


class qMRMLNodeComboBox(NodeListWidget):
    """Lists the nodes of a scene that pass the filters and lets the user choose, make, rename and delete one."""

    currentNodeChanged = Signal((object,), (bool,), arguments=["vtkMRMLNode*"])
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object, arguments=["vtkMRMLNode*"])
    nodeAddedByUser = Signal(object, arguments=["vtkMRMLNode*"])
    nodeAddedByUserAction = Signal(object, arguments=["vtkMRMLNode*"])
    nodeAboutToBeEdited = Signal(object, arguments=["vtkMRMLNode*"])
    currentNodeRenamed = Signal(str)

    selectNodeUponCreation, setSelectNodeUponCreation = plainProperty(bool, "selectUponCreation", True)
    interactionNodeSingletonTag, setInteractionNodeSingletonTag = plainProperty(str, "interaction", "Singleton")

    def __init__(self, parent=None) -> None:
        self._baseNames: dict[str, str] = {}
        super().__init__(parent)
        self._combo.activated.connect(lambda row: self.nodeActivated.emit(self.currentNode()))
        self._combo.view().clicked.connect(self._onClicked)

    # Current node

    def nodeCount(self) -> int:
        return sum(bool(self._model.item(row).data(NODE_ID)) for row in range(self._model.rowCount()))

    def nodeFromIndex(self, index: int):
        item = self._model.item(self._firstNodeRow() + index)
        nodeID = item.data(NODE_ID) if item else None
        return self._scene.GetNodeByID(nodeID) if nodeID and self._scene else None

    def nodes(self) -> list:
        return [self.nodeFromIndex(index) for index in range(self.nodeCount())]

    def currentNode(self):
        return self.nodeFromIndex(self._combo.currentIndex - self._firstNodeRow())

    def setCurrentNode(self, node) -> None:
        if isinstance(node, str):
            raise TypeError("setCurrentNode(str) is deprecated in Slicer; use setCurrentNodeID")
        self.setCurrentNodeID(node.GetID() if node else "")

    def setCurrentNodeID(self, nodeID: str) -> None:
        if self._scene is None:
            self._requestedID = nodeID or ""
        row = self._rowOf(nodeID)
        self._combo.setCurrentIndex(row if row >= 0 else 0 if self.noneEnabled else -1)

    def setCurrentNodeIndex(self, index: int) -> None:
        index = -1 if index >= self.nodeCount() else index
        self._combo.setCurrentIndex(index + self._firstNodeRow())

    def _currentID(self) -> str:
        node = self.currentNode()
        return node.GetID() if node else ""

    currentNodeID = Property(str, _currentID, setCurrentNodeID)

    def _emitCurrent(self, *_) -> None:
        if self._quiet:
            return
        node, row = self.currentNode(), self._combo.currentIndex
        if node is None and row != (0 if self.noneEnabled else -1) and self.nodeCount():
            self.setCurrentNode(self.nodeFromIndex(self.nodeCount() - 1))  # an action row must not stay current
            return
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node else "")

    # Actions

    def addNode(self, nodeType: str | None = None):
        """What "Create new ..." does."""
        nodeType = nodeType or (self.nodeTypes[0] if self.nodeTypes else None)
        if self._scene is None or nodeType not in self.nodeTypes:
            return None
        node = self._scene.CreateNodeByClass(nodeType)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self._baseNames.get(nodeType) or self.nodeTypeLabel(nodeType)))
        for _, name, value in self._attributes:
            node.SetAttribute(name, "" if value is None else str(value))
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = node and QtWidgets.QInputDialog.getText(self, "Rename", "New name:", text=node.GetName())
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def _onClicked(self, index) -> None:
        """Action rows cannot become current; a click on one runs it."""
        command = index.data(ACTION) or ""
        if command.startswith("CREATE/"):
            self._combo.hidePopup()
            self.nodeAddedByUserAction.emit(self.addNode(command.removeprefix("CREATE/")))
        elif command:
            self._combo.hidePopup()
            {"DELETE": self.removeCurrentNode, "RENAME": self.renameCurrentNode, "EDIT": self.editCurrentNode}[
                command
            ]()

    def setBaseName(self, baseName: str, nodeType: str = "") -> None:
        for kind in [nodeType] if nodeType else self.nodeTypes:
            self._baseNames[kind] = baseName

    def _firstBaseName(self) -> str:
        return self._baseNames.get(self.nodeTypes[0], "") if self.nodeTypes else ""

    baseName = Property(str, _firstBaseName, setBaseName)

    def _appendActions(self) -> None:
        label = self.nodeTypeLabel(self.nodeTypes[0]) if len(self.nodeTypes) == 1 else "node"
        actions = [("RENAME", f"Rename current {label}")] if self.renameEnabled else []
        actions += [("EDIT", f"Edit current {label}")] if self.editEnabled else []
        if self.addEnabled:
            actions += [("CREATE/" + kind, f"Create new {self.nodeTypeLabel(kind)}") for kind in self.nodeTypes]
        actions += [("DELETE", f"Delete current {label}")] if self.removeEnabled else []
        if actions:
            separator = QtGui.QStandardItem("")
            separator.setData("separator", QtCore.Qt.ItemDataRole.AccessibleDescriptionRole)
            separator.setFlags(QtCore.Qt.ItemFlag.NoItemFlags)
            self._model.appendRow(separator)
        for command, text in actions:
            item = QtGui.QStandardItem(text)
            item.setData(command, ACTION)
            item.setFlags(QtCore.Qt.ItemFlag.ItemIsEnabled)
            self._model.appendRow(item)

    def nodeTypeLabel(self, nodeType: str) -> str:
        known = self._scene.GetTypeDisplayNameByClassName(nodeType) if self._scene and nodeType else ""
        return self._typeLabels.get(nodeType) or known or "node"

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        self._typeLabels[nodeType] = label
        self._rebuild()
