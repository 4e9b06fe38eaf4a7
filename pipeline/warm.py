"""What the process that workers are forked from loads, so that no worker loads it again.

Imported by that process alone. Beside the modules it is numba's knowledge of types and functions,
half a second that the first compiled function of every worker would take.
"""

import gc

gc.disable()  # imports make hardly any garbage: a fifth of their time went into looking for it

import pipeline.build  # noqa: E402, F401
from pipeline.cores import load_registries, settle  # noqa: E402

load_registries()
settle()
