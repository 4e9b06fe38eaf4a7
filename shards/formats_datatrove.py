"""datatrove (nanotron, SmolLM): FILE.ds of tokens, FILE.ds.index, FILE.ds.metadata.

The index holds the documents' ends: uint64, cumulative, in tokens. The metadata are three lines:
tokenizer|bytes a token, number of tokens, the same for people.
"""

from pathlib import Path
from typing import Any

import numpy as np

from shards.convert_files import Output
from shards.errors import DatasetError
from shards.formats_base import Part, Reading, TokenFile, map_tokens

_TYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


def write_datatrove(part: Part, output: Output) -> None:
    """Write SOURCE/SPLIT/00000.ds (linked) and its two sidecars, one set a shard."""
    for number, shard in enumerate(part.facts.shards):
        name = f"{part.source}/{part.split}/{number:05d}.ds"
        output.same_bytes(part.shard_file(shard), name)
        with output.file(f"{name}.index") as file:
            file.write(part.index(shard)["token_count"].cum_sum().to_numpy().astype("<u8").data)
        with output.file(f"{name}.metadata") as file:
            lines = f"tokenizer.json|{part.token_bytes}", str(shard.tokens), _human(shard.tokens)
            file.write("\n".join(lines).encode())


def _human(tokens: int) -> str:
    """The count as datatrove prints it, three digits: 1234567 -> '1.23 MT'."""
    scale = min((len(str(tokens)) - 1) // 3, 4)
    value = tokens / 1000**scale
    places = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{places}f} {('', 'k', 'M', 'G', 'T')[scale]}T"


def open_datatrove(path: Path, reading: Reading) -> TokenFile:
    """Open FILE.ds by its index, which also tells how wide a token is.

    Raises:
        DatasetError: no index, or one that does not fit the file.
    """
    index_path = path.with_name(f"{path.name}.index")
    if not index_path.is_file():
        raise DatasetError(
            f"{path}: its index {index_path.name} is missing, which says where documents end; "
            "restore it, or cut the tokens at EOS: --from nanogpt with this file as SRC"
        )
    if index_path.stat().st_size % 8:
        raise DatasetError(f"{index_path}: no whole number of uint64; cut off, restore it")
    ends = np.fromfile(index_path, "<u8").astype(np.int64)
    total, size = int(ends[-1]) if len(ends) else 0, path.stat().st_size
    token_bytes = size // total if total > 0 else 2
    if token_bytes not in _TYPES or total * token_bytes != size or not _ascending(ends):
        raise DatasetError(
            f"{path}: {size} bytes, the index ends at token {total}, which makes neither uint16 "
            "nor uint32; one of the two is cut off or of another file"
        )
    return TokenFile(path, map_tokens(path, 0, _TYPES[token_bytes]), ends)


def _ascending(ends: "np.ndarray[Any, np.dtype[np.int64]]") -> bool:
    """Compared, not subtracted: the difference of two numbers of a damaged file may overflow."""
    return not len(ends) or bool(ends[0] >= 0 and (ends[1:] >= ends[:-1]).all())
