"""What tasks cost: processor time and memory, task by task, added up by stage.

Each task leaves `costs/<rank>.json` beside datatrove's completion markers. Wall time hangs on
what else the machine does and on the number of workers; processor time grows with the work alone,
so it is what the cost of a larger corpus can be told from.
"""

import contextlib
import json
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

_COSTS = "costs"
_STATUS = Path("/proc/self/status")
_LOOK_S = 0.2


class Costs(TypedDict):
    """What a task or a stage took."""

    processor_seconds: float
    """All threads of the task's process, user and system; of a stage, all tasks."""
    peak_mb: float
    """Most memory of the process while a task ran, 10^6 bytes; of a stage, of its largest task.

    Without mapped files, which the system takes back when it needs their room.
    """
    tasks: int


@contextmanager
def measuring(logs: Path, rank: int) -> Iterator[None]:
    """Write what the block cost, if it comes to its end.

    Args:
        logs: the stage's folder of markers.
        rank: the task.
    """
    start, peak = time.process_time(), _Peak()
    try:
        yield
    finally:
        most = peak.end()
    used = round(time.process_time() - start, 3)
    path = logs / _COSTS / f"{rank:05d}.json"
    with contextlib.suppress(OSError):  # a measurement; what the task made is whole without it
        path.parent.mkdir(exist_ok=True)
        costs = Costs(processor_seconds=used, peak_mb=round(most / 1e6, 1), tasks=1)
        path.write_text(json.dumps(costs), encoding="ascii")


def stage_costs(logs: Path) -> Costs:
    """The costs of the tasks that ended, in this run of the build or an earlier one."""
    total = Costs(processor_seconds=0.0, peak_mb=0.0, tasks=0)
    for path in sorted((logs / _COSTS).glob("*.json")):
        with contextlib.suppress(ValueError):  # cut off by a kill
            one: Costs = json.loads(path.read_text(encoding="ascii"))
            total["processor_seconds"] += one["processor_seconds"]
            total["peak_mb"] = max(total["peak_mb"], one["peak_mb"])
            total["tasks"] += 1
    total["processor_seconds"] = round(total["processor_seconds"], 3)
    return total


class _Peak:
    """The most memory this process has while it lives, looked at five times a second."""

    def __init__(self) -> None:
        self._most, self._ended = _memory(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._most = max(self._most, _memory())

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return max(self._most, _memory())


def _memory() -> int:
    """Bytes now, without mapped files; where the system does not tell, the most there ever were."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
