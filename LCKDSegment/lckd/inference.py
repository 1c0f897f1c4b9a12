"""Run a network over a prepared study: whole, or in MONAI's sliding window, in bfloat16 where the processor has it."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .anatomy import REGIONS
from .errors import InputError
from .network import Network, logits_of_subsets

OVERLAP = 0.25
SHIFT = 5  # voxels: the mirror image lies otherwise on the network's grids of 2 to 16 mm, and errs otherwise

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all)."""


def choose_device(name: str) -> torch.device:
    """The device of ``--device``: ``auto`` takes CUDA, then Apple's MPS, then the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if name not in available:
        raise InputError(f"--device {name}: unknown device; choose auto, cpu, cuda or mps")
    if not available[name]:
        raise InputError(f"--device {name}: this machine has none that torch can use; choose auto or cpu")
    return torch.device(name)


def precision(device: torch.device):
    """The autocast context that is fast on this device: bf16 where the hardware has it, else fp16 on CUDA."""
    if has_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Whether this device is known to multiply bfloat16 in hardware; emulated it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))


def predict(
    network: Network,
    images: np.ndarray,
    modalities: tuple[str, ...],
    window: tuple[int, int, int],
    device: torch.device,
    progress: Progress | None = None,
) -> np.ndarray:
    """Probabilities float32 (3, z, y, x) in the order of REGIONS, nested, of images (k, z, y, x) of these modalities.

    Args:
        window: edges (z, y, x) in voxels of what is looked at in one go. Larger images are taken in several such
            windows, which overlap by a quarter and are blended by a Gaussian.
    """
    return predict_subsets(network, images, modalities, [modalities], window, device, progress)[0]


@torch.inference_mode()
def predict_subsets(
    network: Network,
    images: np.ndarray,
    modalities: tuple[str, ...],
    subsets: Sequence[tuple[str, ...]],
    window: tuple[int, int, int],
    device: torch.device,
    progress: Progress | None = None,
) -> np.ndarray:
    """As ``predict``, of each of these subsets of the modalities: (subset, 3, z, y, x), for little more than decoding.

    Of a ``mirrored`` network they are the mean over the images and their mirror image along x, left to right.
    """
    network = network.to(device)
    if getattr(network, "brain_norm", False):  # the margin changes nothing, so the less of it the better
        fitting = (-(-n // network.stride) * network.stride for n in images.shape[1:])
        window = tuple(min(pair) for pair in zip(window, fitting, strict=True))
    images = torch.from_numpy(np.ascontiguousarray(images))[None]
    mirrored = getattr(network, "mirrored", False)
    total = count_windows(images.shape[2:], window) * (2 if mirrored else 1)
    done = 0

    def infer(patch: Tensor) -> Tensor:
        nonlocal done
        with precision(device):
            parts = [logits.float().sigmoid_() for logits in logits_of_subsets(network, patch, modalities, subsets)]
        done += 1
        if progress:
            progress(done, total)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    probabilities = _in_windows(images, window, infer, device, 0 if mirrored else None)
    if mirrored:
        probabilities += _in_windows(images.flip(-1), window, infer, device, SHIFT).flip(-1)
        probabilities /= 2
    probabilities = probabilities[0].unflatten(0, (len(subsets), len(REGIONS))).numpy()
    if not np.isfinite(probabilities.sum()):
        raise InputError(f"the network's output on {device.type} is not a number; try --device cpu")
    for of_subset in probabilities:
        nested(of_subset)
    return probabilities


def _in_windows(
    images: Tensor, window: tuple[int, int, int], infer: Callable, device: torch.device, shift: int | None
) -> Tensor:
    """What ``infer`` makes of images (1, k, z, y, x), on the CPU.

    Args:
        shift: how far from a sole window's beginning the images lie, as far as it has room; None: in its middle.
    """
    size = images.shape[2:]
    if count_windows(size, window) > 1:
        from monai.inferers import sliding_window_inference  # two seconds to import, and most brains need no windows

        return sliding_window_inference(
            images, window, 1, infer, overlap=OVERLAP, mode="gaussian", sw_device=device, device="cpu"
        )
    margins = [edge - n for edge, n in zip(window, size, strict=True)]
    before = [margin // 2 if shift is None else min(shift, margin) for margin in margins]
    padding = []
    for first, margin in zip(reversed(before), reversed(margins), strict=True):  # of the last axis first, as torch does
        padding += [first, margin - first]
    there = tuple(slice(first, first + n) for first, n in zip(before, size, strict=True))
    return infer(functional.pad(images, padding).to(device)).cpu()[(..., *there)]


def predict_within_memory(
    network: Network,
    images: np.ndarray,
    modalities: tuple[str, ...],
    window: tuple[int, int, int],
    device: torch.device,
    progress: Progress | None = None,
) -> tuple[np.ndarray, torch.device, list[str]]:
    """As ``predict``; where memory runs out, with smaller windows, then on the CPU. Also returns where and how it went.

    A graphics card that fails otherwise (too old for this torch, a driver that does not fit) is given up for the CPU.

    Raises:
        InputError: not even the smallest window on the CPU has room.
    """
    windows = [window, *((edge,) * 3 for edge in (128, 96, 64) if edge**3 < np.prod(window))]
    places = [device] if device.type == "cpu" else [device, torch.device("cpu")]
    notes: list[str] = []
    for place in places:
        for edges in windows:
            try:
                return predict(network, images, modalities, edges, place, progress), place, notes
            except (MemoryError, RuntimeError) as error:
                if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                    if place.type == "cpu":
                        raise
                    why = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
                    notes.append(f"{place.type} failed ({why}); went on with the CPU")
                    break
                size = " x ".join(map(str, edges))
                then = "went on with the CPU" if edges == windows[-1] else "tried again with smaller ones"
                notes.append(f"memory ran out on {place.type} with windows of up to {size} voxels; {then}")
    raise InputError("memory ran out even with the smallest windows; close other programs, or use a machine with more")


def nested(probabilities: np.ndarray) -> np.ndarray:
    """ET in TC in WT, in place: what is surely enhancing is as surely tumour. (3, ...) in the order of REGIONS."""
    for inner, outer in pairwise(probabilities):
        np.maximum(inner, outer, out=outer)
    return probabilities


def count_windows(size: tuple[int, ...], window: tuple[int, int, int]) -> int:
    """How many windows MONAI's sliding window takes over a volume of this size."""
    counts = [
        1 if n <= edge else -(-(n - edge) // int(edge * (1 - OVERLAP))) + 1
        for n, edge in zip(size, window, strict=True)
    ]
    return int(np.prod(counts))
