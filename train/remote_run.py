"""The checkpoints of a run in remote storage: sent whole, proved by reading back, fetched anew.

    REMOTE/<name>/step_000300/checkpoint/...    the checkpoint (train/checkpoint.py)
    REMOTE/<name>/step_000300/run/...           what else a resumed run needs, up to this step
    REMOTE/<name>/step_000300/MANIFEST.json     bytes and BLAKE3 of every file; written last

A step without a manifest is on its way or was cut off, and is never looked at. Any address that
fsspec knows will do; credentials and endpoint come from the usual environment variables.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, ValidationError

from shards.address_check import refuse_secrets
from shards.hashing import blake3_file, blake3_remote
from shards.remote import storage_explained
from train.errors import TrainError

MANIFEST_NAME = "MANIFEST.json"
CHECKPOINT, RUN = "checkpoint", "run"
_STEP = re.compile(r"step_(\d{6,})")


class StoredFile(BaseModel):
    """What a file is to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bytes: int
    blake3: str


class StoredManifest(BaseModel):
    """The files of one step, by their names below it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    step: int
    files: dict[str, StoredFile]


class Sent(NamedTuple):
    """What `RemoteRun.put` did."""

    bytes: int
    files_there: int
    """Files that an earlier attempt had sent."""


class RemoteRun:
    """The place of one run."""

    def __init__(self, remote: str, name: str) -> None:
        """Name the place; nothing is asked of the storage yet.

        Args:
            remote: `checkpoint.remote`.
            name: of the run.

        Raises:
            TrainError: the address holds a password.
        """
        refuse_secrets(remote, TrainError)
        self.address = f"{remote.rstrip('/')}/{name}"

    def steps(self) -> list[int]:
        """Steps with a manifest, ascending.

        Raises:
            TrainError: the storage cannot be used.
        """
        with self._storage() as (files, root):
            return sorted(self._stored(files, root))

    def manifest(self, step: int) -> StoredManifest:
        """What is stored of a step.

        Raises:
            TrainError: nothing, or no manifest of ours.
        """
        with self._storage() as (files, root):
            raw = files.cat_file(f"{root}/{_folder(step)}/{MANIFEST_NAME}")
        try:
            found = StoredManifest.model_validate_json(raw)
        except ValidationError:
            found = None
        if found is None or found.step != step or not all(map(_is_inside, found.files)):
            where = f"{self.address}/{_folder(step)}/{MANIFEST_NAME}"
            raise TrainError(f"{where}: damaged; delete the step there, or restore the file")
        return found

    def read(self, manifest: StoredManifest, name: str) -> bytes:
        """A small file of a step, checked.

        Raises:
            TrainError: it is not what the manifest says.
        """
        with self._storage() as (files, root):
            content: bytes = files.cat_file(f"{root}/{_folder(manifest.step)}/{name}")
        expected = manifest.files.get(name)
        if expected is None or blake3(content).hexdigest() != expected.blake3:
            raise TrainError(self._differs(manifest.step, name))
        return content

    def put(self, folder: Path, step: int) -> Sent:
        """Send a folder as a step; what an interrupted attempt has sent is not sent again.

        Raises:
            TrainError: the storage cannot be used, or does not give back what it was sent.
        """
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        facts = {name: _facts(folder / name) for name in names}
        with self._storage() as (files, root):
            place = f"{root}/{_folder(step)}"
            there = {path.removeprefix(f"{place}/") for path in files.find(place)}
            for stray in sorted(there - set(names), key=lambda name: name != MANIFEST_NAME):
                files.rm_file(f"{place}/{stray}")  # the manifest first: nothing counts until it
            sent = [self._send(files, place, folder, name, facts[name]) for name in names]
            manifest = StoredManifest(step=step, files=facts).model_dump_json(indent=1).encode()
            files.pipe_file(f"{place}/{MANIFEST_NAME}", manifest)
            if files.cat_file(f"{place}/{MANIFEST_NAME}") != manifest:
                files.rm_file(f"{place}/{MANIFEST_NAME}")
                raise TrainError(self._differs(step, MANIFEST_NAME))
        return Sent(sum(fact.bytes for fact in facts.values()), sent.count(False))

    def fetch(self, manifest: StoredManifest, folder: Path) -> None:
        """Bring the files of a step into an empty folder, each checked.

        Raises:
            TrainError: the storage cannot be used, or a file is not what the manifest says.
        """
        for name, expected in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._storage() as (files, root):
                files.get_file(f"{root}/{_folder(manifest.step)}/{name}", str(target))
            if _facts(target) != expected:
                raise TrainError(self._differs(manifest.step, name))

    def rotate(self, keep: int, milestones: Collection[int]) -> None:
        """Delete all but the newest `keep` steps and the milestones, and what was cut off before.

        Raises:
            TrainError: the storage cannot be used.
        """
        with self._storage() as (files, root):
            stored = self._stored(files, root)
            stay = {*sorted(stored)[-keep:], *(stored & set(milestones))}
            for path in files.ls(root, detail=False):
                step = _step_of(path)
                if step is not None and step not in stay and step < max(stored):
                    _delete(files, path)

    def _send(self, files: Any, place: str, folder: Path, name: str, facts: StoredFile) -> bool:
        """Send one file and read it back; returns whether it had to be sent."""
        path = f"{place}/{name}"
        with suppress(Exception):  # what cannot be read, S3's own checksum wrong, is sent again
            if files.exists(path) and _as_stated(files, path, facts):
                return False
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.put_file(str(folder / name), path)
        files.invalidate_cache()
        if not _as_stated(files, path, facts):
            files.rm_file(path)
            raise TrainError(f"{self.address}/{place.rpartition('/')[2]}/{name}: not what was sent")
        return True

    def _stored(self, files: Any, root: str) -> set[int]:
        if not files.exists(root):
            return set()
        steps = {path: _step_of(path) for path in files.ls(root, detail=False)}
        known = {path: step for path, step in steps.items() if step is not None}
        return {step for path, step in known.items() if files.exists(f"{path}/{MANIFEST_NAME}")}

    @contextmanager
    def _storage(self) -> Iterator[tuple[Any, str]]:
        """The file system and the root in it, with nothing remembered of what was there."""
        from fsspec.core import url_to_fs  # here: runs without a remote need not wait for it

        with storage_explained(self.address, TrainError, "upload it again, or delete the step"):
            files, root = url_to_fs(self.address)
            files.invalidate_cache()
            yield files, root

    def _differs(self, step: int, name: str) -> str:
        return f"{self.address}/{_folder(step)}/{name}: differs from its manifest (BLAKE3)"


def _folder(step: int) -> str:
    return f"step_{step:06d}"


def _step_of(path: str) -> int | None:
    match = _STEP.fullmatch(path.rstrip("/").rpartition("/")[2])
    return int(match[1]) if match else None


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return len(parts) > 1 and parts[0] in (CHECKPOINT, RUN) and not {"", ".", ".."} & set(parts)


def _facts(path: Path) -> StoredFile:
    return StoredFile(bytes=path.stat().st_size, blake3=blake3_file(path))


def _as_stated(files: Any, path: str, facts: StoredFile) -> bool:
    """Whether the storage holds this very file."""
    return bool(files.size(path) == facts.bytes) and blake3_remote(files, path) == facts.blake3


def _delete(files: Any, path: str) -> None:
    """Delete a step, its manifest first: what is half-deleted must not pass for whole."""
    found = files.find(path)
    for name in sorted(found, key=lambda name: not name.endswith(f"/{MANIFEST_NAME}")):
        files.rm_file(name)
    if files.exists(path):  # a directory, where the storage has any
        files.rm(path, recursive=True)
