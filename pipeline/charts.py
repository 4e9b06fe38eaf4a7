"""Pictures of the build report as inline SVG.

Positions are percentages and texts have a fixed size, so a picture is as wide as there is room and
stays readable on a phone; colours are classes of the page's style sheet, so they follow light and
dark.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

_BAR_HEIGHT = 22
_PLOT_HEIGHT = 130
_AXIS_HEIGHT = 22


class Part(NamedTuple):
    """A piece of a bar."""

    label: str
    amount: int
    tone: str
    """Class of the style sheet."""


def bar(parts: Sequence[Part], whole: int) -> Markup:
    """A bar in pieces, as wide as its share of `whole`; pointed at, a piece says what it is.

    Args:
        parts: from left to right.
        whole: what the full width stands for.
    """
    pieces, x = [], 0.0
    for label, amount, tone in parts:
        width = 100 * amount / max(1, whole)
        piece = Markup('<rect class="{}" x="{:.3f}%" width="{:.3f}%" height="100%"><title>{}: {:,}')
        pieces.append(piece.format(tone, x, width, label, amount) + Markup("</title></rect>"))
        x += width
    label = ", ".join(f"{part.label} {part.amount:,}" for part in parts)
    head = Markup('<svg class="bar" width="100%" height="{}" role="img" aria-label="{}">')
    return head.format(_BAR_HEIGHT, label) + Markup("").join(pieces) + Markup("</svg>")


def histogram(bars: Sequence[tuple[str, int]], ticks: Sequence[tuple[float, str]]) -> Markup:
    """Upright bars of equal width.

    Args:
        bars: what each one is, and its height.
        ticks: labels below: position in bars from the left, text.
    """
    highest, width = max(n for _, n in bars), 100 / len(bars)
    out = []
    for i, (label, number) in enumerate(bars):
        height = max(_PLOT_HEIGHT * number / highest, 1.5 if number else 0)
        piece = Markup(
            '<rect class="tone1" x="{:.3f}%" y="{:.1f}" width="{:.3f}%" height="{:.1f}">'
            "<title>{}: {:,}</title></rect>"
        )
        at = (i * width + 0.06 * width, _PLOT_HEIGHT - height, 0.88 * width, height)
        out.append(piece.format(*at, label, number))
    out.append(
        Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(_PLOT_HEIGHT)
    )
    for position, text in ticks:
        x = position * width
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        tick = Markup('<text x="{:.3f}%" y="{}" text-anchor="{}">{}</text>')
        out.append(tick.format(x, _PLOT_HEIGHT + 16, anchor, text))
    head = Markup('<svg class="plot" width="100%" height="{}" role="img">')
    return head.format(_PLOT_HEIGHT + _AXIS_HEIGHT) + Markup("").join(out) + Markup("</svg>")
