"""Files as streams of bytes, wherever they lie and however they are compressed."""

import os
from contextlib import ExitStack
from io import BufferedReader
from typing import BinaryIO, cast

from datatrove.io import get_datafolder
from zstandard import ZstdDecompressor


def open_stream(path: str, stack: ExitStack) -> BinaryIO:
    """The bytes of a file, decompressed where its name ends in .gz, .zst or the like.

    Args:
        path: a local path, or an address that fsspec knows.
        stack: closes the file.
    """
    folder = get_datafolder(os.path.dirname(path) or os.curdir)
    name = os.path.basename(path)
    if not name.endswith(".zst"):
        return cast(BinaryIO, stack.enter_context(folder.open(name, "rb", compression="infer")))
    # fsspec stops after the first frame of a .zst file, without a word.
    packed = stack.enter_context(folder.open(name, "rb"))
    reader = ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    return cast(BinaryIO, BufferedReader(stack.enter_context(reader)))
