"""Checkpoints on their way to remote storage while the run goes on, and back where there are none.

A thread beside `tally train` (or beside rank 0, where torchrun or Slurm started it) looks for
finished checkpoints, links their files aside so that they stay while they are sent, and sends the
newest. What fails is said and tried again; training neither waits nor notices. Each step that
arrives is a line of RUN/uploads.jsonl.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from configs.terminal import console, human_bytes
from configs.train import TrainConfig
from shards.atomic import atomic_write
from shards.ledger import LEDGER_NAME
from shards.plan import Plan
from shards.plan_file import load_plan
from train.checkpoint import (
    Checkpoint,
    checkpoint_path,
    latest_checkpoint,
    list_checkpoints,
    verify,
)
from train.errors import TrainError
from train.remote_run import CHECKPOINT, RUN, RemoteRun, Sent, StoredManifest
from train.run_dir import CONFIG_NAME, PLAN_NAME, RESTARTS_NAME, read_config
from train.same_run import differences
from train.segments import milestones

UPLOADS_NAME = "uploads.jsonl"
_ASIDE = "upload"
_BY_STEP = (LEDGER_NAME, "metrics.jsonl")
"""Files with a line a step."""
_OF_PLAN = (CONFIG_NAME, PLAN_NAME, "duplicates-*.parquet")
_WHOLE = (*_OF_PLAN, RESTARTS_NAME, "environment.json", "origin.json")
_LOOK_S = 1.0
_LONGEST_WAIT_S = 300.0
_LAST_TRIES = 5


@contextmanager
def uploading(run_dir: Path, config: TrainConfig, plan: Plan) -> Iterator[None]:
    """While the block runs, send what it saves; at its end, wait for the newest to arrive.

    Args:
        run_dir: the RUN directory.
        config: of the run; without `checkpoint.remote` nothing happens.
        plan: of the run.
    """
    with _Uploader(run_dir, config, plan) if config.checkpoint.remote else nullcontext():
        yield


class _Uploader(threading.Thread):
    def __init__(self, run_dir: Path, config: TrainConfig, plan: Plan) -> None:
        super().__init__(name="uploads", daemon=True)
        assert config.checkpoint.remote is not None
        self._run_dir, self._keep = run_dir, config.checkpoint.keep
        self._milestones = milestones(config, plan)
        self._remote = RemoteRun(config.checkpoint.remote, config.name)
        self._there: set[int] | None = None
        self._over, self._failed = threading.Event(), 0

    def __enter__(self) -> None:
        shutil.rmtree(_aside(self._run_dir), ignore_errors=True)
        self.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self.is_alive() and self._failed:
            console.print(f"waiting for checkpoints to arrive at {self._remote.address}")
        self.join()

    def run(self) -> None:
        """Send until the run is over and its newest checkpoint has arrived, or will not."""
        while True:
            over = self._over.is_set()  # before looking: what is saved later is seen later
            try:
                step = self._due()
                if step is None and over:
                    return
                if step is not None:
                    self._send(step)
                self._failed = 0
            except Exception as error:  # whatever it is, training goes on
                if not self._goes_on(error, over):
                    return
            else:
                if step is None:
                    self._over.wait(_LOOK_S)

    def _goes_on(self, error: Exception, over: bool) -> bool:
        """Say what failed and wait; returns whether to try again."""
        self._failed += 1
        if over and self._failed >= _LAST_TRIES:
            console.print(
                f"checkpoints did NOT all arrive at {self._remote.address}: {error}; run the same "
                "command again to send them"
            )
            return False
        wait_s = min(2.0**self._failed, _LONGEST_WAIT_S)
        console.print(f"upload failed, again in {wait_s:.0f} s: {error}")
        if over:
            time.sleep(wait_s)
        else:
            self._over.wait(wait_s)
        return True

    def _due(self) -> int | None:
        """The step to send next: the newest, then milestones; None where all are there."""
        local = [checkpoint.step for checkpoint in list_checkpoints(self._run_dir)]
        if self._there is None and local:
            self._there = set(self._remote.steps())
        wanted = [*local[-1:], *(step for step in local if step in self._milestones)]
        return next((step for step in wanted if step not in (self._there or ())), None)

    def _send(self, step: int) -> None:
        started = time.monotonic()
        folder = _set_aside(self._run_dir, step)
        sent = self._remote.put(folder, step)
        assert self._there is not None
        self._there.add(step)
        seconds = time.monotonic() - started
        _note(self._run_dir, step, sent, seconds, self._failed + 1)
        size = human_bytes(sent.bytes)
        console.print(f"checkpoint of step {step} is at {self._remote.address}: {size}")
        shutil.rmtree(_aside(self._run_dir), ignore_errors=True)
        self._remote.rotate(self._keep, self._milestones)


def _aside(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / _ASIDE


def _set_aside(run_dir: Path, step: int) -> Path:
    """A checkpoint and what belongs to it, in a folder where nothing changes or goes away.

    Raises:
        TrainError: the checkpoint is not intact.
        FileNotFoundError: it went meanwhile; there is a newer one.
    """
    source, folder = checkpoint_path(run_dir, step), _aside(run_dir)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / CHECKPOINT).mkdir(parents=True)
    (folder / RUN).mkdir()
    for file in source.iterdir():
        _link(file, folder / CHECKPOINT / file.name)
    verify(folder / CHECKPOINT)
    for file in (file for pattern in _WHOLE for file in run_dir.glob(pattern)):
        shutil.copyfile(file, folder / RUN / file.name)
    for name in _BY_STEP:
        _copy_lines(run_dir / name, folder / RUN / name, step)
    return folder


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, target)


def _copy_lines(file: Path, target: Path, count: int) -> None:
    with file.open("rb") as source, target.open("wb") as out:
        lines = [line for line in islice(source, count) if line.endswith(b"\n")]
        if len(lines) < count:
            raise TrainError(f"{file}: {len(lines)} lines seen, {count} were written")
        out.writelines(lines)


def _note(run_dir: Path, step: int, sent: Sent, seconds: float, tries: int) -> None:
    line = {"step": step, **sent._asdict(), "seconds": round(seconds, 3), "tries": tries}
    with (run_dir / UPLOADS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def restore(run_dir: Path, config: TrainConfig, plan: Plan) -> Checkpoint | None:
    """Where remote storage has a newer checkpoint than RUN, bring it and what belongs to it.

    Returns the newest checkpoint, whose checksums were looked at; None where nothing is stored.

    Raises:
        TrainError: the storage cannot be used, or holds another run under this name.
    """
    if config.checkpoint.remote is None:
        return None
    remote = RemoteRun(config.checkpoint.remote, config.name)
    steps = remote.steps()
    if not steps:
        return None
    local = latest_checkpoint(run_dir)
    for step in reversed(steps):
        try:
            manifest = remote.manifest(step)
            _refuse_other(remote, manifest, config, plan, run_dir)
            newer = local is None or local.step < step
            return _bring(remote, manifest, run_dir) if newer else local
        except _OtherRun:
            raise
        except TrainError as error:
            console.print(f"not resuming from step {step} of {remote.address}: {error}")
    raise TrainError(
        f"{remote.address}: none of its checkpoints can be used, see above; delete them there or "
        "choose another checkpoint.remote to begin again"
    )


class _OtherRun(TrainError):
    """The storage holds another run."""


def _refuse_other(
    remote: RemoteRun, manifest: StoredManifest, config: TrainConfig, plan: Plan, run_dir: Path
) -> None:
    folder = run_dir / "checkpoints" / "tmp-plan"
    (folder / RUN).mkdir(parents=True, exist_ok=True)
    for name in manifest.files:
        if any(fnmatch(name, f"{RUN}/{pattern}") for pattern in _OF_PLAN):
            (folder / name).write_bytes(remote.read(manifest, name))
    old, (old_plan, _) = read_config(folder / RUN), load_plan(folder / RUN / PLAN_NAME)
    shutil.rmtree(folder)
    if lines := differences(old, config, old_plan, plan):
        raise _OtherRun(
            f"{remote.address} holds another run; it has / the config has:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nSet these back to go on with it, or choose another name or checkpoint.remote"
        )


def _bring(remote: RemoteRun, manifest: StoredManifest, run_dir: Path) -> Checkpoint:
    """Fetch a step; the checkpoint comes last into place, when all that it needs is there."""
    size = human_bytes(sum(file.bytes for file in manifest.files.values()))
    console.print(f"fetching step {manifest.step} from {remote.address}: {size}")
    final = checkpoint_path(run_dir, manifest.step)
    folder = final.with_name(f"tmp-fetched-{final.name}")
    shutil.rmtree(folder, ignore_errors=True)
    remote.fetch(manifest, folder)
    hashed = {n.removeprefix(f"{CHECKPOINT}/"): file.blake3 for n, file in manifest.files.items()}
    verify(folder / CHECKPOINT, hashed)
    for file in sorted((folder / RUN).iterdir()):
        with atomic_write(run_dir / file.name) as out:
            out.write(file.read_bytes())
    shutil.rmtree(final, ignore_errors=True)
    (folder / CHECKPOINT).rename(final)
    shutil.rmtree(folder)
    return Checkpoint(final, manifest.step)
