"""The panel as a user meets it: slots fill, Segment runs, Cancel leaves nothing, errors are one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
from editing import erase

from lckd.anatomy import LABELS, MODALITIES, STRUCTURES
from lckd.report import expectation
from LCKDSegmentLib import dependencies, result_nodes

LONG = 120  # seconds that a segmentation may take on a busy machine


def load(sequence, *modalities):
    return {modality: slicer.util.loadVolume(str(sequence(modality))) for modality in modalities}


def settle(host):
    host.process(0.4)


def temporary_folders():
    return set(Path(slicer.app.temporaryPath).glob("LCKDSegment-*"))


def alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def running(host, panel, sequence):
    """A segmentation in its network stage."""
    load(sequence, "FLAIR")
    settle(host)
    panel.ui.deviceComboBox.setCurrentText("cpu")
    panel.ui.segmentButton.click()
    assert host.process(LONG, lambda: panel.job is None or panel.job.percent >= 5)
    assert panel.job is not None
    return panel


def test_module_loads_without_torch(tmp_path):
    """What Slicer does at start-up, in a Python without torch and monai."""
    code = (
        "import sys; sys.modules.update({'torch': None, 'monai': None, 'safetensors': None, 'PIL': None})\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from host import boot\n"
        "host = boot()\n"
        f"module, widget = host.loadModule({str(Path(__file__).parents[2] / 'LCKDSegment' / 'LCKDSegment.py')!r})\n"
        "host.enter('LCKDSegment')\n"
        "print(widget.ui.segmentButton.enabled, widget.ui.segmentButton.toolTip)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "False Load at least one" in done.stdout


def test_nothing_loaded(panel):
    assert not panel.ui.segmentButton.enabled
    assert "Load at least one" in panel.ui.segmentButton.toolTip
    assert "Research use only" in panel.ui.noticeLabel.text


def test_slots_fill_as_volumes_come_and_go(host, panel, sequence):
    nodes = load(sequence, *MODALITIES)
    settle(host)
    assert {m: n.GetID() for m, n in panel.slots.nodes().items()} == {m: n.GetID() for m, n in nodes.items()}
    assert "flair" in panel.ui.reasonFLAIR.text
    assert panel.ui.segmentButton.enabled
    slicer.mrmlScene.RemoveNode(nodes["T1ce"])
    settle(host)
    assert list(panel.slots.nodes()) == ["T1", "T2", "FLAIR"]
    assert "T1ce" in panel.ui.costLabel.text and "missing" in panel.ui.costLabel.text
    assert expectation(("T1", "T2", "FLAIR"), panel.logic.model) in panel.ui.costLabel.text
    assert panel.ui.segmentButton.enabled


def test_choice_of_the_user_stays(host, panel, sequence):
    nodes = load(sequence, "T1", "T2")
    settle(host)
    panel.ui.selectorT1ce.setCurrentNode(nodes["T1"])
    assert not panel.ui.segmentButton.enabled
    assert "both T1 and T1ce" in panel.ui.segmentButton.toolTip
    panel.ui.selectorT1.setCurrentNode(None)
    load(sequence, "FLAIR")
    settle(host)
    assert list(panel.slots.nodes()) == ["T1ce", "T2", "FLAIR"]
    assert "looks like T1" in panel.ui.reasonT1ce.text
    panel.ui.detectButton.click()
    assert list(panel.slots.nodes()) == ["T1", "T2", "FLAIR"]


def test_choices_are_saved_with_the_scene(host, panel, sequence, tmp_path):
    nodes = load(sequence, "T1", "T2")
    settle(host)
    panel.ui.selectorFLAIR.setCurrentNode(nodes["T1"])
    panel.ui.selectorT1.setCurrentNode(None)
    panel.ui.deviceComboBox.setCurrentText("cpu")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    settle(host)
    assert panel.slots.nodes() == {}
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    settle(host)
    assert {m: n.GetName() for m, n in panel.slots.nodes().items()} == {
        "T2": nodes["T2"].GetName(),
        "FLAIR": nodes["T1"].GetName(),
    }
    assert panel.ui.deviceComboBox.currentText == "cpu"


@pytest.fixture
def two_patients(host, panel, sequence, tmp_path):
    """The first, of whom T1 was emptied by hand, and then the second, more complete."""
    for name, modalities in {"patient1": ("T1", "FLAIR"), "patient2": ("T1", "T1ce", "T2")}.items():
        nodes = load(sequence, *modalities)
        for modality, node in nodes.items():
            node.SetName(f"{name}_{modality.lower()}")
            node.GetStorageNode().SetFileName(str(tmp_path / name / f"{modality}.nii.gz"))
        settle(host)
        if name == "patient1":
            panel.ui.selectorT1.setCurrentNode(None)
    return panel


def shown(panel):
    return {modality: node.GetName() for modality, node in panel.slots.nodes().items()}


def test_a_choice_by_hand_keeps_the_study(host, two_patients, tmp_path):
    panel = two_patients
    assert shown(panel) == {"FLAIR": "patient1_flair"}
    assert panel.ui.reasonT1.text == "left empty" and "take patient1_t1" in panel.ui.otherT1.text
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("patient1_t1"))
    settle(host)
    assert shown(panel) == {"FLAIR": "patient1_flair"}
    assert panel.ui.reasonT1.text == "not loaded"
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("patient1_flair"))
    settle(host)
    assert list(shown(panel)) == ["T1", "T1ce", "T2"], "what was chosen for the first patient is forgotten with it"


def test_the_chosen_study_is_saved_with_the_scene(host, two_patients, tmp_path):
    panel = two_patients
    panel.ui.detectButton.click()
    assert list(shown(panel)) == ["T1", "T1ce", "T2"]
    index = panel.ui.studyComboBox.findText("patient1: T1, FLAIR")
    panel.ui.studyComboBox.setCurrentIndex(index)
    panel.ui.studyComboBox.activated.emit(index)
    assert shown(panel) == {"T1": "patient1_t1", "FLAIR": "patient1_flair"}
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    settle(host)
    assert shown(panel) == {"T1": "patient1_t1", "FLAIR": "patient1_flair"}


def test_a_choice_by_hand_keeps_a_study_that_nothing_recognised(host, panel, sequence, tmp_path):
    (node,) = load(sequence, "T1").values()
    slicer.util.arrayFromVolume(node)[:] = np.random.default_rng(0).integers(
        0, 9, slicer.util.arrayFromVolume(node).shape
    )
    node.SetName("Series 1")
    node.GetStorageNode().SetFileName(str(tmp_path / "patient1" / "1.nii.gz"))
    settle(host)
    assert shown(panel) == {}
    panel.ui.selectorFLAIR.setCurrentNode(node)
    for modality, other in load(sequence, "T1", "T2").items():
        other.SetName(f"patient2_{modality}")
        other.GetStorageNode().SetFileName(str(tmp_path / "patient2" / f"{modality}.nii.gz"))
    settle(host)
    assert shown(panel) == {"FLAIR": "Series 1"}
    assert [panel.ui.studyComboBox.itemText(i) for i in range(2)] == ["Series 1", "patient2: T1, T2"]


def test_a_study_loaded_while_another_is_segmented_waits(host, running, sequence, tmp_path):
    panel = running
    for modality, other in load(sequence, "T1", "T2").items():
        other.SetName(f"patient2_{modality}")
        other.GetStorageNode().SetFileName(str(tmp_path / "patient2" / f"{modality}.nii.gz"))
    assert host.process(LONG, lambda: panel.job is None)
    settle(host)
    assert list(shown(panel)) == ["FLAIR"] and panel.ui.volumeTable.rowCount == 5
    reference = panel.slots.nodes()["FLAIR"]
    slicer.mrmlScene.RemoveNode(reference)
    settle(host)
    assert list(shown(panel)) == ["T1", "T2"]
    assert panel.ui.volumeTable.rowCount == 0, "one patient's result does not stand beside another's volumes"
    for node in panel.slots.nodes().values():
        slicer.mrmlScene.RemoveNode(node)
    settle(host)
    assert panel.ui.volumeTable.rowCount == 5, "the result is still there"


def test_mixing_patients_by_hand_is_said(host, two_patients):
    panel = two_patients
    assert "different studies" not in panel.ui.costLabel.text
    panel.ui.selectorT2.setCurrentNode(slicer.util.getNode("patient2_t2"))
    assert "different studies" in panel.ui.costLabel.text


def test_a_wrong_sequence_chosen_by_hand_is_said_in_the_report(host, panel, sequence):
    nodes = load(sequence, "T1")
    settle(host)
    panel.ui.selectorT1.setCurrentNode(None)
    panel.ui.selectorFLAIR.setCurrentNode(nodes["T1"])
    panel.ui.segmentButton.click()
    assert any("was given as FLAIR, but looks like T1" in warning for warning in panel.job.warnings)
    panel.ui.segmentButton.click()
    assert panel.job, "the second click of a double click does not cancel"
    panel.cancel()


@pytest.mark.parametrize("change", [lambda array: array[4:], lambda array: array[::-1]], ids=["cut", "flipped"])
def test_a_volume_changed_meanwhile_gets_no_result(troubled, open_panel, sequence, change):
    host, panel = troubled, open_panel(troubled)
    node = load(sequence, "FLAIR")["FLAIR"]
    settle(host)
    panel.ui.segmentButton.click()
    slicer.util.updateVolumeFromArray(node, change(slicer.util.arrayFromVolume(node)).copy())
    assert host.process(LONG, lambda: panel.job is None)
    assert "has changed meanwhile; click Segment again" in str(host.dialogs.shown)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_volume_that_takes_the_place_of_another_gets_no_result(troubled, open_panel, sequence):
    """Its node may well have the ID of the one that was segmented."""
    host, panel = troubled, open_panel(troubled)
    node = load(sequence, "FLAIR")["FLAIR"]
    node.SetName("Meier_1_flair")
    settle(host)
    panel.ui.segmentButton.click()
    before = node.GetID()
    slicer.mrmlScene.RemoveNode(node)
    other = load(sequence, "FLAIR")["FLAIR"]
    other.SetName("Schulz_2_flair")
    assert other.GetID() == before
    assert host.process(LONG, lambda: panel.job is None)
    assert "no longer in the scene" in str(host.dialogs.shown)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


@pytest.mark.parametrize("entered", [True, False])
def test_a_scene_closed_while_packages_are_installed(troubled, open_panel, sequence, monkeypatch, entered):
    """Installing lets events through."""
    host, panel = troubled, open_panel(troubled)
    load(sequence, "FLAIR")
    settle(host)

    def install():
        if not entered:
            panel.exit()
        slicer.mrmlScene.Clear()

    module = sys.modules["LCKDSegment"]
    monkeypatch.setattr(module, "shows_skull", lambda image: True)
    monkeypatch.setattr(module.dependencies, "offer_brain_extraction", install)
    panel.ui.segmentButton.click()
    assert panel.job is None and "no longer in the scene" in str(host.dialogs.shown)
    assert not temporary_folders() and panel.ui.segmentButton.text == "Segment"


def test_a_sequence_loaded_while_the_study_is_segmented_waits(host, running, sequence):
    """The panel goes on to show what is being segmented, and the result says what it is from."""
    load(sequence, "T1ce")
    settle(host)
    assert list(shown(running)) == ["FLAIR"] and "T1ce" in running.ui.costLabel.text
    assert host.process(LONG, lambda: running.job is None)
    settle(host)
    assert list(shown(running)) == ["T1ce", "FLAIR"]
    assert running.ui.resultButton.text.endswith("glioma, from FLAIR")
    running.ui.copyButton.click()
    assert "from FLAIR" in qt.QApplication.clipboard().text()


def test_two_names_in_one_folder_are_doubted(host, panel, sequence):
    """As in a folder of downloads; their results are not each other's."""
    nodes = load(sequence, "T1", "FLAIR")
    for name, node in zip(("Meier_T1", "Schulz_FLAIR"), nodes.values(), strict=True):
        node.SetName(name)
    settle(host)
    assert list(shown(panel)) == ["T1", "FLAIR"] and "are all of one patient?" in panel.ui.costLabel.text
    assert panel._proposal.doubts(panel.slots.nodes())
    beside = panel._proposal.volumes_beside({"FLAIR": nodes["FLAIR"]})
    assert beside == {node.GetID() for node in nodes.values()}
    labels = np.zeros(nodes["T1"].GetImageData().GetDimensions()[::-1], np.uint8)
    report = {key: [] for key in result_nodes.SHOWN_OF_REPORT}
    result = result_nodes.show_result(slicer.mrmlScene, labels, nodes["T1"], report, nested=False)
    assert result_nodes.make_room(slicer.mrmlScene, beside, nodes["FLAIR"]) is None
    assert result_nodes.make_room(slicer.mrmlScene, beside, nodes["T1"]) is result


