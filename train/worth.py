"""What repeated tokens are worth."""

import math

_REPEATS_THAT_COUNT = 15.387756


def effective_tokens(unique: int, tokens: int) -> float:
    """Fresh tokens worth as much as reading `unique` ones until `tokens` are read.

    The value of repeats decays exponentially: U + U R* (1 - exp(-R / R*)) with R = tokens / U - 1
    repeats and R* = 15.387756, as fitted by Muennighoff et al., "Scaling Data-Constrained
    Language Models", NeurIPS 2023.
    """
    if not unique:
        return 0.0
    repeats = tokens / unique - 1
    return unique * (1 - _REPEATS_THAT_COUNT * math.expm1(-repeats / _REPEATS_THAT_COUNT))
