"""Held-out loss over the whole split, every token once; the proof, and what would break it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from configs.terminal import progress
from shards.plan import Plan
from shards.plan_file import load_plan
from tests.tiny_run import make_run
from train.heldout import heldout_run, prove_held_out, score_stream, unigram_entropy
from train.process import prepare_process
from train.run_data import run_datasets, run_plan
from train.subject import load_subject


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_process()
    return make_run(tmp_path_factory.mktemp("tiny"))


def test_every_token_is_a_target_once(run_dir: Path) -> None:
    """Window by window by hand, from a window of 50 that does not divide the stream."""
    subject = load_subject(run_dir)
    stream = run_datasets(run_dir)["docs"].stream("docs", "val")
    tokens = np.concatenate([[0], stream.tokens(0, stream.num_tokens)]).astype(np.int64)
    assert stream.num_tokens % 50
    total = 0.0
    for start in range(0, stream.num_tokens, 50):
        row = torch.from_numpy(tokens[start : start + 51])
        with torch.inference_mode():
            logits = subject.model(row[None, :-1])[0]
        total += float(F.cross_entropy(logits, row[1:], reduction="sum"))
    for batch_size in (1, 3, 100):
        with progress("test", None, "tokens") as bar:
            sums = score_stream(subject, stream, 50, batch_size, bar)
        assert sums.tokens == stream.num_tokens
        assert sums.eos_tokens == stream.facts.documents
        assert sums.nats == pytest.approx(total, rel=1e-6)


def test_masked_documents_are_scored_one_by_one(run_dir: Path) -> None:
    """Every piece of a document in a window by itself, as a model trained so has to be scored."""
    subject = load_subject(run_dir)
    stream = run_datasets(run_dir)["math"].stream("math", "val")
    tokens = np.concatenate([[0], stream.tokens(0, stream.num_tokens)]).astype(np.int64)
    total, start = 0.0, 0
    while start < stream.num_tokens:
        stop = min((start // 50 + 1) * 50, stream.num_tokens)  # the window's end
        ends = np.flatnonzero(tokens[start:stop] == 0)  # behind the EOS, if there is one before
        stop = min(stop, start + int(ends[0]) + 1) if len(ends) else stop
        piece = torch.from_numpy(tokens[start : stop + 1])
        with torch.inference_mode():
            logits = subject.model(piece[None, :-1])[0]
        total += float(F.cross_entropy(logits, piece[1:], reduction="sum"))
        start = stop
    with progress("test", None, "tokens") as bar:
        sums = score_stream(subject, stream, 50, 3, bar, masked=True)
        assert score_stream(subject, stream, 50, 3, bar).nats != pytest.approx(total, rel=1e-4)
    assert sums.tokens == stream.num_tokens
    assert sums.nats == pytest.approx(total, rel=1e-5)


def test_figures_follow_from_the_sums(run_dir: Path) -> None:
    result = heldout_run(run_dir)
    facts = run_datasets(run_dir)["docs"].manifest.sources
    for name, row in result["sources"].items():
        split = facts[name].splits["val"]
        assert row["tokens"] == split.tokens
        assert row["bytes_utf8"] == split.bytes_utf8
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
    every = result["all"]
    assert every["tokens"] == sum(row["tokens"] for row in result["sources"].values())
    mean = sum(row["loss"] * row["tokens"] for row in result["sources"].values())
    assert every["loss"] == pytest.approx(mean / every["tokens"])
    upper = every["loss"] * every["tokens"] / math.log(2) / every["bytes_utf8"]
    assert 0.9 * upper < every["bits_per_byte"] < upper, "EOS targets are no text"
    assert every["loss"] < math.log(512)


def test_a_finished_result_is_reused(run_dir: Path) -> None:
    heldout_run(run_dir)
    path = run_dir / "eval" / "heldout.json"
    written = path.stat().st_mtime_ns
    heldout_run(run_dir)
    assert path.stat().st_mtime_ns == written
    other = json.loads(path.read_bytes()) | {"key": "of another checkpoint"}
    path.write_text(json.dumps(other))
    heldout_run(run_dir)
    assert json.loads(path.read_bytes())["key"] != other["key"]


def test_unigram_entropy_of_known_counts() -> None:
    assert unigram_entropy(np.array([1, 1, 1, 1, 0])) == pytest.approx(math.log(4))
    assert unigram_entropy(np.array([7, 0, 0])) == 0.0
    assert unigram_entropy(np.array([3, 1])) == pytest.approx(
        -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    )


def test_proof_names_splits_and_counts_shared_documents(run_dir: Path) -> None:
    plan, datasets = run_plan(run_dir), run_datasets(run_dir)
    proof = prove_held_out(run_dir, 40, plan, datasets)
    assert proof["proved"]
    assert proof["held_out_documents_in_train"] == 0
    assert (proof["ledger_steps"], proof["ledger_steps_not_as_planned"]) == (40, 0)
    assert proof["plan_reads_splits"] == {"docs": "train", "math": "train"}


def test_training_on_the_held_out_split_breaks_the_proof(run_dir: Path) -> None:
    plan, _ = load_plan(run_dir / "plan.json")
    values = plan.to_json()
    values["sources"][0]["split"] = "val"
    other = Plan.from_json(json.loads(json.dumps(values)))
    proof = prove_held_out(run_dir, 40, other, run_datasets(run_dir))
    assert not proof["proved"]
    held_out = run_datasets(run_dir)["docs"].stream("docs", "val").facts.documents
    assert proof["held_out_documents_in_train"] == held_out


def test_a_ledger_of_other_windows_breaks_the_proof(run_dir: Path, tmp_path: Path) -> None:
    lines = (run_dir / "ledger.jsonl").read_text().splitlines()
    entry = json.loads(lines[7]) | {"windows_digest": "0" * 32}
    lines[7] = json.dumps(entry)
    (tmp_path / "ledger.jsonl").write_text("".join(f"{text}\n" for text in lines))
    proof = prove_held_out(tmp_path, 40, run_plan(run_dir), run_datasets(run_dir))
    assert proof["ledger_steps_not_as_planned"] == 1
    assert not proof["proved"]


def test_a_ledger_that_ends_too_early_proves_nothing(run_dir: Path) -> None:
    plan, datasets = run_plan(run_dir), run_datasets(run_dir)
    assert not prove_held_out(run_dir, 41, plan, datasets)["proved"]
