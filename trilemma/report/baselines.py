"""Honest baselines that stand in every table: what needs no generative model at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import special, stats
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from trilemma.mixed import Mixed, plain
from trilemma.modalities.contract import Data
from trilemma.modalities.series import Series
from trilemma.report.baselines_of_series import autoregression, stationary_bootstrap
from trilemma.report.baselines_of_translation import of_translation
from trilemma.training.progress import Bar

MOST = 10_000  # training rows that a covariance is fitted on
SEARCHED = 50_000  # training rows among which neighbours are searched and trees grow
CELLS = 100 * SEARCHED  # of training rows on which trees grow
NEAR = 30  # columns that a tree sees
ABSENT = -9.0  # an empty cell for a tree: below all scores and codes


def random(seed: int) -> np.random.Generator:
    """Any whole number is a seed, negative ones too, as it is for models."""
    return np.random.default_rng(seed % 2**64)


def resampled(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Training examples drawn with replacement: perfect quality, nothing new."""
    rows = data.splits["train"]
    chosen = _in_time(data, random(seed).choice(rows, count, replace=True))
    return np.stack([data.x[row] for row in chosen])


def real(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Training examples drawn without replacement (as far as they go): the floor of every distance.

    Of a series one from each of `count` parts of its time, in order.
    """
    generator, rows = random(seed), data.splits["train"]
    if isinstance(data.modality, Series) and count <= len(rows):
        parts = np.array_split(np.sort(rows), count)
        return np.stack([data.x[generator.choice(part)] for part in parts])
    rows = _in_time(data, np.resize(generator.permutation(rows), count))
    return np.stack([data.x[row] for row in rows])


def _in_time(data: Data, rows: np.ndarray) -> np.ndarray:
    """Windows of a series in order of time: those that share steps must not be learned from and asked about."""
    return np.sort(rows) if isinstance(data.modality, Series) else rows


def pca_gaussian(data: Data, count: int, *, seed: int, components: int = 64) -> np.ndarray:
    """A Gaussian on the leading principal components of the training set, with the rest as isotropic noise."""
    generator = random(seed)
    rows = np.sort(generator.permutation(data.splits["train"])[:MOST])
    x = np.stack([data.x[row] for row in rows]).astype(np.float32).reshape(len(rows), -1)
    fitted = PCA(min(components, len(x) - 1, x.shape[1]), random_state=seed % 2**32).fit(x)
    kept = fitted.explained_variance_.astype(np.float64)
    rest = np.sqrt(max(x.var(0, ddof=1, dtype=np.float64).sum() - kept.sum(), 0) / x.shape[1])
    z = generator.standard_normal((count, len(kept))) * np.sqrt(kept)
    samples = fitted.mean_ + z @ fitted.components_ + rest * generator.standard_normal((count, x.shape[1]))
    samples = samples.reshape(count, *data.x.shape[1:])
    if np.issubdtype(data.x.dtype, np.integer):
        limits = np.iinfo(data.x.dtype)
        samples = samples.round().clip(limits.min, limits.max)
    if isinstance(data.modality, Series):  # what keeps one value a day keeps it, as in what models make
        space = data.spaces["x"]
        samples = space.decode(space.embed(torch.from_numpy(samples.astype(data.x.dtype)))).numpy()
    return samples.astype(data.x.dtype)


def gaussian_copula(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Each column as it is in the training rows, all tied together by one matrix of correlations of normal scores.

    A cell's score is that of the middle of the share of its value, categories in the order of their codes; a gap is one
    more value, above all others.
    """
    generator = random(seed)
    x = np.asarray(data.x[generator.permutation(data.splits["train"])[:MOST]])
    score = special.ndtri((stats.rankdata(np.where(np.isnan(x), np.inf, x), axis=0) - 0.5) / len(x))
    score -= score.mean(0)
    score /= np.maximum(np.linalg.norm(score, axis=0), 1e-9)
    matrix = score.T @ score
    np.fill_diagonal(matrix, 1.0)  # of a column with a single value, too
    values, vectors = np.linalg.eigh(matrix)
    drawn = generator.standard_normal((count, len(matrix))) * np.sqrt(values.clip(min=0)) @ vectors.T
    places = (special.ndtr(drawn) * len(x)).astype(int).clip(max=len(x) - 1)
    return np.take_along_axis(np.sort(x, axis=0), places, 0)


def independent(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Each column drawn from the training rows by itself: every column right, nothing of how they go together."""
    rows, generator = data.splits["train"], random(seed)
    return np.stack([data.x[generator.choice(rows, count), place] for place in range(data.x.shape[1])], 1)


def interpolated(data: Data, count: int, *, seed: int, neighbours: int = 5) -> np.ndarray:
    """Rows between a training row and one of its nearest ones: numbers on the way, each category from either end.

    SMOTE (Chawla et al. 2002) for a whole table; it beats many deep models at being useful, and gives rows away.
    """
    generator, space = random(seed), data.spaces["x"]
    rows = np.sort(generator.permutation(data.splits["train"])[:SEARCHED])
    raw = np.asarray(data.x[rows])
    embedded = plain(space, raw).astype(np.float32)
    first = generator.integers(len(rows), size=count)
    found = NearestNeighbors(n_neighbors=min(neighbours + 1, len(rows))).fit(embedded)
    near = found.kneighbors(embedded[first], return_distance=False)
    second = near[
        np.arange(count), generator.integers(1, max(near.shape[1], 2), size=count).clip(max=near.shape[1] - 1)
    ]
    one, two, part = raw[first], raw[second], generator.uniform(size=(count, 1))
    assert isinstance(space, Mixed)
    either = np.where(generator.uniform(size=one.shape) < part, two, one)  # of a gap too
    between = one + part * (two - one)
    numbers = np.array([values == 0 for values in space.columns])
    return np.where(numbers & ~np.isnan(between), between, either).astype(data.x.dtype)


def grown(data: Data, count: int, *, seed: int, leaf: int = 5, quiet: bool = False) -> np.ndarray:
    """Column by column from left to right: a tree finds training rows alike so far, one of them gives the cell.

    Sequential CART (Reiter 2005; `synthpop`), leaves of at least five rows. A tree sees the NEAR columns to its left
    that are correlated most with its own; of more than a hundred columns there are fewer rows, CELLS in all.
    """
    generator = random(seed)
    rows = generator.permutation(data.splits["train"])[: min(SEARCHED, CELLS // data.x.shape[1])]
    raw = np.asarray(data.x[rows])
    known, space = np.nan_to_num(raw, nan=ABSENT), data.spaces["x"]
    assert isinstance(space, Mixed)
    unit = known - known.mean(0)
    unit /= np.maximum(np.linalg.norm(unit, axis=0), 1e-9)
    made = np.empty((count, raw.shape[1]), dtype=data.x.dtype)
    made[:, 0] = raw[generator.integers(len(raw), size=count), 0]
    bar = Bar("trees", raw.shape[1], quiet=quiet)
    for place in range(1, raw.shape[1]):
        near = np.sort(np.argsort(-np.abs(unit[:, place] @ unit[:, :place]), kind="stable")[:NEAR])
        kind = DecisionTreeClassifier if space.columns[place] else DecisionTreeRegressor
        tree = kind(min_samples_leaf=leaf, random_state=seed % 2**32).fit(known[:, near], known[:, place])
        leaves, asked = tree.apply(known[:, near]), tree.apply(np.nan_to_num(made[:, near], nan=ABSENT))
        order = np.argsort(leaves, kind="stable")
        begin, end = (np.searchsorted(leaves[order], asked, side) for side in ("left", "right"))
        made[:, place] = raw[order[begin + (generator.uniform(size=count) * (end - begin)).astype(int)], place]
        bar.update(place + 1, {})
    bar.close()
    return made


def baselines_for(data: Data, *, quiet: bool = False) -> dict[str, Callable[..., np.ndarray]]:
    """Name -> samples(data, count, seed=...), of those that make sense for these data; quiet: without a bar."""
    if data.sources("test") is not None:
        return of_translation(data)
    if isinstance(data.spaces["x"], Mixed):
        return {**TABLES, "trees (CART)": partial(grown, quiet=quiet)}
    return BASELINES | (SERIES if isinstance(data.modality, Series) else {})


BASELINES: dict[str, Callable[..., np.ndarray]] = {"resampled training set": resampled, "PCA-Gaussian": pca_gaussian}
TABLES: dict[str, Callable[..., np.ndarray]] = {
    "resampled training set": resampled,
    "Gaussian copula": gaussian_copula,
    "independent columns": independent,
    "interpolated rows (SMOTE)": interpolated,
}
SERIES: dict[str, Callable[..., np.ndarray]] = {
    "stationary bootstrap": stationary_bootstrap,
    "autoregression + GARCH": autoregression,
}
FLOOR = "real against real"
