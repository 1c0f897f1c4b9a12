"""The report of a segmentation: what went in, what was missing and what that costs, what came out, and how."""

from . import __version__
from .anatomy import REGIONS, STRUCTURES, subset_name
from .model_folder import Model
from .postprocessing import UNENHANCED
from .studies import Study

NOTICE = "Research use only. Not a medical device; not for diagnosis or treatment decisions."
FOR_GLIOMA = "Only for brains known to have a glioma: in others it often draws one all the same."
HOPELESS = 0.3  # an expected Dice below this is no better than a hint
MOST_PIECES = 5  # whose volumes are listed


def build_report(study: Study, model: Model, volumes_ml: dict[str, float], run: dict) -> dict:
    """The report as plain JSON values.

    Args:
        run: what the run itself knows: device, seconds, steps, volumes of separate pieces (mL), warnings.
    """
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
        "uncertain": uncertain(study.available, model),
        "warnings": [
            *_result_warnings(study, model, volumes_ml, run["pieces_ml"]),
            *_input_warnings([*study.warnings, *run.pop("warnings")]),
        ],
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
    words = f"Expected Dice, the mean of {here['WT']['cases']} held-out cases (and its 95% interval): {scores}."
    if (where_any := here["ET"].get("mean_where_any")) is not None:
        words += f" Over the cases that have enhancing tumour, ET is {where_any:.2f}."
    return f"{words} Single cases lie far above and below; nothing was measured on this one. {FOR_GLIOMA}"


def interval_words(score: dict) -> str:
    """A mean with its bootstrap interval; of one case or two there is none worth the name."""
    few = {1: "one case", 2: "two cases"}.get(score["cases"])
    around = few or f"{score['low']:.2f} to {score['high']:.2f}"
    return f"{score['mean']:.2f} ({around})"


def where_any(score: dict) -> float:
    """The mean over the cases that have the region, where a card tells it: elsewhere finding none counts 1."""
    return score.get("mean_where_any", score["mean"])


def uncertain(available: tuple[str, ...], model: Model) -> list[str]:
    """The labels and regions whose volume is little more than a guess from these sequences.

    Without T1ce that is ET, which contrast medium defines, and what it leaves of the core.
    """
    here = model.expected_dice(available)
    regions = {r for r in REGIONS if where_any(here[r]) < HOPELESS} | ({"ET"} if "T1ce" not in available else set())
    return [name for name in STRUCTURES if name in regions or (name == "NCR" and "ET" in regions)]


def volume_words(report: dict, name: str) -> str:
    """A label's or region's mL as tables show them: with a question mark where they are little more than a guess."""
    return f"{report['volumes_ml'][name]:.1f}{' ?' if is_uncertain(report, name) else ''}"


def is_uncertain(report: dict, name: str) -> bool:
    """Whether a report calls a label or region uncertain; a scene may hold one from before any did."""
    return name in report.get("uncertain", ())


def shortened(name: str, length: int = 48) -> str:
    """A volume's name in a narrow place: series differ at their ends as much as at their beginnings."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[len(name) - length // 2 + 1 :]}"


def _result_warnings(study: Study, model: Model, volumes_ml: dict[str, float], pieces_ml: list[float]) -> list[str]:
    """What the reader must know of the result: regions that these sequences cannot show, pieces, an empty result."""
    words = []
    enhancing, whole = volumes_ml["ET"], volumes_ml["WT"]
    if whole == 0:
        words.append("no tumour was found; that is not proof that there is none")
    elif "T1ce" not in study.available:
        drawn = "its outline is a guess" if enhancing else "finding none does not mean that nothing enhances"
        words.append(f"enhancing tumour (ET) is defined by contrast medium: without T1ce {drawn}")
    elif enhancing < UNENHANCED * whole:
        words.append(
            f"hardly anything enhances ({enhancing:.1f} of {whole:.1f} mL): look at T1ce, and whether it was taken "
            "after contrast medium"
        )
    if len(pieces_ml) > 1:
        sizes = ", ".join(f"{size:.1f}" for size in pieces_ml[:MOST_PIECES])
        more = ", ..." if len(pieces_ml) > MOST_PIECES else ""
        words.append(f"the tumour is drawn in {len(pieces_ml)} separate pieces ({sizes}{more} mL): any may be false")
    here = model.expected_dice(study.available)
    for region in uncertain(study.available, model):
        if region in REGIONS and (region != "ET" or "T1ce" in study.available):
            words.append(
                f"{STRUCTURES[region].title.lower()} ({region}) from {subset_name(study.available)}: expected Dice "
                f"{where_any(here[region]):.2f}, little more than a guess"
            )
    return words


def _input_warnings(words: list[str]) -> list[str]:
    """What was odd about the inputs, and what that means for the expected Dice."""
    if not words:
        return []
    measured = "the expected Dice was measured on studies prepared by experts, without the above; here it may be lower"
    return [*words, measured]
