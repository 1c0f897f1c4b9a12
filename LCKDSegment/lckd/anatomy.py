"""The one table of modalities, regions, labels, colours and codes; everything else reads it.

Labels follow BraTS. Until 2021 enhancing tumour was stored as 4, from 2023 on as 3; necrosis and oedema never moved.
Codes are SNOMED CT (SCT) and NCI Thesaurus (NCIt), as Slicer's terminologies and DICOM segmentations write them. They
are the closest there are: BraTS counts core that does not enhance as label 1, infiltrated brain as label 2.
"""

from dataclasses import dataclass
from itertools import combinations

MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
"""The MR sequences, always in this order in tables; a model states its own channel order in its card."""

REGIONS = ("ET", "TC", "WT")
"""The nested regions a model predicts (the paper's tasks): ET lies in TC lies in WT."""

LABEL_CONVENTIONS = {"brats": {"NCR": 1, "ED": 2, "ET": 4}, "brats2023": {"NCR": 1, "ED": 2, "ET": 3}}
"""Voxel values of a written label image, per convention. Inside the program labels are always ``brats``."""

LABELS = LABEL_CONVENTIONS["brats"]

REGION_LABELS = {"ET": ("ET",), "TC": ("NCR", "ET"), "WT": ("NCR", "ED", "ET")}
"""The labels that make up each region."""


@dataclass(frozen=True)
class Code:
    """A coded concept: scheme (``SCT`` or ``NCIt``), value and meaning."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Structure:
    """A label or region as a person sees it: short name, full name, colour (0 to 255 each) and coded type."""

    name: str
    title: str
    colour: tuple[int, int, int]
    type: Code


CATEGORY = Code("SCT", "49755003", "Morphologically Altered Structure")
LOCATION = Code("SCT", "12738006", "Brain")
TERMINOLOGY = "LCKDSegment glioma"
"""The context name of Resources/Terminology/LCKDSegment.term.json."""

STRUCTURES = {
    structure.name: structure
    for structure in (
        Structure("NCR", "Necrotic or non-enhancing core", (204, 102, 163), Code("SCT", "6574001", "Necrosis")),
        Structure("ED", "Oedema or infiltration", (110, 200, 214), Code("SCT", "79654002", "Edema")),
        Structure("ET", "Enhancing tumour", (245, 176, 30), Code("NCIt", "C113842", "Enhancing Lesion")),
        Structure("TC", "Tumour core", (222, 94, 40), Code("SCT", "108369006", "Neoplasm")),
        Structure("WT", "Whole tumour", (70, 150, 120), Code("SCT", "86049000", "Neoplasm, Primary")),
    )
}


def terminology_entry(name: str) -> str:
    """The Slicer terminology tag of a label or region, as stored in a segment's ``TerminologyEntry``."""
    triplets = [f"{code.scheme}^{code.value}^{code.meaning}" for code in (CATEGORY, STRUCTURES[name].type)]
    region = f"{LOCATION.scheme}^{LOCATION.value}^{LOCATION.meaning}"
    return f"{TERMINOLOGY}~{triplets[0]}~{triplets[1]}~^^~~{region}~^^"


def subsets() -> list[tuple[str, ...]]:
    """The 15 non-empty sets of modalities, fewest first, each in table order."""
    return [chosen for size in range(1, len(MODALITIES) + 1) for chosen in combinations(MODALITIES, size)]


def subset_name(modalities) -> str:
    """The name of a subset in table order, such as ``T1+FLAIR``."""
    return "+".join(name for name in MODALITIES if name in modalities)
