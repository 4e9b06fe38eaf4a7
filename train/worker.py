"""One rank: started by the launcher, leaves with 0 when done, EXIT_STOPPED when asked to stop."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from configs.terminal import console, short
from train.launch import EXIT_STOPPED, LAUNCHER_VARIABLE
from train.loop import train
from train.memory import memory_explained
from train.run_data import run_plan
from train.run_dir import STOP_NAME, exclusive, read_config
from train.session import close_session, leave_ranks, open_session
from train.uploads import uploading


class StopRequest:
    """Whether this rank was asked to leave: by SIGTERM, the stop file, or a dead parent."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / STOP_NAME
        host, _, pid = os.environ.get(LAUNCHER_VARIABLE, "").rpartition(":")
        self._launcher = int(pid) if host == socket.gethostname() else 0
        self._asked = False
        signal.signal(signal.SIGTERM, self._note)

    def __call__(self) -> bool:
        """Asked yet?"""
        return self._asked or self._file.exists() or self._orphaned()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def _orphaned(self) -> bool:
        """`tally train` was killed: without it nobody could stop this run any more."""
        if not self._launcher:
            return False
        try:
            os.kill(self._launcher, 0)
        except ProcessLookupError:
            return True
        return False


def run_rank(run_dir: Path, stop_after: int | None) -> int:
    """Train one rank to the end of the plan or to `stop_after` steps; returns the exit code."""
    asked = StopRequest(run_dir)
    first = os.environ.get("RANK", "0") == "0"
    with contextlib.ExitStack() as stack:
        plan = run_plan(run_dir)
        if first:
            stack.enter_context(exclusive(run_dir))
        if first and LAUNCHER_VARIABLE not in os.environ:  # else `tally train` sees to it
            stack.enter_context(uploading(run_dir, read_config(run_dir), plan))
        num_steps = plan.num_steps
        last = min(stop_after or num_steps, num_steps)
        with memory_explained(run_dir):
            done = train_segments(run_dir, last, asked)
        leave_ranks()
    if first:
        shown = short(run_dir)
        console.print(f"{done} of {num_steps} steps done: {shown}", soft_wrap=True)
        following = f"tally ledger {shown} --verify" if done == num_steps else "the same command"
        console.print(f"next: {following}", soft_wrap=True)
    return 0 if done >= last else EXIT_STOPPED


def train_segments(run_dir: Path, last: int, asked: Callable[[], bool]) -> int:
    """Train to step `last`, one session a segment of the run; returns the steps done."""
    goes_on = False
    while True:
        session = open_session(run_dir, goes_on=goes_on)
        end = min(last, session.segment.last_step)
        done = max(train(session, end, asked), session.first_step)
        close_session(session)
        del session  # and the weights with it, before the next one makes its own
        if done < end or done >= last:
            return done
        goes_on = True
