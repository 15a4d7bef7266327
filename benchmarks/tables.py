"""Tables made by runs beside the real one: columns, pairs, a boosted two-sample test, and what they are good for.

    .venv/bin/python benchmarks/tables.py adult.csv.gz --target salary RUN|MADE.csv [...]
    .venv/bin/python benchmarks/tables.py adult.csv.gz --train TRAIN.csv        # the training rows, for other tools

For each run, or table that another tool made, as many rows as the training split has, seed 1. Columns and pairs
(1 - likeness, `metrics/tables.py`), and the area under the curve of gradient boosting that tells test rows from as many
made ones (5 folds), are taken against the test split. Usefulness: gradient boosting learns the target from made rows
(and from the training rows, for comparison) and is asked about the test rows: F1 of the rarer of two classes, mean F1
of several, R2 of a number.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

import trilemma as tl
from trilemma.metrics.tables import column_shapes, pair_trends
from trilemma.metrics.usefulness import usefulness
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.door import open_data
from trilemma.modalities.table import Table

CATEGORIES = 250  # that gradient boosting takes as such


def judged(data: Data, samples: np.ndarray) -> dict[str, float]:
    """The figures of raw samples (n, columns)."""
    assert isinstance(data.modality, Table)
    real, made, train = (data.modality.cells(x) for x in (data.rows("test"), samples, data.rows("train")))
    numbers, target = real.numbers, real.target
    count = min(len(real.values), len(made.values))
    trends = pair_trends(real.values, made.values[:count], numbers)
    categories = [
        not number and np.nanmax(own) < CATEGORIES for number, own in zip(numbers, train.values.T, strict=True)
    ]
    both = np.concatenate([real.values[:count], made.values[:count]])
    whose = np.repeat([1, 0], count)
    boosted = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
    told = cross_val_predict(boosted, both, whose, cv=5, method="predict_proba")[:, 1]
    useful = [usefulness(each.values, real.values, target=target, numbers=numbers) for each in (made, train)]
    return {
        "columns": 1 - column_shapes(real.values, made.values[:count], numbers).value,
        "pairs": float("nan") if trends is None else 1 - trends.value,
        "auc": float(roc_auc_score(whose, told)),
        "useful": float("nan") if useful[0] is None else useful[0].value,
        "useful, real": float("nan") if useful[1] is None else useful[1].value,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--target")
    parser.add_argument("--train", metavar="FILE", help="write the training rows there")
    given = parser.parse_intermixed_args()
    data = open_data(given.table, opening=Opening(target=given.target))
    if given.train:
        pd.read_csv(given.table).iloc[data.splits["train"]].to_csv(given.train, index=False)
    print(
        "| run | columns, error | pairs, error | AUC | useful | useful, real | rows/s |\n|---|---|---|---|---|---|---|"
    )
    for run in given.runs:
        start = time.perf_counter()
        if run.endswith(".csv"):
            samples = data.modality.read(Path(run), data.spaces["x"])[0][: len(data.splits["train"])]
        else:
            samples = tl.load(run).generate(len(data.splits["train"]), seed=1, raw=True)
        rate = len(samples) / (time.perf_counter() - start)
        figures = judged(data, samples).values()
        print(f"| {run} | {' | '.join(f'{figure:.4f}' for figure in figures)} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
