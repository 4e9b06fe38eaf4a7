"""Benchmark items taken out in a build: funnel, manifest, bytes, and a re-audit that finds none."""

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.audit import SENSITIVITIES
from configs.build import BuildConfig
from contamination.audit import Audit, run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.report import summary
from pipeline.build import Built, build
from shards.convert import chosen_parts, export_dataset
from shards.errors import DatasetError
from shards.reader import Dataset
from shards.verify import verify_dataset
from tests.helpers import byte_tokenizer
from tests.test_pipeline_build import digests, essay, write_jsonl

ITEMS = [
    {
        "id": "q0",
        "question": "Which organelle of the plant cell captures sunlight to manufacture sugar "
        "from carbon dioxide and water during daylight hours?",
        "answer": "the chloroplast",
    },
    {
        "id": "q1",
        "question": "A carpenter saws twelve oak planks of forty centimetres and glues nineteen "
        "dowels between them; how many dowels remain from a box of fifty?",
        "answer": "thirty-one dowels remain in the box",
    },
    {
        "id": "q2",
        "question": "Why did the lighthouse keeper of Skerryvore refuse to extinguish the paraffin "
        "lamp after the November storm had sunk three herring boats?",
        "answer": "because the rescue crews were still rowing home in darkness",
    },
    {"id": "short", "question": "Who was he?", "answer": "Bob"},
]
Q = [f"{item['question']} {item['answer']}" for item in ITEMS]


def planted() -> dict[str, str]:
    texts = {f"n{i}": essay(i) for i in range(60)}
    texts["inside"] = f"{essay(70)}\nQuiz: {Q[0]}\n{essay(71)}"
    texts["upper"] = f"{essay(72)}\n{Q[1].upper()}\n{essay(73)}"
    texts["edited"] = f"{essay(74)}\n{Q[2].replace('November', 'winter')}\n{essay(75)}"
    texts["alone"] = Q[2]
    texts["twice"] = f"{essay(76)}\n{Q[0]}\n{essay(77)}\n{Q[1]}\n{essay(78)}"
    texts["copy of inside"] = texts["inside"]
    return texts


def config_of(folder: Path, action: str | None, **changes: Any) -> BuildConfig:
    texts = list(planted().items())
    write_jsonl(folder / "texts-0.jsonl", dict(texts[:63]))
    write_jsonl(folder / "texts-1.jsonl", dict(texts[63:]))
    lines = "\n".join(map(json.dumps, ITEMS))
    (folder / "quiz.jsonl").write_text(lines, encoding="utf-8")
    byte_tokenizer().save(str(folder / "bytes.json"))
    source = {"kind": "jsonl", "licence": "CC0", "paths": [str(folder / "texts-*.jsonl")]}
    wanted = {"benchmarks": [f"quiz={folder / 'quiz.jsonl'}"], "action": action, **changes}
    return BuildConfig.model_validate(
        {
            "name": "clean",
            "sources": {"s": source | {"id": "id"}},
            "split": {"val_fraction": 0.2},
            "tokenizer": {"file": str(folder / "bytes.json")},
            "decontamination": wanted if action else None,
        }
    )


def built_in(folder: Path, config: BuildConfig, name: str, workers: int = 1) -> Built:
    result = build(config, folder / name, workers=workers)
    assert result is not None
    return result


def texts_of(path: Path) -> dict[str, str]:
    dataset, texts = Dataset.open(path), {}
    for split in dataset.manifest.sources["s"].splits:
        stream = dataset.stream("s", split)
        for row in stream.documents().iter_rows(named=True):
            start = row["token_start"]
            tokens = stream.tokens(start, start + row["token_count"] - 1)  # without EOS
            texts[row["doc_id"]] = dataset.tokenizer().decode(tokens.tolist())
    return texts


def audited(path: Path, specs: list[str], work: Path) -> Audit:
    rules = SENSITIVITIES["default"]
    return run_audit(open_corpus(path), load_benchmarks(specs), rules, work / "w", work / "c")


def dirty(audit: Audit) -> set[tuple[str, str]]:
    return {(f.document.doc_id, f.item.id) for f in audit.findings if f.dirty}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decontamination")


