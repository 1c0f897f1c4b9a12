"""From MRML nodes to a study, and their voxels in world space."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from lckd.errors import InputError
from LCKDSegmentLib.scene import candidate_nodes, image_in_world, propose

pytestmark = pytest.mark.usefixtures("host")


def add(name, shape=(8, 9, 10), spacing=(1, 1, 1)):
    node = slicer.util.addVolumeFromArray(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), name=name)
    node.SetSpacing(*spacing)
    return node


def names(proposal):
    return {modality: node.GetName() for modality, node in proposal.nodes.items()}


def test_empty_scene():
    assert propose(slicer.mrmlScene).nodes == {}


def test_label_maps_and_own_results_are_no_candidates():
    add("case_t1")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "case_t2")
    add("case_flair").SetAttribute("LCKDSegment.Report", "{}")
    add("case_t1ce").SetHideFromEditors(True)
    assert [node.GetName() for node in candidate_nodes(slicer.mrmlScene)] == ["case_t1"]


def test_the_more_detailed_of_two_is_taken_and_the_other_named():
    add("flair_tra_5mm", shape=(20, 64, 64), spacing=(1, 1, 5))
    add("flair_3d", shape=(60, 64, 64))
    proposal = propose(slicer.mrmlScene)
    assert names(proposal) == {"FLAIR": "flair_3d"}
    ((other, why),) = proposal.others["FLAIR"]
    assert other.GetName() == "flair_tra_5mm" and "2-D" in why


def test_a_volume_whose_spacing_is_mended_is_looked_at_again(sequence):
    node = slicer.util.loadVolume(str(sequence("T2")))
    node.SetName("Series 1")
    right = node.GetSpacing()
    node.SetSpacing(90, 90, 90)
    assert names(propose(slicer.mrmlScene)) == {}
    node.SetSpacing(*right)
    assert names(propose(slicer.mrmlScene)) == {"T2": "Series 1"}


def test_two_patients_are_never_mixed():
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    for patient, loaded in {"A": ["T1", "T1 post gad"], "B": ["Ax FLAIR"]}.items():
        subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient)
        study = hierarchy.CreateStudyItem(subject, "2026")
        for name in loaded:
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(add(name)), study)
    proposal = propose(slicer.mrmlScene)
    assert names(proposal) == {"T1": "T1", "T1ce": "T1 post gad"}
    assert list(proposal.studies.values()) == ["A, 2026: T1, T1ce", "B, 2026: FLAIR"]
    other = propose(slicer.mrmlScene, member=slicer.util.getNode("Ax FLAIR"))
    assert names(other) == {"FLAIR": "Ax FLAIR"}


def test_two_patients_stay_apart_when_a_saved_scene_is_opened(sequence, tmp_path):
    """In the scene's file all volumes lie in one folder, and their names do not tell the patients apart."""
    for patient, modalities in {"Miller": ("T1", "T1ce", "FLAIR"), "Smith": ("FLAIR", "T2")}.items():
        (tmp_path / patient).mkdir()
        for modality in modalities:
            path = tmp_path / patient / f"{modality}.nii.gz"
            shutil.copy(sequence(modality), path)
            slicer.util.loadVolume(str(path))
    assert names(propose(slicer.mrmlScene)) == {"T1": "T1", "T1ce": "T1ce", "FLAIR": "FLAIR"}
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    proposal = propose(slicer.mrmlScene)
    assert names(proposal) == {"T1": "T1", "T1ce": "T1ce", "FLAIR": "FLAIR"} and len(proposal.studies) == 2
    assert "Miller" not in str(slicer.util.getNode("T1")), "no names of folders in the scene"


