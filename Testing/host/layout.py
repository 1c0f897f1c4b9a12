"""``slicer.app.layoutManager()``: the view nodes and logics are real, there are no view widgets behind them."""

from __future__ import annotations

import vtk


class SliceWidget:
    """What code reaches through layoutManager().sliceWidget(name)."""

    def __init__(self, logic) -> None:
        self._logic = logic

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceController(self):
        return self

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class ThreeDWidget:
    """What code reaches through layoutManager().threeDWidget(index), and its threeDView()."""

    def __init__(self, sceneHost) -> None:
        self._sceneHost = sceneHost
        self.focalPointResets = 0

    def threeDView(self):
        return self

    def mrmlViewNode(self):
        return self._sceneHost.viewNode

    def resetFocalPoint(self) -> None:
        self.focalPointResets += 1

    def resetCamera(self) -> None:
        self.focalPointResets += 1

    def forceRender(self) -> None:
        pass


class LayoutManager:
    """The part of qSlicerLayoutManager that scripted modules and slicer.util use."""

    threeDViewCount = 1
    tableViewCount = 0
    plotViewCount = 0

    def __init__(self, sceneHost) -> None:
        self._slices = {name: SliceWidget(logic) for name, logic in sceneHost.sliceLogics.items()}
        self._threeD = ThreeDWidget(sceneHost)
        self.layout = 3  # vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self.resets: list[str] = []

    def setLayout(self, layout: int) -> None:
        self.layout = layout

    def sliceViewNames(self) -> list[str]:
        return list(self._slices)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._slices.get(name)

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        return self._threeD if index == 0 else None

    def mrmlSliceLogics(self):
        logics = vtk.vtkCollection()
        for widget in self._slices.values():
            logics.AddItem(widget.sliceLogic())
        return logics

    def resetSliceViews(self) -> None:
        self.resets.append("slices")
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        self.resets.append("3D")
        self._threeD.resetFocalPoint()
