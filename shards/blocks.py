"""Parts of remote files that have no room here, each verified.

A manifest has one BLAKE3 for a whole file. So a file is streamed through once, proved against the
manifest, and the digests of its blocks are kept: from then on any block can be read by itself and
proved. In a shuffled order every window is as likely as any other to be next, so nothing can be
learned from what was read last: files that fit stay, the others are read by blocks.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from shards.atomic import atomic_write
from shards.errors import DatasetError
from shards.manifest import FileFacts

BLOCK_BYTES = 256 << 10
_DIGEST_BYTES = 32
_MEMORY_BYTES = 64 << 20
_STREAM_BLOCKS = 256


class Range(NamedTuple):
    """Bytes [start, stop) of a file."""

    name: str
    start: int
    stop: int


Storage = Callable[[str], AbstractContextManager[tuple[Any, str]]]
"""By a file's name: the file system and the path in it, errors explained."""


class Blocks:
    """Verified blocks of a remote dataset's files; may be asked from several threads."""

    def __init__(self, folder: Path, storage: Storage, address: str) -> None:
        """Read nothing yet.

        Args:
            folder: for the digests; made when needed.
            storage: where the files are.
            address: of the dataset, for messages.
        """
        self._folder, self._storage, self._address = folder, storage, address
        self._digests: dict[str, bytes] = {}
        self._held: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._proving, self._memory = threading.Lock(), threading.Lock()

    def read(self, ranges: Sequence[Range], facts: dict[str, FileFacts]) -> list[bytes]:
        """The bytes of ranges, those of missing blocks fetched together.

        Raises:
            DatasetError: the storage cannot be used, or a block is not what it was.
        """
        blocks = {(r.name, b) for r in ranges for b in _blocks_of(r)}
        have = self._remembered(blocks)
        for name in sorted({name for name, _ in blocks - have.keys()}):
            wanted = sorted(b for n, b in blocks - have.keys() if n == name)
            have |= self._fetched(name, wanted, facts[name])
        return [_cut(r, [have[r.name, b] for b in _blocks_of(r)]) for r in ranges]

    def prove(self, name: str, facts: FileFacts) -> bytes:
        """The digests of a file's blocks, after proving all of it against the manifest once.

        Raises:
            DatasetError: it is not what the manifest says.
        """
        with self._proving:
            if name not in self._digests:
                path = self._folder / f"{name}.b3"
                if not path.is_file():
                    self._stream_through(name, facts, path)
                self._digests[name] = path.read_bytes()
            return self._digests[name]

    def _stream_through(self, name: str, facts: FileFacts, path: Path) -> None:
        whole, digests = blake3(), []
        for block in self._stream(name, facts):
            whole.update(block)
            digests.append(blake3(block).digest())
        if whole.hexdigest() != facts.blake3:
            raise DatasetError(
                f"{self._address}/{name}: checksum differs from the manifest's; if it does so "
                "again on a second run, the file there is damaged: restore it"
            )
        with atomic_write(path) as file:
            file.write(b"".join(digests))

    def _stream(self, name: str, facts: FileFacts) -> Iterator[bytes]:
        with self._storage(name) as (files, path):
            size = files.size(path)
            if facts.bytes not in (None, size):
                raise DatasetError(
                    f"{self._address}/{name}: {size} bytes, the manifest says {facts.bytes}; "
                    "restore the file there"
                )
            step = BLOCK_BYTES * _STREAM_BLOCKS
            for start in range(0, size, step):
                content = files.cat_file(path, start=start, end=min(start + step, size))
                for at in range(0, len(content), BLOCK_BYTES):
                    yield content[at : at + BLOCK_BYTES]

    def _remembered(self, blocks: set[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
        with self._memory:
            found = {key: self._held[key] for key in blocks if key in self._held}
            for key in found:
                self._held.move_to_end(key)
            return found

    def _fetched(
        self, name: str, wanted: list[int], facts: FileFacts
    ) -> dict[tuple[str, int], bytes]:
        digests = self.prove(name, facts)
        starts = [block * BLOCK_BYTES for block in wanted]
        size = facts.bytes if facts.bytes is not None else max(starts) + BLOCK_BYTES
        stops = [min(start + BLOCK_BYTES, size) for start in starts]
        with self._storage(name) as (files, path):
            contents = files.cat_ranges([path] * len(wanted), starts, stops, on_error="raise")
        for block, content in zip(wanted, contents, strict=True):
            at = block * _DIGEST_BYTES
            if blake3(content).digest() != digests[at : at + _DIGEST_BYTES]:
                raise DatasetError(
                    f"{self._address}/{name}: bytes from {block * BLOCK_BYTES} on are not what "
                    "they were when the file was proved; run again, and if it is said again, "
                    "restore the file there"
                )
        found = {(name, block): c for block, c in zip(wanted, contents, strict=True)}
        with self._memory:
            self._held |= found
            while len(self._held) * BLOCK_BYTES > _MEMORY_BYTES:
                self._held.popitem(last=False)
        return found


def _blocks_of(wanted: Range) -> range:
    return range(wanted.start // BLOCK_BYTES, (max(wanted.stop, 1) - 1) // BLOCK_BYTES + 1)


def _cut(wanted: Range, blocks: list[bytes]) -> bytes:
    first = wanted.start // BLOCK_BYTES * BLOCK_BYTES
    return b"".join(blocks)[wanted.start - first : wanted.stop - first]
