"""Plots as inline SVG, drawn by hand: they follow the page's light and dark colours, stay sharp and need no library.

Colours are classes (`family-gan`, ...) that the page's style sheet defines; every mark has its figures in a <title>.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup, escape

from trilemma.report.summary import finite, number

TRANSLATORS = ("bridge", "pix2pix", "cyclegan", "cut")
FAMILIES = ("autoencoder", "vae", "gan", "diffusion", *TRANSLATORS, "baseline", "floor", "real")
LETTER = 6.6  # mean width of a letter at the font size of the style sheet
BOLD = 1.18  # of a bold one, in proportion


def family_class(family: str) -> str:
    """The style class that gives a family its colour."""
    return f"family-{family if family in FAMILIES else 'other'}"


@dataclass
class Mark:
    """One point with error bars in y; `shape` tells the presets of one family apart."""

    name: str
    x: float
    y: float
    family: str
    low: float | None = None
    high: float | None = None
    x_low: float | None = None
    x_high: float | None = None
    shape: int = 0
    strong: bool = False


@dataclass
class Line:
    """One curve; not finite values are left out."""

    name: str
    points: list[tuple[float, float]]
    family: str
    dash: int = 0
    label: bool = True
    dots: bool = True


@dataclass
class Axis:
    """A scale from values to pixels; `flip` puts small values at the far end."""

    title: str
    log: bool = False
    flip: bool = False
    low: float = 0.0
    high: float = 1.0
    fixed: tuple[float, float] | None = None
    ticks: list[float] = field(default_factory=list)

    def fit(self, values: Sequence[float], margin: float = 0.08) -> None:
        """Choose ends and ticks that hold the values."""
        known = [v for v in values if finite(v) and (v > 0 or not self.log)]
        low, high = (min(known), max(known)) if known else (1.0, 2.0)
        if self.log:
            a, b = math.log10(low), math.log10(high)
            room = max((b - a) * margin, 0.06)
            self.low, self.high = 10 ** (a - room), 10 ** (b + room)
            self.ticks = log_ticks(self.low, self.high)
        else:
            room = (high - low) * margin or abs(high) * 0.1 or 1.0
            self.low, self.high = self.fixed or (low - room, high + room)
            self.ticks = linear_ticks(self.low, self.high)

    def place(self, value: float) -> float:
        """0 to 1 along the axis; beyond the ends it stays at the end."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return 1 - share if self.flip else share


