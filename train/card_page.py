"""The card as one self-contained HTML page: no script, no network, light and dark."""

from pathlib import Path

from markupsafe import Markup, escape

from configs.pages import environment
from train.card_content import Card, Line
from train.facts import Fact, receipt_words

_PAGES = Path(__file__).parent / "pages"
_SHORT = 24


def render_page(card: Card) -> str:
    """The page; every fact is a `<data>` element with its mark, its receipt in the tooltip."""
    pages = environment(_PAGES)
    pages.filters["line"] = line_html
    pages.filters["kind"] = lambda block: type(block).__name__
    pages.filters["alignment"] = alignment
    return pages.get_template("card.html").render(card=card)


def line_html(line: Line) -> Markup:
    """A line with its facts marked."""
    return Markup("").join(_fact(p) if isinstance(p, Fact) else escape(p) for p in line)


def alignment(line: Line) -> str:
    """Class of a table cell: a single number, words that stay on one line, or longer words."""
    if len(line) == 1 and isinstance(line[0], Fact) and not isinstance(line[0].value, str):
        return "number"
    words = "".join(p.shown if isinstance(p, Fact) else p for p in line)
    return "short" if len(words) <= _SHORT else "words"


def _fact(fact: Fact) -> Markup:
    value = fact.value if isinstance(fact.value, int | float) else fact.shown
    return Markup('<data id="{}" value="{}" title="{}">{}</data>').format(
        fact.id, value, receipt_words(fact.receipt), fact.shown
    )
