"""Ways in which other pipelines miscount without a word, each shown not to happen here.

- Duplicates removed by position: other files, or a filter before, and other documents go.
- Shards that an earlier run left, taken for part of the dataset.
- A special token written out in a text, turned into a control token inside a document.
- Files of an earlier run taken for those of another source that has their number now.

Two more are in test_pipeline_build.py: a resumed stage that counts only its last tasks, and a
changed configuration that is skipped because outputs are there. That datatrove's own reader reads
what is built is in test_shards_convert_readers.py.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from configs.build import BuildConfig
from pipeline.build import Built, build
from pipeline.errors import BuildError

EOS = "<|endoftext|>"
WORDS = ["river", "hill", "stone", "cloud", "meadow", "winter", "harvest", "lantern", "bridge"]


def sentence(number: int) -> str:
    words = (WORDS[(number * k + number // (k + 1)) % len(WORDS)] for k in range(3, 40))
    return f"Document {number} {EOS} tells of: {' '.join(words)}."


def rows() -> list[dict[str, Any]]:
    """60 documents; 10, 30 and 50 repeat 0, 20 and 40. Scores go 0, 1, 2, 0, ..."""
    numbers = [i - 10 if i % 20 == 10 else i for i in range(60)]
    return [{"id": f"d{i}", "text": sentence(n), "score": i % 3} for i, n in enumerate(numbers)]


def write(folder: Path, files: int) -> Path:
    """The rows in their order, in so many files."""
    folder.mkdir()
    for part, chosen in enumerate(np.array_split(np.arange(60), files)):
        lines = (json.dumps(rows()[i]) + "\n" for i in chosen)
        (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def made(folder: Path, output: Path, **source: Any) -> Built:
    values = {"kind": "jsonl", "licence": "CC0-1.0", "id": "id", "paths": [f"{folder}/*.jsonl"]}
    config = {
        "name": "t",
        "sources": {"text": values | source},
        "tokenizer": {"vocab_size": 400},
        "shards": {"shard_tokens": 1000},
        "split": {"val_fraction": 0},
    }
    built = build(BuildConfig.model_validate(config), output)
    assert built is not None
    return built


def index_of(built: Built) -> pl.DataFrame:
    shards = built.manifest.sources["text"].splits["train"].shards
    return pl.concat([pl.read_parquet(built.path / shard.index_path) for shard in shards])


def test_duplicates_go_by_id_whatever_the_files_and_filters(tmp_path: Path) -> None:
    repeated = {"d10", "d30", "d50"}
    everything = {f"d{i}" for i in range(60)}
    for files in (1, 4):
        folder = write(tmp_path / f"in{files}", files)
        built = made(folder, tmp_path / f"out{files}")
        assert set(index_of(built)["doc_id"]) == everything - repeated
    # A filter before: d0 and d30 have score 0 and go, so d10 (1) stays, d30 goes as filtered.
    built = made(tmp_path / "in4", tmp_path / "filtered", min_scores={"score": 1})
    low = {f"d{i}" for i in range(0, 60, 3)}
    assert set(index_of(built)["doc_id"]) == everything - low - {"d50"}
    assert built.manifest.dedup["dropped_exact"] == 1


def test_shards_of_an_earlier_run_are_no_part_of_the_dataset(tmp_path: Path) -> None:
    folder, output = write(tmp_path / "in", 4), tmp_path / "out"
    many = made(folder, output).manifest.files()
    for path in sorted(output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "3.jsonl").unlink()
    (folder / "2.jsonl").unlink()
    few = made(folder, output)  # in the work directory of the first
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert found == few.manifest.files()
    assert few.manifest.files() < many


def test_a_special_token_in_a_text_stays_text(tmp_path: Path) -> None:
    built = made(write(tmp_path / "in", 2), tmp_path / "out")
    facts, tokenizer = (
        built.manifest.tokenizer,
        Tokenizer.from_file(str(built.path / "tokenizer.json")),
    )
    shards = built.manifest.sources["text"].splits["train"].shards
    tokens = np.concatenate([np.fromfile(built.path / s.path, "<u2") for s in shards])
    assert np.count_nonzero(tokens == facts.eos_id) == 57
    documents = np.split(tokens, np.flatnonzero(tokens == facts.eos_id) + 1)[:-1]
    texts = {tokenizer.decode(d[:-1].tolist(), skip_special_tokens=False) for d in documents}
    assert texts == {row["text"] for row in rows()}
    assert facts.round_trip is not None
    assert facts.round_trip.model_dump() == {"why_not": None, "documents": 60, "failed": 0}


def test_sources_may_change_places(tmp_path: Path) -> None:
    """Tasks are numbered by the order of the sources, which so is a part of what stages read."""
    folder, output = write(tmp_path / "in", 3), tmp_path / "out"
    values = {"kind": "jsonl", "licence": "CC0-1.0", "id": "id"}
    a = {"a": values | {"paths": [f"{folder}/0.jsonl", f"{folder}/1.jsonl"]}}
    b = {"b": values | {"paths": [f"{folder}/1.jsonl", f"{folder}/2.jsonl"], "id_prefix": "b/"}}
    rest = {"name": "t", "tokenizer": {"vocab_size": 400}, "split": {"val_fraction": 0}}
    one, other = (BuildConfig.model_validate(rest | {"sources": s}) for s in (a | b, b | a))
    first = build(one, output)
    assert first is not None
    with pytest.raises(BuildError, match="built from other configuration; delete it"):
        build(other, output)
    output.rename(tmp_path / "first")
    again, clean = build(other, output), build(other, tmp_path / "clean")
    assert again is not None
    assert clean is not None
    assert again.manifest == clean.manifest
    kept = [
        {name: facts.splits["train"].documents for name, facts in built.manifest.sources.items()}
        for built in (first, again)
    ]
    assert kept == [{"a": 38, "b": 19}, {"a": 19, "b": 38}]
