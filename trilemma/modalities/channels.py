"""The value columns of a series: as a model learns them, by levels or by changes, and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from trilemma.errors import InputError
from trilemma.modalities.columns import KNOTS, REPEATED, Column, Texts
from trilemma.modalities.times import CIRCLES, Clock

KINDS = ("level", "change", "return", "known", "left-out")
STEADY = 0.99  # of all changes, those where a day begins, in a column of daily values; of at least 8
ROUNDS = 8  # days or weeks by which it is told whether what keeps a value for one wanders off
WANDERS = 0.1  # of what a random walk would vary from window to window


@dataclass
class Channel:
    """One value column: how its cells become scores."""

    column: Column
    kind: str  # level, change, return; known: a level whose future is given, as the calendar's is
    start: float = 1.0  # a level from which changes go on: the last one known
    decimals: int | None = None  # of levels; the column's own are those of what is learned
    circle: str = ""  # of the calendar, in a round of which the level stays the same: 'hour of day' of a daily value
    values: list[float] = field(default_factory=list)  # all that there are between the ends, where levels are few

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Channel:
        own = dict(description)
        return cls(Column.from_json(own.pop("column")), **own)

    def describe(self) -> dict[str, Any]:
        """JSON; without what most channels have not, as in runs from before there was any."""
        own = asdict(self)
        return {name: value for name, value in own.items() if value or name not in ("circle", "values")}

    @property
    def wanders(self) -> bool:
        """Is it learned by its changes?"""
        return self.kind in ("change", "return")

    def steps(self, values: np.ndarray) -> np.ndarray:
        """Levels on the scale on which changes add up."""
        if self.kind != "return":
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(np.where(values > 0, values, np.nan))

    def relative(self, values: np.ndarray) -> np.ndarray:
        """Levels (n,) as what is learned of them; changes are those from the last level that is known."""
        if not self.wanders:
            return values
        steps = self.steps(values)
        before = pd.Series(steps).ffill().shift(1).to_numpy()
        return steps - before

    def levels(self, learned: np.ndarray, start: np.ndarray | float | None = None) -> np.ndarray:
        """(n, T) of what is learned -> levels; `start` (n,) or one: those of the step before."""
        if not self.wanders:
            return learned
        first = np.broadcast_to(np.asarray(self.start if start is None else start, dtype=float), len(learned))
        total = np.cumsum(np.nan_to_num(learned), 1)
        return first[:, None] * np.exp(total) if self.kind == "return" else first[:, None] + total

    def few(self, levels: list[np.ndarray], times: list[np.ndarray], clock: Clock) -> list[float]:
        """The different levels of each entity (n,), where they come again and again; else none.

        Degrees Fahrenheit written in Celsius, or a coarse sensor: between two of them there is nothing.
        """
        if self.wanders:
            return []
        if self.circle:  # a day's value counts once
            levels = [each[once(each, when, clock, self.circle)] for each, when in zip(levels, times, strict=True)]
        levels = [each[~np.isnan(each)] for each in levels]
        # A level that lasts counts once, too.
        known = np.concatenate([each[np.append(True, np.diff(each) != 0)[: len(each)]] for each in levels])
        found = np.unique(known)
        return found.tolist() if len(found) <= KNOTS and len(known) >= REPEATED * len(found) else []

    def from_scores(self, scores: np.ndarray) -> np.ndarray:
        """Scores (n, T) -> what is learned; between the ends of few levels the nearest of these."""
        learned = self.column.from_scores(scores)
        if len(self.values) < 2:
            return learned
        values = np.asarray(self.values)
        middles = (values[1:] + values[:-1]) / 2
        inside = (learned >= values[0]) & (learned <= values[-1])
        return np.where(inside, values[np.searchsorted(middles, np.where(inside, learned, 0.0))], learned)

    def middle(self, draws: np.ndarray) -> np.ndarray:
        """(n,) the middle of several draws of levels (draws, n): their mean, of few levels the nearest of them to it,
        and of words the one that comes most often."""
        if self.column.values:
            times = [(draws == place).sum(0) for place in range(len(self.column.values))]
            return np.argmax(times, 0).astype(float)
        mean = draws.mean(0)
        if len(self.values) < 2:
            return mean
        values = np.asarray(self.values)
        near = values[np.abs(mean[:, None] - values).argmin(1)]
        return np.where((mean >= values[0]) & (mean <= values[-1]), near, mean)

    def bridged(self, learned: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Levels (n,), NaN where there is none, with their gaps filled by what was learned (n,) of the same steps.

        Of a column that wanders the changes drawn in a gap must sum up to what lies between the levels on both sides:
        what they miss is spread evenly over them. Of independent Gaussian changes this is exact, a Brownian bridge
        (drawn given their sum); on the scale of logarithms where the column is learned by returns.
        """
        known = ~np.isnan(values)
        if not self.wanders:
            return np.where(known, values, learned)
        steps = self.steps(values)
        places = np.flatnonzero(~np.isnan(steps))  # a price of 0 has no logarithm
        made = steps.copy()
        if len(places) == 0:
            return self.levels(learned[None])[0]
        first, last = places[0], places[-1]
        made[last + 1 :] = steps[last] + np.cumsum(learned[last + 1 :])
        back = np.cumsum(learned[1 : first + 1][::-1])[::-1]  # before all levels: backwards from the first
        made[:first] = steps[first] - back
        for begin, end in pairwise(places):
            count = end - begin
            if count > 1:
                own = learned[begin + 1 : end + 1]
                own = own + (steps[end] - steps[begin] - own.sum()) / count
                made[begin + 1 : end] = steps[begin] + np.cumsum(own[:-1])
        return np.where(known, values, np.exp(made) if self.kind == "return" else made)

    def rounded(self, levels: np.ndarray) -> np.ndarray:
        """Levels with the column's own decimals."""
        return levels if self.decimals is None else levels.round(self.decimals)

    def written(
        self, levels: np.ndarray, texts: Texts | None = None, *, rounded: bool = True, comma: bool = False
    ) -> np.ndarray:
        """Levels (n,) as cells in the user's own way; in that of a task's table, where its column is given.

        rounded: with the column's decimals, else with as many as a number has, and a decimal comma with `comma`.
        """
        own, same = np.unique(levels, return_inverse=True)
        column = self.column.like(texts)
        column = (
            replace(column, decimals=self.decimals) if rounded else replace(column, decimals=None, least=0, comma=comma)
        )
        return column.written(self.rounded(own) if rounded else own, np.random.default_rng(0))[same.ravel()]

    def said(self) -> str:
        ways = {"change": ", by its changes", "return": ", by its returns", "known": ", known ahead"}
        steady = {"hour of day": ", one value a day", "day of week": ", one value a week"}
        words = self.column.values
        what = f"{len(words)} words, in the order {', '.join(words)}" if words else "number"
        return what + ways.get(self.kind, "") + steady.get(self.circle, "")


