"""Read a dataset: streams of tokens (memory-mapped), windows of them, documents behind them.

A source's split is one virtual stream of T tokens, its shards in order. Window i of length L
covers inputs [iL, iL+L) and targets [iL+1, iL+L], so W = (T-1) // L windows hold every target
once, and fewer than L targets at the end are in none.
"""

import bisect
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from shards.blocks import Range
from shards.errors import DatasetError
from shards.files import DatasetFiles
from shards.layout import Layout
from shards.loss_mask import Spans, counted_targets, read_spans
from shards.manifest import Manifest, SplitFacts, TokenizerFacts, load_manifest
from shards.remote import RemoteDataset, is_remote
from shards.tokenizer_file import load_tokenizer

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")
_SAY_S = 10.0
TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class _Part(NamedTuple):
    """Tokens [start, stop) of a shard."""

    shard: int
    start: int
    stop: int


class TokenStream:
    """One split of one source as a stream of tokens."""

    def __init__(
        self,
        files: DatasetFiles,
        source: str,
        split: str,
        facts: SplitFacts,
        tokenizer: TokenizerFacts,
    ) -> None:
        self.source, self.split, self.facts = source, split, facts
        self.eos_id = tokenizer.eos_id
        self.dtype = np.dtype(tokenizer.dtype).newbyteorder("<")
        self.files = files
        self.starts = [0, *accumulate(shard.tokens for shard in facts.shards)]
        """Stream position of every shard's first token, and the end."""
        self._maps: dict[int, TokenArray] = {}
        self._paths: dict[int, Path] = {}
        self._looked_at = time.monotonic()

    @property
    def num_tokens(self) -> int:
        """Tokens in the stream, EOS included."""
        return self.starts[-1]

    def num_windows(self, seq_len: int) -> int:
        """Windows of `seq_len` targets that the stream holds."""
        return Layout(self.num_tokens, seq_len).windows

    def tokens(self, start: int, stop: int) -> TokenArray:
        """Tokens [start, stop) of the stream: [stop - start]."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise DatasetError(
                f"{self.source}/{self.split}: tokens [{start}, {stop}) asked of {self.num_tokens}"
            )
        out = np.empty(stop - start, dtype=self.dtype)
        self._copy(start, out)
        return out

    def windows(self, ids: npt.NDArray[np.int64], seq_len: int, rows: bool = False) -> TokenArray:
        """Tokens of windows: [len(ids), seq_len + 1]; row k is inputs and the last target.

        Args:
            ids: window numbers, int64.
            seq_len: targets of a window.
            rows: whether they are rows (see `shards.layout`), which wrap at the stream's end.
        """
        out = np.empty((len(ids), seq_len + 1), dtype=self.dtype)
        self.fill(out, ids, seq_len, rows)
        return out

    def fill(
        self, out: Iterable[TokenArray], ids: npt.NDArray[np.int64], seq_len: int, rows: bool
    ) -> None:
        """Like `windows`, into given arrays of seq_len + 1 tokens, one a window."""
        layout = Layout(self.num_tokens, seq_len, rows)
        if len(ids) and not (int(ids.min()) >= 0 and (rows or int(ids.max()) < layout.windows)):
            raise DatasetError(
                f"{self.source}/{self.split}: window ids {ids.min()}..{ids.max()} asked of "
                f"{layout.windows} windows of {seq_len}"
            )
        starts = (ids * layout.stride % max(self.num_tokens, 1)).tolist()
        if self.files.bounded:
            self._fill_bounded(starts, list(out))
            return
        for start, row in zip(starts, out, strict=True):
            shard = bisect.bisect_right(self.starts, start) - 1
            tokens = self._maps.get(shard)
            first = start - self.starts[shard]
            if tokens is None or len(piece := tokens[first : first + seq_len + 1]) <= seq_len:
                self._copy(start, row)
            else:  # nearly always: the whole window lies in a shard that was opened before
                row[:] = piece

    def _fill_bounded(self, starts: Sequence[int], out: Sequence[TokenArray]) -> None:
        """Fill rows from shards that are here and, together, from blocks of those that are not."""
        parts = [
            (part, row[done : done + part.stop - part.start])
            for start, row in zip(starts, out, strict=True)
            for done, part in self._parts(start, len(row))
        ]
        maps = {shard: self._opened(shard) for shard in {part.shard for part, _ in parts}}
        for part, target in parts:
            if (tokens := maps[part.shard]) is not None:
                target[:] = tokens[part.start : part.stop]
        absent = [(part, target) for part, target in parts if maps[part.shard] is None]
        size, shards = self.dtype.itemsize, self.facts.shards
        ranges = [Range(shards[p.shard].path, p.start * size, p.stop * size) for p, _ in absent]
        contents = self.files.ranges(ranges) if ranges else []
        for (_, target), content in zip(absent, contents, strict=True):
            target[:] = np.frombuffer(content, self.dtype)
        self._say_read([shard for shard, tokens in maps.items() if tokens is not None])

    def _parts(self, start: int, count: int) -> Iterator[tuple[int, "_Part"]]:
        """The parts of shards that hold `count` tokens from `start` on, and how many come before.

        After the stream's end its beginning comes again.
        """
        shard = bisect.bisect_right(self.starts, start) - 1
        offset, done = start - self.starts[shard], 0
        while done < count:
            stop = min(offset + count - done, self.facts.shards[shard].tokens)
            yield done, _Part(shard, offset, stop)
            done += stop - offset
            shard, offset = (shard + 1) % len(self.facts.shards), 0

    def _opened(self, number: int) -> TokenArray | None:
        """A shard's tokens where there is room for the file, or None."""
        if number in self._maps and self._paths[number].exists():
            return self._maps[number]
        self._maps.pop(number, None)  # it gave way: our map would keep its bytes on the disk
        path = self.files.stored(self.facts.shards[number].path)
        return None if path is None else self.shard_tokens(number)

    def _say_read(self, shards: Sequence[int]) -> None:
        """Now and then, tell `shards.room` what is read, and let go of what gave way."""
        if time.monotonic() - self._looked_at < _SAY_S:
            return
        self._looked_at = time.monotonic()
        for shard in shards:
            with suppress(FileNotFoundError):
                os.utime(self._paths[shard])
        for shard in [shard for shard in self._maps if not self._paths[shard].exists()]:
            self._maps.pop(shard, None)

    @property
    def has_masked(self) -> bool:
        """Whether some tokens give no loss."""
        return any(shard.masked for shard in self.facts.shards)

    @cached_property
    def masked(self) -> Spans:
        """Spans of tokens of the stream that give no loss, in order: [n, 2]."""
        spans = [np.empty((0, 2), np.int64)]
        for start, shard in zip(self.starts, self.facts.shards, strict=False):
            if shard.masked:
                spans.append(read_spans(self.files.checked(shard.masked.path)) + start)
        return np.concatenate(spans)

    def masked_within(self, start: int, stop: int) -> Spans:
        """Of `masked`, the spans with tokens in [start, stop)."""
        first = np.searchsorted(self.masked[:, 1], start, side="right")
        last = np.searchsorted(self.masked[:, 0], stop, side="left")
        return self.masked[first:last]

    def counted(
        self, ids: npt.NDArray[np.int64], seq_len: int, rows: bool = False
    ) -> npt.NDArray[np.bool_]:
        """Which targets of windows count in the loss: [len(ids), seq_len]; see `windows`."""
        return counted_targets(self.masked, ids, Layout(self.num_tokens, seq_len, rows))

    def documents(self) -> "pl.DataFrame":
        """The document index of the stream.

        Columns of `shards.index.SCHEMA`, with `token_start` counted in the stream, and `shard`,
        the number of the shard.
        """
        import polars as pl  # here, since only whole indexes need it, and loading it takes 0.1 s

        if not self.facts.shards:
            raise DatasetError(f"{self.source}/{self.split}: the split is empty")
        return pl.concat(
            pl.read_parquet(self.files.checked(shard.index_path)).with_columns(
                token_start=pl.col("token_start") + self.starts[number],
                shard=pl.lit(number, dtype=pl.Int32),
            )
            for number, shard in enumerate(self.facts.shards)
        )

    def _copy(self, start: int, out: TokenArray) -> None:
        """Fill `out` with the tokens from `start` on, across shards and over the stream's end."""
        shard = bisect.bisect_right(self.starts, start) - 1
        offset, done = start - self.starts[shard], 0
        while done < len(out):
            piece = self.shard_tokens(shard)[offset : offset + len(out) - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
            shard, offset = (shard + 1) % len(self.facts.shards), 0

    def shard_tokens(self, number: int) -> TokenArray:
        """All tokens of a shard, memory-mapped."""
        if number not in self._maps:
            path = self.files.path(self.facts.shards[number].path)
            self._paths[number] = path
            # A plain array over the map: slicing numpy's memmap class costs a microsecond more.
            self._maps[number] = np.asarray(np.memmap(path, dtype=self.dtype, mode="r"))
        return self._maps[number]


class Dataset:
    """A complete dataset, opened for reading."""

    def __init__(self, address: str, manifest: Manifest, files: DatasetFiles) -> None:
        self.address, self.manifest, self.files = address, manifest, files

    @classmethod
    def open(cls, address: str | Path, *, check: bool = False) -> "Dataset":
        """Open a dataset; the manifest is checked against its id.

        Args:
            address: a directory, or an address that fsspec knows (`s3://bucket/dataset`), whose
                files are copied to the cache when they are needed (see `shards.remote`).
            check: verify the checksum of every file when it is first read.

        Raises:
            DatasetError: no whole dataset there.
        """
        if is_remote(address):
            remote = RemoteDataset(str(address))
            files = DatasetFiles(remote.directory, remote.manifest, remote, check)
            return cls(remote.address, remote.manifest, files)
        manifest = load_manifest(Path(address))
        return cls(str(address), manifest, DatasetFiles(Path(address), manifest, None, check))

    @property
    def path(self) -> Path:
        """The directory; of a remote dataset the local copy, which may lack files."""
        return self.files.directory

    def stream(self, source: str, split: str = "train") -> TokenStream:
        """One split of one source.

        Raises:
            DatasetError: the dataset has no such source or split.
        """
        splits = self._known(self.manifest.sources, source, "source").splits
        facts = self._known(splits, split, f"split of {source}")
        return TokenStream(self.files, source, split, facts, self.manifest.tokenizer)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        name = self.manifest.tokenizer.file
        return load_tokenizer(self.files.checked(name))

    def tokenizer(self) -> Tokenizer:
        """The exact tokenizer, its checksum verified."""
        return self._tokenizer

    def _known(self, mapping: dict[str, T], key: str, what: str) -> T:
        if key not in mapping:
            names = ", ".join(sorted(mapping)) or "none"
            raise DatasetError(f"{self.address}: no {what} '{key}'; there are: {names}")
        return mapping[key]
