"""From probabilities to what a person keeps: labels on the reference grid, segmentation files, volumes in mL.

All files of a run appear together or not at all.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .anatomy import LABEL_CONVENTIONS, LABELS, REGIONS, STRUCTURES, terminology_entry
from .errors import InputError
from .postprocessing import find_pieces
from .preprocessing import Prepared, bounding_box, like, same_grid
from .volumes import place_and_series, require_utf8

SPECK_ML = 0.1  # a piece smaller than this is not worth a word
SEGMENTATION, LABELMAP = ".seg.nrrd", ".nii.gz"


def on_reference(probabilities: np.ndarray, prepared: Prepared, reference: sitk.Image) -> np.ndarray:
    """Region probabilities (3, z, y, x) of the prepared box, on the reference volume's own grid.

    Probabilities are interpolated, not labels, so that thick or oblique slices show no stairs.
    """
    result = []
    for probability in probabilities:
        whole = np.zeros(prepared.grid.GetSize()[::-1], np.float32)
        whole[prepared.box] = probability
        image = like(whole, prepared.grid)
        if not same_grid(prepared.grid, reference):
            image = _back(image, reference)
        result.append(sitk.GetArrayFromImage(image))
    return np.stack(result)


def _back(image: sitk.Image, reference: sitk.Image) -> sitk.Image:
    """An image on the working grid, on the reference's: turned where that is all, else interpolated."""
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(reference.GetDirection())
    turned = sitk.DICOMOrient(image, code)
    if same_grid(turned, reference):
        return turned
    return sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)


def to_labels(probabilities: np.ndarray) -> np.ndarray:
    """Label array uint8 (z, y, x, BraTS values) of nested region probabilities (3, z, y, x), threshold one half."""
    enhancing, core, whole = (probabilities[REGIONS.index(name)] >= 0.5 for name in ("ET", "TC", "WT"))
    labels = np.zeros(whole.shape, np.uint8)
    labels[whole] = LABELS["ED"]
    labels[core] = LABELS["NCR"]
    labels[enhancing] = LABELS["ET"]
    return labels


def millilitres(labels: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Volume in mL of each label and region, on the grid that the labels have (spacing in mm)."""
    voxel = float(np.prod(spacing)) / 1000.0
    counts = {name: int(np.count_nonzero(labels == value)) for name, value in LABELS.items()}
    counts["TC"] = counts["NCR"] + counts["ET"]
    counts["WT"] = counts["TC"] + counts["ED"]
    return {name: round(counts[name] * voxel, 3) for name in STRUCTURES}


def pieces_millilitres(labels: np.ndarray, spacing: tuple[float, float, float]) -> list[float]:
    """Volume in mL of every separate piece of whole tumour that is no speck, the largest first."""
    tumour = labels > 0
    sizes = find_pieces(tumour[bounding_box(tumour, margin=0)])[1]  # the whole volume takes ten times as long
    volumes = np.sort(sizes)[::-1] * float(np.prod(spacing)) / 1000.0
    return [round(float(volume), 3) for volume in volumes if volume >= SPECK_ML]


def check_outputs(output: Path, others: list[Path], inputs: list[Path]) -> None:
    """Raise InputError unless all these files can be written and none is an input. Called before any work is done.

    An image that stands in an input folder already is one too: a scan, an expert's drawing or an earlier result.
    """
    if not output.name.lower().endswith((SEGMENTATION, LABELMAP)):
        raise InputError(f"{output}: the output must end in {SEGMENTATION} (segmentation) or {LABELMAP} (BraTS labels)")
    inputs = [place_and_series(path)[0] for path in inputs]
    folders = {path.resolve() for path in inputs if path.is_dir()}
    outputs = [output, *others]
    for index, path in enumerate(outputs):
        require_utf8(path)
        check_writable(path)
        if any(_same_file(path, other) for other in (*inputs, *outputs[:index])):
            raise InputError(f"{path}: is an input or another output of this run; choose another name")
        rewritable = path.suffix.lower() in (".json", ".png")  # an earlier report or picture; no image of a patient
        if path.is_file() and not rewritable and folders & {*path.resolve().parents}:
            raise InputError(f"{path}: is there already, in a folder of inputs; choose another name")


def _same_file(path: Path, other: Path) -> bool:
    """Whether two names lead to one file: by links, or where the system takes large and small letters as one."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def make_folder(path: Path) -> bool:
    """Make a folder unless it is there, and say whether it was made. Raises InputError when that cannot be done."""
    try:
        if path.is_dir():
            return False
        path.mkdir()
        return True
    except OSError as error:
        raise InputError(f"{path}: no folder can be made there ({error.strerror}); choose another") from None


def check_writable(path: Path) -> None:
    """Raise InputError unless a file can be made in this path's folder."""
    folder = path.resolve().parent
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name a file to write")
    except OSError as error:
        raise InputError(f"{path.name[:40]}...: cannot be a file's name ({error.strerror}); choose a shorter") from None
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder to write to; make it first")
    probe = folder / f".{uuid.uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}); choose another output folder") from None


