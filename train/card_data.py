"""The card's sections about data: what was read, what was dropped on the way, what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.card_content import Block, Bullets, Line, Section, bullets, cell, line, section, table
from train.facts import Evidence, Fact, pointer

_SHOWN_PIN_LENGTH = 64


@dataclass(frozen=True)
class SourceNames:
    """A source of the plan and where its facts are."""

    name: str
    """In the mixture."""
    stored: str
    """In the dataset."""
    manifest: str
    """The dataset's manifest, as receipts name it."""


def sources(evidence: Evidence) -> list[SourceNames]:
    """The sources the plan reads."""
    addresses = evidence.raw("run/plan.json", "/datasets") or {}
    roots = dataset_roots(addresses)
    return [
        SourceNames(s["name"], s["source"], f"{roots[addresses[s['name']]]}/manifest.json")
        for s in evidence.raw("run/plan.json", "/plan/sources") or []
    ]


def dataset_roots(addresses: Mapping[str, str]) -> dict[str, str]:
    """What receipts call the datasets of a run: address -> `dataset`, `dataset2`, ..."""
    distinct = dict.fromkeys(addresses.values())
    return {a: "dataset" if n == 1 else f"dataset{n}" for n, a in enumerate(distinct, start=1)}


def steps_done(evidence: Evidence) -> int:
    """Steps of the ledger."""
    return len(evidence.raw("run/ledger.jsonl") or [])


def account(evidence: Evidence, name: str, field: str, style: str) -> Fact | None:
    """A field of the plan's account of a source after the steps of the ledger."""
    return evidence.fact("run/plan.json", f"account/{steps_done(evidence)}/{name}/{field}", style)


def total(evidence: Evidence, field: str, style: str = "short") -> Fact | None:
    """An account's field summed over the sources."""
    parts = [account(evidence, source.name, field, style) for source in sources(evidence)]
    return evidence.compute("add", *parts, style=style)


def data_section(evidence: Evidence) -> Section | None:
    """Per source: available, used, unique, epochs, held out, licence; then where each came from."""
    found = sources(evidence)
    headers = ("source", "in dataset", "trained on", "unique", "epochs", "held out", "licence")
    sums: tuple[Line, ...] = (
        cell("all"),
        cell(_sum(evidence, found, "train")),
        cell(total(evidence, "tokens")),
        cell(total(evidence, "unique_tokens")),
        (),
        cell(_sum(evidence, found, "val")),
        (),
    )
    return section(
        "Data",
        table(headers, [*(_source_row(evidence, source) for source in found), sums]),
        bullets(
            line("Counted in tokens; every document ends with one EOS token, which counts."),
            *(_dataset_line(evidence, file) for file in _manifests(found)),
            *(_pin_line(evidence, source) for source in found),
        ),
    )


def _manifests(found: list[SourceNames]) -> list[str]:
    return list(dict.fromkeys(source.manifest for source in found))


def _source_row(evidence: Evidence, source: SourceNames) -> tuple[Line, ...]:
    at = pointer("sources", source.stored)
    return (
        cell(source.name),
        cell(evidence.fact(source.manifest, f"{at}/splits/train/tokens", "short")),
        cell(account(evidence, source.name, "tokens", "short")),
        cell(account(evidence, source.name, "unique_tokens", "short")),
        cell(account(evidence, source.name, "epochs", "significant")),
        cell(evidence.fact(source.manifest, f"{at}/splits/val/tokens", "short")),
        cell(evidence.fact(source.manifest, f"{at}/licence")),
    )


def _sum(evidence: Evidence, found: list[SourceNames], split: str) -> Fact | None:
    facts = [
        evidence.fact(s.manifest, pointer("sources", s.stored, "splits", split, "tokens"), "short")
        for s in found
    ]
    return evidence.compute("add", *facts, style="short")


def _dataset_line(evidence: Evidence, manifest: str) -> Line | None:
    return line(
        "Dataset ",
        evidence.fact(manifest, "/name"),
        ", id ",
        evidence.fact(manifest, "/dataset_id"),
        "; equal ids mean equal bytes.",
    )


