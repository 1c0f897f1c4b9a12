"""Draw the pictures of the README: the panel in its states and the views with a result, from a phantom study.

``make screenshots`` runs this in the host: Qt and MRML are real, Slicer's own widgets and views are stand-ins.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from host import boot, views
from lckd.anatomy import LABELS
from lckd_training.export import keep_few_colours
from lckd_training.phantom import write_phantoms

MODULE = Path(__file__).parents[2] / "LCKDSegment" / "LCKDSegment.py"
OUT = Path(__file__).parents[2] / "docs"


def main() -> None:
    host = boot()
    import slicer

    from LCKDSegmentLib import result_nodes

    _, panel = host.loadModule(MODULE)
    host.enter("LCKDSegment")
    with tempfile.TemporaryDirectory() as folder:
        study = next(write_phantoms(folder, cases=1, size=160, seed=0))
        for modality in ("t1", "t2", "flair"):
            slicer.util.loadVolume(str(study / f"{study.name}_{modality}.nii.gz"))
        host.process(0.5)
        host.grab(panel, OUT / "panel-ready.png", 520)
        repeated = slicer.util.loadVolume(str(study / f"{study.name}_flair.nii.gz"))
        repeated.SetName(f"{study.name}_flair repeated")
        other = slicer.util.loadVolume(str(study / f"{study.name}_t1ce.nii.gz"))
        other.SetName("patient_07_t1ce")
        panel.ui.selectorT1ce.setCurrentNode(slicer.util.getNode(f"{study.name}_t2"))
        host.process(0.5)
        host.grab(panel, OUT / "panel-choices.png", 520)
        panel.ui.detectButton.click()
        for node in (repeated, other):
            slicer.mrmlScene.RemoveNode(node)
    host.process(0.5)
    panel.ui.segmentButton.click()
    host.process(120, lambda: panel.job is None or panel.job.percent >= 20)
    host.grab(panel, OUT / "panel-running.png", 520)
    host.process(120, lambda: panel.job is None)
    host.grab(panel, OUT / "panel.png", 520)
    node = panel.logic.getParameterNode().GetNodeReference("Result")
    reference = result_nodes.reference_of(node)
    node.CreateClosedSurfaceRepresentation()
    found = np.argwhere(np.isin(result_nodes.labels_of(node), [LABELS["NCR"], LABELS["ET"]]))
    matrix = slicer.util.arrayFromVTKMatrix(_ijk_to_ras(reference))
    centre = matrix @ [*np.median(found, axis=0)[::-1], 1]
    views.montage(host.sceneHost, OUT / "views.png", reference, centre=centre[:3], fieldOfView=190)
    for picture in OUT.glob("*.png"):
        keep_few_colours(picture)
    print(host.problems(panel.parent) or f"pictures in {OUT}")


def _ijk_to_ras(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


if __name__ == "__main__":
    main()
