"""Sets of features and grids with everything that can be odd about them, and each metric's definition written again.

Plainly, point by point or by other people's routines (SciPy, scikit-learn), without a line of the product's: what the
metrics are held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import linalg, ndimage
from scipy.spatial.distance import cdist, pdist
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trilemma.metrics import classifier

Figures = dict[str, float]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def same_place(count: int, place: float = 3.7) -> np.ndarray:
    return np.full((count, 2), place)


TWICE = np.repeat(normal(5, 15, 3), 2, axis=0)
SETS = {
    "plain": (normal(0, 60, 4), 0.8 * normal(1, 45, 4)),
    "narrow": (normal(0, 40, 3), 0.1 * normal(1, 50, 3)),
    "far away": (normal(0, 40, 3) + 1e4, normal(1, 50, 3) + 1e4),
    "fewer than dimensions": (normal(0, 10, 30), normal(1, 8, 30)),
    "few in many dimensions": (normal(0, 24, 50), 1.2 * normal(1, 22, 50)),
    "constant": (same_place(20), same_place(12)),
    "constants apart": (same_place(20), same_place(24, 0.1)),
    "constant samples": (normal(0, 20, 2), same_place(12)),
    "constant reference": (same_place(20), normal(0, 25, 2)),
    "repeats": (TWICE, TWICE[::3]),
    "many repeats": (np.repeat(normal(5, 6, 3), 7, axis=0), np.repeat(normal(5, 6, 3), 6, axis=0)),
    "copies": (normal(0, 40, 3), normal(0, 40, 3)[:20]),
    "one class missing": (np.concatenate([normal(0, 30, 2), normal(1, 30, 2) + 50]), normal(2, 40, 2)),
}


def flat(count: int, place: float) -> np.ndarray:
    return np.full((count, 1, 6, 5), place)


SMOOTH = ndimage.gaussian_filter(normal(6, 40, 2, 9, 12), (0, 0, 1, 1))
GRIDS = {
    "plain": (normal(0, 30, 3, 8, 8), 0.7 * normal(1, 20, 3, 8, 8)),
    "blurred": (SMOOTH[:20], ndimage.gaussian_filter(SMOOTH[20:], (0, 0, 1, 1))),
    "series": (normal(0, 25, 2, 30).cumsum(2), normal(1, 12, 2, 30)),
    "volumes": (normal(0, 9, 1, 4, 5, 6), normal(1, 8, 1, 4, 5, 6)),
    "flat": (flat(9, 0.1), flat(7, 0.1)),
    "flat, other levels": (flat(9, 0.1), flat(7, 0.7)),
    "flat samples": (normal(0, 12, 1, 6, 5), flat(7, 0.7)),
    "flat reference": (flat(9, 0.3), normal(0, 8, 1, 6, 5)),
    "fewer than places": (normal(0, 5, 1, 9, 9), normal(1, 4, 1, 9, 9)),
    "repeats": (np.repeat(normal(0, 8, 1, 7, 6), 3, axis=0), np.repeat(normal(1, 5, 1, 7, 6), 2, axis=0)),
    "one class missing": (np.concatenate([SMOOTH[:20], 3 * SMOOTH[20:]]), SMOOTH[5:25]),
    "8 bits": tuple(np.random.default_rng(s).integers(256, size=(12, 3, 7, 7)).astype(np.uint8) for s in (0, 1)),
}


# ---------------------------------------------------------------------------------------------------- distances


def textbook_frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Heusel et al. 2017 as printed; the root's trace by the eigenvalues of the product, also of singular ones."""
    covariance_x, covariance_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.sqrt(linalg.eigvals(covariance_x @ covariance_y).astype(complex)).real.sum()
    gap = np.square(x.mean(0) - y.mean(0)).sum()
    return float(gap + np.trace(covariance_x) + np.trace(covariance_y) - 2 * root)


def extrapolated(x: np.ndarray, y: np.ndarray) -> float:
    """The intercept by normal equations, on the subsets that the metric draws."""
    generator = np.random.default_rng(0)
    rows, weights, values = [[1.0, 1.0]], [4.0], [textbook_frechet(x, y)]
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        for _ in range(4):
            parts = [each[generator.permutation(len(each))[: round(share * len(each))]] for each in (x, y)]
            rows.append([1.0, 1 / share])
            weights.append(1.0)
            values.append(textbook_frechet(*parts))
    design, weight = np.array(rows), np.diag(weights)
    return float(linalg.solve(design.T @ weight @ design, design.T @ weight @ np.array(values))[0])


