"""How a conversion writes: into a directory that is whole or absent, by hard link where it can.

A directory is made under a hidden name beside its destination and renamed at the end. A killed
conversion leaves the hidden one, which the next start empties; a lock keeps two from sharing it.
"""

import errno
import filecmp
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from shards.atomic import atomic_write, sync
from shards.errors import DatasetError
from shards.lock import held
from shards.manifest import MANIFEST_NAME

RECORD = "conversion.json"
"""What was converted into what: the last file of a dataset in another format."""
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

    A destination that holds the same files to the byte stays as it is, so that a command that was
    killed at its very end can be given again.

    Raises:
        DatasetError: the destination holds something else, or another process is making it.
    """
    if destination.is_file() or not (_is_vacant(destination) or _is_converted(destination)):
        raise _taken(destination)
    partial = destination.with_name(f".{destination.name}.partial")
    lock = destination.with_name(f".{destination.name}.lock")
    what = f"{destination}: another conversion is writing it"
    with held(lock, what, "wait for it to end, or choose another destination"):
        partial.mkdir(parents=True, exist_ok=True)
        _empty(partial)
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial)
            raise
        _put_in_place(partial, destination)


def _put_in_place(partial: Path, destination: Path) -> None:
    if _is_vacant(destination):
        partial.rename(destination)
        sync(destination.parent)
        return
    same = _same_files(partial, destination)
    shutil.rmtree(partial)
    if not same:
        raise _taken(destination)


def _is_vacant(destination: Path) -> bool:
    return not destination.exists() or not any(destination.iterdir())


def _is_converted(destination: Path) -> bool:
    """Whether a conversion may have made it; what is something else is refused at once."""
    return (destination / RECORD).exists() or (destination / MANIFEST_NAME).exists()


def _same_files(one: Path, other: Path) -> bool:
    """Whether two directories hold the same files; hard links are not read."""
    names = [{path.relative_to(d) for path in d.rglob("*")} for d in (one, other)]
    return names[0] == names[1] and all(
        os.path.samefile(one / name, other / name)
        or filecmp.cmp(one / name, other / name, shallow=False)
        for name in names[0]
        if (one / name).is_file()
    )


def _taken(destination: Path) -> DatasetError:
    return DatasetError(f"{destination}: exists; remove it or choose another destination")


def _empty(directory: Path) -> None:
    for child in directory.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
