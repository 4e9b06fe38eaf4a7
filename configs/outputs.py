"""Where commands write: a name that can be one, a place that takes files, nobody else's folder.

Asked before any work is done for the output.
"""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from configs.errors import ConfigError

_LONGEST_NAME = 200
"""Bytes; file systems take 255, and names beside the output are longer than its own."""


def output_path(typed: str | Path) -> Path:
    """The path of an output as it is typed, or a default's; one without a name of its own gets it.

    Raises:
        typer.BadParameter: it is empty.
    """
    if not str(typed).strip():
        raise typer.BadParameter("empty (a variable that is not set?); give a path, '.' for here")
    path = Path(typed)
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))


def output_option(text: str) -> Any:
    """The option -o of a command.

    Args:
        text: its help.
    """
    return typer.Option("-o", "--output", parser=output_path, metavar="<path>", help=text)


def require_place(path: Path) -> None:
    """Refuse an output that cannot be made.

    Raises:
        ConfigError: its name cannot be one, it or what it is to lie in is a file, or nothing can
            be written there.
    """
    if any(character < " " for character in str(path)):
        raise ConfigError(f"output {str(path)!r}: has a control character in it; give another name")
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)))
    if len(os.fsencode(longest)) > _LONGEST_NAME:
        raise ConfigError(f"output {longest[:40]}...: over {_LONGEST_NAME} bytes; shorten the name")
    there = next(p for p in (path.absolute(), *path.absolute().parents) if os.path.lexists(p))
    if there != path.absolute():
        _require_writable(path, there)
    elif not path.is_dir():
        raise ConfigError(f"output {path}: is there and is no folder; choose another output")


def _require_writable(path: Path, folder: Path) -> None:
    """Try it: the mode of a folder tells nothing of /proc, quotas or read-only mounts."""
    if not folder.is_dir():
        raise ConfigError(f"output {path}: {folder} is no folder; choose another output")
    try:
        TemporaryDirectory(prefix=".tally-", dir=folder).cleanup()
    except OSError as error:
        raise ConfigError(
            f"output {path}: cannot be made in {folder} ({error.strerror}); choose another output"
        ) from None


def is_hidden(name: str) -> bool:
    """Whether a name is of a lock, or of a file that was being written."""
    return name.startswith(".")


def require_own(
    folder: Path,
    what: str,
    mark: str,
    error: type[Exception],
    is_leftover: Callable[[str], bool] = lambda _: False,
) -> None:
    """Refuse a folder with files in it that is not of the kind that is to be written.

    Args:
        folder: the output, there or not.
        what: what it then is ("no dataset").
        mark: name of a file that every finished one has.
        error: what to raise.
        is_leftover: whether a name may also be there where the mark is not yet: of a command that
            was killed.
    """
    if not folder.exists() or (folder / mark).is_file():
        return
    if not folder.is_dir() or not all(is_leftover(path.name) for path in folder.iterdir()):
        raise error(f"{folder} exists and is {what}; choose another output with -o")