def test_ordinary_names_of_one_patient_are_not_doubted(host, panel, sequence):
    nodes = load(sequence, "T1", "T1ce", "FLAIR")
    for name, node in zip(("pre_T1", "post_T1", "dark fluid FLAIR"), nodes.values(), strict=True):
        node.SetName(name)
    settle(host)
    assert "are all of one patient?" not in panel.ui.costLabel.text


def test_what_is_loaded_while_packages_are_installed_waits(host, panel, sequence, monkeypatch, tmp_path):
    """What is segmented is what the user has clicked for."""
    mine = load(sequence, "FLAIR")["FLAIR"]
    settle(host)

    def install():
        other = load(sequence, "T1")["T1"]
        other.SetName("b8_flair")
        other.GetStorageNode().SetFileName(str(tmp_path / "b8" / "flair.nii.gz"))
        assert not panel.ui.selectorFLAIR.enabled and not panel.ui.detectButton.enabled
        panel.fillSlots()
        return True

    monkeypatch.setattr(sys.modules["LCKDSegment"].dependencies, "ensure", install)
    panel.ui.segmentButton.click()
    assert panel.job.nodes == {"FLAIR": mine}
    panel.cancel()


def test_coming_back_while_a_segmentation_runs_chooses_nothing(host, running, sequence):
    running.exit()
    running.enter()
    running.cancel()
    load(sequence, "T1ce")
    settle(host)
    assert list(shown(running)) == ["T1ce", "FLAIR"] and "left empty" not in running.ui.reasonT1.text


