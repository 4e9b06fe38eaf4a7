"""Chinese: every character is a word. Recall and false findings on real articles."""

import gzip
import json
import os
import random
import re
from pathlib import Path

import pytest

from configs.audit import SENSITIVITIES
from contamination.audit import run_audit
from contamination.corpus import open_corpus
from contamination.items import Benchmark, Item

TESTDATA = os.environ.get("TALLY_TESTDATA")
pytestmark = pytest.mark.skipif(not TESTDATA, reason="TALLY_TESTDATA is not set: no real text")
FULL_STOP, COMMA = "\u3002", "\uff0c"
KINDS = {
    "verbatim": 0.98,
    "line breaks": 0.98,
    "punctuation": 0.98,
    "1 in 10": 0.75,
    "question": 0.9,
}


def articles() -> list[str]:
    path = Path(str(TESTDATA)) / "corpora/wikipedia/zhwiki_small.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def items_of(texts: list[str]) -> list[Item]:
    """A sentence as the question and the next as the answer, of articles that are not audited."""
    out = []
    for number, text in enumerate(texts):
        sentences = [s.strip() for s in re.split(f"[{FULL_STOP}\n]", text)]
        fit = [s for s in sentences if 12 <= len(re.findall("[\u4e00-\u9fff]", s)) <= 40]
        if len(fit) > 4:
            out.append(Item(str(number), fit[2], fit[3][:20]))
    return out


def planted(item: Item, kind: str, chooser: random.Random) -> str:
    text = item.question if kind == "question" else f"{item.question}{FULL_STOP}{item.answer}"
    if kind == "line breaks":
        return "\n".join(text[k : k + 7] for k in range(0, len(text), 7))
    if kind == "punctuation":
        return re.sub(f"[{COMMA}{FULL_STOP}]", " ", text)
    if kind == "1 in 10":
        places = range(chooser.randrange(10), len(text), 10)
        return "".join("\u6d77" if k in places else c for k, c in enumerate(text))
    return text


def test_items_of_chinese_are_found(tmp_path: Path) -> None:
    texts = articles()
    half = len(texts) // 2
    items = items_of(texts[:half])
    chooser = random.Random(20261121)
    rows = [{"id": f"clean {k}", "text": text} for k, text in enumerate(texts[half:])]
    plants = [(kind, item) for kind in KINDS for item in chooser.sample(items, 60)]
    for number, (kind, item) in enumerate(plants):
        host = rows[number]["text"]
        cut = len(host) // 2
        text = f"{host[:cut]}\n{planted(item, kind, chooser)}\n{host[cut:]}"
        rows[number] = {"id": f"planted {number}", "text": text}
    path = tmp_path / "zh.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sets = [Benchmark("made", "test", "articles", tuple(items))]
    rules = SENSITIVITIES["default"]
    audit = run_audit(open_corpus(path), sets, rules, tmp_path / "w", tmp_path / "c", 2)
    found = {(f.document.doc_id, f.item.id) for f in audit.findings if f.dirty}
    recall = dict.fromkeys(KINDS, 0.0)
    for number, (kind, item) in enumerate(plants):
        recall[kind] += ((f"planted {number}", item.id) in found) / 60
    false = {doc for doc, _ in found if doc.startswith("clean")}
    print({kind: round(value, 3) for kind, value in recall.items()}, len(items), len(rows), false)
    for kind, floor in KINDS.items():
        assert recall[kind] >= floor, (kind, recall)
    assert len(false) <= 0.02 * len(rows)
