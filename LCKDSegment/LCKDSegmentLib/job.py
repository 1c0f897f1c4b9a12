"""One segmentation as a child process: volumes to a temporary folder, ``lckd segment`` run, its result read back."""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from lckd.errors import InputError

from .child_process import ChildProcess

# How much of the bar each stage takes; the network takes most of the time.
SHARES = {
    "read": (0, 5), "align": (5, 10), "prepare": (10, 20), "segment": (20, 95), "write": (95, 100),
    "report": (100, 100),
}  # fmt: skip


class SegmentationJob:
    """Segments images (modality -> SimpleITK image) in a child process. Poll until ``finished``, then read results.

    Args:
        names: modality -> the volume's name as the user knows it, for the report.
        python: the command that runs Slicer's Python (``PythonSlicer``), with its arguments.
        package_folder: the folder that holds the package ``lckd``.
        options: further options of ``lckd segment`` and their values: device, register, brain.
        temporary: where to make the job's own folder (default: the system's place).
    """

    def __init__(
        self,
        images: dict,
        names: dict[str, str],
        python: list[str],
        package_folder: Path,
        options: dict[str, str] | None = None,
        temporary: str | None = None,
    ):
        self.names = names
        self.percent = 0
        self.stage = "start"
        self.log: list[str] = []
        self.report: dict | None = None
        self.status: int | None = None
        self._started = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="LCKDSegment-", dir=temporary))
        try:
            command = [*python, "-m", "lckd", "segment", "-o", str(self.labels_path)]
            command += [word for name, value in (options or {}).items() for word in (f"--{name}", value)]
            command += self._write_inputs(images)
            self._process = ChildProcess([*command, "--json-progress"], _environment(package_folder))
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
            return lines[-1]
        if not any("Traceback" in line for line in self.log):  # nobody said why: Slicer's launcher hides the signal
            return "The segmentation process was killed, perhaps because memory ran out; close other programs."
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
        """The report with the scene's names instead of the temporary files'."""
        for modality, entry in report["inputs"].items():
            entry["volume"] = self.names[modality]
            entry.pop("path", None)
        return report

    def _write_inputs(self, images: dict) -> list[str]:
        import SimpleITK as sitk

        options = []
        for modality, image in images.items():
            path = self._folder / f"{modality}.nrrd"
            try:
                sitk.WriteImage(image, str(path))
            except RuntimeError:
                raise InputError(f"{self._folder}: cannot be written to; is the disk full?") from None
            options += [f"--{modality.lower()}", str(path)]
        return options

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _environment(package_folder: Path) -> dict[str, str]:
    """The child's environment: finds our package first, and nothing in the folder Slicer happens to run in."""
    path = os.pathsep.join(filter(None, [str(package_folder), os.environ.get("PYTHONPATH")]))
    extra = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, **extra}


def slicer_python() -> list[str]:
    """The command of Slicer's own Python: ``PythonSlicer`` on its PATH, else this interpreter."""
    return [shutil.which("PythonSlicer") or sys.executable]
