"""The dataset that is there already: is it what would be built?"""

import json
from pathlib import Path

from pipeline.build_manifest import config_json
from pipeline.dedup_plan import priority_of
from pipeline.errors import BuildError
from pipeline.plan import Planner
from shards.manifest import MANIFEST_NAME, Manifest, load_manifest


def finished(output: Path, planner: Planner) -> Manifest | None:
    """The dataset at `output`, if it is what would be built; None where there is nothing.

    Raises:
        BuildError: something else is there.
    """
    if not (output / MANIFEST_NAME).is_file():
        return None
    manifest = load_manifest(output)
    refuse_other(f"{output}", manifest, planner)
    missing = [name for name in sorted(manifest.files()) if not (output / name).is_file()]
    if missing:
        raise BuildError(f"{output} lacks {', '.join(missing)}; delete it and build again")
    return manifest


def refuse_other(place: str, manifest: Manifest, planner: Planner) -> None:
    """Refuse a dataset that is not what would be built.

    Raises:
        BuildError: it was built from something else, and what that is.
    """
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
    priority = priority_of(planner.config.dedup, planner.sources)  # sources may change places
    same = {
        "configuration": manifest.config == config_json(planner.config)
        and manifest.dedup["priority"] == priority,
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
