"""What the numbers of a result mean and where it lies: on the reference's own grid, left on the left."""

import numpy as np
import pytest
import SimpleITK as sitk

from lckd.anatomy import LABELS, REGIONS, STRUCTURES
from lckd.conditioning import ends_at_mask
from lckd.preprocessing import Preprocessing, find_foreground, prepare
from lckd.results import millilitres, on_reference, pieces_millilitres, to_labels
from lckd.studies import choose_reference, choose_study
from lckd.volumes import volume_file

BRAIN, BLOCK = 100.0, 300.0
CORNER, EDGES = (55, 20, 35), (10, 14, 20)  # of the block, (z, y, x) in voxels of the head: off the middle everywhere


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    """A ball of 80 mm with a block in it to the patient's right (low x), front (low y) and top (high z); LPS, 1 mm."""
    z, y, x = np.ogrid[:90, :90, :90]
    array = np.where((z - 44.5) ** 2 + (y - 44.5) ** 2 + (x - 44.5) ** 2 < 40**2, BRAIN + z - 44.5, 0.0).astype(
        np.float32
    )
    array[tuple(slice(first, first + edge) for first, edge in zip(CORNER, EDGES, strict=True))] = BLOCK
    image = sitk.GetImageFromArray(array)
    image.SetOrigin((-40.0, -60.0, 10.0))
    return image


def oblique(image: sitk.Image) -> sitk.Image:
    turn = sitk.Euler3DTransform()
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    turn.SetRotation(0.15, -0.1, 0.2)
    spacing, size = np.array([0.8, 0.8, 2.0]), np.array([125, 125, 50])
    origin = np.array(centre) - np.array(turn.GetMatrix()).reshape(3, 3) @ ((size - 1) / 2 * spacing)
    return sitk.Resample(image, size.tolist(), sitk.Transform(), sitk.sitkLinear, origin.tolist(), spacing.tolist(),
                         turn.GetMatrix())  # fmt: skip


def centre(mask: np.ndarray, image: sitk.Image) -> np.ndarray:
    """The middle of a mask (z, y, x) in space (LPS, mm)."""
    index = np.argwhere(mask).mean(0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index.tolist()))


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        (lambda image: image, 0.0),
        (lambda image: sitk.DICOMOrient(image, "LAS"), 0.0),
        (lambda image: sitk.DICOMOrient(image, "PIR"), 0.0),
        (oblique, 0.3),
    ],
    ids=["LPS", "LAS", "PIR", "oblique"],
)
def test_what_is_found_lies_where_it_was_seen(head, change, apart):
    reference = change(head)
    prepared = prepare({"FLAIR": reference}, "FLAIR", Preprocessing())
    values = prepared.images[0]
    seen = values > values.max() / 2
    back = on_reference(np.repeat(seen[None], 3, 0).astype(np.float32), prepared, reference)
    assert back.shape == (3, *reference.GetSize()[::-1])
    bright = sitk.GetArrayViewFromImage(reference) > (BRAIN + BLOCK) / 2
    for found in back >= 0.5:
        assert np.linalg.norm(centre(found, reference) - centre(bright, reference)) <= apart
        assert (found != bright).mean() <= apart / 100


def test_the_network_sees_the_patient_upright(head):
    """However a volume is stored: x to the patient's left, y to the back, z to the top, the box's corner told."""
    for code in ("LPS", "RAS", "PIR"):
        prepared = prepare({"FLAIR": sitk.DICOMOrient(head, code)}, "FLAIR", Preprocessing())
        values = prepared.images[0]
        block = np.argwhere(values > values.max() / 2)
        first = [part.start for part in prepared.box]
        assert (block.min(0) + first).tolist() == list(CORNER)
        assert (block.max(0) + 1 - block.min(0)).tolist() == list(EDGES)


def test_a_volume_that_lay_elsewhere_is_seen_where_the_reference_shows_it(sequence):
    """By its transform, from the reference's points to that volume's; without it the two do not fit."""
    volumes = {name: volume_file(sequence(name)).read() for name in ("T1ce", "FLAIR")}
    motion = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.1, -0.05, 0.12, (7.0, -6.0, 4.0))
    away = sitk.Resample(volumes["FLAIR"], volumes["FLAIR"], motion.GetInverse(), sitk.sitkLinear)
    still = prepare(volumes, "T1ce", Preprocessing())
    there = still.images[1] != 0

    def likeness(transforms) -> float:
        prepared = prepare({**volumes, "FLAIR": away}, "T1ce", Preprocessing(), transforms)
        whole = np.zeros(prepared.grid.GetSize()[::-1], np.float32)
        whole[prepared.box] = prepared.images[1]
        return float(np.corrcoef(whole[still.box][there], still.images[1][there])[0, 1])

    assert likeness({"FLAIR": motion}) > 0.95
    assert likeness({}) < 0.8


