"""Datasets in remote storage, through a local copy: files come on first use, checked on arrival.

    TALLY_CACHE/datasets/<dataset_id>/       the files needed so far
    TALLY_CACHE/datasets/<dataset_id>.lock   held by every process that reads them

Any address that fsspec knows will do (`s3://bucket/datasets/name`); credentials and endpoint come
from the usual environment variables. Processes on one machine share the copy: one fetches a file,
the others wait for it; a fetch that was cut short goes on where it stopped. TALLY_CACHE_LIMIT_GB
bounds all copies together: what nobody reads gives way (`shards.room`), and a training run reads
what has no room by verified blocks (`shards.blocks`).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from shards.address_check import refuse_secrets
from shards.atomic import atomic_write, sync
from shards.blocks import Blocks
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.lock import no_locks
from shards.manifest import MANIFEST_NAME, FileFacts, Manifest, parse_manifest
from shards.room import (
    BLOCKS_SUFFIX,
    LIMIT_VARIABLE,
    datasets_directory,
    lock_file,
    make_room,
    used_bytes,
)

_BLOCK_BYTES, _BLOCKS_AT_ONCE = 8 << 20, 8
_IDLE_S = 60.0
"""A file that was not read for so long gives way to one that training reads."""
_JUST_NOW_S = 2.0
"""Longest between asking for a file and having it open."""
_LOOK_AGAIN_S = 30.0


def is_remote(address: str | Path) -> bool:
    """Whether an address names remote storage rather than a directory."""
    return isinstance(address, str) and "://" in address


def absolute(address: str) -> str:
    """The address, good in any working directory."""
    return address if is_remote(address) else str(Path(address).resolve())


class RemoteDataset:
    """A remote dataset and its local copy, which stays while this object lives."""

    def __init__(self, address: str) -> None:
        """Read the manifest and make ready to fetch.

        Raises:
            DatasetError: the storage cannot be used, or has no whole dataset there.
        """
        from fsspec.core import url_to_fs  # here: local datasets need not wait for it

        refuse_secrets(address)
        self.address = address.rstrip("/")
        with storage_explained(self.address):
            self._files, self._root = url_to_fs(self.address)
            self._files.invalidate_cache()
            raw = self._files.cat_file(f"{self._root}/{MANIFEST_NAME}")
        self.manifest: Manifest = parse_manifest(raw, f"{self.address}/{MANIFEST_NAME}")
        self.directory = datasets_directory() / self.manifest.dataset_id
        self.blocks = Blocks(
            self.directory.with_name(f"{self.directory.name}{BLOCKS_SUFFIX}"),
            partial(_place, self._files, self._root, self.address),  # no cycle: locks go at once
            self.address,
        )
        self._full_since = -_LOOK_AGAIN_S
        self._lock = _shared_lock(self.directory)
        if not (self.directory / MANIFEST_NAME).is_file():
            with atomic_write(self.directory / MANIFEST_NAME) as file:
                file.write(raw)

    def fetch_if_room(self, name: str, facts: FileFacts) -> Path | None:
        """The local copy of a file; None where it is not here and would displace what is read.

        Raises:
            DatasetError: as `fetch`.
        """
        if (self.directory / name).is_file():
            return self.directory / name
        if time.monotonic() - self._full_since < _LOOK_AGAIN_S:
            return None
        if not make_room(facts.bytes or 0, self.directory, _IDLE_S, time.time()):
            self._full_since = time.monotonic()
            return None
        return self.fetch(name, facts)

    def fetch(self, name: str, facts: FileFacts) -> Path:
        """The local copy of a file; where the cache is full, what was not read just now gives way.

        Raises:
            DatasetError: it cannot be read, or is not what the manifest says; or there is no room.
        """
        target = self.directory / name
        if target.is_file():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        with part.open("ab") as file:
            _lock(part, file, fcntl.LOCK_EX)  # another process may be fetching it
            if target.is_file():
                part.unlink(missing_ok=True)
                return target
            file.seek(0, os.SEEK_END)
            with storage_explained(f"{self.address}/{name}"):
                self._download(f"{self._root}/{name}", facts, file)
            self._check(name, part, facts, file)
            part.replace(target)
        sync(target.parent)
        return target

    def names(self) -> set[str]:
        """All files under the address, by their names in the dataset."""
        with storage_explained(self.address):
            found = self._files.find(self._root)
        return {path.removeprefix(f"{self._root}/") for path in found}

    def _download(self, path: str, facts: FileFacts, file: IO[bytes]) -> None:
        """Append what is missing, several blocks at once."""
        size = self._files.size(path)
        if facts.bytes not in (None, size):
            raise DatasetError(
                f"{self._files.unstrip_protocol(path)}: {size} bytes, the manifest says "
                f"{facts.bytes}; restore the file there"
            )
        if file.tell() > size:
            file.truncate(0)
        self._wait_for_room(size - file.tell())
        while (done := file.tell()) < size:
            stop = min(done + _BLOCKS_AT_ONCE * _BLOCK_BYTES, size)
            starts = list(range(done, stop, _BLOCK_BYTES))
            stops = [*starts[1:], stop]
            paths = [path] * len(starts)
            for block in self._files.cat_ranges(paths, starts, stops, on_error="raise"):
                file.write(block)
        file.flush()
        os.fsync(file.fileno())

    def _wait_for_room(self, needed: int) -> None:
        """Have files give way that were read longer ago than opening one takes.

        Raises:
            DatasetError: there would be no room if all had gone.
        """
        until = time.monotonic() + 2 * _JUST_NOW_S
        while not make_room(needed, self.directory, _JUST_NOW_S, time.time()):
            if time.monotonic() > until:
                raise DatasetError(
                    f"{datasets_directory()}: no room for {needed / 1e9:.1f} GB more: "
                    f"{LIMIT_VARIABLE} is {os.environ[LIMIT_VARIABLE]} and "
                    f"{used_bytes() / 1e9:.1f} GB are in use; raise the limit"
                )
            time.sleep(_JUST_NOW_S / 10)

    def _check(self, name: str, part: Path, facts: FileFacts, file: IO[bytes]) -> None:
        if blake3_file(part) != facts.blake3:
            file.truncate(0)
            raise DatasetError(
                f"{self.address}/{name}: checksum differs from the manifest's; if it does so again "
                "on a second run, the file there is damaged: restore it"
            )


@contextmanager
def storage_explained(
    address: str,
    error: type[Exception] = DatasetError,
    missing: str = "give the address of a dataset that was uploaded whole",
) -> Iterator[None]:
    """Turn what remote storage raises, each its own errors, into one with a way out.

    Args:
        address: what is read or written.
        error: the error to raise; those of its kind pass as they are.
        missing: the way out where nothing is there.
    """
    try:
        yield
    except (error, MemoryError):
        raise
    except FileNotFoundError:
        raise error(f"{address}: not there; {missing}") from None
    except ImportError as lacking:
        raise error(f"{address}: {lacking}; for S3: pip install 'tallylm[s3]'") from None
    except Exception as other:
        said = f"{type(other).__name__}: {other}"
        raise error(
            f"{address}: the storage cannot be used ({said}); check address, endpoint, credentials"
        ) from None


@contextmanager
def _place(files: Any, root: str, address: str, name: str) -> Iterator[tuple[Any, str]]:
    with storage_explained(f"{address}/{name}"):
        yield files, f"{root}/{name}"


def _shared_lock(directory: Path) -> IO[bytes]:
    """Keep a copy from being removed; the system drops the lock with the process."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_file(directory).open("ab")
    _lock(lock_file(directory), lock, fcntl.LOCK_SH)
    os.utime(lock.fileno())  # last used
    return lock


def _lock(path: Path, file: IO[bytes], kind: int) -> None:
    try:
        fcntl.flock(file, kind)
    except OSError as error:
        raise DatasetError(no_locks(path, error)) from None
