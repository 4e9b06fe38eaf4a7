"""RUN/ledger.jsonl: what every step of a run was really fed, and the check against the plan.

A line a step, of the weights' own history: a resumed run cuts the ledger back to its checkpoint.
Two digests prove a step, both sums modulo 2**128 over its windows, so that ranks can fold their
share in any order: `windows_digest` of (source, window) ids, and `tokens_digest` of the ids with
the very tokens that went into the model.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from shards.atomic import keep_lines
from shards.errors import DatasetError
from shards.json_input import parse_json
from shards.masking import batch_mask
from shards.permutation import mix64
from shards.plan import Plan
from shards.reader import TokenArray, TokenStream

LEDGER_NAME = "ledger.jsonl"
DIGEST_MODULUS = 1 << 128
_LANE_KEYS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))


@dataclass(frozen=True)
class LedgerEntry:
    """One optimizer step."""

    step: int
    windows: dict[str, int]
    """Windows fed of each source in this step."""
    masked_targets: int
    """Targets that did not count in the loss."""
    windows_digest: str
    """32 hex digits."""
    tokens_digest: str
    """32 hex digits."""


def digest_windows(source: npt.NDArray[np.int32], window: npt.NDArray[np.int64]) -> int:
    """Order-independent digest of window ids: [n], [n] -> a sum modulo 2**128."""
    lanes = []
    for key in _LANE_KEYS:
        hashed = mix64(mix64(source.astype(np.uint64) + key) + window.astype(np.uint64))
        # Exact sums: the low lane's carry belongs to the digest, or ranks' parts would not add up.
        high, low = (hashed >> np.uint64(32)).sum(), (hashed & np.uint64(0xFFFFFFFF)).sum()
        lanes.append((int(high) << 32) + int(low))
    return ((lanes[0] << 64) + lanes[1]) % DIGEST_MODULUS


def digest_tokens(
    source: npt.NDArray[np.int32], window: npt.NDArray[np.int64], tokens: TokenArray
) -> int:
    """Order-independent digest of window ids and their tokens.

    Args:
        source: index of each window's source in the plan, [n].
        window: window ids, [n].
        tokens: the windows' tokens in the dataset's dtype, [n, seq_len + 1].
    """
    ids = np.stack([source.astype("<i8"), window.astype("<i8")], axis=1)
    total = 0
    for row in range(len(ids)):
        # One string: BLAKE3 is slower over the two parts, which do not end where its blocks do.
        digest = blake3(ids[row].tobytes() + tokens[row].tobytes()).digest(length=16)
        total += int.from_bytes(digest, "little")
    return total % DIGEST_MODULUS


def hex_digest(digest: int) -> str:
    """A digest as 32 hex digits."""
    return f"{digest % DIGEST_MODULUS:032x}"


class Ledger:
    """The ledger of a run, open for appending."""

    def __init__(self, run: Path) -> None:
        self._path = run / LEDGER_NAME

    def truncate(self, step: int) -> int:
        """Keep the entries before `step`; returns how many were discarded."""
        return keep_lines(self._path, step)

    def append(self, entry: LedgerEntry) -> None:
        """Add one step; reaches the disk with the next checkpoint at the latest."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")


def count_steps(run: Path) -> int:
    """Steps in a run's ledger, by its lines, which are not looked at.

    Raises:
        DatasetError: no ledger.
    """
    return _ledger_file(run).read_bytes().count(b"\n")


def read_ledger(run: Path) -> Iterator[LedgerEntry]:
    """Entries of a run's ledger in file order.

    Raises:
        DatasetError: no ledger, or a line that is not an entry.
    """
    path = _ledger_file(run)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield _entry(line, f"{path}:{number}")


def _ledger_file(run: Path) -> Path:
    path = run / LEDGER_NAME
    if not path.is_file():
        raise DatasetError(f"{path}: no ledger; is {run} a run of `tally train`?")
    return path


