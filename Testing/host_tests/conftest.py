"""One host per test process; every test gets it with a fresh scene and must leave no hidden problem behind."""

from pathlib import Path

import pytest

from host import boot

HOST = boot()  # before the test files are imported, so that they can import qt, ctk and slicer at their top


@pytest.fixture
def host():
    HOST.reset()
    yield HOST
    assert HOST.problems() == []


@pytest.fixture
def troubled():
    """The host for tests that cause problems on purpose."""
    HOST.reset()
    yield HOST
    HOST.reset()


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
