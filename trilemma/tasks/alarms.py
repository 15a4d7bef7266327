"""Strange steps of a series: how badly each value goes with those around it, held against steps that are known normal.

The model's surprise at each value, over all windows that hold it, becomes the share of normal steps that surprise it as
much; -log of it, squared, adds up over columns, and its mean over stretches of three lengths says how strange a step is
by itself and as part of what is around it. What is strange by itself makes its neighbours look strange, too: all others
are looked at a second time as though it were not known, and stretches are the means of these others. The strangest of
the three lengths counts, and raises an alarm where no more than `false_alarms` of the normal steps are as strange (see
`tasks/detect.py`). Normal steps depend on each other, so that false alarms come in bunches; their share is right on
average.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from trilemma.batches import Arrays
from trilemma.modalities.contract import Modality
from trilemma.modalities.entities import Reading, Rows
from trilemma.modalities.examples import edges, holds, read_examples
from trilemma.modalities.series import PARTS, Series
from trilemma.modalities.written import beside
from trilemma.models.contract import Surprises
from trilemma.tasks.conformal import check_enough, check_share, p_values, strangeness
from trilemma.tasks.detect import blamed
from trilemma.tasks.series import conditions_of, label_of, series_of
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Sampler

FAR = 1000  # times as far above all others as these lie apart: surprise at a value that cannot be
OVERLAP = 4  # windows that hold a step
REACH = 8  # steps on either side, of which only the strangest is taken for strange by itself
STRETCHES = (0.0, 1 / 8, 1 / 2)  # of a window's length, over which what is strange is gathered; 0: a single step


@dataclass
class Alarms:
    """What was found in the steps (n) of all entities, one after the other."""

    reading: Reading
    scores: np.ndarray  # (n,)
    p_values: np.ndarray  # (n,) share of normal steps at least as strange
    stretches: np.ndarray  # (n, stretches) -log of the share of normal ones, by length
    parts: np.ndarray  # (n, columns) of the strangest stretch
    names: list[str]
    false_alarms: float
    normal: int

    @property
    def alarms(self) -> np.ndarray:
        return self.p_values <= self.false_alarms

    def columns(self) -> dict[str, np.ndarray]:
        """As columns of a table."""
        return {
            "anomaly": self.scores.round(3),
            "p_value": self.p_values.round(5),
            "alarm": self.alarms,
            "because": blamed(self.names, self.parts, self.alarms),
            "point": self.stretches[:, 0].round(3),
            "window": self.stretches[:, -1].round(3),
        }

    def frame(self, out: Path | None = None) -> Any:
        """The rows as they were read, with these columns: a data frame, or written to a file."""
        return beside(self.reading, self.columns(), out)

    def said(self) -> str:
        count = int(self.alarms.sum())
        bunches = int((np.diff(np.concatenate([[False], self.alarms]).astype(int)) == 1).sum())
        return (
            f"{count:,} of {len(self.scores):,} steps raise an alarm ({count / max(len(self.scores), 1):.1%}), in "
            f"{bunches:,} stretches; of normal steps {self.false_alarms:.2%} would, by {self.normal:,} of them"
        )


def detect(sampler: Sampler, modality: Modality, source: Any, *, false_alarms: float, normal: Any, seed: int) -> Alarms:
    """How strange the steps of a series are, held against normal ones: a series, or rows that were read.

    Raises:
        InputError: other data than series; too few normal steps for so few false alarms.
    """
    series = series_of(modality, "detect")
    check_share(false_alarms, "steps")
    reading = series.reading(source)
    known = normal if isinstance(normal, list) else series.rows(normal)
    count = sum(len(each.times) for each in known)
    check_enough(count, false_alarms, "steps")
    lengths = [max(round(share * series.window), 1) for share in STRETCHES]
    both = (known, reading.found)  # what is normal, and what is asked about
    bar = Bar("detect", 2 * sum(len(each.times) for rows in both for each in rows))
    made = [[surprises(sampler, series, each, seed, bar) for each in rows] for rows in both]
    impossible(made[0] + made[1])
    here = [[~np.isnan(each.values[:, : series.told]) for each in rows] for rows in both]
    first = _strange(made, here)
    alone = [[peaks(each, false_alarms) for each in rows] for rows in first]
    for rows, surprised, single in zip(both, made, alone, strict=True):
        for number, (each, own) in enumerate(zip(rows, single, strict=True)):
            if own.any():
                others = surprises(sampler, series, _without(each, own), seed, bar)
                surprised[number] = np.where(own | np.isnan(others), surprised[number], others)
    bar.close()
    gathered = [
        np.concatenate(
            [np.stack([_mean(p**2, each, own) for each in lengths], 1) for p, own in zip(*each, strict=True)]
        )
        for each in zip(_strange(made, here), alone, strict=True)
    ]  # (n, stretches, columns): never across the border between two entities
    totals = [each.sum(2) ** 0.5 for each in gathered]
    shares = [strangeness(each, totals[0], itself=own, known=np.ones_like(totals[0], dtype=bool)) for each, own in
              zip(totals, (True, False), strict=True)]  # fmt: skip
    scores = [each.max(1) for each in shares]
    strangest = shares[1].argmax(1)
    parts = gathered[1][np.arange(len(strangest)), strangest]
    names = [each.column.name for each in series.channels[: series.told]]
    found = p_values(scores[1], scores[0])
    return Alarms(reading, scores[1], found, shares[1], parts, names, false_alarms, count)


def _strange(made: list[list[np.ndarray]], here: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Surprises (n, columns) of the entities of what is normal, and of what is asked about, as -log of the share of
    normal steps that surprise as much; 0 where nothing is known."""
    measured, mask = np.concatenate(made[0]), np.concatenate(here[0])
    return [
        [strangeness(p, measured, itself=itself, known=mask) * s for p, s in zip(own, seen, strict=True)]
        for own, seen, itself in zip(made, here, (True, False), strict=True)
    ]


