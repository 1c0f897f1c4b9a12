"""The Slicer module LCKDSegment: glioma segmentation from whichever of T1, T1ce, T2 and FLAIR are loaded.

Thin: the scene, the child process and the result nodes are in LCKDSegmentLib, everything else in the package lckd.
"""

import sys
import time
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if sys.version_info < (3, 11):  # noqa: UP036 -- an older Slicer's Python; what follows would end in a syntax error
    raise ImportError("LCKDSegment needs Slicer 5.10 or later; install it, and the extension there")

from lckd.anatomy import LABELS, MODALITIES
from lckd.conditioning import shows_skull
from lckd.errors import InputError
from lckd.model_folder import load_model
from lckd.report import NOTICE, cost_sentences
from lckd.volumes import check_image
from LCKDSegmentLib import dependencies, panel, result_nodes
from LCKDSegmentLib.alignment import keep_alignment
from LCKDSegmentLib.choices import Choices
from LCKDSegmentLib.job import SegmentationJob, slicer_python
from LCKDSegmentLib.scene import (
    SAVED_UNSEEN,
    SEVERAL_STUDIES,
    Proposal,
    fingerprint,
    has_voxels,
    ijk_to_world,
    image_in_world,
    in_scene,
    propose,
)

POLL_MS = 100
GONE = _("The volume that was segmented is no longer in the scene.")
SETTLE_MS = 150  # a volume being loaded gets its name, voxels and file one after the other


class LCKDSegment(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("LCKD Segment")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "SubjectHierarchy", "Terminologies"]
        parent.contributors = ["The LCKDSegment developers"]
        parent.helpText = _(
            "Finds which of the MR sequences T1, T1ce, T2 and FLAIR are loaded and segments the glioma (enhancing "
            "tumour, tumour core, whole tumour) from whichever there are, on this computer. Research use only."
        )
        parent.acknowledgementText = _(
            "Method: Wang et al., Learnable Cross-modal Knowledge Distillation, MICCAI 2023, arXiv 2310.01035. "
            "Model trained on BraTS data (Menze 2015, Bakas 2017 and 2018, Baid 2021)."
        )
        parent.icon = qt.QIcon(str(dependencies.resource("Icons/LCKDSegment.png")))
        slicer.app.connect("startupCompleted()", registerTerminology)


def registerTerminology():
    """Offer our segments' codes in Slicer's terminology selector."""
    path = dependencies.resource("Terminology/LCKDSegment.term.json")
    slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path))


class LCKDSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.job = None
        self._starting = False
        self._before = None  # what the user had chosen when another scene began to be added
        self._started = 0.0  # when the segmentation that runs was begun
        self._use(None)
        self._proposal = Proposal()
        self._result = None  # what the table shows
        self._entered = False

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(str(dependencies.resource("UI/LCKDSegment.ui")))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = LCKDSegmentLogic()
        self.slots = panel.SequenceSlots(self.ui, self.onSequenceChosen, self.onOtherTaken)
        self.ui.noticeLabel.text = NOTICE
        self.ui.segmentButton.connect("clicked(bool)", self.onSegmentOrCancel)
        self.ui.detectButton.connect("clicked(bool)", self.onDetect)
        self.ui.studyComboBox.connect("activated(int)", self.onStudyChosen)
        self.ui.nestedCheckBox.connect("toggled(bool)", self.onNestedToggled)
        self.ui.copyButton.connect("clicked(bool)", self.onCopy)
        for name, box in self._options().items():
            box.connect("currentTextChanged(QString)", lambda text, name=name: self.onOptionChanged(name, text))
        self._poll = qt.QTimer()
        self._poll.setInterval(POLL_MS)
        self._poll.connect("timeout()", self.onPoll)
        self._settle = qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.connect("timeout()", self.fillSlots)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndBatchProcessEvent, self.refreshSoon)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodesChanged)
        # Before the selectors hear of it: a selector that loses its node chooses its neighbour.
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved, priority=1.0)
        self._entered = getattr(self.parent, "isEntered", False)  # made anew by Reload, which does not enter
        self.onSceneChanged()

    def cleanup(self):
        self.removeObservers()  # first: on quitting the widgets may be gone already
        self._settle.stop()
        self._end()
        self._use(None)  # selectors may still change while their nodes go; nobody listens any more

    def enter(self):
        self._entered = True
        self.onSceneChanged()

    def exit(self):
        """A segmentation goes on while the user looks at another module."""
        self._entered = False

    def onReload(self):
        self.cancel()
        for name in [n for n in sys.modules if n.split(".")[0] in ("lckd", "LCKDSegmentLib")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def _use(self, parameters):
        """Keep what the user sets in this parameter node; None: nowhere."""
        self._parameters = parameters
        self._choices = Choices(parameters) if parameters else None

    # What the scene says

    def onSceneStartClose(self, caller=None, event=None):
        self.cancel()
        self._use(None)
        self._before = None

    def onSceneChanged(self, caller=None, event=None):
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsImporting():
            return
        if not self._entered and not self.job:  # another module is not to wait; entering sees to it
            self._use(None)
            return
        self._use(self.logic.getParameterNode())
        if self._before:
            for name, box in self._options().items():
                self._parameters.SetParameter(name, box.currentText)
            self._choices.restore(self._before)
        self._before = None
        for name, box in self._options().items():
            box.setCurrentText(self._parameters.GetParameter(name) or "auto")
        self.ui.nestedCheckBox.checked = self._parameters.GetParameter("Nested") == "true"
        self.fillSlots()

    def onSceneStartImport(self, caller=None, event=None):
        """A scene that is added to this one brings choices of its own: those made here by hand stay."""
        self._before = self._choices.kept() if self._choices else None

    def _jobsNodes(self):
        """Modality -> the running job's volume, None where it has none or that has left the scene."""
        nodes = {modality: self.job.nodes.get(modality) for modality in MODALITIES}
        return {modality: node if in_scene(node) else None for modality, node in nodes.items()}

    def refreshSoon(self, caller=None, event=None):
        """Look at the scene once it has come to rest; on entering, if another module is shown: it is not to wait."""
        if self._entered:
            self._settle.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodesChanged(self, caller, event, node):
        if node is self._parameters:  # removed by a script or a tool that tidies the scene
            self.onSceneChanged()
        if node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLSegmentationNode"):
            self.refreshSoon()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node):
        for modality, chosen in self.slots.nodes().items():
            if chosen is node:
                self.slots.fill({modality: None})
                if self._choices and not slicer.mrmlScene.IsClosing():
                    self._choices.release(modality)
        if self._choices and node is self._choices.study:
            self._choices.keep_study(self._proposal.study_of.get(node.GetID()), self._proposal, going=node)

    def fillSlots(self):
        """Fill every slot that the user has not set from what is loaded."""
        if self._choices is None or self._starting or slicer.mrmlScene.IsBatchProcessing():
            return
        database = getattr(slicer, "dicomDatabase", None)
        self._proposal = propose(slicer.mrmlScene, database, self._choices.study)
        panel.fill_studies(self.ui.studyComboBox, self.ui.studyLabel, self._proposal)
        self.slots.fill(self._jobsNodes() if self.job else self._choices.fill(self._proposal))
        self.updatePanel()
        self.showReport()

    def onStudyChosen(self, index):
        """Show another of the loaded studies; choices made by hand were for the one before."""
        if self._choices:
            self._choices.forget()
            self._choices.keep_study(self.ui.studyComboBox.itemData(index), self._proposal)
            self.fillSlots()

    def onOtherTaken(self, modality, node_id):
        """Put the volume whose name was clicked under a slot into that slot."""
        node = slicer.mrmlScene.GetNodeByID(node_id)
        if node and self._choices:
            self.slots.fill({modality: node})
            self.onSequenceChosen(modality)

    def onDetect(self):
        """Forget the user's choices and look at the scene anew."""
        if self._choices:
            self._choices.forget()
            self.fillSlots()

    def onSequenceChosen(self, modality):
        if self._choices is None:
            return
        node = self.slots.nodes().get(modality)
        if node is not self._choices.volume(modality):  # a selector also speaks when its rows shift
            self._choices.choose(modality, node)
            shown = self._proposal.study or (node and self._proposal.study_of.get(node.GetID()))
            self._choices.keep_study(shown, self._proposal)
        self.updatePanel()
        self.showReport()

    def onOptionChanged(self, name, text):
        if self._parameters:
            self._parameters.SetParameter(name, text)

    def _options(self):
        """Parameter name -> its combo box under Advanced."""
        return {"Device": self.ui.deviceComboBox, "Register": self.ui.registerComboBox, "Brain": self.ui.brainComboBox}

    # What the panel shows

    def updatePanel(self):
        chosen = self.slots.nodes()
        self.slots.explain(self._proposal)
        problem = self.logic.problem(chosen)
        running = self.job is not None
        self.ui.segmentButton.text = _("Cancel") if running else _("Segment")
        self.ui.segmentButton.enabled = not self._starting and (running or problem is None)
        ready = _("Segment from {sequences}").format(sequences=", ".join(chosen))
        self.ui.segmentButton.toolTip = _("Stop the segmentation; nothing is kept") if running else problem or ready
        free = not running and not self._starting
        self.slots.enable(free)
        self.ui.detectButton.enabled = self.ui.studyComboBox.enabled = free
        self.ui.progressBar.visible = running
        self.ui.statusLabel.visible = running
        lines = [problem] if problem else self.logic.costSentences(tuple(chosen))
        if self._proposal.several_studies(chosen):
            lines.append(f"⚠ {SEVERAL_STUDIES}")
        elif self._proposal.patient_untold(chosen):
            lines.append(f"⚠ {SAVED_UNSEEN}")
        self.ui.costLabel.text = "\n".join(lines)

    def showReport(self):
        """The result of the study at hand: the last one made, or another of the same study."""
        result = self._resultOfStudy()
        if result is not self._result:
            event = slicer.vtkSegmentation.SourceRepresentationModified
            if self._result:
                self.removeObserver(self._result.GetSegmentation(), event, self.refreshSoon)
            if result:
                self.addObserver(result.GetSegmentation(), event, self.refreshSoon)
            self._result = result
        report = result_nodes.current_report(result)
        panel.fill_table(self.ui.volumeTable, report)
        self.ui.resultButton.visible = report is not None
        self.ui.resultButton.text = panel.result_title(result.GetName(), report) if report else _("Result")
        self.ui.warningLabel.text = "\n".join(f"⚠ {warning}" for warning in report["warnings"]) if report else ""
        self.ui.warningLabel.visible = bool(report and report["warnings"])
        self.ui.show3DButton.setSegmentationNode(result)
        if result and self._parameters:
            nested = result_nodes.shows_nested(result)
            self._parameters.SetParameter("Nested", "true" if nested else "false")  # first: the box tells of its change
            self.ui.nestedCheckBox.checked = nested

    def _resultOfStudy(self):
        last = self._parameters.GetNodeReference("Result") if self._parameters else None
        gone = last and result_nodes.report_of(last) and result_nodes.reference_of(last) is None
        if gone and not self.slots.nodes():  # beside another patient's volumes it would be taken for that one's
            return last
        found = result_nodes.results_of(slicer.mrmlScene, self._proposal.volumes_beside(self.slots.nodes()))
        return last if last in found else found[-1] if found else None

    def onNestedToggled(self, nested):
        value = "true" if nested else "false"
        if self._parameters is None or self._parameters.GetParameter("Nested") == value:
            return
        if self._result and not nested and result_nodes.nested_edited(self._result):
            words = _("What you have edited of tumour core and whole tumour will be lost.")
            if not slicer.util.confirmOkCancelDisplay(words):
                self.ui.nestedCheckBox.checked = True
                return
        self._parameters.SetParameter("Nested", value)
        if self._result:
            result_nodes.set_nested(self._result, nested)

    def onCopy(self):
        if self._result:
            report = result_nodes.current_report(self._result)
            qt.QApplication.clipboard().setText(panel.as_text(self._result.GetName(), report))

    # The segmentation

    def onSegmentOrCancel(self):
        if self.job:
            if time.monotonic() > self._started + qt.QApplication.doubleClickInterval() / 1000:  # else a double click
                self.cancel()
            return
        # Installing packages lets events through: a second click must find the button off, and what is segmented is
        # what the user has seen.
        self._starting = True
        nodes, proposal = self.slots.nodes(), self._proposal
        self.updatePanel()
        try:
            with slicer.util.tryWithErrorDisplay(_("The segmentation could not be started.")):
                if dependencies.ensure() and self._parameters:
                    self.ui.logText.setPlainText("")
                    options = {name.lower(): box.currentText for name, box in self._options().items()}
                    self.job = self.logic.start(nodes, proposal=proposal, **options)
                    self._poll.start()
                    if self._choices:  # whatever is loaded while it runs
                        self._choices.keep_study(proposal.study, proposal)
        finally:
            self._started = time.monotonic()
            self._starting = False
            self.updatePanel()
            self.refreshSoon()  # what was loaded meanwhile

    def onPoll(self):
        if self.job is None:
            return
        for line in self.job.poll():
            self.ui.logText.appendPlainText(line)
        self.ui.progressBar.value = self.job.percent
        self.ui.statusLabel.text = panel.status(self.job.stage, self.job.seconds_left)
        if self.job.finished:
            self._finish()

    def cancel(self):
        """Kill the running segmentation, if any; nothing of it stays."""
        if self.job:
            self._end()
            self.updatePanel()

    def _end(self):
        self._poll.stop()
        job, self.job = self.job, None
        if job:
            job.close()

    def _finish(self):
        self._poll.stop()
        job, self.job = self.job, None
        try:
            with slicer.util.tryWithErrorDisplay(_("The segmentation failed.")):
                result = self.logic.showResult(
                    job, self.logic.getParameterNode(), self.ui.nestedCheckBox.checked, jump=self._entered
                )
                elsewhere = {
                    m for m, found in job.report["alignment"].items() if found["to_volume"] or found["refused"]
                }
                if self.ui.keepTransformsCheckBox.checked:
                    found = job.report["alignment"]
                    keep_alignment(slicer.mrmlScene, job.nodes, job.places, job.report["reference"], found)
                    elsewhere = set()
                if self._entered:
                    on_reference = {node.GetID() for m, node in job.nodes.items() if m not in elsewhere}
                    study = self.logic.studyOfJob(job)
                    result_nodes.show_alone(result, job.nodes[job.report["reference"]], study, on_reference)
                else:  # the views show what the user has turned to meanwhile, perhaps another patient
                    slicer.util.showStatusMessage(_("{name} is ready").format(name=result.GetName()))
        finally:
            job.close()
            self.updatePanel()
            self.showReport()
            self.refreshSoon()  # what was loaded meanwhile


