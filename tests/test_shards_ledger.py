"""The ledger's proof and the trace, on a dataset whose windows are re-read by brute force."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from configs.mixture import MixtureConfig
from shards.accounts import as_json, read_accounts, require_proved, verify_run
from shards.errors import DatasetError
from shards.ledger import (
    Ledger,
    LedgerEntry,
    digest_tokens,
    digest_windows,
    ledger_entry,
    planned_entry,
)
from shards.permutation import mix64
from shards.plan import Plan
from shards.plan_file import save_plan
from shards.reader import Dataset
from shards.tracing import find_document, readings, streams_of, trace_step
from tests.helpers import make_dataset
from train.planning import build_plan, open_datasets

TEXTS = {
    "a": [f"the {n}th document of source a, which is longer" for n in range(12)],
    "b": [f"short b {n}" for n in range(7)],
}


class Run:
    """A run directory as training would leave it, its ledger written from the arrays it read."""

    def __init__(self, path: Path) -> None:
        self.path = path / "run"
        self.path.mkdir()
        make_dataset(path / "data", TEXTS, shard_tokens=100)
        sources = {name: {"dataset": str(path / "data")} for name in TEXTS}
        phases = [{"global_batch_tokens": 40, "length": "30 steps", "weights": {"a": 2, "b": 1}}]
        values = {"sources": sources, "phases": phases, "seq_len": 8, "seed": 3}
        self.mixture = MixtureConfig.model_validate(values)
        self.plan = build_plan(self.mixture)
        self.datasets = open_datasets(self.mixture)
        paths = {name: str(d.path) for name, d in self.datasets.items()}
        save_plan(self.plan, paths, self.path / "plan.json")
        self.entries = [self._entry(step) for step in range(self.plan.num_steps)]
        self.write(self.entries)

    def _entry(self, step: int) -> LedgerEntry:
        streams = streams_of(self.plan, self.datasets)
        batch, names = self.plan.step(step), [s.name for s in self.plan.sources]
        windows = dict.fromkeys(names, 0)
        ids = tokens = 0
        for slot in np.random.default_rng(step).permutation(len(batch.source)):  # any order
            source, window = batch.source[[slot]], batch.window[[slot]]
            rows = streams[names[source[0]]].windows(window, self.plan.seq_len)
            windows[names[source[0]]] += 1
            ids += digest_windows(source, window)
            tokens += digest_tokens(source, window, rows)
        return LedgerEntry(step, windows, 0, f"{ids % 2**128:032x}", f"{tokens % 2**128:032x}")

    def write(self, entries: list[LedgerEntry]) -> None:
        lines = [json.dumps(asdict(entry)) + "\n" for entry in entries]
        (self.path / "ledger.jsonl").write_text("".join(lines))

    def problems(self, tokens: bool = True) -> list[str]:
        return list(verify_run(read_accounts(self.path, None), tokens))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_what_was_read_is_proved(run: Run) -> None:
    run.write(run.entries)
    assert run.problems() == []
    require_proved(read_accounts(run.path, None), [])


def test_digests_are_the_sums_that_the_format_says() -> None:
    """Computed again with Python's integers, which have no lanes and no carries."""
    source, window = np.array([0, 1, 1], np.int32), np.array([5, 0, 2**40], np.int64)
    tokens = np.arange(15, dtype="<u2").reshape(3, 5)
    ids = fed = 0
    for s, w, row in zip(source.tolist(), window.tolist(), tokens, strict=True):
        keys = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
        high, low = (mixed((mixed((s + key) % 2**64) + w) % 2**64) for key in keys)
        ids += (high << 64) + low
        content = s.to_bytes(8, "little") + w.to_bytes(8, "little") + row.tobytes()
        fed += int.from_bytes(blake3(content).digest()[:16], "little")
    assert digest_windows(source, window) == ids % 2**128
    assert digest_tokens(source, window, tokens) == fed % 2**128


def mixed(value: int) -> int:
    """`mix64` of one number."""
    return int(mix64(np.array([value], np.uint64))[0])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda e: e[:7] + e[8:], "line 8: step 8 where step 7 belongs"),
        (lambda e: [*e[:7], e[6], *e[7:]], "step 6 where step 7 belongs"),
        (lambda e: [*e[:7], e[8], e[7], *e[9:]], "step 8 where step 7 belongs"),
        (lambda e: [*e[:7], replace(e[8], step=7), *e[8:]], "step 7: windows_digest"),
        (lambda e: [*e[:7], replace(e[7], windows={"a": 5, "b": 0}), *e[8:]], "step 7: windows is"),
        (lambda e: [*e[:7], replace(e[7], tokens_digest="0" * 32), *e[8:]], "7: tokens_digest"),
        (lambda e: [*e[:7], replace(e[7], masked_targets=2), *e[8:]], "7: masked_targets is 2"),
        (lambda e: [*e, replace(e[0], step=30)], "the plan ends at step 29"),
    ],
)
def test_missing_doubled_reordered_and_changed_steps_are_found(
    run: Run, spoil: "object", said: str
) -> None:
    assert callable(spoil)
    run.write(spoil(run.entries))
    assert any(said in problem for problem in run.problems())


