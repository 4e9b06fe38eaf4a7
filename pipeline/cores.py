"""A build uses as many processor cores as it has workers.

polars, pyarrow and the tokenizers' rayon each keep a pool with one thread for every core. In two
workers on two cores that is a dozen threads that wait for one another. So the pools of a worker
get one thread, and those of the process that started it, which does the single tasks while its
workers wait, one for every worker. The libraries read this when they are first used: `prepare` has
to come before they are imported.
"""

import gc
import os
import signal
from multiprocessing import forkserver, resource_tracker, set_forkserver_preload

PRELOAD = ["pipeline.warm"]
"""What the process that workers are forked from imports."""
POOLS = (
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "OMP_NUM_THREADS",  # pyarrow's too
    "NUMBA_NUM_THREADS",
)
"""Environment variables with the size of each pool."""


def prepare(workers: int) -> None:
    """Size the pools, and start the process that workers are forked from.

    That process imports what workers need while this one imports the same. A size that the user
    has set in the environment stays.
    """
    free = [name for name in POOLS if name not in os.environ]
    if workers > 1:
        os.environ |= dict.fromkeys(free, "1")
        set_forkserver_preload(PRELOAD)
        resource_tracker.ensure_running()  # by itself it would lift the block below
        # Ctrl-C reaches all processes of a terminal; this one ends its workers itself.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.environ |= dict.fromkeys(free, str(workers))


def settle() -> None:
    """Have the garbage collector never look again at what is there: modules, which stay.

    Otherwise it does so now and then, in forked workers with a copy of every page, and at the end
    of the process, which took half a second.
    """
    gc.freeze()
    gc.enable()


def load_registries() -> None:
    """Load numba's knowledge of types and functions, as its first compiled function would."""
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
