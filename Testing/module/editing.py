"""What a person does to a result in the Segment Editor."""

import slicer


def erase(node, name):
    """Take away all voxels of a segment, and leave the segment."""
    segment = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(name, segment)
    segment.GetPointData().GetScalars().Fill(0)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(segment, node, name, logic.MODE_REPLACE)