def learned(
    column: Column,
    levels: list[np.ndarray],
    times: list[np.ndarray],
    clock: Clock,
    *,
    length: float,
    window: int,
    kind: str | None,
    start: float,
) -> Channel:
    """A column as its levels in the training part of each entity's times, (n,) each, tell how to learn it.

    length: seconds that the series spans. kind: the one that the user names. start: a level from which changes go on.

    Raises:
        InputError: a kind that is none for these values.
    """
    calendars, (names, *_) = zip(*(clock.calendar(each, length) for each in times), strict=True)
    setting = f"setting data.columns.{column.name}={kind}"
    if column.values and kind in ("change", "return"):
        raise InputError(f"{setting}: its cells are words; say level, known or left-out")
    circle = circle_of(levels, times, clock, names)
    if kind is None and not column.values:
        own, told, steps = levels, list(calendars), window
        if circle and clock.steps_of(circle) > window:  # no window tells whether what outlasts it wanders off
            places = [once(each, when, clock, circle) for each, when in zip(levels, times, strict=True)]
            own = [each[place] for each, place in zip(levels, places, strict=True)]
            told = [each[:, place] for each, place in zip(calendars, places, strict=True)]
            steps = ROUNDS
        kind = kind_of(own, told, steps)
    kind = kind or "level"
    if kind == "return" and min(np.nanmin(each, initial=np.inf) for each in levels) <= 0:
        raise InputError(f"{setting}: it has values of 0 or below")
    made = Channel(column, kind, start, column.decimals)
    column.decimals = None if made.wanders else made.decimals
    once_each = [np.arange(len(column.values), dtype=float)]  # a word that training time does not have is one, too
    column.fit(np.concatenate([made.relative(each) for each in levels] + once_each), smooth=not column.values)
    if not column.values:
        column.lengthen()
    made.circle = "" if made.wanders else circle
    made.values = [] if column.values else made.few(levels, times, clock)
    return made


