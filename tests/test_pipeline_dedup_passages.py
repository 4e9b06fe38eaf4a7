"""Passages that several documents have, on documents made by hand: who keeps them, what is left."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.build import BuildConfig
from configs.cleaning import DedupConfig, PassagesConfig
from pipeline.build import Built, build
from pipeline.dedup_units import spans_of, units_of
from pipeline.documents import DocumentFile, document
from pipeline.revisions import BEFORE, CUT, DROPPED
from pipeline.sentences import SentenceEnds
from pipeline.words import EnglishWords
from shards.reader import Dataset
from tests.helpers import byte_tokenizer
from tests.helpers_dedup import dedup_stages, run_stage
from tests.test_pipeline_build import digests, essay

PIECES = (
    *("One", "two", "Mr.", "U.S.", "can't", "é", "日本語", "😀", "3.14", "e.g.", "w" * 1001),
    *(".", "!", "?", "...", "。", ",", ")", "”", '"', "-", "¿"),
    *(" ", " ", " ", "  ", "\n", "\n\n", "\t", "\u3000", "\x1c"),
)


def line(name: str, words: int = 12) -> str:
    return " ".join(f"{name}{i}" for i in range(words))


def cut(
    folder: Path, sources: dict[str, dict[str, str]], memory: int | None = None, **passages: Any
) -> dict[str, str | None]:
    """{source: {doc_id: text}} -> the texts that changed; None where a document was dropped."""
    files = []
    for name, texts in sources.items():
        files.append((name, folder / f"{name}.parquet"))
        with DocumentFile(files[-1][1]) as file:
            for row, (key, text) in enumerate(texts.items()):
                file.add(document(key, text, name, row))
    config = DedupConfig(passages=PassagesConfig(**{"min_words_left": 0} | passages))
    stages = dedup_stages(folder / "work", files, config, memory)
    for stage in stages.all():
        run_stage(stage)
    assert stages.passages is not None
    out: dict[str, str | None] = {}
    for rank, (name, _) in enumerate(files):
        found = {
            kind: dict(
                pl.read_parquet(stages.passages.cut.directory / kind / f"{rank:05d}.parquet")
                .select("doc_id", "text")
                .iter_rows()
            )
            for kind in (CUT, DROPPED, BEFORE)
        }
        assert found[BEFORE] == {key: sources[name][key] for key in found[CUT]}
        out |= found[CUT] | dict.fromkeys(found[DROPPED])
    return out


def units(text: str, unit: str) -> list[str]:
    found = units_of(pa.array(["before", text], pa.large_string()), unit)
    data = f"before{text}".encode()
    first, stop = found.offsets[1:].tolist()
    pairs = zip(found.starts[first:stop], found.starts[first + 1 : stop + 1], strict=True)
    return [data[a:b].decode() for a, b in pairs]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@settings(max_examples=500)
def test_sentences_end_where_spacys_do(text: str) -> None:
    spans = EnglishWords().span_tokenize(text)
    expected = [len(text[:stop].encode()) for _, stop in spans[:-1]]
    assert SentenceEnds().of(text).tolist() == expected


def test_units_lie_one_behind_the_other() -> None:
    text = "One.\nTwo, ß.\n---\n\n  Three\n \nFour"
    assert units(text, "line") == ["One.\n", "Two, ß.\n---\n\n", "  Three\n \n", "Four"]
    assert units(text, "paragraph") == ["One.\nTwo, ß.\n---\n\n", "  Three\n \n", "Four"]
    sentences = "Ä first one. A second!  (Third?) Fourth"
    assert units(sentences, "sentence") == ["Ä first one.", " A second!", "  (Third?)", " Fourth"]
    assert units("\n\n---\nOne", "line") == ["\n\n---\n", "One"]
    assert units("", "line") == []


def test_spans_know_their_words() -> None:
    found = units_of(pa.array(["a b\nc\nd e f\n", "c\nD, e f!"], pa.large_string()), "line")
    config = PassagesConfig(span=2, min_words=3)
    keys, spans = spans_of(found, config, np.array([7, 9], np.uint32))
    assert spans.tolist() == [(7, 0, 0, 3, 6), (7, 1, 2, 6, 6), (9, 0, 0, 4, 4)]
    assert keys[1] == keys[2] != keys[0]


def test_the_first_document_keeps_a_passage(tmp_path: Path) -> None:
    shared, short = line("shared"), "All rights reserved."
    texts = {
        "a": f"{line('a', 40)}\n{shared}\n{short}",
        "b": f"{line('b', 20)}\n{shared.upper()} !\n{short}\n{line('c')}",
        "c": f"{shared}\n{shared}\n{line('d', 15)}",
    }
    # The longest document comes first; words alone are compared; nine words are too few.
    assert cut(tmp_path, {"s": texts}) == {
        "b": f"{line('b', 20)}\n{short}\n{line('c')}",
        "c": line("d", 15),
    }


def test_the_order_of_sources_decides(tmp_path: Path) -> None:
    shared = line("shared")
    sources = {
        "first": {"a": f"{shared}\n{line('a')}"},
        "second": {"b": f"{line('b', 50)}\n{shared}"},
    }
    assert cut(tmp_path, sources) == {"b": line("b", 50)}


def test_a_document_that_repeats_itself_is_left_alone(tmp_path: Path) -> None:
    assert cut(tmp_path, {"s": {"a": "\n".join([line("x")] * 4), "b": line("y")}}) == {}


def test_what_a_dropped_document_alone_has_first_is_not_lost(tmp_path: Path) -> None:
    one, two = line("one"), line("two")
    texts = {
        "a": f"{line('a', 60)}\n{one}",
        "b": f"{one}\n{two}\n{line('bits', 5)}",  # 17 words would be left
        "c": f"{two}\n{line('c', 8)}",  # keeps what b would have kept
        "d": f"{two}\n{line('d', 6)}",
    }
    found = cut(tmp_path, {"s": texts}, min_words_left=18)
    assert found == {"b": None, "d": None}
    assert cut(tmp_path / "more", {"s": texts}, min_words_left=6) == {
        "b": f"{two}\n{line('bits', 5)}",
        "c": line("c", 8),
        "d": line("d", 6),
    }


def test_nothing_left_is_dropped_whatever_the_least(tmp_path: Path) -> None:
    texts = {"a": f"{line('a')}\n{line('b')}\n{line('c')}", "b": f"{line('c')}\n{line('a')}"}
    assert cut(tmp_path, {"s": texts}) == {"b": None}


def test_spans_of_three_sentences(tmp_path: Path) -> None:
    a, b, c, d, e, x = (f"The {name} of the house is old." for name in "ABCDEX")
    texts = {
        "one": f"{c} {d} {e} {line('filler', 80)}.",
        "two": f"{a} {b} {c} {d} {e} {line('more', 60)}.",
        "three": f"{x} {b} {c} {d} {line('rest', 40)}.",
    }
    # "b c d" was cut into in `two`, so `three` keeps it: what is cut stands somewhere as a whole.
    found = cut(tmp_path, {"s": texts}, unit="sentence", span=3, min_words=1)
    assert found == {"two": f"{a} {b} {line('more', 60)}."}


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_memory_changes_nothing(tmp_path: Path, memory: int) -> None:
    texts = {
        f"{i}": "\n".join([line(f"p{i % 7}"), line(f"own{i}", 30), line(f"q{i % 5}")])
        for i in range(60)
    }
    rows = list(texts.items())
    found = cut(tmp_path, {"a": dict(rows[:20]), "b": dict(rows[20:])}, memory)
    left = [found.get(key, text) for key, text in texts.items()]
    lines = [set(text.split("\n")) for text in left if text is not None]
    assert len(set.union(*lines)) == len({ln for text in texts.values() for ln in text.split("\n")})
    assert sum(map(len, lines)) == len(set.union(*lines))  # every line in one document only


BOILERPLATE = "Sign up for the letter of the parish and read the news of the mills every Sunday."


def config_of(folder: Path, **changes: Any) -> BuildConfig:
    folder.mkdir(exist_ok=True)
    for part, first in enumerate((0, 12)):
        rows = [
            {"id": f"d{i}", "text": f"{essay(i)}\n{BOILERPLATE}\n{essay(i + 100)}"}
            for i in range(first, first + 12)
        ]
        rows += [{"id": f"s{part}", "text": f"{BOILERPLATE}\nPage {part} of the site."}]
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"texts-{part}.jsonl").write_text(lines, encoding="utf-8")
    byte_tokenizer().save(str(folder / "bytes.json"))
    source = {"kind": "jsonl", "licence": "CC0", "paths": [f"{folder}/texts-*.jsonl"], "id": "id"}
    values = {
        "name": "passages",
        "sources": {"s": source},
        "dedup": {"passages": {}},
        "split": {"val_fraction": 0.1},
        "tokenizer": {"file": str(folder / "bytes.json")},
    }
    return BuildConfig.model_validate(values | changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("passages")
    result = build(config_of(folder / "in"), folder / "out")
    assert result is not None
    return result


def test_a_build_counts_what_it_cuts(built: Built) -> None:
    stages = {stage.stage: stage for stage in built.manifest.sources["s"].funnel}
    assert list(stages) == ["read", "filter", "dedup", "passages", "pack"]
    edited = stages["passages"].edited["repeated_passages"]
    assert (edited.documents, edited.characters_removed) == (23, 23 * (len(BOILERPLATE) + 1))
    dropped = stages["passages"].dropped["repeated_passages"]
    assert (dropped.documents, dropped.characters) == (
        2,
        2 * len(f"{BOILERPLATE}\nPage 1 of the site."),
    )
    facts = built.manifest.dedup["passages"]
    assert facts["repeated"] == {"s": {"s": 23}}
    assert (facts["documents_cut"], facts["documents_dropped"], facts["unit"]) == (23, 2, "line")


def test_the_dataset_has_every_passage_once(built: Built) -> None:
    dataset, texts = Dataset.open(built.path), ""
    for split in dataset.manifest.sources["s"].splits:
        stream = dataset.stream("s", split)
        texts += dataset.tokenizer().decode(stream.tokens(0, stream.num_tokens).tolist())
    assert texts.count(BOILERPLATE) == 1
    assert all(essay(i) in texts for i in [*range(24), *range(100, 124)])


def test_what_only_led_to_the_decisions_is_gone(built: Built) -> None:
    names = {path.name.rpartition("-")[0] for path in built.page.parent.glob("*-*/")}
    assert {"signatures", "order", "dedup", "passages"} <= names
    assert not names & {"candidates", "ngrams", "similar", "units", "repeats", "keepers"}


def test_the_page_shows_what_was_cut(built: Built) -> None:
    page = built.page.read_text(encoding="utf-8")
    assert "repeated_passages" in page
    assert "little but repeated passages" in page
    assert "Sign up for the letter" in page


def test_workers_change_nothing(built: Built, tmp_path: Path) -> None:
    config = config_of(built.path.parent / "in")
    assert build(config, tmp_path / "two", workers=2)
    assert digests(tmp_path / "two") == digests(built.path)
