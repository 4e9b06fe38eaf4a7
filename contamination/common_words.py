"""The most common English words, in order: the audit's prior on how surprising a word is.

The surprisal of a word comes from counts in the audited text itself. A small text has too few, and
would make "the" look as rare as "photosynthesis"; so the counts start from Zipf's law over this
list, with the weight of `PRIOR_WORDS` words. In a corpus of millions of words it no longer matters.
"""

import numpy as np
from numpy.typing import NDArray

from contamination.words import hash_words_of_texts

PRIOR_WORDS = 50_000
"""Weight of the prior, in words of text."""
_SHARE = 0.6
"""Share of running text that these words make up."""

_IN_ORDER = """
the of and to in is that for it as was with be by on not he his but at are this have from which or
had one all her were their has an they you been if more will would who no there what when so its
about out than them some can only into other she my new time could these may then do first any
like over such our man me even most made after also did many before must through years where much
your way well down should because each just those people how too little state good very make world
still own see men work long get here between both life being under never day same another know
while last might us great old year off come since against go came right used take three states
himself few house use during without again place around however home small found thought went say
part once high general upon school every dont does got united left number course war until always
away something fact water though less public put think almost hand enough far took head yet
government system set better told nothing night end why called didnt eyes find going look asked
later knew
"""
COMMON_WORDS = _IN_ORDER.split()


def prior_counts(vocabulary: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Prior count of each word of a sorted vocabulary: float64 [len(vocabulary)]."""
    words = hash_words_of_texts([" ".join(COMMON_WORDS)]).hash
    weights = 1.0 / (np.arange(len(words)) + 2.7)
    weights *= PRIOR_WORDS * _SHARE / weights.sum()
    counts = np.zeros(len(vocabulary))
    at = np.searchsorted(vocabulary, words)
    known = (at < len(vocabulary)) & (vocabulary[np.minimum(at, len(vocabulary) - 1)] == words)
    counts[at[known]] = weights[known]
    return counts
