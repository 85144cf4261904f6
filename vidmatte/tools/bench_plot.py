"""The plot of ``vidmatte bench --compare``: an SVG of bars, one a program, vidmatte's by stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 760, 190, 80  # of the picture, of the names, of the numbers, in pixels
_BAR, _STEP, _TOP = 26, 40, 84  # height of a bar, from bar to bar, above the first
_LINE = 18
#: Fill of each part by its order; distinguishable in the common kinds of colour blindness and
#: against both backgrounds. The last is that of a bar without parts.
_FILLS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377")
_PLAIN = "#8c8c8c"
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}"
    ".title{font-size:15px;font-weight:600}.small{font-size:12px;fill:#59636e}"
    ".paper{fill:#ffffff}.grid{stroke:#d1d9e0}.value{font-weight:600}"
    "@media(prefers-color-scheme:dark){"
    "text{fill:#f0f6fc}.small{fill:#9198a1}.paper{fill:#0d1117}.grid{stroke:#3d444d}}"
)


@dataclass(frozen=True)
class Bar:
    """One program: its name and core milliseconds a frame by stage, in order; a single part
    named '' where it has no stages."""

    name: str
    parts: tuple[tuple[str, float], ...]

    @property
    def length(self) -> float:
        """All parts together."""
        return sum(value for _, value in self.parts)


def bars_svg(title: str, bars: Sequence[Bar], caption: Sequence[str]) -> str:
    """An SVG document: horizontal bars over an axis in core milliseconds a frame, the legend of
    their parts above, lines of caption below. Readable in light and dark viewers; no script, no
    font or file from elsewhere.

    """
    fullest = sorted(bars, key=lambda bar: -len(bar.parts))  # it has the order of all of them
    stages = [*dict.fromkeys(name for bar in fullest for name, _ in bar.parts if name)]
    fills = {name: _FILLS[number % len(_FILLS)] for number, name in enumerate(stages)}
    longest = max([1e-3, *(bar.length for bar in bars)])  # all are 0 where noise is all there is
    tick = _tick(longest)
    ticks = math.ceil(longest / tick)
    scale = (_WIDTH - _LEFT - _RIGHT) / (ticks * tick)
    foot = _TOP + _STEP * len(bars)
    height = foot + 44 + _LINE * len(caption)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(_in_words(bars))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="6"/>',
        _text(16, 28, title, "title"),
        *_legend(fills),
        *_axis(tick, ticks, scale, foot),
    ]
    for number, bar in enumerate(bars):
        lines += _bar(bar, fills, scale, _TOP + _STEP * number)
    for number, line in enumerate(caption):
        lines.append(_text(16, foot + 50 + _LINE * number, line, "small"))
    return "\n".join([*lines, "</svg>", ""])


def _tick(longest: float) -> float:
    """The distance of the axis' marks: 1, 2 or 5 times a power of ten, four to nine of them."""
    power: float = 10.0 ** math.floor(math.log10(longest / 4))
    return max(step * power for step in (1, 2, 5) if step * power <= longest / 4)


def _axis(tick: float, ticks: int, scale: float, foot: float) -> list[str]:
    """Marks with their values, and what they count."""
    lines = []
    for number in range(ticks + 1):
        x = _LEFT + number * tick * scale
        lines.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{foot - 6}"/>'
        )
        lines.append(_text(x, foot + 10, f"{number * tick:g}", "small", "middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    unit = "core milliseconds a frame (less is faster)"
    return [*lines, _text(middle, foot + 28, unit, "small", "middle")]


def _legend(fills: dict[str, str]) -> list[str]:
    """A square and a name for each stage."""
    lines, x = [], float(_LEFT)
    for name, fill in fills.items():
        lines.append(f'<rect x="{x:.0f}" y="45" width="12" height="12" fill="{fill}"/>')
        lines.append(_text(x + 18, 56, name, "small"))
        x += 40 + 7 * len(name)
    return lines


def _bar(bar: Bar, fills: dict[str, str], scale: float, y: float) -> list[str]:
    """Its name, its parts side by side, its length in numbers."""
    lines, x = [_text(_LEFT - 10, y + 18, bar.name, "", "end")], float(_LEFT)
    for name, value in bar.parts:
        label = f"{name or bar.name}: {value:.1f} core ms a frame"
        lines.append(
            f'<rect x="{x:.2f}" y="{y}" width="{value * scale:.2f}" height="{_BAR}"'
            f' fill="{fills.get(name, _PLAIN)}"><title>{escape(label)}</title></rect>'
        )
        x += value * scale
    return [*lines, _text(x + 8, y + 18, f"{bar.length:.0f}", "value")]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text {place} class="{kind}">{escape(text)}</text>'


def _in_words(bars: Sequence[Bar]) -> str:
    """The figures as a sentence, for those who do not see the picture."""
    return "; ".join(f"{bar.name}: {bar.length:.0f} core milliseconds a frame" for bar in bars)
