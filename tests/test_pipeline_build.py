"""Whole builds of small real text: the same bytes always, a balanced ledger, clear refusals."""

import hashlib
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from configs.build import BuildConfig
from configs.errors import ConfigError
from configs.loading import load
from pipeline.build import Built, build
from pipeline.errors import BuildError
from pipeline.lock import locked
from shards.reader import Dataset

ROOT = Path(__file__).parent.parent
EOS = "<|endoftext|>"


def essay(i: int) -> str:
    """Text long enough for the filters, different for every i."""
    names = ["river", "mill", "garden", "bridge", "school", "tower", "forest", "harbour", "market"]
    a, b, c = names[i % 9], names[(i * 7 + 3) % 9], names[(i * 5 + 1) % 9]
    return "\n".join(
        f"Part {i}.{k}: The {a} near the {b} was built {i * 31 + k * 7} years ago, and the people "
        f"of the {c} number {k * i + 3} say that it will stand for {k + i * 2} more."
        for k in range(6)
    )


def write_jsonl(path: Path, texts: dict[str, str]) -> None:
    lines = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def config_of(folder: Path, **changes: object) -> BuildConfig:
    """Two JSONL sources with planted duplicates, and the docstrings of a small package."""
    notes = {f"n{i}": essay(i) for i in range(120)}
    notes["special"] = f"Before {EOS} and after.{EOS}\n" + essay(500)
    web = {f"w{i}": essay(i + 100) for i in range(60)}  # w0 to w19 repeat n100 to n119
    web["near"] = essay(7).replace("stand", "last", 1)
    web["bad"] = "x"
    write_jsonl(folder / "notes-1.jsonl", dict(list(notes.items())[:70]))
    write_jsonl(folder / "notes-2.jsonl", dict(list(notes.items())[70:]))
    write_jsonl(folder / "web.jsonl", web)
    with (folder / "web.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "empty", "text": ""}\n{broken\n')
    values: dict[str, object] = {
        "name": "small",
        "sources": {
            "notes": _jsonl(folder / "notes-*.jsonl", "none"),
            "web": _jsonl(folder / "web.jsonl", "docs"),
            "math": {
                "kind": "docstrings", "licence": "BSD", "profile": "math", "packages": ["mpmath"],
            },
        },
        "split": {"val_fraction": 0.1},
        "tokenizer": {"vocab_size": 1000},
        "shards": {"shard_tokens": 20_000},
    }  # fmt: skip
    return BuildConfig.model_validate(values | changes)


def _jsonl(path: Path, profile: str) -> dict[str, object]:
    return {"kind": "jsonl", "licence": "CC0", "paths": [str(path)], "id": "id", "profile": profile}


def digests(directory: Path) -> dict[str, str]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def built(corpus: Path) -> Built:
    result = build(config_of(corpus), corpus / "one", workers=1)
    assert result is not None
    return result


def test_two_workers_give_the_same_bytes(corpus: Path, built: Built) -> None:
    result = build(config_of(corpus), corpus / "two", workers=2)
    assert result is not None
    assert result.manifest.dataset_id == built.manifest.dataset_id
    assert digests(corpus / "two") == digests(corpus / "one")
    assert not multiprocessing.active_children()


def test_a_finished_dataset_is_left_alone(corpus: Path, built: Built) -> None:
    before = {path: path.stat().st_mtime_ns for path in (corpus / "one").rglob("*")}
    again = build(config_of(corpus), corpus / "one", workers=1)
    assert again is not None
    assert again.reused
    assert again.manifest == built.manifest
    assert before == {path: path.stat().st_mtime_ns for path in (corpus / "one").rglob("*")}


def test_funnel_counts_every_document_by_reason(built: Built) -> None:
    web = built.manifest.sources["web"].funnel
    drops = {
        stage.stage: {reason: d.documents for reason, d in stage.dropped.items()} for stage in web
    }
    assert drops == {
        "read": {"empty": 1, "invalid_json": 1},
        "filter": {"short": 1},
        "dedup": {"exact": 20, "near": 1},
        "pack": {},
    }
    assert (web[0].documents_in, web[-1].documents_out) == (64, 40)
    for facts in built.manifest.sources.values():
        stages = facts.funnel
        for stage in stages:
            for name in ("documents", "characters", "tokens"):
                lost = sum(getattr(d, name) for d in stage.dropped.values())
                assert getattr(stage, f"{name}_in") == getattr(stage, f"{name}_out") + lost
        for before, after in itertools.pairwise(stages):
            assert before.tokens_out == after.tokens_in
        assert stages[-1].tokens_out == sum(split.tokens for split in facts.splits.values())


def test_documents_in_the_shards_are_the_texts_that_were_read(corpus: Path, built: Built) -> None:
    dataset = Dataset.open(built.path)
    tokenizer = dataset.tokenizer()
    wanted = {f"n{i}": essay(i) for i in range(120)}
    wanted["special"] = f"Before {EOS} and after.{EOS}\n" + essay(500)
    found: dict[str, str] = {}
    for split in ("train", "val"):
        stream = dataset.stream("notes", split)
        for row in stream.documents().iter_rows(named=True):
            start = row["token_start"]
            tokens = stream.tokens(start, start + row["token_count"]).tolist()
            assert tokens[-1] == 0
            assert 0 not in tokens[:-1]
            text = tokenizer.decode(tokens[:-1], skip_special_tokens=False)
            assert row["char_count"] == len(text)
            assert row["origin_file"].endswith(("notes-1.jsonl", "notes-2.jsonl"))
            found[row["doc_id"]] = text
    assert found == wanted


def test_documents_keep_the_order_of_files_and_rows(built: Built) -> None:
    train = Dataset.open(built.path).stream("notes").documents()
    rows = train.select("origin_file", "origin_row").rows()
    assert rows == sorted(rows)
    assert len(train["shard"].unique()) > 1


def test_duplicates_are_folded_into_their_keepers(built: Built) -> None:
    dataset = Dataset.open(built.path)
    frames = [dataset.stream("notes", split).documents() for split in ("train", "val")]
    rows = pl.concat(frames).select("doc_id", "duplicates").rows()
    folded = {keeper: copies for keeper, copies in rows if copies}
    assert folded == {f"n{i + 100}": [f"w{i}"] for i in range(20)} | {"n7": ["near"]}
    assert built.manifest.dedup["overlap"]["web"]["notes"]["documents"] == 21


def test_the_manifest_records_how_tokens_were_made(built: Built) -> None:
    facts = built.manifest.tokenizer
    assert facts.encoder.startswith("fastokens ")
    assert facts.encoder_check["equal"] is True
    assert facts.encoder_check["texts"]["notes"] == 121
    assert (facts.eos_id, facts.dtype, facts.vocab_size) == (0, "uint16", 1000)
    assert built.manifest.sources["math"].pin["packages"]


def test_a_resumed_stage_counts_all_its_tasks(corpus: Path, built: Built, tmp_path: Path) -> None:
    """datatrove's statistics would hold the resumed task only."""
    first = build(config_of(corpus), tmp_path / "d", workers=1)
    assert first is not None
    (stage,) = (tmp_path / "d.work").glob("extract-notes-*")
    (stage / "done.json").unlink()
    (stage / "documents/00001.parquet").unlink()
    (stage / "datatrove/completions/00001").unlink()
    os.rename(tmp_path / "d", tmp_path / "kept")
    again = build(config_of(corpus), tmp_path / "d", workers=1)
    assert again is not None
    assert again.manifest.sources["notes"].funnel[0].documents_in == 121
    assert digests(tmp_path / "d") == digests(tmp_path / "kept")


def test_another_configuration_never_meets_stale_files(corpus: Path, tmp_path: Path) -> None:
    """Fewer inputs and other rules, same directories: nothing of the first build shows."""
    sources = {"notes": _jsonl(corpus / "notes-*.jsonl", "none")}
    assert build(config_of(corpus, sources=sources), tmp_path / "d", workers=1)
    fewer = {"notes": _jsonl(corpus / "notes-2.jsonl", "none")}
    changed = config_of(corpus, sources=fewer)
    with pytest.raises(BuildError, match="built from other configuration and input files; delete"):
        build(changed, tmp_path / "d", workers=1)
    os.rename(tmp_path / "d", tmp_path / "old")
    reused, fresh = build(changed, tmp_path / "d"), build(changed, tmp_path / "e")
    assert reused is not None
    assert reused.manifest.sources["notes"].funnel[0].documents_in == 51
    assert fresh is not None
    assert digests(tmp_path / "d") == digests(tmp_path / "e")


def test_a_lost_intermediate_file_is_made_again(corpus: Path, built: Built, tmp_path: Path) -> None:
    first = build(config_of(corpus), tmp_path / "d")
    assert first is not None
    os.rename(tmp_path / "d", tmp_path / "kept")
    (stage,) = (tmp_path / "d.work").glob("filter-web-*")
    (stage / "kept/00000.parquet").unlink()
    assert build(config_of(corpus), tmp_path / "d") is not None
    assert digests(tmp_path / "d") == digests(tmp_path / "kept")


def test_a_dry_run_writes_nothing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(config_of(corpus), tmp_path / "d", dry_run=True) is None
    assert list(tmp_path.iterdir()) == []
    assert "to do: extract-notes" in capsys.readouterr().out


def test_a_given_tokenizer_is_used_as_it_is(built: Built, corpus: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_bytes((built.path / "tokenizer.json").read_bytes())
    sources = {"notes": _jsonl(corpus / "notes-1.jsonl", "none")}
    config = config_of(
        corpus, sources=sources, tokenizer={"file": str(given), "encoder": "tokenizers"}
    )
    result = build(config, tmp_path / "d")
    assert result is not None
    assert (tmp_path / "d/tokenizer.json").read_bytes() == given.read_bytes()
    assert result.manifest.tokenizer.encoder.startswith("tokenizers ")
    missing = config_of(corpus, sources=sources, tokenizer={"file": str(tmp_path / "none.json")})
    with pytest.raises(BuildError, match="no such file"):
        build(missing, tmp_path / "e")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "unique in a dataset"),
        ("", "hold no documents"),
        ('{"id": "a", "text": "x"}\n', "none is left for training; dropped: short 1"),
        ('{"id": "a", "body": "x"}\n', "no column 'text'"),
    ],
)
def test_inputs_that_cannot_be_built(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    sources = {"t": _jsonl(tmp_path / "t.jsonl", "docs")}
    config = BuildConfig.model_validate({"name": "t", "sources": sources})
    for workers in (1, 2):
        with pytest.raises(BuildError, match=message):
            build(config, tmp_path / "d", workers=workers)
    assert not (tmp_path / "d").exists()


def test_the_demo_configuration_loads_and_takes_overrides() -> None:
    path = ROOT / "configs/demo/build.yaml"
    config = load(path, BuildConfig, ["split.val_fraction=0.1", "sources.docs.packages=[mpmath]"])
    assert list(config.sources) == ["web", "docs", "math"]
    assert config.split.val_fraction == 0.1
    with pytest.raises(ConfigError, match=r"(?s)3 mistake.*did you mean 'threshold'"):
        load(path, BuildConfig, ["dedup.treshold=1", "tokenizer.vocab_size=10", "sources.web.a=1"])
    with pytest.raises(ConfigError, match=r"dedup.priority names \['x'\]"):
        load(path, BuildConfig, ["dedup.priority=[x]"])


def test_other_peoples_directories_are_not_touched(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/letter.txt").write_text("mine")
    with pytest.raises(BuildError, match="is no dataset; choose another output"):
        build(config_of(corpus), tmp_path / "d")


def test_two_builds_in_one_directory(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "d.work")]
    holder = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BuildError, match=f"in use by another build .process {holder.pid} on"):
        build(config_of(corpus), tmp_path / "d")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with locked(tmp_path / "d.work"):
        pass


def test_a_full_disk_is_said_plainly_and_survived(
    corpus: Path, built: Built, tmp_path: Path
) -> None:
    code = (
        "import sys, json; from pathlib import Path; from configs.build import BuildConfig\n"
        "from pipeline.build import build\n"
        "build(BuildConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    config = config_of(corpus)
    command = [sys.executable, "-c", code, config.model_dump_json(), str(tmp_path / "d")]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, preexec_fn=small_files, check=False
    )
    assert result.returncode != 0
    assert "BuildError: no more can be written" in result.stderr
    assert not (tmp_path / "d").exists()
    assert build(config, tmp_path / "d") is not None
    assert digests(tmp_path / "d") == digests(built.path)
