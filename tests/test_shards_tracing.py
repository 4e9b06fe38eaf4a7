"""Documents and texts looked up without reading indexes, against reading everything."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shards.cli import app
from shards.documents import Document, DocumentReader
from shards.errors import DatasetError
from shards.grams import SURE_TOKENS, WINDOW, gram_hashes, sampled
from shards.hash_table import find_values, write_table
from shards.index import GROUP_ROWS
from shards.ledger import LedgerEntry, planned_entry
from shards.look import one_line, sample, streams, token_range, visible
from shards.plan import Plan
from shards.plan_file import save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from shards.text_index import TextIndex
from shards.text_search import TextSearch
from shards.tracing import find_document, readings, trace_step
from tests.grown import grow
from tests.helpers import make_dataset

ROOT = Path(__file__).parent.parent
SEQ_LEN, STEPS = 64, 400


def paragraphs() -> list[str]:
    """Real text: the paragraphs of our own documents, each once."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = "\n\n".join(page.read_text(encoding="utf-8") for page in pages).split("\n\n")
    return list(dict.fromkeys(texts))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("grown")
    small = make_dataset(folder / "small", {"s": paragraphs()}, shard_tokens=30_000)
    return grow(small, "s", folder / "grown", num_shards=4, shard_tokens=800_000)


@pytest.fixture
def indexed(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
    TextIndex(dataset).build()
    return dataset


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tokens = dataset.stream("s").num_tokens
    source = PlanSource("mixed", dataset.manifest.dataset_id, "s", "train", tokens)
    windows = tokens // SEQ_LEN // (STEPS // 2)
    plan = Plan(SEQ_LEN, 1, "shuffled", (source,), (PlanPhase("p", STEPS, windows, ("1",)),))
    save_plan(plan, {"mixed": str(dataset.path)}, folder / "plan.json")
    streams = {"mixed": dataset.stream("s")}
    entries = [planned_entry(plan, step, streams) for step in range(STEPS)]
    lines = [LedgerEntry(step=k, **e) for k, e in enumerate(entries)]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(vars(e)) + "\n" for e in lines))
    return folder


def plan_of(run: Path) -> Plan:
    return Plan.from_json(json.loads((run / "plan.json").read_text())["plan"])


@pytest.mark.parametrize("size", [0, 1, 15, 1000, 3_000_000])
def test_a_table_finds_every_value_of_a_key(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(size)
    keys = rng.integers(0, 1 << 32, size, dtype=np.uint32)
    keys[: size // 3] = keys[size // 3 : size // 3 * 2]  # a third of them twice
    values = np.arange(size, dtype=np.uint32)
    with (tmp_path / "t").open("wb") as file:
        write_table(file, keys, values)
    asked = [*keys[:200].tolist(), 0, 1, (1 << 32) - 1]
    expected = [np.flatnonzero(keys == key).tolist() for key in asked]
    assert find_values(tmp_path / "t", asked) == expected
    order, other = rng.permutation(size), io.BytesIO()
    write_table(other, keys[order], values[order])
    assert other.getvalue() == (tmp_path / "t").read_bytes()


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "t").open("wb") as file:
        write_table(file, np.arange(9, dtype=np.uint32), np.arange(9, dtype=np.uint32))
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match="are no table of 9"):
        find_values(tmp_path / "t", [1])
    (tmp_path / "t").write_bytes(b"x" * 40)
    with pytest.raises(DatasetError, match="not a look-up table"):
        find_values(tmp_path / "t", [1])


def test_every_window_keeps_its_smallest_sequence() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 40, 150_000).astype(np.uint16)
    tokens[70_000:71_000] = 7  # all hashes alike: the rightmost of each window is kept
    hashes = gram_hashes(tokens)
    windows = np.lib.stride_tricks.sliding_window_view(hashes, WINDOW)
    least = np.arange(len(windows)) + WINDOW - 1 - windows[:, ::-1].argmin(axis=1)
    kept, positions = sampled(tokens)
    assert np.array_equal(positions, np.unique(least))
    assert np.array_equal(kept, hashes[positions])
    assert len(sampled(tokens[: SURE_TOKENS - 1])[0]) == 0
    assert len(sampled(tokens[:SURE_TOKENS])[0]) == 1


