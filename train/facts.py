"""Numbers with receipts: a value, the file it was read from, and the key it has there.

A receipt is one of

    {"file": "run/eval/piqa.json", "key": "/metrics/acc/value"}    a JSON pointer (RFC 6901)
    {"file": "run/metrics.jsonl", "key": "last/loss"}              last, mean, max, sum, hours,
                                                                   count of a column of lines
    {"file": "dataset/manifest.json", "key": "size/sources"}       number of entries there
    {"file": "run/plan.json", "key": "account/300/web/tokens"}     the plan's account of a step
    {"file": "run/state.json", "key": "parameters/total"}          counted from the `model` in it
    {"file": "run/environment.json", "key": "rank_hours"}          each start's ranks times the time
                                                                   of its steps (metrics.jsonl)
    {"op": "divide", "of": [receipt, receipt]}                     arithmetic on receipts

The first part of `file` names a root directory (run, dataset, audit). A value whose file or key
is missing is no fact: it is left out wherever it would have been shown.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from configs.model import ModelConfig
from configs.terminal import human
from shards.plan import Plan
from shards.plan_file import load_plan
from train.flops import count_parameters

Receipt = Mapping[str, Any]


class MissingValueError(LookupError):
    """A receipt's file or key is not there."""


@dataclass(frozen=True)
class Fact:
    """A value that can be read again; `id` marks it in a rendered card."""

    id: str
    value: Any
    style: str
    receipt: Receipt

    @cached_property
    def shown(self) -> str:
        """The value as the card prints it."""
        return STYLES[self.style](self.value)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


STYLES: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": _count,
    "short": human,
    "float2": lambda value: f"{value:.2f}",
    "float3": lambda value: f"{value:.3f}",
    "float4": lambda value: f"{value:.4f}",
    "significant": lambda value: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}",
    "percent": lambda value: f"{100 * value:.1f} %",
    "percent2": lambda value: f"{100 * value:.2f} %",
    "scientific": lambda value: f"{value:.2g}",
    "scientific_percent": lambda value: f"{100 * value:.2g} %",
    "signed_percent": lambda value: f"{100 * value:+.1f} %",
    "signed_float3": lambda value: f"{value:+.3f}",
    "share": lambda value: f"{float(Fraction(value)):.4g}",
    "list": lambda values: ", ".join(map(str, values)),
    "hours": _hours,
    "money": lambda value: f"{value:,.2f}",
    "yes": lambda value: "yes" if value else "no",
}
OPERATIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "add": sum,
    "divide": lambda values: values[0] / values[1],
    "multiply": math.prod,
    "share_lost": lambda values: 1 - values[1] / values[0],
}