def linear_ticks(low: float, high: float, wish: int = 5) -> list[float]:
    raw = (high - low) / wish
    size = 10 ** math.floor(math.log10(raw))
    step = min((size * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    return [round(step * i, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    chosen: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        chosen = [s * 10.0**e for e in range(first, last + 1) for s in steps if low <= s * 10.0**e <= high]
        if len(chosen) >= 3:
            break
    every = -(-len(chosen) // 7)
    return chosen[::every] if len(chosen) >= 2 else linear_ticks(low, high, 3)


def tick_label(value: float) -> str:
    return f"{value / 1000:g}k" if 1e4 <= abs(value) < 1e6 else number(value).replace(" ", "")


class Plot:
    """A frame with two axes, into which marks, lines and labels are put."""

    def __init__(self, x: Axis, y: Axis, *, title: str, width: int = 460, height: int = 330):
        self.x, self.y, self.title, self.width, self.height = x, y, title, width, height
        self.left, self.right, self.top, self.bottom = 52, 12, 22, 42
        self.parts: list[str] = []
        self.taken: list[tuple[float, float, float, float]] = []  # boxes that no label may touch
        self.rules: list[tuple[float, float, float, float]] = []  # dashed lines: touched only where there is no room

    def across(self, value: float) -> float:
        return self.left + self.x.place(value) * (self.width - self.left - self.right)

    def down(self, value: float) -> float:
        return self.height - self.bottom - self.y.place(value) * (self.height - self.top - self.bottom)

    def axes(self) -> None:
        end, floor = self.width - self.right, self.height - self.bottom
        shown = -math.inf
        for tick in self.x.ticks:
            at = self.across(tick)
            self.parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{self.top}" y2="{floor}"/>')
            label = tick_label(tick)
            if at - len(label) * LETTER / 2 > shown:
                self.parts.append(f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{label}</text>')
                shown = at + len(label) * LETTER / 2 + 4
        for tick in self.y.ticks:
            at = self.down(tick)
            self.parts.append(f'<line class="grid" x1="{self.left}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}"/>')
            self.parts.append(f'<text x="{self.left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick_label(tick)}</text>')
        self.parts.append(
            f'<text class="axis" x="{end}" y="{self.height - 6}" text-anchor="end">{escape(self.x.title)}</text>'
        )
        self.parts.append(f'<text class="axis" x="2" y="12">{escape(self.y.title)}</text>')

    def level(self, value: float) -> None:
        """A dashed line across, for what has a quality and no speed."""
        at, end = self.down(value), self.width - self.right
        self.parts.append(f'<line class="level" x1="{self.left}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}"/>')
        self.rules.append((self.left, at - 1, end, at + 1))

    def level_name(self, value: float, name: str) -> None:
        """Its name, above or below the line where it touches nothing; at the left end if it can be there."""
        at, wide, end = self.down(value), len(name) * LETTER, self.width - self.right
        tries = [
            (left, base)
            for left in (self.left + 4, end - wide - 4, *range(self.left + 24, int(end - wide), 20))
            for base in (at - 4, at + 13)
        ]
        boxes = [(left, base, (left - 2, base - 10, left + wide + 2, base + 3)) for left, base in tries]
        left, base, box = next((one for one in boxes if self.free(one[2])), boxes[0])
        self.parts.append(f'<text class="note" x="{left:.1f}" y="{base:.1f}">{escape(name)}</text>')
        self.taken.append(box)

    def free(self, box: tuple[float, float, float, float], *, rules: bool = True) -> bool:
        """Does a label lie inside the frame and on nothing else (with `rules`, on no dashed line either)?"""
        inside = box[0] >= self.left and box[2] <= self.width and box[1] >= 14 and box[3] <= self.height - self.bottom
        return inside and not any(_overlap(box, other) for other in [*self.taken, *(self.rules if rules else [])])

    def staircase(self, points: Sequence[tuple[float, float]]) -> None:
        """The Pareto front through its points, fastest first: what can be had at each speed."""
        if len(points) < 2:
            return
        places = [(self.across(x), self.down(y)) for x, y in points]
        path = f"M{places[0][0]:.1f},{places[0][1]:.1f}" + "".join(f"L{a:.1f},{b:.1f}" for a, b in places[1:])
        self.parts.append(f'<path class="front" d="{path}"/>')
        for (a, b), (c, d) in itertools.pairwise(places):
            count = max(2, round(math.hypot(c - a, d - b) / 5))
            for step in range(1, count):
                at, down = a + (c - a) * step / count, b + (d - b) * step / count
                self.taken.append((at - 3, down - 3, at + 3, down + 3))

    def marks(self, marks: Sequence[Mark], levels: Sequence[tuple[float, str]] = ()) -> None:
        """Points with their bars, then the names of dashed levels and of points, where there is room."""
        places = [(self.across(m.x), self.down(m.y)) for m in marks]
        self.taken += [(a - 7, b - 7, a + 7, b + 7) for a, b in places]
        for mark, (a, b) in zip(marks, places, strict=True):
            words = f"{mark.name}: {self.y.title.split(' (')[0]} {number(mark.y)}"
            bars = ""
            if mark.low is not None and mark.high is not None:
                one, two = self.down(mark.low), self.down(mark.high)
                self.taken.append((a - 1, two - 1, a + 1, one + 1) if two < one else (a - 1, one - 1, a + 1, two + 1))
                bars += f'<line class="bar" x1="{a:.1f}" x2="{a:.1f}" y1="{one:.1f}" y2="{two:.1f}"/>'
                words += f" ({number(mark.low)} to {number(mark.high)})"
            if mark.x_low is not None and mark.x_high is not None:
                one, two = self.across(mark.x_low), self.across(mark.x_high)
                self.taken.append((one - 1, b - 1, two + 1, b + 1))
                bars += f'<line class="bar" x1="{one:.1f}" x2="{two:.1f}" y1="{b:.1f}" y2="{b:.1f}"/>'
            words += f"; {self.x.title.split(' (')[0]} {number(mark.x)}"
            strong = " strong" if mark.strong else ""
            self.parts.append(
                f'<g class="mark {family_class(mark.family)}{strong}"><title>{escape(words)}</title>{bars}'
                f"{shape(mark.shape, a, b)}</g>"
            )
        for value, name in levels:
            if name:
                self.level_name(value, name)
        for mark, (a, b) in zip(marks, places, strict=True):
            self.label(mark.name, a, b, family_class(mark.family) + (" strong" if mark.strong else ""))

    def label(self, name: str, a: float, b: float, style: str) -> None:
        """A name beside its point, where it covers no other; beyond that a thin line leads to it."""
        wide = len(name) * LETTER * (BOLD if "strong" in style else 1.02)
        tries = [(a + 10, b + 4), (a - 10 - wide, b + 4), (a - wide / 2, b - 11), (a - wide / 2, b + 20)]
        tries += [(a + dx, b + dy) for dy in (-20, 24, -32, 36, -46, 50, -60, 64) for dx in (8, -8 - wide, -wide / 2)]
        boxes = [(left, base, (left - 2, base - 10, left + wide + 2, base + 3)) for left, base in tries]
        left, base = min(max(a + 10, self.left), self.width - wide), b + 4
        last = left, base, (left, base - 10, left + wide, base + 3)
        # Beside the point on a dashed line is better than far from it.
        order = ((boxes[:10], True), (boxes[:4], False), (boxes, True), (boxes, False))
        left, base, box = next((one for some, rules in order for one in some if self.free(one[2], rules=rules)), last)
        self.taken.append(box)
        if abs(base - 4 - b) > 18:
            end = left if left > a else left + wide
            self.parts.append(f'<line class="leader" x1="{a:.1f}" y1="{b:.1f}" x2="{end:.1f}" y2="{base - 4:.1f}"/>')
        # A name at the left of its point ends there, however wide the reader's font is.
        place = f'x="{left + wide:.1f}" text-anchor="end"' if left + wide < a else f'x="{left:.1f}"'
        self.parts.append(f'<text class="name {style}" {place} y="{base:.1f}">{escape(name)}</text>')

    def lines(self, lines: Sequence[Line]) -> None:
        ends: list[tuple[tuple[float, float], Line]] = []
        for line in lines:
            places = [(self.across(x), self.down(y)) for x, y in line.points]
            path = "".join(f"{'L' if i else 'M'}{a:.1f},{b:.1f}" for i, (a, b) in enumerate(places))
            style = f"{family_class(line.family)} dash{line.dash % 4}"
            dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2"/>' for a, b in places if line.dots)
            self.parts.append(
                f'<g class="curve {style}"><title>{escape(line.name)}</title><path d="{path}"/>{dots}</g>'
            )
            if line.label:
                ends.append((places[-1], line))
        # Names stand at the right edge, in the order of the ends, pushed apart.
        ends.sort(key=lambda end: end[0][1])
        bases: list[float] = []
        for (_, b), _ in ends:
            bases.append(max(b, bases[-1] + 14) if bases else b)
        surplus = max(0.0, bases[-1] - (self.height - self.bottom)) if bases else 0.0
        at = self.width - self.right + 8
        for pushed, ((a, b), line) in zip(bases, ends, strict=True):
            base, style = pushed - surplus, family_class(line.family)
            self.parts.append(
                f'<line class="leader" x1="{a + 3:.1f}" y1="{b:.1f}" x2="{at - 3}" y2="{base:.1f}"/>'
                f'<text class="name {style}" x="{at}" y="{base + 4:.1f}">{escape(line.name)}</text>'
            )

    def svg(self) -> Markup:
        return Markup(
            f'<svg class="plot" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}">'
            f"{''.join(self.parts)}</svg>"
        )


def _overlap(one: tuple[float, float, float, float], two: tuple[float, float, float, float]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def shape(kind: int, a: float, b: float) -> str:
    """Circle, square, triangle, diamond: one for each preset of a family."""
    if kind % 4 == 0:
        return f'<circle cx="{a:.1f}" cy="{b:.1f}" r="5"/>'
    corners = {
        1: ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
        2: ((0, -5.8), (5.4, 4), (-5.4, 4)),
        3: ((0, -6.2), (6.2, 0), (0, 6.2), (-6.2, 0)),
    }[kind % 4]
    return '<polygon points="' + " ".join(f"{a + dx:.1f},{b + dy:.1f}" for dx, dy in corners) + '"/>'


def scatter(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    *,
    title: str,
    levels: Sequence[tuple[float, str]] = (),
    front: Sequence[tuple[float, float]] = (),
    height: int = 330,
) -> Markup:
    """Named points with error bars; empty when there is none."""
    marks = [m for m in marks if all(finite(v) and (v > 0 or not axis.log) for v, axis in ((m.x, x), (m.y, y)))]
    if not marks:
        return Markup("")
    levels = [(value, name) for value, name in levels if finite(value) and (value > 0 or not y.log)]
    x.fit([v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None], 0.12)
    y.fit([v for m in marks for v in (m.y, m.low, m.high) if v is not None] + [value for value, _ in levels])
    plot = Plot(x, y, title=title, height=height)
    plot.axes()
    for value, _ in levels:
        plot.level(value)
    plot.staircase(front)
    plot.marks(marks, levels)
    return plot.svg()


def curves(lines: Sequence[Line], x: Axis, y: Axis, *, title: str) -> Markup:
    """Curves with their names at the right; on a logarithmic axis what is not positive lies on the lower edge."""
    kept = []
    for line in lines:
        points = [(a, b) for a, b in line.points if finite(a) and finite(b) and (a > 0 or not x.log)]
        if points:
            kept.append(replace(line, points=sorted(points)))
    positive = [b for line in kept for _, b in line.points if b > 0]
    if not kept or (y.log and not positive):
        return Markup("")
    x.fit([a for line in kept for a, _ in line.points], 0.03)
    y.fit(positive if y.log else [b for line in kept for _, b in line.points])
    plot = Plot(x, y, title=title, width=480, height=330)
    plot.right = round(16 + LETTER * max((len(line.name) for line in kept if line.label), default=0))
    plot.axes()
    plot.lines(kept)
    return plot.svg()


def spark(values: Sequence[float], *, title: str, width: int = 150, height: int = 32) -> Markup:
    """One small line without axes, its last value dotted."""
    known = [(i, v) for i, v in enumerate(values) if finite(v)]
    if len(known) < 2:
        return Markup("")
    # A first value far from all others must not flatten the rest.
    order = sorted(v for _, v in known)
    low, high = order[len(order) // 50], order[-1 - len(order) // 50]
    span = high - low or 1.0
    places = [
        (2 + i / max(len(values) - 1, 1) * (width - 6), height - 3 - min(max((v - low) / span, 0), 1) * (height - 6))
        for i, v in known
    ]
    path = "".join(f"{'L' if i else 'M'}{a:.1f},{b:.1f}" for i, (a, b) in enumerate(places))
    a, b = places[-1]
    return Markup(
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f'<path d="{path}"/><circle cx="{a:.1f}" cy="{b:.1f}" r="2"/></svg>'
    )
