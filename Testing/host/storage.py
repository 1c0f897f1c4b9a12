"""``slicer.app.coreIOManager()``: reading and writing nodes, so that slicer.util's load/save/export functions work."""

from __future__ import annotations

import os

_SCENE_FILES = (".mrml", ".mrb")
_SEGMENTATION_FILES = (".seg.nrrd", ".seg.nhdr", ".seg.vtm")

# File type -> node class, for the types that need no more than the node's default storage node.
_PLAIN_TYPES = {
    "ModelFile": "vtkMRMLModelNode",
    "TransformFile": "vtkMRMLLinearTransformNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
    "MarkupsFile": "vtkMRMLMarkupsFiducialNode",
}
_TYPE_BY_EXTENSION = {
    ".vtk": "ModelFile", ".vtp": "ModelFile", ".stl": "ModelFile", ".ply": "ModelFile", ".obj": "ModelFile",
    ".tfm": "TransformFile", ".h5": "TransformFile", ".ctbl": "ColorTableFile", ".csv": "TableFile",
    ".tsv": "TableFile", ".txt": "TextFile", ".json": "TextFile", ".mrk.json": "MarkupsFile", ".fcsv": "MarkupsFile",
}  # fmt: skip


class IOManager:
    """The part of qSlicerCoreIOManager that slicer.util calls, over MRML storage nodes."""

    def __init__(self, sceneHost) -> None:
        self._host = sceneHost
        self._scene = sceneHost.scene

    def fileType(self, fileName) -> str:
        """The reader that Slicer would pick for the file's extension."""
        lower = str(fileName).lower()
        if lower.endswith(_SCENE_FILES):
            return "SceneFile"
        if lower.endswith(_SEGMENTATION_FILES):
            return "SegmentationFile"
        matching = [extension for extension in _TYPE_BY_EXTENSION if lower.endswith(extension)]
        return _TYPE_BY_EXTENSION[max(matching, key=len)] if matching else "VolumeFile"

    def loadNodes(self, fileType: str, properties: dict, loadedNodes=None, userMessages=None) -> bool:
        fileName = str(properties["fileName"])
        if not os.path.exists(fileName):
            return False
        if fileType == "SceneFile":
            return self._loadScene(fileName, properties.get("clear", False))
        if fileType == "VolumeFile":
            node = self._loadVolume(fileName, properties)
        elif fileType == "SegmentationFile":
            node = self._loadSegmentation(fileName, properties)
        elif fileType in _PLAIN_TYPES:
            node = self._loadPlain(_PLAIN_TYPES[fileType], fileName, properties)
        else:
            raise NotImplementedError(f"The test host has no reader for {fileType}")
        if node and loadedNodes is not None:
            loadedNodes.AddItem(node)
        return bool(node)

    def _loadScene(self, fileName: str, clear: bool) -> bool:
        if clear:
            self._scene.Clear(False)
        if fileName.lower().endswith(".mrb"):
            return bool(self._scene.ReadFromMRB(fileName, False))
        self._scene.SetURL(fileName)
        self._scene.SetRootDirectory(os.path.dirname(fileName))
        return bool(self._scene.Import())

    def _loadVolume(self, fileName: str, properties: dict):
        flags = ("labelmap", "center", "singleFile", "autoWindowLevel", "discardOrientation")
        options = sum(1 << bit for bit, flag in enumerate(flags) if properties.get(flag, flag == "autoWindowLevel"))
        name = properties.get("name") or _baseName(fileName)
        return self._host.logics["Volumes"].AddArchetypeVolume(fileName, name, options)

    def _loadSegmentation(self, fileName: str, properties: dict):
        logic = self._host.logics["Segmentations"]
        name = properties.get("name") or _baseName(fileName)
        color = self._scene.GetNodeByID(properties.get("colorNodeID", ""))
        return logic.LoadSegmentationFromFile(fileName, properties.get("autoOpacities", True), name, color)

    def _loadPlain(self, className: str, fileName: str, properties: dict):
        node = self._scene.AddNewNodeByClass(className, properties.get("name") or _baseName(fileName))
        node.AddDefaultStorageNode(fileName)
        storage = node.GetStorageNode()
        if storage is None or not storage.ReadData(node):
            self._scene.RemoveNode(node)
            return None
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def fileWriterFileType(self, node) -> str:
        return node.GetClassName()

    def fileWriterExtensions(self, node) -> list[str]:
        """Formats like "NRRD (.nrrd)" that the node can be written in."""
        types = self._newStorage(node).GetSupportedWriteFileTypes()
        return [types.GetValue(index) for index in range(types.GetNumberOfValues())]

    def extractKnownExtension(self, fileName, node) -> str:
        return self._newStorage(node).GetSupportedFileExtension(str(fileName), False, True)

    def saveNodes(self, fileType: str, properties: dict, userMessages=None) -> bool:
        fileName = str(properties["fileName"])
        if fileType == "SceneFile":
            self._scene.SetURL(fileName)
            self._scene.SetRootDirectory(os.path.dirname(fileName))
            bundle = fileName.lower().endswith(".mrb")
            return bool(self._scene.WriteToMRB(fileName) if bundle else self._scene.Commit())
        node = self._scene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode(fileName)
        node.GetStorageNode().SetFileName(fileName)
        return bool(node.GetStorageNode().WriteData(node))

    def exportNodes(self, nodeIDs, fileNames, properties, hardenTransform: bool, userMessages=None) -> bool:
        """Write copies: the nodes in the scene keep their storage node, file name and transform."""
        for nodeID, fileName in zip(nodeIDs, fileNames, strict=True):
            node = self._scene.GetNodeByID(nodeID)
            if not self._exportNode(node, str(fileName), properties, hardenTransform):
                return False
        return True

    def _exportNode(self, node, fileName: str, properties: dict, hardenTransform: bool) -> bool:
        copy = None
        if hardenTransform and node.IsA("vtkMRMLTransformableNode") and node.GetParentTransformNode():
            copy = self._scene.AddNewNodeByClass(node.GetClassName(), node.GetName())
            copy.CopyContent(node)
            copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
            copy.HardenTransform()
        try:
            storage = self._newStorage(node)
            storage.SetFileName(fileName)
            if "useCompression" in properties:
                storage.SetUseCompression(int(properties["useCompression"]))
            return bool(storage.WriteData(copy or node))
        finally:
            if copy is not None:
                self._scene.RemoveNode(copy)

    def _newStorage(self, node):
        """A storage node of the right class outside the scene, which it must know to list its formats."""
        storage = self._scene.CreateNodeByClass(node.GetDefaultStorageNodeClassName())
        if storage is None:
            raise RuntimeError(f"{node.GetClassName()} has no storage node")
        storage.UnRegister(None)
        storage.SetScene(self._scene)
        return storage


def _baseName(fileName: str) -> str:
    """File name without directory and (possibly double) extension, as Slicer names loaded nodes."""
    name = os.path.basename(fileName)
    known = (*_SEGMENTATION_FILES, ".nii.gz", ".mrk.json")
    extension = next((item for item in known if name.lower().endswith(item)), os.path.splitext(name)[1])
    return name.removesuffix(extension) if name.endswith(extension) else name[: -len(extension)]
