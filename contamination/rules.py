"""Clusters -> findings: which clusters are called, and as what.

Classes, first that fits:

* ``qa``: the question (four fifths of its bits) with the answer in it or within 50 words of it;
* ``question``: the question;
* ``answer``: the answer (four fifths of its bits) without the question;
* ``near``: an edited copy: enough of question and answer, most of it or in several pieces;
* ``partial``: one unbroken part of the item: a half of it, or a name or quotation in it;
* ``source``: text that item and document both come from: the passage, even where the question is
  a sentence of it, or a run outside the question.

The first four count as dirty. `partial` and `source` are shown, not counted.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from configs.audit import AuditRules
from contamination.clusters import Worth
from contamination.index import RUN_WORDS

Class = Literal["qa", "question", "answer", "near", "partial", "source"]
CLASSES: tuple[Class, ...] = get_args(Class)
DIRTY: frozenset[str] = frozenset({"qa", "question", "answer", "near"})

_NUM_DIRTY = len(DIRTY)
assert set(CLASSES[:_NUM_DIRTY]) == DIRTY

_WHOLE = 0.8
"""Covered share of a field that counts as all of it."""
_MOST = 0.65
"""Covered share above which even one unbroken part is a copy."""
_PART = 1 / 3
_PASSAGE_RUN = 13
_TINY = 1e-6


def are_dirty(classes: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which of the numbers that `classify` gives stand for contamination."""
    dirty: NDArray[np.bool_] = (classes >= 0) & (classes < _NUM_DIRTY)
    return dirty


def needed_coverage(bits: NDArray[np.float32], rules: AuditRules) -> NDArray[np.float32]:
    """Share of an item of so many bits that must be covered: falls as the item grows."""
    slope = (bits - rules.short_bits) / (rules.long_bits - rules.short_bits)
    needed = 1.0 - slope * (1.0 - rules.long_coverage)
    # Float sums of the same words may differ in the last digit: "all" means all but that.
    clipped: NDArray[np.float32] = np.clip(needed, rules.long_coverage, rules.short_coverage)
    return clipped - np.float32(1e-4)


def unauditable(field_bits: NDArray[np.float32], rules: AuditRules) -> NDArray[np.bool_]:
    """Items that could not be called even if a document held all of question and answer."""
    result: NDArray[np.bool_] = field_bits[:, 1] + field_bits[:, 2] < rules.min_bits
    return result


def classify(clusters: NDArray[np.void], worth: Worth, rules: AuditRules) -> NDArray[np.int8]:
    """Number in `CLASSES` of every cluster, or -1 where it is not called: int8 [num_clusters].

    ``question`` stands for ``qa`` too where the answer is too short for the scan (fewer than five
    words); `contamination.evidence` looks for it in the text.
    """
    passage, question, answer = worth.totals[clusters["item"]].T
    covered = clusters["question_bits"] + clusters["answer_bits"]
    of_question = clusters["question_bits"] / np.maximum(question, _TINY)
    of_answer = clusters["answer_bits"] / np.maximum(answer, _TINY)
    of_both = covered / np.maximum(question + answer, _TINY)
    of_passage = clusters["passage_bits"] / np.maximum(passage, _TINY)

    copied = (of_question >= needed_coverage(question, rules)) | (
        of_both >= needed_coverage(question + answer, rules)
    )
    copied &= covered >= rules.min_bits
    long_run = (covered >= rules.run_bits) & (clusters["run"] >= rules.run_words)
    shared = (clusters["passage_bits"] >= rules.min_bits) & (
        (of_passage >= 0.5) | (clusters["run"] >= _PASSAGE_RUN)
    )
    # The document holds the passage, and of the question no more than the passage has anyway.
    own_share = clusters["question_seeds"] / np.maximum(worth.question_seeds[clusters["item"]], 1)
    explained = (clusters["passage_seeds"] > _PASSAGE_RUN - RUN_WORDS) & (own_share < 0.5)
    shared |= explained & (copied | long_run)
    copied &= ~explained
    long_run &= ~explained
    called = copied | long_run
    # An edited copy is broken by its edits; one unbroken part may be a name or a quotation.
    pieces = 1 + (clusters["end_word"] - clusters["first_word"] > clusters["run"])
    whole = called & (of_question >= _WHOLE)
    conditions = [
        whole & (of_answer >= _WHOLE) & (answer > 0),
        whole,
        called & (of_answer >= _WHOLE) & (of_question < 0.5) & (answer >= rules.min_bits),
        copied & ((np.maximum(of_question, of_both) >= _MOST) | (pieces > 1)),
        copied | (long_run & (of_question >= _PART)),
        long_run | shared,
    ]
    return np.select(conditions, list(range(len(CLASSES))), -1).astype(np.int8)
