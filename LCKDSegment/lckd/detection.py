"""Which of the four MR sequences a volume is, judged by its name and DICOM tags, with the reasons.

Every piece of evidence gives points to T1, T2, FLAIR or "none of them" and a sentence; a separate score says whether
contrast medium was given. Words are looked at one by one, so their order, letter case and separators do not matter.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

OTHER = "none of the four"
LONGEST_NAME = 512  # characters; a longer one is no name

SURE, LIKELY, HINT = 10.0, 2.0, 1.0
"""Points. SURE is a veto: a mask of a FLAIR, or a diffusion image prepared like one, is no FLAIR."""

# What may stand before T1 or T2 in one word: resampling marks, plane, dimension, sequence family. Not "patient".
LEAD = (
    r"(?:[0-9rsnwcef]|[23]d|ax|sag|cor|tra|axial|sagittal|coronal|trans|oax|osag|ocor|se|tse|fse|ir|gre|cube|space|"
    r"brain|head)*"
)

# Words of a series name: (whole-word pattern, what it speaks for, points, what it is).
WORDS = [
    (r"\w*(dwi|dti|adc|trace|tensor|hardi|noddi|dki)\w*|diff(usion)?\w*|fa|md|colfa|apparent|b\d{3,4}|ivim",
     OTHER, SURE, "diffusion"),
    (r"(sag|ax|cor|tra|t2)?(swi|swan|vibravo|hemo|venobold|qsm|minip)\w*|susceptibility|swp|phase|pha", OTHER, SURE,
     "susceptibility"),
    (r"t2star\w*|t2s|star|medic|merge", OTHER, SURE, "T2*"),
    (r"(3d)?tof|mr[av]\d*\w?|\w*angio\w*|venc\d*|pc3d|pca|inhance|twist|mip|mips", OTHER, SURE, "angiography"),
    (r"s?pwi|perf\w*|perfusion|dsc|dce|\w*asl|cbf|cbv|rcbv|rcbf|mtt|ttp|tmax|ktrans|ep2d|epi|bold|fmri|rsfmri|sbref",
     OTHER, SURE, "perfusion or functional imaging"),
    (r"csi|mrs|svs|spectro\w*|\w?laser|mega|prescan", OTHER, SURE, "spectroscopy"),
    (r"(aah)?scout\w*|loc|lo[ck]ali\w*|survey|topogram|smartbrain|plane|\dplane|3pl|posici\w*", OTHER, SURE,
     "a localizer"),
    (r"\w*seg|segm\w*|\w*segmentation\w*|label\w*|\w*mask|roi|contour\w*|rtstruct|ot", OTHER, SURE,
     "a segmentation or mask"),
    (r"(iso)?\w*map(s|ping|it)?|molli|relaxometry|b[01]|calib\w*|distortion\w*|topup|\d*echoes|mtr",
     OTHER, SURE, "a map or calibration"),
    (r"sub|subtr\w*|subtraction|substraction|difference|jacobian|warp\w*", OTHER, SURE, "a subtraction"),
    (r"dir|stir|ct|cta|pet|spect|dose|report|dixon|ute|zte|fiesta|ciss|fgatir|wmn", OTHER, LIKELY, "another technique"),
    (r"pdw?|proton|dens\w*|rho|dp", OTHER, HINT, "proton density"),
    (r"\w*flair\w*|\w*tirm\w*|darkfluid|fl|\d*t2f|t2fl", "FLAIR", 6.0, "fluid attenuation"),
    (LEAD + r"t2(?!f$|fl$|flair|s$|star|map|swi)\w*", "T2", 3.0, "T2"),
    (LEAD + r"t1(?!map)\w*", "T1", 3.0, "T1"),
    (r"\w*(mp2?rage|fspgr|bravo|spgr|mprage)\w*|mpr|mp|tfe|tfl\w*|vibe\w*|thrive|flash\w*|ffe", "T1", LIKELY,
     "a T1-weighted gradient echo"),
    (r"haste|ssfse|propeller|blade|multivane|drive", "T2", HINT, "a T2-weighted technique"),
]  # fmt: skip

# Words that say whether contrast medium was given (only T1 keeps it; a post-contrast T2 is a T2).
AGENT = LEAD + r"t1_?(ce|c|gd\w*|gad\w*|km|kontrast\w*|mdc|plusc)(w|\d*)"
"""Contrast medium as part of the sequence's own name: T1ce, T1Gd. A "pre" beside it is the operation's."""
WITH = (
    r"plus(c|gd|gado?\w*|km|k|mdc|cm|contrast\w*|ce|iv)|post|postc|post(contrast|gad|gd|km|inj|con|kontrast)\w*|"
    r"\w*(gado|magnevist|dotarem|omniscan|gadavist|gadovist|prohance|multihance|clariscan|contrast|kontrast)\w*|"
    + LEAD + r"t1post\w?|c|ce|gd|gad|km|civ|mdc|nach|dopo|apres|despues|depois|stealth|enhanced|\w*增强\w*|mc|iv|pgd"
)  # fmt: skip
WITHOUT = (
    r"wo|without|noncontrast|pre|prec|pre(contrast|gad|gd|km|inj|con|kontrast)\w*|nativ\w?|plain|unenhanced|ohne|senza|"
    r"sans|sin|sem|vor|avant|antes|prima|basal\w*|\w*平扫\w*|nogd|nocontrast|nonce"
)

REGISTERED = (
    r"(?<![a-z0-9])(?:(?:co)?reg(?:istered)?|rigid|r2s)?[\s_-]*(?:2|to|in|on|reg)[\s_-]*"
    r"(?:t1[a-z]*|t2[a-z]*|flair|mni\w*)(?![a-z0-9])(?:[\s_-]*space)?"
)
# Read before the words: (pattern of the lower-case name, what takes its place).
PHRASES = [
    (r"(?<![a-z0-9])(sub|ses|run|acq|rec|dir|echo|part)-[a-z0-9]+", " "),  # BIDS entities
    (r"t2\s*\*", "t2star "),
    (r"w\s*/\s*o(?![a-z])", " wo "),
    (r"(?<![a-z])non?[\s_-]*(contrast|enhanced|enhancing|gad[a-z]*|gd|ce)(?![a-z])", " noncontrast "),
    (r"(?<![a-z0-9])c\s*-(?![a-z0-9])", " noncontrast "),
    (r"smart[\s_-]*brain", "smartbrain"),
    (r"mp[\s_-]*rage", "mprage"),
    (r"dark[\s_-]*fluid", "darkfluid"),
    (r"(pre|post)[\s_-]*(op|surg|proc|treat|rt)[a-z]*|poster(ior|o)[a-z]*|processed|captk|brats\d*", " "),
    # The target of a registration is not what the image shows.
    (REGISTERED, " "),
    (r"\+\s*(?=(?:c|gd|gad|km|k|mdc|cm|contrast|kontrast|ce|iv)(?:[^a-z]|$|[a-z]{3}))", " plus"),
]  # fmt: skip


@dataclass
class Finding:
    """What a volume is: ``modality`` (None: none of the four, or not to be told), confidence 0 to 1, the reasons."""

    modality: str | None
    confidence: float
    evidence: list[str] = field(default_factory=list)


def identify(name: str, tags: Mapping[str, object] | None = None) -> Finding:
    """Judge a volume by its name (as a person sees it) and a mapping of DICOM keyword to value. Never raises."""
    tags = tags or {}
    evidence: list[str] = []
    scores = {"T1": 0.0, "T2": 0.0, "FLAIR": 0.0, OTHER: 0.0}
    names = {str(n)[:LONGEST_NAME] for n in (name, tags.get("SeriesDescription"), tags.get("ProtocolName")) if n}
    words = set().union(*(split_words(text) for text in names)) if names else set()
    for pattern, target, points, meaning in WORDS:
        hits = sorted(word for word in words if re.fullmatch(pattern, word))
        if hits:
            scores[target] += points
            evidence.append(f"“{hits[0]}” in its name speaks of {meaning}")
    _resolve_names(words, scores)
    _judge_tags(tags, scores, evidence)
    best = max(scores, key=scores.get)
    second = max(value for key, value in scores.items() if key != best)
    if scores[best] <= 0:
        return Finding(None, 0.0, ["neither its name nor its tags tell the sequence"])
    confidence = 1 / (1 + math.exp(-(scores[best] - second)))
    if best == OTHER:
        return Finding(None, confidence, evidence)
    if best == "T1" and _contrast(words, tags, evidence):
        best = "T1ce"
    if confidence < 0.6:
        return Finding(None, confidence, [*evidence, "the evidence contradicts itself"])
    return Finding(best, confidence, evidence)


def split_words(text: str) -> set[str]:
    """The words of a name in one spelling: lower case, no accents, ``+C`` as ``plusc``, ``T2*`` as ``t2star``."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFKC", text))
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    for pattern, replacement in PHRASES:
        text = re.sub(pattern, replacement, text)
    return set(re.findall(r"[^\W_]+", text))


