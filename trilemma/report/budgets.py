"""What more training would give: quality after shares of the budget, who overtakes whom, did the last half pay?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from trilemma.report.summary import Figure, Summary, apart, finite, joined, mean

NEAR = 0.10  # relative, of a share that was reached to the one that it stands for
PAYS = 0.10  # by which part the last half of the budget must have brought a distance down


def shares(one: Summary) -> list[float]:
    """The shares of the budget below 1 at which this model was measured."""
    return sorted({p["share"] for row in one.done for p in row.get("budgets") or [] if finite(p.get("share"))})


def _points(one: Summary, share: float, near: float) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, point) of this share: a clock that set the count right later, or whole batches, may have made another."""
    return [
        (row, point)
        for row in one.done
        for point in row.get("budgets") or []
        if point.get("share") == share and finite(point.get("reached")) and abs(point["reached"] / share - 1) <= near
    ]


def at_share(one: Summary, share: float, metric: str, *, near: float = NEAR) -> Figure | None:
    """The figure that a training of this share of the budget reached, over the seeds."""
    if share == 1:
        return one.figures.get(metric)
    points = _points(one, share, near)
    entries = {row.get("seed"): (point.get("metrics") or {}).get(metric) or {} for row, point in points}
    measures = {seed: entry for seed, entry in entries.items() if finite(entry.get("value"))}
    return joined(measures) if measures else None


def astray(one: Summary) -> list[tuple[float, float, bool]]:
    """(share asked for, share reached, did the clock set the count right?) of each that cannot stand for its share.

    Where the clock did not, it is for the rounding to whole batches.
    """
    return [
        (share, point["reached"], bool((row.get("training") or {}).get("corrections")))
        for share in shares(one)
        for row, point in _points(one, share, math.inf)
        if abs(point["reached"] / share - 1) > NEAR
    ]


def course(one: Summary, metric: str) -> list[tuple[float, Figure]]:
    """(seconds of training, figure) of each budget, the whole one last; means over the seeds."""
    points = []
    for share in [*shares(one), 1.0]:
        figure, seconds = at_share(one, share, metric, near=math.inf), _seconds(one, share)
        if figure is not None and seconds:
            points.append((seconds, figure))
    return sorted(points, key=lambda point: point[0])


def _seconds(one: Summary, share: float) -> float | None:
    """What the trainings of this share of the budget took, mean over the seeds."""
    if share == 1:
        return one.speed.get("train_seconds")
    known = [float(point["seconds"]) for _, point in _points(one, share, math.inf) if finite(point.get("seconds"))]
    return mean(known) if known else None


def after(points: list[tuple[float, Figure]], seconds: float) -> Figure | None:
    """The figure after so many seconds, straight in logarithms between those of a course; None outside of it."""
    for (start, one), (stop, two) in pairwise(points):
        if start <= seconds <= stop and stop > start:
            part = math.log(seconds / start) / math.log(stop / start)
            return _between(one, two, part)
    return None


def _between(one: Figure, two: Figure, part: float) -> Figure:
    def mixed(a: float, b: float, otherwise: float) -> float:
        return math.exp((1 - part) * math.log(a) + part * math.log(b)) if min(a, b) > 0 else otherwise

    low = high = None
    if one.low is not None and two.low is not None and one.high is not None and two.high is not None:
        low = mixed(one.low, two.low, min(one.low, two.low))
        high = mixed(one.high, two.high, max(one.high, two.high))
    seeds = {seed: mixed(one.seeds[seed], two.seeds[seed], math.nan) for seed in one.seeds if seed in two.seeds}
    return Figure(mixed(one.value, two.value, math.nan), low, high, one.better, one.unit, seeds=seeds)


@dataclass(frozen=True)
class Overtaking:
    """One model's distance falls below another's at a budget between two that were measured."""

    ahead: str
    behind: str
    seconds: float


def overtakings(models: list[Summary], metric: str) -> list[Overtaking]:
    """Where one model falls reliably behind another that it was reliably ahead of, after more seconds of training.

    They are held against each other at all moments at which one of them was measured; the moment is where their courses
    cross between two of these, straight in logarithms of time and distance.
    """
    found = []
    ways = {one.name: course(one, metric) for one in models}
    for one, other in combinations(models, 2):
        known: list[tuple[int, float, float]] = []  # (who is ahead, seconds, gap of the logarithms)
        for seconds in sorted({seconds for name in (one.name, other.name) for seconds, _ in ways[name]}):
            left, right = after(ways[one.name], seconds), after(ways[other.name], seconds)
            if left is None or right is None or not min(left.value, right.value) > 0:
                continue
            if apart(left, right):
                gap = math.log(left.value) - math.log(right.value)
                known.append((1 if left.badness < right.badness else -1, seconds, gap))
        for (ahead, start, gap), (now, stop, later) in pairwise(known):
            if ahead != now and gap * later < 0:
                place = math.log(start) + (math.log(stop) - math.log(start)) * gap / (gap - later)
                first, second = (one, other) if now == 1 else (other, one)
                found.append(Overtaking(first.name, second.name, math.exp(place)))
    return found


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
    def hurts(self) -> bool:
        """Did it reliably make things worse?"""
        return self.reliable and self.whole.badness > self.half.badness

    @property
    def pays(self) -> bool:
        """Did it bring the distance down by a tenth or more, reliably?"""
        return self.reliable and self.whole.badness < self.half.badness and self.times < 1 - PAYS


def last_half(one: Summary, metric: str) -> Last | None:
    half, whole = at_share(one, 0.5, metric), one.figures.get(metric)
    return None if half is None or whole is None else Last(half, whole)
