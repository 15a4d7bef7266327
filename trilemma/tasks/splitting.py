"""Rare events of a model: its samples are led towards one level by level, without changing its law.

A sample is a function of standard normal noise. Of a set of samples those nearest to the event are kept and copied, and
each copy's noise is moved a little, by a step that keeps the normal law (preconditioned Crank-Nicolson, Cotter et al.
2013); it is taken where the sample stays as near. The product of the shares that were kept is the probability of the
event (subset simulation, Au & Beck 2001). A first set finds the levels and counts no further: with levels of its own
its product would be too large by a tenth or more (Cérou et al. 2012), with given ones it is right on average, however
little samples move. Several independent sets say how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trilemma.maths.noise import Noise
from trilemma.metrics.protocol import student

SETS = 8  # independent ones,
LEAST, MOST = 64, 250  # of so many samples each
KEPT = 0.25  # of the samples at each level
MOVES = 4  # of each sample at a level,
LAST = 3  # times as many at the event, so that hardly two are alike
TAKEN = 0.3  # share of moves that should be taken: the step follows it
RAREST = 1e-7  # probability at which nobody looks further
MOVING = 0x6D6F76696E67

Draw = Callable[[Noise], np.ndarray]  # noise of the samples `noise.index` -> raw samples
Far = Callable[[np.ndarray], np.ndarray]  # raw samples -> (n,) how far from the event they are; 0: it happens


@dataclass
class Event:
    """Samples of an event, and how probable it is."""

    x: np.ndarray  # (n, ...) raw
    part: np.ndarray  # (n,) of which set each is
    probability: float
    interval: tuple[float, float]  # 95 %
    drawn: int  # samples altogether
    levels: int  # before the event


class Unreached(Exception):
    """No sample comes there."""

    def __init__(self, drawn: int, nearest: np.ndarray, probability: float):
        super().__init__("no sample reached the event")
        self.drawn, self.nearest, self.probability = drawn, nearest, probability


def cost(n: int, probability: float) -> float:
    """Samples that it takes to find n of an event, about."""
    levels = math.log(probability) / math.log(KEPT)
    return (SETS + 1) * size_of(n) * (1 + MOVES * (levels + LAST * max(n / (SETS * size_of(n)), 1)))


def size_of(n: int) -> int:
    """Of each set, where n samples are wanted."""
    return min(max(-(-n // SETS), LEAST), MOST)


def rare(draw: Draw, far: Far, n: int, *, seed: int, device: str, watch: Callable[[int, float], None]) -> Event:
    """n samples of an event, equally probable. watch: called with how many were drawn and the probability so far.

    Raises:
        Unreached: no set came there; the sample that came nearest, and a probability below which the event is.
    """
    size = size_of(n)
    first = _Set(draw, far, size, seed, 0, device)
    while first.nearer():
        watch(first.drawn, first.probability)
    if not first.there:
        raise Unreached(first.drawn, first.x[first.far.argmin()], first.probability)
    sets: list[_Set] = []
    for number in range(1, SETS + 1):
        sets.append(_Set(draw, far, size, seed, number, device))
        for level, step in first.plan:
            sets[-1].keep(level, step)
            watch(first.drawn + sum(each.drawn for each in sets), first.probability)
    found = np.array([each.probability for each in sets])
    mean = float(found.mean())
    if mean == 0:
        nearest = min(sets, key=lambda one: float(one.far.min()))
        drawn = first.drawn + sum(each.drawn for each in sets)
        raise Unreached(drawn, nearest.x[nearest.far.argmin()], first.probability)
    # By the probability that a set found, its samples stand for more or less; the rest of a share is drawn.
    edges = np.cumsum(found) / found.sum()
    start = np.random.default_rng([seed % 2**64, MOVING]).uniform()
    counts = np.bincount(np.searchsorted(edges, (np.arange(n) + start) / n).clip(0, SETS - 1), minlength=SETS)
    parts = [each.samples(int(count)) for each, count in zip(sets, counts, strict=True)]
    drawn = first.drawn + sum(each.drawn for each in sets)
    # Of the logarithm, which a product of shares is nearer to a normal law by.
    spread = student(SETS - 1) * float(found.std(ddof=1)) / SETS**0.5 / mean
    return Event(
        np.concatenate(parts), np.repeat(np.arange(SETS), counts), mean,
        (mean * math.exp(-spread), min(mean * math.exp(spread), 1.0)), drawn, len(first.plan) - 1,
    )  # fmt: skip


class _Set:
    """Samples on their way to the event."""

    def __init__(self, draw: Draw, far: Far, size: int, seed: int, number: int, device: str):
        self.draw, self.of, self.seed, self.device = draw, far, seed, device
        self.index = number * size + np.arange(size)
        self.first = (number + 1) << 40  # of the noise of moves
        self.held: dict[int, Tensor] = {}
        self.random = np.random.default_rng([seed % 2**64, number, MOVING])
        self.x = draw(Noise(seed, self.index, device, held=self.held))
        self.far, self.drawn = far(self.x), size
        self.probability, self.there = 1.0, False
        self.step = 0.7
        self.plan: list[tuple[float, float]] = []  # levels, and the step with which samples moved at each

    def nearer(self) -> bool:
        """One level nearer, found by the set itself; False where there is none, or it is not worth it."""
        ordered = np.sort(self.far)
        level = ordered[max(int(KEPT * len(ordered)) - 1, 0)]
        if level == ordered[-1] and ordered[0] < level:  # all alike but for a few: those
            level = ordered[np.searchsorted(ordered, level) - 1]
        level = max(float(level), 0.0)
        share = float((self.far <= level).mean())
        if not np.isfinite(level) or (level > 0 and (share == 1 or self.probability * share < RAREST)):
            return False
        self.keep(level)
        self.plan.append((level, self.step))
        self.there = level == 0
        return not self.there

    def keep(self, level: float, step: float | None = None) -> None:
        """Those as near as a level are kept, and moved from there; without a step by one that fits."""
        near = np.flatnonzero(self.far <= level)
        self.probability *= len(near) / len(self.far)
        if len(near):
            self._take(self.random.permutation(np.resize(self.random.permutation(near), len(self.far))))
            self._move(level, step)

    def samples(self, count: int) -> np.ndarray:
        """`count` samples of the event, where the set is there; more than it has are some of them moved on."""
        made = [self.x[:count]]
        while (left := count - sum(map(len, made))) > 0:
            self._take(np.arange(min(left, len(self.x))))
            self._move(0.0, None)
            made.append(self.x.copy())
        return np.concatenate(made)

    def _take(self, places: np.ndarray) -> None:
        self.index, self.x, self.far = self.index[places], self.x[places], self.far[places]
        rows = torch.from_numpy(places)
        self.held = {draw: own[rows.to(own.device)] for draw, own in self.held.items()}

    def _move(self, level: float, step: float | None) -> None:
        for _ in range(MOVES if level > 0 else LAST * MOVES):
            places = self.first + np.arange(len(self.index))
            self.first += len(self.index)
            fresh, far = Noise(self.seed ^ MOVING, places, self.device), step or self.step
            held = {
                draw: (1 - far**2) ** 0.5 * own + far * fresh.normal(*own.shape[1:])
                for draw, own in sorted(self.held.items())
            }
            x = self.draw(Noise(self.seed, self.index, self.device, held=held))
            away = self.of(x)
            taken = away <= level
            for draw, own in self.held.items():
                here = torch.from_numpy(taken).to(own.device).view(-1, *[1] * (own.ndim - 1))
                self.held[draw] = torch.where(here, held[draw], own)
            self.x[taken], self.far[taken] = x[taken], away[taken]
            self.drawn += len(x)
            self.step = float(np.clip(self.step * math.exp(2 * (taken.mean() - TAKEN)), 0.02, 1.0))
