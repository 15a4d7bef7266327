"""What made tables are good for: a model that learns from them is asked about real rows."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from threadpoolctl import threadpool_limits

from trilemma.metrics.protocol import Measure

CATEGORIES = 250  # values that gradient boosting takes as categories; more are numbers to it
CLASSES = 20  # the most common values of a target; the others are one class
ONE_HOT = 60  # values that a linear model takes one by one


def usefulness(
    learn: np.ndarray, ask: np.ndarray, *, target: int, numbers: list[bool], kind: Literal["trees", "linear"] = "trees"
) -> Measure | None:
    """How well a model that learned column `target` from rows `learn` (n, C) answers for real rows `ask` (m, C).

    Cells in the user's units, categories as codes, NaN where one is missing; `numbers` says which columns are numbers.
    R2 of a number; F1 of the rarer of two classes, the mean F1 of several (all but the twenty most common are one);
    range up to 1, higher is better; None where fewer than two values are to be learned. `kind`: gradient boosting, or
    ridge and logistic regression on standardised columns. Compare it with what as many real rows teach. No interval is
    stated. Known biases: grows with n.
    Source: "train on synthetic, test on real", Esteban et al. 2017.
    """
    if learn.ndim != 2 or ask.ndim != 2 or not learn.shape[1] == ask.shape[1] == len(numbers):
        raise ValueError(f"tables: shapes {learn.shape} and {ask.shape} for {len(numbers)} columns do not fit")
    learn, ask = learn[~np.isnan(learn[:, target])], ask[~np.isnan(ask[:, target])]
    if len(learn) < 10 or len(ask) < 10 or len(np.unique(learn[:, target])) < 2 or len(numbers) < 2:
        return None
    rest = [place for place in range(len(numbers)) if place != target and not np.isnan(learn[:, place]).all()]
    if not rest:
        return None
    wanted, right = learn[:, target], ask[:, target]
    if not numbers[target]:  # rare values of many are one class: boosting grows trees for each
        common = np.unique(ask[:, target], return_counts=True)
        kept = common[0][np.argsort(-common[1], kind="stable")[:CLASSES]]
        wanted, right = (np.where(np.isin(each, kept), each, -1.0) for each in (wanted, right))
        if len(np.unique(wanted)) < 2:
            return None
    name = "usefulness" if kind == "trees" else "usefulness@linear"
    if kind == "trees":
        many = np.nanmax(np.concatenate([learn, ask])[:, rest], axis=0, initial=0)
        categories = [not numbers[place] and most < CATEGORIES for place, most in zip(rest, many, strict=True)]
        inputs = learn[:, rest], ask[:, rest]
        kinds = (HistGradientBoostingRegressor, HistGradientBoostingClassifier)
        model = kinds[not numbers[target]](categorical_features=categories, random_state=0)
    else:
        inputs = _plain(learn, ask, rest, numbers)
        model = Ridge() if numbers[target] else LogisticRegression(max_iter=300)
    with threadpool_limits(1, "openmp"):
        answer = model.fit(inputs[0], wanted).predict(inputs[1])
    if numbers[target]:
        return Measure(float(r2_score(right, answer)), None, None, name, "higher", "R2")
    classes, counts = np.unique(right, return_counts=True)
    if len(classes) == 2:
        rare = classes[counts.argmin()]
        return Measure(float(f1_score(right == rare, answer == rare)), None, None, name, "higher", "F1")
    return Measure(float(f1_score(right, answer, average="macro")), None, None, name, "higher", "mean F1")


def _plain(learn: np.ndarray, ask: np.ndarray, rest: list[int], numbers: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Columns for a linear model: standardised numbers, gaps at the median and marked, categories one by one."""
    made: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for place in rest:
        own, asked = learn[:, place], ask[:, place]
        known = own[~np.isnan(own)]
        if not numbers[place] and (len(known) == 0 or known.max() < ONE_HOT):
            values = np.unique(known)
            for side, cells in zip(made, (own, asked), strict=True):
                side.append((cells[:, None] == values).astype(float))
            continue
        middle, spread = (np.median(known), known.std()) if len(known) else (0.0, 1.0)
        for side, cells in zip(made, (own, asked), strict=True):
            gaps = np.isnan(cells)
            side.append(np.stack([np.where(gaps, 0, cells - middle) / (spread or 1.0), gaps], 1))
    return np.concatenate(made[0], 1), np.concatenate(made[1], 1)
