"""Stylised facts: what the returns of prices have in common everywhere, and whether made ones have it too.

Returns are (n, T, C): n windows of T steps of C variables, NaN where one is missing; real ones in order of time. Each
fact is one number, the mean over variables. Source of the list: Cont 2001, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trilemma.metrics.protocol import Measure

TAIL = 0.05  # of the largest deviations from the median: what the tail index is estimated from
NEAR, FAR = 5, 20  # lags of linear autocorrelation; of volatility clustering
LEVERED = 10  # lags of the leverage effect
BARRIER = 3.0  # deviations of one step: what a path must gain or lose
DRAWS = 300  # of the bootstrap


@dataclass(frozen=True)
class Fact:
    """A fact: its name in results, what it is called, what its figure means."""

    key: str
    title: str
    words: str


FACTS = (
    Fact("tail_index", "Heavy tails", "tail index (Hill) of the largest 5 %; 3 to 5 in most markets, smaller: heavier"),
    Fact("linear_autocorrelation", "No linear autocorrelation", "mean autocorrelation of returns, 1 to 5 steps apart"),
    Fact(
        "volatility_clustering",
        "Volatility clustering",
        "mean autocorrelation of absolute returns, 1 to 20 steps apart: how slowly calm and storm change",
    ),
    Fact("leverage", "Leverage effect", "mean correlation of a return with absolute returns 1 to 10 steps later"),
    Fact(
        "gain_loss_asymmetry",
        "Gain/loss asymmetry",
        "how much longer it takes to gain 3 deviations of a step than to lose them, as a share of half a window",
    ),
)


def stylised_facts(returns: np.ndarray, *, together: int = 1, seed: int = 0) -> dict[str, Measure]:
    """The five facts of returns (n, T, C) by name, each with the 95 % interval of a block bootstrap over windows.

    together: how many neighbouring windows share steps or belong to one stretch of time: the mean length of the
    stationary bootstrap's blocks (Politis and Romano 1994); 1 for windows that were drawn one by one. Ranges: tail
    index (0, inf), correlations [-1, 1], asymmetry [-1, 1]. A variable that never changes counts nothing. ValueError
    for other shapes and windows of fewer than four steps. Intervals: percentiles of 300 draws of that bootstrap.

    Known biases: windows are short, so that what is slower than one is not seen; the tail index is that of the largest
    twentieth, not of the limit. Sources: Hill 1975; Cont 2001; leverage with absolute instead of squared returns, which
    one day does not decide; gain and loss by first passage (Jensen et al. 2003), times cut at half a window.
    """
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 3 or returns.shape[1] < 4 or len(returns) < 2:
        raise ValueError(f"returns of shape {returns.shape}: give (n, T, C) with two windows or more of four steps")
    every = [_of_variable(returns[:, :, c]) for c in range(returns.shape[2])]
    found = [each for each in every if each is not None]
    if not found:
        return {}
    weights = np.concatenate([np.ones((1, len(returns))), _weights(len(returns), together, seed)])
    figures = np.mean([of(weights) for of in found], axis=0)  # (1 + DRAWS, facts)
    whole, draws = figures[0], figures[1:]
    ends = np.quantile(draws, [0.025, 0.975], axis=0)
    return {
        fact.key: Measure(value, min(low, value), max(high, value), fact.key, "neither")
        for fact, value, low, high in zip(FACTS, whole.tolist(), *ends.tolist(), strict=True)
    }


def shown(real: dict[str, Measure], made: dict[str, Measure]) -> dict[str, str]:
    """'inside' or 'missed' for each fact: whether the made value lies in the real data's interval."""
    verdicts = {}
    for key, measure in made.items():
        own = real.get(key)
        if own is not None and own.low is not None and own.high is not None:
            verdicts[key] = "inside" if own.low <= measure.value <= own.high else "missed"
    return verdicts


def _weights(count: int, together: int, seed: int) -> np.ndarray:
    """How often each window is drawn, (draws, count): by the stationary bootstrap, all round in a circle."""
    generator = np.random.default_rng(seed)
    if together <= 1:
        return generator.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(float)
    fresh = generator.uniform(size=(DRAWS, count)) < 1 / together
    fresh[:, 0] = True
    starts, begun = generator.integers(count, size=(DRAWS, count)), np.arange(count)
    last = np.maximum.accumulate(np.where(fresh, begun, 0), 1)
    rows = (np.take_along_axis(starts, last, 1) + begun - last) % count
    return np.stack([np.bincount(each, minlength=count) for each in rows]).astype(float)


