"""`tally build`: sources in, one sealed dataset out; resumable, the same bytes every time.

The dataset is put together in the work directory (`<output>.work`) and moved to its place as a
whole, so the output directory is complete or not there. A second run does what the first left
undone; with nothing left, it says so.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from configs.build import BuildConfig
from configs.executor import ExecutorConfig
from configs.outputs import require_own, require_place
from configs.terminal import console
from configs.text_sources import HubSource
from pipeline import bpe, hub
from pipeline.build_manifest import manifest_of
from pipeline.errors import BuildError
from pipeline.existing import finished, refuse_other
from pipeline.given_tokenizer import given_tokenizer, keep_pin
from pipeline.lock import locked
from pipeline.plan import Plan, Planner
from pipeline.prune import tidy
from pipeline.report import PAGE, is_current, write_report
from pipeline.runner import stage_runner
from pipeline.samples import works
from pipeline.sources import ResolvedSource, resolve
from pipeline.stages import LOGS
from pipeline.task_costs import Costs, stage_costs
from pipeline.token_plan import DATASET
from pipeline.upload import dataset_at, upload
from shards.atomic import atomic_write, sync, write_json_atomic
from shards.manifest import MANIFEST_NAME, Manifest, seal
from shards.views import funnel_table

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
    require_place(output)
    require_own(output, "no dataset", MANIFEST_NAME, BuildError)  # before any file is made
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
            refuse_other(f"{address}", there, planner)
            console.print(f"{address} is up to date: nothing to do.")
            return Built(output, there, reused=True, page=page, address=address)
        found = finished(output, planner)
        if found is not None:
            console.print(f"{output} is up to date: nothing to do.")
            if not dry_run and not is_current(page, found):
                write_report(found, output, works(plan), page)
            return _delivered(Built(output, found, True, page, address), plan, prune, dry_run)
        _announce(plan, sources)
        if dry_run:
            return None
        if given is not None and plan.tokenizer.facts() is None:
            given.bring()
        times, costs = _run(plan, config.executor, workers)
        manifest = _publish(plan, planner, output)
        ran = {"executor": config.executor.kind, "workers": workers}
        write_json_atomic(work / _LOG, {"seconds": times, "costs": costs, **ran})
        write_report(manifest, output, works(plan), page)
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
    """Turn the system's errors about space, rights and memory into the user's."""
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
    except MemoryError as error:
        raise BuildError(
            f"no more memory ({str(error) or 'the system gave none'}); run again with fewer "
            "--workers (finished tasks are kept), or with a smaller `max_document_mb` of the "
            "sources: a document takes 5 to 30 times its size, by the tokenizer"
        ) from error


def _announce(plan: Plan, sources: dict[str, ResolvedSource]) -> None:
    for name, source in sources.items():
        size = sum(source.task_bytes) / 1e6
        console.print(f"source {name}: {source.spec.kind}, {size:.1f} MB of input", highlight=False)
    states: dict[str, list[str]] = {}
    for stage in plan.stages():
        states.setdefault(stage.state(), []).append(stage.name)
    for state, names in states.items():
        console.print(f"{state}: {', '.join(names)}")


def _run(
    plan: Plan, executor: ExecutorConfig, workers: int | None
) -> tuple[dict[str, float], dict[str, Costs]]:
    """Run all stages; returns the seconds of each, and what its tasks cost."""
    times, costs = {}, {}
    with stage_runner(executor, workers) as runner:
        for stage in plan.stages():
            start = time.monotonic()
            stage.run(runner)
            times[stage.name] = round(time.monotonic() - start, 2)
            costs[stage.name] = stage_costs(stage.directory / LOGS)
            plan.find_duplicates.clear()
    return times, costs


def _publish(plan: Plan, planner: Planner, output: Path) -> Manifest:
    """Seal the packed dataset and move it to its place."""
    manifest = manifest_of(plan, planner)
    dataset = plan.pack.directory / DATASET
    with atomic_write(dataset / bpe.TOKENIZER) as file:
        file.write((plan.tokenizer.directory / bpe.TOKENIZER).read_bytes())
    manifest = seal(dataset, manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    os.replace(dataset, output)  # replaces an empty directory, refuses any other
    sync(output.parent)
    return manifest


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
