"""Run a Slicer scripted module without the Slicer application (tests only).

Real: MRML scene, module logics, displayable managers and ``slicer.util`` from the ``slicer-core`` wheel.
Imitated: Qt's Python dialect, the qMRML/ctk widgets a panel uses, ``slicer.app`` and the scripted module base classes.
A green run shows a module's logic and wiring; it does not show that Slicer's own widgets behave the same.
"""

from .boot import Host, boot

__all__ = ["Host", "boot"]
