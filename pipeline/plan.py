"""The stages of a build, wired together: what each reads, what its key covers."""

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

import contamination.words
from configs.build import BuildConfig, TokenizerConfig
from pipeline import (
    bpe,
    budget,
    decisions,
    dedup,
    docstrings,
    documents,
    download,
    encoders,
    filters,
    ngrams,
    packing,
    signatures,
    streams,
    tables,
    text_files,
    tokenizing,
    warc,
    wheel_text,
)
from pipeline.dedup import DUPLICATES, DedupInput, FindDuplicates, refuse_repeated_ids
from pipeline.documents import ReadDocuments, WriteDocuments, task_file
from pipeline.errors import BuildError
from pipeline.signatures import WriteSignatures, signature_file
from pipeline.sources import Download, ResolvedSource, canonical
from pipeline.stages import Stage, stage_key
from pipeline.tokenizing import ENCODER, ChooseEncoder, EncodeDocuments, EncodeInput
from shards.hashing import blake3_file

_PACKAGES = (
    *("blake3", "datatrove", "fastokens", "numba", "numpy", "polars", "py3langid", "pyarrow"),
    *("rensa", "spacy"),
)
DATASET = "dataset"


def versions() -> dict[str, str]:
    """Versions of the packages whose code determines the dataset's bytes."""
    found = {name: version(name) for name in (*_PACKAGES, "tokenizers")}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}


class Plan(NamedTuple):
    """All stages of a build, in the order in which they run."""

    download: dict[str, Stage]
    """Of the sources that are read from afar."""
    extract: dict[str, Stage]
    filter: dict[str, Stage]
    signatures: Stage
    dedup: Stage
    tokenizer: Stage
    encoder: Stage
    encode: Stage
    pack: Stage

    def stages(self) -> list[Stage]:
        """Every stage that is of use, in order; what is extracted need not be downloaded."""
        first = [
            stage for name, stage in self.download.items() if self.extract[name].facts() is None
        ]
        last = [self.signatures, self.dedup, self.tokenizer, self.encoder, self.encode, self.pack]
        return [*first, *self.extract.values(), *self.filter.values(), *last]


