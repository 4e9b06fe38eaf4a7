"""audit.html: one self-contained page, safe with hostile documents.

The templates, in `pages/`, escape everything that they print; the only script is allowed by its
hash, so even markup that slipped through could not run.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from configs.pages import environment, script_of
from contamination import classic_tables, score_tables
from contamination.findings import Finding
from contamination.found import item_hash
from contamination.markdown import most_trained, percent, recall
from contamination.page_cards import MAX_CARDS, cards_of, filter_options
from contamination.rules import CLASSES, Class

_PAGES = Path(__file__).parent / "pages"
_MEANINGS: dict[Class, str] = {
    "qa": "question with its answer",
    "question": "the question",
    "answer": "the answer alone",
    "near": "an edited copy",
    "partial": "one part of the item (not counted)",
    "source": "shared source text (not counted)",
}


def page(
    facts: dict[str, Any], findings: Sequence[Finding], title: str, hashes_only: bool = False
) -> str:
    """The page.

    Args:
        facts: the content of audit.json.
        findings: all findings.
        title: what was audited, as the user named it.
        hashes_only: show hashes of items in place of extracts.
    """
    pages = environment(_PAGES)
    pages.filters["thousands"] = "{:,}".format
    pages.globals |= {"percent": percent, "recall": recall, "item_hash": item_hash}
    pages.globals |= {"scores": score_tables, "classic": classic_tables}
    cards = cards_of(findings)
    shown = cards[:MAX_CARDS]
    return pages.get_template("audit.html").render(
        facts=facts,
        title=title,
        hashes_only=hashes_only,
        script=script_of(_PAGES / "audit.js"),
        verdict=_verdict(facts["totals"]),
        tiles=list(_tiles(facts)),
        meanings={name: _MEANINGS[name] for name in CLASSES},
        found=list(_found(facts["totals"]["items_by_class"])),
        too_short={name: ids for name, ids in facts["unauditable"].items() if ids},
        trained=[_trained_row(row) for row in most_trained(facts)],
        cards=shown,
        num_places=len(cards),
        options=filter_options(shown),
    )


def _verdict(totals: dict[str, Any]) -> str:
    items, found = totals["items"], totals["dirty_items"]
    if not found:
        return f"None of {items:,} test items was found in this data."
    verb = "is" if found == 1 else "are"
    return f"{found:,} of {items:,} test items {verb} in this data."


def _tiles(facts: dict[str, Any]) -> Iterable[tuple[str, str]]:
    totals, sets = facts["totals"], facts["benchmarks"]
    yield f"{totals['dirty_items']:,}", "items found"
    if totals["masked_items"]:
        yield f"{totals['masked_items']:,}", "items masked: present, without loss"
    yield f"{totals['dirty_documents']:,}", "documents with them"
    if facts["run"]:
        yield f"{totals['exposures']:,}", f"times trained on, to step {facts['run']['steps']:,}"
        yield f"{totals['dirty_items_never_trained_on']:,}", "items present, never trained on"
        yield f"{totals['share_of_tokens']:.2g}", "of the run's tokens are such text"
    yield f"≥ {sum(b['decoy_places'] for b in sets):,}", "places that are chance (decoys)"
    yield f"{recall(sets, 'verbatim'):.0%}", "of planted items found verbatim"
    yield f"{sum(b['unauditable_items'] for b in sets):,}", "items too short to audit"


def _found(counts: dict[str, int]) -> Iterable[str]:
    return (f"{counts[name]:,} {_MEANINGS[name]}" for name in CLASSES if counts[name])


def _trained_row(item: dict[str, Any]) -> list[str]:
    steps = (item["exposure"][key] for key in ("times", "first_step", "last_step"))
    return [item["benchmark"], item["id"], item["class"], *(f"{number:,}" for number in steps)]
