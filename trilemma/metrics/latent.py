"""What codes and likelihoods are worth: dimensions in use, half-way points, straightness of ways, bits."""

from __future__ import annotations

import numpy as np

from trilemma.metrics.classifier import area_interval, area_under_curve
from trilemma.metrics.neighbours import DENSITY_NEIGHBOURS, SUBSAMPLES, inside_balls
from trilemma.metrics.protocol import Measure, interval, matching_features, over_examples, student

ENOUGH = 40  # real examples for an interval: balls of a few in several parts are whatever chance makes them
ACTIVE = 0.01  # variance over the data of a code's mean from which it counts as used


def active_units(codes: np.ndarray, *, least: float = ACTIVE) -> Measure:
    """Return how many dimensions of the codes are used: those whose variance over the data is above `least`.

    Shape (N, D): posterior means of real examples, in units of a standard normal prior. Range 0 to D. No interval: a
    count that is hardly ever in doubt. Known biases: a code of large scale passes with little use (an autoencoder's has
    no prior, so that all of it counts). Source: Burda et al. 2016, section 5.2.
    """
    codes = np.asarray(codes, dtype=np.float64)
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes: expected (count, dimension) with at least two rows, got {codes.shape}")
    used = int((codes.var(0, ddof=1) > least).sum())
    return Measure(float(used), None, None, "active_units", "higher", f"of {codes.shape[1]}")


def codebook_use(tokens: np.ndarray, count: int) -> dict[str, Measure]:
    """Return how much of a codebook real data use: `codebook_use`, the share of entries that occur at all, and
    `perplexity`, e to the entropy of how often each occurs.

    Shape (...): whole numbers below `count`. Ranges [0, 1] and 1 to `count`. No interval: places of one example are no
    independent draws. Known biases: both rise with the number of tokens while that is small beside `count`. Source: van
    den Oord et al. 2017; perplexity as in their authors' code.
    """
    tokens = np.asarray(tokens).reshape(-1)
    if not (np.issubdtype(tokens.dtype, np.integer) and len(tokens) and tokens.min() >= 0 and tokens.max() < count):
        raise ValueError(f"tokens: expected whole numbers from 0 to {count - 1}, at least one")
    shares = np.bincount(tokens, minlength=count) / len(tokens)
    some = shares[shares > 0]
    perplexity = float(np.exp(-(some * np.log(some)).sum()))
    return {
        "codebook_use": Measure(len(some) / count, None, None, "codebook_use", "higher"),
        "perplexity": Measure(perplexity, None, None, "perplexity", "higher", f"of {count}"),
    }


def midpoints(reference: np.ndarray, ends: np.ndarray, *, between: np.ndarray, name: str = "midpoints") -> Measure:
    """Return how plausible half-way points are beside their ends: the quotient of two shares inside real data's balls.

    Shapes (N, D), (M, D), (K, D) of features, N at least 6. A point is plausible where it lies in a ball of the
    reference (`precision`). Range [0, inf): 1 where points between look as real as the ends, 0 like nothing.
    Not a number where no end is plausible. Interval: of a ratio of two independent binomial shares in logarithms (Katz
    et al. 1978; with a half added to each count where one is zero), and of the reference by subsampling, as of
    precision; none for N below 40.

    Known biases: those of precision; ends that are implausible themselves flatter what lies between.
    Source: the realism of interpolations in Kynkaanniemi et al. 2019, section 5, here by the balls of precision, eq. 1.
    """
    reference, ends = matching_features(reference, ends)
    reference, between = matching_features(reference, between)
    if len(reference) <= DENSITY_NEIGHBOURS:
        raise ValueError(f"reference: {len(reference)} rows are too few; give at least {DENSITY_NEIGHBOURS + 1}")
    counts = np.array([len(between), len(ends)], dtype=float)
    hits = _hits(reference, between, ends)
    if hits[1] == 0:
        return Measure(float("nan"), None, None, name, "higher")
    value = float(hits[0] / counts[0] / (hits[1] / counts[1]))
    if len(reference) < ENOUGH:
        return Measure(value, None, None, name, "higher")
    share = 0.2 if len(reference) >= 500 else 0.5
    kept = round(share * len(reference))

    def log_ratio(hits: np.ndarray, added: float) -> float:
        return float(np.subtract(*np.log((hits + added) / (counts + added))))

    generator, drawn = np.random.default_rng(0), []
    for _ in range(SUBSAMPLES):
        some = reference[generator.choice(len(reference), kept, replace=False)]
        drawn.append(log_ratio(_hits(some, between, ends), 0.5))
    added = 0.5 if hits[0] == 0 else 0.0
    # A share of all has no deviation, but more points may show some that are missing: as two among four more.
    shares = np.maximum(1 / (hits + added) - 1 / (counts + added), 2 / counts**2)
    variance = float(np.var(drawn, ddof=1)) * share / (1 - share) + float(shares.sum())
    middle, half = log_ratio(hits, added), student(SUBSAMPLES - 1) * variance**0.5
    low, high = (float(np.exp(middle + sign * half)) for sign in (-1, 1))
    return Measure(value, min(low, value), high, name, "higher")


