"""Ctrl-C is one line, also while a command is still importing; importing this makes it so."""

import sys
from types import TracebackType

INTERRUPTED = "interrupted; run the same command again to go on"


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what ends the process: Python's way, but for Ctrl-C."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(f"{INTERRUPTED}\n")
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end
