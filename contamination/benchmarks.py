"""Benchmark specifications on the command line -> items.

Two forms:

* ``olmo:arc_easy`` - a set of the registry in `contamination.olmo`; ``olmo:all`` is all of them;
* ``NAME=FILE?question=COLUMN&answer=COLUMN&choices=COLUMN&passage=COLUMN&id=COLUMN`` - a file of
  your own: .jsonl, .jsonl.gz or .csv. Without ``?...`` the columns are called as the fields are.
  ``a.b`` reaches into an object, ``a+b`` joins two columns with a space. An integer as answer is
  the position (from 0) in the choices.
"""

import csv
import difflib
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from contamination import olmo
from contamination.errors import AuditError
from contamination.items import Benchmark, Item

_FIELDS = ("id", "question", "answer", "choices", "passage")
_REQUIRED = ("question",)


def load_benchmarks(specs: Sequence[str]) -> list[Benchmark]:
    """Reads the benchmarks of the specifications, in order, each once.

    Raises:
        AuditError: an unknown set, a missing file, field or row, or two sets of one name.
    """
    benchmarks: dict[str, Benchmark] = {}
    for spec in dict.fromkeys(one for given in specs for one in _expand(given)):
        benchmark = _load(spec)
        if benchmark.name in benchmarks:
            raise AuditError(f"two benchmarks are called '{benchmark.name}'; rename one: NAME=FILE")
        benchmarks[benchmark.name] = benchmark
    if not benchmarks:
        raise AuditError("no benchmark given; try --benchmarks olmo:all")
    return list(benchmarks.values())


def _expand(spec: str) -> list[str]:
    return [f"olmo:{name}" for name in olmo.SETS] if spec == "olmo:all" else [spec]


def _load(spec: str) -> Benchmark:
    if spec.startswith("olmo:"):
        name = spec.removeprefix("olmo:")
        if name not in olmo.SETS:
            raise AuditError(f"{spec}: no such set{_nearest(name)}")
        return olmo.load(name)
    name, equals, rest = spec.partition("=")
    if not equals or not name or "/" in name:
        raise AuditError(
            f"benchmark '{spec}': write olmo:SET or NAME=FILE?question=COLUMN&answer=COLUMN"
            f"{_nearest(spec)}"
        )
    path, _, query = rest.partition("?")
    return _from_file(name, Path(path), _columns(spec, query))


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, olmo.SETS, n=1, cutoff=0.5)
    known = ", ".join(olmo.SETS)
    return f"; did you mean olmo:{close[0]}?" if close else f"; registered sets: {known}"


def _columns(spec: str, query: str) -> dict[str, str]:
    given = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    unknown = set(given) - set(_FIELDS)
    if unknown:
        raise AuditError(
            f"benchmark '{spec}': unknown field '{sorted(unknown)[0]}'; "
            f"fields: {', '.join(_FIELDS)}"
        )
    return given


def _from_file(name: str, path: Path, columns: dict[str, str]) -> Benchmark:
    if not path.is_file():
        raise AuditError(f"benchmark {name}: {path}: no such file")
    items: dict[str, Item] = {}
    for number, row in enumerate(_rows(path)):
        item = _to_item(row, columns, f"{path}: row {number + 1}", number)
        if item.id in items:
            raise AuditError(f"{path}: row {number + 1}: the id '{item.id}' is given twice")
        items[item.id] = item
    if not items:
        raise AuditError(f"benchmark {name}: {path} holds no rows")
    return Benchmark(name, path.stem.split(".")[0], path.name, tuple(items.values()))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise AuditError(f"{path}: broken file: {error}") from None
    if ".csv" in path.suffixes:
        yield from csv.DictReader(io.StringIO(text, newline=""))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _json_row(line, f"{path}: line {number}")


def _json_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise AuditError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise AuditError(f"{where}: expected an object {{...}} with the item's fields")
    return row


def _to_item(row: dict[str, Any], columns: dict[str, str], where: str, number: int) -> Item:
    values = {
        field: _value(row, columns.get(field, field), field in columns or field in _REQUIRED, where)
        for field in _FIELDS
    }
    choices = tuple(str(choice) for choice in values["choices"] or ())
    answer = values["answer"]
    if isinstance(answer, int) and not isinstance(answer, bool) and choices:
        if not 0 <= answer < len(choices):
            raise AuditError(f"{where}: answer {answer} is no position in {len(choices)} choices")
        answer = choices[answer]
    identity = number if values["id"] is None else values["id"]
    text = "" if answer is None else str(answer)
    return Item(str(identity), str(values["question"]), text, choices, values["passage"] or "")


def _value(row: dict[str, Any], column: str, needed: bool, where: str) -> Any:
    if "+" in column:
        return " ".join(str(_value(row, part, needed, where)) for part in column.split("+"))
    value: Any = row
    for key in column.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None and needed:
        known = ", ".join(str(key) for key in row)
        raise AuditError(f"{where}: no column '{column}' (it has: {known}); map it: ?field=COLUMN")
    return value
