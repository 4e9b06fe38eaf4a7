"""Datasets in remote storage, through a local copy: files come on first use, checked on arrival.

    TALLY_CACHE/datasets/<dataset_id>/       the files needed so far
    TALLY_CACHE/datasets/<dataset_id>.lock   held by every process that reads them

Any address that fsspec knows will do (`s3://bucket/datasets/name`); credentials and endpoint come
from the usual environment variables. Processes on one machine share the copy: one fetches a file,
the others wait for it; a fetch that was cut short goes on where it stopped. With
TALLY_CACHE_LIMIT_GB, datasets that nobody reads give way, the longest unused first.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shards.address_check import refuse_secrets
from shards.atomic import atomic_write, sync
from shards.cache import cache_directory
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.lock import no_locks
from shards.manifest import MANIFEST_NAME, FileFacts, Manifest, parse_manifest

_BLOCK_BYTES, _BLOCKS_AT_ONCE = 8 << 20, 8


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
        self.directory = _datasets() / self.manifest.dataset_id
        self._lock = _shared_lock(self.directory)
        if not (self.directory / MANIFEST_NAME).is_file():
            with atomic_write(self.directory / MANIFEST_NAME) as file:
                file.write(raw)

    def fetch(self, name: str, facts: FileFacts) -> Path:
        """The local copy of a file.

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
        _make_room(size - file.tell(), self.directory)
        while (done := file.tell()) < size:
            stop = min(done + _BLOCKS_AT_ONCE * _BLOCK_BYTES, size)
            starts = list(range(done, stop, _BLOCK_BYTES))
            stops = [*starts[1:], stop]
            paths = [path] * len(starts)
            for block in self._files.cat_ranges(paths, starts, stops, on_error="raise"):
                file.write(block)
        file.flush()
        os.fsync(file.fileno())

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


def _datasets() -> Path:
    return cache_directory() / "datasets"


def _lock_file(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.lock")


def _shared_lock(directory: Path) -> IO[bytes]:
    """Keep a copy from being removed; the system drops the lock with the process."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_file(directory).open("ab")
    _lock(_lock_file(directory), lock, fcntl.LOCK_SH)
    os.utime(lock.fileno())  # last used
    return lock


def _lock(path: Path, file: IO[bytes], kind: int) -> None:
    try:
        fcntl.flock(file, kind)
    except OSError as error:
        raise DatasetError(no_locks(path, error)) from None


def _make_room(needed: int, keep: Path) -> None:
    """Remove copies that nobody reads, the longest unused first, until `needed` bytes fit."""
    stated = os.environ.get("TALLY_CACHE_LIMIT_GB")
    if not stated:
        return
    try:
        limit = float(stated) * 1e9
    except ValueError:
        raise DatasetError(f"TALLY_CACHE_LIMIT_GB is '{stated}', not a number of GB") from None
    copies = [path for path in _datasets().iterdir() if path.is_dir()]
    sizes = {path: _bytes_under(path) for path in copies}
    for path in sorted(copies, key=lambda path: _lock_file(path).stat().st_mtime):
        if sum(sizes.values()) + needed <= limit:
            return
        if path != keep and _remove_unread(path):
            del sizes[path]
    if sum(sizes.values()) + needed > limit:
        raise DatasetError(
            f"{_datasets()}: no room for {needed / 1e9:.1f} GB more: TALLY_CACHE_LIMIT_GB is "
            f"{stated} and {sum(sizes.values()) / 1e9:.1f} GB are in use; raise the limit"
        )


def _bytes_under(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _remove_unread(directory: Path) -> bool:
    with _lock_file(directory).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(directory)
        return True
