"""The stages of a build, wired together: what each reads, what its key covers."""

import json
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

import contamination.clusters
import contamination.halves
import contamination.index
import contamination.lookup
import contamination.removal
import contamination.rules
import contamination.scan
import contamination.sequences
import contamination.surprisal
from configs.build import BuildConfig, DecontaminationConfig, TokenizerConfig
from contamination.benchmarks import load_benchmarks
from contamination.index import index_key
from contamination.words import RECIPE_HASH
from pipeline import (
    bpe,
    budget,
    decisions,
    decontamination,
    docstrings,
    documents,
    download,
    encoded,
    encoder_check,
    encoders,
    fast_forms,
    filters,
    layout,
    loss_masks,
    packing,
    revisions,
    roundtrip,
    streams,
    tables,
    text_files,
    tokenizing,
    warc,
    wheel_text,
)
from pipeline.dedup import DUPLICATES
from pipeline.dedup_files import working_bytes
from pipeline.dedup_held import open_held
from pipeline.dedup_plan import DedupPlanner, DedupStages
from pipeline.documents import ReadDocuments, WriteDocuments, task_file
from pipeline.encoder_check import ENCODER, ChooseEncoder, choose, samples
from pipeline.errors import BuildError
from pipeline.funnel import DECONTAMINATE, PASSAGES
from pipeline.given_tokenizer import GivenTokenizer
from pipeline.sources import Download, ResolvedSource, canonical
from pipeline.stages import Stage, stage_key
from pipeline.tokenizing import EncodeDocuments, EncodeInput
from pipeline.unique_ids import refuse_repeated_ids
from shards import hash_table, index, loss_mask, writer
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


class DecontaminationStages(NamedTuple):
    """In the order in which they run."""

    benchmarks: Stage
    scan: Stage
    remove: Stage


class Plan(NamedTuple):
    """All stages of a build, in the order in which they run."""

    download: dict[str, Stage]
    """Of the sources that are read from afar."""
    extract: dict[str, Stage]
    filter: dict[str, Stage]
    find_duplicates: DedupStages
    """Up to the decision, `dedup`."""
    dedup: Stage
    decontaminate: DecontaminationStages | None
    """None where the configuration asks for none."""
    tokenizer: Stage
    encoder: Stage
    encode: Stage
    layout: Stage
    pack: Stage

    def stages(self) -> list[Stage]:
        """Every stage that is of use, in order; what is extracted need not be downloaded."""
        first = [
            stage for name, stage in self.download.items() if self.extract[name].facts() is None
        ]
        between = [*self.find_duplicates.needed(), *(self.decontaminate or ())]
        last = [self.tokenizer, self.encoder, self.encode, self.layout, self.pack]
        return [*first, *self.extract.values(), *self.filter.values(), *between, *last]

    def revising(self) -> dict[str, Stage]:
        """The stages that revise texts after the filters, by their names in the funnel."""
        return _revising(self.find_duplicates, self.decontaminate)


def _revising(found: DedupStages, clean: DecontaminationStages | None) -> dict[str, Stage]:
    cut = {PASSAGES: found.passages.cut} if found.passages else {}
    return cut | ({DECONTAMINATE: clean.remove} if clean else {})