@pytest.fixture(scope="module")
def dropped(folder: Path) -> Built:
    return built_in(folder, config_of(folder, "drop"), "drop")


@pytest.fixture(scope="module")
def cut(folder: Path) -> Built:
    return built_in(folder, config_of(folder, "cut"), "cut")


def test_without_it_the_audit_finds_what_was_planted(folder: Path) -> None:
    built = built_in(folder, config_of(folder, None), "as-it-is")
    found = dirty(audited(built.path, [f"quiz={folder / 'quiz.jsonl'}"], folder / "before"))
    inside = {("inside", "q0"), ("upper", "q1"), ("edited", "q2"), ("alone", "q2")}
    assert found == inside | {("twice", "q0"), ("twice", "q1")}
    assert built.manifest.decontamination is None
    assert [stage.stage for stage in built.manifest.sources["s"].funnel][-2:] == ["dedup", "pack"]


def test_dropped_documents_are_counted_by_class(dropped: Built) -> None:
    stage = dropped.manifest.sources["s"].funnel[-2]
    texts = planted()
    sizes = [len(texts[name]) for name in ("inside", "upper", "edited", "alone", "twice")]
    assert stage.stage == "decontaminate"
    assert stage.documents_in - stage.documents_out == 5
    assert sum(d.characters for d in stage.dropped.values()) == sum(sizes)
    assert {reason: d.documents for reason, d in stage.dropped.items()} == {"benchmark_question": 5}
    assert set(texts_of(dropped.path)) == {f"n{i}" for i in range(60)}


def test_the_manifest_names_what_was_taken_out(dropped: Built, folder: Path) -> None:
    facts = dropped.manifest.decontamination
    assert facts is not None
    assert (facts["action"], facts["documents"], facts["places"]) == ("drop", 5, 6)
    (quiz,) = facts["benchmarks"]
    (known,) = load_benchmarks([f"quiz={folder / 'quiz.jsonl'}"])
    assert quiz["digest"] == known.digest
    assert (quiz["items"], quiz["items_found"], quiz["unauditable_items"]) == (4, 3, 1)
    assert sum(quiz["places_by_class"].values()) == 6


def test_a_cut_takes_out_the_place_and_nothing_else(cut: Built) -> None:
    texts = texts_of(cut.path)
    wanted = {f"n{i}": essay(i) for i in range(60)}
    wanted["inside"] = f"{essay(70)}\nQuiz: \n{essay(71)}"
    wanted["upper"] = f"{essay(72)}\n\n{essay(73)}"
    wanted["twice"] = f"{essay(76)}\n\n{essay(77)}\n\n{essay(78)}"
    edited = texts.pop("edited")
    assert texts == wanted
    assert edited.startswith(essay(74) + "\n")
    assert edited.endswith("\n" + essay(75))
    assert "Skerryvore" not in edited
    stage = cut.manifest.sources["s"].funnel[-2]
    (alone,) = stage.dropped.values()
    assert (alone.documents, alone.characters) == (1, len(Q[2]))
    assert next(iter(stage.dropped)).endswith("_left_nothing")
    assert sum(edit.documents for edit in stage.edited.values()) == 4
    removed = sum(edit.characters_removed for edit in stage.edited.values())
    assert removed == stage.characters_in - stage.characters_out - len(Q[2])
    assert not any(edit.characters_added for edit in stage.edited.values())


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_a_re_audit_finds_none(action: str, folder: Path, dropped: Built, cut: Built) -> None:
    built = {"drop": dropped, "cut": cut}[action]
    specs = [f"quiz={folder / 'quiz.jsonl'}"]
    assert not dirty(audited(built.path, specs, folder / f"audit-{action}"))


def test_two_workers_give_the_same_bytes(folder: Path, cut: Built) -> None:
    two = built_in(folder, config_of(folder, "cut"), "two", workers=2)
    assert two.manifest == cut.manifest
    assert digests(two.path) == digests(cut.path)
    assert two.page.read_bytes() == cut.page.read_bytes()
    assert "benchmark items" in two.page.read_text(encoding="utf-8")


