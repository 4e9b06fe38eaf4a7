"""From (plan, step, rank) to the token windows of this rank; no state but the step.

Slot of row i of micro-batch m on rank r: (m * world_size + r) * micro_batch + i. So the global
batch is the same for any number of ranks and any micro-batch; only who computes a row differs.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from configs.train import LoaderConfig
from shards.masking import DocumentMask, batch_mask
from shards.plan import Plan
from shards.reader import TokenArray, TokenStream
from train.zero import accumulation


class Rows(NamedTuple):
    """One micro-batch of one rank."""

    source: npt.NDArray[np.int32]
    """Index into the plan's sources: [micro_batch]."""
    window: npt.NDArray[np.int64]
    """Window of that source: [micro_batch]."""
    tokens: TokenArray
    """Inputs and the last target: [micro_batch, seq_len + 1]."""
    documents: DocumentMask | None
    """Where documents begin, if they are trained on apart, and which targets count; None: all."""


class RankReader:
    """The rows of one rank, step by step; may be asked from several threads."""

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
            streams: one per source, in the plan's order, all of one tokenizer.
            rank: this process, 0-based.
            world_size: processes in all.
            micro_batch: rows at once.
        """
        self._plan, self._streams = plan, streams
        self._rank, self._world_size, self._micro_batch = rank, world_size, micro_batch

    def read(self, step: int) -> list[Rows]:
        """The micro-batches of `step` on this rank, in order."""
        source, window = self._plan.step(step)
        mine = rank_slots(len(window), self._rank, self._world_size, self._micro_batch)
        seq_len = self._plan.seq_len_at(step)
        return [self._rows(source[rows], window[rows], seq_len) for rows in mine]

    def _rows(
        self, source: npt.NDArray[np.int32], window: npt.NDArray[np.int64], seq_len: int
    ) -> Rows:
        plan, first = self._plan, self._streams[0]
        tokens = np.empty((len(window), seq_len + 1), dtype=first.dtype)
        masked = any(facts.masked for facts in plan.sources)
        counted = np.ones((len(window), seq_len), dtype=np.bool_) if masked else None
        for number, stream in enumerate(self._streams):
            places = np.flatnonzero(source == number)
            if len(places):
                rows = map(tokens.__getitem__, places.tolist())
                stream.fill(rows, window[places], seq_len, plan.rows)
            if counted is not None and plan.sources[number].masked and len(places):
                counted[places] = stream.counted(window[places], seq_len, plan.rows)
        documents = batch_mask(tokens, first.eos_id, plan.document_mask, counted)
        return Rows(source, window, tokens, documents)


def rank_slots(
    batch_windows: int, rank: int, world_size: int, micro_batch: int
) -> npt.NDArray[np.int64]:
    """Slots of the global batch that a rank computes: int64 [micro-batches, micro_batch].

    Raises:
        TrainError: the batch cannot be dealt evenly.
    """
    count = accumulation(batch_windows, micro_batch, world_size)
    firsts = (np.arange(count, dtype=np.int64) * world_size + rank) * micro_batch
    return firsts[:, None] + np.arange(micro_batch, dtype=np.int64)


@contextmanager
def prefetched(
    reader: RankReader, first: int, last: int, loader: LoaderConfig
) -> Iterator[Iterator[list[Rows]]]:
    """Yield an iterator over the batches of steps [first, last), read ahead by threads.

    The order is that of the steps, whichever thread is done first; an error of a thread is raised
    where its step's batch is asked for.
    """
    pool = ThreadPoolExecutor(loader.threads, thread_name_prefix="data")
    steps = iter(range(first, last))
    begun = itertools.islice(steps, loader.steps_ahead)
    ahead = deque(pool.submit(reader.read, step) for step in begun)
    try:
        yield _in_order(reader, pool, steps, ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    reader: RankReader,
    pool: ThreadPoolExecutor,
    steps: Iterator[int],
    ahead: deque[Future[list[Rows]]],
) -> Iterator[list[Rows]]:
    while ahead:
        batch = ahead.popleft().result()
        ahead.extend(pool.submit(reader.read, step) for step in itertools.islice(steps, 1))
        yield batch
