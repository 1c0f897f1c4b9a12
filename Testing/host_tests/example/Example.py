"""A small scripted module in the usual Slicer style, to exercise the host."""

import os

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import *  # noqa: F403 - the way every Slicer module does it
from slicer.util import VTKObservationMixin


class Example(ScriptedLoadableModule):  # noqa: F405
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Example")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["Nobody"]
        parent.helpText = _("Thresholds a volume.") + self.getDefaultModuleDocumentationLink()
        self.started = 0
        slicer.app.connect("startupCompleted()", self.onStartup)

    def onStartup(self):
        self.started += 1


class ExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):  # noqa: F405
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)  # noqa: F405
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.timer = None
        self.entered = 0
        self.updating = False

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Example.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ExampleLogic()
        self.ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onInputChanged)
        self.ui.outputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onOutputChanged)
        self.ui.thresholdSlider.connect("valueChanged(double)", self.onThresholdChanged)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.timer = qt.QTimer()
        self.timer.setInterval(10)
        self.timer.connect("timeout()", self.onTimer)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.updateButton()

    def enter(self):
        self.entered += 1
        self.updateFromParameterNode()

    def cleanup(self):
        self.timer.stop()
        self.removeObservers()

    def onSceneEndClose(self, caller, event):
        self.updateFromParameterNode()

    def updateFromParameterNode(self):
        node = self.logic.getParameterNode()
        if not node.GetNodeReference("Input"):
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            node.SetNodeReferenceID("Input", first.GetID() if first else None)
        self.ui.inputSelector.setCurrentNode(node.GetNodeReference("Input"))
        self.ui.thresholdSlider.value = float(node.GetParameter("Threshold") or "100")
        self.updateButton()

    def onInputChanged(self, node):
        self.logic.getParameterNode().SetNodeReferenceID("Input", node.GetID() if node else None)
        self.updateButton()

    def onOutputChanged(self, node):
        self.ui.segmentsTable.setSegmentationNode(node)
        self.ui.show3DButton.setSegmentationNode(node)

    def onThresholdChanged(self, value):
        self.logic.getParameterNode().SetParameter("Threshold", str(value))

    def updateButton(self):
        ready = self.ui.inputSelector.currentNode() is not None
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Run") if ready else _("Select an input volume")

    def onApply(self):
        self.ui.progressBar.value = 0
        self.ui.statusLabel.text = _("Running...")
        self.timer.start()

    def onTimer(self):
        self.ui.progressBar.value += 25
        if self.ui.progressBar.value < 100:
            return
        self.timer.stop()
        with slicer.util.tryWithErrorDisplay(_("Failed."), waitCursor=True):
            node = self.logic.process(self.ui.inputSelector.currentNode(), self.ui.thresholdSlider.value)
            self.ui.outputSelector.setCurrentNode(node)
        self.ui.statusLabel.text = _("Done")


class ExampleLogic(ScriptedLoadableModuleLogic):  # noqa: F405
    def process(self, volume, threshold):
        """Return a segmentation node of all voxels above the threshold."""
        if volume.GetName() == "Bad":
            raise ValueError("bad volume")
        mask = (slicer.util.arrayFromVolume(volume) > threshold).astype("uint8")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", volume.GetName() + " segmentation")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segmentID = node.GetSegmentation().AddEmptySegment("", _("Bright"))
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentID, volume)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        return node


class ExampleTest(ScriptedLoadableModuleTest):  # noqa: F405
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_Example1()

    def test_Example1(self):
        self.delayDisplay("Starting the test")
        self.assertTrue(os.path.isfile(slicer.util.modulePath("Example")))
        self.assertIsInstance(ExampleLogic().getParameterNode(), slicer.vtkMRMLScriptedModuleNode)
        self.assertTrue(vtk.VTK_VERSION)
        self.delayDisplay("Test passed")
