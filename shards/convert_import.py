"""`tally convert --from`: token files of others as a dataset of ours, with index and manifest.

Other formats keep no text and few facts: the text is decoded with the tokenizer to give every
document its content hash, and what nobody says is 'unknown'.
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from tokenizers import Tokenizer

from shards.atomic import atomic_write
from shards.convert import Format, find_format
from shards.convert_files import new_directory
from shards.convert_sources import Group, find_groups
from shards.detokenize import Decoder
from shards.errors import DatasetError
from shards.formats_base import EosAt, PeerDocument, Reading
from shards.hashing import blake3_file, content_hash
from shards.index import DocumentRow, index_frame
from shards.manifest import Manifest, SourceFacts, SplitFacts, TokenizerFacts, seal
from shards.tokenizer_file import load_tokenizer
from shards.writer import SplitWriter, token_dtype

_BATCH_TOKENS = 1 << 20
_EOS_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "[EOS]")
_PACKAGES = ("blake3", "numpy", "polars", "pyarrow", "tokenizers")


class Wanted(NamedTuple):
    """What the user says of files that do not say it themselves."""

    source: str | None = None
    """Name of the source; None: from the folders."""
    split: str | None = None
    """Name of the split of files whose names say none; None: train."""
    tokenizer: Path | None = None
    """tokenizer.json; None: the one among the files."""
    eos: str | None = None
    """The EOS token; None: the one of the common names that the vocabulary has."""
    eos_at: EosAt = "end"
    dtype: str | None = None
    """Of headerless tokens; None: uint16 if the vocabulary fits."""
    licence: str = "unknown"
    shard_tokens: int = 100_000_000


class Imported(NamedTuple):
    """The new dataset, and what the user should know about it."""

    manifest: Manifest
    notes: list[str]


class _Importer(NamedTuple):
    """What stays the same over all sources and splits."""

    root: Path
    directory: Path
    format: Format
    tokenizer: Tokenizer
    decoder: Decoder
    reading: Reading
    shard_tokens: int
    advance: Callable[[float], None]


def import_bytes(root: Path, name: str) -> int:
    """Bytes of all tokens, the unit of `import_dataset`'s progress."""
    chosen = find_format(name)
    groups = find_groups(root, chosen.suffix, None, None)
    return sum(chosen.token_bytes(path) for group in groups for path in group.paths)


def import_dataset(
    root: Path,
    destination: Path,
    name: str,
    wanted: Wanted,
    advance: Callable[[float], None] = lambda _: None,
) -> Imported:
    """Make a dataset of ours of files in another format.

    Args:
        root: the directory of the files, or one token file.
        destination: the dataset to make; whole or absent, killed at any moment.
        name: of the format.
        wanted: what the files do not say.
        advance: called with bytes of tokens done.

    Raises:
        DatasetError: anything about the files that does not fit; names file and place.
    """
    chosen = find_format(name)
    groups = find_groups(root, chosen.suffix, wanted.source, wanted.split)
    tokenizer_path = _tokenizer_path(root, wanted.tokenizer)
    with new_directory(destination) as directory:
        with atomic_write(directory / "tokenizer.json") as file:
            file.write(tokenizer_path.read_bytes())
        tokenizer = load_tokenizer(tokenizer_path)
        facts = _tokenizer_facts(directory, tokenizer, wanted, name)
        dtype = np.dtype(wanted.dtype or facts.dtype).newbyteorder("<")
        reading = Reading(facts.eos_id, wanted.eos_at, dtype)
        decoder, most = Decoder(tokenizer), wanted.shard_tokens
        importer = _Importer(root, directory, chosen, tokenizer, decoder, reading, most, advance)
        sources = _sources(importer, groups, name, wanted)
        notes = _check_documents(directory, sources)
        return Imported(seal(directory, _manifest(destination, facts, sources, name)), notes)


def _sources(
    importer: _Importer, groups: list[Group], name: str, wanted: Wanted
) -> dict[str, SourceFacts]:
    splits: dict[str, dict[str, SplitFacts]] = {}
    files: dict[str, dict[str, object]] = {}
    for group in groups:
        splits.setdefault(group.source, {})[group.split] = _write_split(importer, group)
        files.setdefault(group.source, {}).update(_pin(importer, group))
    return {
        source: SourceFacts(
            licence=wanted.licence,
            pin={"format": name, "eos_at": wanted.eos_at, "files": files[source]},
            profile="none",
            funnel=(),
            splits=splits[source],
        )
        for source in splits
    }


def _pin(importer: _Importer, group: Group) -> dict[str, object]:
    """Size and checksum of every file that was read."""
    paths = [
        file
        for path in group.paths
        for file in (path, *importer.format.sidecars(path))
        if file.is_file()
    ]
    return {
        _shown(importer.root, path): {"bytes": path.stat().st_size, "blake3": blake3_file(path)}
        for path in paths
    }


@cache
def _shown(root: Path, path: Path) -> str:
    return path.name if root.is_file() else path.relative_to(root).as_posix()


