"""The cases a model does worst, to look at: the slice with most disagreement, truth and result outlined."""

from pathlib import Path

import numpy as np

from lckd.anatomy import REGIONS
from lckd.picture import outline

from .data import CachedCase

TRUTH, FOUND = (86, 180, 233), (230, 159, 0)  # blue and orange, which the colour-blind tell apart, too
SCALE, HEAD = 2, 44  # pixels a voxel; the line of words above
SHOWN = ("T1ce", "FLAIR", "T2", "T1")  # the sequence a region is best seen on, the first that a case has


class WorstCases:
    """Collects, while cases are evaluated, the picture of the lowest Dice of each region with all that a case has."""

    def __init__(self, count: int = 1):
        self.count = count
        self.kept: dict[str, list] = {region: [] for region in REGIONS}

    def see(self, case: CachedCase, dice: np.ndarray, found: np.ndarray, truth: np.ndarray) -> None:
        """dice (3,), found and truth booleans (3, z, y, x), of everything that the case has."""
        for index, region in enumerate(REGIONS):
            kept = self.kept[region]
            if len(kept) < self.count or dice[index] < kept[-1][0]:
                words = f"{case.name}: {region} Dice {dice[index]:.2f}; truth blue, found orange"
                kept.append((float(dice[index]), case.name, draw(case, found[index], truth[index], words)))
                kept.sort(key=lambda entry: entry[0])
                del kept[self.count :]

    def write(self, out: Path) -> list[str]:
        """Save the pictures into a folder; returns their names, worst first by region."""
        names = []
        for region, kept in self.kept.items():
            for number, (_, _, picture) in enumerate(kept, 1):
                names.append(f"worst_{region}_{number}.png")
                picture.save(Path(out) / names[-1], "PNG")
        return names


def draw(case: CachedCase, found: np.ndarray, truth: np.ndarray, words: str):
    """Axial slice of most disagreement (of most tumour, where there is none), twice: plain, and with both outlines."""
    from PIL import Image, ImageDraw, ImageFont

    wrong = found ^ truth
    z = int((wrong if wrong.any() else truth).sum((1, 2)).argmax())
    name = next(modality for modality in SHOWN if modality in case.modalities)
    plain = np.float32(case.images[case.modalities.index(name)][z])
    grey = np.uint8(255 * np.clip(plain / max(1e-6, np.percentile(plain, 99.5)), 0, 1))
    panels = [np.repeat(grey[..., None], 3, axis=2) for _ in range(2)]
    panels = [np.kron(panel, np.ones((SCALE, SCALE, 1), np.uint8)) for panel in panels]
    for mask, colour in ((truth[z], TRUTH), (found[z], FOUND)):
        large = np.kron(mask, np.ones((SCALE, SCALE), bool))
        edge = outline(large)
        panels[1][edge | outline(large & ~edge)] = colour
    sheet = np.concatenate(panels, axis=1)  # cases are prepared in LPS: the nose is up, the patient's right on the left
    picture = Image.new("RGB", (max(sheet.shape[1], 560), sheet.shape[0] + HEAD), "black")
    picture.paste(Image.fromarray(sheet), (0, HEAD))
    pen = ImageDraw.Draw(picture)
    for x, side in ((6, "R"), (sheet.shape[1] - 18, "L")):
        pen.text((x, HEAD + sheet.shape[0] // 2), side, "white", ImageFont.load_default(15))
    pen.text((8, 6), words, "white", ImageFont.load_default(15))
    pen.text(
        (8, 25), f"{name}, slice {z} of {len(found)}; research use only", (170, 170, 170), ImageFont.load_default(12)
    )
    return picture
