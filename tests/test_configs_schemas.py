"""The shipped JSON Schemas are those of the types, and say of YAML files what loading says."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from configs.loading import parse_yaml
from configs.schemas import SCHEMAS, as_text, schema
from configs.shipped import schema_file

CONFIGS = Path(__file__).parent.parent / "configs"
KINDS = {
    **{"build.yaml": "build", "mixes": "build", "train.yaml": "train"},
    **{"recipes": "train", "tiny": "train", "experiments": "experiment", "sources": "source"},
    "suites.yaml": "eval",
}
NO_SCHEMA = {CONFIGS / "eval" / "baselines.yaml", CONFIGS / "sizes.yaml"}
FILES = sorted(set(CONFIGS.rglob("*.yaml")) - NO_SCHEMA)


def values(path: Path) -> Any:
    return parse_yaml(path.read_text(encoding="utf-8"))


def kind(path: Path) -> str:
    return KINDS.get(path.parent.name) or KINDS[path.name]


@cache
def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema_file(name).read_bytes()))


def mistakes(name: str, content: Any) -> list[str]:
    return [error.message for error in validator(name).iter_errors(content)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_shipped_is_of_today(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    shipped = schema_file(name).read_text(encoding="utf-8")
    assert shipped == as_text(schema(name)), "run `python -m configs.schemas`"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_shipped_yaml_fits(path: Path) -> None:
    assert not mistakes(kind(path), values(path))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("demo/train.yaml", "optimiser", {"lr": 1}),
        ("demo/train.yaml", "micro_batch", 0),
        ("demo/train.yaml", "schedule", {"shape": "cosine"}),
        ("demo/train.yaml", "data", {"seq_len": 256}),
        ("demo/train.yaml", "model", None),
        ("demo/build.yaml", "sources", {}),
        ("demo/build.yaml", "sources", {"web": {"kind": "jsonl", "licence": "MIT"}}),
        ("demo/build.yaml", "sources", {"web": {"preset": "c4en"}}),
        ("demo/build.yaml", "sources", {"Web pages": {"preset": "c4_en"}}),
        ("demo/build.yaml", "dedup", {"preset": "c4"}),
        ("recipes/tiny/tinylm_275m_b.yaml", "modell", {}),
        ("recipes/tiny/tinylm_275m_b.yaml", "micro_batch", "many"),
        ("experiments/tinylm.yaml", "arms", {}),
        ("sources/c4_en.yaml", "format", "csv"),
        ("eval/suites.yaml", "mine", {"about": "without metrics"}),
    ],
)
def test_a_wrong_value_is_found(file: str, key: str, value: Any) -> None:
    path = CONFIGS / file
    content = copy.deepcopy(values(path))
    content[key] = value
    assert mistakes(kind(path), content)


def test_amounts_are_told_by_their_unit() -> None:
    content = values(CONFIGS / "demo" / "train.yaml")
    content["data"]["phases"][0]["length"] = "300"
    assert mistakes("train", content)
    content["data"]["phases"][0]["length"] = "2.5B tokens"
    assert not mistakes("train", content)