def peaks(strange: np.ndarray, false_alarms: float) -> np.ndarray:
    """Which cells (n, columns) are strange by themselves, and the strangest ones of what is around them."""
    top = pd.DataFrame(strange).rolling(2 * REACH + 1, center=True, min_periods=1).max().to_numpy()
    return np.asarray((strange >= -np.log(false_alarms)) & (strange >= top))


def _without(rows: Rows, cells: np.ndarray) -> Rows:
    """A series in which these cells (n, told) are not known."""
    values = rows.values.copy()
    values[:, : cells.shape[1]][cells] = np.nan
    return Rows(rows.name, rows.times, values)


def _mean(values: np.ndarray, length: int, alone: np.ndarray) -> np.ndarray:
    """(n, C) -> over `length` steps around each the mean of those that are not strange by themselves (n, C)."""
    if length == 1:
        return values
    rest = (~alone).astype(float)
    return np.asarray(around(values * rest, length) / np.maximum(around(rest, length), 0.5 / length))


def unseen(series: Series, source: Any) -> list[Rows]:
    """The steps of a run's data that it has not learned from."""
    given = series.reading(source)
    # Examples were put into splits by all of their columns, those included that the run left out.
    whole = read_examples(source, str(source)) if holds(source) else given
    begins = [own[1] for own in edges(whole, str(source), PARTS)]
    pairs = [(rows, begin) for rows, begin in zip(given.found, begins, strict=True) if begin < len(rows.times)]
    return [Rows(rows.name, rows.times[begin:], rows.values[begin:]) for rows, begin in pairs]


@torch.no_grad()
def surprises(sampler: Sampler, series: Series, rows: Rows, seed: int, bar: Bar | None = None) -> np.ndarray:
    """(n, columns) by the model: of each step the mean over the windows that hold it; NaN for a level where none can
    be, as a price of 0."""
    model, size = sampler.model, series.window
    assert isinstance(model, Surprises)
    model.eval()
    x, known = series.encode(rows.values, rows.times)
    short = max(size - x.shape[1], 0)
    x, known = (np.pad(each, ((0, 0), (short, 0))) for each in (x, known))
    total, label = x.shape[1], label_of(series, rows.name)
    begins = np.unique([*range(0, total - size + 1, max(size // OVERLAP, 1)), total - size])
    found, times = np.zeros((total, series.told)), np.zeros((total, 1))
    for first in range(0, len(begins), BATCH):
        some = begins[first : first + BATCH]
        arrays = Arrays(
            np.stack([x[:, begin : begin + size] for begin in some]),
            observed=np.stack([known[:, begin : begin + size] for begin in some]),
            conditions=conditions_of(sampler, None if label is None else np.full((len(some), 1), label)),
        )
        batch = arrays.gather(np.arange(len(some)), seed=seed, index=some, device=str(sampler.engine.device))
        with sampler.engine.autocast():
            made = model.surprise(batch).float().cpu().numpy()
        for own, begin in zip(made, some, strict=True):
            found[begin : begin + size] += own[: series.told].T
            times[begin : begin + size] += 1
        if bar is not None:
            bar.update(min(int(some[-1]) + size, bar.total), {})
    found = (found / times)[short:]
    for c, channel in enumerate(series.channels[: series.told]):
        found[np.isnan(channel.steps(rows.values[:, c])) & ~np.isnan(rows.values[:, c]), c] = np.nan
    return found


def impossible(found: list[np.ndarray]) -> None:
    """Give values that surprise beyond measure, NaN of (n, columns) each, a surprise far above all others, in place."""
    every = np.concatenate(found)
    if np.isnan(every).any():
        high, low = (act(np.nan_to_num(every), axis=0) for act in (np.max, np.min))
        for own in found:
            np.copyto(own, high + FAR * (high - low), where=np.isnan(own))


def around(values: np.ndarray, length: int) -> np.ndarray:
    """(n, C) -> the mean over `length` steps around each, of those there are at the ends."""
    before = (length - 1) // 2
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, 0)])
    place = np.arange(len(values))
    low, high = np.maximum(place - before, 0), np.minimum(place - before + length, len(values))
    return (total[high] - total[low]) / (high - low)[:, None]
