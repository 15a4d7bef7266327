"""Distances between two distributions of features: Frechet distance and kernel distance."""

from __future__ import annotations

import numpy as np
from scipy import linalg, special  # not scipy.stats, which takes half a second to import

from trilemma.metrics.protocol import Measure, matching_features, student

BLOCKS = 10
NORMAL = 1.959964
LEAST_FREEDOM = 3.0  # of an interval, where the data say even less of how uncertain they are
SIGNED, DRAWS = 500, 500  # rows of each set, and draws, for the kernel distance's second-order part
QUANTILES = special.ndtri((np.arange(100) + 0.5) / 100)
CHUNK_ENTRIES = 8_000_000  # of float64, so that a chunk of a kernel matrix takes 64 MB


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and the scatter matrix about it (D, D)."""
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return R (D, rank) with R R^T = covariance."""
    values, vectors = linalg.eigh(covariance, check_finite=False)
    # What rounding leaves of a zero eigenvalue, 1e-16, would count as 1e-8 under the root. One column always stays.
    kept = values > values[-1] * len(values) * np.finfo(float).eps
    kept[-1] = True
    return vectors[:, kept] * np.sqrt(np.clip(values[kept], 0, None))


def _jackknife(
    x: np.ndarray, mean: np.ndarray, scatter: np.ndarray, other_mean: np.ndarray, other_root: np.ndarray, seed: int
) -> tuple[float, int]:
    """Return the variance that x contributes to the distance by leaving out one block at a time, and the blocks."""
    count = len(x)
    blocks = min(BLOCKS, count - 1)
    # Folders come sorted by class; blocks must be alike.
    order = np.random.default_rng(seed).permutation(count)
    other_trace = float(np.square(other_root).sum())
    distances = []
    for rows in np.array_split(order, blocks):
        block_mean, block_scatter = _moments(x[rows])
        kept = count - len(rows)
        shift = block_mean - mean
        kept_scatter = scatter - block_scatter - (len(rows) * count / kept) * np.outer(shift, shift)
        kept_mean = mean - (len(rows) / kept) * shift
        covariance = kept_scatter / max(kept - 1, 1)
        product = other_root.T @ covariance @ other_root
        overlap = np.sqrt(np.clip(linalg.eigvalsh(product, check_finite=False), 0, None)).sum()
        gap = np.square(kept_mean - other_mean).sum()
        distances.append(gap + np.trace(covariance) + other_trace - 2 * overlap)
    spread = np.square(np.array(distances) - np.mean(distances)).sum()
    return float((blocks - 1) / blocks * spread), blocks


def scaled_chi_squared(value: float, deviation: float) -> tuple[float, float]:
    """Return the interval of a value that is about a multiple of a chi-squared variable with this deviation.

    A distance near its floor is a sum of squares: skewed, never negative, with a deviation that grows with it. Far from
    the floor, where the degrees of freedom are many, this is value -/+ 1.96 deviations.
    """
    if value <= 0:
        return 0.0, NORMAL * deviation
    freedom = max(2 * (value / deviation) ** 2, LEAST_FREEDOM)
    low, high = value * freedom / (2 * special.gammaincinv(freedom / 2, [0.975, 0.025]))
    return min(float(low), value), max(float(high), value)


def _quadratic_variance(reference: np.ndarray, samples: np.ndarray, pooled: np.ndarray) -> float:
    """Return the variance of the distance's second-order part, which the jackknife counts twice.

    Near equality the distance is |difference of means|^2 + sum_ij E_ij^2 / (2 (l_i + l_j)) with E the difference of
    the covariances in the eigenbasis of the pooled one and l its eigenvalues: a squared distance of mean embeddings
    whose kernel is explicit, so that 2 |C_1 / n + C_2 / m|^2 follows from the kernel's second moment over pairs.
    """
    values, vectors = linalg.eigh(pooled, check_finite=False)
    kept = values > values[-1] * 1e-10
    if not kept.any():
        return 0.0
    values, vectors = values[kept], vectors[:, kept]
    weights = 0.5 / (values[:, None] + values[None, :])
    generator = np.random.default_rng(0)
    centred = [(x - x.mean(0)) for x in (reference, samples)]

    def second_moment(first: int, second: int) -> float:
        pairs = 2000
        left_rows = generator.integers(len(centred[first]), size=pairs)
        if first == second:  # a point paired with itself is not a pair
            right_rows = (left_rows + generator.integers(1, len(centred[first]), size=pairs)) % len(centred[first])
        else:
            right_rows = generator.integers(len(centred[second]), size=pairs)
        left, right = centred[first][left_rows] @ vectors, centred[second][right_rows] @ vectors
        products = left * right
        kernel = products.sum(1) + ((products @ weights) * products).sum(1)
        kernel += (values.sum() - np.square(left).sum(1) - np.square(right).sum(1)) / 4
        return float(np.square(kernel).mean())

    n, m = len(reference), len(samples)
    return 2 * (second_moment(0, 0) / n**2 + second_moment(1, 1) / m**2 + 2 * second_moment(0, 1) / (n * m))