def test_a_scene_saved_before_the_module_saw_it_does_not_tell_patients_apart(sequence, tmp_path):
    for patient, modalities in {"Miller": ["T1"], "Smith": ["T1ce", "FLAIR"]}.items():
        (tmp_path / patient).mkdir()
        for modality in modalities:
            copy = tmp_path / patient / f"{modality}.nii.gz"
            shutil.copy(sequence(modality), copy)
            slicer.util.loadVolume(str(copy))
    slicer.util.saveScene(str(tmp_path / "two.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "two.mrb"))
    proposal = propose(slicer.mrmlScene)
    assert len(proposal.nodes) == 3 and proposal.patient_untold(proposal.nodes)
    assert "saved scene" in proposal.doubts(proposal.nodes)[0]
    assert not proposal.patient_untold({"FLAIR": proposal.nodes["FLAIR"]})
    again = propose(slicer.mrmlScene)
    assert again.patient_untold(again.nodes), "what was not known is not known later"


def test_what_was_made_of_a_volume_is_of_its_study(sequence):
    original = slicer.util.loadVolume(str(sequence("FLAIR")))
    original.SetName("AX FLAIR")
    add("AX FLAIR N4")
    add("AX FLAIRless")
    add("AX FLAIR_1")
    proposal = propose(slicer.mrmlScene)
    studies = {slicer.mrmlScene.GetNodeByID(key).GetName(): study for key, study in proposal.study_of.items()}
    assert studies["AX FLAIR N4"] == studies["AX FLAIR"]
    assert studies["AX FLAIR"] not in (studies["AX FLAIRless"], studies["AX FLAIR_1"])
    assert not proposal.several_studies({"FLAIR": slicer.util.getNode("AX FLAIR N4"), "T2": original})


def test_studies_are_called_by_their_folders(sequence, tmp_path):
    for patient in ("Miller", "Smith"):
        (tmp_path / patient).mkdir()
        copy = tmp_path / patient / "FLAIR.nii.gz"
        shutil.copy(sequence("FLAIR"), copy)
        slicer.util.loadVolume(str(copy))
    assert sorted(propose(slicer.mrmlScene).studies.values()) == ["Miller: FLAIR", "Smith: FLAIR"]


def test_volumes_without_voxels_are_no_candidates():
    for name, image in (("t1", None), ("t2", vtk.vtkImageData())):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetAndObserveImageData(image)
    add("flair")
    assert names(propose(slicer.mrmlScene)) == {"FLAIR": "flair"}


def test_a_series_without_its_date_stays_with_its_study():
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "2024")
    for name in ("T1", "FLAIR"):
        node = add(name)
        node.SetAttribute("DICOM.instanceUIDs", name)
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)

    class Database:
        def instanceValue(self, uid, tag):
            return {"0010,0020": "P", "0008,0020": "20240131" if uid == "T1" else ""}.get(tag, "")

    assert set(names(propose(slicer.mrmlScene, Database()))) == {"T1", "FLAIR"}


def test_dicom_tags_come_from_the_database():
    class Database:
        def instanceValue(self, uid, tag):
            assert uid == "1.2.3"
            return {"0018,0080": "5000", "0018,0081": "388", "0018,0082": "1800"}.get(tag, "")

    add("Series 301").SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert propose(slicer.mrmlScene).nodes == {}
    assert names(propose(slicer.mrmlScene, Database())) == {"FLAIR": "Series 301"}


def test_patients_of_one_study_identifier_stay_apart():
    """Slicer puts them under one study, as it knows that by its identifier alone."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "2026")
    for uid, name in {"1.1": "T1", "1.2": "T2", "2.1": "FLAIR"}.items():
        node = add(name)
        node.SetAttribute("DICOM.instanceUIDs", uid)
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(add("T1ce")), study)

    class Database:
        def __init__(self, patients):
            self.patients = patients

        def instanceValue(self, uid, tag):
            return self.patients[uid[0]] if tag == "0010,0020" else ""

    assert set(names(propose(slicer.mrmlScene, Database({"1": "A", "2": "A"})))) == {"T1", "T1ce", "T2", "FLAIR"}
    assert names(propose(slicer.mrmlScene, Database({"1": "A", "2": "B"}))) == {"T1": "T1", "T2": "T2"}


def test_image_in_world_has_the_nodes_geometry():
    node = add("t1", spacing=(0.5, 2, 3))
    node.SetOrigin(10, -20, 30)
    node.SetIJKToRASDirections(0, 0, 1, -1, 0, 0, 0, 1, 0)
    image = image_in_world(node)
    assert image.GetSize() == (10, 9, 8)
    for ijk in ((0, 0, 0), (9, 0, 0), (3, 4, 5)):
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        ras = np.array(matrix.MultiplyPoint([*ijk, 1])[:3])
        assert np.allclose(image.TransformIndexToPhysicalPoint(ijk), ras * [-1, -1, 1])
        assert image.GetPixel(*ijk) == slicer.util.arrayFromVolume(node)[ijk[::-1]]


def test_linear_parent_transform_is_applied():
    node = add("t1")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    matrix = vtk.vtkTransform()
    matrix.Translate(5, 6, 7)
    matrix.RotateZ(30)
    transform.SetMatrixTransformToParent(matrix.GetMatrix())
    node.SetAndObserveTransformNodeID(transform.GetID())
    image = image_in_world(node)
    assert np.allclose(image.GetOrigin(), (-5, -6, 7))
    plain = np.diag([-1, -1, 1])  # Slicer's default axes are RAS, the image's LPS
    turn = np.array([[matrix.GetMatrix().GetElement(r, c) for c in range(3)] for r in range(3)])
    assert np.allclose(np.array(image.GetDirection()).reshape(3, 3), plain @ turn)
    assert np.allclose(sitk.GetArrayFromImage(image), slicer.util.arrayFromVolume(node))


def test_shear_and_warp_are_refused():
    node = add("t1")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    shear = vtk.vtkMatrix4x4()
    shear.SetElement(0, 1, 0.5)
    transform.SetMatrixTransformToParent(shear)
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match=r"sheared.*resample"):
        image_in_world(node)
    warp = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for corner in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)):
        points.InsertNextPoint(corner)
    warp.SetSourceLandmarks(points)
    warp.SetTargetLandmarks(points)
    warp.SetBasisToR()
    transform.SetAndObserveTransformToParent(warp)
    with pytest.raises(InputError, match="not linear"):
        image_in_world(node)