def test_documents_of_any_tokens_are_those_of_the_index(dataset: Dataset) -> None:
    stream = dataset.stream("s")
    index = stream.documents()
    assert min(shard.documents for shard in stream.facts.shards) > 2 * GROUP_ROWS
    starts = index["token_start"].to_numpy()
    stops = starts + index["token_count"].to_numpy()
    rng = np.random.default_rng(0)
    lows = [0, stream.starts[1] - 5, *rng.integers(0, stream.num_tokens - 3000, 60).tolist()]
    ranges = [(low, low + int(rng.integers(1, 3000))) for low in lows]
    found = DocumentReader(stream).overlapping(ranges)
    for (low, high), documents in zip(ranges, found, strict=True):
        rows = np.flatnonzero((starts < high) & (stops > low)).tolist()
        assert [document.doc_id for document in documents] == index["doc_id"].gather(rows).to_list()
        assert [document.start for document in documents] == starts[rows].tolist()


def test_a_document_is_found_by_its_id_and_a_folded_one(dataset: Dataset) -> None:
    stream = dataset.stream("s")
    rows = stream.documents().sample(30, seed=3).iter_rows(named=True)
    for row in rows:
        origin = f"{row['origin_file']}:{row['origin_row']}"
        span = (row["token_start"], row["token_start"] + row["token_count"])
        expected = Document("s", "train", row["doc_id"], origin, None, *span)
        assert DocumentReader(stream).find(row["doc_id"]) == expected
        assert DocumentReader(stream).find(f"{row['doc_id']}/copy") == expected
    assert DocumentReader(stream).find("unknown") is None


