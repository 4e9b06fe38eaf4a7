"""A scan that other machines do: what they are told, and the function that sends them to work.

Executors belong to the build, which this folder must not import. So it only describes the job, and
`tally` hands in the function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.executor import ExecutorConfig
from contamination.audit import scan_only
from contamination.classic import Name
from contamination.corpus import Corpus, Part, open_corpus
from contamination.items import Benchmark
from contamination.stored import Store


@dataclass(frozen=True)
class ScanJob:
    """The scan of a corpus, in shares; results go to the cache, which all machines see."""

    address: str
    """Of the corpus, good in any working directory."""
    text_column: str
    benchmarks: list[Benchmark]
    also: Sequence[Name]
    """Classic definitions to scan by too."""
    cache: Path
    """The audit's folder in TALLY_CACHE."""

    @property
    def scans(self) -> Path:
        """Where results are kept."""
        return self.cache / "scans"

    def unscanned(self, corpus: Corpus) -> int:
        """Pieces of the corpus that were not scanned for all benchmarks."""
        store = Store(self.scans)
        return sum(bool(store.missing(piece, self.benchmarks)) for piece in corpus.pieces)

    def scan(self, part: Part, workers: int) -> None:
        """Scan one share, on the machine that calls this."""
        corpus = open_corpus(self.address, self.text_column, part)
        scan_only(corpus, self.benchmarks, self.scans, self.cache, workers, self.also)


Elsewhere = Callable[[ScanJob, Corpus, ExecutorConfig], None]
"""Scans a corpus by an executor."""