def _resolve_names(words: set[str], scores: dict[str, float]) -> None:
    """Names that hold two contrasts: a FLAIR is often called T2 FLAIR; a T1 FLAIR is a T1; PD+T2 second echo is T2."""
    if scores["FLAIR"] and scores["T1"] >= 3.0:
        scores["FLAIR"] = 0.0
    elif scores["FLAIR"]:
        scores["T2"] = 0.0
    if scores["T2"] and any(re.fullmatch(r"(pluse?)?e2|plust2", word) for word in words):
        scores[OTHER] = max(0.0, scores[OTHER] - HINT)
    if scores["T1"] and scores["T2"]:  # a matrix code or echo time, rather than a contrast, is the lesser of the two
        scores[OTHER] += HINT


def _judge_tags(tags: Mapping[str, object], scores: dict[str, float], evidence: list[str]) -> None:
    """Physics: echo, repetition and inversion times in ms, the sequence type, and what kind of image it is."""
    modality = str(tags.get("Modality") or "").upper()
    if modality and modality != "MR":
        scores[OTHER] += 8.0
        evidence.append(f"its DICOM modality is {modality[:8]}, not MR")
    sequence = str(tags.get("ScanningSequence") or "").upper()
    if "EP" in re.split(r"\W+", sequence):
        scores[OTHER] += SURE
        evidence.append("echo-planar imaging: diffusion, perfusion or functional")
    kind = set(re.split(r"\W+", str(tags.get("ImageType") or "").upper()))
    for word in sorted(kind & {"LOCALIZER", "ADC", "TRACEW", "FA", "PROJECTION", "SUBTRACTION", "CBF", "MIP"}):
        scores[OTHER] += SURE
        evidence.append(f"its image type is {word.lower()}")
    echo, repetition, inversion = (_number(tags, key) for key in ("EchoTime", "RepetitionTime", "InversionTime"))
    if echo is None:
        return
    times = f"echo time {echo:g} ms" + (f", inversion time {inversion:g} ms" if inversion else "")
    if inversion and 1400 <= inversion <= 3200 and echo > 60:
        scores["FLAIR"] += 3.0
        evidence.append(f"{times}: fluid-attenuated")
    elif echo > 60 and (repetition or 3000) > 1500 and not inversion:
        scores["T2"] += LIKELY
        evidence.append(f"{times}: T2-weighted")
    elif echo < 35 and ((inversion and inversion < 1400) or (repetition is not None and repetition < 1000)):
        scores["T1"] += LIKELY if "GR" in sequence or inversion or echo < 20 else HINT
        evidence.append(f"{times}: T1-weighted")


def _contrast(words: set[str], tags: Mapping[str, object], evidence: list[str]) -> bool:
    """Whether a T1 was taken after contrast medium; words that deny it win."""
    without, with_, named = (
        sorted(word for word in words if re.fullmatch(pattern, word)) for pattern in (WITHOUT, WITH, AGENT)
    )
    agent = str(tags.get("ContrastBolusAgent") or "").strip()
    if named:
        evidence.append(f"“{named[0]}” says with contrast medium")
        return True
    if without:
        evidence.append(f"“{without[0]}” says without contrast medium")
        return False
    if with_:
        evidence.append(f"“{with_[0].replace('plus', '+')}” says with contrast medium")
        return True
    if agent and agent.casefold() not in ("no", "none", "n"):
        evidence.append(f"contrast agent given: {agent[:40]}")
        return True
    return False


def _number(tags: Mapping[str, object], key: str) -> float | None:
    try:
        value = float(str(tags.get(key)).strip())
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
