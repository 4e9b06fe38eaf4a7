"""Tables of text for audit.html: scores, and the items trained on most often."""

import html
from collections.abc import Sequence
from typing import Any

from configs.pages import clean
from contamination.classic_tables import classic_head, classic_notes, classic_rows
from contamination.markdown import most_trained
from contamination.score_tables import (
    CURVE_HEAD,
    GROUP_HEAD,
    HEAD,
    NOTE,
    curve_rows,
    group_rows,
    main_rows,
)


def escape(text: object) -> str:
    """Text that is no markup, and has no characters that are none."""
    return html.escape(clean(str(text)), quote=True)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table class="words"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def score_section(scores: Sequence[dict[str, Any]]) -> str:
    """Scores of all, clean and dirty items; nothing where no samples were given."""
    if not scores:
        return ""
    note = f'<p class="note">With 95 % intervals. {NOTE}</p>'
    parts: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = [
        ("By class and exposure", GROUP_HEAD, group_rows(scores)),
        ("By other thresholds (ConTAM)", CURVE_HEAD, curve_rows(scores)),
    ]
    more = "".join(
        f"<details><summary>{title}</summary>{text_table(head, rows)}</details>"
        for title, head, rows in parts
        if rows
    )
    table = text_table(HEAD, main_rows(scores))
    return f"<h2>Scores with and without them</h2>{note}{table}{more}"


def trained_section(facts: dict[str, Any]) -> str:
    """The items that the run trained on most often; nothing without a run."""
    columns = ("times", "first_step", "last_step")
    rows = [
        (row["benchmark"], row["id"], row["class"], *(f"{row['exposure'][k]:,}" for k in columns))
        for row in most_trained(facts)
    ]
    if not rows:
        return ""
    head = ("Benchmark", "Item", "Class", "Times", "First step", "Last step")
    return f"<h2>Trained on most often</h2>{text_table(head, rows)}"


def classic_section(facts: dict[str, Any]) -> str:
    """The page's section; nothing where no definition was asked for."""
    head = classic_head(facts)
    if not head:
        return ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in classic_notes(facts))
    table = text_table(head, classic_rows(facts))
    what = f"<details><summary>What they are</summary>{notes}</details>"
    return f"<h2>By other definitions</h2>{table}{what}"
