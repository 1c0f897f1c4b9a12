"""slicer.util's load, save and export over the IO manager."""

import numpy as np
import pytest
import slicer
import vtk


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_volume_round_trip(host, ball, tmp_path, extension):
    volume, _ = ball
    path = tmp_path / f"head{extension}"
    assert slicer.util.exportNode(volume, str(path), properties={})
    again = slicer.util.loadVolume(str(path), {"name": "again"})
    assert again.GetName() == "again"
    assert np.array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(volume))
    assert np.allclose(again.GetOrigin(), volume.GetOrigin())
    assert volume.GetStorageNode() is None


def test_export_in_world_coordinates(host, ball, tmp_path):
    volume, _ = ball
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 12)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    path = str(tmp_path / "moved.nrrd")
    slicer.util.exportNode(volume, path, properties={}, world=True)
    assert slicer.util.loadVolume(path, {}).GetOrigin()[0] == pytest.approx(volume.GetOrigin()[0] + 12)
    assert volume.GetTransformNodeID() == transform.GetID()


def test_segmentation_and_scene(host, ball, tmp_path):
    _, node = ball
    path = str(tmp_path / "tumor.seg.nrrd")
    slicer.util.exportNode(node, path, properties={})
    again = slicer.util.loadSegmentation(path, {})
    assert again.GetName() == "tumor"
    assert list(again.GetSegmentation().GetSegmentIDs()) == ["Edema", "Enhancing", "Necrosis"]
    assert again.GetSegmentation().GetSegment("Edema").GetColor() == pytest.approx((0.45, 0.75, 0.35), abs=0.01)
    bundle = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(bundle, {})
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(bundle, {})
    assert slicer.util.getNode("Tumor").GetSegmentation().GetNumberOfSegments() == 3


def test_failures(host, ball, tmp_path):
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"), {})
    with pytest.raises(ValueError, match="no known file format"):
        slicer.util.exportNode(ball[0], str(tmp_path / "head.xyz"), properties={})
