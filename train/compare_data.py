"""What the runs of a comparison read, source by source, and in what their datasets differ."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shards.remote import is_remote
from train.card_content import Block, Line, Section, cell, section, table
from train.facts import Evidence, pointer

_PLAN = "plan.json"


def dataset_roots(runs: Mapping[str, Path]) -> dict[str, Path]:
    """The datasets that are still there, by the name receipts give them: `RUN:SOURCE`."""
    found = {}
    for name, run in runs.items():
        path = run / _PLAN
        plan = json.loads(path.read_bytes()) if path.is_file() else {}
        for source, address in plan.get("datasets", {}).items():
            if not is_remote(address) and (Path(address) / "manifest.json").is_file():
                found[f"{name}:{source}"] = Path(address)
    return found


def data_section(evidence: Evidence, runs: Mapping[str, Path]) -> Section | None:
    """Tokens, unique tokens and epochs a source and run; differing settings of the datasets."""
    rows = [row for name in runs for row in _source_rows(evidence, name)]
    headers = ("run", "source", "in dataset", "trained on", "unique", "epochs", "dataset id")
    return section("Data", table(headers, rows), _differing(evidence, runs))


def _source_rows(evidence: Evidence, name: str) -> Iterable[tuple[Line, ...]]:
    file = f"{name}/{_PLAN}"
    steps = len(evidence.raw(f"{name}/ledger.jsonl") or [])
    for number, source in enumerate(evidence.raw(file, "/plan/sources") or []):
        account = f"account/{steps}/{source['name']}"
        at = pointer("plan", "sources", number)
        yield (
            cell(name),
            cell(evidence.fact(file, f"{at}/name")),
            cell(evidence.fact(file, f"{at}/tokens", "short")),
            cell(evidence.fact(file, f"{account}/tokens", "short")),
            cell(evidence.fact(file, f"{account}/unique_tokens", "short")),
            cell(evidence.fact(file, f"{account}/epochs", "significant")),
            cell(evidence.fact(file, f"{at}/dataset_id")),
        )


def _differing(evidence: Evidence, runs: Mapping[str, Path]) -> tuple[Block, ...]:
    """Settings of the builds that are not equal in all datasets."""
    found: dict[str, str] = {}
    for root in evidence.roots:
        name, colon, _ = root.partition(":")
        identity = evidence.raw(f"{root}/manifest.json", "/dataset_id") if colon else None
        if name in runs and identity is not None:
            found.setdefault(str(identity), root)
    names = list(found.values())
    if len(names) < 2:
        return ()
    keys = dict.fromkeys(
        key for name in names for key in leaves(evidence.raw(f"{name}/manifest.json", "/config"))
    )
    keys |= {"/tokenizer/blake3": None}
    rows = []
    for key in keys:
        at = key if key.startswith("/tokenizer/") else f"/config{key}"
        facts = [evidence.fact(f"{name}/manifest.json", at) for name in names]
        if len({None if fact is None else str(fact.value) for fact in facts}) > 1:
            cells = [("–",) if fact is None else (fact,) for fact in facts]
            rows.append((cell(key.strip("/").replace("/", ".")), *cells))
    return table(("setting of the build", *names), rows)


def leaves(value: Any, at: str = "") -> Iterable[str]:
    """Pointers to all settings of a config; lists of values count as one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "dataset":  # a path; the plan holds the dataset's id
                yield from leaves(inner, at + pointer(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from leaves(inner, at + pointer(number))
    else:
        yield at