def test_a_margin_and_other_classes(folder: Path) -> None:
    config = config_of(folder, "cut", margin_characters=6, classes=["question"])
    texts = texts_of(built_in(folder, config, "margin").path)
    assert texts["inside"] == f"{essay(70)}\n{essay(71)[5:]}"  # "Quiz: " and "\\nPart "
    config = config_of(folder, "drop", classes=["source"])
    manifest = built_in(folder, config, "sources").manifest
    assert manifest.decontamination is not None
    assert manifest.decontamination["documents"] == 0


def test_another_benchmark_is_another_dataset(folder: Path, dropped: Built) -> None:
    config = config_of(folder, "drop")
    more = folder / "quiz.jsonl"
    more.write_text("\n".join(map(json.dumps, ITEMS[:3])), encoding="utf-8")
    with pytest.raises(ValueError, match="built from other benchmarks"):
        build(config, dropped.path)
    config_of(folder, "drop")  # as it was
    again = build(config, dropped.path)
    assert again is not None
    assert again.reused


def test_a_margin_without_a_cut_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="'margin_characters' goes with action 'cut'"):
        config_of(folder, "drop", margin_characters=200)
    with pytest.raises(ValueError, match="'drop', 'cut' or 'mask'"):
        config_of(folder, "blur")


@pytest.fixture(scope="module")
def masked(folder: Path) -> Built:
    return built_in(folder, config_of(folder, "mask"), "mask")


def masked_texts(path: Path) -> dict[str, str]:
    """The text of the tokens that give no loss, by document."""
    dataset, texts = Dataset.open(path), dict[str, str]()
    for split in dataset.manifest.sources["s"].splits:
        stream = dataset.stream("s", split)
        for row in stream.documents().iter_rows(named=True):
            start, stop = row["token_start"], row["token_start"] + row["token_count"]
            for first, last in stream.masked_within(start, stop).tolist():
                tokens = stream.tokens(first, last).tolist()
                texts[row["doc_id"]] = texts.get(row["doc_id"], "") + dataset.tokenizer().decode(
                    tokens
                )
    return texts


def test_a_mask_keeps_the_text_and_names_the_tokens(masked: Built, folder: Path) -> None:
    texts, wanted = texts_of(masked.path), planted()
    del wanted["copy of inside"]
    assert texts == wanted
    found = masked_texts(masked.path)
    assert set(found) == {"inside", "upper", "edited", "alone", "twice"}
    assert found["inside"] == Q[0]
    assert found["upper"] == Q[1].upper()[2:]  # "A" alone is no word of the audit
    assert found["twice"] == Q[0] + Q[1][2:]
    assert found["alone"] == Q[2]
    stage = masked.manifest.sources["s"].funnel[-2]
    assert stage.edited["benchmark_question"].documents == 5
    assert (stage.documents_in, stage.characters_in) == (stage.documents_out, stage.characters_out)
    assert masked.manifest.decontamination is not None
    assert masked.manifest.decontamination["action"] == "mask"
    assert not verify_dataset(masked.path).problems


def test_the_audit_of_a_masked_dataset_says_so(masked: Built, folder: Path) -> None:
    audit = audited(masked.path, [f"quiz={folder / 'quiz.jsonl'}"], folder / "audit-mask")
    assert not dirty(audit)
    assert {f.document.doc_id for f in audit.findings if f.masked} == {
        *("inside", "upper", "edited", "alone", "twice")
    }
    totals = summary(audit)["totals"]
    assert (totals["dirty_items"], totals["masked_items"]) == (0, 3)
    assert set(totals["items_by_class"].values()) == {0}


def test_verify_finds_a_mask_that_was_changed(masked: Built, tmp_path: Path) -> None:
    copy = shutil.copytree(masked.path, tmp_path / "copy")
    facts = [shard.masked for _, _, shard in masked.manifest.shards() if shard.masked]
    (copy / facts[0].path).write_bytes((copy / facts[0].path).read_bytes()[:-16])
    (problem,) = verify_dataset(copy).problems
    assert problem.startswith(f"{facts[0].path}: ")
    (copy / facts[0].path).unlink()
    assert verify_dataset(copy).problems == [f"{facts[0].path}: missing"]


def test_a_format_without_a_mask_is_refused(masked: Built, tmp_path: Path) -> None:
    parts = chosen_parts(Dataset.open(masked.path), None, None)
    with pytest.raises(DatasetError, match="masked from the loss, which 'nanogpt' cannot say"):
        export_dataset(parts, tmp_path / "out", "nanogpt")


