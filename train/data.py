"""From (plan, step, rank) to the token windows of this rank; no state but the step.

Slot of row i of micro-batch m on rank r: (m * world_size + r) * micro_batch + i. So the global
batch is the same for any number of ranks and any micro-batch; only who computes a row differs.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shards.plan import Plan
from shards.reader import TokenArray, TokenStream
from train.zero import accumulation

_AHEAD = 2  # steps that the reading thread is ahead of the model


class Rows(NamedTuple):
    """One micro-batch of one rank."""

    source: npt.NDArray[np.int32]
    """Index into the plan's sources: [micro_batch]."""
    window: npt.NDArray[np.int64]
    """Window of that source: [micro_batch]."""
    tokens: TokenArray
    """Inputs and the last target: [micro_batch, seq_len + 1]."""


class RankReader:
    """The rows of one rank, step by step."""

    def __init__(
        self,
        plan: Plan,
        streams: Sequence[TokenStream],
        *,
        rank: int,
        world_size: int,
        micro_batch: int,
    ) -> None:
        """Read for one rank.

        Args:
            plan: the plan of the run.
            streams: one per source, in the plan's order.
            rank: this process, 0-based.
            world_size: processes in all.
            micro_batch: rows at once.
        """
        self._plan, self._streams = plan, streams
        self._rank, self._world_size, self._micro_batch = rank, world_size, micro_batch

    def read(self, step: int) -> list[Rows]:
        """The micro-batches of `step` on this rank, in order."""
        source, window = self._plan.step(step)
        count = accumulation(len(window), self._micro_batch, self._world_size)
        # axes: (micro-batches, ranks, rows)
        slots = np.arange(len(window)).reshape(count, self._world_size, self._micro_batch)
        mine = slots[:, self._rank]
        return [self._rows(source[rows], window[rows]) for rows in mine]

    def _rows(self, source: npt.NDArray[np.int32], window: npt.NDArray[np.int64]) -> Rows:
        pieces = {int(number): np.flatnonzero(source == number) for number in np.unique(source)}
        tokens = np.empty((len(window), self._plan.seq_len + 1), dtype=self._dtype)
        for number, rows in pieces.items():
            stream = self._streams[number]
            tokens[rows] = stream.windows(window[rows], self._plan.seq_len, self._plan.rows)
        return Rows(source, window, tokens)

    @property
    def _dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        return self._streams[0].tokens(0, 0).dtype


@contextmanager
def prefetched(reader: RankReader, first: int, last: int) -> Iterator[Iterator[list[Rows]]]:
    """Yield an iterator over the batches of steps [first, last), read ahead by one thread."""
    batches: queue.Queue[list[Rows] | BaseException] = queue.Queue(maxsize=_AHEAD)
    stop = threading.Event()

    def put(item: list[Rows] | BaseException) -> None:
        while not stop.is_set():
            try:
                return batches.put(item, timeout=0.1)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for step in range(first, last):
                if stop.is_set():
                    return
                put(reader.read(step))
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="data", daemon=True)
    thread.start()
    try:
        yield _drain(batches, last - first)
    finally:
        stop.set()
        thread.join()


def _drain(batches: "queue.Queue[list[Rows] | BaseException]", count: int) -> Iterator[list[Rows]]:
    for _ in range(count):
        item = batches.get()
        if isinstance(item, BaseException):
            raise item
        yield item
