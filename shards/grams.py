"""Which token sequences stand for a text in the text index: a sample that finds every long passage.

Of every WINDOW consecutive sequences of GRAM tokens the one with the smallest hash is kept, the
rightmost where two are equal (winnowing: Schleimer, Wilkerson and Aiken, 2003). Equal passages
keep equal sequences, whatever stands around them, so any passage of SURE_TOKENS tokens has at
least one that the index holds. About 2 / (WINDOW + 1) of all positions are kept.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

GRAM = 8
WINDOW = 33
SURE_TOKENS = GRAM + WINDOW - 1

_CHUNK = 1 << 16
_FACTORS = tuple(
    np.uint64(factor)
    for factor in (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def gram_hashes(tokens: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """32-bit hash of the GRAM tokens from every position on: [n] -> uint64 [n - GRAM + 1]."""
    hashed = (tokens.astype(np.uint64) + np.uint64(1)) * _FACTORS[0]
    hashed ^= hashed >> _32
    for width, factor in zip((1, 2, 4), _FACTORS[1:], strict=True):  # 2, 4, 8 tokens
        hashed = hashed[:-width] * factor + hashed[width:]
    hashed ^= hashed >> _32
    hashed *= _FACTORS[2]
    return hashed >> _32


def sampled(tokens: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """The sequences that are kept of a stream of tokens.

    Args:
        tokens: [n], fewer than 2**32.

    Returns:
        Their hashes and their positions, uint32, in order of position.
    """
    windows = len(tokens) - SURE_TOKENS + 1
    parts = [np.empty(0, np.uint64)]
    for start in range(0, windows, _CHUNK):
        stop = min(start + _CHUNK, windows)
        parts.append(_smallest(tokens[start : stop + SURE_TOKENS - 1], start))
    kept = np.concatenate(parts)
    kept = kept[np.append(True, kept[1:] != kept[:-1])] if len(kept) else kept
    return (kept >> _32).astype(np.uint32), (~kept & _LOW).astype(np.uint32)


def _smallest(tokens: npt.NDArray[Any], base: int) -> npt.NDArray[np.uint64]:
    """The smallest (hash, -position) of every window, each once: uint64 [n]."""
    hashes = gram_hashes(tokens)
    positions = np.arange(base, base + len(hashes), dtype=np.uint64)
    least = hashes << _32 | (~positions & _LOW)
    span = 1
    while span < WINDOW:
        step = min(span, WINDOW - span)
        least = np.minimum(least[:-step], least[step:])
        span += step
    kept: npt.NDArray[np.uint64] = least[np.append(True, least[1:] != least[:-1])]
    return kept
