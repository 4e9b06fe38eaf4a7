"""Room for copies of remote files: with TALLY_CACHE_LIMIT_GB, what nobody reads gives way.

First whole datasets that no process has open, the longest unused first; then files of the datasets
in use that were not read for a while. Readers say that they read a file by its modification time.
"""

import fcntl
import os
import shutil
from pathlib import Path

from shards.cache import cache_directory
from shards.errors import DatasetError
from shards.manifest import MANIFEST_NAME

BLOCKS_SUFFIX = ".blocks"
"""Beside a dataset's copy, the folder with the digests of its blocks (`shards.blocks`)."""
LIMIT_VARIABLE = "TALLY_CACHE_LIMIT_GB"


def datasets_directory() -> Path:
    """Where the copies are."""
    return cache_directory() / "datasets"


def lock_file(directory: Path) -> Path:
    """Held by every process that reads a copy."""
    return directory.with_name(f"{directory.name}.lock")


def limit_bytes() -> float | None:
    """Most bytes that all copies together may take; None where nothing limits them.

    Raises:
        DatasetError: TALLY_CACHE_LIMIT_GB is no number.
    """
    stated = os.environ.get(LIMIT_VARIABLE)
    if not stated:
        return None
    try:
        return float(stated) * 1e9
    except ValueError:
        raise DatasetError(f"{LIMIT_VARIABLE} is '{stated}', not a number of GB") from None


def make_room(needed: int, keep: Path, idle_s: float, now: float) -> bool:
    """Remove copies until `needed` bytes fit; returns whether they do.

    Args:
        needed: bytes to come.
        keep: the copy that they are for, which stays, but for files of it that nobody reads.
        idle_s: files not read for so many seconds may go.
        now: seconds since the epoch.
    """
    limit = limit_bytes()
    if limit is None:
        return True
    copies = [p for p in datasets_directory().iterdir() if p.is_dir()]
    sizes = {p: _bytes_under(p) for p in copies if p.suffix != BLOCKS_SUFFIX}
    excess = sum(sizes.values()) + needed - limit
    for path in sorted(sizes, key=lambda path: _last_used(lock_file(path))):
        if excess > 0 and path != keep and _remove_unread(path):
            excess -= sizes.pop(path)
    for last_read, path in sorted((_last_used(p), p) for copy in sizes for p in _data(copy)):
        if excess <= 0 or last_read > now - idle_s:
            break
        excess -= path.stat().st_size
        path.unlink()
    return excess <= 0


def used_bytes() -> int:
    """Bytes that all copies take."""
    return sum(_bytes_under(path) for path in datasets_directory().iterdir() if path.is_dir())


def _data(copy: Path) -> list[Path]:
    """Whole files of a copy; not its manifest, nor those that are on their way (`.name.part`)."""
    files = [path for path in copy.rglob("*") if path.is_file()]
    return [p for p in files if p.name != MANIFEST_NAME and not p.name.startswith(".")]


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed by another process meanwhile
        return 0.0


def _bytes_under(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # as above
            continue
    return total


def _remove_unread(directory: Path) -> bool:
    with lock_file(directory).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(directory)
        return True
