"""Prove that a dataset is what its manifest says: every file, every token, every document.

Checks: the manifest hashes to its id; all listed files are there and no others; sizes and BLAKE3
checksums; the tokenizer's vocabulary and EOS; token ids within the vocabulary; EOS at the end of
every document and nowhere else; the index covers every token; the table of ids is the index's;
masked spans lie in their shard, in order; counts equal the manifest's; no document id twice; no
content in two splits.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.index import SCHEMA, write_ids
from shards.loss_mask import problem, read_spans
from shards.manifest import Manifest, MaskFacts, ShardFacts, SplitFacts, load_manifest
from shards.tokenizer_file import load_tokenizer

_CHUNK_TOKENS = 1 << 20
_REQUIRED = ["doc_id", "token_start", "token_count", "char_count", "byte_count", "content_hash"]


@dataclass
class VerifyReport:
    """What was checked and everything that was found wrong."""

    dataset_id: str
    files: int = 0
    bytes: int = 0
    tokens: int = 0
    documents: int = 0
    problems: list[str] = field(default_factory=list)


def verify_dataset(path: Path, advance: Callable[[float], None] = lambda _: None) -> VerifyReport:
    """Check a whole dataset; problems are collected, not raised.

    Args:
        path: the dataset directory.
        advance: called with the bytes of every file once it is checked.

    Raises:
        DatasetError: there is no readable manifest to check against.
    """
    manifest = load_manifest(path)
    report = VerifyReport(manifest.dataset_id)
    _check_file_list(path, manifest, report)
    _check_tokenizer(path, manifest, report)
    indexes: list[pl.DataFrame] = []
    for source, facts in manifest.sources.items():
        for split, split_facts in facts.splits.items():
            for shard in split_facts.shards:
                for index in _check_shard(path, manifest, shard, report):
                    columns = index.select("doc_id", "content_hash", "char_count", "byte_count")
                    indexes.append(columns.with_columns(split=pl.lit(split)))
                advance(_shard_bytes(shard))
            _check_totals(f"{source}/{split}", split_facts, report)
    if indexes:
        _check_documents(pl.concat(indexes), manifest, report)
    return report


def total_bytes(path: Path) -> int:
    """Bytes of all shards and indexes, the unit of `verify_dataset`'s progress."""
    return sum(_shard_bytes(shard) for _, _, shard in load_manifest(path).shards())


def _shard_bytes(shard: ShardFacts) -> int:
    masked = shard.masked.bytes if shard.masked else 0
    return shard.bytes + shard.index_bytes + shard.ids_bytes + masked


def _check_file_list(path: Path, manifest: Manifest, report: VerifyReport) -> None:
    found = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()}
    listed = manifest.files()
    report.files = len(listed)
    report.problems += [f"{name}: missing" for name in sorted(listed - found)]
    report.problems += [f"{name}: not in the manifest" for name in sorted(found - listed)]
    report.problems += [f"{n}: a symbolic link" for n in sorted(found) if (path / n).is_symlink()]


def _check_tokenizer(path: Path, manifest: Manifest, report: VerifyReport) -> None:
    facts = manifest.tokenizer
    file = path / facts.file
    if not file.is_file():
        return
    if blake3_file(file) != facts.blake3:
        report.problems.append(f"{facts.file}: checksum differs from the manifest")
        return
    try:
        tokenizer = load_tokenizer(file)
    except DatasetError as error:
        report.problems.append(str(error))
        return
    if tokenizer.get_vocab_size() != facts.vocab_size:
        report.problems.append(f"{facts.file}: {tokenizer.get_vocab_size()} entries, not listed")
    if tokenizer.token_to_id(facts.eos_token) != facts.eos_id:
        report.problems.append(f"{facts.file}: EOS {facts.eos_token!r} is not id {facts.eos_id}")


def _check_shard(
    path: Path, manifest: Manifest, shard: ShardFacts, report: VerifyReport
) -> Iterator[pl.DataFrame]:
    """Check one shard and its index; yields the index when it can be read."""
    whole = _check_bytes(path, shard.path, shard.bytes, shard.blake3, report)
    index_facts = shard.index_path, shard.index_bytes, shard.index_blake3
    index_whole = _check_bytes(path, *index_facts, report)
    ids_whole = _check_bytes(path, shard.ids_path, shard.ids_bytes, shard.ids_blake3, report)
    if shard.masked:
        _check_mask(path, shard, shard.masked, report)
    if not index_whole:
        return
    try:
        index = pl.read_parquet(path / shard.index_path)
    except (PolarsError, PanicException, OSError) as error:
        report.problems.append(f"{shard.index_path}: not readable as Parquet ({error})")
        return
    if (
        index.schema != pl.Schema(SCHEMA)
        or index.select(_REQUIRED).null_count().sum_horizontal()[0]
    ):
        report.problems.append(f"{shard.index_path}: columns {index.schema}, or empty values")
        return
    _check_coverage(index, shard, report)
    if ids_whole:
        _check_ids(path, shard, index, report)
    if whole:
        _check_tokens(path, manifest, shard, index, report)
    yield index


