"""The real module in the host: real MRML and Qt, stand-ins for Slicer's own widgets."""

from pathlib import Path

import pytest

from host import boot

MODULE = Path(__file__).parents[2] / "LCKDSegment" / "LCKDSegment.py"
HOST = boot()  # before the test files are imported, so that they can import qt and slicer at their top


@pytest.fixture
def host():
    HOST.reset()
    yield HOST
    assert HOST.problems() == []


@pytest.fixture
def troubled():
    """The host for tests in which the module is meant to show an error."""
    HOST.reset()
    yield HOST
    HOST.reset()


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
