"""Values of a new training configuration, from a dataset and the size of a model."""

import math
from typing import Any, NamedTuple

from configs.mixture import Amount, parse_amount
from configs.sizes import Size
from shards.reader import Dataset
from train.errors import TrainError
from train.process import nvidia_driver

_STEPS_WANTED = 500
_LEAST_WINDOWS = 8
_MICRO_TOKENS = 32_768
"""About what a rank computes at once."""


class Reading(NamedTuple):
    """What a run is to read."""

    phase: dict[str, Any]
    """Of the configuration, without its batch."""
    tokens: int


def run_values(
    name: str, dataset: Dataset, size: Size, seq_len: int | None, amount: str
) -> dict[str, Any]:
    """Values of a configuration.

    Args:
        name: of the run.
        dataset: to read.
        size: of the model.
        seq_len: targets of a window; None for the size's own.
        amount: `1 epoch`, `2.5B tokens`.

    Raises:
        TrainError: the amount is none, or the dataset has nothing to train on.
    """
    length = seq_len or size.seq_len
    streams = _streams(dataset)
    reading = _reading(streams, amount)
    batch = _batch(reading.tokens, length, size.batch_tokens)
    steps = max(1, reading.tokens // batch)
    every = max(1, 10 ** math.floor(math.log10(max(steps, 10) / 5)))
    values: dict[str, Any] = {
        "name": name,
        "data": {
            "sources": {source: {"dataset": dataset.address} for source in streams},
            "phases": [{"name": "pretrain", "global_batch_tokens": batch, **reading.phase}],
            "seq_len": length,
        },
        "model": {
            "vocab_size": _rounded_up(dataset.manifest.tokenizer.vocab_size),
            **size.model,
            "max_seq_len": length,
        },
        "optimizer": {"lr": size.lr},
        "schedule": {"shape": "cosine", "warmup_steps": min(1000, steps // 20)},
        "micro_batch": max(1, math.gcd(batch // length, max(1, _MICRO_TOKENS // length))),
        "engine": _engine(),
        "checkpoint": {"every_steps": every},
    }
    if all("val" in dataset.manifest.sources[source].splits for source in streams):
        values["validation"] = {"every_steps": every}
    return values


def _streams(dataset: Dataset) -> dict[str, int]:
    """Training tokens of every source that has some."""
    found = {
        name: facts.splits["train"].tokens
        for name, facts in dataset.manifest.sources.items()
        if "train" in facts.splits and facts.splits["train"].tokens > 1
    }
    if not found:
        raise TrainError(f"{dataset.address}: no source has a split 'train' to train on")
    return found


def _reading(streams: dict[str, int], amount: str) -> Reading:
    try:
        wanted = parse_amount(amount)
    except ValueError as error:
        raise TrainError(f"--tokens {amount}: {error}") from None
    if not isinstance(wanted, Amount) or wanted.unit == "steps" or wanted.value <= 0:
        raise TrainError(f"--tokens {amount}: give tokens or epochs: '2.5B tokens', '1 epoch'")
    whole = sum(streams.values())
    if wanted.unit == "epochs":
        phase = {"read": {name: str(wanted) for name in streams}}
        return Reading(phase, int(whole * wanted.value))
    shares = {name: round(tokens / whole, 4) or 0.0001 for name, tokens in streams.items()}
    return Reading({"length": str(wanted), "weights": shares}, int(wanted.value))


def _engine() -> dict[str, Any]:
    """What trains fastest here."""
    if nvidia_driver():
        return {"precision": "bf16_autocast", "compile": True}
    return {"precision": "fp32"}


def _batch(tokens: int, seq_len: int, most: int) -> int:
    """Targets of a step: the size's, or as few as give the run a few hundred steps."""
    windows = max(1, most // seq_len)
    while windows > _LEAST_WINDOWS and tokens // (windows * seq_len) < _STEPS_WANTED:
        windows //= 2
    return windows * seq_len


def _rounded_up(vocab_size: int) -> int:
    """The next multiple of 64, which GPUs multiply faster."""
    return -(-vocab_size // 64) * 64
