"""A tumour as it would look had it taken up no contrast agent, so that few cases show many non-enhancing tumours.

Most gliomas that are collected enhance, and a network trained on them looks for the bright rim instead of the tumour.
"""

import numpy as np
import torch
from torch.nn.functional import avg_pool3d

from lckd.anatomy import LABELS

SOFT = 1  # voxels over which what is changed fades


def without_enhancement(images: np.ndarray, labels: np.ndarray, modalities: tuple[str, ...]) -> None:
    """Show enhancing tumour in T1ce as T1 shows it, in T1ce's scale, and call it non-enhancing; in place.

    The scale is that of the brain outside the tumour, where both sequences show nearly the same. Without both
    sequences nothing changes.

    Args:
        images: (k, z, y, x), the patch in these modalities, 0 outside the brain.
        labels: (z, y, x), BraTS values.
    """
    enhancing = labels == LABELS["ET"]
    if not {"T1", "T1ce"} <= set(modalities) or not enhancing.any():
        return
    before, after = (images[modalities.index(name)] for name in ("T1", "T1ce"))
    healthy = (labels == 0) & (before != 0) & (after != 0)
    if not healthy.any():
        return
    scale = after[healthy].std() / max(before[healthy].std(), 1e-3)
    unenhanced = (before - before[healthy].mean()) * scale + after[healthy].mean()
    opacity = avg_pool3d(torch.from_numpy(enhancing[None].astype(np.float32)), 2 * SOFT + 1, 1, SOFT)[0].numpy()
    opacity = np.maximum(opacity, enhancing) * (after != 0)
    after += opacity * (unenhanced - after)
    labels[enhancing] = LABELS["NCR"]
