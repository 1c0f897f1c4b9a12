"""Parts of the panel: the four sequence slots with their reasons, and the table of volumes."""

from html import escape

import qt
from slicer.i18n import tr as _

from lckd.anatomy import LABELS, MODALITIES, REGIONS, STRUCTURES
from lckd.detection import Finding
from lckd.report import interval_words, is_uncertain, shortened, volume_words

from .scene import SURE, Proposal

STAGES = {
    "start": _("Starting"), "load": _("Loading the model"), "read": _("Reading"), "align": _("Lining up"),
    "prepare": _("Preparing"), "segment": _("Segmenting"), "write": _("Writing"),
}  # fmt: skip


class SequenceSlots:
    """Four node selectors, one per modality, each with a line that says what was found and why.

    Args:
        ui: the panel's widgets: ``selectorT1`` ..., the lines under them ``reasonT1`` ... and ``otherT1`` ....
        on_user_choice: called with a modality when the user (not the program) changes its selector.
        on_other: called with a modality and a node ID when the user clicks on another volume under a slot.
    """

    def __init__(self, ui, on_user_choice, on_other):
        self.selectors = {name: getattr(ui, f"selector{name}") for name in MODALITIES}
        self.reasons = {name: getattr(ui, f"reason{name}") for name in MODALITIES}
        self.others = {name: getattr(ui, f"other{name}") for name in MODALITIES}
        self._on_user_choice = on_user_choice
        self._filling = False
        for name, selector in self.selectors.items():
            for signal in ("currentNodeChanged", "nodeActivated"):  # the first is silent between volumes of one name
                selector.connect(f"{signal}(vtkMRMLNode*)", lambda node, name=name: self._changed(name))
            self.others[name].connect("linkActivated(QString)", lambda link, name=name: on_other(name, link))

    def nodes(self) -> dict:
        """Modality -> the chosen volume node, for the slots that are filled."""
        chosen = {name: selector.currentNode() for name, selector in self.selectors.items()}
        return {name: node for name, node in chosen.items() if node}

    def fill(self, nodes: dict) -> None:
        """Show these nodes (modality -> node or None) without taking it for the user's choice."""
        self._filling = True
        try:
            for name, node in nodes.items():
                self.selectors[name].setCurrentNode(node)
        finally:
            self._filling = False

    def explain(self, proposal: Proposal) -> None:
        """Write under every slot what its volume looks like, and offer the other volumes of that sequence."""
        chosen = self.nodes()
        for name, line in self.reasons.items():
            node = chosen.get(name)
            finding = proposal.findings.get(node.GetID()) if node else None
            found = proposal.nodes.get(name)
            text, line.toolTip = reason(name, node is not None, finding)
            if node is None and any(proposal.findings[other].modality is None for other in proposal.study_of):
                text = _("not recognised; if it is loaded, choose it above")
            if node is None and found:
                text = _("left empty") if found not in chosen.values() else _("its volume is in another slot")
            acquired = proposal.descriptions.get(node.GetID(), "") if node else ""
            line.text = "; ".join(filter(None, [text, acquired]))
            offered = [(other, why) for other, why in proposal.others.get(name, []) if other is not node]
            if found not in (None, node):
                offered.insert(0, (found, _("what was found")))
            self._offer(self.others[name], offered)

    def _offer(self, line, offered: list[tuple]) -> None:
        """Links that put other volumes into a slot, one a line; their tool tip says why they were not taken."""
        words = [_("take {volume}").format(volume=shortened(node.GetName())) for node, _why in offered]
        links = (
            f'<a href="{node.GetID()}">{escape(text)}</a>' for (node, _why), text in zip(offered, words, strict=True)
        )
        line.text = "<br>".join(links)
        line.toolTip = "\n".join(why for _node, why in offered)
        line.visible = bool(offered)

    def enable(self, enabled: bool) -> None:
        for widget in (*self.selectors.values(), *self.others.values()):
            widget.enabled = enabled

    def _changed(self, name: str) -> None:
        if not self._filling:
            self._on_user_choice(name)


def fill_studies(box, label, proposal: Proposal) -> None:
    """Offer the loaded studies, where there are several."""
    box.clear()
    for key, title in proposal.studies.items():
        box.addItem(title, key)
        box.setItemData(box.count - 1, title, qt.Qt.ToolTipRole)
    box.setCurrentIndex(box.findData(proposal.study))
    box.visible = label.visible = len(proposal.studies) > 1


def reason(modality: str, filled: bool, finding: Finding | None) -> tuple[str, str]:
    """The line under a slot and its tool tip."""
    if not filled:
        return _("not loaded"), ""
    if finding is None or (finding.modality is None and finding.confidence < SURE):
        return _("chosen by you; neither its name nor its image tells the sequence"), ""
    evidence = "; ".join(finding.evidence)
    if finding.modality != modality:
        looks = finding.modality or _("none of the four sequences")
        return _("⚠ looks like {sequence}: {why}").format(sequence=looks, why=evidence), evidence
    sure = "" if finding.confidence >= SURE else _("perhaps; ")
    return f"{sure}{evidence}", _("Confidence {percent}%").format(percent=round(100 * finding.confidence))


def status(stage: str, seconds_left: float | None) -> str:
    """The line under the progress bar."""
    words = STAGES.get(stage) or _("Finishing")
    if seconds_left is None:
        return words
    return _("{stage}, about {seconds} s left").format(stage=words, seconds=max(1, round(seconds_left)))


def fill_table(table, report: dict | None) -> None:
    """Volumes in mL by label and region, with the expected Dice of the regions, in a QTableWidget."""
    table.setRowCount(0)
    if report is None:
        return
    table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
    for column in (1, 2):
        table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
    for row, (name, structure) in enumerate(STRUCTURES.items()):
        table.insertRow(row)
        expected = interval_words(report["expected_dice"][name]) if name in REGIONS else ""
        title = qt.QTableWidgetItem(f"{structure.title} ({name})")
        if name in LABELS:
            title.setIcon(_swatch(structure.colour))
        table.setItem(row, 0, title)
        for column, text in ((1, volume_words(report, name)), (2, expected)):
            item = qt.QTableWidgetItem(text)
            item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            if column == 1 and is_uncertain(report, name):
                item.setToolTip(_("Little more than a guess from these sequences"))
            table.setItem(row, column, item)


def result_title(name: str, report: dict) -> str:
    """A result's name and the sequences that it was made from."""
    return _("Result: {name}, from {sequences}").format(name=name, sequences=", ".join(report["inputs"]))


def as_text(name: str, report: dict) -> str:
    """The table as tab-separated text for the clipboard, under the result's name, with what its reader must know."""
    rows = []
    for structure in STRUCTURES.values():
        row = f"{structure.title} ({structure.name})\t{volume_words(report, structure.name)} mL"
        if structure.name in REGIONS:
            dice = interval_words(report["expected_dice"][structure.name])
            row += "\t" + _("expected Dice {dice}").format(dice=dice)
        rows.append(row)
    return "\n".join([result_title(name, report), *rows, *report["warnings"], report["notice"]]) + "\n"


def _swatch(colour: tuple[int, int, int]):
    pixels = qt.QPixmap(14, 14)
    pixels.fill(qt.QColor(*colour))
    return qt.QIcon(pixels)
