"""What `tally init` does around the values: ask for them, write the file, say what comes next."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel

from configs.commented import commented
from configs.errors import ConfigError
from configs.loading import load
from configs.outputs import require_place
from configs.shipped import schema_file
from configs.terminal import console

T = TypeVar("T", bound=BaseModel)


def ask(given: str | None, flag: str, question: str, default: str | None = None) -> str:
    """A value from its flag, from the person at the terminal, or the default.

    Raises:
        ConfigError: no flag, nobody to ask, and no default.
    """
    if given is not None:
        return given
    if sys.stdin.isatty():
        answer: str = typer.prompt(question, default=default)
        return answer
    if default is None:
        raise ConfigError(f"{flag}: needed, since there is no terminal to ask on ({question})")
    return default


def write_config(
    path: Path, kind: str, model: type[T], values: Mapping[str, Any], about: Sequence[str]
) -> T:
    """Write a commented configuration that loads, and load it; an old file only where told to.

    Args:
        path: the new file.
        kind: name of its schema.
        model: its type.
        values: its values, as YAML would give them.
        about: lines that stand at its beginning.

    Raises:
        ConfigError: the values are wrong, or the file is there and is not to be replaced.
    """
    head = [f"# yaml-language-server: $schema={schema_file(kind)}", *(f"# {s}" for s in about)]
    head += ["#", "# `#key: value` is a default: take the # away to change it.", ""]
    _make_way(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("\n".join([*head, commented(model, values)]), encoding="utf-8")
    try:
        config = load(fresh, model)
        os.replace(fresh, path)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(fresh), str(path))) from None
    finally:
        fresh.unlink(missing_ok=True)
    return config


def _make_way(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give a file's name with -o")
    if not path.exists():
        require_place(path)
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{path}: is there already; name another with -o, or delete it")
    if not typer.confirm(f"{path} is there already; replace it?"):
        raise ConfigError(f"{path}: left as it was; name another with -o")


def say_next(path: Path, commands: Sequence[str]) -> None:
    """Print what was written and the commands that follow."""
    console.print(f"wrote {path}: it loads. Next:")
    for command in commands:
        console.print(f"  {command}", markup=False, soft_wrap=True)
