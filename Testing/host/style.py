"""The look of Slicer's light theme: Fusion with Slicer's palette, and the painting of its collapsible section bar."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

_COLORS = {
    "Window": "#efefef",
    "Base": "#ffffff",
    "AlternateBase": "#f7f7f7",
    "Button": "#efefef",
    "Text": "#000000",
    "WindowText": "#000000",
    "ButtonText": "#000000",
    "Highlight": "#308cc6",
    "HighlightedText": "#ffffff",
    "ToolTipBase": "#ffffdc",
    "ToolTipText": "#000000",
    "PlaceholderText": "#808080",
}


def apply(application: QtWidgets.QApplication) -> None:
    """Make screenshots independent of the machine's own theme and close to Slicer's."""
    application.setStyle(QtWidgets.QStyleFactory.create("Fusion"))
    palette = QtGui.QPalette()
    for role, color in _COLORS.items():
        palette.setColor(getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor(color))
    for role in ("Text", "WindowText", "ButtonText"):
        palette.setColor(
            QtGui.QPalette.ColorGroup.Disabled, getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor("#9a9a9a")
        )
    application.setPalette(palette)
    font = QtGui.QFont("DejaVu Sans")
    font.setPixelSize(12)
    application.setFont(font)


def paintSectionBar(button: QtWidgets.QAbstractButton, height: int) -> None:
    """A collapsible section's bar: sunken flat button, triangle at the left, text beside it."""
    painter = QtWidgets.QStylePainter(button)
    option = QtWidgets.QStyleOptionButton()
    option.initFrom(button)
    option.rect = QtCore.QRect(0, 0, button.width, height)
    option.state |= QtWidgets.QStyle.StateFlag.State_Raised
    painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
    option.rect = QtCore.QRect(6, (height - 12) // 2, 12, 12)
    opened = button.checked
    arrow = "PE_IndicatorArrowDown" if opened else "PE_IndicatorArrowRight"
    painter.drawPrimitive(getattr(QtWidgets.QStyle.PrimitiveElement, arrow), option)
    painter.drawItemText(
        QtCore.QRect(24, 0, button.width - 24, height),
        QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.TextFlag.TextShowMnemonic,
        button.palette,
        button.enabled,
        button.text,
    )
