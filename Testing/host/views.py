"""Pictures of slice and 3D views, drawn offscreen by Slicer's own displayable managers (EGL, no GPU needed)."""

from __future__ import annotations

import slicer
import vtk

_SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)
_THREED_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)


class _View:
    """An offscreen window and the displayable managers that fill it."""

    def __init__(self, size: int) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)
        self.window.SetSize(size, size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)

    def attach(self, factory, names, applicationLogic, node) -> None:
        factory.SetMRMLApplicationLogic(applicationLogic)
        for name in names:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group.Initialize(factory, self.renderer)
        self.group.SetMRMLDisplayableNode(node)

    def image(self):
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.SetInputBufferTypeToRGB()
        grabber.ReadFrontBufferOff()
        grabber.Update()
        return grabber.GetOutput()

    def close(self) -> None:
        """Stop following the scene; otherwise every later change would be drawn into a dead window."""
        self.group.SetMRMLDisplayableNode(None)
        self.window.Finalize()


def sliceImage(sceneHost, name: str, centre=None, size: int = 400, fieldOfView: float = 0.0):
    """The slice view *name* ("Red", "Yellow", "Green") as vtkImageData, centred at *centre* (RAS) if given.

    *fieldOfView* is the width in mm; 0 fits the background volume.
    """
    logic = sceneHost.sliceLogics[name]
    node = logic.GetSliceNode()
    view = _View(size)
    try:
        actor = vtk.vtkActor2D()
        actor.SetMapper(vtk.vtkImageMapper())
        actor.GetMapper().SetColorWindow(255)
        actor.GetMapper().SetColorLevel(127.5)
        actor.GetProperty().SetDisplayLocationToBackground()
        # Before the managers: added later, translucent fills blend with black instead of with the image.
        view.renderer.AddViewProp(actor)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        view.attach(factory, _SLICE_MANAGERS, sceneHost.applicationLogic, node)
        logic.ResizeSliceNode(size, size)
        logic.FitSliceToBackground()
        if fieldOfView:
            depth = node.GetFieldOfView()[2]
            node.SetFieldOfView(fieldOfView, fieldOfView, depth)
        if centre is not None:
            node.JumpSliceByCentering(*centre)
        logic.UpdatePipeline()
        connection = logic.GetImageDataConnection()
        actor.SetVisibility(connection is not None)
        if connection is not None:
            actor.GetMapper().SetInputConnection(connection)
        return view.image()
    finally:
        view.close()


def threeDImage(sceneHost, size: int = 400, direction=(-0.5, 0.75, 0.35)):
    """The 3D view as vtkImageData, seen from *direction* (RAS; the default is front left, a little above)."""
    view = _View(size)
    node = sceneHost.viewNode
    try:
        # Depth peeling draws nested translucent surfaces in the right order, as Slicer's own 3D view does.
        view.renderer.SetUseDepthPeeling(True)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        view.attach(factory, _THREED_MANAGERS, sceneHost.applicationLogic, node)
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        view.renderer.GradientBackgroundOn()
        view.renderer.SetBackground(node.GetBackgroundColor())
        view.renderer.SetBackground2(node.GetBackgroundColor2())
        view.window.Render()
        bounds = view.renderer.ComputeVisiblePropBounds()
        if vtk.vtkMath.AreBoundsInitialized(bounds):
            focus = [(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]
            camera = view.renderer.GetActiveCamera()
            camera.SetFocalPoint(focus)
            camera.SetPosition([focus[axis] + direction[axis] for axis in range(3)])
            camera.SetViewUp(0, 0, 1)
            view.renderer.ResetCamera(bounds)
            camera.Zoom(1.3)
        return view.image()
    finally:
        view.close()


def _framed(image, color):
    """A view with the thin bar in Slicer's colour of that view on top, and a dark edge to its neighbours."""
    width, height, _ = image.GetDimensions()
    canvas = vtk.vtkImageCanvasSource2D()
    canvas.SetScalarTypeToUnsignedChar()
    canvas.SetNumberOfScalarComponents(3)
    canvas.SetExtent(image.GetExtent())
    canvas.DrawImage(0, 0, image)
    canvas.SetDrawColor(*(255 * channel for channel in color))
    canvas.FillBox(0, width - 1, height - 6, height - 1)
    canvas.SetDrawColor(0, 0, 0)
    canvas.FillBox(width - 2, width - 1, 0, height - 1)
    canvas.FillBox(0, width - 1, 0, 1)
    canvas.Update()
    return canvas.GetOutput()


def montage(sceneHost, path, background=None, *, centre=None, size: int = 400, fieldOfView: float = 0.0) -> None:
    """Save axial, 3D, coronal and sagittal views as one PNG, laid out like Slicer's four-up layout.

    *background* (a volume node) is shown in all slices; without it they show what setSliceViewerLayers set.
    Segmentations appear as their display nodes say: fill, outline, opacity and, if it exists, closed surface.
    """
    if background is not None:
        for logic in sceneHost.sliceLogics.values():
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(background.GetID())
    pictures = {name: sliceImage(sceneHost, name, centre, size, fieldOfView) for name in sceneHost.sliceLogics}
    pictures["1"] = threeDImage(sceneHost, size)
    colors = {name: logic.GetSliceNode().GetLayoutColor() for name, logic in sceneHost.sliceLogics.items()}
    colors["1"] = (0.45, 0.45, 0.75)
    rows = []
    for left, right in (("Green", "Yellow"), ("Red", "1")):  # VTK images start at the bottom
        row = vtk.vtkImageAppend()
        for name in (left, right):
            row.AddInputData(_framed(pictures[name], colors[name]))
        row.Update()
        rows.append(row.GetOutput())
    whole = vtk.vtkImageAppend()
    whole.SetAppendAxis(1)
    for row in rows:
        whole.AddInputData(row)
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputConnection(whole.GetOutputPort())
    writer.Write()
