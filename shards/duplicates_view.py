"""Tables for the terminal: what deduplication dropped, and which source kept the copies."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

_SIZES = ((2, 2), (3, 3), (4, 9), (10, 99), (100, None))


def duplicates_tables(dedup: Mapping[str, Any]) -> Iterator[Group]:
    """Who repeats whom, in documents and characters; nothing where nothing was dropped.

    Args:
        dedup: the manifest's `dedup`; empty for datasets that were not built here.
    """
    if not dedup.get("overlap"):
        return
    table = Table()
    for name in ("dropped from", "repeats what was kept of"):
        table.add_column(name, overflow="fold")
    for name in ("documents", "characters"):
        table.add_column(name, justify="right")
    for source, row in dedup["overlap"].items():
        for number, (keeper, cell) in enumerate(row.items()):
            counts = (f"{cell[name]:,}" for name in ("documents", "characters"))
            last = number == len(row) - 1
            table.add_row("" if number else source, keeper, *counts, end_section=last)
    yield Group(Text("\n".join(_lines(dedup)), style="bold"), table)


def _lines(dedup: Mapping[str, Any]) -> Iterator[str]:
    kinds = {name: count for name, count in dedup.items() if name.startswith("dropped_") and count}
    shown = ", ".join(f"{count:,} {name[8:].replace('_', ' ')}" for name, count in kinds.items())
    yield f"Duplicates: {shown} of {dedup['documents_in']:,} documents"
    sizes = {int(size): count for size, count in dedup["cluster_sizes"].items()}
    groups = ((_name(low, high), _between(sizes, low, high)) for low, high in _SIZES)
    parts = ", ".join(f"{count:,} of {name}" for name, count in groups if count)
    yield f"in {dedup['clusters']:,} clusters, the kept document included: {parts}"
    yield f"the copy is kept in this order: {', '.join(dedup['priority'])}"
    for held in dedup.get("against", ()):
        yield (
            f"against {held['name']}, dataset {held['dataset_id']}: {held['documents']:,} documents"
        )


def _name(low: int, high: int | None) -> str:
    return f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"


def _between(sizes: Mapping[int, int], low: int, high: int | None) -> int:
    return sum(n for size, n in sizes.items() if size >= low and (high is None or size <= high))
