"""Which sequence a name and its tags speak of."""

import csv
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lckd.detection import identify

COLUMNS = {
    "series_description": "SeriesDescription", "protocol_name": "ProtocolName", "repetition_time_ms": "RepetitionTime",
    "echo_time_ms": "EchoTime", "inversion_time_ms": "InversionTime", "scanning_sequence": "ScanningSequence",
    "sequence_variant": "SequenceVariant", "contrast_agent": "ContrastBolusAgent", "image_type": "ImageType",
    "modality": "Modality",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("BraTS2021_00006_t1ce", "T1ce"), ("BraTS-GLI-00001-000-t1c", "T1ce"), ("BraTS-GLI-00001-000-t1n", "T1"),
        ("BraTS-GLI-00001-000-t2f", "FLAIR"), ("BraTS-GLI-00001-000-t2w", "T2"), ("sub-01_FLAIR", "FLAIR"),
        ("Ax T1 +C", "T1ce"), ("AX T1 FLAIR", "T1"), ("T2 FLAIR POST", "FLAIR"), ("Ax T2 post", "T2"),
        ("T1 SE nach KM", "T1ce"), ("T1 SE nativ", "T1"), ("t1 senza mdc", "T1"), ("T1 增强", "T1ce"),
        ("sub-01_T1w", "T1"), ("sub-01_ses-02_ce-gd_T1w", "T1ce"), ("sub-01_T2w", "T2"),
        ("patient1_flair", "FLAIR"), ("visit1_t2", "T2"), ("dataset2_t1ce", "T1ce"),
        ("t1ce_preprocessed", "T1ce"), ("T1gd_preop", "T1ce"), ("T1_postop", "T1"), ("t1_posterior_fossa", "T1"),
        ("T1 C-", "T1"), ("AX T1 PRE GAD", "T1"), ("T1 non-FS +C", "T1ce"), ("3DT1GADO", "T1ce"),
        ("flair_mask", None), ("FLAIR_brain_mask", None), ("dwi_flair", None), ("t1ce_mprage_seg", None),
        ("flair_to_t1", "FLAIR"), ("FLAIR_in_T1ce_space", "FLAIR"), ("T2_reg2T1", "T2"), ("T2fse", "T2"),
        ("T1 w/o contrast", "T1"), ("FLAIR_r2s_regT1", "FLAIR"), ("MP RAGE", "T1"),
        ("ADC", None), ("ep2d_diff_b1000", None), ("T2*", None), ("T1 map", None), ("t2_localizer", None),
        ("case_seg", None), ("ax swi", None), ("3D TOF", None), ("Series 301", None), ("", None),
    ],
)  # fmt: skip
def test_names(name, modality):
    assert identify(name).modality == modality


@pytest.mark.parametrize(
    ("tags", "modality"),
    [
        ({"RepetitionTime": 5000, "EchoTime": 388, "InversionTime": 1800}, "FLAIR"),
        ({"RepetitionTime": 4500, "EchoTime": "102", "ScanningSequence": "SE"}, "T2"),
        ({"RepetitionTime": 500, "EchoTime": 9, "ScanningSequence": "SE"}, "T1"),
        ({"RepetitionTime": 500, "EchoTime": 9, "ContrastBolusAgent": "Gadovist"}, "T1ce"),
        ({"RepetitionTime": 4000, "EchoTime": 80, "ScanningSequence": "EP"}, None),
        ({"Modality": "CT", "EchoTime": 100, "RepetitionTime": 4000}, None),
    ],
)
def test_physics_when_the_name_says_nothing(tags, modality):
    assert identify("Series 7", tags).modality == modality


def test_a_name_without_information_is_unsure():
    finding = identify("Series 301")
    assert finding.modality is None and finding.confidence == 0
    assert "neither" in finding.evidence[0]


def test_public_names(data):
    with (data / "series_names.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    started = time.perf_counter()
    found = [identify(row["name"], {COLUMNS[k]: v for k, v in row.items() if k in COLUMNS and v}) for row in rows]
    seconds = time.perf_counter() - started
    truth = [None if row["truth"] == "none" else row["truth"] for row in rows]
    right = sum(f.modality == t for f, t in zip(found, truth, strict=True))
    assert right / len(rows) >= 0.97
    assert not [f for f, t in zip(found, truth, strict=True) if t is None and f.modality and f.confidence > 0.8]
    assert len(rows) / seconds > 200


@given(st.text(), st.dictionaries(st.sampled_from([*COLUMNS.values(), "X"]), st.one_of(
    st.none(), st.text(), st.floats(), st.integers(), st.binary(), st.lists(st.text()))))  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_any_name_and_any_tags(name, tags):
    finding = identify(name, tags)
    assert finding.modality in (None, "T1", "T1ce", "T2", "FLAIR")
    assert 0 <= finding.confidence <= 1
    assert finding.evidence


@given(st.permutations(["ax", "t1", "post", "3d"]), st.sampled_from(" _-.:"), st.booleans())
def test_order_separators_and_case_do_not_matter(words, separator, upper):
    name = separator.join(words)
    assert identify(name.upper() if upper else name).modality == "T1ce"
