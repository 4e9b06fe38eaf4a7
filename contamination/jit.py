"""Compiled kernels whose disk cache knows all the source they are made of.

numba keys its cache by the file of the function alone. A kernel that calls one of another file
would stay as it was when only that other file changes, and the audit would run with two
normalisations at once. So the cache lies in a directory named after the content of the folder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from blake3 import blake3

from shards.cache import cache_directory


def _sources_digest() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return blake3(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


_DIRECTORY = cache_directory() / "kernels" / _sources_digest()


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function at its first call, without the interpreter lock, cached on disk."""
    default = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_DIRECTORY)
    try:
        return numba.njit(nogil=True, cache=True)(function)
    finally:
        numba.config.CACHE_DIR = default
