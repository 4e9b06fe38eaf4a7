"""Benchmark items as the audit sees them: four text fields and an id."""

from dataclasses import dataclass
from functools import cached_property

from shards.hashing import blake3_json


@dataclass(frozen=True, slots=True)
class Item:
    """One test item.

    Attributes:
        id: unique in its benchmark.
        question: what the model is asked, without any prompt scaffold.
        answer: the right answer as text; empty where the question holds it (WinoGrande).
        choices: the options, the right one included; empty for open questions.
        passage: text the question is about. A match here alone is shared source, not a leak.
    """

    id: str
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    passage: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A named set of items and where they were read."""

    name: str
    split: str
    origin: str
    items: tuple[Item, ...]

    @cached_property
    def digest(self) -> str:
        """Hex BLAKE3 over every field of every item, in order."""
        rows = [(i.id, i.question, i.answer, i.choices, i.passage) for i in self.items]
        return blake3_json(rows)[:32]
