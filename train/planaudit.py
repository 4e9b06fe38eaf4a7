"""Whether the datasets of a plan were audited, and what was found: DATASET.audit/audit.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.terminal import counted
from shards.errors import DatasetError
from shards.json_input import parse_json
from shards.remote import is_remote


def audit_warnings(datasets: Mapping[str, str], ids: Mapping[str, str]) -> list[str]:
    """Datasets that nobody audited, whose audit is of another state, or that are not clean.

    Args:
        datasets: directory of every source's dataset, by the source's name.
        ids: the dataset ids.
    """
    found = []
    for directory in dict.fromkeys(datasets.values()):
        names = [name for name, place in datasets.items() if place == directory]
        said = _said_of(directory, ids[names[0]])
        if said:
            found.append(f"{', '.join(names)}: {said}")
    return found


def _said_of(directory: str, dataset_id: str) -> str | None:
    if is_remote(directory):
        return f"no audit is looked for beside {directory}; its contamination is unknown here"
    folder = Path(directory).with_name(f"{Path(directory).name}.audit")
    audit = _read(folder / "audit.json")
    if audit is None:
        return (
            f"no audit in {folder}; `tally audit {directory} -b olmo:all` tells which benchmarks "
            "are in it"
        )
    try:
        digest, totals = str(audit["corpus"]["digest"]), audit["totals"]
        items, documents = int(totals["dirty_items"]), int(totals["dirty_documents"])
    except (KeyError, TypeError, ValueError):
        return f"{folder}/audit.json is none that `tally audit` wrote; audit it again"
    if digest != dataset_id:
        return f"{folder} audits {digest}, not this dataset; audit it again"
    if items:
        found = counted(items, "benchmark item")
        return f"{found} found in {documents:,} of its documents ({folder}/audit.html)"
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = parse_json(path.read_bytes(), str(path))
    except (OSError, DatasetError):
        return None
    return values
