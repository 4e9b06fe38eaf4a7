"""What every filter profile keeps of real texts, how fast, and whether datatrove decides the same.

    TALLY_TESTDATA=/path/to/data python tests/benchmarks/bench_filters.py [ROWS] [speed]

ROWS documents are taken of every file (default 1,000). Prints Markdown tables: the share of
documents each profile keeps; precision and recall against the human labels of Common Crawl pages
(these two not with `speed`); and the rules of `web` and `edu` beside datatrove's own.
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

from configs.text_sources import Profile
from pipeline.documents import document
from pipeline.filters import PROFILES, judge, rules
from pipeline.shapes import known_shapes
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
    """The reasons of drops, and seconds of processor time."""
    start = time.process_time()
    reasons = [judge(filters, Document(text=text, id="")).reason for text in texts]
    return reasons, time.process_time() - start


def datatrove_rules(profile: Profile) -> list[BaseFilter]:
    """datatrove's own filters with the thresholds of `web` or `edu`, all but the language."""
    if profile == "edu":
        lines_only = GopherRepetitionFilter(top_n_grams=(), dup_n_grams=())
        return [GopherQualityFilter(max_non_alpha_words_ratio=0.7), lines_only]
    return [GopherQualityFilter(), GopherRepetitionFilter(), FineWebQualityFilter()]


def beside_datatrove(name: str, texts: list[str], profile: Profile) -> None:
    """Print speed and differing decisions of the rules that datatrove also has."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    decide(rules(profile), texts[:20])  # loads what is compiled, and the model of languages
    known_shapes().forget()
    ours, first_s = decide(rules(profile)[:-1], texts)
    _, again_s = decide(rules(profile)[:-1], texts)
    _, all_s = decide(rules(profile), texts)
    theirs = datatrove_rules(profile)
    decide(theirs, texts[:1])
    reasons, their_s = decide(theirs, texts)
    differ = sum(a != b for a, b in zip(ours, reasons, strict=True))
    speeds = [megabytes / seconds for seconds in (their_s, first_s, again_s, all_s)]
    figures = " | ".join(f"{speed:.2f}" for speed in speeds)
    print(
        f"| `{profile}`, {len(texts)} {name}, {megabytes:.1f} MB | {figures} "
        f"| {their_s / first_s:.0f} x / {their_s / again_s:.0f} x | {differ} |"
    )


def speed(corpora: dict[str, list[dict[str, Any]]]) -> None:
    """Print how fast profiles are, and datatrove on the same texts, in processor time."""
    web = ("c4/", "commoncrawl/", "fineweb/", "fineweb_edu/")
    pages = [row["text"] for name in corpora if name.startswith(web) for row in corpora[name]]
    mixed = [row["text"] for found in corpora.values() for row in found[:50]]
    print("\n| profile, texts | datatrove MB/s | ours, no shape known | ours, all known ", end="")
    print("| the same and the language | x datatrove | differ |\n|---|--:|--:|--:|--:|--:|--:|")
    beside_datatrove("web pages", pages, "web")
    beside_datatrove("web pages", pages, "edu")
    beside_datatrove("of all kinds", mixed, "web")


def main(most: int, parts: list[str]) -> None:
    """Measure everything, or the speed only."""
    folder = data_folder() / "corpora"
    files = {
        f"{p.parent.name}/{p.name.split('.')[0]}": p for p in sorted(folder.glob("*/*.jsonl*"))
    }
    corpora = {name: found for name, path in files.items() if (found := rows(path, most))}
    if "speed" not in parts:
        pass_rates(corpora)
        judged(corpora[LABELLED])
    speed(corpora)


if __name__ == "__main__":
    main(int(next(filter(str.isdigit, sys.argv), 1000)), sys.argv[1:])
