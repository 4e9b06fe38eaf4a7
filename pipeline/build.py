"""`tally build`: sources in, one sealed dataset out; resumable, the same bytes every time.

The dataset is put together in the work directory (`<output>.work`) and moved to its place as a
whole, so the output directory is complete or not there. A second run does what the first left
undone; with nothing left, it says so.
"""

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from configs.build import BuildConfig, HubSource
from configs.executor import ExecutorConfig
from configs.terminal import console
from pipeline import bpe, funnel, hub
from pipeline.documents import task_file
from pipeline.errors import BuildError
from pipeline.filters import edits_of
from pipeline.given_tokenizer import given_tokenizer, keep_pin
from pipeline.lock import locked
from pipeline.packing import read_packed
from pipeline.plan import DATASET, Plan, Planner
from pipeline.prune import tidy
from pipeline.report import PAGE, is_current, write_report
from pipeline.roundtrip import RoundTrip
from pipeline.runner import stage_runner
from pipeline.samples import works
from pipeline.sources import ResolvedSource, resolve, unreadable_files
from pipeline.tokenizing import edits_file
from pipeline.upload import dataset_at, upload
from shards.atomic import atomic_write, sync, write_json_atomic
from shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    RoundTripFacts,
    SourceFacts,
    TokenizerFacts,
    load_manifest,
    seal,
)
from shards.views import funnel_table
from shards.writer import token_dtype

_LOG = "build_log.json"


class Built(NamedTuple):
    """A finished build."""

    path: Path
    manifest: Manifest
    reused: bool
    """Whether the dataset was there already."""
    page: Path
    """build.html, for people."""
    address: str | None = None
    """Where in remote storage it was copied to."""


def build(
    config: BuildConfig,
    output: Path,
    workers: int | None = 1,
    dry_run: bool = False,
    address: str | None = None,
    prune: bool = False,
) -> Built | None:
    """Build the dataset, or finish the build that an earlier run began.

    Args:
        config: what to build.
        output: the dataset's directory; `<output>.work` gets the intermediate files.
        workers: most tasks at a time, None for as many as there is room for; they change the
            time it takes, never a byte.
        dry_run: only say what would be done; returns None.
        address: remote storage, as `s3://bucket/name`, that the dataset is copied to.
        prune: delete intermediate files of other configurations afterwards.

    Raises:
        BuildError: something about configuration, input or directories is in the way.
    """
    work = Path(os.path.abspath(output)).with_name(f"{output.name}.work")  # for other machines
    with _explained(work), nullcontext() if dry_run else locked(work):
        sources = _resolved(config, output, work)
        given = given_tokenizer(config.tokenizer, output, work)
        if not dry_run:
            _keep_pins(sources, work)
            keep_pin(config.tokenizer, given, work)
        planner = Planner(config, sources, given, work)
        plan = planner.plan()
        page = work / PAGE
        there = None if address is None else dataset_at(address)
        if there is not None:
            _refuse_other(f"{address}", there, planner)
            console.print(f"{address} is up to date: nothing to do.")
            return Built(output, there, reused=True, page=page, address=address)
        finished = _finished(output, planner)
        if finished is not None:
            console.print(f"{output} is up to date: nothing to do.")
            if not dry_run and not is_current(page, finished):
                write_report(finished, output, works(plan, planner), page)
            return _delivered(Built(output, finished, True, page, address), plan, prune, dry_run)
        _announce(plan, sources)
        if dry_run:
            return None
        if given is not None and plan.tokenizer.facts() is None:
            given.bring()
        times = _run(plan, config.executor, workers)
        manifest = _publish(plan, planner, output)
        log = {"seconds": times, "executor": config.executor.kind, "workers": workers}
        write_json_atomic(work / _LOG, log)
        write_report(manifest, output, works(plan, planner), page)
        return _delivered(Built(output, manifest, False, page, address), plan, prune)


def _delivered(built: Built, plan: Plan, prune: bool, dry_run: bool = False) -> Built:
    """Copy the dataset to its address, if it has one, and look after the intermediate files."""
    if not dry_run:
        if built.address is not None:
            upload(built.path, built.address)
        stages = [*plan.download.values(), *plan.stages()]
        tidy(built.page.parent, [stage.directory for stage in stages], prune)
    return built