class Planner:
    """Makes the plan of one build.

    Args:
        config: the build's configuration.
        sources: its sources, found and pinned.
        work: directory that gets the stages' directories.
    """

    def __init__(self, config: BuildConfig, sources: dict[str, ResolvedSource], work: Path) -> None:
        self.config, self.sources, self.work = config, sources, work
        self.versions = versions()
        self.parts = [name for name, source in sources.items() for _ in source.task_bytes]
        """The source of every extraction task, in reading order."""

    def plan(self) -> Plan:
        """All stages; nothing is read or written."""
        downloads = {
            n: self._download(n, s.download) for n, s in self.sources.items() if s.download
        }
        extract = {name: self._extract(name) for name in self.sources}
        filtered = {name: self._filter(name, stage) for name, stage in extract.items()}
        signed = self._signatures(filtered)
        deduped = self._dedup(filtered, signed)
        tokenizer = self._tokenizer(filtered, deduped)
        encoder = self._encoder(filtered, tokenizer)
        encode = self._encode(filtered, deduped, tokenizer, encoder)
        pack = self._pack(encode, deduped, tokenizer)
        return Plan(downloads, extract, filtered, signed, deduped, tokenizer, encoder, encode, pack)

    def ranks_of(self, source: str) -> range:
        """The tasks that hold a source, in the stages whose tasks cover all sources."""
        first = self.parts.index(source)
        return range(first, first + self.parts.count(source))

    def _stage(
        self,
        name: str,
        modules: list[Any],
        inputs: dict[str, Any],
        kind: type[Stage] = Stage,
        **rest: Any,
    ) -> Stage:
        key = stage_key(name, modules, inputs | {"versions": self.versions})
        return kind(name=name, key=key, directory=self.work / f"{name}-{key[:16]}", **rest)

    def _download(self, name: str, wanted: Download) -> Stage:
        return self._stage(
            f"download-{name}",
            [download],
            {"pin": self.sources[name].pin},
            kind=download.DownloadStage,
            num_tasks=len(wanted.files),
            steps=lambda d: [download.DownloadFile(wanted.files, wanted.check, d)],
            recount=lambda d: {"bytes": sum(file.size for file in wanted.files)},
            weights=lambda: [file.size / 1e6 for file in wanted.files],
            files=tuple(wanted.files),
            before_fetching=wanted.before,
        )

    def _extract(self, name: str) -> Stage:
        source = self.sources[name]
        return self._stage(
            f"extract-{name}",
            [docstrings, documents, streams, tables, text_files, warc, wheel_text],
            {"source": canonical(source.spec), "pin": source.pin},
            num_tasks=len(source.task_bytes),
            steps=lambda d: [source.reader(d), WriteDocuments(d / "documents")],
            recount=partial(_recount_extracted, name, len(source.task_bytes)),
            weights=lambda: [size / 1e6 for size in source.task_bytes],
        )

    def _filter(self, name: str, extracted: Stage) -> Stage:
        profile = self.sources[name].spec.profile
        edits = filters.edits_of(self.sources[name].spec)
        inputs, tasks = extracted.directory / "documents", extracted.num_tasks
        return self._stage(
            f"filter-{name}",
            [documents, *filters.MODULES],
            {"extract": extracted.key, "profile": profile, "edits": sorted(edits)},
            num_tasks=tasks,
            steps=lambda d: [
                ReadDocuments(inputs),
                filters.ApplyProfile(profile, edits, d / "dropped", d / "edited"),
                WriteDocuments(d / "kept"),
            ],
            recount=lambda d: {f: _recount(d / f, tasks) for f in filters.FOLDERS},
            weights=lambda: _weights(extracted),
        )

    def _signatures(self, filtered: dict[str, Stage]) -> Stage:
        kept = self._files(filtered, "kept")
        config = self.config.dedup
        shape = config.model_dump(include={"ngram_words", "bands", "rows_per_band", "seed"})
        return self._stage(
            "signatures",
            [contamination.words, ngrams, signatures],
            shape | {"filter": _keys(filtered)},
            num_tasks=len(self.parts),
            steps=lambda d: [WriteSignatures(kept, config, d)],
            recount=lambda d: {},
            weights=lambda: self._kept_weights(filtered),
        )

    def _dedup(self, filtered: dict[str, Stage], signed: Stage) -> Stage:
        config = self.config.dedup
        priority = list(dict.fromkeys([*config.priority, *self.sources]))
        inputs = [
            DedupInput(name, path, signature_file(signed.directory, rank))
            for rank, (name, path) in enumerate(self._named_files(filtered))
        ]
        return self._stage(
            "dedup",
            [contamination.words, dedup, ngrams],
            {"signatures": signed.key, "config": config.model_dump(), "priority": priority},
            num_tasks=1,
            steps=lambda d: [FindDuplicates(inputs, priority, config, d)],
            recount=lambda d: {"dropped": len(pl.read_parquet(d / DUPLICATES, columns=["doc_id"]))},
            weights=lambda: [sum(self._kept_weights(filtered))],
        )

    def _tokenizer(self, filtered: dict[str, Stage], deduped: Stage) -> Stage:
        config, split = self.config.tokenizer, self.config.split
        inputs, duplicates = self._named_files(filtered), deduped.directory / DUPLICATES
        given = None if config.file is None else _given_tokenizer(config.file)
        return self._stage(
            "tokenizer",
            [bpe, decisions],
            {
                "dedup": deduped.key if given is None else None,
                "file": given,
                "split": split.model_dump(),
                "config": config.model_dump(exclude={"file", "encoder"}),
            },
            num_tasks=1,
            steps=lambda d: [bpe.MakeTokenizer(inputs, duplicates, split, config, d)],
            recount=lambda d: _tokenizer_facts(d / bpe.TOKENIZER, config),
            weights=lambda: [sum(self._kept_weights(filtered))],
        )

    def _encoder(self, filtered: dict[str, Stage], tokenizer: Stage) -> Stage:
        inputs, config = self._named_files(filtered), self.config.tokenizer
        path = tokenizer.directory / bpe.TOKENIZER
        return self._stage(
            "encoder",
            [encoders, tokenizing],
            {"tokenizer": tokenizer.key, "filter": _keys(filtered), "encoder": config.encoder},
            num_tasks=1,
            steps=lambda d: [ChooseEncoder(inputs, path, config, d)],
            recount=lambda d: {},
            weights=lambda: [1.0],
        )

    def _encode(
        self, filtered: dict[str, Stage], deduped: Stage, tokenizer: Stage, encoder: Stage
    ) -> Stage:
        files = (self._files(filtered, folder) for folder in filters.FOLDERS)
        inputs = [EncodeInput(*item) for item in zip(self.parts, *files, strict=True)]
        config, split = self.config.tokenizer, self.config.split
        return self._stage(
            "encode",
            [bpe, decisions, encoders, tokenizing],
            {"dedup": deduped.key, "encoder": encoder.key, "split": split.model_dump()},
            num_tasks=len(inputs),
            steps=lambda d: [
                EncodeDocuments(
                    inputs,
                    deduped.directory / DUPLICATES,
                    tokenizer.directory / bpe.TOKENIZER,
                    encoder.directory / ENCODER,
                    split,
                    config,
                    d,
                )
            ],
            recount=lambda d: {},
            weights=lambda: self._kept_weights(filtered),
        )

    def _pack(self, encode: Stage, deduped: Stage, tokenizer: Stage) -> Stage:
        ranks = {name: self.ranks_of(name) for name in self.sources}
        config = self.config
        return self._stage(
            "pack",
            [budget, packing],
            {"encode": encode.key, "shards": config.shards.model_dump()},
            num_tasks=len(ranks),
            steps=lambda d: [
                packing.PackSource(
                    ranks,
                    encode.directory,
                    deduped.directory / DUPLICATES,
                    tokenizer.directory / bpe.TOKENIZER,
                    config.tokenizer,
                    config.shards,
                    d / DATASET,
                    d,
                )
            ],
            recount=lambda d: {},
            weights=lambda: [_tokens_mb(encode.directory, ranks[name]) for name in ranks],
        )

    def _files(self, filtered: dict[str, Stage], folder: str) -> list[Path]:
        return [
            task_file(stage.directory / folder, rank)
            for stage in filtered.values()
            for rank in range(stage.num_tasks)
        ]

    def _named_files(self, filtered: dict[str, Stage]) -> list[tuple[str, Path]]:
        return list(zip(self.parts, self._files(filtered, "kept"), strict=True))

    def _kept_weights(self, filtered: dict[str, Stage]) -> list[float]:
        kept = [(stage.facts() or {})["kept"] for stage in filtered.values()]
        return [characters / 1e6 for facts in kept for _, characters in facts["tasks"]]


