"""Run the command ``lckd`` as a user does, in a process of its own."""

import subprocess
import sys


def lckd(*arguments, **kwargs) -> subprocess.CompletedProcess:
    """``lckd ARGUMENTS``: its exit status, stdout and stderr."""
    command = [sys.executable, "-m", "lckd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)
