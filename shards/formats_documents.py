"""Documents of token files: found by the format's own index, or else between EOS tokens.

Where EOS stands is the maker's choice: nanoGPT, datatrove and we end a document with it, llm.c and
its kin begin one with it, Megatron without --append-eod has none. A document's content is what is
left without it; content never holds it.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from shards.errors import DatasetError
from shards.formats_base import Ids, PeerDocument, Reading, TokenFile

_SCAN_TOKENS = 1 << 24
# A document is decoded whole in memory; one longer than this (about a gigabyte of text) is none.
_MOST_TOKENS = 1 << 28


def read_documents(files: Iterable[TokenFile], reading: Reading) -> Iterator[PeerDocument]:
    """Documents of the files in order; one may go on from a file without index into the next.

    Raises:
        DatasetError: EOS is missing where `reading` says it stands, or stands inside a document.
    """
    unindexed = []
    for file in files:
        if file.ends is None:
            unindexed.append(file)
        else:
            yield from _indexed(file, file.ends.tolist(), reading)
    if unindexed:
        yield from _cut(unindexed, reading)


def _indexed(file: TokenFile, ends: list[int], reading: Reading) -> Iterator[PeerDocument]:
    start = 0
    for row, end in enumerate(ends):
        first, last = _content_span(file, start, end, row, reading)
        content = file.tokens[first:last]
        _require_plain(file, content, first, row, reading.eos_id)
        label = next(file.labels) if file.labels is not None else None
        yield PeerDocument(content, file.path, row, first, label)
        start = end


def _content_span(
    file: TokenFile, start: int, end: int, row: int, reading: Reading
) -> tuple[int, int]:
    """The document [start, end) without its EOS."""
    if reading.eos_at == "none":
        return start, end
    place = start if reading.eos_at == "start" else end - 1
    if start == end or file.tokens[place] != reading.eos_id:
        raise DatasetError(
            f"{file.path}: document {row} (tokens {start} to {end}) has no EOS {reading.eos_id} "
            f"at its {reading.eos_at}; name the right token with --eos, or say where it stands "
            "with --eos-at: 'start', 'end', or 'none' to have one added to every document"
        )
    return (start + 1, end) if reading.eos_at == "start" else (start, end - 1)


def _require_plain(file: TokenFile, content: Ids, start: int, row: int, eos_id: int) -> None:
    inside = np.flatnonzero(content == eos_id)
    if len(inside):
        raise DatasetError(
            f"{file.path}: document {row} has EOS {eos_id} inside, at token {start + inside[0]}: "
            "index and tokens disagree on where documents end. Name the right token with --eos, "
            "or leave the index aside and cut at EOS: --from nanogpt with this file as SRC"
        )


def _cut(files: list[TokenFile], reading: Reading) -> Iterator[PeerDocument]:
    """Cut the files' tokens, one stream, at every EOS."""
    if reading.eos_at == "none":
        raise DatasetError(
            f"{files[0].path}: no index says where documents end, so EOS must; leave "
            "'--eos-at none' away, or convert from a format with an index (megatron, datatrove)"
        )
    first = True
    for document, closed in _between_eos(files, reading):
        if reading.eos_at == "start":
            if first and not closed:
                raise _missing(document, reading)
            keep = bool(len(document.content)) or not first
        else:
            keep = closed
            if not closed and len(document.content):
                raise _missing(document, reading)
        first = False
        if keep:
            yield document


def _missing(document: PeerDocument, reading: Reading) -> DatasetError:
    return DatasetError(
        f"{document.path}: no EOS {reading.eos_id} after token {document.start}, the beginning of "
        f"document {document.row} ({len(document.content)} tokens to the end of the last file): "
        "the files are cut off, EOS is another token (name it with --eos), or it begins documents "
        "instead of ending them, as llm.c writes it (--eos-at start)"
    )


def _between_eos(files: list[TokenFile], reading: Reading) -> Iterator[tuple[PeerDocument, bool]]:
    """Yield what stands between EOS tokens, and whether one follows: not after the last piece."""
    carried: PeerDocument | None = None
    start = row = 0
    for file in files:
        start = row = 0
        for place in _eos_positions(file.tokens, reading.eos_id):
            piece = PeerDocument(file.tokens[start:place], file.path, row, start, None)
            yield _joined(carried, piece), True
            carried, start, row = None, place + 1, row + 1
        if start < len(file.tokens):
            rest = PeerDocument(file.tokens[start:], file.path, row, start, None)
            carried = _joined(carried, rest)
            if len(carried.content) > _MOST_TOKENS:
                raise _missing(carried, reading)
    nothing = PeerDocument(files[-1].tokens[:0], files[-1].path, row, start, None)
    yield _joined(carried, nothing), False


def _joined(carried: PeerDocument | None, piece: PeerDocument) -> PeerDocument:
    """One document of what an earlier file began and this one goes on with."""
    if carried is None:
        return piece
    return carried._replace(content=np.concatenate([carried.content, piece.content]))


def _eos_positions(tokens: Ids, eos_id: int) -> Iterator[int]:
    for start in range(0, len(tokens), _SCAN_TOKENS):
        chunk = tokens[start : start + _SCAN_TOKENS]
        yield from (np.flatnonzero(chunk == eos_id) + start).tolist()
