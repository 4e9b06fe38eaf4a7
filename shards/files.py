"""The files of a dataset by name: inside its directory, of the right size, checked if asked for.

Of a dataset in remote storage the directory is a local copy, filled file by file (`shards.remote`).
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from shards.blocks import Range
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.manifest import MANIFEST_NAME, FileFacts, Manifest
from shards.remote import RemoteDataset
from shards.room import limit_bytes


class DatasetFiles:
    """Where the files of one opened dataset are."""

    def __init__(
        self, directory: Path, manifest: Manifest, remote: RemoteDataset | None, check: bool
    ) -> None:
        """Remember where to look.

        Args:
            directory: the dataset, or the local copy of a remote one.
            manifest: of the dataset.
            remote: fetches what is not in the directory yet.
            check: whether a file's checksum is verified when it is first asked for.
        """
        self.directory = directory
        self._facts, self._remote, self._check = manifest.checksums(), remote, check
        self._checked: set[str] = set()
        self._lock = threading.Lock()  # of `_checked`: one thread hashes, the others wait

    def path(self, name: str) -> Path:
        """The local file of that name in the manifest.

        Raises:
            DatasetError: missing, of another size, a link that leads out of the dataset, or, where
                checksums are to be verified, of other content.
        """
        path = self._present(name)
        if self._check:
            self.check(name)
        return path

    def checked(self, name: str) -> Path:
        """The local file of that name, its checksum verified whatever was asked for at opening."""
        self.check(name)
        return self.path(name)

    def check(self, name: str) -> None:
        """Verify a file's checksum, once.

        Raises:
            DatasetError: it is not the file the manifest names.
        """
        with self._lock:
            if name in self._checked:
                return
            path = self._present(name)
            if blake3_file(path) != self._facts[name].blake3:
                raise DatasetError(
                    f"{path}: checksum differs from the manifest's; the file was changed or is "
                    "damaged. Restore it or rebuild the dataset"
                    + (" (delete this copy to fetch it again)" if self._remote else "")
                )
            self._checked.add(name)

    def stored(self, name: str) -> Path | None:
        """The local file of that name; None where it is remote and has no room here.

        Raises:
            DatasetError: as `path`.
        """
        if self._remote and self._remote.fetch_if_room(name, self._facts[name]) is None:
            return None
        return self.path(name)

    def ranges(self, wanted: Sequence[Range]) -> list[bytes]:
        """Verified bytes of files that `stored` has not.

        Raises:
            DatasetError: they cannot be read, or are not what the manifest says.
        """
        assert self._remote is not None
        return self._remote.blocks.read(wanted, self._facts)

    def prove(self, name: str) -> None:
        """Verify a file's checksum, once, wherever it is.

        Raises:
            DatasetError: it is not the file the manifest names.
        """
        if self.stored(name) is None and self._remote:
            self._remote.blocks.prove(name, self._facts[name])
        else:
            self.check(name)

    @property
    def bounded(self) -> bool:
        """Whether files can give way to others."""
        return self._remote is not None and limit_bytes() is not None

    def fetch_all(self, advance: Callable[[float], None]) -> None:
        """Complete the local copy of a remote dataset; a local one is complete.

        Args:
            advance: called with the bytes of every file of stated size once it is there.

        Raises:
            DatasetError: a file cannot be had, or there are files that the manifest does not list.
        """
        if self._remote is None:
            return
        strays = self._remote.names() - {MANIFEST_NAME, *self._facts}
        if strays:
            shown = ", ".join(sorted(strays)[:5])
            raise DatasetError(
                f"{self._remote.address}: {len(strays)} file(s) not in the manifest: {shown}"
            )
        for name, facts in self._facts.items():
            self._present(name)
            advance(facts.bytes or 0)

    def _present(self, name: str) -> Path:
        facts = self._facts[name]
        path = self._fetched(name, facts)
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise DatasetError(f"{path}: leads out of the dataset directory; refused")
        if not path.is_file():
            raise DatasetError(f"{path}: missing; rebuild the dataset or restore the file")
        size = path.stat().st_size
        if facts.bytes not in (None, size):
            raise DatasetError(
                f"{path}: {size} bytes, the manifest says {facts.bytes} bytes; "
                "run `tally verify`, then rebuild or restore the file"
            )
        return path

    def _fetched(self, name: str, facts: FileFacts) -> Path:
        if self._remote is None:
            return self.directory / name
        return self._remote.fetch(name, facts)