def test_a_text_is_found_in_every_place(indexed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = indexed.stream("s")
    texts = [text for text in paragraphs() if len(text) > 150]
    for text in (texts[0], texts[len(texts) // 2], texts[-1][3:-2]):
        search = TextSearch(indexed, text)
        assert search.why_slow is None
        matches = list(search.matches(stream))
        with monkeypatch.context() as patch:
            patch.setenv("TALLY_CACHE", "nowhere")
            reading = TextSearch(indexed, text)
            assert "has no text index" in str(reading.why_slow)
            assert list(reading.matches(stream)) == matches
        assert len(matches) in (1, 3)  # of the first half of the small dataset, or the second
        for document, start, stop in matches:
            assert document.start <= start < stop < document.stop
            assert indexed.tokenizer().decode(stream.tokens(start, stop).tolist()) == text


def test_a_short_text_is_looked_for_in_all_tokens(indexed: Dataset) -> None:
    search = TextSearch(indexed, "nanoGPT")
    assert "too short" in str(search.why_slow)
    found = list(search.matches(indexed.stream("s")))
    inside = [text.count("nanoGPT") for text in paragraphs()]
    half = sum(inside[: len(inside) // 2])
    assert len(found) == half + 3 * (sum(inside) - half)
    with pytest.raises(DatasetError, match="is empty"):
        TextSearch(indexed, "")


def test_texts_do_not_go_over_the_ends_of_documents(indexed: Dataset) -> None:
    first, second, *_ = paragraphs()
    across = first[-80:] + second[:80]
    assert list(TextSearch(indexed, across).matches(indexed.stream("s"))) == []


def test_every_reading_of_a_passage_is_found(run: Path, dataset: Dataset) -> None:
    plan, datasets = plan_of(run), {"mixed": dataset}
    row = dataset.stream("s").documents().row(5, named=True)
    subjects = find_document(plan, datasets, row["doc_id"])
    low, high = row["token_start"], row["token_start"] + row["token_count"]
    expected = []
    for step in range(STEPS):
        for window in plan.step(step).window.tolist():
            first, last = window * SEQ_LEN + 1, (window + 1) * SEQ_LEN + 1
            if min(last, high) > max(first, low):
                expected.append((step, window, min(last, high) - max(first, low)))
    found = readings(plan, subjects, STEPS)
    assert [(r.step, r.window, r.targets) for r in found] == sorted(expected)
    assert readings(plan, subjects, 150) == [r for r in found if r.step < 150]
    steps = {r.step for r in found}
    for step in (min(steps), max(steps)):
        passages = trace_step(plan, datasets, step)
        assert row["doc_id"] in {passage.doc_id for passage in passages}


def tally(*arguments: str) -> str:
    """Run the command; it must not load what is slow to load."""
    code = (
        "import sys\nfrom tally import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'polars', 'pandas', 'numba', 'torch', 'pyarrow.compute'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def test_the_command_answers_without_loading_much(run: Path, indexed: Dataset) -> None:
    row = indexed.stream("s").documents().row(5, named=True)
    text = max(paragraphs(), key=len)
    assert "slot 0: mixed, window" in tally("trace", str(run), "--step", "7")
    by_id = tally("trace", str(run), "--doc", row["doc_id"], "--json")
    assert {reading["doc_id"] for reading in json.loads(by_id)} == {row["doc_id"]}
    by_text = tally("trace", str(run), "--text", text, "--until", "200")
    assert "of the 200 steps before step 200" in by_text
    shown = tally("inspect", str(indexed.path), "--find", text)
    assert ">>>" + text[:40].replace("\n", "\\n") in shown
    assert tally("inspect", str(indexed.path), "--doc", row["doc_id"]).count(row["doc_id"]) == 1


def test_damaged_text_is_not_shown_as_the_dataset_s(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", {"s": ["a text that is shown whole"] * 3})
    shard = dataset.path / dataset.manifest.sources["s"].splits["train"].shards[0].path
    content = bytearray(shard.read_bytes())
    content[8] ^= 1
    shard.write_bytes(content)
    for asked in (["--sample", "1"], ["--tokens", "s:0-5"], ["--find", "text"]):
        result = CliRunner().invoke(app, ["inspect", str(dataset.path), *asked])
        assert isinstance(result.exception, DatasetError)
        assert "checksum differs from the manifest's" in str(result.exception)


def test_text_comes_as_json_too(tmp_path: Path) -> None:
    texts = ["the first text", "another text, \x1b[2J and its end"]
    dataset = make_dataset(tmp_path / "d", {"s": texts})

    def shown(*asked: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(app, ["inspect", str(dataset.path), *asked, "--json"])
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found

    assert {document["text"] for document in shown("--sample", "9")} == set(texts)
    (second,) = shown("--doc", "s-train-1")
    assert (second["text"], second["source"], second["start"]) == (texts[1], "s", 15)
    (match,) = shown("--find", "its end")
    assert match["document"] == {name: value for name, value in second.items() if name != "text"}
    (part,) = shown("--tokens", f"s:{match['start']}-{match['stop']}")
    assert part["text"] == "its end"


def test_samples_are_seeded_and_ranges_checked(dataset: Dataset) -> None:
    chosen = streams(dataset, None)
    first, again, other = (list(sample(chosen, 5, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert token_range(dataset, "s:1_000-2,000")[1:] == (1000, 2000)
    for text, said in (("s:9", "START-STOP"), ("s:5-5", "tokens 0 to"), ("x:0-1", "no source 'x'")):
        with pytest.raises(DatasetError, match=said):
            token_range(dataset, text)


def test_text_cannot_steer_the_terminal() -> None:
    assert visible("a\x1b[2Jb\x07\r\n\tc\u202ed\x9b") == "a\\x1b[2Jb\\x07\\r\n\tc\\u202ed\\x9b"
    assert one_line("x\n\x00 y") == "x \\x00 y"


def test_a_step_that_is_only_planned_is_told_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes((run / "plan.json").read_bytes())
    lines = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_text("".join(lines[:2]))
    said = [CliRunner().invoke(app, ["trace", str(tmp_path), "--step", str(k)]) for k in (1, 2)]
    assert [result.exit_code for result in said] == [0, 0]
    assert "planned" not in said[0].stdout
    assert said[1].stdout.startswith("note: step 2 is planned, not trained on yet\n")


@pytest.mark.parametrize(
    "asked", [["inspect", "--sample", "-3"], ["inspect", "--limit", "0"], ["trace", "--step", "-1"]]
)
def test_numbers_out_of_range_are_refused(run: Path, asked: list[str]) -> None:
    command, *option = asked
    assert CliRunner().invoke(app, [command, str(run), *option]).exit_code == 2