def ledger_entry(run: Path, step: int) -> LedgerEntry | None:
    """The entry of one step; None where the run has not come that far.

    Raises:
        DatasetError: the line is not an entry, or one of another step.
    """
    path = run / LEDGER_NAME
    if not path.is_file():
        return None
    with path.open("rb") as file:
        line = next(islice(file, step, None), None)
    if line is None:
        return None
    entry = _entry(line, f"{path}:{step + 1}")
    if entry.step != step:
        raise DatasetError(f"{path}:{step + 1}: step {entry.step} where step {step} belongs")
    return entry


def _entry(line: bytes, where: str) -> LedgerEntry:
    if not line.endswith(b"\n"):
        raise DatasetError(f"{where}: not a ledger entry: cut off; resuming the run mends it")
    try:
        entry = LedgerEntry(**parse_json(line, where))
    except TypeError as error:
        raise DatasetError(f"{where}: not a ledger entry ({error})") from None
    counts = [entry.step, entry.masked_targets]
    if isinstance(entry.windows, dict):
        counts += entry.windows.values()
    texts = (entry.windows_digest, entry.tokens_digest)
    if not (
        isinstance(entry.windows, dict)
        and all(type(count) is int for count in counts)
        and all(isinstance(text, str) for text in texts)
    ):
        raise DatasetError(f"{where}: not a ledger entry: a field of the wrong type")
    return entry


def verify(
    plan: Plan, entries: Iterable[LedgerEntry], streams: Mapping[str, TokenStream] | None = None
) -> Iterator[list[str]]:
    """Recompute every step from the plan and compare; yields each step's differences.

    Args:
        plan: the plan of the run.
        entries: its ledger.
        streams: with the streams of all sources by name, the tokens are read again and
            compared too; without, the window ids alone.
    """
    for expected, entry in enumerate(entries):
        if entry.step != expected:
            yield [f"line {expected + 1}: step {entry.step} where step {expected} belongs"]
            return
        if expected >= plan.num_steps:
            yield [f"step {expected}: the plan ends at step {plan.num_steps - 1}"]
            return
        yield _differences(plan, entry, streams)


def _differences(
    plan: Plan, entry: LedgerEntry, streams: Mapping[str, TokenStream] | None
) -> list[str]:
    wanted = planned_entry(plan, entry.step, streams)
    # Entries from before a source was appended to the plan do not name it.
    logged = asdict(entry) | {"windows": dict.fromkeys(wanted["windows"], 0) | entry.windows}
    return [
        f"step {entry.step}: {field} is {logged[field]}, the plan gives {value}"
        for field, value in wanted.items()
        if logged[field] != value
    ]


def planned_entry(
    plan: Plan, step: int, streams: Mapping[str, TokenStream] | None = None
) -> dict[str, Any]:
    """What the ledger must say of a step.

    Without streams there is no `tokens_digest`, and no `masked_targets` if any are masked.
    """
    source, window = plan.step(step)
    counts = np.bincount(source, minlength=len(plan.sources))
    planned: dict[str, Any] = {
        "windows": {s.name: int(n) for s, n in zip(plan.sources, counts, strict=True)},
        "windows_digest": hex_digest(digest_windows(source, window)),
    }
    if not plan.masks_targets:
        planned["masked_targets"] = 0
    if streams:
        total = masked = 0
        for number, facts in enumerate(plan.sources):
            mine = source == number
            stream, where = streams[facts.name], (window[mine], plan.seq_len_at(step), plan.rows)
            tokens = stream.windows(*where)
            total += digest_tokens(source[mine], window[mine], tokens)
            counted = stream.counted(*where) if facts.masked else None
            mask = batch_mask(tokens, stream.eos_id, plan.document_mask, counted)
            masked += mask.masked_targets if mask else 0
        planned["tokens_digest"] = hex_digest(total)
        planned["masked_targets"] = masked
    return planned