def test_changed_tokens_are_found(run: Run, tmp_path: Path) -> None:
    other = {"a": [*TEXTS["a"][:3], TEXTS["a"][3].upper(), *TEXTS["a"][4:]], "b": TEXTS["b"]}
    changed = Dataset.open(make_dataset(tmp_path / "data", other, shard_tokens=100).path)
    streams = {s.name: changed.stream(s.name) for s in run.plan.sources}
    digests = [planned_entry(run.plan, e.step, streams)["tokens_digest"] for e in run.entries]
    assert digests != [entry.tokens_digest for entry in run.entries]
    with pytest.raises(DatasetError, match="the plan was made with"):
        streams_of(run.plan, dict.fromkeys(["a", "b"], changed))


def test_accounts_equal_a_recount_over_the_epoch_boundary(run: Run) -> None:
    run.write(run.entries)
    streams = streams_of(run.plan, run.datasets)
    for step in (1, 13, 30):
        summary = as_json(read_accounts(run.path, step), None)
        for name, stream in streams.items():
            number = [s.name for s in run.plan.sources].index(name)
            targets: list[int] = []
            for k in range(step):
                batch = run.plan.step(k)
                for window in batch.window[batch.source == number]:
                    targets += range(window * 8 + 1, window * 8 + 9)
            assert summary["sources"][name]["tokens"] == len(targets)
            assert summary["sources"][name]["unique_tokens"] == len(set(targets))
            windows = stream.num_windows(8)
            assert summary["sources"][name]["epochs"] == len(targets) / (8 * windows)
    assert summary["sources"]["b"]["epochs"] > 2


def test_trace_there_and_back(run: Run) -> None:
    run.write(run.entries)
    read: dict[str, set[int]] = {}
    for step in range(run.plan.num_steps):
        for passage in trace_step(run.plan, run.datasets, step):
            text = TEXTS[passage.source][int(passage.doc_id.rsplit("-", 1)[1])]
            assert passage.text in text
            stop = (passage.window + 1) * 8 + 1  # the first token of a window is no target
            if min(stop, passage.token_stop) > max(passage.window * 8 + 1, passage.token_start):
                read.setdefault(passage.doc_id, set()).add(step)
    for source, texts in TEXTS.items():
        for number in range(len(texts)):
            doc_id = f"{source}-train-{number}"
            subjects = find_document(run.plan, run.datasets, doc_id)
            steps = {r.step for r in readings(run.plan, subjects, run.plan.num_steps)}
            assert steps == read.get(doc_id, set())
    with pytest.raises(DatasetError, match="in no source of this run"):
        find_document(run.plan, run.datasets, "unknown")


def test_resume_cuts_the_ledger_back(run: Run) -> None:
    run.write(run.entries)
    ledger = Ledger(run.path)
    assert ledger.truncate(31) == 0
    assert ledger.truncate(20) == 10
    for entry in run.entries[20:]:
        ledger.append(entry)
    assert run.problems() == []


def test_a_run_that_was_never_trained_has_nothing_to_cut(tmp_path: Path) -> None:
    assert Ledger(tmp_path).truncate(0) == 0
    assert ledger_entry(tmp_path, 0) is None


def test_one_step_is_found_by_its_number(run: Run) -> None:
    run.write(run.entries)
    assert ledger_entry(run.path, 29) == run.entries[29]
    assert ledger_entry(run.path, 30) is None
    run.write([*run.entries[:4], run.entries[5]])
    with pytest.raises(DatasetError, match=r"ledger\.jsonl:5: step 5 where step 4 belongs"):
        ledger_entry(run.path, 4)


def test_masked_targets_are_known_without_reading_where_nothing_is_masked(run: Run) -> None:
    assert planned_entry(run.plan, 3)["masked_targets"] == 0
    assert "masked_targets" not in planned_entry(replace(run.plan, document_mask=True), 3)


def test_an_edited_plan_is_refused(run: Run) -> None:
    path = run.path / "plan.json"
    original = path.read_text()
    path.write_text(original.replace('"seed": 3', '"seed": 4'))
    with pytest.raises(DatasetError, match="edited"):
        read_accounts(run.path, None)
    path.write_text(original)


def test_plan_of_a_mixture(run: Run) -> None:
    assert isinstance(run.plan, Plan)
    values = run.mixture.model_dump(mode="json")
    values["phases"] = [
        {"name": "one", "global_batch_tokens": 8, "read": {"a": "1.5 epochs", "b": "1 epoch"}}
    ]
    plan = build_plan(MixtureConfig.model_validate(values))
    windows = {s.name: plan.layout(n, 8).windows for n, s in enumerate(plan.sources)}
    counts = {a.name: a.windows for a in plan.account(plan.num_steps)}
    assert counts == {"a": windows["a"] * 3 // 2, "b": windows["b"]}
    with pytest.raises(DatasetError, match=r"data\.max_epochs allows 1\.25"):
        build_plan(MixtureConfig.model_validate(values | {"max_epochs": 1.25}))
    cut = values | {"max_epochs": 1.25, "over_max_epochs": "clip"}
    clipped = build_plan(MixtureConfig.model_validate(cut))
    assert max(a.epochs for a in clipped.account(clipped.num_steps)) <= 1.25
    assert max(a.epochs for a in plan.account(clipped.num_steps + 1)) > 1.25
    assert build_plan(MixtureConfig.model_validate(cut | {"over_max_epochs": "warn"})) == plan
    twice = values["sources"] | {"b": values["sources"]["a"] | {"source": "a"}}
    with pytest.raises(DatasetError, match="are the same stream"):
        build_plan(MixtureConfig.model_validate(values | {"sources": twice}))
