"""`tally convert --to`: a dataset of ours in the formats of others, without copying if they allow.

Tokens of ours are plain little-endian integers, so the token files of nanoGPT, Megatron, datatrove
and OLMo are hard links to the shards; only their indexes are written. The directory also gets
tokenizer.json and conversion.json, which says what it was made of.
"""

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shards.atomic import write_json_atomic
from shards.convert_files import RECORD, Output, new_directory
from shards.errors import DatasetError
from shards.formats_base import Part, PeerDocument, Reading, TokenFile
from shards.formats_datatrove import open_datatrove, write_datatrove
from shards.formats_documents import read_documents
from shards.formats_megatron import open_megatron, write_megatron
from shards.formats_olmo import open_olmo, write_olmo
from shards.formats_parquet import read_parquet, stored_bytes, write_parquet
from shards.formats_raw import open_llmc, open_raw, write_llmc, write_nanogpt
from shards.reader import Dataset


class Format(NamedTuple):
    """One format: its token files end in `suffix`; how to write and read them."""

    suffix: str
    write: Callable[[Part, Output], None]
    read: Callable[[list[Path], Reading], Iterator[PeerDocument]]
    sidecars: Callable[[Path], tuple[Path, ...]] = lambda _: ()
    """Where the index of a token file may lie."""
    token_bytes: Callable[[Path], int] = lambda path: path.stat().st_size


def _token_files(
    open_file: Callable[[Path, Reading], TokenFile],
) -> Callable[[list[Path], Reading], Iterator[PeerDocument]]:
    return lambda paths, reading: read_documents((open_file(p, reading) for p in paths), reading)


FORMATS = {
    "nanogpt": Format(".bin", write_nanogpt, _token_files(open_raw)),
    "llmc": Format(".bin", write_llmc, _token_files(open_llmc)),
    "megatron": Format(
        ".bin", write_megatron, _token_files(open_megatron), lambda p: (p.with_suffix(".idx"),)
    ),
    "datatrove": Format(
        ".ds",
        write_datatrove,
        _token_files(open_datatrove),
        lambda p: (p.with_name(f"{p.name}.index"), p.with_name(f"{p.name}.metadata")),
    ),
    "olmo": Format(
        ".npy", write_olmo, _token_files(open_olmo), lambda p: (p.with_suffix(".csv.gz"),)
    ),
    "parquet": Format(".parquet", write_parquet, read_parquet, token_bytes=stored_bytes),
}


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        DatasetError: there is none.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name.lower().replace(".", ""), FORMATS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise DatasetError(f"no format '{name}'; {hint}There are: {', '.join(FORMATS)}")
    return FORMATS[name]


def chosen_parts(dataset: Dataset, source: str | None, split: str | None) -> list[Part]:
    """The dataset's splits that are not empty, of one source or all, one split or all.

    Raises:
        DatasetError: nothing is left.
    """
    sources = dataset.manifest.sources
    if source is not None and source not in sources:
        names = ", ".join(sorted(sources))
        raise DatasetError(f"{dataset.address}: no source '{source}'; there are: {names}")
    parts = [
        Part(dataset, name, of)
        for name, facts in sources.items()
        for of, split_facts in facts.splits.items()
        if source in (None, name) and split in (None, of) and split_facts.shards
    ]
    if not parts:
        what = f"split '{split}'" if split else "any split"
        raise DatasetError(f"{dataset.address}: no tokens in {what} of {source or 'any source'}")
    return parts


def export_bytes(parts: list[Part]) -> int:
    """Bytes of all token files, the unit of `export_dataset`'s progress."""
    return sum(shard.bytes for part in parts for shard in part.facts.shards)


def export_dataset(
    parts: list[Part],
    destination: Path,
    name: str,
    advance: Callable[[float], None] = lambda _: None,
) -> Output:
    """Write splits of a dataset in another format, as a new directory.

    Args:
        parts: from `chosen_parts`.
        destination: the directory to make; whole or absent, killed at any moment.
        name: of the format.
        advance: called with bytes of token files done.

    Raises:
        DatasetError: unknown format, destination taken, or data that the format cannot hold.
    """
    chosen, dataset = find_format(name), parts[0].dataset
    if destination.resolve().is_relative_to(dataset.path.resolve()):
        raise DatasetError(f"{destination}: inside the dataset, which must hold nothing else")
    if any(shard.masked for part in parts for shard in part.facts.shards):
        raise DatasetError(
            f"{dataset.address}: some tokens are masked from the loss, which '{name}' cannot say: "
            "they would be trained on. Build with `action: cut` or `drop` under decontamination"
        )
    with new_directory(destination) as directory:
        output = Output(directory, advance)
        for part in parts:
            chosen.write(part, output)
        with output.file("tokenizer.json") as file:
            file.write(dataset.files.path(dataset.manifest.tokenizer.file).read_bytes())
        write_json_atomic(directory / RECORD, _record(parts, name, output))
    return output


def _record(parts: list[Part], name: str, output: Output) -> dict[str, object]:
    manifest = parts[0].dataset.manifest
    return {
        "format": name,
        "dataset": manifest.name,
        "dataset_id": manifest.dataset_id,
        "tokenizer": manifest.tokenizer.model_dump(mode="json"),
        "parts": [
            {
                "source": part.source,
                "split": part.split,
                "licence": manifest.sources[part.source].licence,
                "pin": manifest.sources[part.source].pin,
                "documents": part.facts.documents,
                "tokens": part.facts.tokens,
            }
            for part in parts
        ],
        "files": sorted([*output.linked, *output.copied]),
    }