def _keys(stages: dict[str, Stage]) -> dict[str, str]:
    return {name: stage.key for name, stage in stages.items()}


def _recount(folder: Path, num_tasks: int) -> dict[str, Any]:
    """Documents and characters in the files of a folder, counted from their rows."""
    columns = [
        pl.read_parquet(task_file(folder, rank), columns=["characters"])["characters"]
        for rank in range(num_tasks)
    ]
    tasks = [(len(column), int(column.sum())) for column in columns]
    documents, characters = (sum(task[i] for task in tasks) for i in (0, 1))
    return {"documents": documents, "characters": characters, "tasks": tasks}


def _recount_extracted(name: str, num_tasks: int, directory: Path) -> dict[str, Any]:
    folder = directory / "documents"
    facts = _recount(folder, num_tasks)
    if not facts["documents"]:
        raise BuildError(f"source '{name}': its files hold no documents; check what it names")
    ids = pl.read_parquet(folder / "*.parquet", columns=["doc_id"])
    refuse_repeated_ids(ids.with_columns(source=pl.lit(name)))
    return facts


def _weights(stage: Stage) -> list[float]:
    return [characters / 1e6 for _, characters in (stage.facts() or {})["tasks"]]


def _given_tokenizer(path: Path) -> str:
    if not path.is_file():
        raise BuildError(f"tokenizer.file: {path}: no such file; give a tokenizer.json")
    return blake3_file(path)


def _tokenizer_facts(path: Path, config: TokenizerConfig) -> dict[str, Any]:
    eos_id = bpe.document_ends(path, config).eos_id
    return {
        "blake3": blake3_file(path), "vocab_size": bpe.num_ids(bpe.load_tokenizer(path)),
        "eos_id": eos_id,
    }  # fmt: skip


def _tokens_mb(encoded: Path, ranks: range) -> float:
    return sum(tokenizing.tokens_file(encoded, rank).stat().st_size for rank in ranks) / 1e6