def _pin_line(evidence: Evidence, source: SourceNames) -> Line | None:
    """What exactly was read upstream; hashes of single files stay in the manifest."""
    at = pointer("sources", source.stored, "pin")
    pieces: list[str | Fact | None] = []
    for key, value in (evidence.raw(source.manifest, at) or {}).items():
        where = at + pointer(key)
        if isinstance(value, dict):
            pieces += _pinned_parts(evidence, source.manifest, where, key, value)
        elif isinstance(value, str | int) and len(str(value)) <= _SHOWN_PIN_LENGTH:
            pieces += [f"{key} ", evidence.fact(source.manifest, where), ", "]
    return line(f"Source {source.name}: ", *pieces[:-1]) if pieces else None


def _pinned_parts(
    evidence: Evidence, file: str, at: str, key: str, parts: dict[str, Any]
) -> list[str | Fact | None]:
    """Packages with their versions; of other parts, files mostly, their number."""
    pieces: list[str | Fact | None] = []
    for name, part in parts.items():
        if isinstance(part, dict) and "version" in part:
            version = evidence.fact(file, f"{at}{pointer(name)}/version")
            pieces += [f"{name.partition('==')[0]} ", version, ", "]
    return pieces or [evidence.fact(file, f"size{at}", "count"), f" {key.replace('_', ' ')}", ", "]


def hub_repositories(evidence: Evidence) -> tuple[Fact, ...]:
    """Repositories of the hub that sources were read from, each once."""
    found: dict[str, Fact] = {}
    for source in sources(evidence):
        fact = evidence.fact(source.manifest, pointer("sources", source.stored, "pin", "repo"))
        if fact is not None:
            found.setdefault(fact.shown, fact)
    return tuple(found.values())


def funnel_section(evidence: Evidence) -> Section | None:
    """Documents and characters through every stage, source by source."""
    rows = []
    for source in sources(evidence):
        stages = evidence.raw(source.manifest, pointer("sources", source.stored, "funnel")) or []
        rows += [_stage_row(evidence, source, number) for number in range(len(stages))]
    headers = ("source", "stage", "documents in", "out", "characters out", "dropped", "most for")
    return section("From raw text to tokens", table(headers, rows))


def _stage_row(evidence: Evidence, source: SourceNames, number: int) -> tuple[Line, ...]:
    file, at = source.manifest, pointer("sources", source.stored, "funnel", number)
    before = evidence.fact(file, f"{at}/documents_in", "count")
    after = evidence.fact(file, f"{at}/documents_out", "count")
    return (
        cell(source.name if number == 0 else ""),
        cell(evidence.fact(file, f"{at}/stage")),
        cell(before),
        cell(after),
        cell(evidence.fact(file, f"{at}/characters_out", "short")),
        cell(evidence.compute("share_lost", before, after, style="percent")),
        _main_reason(evidence, file, at),
    )


def _main_reason(evidence: Evidence, file: str, at: str) -> Line:
    dropped: dict[str, Any] = evidence.raw(file, f"{at}/dropped") or {}
    if not dropped:
        return ()
    reason = max(dropped, key=lambda name: dropped[name]["documents"])
    key = f"{at}/dropped{pointer(reason)}/documents"
    return cell(reason.replace("_", " "), " (", evidence.fact(file, key, "count"), ")")


def limits(evidence: Evidence, scored_in_part: bool) -> Section | None:
    """What the figures do not say."""
    items: list[Line] = [
        (
            "Pretrained on text alone: it continues text, makes things up, and was neither aligned "
            "nor filtered for safety.",
        ),
    ]
    if scored_in_part:
        items.append(
            (
                "Some scores come from the first items of a benchmark alone; "
                "their standard errors are large.",
            )
        )
    if "audit" not in evidence.roots:
        items.append(("No contamination audit was at hand when this card was written.",))
    blocks: tuple[Block, ...] = (Bullets(tuple(items)),)
    return section("Limits", blocks)
