"""Forecasts that need no trained model: what a model's own must beat."""

from __future__ import annotations

import warnings

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities.times import DAY, HOUR, Clock

LAST = 14  # periods of the seasonal ensemble
RECENT = 20  # periods by which exponential smoothing is fitted, at least,
FEWEST = 400  # and steps


def period_of(clock: Clock) -> int:
    """Steps after which a series is expected to come back: a day of hours or less, a week of days, a year of months."""
    if clock.months:
        return max(12 // clock.months, 1)
    if clock.step < DAY:
        if clock.slots:  # hours of the week in which something happens
            return max(round(len(clock.slots) * HOUR / clock.step / len({slot // 24 for slot in clock.slots})), 1)
        return max(round(DAY / clock.step), 1)
    return max(round(len(clock.slots or range(7)) * DAY / clock.step), 1)


def seasonal_naive(past: np.ndarray, horizon: int, period: int) -> np.ndarray:
    """(1, horizon): each step is what it was a period ago, again and again. Levels (n,) without gaps, n >= period."""
    return past[len(past) - period + np.arange(horizon) % period][None]


def seasonal_ensemble(past: np.ndarray, horizon: int, period: int, *, changes: bool = False) -> np.ndarray:
    """(up to 14, horizon): the same place in the last periods, one draw each; of levels (n,) without gaps.

    changes: the last level and what it changed by over as many steps, 14 times in the past: for what wanders off.
    """
    if changes:
        first = -(-(horizon + 1) // period)
        far = [k for k in range(first, first + LAST) if k * period < len(past)]
        return np.stack([past[-1] + past[-1 - k * period :][1 : horizon + 1] - past[-1 - k * period] for k in far])
    far = [k for k in range(1, LAST + 1) if k * period <= len(past)]
    return np.stack([past[len(past) - k * period + np.arange(horizon) % period] for k in far])


def exponential_smoothing(
    past: np.ndarray, horizon: int, period: int, *, draws: int = 100, seed: int = 0
) -> np.ndarray:
    """(draws, horizon) paths of an exponential smoothing model with additive errors, damped trend and season.

    Levels (n,) without gaps; fitted by maximum likelihood on the last 20 periods (400 steps at least), from two starts:
    from one alone it often ends far below the other. Source: Hyndman et al. 2008, ETS(A, Ad, A), by statsmodels.

    Raises:
        InputError: without the extra `series`.
    """
    try:
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    except ImportError:
        raise InputError(
            "exponential smoothing needs statsmodels: install the extra `series` (pip install 'trilemma[series]')"
        ) from None
    recent = np.asarray(past, dtype=np.float64)[-max(RECENT * period, FEWEST) :]
    seasonal = period > 1 and len(recent) >= 3 * period
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: the best found is taken
        found = [
            ETSModel(
                recent, error="add", trend="add", damped_trend=True, initialization_method=start,
                seasonal="add" if seasonal else None, seasonal_periods=period if seasonal else None,
            ).fit(disp=False, maxiter=60)
            for start in ("estimated", "heuristic")[: 2 if len(recent) >= 10 else 1]  # the latter needs so many
        ]  # fmt: skip
        fitted = max(found, key=lambda one: float(one.llf))
        errors = np.random.default_rng(seed).normal(0, float(np.std(fitted.resid)), (horizon, draws))
        made = fitted.simulate(horizon, anchor="end", repetitions=draws, random_errors=errors)
    return np.asarray(made, dtype=np.float64).reshape(horizon, draws).T
