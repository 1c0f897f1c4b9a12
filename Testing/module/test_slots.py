"""What the slots say and offer: reasons, other volumes, several studies, volumes whose names tell nothing."""

import numpy as np
import pytest
import slicer

from lckd import brain
from lckd.anatomy import MODALITIES
from LCKDSegmentLib import dependencies, result_nodes
from LCKDSegmentLib.alignment import keep_alignment
from LCKDSegmentLib.scene import ijk_to_world, propose


def load(sequence, modality, name):
    node = slicer.util.loadVolume(str(sequence(modality)))
    node.SetName(name)
    return node


def settle(host):
    host.process(0.4)


def test_one_click_puts_another_volume_in_a_slot(host, panel, sequence):
    first = load(sequence, "FLAIR", "FLAIR")
    second = load(sequence, "FLAIR", "FLAIR repeated")
    settle(host)
    assert panel.slots.nodes()["FLAIR"] is second
    assert "take FLAIR" in panel.ui.otherFLAIR.text and "repeat" in panel.ui.otherFLAIR.toolTip
    panel.ui.otherFLAIR.linkActivated.emit(first.GetID())
    assert panel.slots.nodes()["FLAIR"] is first
    settle(host)
    assert panel.slots.nodes()["FLAIR"] is first, "a choice made by hand stays"
    assert "take FLAIR repeated" in panel.ui.otherFLAIR.text


def test_of_two_volumes_of_one_name_the_chosen_one_stays(host, panel, sequence):
    """Today's selector calls the current node unchanged while its name is; only ``nodeActivated`` tells."""
    first, second = (load(sequence, "FLAIR", "FLAIR") for _ in range(2))
    settle(host)
    other = first if panel.slots.nodes()["FLAIR"] is second else second
    selector = panel.slots.selectors["FLAIR"]
    selector.blockSignals(True)
    selector.setCurrentNode(other)
    selector.blockSignals(False)
    selector.nodeActivated.emit(other)
    settle(host)
    panel.fillSlots()
    assert panel.slots.nodes()["FLAIR"] is other


def test_slots_say_how_a_volume_was_acquired(host, panel, sequence):
    load(sequence, "T2", "AX T2 <b>old")
    load(sequence, "T2", "AX T2 new")
    settle(host)
    assert "without skull, 1.2 mm 3-D" in panel.ui.reasonT2.text
    assert "take AX T2 &lt;b&gt;old" in panel.ui.otherT2.text


def test_several_studies_are_offered(host, panel, sequence, tmp_path):
    for name in ("patient1_t1", "patient1_flair", "patient2_t2"):
        load(sequence, "T1", name)
    settle(host)
    assert list(panel.slots.nodes()) == ["T1", "FLAIR"]
    host.grab(panel, tmp_path / "panel.png")
    assert panel.ui.studyComboBox.visible
    assert [panel.ui.studyComboBox.itemText(i) for i in range(2)] == ["patient1: T1, FLAIR", "patient2: T2"]
    panel.ui.studyComboBox.setCurrentIndex(1)
    panel.ui.studyComboBox.activated.emit(1)
    assert {m: n.GetName() for m, n in panel.slots.nodes().items()} == {"T2": "patient2_t2"}
    settle(host)
    assert list(panel.slots.nodes()) == ["T2"], "the study chosen stays"


def test_one_study_needs_no_choice(host, panel, sequence, tmp_path):
    load(sequence, "T1", "t1")
    settle(host)
    host.grab(panel, tmp_path / "panel.png")
    assert not panel.ui.studyComboBox.visible


def test_names_that_tell_nothing_are_judged_by_the_image(host, brats_case):
    folder = brats_case("Brats18_CBICA_AME_1")
    for number, modality in enumerate(("FLAIR", "T1ce", "T2", "T1")):
        node = slicer.util.loadVolume(str(folder / f"{folder.name}_{modality.lower()}.nii.gz"))
        node.SetName(f"Series {301 + number}")
        node.GetStorageNode().SetFileName("")
    found = {modality: node.GetName() for modality, node in propose(slicer.mrmlScene).nodes.items()}
    assert found == {"FLAIR": "Series 301", "T1ce": "Series 302", "T2": "Series 303", "T1": "Series 304"}


