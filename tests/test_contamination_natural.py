"""Contamination that nobody planted: real texts that share real words with real test sets."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.audit import SENSITIVITIES
from contamination.audit import Audit, run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.found import found_items

DATA = Path(os.environ.get("TALLY_TESTDATA", "/nowhere"))
pytestmark = pytest.mark.skipif(
    "TALLY_TESTDATA" not in os.environ, reason="real texts and test sets: set TALLY_TESTDATA"
)


def rows(name: str) -> Iterator[dict[str, Any]]:
    path = DATA / name
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open() as file:
        yield from map(json.loads, file)


def audited(text: Path, work: Path, *specs: str) -> Audit:
    rules = SENSITIVITIES["default"]
    return run_audit(open_corpus(text), load_benchmarks(specs), rules, work / "w", work / "c")


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return path


def classes(audit: Audit) -> Counter[str]:
    return Counter(facts.class_ for facts in found_items(audit.findings).values())


def dirty(audit: Audit) -> set[str]:
    return {key.item for key, facts in found_items(audit.findings).items() if facts.dirty}


def test_a_speech_that_history_questions_quote_is_their_source(tmp_path: Path) -> None:
    text = DATA / "corpora/books/state_of_the_union.jsonl.gz"
    mmlu = f"{DATA / 'benchmarks/mmlu.jsonl.gz'}?choices=choices&answer=answer&rule=cut_passage"
    audit = audited(text, tmp_path, f"mmlu={mmlu}")
    carter = [f for f in audit.findings if f.document.doc_id == "1980-Carter"]
    assert len({f.item.id for f in carter if f.class_ == "source"}) >= 4
    assert not dirty(audit)


def test_a_textbook_that_questions_were_written_from_is_their_source(tmp_path: Path) -> None:
    text = DATA / "corpora/edu/openstax_anatomy_physiology.jsonl.gz"
    sciq = f"{DATA / 'benchmarks/sciq_validation.jsonl'}?answer=answer_index&passage=support"
    audit = audited(text, tmp_path, f"sciq={sciq}")
    assert classes(audit)["source"] >= 50
    # Questions that are the textbook's own sentence: nothing in the text tells them from a leak.
    assert len(dirty(audit)) <= 5


def test_a_train_split_shares_questions_with_its_test_split(tmp_path: Path) -> None:
    names = ("arc_easy", "arc_challenge")
    train = [
        f"{row['question']} {row['answer']}"
        for name in names
        for row in rows(f"benchmarks/train/{name}.jsonl")
    ]
    specs = [f"{n}={DATA / 'benchmarks' / n}.jsonl?answer=answer_index" for n in names]
    found = dirty(audited(written(tmp_path / "train.jsonl", train), tmp_path, *specs))
    assert 45 <= len(found) <= 60
    # One question, twice: once in the train split, once in the test split, under other numbers.
    assert {"Mercury_7172813", "LEAP__4_10224", "MDSA_2007_8_6"} <= found


def test_variants_of_gsm8k(tmp_path: Path) -> None:
    spec = f"gsm8k={DATA / 'benchmarks/gsm8k.jsonl'}"

    def found(name: str, texts: list[str]) -> int:
        return len(dirty(audited(written(tmp_path / f"{name}.jsonl", texts), tmp_path, spec)))

    backward = [row["question"] for row in rows("contamination/gsm8k_backward.jsonl")]
    copies = [row["question"] for row in rows("contamination/gsm8k_model_solutions.jsonl.gz")]
    train = [f"{r['question']}\n{r['answer']}" for r in rows("benchmarks/train/gsm8k.jsonl.gz")]
    told = [row["text"] for row in rows("contamination/rephrased_gsm8k.jsonl")]
    assert found("copies", copies) == len(copies) == 1319
    # A number made unknown and the question turned round: an edited copy all the same.
    assert found("backward", backward) >= 0.96 * len(backward)
    # Problems of the same kind from the train split are not leaks.
    assert found("train", train) <= 6
    # Paraphrases by a model are not covered, and the report says so.
    assert found("told", told) <= 0.02 * len(told)
