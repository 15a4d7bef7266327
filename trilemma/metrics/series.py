"""Forecasts and series: how near draws of the future come to what happened."""

from __future__ import annotations

import numpy as np


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of draws (D, ...) against truth (...), in the data's own units; 0 is best.

    Fair, that is, unbiased for any number of draws: mean |x - y| - sum over pairs |x - x'| / (2 D (D - 1)). NaN where
    the truth is missing. Known biases: none; a single draw gives its absolute error. Source: Gneiting & Raftery 2007,
    equation 21; Ferro 2014 (fair).
    """
    draws, truth = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if draws.shape[1:] != truth.shape or len(draws) == 0:
        raise ValueError(
            f"draws of shape {draws.shape} do not fit a truth of shape {truth.shape}: give (D, *truth.shape)"
        )
    count = len(draws)
    error = np.abs(draws - truth).mean(0)
    if count == 1:
        return error
    ordered = np.sort(draws, 0)
    weights = (2 * np.arange(count) - count + 1).reshape(-1, *[1] * truth.ndim)
    return error - (weights * ordered).sum(0) / (count * (count - 1))


def pinball(quantile: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """Pinball loss of a stated quantile (...) against truth (...), own units; 0 is best, lower is better.

    Source: Koenker & Bassett 1978. Known biases: none.
    """
    gap = np.asarray(truth, dtype=np.float64) - np.asarray(quantile, dtype=np.float64)
    return np.maximum(level * gap, (level - 1) * gap)
