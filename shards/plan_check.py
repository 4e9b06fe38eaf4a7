"""Whether JSON values are a plan that can be worked with: types, ranges, one weight a source.

A plan's id proves that nobody changed it by accident. A plan of a stranger has an id that fits
whatever it says, so what it says is looked at before anything is computed from it.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from shards.errors import DatasetError
from shards.layout import Layout

_MOST_TOKENS = 1 << 50
_MOST_WINDOWS = 1 << 60  # of all steps of a phase: numbers of windows are int64
_MOST_BATCH = 1 << 28
_MOST_WEIGHT_TEXT = 200
_ORDERS = ("shuffled", "sequential", "rows")


def check_plan(values: Mapping[str, Any]) -> None:
    """Refuse values that `Plan.from_json` must not take.

    Raises:
        DatasetError: says which of them.
    """
    try:
        _whole(values, "seq_len", 1, 1 << 31)
        _whole(values, "seed", -(1 << 63), 1 << 64)
        _require(values["order"] in _ORDERS, f"order '{values['order']}'")
        _is(values, "document_mask", bool)
        for source in values["sources"]:
            for key in ("name", "dataset_id", "source", "split"):
                _is(source, key, str)
            _whole(source, "tokens", 0, _MOST_TOKENS)
            _require(isinstance(source.get("masked", False), bool), "'masked' is no truth value")
        names = [source["name"] for source in values["sources"]]
        _require(len(set(names)) == len(names), "two sources of one name")
        _require(bool(values["phases"]), "no phases")
        for phase in values["phases"]:
            _check_phase(phase, values)
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"not a plan of ours ({type(error).__name__}: {error})") from None


def _check_phase(phase: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    _is(phase, "name", str)
    _is(phase, "restart", bool)
    _whole(phase, "num_steps", 0, _MOST_WINDOWS)
    _whole(phase, "batch_windows", 1, _MOST_BATCH)
    windows = phase["num_steps"] * phase["batch_windows"]
    _require(windows <= _MOST_WINDOWS, f"phase '{phase['name']}' reads {windows} windows")
    if phase["seq_len"] is not None:
        _whole(phase, "seq_len", 1, 1 << 31)
    weights = [_weight(text) for text in phase["weights"]]
    _require(len(weights) == len(values["sources"]), "a phase with another number of weights")
    _require(any(weights), f"phase '{phase['name']}' reads nothing")
    seq_len, rows = phase["seq_len"] or values["seq_len"], values["order"] == "rows"
    for weight, source in zip(weights, values["sources"], strict=True):
        layout = Layout(source["tokens"], seq_len, rows)
        readable = source["tokens"] if rows else layout.windows
        _require(not weight or readable > 0, f"source '{source['name']}' has no window")


def _weight(text: Any) -> Fraction:
    if not isinstance(text, str) or len(text) > _MOST_WEIGHT_TEXT or "e" in text.lower():
        raise DatasetError(f"not a plan of ours: weight {str(text)[:50]!r}")
    try:
        weight = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise DatasetError(f"not a plan of ours: weight '{text}'") from None
    _require(weight >= 0, f"weight '{text}'")
    return weight


def _whole(values: Mapping[str, Any], key: str, least: int, most: int) -> None:
    value = values[key]
    sound = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    _require(sound, f"{key} {str(value)[:50]!r}")


def _is(values: Mapping[str, Any], key: str, kind: type) -> None:
    _require(isinstance(values[key], kind), f"{key} {str(values[key])[:50]!r}")


def _require(sound: bool, what: str) -> None:
    if not sound:
        raise DatasetError(f"not a plan of ours: {what}")