def test_cleanup_ends_everything_though_widgets_are_gone(running, monkeypatch):
    """As on quitting."""
    process_id = running.job.process_id

    def gone():
        raise RuntimeError("the widget is gone")

    monkeypatch.setattr(running, "updatePanel", gone)
    running.cleanup()
    assert not alive(process_id) and not temporary_folders()
    slicer.util.addVolumeFromArray(np.ones((4, 4, 4)), name="t1")
    assert not running._settle.active


def test_a_result_whose_report_cannot_be_read_stops_nothing(host, running):
    for text in ("{broken", "[]", '{"warnings": []}'):
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
        other.SetAttribute("LCKDSegment.Report", text)
    assert host.process(LONG, lambda: running.job is None)
    assert running.ui.volumeTable.rowCount == 5 and host.dialogs.shown == []


def test_segment_by_clicking(running, host, tmp_path):
    panel = running
    host.grab(panel, tmp_path / "running.png")
    assert panel.ui.segmentButton.text == "Cancel"
    assert panel.ui.progressBar.visible
    assert host.process(LONG, lambda: panel.job is None)
    assert host.dialogs.shown == []
    result = panel.logic.getParameterNode().GetNodeReference("Result")
    segmentation = result.GetSegmentation()
    assert [segmentation.GetNthSegmentID(i) for i in range(3)] == list(LABELS)
    report = json.loads(result.GetAttribute("LCKDSegment.Report"))
    assert report["inputs"]["FLAIR"]["volume"].endswith("flair")
    assert panel.ui.volumeTable.rowCount == 5
    assert panel.ui.volumeTable.item(4, 1).text() == f"{report['volumes_ml']['WT']:.1f}"
    assert panel.ui.segmentButton.text == "Segment"
    assert not temporary_folders()
    panel.ui.nestedCheckBox.click()
    assert segmentation.GetSegment("WT")
    panel.ui.nestedCheckBox.click()
    assert not segmentation.GetSegment("WT")
    assert panel.ui.resultButton.text == f"Result: {result.GetName()}, from FLAIR"
    assert report["inputs"]["FLAIR"]["why"] == panel._proposal.findings[panel.slots.nodes()["FLAIR"].GetID()].evidence
    # Once more: the same node takes the new result, shown as before.
    result.CreateClosedSurfaceRepresentation()
    result.GetDisplayNode().SetSegmentVisibility("ED", False)
    panel.ui.segmentButton.click()
    assert host.process(LONG, lambda: panel.job is None)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert segmentation.ContainsRepresentation("Closed surface")
    assert not result.GetDisplayNode().GetSegmentVisibility("ED")
    # The table goes with the result.
    slicer.mrmlScene.RemoveNode(result)
    settle(host)
    assert panel.ui.volumeTable.rowCount == 0


