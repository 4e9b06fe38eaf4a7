"""build.html: what a build read, dropped, edited and kept, with samples, on one page.

The page lies in the work directory and not in the dataset: it quotes what was dropped, and personal
data before it was replaced, which must not travel with a dataset.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from configs.pages import clean, environment
from pipeline.charts import Part, bar, histogram
from pipeline.funnel import net_loss
from pipeline.lengths import QUANTILES, STEPS_AN_OCTAVE, lengths
from pipeline.samples import EXTRACT, NUMBER, Sample, Work, dropped_samples, edited_samples
from shards.atomic import write_text_atomic
from shards.manifest import Edited, FunnelStage, Manifest, SourceFacts

PAGE = "build.html"
_KEPT, _EDITED = "tone1", "tone6"
_TONES = {"read": "tone2", "filter": "tone3", "dedup": "tone4", "budget": "tone5"}
_TONES |= {"passages": "tone6", "decontaminate": "tone7"}
_STAGES = {
    "read": "not readable, or below a score",
    "filter": "dropped by rules",
    "dedup": "duplicates",
    "passages": "little but repeated passages",
    "decontaminate": "benchmark items",
    "budget": "beyond the budget",
}
_JSON_CHARACTERS = 3000
_CLUSTERS = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 30), (31, 100), (101, None))


class Rule(NamedTuple):
    """What one rule dropped or edited."""

    name: str
    stage: str
    edits: bool
    documents: int
    characters: int
    """Fewer; less than 0 where an edit made texts longer."""
    tokens: int
    share: float
    """Of the tokens that were read."""
    picture: Markup
    samples: list[Sample]


class Step(NamedTuple):
    """A bar of the funnel: what was left after a stage."""

    label: str
    documents: int
    tokens: int
    share: float
    picture: Markup


class Length(NamedTuple):
    """A distribution of lengths, drawn."""

    source: str
    unit: str
    picture: Markup
    cells: tuple[int, ...]
    """Mean, the quantiles, the longest."""


class Cell(NamedTuple):
    """Duplicates of one source that repeat documents of another."""

    documents: int
    share: float
    """Of the source's documents that were looked at."""


def is_current(page: Path, manifest: Manifest) -> bool:
    """Whether the page is there and tells of this dataset."""
    return page.is_file() and manifest.dataset_id in page.read_text(encoding="utf-8")


def write_report(manifest: Manifest, dataset: Path, work: Mapping[str, Work], page: Path) -> None:
    """Write the page.

    Args:
        manifest: of the dataset.
        dataset: its directory.
        work: by source, where the texts are; empty where they are gone.
        page: the file to write.
    """
    pages = environment(Path(__file__).parent / "pages")
    pages.filters |= {"percent": _percent, "lines": _lines}
    sources = manifest.sources
    most = max(_tokens_in(facts) for facts in sources.values())
    text = pages.get_template("build.html").render(
        manifest=manifest,
        tiles=list(_tiles(manifest)),
        overview={name: bar(_fates(facts), most) for name, facts in sources.items()},
        legend={part.label: part.tone for facts in sources.values() for part in _fates(facts)},
        funnels={name: list(_steps(facts)) for name, facts in sources.items()},
        rules={name: list(_rules(facts, work.get(name))) for name, facts in sources.items()},
        has_samples=bool(work),
        number=NUMBER,
        extract=EXTRACT,
        stages=_STAGES,
        overlap=_overlap(manifest),
        clusters=_clusters(manifest.dedup.get("cluster_sizes", {})),
        lengths=[_length(n, f, dataset, u) for n, f in sources.items() for u in _UNITS],
        quantiles=[f"{quantile:.0%}" for quantile in QUANTILES],
        json=_json,
    )
    write_text_atomic(page, text)


def _tokens_in(facts: SourceFacts) -> int:
    return facts.funnel[0].tokens_in or 0


def _split_sum(manifest: Manifest, split: str, field: str) -> int:
    parts = (facts.splits.get(split) for facts in manifest.sources.values())
    return sum(getattr(part, field) for part in parts if part is not None)


def _tiles(manifest: Manifest) -> Iterator[tuple[str, str]]:
    read = sum(facts.funnel[0].documents_in for facts in manifest.sources.values())
    kept = sum(_split_sum(manifest, split, "documents") for split in ("train", "val"))
    yield f"{_split_sum(manifest, 'train', 'tokens'):,}", "tokens to train on"
    yield f"{_split_sum(manifest, 'val', 'tokens'):,}", "tokens held out"
    yield f"{read:,}", "documents read"
    yield f"{kept:,}", f"documents kept ({kept / max(1, read):.1%})"
    duplicates = sum(
        dropped.documents
        for facts in manifest.sources.values()
        for stage in facts.funnel
        if stage.stage == "dedup"
        for dropped in stage.dropped.values()
    )
    yield f"{duplicates:,}", "duplicates dropped"
    yield f"{manifest.tokenizer.vocab_size:,}", "entries in the vocabulary"


def _losses(stage: FunnelStage) -> list[Part]:
    """The tokens that a stage has fewer, by what became of them."""
    dropped = sum(d.tokens or 0 for d in stage.dropped.values())
    edited = sum(net_loss(edit).tokens for edit in stage.edited.values())
    parts = [
        Part("edited out", max(0, edited), _EDITED),
        Part(_STAGES[stage.stage], dropped, _TONES[stage.stage]),
    ]
    return [part for part in parts if part.amount]