def double_sum(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator, all terms but those of a point with itself; in extended precision."""
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)

    def mean(a: np.ndarray, b: np.ndarray, left_out: int) -> np.longdouble:
        terms = ((a[:, None] * b[None]).sum(2) / a.shape[1] + 1) ** 3
        whole = terms.sum() - (np.trace(terms) if left_out else 0)
        return whole / (len(a) * (len(b) - left_out))

    return float(mean(x, x, 1) + mean(y, y, 1) - 2 * mean(x, y, 0))


def mean_distances(x: np.ndarray, y: np.ndarray) -> float:
    real, made = (pdist(each.reshape(len(each), -1)).mean() for each in (x, y))
    return made / real if real > 0 else 1.0 if made == 0 else math.nan


# ---------------------------------------------------------------------------------------------------- neighbours


def balls(x: np.ndarray, y: np.ndarray) -> Figures:
    """The definitions point by point, with the strict inequalities of the `prdc` package."""

    def radius(points: np.ndarray, index: int, k: int) -> float:
        to_all = cdist(points[index : index + 1], points)[0]  # one routine for all, so that ties are ties
        return sorted(distance for i, distance in enumerate(to_all) if i != index)[k - 1]

    small_x, large_x = [radius(x, i, 3) for i in range(len(x))], [radius(x, i, 5) for i in range(len(x))]
    small_y = [radius(y, i, 3) for i in range(len(y))]
    between = cdist(x, y)
    inside = [[between[i, j] < large_x[i] for j in range(len(y))] for i in range(len(x))]
    return {
        "precision": float(np.mean([any(between[i, j] < small_x[i] for i in range(len(x))) for j in range(len(y))])),
        "recall": float(np.mean([any(between[i, j] < small_y[j] for j in range(len(y))) for i in range(len(x))])),
        "density": float(np.sum(inside) / (5 * len(y))),
        "coverage": float(np.mean([any(row) for row in inside])),
    }


def package(x: np.ndarray, y: np.ndarray, k: int) -> Figures:
    """`prdc.compute_prdc(x, y, nearest_k=k)`, its definition written again."""

    def radii(points: np.ndarray) -> np.ndarray:
        return np.partition(cdist(points, points), k, axis=-1)[:, k]

    real, fake, between = radii(x), radii(y), cdist(x, y)
    return {
        "precision": (between < real[:, None]).any(0).mean(),
        "recall": (between < fake[None, :]).any(1).mean(),
        "density": (between < real[:, None]).sum(0).mean() / k,
        "coverage": (between.min(1) < real).mean(),
    }


def half_way(y: np.ndarray) -> np.ndarray:
    return (y + np.roll(y, 1, axis=0)) / 2


def plausible(x: np.ndarray, y: np.ndarray) -> float:
    """Shares inside balls of x, of half-way points over the ends."""
    hits = []
    for points in (half_way(y), y):
        radii = [np.sort(cdist(x[i : i + 1], x)[0])[3] for i in range(len(x))]
        inside = [any(np.linalg.norm(point - x[i]) < radii[i] * (1 - 1e-12) for i in range(len(x))) for point in points]
        hits.append(np.mean(inside))
    return hits[0] / hits[1] if hits[1] > 0 else math.nan


# ---------------------------------------------------------------------------------------------------- variety


def effective_number(x: np.ndarray, y: np.ndarray) -> float:
    """Through the M x M kernel and SciPy's entropy, as the paper defines it."""
    around = y - x.mean(0)
    lengths = np.linalg.norm(around, axis=1)
    kept = around[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    if not len(kept):
        return 1.0
    return float(np.exp(entropy(np.clip(linalg.eigvalsh(kept @ kept.T / len(kept)), 0, None))))


def supports(x: np.ndarray, y: np.ndarray) -> Figures:
    """Alaa et al.'s definitions, integrated piece by piece: on ((k - 1) / n, k / n] a ball does not change."""

    def gap(shares: list[float]) -> float:
        total = 0.0
        for k, share in enumerate(shares):
            left, right = k / len(shares) - share, (k + 1) / len(shares) - share
            total += (right * abs(right) - left * abs(left)) / 2  # of |level - share|
        return max(1 - 2 * total, 0.0)

    centre_x, centre_y = x.mean(0, keepdims=True), y.mean(0, keepdims=True)
    to_x, to_y, from_x = cdist(x, centre_x)[:, 0], cdist(y, centre_y)[:, 0], cdist(y, centre_x)[:, 0]
    across, among = cdist(x, y), cdist(x, x)
    np.fill_diagonal(among, np.inf)
    nearest, reached = across.argmin(1), across.min(1) <= among.min(1) + 1e-9
    # The ball that holds the k nearest of n, its border included.
    precision = [float((from_x <= radius + 1e-9).mean()) for radius in np.sort(to_x)]
    recall = [float((reached & (to_y[nearest] <= radius + 1e-9)).mean()) for radius in np.sort(to_y)]
    return {"alpha_precision": gap(precision), "beta_recall": gap(recall)}


# ---------------------------------------------------------------------------------------------------- classifier


def told_apart(x: np.ndarray, y: np.ndarray) -> float:
    """Logistic regressions and scikit-learn's area, averaged over the folds that the metric makes."""
    both, real = np.concatenate([x, y]), np.repeat([True, False], [len(x), len(y)])
    groups = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    if min(len(np.unique(each, axis=0)) for each in (x, y)) < 5:  # what stands in one place, by its share of real rows
        shares = np.array([real[groups == group].mean() for group in groups])
        return float(roc_auc_score(real, shares))
    fold_of, areas, sizes = classifier._folds(real, groups, 0), [], []
    for fold in range(5):
        learn, ask = fold_of != fold, fold_of == fold
        if min(np.bincount(real[ask], minlength=2)) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, class_weight="balanced"))
        areas.append(roc_auc_score(real[ask], model.fit(both[learn], real[learn]).decision_function(both[ask])))
        sizes.append(ask.sum())
    return float(np.average(areas, weights=sizes))


