"""What more training would give: quality after shares of the budget, who overtakes whom, whether the last half paid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trilemma.report.summary import Figure, Summary, apart, finite, joined, mean

PAYS = 0.10  # by which part the last half of the budget must have brought a distance down


def shares(one: Summary) -> list[float]:
    """The shares of the budget below 1 at which this model was measured."""
    return sorted({p["share"] for row in one.done for p in row.get("budgets") or [] if finite(p.get("share"))})


def at_share(one: Summary, share: float, metric: str) -> Figure | None:
    """The figure that a training of this share of the budget reached, over the seeds."""
    if share == 1:
        return one.figures.get(metric)
    measures: dict[Any, dict[str, Any]] = {}
    for row in one.done:
        for point in row.get("budgets") or []:
            entry = (point.get("metrics") or {}).get(metric) or {}
            if point.get("share") == share and finite(entry.get("value")):
                measures[row.get("seed")] = entry
    return joined(measures) if measures else None


def course(one: Summary, metric: str) -> list[tuple[float, float]]:
    """(seconds of training, figure) of each budget, the whole one last; means over the seeds."""
    points = []
    for share in shares(one):
        figure = at_share(one, share, metric)
        seconds = [
            float(p["seconds"])
            for row in one.done
            for p in row.get("budgets") or []
            if p.get("share") == share and finite(p.get("seconds"))
        ]
        if figure is not None and seconds:
            points.append((mean(seconds), figure.value))
    if points and metric in one.figures and one.speed.get("train_seconds"):
        points.append((one.speed["train_seconds"], one.figures[metric].value))
    return sorted(points)


@dataclass(frozen=True)
class Overtaking:
    """One model's distance falls below another's at a budget between two that were measured."""

    ahead: str
    behind: str
    seconds: float


def overtakings(models: list[Summary], metric: str) -> list[Overtaking]:
    """Where the order of two models changes with the budget: crossings of their courses, straight in logarithms."""
    found = []
    ways = {one.name: course(one, metric) for one in models}
    for i, one in enumerate(models):
        for other in models[i + 1 :]:
            left, right = ways[one.name], ways[other.name]
            if len(left) < 2 or len(right) < 2 or min(y for _, y in left + right) <= 0:
                continue
            moments = sorted({x for x, _ in left + right if _within(x, left) and _within(x, right)})
            gaps = [(x, math.log(_value(left, x)) - math.log(_value(right, x))) for x in moments]
            for (x, before), (y, after) in pairwise(gaps):
                if before * after < 0:
                    place = math.log(x) + (math.log(y) - math.log(x)) * before / (before - after)
                    ahead, behind = (one, other) if after < 0 else (other, one)
                    found.append(Overtaking(ahead.name, behind.name, math.exp(place)))
    return found


def _within(x: float, points: list[tuple[float, float]]) -> bool:
    return points[0][0] <= x <= points[-1][0]


def _value(points: list[tuple[float, float]], x: float) -> float:
    """The course at this moment, straight between its points in logarithms of both."""
    for (a, low), (b, high) in pairwise(points):
        if a <= x <= b and b > a:
            part = (math.log(x) - math.log(a)) / (math.log(b) - math.log(a))
            return math.exp(math.log(low) + part * (math.log(high) - math.log(low)))
    return points[-1][1]


@dataclass(frozen=True)
class Last:
    """What the last half of the budget brought: figures at half and at all of it."""

    half: Figure
    whole: Figure

    @property
    def reliable(self) -> bool:
        return apart(self.half, self.whole)

    @property
    def times(self) -> float:
        """The distance at all of the budget over that at half of it."""
        return self.whole.value / self.half.value if self.half.value else 1.0

    @property
    def pays(self) -> bool:
        """Did it bring the distance down by a tenth or more, reliably?"""
        return self.reliable and self.whole.badness < self.half.badness and self.times < 1 - PAYS


def last_half(one: Summary, metric: str) -> Last | None:
    half, whole = at_share(one, 0.5, metric), one.figures.get(metric)
    return None if half is None or whole is None else Last(half, whole)
