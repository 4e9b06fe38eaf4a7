"""Tokens that give no loss: in the shards and read like all others, but never a target.

A shard with such tokens has a file of their spans beside it: little-endian int64 pairs, first token
and one past the last, counted in the shard; ascending, and no two touch.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from shards.errors import DatasetError
from shards.layout import Layout

SUFFIX = ".masked.spans"
Spans = npt.NDArray[np.int64]
"""[n, 2]: first token and one past the last."""


def merged(spans: Spans) -> Spans:
    """Spans in order, those that overlap or touch as one, empty ones left out."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    begins = np.concatenate([[True], spans[1:, 0] > ends[:-1]])
    lasts = np.concatenate([begins[1:], [True]])
    return np.stack([spans[begins, 0], ends[lasts]], axis=1)


def as_bytes(spans: Spans) -> bytes:
    """The content of the file."""
    return spans.astype("<i8").tobytes()


def read_spans(path: Path) -> Spans:
    """The spans of a shard.

    Raises:
        DatasetError: no pairs of int64.
    """
    content = path.read_bytes()
    if len(content) % 16:
        raise DatasetError(f"{path}: {len(content)} bytes are no pairs of int64")
    return np.frombuffer(content, "<i8").astype(np.int64).reshape(-1, 2)


def problem(spans: Spans, num_tokens: int) -> str | None:
    """What is wrong with the spans of a shard of so many tokens, if anything is."""
    flat = spans.reshape(-1)
    if not len(flat):
        return "no spans"
    if int(flat[0]) < 0 or int(flat[-1]) > num_tokens:
        return f"spans outside the {num_tokens} tokens of the shard"
    if not np.all(flat[1:] > flat[:-1]):
        return "spans that are empty, overlap, touch, or are not in order"
    return None


def counted_targets(
    spans: Spans, ids: npt.NDArray[np.int64], layout: Layout
) -> npt.NDArray[np.bool_]:
    """Which targets of windows count in the loss: [len(ids), seq_len].

    Args:
        spans: of the stream.
        ids: window numbers.
        layout: of the windows in the stream.
    """
    out = np.ones((len(ids), layout.seq_len + 1), dtype=np.bool_)
    for row, window in zip(out, ids.tolist(), strict=True):
        done = 0
        for start, stop in layout.pieces(window):
            _mask(row[done : done + stop - start], spans, start, stop)
            done += stop - start
    return out[:, 1:]


def _mask(row: npt.NDArray[np.bool_], spans: Spans, start: int, stop: int) -> None:
    first = int(np.searchsorted(spans[:, 1], start, side="right"))
    last = int(np.searchsorted(spans[:, 0], stop, side="left"))
    for low, high in spans[first:last].tolist():
        row[max(low - start, 0) : high - start] = False