def label_image(labels: np.ndarray, reference: sitk.Image, segments: bool, convention: str) -> sitk.Image:
    """A label array as an image with the convention's values on the reference's grid; as segments for .seg.nrrd."""
    values = LABEL_CONVENTIONS[convention]
    coded = np.zeros_like(labels)
    for name, value in LABELS.items():
        coded[labels == value] = values[name]
    image = like(coded, reference)
    if segments:
        for key, value in segment_fields(coded, values).items():
            image.SetMetaData(key, value)
    return image


def percent_image(probability: np.ndarray, reference: sitk.Image) -> sitk.Image:
    """A region's probability in percent (uint8) on the reference's grid."""
    return like(np.rint(100 * probability).astype(np.uint8), reference)


def segment_fields(labels: np.ndarray, values: dict[str, int]) -> dict[str, str]:
    """The header fields by which Slicer opens an NRRD label image as named, coloured, coded segments."""
    extent = " ".join(f"0 {n - 1}" for n in labels.shape[::-1])
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for index, (name, value) in enumerate(values.items()):
        structure = STRUCTURES[name]
        segment = {
            "ID": name, "Name": structure.title, "NameAutoGenerated": "0", "LabelValue": str(value), "Layer": "0",
            "Color": " ".join(f"{c / 255:.6f}" for c in structure.colour), "ColorAutoGenerated": "0",
            "Extent": extent, "Tags": f"TerminologyEntry:{terminology_entry(name)}|",
        }  # fmt: skip
        fields |= {f"Segment{index}_{key}": text for key, text in segment.items()}
    return fields


class Outputs:
    """The files of one run: written beside their places under other names, and moved there together at the end.

    Use as a context; when anything fails, none of the files appears.
    """

    def __init__(self):
        self._written: dict[Path, Path] = {}
        self._made: list[Path] = []

    def __enter__(self):
        return self

    def folder(self, path: Path) -> None:
        """Make a folder unless it is there; when anything fails it goes again."""
        if make_folder(path):
            self._made.append(path)

    def image(self, image: sitk.Image, path: Path) -> None:
        """Write an image; it is read back, so that a full disk is noticed."""

        def write(partial: Path) -> None:
            sitk.WriteImage(image, str(partial), useCompression=True)
            if sitk.Hash(sitk.ReadImage(str(partial))) != sitk.Hash(image):
                raise OSError("what was written does not read back")

        self._write(path, write)

    def text(self, text: str, path: Path) -> None:
        self._write(path, lambda partial: partial.write_text(text, encoding="utf-8", errors="backslashreplace"))

    def data(self, data: bytes, path: Path) -> None:
        self._write(path, lambda partial: partial.write_bytes(data))

    def _write(self, path: Path, write: Callable[[Path], object]) -> None:
        suffix = next((s for s in (SEGMENTATION, LABELMAP) if path.name.lower().endswith(s)), path.suffix)
        partial = path.with_name(f".{uuid.uuid4().hex}{suffix}")  # of any length a name may have
        self._written[partial] = path
        try:
            write(partial)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1][:120]
            raise InputError(f"{path}: could not be written ({reason}); is the disk full?") from None

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                for path in filter(Path.exists, self._written.values()):
                    path.open("r+b").close()  # on Windows a file open elsewhere: known before any is replaced
                for partial, path in self._written.items():
                    os.replace(partial, path)
        except OSError as failure:
            raise InputError(f"{path}: could not be written ({failure.strerror})") from None
        finally:
            for partial in self._written:
                partial.unlink(missing_ok=True)
            for folder in self._made:
                if not any(folder.iterdir()):
                    folder.rmdir()
