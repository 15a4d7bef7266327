"""Risk of losses: value at risk and expected shortfall of draws, and tests of whether a series of them was right.

Returns are gains; losses, value at risk and expected shortfall are positive where money is lost.
"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc, ndtri, xlogy

MEMORY = 0.94  # of the moving average of losses against their forecasts
ENOUGH = 10  # draws beyond the level from which a quantile is taken of each forecast by itself


def value_at_risk(returns: np.ndarray, level: float) -> np.ndarray:
    """The loss (...) that returns (D, ...) exceed with probability 1 - level; the (1 - level) (D + 1)-th smallest.

    So that a return of the same distribution as the D is below it with probability 1 - level on average. Source:
    Hyndman & Fan 1996, definition 6. Known biases: of fewer than 1 / (1 - level) - 1 draws it is the largest loss.
    """
    return -np.quantile(np.asarray(returns, dtype=np.float64), 1 - level, axis=0, method="weibull")


def expected_shortfall(returns: np.ndarray, level: float) -> np.ndarray:
    """The mean loss (...) of the worst share 1 - level of returns (D, ...), whole draws and a part of the next one.

    Source: Acerbi & Tasche 2002. Known biases: too small for few draws.
    """
    ordered = np.sort(np.asarray(returns, dtype=np.float64), axis=0)
    share = (1 - level) * len(ordered)
    weights = np.clip(share - np.arange(len(ordered)), 0, 1).reshape(-1, *[1] * (ordered.ndim - 1))
    return -(weights * ordered).sum(0) / share


def filtered(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Value at risk and expected shortfall (n,) of forecasts one after the other, of draws (n, D) of each return.

    Where D is too small for a quantile of its own, its place and spread are those of the forecast's own draws (median,
    mean absolute deviation) and its shape that of all draws up to then in these units; nothing of later ones is used.
    Source: filtered historical simulation (Barone-Adesi et al. 1999), of draws instead of residuals. Known biases:
    shapes that differ from forecast to forecast are averaged.
    """
    draws = np.asarray(draws, dtype=np.float64)
    if draws.shape[1] * (1 - level) >= ENOUGH:
        return value_at_risk(draws.T, level), expected_shortfall(draws.T, level)
    middle, spread = middle_and_spread(draws)
    shape = (draws - middle[:, None]) / spread[:, None]
    found: list[tuple[np.ndarray, np.ndarray]] = []
    anew = 1
    for count in range(1, len(draws) + 1):
        if count >= anew:  # a twentieth more draws hardly move it
            seen, anew = shape[:count].ravel(), int(1.05 * count) + 1
            seen = seen[np.isfinite(seen)]
            anew = anew if len(seen) else count + 1
            seen = seen if len(seen) else np.full(1, np.nan)
            latest = value_at_risk(seen, level), expected_shortfall(seen, level)
        found.append(latest)
    var, shortfall = np.array(found).T
    return spread * var - middle, spread * shortfall - middle


def middle_and_spread(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and mean absolute deviation from it (n,) of draws (n, D)."""
    middle = np.median(draws, 1)
    return middle, np.maximum(np.abs(draws - middle[:, None]).mean(1), 1e-12)


def adjusted(gains: np.ndarray, draws: np.ndarray, level: float, *, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Value at risk and expected shortfall (n,) of forecasts one after the other, draws (n, D), by how those before
    fared: gains (n,) are what came after each, and only earlier ones are used. NaN for the `first` ones, and before any
    is known.

    Gains in units of the forecasts' own spread are divided by a moving average of their size (of half a month of
    memory, RiskMetrics' .94), and the quantile of what is left is the shape. Source: filtered historical simulation
    (Barone-Adesi et al. 1999), the filter being the model. Known biases: with few earlier forecasts the largest loss.
    """
    middle, spread = middle_and_spread(np.asarray(draws, dtype=np.float64))
    surprise = (gains - middle) / spread
    known = np.isfinite(surprise)
    begun = np.flatnonzero(known)[:1]
    first = max(first, int(begun[0]) + 1) if len(begun) else len(gains)
    size = float(np.abs(surprise[:first][known[:first]]).mean()) if len(begun) else np.nan
    scale, var, shortfall = np.ones(len(gains)), np.full(len(gains), np.nan), np.full(len(gains), np.nan)
    for place in range(len(gains)):
        scale[place] = size
        if place >= first:
            shape = (surprise[:place] / scale[:place])[known[:place]]
            wide = spread[place] * size
            var[place] = wide * value_at_risk(shape, level) - middle[place]
            shortfall[place] = wide * expected_shortfall(shape, level) - middle[place]
        if known[place]:
            size = MEMORY * size + (1 - MEMORY) * abs(float(surprise[place]))
    return var, shortfall


def gaussian(mean: np.ndarray, deviation: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Value at risk and expected shortfall (n,) of Gaussian returns: closed forms."""
    z = ndtri(1 - level)
    density = np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
    return -(mean + z * deviation), -mean + deviation * density / (1 - level)


def kupiec(violations: np.ndarray, level: float) -> tuple[float, float]:
    """Likelihood ratio and p-value of the hypothesis that violations (n,) bool come with probability 1 - level; NaN for
    none of either.

    Source: Kupiec 1995 (proportion of failures, chi-square of one degree). Known biases: little power for n below some
    hundreds at 99 %.
    """
    count, bad = len(violations), int(np.sum(violations))
    if not count:
        return float("nan"), float("nan")
    expected = 1 - level
    here = xlogy(bad, bad / count) + xlogy(count - bad, 1 - bad / count)
    ratio = max(2 * (here - xlogy(bad, expected) - xlogy(count - bad, 1 - expected)), 0.0)
    return float(ratio), float(chdtrc(1, ratio))


def christoffersen(violations: np.ndarray) -> tuple[float, float]:
    """Likelihood ratio and p-value of the hypothesis that a violation is as probable after one as after none.

    Source: Christoffersen 1998 (independence, chi-square of one degree). Known biases: hardly any power where
    violations are few; it sees neighbours only.
    """
    bad = np.asarray(violations, dtype=bool)
    before, after = bad[:-1], bad[1:]
    table = np.array(
        [[(~before & ~after).sum(), (~before & after).sum()], [(before & ~after).sum(), (before & after).sum()]]
    )
    rows, share = table.sum(1), table[:, 1].sum() / max(table.sum(), 1)
    own = [each[1] / max(total, 1) for each, total in zip(table, rows, strict=True)]
    free = sum(xlogy(each[0], 1 - p) + xlogy(each[1], p) for each, p in zip(table, own, strict=True))
    same = xlogy(table[:, 0].sum(), 1 - share) + xlogy(table[:, 1].sum(), share)
    ratio = max(2 * (free - same), 0.0)
    return float(ratio), float(chdtrc(1, ratio))
