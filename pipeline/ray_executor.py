"""Stages on a Ray cluster, through datatrove's `RayPipelineExecutor`."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from datatrove.executor import RayPipelineExecutor
from datatrove.executor import ray as datatrove_ray
from datatrove.pipeline.base import PipelineStep

from configs.executor import RayConfig
from pipeline.cores import POOLS
from pipeline.errors import BuildError
from pipeline.executor import Reporting, quiet_datatrove, refuse_incomplete

_PLACINGS = 5


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


class _Placing(datatrove_ray.RayTaskManager):
    """Places a task again where its node dies before the task runs.

    datatrove 0.10.1 loses such a task, holds its place, and waits for it forever.
    """

    def submit_task(
        self, executor_ref: Any, ranks_to_submit: list[int], remote_options: dict[str, Any]
    ) -> "Future[list[Any]]":
        """A task's actor on a node; the future has it when it runs there."""
        placed: Future[list[Any]] = Future()

        def place() -> None:
            for attempt in range(1, _PLACINGS + 1):
                try:
                    group = _placed(executor_ref, ranks_to_submit, remote_options)
                except Exception as error:
                    if attempt == _PLACINGS:
                        placed.set_exception(error)
                    continue
                [task] = group.tasks
                self.task_to_group[task] = group
                self.timeout_manager.add_task(task)
                placed.set_result([task])
                return

        self.pg_futures.append(self.executor.submit(place))
        return placed


# The executor makes its manager by this name.
datatrove_ray.RayTaskManager = _Placing


def _placed(executor_ref: Any, ranks: list[int], options: dict[str, Any]) -> Any:
    """Start an actor and its task in a place of their own, which is given back where that fails."""
    import ray

    place = ray.util.placement_group([datatrove_ray.convert_remote_options_to_bundle(options)])
    try:
        ray.get(place.ready())
        actor = ray.remote(datatrove_ray.RankWorker)
        worker = actor.options(
            placement_group=place, placement_group_bundle_index=0, **options
        ).remote()
        address = ray.get(worker.get_node_ip.remote())
        task = worker.run_for_rank.remote(executor_ref, ranks, [address], 0)
    except Exception:
        ray.util.remove_placement_group(place)
        raise
    return datatrove_ray.TaskGroup(
        tasks=[task], workers=[worker], placement_group=place, ranks=ranks
    )


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
