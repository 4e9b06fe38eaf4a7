"""Running a datatrove pipeline on local processes: the same tasks, another pool.

datatrove's `LocalPipelineExecutor` starts a pool and a manager process for every run, and after a
`kill -9` the manager and the workers stay behind, still writing. Here one pool serves all stages
of a build, workers end with their parent, tasks report as they finish, and the log goes to the
task's file only. Completion markers, statistics and logs are datatrove's.
"""

import contextlib
import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from multiprocessing.connection import wait
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from pipeline.errors import BuildError

_PRELOAD = ["pipeline.build"]


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes for the tasks of all stages; None where one worker means this process."""
    if workers == 1:
        yield None
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:
        processes = list((pool._processes or {}).values())  # shutdown forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


def _end_with_parent() -> None:
    """Have this worker end when the process that started the build ends, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)  # files appear whole or not at all, so stopping anywhere is safe

    threading.Thread(target=watch, daemon=True).start()


class StageExecutor(LocalPipelineExecutor):
    """Runs the tasks of one stage that are not completed yet.

    Args:
        pipeline: the stage's steps.
        tasks: how many tasks; decided by the input, never by the number of workers.
        logging_dir: folder for completion markers, statistics and logs.
    """

    def __init__(self, pipeline: list[PipelineStep], tasks: int, logging_dir: Path) -> None:
        super().__init__(pipeline, tasks=tasks, logging_dir=str(logging_dir))

    def run_on(self, pool: ProcessPoolExecutor | None, done: Callable[[int], None]) -> None:
        """Run the incomplete tasks; calls `done(rank)` as each one finishes.

        Raises:
            BuildError: a worker process was killed.
        """
        ranks = self.get_incomplete_ranks()
        if pool is None or self.tasks == 1:
            for rank in ranks:
                _run_task(deepcopy(self), rank)  # steps hold statistics
                done(rank)
            return
        futures: dict[Future[None], int] = {
            pool.submit(_run_task, self, rank): rank for rank in ranks
        }
        try:
            for future in as_completed(futures):
                future.result()
                done(futures[future])
        except BrokenProcessPool:
            raise BuildError(
                "a worker process was killed from outside, most often for want of memory; "
                "run again with fewer --workers: finished tasks are not repeated"
            ) from None


def _run_task(executor: StageExecutor, rank: int) -> None:
    # datatrove logs to whatever sys.stderr is; errors reach the user as exceptions.
    with contextlib.redirect_stderr(io.StringIO()):
        executor._run_for_rank(rank, local_rank=1)
