"""What control is worth: does a change do what was asked and keep the rest, and how straight are the ways to it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from trilemma.metrics.protocol import Measure, over_examples

FOLDS = 5


def changed_as_asked(asked: np.ndarray, after: np.ndarray) -> Measure:
    """Return the share of changed examples whose attribute, read off them, is the one that was asked for.

    Shapes (N,) of numbers or names, one attribute. Range [0, 1]. Interval: Wilson 1927. Known biases: the reader's
    own errors count against the change. Source: the attribute accuracy of Shen et al. 2020 (InterFaceGAN).
    """
    asked, after = _alike(asked, after)
    return _share(asked == after, "changed")


def kept(before: np.ndarray, after: np.ndarray) -> Measure:
    """Return the share of examples in which every other attribute is what it was before the change.

    Shapes (N,) or (N, A): A attributes that nobody asked to change, as read off the examples. Range [0, 1]. Interval:
    Wilson 1927. Known biases: a change of nothing keeps all: read it beside `changed_as_asked`. Source: the converse of
    the preservation error of He et al. 2019 (AttGAN), as a share.
    """
    before, after = _alike(before, after)
    same = (before == after).reshape(len(before), -1).all(1)
    return _share(same, "kept")


def replaced(before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> Measure:
    """Return how far a change moves examples, over how far they are then from what others of their group were before.

    Shapes (N, D), (N, D) features and (N,), what each was before. Range [0, inf): 0 where nothing moves, 1 where a
    changed example has no more in common with its own past than with another one's. Interval: Student's t over
    examples, given the unit. Known biases: what was asked for is a part of the way. Source: the identity loss of Deng
    et al. 2020 (DiscoFaceGAN), of features in place of a face's, put on a scale by mismatched pairs as in `relative`.
    """
    before, after = _alike(np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64))
    order = np.argsort(groups, kind="stable")
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    own, other = (np.linalg.norm(after - rows, axis=1) for rows in (before, before[others]))
    unit = float(other.mean())
    return over_examples(own / unit if unit > 0 else np.full_like(own, np.nan), "replaced", "lower", least=0.0)


def perceptual_path_length(
    here: np.ndarray, there: np.ndarray, *, step: float, space: Literal["z", "w"] = "w"
) -> Measure:
    """Return how far features move for a small step along random ways between two codes: E |f(t + e) - f(t)|^2 / e^2.

    Shapes (N, D): features of examples at random places t of N ways and at t + e; `step` is e, as a share of the way,
    1e-4 in the source (in single precision of features rather 1e-2). Range [0, inf), in squared units of the features.
    Interval: Student's t over the ways. Known biases: a model that always makes one example has 0: read it beside a
    figure of quality. Source: Karras et al. 2019, section 4.1.
    """
    here, there = _alike(np.asarray(here, dtype=np.float64), np.asarray(there, dtype=np.float64))
    if here.ndim != 2 or not step > 0:
        raise ValueError(
            f"path length: expected features (count, dimension) and a step above 0, got {here.shape}, {step}"
        )
    lengths = np.square(there - here).sum(1) / step**2
    return over_examples(lengths, f"path_length@{space}", "lower", least=0.0)


def separability(styles: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Measure:
    """Return how badly a plane through styles tells two values of an attribute apart: e to the conditional entropy.

    Shapes (N, D) styles (or codes) and (N, A) or (N,) attributes of two or more values, as read off the samples that
    they give. The value is exp(sum over attributes of H(attribute | side of the plane)), nats, the planes being linear
    logistic regressions judged on five folds. Range [1, inf): 1 where each attribute has its own plane. No interval.
    Known biases: rises with the number of attributes; an attribute of one value has no entropy, and counts nothing.
    Source: Karras et al. 2019, section 4.2 (there with support vector machines).
    """
    styles, labels = np.asarray(styles, dtype=np.float64), np.asarray(labels)
    labels = labels.reshape(len(labels), -1)
    if styles.ndim != 2 or len(labels) != len(styles):
        raise ValueError(
            f"separability: expected (count, dimension) and as many labels, got {styles.shape}, {labels.shape}"
        )
    total = 0.0
    for column in labels.T:
        values, given, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(values) < 2:
            continue
        if counts.min() < FOLDS:
            raise ValueError(f"separability: a value has {counts.min()} samples; give at least {FOLDS} of each")
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        with threadpool_limits(1):
            side = cross_val_predict(model, styles, given, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed))
        joint = np.zeros((len(values), len(values)))
        np.add.at(joint, (side, given), 1 / len(given))
        shares = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
        total -= float((joint[joint > 0] * np.log(shares[joint > 0])).sum())
    return Measure(float(np.exp(total)), None, None, "separability", "lower")


def _alike(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(one), np.asarray(two)
    if one.shape != two.shape or len(one) == 0:
        raise ValueError(f"control: shapes must be equal and not empty, got {one.shape} and {two.shape}")
    return one, two


def _share(hits: np.ndarray, name: str) -> Measure:
    low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return Measure(float(hits.mean()), float(low), float(high), name, "higher")
