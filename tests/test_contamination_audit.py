"""The whole audit on hand-made items and documents whose classes are written out."""

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from configs.audit import SENSITIVITIES
from contamination.audit import Audit, run_audit
from contamination.classic import Name, parse_names
from contamination.corpus import open_corpus
from contamination.errors import AuditError
from contamination.evidence import EXTRACT_CHARACTERS
from contamination.items import Benchmark, Item
from contamination.markdown import markdown
from contamination.report import matches, summary
from contamination.write import write_reports

QUESTION = (
    "Which pigment in the leaves of a maple absorbs mostly violet and orange light during summer?"
)
STORY = (
    "Penelope packed seventeen lanterns before the regatta because her grandmother insisted that "
    "fog would swallow the harbour. By midnight every captain had borrowed one, and the committee "
    "promised to repay her with a"
)
PRIZE = "brass compass from the old lighthouse keeper's private collection of seafaring treasures"
PASSAGE = (
    "The Zarathan canal was dug between 1811 and 1829 by masons from four valleys, who were paid "
    "in salt and barley until the provincial bank collapsed and the last lock was left unfinished."
)
ITEMS = (
    Item("leaf", QUESTION, "chlorophyll", ("chlorophyll", "keratin", "melanin")),
    Item(
        "story",
        STORY,
        "brass compass from the old lighthouse keeper's private collection of seafaring treasures",
    ),
    Item("canal", "who dug the zarathan canal", "masons", (), PASSAGE),
    Item("tiny", "Is it so?", "no"),
)
BENCHMARK = Benchmark("made", "test", "by a test", ITEMS)
FILLER = (
    "The committee met on Tuesday to discuss the budget. Nobody could explain why the tables "
    "disagreed, so the meeting was moved to the following week.\n"
)
DOCUMENTS = {
    "clean": FILLER * 3,
    "question and answer": f"{FILLER}Q: {QUESTION}\nA: Chlorophyll.\n{FILLER}",
    "question": f"{FILLER}{QUESTION.upper()}\n{FILLER}",
    "wrapped": f"{FILLER}<b>Which</b> pigment, in the leaves\r\n> of a maple absorbs\n    mostly "
    f"violet and orange light -- during summer?\n{FILLER}",
    "answer": f"{FILLER}He left a {ITEMS[1].answer}, nothing more.\n{FILLER}",
    "near": FILLER + re.sub("lanterns|grandmother|fog|captain|repay", "other", STORY) + "\n",
    "passage": f"{FILLER}{PASSAGE}\n{FILLER}",
    "passage and question": f"{FILLER}{PASSAGE}\nQuestion: Who dug the Zarathan canal? Masons.",
    "common words": "Which of the following is true? It is in the end of the day.",
    "empty": "",
}
EXPECTED = {
    "question and answer": [("leaf", "qa")],
    "question": [("leaf", "question")],
    "wrapped": [("leaf", "question")],
    "answer": [("story", "answer")],
    "near": [("story", "near")],
    "passage": [("canal", "source")],
    "passage and question": [("canal", "qa")],
}


@dataclass
class Bench:
    """Audits documents in a directory of its own."""

    path: Path

    def audit(self, text: Path, workers: int = 1, work: str = "work") -> Audit:
        corpus = open_corpus(text)
        rules = SENSITIVITIES["default"]
        folders = self.path / work, self.path / "cache"
        return run_audit(corpus, [BENCHMARK], rules, *folders, workers=workers)

    def jsonl(self, name: str = "text.jsonl") -> Path:
        rows = [{"id": k, "text": v, "url": f"https://a.b/{k}"} for k, v in DOCUMENTS.items()]
        path = self.path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def classes(audit: Audit) -> dict[str, list[tuple[str, str]]]:
    out: dict[str, list[tuple[str, str]]] = {}
    for finding in audit.findings:
        out.setdefault(finding.document.doc_id, []).append((finding.item.id, finding.class_))
    return out


