"""Input files, wherever they lie and however they are compressed: found, pinned, opened.

Addresses as `s3://bucket/folder/*.parquet` go through fsspec, which takes credentials and endpoint
from where the storage's own tools take them (for S3: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

import glob
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
from datatrove.data import Document
from datatrove.io import get_datafolder
from fsspec.compression import compr
from fsspec.core import url_to_fs
from fsspec.utils import infer_compression

from pipeline.errors import BuildError
from pipeline.task_report import report_share
from shards import remote
from shards.address_check import refuse_secrets
from shards.hashing import blake3_file
from shards.remote import is_remote

_LINES_A_REPORT = 256
_CHUNK = 1 << 20
_SIGNATURES = {
    b"\x1f\x8b\x08": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"BZh91AY&SY": ".bz2",
}
_CODECS = {".zst": "zstd", ".bz2": "bz2"}
_DAMAGE = (EOFError, OSError, zlib.error, pa.ArrowException)
"""What readers and decompressors raise where a file is not whole."""


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
        found = sorted(p for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
        return [_spelled(path) for path in found]
    with storage_explained(pattern):
        files, path = url_to_fs(pattern)
        found = files.glob(path) if glob.has_magic(path) else [path] * files.isfile(path)
        return sorted(files.unstrip_protocol(name) for name in found)


def _spelled(path: str) -> str:
    """The path, if it can be written down."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise BuildError(
            f"{os.fsencode(path)!r}: the file's name is not UTF-8, and ids and manifest could not "
            "name it; rename the file"
        ) from None
    return path


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


def tracked_lines(path: str, stack: ExitStack, most: int) -> Iterator[bytes | None]:
    """`bounded_lines` of a file that is all of a task's input, reported as the task's progress."""
    stream, report = open_tracked(path, stack)
    for number, line in enumerate(bounded_lines(stream, most)):
        yield line
        if number % _LINES_A_REPORT == 0:
            report()


def bounded_lines(stream: BinaryIO, most: int) -> Iterator[bytes | None]:
    """Lines of at most `most` bytes; None for a longer one, which is never held as a whole."""
    while line := stream.readline(most + 1):
        if len(line) <= most or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(_CHUNK)) and not rest.endswith(b"\n"):
            pass
        yield None


def sound(name: str, documents: Iterable[Document]) -> Iterator[Document]:
    """Pass on the documents of a file, and say where a damaged one breaks off.

    Args:
        name: of the file.
        documents: as they are read.

    Raises:
        BuildError: the file is truncated, or not what its name says.
    """
    last, found = None, iter(documents)
    while True:
        try:
            document = next(found, None)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the file
            place = "at its start" if last is None else f"behind row {last}"
            raise BuildError(
                f"{name}: damaged or truncated {place} ({error}); fetch or write it again, or take "
                "it out of the source: what could be read before is not used"
            ) from None
        if document is None:
            return
        last = document.metadata["origin_row"]
        yield document


def _open(path: str, stack: ExitStack) -> BinaryIO:
    folder = get_datafolder(os.path.dirname(path) or os.curdir)
    return cast(BinaryIO, stack.enter_context(folder.open(os.path.basename(path), "rb")))


def _unpacked(path: str, packed: BinaryIO, stack: ExitStack) -> BinaryIO:
    codec = _CODECS.get(Path(path).suffix)
    if codec is not None:
        # Other readers stop, without a word, after a frame, where a file breaks off or at garbage.
        stream = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), codec)
        return cast(BinaryIO, BufferedReader(stack.enter_context(stream), _CHUNK))
    method = infer_compression(path)
    if method == "gzip":
        return cast(BinaryIO, stack.enter_context(compr[method](packed, mode="rb")))
    if method is not None:
        raise BuildError(
            f"{path}: {method} is not read; unpack it, or pack what it holds as .gz, .zst or .bz2"
        )
    _refuse_compressed(path, packed)
    # What fsspec opens afar has no `readline` with a limit.
    return cast(BinaryIO, BufferedReader(packed, _CHUNK)) if is_remote(path) else packed


def _refuse_compressed(path: str, packed: BinaryIO) -> None:
    """Raise BuildError where the content is compressed and the name does not say so."""
    start = packed.read(max(map(len, _SIGNATURES)))
    packed.seek(0)
    for signature, suffix in _SIGNATURES.items():
        if start.startswith(signature):
            raise BuildError(f"{path}: compressed by its content, not by its name; add '{suffix}'")
