"""Series: forecasts against what happened, and sets of windows against real ones, variable by variable.

Windows are (n, T, C): n windows of T steps of C variables, NaN where a value is missing; real ones in order of time, so
that windows which share steps stand together and an interval can leave out whole stretches of time.
"""

from __future__ import annotations

import numpy as np

from trilemma.metrics.fidelity import scaled_chi_squared
from trilemma.metrics.protocol import Measure, student
from trilemma.metrics.tables import shape_of

BLOCKS = 10  # of time, left out one by one
NORMAL = 1.959964
FEWEST = 2 * BLOCKS  # windows of each set for an interval
STEPS_APART = (0, 1, 2, 4, 8)  # lags of the cross-correlation distance
QUIET = 1e-6  # of a variable's mean power: what lies below is rounding


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of draws (D, ...) against truth (...), in the data's own units; 0 is best.

    One figure for each truth, no interval; range [0, inf), of few draws a little below 0 by chance. Fair, that is,
    unbiased for any number of draws: mean |x - y| - sum over pairs |x - x'| / (2 D (D - 1)). NaN where the truth is
    missing. Known biases: none; a single draw gives its absolute error. Source: Gneiting & Raftery 2007, equation 21;
    Ferro 2014 (fair).
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

    One figure for each truth, no interval; range [0, inf). Source: Koenker & Bassett 1978. Known biases: none.
    """
    gap = np.asarray(truth, dtype=np.float64) - np.asarray(quantile, dtype=np.float64)
    return np.maximum(level * gap, (level - 1) * gap)


# --- windows ---------------------------------------------------------------------------------------------------------


def matching_windows(reference: np.ndarray, samples: np.ndarray, *, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64 (n, T, C) and (m, T, C). ValueError for other shapes, or fewer windows than `least`."""
    real, made = (np.asarray(each, dtype=np.float64) for each in (reference, samples))
    if real.ndim != 3 or made.ndim != 3 or real.shape[1:] != made.shape[1:] or 0 in real.shape[1:]:
        raise ValueError(f"windows of shapes {real.shape} and {made.shape} do not fit: give (n, T, C) and (m, T, C)")
    if min(len(real), len(made)) < least:
        raise ValueError(f"{len(real)} and {len(made)} windows are too few; at least {least} of each are needed")
    return real, made


