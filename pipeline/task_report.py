"""What a running task tells the build: how far it is, what it waits for, why it failed.

Through small files beside datatrove's completion markers, because a task may run in another
process or on another machine: `progress/<rank>` (share done, only while it runs),
`messages/<rank>` (lines for the user), `failures/<rank>.json` (of the last attempt).
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from configs.terminal import Advance, console, is_user_error

T = TypeVar("T")
_PROGRESS, _MESSAGES, _FAILURES = "progress", "messages", "failures"
_WRITE_S = 0.5
_POLL_S = 0.5


class Failure(NamedTuple):
    """Why a task ended without result."""

    message: str
    is_user_error: bool
    """Whether the message is meant for the user; else it is a bug."""


class _Task:
    def __init__(self, logs: Path, rank: int) -> None:
        self.progress, self.messages = (
            logs / folder / f"{rank:05d}" for folder in (_PROGRESS, _MESSAGES)
        )
        self.failure = logs / _FAILURES / f"{rank:05d}.json"
        self.written_at = time.monotonic()
        for path in (self.progress, self.messages, self.failure):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)


_current: _Task | None = None


@contextmanager
def reporting(logs: Path, rank: int) -> Iterator[None]:
    """Make what this process reports be about one task.

    Args:
        logs: the stage's folder of markers, on a disk that the build sees.
        rank: the task.
    """
    global _current
    _current = task = _Task(logs, rank)
    try:
        yield
    except Exception as error:
        text = str(error) if is_user_error(error) else f"{type(error).__name__}: {error}"
        failure = {"message": text, "is_user_error": is_user_error(error)}
        with contextlib.suppress(OSError):  # a full disk is the failure, and stays it
            task.failure.write_text(json.dumps(failure), encoding="utf-8")
        raise
    finally:
        _current = None
        task.progress.unlink(missing_ok=True)


def report_share(done: float) -> None:
    """Say which share of the task is done, from 0 to 1; cheap enough for every document."""
    now = time.monotonic()
    if _current is not None and now - _current.written_at > _WRITE_S:
        _current.written_at = now
        with contextlib.suppress(OSError):
            _current.progress.write_text(f"{done:.6f}", encoding="ascii")


def tracked(
    items: Iterable[T], total: float, size: Callable[[T], float] = lambda _: 1
) -> Iterator[T]:
    """Pass on `items` and report their share of `total` as each is asked for."""
    done = 0.0
    for item in items:
        yield item
        done += size(item)
        report_share(done / total)


def tell(message: str) -> None:
    """Show the user one line, above the progress display; from a task, by way of the build."""
    if _current is None:
        console.print(message, markup=False)
        return
    with contextlib.suppress(OSError), _current.messages.open("a", encoding="utf-8") as file:
        file.write(message + "\n")


def failures(logs: Path, ranks: Iterable[int]) -> dict[int, Failure]:
    """What the given tasks said when they failed."""
    found = {}
    for rank in ranks:
        with contextlib.suppress(FileNotFoundError, ValueError):
            text = (logs / _FAILURES / f"{rank:05d}.json").read_text(encoding="utf-8")
            found[rank] = Failure(**json.loads(text))
    return found


@contextmanager
def shown(logs: Path, weights: Sequence[float], bar: Advance) -> Iterator[None]:
    """While the block runs, move the bar and print the messages of the stage's tasks.

    Args:
        logs: the stage's folder of markers.
        weights: units of the bar in every task.
        bar: gets what is done already at once.
    """
    with watching(_Shares(logs, weights).done, bar), told(logs):
        yield


@contextmanager
def watching(done: Callable[[], float], bar: Advance) -> Iterator[None]:
    """While the block runs, have the bar at what `done` says, never going back."""
    reached = 0.0

    def look() -> None:
        nonlocal reached
        now = done()
        bar.advance(max(0.0, now - reached))
        reached = max(reached, now)

    with _repeated(look):
        yield


@contextmanager
def told(logs: Path) -> Iterator[None]:
    """While the block runs, print what tasks tell; what they told an earlier run is old."""
    read: dict[Path, int] = {}
    for path in (logs / _MESSAGES).glob("*"):
        path.unlink(missing_ok=True)

    def look() -> None:
        for path in sorted((logs / _MESSAGES).glob("*")):
            with contextlib.suppress(FileNotFoundError):
                lines = path.read_text(encoding="utf-8").splitlines()
                for line in lines[read.get(path, 0) :]:
                    console.print(line, markup=False)
                read[path] = len(lines)

    with _repeated(look):
        yield


@contextmanager
def _repeated(action: Callable[[], None]) -> Iterator[None]:
    """Do something twice a second in a thread, and a last time at the end."""
    action()
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(_POLL_S):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        action()


class _Shares:
    def __init__(self, logs: Path, weights: Sequence[float]) -> None:
        self._logs, self._weights = logs, weights

    def done(self) -> float:
        """Units done, in finished and running tasks."""
        whole = {int(path.name) for path in (self._logs / "completions").glob("*")}
        parts = {int(path.name): _share(path) for path in (self._logs / _PROGRESS).glob("*")}
        shares = {**parts, **dict.fromkeys(whole, 1.0)}
        return sum(self._weights[rank] * share for rank, share in shares.items())


def _share(path: Path) -> float:
    try:
        return min(1.0, float(path.read_text(encoding="ascii")))
    except (FileNotFoundError, ValueError):  # gone, or being written
        return 0.0
