"""The host and its fixtures, shared by the tests of the host and of the module."""

import atexit

import pytest

from host import boot

HOST = boot()  # before the test files are imported, so that they can import qt, ctk and slicer at their top
atexit.register(HOST.reset)  # nodes of the last test must not outlive the scene's own libraries


@pytest.fixture
def host():
    """The host with a fresh scene; the test must leave no hidden problem behind."""
    HOST.reset()
    yield HOST
    assert HOST.problems() == []


@pytest.fixture
def troubled():
    """The host for tests that cause problems on purpose."""
    HOST.reset()
    yield HOST
    HOST.reset()
