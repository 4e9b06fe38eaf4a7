"""Drops what is not in the wanted language; works without a network.

datatrove's language filter downloads its fastText model. py3langid carries one in its wheel (139
languages, 4.6 MB), says the same for prose, and is surer about English full of formulas. Its two
loops over a text are done here in compiled code, which is four times as fast.
"""

from functools import cache

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from numba import njit
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

_LOOKED_AT = 1000


class _Identifier(LanguageIdentifier):
    """py3langid's model, with its score computed in compiled code."""

    def _raw_score(self, text: bytes) -> NDArray[np.float32]:
        if not hasattr(self, "tables"):
            rows = np.asarray(self.tk_row, np.int64)
            moves, features = np.asarray(self.tk_nextmove), np.asarray(self.tk_output)
            weights = (np.asarray(table, np.float32) for table in (self.nb_ptc, self.nb_pc))
            self.tables = (moves, rows << 8, features, *weights)
        scores: NDArray[np.float32] = _score(np.frombuffer(text, np.uint8), *self.tables)
        return scores


@cache
def identifier() -> LanguageIdentifier:
    """The model, read once a process: a second, about 200 MB."""
    return _Identifier.from_model_file(MODEL_FILE, norm_probs=True)


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


@njit(nogil=True, cache=True)
def _score(
    text: NDArray[np.uint8],
    moves: NDArray[np.integer],
    rows: NDArray[np.int64],
    features: NDArray[np.integer],
    weights: NDArray[np.float32],
    prior: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Naive Bayes over the n-grams that an automaton finds; all 0 where it finds none."""
    counts, state = np.zeros(len(weights), np.int32), 0
    found, kinds = np.empty(len(text), np.int64), 0
    for byte in text:
        state = moves[rows[state] + byte]
        feature = features[state]
        if feature >= 0:
            if counts[feature] == 0:
                found[kinds] = feature
                kinds += 1
            counts[feature] += 1
    scores = np.zeros(len(prior), np.float32)
    for feature in found[:kinds]:
        factor = np.float32(np.log1p(counts[feature]))
        for label in range(len(scores)):
            scores[label] += factor * weights[feature, label]
    return scores + prior if kinds else scores