def test_a_result_that_is_ready_elsewhere_leaves_the_views_alone(running, host, monkeypatch):
    """The user may look at another patient by then."""
    shown, told = [], []
    monkeypatch.setattr(result_nodes, "show_alone", lambda _, reference, *ids: shown.append(reference))
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, *_: told.append(text))
    monkeypatch.setattr(result_nodes, "jump_to_tumour", lambda *_: shown.append("jump"))
    running.exit()
    assert host.process(LONG, lambda: running.job is None)
    assert shown == [] and "glioma is ready" in told[-1]
    running.enter()
    assert running.ui.volumeTable.rowCount == 5
    running.ui.segmentButton.click()
    assert host.process(LONG, lambda: running.job is None)
    assert shown[0] == "jump" and shown[1] is running.slots.nodes()["FLAIR"]


def test_edits_of_nested_regions_are_not_lost_unasked(running, host):
    assert host.process(LONG, lambda: running.job is None)
    box, result = running.ui.nestedCheckBox, running.logic.getParameterNode().GetNodeReference("Result")
    box.click()
    erase(result, "WT")
    for agreed in (False, True):
        host.dialogs.answer("confirmOkCancel", agreed)
        box.click()
        assert box.checked != agreed and bool(result.GetSegmentation().GetSegment("WT")) != agreed
    assert len(host.dialogs.texts("confirmOkCancel")) == 2


