"""Tables of the classic definitions beside ours, for audit.md, the page and the terminal.

A cell is the share of items that a definition calls dirty.
"""

from typing import Any


def classic_head(facts: dict[str, Any]) -> list[str]:
    """Names of the columns; empty where no definition was asked for."""
    if not facts["classic"]:
        return []
    return ["benchmark", "items", "here", *(d["title"] for d in facts["classic"].values())]


def classic_rows(facts: dict[str, Any]) -> list[list[str]]:
    """One row a benchmark."""
    rows = []
    for benchmark in facts["benchmarks"]:
        parts = [d["benchmarks"][benchmark["name"]] for d in facts["classic"].values()]
        counts = [benchmark["dirty_items"], *(part["dirty_items"] for part in parts)]
        shares = [_share(count, benchmark["items"]) for count in counts]
        rows.append([benchmark["name"], f"{benchmark['items']:,}", *shares])
    return rows


def classic_notes(facts: dict[str, Any]) -> list[str]:
    """What each definition is, in a line."""
    return [
        f"{d['title']}: {d['rule']} ({d['source']}). Decided here: {d['decided_here']}."
        for d in facts["classic"].values()
    ]


def classic_markdown(facts: dict[str, Any]) -> list[str]:
    """Lines of audit.md."""
    head = classic_head(facts)
    if not head:
        return []
    table = [head, ["---", *["---:"] * (len(head) - 1)], *classic_rows(facts)]
    lines = ["Share of items called contaminated by other definitions:", ""]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    return [*lines, "", *(f"- {note}" for note in classic_notes(facts)), ""]


def _share(count: int, items: int) -> str:
    share = count / max(1, items)
    return "0" if not count else "<0.01%" if share < 0.0001 else f"{share:.2%}"
