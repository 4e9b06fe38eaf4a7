"""What every filter profile keeps of real texts, how fast, and whether datatrove decides the same.

    TALLY_TESTDATA=/path/to/data python tests/benchmarks/bench_filters.py [ROWS]

ROWS documents are taken of every file (default 1,000). Prints Markdown tables: the share of
documents each profile keeps; precision and recall against the human labels of Common Crawl pages;
and, in an environment that also has spaCy, the rules of `web` beside datatrove's own.
"""

import gzip
import json
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter

from configs.build import Profile
from pipeline.documents import document
from pipeline.filters import PROFILES, judge, rules
from tests.benchmarks.corpus import data_folder

LABELLED = "commoncrawl/dclm_human_quality"
COLUMNS: list[Profile] = [p for p in PROFILES if p not in ("crawl", "none")]
"""`crawl` needs addresses and is `web` where there are none."""
LONGEST = 100_000


def rows(path: Path, most: int) -> list[dict[str, Any]]:
    """The first rows of a JSON Lines file that have text."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        found = [json.loads(line) for line in islice(lines, most)]
    for row in found:
        if "problem" in row:
            row["text"] = row["problem"] + "\n\n" + row["generated_solution"]
    return [row | {"text": row["text"][:LONGEST]} for row in found if row.get("text", "").strip()]


def kept(filters: list[BaseFilter], found: list[dict[str, Any]]) -> list[bool]:
    """Which of the rows the filters keep."""
    return [judge(filters, document("", row["text"], "", 0)).reason is None for row in found]


def pass_rates(corpora: dict[str, list[dict[str, Any]]]) -> None:
    """Print the share of documents that every profile keeps."""
    print("| corpus | documents | " + " | ".join(COLUMNS) + " |")
    print("|---|--:|" + "--:|" * len(COLUMNS))
    filters = {profile: rules(profile) for profile in COLUMNS}
    for name, found in corpora.items():
        shares = [sum(kept(filters[p], found)) / len(found) for p in COLUMNS]
        print(f"| {name} | {len(found)} | " + " | ".join(f"{s:.0%}" for s in shares) + " |")


def judged(found: list[dict[str, Any]]) -> None:
    """Print how well profiles tell pages that people called good."""
    print("\n| profile | kept | precision | recall |\n|---|--:|--:|--:|")
    good = sum(row["quality_label"] for row in found)
    print(f"| none | {len(found)} | {good / len(found):.3f} | 1.000 |")
    for profile in COLUMNS:
        decisions = kept(rules(profile), found)
        right = sum(r["quality_label"] for r, keep in zip(found, decisions, strict=True) if keep)
        number = sum(decisions)
        print(f"| {profile} | {number} | {right / number:.3f} | {right / good:.3f} |")


def decide(filters: list[BaseFilter], texts: Iterable[str]) -> tuple[list[str | None], float]:
    """The reasons of drops, and seconds."""
    start = time.perf_counter()
    reasons = [judge(filters, Document(text=text, id="")).reason for text in texts]
    return reasons, time.perf_counter() - start


def beside_datatrove(texts: list[str]) -> None:
    """Print speed and differing decisions of the rules that datatrove also has."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    decide(rules("web"), texts[:20])  # compiles
    ours, our_s = decide(rules("web")[:-1], texts)
    _, all_s = decide(rules("web"), texts)
    print(f"\nweb on {len(texts)} texts, {megabytes:.1f} MB:")
    print(f"  all rules {megabytes / all_s:.2f} MB/s; without language {megabytes / our_s:.2f}")
    try:
        theirs = [GopherQualityFilter(), GopherRepetitionFilter(), FineWebQualityFilter()]
        decide(theirs, texts[:1])
    except ImportError:
        print("  datatrove not measured: it needs spaCy")
        return
    reasons, their_s = decide(theirs, texts)
    differ = sum(a != b for a, b in zip(ours, reasons, strict=True))
    print(f"  datatrove {megabytes / their_s:.2f} MB/s: ours is {their_s / our_s:.1f} x")
    print(f"  decisions or reasons that differ: {differ} of {len(texts)}")


def main(most: int) -> None:
    """Measure everything."""
    folder = data_folder() / "corpora"
    files = {
        f"{p.parent.name}/{p.name.split('.')[0]}": p for p in sorted(folder.glob("*/*.jsonl*"))
    }
    corpora = {name: found for name, path in files.items() if (found := rows(path, most))}
    pass_rates(corpora)
    judged(corpora[LABELLED])
    web = ("c4/", "commoncrawl/", "fineweb/", "fineweb_edu/")
    beside_datatrove([r["text"] for name in corpora if name.startswith(web) for r in corpora[name]])
    beside_datatrove([r["text"] for found in corpora.values() for r in found[:100]])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
