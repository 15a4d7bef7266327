"""Tables made by runs beside the real one: columns, pairs, a boosted two-sample test, and what they are good for.

    .venv/bin/python benchmarks/tables.py adult.csv.gz --target salary RUN [RUN ...]

For each run as many rows as the training split has, seed 1. Columns and pairs (1 - likeness, `metrics/tables.py`), and
the area under the curve of gradient boosting that tells test rows from as many made ones (5 folds), are taken against
the test split. Usefulness: gradient boosting learns the target from made rows (and from the training rows, for
comparison) and is asked about the test rows: F1 of the rarer of two classes, mean F1 of several, R2 of a number.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import f1_score, r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

import trilemma as tl
from trilemma.metrics.tables import column_shapes, pair_trends
from trilemma.modalities.contract import Data

CATEGORIES = 250  # that gradient boosting takes as such


def judged(data: Data, samples: np.ndarray, target: str) -> dict[str, float]:
    """The figures of raw samples (n, columns)."""
    real, made, train = (data.modality.columns_of(x) for x in (data.rows("test"), samples, data.rows("train")))
    assert real is not None and made is not None and train is not None
    cells, numbers = real
    count = min(len(cells), len(made[0]))
    trends = pair_trends(cells, made[0][:count], numbers)
    categories = [not number and np.nanmax(train[0][:, place]) < CATEGORIES for place, number in enumerate(numbers)]
    both = np.concatenate([cells[:count], made[0][:count]])
    whose = np.repeat([1, 0], count)
    boosted = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
    told = cross_val_predict(boosted, both, whose, cv=5, method="predict_proba")[:, 1]
    names = [column.name for column in data.modality.columns if column.learned]  # type: ignore[attr-defined]
    place = names.index(target)
    return {
        "columns": 1 - column_shapes(cells, made[0][:count], numbers).value,
        "pairs": float("nan") if trends is None else 1 - trends.value,
        "auc": float(roc_auc_score(whose, told)),
        "useful": useful(made[0], cells, place, categories, number=numbers[place]),
        "useful, real": useful(train[0], cells, place, categories, number=numbers[place]),
    }


def useful(learn: np.ndarray, ask: np.ndarray, place: int, categories: list[bool], *, number: bool) -> float:
    rest = [other for other in range(learn.shape[1]) if other != place]
    learn, ask = learn[~np.isnan(learn[:, place])], ask[~np.isnan(ask[:, place])]
    given = {"categorical_features": [categories[other] for other in rest], "random_state": 0}
    if number:
        boosted = HistGradientBoostingRegressor(**given).fit(learn[:, rest], learn[:, place])
        return float(r2_score(ask[:, place], boosted.predict(ask[:, rest])))
    answer = HistGradientBoostingClassifier(**given).fit(learn[:, rest], learn[:, place]).predict(ask[:, rest])
    classes, counts = np.unique(ask[:, place], return_counts=True)
    if len(classes) == 2:
        return float(f1_score(ask[:, place] == classes[counts.argmin()], answer == classes[counts.argmin()]))
    return float(f1_score(ask[:, place], answer, average="macro"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--target", required=True)
    given = parser.parse_args()
    data = tl.open_data(given.table)
    print(
        "| run | columns, error | pairs, error | AUC | useful | useful, real | rows/s |\n|---|---|---|---|---|---|---|"
    )
    for run in given.runs:
        start = time.perf_counter()
        samples = tl.load(run).generate(len(data.splits["train"]), seed=1, raw=True)
        rate = len(samples) / (time.perf_counter() - start)
        figures = judged(data, samples, given.target).values()
        print(f"| {run} | {' | '.join(f'{figure:.4f}' for figure in figures)} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