def kind_of(levels: list[np.ndarray], calendars: list[np.ndarray], window: int) -> str:
    """How to learn a column: a level that returns, or the changes of one that wanders off.

    What the calendar explains apart, the means of windows vary against what varies within them: of a random walk n / T
    times as much on average, of n steps in windows of T. A tenth of that is taken for one, unless changes hardly add up
    within a quarter of a window and the last level has been there before (temperatures: noise upon a season).
    """
    between, within, steps = [], [], 0
    ahead, apart, back = max(window // 4, 2), [], True
    for values, calendar in zip(levels, calendars, strict=True):
        count, known = len(values) // window, ~np.isnan(values)
        if count < 3 or known.sum() < 3 * window:
            continue
        terms = np.concatenate([np.ones((1, len(values))), calendar])
        explained, *_ = np.linalg.lstsq(terms[:, known].T, values[known], rcond=None)
        line = values - explained @ terms
        rest = line[: count * window].reshape(count, window)
        rest = rest[(~np.isnan(rest)).sum(1) > 1]
        if len(rest) < 2:
            continue
        apart.append([_mean_square(line[by:] - line[:-by]) for by in (1, ahead)])
        between.append(np.nanmean(rest, 1).var())
        within.append(np.nanvar(rest, axis=1).mean())
        means = np.nanmean(rest, 1)
        back &= bool(means[:-1].min() <= means[-1] <= means[:-1].max())
        steps = max(steps, len(values))
    if not between or np.mean(between) <= WANDERS * steps / window * np.mean(within):
        return "level"
    once, later = np.mean(apart, 0)
    if back and later < once * (1 + WANDERS * (ahead - 1)):
        return "level"
    return "return" if all(np.nanmin(each, initial=np.inf) > 0 for each in levels) else "change"


def circle_of(levels: list[np.ndarray], times: list[np.ndarray], clock: Clock, known: list[str]) -> str:
    """The longest of the calendar's circles in a round of which the levels stay the same; '' where there is none.

    levels, times: of each entity (n,); known: the channels of the calendar.
    """
    for circle in reversed(CIRCLES):
        steps = clock.steps_of(circle)
        if steps < 2 or f"{circle}, sine" not in known or len({int(each[0]) % clock.step for each in times}) > 1:
            continue
        changes = first = 0
        for values, when in zip(levels, times, strict=True):
            changed = np.diff(values[~np.isnan(values)]) != 0
            begins = np.diff(clock.rounds(when[~np.isnan(values)], circle)) != 0
            changes, first = changes + int(changed.sum()), first + int((changed & begins).sum())
        if changes >= 8 and first >= STEADY * changes:
            return circle
    return ""


def once(values: np.ndarray, times: np.ndarray, clock: Clock, circle: str) -> np.ndarray:
    """Of each round of a circle the first of its steps (n,) that has a value: their places."""
    known = np.flatnonzero(~np.isnan(values))
    return known[np.unique(clock.rounds(times[known], circle), return_index=True)[1]]


def _mean_square(values: np.ndarray) -> float:
    return float(np.nansum(values**2) / max((~np.isnan(values)).sum(), 1))


def straight(x: np.ndarray) -> np.ndarray:
    """Gaps of (channels, n) by a straight line: models do not look at them, measures do."""
    made, places = x.copy(), np.arange(x.shape[1])
    for row in made:
        known = ~np.isnan(row)
        if not known.all():
            row[~known] = np.interp(places[~known], places[known], row[known]) if known.any() else 0.0
    return made