def _write_split(importer: _Importer, group: Group) -> SplitFacts:
    vocab_size, eos_id = importer.tokenizer.get_vocab_size(), importer.reading.eos_id
    writer = SplitWriter(
        importer.directory,
        group.source,
        group.split,
        token_dtype(vocab_size),
        eos_id,
        importer.shard_tokens,
    )
    for batch in _batches(importer.format.read(group.paths, importer.reading)):
        tokens = _tokens(batch, vocab_size, eos_id)
        described = zip(batch, _texts(importer.decoder, batch, tokens), strict=True)
        rows = [_row(importer.root, group.source, *both) for both in described]
        writer.add_many(index_frame(rows, [len(d.content) + 1 for d in batch]), tokens)
        importer.advance(len(tokens) * batch[0].content.itemsize)
    facts = writer.close()
    if not facts.documents:
        raise DatasetError(f"{group.paths[0]}: no tokens in {group.source}/{group.split}")
    return facts


def _batches(documents: Iterator[PeerDocument]) -> Iterator[list[PeerDocument]]:
    """About a million tokens at a time: enough to decode on all cores, little to hold."""
    batch: list[PeerDocument] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.content) + 1
        if size >= _BATCH_TOKENS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tokens(batch: list[PeerDocument], vocab_size: int, eos_id: int) -> npt.NDArray[Any]:
    """The batch as our shards hold it, every document with its EOS: [num_tokens]."""
    dtype = token_dtype(vocab_size)
    eos = np.array([eos_id], dtype=dtype)
    tokens = np.concatenate([part for document in batch for part in (document.content, eos)])
    if int(tokens.max()) >= vocab_size or int(tokens.min()) < 0:
        for document in batch:
            _require_known(document, vocab_size)
    return tokens.astype(dtype)


def _require_known(document: PeerDocument, vocab_size: int) -> None:
    wrong = (document.content >= vocab_size) | (document.content < 0)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise DatasetError(
            f"{document.path}: id {document.content[place]} at token {document.start + place}, "
            f"the tokenizer has {vocab_size} entries; another --tokenizer, or another --dtype"
        )


def _texts(decoder: Decoder, batch: list[PeerDocument], tokens: npt.NDArray[Any]) -> list[bytes]:
    """UTF-8 of the documents' texts: the format's own, or decoded from the batch's tokens."""
    stops = np.cumsum([len(document.content) + 1 for document in batch]) - 1  # without EOS
    starts = stops - [len(document.content) for document in batch]
    own = [document.label.text if document.label else None for document in batch]
    unsaid = np.array([text is None for text in own])
    decoded = iter(decoder.texts(tokens, starts[unsaid], stops[unsaid]))
    return [next(decoded) if text is None else text.encode() for text in own]


def _row(root: Path, source: str, document: PeerDocument, text: bytes) -> DocumentRow:
    file, label = _shown(root, document.path), document.label
    return DocumentRow(
        doc_id=(label and label.doc_id) or f"{source}/{file}#{document.row}",
        char_count=len(text.decode()),
        byte_count=len(text),
        content_hash=content_hash(text),
        origin_file=(label and label.origin_file) or file,
        origin_row=document.row if label is None or label.origin_row is None else label.origin_row,
        url=label and label.url,
        duplicates=[],
        scores={},
    )


def _tokenizer_path(root: Path, given: Path | None) -> Path:
    path = given or (root.parent if root.is_file() else root) / "tokenizer.json"
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; name the tokens' tokenizer with --tokenizer")
    return path


def _tokenizer_facts(
    directory: Path, tokenizer: Tokenizer, wanted: Wanted, name: str
) -> TokenizerFacts:
    known = [token for token in _EOS_NAMES if tokenizer.token_to_id(token) is not None]
    if wanted.eos is None and len(known) != 1:
        found = f"several ({', '.join(known)})" if known else "none"
        raise DatasetError(f"EOS: of its usual names the tokenizer has {found}; say which: --eos")
    eos = wanted.eos or known[0]
    eos_id = tokenizer.token_to_id(eos)
    if eos_id is None:
        raise DatasetError(f"--eos '{eos}': no such token in the tokenizer; known: {known}")
    size = tokenizer.get_vocab_size()
    return TokenizerFacts(
        blake3=blake3_file(directory / "tokenizer.json"),
        vocab_size=size,
        eos_id=eos_id,
        eos_token=eos,
        dtype="uint16" if token_dtype(size).itemsize == 2 else "uint32",
        encoder=f"unknown, tokens from {name}",
        encoder_check={"checked": False, "why": "the text that was encoded is not at hand"},
    )


def _check_documents(directory: Path, sources: dict[str, SourceFacts]) -> list[str]:
    """Refuse ids given twice; say which promise of ours the files' texts break."""
    frames = [
        pl.read_parquet(
            directory / shard.index_path, columns=["doc_id", "content_hash"]
        ).with_columns(split=pl.lit(split))
        for facts in sources.values()
        for split, split_facts in facts.splits.items()
        for shard in split_facts.shards
    ]
    documents = pl.concat(frames)
    twice = documents.filter(pl.col("doc_id").is_duplicated())
    if len(twice):
        raise DatasetError(
            f"{len(twice)} documents share an id with another, '{twice['doc_id'][0]}' for one; "
            "make ids unique, or leave them out to have new ones given"
        )
    splits = documents.group_by("content_hash").agg(pl.col("split").n_unique())["split"]
    across = int((splits > 1).sum())
    if not across:
        return []
    return [f"{across} texts are in more than one split; `tally verify` will refuse the dataset"]


def _manifest(
    destination: Path, facts: TokenizerFacts, sources: dict[str, SourceFacts], name: str
) -> Manifest:
    return Manifest(
        name=destination.resolve().name,
        config={"converted_from": name},
        tokenizer=facts,
        sources=sources,
        dedup={},
        versions={package: version(package) for package in _PACKAGES},
    )
