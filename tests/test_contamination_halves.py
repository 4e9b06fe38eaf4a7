"""An item split over two documents: judged whole where they are neighbours, and only there."""

import json
from pathlib import Path

import pytest

from configs.audit import SENSITIVITIES
from contamination import halves
from contamination.audit import run_audit
from contamination.corpus import open_corpus
from contamination.findings import Finding
from contamination.items import Benchmark, Item
from tests.test_contamination_audit import FILLER, STORY

WORDS = STORY.split()
ITEM = Item("story", STORY, "brass compass")
FIRST, SECOND = " ".join(WORDS[:18]), " ".join(WORDS[18:36])


def found(texts: list[str], folder: Path) -> list[Finding]:
    rows = [json.dumps({"id": str(k), "text": text}) + "\n" for k, text in enumerate(texts)]
    path = folder / "texts.jsonl"
    path.write_text("".join(rows), encoding="utf-8")
    sets = [Benchmark("made", "test", "by a test", (ITEM,))]
    rules = SENSITIVITIES["default"].model_copy(update={"long_coverage": 0.8, "run_bits": 1e6})
    return run_audit(open_corpus(path), sets, rules, folder / "w", folder / "c").findings


def test_halves_in_neighbours_are_judged_together(tmp_path: Path) -> None:
    texts = [FILLER * 2, FILLER + FIRST, f"{SECOND}\n{FILLER}", FILLER]
    first, second = found(texts, tmp_path)
    assert (first.document.doc_id, second.document.doc_id) == ("1", "2")
    assert first.half
    assert second.half
    assert first.class_ == second.class_
    assert first.dirty
    assert second.dirty
    assert first.question_coverage + second.question_coverage == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "texts",
    [
        [FILLER + FIRST, FILLER * 2, SECOND + FILLER],
        [FILLER + FIRST, FILLER * 3 + SECOND],
        [FILLER + SECOND, FIRST + FILLER],
        [FILLER + FIRST, FIRST + FILLER],
        [FILLER + FIRST],
        [SECOND + FILLER],
    ],
    ids=["one between", "in the middle", "wrong order", "twice the first", "first", "second"],
)
def test_other_parts_are_judged_apart(texts: list[str], tmp_path: Path) -> None:
    assert not any(finding.dirty or finding.half for finding in found(texts, tmp_path))


def test_nothing_depends_on_how_many_documents_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [FILLER + FIRST, f"{SECOND}\n{FILLER}", FILLER] * 3
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = [(f.document.doc_id, f.start, f.class_) for f in found(texts, tmp_path / "a")]
    monkeypatch.setattr(halves, "_PART_DOCUMENTS", 1)
    again = [(f.document.doc_id, f.start, f.class_) for f in found(texts, tmp_path / "b") if f.half]
    assert again == whole
    assert [doc for doc, _, _ in whole] == ["0", "1", "3", "4", "6", "7"]
