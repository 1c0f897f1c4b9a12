"""The child process: live lines, exit status, and a kill that takes its children along."""

import os
import sys
import time
from pathlib import Path

import pytest

import lckd
from lckd.brain import HOW_TO_GET
from LCKDSegmentLib.child_process import ChildProcess
from LCKDSegmentLib.job import START, _in_panel_words, _remove_abandoned


def wait(child, seconds=20):
    lines, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        new, status = child.poll()
        lines += new
        if status is not None:
            return lines, status
        time.sleep(0.01)
    raise AssertionError("the child did not end")


def test_mends_are_in_the_panels_words():
    told = f"T1 shows the skull; {HOW_TO_GET}, or give brains without skull, or go on with --brain never"
    assert _in_panel_words(told) == (
        "T1 shows the skull; click Segment again and let it be installed, or give brains without skull, or go on with "
        "“Find the brain: never” under Advanced"
    )


def test_folders_that_a_crash_left_are_removed(tmp_path):
    old, young = tmp_path / "LCKDSegment-old", tmp_path / "LCKDSegment-young"
    for folder in (old, young, tmp_path / "another's"):
        folder.mkdir()
        (folder / "FLAIR.nrrd").write_bytes(b"patient")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    os.utime(tmp_path / "another's", (0, 0))
    _remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LCKDSegment-young", "another's"]


def test_our_package_comes_before_another_one_installed(tmp_path):
    """Also before one that Slicer's launcher puts on the path."""
    (tmp_path / "lckd").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "lckd" / f"{name}.py").write_text("raise SystemExit('another lckd')")
    ours = Path(lckd.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    lines, status = wait(ChildProcess([sys.executable, "-c", START, str(ours), "--version"], environment))
    assert lines == [f"lckd {lckd.__version__}"] and status == 0


def test_lines_and_status():
    child = ChildProcess([sys.executable, "-c", "import sys; print('ü'); print('b', file=sys.stderr); sys.exit(3)"])
    lines, status = wait(child)
    assert sorted(lines) == ["b", "ü"] and status == 3


@pytest.mark.skipif(os.name != "posix", reason="process groups are killed in another way on Windows")
def test_kill_takes_grandchildren_along():
    code = (
        "import subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print(p.pid, flush=True);"
        "time.sleep(600)"
    )
    child = ChildProcess([sys.executable, "-c", code])
    lines = []
    while not lines:
        lines, _ = child.poll()
        time.sleep(0.01)
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(child.process_id, 0)
    for _ in range(100):  # the grandchild is reaped by init, not by us
        try:
            with open(f"/proc/{lines[0]}/stat") as stat:
                if stat.read().split()[2] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the grandchild is still alive")
    child.kill()  # a second time does no harm