def _of_variable(x: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """The five figures (draws, 5) of one variable (n, T), as a function of how often each window counts (draws, n)."""
    known = ~np.isnan(x)
    if known.sum() < 20 or np.nanstd(x) <= 1e-12 * max(float(np.nanmax(np.abs(x))), 1e-300):
        return None
    steps = x.shape[1]
    near, far, levered = (range(1, min(most, steps - 2) + 1) for most in (NEAR, FAR, LEVERED))
    returns, sizes = np.where(known, x - np.nanmean(x), 0), np.where(known, np.abs(x - np.nanmean(x)), 0)
    sizes = np.where(known, sizes - sizes.sum() / known.sum(), 0)
    linear = [_pieces(returns, returns, known, lag) for lag in (0, *near)]
    clustered = [_pieces(sizes, sizes, known, lag) for lag in (0, *far)]
    crossed = [_pieces(returns, sizes, known, lag) for lag in levered]
    far_off = np.abs(np.where(known, x - np.nanmedian(x), 0))
    size, owner = far_off[known], np.nonzero(known)[0]
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    logs, owners = np.log(size[order]), owner[order]
    gain, loss = _passage(returns / np.nanstd(x)), _passage(-returns / np.nanstd(x))

    counted = known.sum(1).astype(float)

    def of(weights: np.ndarray) -> np.ndarray:
        spread, spread_of_sizes = (np.maximum(_covariance(each[0], weights), 1e-300) for each in (linear, clustered))
        return np.stack([
            np.array([_hill(logs, each[owners], TAIL * float(each @ counted)) for each in weights]),
            np.mean([_covariance(each, weights) for each in linear[1:]], 0) / spread,
            np.mean([_covariance(each, weights) for each in clustered[1:]], 0) / spread_of_sizes,
            np.mean([_covariance(each, weights) for each in crossed], 0) / (spread * spread_of_sizes) ** 0.5,
            weights @ (gain - loss) / weights.sum(1),
        ], 1)  # fmt: skip

    return of


def _hill(logs: np.ndarray, counts: np.ndarray, wanted: float) -> float:
    """The tail index of falling logarithms (N,), each of which counts so often, from the `wanted` largest."""
    total = np.cumsum(counts[: len(counts) // 4 + 2])  # far more than a twentieth
    kept = int(np.searchsorted(total, wanted).clip(2, len(total) - 1))
    excess = float(counts[:kept] @ (logs[:kept] - logs[kept])) / max(float(total[kept - 1]), 1.0)
    return 1 / max(excess, 1e-3)


Pieces = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _pieces(one: np.ndarray, two: np.ndarray, known: np.ndarray, lag: int) -> Pieces:
    """What a lagged covariance is summed from, window by window (n,): product, either factor, count."""
    steps = one.shape[1]
    left, right = one[:, : steps - lag], two[:, lag:]
    here = known[:, : steps - lag] & known[:, lag:]
    return (left * right).sum(1), (left * here).sum(1), (right * here).sum(1), here.sum(1).astype(float)


def _covariance(pieces: Pieces, weights: np.ndarray) -> np.ndarray:
    """Of each draw (draws,), from how often each window counts (draws, n)."""
    product, left, right, count = (weights @ each for each in pieces)
    count = np.maximum(count, 1.0)
    return product / count - left * right / count**2


def _passage(x: np.ndarray) -> np.ndarray:
    """Mean time (n,) in which paths of each window first gain `BARRIER`, from all steps of its first half; a share of
    half a window, in which all that take longer end."""
    half = x.shape[1] // 2
    level = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, 1)], 1)
    times = []
    for begin in range(x.shape[1] - half + 1):
        risen = level[:, begin + 1 : begin + half + 1] - level[:, begin : begin + 1] >= BARRIER
        times.append(np.where(risen.any(1), risen.argmax(1) + 1, half))
    return np.mean(times, 0) / half
