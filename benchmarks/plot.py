"""Charts of lines and of bars as SVG, written by hand: legible on a light page and on a dark one."""

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 130, 46, 56
_TICKS = (1, 2, 5)
_LABEL_GAP = 16
_BAR, _BAR_GAP, _GROUP_GAP, _NAMES = 13, 2, 12, 118

_STYLE = """
    .bg { fill: #fbfaf7 } .t { fill: #1d2329 } .s { fill: #4b535c } .g { stroke: #d9dce0; stroke-width: 1 }
    .l { fill: none; stroke-width: 2.2 } .d { stroke-dasharray: 6 4 }
    .native .l { stroke: #2f7d5b } .native .p { fill: #2f7d5b }
    .grpcio .l, .other .l { stroke: #b7791f } .grpcio .p, .other .p { fill: #b7791f } .q { opacity: 0.5 }
    @media (prefers-color-scheme: dark) {
      .bg { fill: #161b22 } .t { fill: #e6edf3 } .s { fill: #a9b3bd } .g { stroke: #30363d }
      .native .l { stroke: #5bbd8f } .native .p { fill: #5bbd8f }
      .grpcio .l, .other .l { stroke: #e0a84a } .grpcio .p, .other .p { fill: #e0a84a }
    }
"""


class Line(NamedTuple):
    """One line of a chart."""

    label: str
    style: str
    dashed: bool
    points: Sequence[tuple[float, float]]
    """Across in percent, up in any unit, above 0."""


class Bars(NamedTuple):
    """The bars of one thing, one for each kind of value; None where there is no value."""

    label: str
    marked: bool
    """In the colour of this server, not of the others."""
    values: Sequence[float | None]


def bar_chart(title: str, caption: str, kinds: Sequence[str], groups: Sequence[Bars]) -> str:
    """Bars from left to right, each with its value; the second kind is paler than the first."""
    each = len(kinds) * (_BAR + _BAR_GAP) + _GROUP_GAP
    height = _TOP + len(groups) * each + _BOTTOM
    most = max((value for group in groups for value in group.values if value), default=1.0)
    parts = _head(title, height)
    for place, group in enumerate(groups):
        top = _TOP + place * each + _GROUP_GAP / 2
        middle = top + each / 2 - _GROUP_GAP / 2 + 3
        parts.append(f'<g class="{"native" if group.marked else "other"}">')
        parts.append(f'<text class="t" x="{_NAMES}" y="{middle}" font-size="13" text-anchor="end">')
        parts[-1] += f"{escape(group.label)}</text>"
        for number, value in enumerate(group.values):
            y = top + number * (_BAR + _BAR_GAP)
            width = round((_WIDTH - _RIGHT - _NAMES) * (value or 0) / most, 1)
            shade = "p q" if number else "p"
            shown = f"{kinds[number]} {value:,.0f}" if value else f"{kinds[number]} –"
            parts.append(f'<rect class="{shade}" x="{_NAMES + 10}" y="{y}" width="{width}" height="{_BAR}" rx="2"/>')
            parts.append(
                f'<text class="s" x="{_NAMES + 16 + width}" y="{y + 11}" font-size="11">{escape(shown)}</text>'
            )
        parts.append("</g>")
    parts.append(f'<text class="s" x="{_NAMES + 10}" y="{height - 24}" font-size="12">{escape(caption)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def log_chart(title: str, caption: str, lines: Sequence[Line]) -> str:
    """Percent across, a logarithmic scale up."""
    values = [y for line in lines for _, y in line.points if y > 0]
    low, high = _bounds(min(values, default=0.1)), _bounds(max(values, default=1.0), up=True)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def across(x: float) -> float:
        return round(_LEFT + (right - _LEFT) * x / 100, 1)

    def up(y: float) -> float:
        return round(bottom - (bottom - _TOP) * math.log(y / low) / math.log(high / low), 1)

    parts = _head(title, _HEIGHT)
    middle = (_LEFT + right) / 2
    for tick in _ticks(low, high):
        parts.append(f'<line class="g" x1="{_LEFT}" y1="{up(tick)}" x2="{right}" y2="{up(tick)}"/>')
        parts.append(
            f'<text class="s" x="{_LEFT - 8}" y="{up(tick) + 4}" font-size="12" text-anchor="end">{tick:g}</text>'
        )
    for percent in range(0, 101, 25):
        x = across(percent)
        parts.append(f'<line class="g" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>')
        parts.append(f'<text class="s" x="{x}" y="{bottom + 18}" font-size="12" text-anchor="middle">{percent}%</text>')
    parts.append(
        f'<text class="s" x="{middle}" y="{bottom + 40}" font-size="12" text-anchor="middle">{escape(caption)}</text>'
    )
    below = -math.inf
    for line in sorted(lines, key=lambda line: -line.points[-1][1] if line.points else 0):
        if not line.points:
            continue
        places = [(across(x), up(y)) for x, y in line.points]
        dash = " d" if line.dashed else ""
        parts.append(
            f'<g class="{line.style}"><polyline class="l{dash}" points="{" ".join(f"{x},{y}" for x, y in places)}"/>'
        )
        parts += [f'<circle class="p" cx="{x}" cy="{y}" r="3.2"/>' for x, y in places]
        # Labels from the top down, none on top of the one before.
        below = max(places[-1][1] + 4, below + _LABEL_GAP)
        parts.append(f'<text class="p" x="{places[-1][0] + 10}" y="{below}" font-size="12.5" font-weight="600">')
        parts[-1] += f"{escape(line.label)}</text></g>"
    return "\n".join([*parts, "</svg>", ""])


def _head(title: str, height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">',
        f"<style>{_STYLE}</style>",
        f'<rect class="bg" width="{_WIDTH}" height="{height}" rx="10"/>',
        f'<text class="t" x="{_LEFT}" y="28" font-size="15" font-weight="600">{escape(title)}</text>',
    ]


def _bounds(value: float, *, up: bool = False) -> float:
    """The tick at or beyond a value."""
    ticks = [step * 10.0**power for power in range(-6, 7) for step in _TICKS]
    return min(tick for tick in ticks if tick > value) if up else max(tick for tick in ticks if tick <= value)


def _ticks(low: float, high: float) -> list[float]:
    ticks = [step * 10.0**power for power in range(-6, 7) for step in _TICKS]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
