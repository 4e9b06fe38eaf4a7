"""audit.html: one self-contained page, safe with hostile documents.

Every text that comes from outside goes through `escape`; the only script is allowed by its hash,
so even markup that slipped through could not run.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from configs.pages import script_of
from contamination.findings import Finding
from contamination.markdown import percent, recall
from contamination.page_cards import card_section
from contamination.page_tables import classic_section, escape, score_section, trained_section
from contamination.rules import CLASSES

_HERE = Path(__file__).parent
_CLASS_MEANING = {
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
    script = script_of(_HERE / "page.js")
    parts = {
        "script": script.source,
        "script_hash": script.digest,
        "title": escape(title),
        "verdict": _verdict(facts),
        "about": _about(facts, title),
        "tiles": "".join(_tile(number, label) for number, label in _numbers(facts)),
        "checked": _checked(facts),
        "found": _found(facts),
        "limits": _list(escape(limit) for limit in facts["limits"]),
        "table": _table(facts),
        "legend": " ".join(
            f'<span><b class="class {name}">{name}</b> {_CLASS_MEANING[name]}</span>'
            for name in CLASSES
        ),
        "unauditable": _unauditable(facts["unauditable"]),
        "trained": trained_section(facts),
        "scores": score_section(facts["scores"]),
        "classic": classic_section(facts),
        "findings": card_section(findings, hashes_only),
        "method": _method(facts),
    }
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _verdict(facts: dict[str, Any]) -> str:
    items, found = facts["totals"]["items"], facts["totals"]["dirty_items"]
    if not found:
        return f"None of {items:,} test items was found in this data."
    verb = "is" if found == 1 else "are"
    return f"{found:,} of {items:,} test items {verb} in this data."


def _about(facts: dict[str, Any], title: str) -> str:
    corpus = facts["corpus"]
    return (
        f"{escape(title)} · {corpus['kind']} <code>{escape(corpus['digest'][:16])}</code> · "
        f"{corpus['documents']:,} documents · {corpus['words']:,} words"
    )


def _numbers(facts: dict[str, Any]) -> Iterable[tuple[str, str]]:
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


def _tile(number: str, label: str) -> str:
    return f'<div class="tile"><b>{number}</b><span>{label}</span></div>'


def _checked(facts: dict[str, Any]) -> str:
    names = ", ".join(escape(b["name"]) for b in facts["benchmarks"])
    return (
        f"<p>Every document, word by word, against {facts['totals']['items']:,} items of "
        f"{len(facts['benchmarks'])} benchmarks: {names}.</p>"
    )


def _found(facts: dict[str, Any]) -> str:
    counts = facts["totals"]["items_by_class"]
    lines = [f"{counts[name]:,} {_CLASS_MEANING[name]}" for name in CLASSES if counts[name]]
    return _list(lines) if lines else "<p>Nothing.</p>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _table(facts: dict[str, Any]) -> str:
    head = ["Benchmark", "Items", "Found", "Share", "Docs", *CLASSES, "Decoys", "Too<br>short"]
    head += ["Recall,<br>verbatim", "Recall,<br>edited"]
    head += ["Trained on", "Exposures"] if facts["run"] else []
    rows = "".join(_table_row(b, bool(facts["run"])) for b in facts["benchmarks"])
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f"<thead><tr>{cells}</tr></thead><tbody>{rows}</tbody>"


def _table_row(benchmark: dict[str, Any], run: bool) -> str:
    found = benchmark["dirty_items"]
    numbers = [benchmark["items_by_class"][name] for name in CLASSES]
    numbers += [benchmark["decoy_places"], benchmark["unauditable_items"]]
    cells = [
        f"<td>{escape(benchmark['name'])} <span class='note'>{escape(benchmark['split'])}</span>",
        f"<td>{benchmark['items']:,}",
        f"<td><b>{found:,}</b>" if found else _count(0),
        f"<td>{escape(percent(benchmark))}" if found else '<td class="zero">–',
        _count(benchmark["dirty_documents"]),
        *(_count(number) for number in numbers),
        f"<td>{recall([benchmark], 'verbatim'):.0%}",
        f"<td>{recall([benchmark], '1 word in 10 replaced'):.0%}",
    ]
    if run:
        cells += [_count(benchmark["dirty_items_trained_on"]), _count(benchmark["exposures"])]
    return "<tr>" + "</td>".join(cells) + "</td></tr>"


def _count(number: int) -> str:
    return f"<td>{number:,}" if number else '<td class="zero">0'


def _unauditable(ids: dict[str, list[str]]) -> str:
    lines = [
        f"<dt>{escape(name)}</dt><dd>{escape(', '.join(some))}</dd>"
        for name, some in ids.items()
        if some
    ]
    if not lines:
        return ""
    count = sum(map(len, ids.values()))
    return (
        f"<details><summary>{count:,} items too short to audit, by id</summary>"
        f"<dl>{''.join(lines)}</dl></details>"
    )


def _method(facts: dict[str, Any]) -> str:
    method, rules = facts["method"], facts["method"]["thresholds"]
    return (
        f"Text and items are cut into words (recipe <code>{method['recipe']}</code>: lower case, "
        f"no punctuation, accents or markup); runs of {method['run_words']} words that both sides "
        "have are joined into places. A word is worth its surprisal in this very text, so common "
        f"phrases count little: a place needs {rules['min_bits']:g} bits and, depending on the "
        f"item's length, {rules['long_coverage']:.0%} to {rules['short_coverage']:.0%} of it. "
        "Decoys are items nobody wrote, made from pieces of real ones; finding them measures "
        "chance. Recall is measured by planting real items into documents of this data, in memory. "
        "Extracts are cut at 300 characters so that this page does not publish the benchmarks."
    )
