"""How a conversion writes: into a directory that is whole or absent, by hard link where it can.

A directory is made under a hidden name beside its destination and renamed at the end. A killed
conversion leaves the hidden one, which the next start empties; a lock keeps two from sharing it.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from shards.atomic import atomic_write, sync
from shards.errors import DatasetError

_BLOCK_BYTES = 1 << 24
# Another filesystem, one without hard links, a file of somebody else's, too many links.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


@dataclass
class Output:
    """The directory under construction, and an account of how its files came to be."""

    directory: Path
    advance: Callable[[float], None]
    """Called with the bytes of token files done."""
    linked: list[str] = field(default_factory=list)
    """Token files that share their bytes on disk with ours."""
    copied: list[str] = field(default_factory=list)
    """Token files that have bytes of their own."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about the result."""

    def same_bytes(self, source: Path, relative: str) -> None:
        """Make a file with the bytes of `source`: a hard link, or else a copy."""
        target = self.directory / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._say_copied(error)
            self.joined(b"", [source], relative)
            return
        sync(target.parent)
        self.linked.append(relative)
        self.advance(source.stat().st_size)

    def _say_copied(self, error: OSError) -> None:
        note = f"copied what could have been linked: {error.strerror} (errno {error.errno})"
        if note not in self.notes:
            self.notes.append(note)

    def joined(self, header: bytes, sources: Sequence[Path], relative: str) -> None:
        """Make a file of `header` and the bytes of the sources, one after another."""
        with self.file(relative) as file:
            file.write(header)
            for source in sources:
                with source.open("rb") as reading:
                    while block := reading.read(_BLOCK_BYTES):
                        file.write(block)
                        self.advance(len(block))
        self.copied.append(relative)

    def summary(self) -> str:
        """How the token files came to be, for people."""
        linked, copied = len(self.linked), len(self.copied)
        return f"{linked} token file(s) hard-linked, {copied} copied"

    def file(self, relative: str) -> AbstractContextManager[IO[Any]]:
        """Open a new file for bytes: on disk for good when the block ends."""
        return atomic_write(self.directory / relative)


@contextmanager
def new_directory(destination: Path) -> Iterator[Path]:
    """Yield a directory to fill, which becomes `destination` when the block ends without error.

    Raises:
        DatasetError: the destination holds something, or another process is making it.
    """
    _require_vacant(destination)
    partial = destination.with_name(f".{destination.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with _locked(partial):
        _empty(partial)
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial)
            raise
        _require_vacant(destination)
        partial.rename(destination)
        sync(destination.parent)


def _require_vacant(destination: Path) -> None:
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise DatasetError(f"{destination}: exists; remove it or choose another destination")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if not _take(descriptor) or not _is_still(descriptor, directory):
            raise DatasetError(f"{directory}: another conversion is writing it; wait for it")
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(descriptor: int, directory: Path) -> bool:
    """Whether nobody renamed the directory between our opening and our locking it."""
    return directory.exists() and os.path.samestat(os.fstat(descriptor), directory.stat())


def _empty(directory: Path) -> None:
    for child in directory.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