def _resolved(config: BuildConfig, output: Path, work: Path) -> dict[str, ResolvedSource]:
    known = hub.known_pins(output, work, config.sources)
    return {name: resolve(name, spec, known.get(name)) for name, spec in config.sources.items()}


def _keep_pins(sources: dict[str, ResolvedSource], work: Path) -> None:
    for name, source in sources.items():
        if isinstance(source.spec, HubSource):
            hub.save_pin(hub.pins_path(work, name), source.spec, source.pin)


@contextmanager
def _explained(work: Path) -> Iterator[None]:
    """Turn the system's errors about space and rights into the user's."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BuildError(
                f"no more can be written at {work} ({error.strerror}); make room and run again: "
                "finished tasks are kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise BuildError(f"cannot write or read {error.filename}: {error.strerror}") from error
        raise


def _announce(plan: Plan, sources: dict[str, ResolvedSource]) -> None:
    for name, source in sources.items():
        size = sum(source.task_bytes) / 1e6
        console.print(f"source {name}: {source.spec.kind}, {size:.1f} MB of input", highlight=False)
    states: dict[str, list[str]] = {}
    for stage in plan.stages():
        states.setdefault(stage.state(), []).append(stage.name)
    for state, names in states.items():
        label = {"done": "reused", "to do": "to do"}.get(state, f"to finish ({state})")
        console.print(f"{label}: {', '.join(names)}")


def _run(plan: Plan, executor: ExecutorConfig, workers: int | None) -> dict[str, float]:
    """Run all stages; returns the seconds of each."""
    times = {}
    with stage_runner(executor, workers) as runner:
        for stage in plan.stages():
            start = time.monotonic()
            stage.run(runner)
            times[stage.name] = round(time.monotonic() - start, 2)
            plan.find_duplicates.clear()
    return times


def _publish(plan: Plan, planner: Planner, output: Path) -> Manifest:
    """Seal the packed dataset and move it to its place."""
    manifest = _manifest(plan, planner)
    dataset = plan.pack.directory / DATASET
    with atomic_write(dataset / bpe.TOKENIZER) as file:
        file.write((plan.tokenizer.directory / bpe.TOKENIZER).read_bytes())
    manifest = seal(dataset, manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    os.replace(dataset, output)  # replaces an empty directory, refuses any other
    sync(output.parent)
    return manifest


def _manifest(plan: Plan, planner: Planner) -> Manifest:
    config = planner.config
    return Manifest(
        name=config.name,
        config=_config_json(config),
        tokenizer=_tokenizer_facts(plan, planner),
        sources={name: _source_facts(name, plan, planner) for name in planner.sources},
        dedup=_dedup_facts(plan),
        decontamination=plan.decontaminate and plan.decontaminate.remove.facts(),
        versions=planner.versions,
    )


def _dedup_facts(plan: Plan) -> dict[str, Any]:
    facts = json.loads((plan.dedup.directory / "facts.json").read_text(encoding="utf-8"))
    passages = plan.find_duplicates.passages
    return {**facts, "passages": passages and passages.cut.facts()}


def _config_json(config: BuildConfig) -> dict[str, Any]:
    values: dict[str, Any] = config.model_dump(mode="json")
    return values


def _tokenizer_facts(plan: Plan, planner: Planner) -> TokenizerFacts:
    config = planner.config
    facts = plan.tokenizer.facts() or {}
    encoder, encoded = plan.encoder.facts() or {}, plan.encode.facts() or {}
    round_trip = RoundTrip(plan.tokenizer.directory / bpe.TOKENIZER)
    return TokenizerFacts(
        **facts,
        pin=planner.given and planner.given.identity,
        eos_token=config.tokenizer.eos_token,
        dtype="uint16" if token_dtype(facts["vocab_size"]).itemsize == 2 else "uint32",
        encoder=encoder["encoder"],
        encoder_check=encoder["check"],
        round_trip=RoundTripFacts(why_not=round_trip.why_not, **encoded["round_trip"]),
    )


def _source_facts(name: str, plan: Plan, planner: Planner) -> SourceFacts:
    source = planner.sources[name]
    extracted = plan.extract[name].facts() or {}
    splits, over_budget = read_packed(plan.layout.directory, plan.pack.directory, name)
    stages = funnel.funnel(_sums(name, plan, planner), over_budget, list(plan.revising()))
    funnel.check_balance(name, stages, (extracted["documents"], extracted["characters"]))
    funnel.check_splits(name, stages, splits)
    unreadable = unreadable_files(plan.extract[name].directory)
    pin = source.pin | ({"unreadable": unreadable} if unreadable else {})
    return SourceFacts(
        licence=source.spec.licence,
        pin=pin,
        profile=source.spec.profile,
        edits=edits_of(source.spec),
        funnel=stages,
        splits=splits,
    )


def _sums(name: str, plan: Plan, planner: Planner) -> Iterator[funnel.Sums]:
    """What became of the documents of a source, task by task."""
    columns = ["doc_id", "characters", "tokens", "stage", "reason"]
    for rank in planner.ranks_of(name):
        files = (of(plan.encode.directory, rank) for of in (task_file, edits_file))
        yield funnel.sums(*(pl.read_parquet(file, columns=columns) for file in files))


def _finished(output: Path, planner: Planner) -> Manifest | None:
    """The dataset at `output`, if it is what would be built; None where there is nothing.

    Raises:
        BuildError: something else is there.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / MANIFEST_NAME).is_file():
        raise BuildError(f"{output} exists and is no dataset; choose another output with -o")
    manifest = load_manifest(output)
    _refuse_other(f"{output}", manifest, planner)
    missing = [name for name in sorted(manifest.files()) if not (output / name).is_file()]
    if missing:
        raise BuildError(f"{output} lacks {', '.join(missing)}; delete it and build again")
    return manifest


