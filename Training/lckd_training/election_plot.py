"""The history of the elections as a picture: each modality's Dice alone, region by region, the teachers ringed."""

from pathlib import Path

from lckd.anatomy import MODALITIES, REGIONS

from .election import Election

COLOURS = {"T1": (70, 120, 200), "T1ce": (205, 60, 60), "T2": (60, 150, 90), "FLAIR": (150, 90, 190)}
PANEL, HEIGHT, LEFT, TOP, BOTTOM = 330, 260, 46, 40, 40  # pixels


def draw_elections(elections: list[Election], path: Path) -> None:
    """One panel a region, iterations to the right, Dice 0 to 1 upwards."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    canvas = Image.new("RGB", (PANEL * len(REGIONS) + 80, HEIGHT + TOP + BOTTOM), "white")
    pen = ImageDraw.Draw(canvas)
    last = max(1, elections[-1].iteration)
    for number, region in enumerate(REGIONS):
        left, right = number * PANEL + LEFT, (number + 1) * PANEL - 14

        def place(election, score, left=left, right=right):
            return left + (right - left) * election.iteration / last, TOP + HEIGHT * (1 - score)

        pen.text(((left + right) / 2, TOP - 18), f"{region}: Dice of each sequence alone", "black", font, anchor="mm")
        for tenth in range(0, 11, 2):
            y = TOP + HEIGHT * (1 - tenth / 10)
            pen.line((left, y, right, y), (225, 225, 225))
            pen.text((left - 6, y), f"{tenth / 10:.1f}", (90, 90, 90), font, anchor="rm")
        pen.text((left, TOP + HEIGHT + 14), "0", (90, 90, 90), font, anchor="mm")
        pen.text((right, TOP + HEIGHT + 14), f"iteration {last:,}", (90, 90, 90), font, anchor="rm")
        for modality, colour in COLOURS.items():
            held = [e for e in elections if modality in e.scores.get(region, {})]
            points = [place(e, e.scores[region][modality]) for e in held]
            if len(points) > 1:
                pen.line(points, colour, 2)
            for election, (x, y) in zip(held, points, strict=True):
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
                if election.teachers.get(region) == modality:
                    pen.ellipse((x - 7, y - 7, x + 7, y + 7), outline=colour, width=2)
    for row, modality in enumerate(MODALITIES):
        x, y = PANEL * len(REGIONS) + 2, TOP + 10 + 22 * row
        pen.ellipse((x, y - 4, x + 8, y + 4), COLOURS[modality])
        pen.text((x + 14, y), modality, "black", font, anchor="lm")
    pen.ellipse((x - 3, y + 15, x + 11, y + 29), outline="black", width=2)
    pen.text((x + 14, y + 22), "teacher", "black", font, anchor="lm")
    canvas.save(path, "PNG")
