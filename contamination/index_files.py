"""The index as plain .npy files, memory-mapped, so workers share it."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from contamination.index import ARRAYS, Index, build_index, index_key
from contamination.items import Benchmark
from contamination.sequences import Sequences
from shards.atomic import atomic_write, write_json_atomic
from shards.hashing import blake3_file, blake3_json


def cached_index(benchmarks: list[Benchmark], cache: Path) -> Index:
    """The index, memory-mapped from `cache`, where it is built at first use."""
    directory = cache / f"index-{index_key(benchmarks)}"
    if not _is_whole(directory):
        _save(build_index(benchmarks), directory)
    return open_index(directory)


def _save(index: Index, directory: Path) -> None:
    arrays = {name: getattr(index, name) for name in ARRAYS}
    arrays |= {f.name: getattr(index.sequences, f.name) for f in fields(Sequences)}
    for name, array in arrays.items():
        with atomic_write(directory / f"{name}.npy") as file:
            np.save(file, array, allow_pickle=False)
    sums = {name: blake3_file(directory / f"{name}.npy") for name in arrays}
    facts = {"key": index.key, "num_items": index.num_items, "blake3": sums}
    facts["digest"] = blake3_json(facts)
    write_json_atomic(directory / "index.json", facts)  # last: it says that the rest is whole


def _is_whole(directory: Path) -> bool:
    """Whether a stored index is there, undamaged."""
    try:
        facts = json.loads((directory / "index.json").read_bytes())
        if facts.pop("digest") != blake3_json(facts):
            return False
        sums = facts["blake3"].items()
        return all(blake3_file(directory / f"{name}.npy") == known for name, known in sums)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def open_index(directory: Path) -> Index:
    """The index in a directory that `cached_index` made, memory-mapped."""
    facts = json.loads((directory / "index.json").read_text(encoding="utf-8"))
    sequences = Sequences(**{f.name: _map(directory, f.name) for f in fields(Sequences)})
    arrays = {name: _map(directory, name) for name in ARRAYS}
    return Index(facts["key"], facts["num_items"], **arrays, sequences=sequences)


def _map(directory: Path, name: str) -> Any:
    return np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False))