def test_registration_is_kept_as_a_transform(host, sequence):
    node = load(sequence, "T2", "t2")
    turned = np.array([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -3], [0, 0, 0, 1.0]])  # reference to volume
    alignment = {"T2": {"to_volume": turned.tolist()}, "FLAIR": {"to_volume": None}}
    labels = np.zeros(node.GetImageData().GetDimensions()[::-1], np.uint8)
    report = {key: [] for key in result_nodes.SHOWN_OF_REPORT}
    earlier = result_nodes.show_result(slicer.mrmlScene, labels, node, report, nested=False)
    nodes, reference = {"T2": node, "FLAIR": None}, load(sequence, "T1", "t1")
    nodes["T1"] = reference
    places = {name: ijk_to_world(nodes[name]) for name in ("T1", "T2")}
    voxel = np.linalg.inv(places["T2"]) @ turned @ [10, 20, 30, 1]
    keep_alignment(slicer.mrmlScene, nodes, places, "T1", alignment)
    assert earlier.GetParentTransformNode() is node.GetParentTransformNode(), "what was found in it moves with it"
    assert np.allclose((ijk_to_world(node) @ voxel)[:3], (10, 20, 30)), "the volume's point lies where the reference's"
    node.GetParentTransformNode().SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1, -1, 1, 1.0])))
    node.SetOrigin(1, 2, 3)
    reference.SetOrigin(*np.add(reference.GetOrigin(), (0, 7, 0)))
    keep_alignment(slicer.mrmlScene, nodes, places, "T1", alignment)
    assert np.allclose((ijk_to_world(node) @ voxel)[:3], (10, 27, 30)), "also where both were moved meanwhile"


@pytest.mark.parametrize("accepted", [True, False])
def test_brain_extraction_is_offered_without_what_it_depends_on(host, monkeypatch, accepted):
    asked, installed = [], []
    monkeypatch.setattr(brain, "installed", lambda: False)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, *a, **k: asked.append(text) or accepted)
    monkeypatch.setattr(slicer.util, "pip_install", installed.append)
    dependencies.offer_brain_extraction()
    assert "deepbet" in asked[0]
    assert installed == (["--no-deps deepbet"] if accepted else [])


def test_contradiction_between_name_and_place_is_shown(host, panel, sequence):
    nodes = {name: load(sequence, name, name) for name in MODALITIES[:2]}
    settle(host)
    panel.ui.selectorFLAIR.setCurrentNode(nodes["T1"])
    assert "looks like T1" in panel.ui.reasonFLAIR.text


@pytest.mark.skipif(not brain.installed(), reason=brain.HOW_TO_GET)
def test_raw_study_goes_through_the_module(host, panel, data):
    """With skull, 5.5 mm, 20 mm apart: the click is the same, and the alignment can be kept."""
    raw = data / "raw" / "TCGA-FG-6692"
    nodes = [slicer.util.loadVolume(str(raw / f"{name}.nii.gz")) for name in ("MRHR_T1_AX_POST_GAD", "MRHR_FLAIR_AX")]
    settle(host)
    assert list(panel.slots.nodes()) == ["T1ce", "FLAIR"]
    assert "with skull, 5.5 mm axial" in panel.ui.reasonFLAIR.text
    panel.ui.deviceComboBox.setCurrentText("cpu")
    panel.ui.keepTransformsCheckBox.checked = True
    panel.ui.segmentButton.click()
    assert host.process(180, lambda: panel.job is None)
    assert host.dialogs.shown == []
    parameters = panel.logic.getParameterNode()
    report = result_nodes.report_of(parameters.GetNodeReference("Result"))
    assert result_nodes.reference_of(result_nodes.results(slicer.mrmlScene)[0]) is nodes[0]
    assert any("brain found by deepbet" in step for step in report["preprocessing"])
    assert report["alignment"]["FLAIR"]["offset_mm"] > 10
    assert nodes[0].GetParentTransformNode() is None and nodes[1].GetParentTransformNode() is not None
    assert "look at its edge" in panel.ui.warningLabel.text
