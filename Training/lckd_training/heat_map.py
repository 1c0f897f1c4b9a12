"""An evaluation to look at: the 15 subsets by three regions as a picture of colours, and an HTML page around it."""

import html
from pathlib import Path

from lckd.anatomy import MODALITIES, REGIONS
from lckd.report import NOTICE, interval_words

ROW, COLUMN, DOTS, TOP = 30, 150, 250, 56  # pixels: a cell, the columns of dots, the head
LOW, HIGH = (60, 20, 80), (250, 230, 90)  # Dice 0 and 1


def draw_heat_map(summary: dict[str, dict[str, dict]], path: Path) -> None:
    """Mean Dice of every subset (a filled dot for each sequence it has) and region, dark where it is low."""
    from PIL import Image, ImageDraw, ImageFont

    def font(size):
        return ImageFont.load_default(size)

    canvas = Image.new("RGB", (DOTS + COLUMN * len(REGIONS) + 20, TOP + ROW * len(summary) + 14), "white")
    pen = ImageDraw.Draw(canvas)
    step = DOTS // len(MODALITIES)
    for index, name in enumerate(MODALITIES):
        pen.text((index * step + step // 2, TOP - 16), name, "black", font(15), anchor="mm")
    for index, region in enumerate(REGIONS):
        pen.text((DOTS + index * COLUMN + COLUMN // 2, TOP - 16), region, "black", font(16), anchor="mm")
    pen.text((DOTS + 4, 4), "mean Dice (95% interval)", (90, 90, 90), font(13))
    for row, (subset, regions) in enumerate(summary.items()):
        y = TOP + row * ROW
        for index, name in enumerate(MODALITIES):
            x = index * step + step // 2
            fill = "black" if name in subset.split("+") else "white"
            pen.ellipse((x - 7, y + ROW // 2 - 7, x + 7, y + ROW // 2 + 7), fill=fill, outline=(170, 170, 170))
        for index, region in enumerate(REGIONS):
            value = regions[region]
            x = DOTS + index * COLUMN
            colour = tuple(round(a + (b - a) * value["mean"]) for a, b in zip(LOW, HIGH, strict=True))
            pen.rectangle((x + 1, y + 1, x + COLUMN - 1, y + ROW - 1), fill=colour)
            ink = "black" if value["mean"] > 0.5 else "white"
            pen.text((x + COLUMN // 2, y + ROW // 2), interval_words(value), ink, font(14), anchor="mm")
    canvas.save(path, "PNG")


def page(markdown: str, pictures: list[str]) -> str:
    """The evaluation's Markdown tables and lines as one HTML page; the heat map first, other pictures at the end."""
    body, rows = [], []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            if set(line) - set("|-"):
                cells = (html.escape(cell.strip().strip("*")) for cell in line.strip("|").split("|"))
                rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
            continue
        if rows:
            body.append("<table>" + "".join(rows) + "</table>")
            rows = []
        if line:
            body.append(f"<p>{html.escape(line)}</p>")
    style = (
        "body{font:15px sans-serif;max-width:900px;margin:2em auto;color:#222}"
        "table{border-collapse:collapse;margin:1.5em 0}td{padding:4px 14px;border-bottom:1px solid #ddd}"
        "tr:first-child{font-weight:bold}"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Evaluation</title><style>{style}</style>"
        f"<h1>Evaluation</h1><p><b>{html.escape(NOTICE)}</b></p><img src='{pictures[0]}' alt='heat map of Dice'>"
        + "".join(body)
        + "".join(f"<p><img src='{name}' alt='{name}'></p>" for name in pictures[1:])
        + "</html>\n"
    )
