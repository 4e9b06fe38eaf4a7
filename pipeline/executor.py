"""Running a datatrove pipeline: what all executors share, and the one for local processes.

datatrove's `LocalPipelineExecutor` starts a pool and a manager process for every run, and after a
`kill -9` the manager and the workers stay behind, still writing. Here one pool serves all stages
of a build, workers end with their parent, and the log goes to the task's file only. Completion
markers, statistics and logs are datatrove's.
"""

import contextlib
import io
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from loguru._better_exceptions import ExceptionFormatter

from pipeline.cores import PRELOAD, load_registries
from pipeline.errors import BuildError
from pipeline.task_costs import measuring
from pipeline.task_report import failures, reporting

# datatrove gives loguru three handlers a task, and loguru asks for the installation's folders with
# each, 4 ms of processor time. They are the same all along.
_lib_dirs = staticmethod(cache(ExceptionFormatter._get_lib_dirs))
ExceptionFormatter._get_lib_dirs = _lib_dirs  # type: ignore[method-assign]


class Runner(Protocol):
    """Runs the tasks of stages somewhere."""

    def run(self, steps: list[PipelineStep], tasks: int, logs: Path) -> None:
        """Run the tasks that are not completed yet; returns when all are.

        Args:
            steps: the stage's pipeline.
            tasks: how many tasks; decided by the input, never by the number of workers.
            logs: folder for completion markers, statistics and logs; every worker must see it.

        Raises:
            BuildError: a task failed, and why.
        """


class Reporting:
    """Mixed into datatrove's executors: their tasks report to the build."""

    logging_dir: Any

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logs = Path(self.logging_dir.path)
        with reporting(logs, rank), measuring(logs, rank):
            return super()._run_for_rank(rank, local_rank, node_rank)  # type: ignore[misc]


@contextlib.contextmanager
def quiet_datatrove() -> Iterator[None]:
    """Keep what datatrove's executors log of their own work from the terminal."""
    logger.disable("datatrove")
    try:
        yield
    finally:
        logger.enable("datatrove")


def refuse_incomplete(logs: Path, ranks: list[int], more: str) -> None:
    """Say what became of tasks that ran elsewhere and did not complete.

    Args:
        logs: the stage's folder of markers.
        ranks: the tasks; with none, nothing is refused.
        more: where to look where a task said nothing itself.

    Raises:
        BuildError: of the first task that told why it failed, or that none did.
    """
    if not ranks:
        return
    said = failures(logs, ranks)
    if not said:
        raise BuildError(f"{len(ranks)} tasks ended without a word, task {ranks[0]} first; {more}")
    rank, failure = next(iter(said.items()))
    if failure.is_user_error:
        raise BuildError(failure.message)
    log = logs / "logs" / f"task_{rank:05d}.log"
    raise BuildError(f"task {rank} failed with {failure.message}; its log is {log}")


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes for the tasks of all stages; None where one worker means this process."""
    if workers == 1:
        yield None
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    try:
        yield pool
    finally:  # idle workers are not left to take themselves apart
        processes = list((pool._processes or {}).values())  # shutdown forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _end_with_parent() -> None:
    """Have this worker end when the process that started the build ends, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)  # files appear whole or not at all, so stopping anywhere is safe

    threading.Thread(target=watch, daemon=True).start()


class LocalRunner:
    """Runs tasks on the processes of a pool, or in this process.

    Args:
        pool: see `worker_pool`.
    """

    def __init__(self, pool: ProcessPoolExecutor | None) -> None:
        self._pool = pool

    def run(self, steps: list[PipelineStep], tasks: int, logs: Path) -> None:
        """Run the tasks that are not completed yet.

        Raises:
            BuildError: a task failed, or a worker process was killed.
        """
        executor = _LocalTasks(steps, tasks=tasks, logging_dir=str(logs))
        ranks = executor.get_incomplete_ranks()
        whole = pickle.dumps(executor)  # once; every task gets a copy, since steps hold statistics
        if self._pool is None or tasks == 1:
            for rank in ranks:
                _run_task(whole, rank)
            return
        futures = [self._pool.submit(_run_task, whole, rank) for rank in ranks]
        load_registries()  # for the single tasks, which run here, while the workers are busy
        try:
            for future in as_completed(futures):
                future.result()
        except BrokenProcessPool:
            raise BuildError(
                "a worker process was killed from outside, most often for want of memory; "
                "run again with fewer --workers: finished tasks are not repeated"
            ) from None


class _LocalTasks(Reporting, LocalPipelineExecutor):
    """The tasks of one stage; `run` of its base is not used."""


def _run_task(whole: bytes, rank: int) -> None:
    executor: _LocalTasks = pickle.loads(whole)
    # datatrove logs to whatever sys.stderr is; errors reach the user as exceptions.
    with contextlib.redirect_stderr(io.StringIO()):
        executor._run_for_rank(rank, local_rank=1)
