"""Drops documents by their address, with datatrove's block lists, in little memory.

datatrove unpacks its lists (4.6 million domains) into a cache and reads them into sets: four
seconds and 800 MB in every process. Here they are 64-bit hashes, sorted, in one file of 40 MB that
all processes of a machine map: a wrong hit has a chance of one in 10^12.
"""

import tarfile
from collections.abc import Iterable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from blake3 import blake3
from datatrove.data import Document
from datatrove.pipeline.filters import URLFilter
from datatrove.pipeline.filters.url_filter import get_list
from datatrove.utils._import_utils import ASSETS_PATH
from numpy.typing import NDArray

from shards.atomic import atomic_write
from shards.cache import cache_directory

_ARCHIVE = "url_filterblacklistsv0_3_0.tar.gz"
_AT_ONCE = 100_000


class AddressFilter(URLFilter):
    """datatrove's `URLFilter`, without a network; documents without an address pass."""

    def __init__(self) -> None:
        from tldextract import TLDExtract  # here: it takes 0.2 s, which other profiles need not

        super().__init__()
        self._is_read = False
        self.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)  # its built-in list

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep the document, or the reason not to."""
        verdict: bool | tuple[bool, str] = not doc.metadata["url"] or super().filter(doc)
        return verdict

    def download_data(self) -> None:
        """Nothing is downloaded: this reads the lists that come with datatrove, once."""
        if self._is_read:
            return
        self.block_listed_domains, self.block_listed_url = _lines_of("domains"), _lines_of("urls")
        words = ("banned_words", "banned_subwords", "soft_banned_words")
        for name in words:
            setattr(self, name, get_list(ASSETS_PATH, f"{name}.txt", set()))
        for number, word in enumerate(sorted(self.banned_subwords)):
            self.banned_subwords_automaton.add_word(word, number)
        self.banned_subwords_automaton.make_automaton()
        self._is_read = True


class HashedLines:
    """A set of lines, of which only sorted hashes are kept.

    Args:
        hashes: sorted, uint64.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = hashes

    def __contains__(self, line: str) -> bool:
        wanted = np.uint64(_hash(line.encode("utf-8", "surrogatepass")))
        at = int(self._hashes.searchsorted(wanted))
        return at < len(self._hashes) and bool(self._hashes[at] == wanted)


def _lines_of(name: str) -> HashedLines:
    """The lines of a list; hashed when first asked for on this machine."""
    path = cache_directory() / "addresses" / f"datatrove-{version('datatrove')}-{name}.npy"
    if not path.exists():
        with tarfile.open(Path(ASSETS_PATH) / _ARCHIVE) as archive:
            member = archive.extractfile(name)
            assert member is not None
            hashes = hashes_of_lines(member)
        with atomic_write(path) as file:
            np.save(file, hashes)
    return HashedLines(np.asarray(np.load(path, mmap_mode="r")))


def hashes_of_lines(lines: Iterable[bytes]) -> NDArray[np.uint64]:
    """Sorted hashes of lines, without comments and the white space around, as datatrove reads."""
    stripped = (line.strip() for line in lines if not line.startswith(b"#"))
    parts = []
    while part := list(islice(stripped, _AT_ONCE)):
        parts.append(np.fromiter(map(_hash, part), np.uint64, len(part)))
    return np.unique(np.concatenate(parts))


def _hash(line: bytes) -> int:
    return int.from_bytes(blake3(line).digest(length=8), "little")