def pointer(*parts: str | int) -> str:
    """A JSON pointer from its parts, escaped."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def receipt_words(receipt: Receipt) -> str:
    """A receipt in one line: file and key, or the arithmetic on them."""
    if "op" in receipt:
        parts = "; ".join(receipt_words(part) for part in receipt["of"])
        return f"{receipt['op']} of ({parts})"
    return f"{receipt['file']} {receipt['key']}"


class Evidence:
    """Reads receipts below named root directories and numbers the facts it gives out."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self.roots = dict(roots)
        self._documents: dict[str, Any] = {}
        self._plans: dict[str, Plan] = {}
        self.facts: dict[str, Fact] = {}
        """Every fact given out, by id."""

    def fact(self, file: str, key: str, style: str = "text") -> Fact | None:
        """The value under `key` of `file`; None where there is none (or it is null)."""
        return self._make({"file": file, "key": key}, style)

    def compute(self, operation: str, *parts: Fact | None, style: str) -> Fact | None:
        """Arithmetic on facts; None where one of them is missing."""
        if any(part is None for part in parts):
            return None
        return self._make({"op": operation, "of": [p.receipt for p in parts if p]}, style)

    def raw(self, file: str, key: str = "") -> Any:
        """A value to walk through (keys of a table, points of a curve); None if missing."""
        try:
            return self.read({"file": file, "key": key})
        except MissingValueError:
            return None

    def read(self, receipt: Receipt) -> Any:
        """The value of a receipt, read again.

        Raises:
            MissingValueError: the file or the key is not there.
        """
        if "op" in receipt:
            try:
                return OPERATIONS[receipt["op"]]([self.read(part) for part in receipt["of"]])
            except ZeroDivisionError:
                raise MissingValueError("a divisor of 0") from None
        file, key = receipt["file"], receipt["key"]
        if key.startswith("account/"):
            return self._account(file, key)
        document = self._document(file)
        if key == "rank_hours":
            lines = self._document(file.replace("environment.json", "metrics.jsonl"))
            return rank_hours(document.get("starts", []), lines)
        if key.startswith("parameters/"):
            return _parameters(document, key, file)
        if key.startswith("size/"):
            return len(_follow(document, key.removeprefix("size"), file))
        if file.endswith(".jsonl") and key and not key.startswith("/"):
            return _column(document, *key.split("/", 1))
        return _follow(document, key, file)

    def path(self, file: str) -> Path:
        """Where a named file is."""
        root, _, rest = file.partition("/")
        if root not in self.roots:
            raise MissingValueError(f"{file}: no directory `{root}` is known")
        return self.roots[root] / rest

    def _make(self, receipt: Receipt, style: str) -> Fact | None:
        try:
            value = self.read(receipt)
        except MissingValueError:
            return None
        if value is None:
            return None
        fact = Fact(f"f{len(self.facts) + 1}", value, style, receipt)
        self.facts[fact.id] = fact
        return fact

    def _document(self, file: str) -> Any:
        if file not in self._documents:
            path = self.path(file)
            if not path.is_file():
                raise MissingValueError(f"{file}: no such file")
            self._documents[file] = _parse(path)
        return self._documents[file]

    def _account(self, file: str, key: str) -> Any:
        _, step, name, field = key.split("/", 3)
        if not self.path(file).is_file():
            raise MissingValueError(f"{file}: no such file")
        if file not in self._plans:
            self._plans[file] = load_plan(self.path(file))[0]
        for account in self._plans[file].account(int(step)):
            if account.name == name:
                value = getattr(account, field)
                return value if isinstance(value, int) else float(value)
        raise MissingValueError(f"{file}: no source {name}")


def _parse(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return read_lines(text)
    return yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)


def read_lines(text: str) -> list[dict[str, Any]]:
    """The complete JSON lines of a text: a run in progress may be writing the last one."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]


def _follow(document: Any, key: str, file: str) -> Any:
    for part in key.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            document = document[int(name)] if isinstance(document, list) else document[name]
        except (KeyError, IndexError, TypeError, ValueError):
            raise MissingValueError(f"{file}: no {key}") from None
    return document


def _parameters(document: Any, key: str, file: str) -> int:
    try:
        count = count_parameters(ModelConfig.model_validate(document["model"]))
    except (KeyError, TypeError, ValueError):
        raise MissingValueError(f"{file}: no model in it") from None
    return int(getattr(count, key.removeprefix("parameters/")))


def rank_hours(starts: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> float:
    """Hours of all ranks in the steps of metrics.jsonl.

    Args:
        starts: of the run, in order, each with its `first_step` and `world_size`.
        lines: of metrics.jsonl.

    Raises:
        MissingValueError: a step has no time, or belongs to no start.
    """
    seconds = 0.0
    for line in lines:
        ranks = [s["world_size"] for s in starts if s["first_step"] <= line["step"]]
        if not ranks or "step_s" not in line:
            raise MissingValueError("steps whose time or number of ranks is not known")
        seconds += line["step_s"] * ranks[-1]
    return seconds / 3600


def _column(lines: list[Any], how: str, column: str = "") -> Any:
    if how == "count":
        return len(lines)
    values = [line[column] for line in lines if line.get(column) is not None]
    if not values:
        raise MissingValueError(f"no line has {column}")
    if how == "mean":
        return math.fsum(values) / len(values)
    if how == "hours":
        return math.fsum(values) / 3600
    return {"last": values[-1], "first": values[0], "max": max(values), "sum": sum(values)}[how]