def test_every_document_gets_its_class(bench: Bench) -> None:
    audit = bench.audit(bench.jsonl())
    assert classes(audit) == EXPECTED
    facts = summary(audit)
    assert facts["totals"]["dirty_items"] == 3
    assert facts["totals"]["dirty_documents"] == 6
    assert facts["corpus"]["documents"] == len(DOCUMENTS)
    assert facts["benchmarks"][0]["items_by_class"]["qa"] == 2


def test_items_too_short_are_listed_and_not_called_clean(bench: Bench) -> None:
    facts = summary(bench.audit(bench.jsonl()))
    assert facts["unauditable"] == {"made": ["tiny"]}
    assert facts["benchmarks"][0]["unauditable_items"] == 1


def test_spans_are_the_matched_bytes_on_both_sides(bench: Bench) -> None:
    frame = matches(bench.audit(bench.jsonl()).findings)
    row = frame.row(by_predicate=pl.col("doc_id") == "question and answer", named=True)
    text = DOCUMENTS["question and answer"].encode()
    assert text[row["byte_start"] : row["byte_end"]].decode() == f"{QUESTION}\nA: Chlorophyll"
    question = [QUESTION.encode()[s["start"] : s["end"]].decode() for s in row["question_spans"]]
    assert question == [QUESTION[:-1]]
    assert row["answer_spans"] == [{"start": 0, "end": 11}]
    assert row["origin_row"] == 1
    assert row["url"] == "https://a.b/question and answer"
    assert row["longest_run"] == 16  # "a" and "A:" are no words


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_all_text_formats_give_the_same_findings(bench: Bench, suffix: str) -> None:
    plain = bench.jsonl()
    other = bench.path / f"text{suffix}"
    if suffix == ".parquet":
        pl.read_ndjson(plain).write_parquet(other, row_group_size=4)
    elif suffix == ".jsonl.gz":
        other.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        other.write_bytes(zstandard.compress(plain.read_bytes()))
    expected = matches(bench.audit(plain).findings).drop("origin", "source")
    assert matches(bench.audit(other).findings).drop("origin", "source").equals(expected)


def test_workers_blocks_and_resuming_do_not_change_a_byte(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bench.path / "texts"
    folder.mkdir()
    for number in range(3):
        bench.jsonl(f"texts/{number}.jsonl")
        (folder / f"{number}.jsonl").open("a").write(json.dumps({"text": f"last {number}"}))
    first = write_reports(bench.audit(folder), bench.path / "a", "texts", 1.0).paths
    again = bench.audit(folder, workers=2, work="other")
    second = write_reports(again, bench.path / "b", "texts", 2.0).paths
    next(iter((bench.path / "other").rglob("*.npz"))).unlink()
    resumed = bench.audit(folder, workers=2, work="other")
    assert 0 < resumed.scanned.text_bytes < again.scanned.text_bytes
    assert resumed.scanned.pieces_reused == 2
    third = write_reports(resumed, bench.path / "c", "texts", 3.0).paths
    for one, two, three in zip(first, second, third, strict=True):
        assert one.read_bytes() == two.read_bytes() == three.read_bytes(), one.name


def test_extracts_stay_short(bench: Bench) -> None:
    for finding in bench.audit(bench.jsonl()).findings:
        evidence = finding.evidence
        quoted = sum(len(segment.text) for segment in evidence.document_extract)
        assert 0 < quoted <= EXTRACT_CHARACTERS
        item = sum(len(s.text) for part in evidence.item_extract.values() for s in part)
        assert 0 < item <= EXTRACT_CHARACTERS
        assert any(segment.matched for segment in evidence.document_extract)


def test_the_self_test_finds_what_it_plants(bench: Bench) -> None:
    rows = {row.kind: row for row in bench.audit(bench.jsonl()).self_test}
    assert rows["verbatim"].planted == 4
    assert rows["verbatim"].found == 3  # all but the item that cannot be audited
    assert rows["line breaks"].found == 3


def test_lone_surrogates_and_blank_lines_are_read(bench: Bench) -> None:
    path = bench.path / "odd.jsonl"
    lines = [json.dumps({"text": f"\ud800 {QUESTION}"}), "", json.dumps({"text": "plain"}), "  "]
    path.write_text("\n".join(lines), encoding="utf-8")
    audit = bench.audit(path)
    assert audit.totals.documents == 2
    assert classes(audit) == {"odd.jsonl:1": [("leaf", "question")]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl: row 2: not JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "a.jsonl: row 2: no text in 'text'"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl: row 1: no text"),
        ("a.jsonl.gz", b"no gzip", "broken file"),
        ("a.jsonl.zst", b"no zstd", "broken file"),
        ("a.parquet", b"PAR1", "broken file"),
        ("a.txt", b"text", "neither a dataset"),
    ],
)
def test_broken_text_is_named(bench: Bench, name: str, content: bytes, message: str) -> None:
    path = bench.path / name
    path.write_bytes(content)
    with pytest.raises(AuditError, match=message):
        bench.audit(path)