# ---------------------------------------------------------------------------------------------------- copies


def copied(train: np.ndarray, held: np.ndarray, samples: np.ndarray) -> Figures:
    """Median quotients of distances and the share of near-copies; of equal rows that are not in train one counts."""
    new = cdist(held, train).min(1) > 1e-9
    held_once = np.concatenate([held[~new], np.unique(held[new], axis=0)])
    among = cdist(held_once, held_once)
    np.fill_diagonal(among, np.inf if len(held_once) > 1 else 0)

    tiny = 1e-12 * np.sqrt(np.square(train - train.mean(0)).sum(1).mean()) + 1e-112

    def quotient(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return (top + tiny) / (bottom + tiny)

    to_train, unseen = cdist(samples, train).min(1), cdist(held_once, train).min(1)
    expected, own = quotient(unseen, among.min(1)), quotient(to_train, cdist(samples, held).min(1))
    level = min(max(0.01, 5 / len(held_once)), 1.0)
    near = (to_train < np.quantile(unseen, level)) & (own < np.quantile(expected, level))
    usual = np.median(expected)
    return {"ratio": np.median(own) / usual if usual > 1e-9 else math.nan, "near_copies": float(near.mean())}


# ---------------------------------------------------------------------------------------------------- grids


def second_differences(x: np.ndarray) -> float:
    """The mean absolute Laplacian by SciPy, channel by channel, borders left out."""
    sizes = []
    for example in x.astype(float):
        for channel in example:
            inner = tuple(slice(1, -1) for _ in channel.shape)
            sizes.append(np.abs(ndimage.laplace(channel)[inner]).mean())
    mean = float(np.mean(sizes))
    return mean if mean > 1e-9 else 0.0


def sharper(x: np.ndarray, y: np.ndarray) -> float:
    real, made = second_differences(x), second_differences(y)
    return made / real if real > 0 else 1.0 if made == 0 else math.nan


def spectra(x: np.ndarray, y: np.ndarray) -> float:
    """Powers by NumPy's transform of each channel, averaged over rings of whole numbers of half the longer side."""
    bins = max(2, max(x.shape[2:]) // 2)
    rings: list[dict[int, list[float]]] = [{}, {}]
    for found, sets in zip(rings, (x, y), strict=True):
        powers = [np.abs(np.fft.fftn(channel)) ** 2 for example in sets.astype(float) for channel in example]
        for place, power in np.ndenumerate(np.mean(powers, 0)):
            frequency = [min(k, side - k) / side for k, side in zip(place, x.shape[2:], strict=True)]
            ring = min(round(math.hypot(*frequency) / 0.5 * bins), bins)
            if ring > 0:
                found.setdefault(ring, []).append(float(power))
    real, made = (np.array([np.mean(found[ring]) for ring in sorted(found)]) for found in rings)
    if real.max() < 1e-18:
        return 0.0 if made.max() < 1e-18 else math.nan
    least = 1e-10 * real.max()
    decibels = 10 * np.log10(np.maximum(made, least)) - 10 * np.log10(np.maximum(real, least))
    return float(np.sqrt(np.mean(decibels**2)))


Written = Callable[[np.ndarray, np.ndarray], "Figures | float"]
OF_SETS: dict[str, Written] = {
    "frechet": textbook_frechet,
    "frechet_extrapolated": extrapolated,
    "kernel": double_sum,
    "diversity": mean_distances,
    "neighbours": balls,
    "midpoints": plausible,
    "vendi": effective_number,
    "supports": supports,
    "classifier": told_apart,
    "memorisation": lambda x, y: copied(x[::2], x[1::2], y),
    "modes": lambda x, y: float(
        sum(c >= max(1, len(y) / 40) for c in np.bincount(cdist(y, x[:4]).argmin(1)[cdist(y, x[:4]).min(1) <= 2]))
    ),
}
OF_GRIDS: dict[str, Written] = {"sharpness": sharper, "spectrum": spectra, "diversity": mean_distances}