def test_a_file_that_does_not_say_how_the_head_lies_is_told_of(sequence, tmp_path):
    import nibabel

    loaded = nibabel.load(sequence("FLAIR"))
    for codes, told in (((0, 0), True), ((1, 0), False), ((0, 1), False)):
        image = nibabel.Nifti1Image(np.asarray(loaded.dataobj), loaded.affine)
        image.set_qform(loaded.affine, code=codes[0])
        image.set_sform(loaded.affine, code=codes[1])
        nibabel.save(image, tmp_path / "flair.nii.gz")
        study = choose_study([], {"FLAIR": tmp_path / "flair.nii.gz"})
        study.compare_with({"FLAIR": study.volumes["FLAIR"].read()})
        assert ["does not say how the head lies" in warning for warning in study.warnings] == [True] * told


def test_a_brain_that_splines_have_resampled_is_one_without_skull(sequence):
    image = volume_file(sequence("T1ce")).read()
    image.SetSpacing([1.4] * 3)  # as large as a head
    finer = sitk.Resample(image, [n + 7 for n in image.GetSize()], sitk.Transform(), sitk.sitkBSpline,
                          image.GetOrigin(), [1.3] * 3, image.GetDirection())  # fmt: skip
    plain, stripped = find_foreground(image)
    mask, also = find_foreground(finer)
    assert stripped and also
    volumes = [np.count_nonzero(found) * np.prod(of.GetSpacing()) for found, of in ((plain, image), (mask, finer))]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.12)  # the edge is some voxels wide


def test_labels_are_the_innermost_region_that_is_likely():
    columns = {"nothing": (0.2, 0.2, 0.49), "ED": (0.2, 0.2, 0.5), "NCR": (0.2, 0.5, 0.6), "ET": (0.5, 0.6, 0.6)}
    assert REGIONS == ("ET", "TC", "WT")
    labels = to_labels(np.array(list(columns.values()), np.float32).T.reshape(3, 1, 2, 2)).ravel().tolist()
    assert labels == [0, LABELS["ED"], LABELS["NCR"], LABELS["ET"]]


def test_volumes_count_what_a_region_holds():
    labels = np.repeat([0, LABELS["NCR"], LABELS["ED"], LABELS["ET"]], (5, 10, 20, 40)).reshape(3, 5, 5)
    expected = {"NCR": 0.02, "ED": 0.04, "ET": 0.08, "TC": 0.1, "WT": 0.14}
    found = millilitres(labels, (0.5, 1.0, 4.0))
    assert found.keys() == STRUCTURES.keys() and {name: found[name] for name in expected} == expected


def test_pieces_are_told_by_size_and_specks_are_not():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[2:4, 2:7, 2:12], labels[2:4, 7:9, 2:12] = LABELS["ED"], LABELS["ET"]  # one piece of two labels
    labels[20:25, 20:25, 20:28] = LABELS["NCR"]
    labels[15, 15, 15] = LABELS["ED"]
    assert pieces_millilitres(labels, (1.0, 1.0, 1.0)) == [0.2, 0.14]
    assert pieces_millilitres(np.zeros_like(labels), (1.0, 1.0, 1.0)) == []


def test_the_sharpest_volume_gives_the_grid():
    thick, thin = sitk.Image([8, 8, 8], sitk.sitkFloat32), sitk.Image([8, 8, 8], sitk.sitkFloat32)
    thick.SetSpacing((0.5, 0.5, 5.0))
    assert choose_reference({"T1ce": thick, "FLAIR": thin}) == "FLAIR"
    assert choose_reference({"FLAIR": thin, "T1ce": thin}) == "T1ce"


def test_a_region_that_ends_at_the_brains_edge_is_noticed():
    brain, inside, outside = (np.zeros((20, 20, 20), bool) for _ in range(3))
    brain[4:16, 4:16, 4:16] = True
    inside[7:12, 7:12, 7:12] = True
    outside[4:9, 7:12, 7:12] = True
    assert ends_at_mask(outside, brain) and not ends_at_mask(inside, brain)
    assert not ends_at_mask(np.zeros_like(brain), brain)
