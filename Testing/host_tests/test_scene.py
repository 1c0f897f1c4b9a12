"""The scene and its logics."""

import numpy as np
import slicer


def test_scene_is_furnished_and_stays_so(host):
    for _ in range(2):
        for className, count in (
            ("vtkMRMLSliceNode", 3),
            ("vtkMRMLSliceCompositeNode", 3),
            ("vtkMRMLViewNode", 1),
            ("vtkMRMLSelectionNode", 1),
            ("vtkMRMLCrosshairNode", 1),
        ):
            assert slicer.mrmlScene.GetNumberOfNodesByClass(className) == count
        assert slicer.util.getNode("Labels")
        slicer.mrmlScene.Clear(False)


def test_modules_have_their_logic(host):
    assert slicer.modules.volumes.logic().IsA("vtkSlicerVolumesLogic")
    assert slicer.util.getModuleLogic("Segmentations").IsA("vtkSlicerSegmentationsModuleLogic")


def test_subject_hierarchy_follows(host):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    volume = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)))
    item = tree.GetItemByDataNode(volume)
    assert item
    slicer.mrmlScene.RemoveNode(volume)
    assert tree.GetItemDataNode(item) is None


def test_segment_arrays_round_trip(host, ball):
    volume, node = ball
    before = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Necrosis", volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(before, node, "Necrosis", volume)
    assert before.any()
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "Necrosis", volume), before)
