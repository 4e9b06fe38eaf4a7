"""The findings on audit.html: a card for every place, best item first, and the filters above."""

import re
from collections.abc import Callable, Iterable, Sequence

from contamination.evidence import Segment
from contamination.findings import Finding
from contamination.found import item_hash
from contamination.page_tables import escape
from contamination.rules import CLASSES

MAX_CARDS = 500
"""Cards on the page, strongest first; matches.parquet has all findings."""


def card_section(findings: Sequence[Finding], hashes_only: bool) -> str:
    """The strongest places, those that count first; with hashes in place of texts if asked for."""
    groups = _places(findings)
    if not groups:
        return "<p>No place of the data shares enough with any item.</p>"
    groups.sort(key=lambda group: (not group[0].dirty, -group[0].bits, -group[0].passage_bits))
    shown = groups[:MAX_CARDS]
    note = ""
    if len(groups) > len(shown):
        note = (
            f'<p class="note">The {len(shown):,} strongest of {len(groups):,} places; '
            "matches.parquet has all.</p>"
        )
    return (
        note
        + _filters([group[0] for group in shown])
        + "".join(_card(group, _hashes if hashes_only else _sides) for group in shown)
    )


def _places(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings at one place, in rank order; each place begins with rank 1."""
    groups: list[list[Finding]] = []
    for finding in findings:
        if finding.rank == 1:
            groups.append([])
        groups[-1].append(finding)
    return groups


def _filters(shown: Sequence[Finding]) -> str:
    options: dict[str, list[str]] = {
        "benchmark": sorted({f.benchmark for f in shown}),
        "class": [str(name) for name in CLASSES if any(f.class_ == name for f in shown)],
        "source": sorted({f.document.source for f in shown}),
    }
    selects = "".join(
        f'<label for="filter-{name}">{name.capitalize()}<select id="filter-{name}">'
        f'<option value="">all</option>{"".join(map(_option, values))}</select></label>'
        for name, values in options.items()
    )
    return f'<div class="filters">{selects}<span id="shown" role="status"></span></div>'


def _option(value: str) -> str:
    return f'<option value="{escape(value)}">{escape(value)}</option>'


def _sides(best: Finding) -> str:
    """Both texts side by side, the matched words marked."""
    fields = "".join(
        f'<p class="text" dir="auto"><em>{name}</em>{_marked(segments)}</p>'
        for name, segments in best.evidence.item_extract.items()
    )
    return (
        '<div class="sides"><div><h3>In the data</h3><p class="text" dir="auto">'
        f"{_marked(best.evidence.document_extract)}</p></div>"
        f"<div><h3>In the benchmark</h3>{fields}</div></div>"
    )


def _hashes(best: Finding) -> str:
    """Which item, and where in the document, without a word of either."""
    return (
        f"<p>Item <code>{item_hash(best.item)}</code>, bytes {best.start:,} to {best.end:,} of the "
        "document. Extracts were left out of this report.</p>"
    )


def _card(group: Sequence[Finding], texts: Callable[[Finding], str]) -> str:
    best = group[0]
    twins = ", ".join(f"{escape(f.benchmark)} {escape(f.item.id)}" for f in group[1:6])
    more = f'<p class="twins">The same words are also in: {twins}</p>' if twins else ""
    return (
        f'<article data-benchmark="{escape(best.benchmark)}" data-class="{best.class_}" '
        f'data-source="{escape(best.document.source)}"><header>'
        f'<span class="class {best.class_}">{best.class_}</span>'
        f'<span class="item">{escape(best.benchmark)} · {escape(best.item.id)}</span>'
        f'<span class="facts">{_strength(best)}</span></header>{texts(best)}{more}'
        f"<footer>{_provenance(best)}</footer></article>"
    )


def _strength(finding: Finding) -> str:
    bits = finding.bits + finding.passage_bits
    parts = [f"{bits:,.0f} bits", f"longest run {finding.run} words"]
    parts.append(f"question {finding.question_coverage:.0%}")
    if finding.item.answer:
        parts.append(f"answer {finding.answer_coverage:.0%}")
    if finding.passage_coverage:
        parts.append(f"passage {finding.passage_coverage:.0%}")
    return " · ".join(parts)


def _marked(segments: Iterable[Segment]) -> str:
    return "".join(
        f"<mark>{escape(segment.text)}</mark>" if segment.matched else escape(segment.text)
        for segment in segments
    )


def _provenance(finding: Finding) -> str:
    document, exposure = finding.document, finding.exposure
    place = f"{document.source}/{document.split}" if document.split else document.source
    parts = [f"document <code>{escape(document.doc_id)}</code>", escape(place)]
    if document.origin_row is not None and document.origin != document.source:
        parts.append(f"{escape(document.origin)} row {document.origin_row + 1:,}")
    if document.url:
        parts.append(_link(document.url))
    if finding.token_start is not None and finding.token_end is not None:
        shard = escape(document.shard)
        parts.append(f"{shard} tokens {finding.token_start:,}–{finding.token_end:,} of the stream")
    if finding.half:
        parts.append("half of the item: the other stands in a neighbouring document")
    if finding.masked:
        parts.append("masked: gives no loss")
    if exposure is not None and exposure.times + exposure.partial_times:
        times = f"{exposure.times:,} {'time' if exposure.times == 1 else 'times'}"
        partly = f" and {exposure.partial_times:,} times in part" if exposure.partial_times else ""
        verb = "read" if finding.masked else "trained on"
        parts.append(f"{verb} {times}{partly}, steps {exposure.first_step}–{exposure.last_step}")
    elif exposure is not None:
        parts.append(f"present, never {'read' if finding.masked else 'trained on'}")
    return "".join(f"<span>{part}</span>" for part in parts)


def _link(url: str) -> str:
    if not re.match(r"https?://", url):
        return escape(url)
    return f'<a href="{escape(url)}" rel="noreferrer noopener">{escape(url[:90])}</a>'