def _fates(facts: SourceFacts) -> list[Part]:
    """All tokens that were read: those kept, then what went last, back to what went first."""
    lost = [part for stage in reversed(facts.funnel[:-1]) for part in _losses(stage)]
    return [Part("kept", facts.funnel[-1].tokens_out or 0, _KEPT), *lost]


def _steps(facts: SourceFacts) -> Iterator[Step]:
    """What was there at first, and after every stage that changed something."""
    first = facts.funnel[0]
    whole = _tokens_in(facts)
    yield Step("read", first.documents_in, whole, 1, bar([Part("read", whole, _KEPT)], whole))
    for stage in facts.funnel:
        if not (stage.dropped or stage.edited):
            continue
        left = stage.tokens_out or 0
        picture = bar([Part("left", left, _KEPT), *_losses(stage)], whole)
        yield Step(f"after {stage.stage}", stage.documents_out, left, left / max(1, whole), picture)


def _rules(facts: SourceFacts, work: Work | None) -> Iterator[Rule]:
    """What every rule did, in the order of the stages, the largest first."""
    dropped = {} if work is None else dropped_samples(work)
    edited = {} if work is None else edited_samples(work)
    whole = _tokens_in(facts)
    for stage in facts.funnel:
        found = [
            _rule(stage.stage, name, (d.documents, d.characters, d.tokens or 0), whole)
            for name, d in stage.dropped.items()
        ]
        found.sort(key=lambda rule: (-rule.tokens, rule.name))
        for rule in found:
            yield rule._replace(samples=dropped.get((rule.stage, rule.name), []))
        for name, edit in stage.edited.items():
            rule = _rule(stage.stage, name, _fewer(edit), whole)
            picture = bar([Part(name, max(0, rule.tokens), _EDITED)], whole)
            samples = edited.get((stage.stage, name), [])
            yield rule._replace(edits=True, picture=picture, samples=samples)


def _fewer(edit: Edited) -> tuple[int, int, int]:
    _, characters, tokens = net_loss(edit)
    return edit.documents, characters, tokens


def _rule(stage: str, name: str, lost: tuple[int, int, int], whole: int) -> Rule:
    share = lost[2] / max(1, whole)
    picture = bar([Part(name, max(0, lost[2]), _TONES[stage])], whole)
    return Rule(name, stage, False, *lost, share, picture, [])


def _overlap(manifest: Manifest) -> dict[str, dict[str, Cell]]:
    """By source, and by the source of the kept copy: every cell of the matrix."""
    found: dict[str, dict[str, dict[str, int]]] = manifest.dedup.get("overlap", {})
    columns = list(manifest.sources)
    columns += sorted({name for row in found.values() for name in row} - set(columns))
    looked_at = {
        name: max((s.documents_in for s in facts.funnel if s.stage == "dedup"), default=0)
        for name, facts in manifest.sources.items()
    }
    return {
        source: {name: _cell(found.get(source, {}).get(name), whole) for name in columns}
        for source, whole in looked_at.items()
    }


def _cell(found: dict[str, int] | None, whole: int) -> Cell:
    documents = found["documents"] if found else 0
    return Cell(documents, documents / max(1, whole))


def _clusters(sizes: Mapping[str, int]) -> list[tuple[str, int, Markup]]:
    """Clusters by size: label, how many, bar."""
    rows = []
    for low, high in _CLUSTERS:
        label = f"{low:,} or more" if high is None else f"{low}" if low == high else f"{low}–{high}"
        number = sum(
            n for s, n in sizes.items() if low <= int(s) and (high is None or int(s) <= high)
        )
        rows.append((label, number))
    whole = max((number for _, number in rows), default=0)
    return [(label, n, bar([Part(label, n, _TONES["dedup"])], whole)) for label, n in rows if n]


_UNITS = {"characters": "char_count", "tokens": "token_count"}


def _length(name: str, facts: SourceFacts, dataset: Path, unit: str) -> Length:
    shards = [shard for split in facts.splits.values() for shard in split.shards]
    found = lengths((dataset / shard.index_path for shard in shards), _UNITS[unit])
    first, last = min(found.bars), max(found.bars)
    bars = [
        (f"{_edge(k):,} to {_edge(k + 1):,} {unit}", found.bars.get(k, 0))
        for k in range(first, last + 1)
    ]
    octaves = range(-(-first // STEPS_AN_OCTAVE), last // STEPS_AN_OCTAVE + 2)
    every = max(1, len(octaves) // 5)
    ticks = [(float(o * STEPS_AN_OCTAVE - first), _short(2**o)) for o in octaves[::every]]
    ticks = [(at, text) for at, text in ticks if at <= len(bars)]
    cells = (round(found.mean), *found.quantiles, found.longest)
    return Length(name, unit, histogram(bars, ticks), cells)


def _edge(step: int) -> int:
    """The least length in a bar."""
    return -int(-(2 ** (step / STEPS_AN_OCTAVE)) // 1)


def _short(number: int) -> str:
    for unit, size in (("M", 1 << 20), ("k", 1 << 10)):
        if number >= size:
            return f"{number // size}{unit}"
    return str(number)


def _percent(share: float) -> str:
    """A share; what is there is never shown as nothing."""
    return "< 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _lines(text: str) -> Markup:
    """Text whose ends of lines are signs, so that an extract takes little room."""
    return Markup(escape(clean(text)).replace("\n", Markup("<i>¶</i> ")))


def _json(value: Any) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    if len(text) <= _JSON_CHARACTERS:
        return text
    return f"{text[:_JSON_CHARACTERS]}\n… manifest.json has all of it"
