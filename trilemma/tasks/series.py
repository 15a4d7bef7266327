"""What people ask of series: gaps filled in, and windows that go on.

A series is worked at in windows, and what one has made is given to the next. Gaps longer than half a window are gone
through from their beginning; all others are filled in two rounds over windows that overlap by half: the even ones, of
which the middle is kept, and then the odd ones, which see what stands on both sides. Nothing is kept that has not seen
a quarter of a window on either side, so that there are no seams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays, Options
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.mixed import Attributes
from trilemma.modalities.contract import Gaps, Modality
from trilemma.modalities.entities import Rows
from trilemma.modalities.series import Series
from trilemma.modalities.times import DAY, YEAR
from trilemma.models.contract import Fills
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Prompt, Sampler

BEGIN = 1_577_836_800  # 2020: where a series begins that is made for no time


def series_of(modality: Modality, task: str) -> Series:
    if not isinstance(modality, Series):
        raise InputError(f"{task}: only a series has times; this run's data are of kind {modality.kind}")
    return modality


@torch.no_grad()
def fill(
    sampler: Sampler,
    windows: np.ndarray,
    observed: np.ndarray,
    *,
    seed: int,
    index: np.ndarray,
    label: np.ndarray | None,
    options: Options,
    prompt: Prompt | None = None,
) -> np.ndarray:
    """Raw windows (n, channels, T) with what is not observed drawn given the rest.

    Window i has the noise of index[i]; label (n, 1): whose they are, None where the run knows one entity only. prompt:
    which attributes they have; None: those of the entity.
    """
    model = sampler.model
    assert isinstance(model, Fills)
    model.eval()
    made, arrays = [], Arrays(windows, observed=observed)
    for first in range(0, len(windows), BATCH):
        places = np.arange(first, min(first + BATCH, len(windows)))
        batch = arrays.gather(places, seed=seed, index=index[places], device=str(sampler.engine.device))
        if "x" in sampler.model.spaces and batch.observed is not None:
            x, known = sampler.model.space.deduced(batch.x, batch.observed)
            batch = replace(batch, x=x, observed=known)
        own = None if label is None else label[places]
        request = sampler.request(seed, index[places], label=own, options=options, prompt=prompt)
        with sampler.engine.autocast():
            made.append(sampler.array(model.fill(batch, request, complete=True)))
    return np.concatenate(made) if made else windows


def go_on(
    sampler: Sampler,
    series: Series,
    x: np.ndarray,
    known: np.ndarray,
    ahead: np.ndarray,
    *,
    seed: int,
    index: np.ndarray,
    label: np.ndarray | None,
    options: Options,
    lost: int = 0,
    prompt: Prompt | None = None,
) -> np.ndarray:
    """What comes after raw x (n, channels, past), of which `known` is known: (n, channels, lost + horizon).

    ahead (n, told, horizon): the channels that are known then. A window is filled in at a time, at most half of it
    future; a longer horizon goes on from each example by itself. lost: steps of the past that are given back, too.
    """
    size, told, horizon = series.window, series.told, ahead.shape[2]
    step, made = min(horizon, size // 2), []
    for begin in range(0, horizon, step):
        count = min(step, horizon - begin)
        windows = np.zeros((len(x), x.shape[1], size), dtype=np.float32)
        observed = np.zeros(windows.shape, dtype=bool)
        back = min(size - count, x.shape[2])
        at = size - count - back  # of a short past the window's beginning is not known
        windows[:, :, at : at + back] = x[:, :, x.shape[2] - back :]
        observed[:, :, at : at + back] = known[:, :, x.shape[2] - back :]
        windows[:, told:, -count:], observed[:, told:, -count:] = ahead[:, :, begin : begin + count], True
        own = index + (begin << 24)
        whole = fill(sampler, windows, observed, seed=seed, index=own, label=label, options=options, prompt=prompt)
        future = whole[:, :, -count:]
        # What a column has grown in a gap at the end of the past is filled in too: its level is known before that.
        made.append(whole[:, :, size - count - lost :] if begin == 0 else future)
        x = np.concatenate([x[:, :, -size:], future], 2)
        known = np.concatenate([known[:, :, -size:], np.ones(future.shape, dtype=bool)], 2)
    return np.concatenate(made, 2)


def lengthened(
    sampler: Sampler,
    series: Series,
    n: int,
    length: int,
    *,
    label: int | None,
    seed: int,
    start: int,
    options: Options,
    prompt: Prompt | None = None,
) -> np.ndarray:
    """n raw series (n, channels, length): a window, then half a window at a time that goes on from the end of the last.

    Each begins at a time of its own within a year, whose calendar the model is told. prompt: their attributes.

    Raises:
        InputError: a run with columns that are known ahead; a length below one.
    """
    if length < 1:
        raise InputError(f"--length {length}: at least one step")
    if series.told < len(series.channels):
        raise InputError("--length: this run has columns that are known ahead, and nobody knows them; leave it out")
    index = start + np.arange(n)
    step, total = series.clock.step or DAY, series.window + max(length - series.window, 0)
    place = Noise(seed ^ BEGIN, index).uniform().double().numpy()
    begins = BEGIN + (place * YEAR // step).astype(int) * step + series.clock.offset
    times = [series.clock.after(int(begin), total) for begin in begins]
    calendar = np.stack([series.clock.calendar(each, series.length)[0] for each in times]).astype(np.float32)
    x = np.zeros((n, series.told + calendar.shape[1], series.window), dtype=np.float32)
    observed = np.zeros(x.shape, dtype=bool)
    x[:, series.told :], observed[:, series.told :] = calendar[:, :, : series.window], True
    labels = sampler.labels(seed, index) if label is None else np.full((n, 1), label)
    if prompt is not None and label is None:  # one of those that have them, for all of a series
        request = sampler.request(seed, index, prompt=prompt)
        here = request.present["label"].unsqueeze(1)
        labels = torch.where(here, request.raw["label"], -1).cpu().numpy()
    told: dict[str, Any] = {"seed": seed, "label": labels, "options": options, "prompt": prompt}
    x = fill(sampler, x, observed, index=index, **told)
    if total > series.window:
        ahead = calendar[:, :, series.window :]
        known = np.ones(x.shape, dtype=bool)
        more = go_on(sampler, series, x, known, ahead, index=index + (1 << 44), **told)
        x = np.concatenate([x, more], 2)
    return x[:, :, :length]


def label_of(series: Series, name: str) -> int | None:
    """The number under which a run knows an entity; None where it knows only one."""
    return series.entities.index(name) if len(series.entities) > 1 and name in series.entities else None


def conditions_of(sampler: Sampler, labels: np.ndarray | None) -> dict[str, np.ndarray]:
    """What a model is told of windows with these labels (n, 1): labels, and the attributes that go with them."""
    if labels is None:
        return {}
    spaces, index = sampler.model.spaces, np.arange(len(labels))
    known = {name: space for name, space in spaces.items() if isinstance(space, Attributes)}
    return {"label": labels} | {name: sampler.attributes(one, 0, index, labels)[0] for name, one in known.items()}


def impute(
    sampler: Sampler, modality: Modality, source: object, *, draws: int, seed: int, options: Options
) -> tuple[Gaps, np.ndarray, list[np.ndarray]]:
    """What was read, its levels (steps, C) without gaps by the mean of the draws, and the draws themselves."""
    if draws < 1:
        raise InputError(f"--draws {draws}: at least one")
    series = series_of(modality, "impute")
    gaps = series.gaps(source)
    found: list[Rows] = gaps.origin.found
    works = [_Work(series, rows, number) for number, rows in enumerate(found)]
    bar, done = Bar("impute", draws * sum(each.count() for each in works)), 0
    made: list[list[np.ndarray]] = [[] for _ in range(draws)]
    for each in works:
        for levels in made:
            levels.append(each.rows.values)
        if each.count():
            x = np.repeat(each.x[None], draws, 0)
            for number in each.rounds(sampler, x, seed=seed, options=options):
                done += number
                bar.update(min(done, bar.total), {})
            for number in range(draws):
                made[number][-1] = each.levels(x[number])
    bar.close()
    whole = [np.concatenate(each) for each in made]
    middles = [each.middle(np.stack(whole)[:, :, c]) for c, each in enumerate(series.channels)]
    middle = np.where(gaps.observed, gaps.x, np.stack(middles, 1))
    return gaps, middle, whole


class _Work:
    """One entity's series on the way to being whole."""

    def __init__(self, series: Series, rows: Rows, number: int):
        self.series, self.rows, self.number, self.size = series, rows, number, series.window
        x, known = series.encode(rows.values, rows.times)
        for c, channel in enumerate(series.channels):
            if channel.wanders:  # the change into a level is known where the level before it is
                known[c, 1:] &= ~np.isnan(rows.values[:-1, c])
        self.short = max(self.size - x.shape[1], 0)  # of a short series a window's beginning is not known
        self.x = np.pad(x, ((0, 0), (self.short, 0)))
        self.known = np.pad(known, ((0, 0), (self.short, 0)))
        self.wanted = np.isnan(rows.values).any(1)

    def count(self) -> int:
        """Windows to fill, about."""
        missing = ~self.known[:, self.short :].all(0)
        return 0 if not self.wanted.any() else -(-2 * int(missing.sum()) // self.size) + 1

    def levels(self, x: np.ndarray) -> np.ndarray:
        """Filled raw x (channels, n) -> levels (n, C)."""
        learned = self.series.learned(x[None, :, self.short :])[0]
        made = [each.bridged(learned[c], self.rows.values[:, c]) for c, each in enumerate(self.series.channels)]
        return np.stack(made, 1)

    def rounds(self, sampler: Sampler, x: np.ndarray, *, seed: int, options: Options) -> Iterator[int]:
        """Fill x (draws, channels, n) in place; yields how many windows were made."""
        size, known, total = self.size, self.known.copy(), x.shape[2]
        quarter = max(size // 4, 1)
        label = label_of(self.series, self.rows.name)
        rounds = (*self._along(known, quarter), *self._across(total, quarter))
        for turn, spots in enumerate(rounds):
            # (begin, from, to): a window's begin, and which of its steps are kept.
            spots = [spot for spot in spots if not known[:, spot[1] : spot[2]].all()]
            pairs = [(draw, spot) for spot in spots for draw in range(len(x))]
            for part in range(0, len(pairs), BATCH):
                some = pairs[part : part + BATCH]
                windows = np.stack([x[draw, :, begin : begin + size] for draw, (begin, _, _) in some])
                masks = np.stack([known[:, begin : begin + size] for _, (begin, _, _) in some])
                first_index = (self.number << 32) + (turn % 16 << 28)
                index = [(draw << 48) + first_index + begin % 2**28 for draw, (begin, _, _) in some]
                labels = None if label is None else np.full((len(some), 1), label)
                made = fill(sampler, windows, masks, seed=seed, index=np.array(index), label=labels, options=options)
                for own, (draw, (begin, first, last)) in zip(made, some, strict=True):
                    x[draw, :, first:last] = own[:, first - begin : last - begin]
                yield len(some)
            for _, first, last in spots:
                known[:, first:last] = True

    def _along(self, known: np.ndarray, quarter: int) -> Iterator[list[tuple[int, int, int]]]:
        """Rounds through gaps of more than half a window, all gaps at once, from their beginnings on."""
        total, size = known.shape[1], self.size
        spans: list[list[int]] = []
        long = np.zeros(total, dtype=bool)
        for row in known:
            edges = np.flatnonzero(np.diff(np.concatenate([[True], row, [True]]).astype(int)))
            for begin, end in zip(edges[::2], edges[1::2], strict=True):
                if end - begin > 2 * quarter:
                    long[begin:end] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[False], long, [False]]).astype(int)))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if spans and begin - spans[-1][1] < quarter:
                spans[-1][1] = int(end)
            else:
                spans.append([int(begin), int(end)])
        while spans:
            now, later = [], []
            for begin, end in spans:
                at = min(max(begin - quarter, 0), total - size)
                to = at + size - quarter if at + size < total else total
                to = min(to, end)
                now.append((at, begin, to))
                if to < end:
                    later.append([to, end])
            yield now
            spans = later

    def _across(self, total: int, quarter: int) -> Iterator[list[tuple[int, int, int]]]:
        """Rounds of windows over the whole: even ones, those in between, and one at the end."""
        size, half = self.size, max(self.size // 2, 1)
        begins = list(range(0, total - size + 1, half))
        last = [] if begins[-1] + size == total else [total - size]
        for part in (begins[::2], begins[1::2], last):
            yield [
                (
                    begin,
                    begin if begin == 0 else begin + quarter,
                    total if begin + size == total else begin + size - quarter,
                )
                for begin in part
            ]
