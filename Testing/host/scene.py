"""The MRML scene with everything around it that Slicer's C++ application sets up and slicer-core leaves to its user."""

from __future__ import annotations

import slicer
import vtk

# Module name -> logic class. The names are those under which the application logic knows the modules.
_LOGICS = {
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}

# Slicer's default slice views: name -> (orientation, colour of the view bar).
SLICE_VIEWS = {
    "Red": ("Axial", (0.96, 0.31, 0.25)),
    "Yellow": ("Sagittal", (0.93, 0.84, 0.29)),
    "Green": ("Coronal", (0.43, 0.69, 0.29)),
}


class SceneHost:
    """Scene, application logic, module logics, slice and 3D view logics. Keep it alive as long as the scene."""

    def __init__(self, temporaryPath: str, terminologyFolder: str | None = None) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.applicationLogic = slicer.vtkSlicerApplicationLogic()
        self.applicationLogic.SetTemporaryPath(temporaryPath)
        self.applicationLogic.SetMRMLScene(self.scene)
        self._addSingletons()
        self._addDataIO(temporaryPath)
        self.logics = {"Colors": self._colorLogic()}
        for name, className in _LOGICS.items():
            logic = getattr(slicer, className)()
            if name == "Terminologies":
                self._addTerminologies(logic, terminologyFolder)
            self.logics[name] = self._moduleLogic(name, logic)
        self._addViews()
        self._followSubjectHierarchy()

    def _addSingletons(self) -> None:
        for className, setUp in (
            ("vtkMRMLCrosshairNode", lambda node: node.SetCrosshairName("default")),
            ("vtkMRMLSelectionNode", lambda node: node.SetSingletonTag("Singleton")),
            ("vtkMRMLInteractionNode", lambda node: node.SetSingletonTag("Singleton")),
        ):
            if self.scene.GetNumberOfNodesByClass(className):
                continue  # the application logic makes some of these itself
            node = getattr(slicer, className)()
            setUp(node)
            self.scene.AddNode(node)

    def _addDataIO(self, temporaryPath: str) -> None:
        """Without a data IO manager on the scene, volume storage nodes know no formats to write."""
        self.remoteIO = slicer.vtkMRMLRemoteIOLogic()
        self.remoteIO.SetMRMLApplicationLogic(self.applicationLogic)
        self.remoteIO.SetMRMLScene(self.scene)
        self.remoteIO.GetCacheManager().SetRemoteCacheDirectory(temporaryPath)
        self.dataIO = slicer.vtkDataIOManagerLogic()
        self.dataIO.SetMRMLApplicationLogic(self.applicationLogic)
        self.dataIO.SetMRMLScene(self.scene)
        self.dataIO.SetAndObserveDataIOManager(self.remoteIO.GetDataIOManager())
        self.remoteIO.AddDataIOToScene()

    def _colorLogic(self):
        logic = self.applicationLogic.GetColorLogic()
        logic.SetMRMLScene(self.scene)
        logic.AddDefaultColorNodes()
        return self._moduleLogic("Colors", logic)

    def _moduleLogic(self, name: str, logic):
        logic.SetMRMLApplicationLogic(self.applicationLogic)
        logic.SetMRMLScene(self.scene)
        self.applicationLogic.SetModuleLogic(name, logic)
        return logic

    def _addTerminologies(self, logic, folder: str | None) -> None:
        """The wheel lacks Slicer's terminology files; without a folder of them, keep the complaints off the log."""
        if folder:
            logic.SetModuleShareDirectory(folder)
            return
        vtk.vtkObject.GlobalWarningDisplayOff()
        try:
            logic.SetMRMLScene(self.scene)
        finally:
            vtk.vtkObject.GlobalWarningDisplayOn()

    def _addViews(self) -> None:
        """The view nodes that Slicer's layout manager makes; modules change them through slicer.util."""
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        sliceLogics, viewLogics = vtk.vtkCollection(), vtk.vtkCollection()
        self.applicationLogic.SetSliceLogics(sliceLogics)
        self.applicationLogic.SetViewLogics(viewLogics)
        self.sliceLogics = {}
        for name, (orientation, color) in SLICE_VIEWS.items():
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self.applicationLogic)
            logic.SetMRMLScene(self.scene)
            node = logic.AddSliceNode(name)
            node.SetOrientation(orientation)
            node.SetLayoutColor(*color)
            node.SetMappedInLayout(1)
            sliceLogics.AddItem(logic)
            self.sliceLogics[name] = logic
        self.viewLogic = slicer.vtkMRMLViewLogic()
        self.viewLogic.SetMRMLApplicationLogic(self.applicationLogic)
        self.viewLogic.SetMRMLScene(self.scene)
        self.viewLogic.AddViewNode("1").SetMappedInLayout(1)
        viewLogics.AddItem(self.viewLogic)

    @property
    def viewNode(self):
        """The 3D view's node, from the scene because the view logic loses it when the scene is closed."""
        return self.scene.GetSingletonNode("1", "vtkMRMLViewNode") or self.viewLogic.AddViewNode("1")

    def _followSubjectHierarchy(self) -> None:
        """Qt plugins keep the subject hierarchy in step with the scene; here two observers do."""
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)

        def hierarchy():
            # Asked for each time, because closing a scene replaces the node; None while the scene is being closed.
            if self.scene.IsClosing():
                return None
            return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)

        def onAdded(caller, event, node):
            if _belongsInHierarchy(node) and (tree := hierarchy()) and not tree.GetItemByDataNode(node):
                tree.CreateItem(tree.GetSceneItemID(), node)

        def onRemoved(caller, event, node):
            if _belongsInHierarchy(node) and (tree := hierarchy()) and (item := tree.GetItemByDataNode(node)):
                tree.RemoveItem(item, False, False)

        for event, method in (("NodeAddedEvent", onAdded), ("NodeAboutToBeRemovedEvent", onRemoved)):
            method.CallDataType = vtk.VTK_OBJECT
            self.scene.AddObserver(getattr(slicer.vtkMRMLScene, event), method)


def _belongsInHierarchy(node) -> bool:
    """Whether Slicer lists the node in the Data module: data nodes yes, view, camera and hidden nodes no."""
    shown = ("vtkMRMLDisplayableNode", "vtkMRMLTransformNode", "vtkMRMLTableNode", "vtkMRMLTextNode")
    return (
        node is not None
        and not node.GetHideFromEditors()
        and not node.IsA("vtkMRMLCameraNode")
        and any(node.IsA(name) for name in shown)
    )
