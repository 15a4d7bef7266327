"""Whole windows of series against real ones: told apart by a classifier, and learned from.

Windows are (n, T, C) without gaps (see `series.alike`), real ones in order of time. `together`: how many neighbouring
real windows share steps, so that what is learned or compared keeps clear of them.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from trilemma.metrics.classifier import area_under_curve
from trilemma.metrics.protocol import Measure, interval, student
from trilemma.metrics.series import BLOCKS, matching_windows, parts

FOLDS = 4
FEWEST = 5 * FOLDS  # windows of each set
COMPONENTS = 32  # of values and of their increments
BANDS = 8  # of the spectrum of a variable
VARIABLES = 12  # most of them whose summaries a classifier sees
LAGS = 8  # steps from which the next one is predicted
PAIRS = 10_000  # of past and next step, to learn from


def discriminative_score(
    reference: np.ndarray, samples: np.ndarray, *, together: int = 1, seed: int = 0
) -> dict[str, Measure]:
    """How well a classifier tells made windows from real ones: `discriminative`, |accuracy - 1/2|, and its area.

    Windows (n, T, C) and (m, T, C) without gaps, 20 of each at least, as many of both as there are of fewer. Range [0,
    0.5]: 0 cannot be told apart, 0.5 without fail; `classifier` is the area under the curve of the same answers, [0,
    1]. Boosted trees and a logistic regression, their probabilities averaged, see values, increments, spectra, moments,
    autocorrelations and correlations of each window. Four folds of short stretches of time in turn; windows that share
    steps with one that is asked about are not learned from. Interval: t over folds, with Nadeau and Bengio's factor.

    Source: TimeGAN's score (Yoon et al. 2019, section 5), which trains a two-layer GRU for 2,000 steps and asks it
    once, about windows drawn at random, which share their steps with those it learned: its figures are no others'
    equals. Known biases: above 0 for equal processes by chance; a lower bound of what the best classifier would reach,
    which rises with the counts.
    """
    real, made = matching_windows(reference, samples, least=FEWEST)
    count = min(len(real), len(made))
    real, made = (x[np.linspace(0, len(x) - 1, count).round().astype(int)] for x in (real, made))
    near = -(-together * count // len(reference))
    features = _features(np.concatenate([real, made]), real)
    values, kept = features
    accuracies, areas, sizes = [], [], []
    for rows in _folds(count, near):
        shared = rows[:, None] + np.arange(-near, near + 1)[None] if near > 1 else rows
        learn = np.setdiff1d(np.arange(count), shared)
        if len(learn) < FEWEST:
            learn = np.setdiff1d(np.arange(count), rows)
        both, asked = np.concatenate([learn, count + learn]), np.concatenate([rows, count + rows])
        is_real = both < count
        x = _with_components(values, kept, both)
        trees = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=15, max_bins=63, early_stopping=False, random_state=seed
        )
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.05))
        # Threads that wait for each other in hundreds of small steps cost a busy machine ten times the work.
        with threadpool_limits(1):
            chance = [model.fit(x[both], is_real).predict_proba(x[asked])[:, 1] for model in (trees, linear)]
        told = np.mean(chance, 0)
        accuracies.append(float(np.mean((told > 0.5) == (asked < count))))
        areas.append(area_under_curve(told[asked < count], told[asked >= count])[0])
        sizes.append(len(rows))
    found = {}
    for name, figures in (("discriminative", accuracies), ("classifier", areas)):
        value = float(np.average(figures, weights=sizes))
        error = float(np.std(figures, ddof=1)) * (1 / FOLDS + 1 / (FOLDS - 1)) ** 0.5
        # Equal folds at the end of the range are not certain: as if one answer more had been wrong.
        error = max(error, 0.5 / count)
        low, high = interval(value, error, quantile=student(FOLDS - 1), floor=0.0, ceiling=1.0)
        if name == "classifier":
            found[name] = Measure(value, low, high, name, "half")
            continue
        ends = sorted([abs(low - 0.5), abs(high - 0.5)])
        inside = low <= 0.5 <= high
        found[name] = Measure(abs(value - 0.5), 0.0 if inside else ends[0], ends[1], name, "lower")
    return found


def _folds(count: int, near: int) -> list[np.ndarray]:
    """Each fold's windows: short stretches in turn, so that all times are learned from, beyond what shares steps."""
    stretches = int(np.clip(count // max(6 * near, 1), FOLDS, 10 * FOLDS))
    blocks = np.array_split(np.arange(count), stretches)
    return [np.concatenate(blocks[fold::FOLDS]) for fold in range(FOLDS)]


def _features(windows: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Summaries of each window (N, F); and values and increments (N, T C), of which components are taken later."""
    centre, spread = reference.mean((0, 1)), reference.std((0, 1))
    x = (windows - centre) / np.where(spread > 0, spread, 1)
    x = np.sign(x) * np.log1p(np.abs(x))  # tails as everything else
    steps = np.diff(x, axis=1)
    shown = x[:, :, :VARIABLES]
    found = []
    for each in (shown, np.diff(shown, axis=1)):
        middle = each - each.mean(1, keepdims=True)
        deviation = np.maximum(each.std(1), 1e-9)
        found += [each.mean(1), np.log(deviation), each.min(1), each.max(1), np.median(each, 1)]
        found += [np.cbrt((middle**3).mean(1)) / deviation, (middle**4).mean(1) / deviation**4]
        size = np.abs(middle)
        size = size - size.mean(1, keepdims=True)
        for lag in (1, 2, 4, 8, 16):
            if lag < each.shape[1] - 2:
                found.append((middle[:, lag:] * middle[:, :-lag]).mean(1) / deviation**2)
                found.append((size[:, lag:] * size[:, :-lag]).mean(1) / deviation**2)
        found.append((np.abs(each) < 1e-9).mean(1))
    change = np.abs(np.diff(shown, axis=1))
    found += [(change < 1e-9).mean(1), np.log(change.mean(1) + 1e-9)]
    strength = np.abs(np.fft.rfft(shown - shown.mean(1, keepdims=True), axis=1)[:, 1:]) ** 2
    edges = np.unique(np.geomspace(1, strength.shape[1], BANDS + 1).round().astype(int)) - 1
    for begin, end in zip(edges, [*edges[1:-1], strength.shape[1]], strict=False):
        found.append(np.log(strength[:, begin:end].mean(1) + 1e-9))
    few = min(shown.shape[2], 10)
    first, second = np.triu_indices(few, 1)
    for each in (shown[:, :, :few], np.diff(shown[:, :, :few], axis=1)):
        plain = (each - each.mean(1, keepdims=True)) / np.maximum(each.std(1, keepdims=True), 1e-9)
        found.append((plain[:, :, first] * plain[:, :, second]).mean(1))
    return np.concatenate(found, 1), [x.reshape(len(x), -1), steps.reshape(len(x), -1)]


def _with_components(values: np.ndarray, kept: list[np.ndarray], learn: np.ndarray) -> np.ndarray:
    """Summaries beside principal components of values and increments, found on what is learned from."""
    made = [values]
    for x in kept:
        count = min(COMPONENTS, x.shape[1], len(learn) - 1)
        made.append(PCA(count, svd_solver="randomized", random_state=0).fit(x[learn]).transform(x))
    return np.concatenate(made, 1)


def predictive_score(reference: np.ndarray, samples: np.ndarray, *, seed: int = 0) -> Measure | None:
    """Mean absolute error with which a network that learned from made windows tells the next step of real ones.

    Windows (n, T, C) and (m, T, C) without gaps. The next step of all variables from the eight steps before, in real
    data's deviations, by one hidden layer of 64 units; None for windows of fewer than ten steps. Compare it with what
    real windows teach (the floor); range [0, inf), lower is better. Interval: t over ten blocks of real windows.

    Source: TimeGAN's score (Yoon et al. 2019, section 5), a GRU's error on data scaled to [0, 1], of which often one
    variable. Known biases: what the chosen network cannot learn does not count.
    """
    real, made = matching_windows(reference, samples, least=BLOCKS)
    if real.shape[1] < LAGS + 2:
        return None
    centre, spread = real.mean((0, 1)), np.where(real.std((0, 1)) > 0, real.std((0, 1)), 1)
    learn, ask = (_pairs((x - centre) / spread) for x in (made, real))
    chosen = np.random.default_rng(seed).permutation(len(learn[0]))[:PAIRS]
    inputs = [np.arctan(x / 3) * 3 for x in (learn[0][chosen], ask[0])]  # far-off values must not blow up a network
    model = MLPRegressor(
        hidden_layer_sizes=(64,), batch_size=256, learning_rate_init=2e-3, max_iter=15, tol=0.0, random_state=seed
    )
    answers = learn[1][chosen].clip(-10, 10)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many passes for all, whatever is left to learn
        model.fit(inputs[0], answers if answers.shape[1] > 1 else answers[:, 0])
        told = model.predict(inputs[1]).reshape(ask[1].shape)
    errors = np.abs(told - ask[1]).mean(1).reshape(len(real), -1).mean(1)
    blocks = np.array([errors[rows].mean() for rows in parts(len(errors))])
    value, error = float(errors.mean()), float(blocks.std(ddof=1)) / len(blocks) ** 0.5
    low, high = interval(value, error, quantile=student(len(blocks) - 1), floor=0.0)
    return Measure(value, low, high, "predictive", "lower", "deviations")


def _pairs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps before (N, LAGS C) and the next one (N, C), window by window."""
    seen = np.lib.stride_tricks.sliding_window_view(x, LAGS, axis=1)[:, :-1]  # (n, T - LAGS, C, LAGS)
    return seen.reshape(-1, x.shape[2] * LAGS), x[:, LAGS:].reshape(-1, x.shape[2])