def test_a_parquet_without_the_column_is_refused(bench: Bench) -> None:
    path = bench.path / "a.parquet"
    pl.DataFrame({"body": ["x"]}).write_parquet(path)
    with pytest.raises(AuditError, match="no column 'text'; it has"):
        bench.audit(path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no such file or directory"):
        open_corpus(tmp_path / "nothing")


def test_an_empty_corpus_has_no_findings(bench: Bench) -> None:
    path = bench.path / "none.jsonl"
    path.write_text("")
    audit = bench.audit(path)
    assert audit.findings == []
    assert audit.totals.documents == 0
    assert np.isfinite(summary(audit)["totals"]["items"])


OTHER = Benchmark("other", "test", "by a test", (Item("prize", PRIZE, "gold"), ITEMS[0]))


def test_a_new_benchmark_and_a_changed_file_scan_only_what_is_new(bench: Bench) -> None:
    folder = bench.path / "texts"
    folder.mkdir()
    for number in range(3):
        bench.jsonl(f"texts/{number}.jsonl")
        (folder / f"{number}.jsonl").open("a").write(json.dumps({"text": f"last {number}"}))

    def run(sets: list[Benchmark], work: str, also: tuple[Name, ...] = ()) -> Audit:
        folders = bench.path / work, bench.path / "cache"
        rules = SENSITIVITIES["default"]
        return run_audit(open_corpus(folder), sets, rules, *folders, workers=2, also=also)

    run([BENCHMARK], "kept")
    both = run([OTHER, BENCHMARK], "kept")
    assert both.scanned.pieces == 3  # for the new benchmark alone
    assert both.scanned.results_reused == 3
    assert run([BENCHMARK, OTHER], "kept").scanned.text_bytes == 0
    with (folder / "1.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"text": PRIZE}))
    changed = run([OTHER, BENCHMARK], "kept", ("gpt3", "gpt4"))
    assert (changed.scanned.pieces, changed.scanned.pieces_reused) == (1, 2)
    assert "scanned 1 of 3 pieces" in changed.scanned.sentence()
    fresh = run([OTHER, BENCHMARK], "new", ("gpt3", "gpt4"))
    assert fresh.scanned.results_reused == 0
    first = write_reports(changed, bench.path / "a", "texts", 1.0)[1]
    second = write_reports(fresh, bench.path / "b", "texts", 1.0)[1]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def test_classic_definitions_stand_beside_ours(bench: Bench) -> None:
    folders = bench.path / "work", bench.path / "cache"
    corpus, rules = open_corpus(bench.jsonl()), SENSITIVITIES["default"]
    audit = run_audit(corpus, [BENCHMARK], rules, *folders, also=parse_names("all"))
    facts = summary(audit)
    dirty = {name: d["benchmarks"]["made"]["dirty_items"] for name, d in facts["classic"].items()}
    # leaf and the passage of canal whole; of story its answer (12 words, a run for GPT-3, a field
    # for PaLM), and 8 words of its edited copy: 20 of 48. GPT-4 ignores answers.
    assert dirty == {"gpt3": 3, "palm": 3, "llama2": 2, "llama3": 2, "gpt4": 2}
    text = markdown(facts)
    assert "Brown et al. 2020" in text
    assert "| made | 4 | 75.00% | 75.00% |" in text
    again = run_audit(corpus, [BENCHMARK], rules, *folders, also=parse_names("all"))
    assert summary(again)["classic"] == facts["classic"]
