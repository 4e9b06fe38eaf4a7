"""nanoGPT and llm.c: files of tokens, with or without a header, and no index of documents.

nanoGPT reads one headerless uint16 `train.bin` and one `val.bin`. llm.c and modded-nanogpt read
`<name>_train_000000.bin` with a header of 256 int32: a magic number, a version, the number of
tokens.
"""

from pathlib import Path

import numpy as np

from shards.convert_files import Output
from shards.errors import DatasetError
from shards.formats_base import Ids, Part, Reading, TokenFile, head_bytes, map_tokens

_HEADER_BYTES = 1024
_HEADERS = {2: (20240520, 1), 4: (20240801, 7)}  # token bytes -> magic, version
_SEEK_LIMIT = 2**31
_SAMPLE_TOKENS = 1 << 16


def write_nanogpt(part: Part, output: Output) -> None:
    """Write SOURCE/SPLIT.bin: a link if the split has one shard, else the shards joined.

    Raises:
        DatasetError: uint32 tokens, which nanoGPT would read as twice as many wrong ones.
    """
    if part.token_bytes != 2:
        raise DatasetError(
            f"{part.dataset.path}: tokens are uint32 and nanoGPT reads uint16 only; "
            "--to olmo writes the same headerless files for any width"
        )
    files = [part.shard_file(shard) for shard in part.facts.shards]
    name = f"{part.source}/{part.split}.bin"
    if len(files) == 1:
        output.same_bytes(files[0], name)
    else:
        output.joined(b"", files, name)


def open_raw(path: Path, reading: Reading) -> TokenFile:
    """Open a headerless file of tokens.

    Raises:
        DatasetError: the file has a header, or its size is no multiple of the token's, or
            tokens are uint32 and taken for uint16.
    """
    head = head_bytes(path, _HEADER_BYTES)
    if head.startswith(b"\x93NUMPY"):
        raise DatasetError(
            f"{path}: begins with a NumPy header, which readers of raw tokens take for tokens; "
            "write it raw first: numpy.load(FILE).tofile(OTHER)"
        )
    words = np.frombuffer(head, "<i4") if len(head) == _HEADER_BYTES else np.zeros(256, "<i4")
    if (int(words[0]), int(words[1])) in _HEADERS.values() and not words[3:].any():
        raise DatasetError(f"{path}: has llm.c's header; read it with --from llmc")
    tokens = map_tokens(path, 0, reading.dtype)
    _require_width(path, tokens)
    return TokenFile(path, tokens)


def _require_width(path: Path, tokens: Ids) -> None:
    """Small uint32 ids read as uint16 are every second id 0, which may well be EOS."""
    few = tokens[:_SAMPLE_TOKENS]
    if tokens.itemsize == 2 and len(few) >= 64 and few[::2].any() and not few[1::2].any():
        raise DatasetError(
            f"{path}: every second uint16 of the first {len(few)} is 0, so tokens are wider; "
            "read it with --dtype uint32"
        )


def write_llmc(part: Part, output: Output) -> None:
    """Write SOURCE/SOURCE_SPLIT_000000.bin, one a shard: header and tokens, so always a copy."""
    magic, version = _HEADERS[part.token_bytes]
    for number, shard in enumerate(part.facts.shards):
        if shard.tokens >= 2**31:
            raise DatasetError(
                f"{shard.path}: {shard.tokens} tokens, and llm.c's header counts in int32; "
                "rebuild with smaller shards (shards.shard_tokens)"
            )
        header = np.zeros(256, dtype="<i4")
        header[:3] = magic, version, shard.tokens
        name = f"{part.source}/{part.source}_{part.split}_{number:06d}.bin"
        output.joined(header.tobytes(), [part.shard_file(shard)], name)
        if shard.bytes + _HEADER_BYTES >= _SEEK_LIMIT:
            output.notes.append(f"{name}: over 2 GiB, where llm.c's 32-bit seek goes wrong")


def open_llmc(path: Path, reading: Reading) -> TokenFile:
    """Open a file with llm.c's header.

    Raises:
        DatasetError: unknown magic number or version, or a size that the header does not fit.
    """
    header = np.fromfile(path, dtype="<i4", count=256)
    for token_bytes, (magic, version) in _HEADERS.items():
        if len(header) == 256 and header[0] == magic:
            if header[1] != version:
                raise DatasetError(f"{path}: llm.c version {header[1]}, known is {version}")
            tokens = map_tokens(path, _HEADER_BYTES, np.dtype(f"<u{token_bytes}"))
            if len(tokens) != header[2]:
                raise DatasetError(
                    f"{path}: the header counts {header[2]} tokens and the file holds "
                    f"{len(tokens)}: cut off or not closed; restore it"
                )
            return TokenFile(path, tokens)
    begins = "shorter than a header" if len(header) < 256 else f"begins with {header[0]}"
    raise DatasetError(
        f"{path}: {begins}, llm.c's magic numbers are 20240520 (uint16) and 20240801 (uint32); "
        "a file without header is read with --from nanogpt"
    )
