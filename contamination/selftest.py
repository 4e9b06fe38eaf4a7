"""Plant known items into real documents and count how many this very audit finds.

Every report states the sensitivity that was measured with its own benchmarks, thresholds and word
counts, on hosts from its own text. Nothing is written: the planted copies live in memory.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from configs.audit import AuditRules
from contamination.clusters import Worth
from contamination.common_words import COMMON_WORDS
from contamination.corpus import batch_of
from contamination.halves import called_places
from contamination.index import Index
from contamination.items import Benchmark, Item
from contamination.rules import are_dirty
from contamination.scan import scan
from contamination.surprisal import Vocabulary
from shards.hashing import blake3_json

ITEMS_PER_SET = 12
_QUOTES = {'"': "\u201d", "'": "\u2019", "-": "\u2014", ",": " ,"}


@dataclass(frozen=True)
class SelfTestRow:
    """Items of one benchmark planted in one way, and how many of them were found."""

    benchmark: str
    kind: str
    planted: int
    found: int


def _verbatim(item: Item, random: Random) -> str:
    forms = ("{q} {a}", "Question: {q}\nAnswer: {a}", "Q: {q}\n\nA: {a}")
    form = forms[random.randrange(3)] if item.answer else "{q}"
    return form.format(q=item.question, a=item.answer)


def _case_and_punctuation(item: Item, random: Random) -> str:
    text = _verbatim(item, random)
    text = (text.upper(), text.lower(), text.title())[random.randrange(3)]
    if random.randrange(2):
        return re.sub(r"[^\w\s]", "", text.replace("-", " "))
    return "".join(_QUOTES.get(character, character) for character in text)


def _line_breaks(item: Item, random: Random) -> str:
    words, lines = _verbatim(item, random).split(), []
    while words:
        size = random.randint(4, 9)
        lines.append(" ".join(words[:size]))
        words = words[size:]
    return random.choice(["\n", "\n    ", " \r\n", "\n> "]).join(lines)


def _one_word_in_ten(item: Item, random: Random) -> str:
    words = _verbatim(item, random).split()
    for _ in range(max(1, len(words) // 10)):
        words[random.randrange(len(words))] = random.choice(COMMON_WORDS)
    return " ".join(words)


def _question_only(item: Item, random: Random) -> str:
    return item.question


KINDS: dict[str, Callable[[Item, Random], str]] = {
    "verbatim": _verbatim,
    "case and punctuation": _case_and_punctuation,
    "line breaks": _line_breaks,
    "1 word in 10 replaced": _one_word_in_ten,
    "question only": _question_only,
}


@dataclass(frozen=True)
class Detector:
    """Index, word values and thresholds: what decides whether an item is found."""

    index: Index
    vocabulary: Vocabulary
    worth: Worth
    rules: AuditRules


def self_test(
    detector: Detector, benchmarks: Sequence[Benchmark], hosts: Sequence[bytes]
) -> list[SelfTestRow]:
    """Measured recall by benchmark and way of planting.

    Args:
        detector: the configuration under test.
        benchmarks: in the order of the index.
        hosts: real documents to plant into, in a fixed order.
    """
    rows, first = [], 0
    for benchmark in benchmarks:
        chosen = _chosen(benchmark)
        numbers = np.array([first + number for number in chosen])
        for kind, plant in KINDS.items():
            texts = [
                _planted(plant, benchmark.items[n], hosts, f"{benchmark.name}/{kind}/{n}")
                for n in chosen
            ]
            rows.append(
                SelfTestRow(benchmark.name, kind, len(chosen), _found(detector, texts, numbers))
            )
        first += len(benchmark.items)
    return rows


def _chosen(benchmark: Benchmark) -> list[int]:
    """A fixed choice of items that does not depend on their order."""
    keys = [blake3_json([benchmark.name, item.id]) for item in benchmark.items]
    return sorted(range(len(keys)), key=keys.__getitem__)[:ITEMS_PER_SET]


def _planted(
    plant: Callable[[Item, Random], str], item: Item, hosts: Sequence[bytes], key: str
) -> bytes:
    random = Random(int(blake3_json(key)[:16], 16))
    host = hosts[random.randrange(len(hosts))] if hosts else b""
    border = host.find(b"\n", len(host) // 4)
    cut = border if border >= 0 else 0
    return host[:cut] + b"\n" + plant(item, random).encode("utf-8", "replace") + b"\n" + host[cut:]


def _found(detector: Detector, texts: Sequence[bytes], numbers: NDArray[np.int64]) -> int:
    """How many of texts[k] are called dirty for item numbers[k]."""
    batch = batch_of(texts)
    hits = scan(batch.data, batch.offsets, detector.index, detector.vocabulary).hits
    places = called_places(hits, detector.index, detector.worth, detector.rules)
    documents = places.clusters["document"]
    own = are_dirty(places.classes) & (places.clusters["item"] == numbers[documents])
    return len(np.unique(documents[own]))