def _hits(reference: np.ndarray, *points: np.ndarray) -> np.ndarray:
    """How many of each of these sets lie in a ball of the reference."""
    inside = inside_balls(reference, np.concatenate(points))
    return np.array([float(each.sum()) for each in np.split(inside, np.cumsum([len(x) for x in points])[:-1])])


def path_length(ways: np.ndarray) -> Measure:
    """Return how much longer than straight the ways between samples are in features: steps' lengths over the ends'.

    Shape (M, S, D): S points on each of M ways. The value is the sum of all steps' lengths over the sum of all
    distances between ends. Range [1, inf): 1 for straight lines, more for ways that wander or jump about; not a number
    where all ends coincide. Interval: of a ratio of means over the ways, Student's t by the delta method. Known biases:
    rises with the number of points, so compare equal numbers only. Source: the perceptual path length of Karras et al.
    2019, taken over whole ways and without a scale.
    """
    ways = np.asarray(ways, dtype=np.float64)
    if ways.ndim != 3 or ways.shape[1] < 3:
        raise ValueError(f"ways: expected (count, points, dimension) with at least three points, got {ways.shape}")
    steps = np.linalg.norm(np.diff(ways, axis=1), axis=2).sum(1)
    straight = np.linalg.norm(ways[:, -1] - ways[:, 0], axis=1)
    if not straight.sum() > 0:
        return Measure(float("nan"), None, None, "path_length", "lower")
    return _ratio(steps, straight, name="path_length", floor=1.0)


def noise_left(clean: np.ndarray, noisy: np.ndarray, *, again: np.ndarray) -> Measure:
    """Return what is left of noise: mean squared error of `again` to the clean examples over that of the noisy ones.

    Shapes (N, ...), equal. Range [0, inf): 0 where all noise is gone and nothing else, 1 as far away as the noisy
    examples themselves. Elements that are NaN in one of them are left out. Interval: of a ratio of means over the
    examples, Student's t by the delta method. Known biases: an average in pixels, which forgives blur. Source: the
    criterion of Vincent et al. 2008, as a share.
    """
    if not clean.shape == noisy.shape == again.shape or clean.ndim < 1 or clean.size == 0:
        raise ValueError(f"noise left: shapes must be equal, got {clean.shape}, {noisy.shape} and {again.shape}")
    flat = [x.astype(np.float64).reshape(len(clean), -1) for x in (clean, noisy, again)]
    known = ~np.isnan(flat).any(0)  # gaps say nothing
    counts = known.sum(1)
    squares = [np.where(known, np.square(x - flat[0]), 0.0).sum(1) for x in (flat[2], flat[1])]
    left, put = (each[counts > 0] / counts[counts > 0] for each in squares)
    if not put.sum() > 0:
        raise ValueError("noisy: equal to the clean examples; there is no noise to be left")
    return _ratio(left, put, name="denoising", floor=0.0)


def _ratio(top: np.ndarray, bottom: np.ndarray, *, name: str, floor: float) -> Measure:
    """The ratio of two means over the same examples (N,), smaller being better; Student's interval, delta method."""
    value = float(top.mean() / bottom.mean())
    if len(top) < 4:
        return Measure(value, None, None, name, "lower")
    deviation = float(np.std(top - value * bottom, ddof=1) / len(top) ** 0.5 / bottom.mean())
    low, high = interval(value, deviation, quantile=student(len(top) - 1), floor=floor)
    return Measure(value, low, high, name, "lower")


def critic_area(real: np.ndarray, made: np.ndarray) -> Measure:
    """Return how well a model's own critic tells unseen real data from the model's samples: area under its curve.

    Shapes (N,) and (M,): its scores, larger for more real. Range [0, 1]: 0.5 at chance, 1 where it always knows.
    Interval: DeLong's variance, in the form of `area_interval`. Known biases: a critic knows its own training data
    better than unseen ones, which brings the area down. Source: DeLong et al. 1988.
    """
    value, deviation = area_under_curve(np.asarray(real, dtype=np.float64), np.asarray(made, dtype=np.float64))
    low, high = area_interval(value, deviation, len(real), len(made))
    return Measure(value, low, high, "critic", "half")


def bits_per_dimension(scores: np.ndarray, dimensions: int, *, step: float = 1.0) -> Measure:
    """Return the mean bits that an example costs for each of its numbers: -score / (D ln 2) - log2(step).

    Shape (N,): log-likelihoods in nats, of probabilities (step 1) or of densities in units in which neighbouring levels
    are `step` apart, taken on examples with uniform noise of one level: then it is an upper bound. Range (-inf, inf),
    for levels from 0 (known beforehand) to log2 of their number (uniform). Interval: Student's t over the examples.

    Known biases: bounds (a VAE's, dequantised ones) are above the truth; says little of how samples look.
    Source: Theis et al. 2016, section 3.1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or dimensions < 1 or not step > 0:
        raise ValueError(f"scores: expected (count,) of at least one example, got {scores.shape}")
    bits = -scores / (dimensions * np.log(2)) - np.log2(step)
    return over_examples(bits, "bits_per_dimension", "lower", "bits")
