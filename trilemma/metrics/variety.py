"""How many different samples there are (Vendi score), and how typical (alpha-precision, beta-recall)."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from trilemma.metrics.neighbours import squared_distances
from trilemma.metrics.protocol import Measure, interval, matching_features, student

BLOCKS = 10
CHUNK_ENTRIES = 8_000_000  # of float64, so that a chunk of distances takes 64 MB


def _effective(second: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues, as shares of their sum; 1 where there is nothing."""
    if not np.trace(second) > 0:
        return 1.0
    values = linalg.eigvalsh(second / np.trace(second), check_finite=False)
    values = values[values > 1e-12]
    values = values / values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_score(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the effective number of different samples: exp of the entropy of the eigenvalues of K / M.

    Shapes (N, D) and (M, D), M at least 2; K holds the cosines between the samples' features about the reference's
    mean (a sample that lies there resembles nothing, itself included). Range [1, min(M, D)]: 1 for equal samples.
    The eigenvalues are those of X^T X / M as well, so that M may be large. Interval: block jackknife on both sets
    (the reference enters by its mean).

    Known biases: rises with M, so compare equal counts only; more is not better without end: read it beside real
    data's; noise counts as variety. Source: Friedman and Dieng 2023, eq. 1, with the features centred.
    """
    reference, samples = matching_features(reference, samples)
    centre = reference.mean(0)
    reference, samples = reference - centre, samples - centre
    tiny = 1e-12 * max(np.abs(reference + centre).max(), 1e-300)

    def directions(shift: np.ndarray | float) -> np.ndarray:
        around = samples - shift
        lengths = np.sqrt(np.square(around).sum(1))
        # What rounding leaves of a point at the mean points nowhere.
        return around / np.where(lengths > tiny, lengths, np.inf)[:, None]

    blocks, reference_blocks = min(BLOCKS, len(samples) // 2), min(BLOCKS, len(reference) // 2)
    cosines = directions(0.0)
    rows = np.array_split(np.random.default_rng(0).permutation(len(samples)), max(blocks, 1))
    parts = [cosines[each].T @ cosines[each] for each in rows]
    whole = np.sum(parts, axis=0)
    if not np.trace(whole) > 0:
        return Measure(1.0, None, None, "vendi", "higher")
    value = _effective(whole)
    if min(blocks, reference_blocks) < 4:
        return Measure(value, None, None, "vendi", "higher")
    left = [_effective(whole - part) for part in parts]
    moved = []  # the reference enters by its mean alone, the origin here
    for each in np.array_split(np.random.default_rng(1).permutation(len(reference)), reference_blocks):
        turned = directions(-reference[each].sum(0) / (len(reference) - len(each)))
        moved.append(_effective(turned.T @ turned))
    variances = [(len(each) - 1) * float(np.var(each)) for each in (left, moved)]
    freedom = sum(variances) ** 2 / max(
        sum(v**2 / (len(e) - 1) for v, e in zip(variances, (left, moved), strict=True)), 1e-300
    )
    low, high = interval(
        value,
        sum(variances) ** 0.5,
        quantile=student(max(freedom, 1.0)),
        floor=1.0,
        ceiling=float(min(samples.shape)),
    )
    return Measure(value, low, high, "vendi", "higher")


def _gap(levels: np.ndarray, weight: float = 1.0) -> float:
    """Return the integral over t in [0, 1] of |weight * share of levels <= t - t|, exactly: the shares are steps."""
    edges = np.concatenate([[0.0], np.sort(np.clip(levels, 0, 1)), [1.0]])
    heights = weight * np.arange(len(edges) - 1) / max(len(levels), 1)
    left, right = edges[:-1] - heights, edges[1:] - heights
    crossing = (left < 0) & (right > 0)
    areas = np.where(crossing, (left**2 + right**2) / 2, np.abs(right**2 - left**2) / 2)
    return float(areas.sum())


def alpha_precision_beta_recall(reference: np.ndarray, samples: np.ndarray) -> dict[str, Measure]:
    """Return alpha-precision and beta-recall by name; shapes (N, D) and (M, D), at least 2 rows each.

    The alpha-support of a set is the ball about its mean that holds the share alpha of it. `alpha_precision` is
    1 - 2 int |P(alpha) - alpha| with P(alpha) the share of samples in the reference's alpha-support: 1 where samples
    are as typical and as odd as real data. `beta_recall` is 1 - 2 int |R(beta) - beta| with R(beta) the share of the
    reference whose nearest sample is no farther than its nearest other reference row and lies in the samples'
    beta-support. Range [0, 1] of both; the integrals are exact, not sums over a grid. No interval: none was found that
    covers as it should.

    Known biases: balls about one mean say little of data in several parts; equal distributions of equal counts have a
    beta-recall near one half (one of two neighbours is nearer by chance), so read it beside real data's.
    Source: Alaa et al. 2022, eq. 4-9, on the features as they are.
    """
    reference, samples = matching_features(reference, samples)
    centre = reference.mean(0)  # distances do not change, and their digits are kept
    reference, samples = reference - centre, samples - centre
    typical = np.sort(np.sqrt(np.square(reference).sum(1)))
    distance = np.sqrt(np.square(samples).sum(1))
    # The level of a sample: it is in the support of every alpha above this, of none where it is 1.
    levels = np.searchsorted(typical, distance, side="left") / len(typical)
    own = samples - samples.mean(0)
    order = np.sqrt(np.square(own).sum(1))
    own_levels = np.searchsorted(np.sort(order), order, side="left") / len(order)

    lengths, sample_lengths = np.square(reference).sum(1), np.square(samples).sum(1)
    reached = np.empty(len(reference))
    step = max(1, CHUNK_ENTRIES // max(len(reference), len(samples)))
    for start in range(0, len(reference), step):
        rows = slice(start, start + step)
        among = squared_distances(reference[rows], reference, y_lengths=lengths)
        among[np.arange(len(among)), np.arange(start, start + len(among))] = np.inf
        across = squared_distances(reference[rows], samples, y_lengths=sample_lengths)
        near = across.argmin(1)
        slack = 1e-12 * (lengths[rows] + sample_lengths[near])
        reached[rows] = np.where(across.min(1) <= among.min(1) + slack, own_levels[near], np.inf)
    found = reached[np.isfinite(reached)]
    inside = levels[levels < 1]
    return {
        "alpha_precision": Measure(
            max(1 - 2 * _gap(inside, len(inside) / len(levels)), 0.0), None, None, "alpha_precision", "higher"
        ),
        "beta_recall": Measure(
            max(1 - 2 * _gap(found, len(found) / len(reached)), 0.0), None, None, "beta_recall", "higher"
        ),
    }