def _together(reference: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets about the reference's mean, in no more dimensions than they need."""
    # Means far from zero would cost digits in the scatter; the distance does not change under a common shift.
    centre = reference.mean(0)
    reference, samples = reference - centre, samples - centre
    if len(reference) + len(samples) < reference.shape[1]:
        # All rows lie in a space of at most n + m dimensions, where the same distance costs less.
        basis = linalg.qr(np.concatenate([reference, samples]).T, mode="economic", check_finite=False)[0]
        reference, samples = reference @ basis, samples @ basis
    return reference, samples


Moments = tuple[np.ndarray, np.ndarray, np.ndarray]


def _distance(reference: np.ndarray, samples: np.ndarray) -> tuple[float, Moments, Moments]:
    """Return the distance, and of each set its mean, scatter and root of the covariance."""
    (mean_1, scatter_1), (mean_2, scatter_2) = _moments(reference), _moments(samples)
    root_1, root_2 = _root(scatter_1 / (len(reference) - 1)), _root(scatter_2 / (len(samples) - 1))
    overlap = linalg.svdvals(root_1.T @ root_2, check_finite=False).sum()
    trace = np.square(root_1).sum() + np.square(root_2).sum()
    value = max(float(np.square(mean_1 - mean_2).sum() + trace - 2 * overlap), 0.0)
    return value, (mean_1, scatter_1, root_1), (mean_2, scatter_2, root_2)


def frechet_distance(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the Frechet distance of two Gaussians fitted to the features, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Shapes (N, D) and (M, D); range [0, inf), squared units of the features; no square root is taken at the end.
    The trace of (S1 S2)^(1/2) is the sum of the singular values of R1^T R2 with S = R R^T, which needs no inverse and
    stays right when a covariance is singular (N <= D, constant features). Interval: block jackknife on both sets.

    Known biases: grows as 1/N and 1/M, by an amount that differs between models: compare equal counts only. Sees two
    moments. Source: Heusel et al. 2017, eq. 6; Dowson and Landau 1982; the bias: Chong and Forsyth 2020.
    """
    reference, samples = matching_features(reference, samples)
    reference, samples = _together(reference, samples)
    n, m = len(reference), len(samples)
    value, (mean_1, scatter_1, root_1), (mean_2, scatter_2, root_2) = _distance(reference, samples)
    if min(n, m) < 4:
        return Measure(value, None, None, "frechet", "lower")

    variance_1, blocks_1 = _jackknife(reference, mean_1, scatter_1, mean_2, root_2, 1)
    variance_2, blocks_2 = _jackknife(samples, mean_2, scatter_2, mean_1, root_1, 2)
    jackknife = variance_1 + variance_2
    if jackknife <= 0:
        return Measure(value, value, value, "frechet", "lower")
    twice = _quadratic_variance(reference, samples, (scatter_1 + scatter_2) / (n + m - 2))
    # The second-order part cannot be more than half of what the jackknife sees; the expansion fails where N is near D.
    variance = max(jackknife - twice, jackknife / 2)
    freedom = jackknife**2 / (variance_1**2 / (blocks_1 - 1) + variance_2**2 / (blocks_2 - 1))
    low, high = scaled_chi_squared(value, variance**0.5 * student(freedom) / NORMAL)
    return Measure(value, low, high, "frechet", "lower")


def frechet_extrapolated(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the Frechet distance extrapolated to infinitely many rows on both sides: the intercept of a line in 1/n.

    Shapes (N, D) and (M, D), at least 20 rows each; range (-inf, inf): near 0 for equal distributions, where chance
    takes it below. The distance is taken on shares from 1/2 to 1 of both sets, several subsets each, and a line is
    fitted by least squares over 1 / share. No interval: its points share their rows.

    Known biases: the line holds for counts well above D; below that it leaves a part of the bias. Its chance error is
    about twice the distance's. Source: Chong and Forsyth 2020, section 3, with both sets shrunk.
    """
    reference, samples = matching_features(reference, samples, least=20)
    reference, samples = _together(reference, samples)
    generator = np.random.default_rng(0)
    inverse, values = [1.0], [_distance(reference, samples)[0]]
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        for _ in range(4):
            first, second = (generator.permutation(len(x))[: round(share * len(x))] for x in (reference, samples))
            inverse.append(1 / share)
            values.append(_distance(reference[first], samples[second])[0])
    # The whole sets are one point that has no chance of its own choice: it weighs as four.
    _, intercept = np.polyfit(inverse, values, 1, w=[2.0] + [1.0] * (len(values) - 1))
    return Measure(float(intercept), None, None, "frechet_extrapolated", "lower")


def _kernel_sums(x: np.ndarray, y: np.ndarray, *, same: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Return row sums, column sums and the sum of squares of the cubic kernel, without its diagonal if x is y."""
    rows, columns, squares = np.empty(len(x)), np.zeros(len(y)), 0.0
    step = max(1, CHUNK_ENTRIES // len(y))
    for start in range(0, len(x), step):
        chunk = x[start : start + step] @ y.T
        chunk /= x.shape[1]
        chunk += 1
        chunk *= chunk * chunk
        if same:
            chunk[np.arange(len(chunk)), np.arange(start, start + len(chunk))] = 0
        rows[start : start + step] = chunk.sum(1)
        columns += chunk.sum(0)
        squares += float(np.vdot(chunk, chunk))
    return rows, columns, squares


def _chance_of_pairs(reference: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return draws of the kernel distance's second-order part: all of its chance when nothing differs.

    A permutation of the two sets gives this part under the null only; random signs of the kernel's features, each set
    about its own mean, give it where the sets differ too. Up to 500 rows of each set stand for all of them.
    """
    generator = np.random.default_rng(0)
    chosen = [x[generator.permutation(len(x))[:SIGNED]] for x in (reference, samples)]
    both = np.concatenate(chosen)
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    sides = np.repeat([0, 1], [len(x) for x in chosen])
    for side in (0, 1):
        kernel[sides == side] -= kernel[sides == side].mean(0)
    for side in (0, 1):
        kernel[:, sides == side] -= kernel[:, sides == side].mean(1, keepdims=True)
    np.fill_diagonal(kernel, 0)
    weights = np.concatenate(
        [np.full(len(x), (len(x) * len(whole)) ** -0.5) for x, whole in zip(chosen, (reference, samples), strict=True)]
    )
    signs = generator.choice([-1.0, 1.0], size=(DRAWS, len(both))) * weights
    return ((signs @ kernel) * signs).sum(1)


def _skewed_quantiles(skewness: float, quantiles: np.ndarray) -> np.ndarray:
    """Return what a studentised mean of this skewness exceeds as a normal variable exceeds its quantiles.

    Source: Hall 1992, the cubic transformation, inverted.
    """
    if abs(skewness) < 1e-6:
        return quantiles
    inner = 1 + skewness * (quantiles - skewness / 6)
    return 3 / skewness * (np.cbrt(inner) - 1)


def kernel_distance(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the unbiased squared maximum mean discrepancy under the cubic kernel (x . y / D + 1)^3.

    Shapes (N, D) and (M, D); range (-inf, inf) with expectation 0 for equal distributions, so that small negative
    values are normal; all pairs are used, not subsets. Interval: the variance of a two-sample U-statistic with its
    first- and second-order parts, so that it holds for equal distributions too, where the first-order part vanishes.

    Known biases: none in N and M; sensitive to the scale and the mean of the features, sees three moments.
    Source: Binkowski et al. 2018 (KID); Gretton et al. 2012, eq. 3; variance: Efron and Stein 1981.
    """
    reference, samples = matching_features(reference, samples)
    n, m = len(reference), len(samples)
    rows_xx, _, squares_xx = _kernel_sums(reference, reference, same=True)
    rows_yy, _, squares_yy = _kernel_sums(samples, samples, same=True)
    rows_xy, columns_xy, squares_xy = _kernel_sums(reference, samples, same=False)
    mean_xx, mean_yy = rows_xx / (n - 1), rows_yy / (m - 1)  # per row, over its partners
    mean_xy, mean_yx = rows_xy / m, columns_xy / n
    value = float(mean_xx.mean() + mean_yy.mean() - 2 * mean_xy.mean())
    if min(n, m) < 4:
        return Measure(value, None, None, "kernel", "lower")

    # Row means carry the noise of their partners: this sum holds the first-order part once, the second-order twice.
    both = 4 * np.var(mean_xx - mean_xy, ddof=1) / n + 4 * np.var(mean_yy - mean_yx, ddof=1) / m

    def centred(squares: float, pairs: int, left: np.ndarray, right: np.ndarray) -> float:
        second = squares / pairs - np.square(left).mean() - np.square(right).mean() + left.mean() * right.mean()
        return max(float(second), 0.0)

    quadratic = (
        2 * centred(squares_xx, n * (n - 1), mean_xx, mean_xx) / n**2
        + 2 * centred(squares_yy, m * (m - 1), mean_yy, mean_yy) / m**2
        + 4 * centred(squares_xy, n * m, mean_xy, mean_yx) / (n * m)
    )
    # First-order part: a mean of one term for each row, skewed where few rows count most.
    terms = np.concatenate(
        [
            2 * (mean_xx - mean_xx.mean() - mean_xy + mean_xy.mean()) / n,
            2 * (mean_yy - mean_yy.mean() - mean_yx + mean_yx.mean()) / m,
        ]
    )
    variance = max(float(both) - quadratic, 0.0)
    squares = max(float((terms**2).sum()), 1e-150)  # its powers must not vanish
    skewness = float((terms**3).sum() / squares**1.5)
    # Few rows that count most make the variance itself uncertain: its degrees of freedom by Satterthwaite.
    freedom = max(2 * squares**2 / max(float((terms**4).sum()), 1e-300), LEAST_FREEDOM)
    wider = student(freedom) / NORMAL
    first = wider * variance**0.5 * _skewed_quantiles(skewness, QUANTILES)
    second = _chance_of_pairs(reference, samples)
    chance = np.quantile(first + second[:, None], [0.025, 0.975])
    low, high = min(value - chance[1], value), max(value - chance[0], value)
    return Measure(value, float(low), float(high), "kernel", "lower")
