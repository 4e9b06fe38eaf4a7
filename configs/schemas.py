"""JSON Schemas of the YAML files, for editors; made from the types in this folder.

    python -m configs.schemas    writes configs/schemas/*.json again, after a change of the types

Two things that files may have are no part of the types: `extends: FILE`, with which no other key
is needed, since the file may get it from there; and `preset: NAME` in the place of its keys.
"""

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, TypeAdapter

from configs.build import BuildConfig
from configs.cleaning import DEDUP_PRESETS
from configs.evaluation import Suite
from configs.experiment import ExperimentConfig
from configs.presets import PRESETS
from configs.shipped import schema_file
from configs.text_sources import Source
from configs.train import TrainConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
_PARTIAL = "Part"
"""Put before the names of types whose keys may be left out."""


def _of_file(model: type[BaseModel]) -> Schema:
    """Schema of a file that may extend another one."""
    whole = model.model_json_schema()
    types = whole.pop("$defs", {})
    part = _optional({**whole, "properties": {**whole["properties"], "extends": _EXTENDS}})
    types |= {_PARTIAL + name: _optional(found) for name, found in types.items()}
    return {
        "$defs": types | {"Whole": whole, _PARTIAL: part},
        "if": {"required": ["extends"]},
        "then": {"$ref": f"#/$defs/{_PARTIAL}"},
        "else": {"$ref": "#/$defs/Whole"},
    }


_EXTENDS = {"type": "string", "description": "The file that this one begins as, relative to it."}


def _optional(value: Any) -> Any:
    """A schema in which no key must be there and whole sections may be taken out with null."""
    if isinstance(value, list):
        return [_optional(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _optional(item) for key, item in value.items() if key != "required"}
    kept.pop("discriminator", None)
    if "oneOf" in kept:  # without the keys that tell them apart several may fit
        kept["anyOf"] = kept.pop("oneOf")
    if "$ref" in kept:
        name = kept["$ref"].removeprefix("#/$defs/")
        kept["$ref"] = f"#/$defs/{_PARTIAL}{name}"
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


def _build() -> Schema:
    schema = _of_file(BuildConfig)
    types = schema["$defs"]
    types["PresetSource"] = _preset(types[f"{_PARTIAL}HubSource"])
    for top, dedup in (("Whole", "DedupConfig"), (_PARTIAL, f"{_PARTIAL}DedupConfig")):
        types[dedup]["properties"]["preset"] = {"enum": sorted(DEDUP_PRESETS)}
        sources = types[top]["properties"]["sources"]
        sources["additionalProperties"] = False
        for pattern, source in sources["patternProperties"].items():
            sources["patternProperties"][pattern] = {**_WITH_PRESET, "else": source}
    return schema


_WITH_PRESET = {"if": {"required": ["preset"]}, "then": {"$ref": "#/$defs/PresetSource"}}


def _preset(hub: Schema) -> Schema:
    """A source that begins as a shipped one, which are all of the hub."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    preset = {"enum": names, "description": "One of configs/sources."}
    return {**hub, "properties": {"preset": preset, **hub["properties"]}, "required": ["preset"]}


def _source() -> Schema:
    return TypeAdapter[Any](Source).json_schema()


def _suites() -> Schema:
    schema = Suite.model_json_schema()
    return {"type": "object", "additionalProperties": schema}


SCHEMAS: dict[str, Callable[[], Schema]] = {
    "build": _build,
    "train": lambda: _of_file(TrainConfig),
    "experiment": lambda: _of_file(ExperimentConfig),
    "source": _source,
    "eval": _suites,
}
"""By the name of the command that reads such files; `source` is a file of configs/sources."""


def schema(name: str) -> Schema:
    """The JSON Schema of one kind of file."""
    return {"$schema": DIALECT, **SCHEMAS[name]()}


def as_text(values: Schema) -> str:
    """A schema as it is shipped."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in SCHEMAS:
        schema_file(each).write_text(as_text(schema(each)), encoding="utf-8")
