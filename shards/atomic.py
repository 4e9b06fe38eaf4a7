"""Files that are whole or absent: write beside the target, fsync, rename over it."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that becomes `path` when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    encoding = None if "b" in mode else "utf-8"
    try:
        with temporary.open(mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the system names no file where writing fails
        raise
    sync(path.parent)


def temporary_of(path: Path) -> Path:
    """Where to write what becomes `path`; no other process, on any machine, writes there."""
    return path.with_name(f".{path.name}.{token_hex(4)}.tmp")


def remove_leftovers(directory: Path, below: bool = False) -> None:
    """Delete files of `temporary_of` that killed processes left; only for who alone writes there.

    Args:
        directory: where to look.
        below: also look in its folders.
    """
    for path in (directory.rglob if below else directory.glob)(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()


def sync(path: Path) -> None:
    """Make a file's content, or the renames in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json_atomic(path: Path, value: Any) -> None:
    """Write indented JSON with a final newline, whole or not at all."""
    write_text_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def keep_lines(path: Path, count: int) -> int:
    """Keep the first lines of a text file, which may be missing; returns how many went."""
    if not path.exists():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    write_text_atomic(path, "".join(lines[:count]))
    return len(lines[count:])
