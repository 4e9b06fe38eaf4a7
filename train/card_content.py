"""What a card says, apart from how it looks: sections of lines, tables, figures and texts.

Both pages, Markdown and HTML, are rendered from this one structure, so they say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from train.facts import Fact

Piece = str | Fact
Line = tuple[Piece, ...]
"""Words and facts, read one after the other."""


@dataclass(frozen=True)
class Paragraph:
    """A line of text."""

    line: Line


@dataclass(frozen=True)
class Bullets:
    """Lines below each other."""

    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row, a cell without a fact is an empty line."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing (SVG source) with what it shows, in words."""

    wide: str
    """For a desk."""
    narrow: str
    """For a phone: letters keep their size."""
    caption: Line


@dataclass(frozen=True)
class Sample:
    """A prompt and how the model went on."""

    prompt: str
    text: str
    source: str


@dataclass(frozen=True)
class Code:
    """Commands to copy."""

    text: str


Block = Paragraph | Bullets | Table | Figure | Sample | Code


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Tile:
    """A figure to be seen first."""

    label: str
    line: Line


@dataclass(frozen=True)
class Score:
    """One benchmark score for the hub's model index."""

    task: str
    split: str
    metric: str
    value: Fact
    partial: bool


@dataclass(frozen=True)
class Metadata:
    """What the hub wants to know beside the scores."""

    license: Fact | None = None
    datasets: tuple[Fact, ...] = ()
    """Repositories of the hub that were read."""
    base_model: Fact | None = None
    """The repository whose weights the run began with."""


@dataclass(frozen=True)
class Card:
    """The whole card."""

    kicker: str
    """What kind of page it is."""
    title: str
    summary: Line
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    scores: tuple[Score, ...]
    footer: str
    metadata: Metadata = Metadata()


def line(*pieces: Piece | None) -> Line | None:
    """A line, or None where a piece is missing: what cannot be proved is not said."""
    if any(piece is None for piece in pieces):
        return None
    return tuple(piece for piece in pieces if piece is not None)


def cell(*pieces: Piece | None) -> Line:
    """A table cell; empty where a piece is missing."""
    return line(*pieces) or ()


def bullets(*lines: Line | None) -> tuple[Block, ...]:
    """The lines that could be proved, or no block at all."""
    kept = tuple(item for item in lines if item is not None)
    return (Bullets(kept),) if kept else ()


def table(headers: Sequence[str], rows: Sequence[tuple[Line, ...]]) -> tuple[Block, ...]:
    """A table without its empty columns, or no block where nothing is left."""
    kept = [i for i in range(len(headers)) if i == 0 or any(row[i] for row in rows)]
    if not rows or len(kept) < 2:
        return ()
    cut = tuple(tuple(row[i] for i in kept) for row in rows)
    return (Table(tuple(headers[i] for i in kept), cut),)


def section(title: str, *blocks: Sequence[Block]) -> Section | None:
    """A section, or None where it has nothing to say."""
    flat = tuple(block for group in blocks for block in group)
    return Section(title, flat) if flat else None
