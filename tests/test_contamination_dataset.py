"""Packed shards: decoded exactly, audited like the text, with tokens and exposure of findings."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from configs.audit import SENSITIVITIES
from contamination.audit import run_audit
from contamination.corpus import open_corpus
from contamination.errors import AuditError
from contamination.exposure import RunHistory
from contamination.items import Benchmark, Item
from contamination.report import matches, summary
from shards.detokenize import byte_table
from shards.hashing import blake3_file
from shards.ledger import Ledger, LedgerEntry, planned_entry
from shards.manifest import Manifest, seal
from shards.plan import Plan
from shards.plan_file import save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from tests.helpers import make_dataset

QUESTION = "Which pigment in the leaves of a maple absorbs mostly violet and orange light?"
BENCHMARK = Benchmark("made", "test", "by a test", (Item("leaf", QUESTION, "chlorophyll"),))
FILLER = "Na\u00efve committees met; \u4e2d\u6587 nobody could explain \U0001f600 the tables. " * 3
TEXTS = {
    "web": [FILLER, f"{FILLER}\nQ: {QUESTION}\nA: Chlorophyll.\n{FILLER}", "", f"{QUESTION}"],
    "docs": [f"<p>{QUESTION.upper()}</p>", FILLER, "x"],
}
HELD_OUT = {"docs": [f"{FILLER}{QUESTION}"]}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path / "data", TEXTS, HELD_OUT, shard_tokens=400)


def audit(path: Path, work: Path, history: RunHistory | None = None) -> pl.DataFrame:
    corpus = open_corpus(path)
    rules = SENSITIVITIES["default"]
    result = run_audit(corpus, [BENCHMARK], rules, work / "w", work / "c", 2, history)
    return matches(result.findings)


def test_shards_and_text_have_identical_findings(dataset: Dataset, tmp_path: Path) -> None:
    from_shards = audit(dataset.path, tmp_path)
    texts = [
        {"id": f"{name}-{split}-{row}", "text": text}
        for name in TEXTS
        for split, group in (("train", TEXTS[name]), ("val", HELD_OUT.get(name, [])))
        for row, text in enumerate(group)
    ]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    from_text = audit(path, tmp_path)
    own = ["source", "split", "origin", "origin_row", "shard", "token_start", "token_end"]
    assert len(from_shards) == 4
    assert from_shards.drop(own).equals(from_text.drop(own))


def test_token_ranges_hold_the_matched_text(dataset: Dataset, tmp_path: Path) -> None:
    for row in audit(dataset.path, tmp_path).iter_rows(named=True):
        stream = dataset.stream(row["source"], row["split"])
        tokens = stream.tokens(row["token_start"], row["token_end"])
        matched = dataset.tokenizer().decode(tokens.tolist())
        assert matched.lower().startswith("which pigment in the leaves")
        assert matched.lower().endswith(("light", "chlorophyll"))
        assert (dataset.path / row["shard"]).is_file()


def make_run(run: Path, dataset: Dataset, steps: int) -> Plan:
    stream = dataset.stream("web")
    source = PlanSource(
        "web",
        dataset.manifest.dataset_id,
        "web",
        "train",
        stream.num_tokens,
    )
    phase = PlanPhase("main", 40, 2, ("1",))
    plan = Plan(64, 3, "shuffled", (source,), (phase,))
    run.mkdir()
    save_plan(plan, {"web": str(dataset.path)}, run / "plan.json")
    ledger = Ledger(run)
    for step in range(steps):
        entry = planned_entry(plan, step, {"web": stream})
        ledger.append(LedgerEntry(step=step, **entry))
    return plan


def test_exposure_is_what_a_recount_of_all_steps_says(dataset: Dataset, tmp_path: Path) -> None:
    plan = make_run(tmp_path / "run", dataset, steps=30)
    history = RunHistory(tmp_path / "run", 25, dataset.manifest.dataset_id)
    length = plan.sources[0].tokens
    for start, end in [(3, 40), (64, 67), (60, 70), (60, 130), (length - 5, length), (200, 201)]:
        found = history.exposure("web", "train", start, end)
        held = {
            w: len(set(range(start, end)) & set(range(64 * w + 1, 64 * w + 65))) / (end - start)
            for w in range(plan.layout(0, 64).windows)
        }
        best = max(held, key=lambda w: held[w])
        reads = [s for s in range(25) for w in plan.step(s).window if w == best and held[best] > 0]
        whole = held[best] >= 0.8
        assert found.times == (len(reads) if whole else 0)
        assert found.partial_times == (0 if whole else len(reads))
        assert found.first_step == (min(reads) if reads else None)
        assert found.last_step == (max(reads) if reads else None)


def test_present_but_never_trained_on_is_counted_apart(dataset: Dataset, tmp_path: Path) -> None:
    make_run(tmp_path / "run", dataset, steps=30)
    history = RunHistory(tmp_path / "run", None, dataset.manifest.dataset_id)
    assert history.steps == 30
    frame = audit(dataset.path, tmp_path, history)
    reads = pl.col("exposures") + pl.col("partial_exposures")
    trained = dict(frame.group_by("source").agg(reads.sum()).iter_rows())
    assert trained["docs"] == 0
    assert trained["web"] > 0
    corpus = open_corpus(dataset.path)
    result = run_audit(
        corpus, [BENCHMARK], SENSITIVITIES["default"], tmp_path / "w", tmp_path / "c", 1, history
    )
    totals = summary(result)["totals"]
    assert totals["dirty_items_trained_on"] == 1
    assert totals["exposures"] + totals["partial_exposures"] == trained["web"]


def test_a_run_of_other_data_or_a_future_step_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    make_run(tmp_path / "run", dataset, steps=5)
    with pytest.raises(AuditError, match=r"trained on dataset .*, not on the audited one"):
        RunHistory(tmp_path / "run", None, "another")
    with pytest.raises(AuditError, match="--step 6, but the run has made 5 steps"):
        RunHistory(tmp_path / "run", 6, dataset.manifest.dataset_id)


def test_documents_without_eos_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.path / "web/train/00000.bin"
    tokens = np.fromfile(shard, "<u2")
    tokens[-1] = 5
    tokens.tofile(shard)
    values = dataset.manifest.model_dump(mode="json")
    values["sources"]["web"]["splits"]["train"]["shards"][0]["blake3"] = blake3_file(shard)
    seal(dataset.path, Manifest.model_validate(values))  # a stranger's, whose checksums fit
    with pytest.raises(AuditError, match="does not end with EOS"):
        audit(dataset.path, tmp_path)


TESTDATA = os.environ.get("TALLY_TESTDATA")
TOKENIZERS = ["gpt2", "gpt-neox-olmo", "mistral-7b-v0.1", "mistral-7b-v0.3", "smollm2-135m"]


@pytest.mark.skipif(not TESTDATA, reason="TALLY_TESTDATA is not set: no real tokenizers")
@pytest.mark.parametrize("name", TOKENIZERS)
def test_byte_tables_decode_like_real_tokenizers(name: str) -> None:
    root = Path(str(TESTDATA))
    tokenizer = Tokenizer.from_file(str(root / "tokenizers" / name / "tokenizer.json"))
    table = byte_table(tokenizer)
    with gzip.open(root / "corpora/wikipedia/zhwiki_small.jsonl.gz", "rt", encoding="utf-8") as f:
        texts = [json.loads(line)["text"][:2000] for line, _ in zip(f, range(40), strict=False)]
    texts += [
        "  two spaces",
        "",
        "a\n\n\tb \u2581 c",
        "\U0001f600\u200d\U0001f468 e\u0301",
        *TEXTS["web"],
    ]
    for text in texts:
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.uint32)
        data, offsets = table.decode(ids, np.array([0]), np.array([len(ids)]))
        assert data.tobytes() == tokenizer.decode(ids.tolist(), skip_special_tokens=False).encode()
        if len(ids):
            assert table.ends(ids)[-1] == offsets[-1] == len(data)
