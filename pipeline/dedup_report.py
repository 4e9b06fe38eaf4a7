"""What deduplication did, for the manifest: clusters by size, who repeats whom."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup_files import Corpus, Ints

KINDS = ("exact", "near", "held_exact", "held_near")
"""Why a document is dropped; `held_` where the kept one is in a dataset that was there before."""
_CHUNK = 1 << 20


class Report:
    """Counts dropped documents as they are written.

    Args:
        corpus: all inputs.
        members: zeros, uint32 [num_documents]: gets the documents dropped for each one.
    """

    def __init__(self, corpus: Corpus, members: NDArray[np.uint32]) -> None:
        self._corpus, self._members = corpus, members
        self._names = list(dict.fromkeys(item.source for item in corpus.inputs))
        numbers = [self._names.index(item.source) for item in corpus.inputs]
        self._source_of_file = np.array(numbers, np.int64)
        self._kinds: Counter[str] = Counter()
        cells = (len(self._names), len(self._names))
        self._documents, self._characters = np.zeros(cells, np.int64), np.zeros(cells, np.int64)

    def sources(self, rows: Ints) -> list[str]:
        """The source of every row."""
        return [self._names[number] for number in self._source_numbers(rows).tolist()]

    def add(self, rows: Ints, keepers: Ints, kinds: NDArray[np.int8], characters: Ints) -> None:
        """Count dropped documents with their keepers."""
        for number, count in enumerate(np.bincount(kinds, minlength=len(KINDS)).tolist()):
            self._kinds[KINDS[number]] += count
        np.add.at(self._members, keepers, 1)
        cells = (self._source_numbers(rows), self._source_numbers(keepers))
        np.add.at(self._documents, cells, 1)
        np.add.at(self._characters, cells, characters)

    def facts(
        self, config: DedupConfig, priority: Sequence[str], held: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """The facts for the manifest."""
        sizes = self._cluster_sizes()
        counts = {f"dropped_{kind}": self._kinds[kind] for kind in KINDS}
        return {
            "method": "word n-gram MinHash bands for candidates, exact Jaccard for the decision",
            **config.model_dump(mode="json", exclude={"passages"}),
            "against": held,
            "priority": list(priority),
            "documents_in": self._corpus.own,
            **counts,
            "clusters": sum(sizes.values()),
            "cluster_sizes": {str(size): sizes[size] for size in sorted(sizes)},
            "overlap": self._overlap(),
        }

    def _source_numbers(self, rows: Ints) -> Ints:
        found: Ints = self._source_of_file[self._corpus.file_of(rows)]
        return found

    def _cluster_sizes(self) -> Counter[int]:
        sizes: Counter[int] = Counter()
        for start in range(0, len(self._members), _CHUNK):
            found, counts = np.unique(self._members[start : start + _CHUNK], return_counts=True)
            pairs = zip(found.tolist(), counts.tolist(), strict=True)
            sizes.update({size + 1: count for size, count in pairs if size})
        return sizes

    def _overlap(self) -> dict[str, dict[str, dict[str, int]]]:
        """Dropped documents and characters, by their source and the source of the kept copy."""
        out: dict[str, dict[str, dict[str, int]]] = {}
        for row, column in np.argwhere(self._documents).tolist():
            cell = {
                "documents": int(self._documents[row, column]),
                "characters": int(self._characters[row, column]),
            }
            out.setdefault(self._names[row], {})[self._names[column]] = cell
        return out
