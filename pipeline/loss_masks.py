"""Which tokens give no loss: the places of benchmark items, in a build that masks them.

Places are bytes of a text, so a token is masked when some of its bytes lie in a place. Where tokens
do not stand for the bytes of the text, nothing says which they are: all of the document is masked.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from pipeline.bpe import DocumentEnds
from pipeline.documents import task_file
from pipeline.revisions import PLACES
from shards.detokenize import ByteTable, byte_table, tokens_holding
from shards.errors import DatasetError
from shards.loss_mask import Spans, merged
from shards.shard_files import Tokens


class LossMasks:
    """The places in the documents of one source.

    Args:
        folder: of the decontamination stage; None where a build masks nothing.
        ranks: its tasks that hold the source.
        tokenizer: the tokenizer.json.
        ends: what stands at the ends of documents.
    """

    def __init__(
        self, folder: Path | None, ranks: Iterable[int], tokenizer: Path, ends: DocumentEnds
    ) -> None:
        self._places: dict[str, list[tuple[int, int]]] = {}
        files = [task_file(folder / PLACES, rank) for rank in ranks] if folder else []
        for places in map(pl.read_parquet, files):
            for doc_id, start, end in places.select("doc_id", "start", "end").iter_rows():
                self._places.setdefault(doc_id, []).append((start, end))
        self._before = ends.per_document - 1
        self._table = _table(tokenizer) if self._places else None

    def spans(self, rows: pl.DataFrame, tokens: Tokens) -> Spans:
        """The masked tokens among those of documents, given by rows of the document index."""
        found: list[tuple[int, int]] = []
        stops = rows["token_count"].cum_sum().to_list()
        sizes = zip(rows["doc_id"], rows["token_count"], rows["byte_count"], stops, strict=True)
        for doc_id, count, size, stop in sizes if self._places else ():
            if doc_id in self._places:
                start = stop - count
                found += [
                    (start + first, start + last)
                    for first, last in self._of(doc_id, tokens[start:stop], size)
                ]
        return merged(np.array(found, np.int64).reshape(-1, 2))

    def _of(self, doc_id: str, tokens: Tokens, size: int) -> list[tuple[int, int]]:
        text = tokens[self._before : -1]
        ends = self._table.ends(text) if self._table else np.zeros(1, np.int64)
        if not len(text) or int(ends[-1]) != size:
            return [(0, len(tokens))]
        held = (tokens_holding(ends, *place) for place in self._places[doc_id])
        return [(first + self._before, last + self._before) for first, last in held]


def _table(tokenizer: Path) -> ByteTable | None:
    try:
        return byte_table(Tokenizer.from_file(str(tokenizer)))
    except DatasetError:
        return None
