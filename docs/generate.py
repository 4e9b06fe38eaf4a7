"""Reference pages made from the code: settings, commands, files. Nothing is written by hand.

A page of docs/reference says `<!-- generated: NAME -->` where the Markdown of `GENERATORS[NAME]`
belongs; docs/conf.py puts it there while the site is built.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import tally
from configs.audit import AuditRules
from configs.build import BuildConfig
from configs.experiment import ExperimentConfig
from configs.train import TrainConfig
from shards.manifest import Manifest

ROOT = Path(__file__).parent.parent
Schema = dict[str, Any]
_BOUNDS = {
    "exclusiveMinimum": "> {}",
    "minimum": "≥ {}",
    "exclusiveMaximum": "< {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "minItems": "at least {}",
    "pattern": "matching `{}`",
}
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "boolean": "true or false",
    "null": "null",
}


def config_reference() -> str:
    """Every section of a build, a run, an experiment and the audit's thresholds."""
    parts: list[tuple[str, type[BaseModel]]] = [
        ("A build: `tally build`", BuildConfig),
        ("A run: `tally plan`, `tally train`", TrainConfig),
        ("An experiment: arms times seeds", ExperimentConfig),
        ("Thresholds of the audit", AuditRules),
    ]
    return "\n".join(schema_page(title, model.model_json_schema()) for title, model in parts)


def manifest_reference() -> str:
    """DATASET/manifest.json, section by section."""
    return schema_page("manifest.json", Manifest.model_json_schema())


def audit_reference() -> str:
    """audit.json, from the JSON Schema that is shipped with the package."""
    text = (ROOT / "contamination" / "audit.schema.json").read_text(encoding="utf-8")
    return schema_page("audit.json", json.loads(text))


def schema_page(title: str, schema: Schema) -> str:
    """A JSON Schema as Markdown: a heading a section, a definition a key.

    Args:
        title: heading over it.
        schema: the schema of a whole file; the sections are its `$defs`.
    """
    lines = [f"## {title}", "", *_section(schema)]
    for name, section in schema.get("$defs", {}).items():
        if "properties" in section:
            lines += [f"### {name}", "", *_section(section)]
    return "\n".join(lines)


def _section(schema: Schema) -> Iterator[str]:
    yield _text(schema.get("description", ""))
    yield ""
    required = schema.get("required", ())
    for key, value in schema.get("properties", {}).items():
        yield f"`{key}`: {_type(value)}{_default(value, key in required)}"
        if "description" in value:
            yield f": {_text(value['description'])}"
        yield ""


def _default(value: Schema, required: bool) -> str:
    if required or "default" not in value:
        return "; required" if required else ""
    shown = json.dumps(value["default"], ensure_ascii=False)
    return f"; default `{shown}`" if len(shown) < 60 else "; the defaults of the section"


def _type(value: Schema) -> str:
    """What a value may be, in words, with its bounds."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for either in ("anyOf", "oneOf"):
        if either in value:
            return " or ".join(dict.fromkeys(_type(part) for part in value[either]))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    bounds = [words.format(value[key]) for key, words in _BOUNDS.items() if key in value]
    return ", ".join([_plain_type(value), *bounds])


def _plain_type(value: Schema) -> str:
    kind: str | list[str] = value.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_TYPES.get(each, each) for each in kind)
    if kind == "array":
        items = value.get("items")
        return f"list of {_type(items)}" if items else "list"
    if kind == "object":
        (held,) = value.get("patternProperties", {"": value.get("additionalProperties")}).values()
        return f"mapping to {_type(held)}" if isinstance(held, dict) else "mapping"
    return _TYPES.get(kind, kind)


def _text(docstring: str) -> str:
    """A docstring as one paragraph, its example blocks kept apart by a line."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return " ".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("<", r"\<")


def cli_reference() -> str:
    """Every command of `tally` with its arguments and options."""
    return "\n".join(_commands("tally", typer.main.get_command(tally.app)))


def _commands(name: str, group: Any) -> Iterator[str]:
    """The commands of a group, and of groups in it; typer's own click has no types."""
    for last, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(f"{name} {last}", command)
        elif not command.hidden:
            yield from _command(f"{name} {last}", command)


def _command(name: str, command: Any) -> Iterator[str]:
    """One command as Markdown."""
    context = command.context_class(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f"## {name}", "", "```text", f"{name} {usage}", "```", "")
    yield from (inspect.cleandoc(command.help or "").replace("\x08", ""), "")
    for parameter in command.get_params(context):
        if parameter.name == "help":
            continue
        shown, meaning = parameter.get_help_record(context)
        meaning = " ".join(meaning.split()).replace("<", r"\<")
        yield from (f"`{shown}`", f": {meaning}" if meaning else "", "")


GENERATORS: dict[str, Callable[[], str]] = {
    "config": config_reference,
    "cli": cli_reference,
    "manifest": manifest_reference,
    "audit": audit_reference,
}
