"""Line charts as SVG text: no library, no script, colours from the page's style sheet."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

from configs.terminal import human
from train.card_content import Figure, Line

_HEIGHT, _LEFT, _RIGHT, _BOTTOM = 300, 52, 14, 40
_LEGEND_ROW = 20
_WIDE, _NARROW = 720, 380
_MAX_POINTS = 400
STANDALONE_STYLE = """<style>
 text{font:12px system-ui,sans-serif;fill:#57606a} .grid{stroke:#8884;stroke-width:1}
 polyline{fill:none;stroke-linejoin:round} .faint{stroke:#0969da55;stroke-width:1}
 .strong{stroke:#0969da;stroke-width:2} .points{fill:#bc4c00} .level{stroke:#8250df;
 stroke-width:1.5;stroke-dasharray:5 4} .tone1{stroke:#bc4c00} .tone2{stroke:#1a7f37}
 .tone3{stroke:#8250df} .tone4{stroke:#bf3989} .tone5{stroke:#6e7781}
</style>"""


@dataclass(frozen=True)
class Series:
    """One line, one row of points, or one level across the chart (a single y)."""

    name: str
    kind: Literal["faint", "strong", "points", "level"]
    xs: Sequence[float]
    ys: Sequence[float]
    tone: int = 0
    """Which of the page's six line colours."""

    @property
    def css(self) -> str:
        """Classes of the drawn element."""
        return f"{self.kind} tone{self.tone % 6}" if self.tone else self.kind


@dataclass(frozen=True)
class _Frame:
    """Data coordinates to pixels."""

    width: int
    x_max: float
    y_min: float
    y_max: float
    top: float

    def x(self, value: float) -> float:
        return _LEFT + value / self.x_max * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_min) / (self.y_max - self.y_min)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - self.top - _BOTTOM)


def moving_average(values: Sequence[float | None], span: int) -> list[float]:
    """Mean of the last `span` values at every position (of fewer at the beginning).

    None, the loss of a step that was skipped, is passed over: the mean before it stays.
    """
    averages: list[float] = []
    last: deque[float] = deque(maxlen=span)
    for value in values:
        if value is not None:
            last.append(value)
        averages.append(math.fsum(last) / len(last) if last else math.nan)
    return averages


def _known(series: Series) -> Series:
    """Without the points that have no value: the losses of skipped steps."""
    if series.kind == "level":
        return series
    points = [(x, y) for x, y in zip(series.xs, series.ys, strict=True) if _is_known(y)]
    return replace(series, xs=[x for x, _ in points], ys=[y for _, y in points])


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def figure(series: Sequence[Series], x_label: str, y_label: str, caption: Line) -> Figure:
    """A chart for a desk and one for a phone, in which letters keep their size."""
    wide, narrow = (chart(series, x_label, y_label, width) for width in (_WIDE, _NARROW))
    return Figure(wide, narrow, caption)


def chart(series: Sequence[Series], x_label: str, y_label: str, width: int) -> str:
    """An SVG of `width` units; x starts at 0, y spans the data.

    Args:
        series: drawn in order, named in a legend at the top.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        width: of the drawing; heights and letters are the same for all.
    """
    lines = [s for s in map(_known, series) if len(s.ys)]
    low, high = min(min(s.ys) for s in lines), max(max(s.ys) for s in lines)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    floor = 0.0 if 0 <= low < 0.4 * high else low - margin
    legend, top = _legend(lines, width)
    x_max = max(max(s.xs, default=0) for s in lines) or 1.0
    frame = _Frame(width, x_max, floor, high + margin, top)
    body = [*_grid(frame), *(_draw(s, frame) for s in lines), *legend]
    body.append(_text(width - _RIGHT, _HEIGHT - 6, x_label, "end"))
    label = escape(f"{y_label} over {x_label}")
    return (
        f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{label}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(frame: _Frame) -> list[str]:
    parts = []
    for value in ticks(frame.y_min, frame.y_max, 5):
        y = frame.y(value)
        right = frame.width - _RIGHT
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, human(value), "end"))
    for value in ticks(0, frame.x_max, 6 if frame.width > 500 else 3):
        parts.append(_text(frame.x(value), _HEIGHT - _BOTTOM + 18, human(value), "middle"))
    return parts


def _draw(series: Series, frame: _Frame) -> str:
    if series.kind == "level":
        y = frame.y(series.ys[0])
        right = frame.width - _RIGHT
        return f'<line class="level" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
    pairs = list(zip(series.xs, series.ys, strict=True))
    kept = pairs[:: max(1, len(pairs) // _MAX_POINTS)]
    if kept[-1] != pairs[-1]:
        kept.append(pairs[-1])
    spots = [(f"{frame.x(x):.1f}", f"{frame.y(y):.1f}") for x, y in kept]
    if series.kind == "points":
        return "".join(f'<circle class="points" cx="{x}" cy="{y}" r="3"/>' for x, y in spots)
    joined = " ".join(f"{x},{y}" for x, y in spots)
    return f'<polyline class="{series.css}" points="{joined}"/>'


def _legend(series: Sequence[Series], width: int) -> tuple[list[str], float]:
    """Names of the series, in rows that fit, and the height they take."""
    parts, x, y = [], float(_LEFT), 12
    for item in series:
        length = 34 + 6.4 * len(item.name)
        if x + length > width and x > _LEFT:
            x, y = float(_LEFT), y + _LEGEND_ROW
        if item.kind == "points":
            parts.append(f'<circle class="points" cx="{x + 8}" cy="{y}" r="3"/>')
        else:
            points = f"{x},{y} {x + 16},{y}"
            parts.append(f'<polyline class="{item.css}" points="{points}"/>')
        parts.append(_text(x + 21, y + 4, item.name, "start"))
        x += length
    return parts, y + 18.0


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
