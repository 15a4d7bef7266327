"""Can a classifier tell the samples from the reference?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from trilemma.metrics.protocol import Measure, bounded_interval, matching_features

FOLDS = 5
COMPONENTS = 64
BINS = 63  # of each feature, for boosted trees
LEAF = 20  # rows of a leaf, at least; a tenth of those learned from where they are fewer than 200


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Return the chance that a positive score exceeds a negative one (ties count half), and its standard error.

    Shapes (N,) and (M,). Source: DeLong et al. 1988, in the form by ranks of Sun and Xu 2014.
    """
    n, m = len(positive), len(negative)
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = (ranks[:n] - stats.rankdata(positive)) / m  # share of negatives below each positive
    below = 1 - (ranks[n:] - stats.rankdata(negative)) / n
    variance = np.var(above, ddof=1) / n + np.var(below, ddof=1) / m
    return float(above.mean()), float(variance) ** 0.5


def area_interval(area: float, deviation: float, n: int, m: int) -> tuple[float | None, float | None]:
    """Return the 95 % interval of an area under the curve of n and m scores from its standard error.

    As of a mean of as many figures as the smaller set has scores (`bounded_interval`). None where nothing can be said:
    scores that all tie, fewer than four in a set.
    """
    if min(n, m) < 4 or (deviation == 0 and 0 < area < 1):
        return None, None
    return bounded_interval(area, deviation, min(n, m))


def two_sample_test(
    reference: np.ndarray, samples: np.ndarray, *, kind: Literal["trees", "linear"] = "trees", seed: int = 0
) -> Measure:
    """Return how well a classifier tells samples from the reference: area under its curve, by five-fold prediction.

    Shapes (N, D) and (M, D), at least 10 rows each; range [0, 1], 0.5 is indistinguishable, 1 told apart without
    fail. `kind`: boosted trees (default) or a linear logistic regression. Equal rows stay in one fold, so that
    repeats in either set cannot be learned by heart; more than 64 features are reduced to principal components
    of both sets together. Interval: DeLong's variance, averaged over folds, with Nadeau and Bengio's factor for
    training sets that overlap, in the form of `area_interval`; none where there is nothing to learn from.

    Known biases: a lower bound of what the best classifier would reach, which rises with the counts (leaves hold at
    least a tenth of the rows learned from, at most 20, so that trees of small sets split, too); values just
    below 0.5 are chance (held-out folds of equal sets are slightly anti-correlated with the others).
    Source: Lopez-Paz and Oquab 2017; Kim et al. 2021; the factor: Nadeau and Bengio 2003, eq. 7.
    """
    if kind not in ("trees", "linear"):
        raise ValueError(f"kind: {kind!r} is unknown; choose trees or linear")
    reference, samples = matching_features(reference, samples, least=2 * FOLDS)
    x = np.concatenate([reference, samples])
    real = np.arange(len(x)) < len(reference)
    groups = np.unique(x, axis=0, return_inverse=True)[1].reshape(-1)
    if min(len(np.unique(groups[real])), len(np.unique(groups[~real]))) < FOLDS:
        return _without_training(x, real, groups)
    if x.shape[1] > COMPONENTS:
        x = PCA(min(COMPONENTS, len(x) - 1), svd_solver="randomized", random_state=seed).fit_transform(x)

    areas, variances, sizes = [], [], []
    fold_of = _folds(real, groups, seed)
    for fold in range(FOLDS):
        learn, judge = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        if len(np.unique(real[learn])) < 2 or min(real[judge].sum(), (~real[judge]).sum()) < 2:
            continue  # repeats can leave a fold with one set only
        if kind == "linear":
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, class_weight="balanced"))
        else:
            model = HistGradientBoostingClassifier(
                max_iter=60, max_leaf_nodes=15, min_samples_leaf=min(LEAF, max(2, len(learn) // 10)), max_bins=BINS,
                early_stopping=False, random_state=seed, class_weight="balanced",
            )  # fmt: skip
        inputs = (x[learn], x[judge]) if kind == "linear" else binned(x[learn], real[learn], x[judge])
        # Threads that wait for each other in hundreds of small steps cost a busy machine ten times the work.
        with threadpool_limits(1, "openmp"):
            model.fit(inputs[0], real[learn])
            scores = model.predict_proba(inputs[1])[:, 1]
        area, deviation = area_under_curve(scores[real[judge]], scores[~real[judge]])
        areas.append(area)
        variances.append(deviation**2)
        sizes.append(len(judge))
    if not areas:
        return _without_training(x, real, groups)
    weights = np.array(sizes) / np.sum(sizes)
    value = float(weights @ areas)
    # The folds' classifiers share most of what they learned from: Nadeau and Bengio's correction of a mean's variance.
    deviation = (float(np.square(weights) @ variances) * (1 + FOLDS / (FOLDS - 1))) ** 0.5
    low, high = area_interval(value, deviation, len(reference), len(samples))
    return Measure(value, low, high, "classifier", "half")


def binned(learn: np.ndarray, real: np.ndarray, judge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets with each value replaced by the number of its bin, as boosted trees with balanced classes do.

    Shapes (N, D), (N,) bool and (M, D). scikit-learn finds the same bins, but one percentile after the other: from its
    version 1.8 on that takes far longer than the trees. Handed to it, the numbers of the bins are as many bins.
    """
    count = np.bincount(real, minlength=2)
    weights = (len(real) / (2 * count))[real.astype(int)]
    shares = np.linspace(0, 100, BINS + 1)[1:-1] / 100
    made = np.empty(learn.shape), np.empty(judge.shape)
    for column in range(learn.shape[1]):
        order = np.argsort(learn[:, column], kind="stable")
        values = learn[order, column].astype(np.float64)
        ends = np.unique(values)
        if len(ends) <= BINS:
            ends = (ends[1:] + ends[:-1]) / 2
        else:
            mass = np.cumsum(weights[order])
            place = np.searchsorted(mass, shares * mass[-1]).clip(max=len(values) - 1)
            above = values[np.minimum(place + 1, len(values) - 1)]
            hit = mass[place] - shares * mass[-1] <= np.finfo(np.float64).eps  # on a value: half way to the next
            ends = np.unique(np.where(hit, (values[place] + above) / 2, values[place]))
        for given, own in zip((learn, judge), made, strict=True):
            own[:, column] = np.searchsorted(ends, given[:, column])
    return made


def _folds(real: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return each row's fold (N,): equal rows together, and both sets spread evenly."""
    holds = np.zeros((2, groups.max() + 1), dtype=bool)
    holds[real.astype(int), groups] = True
    kind = holds[0] + 2 * holds[1]  # samples only, reference only, in both
    shuffled = np.random.default_rng(seed).permutation(len(kind))
    order = shuffled[np.argsort(kind[shuffled], kind="stable")]
    fold_of_group = np.empty(len(kind), dtype=int)
    fold_of_group[order] = np.arange(len(kind)) % FOLDS
    return fold_of_group[groups]


def _without_training(x: np.ndarray, real: np.ndarray, groups: np.ndarray) -> Measure:
    """Return the best area there is when a set has fewer different rows than folds: equal rows tie, others part."""
    counts = np.stack([np.bincount(groups[side], minlength=groups.max() + 1) for side in (real, ~real)])
    likelihood = counts[0] / np.maximum(counts.sum(0), 1)
    area, _ = area_under_curve(likelihood[groups[real]], likelihood[groups[~real]])
    return Measure(area, None, None, "classifier", "half")
