"""A configuration written out with what the types say of every key.

Keys that are not given stand there switched off, with their defaults: a `#` right before the key.
Text has a blank after its `#`, so that the two can be told apart, by programs too.
"""

import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from configs.base import sections

_WIDTH = 92
_STEP = "  "


def commented(model: type[BaseModel], values: Mapping[str, Any]) -> str:
    """A file of YAML: every key of a type in its order, those of `values` switched on.

    Args:
        model: the type.
        values: plain values, as YAML would give them, of some of its keys.
    """
    return "\n\n".join("\n".join(entry) for entry in _entries(model, values)) + "\n"


def _entries(model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, field in model.model_fields.items():
        given = name in values
        value = values[name] if given else _default(field)
        entry = _entry(name, value, field.annotation)
        yield [*_about(field, value), *(entry if given else [f"#{line}" for line in entry])]


def _lines(model: type[BaseModel], values: Mapping[str, Any], brief: bool) -> list[str]:
    """The keys of a section, or, of one that is like the one before, only those given."""
    if brief:
        fields = model.model_fields
        entries = [_entry(name, value, fields[name].annotation) for name, value in values.items()]
    else:
        entries = list(_entries(model, values))
    return [line for entry in entries for line in entry]


def _entry(key: str, value: Any, annotation: Any) -> list[str]:
    """A key and its value, comments inside it included."""
    section = _section(annotation, value)
    if section is not None:
        return [f"{key}:", *_deeper(_lines(section, value, brief=False))]
    if isinstance(value, Mapping) and (inner := _sections(annotation, value.values())):
        parts = zip(value.items(), inner, strict=True)
        return [f"{key}:", *_deeper([line for part in parts for line in _named(*part)])]
    if isinstance(value, list | tuple) and (inner := _sections(annotation, value)):
        items = zip(value, inner, strict=True)
        return [f"{key}:", *_deeper([line for item in items for line in _item(*item)])]
    return [f"{key}: {_scalar(value)}"]


class _Inner(NamedTuple):
    """A value inside a mapping or a list."""

    section: type[BaseModel] | None
    brief: bool
    """Whether one of the same type stands before it."""


def _sections(annotation: Any, values: Collection[Any]) -> list[_Inner]:
    """Types of the values in a mapping or a list; nothing where none can be a section."""
    arguments = get_args(annotation)
    inner = arguments[-1] if get_origin(annotation) is dict else arguments[:1]
    found = [_section(inner, value) for value in values]
    before = [found[:number] for number in range(len(found))]
    pairs = zip(found, before, strict=True)
    return [_Inner(section, section in b) for section, b in pairs] if sections(inner) else []


def _named(entry: tuple[str, Any], inner: _Inner) -> list[str]:
    name, value = entry
    if inner.section is None:
        return [f"{name}: {_scalar(value)}"]
    return [f"{name}:", *_deeper(_lines(inner.section, value, inner.brief))]


def _item(value: Any, inner: _Inner) -> list[str]:
    if inner.section is None:
        return [f"- {_scalar(value)}"]
    lines = _deeper(_lines(inner.section, value, inner.brief))
    first = next(n for n, line in enumerate(lines) if not line.lstrip().startswith("#"))
    return [*lines[:first], "- " + lines[first].removeprefix(_STEP), *lines[first + 1 :]]


def _section(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The type of ours, of those an annotation names, that has all keys of a value."""
    if not isinstance(value, Mapping) or get_origin(annotation) is dict:
        return None
    for model in sections(annotation):
        if set(value) <= set(model.model_fields) and _is_kind(model, value):
            return model
    return None


def _is_kind(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    """Whether no key of a fixed value (`kind: jsonl`) has another, and those needed are there."""
    for name, field in model.model_fields.items():
        fixed = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
        if fixed and value.get(name, _default(field)) not in get_args(field.annotation):
            return False
        if field.is_required() and name not in value:
            return False
    return True


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return None
    return _plain(field.get_default(call_default_factory=True))


def _plain(value: Any) -> Any:
    """A default as YAML would give it; of sections all keys, those left out of dumps too."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    return to_jsonable_python(value)


def _about(field: FieldInfo, value: Any) -> list[str]:
    """What the types say of a key, as comments."""
    chosen = _section(field.annotation, value)
    found = [chosen] if chosen else sections(field.annotation)[:1]
    of_section = inspect.cleandoc(found[0].__doc__ or "").split("\n\n")[0] if found else ""
    return textwrap.wrap(
        field.description or of_section,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_on_hyphens=False,
    )


def _deeper(lines: Sequence[str]) -> list[str]:
    return [_STEP + line for line in lines]


class _OneLine(yaml.SafeDumper):
    """Writes the line ends inside of texts as escapes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """As PyYAML does it, but for texts of several lines."""
        style = '"' if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_OneLine.add_representer(str, _OneLine.represent_text)


def _scalar(value: Any) -> str:
    """A value on one line."""
    shown = list(value) if isinstance(value, tuple) else value
    text: str = yaml.dump(
        shown,
        Dumper=_OneLine,
        default_flow_style=True,
        width=10**9,
        allow_unicode=True,
        sort_keys=False,
    )
    return text.removesuffix("...\n").strip()
