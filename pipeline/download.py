"""The download stage: files of a pinned repository into the cache, whole and verified.

A file arrives beside its place as `.<name>.part` and is moved there once its digest is that of
the pin, so whatever has the name is complete. A part survives any interruption; the next attempt
asks for the bytes after it. The cache (`TALLY_CACHE/hub/<repo>/<commit>/`) serves all builds.
"""

import errno
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from huggingface_hub import hf_hub_url
from huggingface_hub.file_download import http_get

from configs.terminal import human_bytes, progress
from pipeline.errors import BuildError
from pipeline.executor import LocalRunner, Runner, worker_pool
from pipeline.hub import HubFile
from pipeline.hub_http import Incomplete, explained, headers, patiently
from pipeline.stages import LOGS, Stage
from pipeline.task_report import told, watching
from shards.atomic import sync, write_json_atomic
from shards.cache import cache_directory

_CONNECTIONS = 8
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DownloadFile(PipelineStep):
    """Brings one file a task into the cache, and notes that it did."""

    type = "📥 - DOWNLOAD"
    name = "hub file"

    def __init__(self, files: list[HubFile], check: Callable[[HubFile], None], notes: Path) -> None:
        super().__init__()
        self.files, self.check, self.notes = files, check, notes

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Fetch file number `rank`; yields nothing."""
        file = self.files[rank]
        fetch(file)
        self.check(file)
        note = {"path": file.path, "bytes": file.size, file.digest[0]: file.digest[1]}
        write_json_atomic(self.notes / f"{rank:05d}.json", note)
        yield from ()


def recount(files: list[HubFile], directory: Path) -> dict[str, Any]:
    """How much was to be fetched."""
    return {"bytes": sum(file.size for file in files)}


def fetch(file: HubFile) -> None:
    """Have the file in the cache, with the digest of the pin.

    Raises:
        BuildError: it cannot be had, or is not what the hub says it is.
    """
    with explained(file.repo, file.commit, file.kind), _space_explained(), _alone(file.local):
        if file.local.exists() and _is_right(file, file.local):
            return
        part = part_of(file.local)
        for _ in range(2):
            patiently(lambda: _receive(file, part), file.path, lambda: _size(part))
            if _is_right(file, part):
                part.replace(file.local)
                sync(file.local.parent)
                return
            part.unlink()
    raise BuildError(
        f"{file.repo}/{file.path}: what arrives, twice now, is not what the hub lists "
        f"({file.digest[0]} {file.digest[1]}); nothing was kept. A proxy or mirror may hold a "
        "damaged copy: try another network or HF_ENDPOINT, or report it to the repository"
    )


def part_of(path: Path) -> Path:
    """Where a file's bytes are until they are all there."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other builds from fetching the same file; the lock ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _space_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise BuildError(
            f"no more can be written at {cache_directory()} ({error.strerror}); make room, or set "
            "TALLY_CACHE to a larger disk, and run again: what has arrived is kept"
        ) from None


def _receive(file: HubFile, part: Path) -> None:
    """Append what is missing of the file to its part."""
    if _size(part) > file.size:
        part.unlink()
    url = hf_hub_url(
        file.repo, file.path, repo_type=file.kind, revision=file.commit, endpoint=file.endpoint
    )
    with part.open("ab") as out:
        try:
            # Its byte ranges and reconnections are right; `hf_hub_download` around it throws a
            # part away when the process ends.
            http_get(
                url,
                out,
                resume_size=_size(part),
                headers=headers(),
                expected_size=file.size,
                _nb_retries=0,  # `patiently` tries again, and says so
            )
        except OSError as error:
            if type(error) is not OSError or error.errno is not None:
                raise
            raise Incomplete(f"{_size(part)} of {file.size} bytes arrived") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_right(file: HubFile, path: Path) -> bool:
    kind, wanted = file.digest
    if _size(path) != file.size:
        return False
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % file.size)
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: digest)
    return found.hexdigest() == wanted


def is_here(file: HubFile) -> bool:
    """Whether the cache has the file, undamaged; its digest is looked at once a process."""
    if _size(file.local) != file.size:
        return False
    return _was_right(file, file.local.stat().st_mtime_ns)


@cache
def _was_right(file: HubFile, written: int) -> bool:
    return _is_right(file, file.local)


@dataclass(frozen=True)
class DownloadStage(Stage):
    """A stage whose outputs are files of the cache."""

    files: tuple[HubFile, ...]
    before_fetching: Callable[[], None]
    """Called when something is to be fetched; may refuse."""

    def facts(self) -> dict[str, Any] | None:
        """The stage is done only while the cache has the files."""
        return None if self._missing() else super().facts()

    def _missing(self) -> list[int]:
        return [rank for rank, file in enumerate(self.files) if not is_here(file)]

    def _run_tasks(self, runner: Runner) -> None:
        """Fetch on this machine, whatever runs the other stages: nodes may have no network."""
        logs, missing = self.directory / LOGS, self._missing()
        for rank in missing:  # done once, but the cache was deleted since
            (logs / "completions" / f"{rank:05d}").unlink(missing_ok=True)
        if missing:
            self.before_fetching()
            self._check_space()
        there = self._arrived(missing)
        total = sum(self.files[rank].size for rank in missing) - there
        with (
            worker_pool(min(_CONNECTIONS, len(missing) or 1)) as connections,
            progress(self.name, total / 1e6, "MB") as bar,
            watching(lambda: (self._arrived(missing) - there) / 1e6, bar),
            told(logs),
        ):
            LocalRunner(connections).run(self.steps(self.directory), self.num_tasks, logs)

    def _arrived(self, ranks: list[int]) -> int:
        """Bytes of these files that are here, in whole files and parts."""
        paths = [self.files[rank].local for rank in ranks]
        return sum(_size(path) or _size(part_of(path)) for path in paths)

    def _check_space(self) -> None:
        missing = self._missing()
        needed = sum(self.files[rank].size for rank in missing) - self._arrived(missing)
        free = shutil.disk_usage(cache_directory()).free
        if needed > free:
            raise BuildError(
                f"{self.name}: {human_bytes(needed)} are to be fetched into {cache_directory()}, "
                f"which has {human_bytes(free)} free; make room, set TALLY_CACHE to a larger "
                "disk, or take less with `max_files`"
            )
