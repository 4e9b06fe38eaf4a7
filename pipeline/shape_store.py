"""Shapes of chunks that earlier tasks, other workers and earlier builds have learned.

Asking spaCy's rules about a shape takes 12 microseconds, and a hundred megabytes of mixed text have
some 300,000 of them. So they are kept in TALLY_CACHE, in one file for a version of the rules and of
the code that reduces chunks to shapes. What is in it saves time and decides nothing: a shape's
words depend on the shape alone.
"""

import fcntl
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline import shapes, words
from pipeline.shapes import Known, Shapes, known_shapes
from pipeline.source_code import code_of
from shards.atomic import atomic_write
from shards.cache import cache_directory
from shards.hashing import blake3_json

_MOST = 300_000
"""Shapes in the file; the newest stay. Less than a process remembers, so that it can learn more."""
_SHARE, _LEAST = 0.2, 2_000
"""A task saves what it learned when it is so large a part of the file, and so many shapes."""
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, BadZipFile)


class ShapeStore:
    """The file, as a process sees it.

    Args:
        path: the file.
        shapes: what the process remembers.
    """

    def __init__(self, path: Path, shapes: Shapes) -> None:
        self._path, self._shapes = path, shapes
        self._stamp, self._kept = (0, 0), 0

    def recall(self) -> None:
        """Remember the shapes in the file; without one, or with a damaged one, none."""
        with suppress(*_UNREADABLE), self._path.open("rb") as file:
            facts = os.fstat(file.fileno())
            stamp = (facts.st_ino, facts.st_mtime_ns)
            if stamp == self._stamp and self._shapes.number >= self._kept:
                return
            with np.load(file, allow_pickle=False) as arrays:
                kept = Known(*(arrays[name] for name in Known._fields))
            self._shapes.add(kept.chosen(self._shapes.lacks(kept.keys)))
            self._stamp, self._kept = stamp, len(kept.keys)

    def keep(self) -> None:
        """Write the file with what was learned since, if that is worth it and can be done."""
        if not self._is_worth_it():
            return
        with suppress(OSError):  # a build needs no such file
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # or what others add meanwhile would be lost
                self.recall()
                if self._is_worth_it():
                    self._write()

    def _write(self) -> None:
        known = self._shapes.known()
        newest = np.arange(len(known.keys)) >= len(known.keys) - _MOST
        with atomic_write(self._path) as file:
            np.savez(file, allow_pickle=False, **known.chosen(newest)._asdict())

    def _is_worth_it(self) -> bool:
        return self._shapes.number - self._kept > max(_LEAST, _SHARE * self._kept)


@cache
def shape_store() -> ShapeStore:
    """The file of this version of the rules and the code, and the table of this process."""
    code = code_of([shapes.__name__, words.__name__])
    name = f"shapes-{words.spacy_digest()}-{blake3_json([code, sys.version])[:16]}.npz"
    return ShapeStore(cache_directory() / "words" / name, known_shapes())
