"""Input files, wherever they lie and however they are compressed: found, pinned, opened.

Addresses as `s3://bucket/folder/*.parquet` go through fsspec, which takes credentials and endpoint
from where the storage's own tools take them (for S3: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from datatrove.io import get_datafolder
from fsspec.compression import compr
from fsspec.core import url_to_fs
from fsspec.utils import infer_compression
from zstandard import ZstdDecompressor

from pipeline.errors import BuildError
from pipeline.task_report import report_share
from shards import remote
from shards.address_check import refuse_secrets
from shards.hashing import blake3_file

_LINES_A_REPORT = 256


class InputFile(NamedTuple):
    """A file to read, and what documents say it is."""

    path: str
    name: str
    """The same on every machine, wherever the file lies."""
    etag: str | None = None
    """The version that was pinned, of a file in remote storage."""
    part: tuple[int, int] = (0, 1)
    """Which of how many parts of the file is read."""


def find(pattern: str) -> list[str]:
    """Files that a pattern matches, sorted; a plain path matches itself.

    Raises:
        BuildError: the remote storage cannot be asked.
    """
    refuse_secrets(pattern, BuildError)
    if not is_remote(pattern):
        return sorted(p for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    with storage_explained(pattern):
        files, path = url_to_fs(pattern)
        found = files.glob(path) if glob.has_magic(path) else [path] * files.isfile(path)
        return sorted(files.unstrip_protocol(name) for name in found)


def is_remote(path: str) -> bool:
    """Whether a path is an address."""
    return "://" in path


def facts(path: str) -> dict[str, Any]:
    """Size and content hash of a file; of a remote one the ETag, so that it is read only once."""
    if not is_remote(path):
        return {"bytes": Path(path).stat().st_size, "blake3": blake3_file(Path(path))}
    with storage_explained(path):
        files, name = url_to_fs(path)
        files.invalidate_cache()
        found = files.info(name)
        return {"bytes": found["size"], "etag": found.get("ETag") or files.ukey(name)}


def check_unchanged(file: InputFile) -> None:
    """Refuse a remote file that is not the version that was pinned.

    Raises:
        BuildError: it was replaced since.
    """
    if file.etag is not None and facts(file.path)["etag"] != file.etag:
        raise BuildError(f"{file.path} was replaced while the build ran; run again to read the new")


def storage_explained(address: str) -> AbstractContextManager[None]:
    """Turn what remote storage raises into a BuildError with a way out."""
    return remote.storage_explained(address, BuildError, "check the address")


def open_stream(path: str, stack: ExitStack) -> BinaryIO:
    """The bytes of a file, decompressed where its name ends in .gz, .zst or the like.

    Args:
        path: a local path, or an address that fsspec knows.
        stack: closes the file.
    """
    return _unpacked(path, _open(path, stack), stack)


def open_tracked(path: str, stack: ExitStack) -> tuple[BinaryIO, Callable[[], None]]:
    """The bytes of a file that is all of a task's input, decompressed; and what reports how far."""
    packed = _open(path, stack)
    size = packed.seek(0, os.SEEK_END)
    packed.seek(0)
    return _unpacked(path, packed, stack), lambda: report_share(packed.tell() / size)


def tracked_lines(path: str, stack: ExitStack) -> Iterator[bytes]:
    """The lines of a file that is all of a task's input, reported as the task's progress."""
    stream, report = open_tracked(path, stack)
    for number, line in enumerate(stream):
        yield line
        if number % _LINES_A_REPORT == 0:
            report()


def _open(path: str, stack: ExitStack) -> BinaryIO:
    folder = get_datafolder(os.path.dirname(path) or os.curdir)
    return cast(BinaryIO, stack.enter_context(folder.open(os.path.basename(path), "rb")))


def _unpacked(path: str, packed: BinaryIO, stack: ExitStack) -> BinaryIO:
    if path.endswith(".zst"):  # fsspec stops after the first frame, without a word
        frames = ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        return cast(BinaryIO, BufferedReader(stack.enter_context(frames)))
    method = infer_compression(path)
    if method is None:
        return packed
    return cast(BinaryIO, stack.enter_context(compr[method](packed, mode="rb")))
