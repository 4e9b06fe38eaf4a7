"""Loss on the dataset's held-out split, over all of it, and the proof that it was held out.

    RUN/eval/heldout.json

The documents of a source's `val` split are read as one stream behind a leading EOS, cut into
windows as in training. Every token is a target exactly once, so the targets are the split's
tokens and bits per byte divides by exactly the split's bytes. EOS targets are counted apart:
they are no text.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from configs.terminal import Advance, console, progress
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file, blake3_json
from shards.ledger import LEDGER_NAME, read_ledger, verify
from shards.masking import document_borders
from shards.plan import Plan
from shards.reader import Dataset, TokenStream
from train.evaluate import default_batch_tokens
from train.loss import target_logprobs
from train.run_data import run_datasets, run_plan
from train.subject import Subject, load_subject

RESULT_FORMAT = 2
HELD_OUT = "val"


@dataclass
class Sums:
    """Totals over the targets of one source, from which all figures follow."""

    documents: int = 0
    bytes_utf8: int = 0
    tokens: int = 0
    eos_tokens: int = 0
    nats: float = 0.0
    eos_nats: float = 0.0
    unigram_nats: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sums(*(a + b for a, b in pairs))

    def figures(self) -> dict[str, Any]:
        """Loss and entropy in nats a token (EOS included), bits per byte of the text."""
        text_nats = self.nats - self.eos_nats
        return {
            "documents": self.documents,
            "bytes_utf8": self.bytes_utf8,
            "tokens": self.tokens,
            "eos_tokens": self.eos_tokens,
            "loss": self.nats / self.tokens,
            "perplexity": math.exp(self.nats / self.tokens),
            "bits_per_byte": text_nats / math.log(2) / self.bytes_utf8,
            "unigram_entropy": self.unigram_nats / self.tokens,
        }


def heldout_run(
    run_dir: Path, step: int | None = None, batch_tokens: int | None = None
) -> dict[str, Any]:
    """Score the whole held-out split of every source the run trained on.

    Args:
        run_dir: the RUN directory.
        step: which checkpoint; the newest by default.
        batch_tokens: most tokens a forward pass; None for what fits the device.

    Returns:
        The content of RUN/eval/heldout.json.
    """
    subject = load_subject(run_dir, step)
    plan, datasets = run_plan(run_dir), run_datasets(run_dir, check=True)
    identity = _identity(subject, plan)
    path = run_dir / "eval" / "heldout.json"
    if path.exists() and json.loads(path.read_bytes()).get("key") == blake3_json(identity):
        console.print(f"held-out loss: reused {path}")
        return dict(json.loads(path.read_bytes()))
    rows = max(1, (batch_tokens or default_batch_tokens()) // plan.seq_len)
    sums = _score_sources(subject, plan, datasets, rows)
    result = identity | {
        "key": blake3_json(identity),
        "sources": {name: part.figures() for name, part in sums.items()},
        "all": sum(sums.values(), Sums()).figures(),
        "never_trained": prove_held_out(run_dir, subject.step, plan, datasets),
    }
    write_json_atomic(path, result)
    return result


def _identity(subject: Subject, plan: Plan) -> dict[str, Any]:
    return {
        "format": RESULT_FORMAT,
        "model": subject.described(),
        "plan_id": plan.plan_id,
        "split": HELD_OUT,
        "window": plan.seq_len,
    }


def _score_sources(
    subject: Subject, plan: Plan, datasets: dict[str, Dataset], batch_size: int
) -> dict[str, Sums]:
    streams = {
        source.name: datasets[source.name].stream(source.source, HELD_OUT)
        for source in plan.sources
        if HELD_OUT in datasets[source.name].manifest.sources[source.source].splits
    }
    total = sum(stream.num_tokens for stream in streams.values())
    with progress("held-out loss", total, "tokens") as bar:
        return {
            name: score_stream(
                subject, stream, plan.seq_len, batch_size, bar, masked=plan.document_mask
            )
            for name, stream in streams.items()
        }


def score_stream(
    subject: Subject,
    stream: TokenStream,
    window: int,
    batch_size: int,
    bar: Advance,
    *,
    masked: bool = False,
) -> Sums:
    """Every token of a stream as a target once.

    Args:
        subject: the model.
        stream: what to read.
        window: targets a row.
        batch_size: rows a forward pass.
        bar: shows the tokens done.
        masked: documents do not see each other (see `shards.masking`), as in the model's training;
            their first tokens count all the same, since they are part of the text.
    """
    facts, eos = stream.facts, subject.eos_id
    sums = Sums(facts.documents, facts.bytes_utf8)
    counts = np.zeros(subject.model.config.vocab_size, dtype=np.int64)
    for start in range(0, stream.num_tokens, window * batch_size):
        stop = min(start + window * batch_size, stream.num_tokens)
        # One token before the first target: the stream's own, or EOS at its very beginning.
        before = stream.tokens(start - 1, start) if start else np.array([eos])
        targets = stream.tokens(start, stop).astype(np.int64)
        inputs = np.concatenate([before, targets[:-1]]).astype(np.int64)
        nats = _target_nats(subject, inputs, targets, window, masked)
        sums.tokens += len(targets)
        sums.eos_tokens += int((targets == eos).sum())
        sums.nats += float(nats.sum())
        sums.eos_nats += float(nats[targets == eos].sum())
        counts += np.bincount(targets, minlength=len(counts))
        bar.advance(len(targets))
    sums.unigram_nats = unigram_entropy(counts) * sums.tokens
    return sums


@torch.inference_mode()
def _target_nats(
    subject: Subject,
    inputs: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    window: int,
    masked: bool,
) -> npt.NDArray[np.float64]:
    """Negative log-probability of every target, float64 [len(targets)]; rows of `window`."""
    device = next(subject.model.parameters()).device
    # inputs, targets: [num_targets] -> [rows, window]; what is left over is one shorter row.
    whole = len(targets) // window * window
    nats = []
    for part, width in ((slice(0, whole), window), (slice(whole, None), len(targets) - whole)):
        if len(targets[part]):
            rows = inputs[part].reshape(-1, width)
            borders = torch.from_numpy(document_borders(rows, subject.eos_id)).to(device)
            inputs_BT = torch.from_numpy(rows).to(device)
            x_BTD = subject.model.hidden(inputs_BT, borders if masked else None)
            flat = torch.from_numpy(targets[part]).to(device)
            head = subject.model.output_head()
            nats.append(-target_logprobs(x_BTD.flatten(0, 1), flat, head)[0])
    return torch.cat(nats).double().cpu().numpy()


def unigram_entropy(counts: npt.NDArray[np.int64]) -> float:
    """Entropy of token frequencies in nats: what the best model without context could reach."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def prove_held_out(
    run_dir: Path, step: int, plan: Plan, datasets: dict[str, Dataset]
) -> dict[str, Any]:
    """Show that no held-out document was trained on in the steps before `step`.

    Three grounds: the plan reads no stream of the held-out split; the ledger's digests, folded by
    the ranks over what they fed to the model, are the plan's in every step; and no held-out
    document has the content hash of a document in any stream that the plan reads. A window lies
    in one split's stream, so none of the held-out split was trained on. `receipts` name the
    files that say so.
    """
    train_hashes = pl.concat(
        datasets[source.name].stream(source.source, source.split).documents()["content_hash"]
        for source in plan.sources
    )
    held_hashes = pl.concat(
        datasets[source.name].stream(source.source, HELD_OUT).documents()["content_hash"]
        for source in plan.sources
        if HELD_OUT in datasets[source.name].manifest.sources[source.source].splits
    )
    shared = int(held_hashes.is_in(train_hashes.unique().implode()).sum())
    splits = {source.name: source.split for source in plan.sources}
    steps = [bool(wrong) for wrong in verify(plan, read_ledger(run_dir))]
    return {
        "receipts": {
            "plan": {"file": "plan.json", "plan_id": plan.plan_id},
            "ledger": {"file": LEDGER_NAME, "blake3": blake3_file(run_dir / LEDGER_NAME)},
            "datasets": {name: one.manifest.dataset_id for name, one in sorted(datasets.items())},
        },
        "plan_reads_splits": splits,
        "ledger_steps": len(steps),
        "ledger_steps_not_as_planned": sum(steps),
        "held_out_documents": len(held_hashes),
        "train_documents": len(train_hashes),
        "held_out_documents_in_train": shared,
        "proved": (
            shared == 0
            and HELD_OUT not in splits.values()
            and len(steps) >= step
            and not any(steps)
        ),
    }
