"""A child process whose output is read line by line while Slicer goes on, and which can be killed with all its own.

No Qt: a thread reads, ``poll`` is called from a timer or a loop. MRML and widgets are never touched by the thread.
"""

import os
import queue
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

NEW_GROUP, NO_WINDOW = 0x00000200, 0x08000000
"""Windows: a group of its own, and no console window for a console program started by Slicer."""


class ChildProcess:
    """A command started in ``folder`` (default: here). ``environment`` replaces this process's own when given."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None):
        new_group = {"start_new_session": True} if os.name == "posix" else {"creationflags": NEW_GROUP | NO_WINDOW}
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            **new_group,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ended = False

    @property
    def process_id(self) -> int:
        return self._process.pid

    def poll(self) -> tuple[list[str], int | None]:
        """The lines written since the last call, and the exit status once the process and its output have ended."""
        lines = []
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                break
            if line is None:
                self._ended = True
            else:
                lines.append(line)
        return lines, self._process.wait() if self._ended else None

    def kill(self) -> None:
        """End the process and every process it has started, at once; returns when they are gone."""
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):  # it may have ended by itself (macOS: no permission)
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            command = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
            subprocess.run(command, check=False, capture_output=True, creationflags=NO_WINDOW)
        self._process.wait()
        self._reader.join(timeout=5)

    def _read(self) -> None:
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