def test_targets_that_are_masked_do_not_count(masked: Built) -> None:
    stream = Dataset.open(masked.path).stream("s", "train")
    seq_len = 64
    ids = np.arange(stream.num_windows(seq_len))
    counted = stream.counted(ids, seq_len)
    expected = np.ones(stream.num_tokens, np.bool_)
    for start, stop in stream.masked.tolist():
        expected[start:stop] = False
    assert not expected.all()
    for window in ids:
        first = window * seq_len + 1
        assert counted[window].tolist() == expected[first : first + seq_len].tolist()


@pytest.mark.parametrize("action", ["drop", "cut", "mask"])
def test_halves_in_two_documents_go_together(action: str, tmp_path: Path) -> None:
    words = Q[2].split()
    texts = {f"n{i}": essay(i) for i in range(40)}
    texts["n20"] += "\n" + " ".join(words[:15])
    texts["n21"] = " ".join(words[15:]) + "\n" + texts["n21"]
    config = config_of(tmp_path, action)
    for path in tmp_path.glob("texts-*.jsonl"):
        path.unlink()
    write_jsonl(tmp_path / "texts-0.jsonl", texts)
    (tmp_path / "whole.jsonl").write_bytes((tmp_path / "texts-0.jsonl").read_bytes())
    spec = f"quiz={tmp_path / 'quiz.jsonl'}"
    before = audited(tmp_path / "whole.jsonl", [spec], tmp_path / "before")
    assert dirty(before) == {("n20", "q2"), ("n21", "q2")}
    assert all(finding.half for finding in before.findings)
    built = built_in(tmp_path, config, "halves")
    assert built.manifest.decontamination is not None
    assert built.manifest.decontamination["documents"] == 2
    if action == "mask":
        assert masked_texts(built.path) == {
            "n20": " ".join(words[:15]),
            "n21": " ".join(words[15:]),
        }
    else:
        assert "Skerryvore" not in "".join(texts_of(built.path).values())
    assert not dirty(audited(built.path, [spec], tmp_path / "after"))


@pytest.mark.skipif("TALLY_TESTDATA" not in os.environ, reason="real text: set TALLY_TESTDATA")
def test_real_text_with_planted_items(tmp_path: Path) -> None:
    data = Path(os.environ["TALLY_TESTDATA"])
    spec = f"arc={data / 'benchmarks' / 'arc_easy.jsonl'}?answer=answer_index"
    (arc,) = load_benchmarks([spec])
    hosts = data / "corpora/fineweb/fineweb_300.jsonl.gz"
    items = [item for item in arc.items if len(item.question.split()) > 12][:30]
    rows = []
    with gzip.open(hosts, "rt", encoding="utf-8") as file:
        for k, host in enumerate(map(json.loads, file)):
            text = host["text"]
            if k < len(items):
                text = f"{text[:500]}\n{items[k].question} {items[k].answer}\n{text[500:]}"
            rows.append(json.dumps({"id": f"d{k}", "text": text}))
    (tmp_path / "web.jsonl").write_text("\n".join(rows), encoding="utf-8")
    planted = {(f"d{k}", item.id) for k, item in enumerate(items)}
    raw = dirty(audited(tmp_path / "web.jsonl", [spec], tmp_path / "raw"))
    assert len(planted & raw) >= 29
    byte_tokenizer().save(str(tmp_path / "bytes.json"))
    source = {"kind": "jsonl", "licence": "ODC-By", "paths": [str(tmp_path / "web.jsonl")]}
    for action in ("drop", "cut", "mask"):
        config = {
            "name": action,
            "sources": {"web": source | {"id": "id"}},
            "tokenizer": {"file": str(tmp_path / "bytes.json")},
            "decontamination": {"benchmarks": [spec], "action": action},
        }
        built = built_in(tmp_path, BuildConfig.model_validate(config), action, workers=2)
        facts = built.manifest.decontamination
        assert facts is not None
        assert facts["documents"] >= len({doc for doc, _ in raw})
        assert not dirty(audited(built.path, [spec], tmp_path / f"audit-{action}"))
