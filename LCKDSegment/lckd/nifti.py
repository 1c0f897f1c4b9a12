"""What ITK's NIfTI reader passes over in silence: a file that ends early, and voxels that are not finite.

It fills the rest of a truncated volume, and NaN and infinite voxels, with zeros.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from .errors import InputError

HEADER = 352  # bytes of a NIfTI-1 header with its extension flag
FLOATS = {16: "f4", 64: "f8"}  # NIfTI data type codes of real floating point voxels
BLOCK = 1 << 20  # bytes read at a time; a multiple of 8, the size of the largest voxels


def check_nifti(path: Path) -> None:
    """Raise InputError when a .nii or .nii.gz file is truncated, damaged or holds NaN or infinite voxels."""
    compressed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            _check(stream, path)
            while stream.read(BLOCK):  # gzip compares its checksum at the very end
                pass
    except EOFError:
        raise InputError(f"{path}: the file ends too early (truncated); copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: not a valid gzip file ({error}); copy or download it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def tells_orientation(path: Path) -> bool:
    """Whether a NIfTI-1 file says how the head lies; ITK takes one that does not as lying along the patient's axes."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        header = stream.read(HEADER)
    if header[:4] not in (struct.pack("<i", 348), struct.pack(">i", 348)) or len(header) < HEADER:
        return True
    return header[252:256] != bytes(4)  # qform_code and sform_code


def _check(stream, path: Path) -> None:
    header = stream.read(HEADER)
    order = next((o for o in "<>" if header[:4] == struct.pack(o + "i", 348)), None)
    if order is None or len(header) < HEADER:
        return  # not NIfTI-1: ITK reads it or says why not
    dimensions = struct.unpack_from(order + "8h", header, 40)
    kind, bits = struct.unpack_from(order + "2h", header, 70)
    (offset,) = struct.unpack_from(order + "f", header, 108)
    left = int(np.prod([max(1, n) for n in dimensions[1 : 1 + max(0, dimensions[0])]], dtype=np.int64)) * bits // 8
    if not 0 <= offset < 1 << 30:
        raise InputError(f"{path}: its NIfTI header is damaged; copy or export it again")
    stream.read(max(0, int(offset) - HEADER))
    while left > 0:
        block = stream.read(min(BLOCK, left))
        if not block:
            raise EOFError
        left -= len(block)
        if kind not in FLOATS:
            continue
        voxel = np.dtype(order + FLOATS[kind])
        whole = len(block) - len(block) % voxel.itemsize
        if not np.isfinite(np.frombuffer(block[:whole], voxel)).all():
            raise InputError(f"{path}: holds NaN or infinite voxels; export the volume again or replace them")
