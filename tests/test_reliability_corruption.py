"""A flipped bit anywhere is found before what it damaged is used, or changes nothing.

For every kind of file that we read again: flip one bit at a random place, do what its users do, and
see that this ends in an error that names the file, or in the same result as before.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from configs.terminal import is_user_error
from contamination.dataset_corpus import DatasetCorpus
from shards.convert import chosen_parts, export_dataset
from shards.documents import DocumentReader
from shards.duplicates import find_duplicates
from shards.errors import DatasetError
from shards.ledger import planned_entry, read_ledger, verify
from shards.plan import Plan
from shards.plan_file import Earlier, earlier_plans, load_plan, save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from shards.text_index import TextIndex
from shards.text_search import TextSearch
from shards.tracing import check_step, streams_of
from shards.verify import require_sound, verify_dataset
from tests.helpers import make_dataset
from train import checkpoint

FEW, MANY = 12, 1000


class World(NamedTuple):
    """A dataset, a run on it, and what is known of both."""

    dataset: Path
    run: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    os.environ["TALLY_CACHE"] = str(folder / "cache")  # undone by tests/conftest.py
    chance = random.Random(5)
    letters = "abcdefgh ijklmn opqrst"
    texts = ["".join(chance.choices(letters, k=chance.randrange(20, 90))) for _ in range(60)]
    sources = {"a": texts, "b": [*texts[:3], *(t[::-1] for t in texts)]}
    dataset = make_dataset(folder / "dataset", sources, {"a": ["held out"]}, shard_tokens=700)
    TextIndex(dataset).build()
    return World(dataset.path, _make_run(folder / "run", dataset))


def _make_run(run: Path, dataset: Dataset) -> Path:
    streams = {name: dataset.stream(name) for name in ("a", "b")}
    found = dataset.manifest.dataset_id
    sources = tuple(PlanSource(n, found, n, "train", s.num_tokens) for n, s in streams.items())
    phases = (PlanPhase("x", 5, 8, ("1/2", "1/2")), PlanPhase("y", 5, 8, ("1/3", "2/3")))
    copies = find_duplicates(dict(enumerate(streams.values())))
    plan = Plan(16, 3, "shuffled", sources, phases, duplicates=copies)
    earlier = (Earlier(plan.prefix(1, 2).plan_id, 1, 2),)
    save_plan(plan, dict.fromkeys(streams, str(dataset.path)), run / "plan.json", earlier)
    with (run / "ledger.jsonl").open("w") as file:
        for step in range(plan.num_steps):
            entry = {"step": step} | planned_entry(plan, step, streams)
            file.write(json.dumps(entry) + "\n")
    checkpoint.begin(run, 10)
    folder = checkpoint.temporary_path(run, 10)
    for name in ("model.safetensors", "state.json", "config.yaml", "optimizer_00000.safetensors"):
        (folder / name).write_bytes(random.Random(name).randbytes(300))
    checkpoint.finish(run, 10)
    return run


def _manifest(world: World) -> object:
    return Dataset.open(world.dataset).manifest


def _training_tokens(world: World) -> object:
    dataset = Dataset.open(world.dataset, check=True)
    stream = dataset.stream("a")
    return stream.windows(np.arange(stream.num_windows(16)), 16).tobytes()


def _audited_text(world: World) -> object:
    corpus = DatasetCorpus(world.dataset)
    batches = [corpus.decode(b) for piece in corpus.pieces for b in corpus.blocks(piece)]
    return [batch.data.tobytes() for batch in batches]


def _documents(world: World) -> object:
    reader = DocumentReader(Dataset.open(world.dataset).stream("a"))
    found = [reader.find(f"a-train-{n}") for n in (*range(60), 1000)]
    return found, list(reader.overlapping([(0, 5), (690, 1500)]))


def _tokenizer(world: World) -> object:
    return Dataset.open(world.dataset).tokenizer().to_str()


def _plan(world: World) -> object:
    plan, addresses = load_plan(world.run / "plan.json")
    earlier = earlier_plans(world.run / "plan.json")
    datasets = {name: Dataset.open(address) for name, address in addresses.items()}
    return plan, sorted(streams_of(plan, datasets)), earlier, plan.account(10)


def _ledger(world: World) -> object:
    plan, addresses = load_plan(world.run / "plan.json")
    datasets = {name: Dataset.open(address) for name, address in addresses.items()}
    entries = list(read_ledger(world.run))
    wrong = list(verify(plan, entries, streams_of(plan, datasets)))
    if any(wrong) or len(entries) != plan.num_steps:
        raise _Found(f"ledger.jsonl: {len(entries)} steps, {wrong}")
    return [vars(entry) for entry in entries]


def _trace(world: World) -> object:
    plan, addresses = load_plan(world.run / "plan.json")
    datasets = {name: Dataset.open(address) for name, address in addresses.items()}
    for step in range(plan.num_steps):
        check_step(world.run, plan, datasets, step)
    return None


def _text(world: World) -> object:
    dataset = Dataset.open(world.dataset)
    stream = dataset.stream("a")
    text = dataset.tokenizer().decode(stream.tokens(100, 180).tolist())
    return [found.start for found in TextSearch(dataset, text).matches(stream)]


def _checkpoint(world: World) -> object:
    checkpoint.verify(checkpoint.checkpoint_path(world.run, 10))
    return None


def _verified(world: World) -> object:
    require_sound(verify_dataset(world.dataset))
    return None


def _converted(world: World) -> object:
    out = world.run.parent / "converted"
    parts = chosen_parts(Dataset.open(world.dataset, check=True), "a", "train")
    try:
        export_dataset(parts, out, "megatron")
        return {p.name: p.read_bytes() for p in sorted(out.rglob("*.*")) if p.is_file()}
    finally:
        shutil.rmtree(out, ignore_errors=True)


class _Found(ValueError):
    """What a check of the tests found."""


class Kind(NamedTuple):
    """A kind of file, and one of its uses."""

    files: str
    """Below the dataset, the run or the cache."""
    use: Callable[[World], object]


KINDS = {
    "manifest": Kind("dataset/manifest.json", _manifest),
    "shard, trained on": Kind("dataset/a/train/*.bin", _training_tokens),
    "shard, audited": Kind("dataset/*/*/*.bin", _audited_text),
    "shard, traced": Kind("dataset/*/train/*.bin", _trace),
    "shard, converted": Kind("dataset/a/train/*.bin", _converted),
    "shard, verified": Kind("dataset/*/*/*.bin", _verified),
    "index, looked up": Kind("dataset/a/train/*.docs.parquet", _documents),
    "index, audited": Kind("dataset/*/*/*.docs.parquet", _audited_text),
    "index, converted": Kind("dataset/a/train/*.docs.parquet", _converted),
    "ids, looked up": Kind("dataset/a/train/*.docs.ids", _documents),
    "ids, verified": Kind("dataset/*/*/*.docs.ids", _verified),
    "tokenizer": Kind("dataset/tokenizer.json", _tokenizer),
    "plan": Kind("run/plan.json", _plan),
    "copies of a plan": Kind("run/duplicates-*.parquet", _plan),
    "ledger": Kind("run/ledger.jsonl", _ledger),
    "ledger, traced": Kind("run/ledger.jsonl", _trace),
    "checkpoint": Kind("run/checkpoints/step_000010/*", _checkpoint),
    "text index": Kind("cache/text/*/a/train/*.grams", _text),
    "text index's sums": Kind("cache/text/*/a/train/*.sums", _text),
}


@contextmanager
def flipped(path: Path, chance: random.Random) -> Iterator[int]:
    """One bit of a file flipped for the time of the block."""
    whole = path.read_bytes()
    offset = chance.randrange(len(whole))
    damaged = bytearray(whole)
    damaged[offset] ^= 1 << chance.randrange(8)
    path.write_bytes(damaged)
    try:
        yield offset
    finally:
        path.write_bytes(whole)


def campaign(world: World, name: str, count: int) -> dict[str, int]:
    """Flip `count` bits of a kind, one at a time; counts of what came of it."""
    kind, chance = KINDS[name], random.Random(name)
    files = sorted(world.run.parent.glob(kind.files))
    assert files, kind.files
    expected, outcome = kind.use(world), {"found": 0, "harmless": 0}
    for _ in range(count):
        path = chance.choice(files)
        companions = [path.with_suffix(end) for end in (".grams", ".sums")]
        kept = {p: p.read_bytes() for p in companions if p.is_file()}
        with flipped(path, chance) as offset:
            outcome[_outcome(kind.use, world, expected, f"{path}, byte {offset}")] += 1
        for companion, content in kept.items():  # a damaged cache is taken away
            companion.write_bytes(content)
    return outcome


def _outcome(use: Callable[[World], Any], world: World, expected: object, where: str) -> str:
    try:
        found = use(world)
    except ValueError as error:
        if not (is_user_error(error) or isinstance(error, _Found)):
            raise AssertionError(f"{where}: {error!r}") from error
        return "found"
    assert found == expected, f"{where}: silently wrong"
    return "harmless"


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_is_found_before_it_is_used(world: World, name: str) -> None:
    outcome = campaign(world, name, FEW)
    assert outcome["found"] > 0, outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_flipped_bits(world: World, name: str) -> None:
    count = MANY // 5 if "audited" in name else MANY
    print(f"\n{name}: {campaign(world, name, count)}")


def test_an_earlier_plan_of_more_sources_than_there_are(world: World) -> None:
    path = world.run / "plan.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"num_sources": 2', b'"num_sources": 6'))
    try:
        assert path.read_bytes() != whole
        with pytest.raises(DatasetError, match=r"plan\.json: not a plan of ours .*num_sources=6"):
            earlier_plans(path)
    finally:
        path.write_bytes(whole)


def test_the_error_names_file_and_place(world: World) -> None:
    path = world.dataset / "a/train/00001.bin"
    with flipped(path, random.Random(1)), pytest.raises(ValueError, match=r"a/train/00001\.bin"):
        _training_tokens(world)
    lines = (world.run / "ledger.jsonl").read_bytes()
    try:
        (world.run / "ledger.jsonl").write_bytes(lines.replace(b'"step": 4', b'"step" 4'))
        with pytest.raises(ValueError, match=r"ledger\.jsonl:5: not readable as JSON .*column"):
            list(read_ledger(world.run))
    finally:
        (world.run / "ledger.jsonl").write_bytes(lines)