class Planner:
    """Makes the plan of one build.

    Args:
        config: the build's configuration.
        sources: its sources, found and pinned.
        given: its tokenizer; None trains one.
        work: directory that gets the stages' directories.
    """

    def __init__(
        self,
        config: BuildConfig,
        sources: dict[str, ResolvedSource],
        given: GivenTokenizer | None,
        work: Path,
    ) -> None:
        self.config, self.sources, self.given, self.work = config, sources, given, work
        self.versions = versions()
        self.held = open_held(config.dedup.against)
        wanted = config.decontamination
        self.benchmarks = load_benchmarks(wanted.benchmarks) if wanted else []
        self.parts = [name for name, source in sources.items() for _ in source.task_bytes]
        """The source of every extraction task, in reading order."""

    def plan(self) -> Plan:
        """All stages; nothing is read or written."""
        downloads = {
            n: self._download(n, s.download) for n, s in self.sources.items() if s.download
        }
        extract = {name: self._extract(name) for name in self.sources}
        filtered = {name: self._filter(name, stage) for name, stage in extract.items()}
        found = self._dedup(filtered)
        deduped, wanted = found.decide, self.config.decontamination
        clean = self._decontaminate(filtered, found, wanted) if wanted else None
        revised = _revising(found, clean)
        tokenizer = self._tokenizer(filtered, deduped, revised)
        encoder = self._encoder(filtered, tokenizer)
        encode = self._encode(filtered, deduped, revised, tokenizer, encoder)
        laid_out = self._layout(encode, tokenizer)
        pack = self._pack(encode, laid_out, deduped, clean, tokenizer)
        first = (downloads, extract, filtered, found, deduped, clean)
        return Plan(*first, tokenizer, encoder, encode, laid_out, pack)

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

    def _dedup(self, filtered: dict[str, Stage]) -> DedupStages:
        return DedupPlanner(
            self.config.dedup,
            self.held,
            self._named_files(filtered),
            _keys(filtered),
            lambda: self._kept_weights(filtered),
            self._stage,
            working_bytes(self.config.dedup),
        ).plan()

    def _decontaminate(
        self, filtered: dict[str, Stage], found: DedupStages, config: DecontaminationConfig
    ) -> DecontaminationStages:
        inputs, key = self._files(filtered, "kept"), index_key(self.benchmarks)
        deduped, revised = found.decide, _revising(found, None)
        folders = [stage.directory for stage in revised.values()]
        code = {"recipe": RECIPE_HASH, "index": key}
        identity = [decontamination.benchmark_identity(each) for each in self.benchmarks]
        index = self._stage(
            "benchmarks",
            [contamination.index, contamination.lookup, contamination.sequences],
            code,
            num_tasks=1,
            steps=lambda d: [decontamination.BuildIndex(self.benchmarks, d)],
            recount=lambda d: {"benchmarks": identity},
            weights=lambda: [1.0],
        )
        path = index.directory / f"index-{key}"
        scanned = self._stage(
            "scan",
            [contamination.lookup, contamination.scan, contamination.surprisal, decontamination],
            {"dedup": deduped.key, "revised": _keys(revised), "index": index.key, **code},
            num_tasks=len(inputs),
            steps=lambda d: [
                decontamination.ScanForItems(
                    inputs, deduped.directory / DUPLICATES, folders, path, d
                )
            ],
            recount=partial(decontamination.weigh_words, len(inputs), path),
            weights=lambda: self._kept_weights(filtered),
        )
        removed = self._stage(
            "decontaminate",
            [
                contamination.clusters,
                contamination.halves,
                contamination.removal,
                contamination.rules,
                decontamination,
            ],
            {"scan": scanned.key, "config": config.model_dump(), "benchmarks": identity},
            num_tasks=len(inputs),
            steps=lambda d: [
                decontamination.RemoveItems(inputs, folders, path, scanned.directory, config, d)
            ],
            recount=partial(
                decontamination.removal_facts,
                self.benchmarks,
                config,
                path,
                scanned.directory,
                len(inputs),
            ),
            weights=lambda: self._kept_weights(filtered),
        )
        return DecontaminationStages(index, scanned, removed)

    def _tokenizer(
        self, filtered: dict[str, Stage], deduped: Stage, revised: dict[str, Stage]
    ) -> Stage:
        config, split = self.config.tokenizer, self.config.split
        inputs, duplicates = self._named_files(filtered), deduped.directory / DUPLICATES
        given = self.given
        return self._stage(
            "tokenizer",
            [bpe, decisions, revisions],
            {
                "dedup": deduped.key if given is None else None,
                "revised": _keys(revised) if given is None else None,
                "given": None if given is None else given.identity,
                "split": split.model_dump(),
                "config": config.model_dump(exclude={"file", "repo", "revision", "encoder"}),
            },
            num_tasks=1,
            steps=lambda d: [
                bpe.MakeTokenizer(
                    inputs,
                    duplicates,
                    [stage.directory for stage in revised.values()],
                    split,
                    config,
                    given and given.path,
                    d,
                )
            ],
            recount=lambda d: _tokenizer_facts(d, config),
            weights=lambda: [sum(self._kept_weights(filtered))],
        )

    def _encoder(self, filtered: dict[str, Stage], tokenizer: Stage) -> Stage:
        inputs, config = samples(self._named_files(filtered)), self.config.tokenizer
        path = tokenizer.directory / bpe.TOKENIZER
        return self._stage(
            "encoder",
            [encoder_check, encoders, fast_forms],
            {"tokenizer": tokenizer.key, "filter": _keys(filtered), "encoder": config.encoder},
            num_tasks=len(inputs),
            steps=lambda d: [ChooseEncoder(inputs, path, config, d)],
            recount=choose,
            weights=lambda: [1.0] * len(inputs),
        )

    def _encode(
        self,
        filtered: dict[str, Stage],
        deduped: Stage,
        revised: dict[str, Stage],
        tokenizer: Stage,
        encoder: Stage,
    ) -> Stage:
        kept, dropped, edited = (self._files(filtered, folder) for folder in filters.FOLDERS)
        folders = [(name, stage.directory) for name, stage in revised.items()]
        inputs = [
            EncodeInput(*item, folders)
            for item in zip(self.parts, kept, dropped, edited, strict=True)
        ]
        config, split = self.config.tokenizer, self.config.split
        return self._stage(
            "encode",
            [bpe, decisions, encoders, fast_forms, revisions, roundtrip, tokenizing],
            {
                "dedup": deduped.key,
                "revised": _keys(revised),
                "encoder": encoder.key,
                "split": split.model_dump(),
            },
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
            recount=partial(tokenizing.recount, len(inputs)),
            weights=lambda: self._kept_weights(filtered),
        )

    def _layout(self, encode: Stage, tokenizer: Stage) -> Stage:
        ranks, config = {name: self.ranks_of(name) for name in self.sources}, self.config
        return self._stage(
            "layout",
            [budget, encoded, layout, writer],
            {"encode": encode.key, "shards": config.shards.model_dump()},
            num_tasks=len(ranks),
            steps=lambda d: [
                layout.LayOutSources(
                    ranks,
                    encode.directory,
                    tokenizer.directory / bpe.TOKENIZER,
                    config.tokenizer,
                    config.shards,
                    d,
                )
            ],
            recount=lambda d: {},
            weights=lambda: [_tokens_mb(encode.directory, ranks[name]) for name in ranks],
        )

    def _pack(
        self,
        encode: Stage,
        laid_out: Stage,
        deduped: Stage,
        clean: DecontaminationStages | None,
        tokenizer: Stage,
    ) -> Stage:
        config, wanted = self.config, self.config.decontamination
        tasks = list(self._pack_tasks())
        masks = clean.remove if clean and wanted and wanted.action == "mask" else None
        return self._stage(
            "pack",
            [budget, encoded, loss_mask, loss_masks, packing, writer, index, hash_table],
            {"layout": laid_out.key, "dedup": deduped.key, "masks": masks and masks.key},
            num_tasks=len(tasks),
            steps=lambda d: [
                packing.PackShards(
                    tasks,
                    {name: self.ranks_of(name) for name in self.sources},
                    encode.directory,
                    laid_out.directory,
                    deduped.directory / DUPLICATES,
                    masks.directory if masks else None,
                    tokenizer.directory / bpe.TOKENIZER,
                    config.tokenizer,
                    config.shards,
                    d / DATASET,
                    d,
                )
            ],
            recount=lambda d: {},
            weights=lambda: [
                sum(plan.tokens for plan in task.plans(laid_out.directory)) / 1e6 for task in tasks
            ],
        )

    def _pack_tasks(self) -> Iterator[packing.PackTask]:
        for name, source in self.sources.items():
            number = layout.num_tasks(sum(source.task_bytes), self.config.shards.shard_tokens)
            yield from (packing.PackTask(name, first, number) for first in range(number))

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
    paths = [task_file(folder, rank) for rank in range(num_tasks)]
    refuse_repeated_ids(name, paths, facts["documents"])
    return facts


def _weights(stage: Stage) -> list[float]:
    return [characters / 1e6 for _, characters in (stage.facts() or {})["tasks"]]


def _tokenizer_facts(folder: Path, config: TokenizerConfig) -> dict[str, Any]:
    path, trained_on = folder / bpe.TOKENIZER, folder / bpe.TRAINED_ON
    bpe.load_tokenizer(path)  # says what is wrong with a given one
    return {
        "blake3": blake3_file(path),
        "vocab_size": bpe.num_ids(bpe.vocabulary(path)),
        "eos_id": bpe.document_ends(path, config).eos_id,
        "trained_on": json.loads(trained_on.read_text()) if trained_on.exists() else None,
    }


def _tokens_mb(encoded: Path, ranks: range) -> float:
    return sum(tokenizing.tokens_file(encoded, rank).stat().st_size for rank in ranks) / 1e6
