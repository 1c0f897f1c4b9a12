"""Which of the four MR sequences a volume is, judged by its name, its DICOM tags and the image, with the reasons.

Every piece of evidence gives points to T1, T2, FLAIR or "none of them" and a sentence; whether contrast medium was
given is judged apart. Names and tags come first; the image decides where they say nothing, and contradicts where they
err.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .words import (
    AGENT,
    DENIED,
    DUAL_ECHO,
    GRADIENT_ECHO,
    HINT,
    LIKELY,
    LONGEST_NAME,
    NAMED,
    OTHER,
    SECOND_ECHO,
    SURE,
    WITH,
    WITHOUT,
    WORDS,
    matching,
    split_words,
)

DOUBT = 0.6
"""Confidence where the evidence contradicts itself; below it no sequence is named."""
BODY_PARTS = re.compile(
    r"spine|^(?!.*head)neck|knee|hip(?!po)|breast|abdomen|pelvis|prostate|liver|chest|shoulder|heart|ankle|wrist|foot"
)
IMAGE_TYPES = {
    "LOCALIZER", "SCREEN", "ADC", "EADC", "TRACEW", "FA", "PROJECTION", "MIP", "MINIP", "MNIP", "SUBTRACTION", "SUB",
    "SWI", "CBF", "RCBV", "MTT", "TTP", "MAP", "FAT", "OPP_PHASE", "OUT_PHASE",
}  # fmt: skip
NO_AGENT = re.compile(r"[\W_0]*(ml|cc)?[\W_]*|n/a")
"""A tag ContrastBolusAgent that names none; DENIED has the words."""


@dataclass
class Finding:
    """What a volume is: ``modality`` (None: none of the four, or not to be told), confidence 0 to 1, the reasons.

    ``unsure`` says that neither name nor tags tell anything; ``looks`` is the image's probability of each modality.
    """

    modality: str | None
    confidence: float
    evidence: list[str] = field(default_factory=list)
    unsure: bool = False
    looks: dict[str, float] | None = None


def identify(name: str, tags: Mapping[str, object] | None = None, image=None) -> Finding:
    """Judge a volume by its name (as a person sees it), a mapping of DICOM keyword to value, a 3-D SimpleITK image.

    Never raises: what cannot be read is no evidence.
    """
    finding = _judge_words(
        name, {key: _text(value) for key, value in tags.items()} if isinstance(tags, Mapping) else {}
    )
    if image is None:
        return finding
    from .appearance import look

    return with_appearance(finding, look(image))


def with_appearance(finding: Finding, appearance) -> Finding:
    """The finding with what the image looks like (an ``Appearance``, or None where it cannot be judged)."""
    if appearance is None:
        return finding
    best = max(appearance.probabilities, key=appearance.probabilities.get)
    share = appearance.probabilities[best]
    if finding.unsure:
        modality = best if share >= DOUBT else None
        words = [f"its name tells nothing; the image {appearance.words}"]
        return Finding(modality, min(0.9, share), words, unsure=True, looks=appearance.probabilities)
    if finding.modality is None:
        return finding
    confidence, evidence = finding.confidence, list(finding.evidence)
    if share >= 0.8 and _weighting(best) != _weighting(finding.modality):
        confidence = min(confidence, DOUBT)
        evidence.append(f"but the image looks like {best}: it {appearance.words}")
    return Finding(finding.modality, confidence, evidence, looks=appearance.probabilities)


def _judge_words(name: object, tags: Mapping[str, str]) -> Finding:
    evidence: list[str] = []
    scores = {"T1": 0.0, "T2": 0.0, "FLAIR": 0.0, OTHER: 0.0}
    words = split_words(_text(name)) | split_words(tags.get("SeriesDescription", ""))
    protocol = split_words(tags.get("ProtocolName", ""))
    # On some scanners the protocol is that of the whole examination: BRAIN W/WO CONTRAST, of every series.
    if not _spoken_of(words) or _spoken_of(words) == _spoken_of(protocol):
        words |= protocol
    for pattern, target, points, meaning in WORDS:
        if hits := matching(pattern, words):
            scores[target] += points
            evidence.append(f"“{hits[0]}” in its name speaks of {meaning}")
    _resolve_names(words, scores, evidence)
    _judge_tags(tags, scores, evidence)
    best = max(scores, key=scores.get)
    second = max(value for key, value in scores.items() if key != best)
    if scores[best] <= 0:
        return Finding(None, 0.0, ["neither its name nor its tags tell the sequence"], unsure=True)
    confidence = 1 / (1 + math.exp(-(scores[best] - second)))
    if best == OTHER:
        return Finding(None, confidence, evidence)
    if best == "T1" and _contrast(words, tags, evidence):
        best = "T1ce"
    if confidence < DOUBT:
        return Finding(None, confidence, [*evidence, "the evidence contradicts itself"])
    return Finding(best, confidence, evidence)


def _spoken_of(words: set[str]) -> set[str]:
    """The sequences, or none of them, that words speak for."""
    return {target for pattern, target, _, _ in WORDS if matching(pattern, words)}


def _resolve_names(words: set[str], scores: dict[str, float], evidence: list[str]) -> None:
    """Names that hold two contrasts: a FLAIR is often called T2 FLAIR; a T1 FLAIR is a T1; PD+T2 second echo is T2."""
    if scores["FLAIR"] and scores["T1"] >= NAMED:
        scores["FLAIR"] = 0.0
    elif scores["FLAIR"]:
        scores["T2"] = 0.0
    if scores["T2"] >= NAMED and scores["T1"] < NAMED:
        if matching(GRADIENT_ECHO, words):
            scores[OTHER] += SURE
            evidence.append("T2 by gradient echo is T2*")
        elif matching(SECOND_ECHO, words):
            scores[OTHER] = max(0.0, scores[OTHER] - HINT)
        elif matching(DUAL_ECHO, words):
            scores[OTHER] += 4.0
            evidence.append("a double echo, and not said to be the second")
    if scores["T1"] and scores["T2"]:  # a matrix code or echo time, rather than a contrast, is the lesser of the two
        scores[OTHER] += HINT


def _judge_tags(tags: Mapping[str, str], scores: dict[str, float], evidence: list[str]) -> None:
    """Physics: echo, repetition and inversion times in ms, the sequence type, and what kind of image it is."""
    modality = tags.get("Modality", "").upper().strip(" []'\"")
    if modality and modality != "MR":
        scores[OTHER] += 8.0
        evidence.append(f"its DICOM modality is {modality[:8]}, not MR")
    if part := BODY_PARTS.search(tags.get("BodyPartExamined", "").lower()):
        scores[OTHER] += SURE
        evidence.append(f"the body part examined is the {part.group()}")
    sequence = tags.get("ScanningSequence", "").upper()
    if "EP" in re.split(r"\W+", sequence):
        scores[OTHER] += SURE
        evidence.append("echo-planar imaging: diffusion, perfusion or functional")
    for word in sorted(set(re.split(r"\W+", tags.get("ImageType", "").upper())) & IMAGE_TYPES):
        scores[OTHER] += SURE
        evidence.append(f"its image type is {word.lower()}")
    echo, repetition, inversion = _times(tags)
    if echo is None:
        return
    times = f"echo time {echo:g} ms" + (f", inversion time {inversion:g} ms" if inversion else "")
    if inversion and 1400 <= inversion <= 3200 and echo > 60:
        scores["FLAIR"] += 3.0
        if not scores["T1"]:
            scores["T2"] = 0.0
        evidence.append(f"{times}: fluid-attenuated")
    elif inversion and inversion < 300 and scores["T1"] < NAMED:
        scores[OTHER] += SURE
        evidence.append(f"{times}: fat-suppressed by inversion")
    elif "GR" in sequence and not inversion and echo >= 12 and scores["T1"] < NAMED:
        scores[OTHER] += SURE
        evidence.append(f"{times} in a gradient echo: T2*")
    elif echo > 60 and (repetition or 3000) > 1500 and not inversion:
        scores["T2"] += LIKELY + (3.0 if scores["T2"] and 4.0 <= scores[OTHER] < SURE else 0.0)
        evidence.append(f"{times}: T2-weighted")
    elif echo < 35 and (repetition or 0) > 1500 and not inversion and scores["T2"]:
        scores[OTHER] += 4.0
        evidence.append(f"{times}: proton density")
    elif echo < 35 and ((inversion and inversion < 1400) or (repetition is not None and repetition < 1000)):
        scores["T1"] += LIKELY if "GR" in sequence or inversion or echo < 20 else HINT
        evidence.append(f"{times}: T1-weighted")


def _contrast(words: set[str], tags: Mapping[str, str], evidence: list[str]) -> bool:
    """Whether a T1 was taken after contrast medium; words that deny it win."""
    named, without, with_ = (matching(pattern, words) for pattern in (AGENT, WITHOUT, WITH))
    agent = tags.get("ContrastBolusAgent", "")
    if without and not named:
        evidence.append(f"“{without[0]}” says without contrast medium")
        return False
    if named or with_:
        evidence.append(f"“{(named or with_)[0].replace('plus', '+')}” says with contrast medium")
        return True
    if not NO_AGENT.fullmatch(agent.casefold()) and not split_words(agent) & DENIED:
        evidence.append(f"contrast agent given: {agent[:40]}")
        return True
    return False


def _weighting(modality: str) -> str:
    return "T1" if modality == "T1ce" else modality


def _times(tags: Mapping[str, str]) -> tuple[float | None, float | None, float | None]:
    """Echo, repetition and inversion time in ms; an echo time under 1 says that they are in seconds (BIDS)."""
    echo, repetition, inversion = (_number(tags, key) for key in ("EchoTime", "RepetitionTime", "InversionTime"))
    if echo is not None and 0 < echo < 1 and (repetition or 0) < 30:
        return tuple(value and 1000 * value for value in (echo, repetition, inversion))
    return echo, repetition, inversion


def _text(value: object) -> str:
    """Any value as text of bearable length; what refuses to be text is none."""
    try:
        if isinstance(value, (list, tuple)):
            value = value[:16]
        return "" if value is None else str(value)[:LONGEST_NAME].strip()
    except Exception:  # a caller's own object may raise anything
        return ""


def _number(tags: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(tags.get(key, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
