"""Whether the datasets of a plan were audited, and what was found: DATASET.audit/audit.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    if audit["corpus"]["digest"] != dataset_id:
        return f"{folder} audits {audit['corpus']['digest']}, not this dataset; audit it again"
    totals = audit["totals"]
    if totals["dirty_items"]:
        return (
            f"{totals['dirty_items']:,} benchmark items are in {totals['dirty_documents']:,} of "
            f"its documents ({folder}/audit.html)"
        )
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return values