def test_a_volume_that_is_not_recognised_is_not_called_missing(host, panel, sequence):
    load(sequence, "FLAIR")
    settle(host)
    assert panel.ui.reasonT1ce.text == "not loaded"
    load(sequence, "T1ce")["T1ce"].SetName("adc")
    panel.onDetect()
    assert panel.ui.reasonT1ce.text == "not recognised; if it is loaded, choose it above"


def test_edits_have_their_volumes_and_stay(running, host):
    panel = running
    assert host.process(LONG, lambda: panel.job is None)
    result = panel.logic.getParameterNode().GetNodeReference("Result")
    report = result_nodes.report_of(result)
    erase(result, "ED")
    settle(host)
    row = list(STRUCTURES).index("ED")
    assert panel.ui.volumeTable.item(row, 1).text() == "0.0" and report["volumes_ml"]["ED"] > 0.1
    assert "edited" in panel.ui.warningLabel.text
    panel.ui.copyButton.click()
    copied = qt.QApplication.clipboard().text()
    assert "(ED)\t0.0 mL" in copied and "expected Dice" in copied
    assert "edited" in copied and copied.endswith(f"{report['notice']}\n")
    panel.ui.segmentButton.click()
    assert host.process(LONG, lambda: panel.job is None)
    second = panel.logic.getParameterNode().GetNodeReference("Result")
    assert second is not result and panel.ui.resultButton.text == f"Result: {second.GetName()}, from FLAIR"
    assert panel.ui.volumeTable.item(row, 1).text() != "0.0" and "edited" not in panel.ui.warningLabel.text
    assert result_nodes.edited(result) and not result.GetDisplayNode().GetVisibility()
    slicer.mrmlScene.RemoveNode(second)
    settle(host)
    assert panel.ui.volumeTable.item(row, 1).text() == "0.0"


