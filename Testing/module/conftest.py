"""The real module in the host: real MRML and Qt, stand-ins for Slicer's own widgets."""

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

    yield open_
    HOST.unloadModule("LCKDSegment")


@pytest.fixture
def panel(host, open_panel):
    return open_panel(host)
