"""Recall and precision of the audit on real text with planted items, by kind of change and by set.

python -m tests.benchmarks.bench_audit_recall [SEED] [MB] [SPEC...]

TALLY_TESTDATA names the folder with real text. Of every set (`olmo:all` if none is named) twelve
items are planted in every way into documents chosen by the seed; the other documents are clean.
An item counts as found where a finding of it in its document is dirty; of an item that is split
over two documents, in one of them.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from configs.audit import SENSITIVITIES
from contamination.audit import run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.findings import Finding
from contamination.items import Benchmark, Item
from shards.cache import cache_directory
from tests.benchmarks.corpus import texts_of_size
from tests.test_contamination_recall import KINDS, full

_PER_SET = 12
_HOST_CHARACTERS = (400, 12_000)
_WHOLE = ("verbatim", "case and punctuation", "line breaks", "markup")
_OF_SETS = (*_WHOLE, "question only")


class Plant(NamedTuple):
    """One item in one document, or the half of one."""

    kind: str
    benchmark: str
    item: str
    document: int
    start: int
    """First byte."""
    end: int


def _half(item: Item) -> str:
    words = full(item).split()
    return " ".join(words[: len(words) // 2])


def plant(texts: list[str], sets: list[Benchmark], random: Random) -> list[Plant]:
    """Puts items into the texts, in place."""
    low, high = _HOST_CHARACTERS
    hosts = [k for k, text in enumerate(texts[:-1]) if low <= len(text) <= high]
    random.shuffle(hosts)
    used, plants = set[int](), list[Plant]()
    for benchmark in sets:
        for kind in (*KINDS, "first half", "split"):
            for item in random.sample(benchmark.items, min(_PER_SET, len(benchmark.items))):
                if kind == "with options" and len(item.choices) < 2:
                    continue
                while {hosts[-1], hosts[-1] + 1} & used:
                    hosts.pop()
                host = hosts.pop()
                used |= {host, host + 1}
                plants += _put(texts, host, kind, benchmark.name, item)
    return plants


def _put(texts: list[str], host: int, kind: str, name: str, item: Item) -> list[Plant]:
    if kind == "split":
        first = _half(item)
        second = full(item)[len(first) :].strip()
        before = len(texts[host].encode()) + 1
        texts[host], texts[host + 1] = f"{texts[host]}\n{first}", f"{second}\n{texts[host + 1]}"
        return [
            Plant(kind, name, item.id, host, before, before + len(first.encode())),
            Plant(kind, name, item.id, host + 1, 0, len(second.encode())),
        ]
    change = _half if kind == "first half" else KINDS[kind][0]
    text, cut = texts[host], texts[host].find(" ", len(texts[host]) // 3)
    start, inside = len(text[:cut].encode()) + 1, change(item)
    texts[host] = f"{text[:cut]}\n{inside}\n{text[cut:]}"
    return [Plant(kind, name, item.id, host, start, start + len(inside.encode()))]


def report(plants: list[Plant], findings: list[Finding], num_texts: int) -> None:
    """Prints what was found."""
    dirty: dict[int, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.dirty:
            dirty[int(finding.document.doc_id)].append(finding)
    kinds: dict[str, dict[tuple[str, str], bool]] = defaultdict(dict)
    sets: dict[str, list[bool]] = defaultdict(list)
    overlaps, first = list[float](), list[bool]()
    for each in plants:
        key = (each.benchmark, each.item)
        own = [f for f in dirty[each.document] if (f.benchmark, f.item.id) == key]
        kinds[each.kind][key] = bool(own) or kinds[each.kind].get(key, False)
        if each.kind in _OF_SETS:
            sets[each.benchmark].append(bool(own))
        if each.kind in _WHOLE and own:
            overlaps.append(_overlap(each, own[0]))
            first.append(own[0].rank == 1)
    for kind, found in kinds.items():
        print(f"{kind:22} {sum(found.values()) / len(found):.3f} of {len(found)}")
    every = [hit for found in kinds.values() for hit in found.values()]
    print(f"{'all':22} {sum(every) / len(every):.3f} of {len(every)}")
    least = min(sets, key=lambda name: sum(sets[name]) / len(sets[name]))
    print(f"{'least of any set':22} {sum(sets[least]) / len(sets[least]):.3f} {least}")
    print(f"right item first {sum(first) / len(first):.3f}, overlap {median(overlaps):.3f}")
    clean = num_texts - len({each.document for each in plants})
    false = len(dirty.keys() - {each.document for each in plants})
    print(f"clean documents called dirty: {false} of {clean} ({false / clean:.3%})")


def _overlap(each: Plant, finding: Finding) -> float:
    both = min(each.end, finding.end) - max(each.start, finding.start)
    return max(0, both) / (max(each.end, finding.end) - min(each.start, finding.start))


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 20261121
    texts = texts_of_size(float(sys.argv[2]) if len(sys.argv) > 2 else 1000.0)
    sets = load_benchmarks(sys.argv[3:] or ["olmo:all"])
    plants = plant(texts, sets, Random(seed))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "planted.jsonl"
        rows = (json.dumps({"id": str(k), "text": text}) for k, text in enumerate(texts))
        path.write_text("\n".join(rows), encoding="utf-8")
        cache = cache_directory() / "bench"
        rules = SENSITIVITIES["default"]
        audit = run_audit(open_corpus(path), sets, rules, Path(folder) / "w", cache, workers=2)
        report(plants, audit.findings, len(texts))
        print(f"decoys found: {sum(audit.decoy_places.values())}")


if __name__ == "__main__":
    main()
