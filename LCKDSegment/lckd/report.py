"""The report of a segmentation: what went in, what was missing and what that costs, what came out, and how."""

from . import __version__
from .anatomy import REGIONS, STRUCTURES, subset_name
from .model_folder import Model
from .studies import Study

NOTICE = "Research use only. Not a medical device; not for diagnosis or treatment decisions."
HOPELESS = 0.3  # an expected Dice below this is no better than a hint


def build_report(study: Study, model: Model, volumes_ml: dict[str, float], run: dict) -> dict:
    """The report as plain JSON values. ``run`` holds what the run itself knows: device, seconds, steps, warnings."""
    return {
        "notice": NOTICE,
        "program": f"lckd {__version__}",
        "model": {"name": model.card["name"], "version": model.card["version"], "sha256": model.card["weights_sha256"]},
        "inputs": {
            name: {
                "volume": volume.name,
                "path": volume.address,
                "confidence": round(study.findings[name].confidence, 3),
                "why": study.findings[name].evidence,
            }
            for name, volume in study.volumes.items()
        },
        "not_used": [{"volume": v.name, "why": f.evidence} for v, f in study.others],
        "missing": missing_words(study.missing, model),
        "expected_dice": model.expected_dice(study.available),
        "expectation": cost_sentences(study.available, model),
        "volumes_ml": volumes_ml,
        "warnings": _warnings(study, model, volumes_ml, run.pop("warnings")),
        **run,
    }


def missing_words(missing: tuple[str, ...], model: Model) -> list[dict]:
    """For each missing modality, the regions it was elected to teach."""
    return [{"modality": name, "teaches": [r for r in REGIONS if model.teachers.get(r) == name]} for name in missing]


def cost_sentences(available: tuple[str, ...], model: Model) -> list[str]:
    """What a person reads before segmenting: what is missing, what it shows best, and what that costs by the card."""
    complete = model.expected_dice(model.card["modalities"])
    here = model.expected_dice(available)
    missing = tuple(name for name in model.card["modalities"] if name not in available)
    sentences = [] if missing else ["All four sequences are there."]
    for item in missing_words(missing, model):
        if item["teaches"]:
            costs = ", ".join(
                f"expected {r} Dice {here[r]['mean']:.2f} instead of {complete[r]['mean']:.2f}" for r in item["teaches"]
            )
            shown = " and ".join(f"{STRUCTURES[r].title.lower()} ({r})" for r in item["teaches"])
            sentences.append(f"{item['modality']} is missing: it shows {shown} best; {costs}.")
    others = [item["modality"] for item in missing_words(missing, model) if not item["teaches"]]
    if others:
        *first, last = others
        names = f"{', '.join(first)} and {last} are" if first else f"{last} is"
        sentences.append(f"{names} missing.")
    return [*sentences, expectation(available, model)]


def expectation(available: tuple[str, ...], model: Model) -> str:
    """The expected Dice of each region for exactly this subset, with what it rests on, in words."""
    here = model.expected_dice(available)
    scores = ", ".join(f"{r} {interval_words(here[r])}" for r in REGIONS)
    words = f"Expected Dice, from {here['WT']['cases']} held-out cases: {scores}."
    if (where_any := here["ET"].get("mean_where_any")) is not None:
        words += f" Over the cases that have enhancing tumour, ET is {where_any:.2f}."
    return words


def interval_words(score: dict) -> str:
    """A mean with its bootstrap interval; of a single case there is none."""
    around = "one case" if score["cases"] == 1 else f"{score['low']:.2f} to {score['high']:.2f}"
    return f"{score['mean']:.2f} ({around})"


def where_any(score: dict) -> float:
    """The mean over the cases that have the region, where a card tells it: elsewhere finding none counts 1."""
    return score.get("mean_where_any", score["mean"])


def _warnings(study: Study, model: Model, volumes_ml: dict[str, float], prepared: list[str]) -> list[str]:
    """What the reader of the result must know: of the inputs, of regions these cannot show, of an empty result."""
    words = [*study.warnings, *prepared]
    if words:
        words.append(
            "the expected Dice was measured on studies prepared by experts, without the above; here it may be lower"
        )
    if "T1ce" not in study.available:
        words.append("enhancing tumour (ET) is defined by contrast medium: without T1ce its outline is a guess")
    here = model.expected_dice(study.available)
    for region in REGIONS:
        expected = where_any(here[region])
        if expected < HOPELESS and (region != "ET" or "T1ce" in study.available):
            words.append(
                f"{STRUCTURES[region].title.lower()} ({region}) from {subset_name(study.available)}: expected Dice "
                f"{expected:.2f}, little more than a guess"
            )
    if volumes_ml["WT"] == 0:
        words.append("no tumour was found; that is not proof that there is none")
    return words
