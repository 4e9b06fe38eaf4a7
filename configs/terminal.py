"""What the user sees: one console, progress with rate and remaining time, errors without traceback.

Where stdout is no terminal (a log file, CI), progress becomes a plain line every half minute.
"""

import errno
import faulthandler
import io
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

import typer
from rich.console import Console

from configs.interrupted import INTERRUPTED

# In a log file tables get room; in a terminal they fit it.
console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
_PLAIN_INTERVAL_S = 30.0
_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
_OUR_FOLDERS = frozenset({"configs", "shards", "contamination", "pipeline", "train", "tally"})


class Advance(Protocol):
    """A running progress display."""

    def advance(self, n: float = 1) -> None:
        """Count `n` more units as done."""


class _Plain:
    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done, self._start = 0.0, time.monotonic()
        self._last = self._start

    def advance(self, n: float = 1) -> None:
        self._done += n
        if time.monotonic() - self._last >= _PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            self.print_line()

    def print_line(self) -> None:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        done, rate = (amount(value, self._unit) for value in (self._done, self._done / elapsed))
        if self._total is not None:
            done = f"{done.removesuffix(self._unit).strip()} of {amount(self._total, self._unit)}"
        print(f"{self._description}: {done}, {rate}/s, {elapsed:.0f} s")  # noqa: T201


@contextmanager
def progress(description: str, total: float | None, unit: str) -> Iterator[Advance]:
    """Show progress of one piece of work; yields an object with `.advance(n)`.

    Args:
        description: what is being done, a few words.
        total: units of work in all; None where unknown.
        unit: name of the unit, plural ("documents", "MB").
    """
    if not console.is_terminal:
        plain = _Plain(description, total, unit)
        yield plain
        plain.print_line()
        return
    from configs.progress_bar import bar  # here: it loads slowly, and most commands show none

    with bar(console, description, total, unit, amount) as shown:
        yield shown


def human(value: float) -> str:
    """A number in at most four digits and a suffix: 1234567 -> '1.23M'."""
    number, suffix = _scaled(value, "TBMk")
    return f"{number}{suffix}"


def human_bytes(size: float) -> str:
    """Bytes in the multiple that fits: 1234567 -> '1.23 MB'."""
    number, prefix = _scaled(size, "TGMk")
    return f"{number} {prefix}B" if prefix else f"{number} bytes"


def amount(value: float, unit: str) -> str:
    """A number with its unit, megabytes as `human_bytes`: (1020, 'MB') -> '1.02 GB'."""
    return human_bytes(value * 1e6) if unit == "MB" else f"{human(value)} {unit}"


def _scaled(value: float, suffixes: str) -> tuple[str, str]:
    for exponent, suffix in zip((12, 9, 6, 3), suffixes, strict=True):
        if 0.9995 * 10**exponent <= abs(value) < 1e15:  # what rounds to 1000 is 1 of the next
            return f"{value / 10**exponent:.3g}", suffix
    return f"{value:.3g}", ""


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 -> '1 item', 1234 -> '1,234 items'."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def short(path: Path) -> Path:
    """A path as one would type it: from the current folder where it lies below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def is_user_error(error: BaseException) -> bool:
    """Whether the exception is one of our folders' own: a message for the user, not a bug."""
    return isinstance(error, ValueError) and type(error).__module__.split(".")[0] in _OUR_FOLDERS


_OF_THE_MACHINE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EFBIG: "the file may not grow: look at `ulimit -f` and the file system's limits",
    errno.EIO: "the disk could not read or write; look at its state (dmesg)",
    errno.EROFS: "the file system is mounted read-only; choose another place",
    errno.EACCES: "change the permissions, or choose another place",
    errno.EPERM: "change the permissions, or choose another place",
    errno.ENOLCK: "the file system has no locks; mount it with locks, or choose another place",
    errno.ESTALE: "the network share was exchanged under us; mount it again",
    errno.ETIMEDOUT: "the storage did not answer; look at its state",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "too many open files; raise `ulimit -n`",
    errno.ENFILE: "the machine has too many open files; close some",
}


_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST}
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")


def machine_trouble(error: BaseException) -> str | None:
    """What to tell the user where the disk or the system refused; None for anything else."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (said := _RUST_ERROR.search(str(error))):  # polars, safetensors
        number = int(said[1])
    name = getattr(error, "filename", None)
    cache = os.environ.get("TALLY_CACHE")
    if number in _NO_FOLDER and cache and str(name).startswith(cache):
        return f"TALLY_CACHE={cache}: no folder can be made there; set another"
    if number not in _OF_THE_MACHINE:
        return None
    where, way_out = f"{name}: " if name else "", _OF_THE_MACHINE[number]
    return f"{where}{os.strerror(number)} (errno {number}); {way_out}, and run the command again"


def fail(error: BaseException) -> NoReturn:
    """Print `error: ...` and the page that explains it on stderr; leave with exit code 2."""
    from configs.error_pages import page_of

    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    stderr.print(f"[bold red]error:[/] {_escape(str(error))}")
    if (page := page_of(error)) is not None:
        stderr.print(f"[dim]more: {_escape(page)}[/]")
    raise SystemExit(2)


def main(app: typer.Typer) -> None:
    """Run a command line; our own exceptions and a full disk are said plainly, bugs keep theirs."""
    faulthandler.enable(2)  # where a mapped file cannot be read, the system kills: say the line
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a locale without UTF-8: `?`, not an end
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            Console(stderr=True).print(INTERRUPTED)
        raise
    except Exception as error:
        trouble = machine_trouble(error)
        if trouble is not None:
            fail(OSError(trouble))
        if not is_user_error(error):
            raise
        fail(error)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