class LCKDSegmentLogic(ScriptedLoadableModuleLogic):
    """Everything the panel does, for scripts: ``LCKDSegmentLogic().segment({"FLAIR": node})``."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._model = None
        self.python = slicer_python()

    @property
    def model(self):
        """The bundled model, checked once. Raises InputError when it is missing or damaged."""
        self._model = self._model or load_model(None)
        return self._model

    def problem(self, nodes):
        """Why these volumes (modality -> node) cannot be segmented, or None."""
        if not nodes:
            return _("Load at least one of T1, T1ce, T2 and FLAIR, or choose it above.")
        if unknown := [modality for modality in nodes if modality not in MODALITIES]:
            return _("{unknown} is no sequence; the sequences are {known}.").format(
                unknown=unknown[0], known=", ".join(MODALITIES)
            )
        names = {}
        for modality, node in nodes.items():
            if node is None or not has_voxels(node):
                return _("{volume} holds no voxels; load it again, or choose another for {modality}.").format(
                    volume=node.GetName() if node else "None", modality=modality
                )
            if not in_scene(node):
                return GONE
            if node.GetID() in names:
                return _("{volume} is chosen for both {first} and {second}; choose another for one of them.").format(
                    volume=node.GetName(), first=names[node.GetID()], second=modality
                )
            names[node.GetID()] = modality
        return None

    def costSentences(self, available):
        """What is missing and what that costs, by the model card."""
        try:
            return cost_sentences(tuple(m for m in MODALITIES if m in available), self.model)
        except InputError as error:
            return [str(error)]

    def start(self, nodes, device="auto", register="auto", brain="auto", proposal=None):
        """Start segmenting volumes (modality -> node) in a child process; returns the job. Raises InputError.

        Args:
            proposal: what the scene was found to hold, for the report: why a volume was taken for its sequence.
        """
        if problem := self.problem(nodes):
            raise InputError(problem)
        found = proposal or Proposal()
        beside = {m: found.volumes_beside({m: node}) for m, node in nodes.items()}
        studies = {m: [slicer.mrmlScene.GetNodeByID(node_id) for node_id in ids] for m, ids in beside.items()}
        images = {m: check_image(image_in_world(node), Path(node.GetName())) for m, node in nodes.items()}
        places = {m: ijk_to_world(node) for m, node in nodes.items()}
        if brain == "always" or (brain == "auto" and any(shows_skull(image) for image in images.values())):
            dependencies.offer_brain_extraction()
            if problem := self.problem(nodes):  # installing lets events through
                raise InputError(problem)
        inputs = {modality: {"volume": node.GetName()} for modality, node in nodes.items()}
        for modality, node in nodes.items():
            if proposal and proposal.nodes.get(modality) is node:  # else it was given by the user
                finding = proposal.findings[node.GetID()]
                inputs[modality] |= {"confidence": round(finding.confidence, 3), "why": finding.evidence}
        warnings = proposal.doubts(nodes) if proposal else []
        folder = Path(__file__).resolve().parent
        options = {"device": device, "register": register, "brain": brain}
        job = SegmentationJob(images, inputs, self.python, folder, options, slicer.app.temporaryPath, warnings)
        # The nodes, not their IDs, which are given anew to what is loaded when they have gone.
        job.nodes, job.studies, job.places = dict(nodes), studies, places
        job.fingerprints = {modality: fingerprint(node) for modality, node in nodes.items()}
        return job

    def studyOfJob(self, job):
        """The node IDs of the volumes, still in the scene, of the study whose reference a finished job has."""
        return {node.GetID() for node in job.studies[job.report["reference"]] if in_scene(node)}

    def showResult(self, job, parameters, nested, jump=True):
        """Bring a finished job's result into the scene; returns the segmentation node. Raises InputError.

        Args:
            jump: move the slice views to the tumour.
        """
        if job.status != 0 or job.report is None:
            raise InputError(job.error())
        reference = job.nodes[job.report["reference"]]
        if not in_scene(reference):
            raise InputError(GONE)
        labels = result_nodes.read_labels(job.labels_path)
        same = has_voxels(reference) and fingerprint(reference) == job.fingerprints[job.report["reference"]]
        if not same or labels.shape != reference.GetImageData().GetDimensions()[::-1]:
            raise InputError(_("The volume that was segmented has changed meanwhile; click Segment again."))
        held = result_nodes.make_room(slicer.mrmlScene, self.studyOfJob(job), reference)
        node = result_nodes.show_result(slicer.mrmlScene, labels, reference, job.report, nested, held)
        parameters.SetNodeReferenceID("Result", node.GetID())
        if jump:
            result_nodes.jump_to_tumour(labels, reference)
        return node

    def segment(self, nodes, device="auto", nested=False, **options):
        """Segment and wait; returns the segmentation node. For scripts and tests: the panel does not wait."""
        job = self.start(nodes, device, **options)
        try:
            while not job.finished:
                job.poll()
                slicer.app.processEvents()
                time.sleep(POLL_MS / 1000)
            return self.showResult(job, self.getParameterNode(), nested)
        finally:
            job.close()


class LCKDSegmentTest(ScriptedLoadableModuleTest):
    """Self-tests without network or GPU; a segmentation is run only where torch is installed."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for test in (self.test_Detection, self.test_SameVolumeTwice, self.test_Segment):
            self.setUp()
            test()

    def test_Detection(self):
        self.delayDisplay("Detection from names")
        for name in ("case_t1", "case_t1ce", "case_t2", "case_flair", "case_seg", "case_adc"):
            self._addBrain(name)
        found = {modality: node.GetName() for modality, node in propose(slicer.mrmlScene).nodes.items()}
        expected = {"T1": "case_t1", "T1ce": "case_t1ce", "T2": "case_t2", "FLAIR": "case_flair"}
        self.assertEqual(found, expected)

    def test_SameVolumeTwice(self):
        self.delayDisplay("The same volume in two slots is refused")
        node = self._addBrain("case_t1")
        logic = LCKDSegmentLogic()
        self.assertIsNone(logic.problem({"T1": node}))
        self.assertIn("both T1 and T2", logic.problem({"T1": node, "T2": node}))
        self.assertIsNotNone(logic.problem({}))

    def test_Segment(self):
        if missing := dependencies.missing():
            self.delayDisplay(f"Segmentation not tested: {', '.join(missing)} not installed")
            return
        self.delayDisplay("Segmentation in a child process")
        node = self._addBrain("case_flair")
        result = LCKDSegmentLogic().segment({"FLAIR": node}, device="cpu")
        segmentation = result.GetSegmentation()
        self.assertEqual([segmentation.GetNthSegmentID(i) for i in range(3)], list(LABELS))
        report = result_nodes.report_of(result)
        self.assertEqual(list(report["inputs"]), ["FLAIR"])
        self.assertEqual([m["modality"] for m in report["missing"]], ["T1", "T1ce", "T2"])

    def _addBrain(self, name):
        """A small stripped 'brain': an ellipsoid with a bright ball in it."""
        k, j, i = np.mgrid[-1:1:48j, -1:1:48j, -1:1:48j]
        array = np.where(k**2 + j**2 + i**2 < 0.8, 100 + 20 * i, 0)
        array = np.where((k - 0.2) ** 2 + (j - 0.3) ** 2 + i**2 < 0.05, 200, array).astype(np.int16)
        node = slicer.util.addVolumeFromArray(array, name=name)
        node.SetSpacing(3, 3, 3)
        return node
