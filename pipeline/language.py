"""Drops what is not in the wanted language; works without a network.

datatrove's language filter downloads its fastText model. py3langid carries one in its wheel (139
languages, 4.6 MB), says the same for prose, and is surer about English full of formulas. Its loops
over a text are done here in compiled code, in half the memory.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.core import config as numba_config
from numba.extending import intrinsic
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from contamination.jit import kernel
from pipeline.errors import BuildError

_LOOKED_AT = 1000
LONGEST = 8
"""Bytes after which the automaton's state no longer depends on where it began."""
_LANES, _AHEAD = 8, 4


class _Identifier(LanguageIdentifier):
    """py3langid's model, with its scores computed in compiled code."""

    def prepare(self) -> "_Identifier":
        """Puts the tables into the forms that the compiled code takes."""
        moves, rows = np.array(self.tk_nextmove, np.uint32), np.array(self.tk_row, np.uint32)
        weights = np.asarray(self.nb_ptc, np.float16).view(np.uint16)
        logarithms = np.log1p(np.arange(1 << 16, dtype=np.float32))
        found = np.array(self.tk_output, np.int32)
        counts = np.zeros(len(weights), np.int32)
        self._tables = (moves, rows, found, weights, self.nb_pc, logarithms, counts)
        for name in ("tk_nextmove", "tk_row", "tk_output", "_rowbase"):
            setattr(self, name, ())  # copied, so make room
        return self

    def _raw_score(self, text: bytes) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = _score(np.frombuffer(text, np.uint8), *self._tables)
        return scores


@cache
def identifier() -> LanguageIdentifier:
    """The model, read once a process: half a second, about 100 MB.

    Raises:
        BuildError: the processor cannot run its compiled code.
    """
    require_half_precision(get_host_cpu_features(), numba_config.CPU_FEATURES)
    return _Identifier.from_model_file(MODEL_FILE, norm_probs=True).prepare()


def require_half_precision(features: Mapping[str, bool], chosen: str | None) -> None:
    """Refuse to compile without reading float16: `_widened` would end the process there.

    Args:
        features: of the processor, by LLVM's names; those of ARM have no `f16c` and need none.
        chosen: the ones that numba is told to use instead, `+sse4.2,-f16c`; None for all.

    Raises:
        BuildError: an x86 of before 2012, or the environment has numba make code for one.
    """
    if "f16c" in features and chosen is not None and "+f16c" not in chosen.split(","):
        raise BuildError(
            "language filter: it needs F16C instructions, which NUMBA_CPU_FEATURES, or "
            "NUMBA_CPU_NAME=generic, leaves out; unset these variables, or have "
            "NUMBA_CPU_FEATURES name +f16c"
        )
    if not features.get("f16c", True):
        raise BuildError(
            "language filter: this processor has no F16C instructions; build on a newer one "
            "(Intel since 2012, AMD since 2011), or give the source other `filters`"
        )


class LanguageFilter(BaseFilter):
    """Keeps documents whose beginning is in one language.

    Args:
        language: as in ISO 639-1.
        threshold: least confidence, datatrove's by default.
    """

    name = "language"

    def __init__(self, language: str = "en", threshold: float = 0.65) -> None:
        super().__init__()
        self.language, self.threshold = language, threshold

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep the document, by its first 1,000 characters."""
        language, confidence = identifier().classify(doc.text[:_LOOKED_AT])
        if language != self.language or confidence < self.threshold:
            return False, "language"
        return True


@intrinsic
def _widened(typing: Any, half: Any) -> Any:
    """The float32 of a float16 given as its bits; one instruction for sixteen of them."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fpext(builder.bitcast(values[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _fetch(typing: Any, table: Any, row: Any, column: Any) -> Any:
    """Has the processor load an element of a table that will be needed soon."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        strides = cgutils.unpack_tuple(builder, array.strides)
        offsets = (builder.mul(*pair) for pair in zip(values[1:], strides, strict=True))
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.gep(builder.bitcast(array.data, byte), [builder.add(*offsets)])
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(fetch, [address, *(ir.Constant(word, option) for option in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(table, types.int64, types.int64), generate


@njit(inline="always")
def _walk(
    text: NDArray[np.uint8],
    moves: NDArray[np.uint32],
    rows: NDArray[np.uint32],
    features: NDArray[np.int32],
) -> NDArray[np.int32]:
    """The n-gram that the automaton finds at every byte, or -1.

    Every step waits for memory, so eight parts of the text are walked at once, each from `LONGEST`
    bytes before it.
    """
    found, states = np.empty(len(text), np.int32), np.zeros(_LANES, np.int64)
    size = (len(text) + _LANES - 1) // _LANES
    for step in range(-LONGEST, size):
        for lane in range(_LANES):
            at = lane * size + step
            if 0 <= at < len(text):
                state = np.int64(moves[(np.int64(rows[states[lane]]) << 8) + text[at]])
                states[lane] = state
                if step >= 0:
                    found[at] = features[state]
    return found


@kernel
def _score(
    text: NDArray[np.uint8],
    moves: NDArray[np.uint32],
    rows: NDArray[np.uint32],
    features: NDArray[np.int32],
    weights: NDArray[np.uint16],
    prior: NDArray[np.float32],
    logarithms: NDArray[np.float32],
    counts: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Naive Bayes over the n-grams that an automaton finds; all 0 where it finds none.

    Args:
        text: in UTF-8.
        moves: the automaton: the next state for every row and byte.
        rows: the row of every state.
        features: the n-gram found at a state, or -1.
        weights: for every n-gram and language, the bits of a float16.
        prior: of the languages.
        logarithms: of 1 plus a count.
        counts: zeros, one an n-gram; zeros again afterwards.
    """
    kinds, found = 0, _walk(text, moves, rows, features)
    for feature in found:
        if feature >= 0:
            if counts[feature] == 0:
                found[kinds] = feature
                kinds += 1
            counts[feature] += 1
    scores = np.zeros(len(prior), np.float32)
    for place in range(kinds):
        for label in range(0, len(scores), 32):  # 64 bytes
            _fetch(weights, found[min(place + _AHEAD, kinds - 1)], label)
        feature = found[place]
        factor = logarithms[counts[feature]]
        counts[feature] = 0
        for label in range(len(scores)):
            scores[label] += factor * _widened(weights[feature, label])
    return scores + prior if kinds else scores
