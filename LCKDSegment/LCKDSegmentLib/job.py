"""One segmentation as a child process: volumes to a temporary folder, ``lckd segment`` run, its result read back."""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from lckd.brain import HOW_TO_GET
from lckd.errors import InputError

from .child_process import ChildProcess

# How much of the bar each stage takes; the network takes most of the time.
SHARES = {
    "load": (0, 3), "read": (3, 5), "align": (5, 10), "prepare": (10, 20), "segment": (20, 95), "write": (95, 100),
    "report": (100, 100),
}  # fmt: skip
# ``python -m lckd`` with our package before any other: Slicer's launcher puts its own folders before PYTHONPATH.
START = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('lckd', run_name='__main__')"
PREFIX = "LCKDSegment-"  # of the temporary folders
ABANDONED = 24 * 3600  # seconds; no segmentation takes so long
PANEL_WORDS = {"device": "Device", "register": "Line volumes up", "brain": "Find the brain"}
"""Options of the command line as the panel calls them, under Advanced."""


class SegmentationJob:
    """Segments images (modality -> SimpleITK image) in a child process. Poll until ``finished``, then read results.

    Args:
        inputs: modality -> what the report says of it: ``volume``, the name as the user knows it, and, where the
            program chose it, ``confidence`` and ``why``.
        warnings: what the reader of the result must know beside what the child finds.
        python: the command that runs Slicer's Python (``PythonSlicer``), with its arguments.
        package_folder: the folder that holds the package ``lckd``.
        options: further options of ``lckd segment`` and their values: device, register, brain.
        temporary: where to make the job's own folder (default: the system's place).
    """

    def __init__(
        self,
        images: dict,
        inputs: dict[str, dict],
        python: list[str],
        package_folder: Path,
        options: dict[str, str] | None = None,
        temporary: str | None = None,
        warnings: list[str] = (),
    ):
        self.inputs, self.warnings = inputs, list(warnings)
        self.percent = 0
        self.stage = "start"
        self.log: list[str] = []
        self.report: dict | None = None
        self.status: int | None = None
        self._started = time.monotonic()
        _remove_abandoned(Path(temporary or tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary))
        try:
            command = [*python, "-c", START, str(package_folder), "segment", "-o", self.labels_path.name]
            command += [word for name, value in (options or {}).items() for word in (f"--{name}", value)]
            command += self._write_inputs(images)
            # Names are relative to the folder: on Windows ITK cannot open paths through a folder of other letters.
            self._process = ChildProcess([*command, "--json-progress"], _environment(), self._folder)
        except BaseException:
            self._remove_folder()
            raise

    @property
    def labels_path(self) -> Path:
        """The label image (BraTS values) that the child writes; gone after ``close``."""
        return self._folder / "labels.nii.gz"

    @property
    def process_id(self) -> int:
        return self._process.process_id

    @property
    def finished(self) -> bool:
        return self.status is not None

    @property
    def seconds_left(self) -> float | None:
        """Expected seconds to the end, from the speed so far; None until some of the network's work is done."""
        elapsed = time.monotonic() - self._started
        return elapsed * (100 - self.percent) / self.percent if self.percent > 20 else None

    def poll(self) -> list[str]:
        """Take in what the child has written since; returns the new log lines."""
        lines, self.status = self._process.poll()
        told = [text for line in lines if (text := self._take(line))]
        self.log += told
        return told

    def close(self) -> None:
        """End the child if it still runs and remove the temporary folder. May be called twice."""
        try:
            self._process.kill()
        finally:
            self._remove_folder()

    def error(self) -> str:
        """Why a finished job failed, in a line for the user."""
        lines = [line.removeprefix("lckd: ") for line in self.log if line.startswith("lckd: ")]
        if lines:
            return _in_panel_words(lines[-1])
        if self.status == 0:
            return "The segmentation ended without a result; click Segment again, and see the log under Advanced."
        if not any("Traceback" in line for line in self.log):  # nobody said why: Slicer's launcher hides the signal
            return (
                "The segmentation process was killed, perhaps because memory ran out, or it crashed; close other "
                "programs, and see the log under Advanced."
            )
        return f"The segmentation failed (exit status {self.status}); see the log under Advanced."

    def _take(self, line: str) -> str | None:
        """Read a progress event; any other line is returned as log text."""
        try:
            event = json.loads(line)
            stage = event["stage"]
        except (ValueError, TypeError, KeyError):
            return line
        if stage == "report":
            self.report = self._with_names(event["report"])
        if stage in SHARES:
            first, last = SHARES[stage]
            done = event["done"] / event["of"] if event.get("of") else 0
            self.stage, self.percent = stage, max(self.percent, round(first + (last - first) * done))
        return None

    def _with_names(self, report: dict) -> dict:
        """The report with what the scene says of the volumes, instead of what the temporary files do."""
        for modality, entry in report["inputs"].items():
            entry.pop("path", None)
            entry.update(self.inputs[modality])
        report["warnings"] = [*self.warnings, *map(self._named, report["warnings"])]
        return report

    def _named(self, warning: str) -> str:
        """A warning of the child, to which a volume is called as its sequence, in the user's words."""
        for modality, entry in self.inputs.items():
            taken = f" was taken for {modality}"
            warning = warning.replace(f"“{modality}”", f"“{entry['volume']}”")
            warning = warning.replace(f"{modality}{taken}", f"“{entry['volume']}”{taken}")
        return _in_panel_words(warning)

    def _write_inputs(self, images: dict) -> list[str]:
        import SimpleITK as sitk

        options = []
        for modality, image in images.items():
            path = self._folder / f"{modality}.nrrd"
            try:
                sitk.WriteImage(image, str(path))
            except RuntimeError:
                raise InputError(f"{self._folder}: cannot be written to; is the disk full?") from None
            options += [f"--{modality.lower()}", path.name]
        return options

    def _remove_folder(self) -> None:
        """The patient's images are not to stay behind; on Windows another program may hold them for a moment."""
        for _ in range(10):
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._folder.exists():
                break
            time.sleep(0.1)


def _remove_abandoned(temporary: Path) -> None:
    """Remove the folders that a Slicer left which crashed or was killed: they hold patients' images."""
    for folder in temporary.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder)


def _in_panel_words(text: str) -> str:
    """A message of the command line with the panel's words for what mends it."""
    text = text.replace(f"{HOW_TO_GET}, or", "click Segment again and let it be installed, or")

    def option(found: re.Match) -> str:
        return f"“{PANEL_WORDS[found[1]]}: {found[2]}” under Advanced"

    return re.sub(rf"--({'|'.join(PANEL_WORDS)}) (\w+)", option, text)


def _environment() -> dict[str, str]:
    """The child's environment: finds nothing in the folder it happens to run in, and says things at once, in UTF-8."""
    extra = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, **extra}


def slicer_python() -> list[str]:
    """The command of Slicer's own Python: ``PythonSlicer`` on its PATH, else this interpreter."""
    return [shutil.which("PythonSlicer") or sys.executable]
