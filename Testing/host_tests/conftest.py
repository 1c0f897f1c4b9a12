"""The example module and a synthetic segmentation, for the host's own tests."""

from pathlib import Path

import pytest

from hosting import host, troubled  # noqa: F401 - fixtures


@pytest.fixture
def examplePath():
    return Path(__file__).parent / "example" / "Example.py"


@pytest.fixture
def example(host, examplePath):
    """The example module's widget, entered; unloaded afterwards."""
    _, widget = host.loadModule(examplePath)
    host.enter("Example")
    yield widget
    host.unloadModule("Example")


@pytest.fixture
def ball(host):
    """A small volume with three nested balls, and a segmentation of them."""
    from synthetic import makeBalls

    return makeBalls()
