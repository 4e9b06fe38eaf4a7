"""The card as one self-contained HTML page: no network; one script, to sort tables."""

from pathlib import Path

from markupsafe import Markup, escape

from configs.pages import environment, sort_script
from train.card_content import Card, Line, Table
from train.facts import Fact, receipt_words

_PAGES = Path(__file__).parent / "pages"
_SHORT = 24


def render_page(card: Card) -> str:
    """The page; every fact is a `<data>` element with its mark, its receipt in the tooltip."""
    pages = environment(_PAGES)
    pages.filters["line"] = line_html
    pages.filters["kind"] = lambda block: type(block).__name__
    pages.filters["alignments"] = alignments
    pages.tests["is_total"] = lambda row: row[0] == ("all",)
    pages.filters["is_sortable"] = is_sortable
    return pages.get_template("card.html").render(card=card, script=sort_script())


def is_sortable(table: Table) -> bool:
    """Whether every row says what it is of: then rows mean the same in any order."""
    return len(table.rows) > 2 and all("".join(map(str, row[0])) for row in table.rows)


def line_html(line: Line) -> Markup:
    """A line with its facts marked."""
    return Markup("").join(_fact(p) if isinstance(p, Fact) else escape(p) for p in line)


def alignments(table: Table) -> list[str]:
    """Classes of the columns: numbers alone, words that stay on one line, or longer words."""
    columns = zip(*table.rows, strict=True)
    found = [{alignment(line) for line in column if line} or {"short"} for column in columns]
    return [next(name for name in ("words", "short", "number") if name in kinds) for kinds in found]


def alignment(line: Line) -> str:
    """What a single cell holds."""
    if len(line) == 1 and isinstance(line[0], Fact) and _is_number(line[0]):
        return "number"
    words = "".join(p.shown if isinstance(p, Fact) else p for p in line)
    return "short" if len(words) <= _SHORT else "words"


def _is_number(fact: Fact) -> bool:
    return fact.style == "share" or isinstance(fact.value, int | float)


def _fact(fact: Fact) -> Markup:
    value = fact.value if isinstance(fact.value, int | float) else fact.shown
    return Markup('<data id="{}" value="{}" title="{}">{}</data>').format(
        fact.id, value, receipt_words(fact.receipt), fact.shown
    )