@pytest.mark.parametrize("how", ["button", "scene", "module"])
def test_cancel_leaves_nothing(running, host, how):
    panel, process_id = running, running.job.process_id
    if how == "button":
        panel.ui.segmentButton.click()
    elif how == "scene":
        slicer.mrmlScene.Clear()
    else:
        panel.cleanup()
    assert panel.job is None
    assert not alive(process_id)
    assert not temporary_folders()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    settle(host)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [("empty", "_flair: every voxel is 0"), ("no such card", "“Device: mps” under Advanced: this machine has none")],
)
def test_what_went_wrong_is_one_clear_line(troubled, open_panel, sequence, trouble, words):
    """In the panel's words, and without a temporary file's name."""
    host, panel = troubled, open_panel(troubled)
    node = load(sequence, "FLAIR")["FLAIR"]
    if trouble == "empty":
        slicer.util.arrayFromVolume(node)[:] = 0
    settle(host)
    panel.ui.deviceComboBox.setCurrentText("cpu" if trouble == "empty" else "mps")
    panel.ui.segmentButton.click()
    assert host.process(LONG, lambda: panel.job is None)
    errors = [item for item in host.dialogs.shown if item.kind == "error"]
    assert len(errors) == 1
    said = errors[0].text + errors[0].detail
    assert words in said and "LCKDSegment-" not in said
    assert not temporary_folders()
    assert panel.ui.segmentButton.text == "Segment"


def test_missing_packages_are_asked_for_at_click(troubled, open_panel, sequence, monkeypatch):
    host, panel = troubled, open_panel(troubled)
    load(sequence, "FLAIR")
    settle(host)
    monkeypatch.setattr(dependencies, "requirements", lambda: ["no-such-package>=1.0"])
    panel.ui.segmentButton.click()
    assert host.packages.installed == ["no-such-package>=1.0"]
    assert panel.job is None  # the fake installs nothing, so the module says what is still missing
    assert "no-such-package" in host.dialogs.shown[-1].text + host.dialogs.shown[-1].detail


def test_own_self_test(host, panel):
    """What Slicer's *Reload and Test* and ctest run."""
    module = sys.modules["LCKDSegment"]
    host.process()
    test = module.LCKDSegmentTest()
    test.runTest()
    host.process(0.4)
    assert "Segmentation in a child process" in host.dialogs.texts("delay")


def test_reload(host, panel, sequence):
    panel.onReload()
    settle(host)
    made_anew = slicer.modules.LCKDSegmentWidget
    assert made_anew is not panel
    load(sequence, "FLAIR")
    settle(host)
    assert list(made_anew.slots.nodes()) == ["FLAIR"], "Slicer does not enter the module again"
