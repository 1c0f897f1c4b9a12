"""What a report tells its reader: no number without its doubt, no absence taken for a finding."""

from pathlib import Path

import pytest

from lckd.anatomy import MODALITIES, REGIONS, STRUCTURES
from lckd.detection import Finding
from lckd.model_folder import load_model
from lckd.report import build_report, interval_words, shortened, volume_words
from lckd.studies import Study
from lckd.volumes import Volume

WITHOUT_ET = {"NCR": 10.0, "ED": 30.0, "ET": 0.0, "TC": 10.0, "WT": 40.0}
WITH_ET = {"NCR": 5.0, "ED": 30.0, "ET": 5.0, "TC": 10.0, "WT": 40.0}
NOTHING = dict.fromkeys(STRUCTURES, 0.0)


def report(sequences: tuple[str, ...], volumes: dict[str, float], pieces=(40.0,), warnings=()) -> dict:
    files = {name: Volume(name, Path(f"{name}.nii.gz")) for name in sequences}
    study = Study(files, {name: Finding(name, 1.0, []) for name in sequences}, warnings=[*warnings])
    return build_report(study, load_model(None), volumes, {"pieces_ml": [*pieces], "warnings": []})


@pytest.mark.parametrize("sequences", [("FLAIR",), ("T1", "T2", "FLAIR")])
def test_no_enhancement_without_t1ce_is_no_finding(sequences):
    made = report(sequences, WITHOUT_ET)
    assert "does not mean that nothing enhances" in made["warnings"][0]
    assert volume_words(made, "ET") == "0.0 ?" and volume_words(made, "NCR") == "10.0 ?"
    assert volume_words(made, "WT") == "40.0"
    assert "its outline is a guess" in report(sequences, WITH_ET)["warnings"][0]


def test_enhancement_with_t1ce_is_not_doubted():
    made = report(MODALITIES, WITH_ET)
    assert made["warnings"] == [] and made["uncertain"] == []
    assert [volume_words(made, name) for name in REGIONS] == ["5.0", "10.0", "40.0"]


def test_hardly_any_enhancement_with_t1ce_is_told():
    assert "hardly anything enhances (0.0 of 40.0 mL)" in report(MODALITIES, WITHOUT_ET)["warnings"][0]


def test_an_empty_result_is_told_alone():
    made = report(("FLAIR",), NOTHING, pieces=())
    assert made["warnings"][0].startswith("no tumour was found") and "contrast" not in " ".join(made["warnings"])


def test_separate_pieces_are_told():
    words = report(MODALITIES, WITH_ET, pieces=(30.0, 4.0, 3.0, 1.5, 1.0, 0.5))["warnings"][0]
    assert "6 separate pieces (30.0, 4.0, 3.0, 1.5, 1.0, ... mL)" in words


def test_what_was_odd_about_the_inputs_lowers_what_to_expect():
    *_, odd, so = report(MODALITIES, WITH_ET, warnings=["T2 has thick slices"])["warnings"]
    assert odd == "T2 has thick slices" and "here it may be lower" in so


def test_a_scene_saved_before_doubts_were_kept_still_shows_its_volumes():
    assert volume_words({"volumes_ml": WITH_ET}, "ET") == "5.0"


@pytest.mark.parametrize(("cases", "words"), [(1, "one case"), (2, "two cases"), (9, "0.40 to 0.60")])
def test_an_interval_needs_cases(cases, words):
    assert interval_words({"mean": 0.5, "low": 0.4, "high": 0.6, "cases": cases}) == f"0.50 ({words})"


def test_long_names_are_shortened_in_the_middle():
    names = [f"{'t1_mprage_sag_p2_iso_' * 4}{end}" for end in ("pre", "post")]
    assert all(len(shortened(name)) <= 48 for name in names) and shortened(names[0]) != shortened(names[1])
    assert shortened("a" * 48) == "a" * 48
