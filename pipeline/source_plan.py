"""The stages that read sources: download, extract, filter, wired together for `pipeline.plan`."""

from functools import partial

from pipeline import (
    docstrings,
    documents,
    download,
    filters,
    tables,
    text_files,
    warc,
    wheel_text,
)
from pipeline.documents import ReadDocuments, WriteDocuments, recount_extracted
from pipeline.filtered import Filtered
from pipeline.sources import Download, ResolvedSource, canonical
from pipeline.stages import MakeStage, Stage


class SourcePlanner:
    """Makes the stages.

    Args:
        sources: found and pinned.
        stage: makes a stage.
    """

    def __init__(self, sources: dict[str, ResolvedSource], stage: MakeStage) -> None:
        self.sources, self.stage = sources, stage

    def downloads(self) -> dict[str, Stage]:
        """Of the sources that are read from afar."""
        wanted = {name: source.download for name, source in self.sources.items()}
        return {name: self._download(name, what) for name, what in wanted.items() if what}

    def extract(self) -> dict[str, Stage]:
        """Of every source."""
        return {name: self._extract(name) for name in self.sources}

    def filtered(self, extract: dict[str, Stage]) -> Filtered:
        """Of every source that is extracted."""
        return Filtered({name: self._filter(name, stage) for name, stage in extract.items()})

    def _download(self, name: str, wanted: Download) -> Stage:
        return self.stage(
            f"download-{name}",
            [download],
            {"pin": self.sources[name].pin},
            kind=download.DownloadStage,
            num_tasks=len(wanted.files),
            steps=lambda d: [download.DownloadFile(wanted.files, wanted.check, d)],
            recount=partial(download.recount, wanted.files),
            weights=lambda: [file.size / 1e6 for file in wanted.files],
            files=tuple(wanted.files),
            before_fetching=wanted.before,
        )

    def _extract(self, name: str) -> Stage:
        source = self.sources[name]
        return self.stage(
            f"extract-{name}",
            [docstrings, documents, tables, text_files, warc, wheel_text],
            {"source": canonical(source.spec), "pin": source.pin},
            num_tasks=len(source.task_bytes),
            steps=lambda d: [source.reader(d), WriteDocuments(d / "documents")],
            recount=partial(recount_extracted, name, len(source.task_bytes)),
            weights=lambda: [size / 1e6 for size in source.task_bytes],
        )

    def _filter(self, name: str, extracted: Stage) -> Stage:
        spec = self.sources[name].spec
        profile, edits, limits = spec.profile, filters.edits_of(spec), filters.limits_of(spec)
        lengths = [spec.min_characters, spec.max_characters]
        inputs, tasks = extracted.directory / "documents", extracted.num_tasks
        return self.stage(
            f"filter-{name}",
            [documents, filters],
            {
                "extract": extracted.key,
                "profile": profile,
                "edits": sorted(edits),
                "lengths": lengths,
            },
            num_tasks=tasks,
            steps=lambda d: [
                ReadDocuments(inputs),
                filters.ApplyProfile(profile, edits, d / "dropped", d / "edited", limits),
                WriteDocuments(d / "kept"),
            ],
            recount=partial(filters.recount, tasks),
            weights=lambda: _weights(extracted),
        )


def _weights(stage: Stage) -> list[float]:
    return [characters / 1e6 for _, characters in (stage.facts() or {})["tasks"]]
