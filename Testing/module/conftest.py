"""The real module in the host: real MRML and Qt, stand-ins for Slicer's own widgets."""

import sys
from pathlib import Path

import pytest

from hosting import HOST, host, troubled  # noqa: F401 - fixtures

MODULE = Path(__file__).parents[2] / "LCKDSegment" / "LCKDSegment.py"


@pytest.fixture
def open_panel():
    """Call with a host to load the module and enter it; unloaded afterwards."""

    def open_(host):
        _, widget = host.loadModule(MODULE)
        host.enter("LCKDSegment")
        return widget

    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("lckd", "LCKDSegmentLib")}
    yield open_
    HOST.unloadModule("LCKDSegment")
    sys.modules.update(ours)  # a reload replaces our packages; the other tests go on with those they imported


@pytest.fixture
def panel(host, open_panel):
    return open_panel(host)
