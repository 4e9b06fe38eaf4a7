"""The card as README.md: the hub's metadata on top, then text; every fact carries a mark.

A mark is an HTML comment behind the value, `1.23M<!--f7-->` (`# f7` in the metadata), which no
reader shows and `tally card --verify` reads.
"""

from collections.abc import Iterator
from html import escape

import yaml

from configs.pages import clean
from train.card_content import (
    Block,
    Bullets,
    Card,
    Code,
    Figure,
    Line,
    Metadata,
    Paragraph,
    Sample,
    Score,
    Section,
    Table,
)
from train.facts import Fact


def render_markdown(card: Card, figure_files: dict[str, str]) -> str:
    """The whole README.

    Args:
        card: what to say.
        figure_files: name of the image file of every figure, by its SVG source.
    """
    parts = [_metadata(card), f"# {plain(card.title)}", text(card.summary)]
    parts.append("\n".join(f"- {tile.label}: **{text(tile.line)}**" for tile in card.tiles))
    for section in card.sections:
        parts += _section(section, figure_files)
    return "\n\n".join(part for part in parts if part) + "\n"


def text(line: Line) -> str:
    """A line with its marks."""
    return "".join(_fact(piece) if isinstance(piece, Fact) else plain(piece) for piece in line)


def _fact(fact: Fact) -> str:
    return f"{plain(fact.shown)}<!--{fact.id}-->"


def plain(words: str) -> str:
    """Words that neither end a table's cell nor begin HTML."""
    safe = escape(clean(words), quote=False)
    return safe.replace("|", "\\|").replace("\n", " ")


def _section(section: Section, figure_files: dict[str, str]) -> Iterator[str]:
    yield f"## {section.title}"
    for block in section.blocks:
        yield _block(block, figure_files)


def _block(block: Block, figure_files: dict[str, str]) -> str:
    match block:
        case Paragraph(line):
            return text(line)
        case Bullets(lines):
            return "\n".join(f"- {text(line)}" for line in lines)
        case Table(headers, rows):
            return _table(headers, rows)
        case Figure():
            words = text(block.caption)
            return f"![curve]({figure_files[block.wide]})\n\n{words}"
        case Sample(prompt, continuation, source):
            return f"*{plain(source)}*\n\n{_indented(f'{prompt} ⟶ {continuation}')}"
        case Code(commands):
            return f"```\n{commands}\n```"


def _indented(words: str) -> str:
    """Text as it is: what a model writes may look like anything."""
    lines = clean(words).strip("\n").splitlines() or [""]
    return "\n".join(f"    {line}" for line in lines)


def _table(headers: tuple[str, ...], rows: tuple[tuple[Line, ...], ...]) -> str:
    lines = [" | ".join(map(plain, headers)), " | ".join(["---"] + ["---:"] * (len(headers) - 1))]
    lines += [" | ".join(text(item) for item in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _metadata(card: Card) -> str:
    """YAML front matter as the hub reads it."""
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "metrics": sorted({score.metric for score in card.scores}) or None,
        "tags": ["tallylm"],
    }
    body = yaml.safe_dump({k: v for k, v in head.items() if v}, sort_keys=False).rstrip()
    return "\n".join(["---", body, *_rights(card.metadata), *_model_index(card), "---"])


def _rights(metadata: Metadata) -> Iterator[str]:
    if metadata.license is not None:
        yield f"license: {_marked(metadata.license)}"
    else:
        yield "license: other"
        yield "license_name: see-the-licences-of-the-sources"
    if metadata.datasets:
        yield "datasets:"
        yield from (f"- {_marked(dataset)}" for dataset in metadata.datasets)
    if metadata.base_model is not None:
        yield f"base_model: {_marked(metadata.base_model)}"


def _marked(fact: Fact) -> str:
    return f"{yaml_string(fact.shown)} # {fact.id}"


def _model_index(card: Card) -> Iterator[str]:
    if not card.scores:
        return
    yield "model-index:"
    yield f"- name: {yaml_string(card.title)}"
    yield "  results:"
    for score in card.scores:
        yield from _result(score)


def _result(score: Score) -> Iterator[str]:
    name = f"{score.task}, first items only" if score.partial else score.task
    yield "  - task: {type: text-generation}"
    where = {"name": name, "type": score.task, "split": score.split}
    pairs = ", ".join(f"{key}: {yaml_string(value)}" for key, value in where.items())
    yield f"    dataset: {{{pairs}}}"
    yield "    metrics:"
    yield f"    - type: {yaml_string(score.metric)}"
    yield f"      value: {score.value.shown} # {score.value.id}"


def yaml_string(words: str) -> str:
    """A YAML scalar on one line."""
    return yaml.safe_dump(words, default_style='"', width=10**9).strip()