def _check_bytes(path: Path, name: str, size: int, digest: str, report: VerifyReport) -> bool:
    """Whether a file of the dataset has the size and the checksum that the manifest says."""
    file = path / name
    if not file.is_file():
        return False  # reported as missing already
    report.bytes += file.stat().st_size
    if file.stat().st_size != size:
        report.problems.append(f"{name}: {file.stat().st_size} bytes, the manifest says {size}")
        return False
    if blake3_file(file) != digest:
        report.problems.append(f"{name}: checksum differs from the manifest")
        return False
    return True


def _check_coverage(index: pl.DataFrame, shard: ShardFacts, report: VerifyReport) -> None:
    """The documents lie end to end and cover the shard."""
    report.documents += len(index)
    if len(index) != shard.documents:
        report.problems.append(f"{shard.index_path}: {len(index)} rows, not {shard.documents}")
    counts = index["token_count"].to_numpy()
    starts = np.concatenate([[0], np.cumsum(counts)])
    if not np.array_equal(starts[:-1], index["token_start"].to_numpy()):
        report.problems.append(f"{shard.index_path}: documents do not lie end to end")
    if starts[-1] != shard.tokens:
        report.problems.append(f"{shard.index_path}: covers {starts[-1]} of {shard.tokens} tokens")


def _check_ids(path: Path, shard: ShardFacts, index: pl.DataFrame, report: VerifyReport) -> None:
    """The table of ids has the bytes that the index gives."""
    expected = io.BytesIO()
    write_ids(index, expected)
    if expected.getvalue() != (path / shard.ids_path).read_bytes():
        report.problems.append(f"{shard.ids_path}: not the table of {shard.index_path}")


def _check_mask(path: Path, shard: ShardFacts, mask: MaskFacts, report: VerifyReport) -> None:
    """The spans that give no loss lie in the shard, in order, and are as many tokens as stated."""
    if not _check_bytes(path, mask.path, mask.bytes, mask.blake3, report):
        return
    try:
        spans = read_spans(path / mask.path)
    except DatasetError as error:
        report.problems.append(str(error))
        return
    found = problem(spans, shard.tokens)
    tokens = int((spans[:, 1] - spans[:, 0]).sum())
    if found is None and tokens != mask.tokens:
        found = f"{tokens} tokens, the manifest says {mask.tokens}"
    if found is not None:
        report.problems.append(f"{mask.path}: {found}")


def _check_tokens(
    path: Path, manifest: Manifest, shard: ShardFacts, index: pl.DataFrame, report: VerifyReport
) -> None:
    facts = manifest.tokenizer
    tokens = np.memmap(path / shard.path, dtype=np.dtype(facts.dtype).newbyteorder("<"), mode="r")
    report.tokens += len(tokens)
    if len(tokens) != shard.tokens:
        report.problems.append(f"{shard.path}: {len(tokens)} tokens, not {shard.tokens}")
        return
    ends = index["token_start"].to_numpy() + index["token_count"].to_numpy() - 1
    eos = [np.empty(0, np.int64)]
    for start in range(0, len(tokens), _CHUNK_TOKENS):
        chunk = tokens[start : start + _CHUNK_TOKENS]
        if int(chunk.max()) >= facts.vocab_size:
            where = start + int(np.argmax(chunk >= facts.vocab_size))
            report.problems.append(f"{shard.path}: id {tokens[where]} at token {where}: no such id")
        eos.append(np.flatnonzero(chunk == facts.eos_id) + start)
    if not np.array_equal(np.concatenate(eos), ends):
        stray = np.setxor1d(np.concatenate(eos), ends)
        report.problems.append(
            f"{shard.path}: EOS and document ends differ in {len(stray)} places, "
            f"the first at token {stray[0]}"
        )


def _check_totals(name: str, facts: SplitFacts, report: VerifyReport) -> None:
    for what in ("tokens", "documents"):
        total = sum(getattr(shard, what) for shard in facts.shards)
        if total != getattr(facts, what):
            report.problems.append(
                f"{name}: shards hold {total} {what}, the manifest says {getattr(facts, what)}"
            )


def _check_documents(documents: pl.DataFrame, manifest: Manifest, report: VerifyReport) -> None:
    splits = [s for facts in manifest.sources.values() for s in facts.splits.values()]
    for column, field_name in (("char_count", "characters"), ("byte_count", "bytes_utf8")):
        stated = sum(getattr(split, field_name) for split in splits)
        if documents[column].sum() != stated:
            report.problems.append(
                f"indexes hold {documents[column].sum()} {field_name}, the manifest says {stated}"
            )
    twice = documents["doc_id"].len() - documents["doc_id"].n_unique()
    if twice:
        report.problems.append(f"{twice} document id(s) given twice")
    across = documents.group_by("content_hash").agg(pl.col("split").n_unique() > 1)["split"].sum()
    if across:
        report.problems.append(f"{across} text(s) in more than one split")


def require_sound(report: VerifyReport) -> None:
    """Raise DatasetError with all problems of a report, if there are any."""
    if report.problems:
        lines = "\n".join(f"  {problem}" for problem in report.problems)
        raise DatasetError(
            f"{len(report.problems)} problem(s); rebuild the dataset or restore the files\n{lines}"
        )