def alike(reference: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets without NaN: samples without gaps get those of the reference's windows in turn, then lines bridge all.

    So that no measure tells the sets apart by their gaps or by what was put into them.
    """
    real, made = matching_windows(reference, samples, least=1)
    if np.isnan(real).any() and not np.isnan(made).any():
        gaps = np.isnan(real)[np.arange(len(made)) % len(real)]
        made = np.where(gaps, np.nan, made)
    return bridged(real), bridged(made)


def bridged(windows: np.ndarray) -> np.ndarray:
    """Windows (n, T, C) with straight lines over their gaps; the variable's mean where a window has no value of it."""
    if not np.isnan(windows).any():
        return windows
    made, places = windows.copy(), np.arange(windows.shape[1])
    means = [float(np.nanmean(x)) if not np.isnan(x).all() else 0.0 for x in np.moveaxis(windows, 2, 0)]
    for window, column in zip(*np.nonzero(np.isnan(windows).any(1)), strict=True):
        row = made[window, :, column]
        known = ~np.isnan(row)
        row[~known] = np.interp(places[~known], places[known], row[known]) if known.any() else means[column]
    return made


def parts(count: int) -> list[np.ndarray]:
    """Blocks of neighbouring windows, to be left out one by one."""
    return np.array_split(np.arange(count), min(BLOCKS, count))


def autocorrelation(windows: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Autocorrelation (lags, C) of windows (n, T, C) about the mean of all of them, missing values left out."""
    return _correlations(windows, lags, pairs=False)[0]


def correlation(windows: np.ndarray, lag: int = 0) -> np.ndarray:
    """Correlation (C, C) of variable i at a step with variable j `lag` steps later, missing values left out."""
    return _correlations(windows, np.array([lag]), pairs=True)[0, 0]


def _correlations(windows: np.ndarray, lags: np.ndarray, *, pairs: bool) -> np.ndarray:
    """(1 + blocks, lags, C) or (.., C, C): of all windows, then of all but one block. By Fourier transforms."""
    known, size = ~np.isnan(windows), 2 * windows.shape[1]
    centre = np.where(known, windows, 0).sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
    x, here = (np.fft.rfft(each, size, axis=1) for each in (np.where(known, windows - centre, 0), known))
    lags = np.asarray(lags)

    def summed(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """(blocks, lags, ...) sums over windows and steps of one_t two_(t + lag)."""
        made = []
        for rows in parts(len(windows)):
            if pairs:
                total = one[rows].conj().transpose(1, 2, 0) @ two[rows].transpose(1, 0, 2)
            else:
                total = (one[rows].conj() * two[rows]).sum(0)
            made.append(np.fft.irfft(total, size, axis=0)[np.concatenate([[0], lags])])
        return np.stack(made)

    sums = [summed(*both) for both in ((x, x), (x, here), (here, x), (here, here))]
    product, left, right, count = (np.concatenate([each.sum(0)[None], each.sum(0) - each]) for each in sums)
    count = np.maximum(count, 0.5)  # what is counted is whole
    covariance = product / count - (left / count) * (right / count)
    if pairs:
        spread = np.sqrt(np.maximum(np.diagonal(covariance[:, 0], axis1=1, axis2=2), 0))
        scale = (spread[:, :, None] * spread[:, None, :])[:, None]
    else:
        scale = np.maximum(covariance[:, :1], 0)
    least = 1e-12 * np.maximum(centre**2, 1e-300) if not pairs else 1e-150
    return np.where(scale > least, covariance[:, 1:] / np.where(scale > 0, scale, 1), 0.0)


def _distance(reference: np.ndarray, samples: np.ndarray, name: str, unit: str = "") -> Measure:
    """Root mean square difference of two (1 + blocks, ...): of all windows, and of all but one block.

    Interval: the squares' variance by the block jackknife, as a multiple of a chi-squared variable.
    """
    value = float(np.square(reference[0] - samples[0]).mean())
    variances = []
    for one, two in ((reference[1:], samples[:1]), (samples[1:], reference[:1])):
        without = np.square(one - two).mean(tuple(range(1, one.ndim)))
        blocks = len(without)
        variances.append((float((blocks - 1) / blocks * np.square(without - without.mean()).sum()), blocks))
    total = sum(variance for variance, _ in variances)
    if min(blocks for _, blocks in variances) < BLOCKS or total <= 0:
        return Measure(value**0.5, None, None, name, "lower", unit)
    freedom = total**2 / sum(variance**2 / (blocks - 1) for variance, blocks in variances)
    low, high = scaled_chi_squared(value, total**0.5 * student(freedom) / NORMAL)
    return Measure(value**0.5, low**0.5, high**0.5, name, "lower", unit)


def marginals(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Mean likeness of the variables' values, steps apart: 1 - Kolmogorov-Smirnov's statistic; 1 is best.

    Windows (n, T, C) and (m, T, C). Range [0, 1]. No interval is stated: leaving out or repeating windows biases the
    statistic. Known biases: less than 1 for equal distributions, the more so the fewer windows share no steps. Source:
    KSComplement of SDMetrics.
    """
    real, made = matching_windows(reference, samples)
    found = [
        shape_of(real[:, :, c].ravel(), made[:, :, c].ravel(), number=True)
        for c in range(real.shape[2])
        if not np.isnan(real[:, :, c]).all()
    ]
    return Measure(float(np.mean(found)), None, None, "marginals", "higher")


def lags_of(steps: int) -> np.ndarray:
    """Lags at which windows of so many steps are compared: all up to half of a window."""
    return np.arange(1, max(steps // 2, 1) + 1)


def autocorrelation_distance(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Root mean square difference of autocorrelations over variables and lags up to half a window; 0 is best.

    Windows (n, T, C) and (m, T, C); see `autocorrelation`. Range [0, 2]. Interval: block jackknife. Known biases: above
    0 for equal processes, as chance adds to a square. Source: the "ACF score" of Wiese et al. 2020, section 6.
    """
    real, made = matching_windows(reference, samples)
    lags = lags_of(real.shape[1])
    found = [_correlations(each, lags, pairs=False) for each in (real, made)]
    return _distance(found[0], found[1], "autocorrelation")


def cross_correlation_distance(reference: np.ndarray, samples: np.ndarray) -> Measure | None:
    """Root mean square difference of the correlations of all pairs of variables, 0 to 8 steps apart.

    Windows (n, T, C) and (m, T, C); None for a single variable. Range [0, 2]. Interval: block jackknife. Known biases:
    as of `autocorrelation_distance`. Source: the cross-correlation score of Liao et al. 2020, at more lags.
    """
    real, made = matching_windows(reference, samples)
    if real.shape[2] < 2:
        return None
    lags = np.array([lag for lag in STEPS_APART if lag < real.shape[1] // 2])
    apart = ~np.eye(real.shape[2], dtype=bool)
    found = [_correlations(each, lags, pairs=True)[:, :, apart] for each in (real, made)]
    return _distance(found[0], found[1], "cross_correlation")


def power(windows: np.ndarray) -> np.ndarray:
    """Mean power (frequencies, C) of windows (n, T, C) without gaps, frequency 0 left out; Hann taper."""
    return _power(windows)[0]


def _power(windows: np.ndarray) -> np.ndarray:
    taper = np.hanning(windows.shape[1] + 2)[1:-1, None]
    found = np.abs(np.fft.rfft((windows - windows.mean(1, keepdims=True)) * taper, axis=1)[:, 1:]) ** 2
    sums = np.stack([found[rows].sum(0) for rows in parts(len(found))])
    counts = np.array([len(rows) for rows in parts(len(found))])[:, None, None]
    return np.concatenate([sums.sum(0)[None] / len(found), (sums.sum(0) - sums) / np.maximum(len(found) - counts, 1)])


def spectral_distance(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Root mean square difference of the power at each frequency, over variables, in decibels; 0 is best.

    Windows (n, T, C) and (m, T, C), from which their mean is taken and a Hann taper applied; see `alike` for gaps.
    Range [0, inf). Interval: block jackknife. Known biases: above 0 for equal processes, as chance adds to a square.
    Source: Durall et al. 2020, of the mean periodograms of Welch 1967.
    """
    found = [_power(each) for each in alike(*matching_windows(reference, samples))]
    least = QUIET * found[0][0].mean(0)
    kept = least > 0
    if not kept.any():
        return Measure(0.0, None, None, "spectra", "lower", "dB")
    shown = [10 * np.log10(np.maximum(each[..., kept], least[kept])) for each in found]
    return _distance(shown[0], shown[1], "spectra", "dB")
