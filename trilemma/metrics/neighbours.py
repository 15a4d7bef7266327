"""Quality and diversity by nearest neighbours: precision, recall, density and coverage."""

from __future__ import annotations

import numpy as np

from trilemma.metrics.protocol import Measure, interval, matching_features, share_interval, student

MANIFOLD_NEIGHBOURS = 3  # of precision and recall
DENSITY_NEIGHBOURS = 5  # of density and coverage
NAMES = ("precision", "recall", "density", "coverage")
SUBSAMPLES = 32
CHUNK_ENTRIES = 8_000_000  # of float64, so that a chunk of distances takes 64 MB
# Distances by one matrix product lose digits to the length of the vectors; a point on a ball's border is outside.
TOLERANCE = 1e-12


def squared_distances(x: np.ndarray, y: np.ndarray, *, y_lengths: np.ndarray) -> np.ndarray:
    """Return all squared Euclidean distances (N, M) of x (N, D) and y (M, D), given the squared lengths of y."""
    distances = x @ y.T
    distances *= -2
    distances += np.square(x).sum(1)[:, None]
    distances += y_lengths
    return np.maximum(distances, 0, out=distances)


def _radii(x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each point's squared distance to its third and its fifth neighbour, less the tolerance."""
    near = np.empty((len(x), 2))
    wanted = [MANIFOLD_NEIGHBOURS, DENSITY_NEIGHBOURS]
    step = max(1, CHUNK_ENTRIES // len(x))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        distances = squared_distances(x[rows], x, y_lengths=lengths)
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = 0
        distances.partition(wanted, axis=1)  # entry 0 is the point itself
        near[rows] = distances[:, wanted]
    near -= TOLERANCE * (lengths[:, None] + near)
    return near[:, 0], near[:, 1]


def _values(reference: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return precision, recall, density and coverage, in this order."""
    reference_lengths, sample_lengths = np.square(reference).sum(1), np.square(samples).sum(1)
    reference_small, reference_large = _radii(reference, reference_lengths)
    sample_small, _ = _radii(samples, sample_lengths)
    inside_reference = np.zeros(len(samples), dtype=bool)
    balls_around = np.zeros(len(samples))
    inside_samples = np.zeros(len(reference), dtype=bool)
    covered = np.zeros(len(reference), dtype=bool)
    step = max(1, CHUNK_ENTRIES // len(samples))
    for start in range(0, len(reference), step):
        rows = slice(start, start + step)
        distances = squared_distances(reference[rows], samples, y_lengths=sample_lengths)
        inside_reference |= (distances < reference_small[rows, None]).any(0)
        inside_samples[rows] = (distances < sample_small).any(1)
        inside_large = distances < reference_large[rows, None]
        balls_around += inside_large.sum(0)
        covered[rows] = inside_large.any(1)
    density = balls_around.mean() / DENSITY_NEIGHBOURS
    return np.array([inside_reference.mean(), inside_samples.mean(), density, covered.mean()])


def inside_balls(reference: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return which rows of x (M, D) lie in a ball of the reference (N, D), as precision counts them: bool (M,)."""
    centre = reference.mean(0)
    reference, x = reference - centre, x - centre
    radii, _ = _radii(reference, np.square(reference).sum(1))
    lengths, inside = np.square(x).sum(1), np.zeros(len(x), dtype=bool)
    step = max(1, CHUNK_ENTRIES // len(x))
    for start in range(0, len(reference), step):
        rows = slice(start, start + step)
        inside |= (squared_distances(reference[rows], x, y_lengths=lengths) < radii[rows, None]).any(0)
    return inside


def _deviations(reference: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the four standard errors from subsamples drawn without replacement, rescaled to the full counts."""
    share = 0.2 if min(len(reference), len(samples)) >= 500 else 0.5
    generator = np.random.default_rng(0)
    counts = [max(DENSITY_NEIGHBOURS + 1, round(share * len(x))) for x in (reference, samples)]
    drawn = []
    for _ in range(SUBSAMPLES):
        rows = [generator.choice(len(x), c, replace=False) for x, c in zip((reference, samples), counts, strict=True)]
        drawn.append(_values(reference[rows[0]], samples[rows[1]]))
    # Subsamples overlap: their spread is short by the factor 1 - share, beside the sqrt(m/n) of their smaller size.
    return np.std(drawn, axis=0, ddof=1) * (share / (1 - share)) ** 0.5


def _of_share(value: float, deviation: float, count: int, quantile: float) -> tuple[float, float]:
    """Return the interval of a share over dependent rows: Wilson's, for as many rows as would have its deviation.

    A share of less than ten rows, or all but ten, is no surer than one of independent rows: subsamples may hold none
    of them and would then claim certainty.
    """
    spread = value * (1 - value)
    effective = spread / deviation**2 if deviation > 0 and spread > 0 else float(count)
    if min(value, 1 - value) * count < 10:
        effective = min(effective, float(count))
    return share_interval(value, effective, quantile=quantile)


def precision_recall_density_coverage(reference: np.ndarray, samples: np.ndarray) -> dict[str, Measure]:
    """Return precision, recall, density and coverage by name; shapes (N, D) and (M, D), at least 6 rows each.

    A ball around each point reaches to its k-th neighbour in the same set (k = 3 for precision and recall, 5 for
    density and coverage; the point itself is not counted; a point on the border is outside).
    precision: share of samples in any ball of the reference. recall: share of the reference in any ball of the
    samples. density: mean number of the reference's balls around a sample, over k, near 1 for equal distributions.
    coverage: share of the reference's balls that hold a sample. Ranges [0, 1], of density [0, N/k].
    Intervals: subsampling without replacement, rescaled by sqrt(m/n); for shares in Wilson's form; none where a set has
    fewer than 20 rows.

    Known biases: all four depend on both counts and on the dimension; one outlier in the reference gives precision
    a huge ball, one in the samples gives recall one; where more than k points coincide their ball is empty.
    Source: Kynkaanniemi et al. 2019, eq. 1-3; Naeem et al. 2020, eq. 4-5 (with its strict inequalities).
    """
    reference, samples = matching_features(reference, samples, least=DENSITY_NEIGHBOURS + 1)
    centre = reference.mean(0)  # distances do not change, and their digits are kept
    reference, samples = reference - centre, samples - centre
    values = _values(reference, samples)
    enough = min(len(reference), len(samples)) >= 4 * DENSITY_NEIGHBOURS
    deviations = _deviations(reference, samples) if enough else None
    quantile = student(SUBSAMPLES - 1)
    measures = {}
    for index, name in enumerate(NAMES):
        low, high, value = None, None, float(values[index])
        if deviations is not None:
            if name == "density":
                low, high = interval(value, float(deviations[index]), quantile=quantile, floor=0.0)
            else:
                count = len(samples) if name == "precision" else len(reference)
                low, high = _of_share(value, float(deviations[index]), count, quantile)
        measures[name] = Measure(value, low, high, name, "one" if name == "density" else "higher")
    return measures
