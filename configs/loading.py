"""Read a YAML file into a typed configuration, or say everything that is wrong with it.

Refused together, with the file, the key and the nearest valid key: unknown keys, keys given
twice, wrong types, impossible values. Overrides are `a.b=value`, the value being YAML. A file that
says `extends: FILE` begins as that one, sections merged key by key, lists and values replaced; a
section of it that is given as null is taken out.
"""

import difflib
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.base import sections
from configs.errors import ConfigError

T = TypeVar("T", bound=BaseModel)
_MOST_VALUES = 200_000
_KINDS = {"build": {"sources", "split", "tokenizer"}, "train": {"data", "model", "optimizer"}}
"""Keys that configurations of one command have and those of no other."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a mapping with the same key twice (PyYAML keeps the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                line = key_node.start_mark.line + 1
                raise ConfigError(f"line {line}: a list or mapping as a key; keys are words")
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"line {line}: key '{key}' is given twice; keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Parse YAML text safely; duplicate keys raise ConfigError."""
    try:
        value = yaml.load(text, _UniqueKeyLoader)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not readable as YAML: {_where_and_why(error)}") from None
    _require_bounded(value)
    return value


def _where_and_why(error: Exception) -> str:
    """What the parser says, in one line, with what is meant where it does not say that."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    context = f"{error.context}, " if error.context else ""
    tab = "; indent with spaces, never with tabs" if "'\\t'" in str(error.problem) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {context}{error.problem}{tab}"


def _require_bounded(value: Any) -> None:
    """Refuse what references (`*name`) blow up, or lead back into itself.

    Raises:
        ConfigError: more values than any configuration of ours has.
    """
    todo, count = [value], 0
    while todo:
        value = todo.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ConfigError(
                f"more than {_MOST_VALUES} values, references written out; write fewer of them"
            )
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def load(path: Path, schema: type[T], overrides: Sequence[str] = ()) -> T:
    """Load `path` as `schema`, after applying `a.b=value` overrides.

    Raises:
        ConfigError: the file is missing or any part of it is wrong; lists every mistake.
    """
    return _validated(_extended(path, ()), schema, overrides, str(path))


def load_settings(schema: type[T], overrides: Sequence[str], where: str) -> T:
    """A configuration that is given by `a.b=value` alone.

    Args:
        schema: its type.
        overrides: the settings; the rest is as by default.
        where: where they were given, for messages.

    Raises:
        ConfigError: any of them is wrong; lists every mistake.
    """
    return _validated({}, schema, overrides, where)


def _validated(values: dict[str, Any], schema: type[T], overrides: Sequence[str], where: str) -> T:
    for override in overrides:
        _apply(values, override)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_explain(schema, item) for item in _root_causes(error)]
        heading = f"{where}: {len(lines)} mistake(s){_other_kind(schema, values)}"
        raise ConfigError("\n".join([heading, *lines])) from None


def _other_kind(schema: type[BaseModel], values: dict[str, Any]) -> str:
    """What to add for a file that, by its keys, is meant for another command."""
    for kind, keys in _KINDS.items():
        if len(keys & set(values)) > 1 and not keys & set(schema.model_fields):
            return f"; is it a configuration of `tally {kind}`?"
    return ""


def _root_causes(error: ValidationError) -> list[Any]:
    """All mistakes but the "too short" of a list that is only short of its invalid items."""
    items = error.errors()
    inner = [item["loc"] for item in items]
    return [
        item
        for item in items
        if item["type"] != "too_short"
        or not any(loc[: len(item["loc"])] == item["loc"] != loc for loc in inner)
    ]


def _extended(path: Path, extending: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file on top of those of the file it extends.

    Args:
        path: the file.
        extending: the files that led to it.
    """
    if _is_file(path) and path.resolve() in extending:
        raise ConfigError(f"{path}: extends itself; take one `extends` out")
    values = _read_mapping(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: give the path of one file, relative to this one")
    extended: dict[str, Any] = _merged(
        _extended(path.parent / base, (*extending, path.resolve())), values
    )
    return extended


def _merged(base: Any, values: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(values, dict)):
        return values
    merged = {**base, **{key: _merged(base.get(key), value) for key, value in values.items()}}
    taken_out = [k for k, v in values.items() if v is None and isinstance(base.get(k), dict)]
    return {key: value for key, value in merged.items() if key not in taken_out}


def _read_mapping(path: Path) -> dict[str, Any]:
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a folder; give the path of a YAML configuration in it")
    if not _is_file(path):
        raise ConfigError(f"{path}: no such file; give the path of a YAML configuration")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is no UTF-8; save the file in that encoding"
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines at the top level")
    return values


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or one that no file can have
        return False


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}': write it as a.b=value")
    *parents, last = key.split(".")
    section = _descend(values, parents, override)
    section[last] = parse_yaml(text)


def _descend(values: Any, parents: Sequence[str], override: str) -> Any:
    for parent in parents:
        if isinstance(values, list) and parent.isdigit() and int(parent) < len(values):
            values = values[int(parent)]
        elif isinstance(values, dict):
            values = values.setdefault(parent, {})
        else:
            raise ConfigError(f"override '{override}': '{parent}' is not a section")
    if not isinstance(values, dict):
        raise ConfigError(f"override '{override}': the key before the last is not a section")
    return values


def _explain(schema: type[BaseModel], error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _known_keys(schema, error["loc"][:-1])
        return f"  {where}: unknown key{_nearest(str(error['loc'][-1]), known)}"
    if error["type"] == "union_tag_not_found":
        return f"  {where}: has no {error['ctx']['discriminator']}; give it, or mend the name"
    given = error.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"  {where or '(top level)'}: {message}{shown}"


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid keys: {', '.join(sorted(known))}" if known else ""


def _known_keys(schema: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    models = [schema]
    for part in location:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if fields:
            models = [model for field in fields for model in sections(field.annotation)]
    return sorted({name for model in models for name in model.model_fields})