def _refuse_other(place: str, manifest: Manifest, planner: Planner) -> None:
    differing = _differences(manifest, planner)
    if differing:
        raise BuildError(
            f"{place} holds dataset {manifest.dataset_id}, built from other "
            f"{' and '.join(differing)}; delete it, or choose another output with -o"
        )


def _differences(manifest: Manifest, planner: Planner) -> list[str]:
    pins = {name: dict(facts.pin) for name, facts in manifest.sources.items()}
    for pin in pins.values():
        pin.pop("unreadable", None)
    wanted = {name: source.pin for name, source in planner.sources.items()}
    same = {
        "configuration": manifest.config == _config_json(planner.config),
        "tokenizer": manifest.tokenizer.pin == (planner.given and planner.given.identity),
        "input files": pins == json.loads(json.dumps(wanted)),
        "held datasets": _held_ids(manifest) == [held.dataset_id for held in planner.held],
        "benchmarks": _benchmark_digests(manifest) == [b.digest for b in planner.benchmarks],
        "package versions": manifest.versions == planner.versions,
    }
    return [name for name, equal in same.items() if not equal]


def _held_ids(manifest: Manifest) -> list[str]:
    return [held["dataset_id"] for held in manifest.dedup.get("against", [])]


def _benchmark_digests(manifest: Manifest) -> list[str]:
    return [each["digest"] for each in (manifest.decontamination or {}).get("benchmarks", [])]


def report(built: Built) -> None:
    """Print the funnel, then the page's path, the dataset's id and its path."""
    sources = built.manifest.sources
    console.print(funnel_table({name: facts.funnel for name, facts in sources.items()}))
    for name, facts in sources.items():
        sizes = ", ".join(f"{split} {has.tokens:,} tokens" for split, has in facts.splits.items())
        console.print(f"{name}: {sizes}")
    if built.page.exists():
        page = os.path.relpath(built.page)
        console.print(f"samples of what the rules did: {page}", soft_wrap=True)
    console.print(f"dataset {built.manifest.dataset_id}")
    if built.address is not None and built.path.exists():
        console.print(f"{built.path} (the copy it was sent from)")
    console.print(built.address or f"{built.path}")
