"""Compiled kernels whose cache on disk covers all the source they are made of.

numba keys its cache by the file of the function alone. A kernel that calls one of another file
would stay as it was when only that other file changes, and the audit would run with two
normalisations at once. So the cache lies in a directory named after the content of all files with
kernels in the function's folder and in this one.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from blake3 import blake3

from shards.cache import cache_directory


@cache
def _directory(folder: Path) -> Path:
    folders = sorted({folder, Path(__file__).parent})
    contents = (file.read_bytes() for each in folders for file in sorted(each.glob("*.py")))
    with_kernels = (content for content in contents if b"numba" in content or b".jit" in content)
    root = Path(numba.config.CACHE_DIR or cache_directory() / "kernels")  # NUMBA_CACHE_DIR
    return root / blake3(b"".join(with_kernels)).hexdigest()[:16]


def is_compiled(folder: Path) -> bool:
    """Whether any kernel of the folder, as it is now, has run on this machine."""
    return any(_directory(folder).rglob("*.nbi"))  # numba's indexes of what it compiled


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function at its first call, without the interpreter lock, cached on disk."""
    default = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_directory(Path(function.__code__.co_filename).parent))
    try:
        return numba.njit(nogil=True, cache=True)(function)
    finally:
        numba.config.CACHE_DIR = default
