"""The card's section about contamination, read from AUDIT_DIR/audit.json."""

from typing import Any

from train.card_content import Line, Section, bullets, cell, line, section, table
from train.facts import Evidence, Fact, pointer

_AUDIT = "audit/audit.json"


def audited_dataset(audit: dict[str, Any]) -> str | None:
    """Id of the dataset an audit read; None where it read text files."""
    corpus = audit["corpus"]
    return str(corpus["digest"]) if corpus["kind"] == "dataset" else None


def audit_section(evidence: Evidence) -> Section | None:
    """What was searched for, what was found, what the run saw of it, how sure that is."""
    count = len(evidence.raw(_AUDIT, "/benchmarks") or [])
    headers = (
        "benchmark",
        "items",
        "found",
        "share",
        "documents",
        "too short",
        "decoys",
        "trained on",
        "times",
    )
    rows = [_row(evidence, pointer("benchmarks", number)) for number in range(count)]
    return section(
        "Contamination",
        bullets(_searched(evidence), _found(evidence), _trained(evidence), _share(evidence)),
        table(headers, rows),
        bullets(
            (
                "Too short: items that cannot be told from chance, never counted as clean. "
                "Decoys: altered items found all the same, which measures false finds.",
            )
            if rows
            else None
        ),
        table(("planted by the audit itself", "items", "found", "share"), _planted(evidence)),
        bullets(*((limit,) for limit in evidence.raw(_AUDIT, "/limits") or ())),
    )


def _count(evidence: Evidence, key: str) -> Fact | None:
    return evidence.fact(_AUDIT, key, "count")


def _searched(evidence: Evidence) -> Line | None:
    return line(
        "All ",
        _count(evidence, "/corpus/documents"),
        " documents of the dataset were compared with ",
        _count(evidence, "/totals/items"),
        " benchmark items.",
    )


def _found(evidence: Evidence) -> Line | None:
    return line(
        _count(evidence, "/totals/dirty_items"),
        " items occur in it as question, answer or near copy, in ",
        _count(evidence, "/totals/dirty_documents"),
        " documents.",
    )


def _trained(evidence: Evidence) -> Line | None:
    return line(
        "Up to step ",
        _count(evidence, "/run/steps"),
        " the run trained on ",
        _count(evidence, "/totals/dirty_items_trained_on"),
        " of these items, ",
        _count(evidence, "/totals/exposures"),
        " times in all.",
    )


def _share(evidence: Evidence) -> Line | None:
    return line(
        "Places of these items are ",
        _count(evidence, "/totals/tokens_trained_on"),
        " of the tokens trained on, ",
        evidence.fact(_AUDIT, "/totals/share_of_tokens", "scientific_percent"),
        ".",
    )


def _planted(evidence: Evidence) -> list[tuple[Line, ...]]:
    """How many items that the audit planted, in each way, it found again: over all benchmarks."""
    tests = [entry["self_test"] or {} for entry in evidence.raw(_AUDIT, "/benchmarks") or []]
    ways = dict.fromkeys(way for test in tests for way in test)
    rows: list[tuple[Line, ...]] = []
    for way in ways:
        at = [pointer("benchmarks", i, "self_test", way) for i, t in enumerate(tests) if way in t]
        planted, found = (
            evidence.compute("add", *(_count(evidence, f"{a}/{k}") for a in at), style="count")
            for k in ("planted", "found")
        )
        share = evidence.compute("divide", found, planted, style="percent")
        rows.append((cell(way), cell(planted), cell(found), cell(share)))
    return rows


def _row(evidence: Evidence, at: str) -> tuple[Line, ...]:
    items, found = _count(evidence, f"{at}/items"), _count(evidence, f"{at}/dirty_items")
    return (
        cell(evidence.fact(_AUDIT, f"{at}/name"), " ", evidence.fact(_AUDIT, f"{at}/split")),
        cell(items),
        cell(found),
        cell(evidence.compute("divide", found, items, style="percent2")),
        cell(_count(evidence, f"{at}/dirty_documents")),
        cell(_count(evidence, f"{at}/unauditable_items")),
        cell(_count(evidence, f"{at}/decoy_places")),
        cell(_count(evidence, f"{at}/dirty_items_trained_on")),
        cell(_count(evidence, f"{at}/exposures")),
    )
