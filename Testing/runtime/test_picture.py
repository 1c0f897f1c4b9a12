"""The picture of a result: sides as radiologists read them, the tumour that counts, every warning to its end."""

import io

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from lckd.anatomy import LABELS, REGIONS, STRUCTURES
from lckd.picture import GAP, PANEL, TOP, WARNING, draw_picture
from lckd.preprocessing import like

BLOCK = np.s_[55:65, 20:34, 35:55]  # (z, y, x): to the patient's right (low x), front (low y) and top (high z)
APART = np.s_[20:26, 60:64, 60:68]  # a smaller one below, behind and to the left
COLUMNS = [GAP + n * (PANEL + GAP) + PANEL / 2 for n in range(3)]  # the planes' middles


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    """A ball of 80 mm; LPS, 1 mm."""
    z, y, x = np.ogrid[:90, :90, :90]
    inside = (z - 44.5) ** 2 + (y - 44.5) ** 2 + (x - 44.5) ** 2 < 40**2
    return sitk.GetImageFromArray(np.where(inside, 55.5 + z, 0.0).astype(np.float32))


def labelled(head: sitk.Image, blocks: dict[str, tuple[slice, ...]]) -> np.ndarray:
    labels = np.zeros(head.GetSize()[::-1], np.uint8)
    for name, block in blocks.items():
        labels[block] = LABELS[name]
    return labels


def drawn(reference: sitk.Image, labels: np.ndarray, warnings: list[str] | None = None) -> np.ndarray:
    score = {"mean": 0.5, "low": 0.4, "high": 0.6, "cases": 9}
    report = {
        "inputs": {"FLAIR": {"volume": "flair"}}, "missing": [], "reference": "FLAIR", "notice": "", "program": "",
        "model": {"name": "", "version": ""}, "volumes_ml": dict.fromkeys(STRUCTURES, 0.0), "warnings": warnings or [],
        "expected_dice": dict.fromkeys(REGIONS, score), "expectation": [],
    }  # fmt: skip
    return np.asarray(Image.open(io.BytesIO(draw_picture(reference, labels, report))).convert("RGB"))


def where(picture: np.ndarray, name: str) -> list[np.ndarray]:
    """The middle (row, column) of a label's outline in each plane."""
    marked = np.argwhere((picture[: TOP + PANEL, : 3 * (PANEL + GAP)] == STRUCTURES[name].colour).all(-1))
    return [marked[np.abs(marked[:, 1] - column) < PANEL / 2].mean(0) for column in COLUMNS]


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR"])
def test_the_patients_right_is_on_the_left(head, code):
    labels = sitk.DICOMOrient(like(labelled(head, {"ET": BLOCK}), head), code)
    picture = drawn(sitk.DICOMOrient(head, code), sitk.GetArrayFromImage(labels))
    axial, coronal, sagittal = where(picture, "ET")
    middle = TOP + PANEL / 2
    assert axial[0] < middle and axial[1] < COLUMNS[0]  # front above, right on the left
    assert coronal[0] < middle and coronal[1] < COLUMNS[1]  # top above
    assert sagittal[0] < middle and sagittal[1] < COLUMNS[2]  # the nose on the left


def test_planes_go_through_the_largest_piece(head):
    """Even where the smaller one has all the core: it is the likelier to be false."""
    picture = drawn(head, labelled(head, {"ED": BLOCK, "ET": APART}))
    colours = {tuple(colour) for colour in picture[: TOP + PANEL, : 3 * (PANEL + GAP)].reshape(-1, 3).tolist()}
    assert STRUCTURES["ED"].colour in colours and STRUCTURES["ET"].colour not in colours


def test_without_tumour_the_planes_show_the_middle(head):
    picture = drawn(head, labelled(head, {}))
    for column in COLUMNS:
        assert picture[TOP + PANEL // 2 - 40, int(column)].min() > 60


def test_every_warning_is_shown(head):
    labels = labelled(head, {"ET": BLOCK})
    short, long = (drawn(head, labels, ["a warning of some length that matters"] * count) for count in (1, 40))
    assert long.shape[0] > short.shape[0] + 300
    last_words = (long[-80:] == WARNING).all(-1)
    assert last_words.any(), "the last warning stands just above the notice"
