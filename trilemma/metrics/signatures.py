"""Windows of series as paths: their truncated signatures, and a distance between sets of them."""

from __future__ import annotations

import numpy as np

from trilemma.metrics.protocol import Measure, interval, student
from trilemma.metrics.series import BLOCKS, matching_windows, parts

WORDS = 1_500  # most coordinates of a signature


def signature_distance(reference: np.ndarray, samples: np.ndarray, *, together: int = 1) -> Measure:
    """Unbiased squared maximum mean discrepancy of truncated signatures under a Gaussian kernel; 0 is best.

    Windows (n, T, C) and (m, T, C) without gaps, of levels (of returns: their sums). A window is a path in time and
    variables of unit deviation that starts at 0; its signature to the third order (the second of many variables), each
    coordinate scaled by real data's deviation. Range (-inf, 2], expectation 0 for equal processes, so that small
    negative values are normal. Pairs of real windows that share steps (less than `together` apart) do not count: they
    would be alike. Interval: block jackknife. Known biases: none in n and m for samples drawn one by one. Sources:
    Kiraly and Oberhauser 2019; Gretton et al. 2012, equation 3.
    """
    real, made = matching_windows(reference, samples, least=4)
    centre, spread = real.mean((0, 1)), real.std((0, 1))
    scaled = [(x - centre) / np.where(spread > 0, spread, 1) for x in (real, made)]
    first, second = (signatures(x) for x in scaled)
    middle, width = first.mean(0), first.std(0)
    width = np.where(width > 1e-9, width, 1)
    first, second = ((x - middle) / width for x in (first, second))
    # Far-off coordinates of heavy tails would make all else alike.
    first, second = (np.sign(x) * np.log1p(np.abs(x)) for x in (first, second))
    squares = [(x**2).sum(1) for x in (first, second)]

    def apart(one: int, two: int) -> np.ndarray:
        x, y = (first, second)[one], (first, second)[two]
        return np.maximum(squares[one][:, None] + squares[two][None] - 2 * x @ y.T, 0)

    own = apart(0, 0)
    places = np.arange(len(first))
    counted = np.abs(places[:, None] - places[None]) >= max(together, 1)
    scale = float(np.median(own[counted])) if counted.any() else 1.0
    kernels = [np.exp(-each / max(scale, 1e-12)) for each in (own, apart(1, 1), apart(0, 1))]
    weights = [counted.astype(float), 1 - np.eye(len(second)), np.ones(kernels[2].shape)]
    sums = [_blocks(kernel * weight) for kernel, weight in zip(kernels, weights, strict=True)]
    counts = [_blocks(weight) for weight in weights]

    def of(left: int | None, right: int | None) -> float:
        """The distance without one block of either set."""
        sides = ((left, left), (right, right), (left, right))
        means = [
            _without(total, *side) / max(_without(count, *side), 1.0)
            for total, count, side in zip(sums, counts, sides, strict=True)
        ]
        return means[0] + means[1] - 2 * means[2]

    value = of(None, None)
    variances = []
    for side, blocks in enumerate((len(sums[0]), len(sums[1]))):
        found = np.array([of(block, None) if side == 0 else of(None, block) for block in range(blocks)])
        variances.append((blocks - 1) / blocks * float(np.square(found - found.mean()).sum()))
    if min(len(real), len(made)) < 2 * BLOCKS or sum(variances) <= 0:
        return Measure(value, None, None, "signature", "lower")
    freedom = sum(variances) ** 2 / sum(variance**2 / (BLOCKS - 1) for variance in variances)
    low, high = interval(value, sum(variances) ** 0.5, quantile=student(freedom))
    return Measure(value, low, high, "signature", "lower")


def _blocks(matrix: np.ndarray) -> np.ndarray:
    """Sums (blocks, blocks) over the blocks of rows and columns."""
    rows = np.stack([matrix[each].sum(0) for each in parts(len(matrix))])
    return np.stack([rows[:, each].sum(1) for each in parts(matrix.shape[1])], 1)


def _without(sums: np.ndarray, row: int | None, column: int | None) -> float:
    total = float(sums.sum())
    total -= float(sums[row].sum()) if row is not None else 0.0
    total -= float(sums[:, column].sum()) if column is not None else 0.0
    return total + (float(sums[row, column]) if row is not None and column is not None else 0.0)


def signatures(windows: np.ndarray) -> np.ndarray:
    """Truncated signatures (n, words) of the straight-line paths through 0 and windows (n, T, C), time beside them.

    To the third order where that has at most `WORDS` coordinates, else to the second; of more variables than that
    allows, the first ones. Source: Chen's identity, one linear piece at a time.
    """
    n, steps, _ = windows.shape
    most = int(WORDS**0.5) - 1
    x = windows[:, :, :most]
    x = np.concatenate([np.zeros((n, 1, x.shape[2])), x], 1)
    time = np.broadcast_to(np.arange(steps + 1)[None, :, None] / steps, (n, steps + 1, 1))
    change = np.diff(np.concatenate([time, x], 2), axis=1)  # (n, T, D)
    size = change.shape[2]
    third = size + size**2 + size**3 <= WORDS
    one, two = np.zeros((n, size)), np.zeros((n, size, size))
    three = np.zeros((n, size, size, size)) if third else None
    for step in range(steps):
        d = change[:, step]
        square = d[:, :, None] * d[:, None, :] / 2
        if three is not None:
            three += (two + one[:, :, None] * d[:, None, :] / 2 + square / 3)[:, :, :, None] * d[:, None, None, :]
        two += one[:, :, None] * d[:, None, :] + square
        one += d
    return np.concatenate([each.reshape(n, -1) for each in (one, two, three) if each is not None], 1)
