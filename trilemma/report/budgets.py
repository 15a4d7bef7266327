"""What more training would give: quality after shares of the budget, who overtakes whom, did the last half pay?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trilemma.report.summary import Figure, Summary, apart, finite, joined, mean

NEAR = 0.10  # relative, of a share that was reached to the one that it stands for
PAYS = 0.10  # by which part the last half of the budget must have brought a distance down


def shares(one: Summary) -> list[float]:
    """The shares of the budget below 1 at which this model was measured."""
    return sorted({p["share"] for row in one.done for p in row.get("budgets") or [] if finite(p.get("share"))})


def _points(one: Summary, share: float, near: float) -> list[tuple[Any, dict[str, Any]]]:
    """(seed, point) of this share: a clock that set the count right later may have made another one of it."""
    return [
        (row.get("seed"), point)
        for row in one.done
        for point in row.get("budgets") or []
        if point.get("share") == share and finite(point.get("reached")) and abs(point["reached"] / share - 1) <= near
    ]


def at_share(one: Summary, share: float, metric: str, *, near: float = NEAR) -> Figure | None:
    """The figure that a training of this share of the budget reached, over the seeds."""
    if share == 1:
        return one.figures.get(metric)
    entries = {seed: (point.get("metrics") or {}).get(metric) or {} for seed, point in _points(one, share, near)}
    measures = {seed: entry for seed, entry in entries.items() if finite(entry.get("value"))}
    return joined(measures) if measures else None


def astray(one: Summary) -> list[tuple[float, float]]:
    """(share that was asked for, share that was reached) of each training that cannot stand for its share."""
    return [
        (share, point["reached"])
        for share in shares(one)
        for _, point in _points(one, share, math.inf)
        if abs(point["reached"] / share - 1) > NEAR
    ]


def course(one: Summary, metric: str) -> list[tuple[float, float]]:
    """(seconds of training, figure) of each budget, the whole one last; means over the seeds."""
    points = []
    for share in [*shares(one), 1.0]:
        figure, seconds = at_share(one, share, metric, near=math.inf), _seconds(one, share, near=math.inf)
        if figure is not None and seconds:
            points.append((seconds, figure.value))
    return sorted(points)


def _seconds(one: Summary, share: float, *, near: float = NEAR) -> float | None:
    """What a training of this share of the budget takes, mean over the seeds."""
    if share == 1:
        return one.speed.get("train_seconds")
    known = [float(point["seconds"]) for _, point in _points(one, share, near) if finite(point.get("seconds"))]
    return mean(known) if known else None


@dataclass(frozen=True)
class Overtaking:
    """One model's distance falls below another's at a budget between two that were measured."""

    ahead: str
    behind: str
    seconds: float


def overtakings(models: list[Summary], metric: str) -> list[Overtaking]:
    """Where one model falls reliably behind another that it was reliably ahead of, with a larger budget.

    The moment is where their courses cross between those two budgets, straight in logarithms of time and distance.
    """
    found = []
    for i, one in enumerate(models):
        for other in models[i + 1 :]:
            known: list[tuple[int, float, float]] = []  # (who is ahead, seconds, gap of the logarithms)
            for share in [*shares(one), 1.0]:
                left, right = at_share(one, share, metric), at_share(other, share, metric)
                seconds = [s for s in (_seconds(one, share), _seconds(other, share)) if s]
                if left is None or right is None or not seconds or min(left.value, right.value) <= 0:
                    continue
                if apart(left, right):
                    gap = math.log(left.value) - math.log(right.value)
                    known.append((1 if left.badness < right.badness else -1, mean(seconds), gap))
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
