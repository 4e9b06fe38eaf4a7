"""What a check of `tally doctor` found, and how checks ask other programs."""

import subprocess
from collections.abc import Sequence
from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "problem"]


class Finding(NamedTuple):
    """One line of `tally doctor`."""

    topic: str
    level: Level
    said: str
    """What is so, and what that means."""
    way_out: str = ""
    """What to do; empty where all is well."""


def output_of(command: Sequence[str], timeout_s: float = 10) -> str | None:
    """What a program prints; None where it is not there, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
