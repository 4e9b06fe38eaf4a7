"""Stages on a Ray cluster, through datatrove's `RayPipelineExecutor`."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.executor import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from configs.executor import RayConfig
from pipeline.cores import POOLS
from pipeline.errors import BuildError
from pipeline.executor import Reporting, quiet_datatrove, refuse_incomplete


@contextlib.contextmanager
def ray_runner(config: RayConfig, workers: int) -> Iterator["RayRunner"]:
    """Connect to the cluster, or start one on this machine where none is named.

    Where this process is connected already, that connection is used and left as it is.

    Args:
        config: which cluster, and what a task needs of it.
        workers: most tasks at a time; -1 leaves it to the cluster.

    Raises:
        BuildError: ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise BuildError("executor 'ray' needs Ray: pip install 'tallylm[ray]'") from None
    if ray.is_initialized():
        yield RayRunner(config, workers)
        return
    try:
        ray.init(
            config.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": dict.fromkeys(POOLS, str(config.cpus_per_task))},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = config.address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise BuildError(
            f"Ray at {where} cannot be used ({error}); set executor.ray.address to a cluster"
        ) from None
    try:
        yield RayRunner(config, workers)
    finally:
        ray.shutdown()


class RayRunner:
    """Runs tasks as Ray actors."""

    def __init__(self, config: RayConfig, workers: int) -> None:
        self._config, self._workers = config, workers

    def run(self, steps: list[PipelineStep], tasks: int, logs: Path) -> None:
        """Run the tasks that are not completed yet.

        Raises:
            BuildError: a task failed; the others were finished.
        """
        with quiet_datatrove():
            executor = _RayTasks(
                steps,
                tasks=tasks,
                workers=self._workers,
                logging_dir=str(logs),
                cpus_per_task=self._config.cpus_per_task,
                mem_per_cpu_gb=self._config.mem_per_cpu_gb,
            )
            executor.run()
        refuse_incomplete(logs, executor.get_incomplete_ranks(), "Ray's own logs may say more")


class _RayTasks(Reporting, RayPipelineExecutor):
    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        _end_with_parent()
        return super()._run_for_rank(rank, local_rank, node_rank)


def _end_with_parent() -> None:
    """Have the process that datatrove forks for a task end with the actor that forked it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # files appear whole or not at all, so stopping anywhere is safe

    threading.Thread(target=watch, daemon=True).start()
