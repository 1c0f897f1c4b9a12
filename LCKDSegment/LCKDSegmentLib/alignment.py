"""Where a registration found volumes to lie, kept as transforms; their voxels stay as they are."""

import numpy as np
import slicer

from .result_nodes import results_of
from .scene import ijk_to_world, in_scene


def keep_alignment(scene, nodes: dict, places: dict, reference: str, alignment: dict) -> None:
    """Put volumes where they were registered to, by transforms, wherever they have been moved to meanwhile.

    What was found earlier in such a volume moves with it.

    Args:
        nodes: modality -> volume node; ``places``: modality -> its ``ijk_to_world`` when it was segmented.
        reference: the modality that the others were registered to; where it has moved, they follow.
        alignment: the report's: modality -> ``to_volume``, the matrix (RAS, mm) from reference points to the volume's.
    """
    followed = ijk_to_world(nodes[reference]) @ np.linalg.inv(places[reference])
    for modality, found in alignment.items():
        node = nodes[modality]
        if not in_scene(node) or found["to_volume"] is None:
            continue
        lies = followed @ np.linalg.inv(found["to_volume"]) @ places[modality]  # from its voxels to the world
        node.SetAndObserveTransformNodeID(None)
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", f"{node.GetName()} to reference")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lies @ np.linalg.inv(ijk_to_world(node))))
        for moved in (node, *results_of(scene, {node.GetID()})):
            moved.SetAndObserveTransformNodeID(transform.GetID())
