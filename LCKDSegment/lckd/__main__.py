"""``python -m lckd``: the command, and what the Slicer module starts as its child process."""

import sys

from .cli import main

sys.exit(main())
