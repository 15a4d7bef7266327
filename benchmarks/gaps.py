"""Training on gaps: cells of a table vanish, a model learns what is left; how well does it fill in, and teach?

    .venv/bin/python benchmarks/gaps.py casp.csv.gz --out OUT --target RMSD [--blank 0.3] [--how random|value]
        [--budget 60s] [--model diffusion] [--draws 20] [--rows 2000]

`random`: each cell vanishes with the same chance. `value`: cells of a number above its median vanish with twice that
chance, those below never; of categories at random. Two trainings under one budget, on the whole table and on the one
with gaps, both without a fifth of the rows. Filling in is judged on blanked cells of `rows` training rows, beside
scikit-learn's imputers (`impute.py` has the measures; draws of the iterative one are from its own posterior). Teaching:
gradient boosting learns the target from as many made rows as there are real ones, and is asked about the fifth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from impute import blanked, classical, judged
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

import trilemma as tl
from trilemma.metrics.usefulness import usefulness
from trilemma.modalities.contract import Opening
from trilemma.modalities.table import Table


def taught(data: tl.Data, made: pd.DataFrame, asked: pd.DataFrame) -> float:
    """The figure of a model that learned from made rows, asked about real ones; both in the columns of `data`."""
    assert isinstance(data.modality, Table)
    learn, ask = (data.modality.cells(data.modality.gaps(frame).x) for frame in (made, asked))
    for cells, frame in ((learn, made), (ask, asked)):
        cells.values[~data.modality.gaps(frame).observed] = np.nan
    found = usefulness(learn.values, ask.values, target=learn.target, numbers=learn.numbers)
    return float("nan") if found is None else found.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--blank", type=float, default=0.3)
    parser.add_argument("--how", choices=("random", "value"), default="random")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--model", default="diffusion")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    truth = pd.read_csv(given.table)
    for name in truth.select_dtypes(["integer", "bool"]):
        if truth[name].nunique() <= 12:
            truth[name] = truth[name].astype(str)  # as our tables take it: a category
    order = np.random.default_rng(3).permutation(len(truth))
    asked, truth = truth.iloc[order[: len(truth) // 5]], truth.iloc[order[len(truth) // 5 :]].reset_index(drop=True)
    gappy, holes = blanked(truth, given.blank, given.how)
    runs = {}
    for name, frame in (("whole", truth), ("gaps", gappy)):
        frame.to_csv(given.out / f"{name}.csv", index=False)
        settings = {"data.target": given.target}
        runs[name] = given.out / f"run-{name}"
        tl.train(given.out / f"{name}.csv", model=given.model, budget=given.budget, out=runs[name], settings=settings)
    gappy = pd.read_csv(
        given.out / "gaps.csv", dtype={n: str for n in truth if not pd.api.types.is_numeric_dtype(truth[n])}
    )
    rows = np.sort(np.random.default_rng(1).permutation(len(truth))[: given.rows])
    some, some_holes = truth.iloc[rows], holes[rows]

    print("| filled in by | error of numbers | categories right | truth inside 90 % | shape |\n|---|---|---|---|---|")

    def tell(name: str, figures: dict[str, float]) -> None:
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |", flush=True)

    tell(
        "mean, most frequent",
        judged(some, classical(gappy, rows, SimpleImputer()).set_axis(some.index), [], some_holes),
    )
    posterior = [
        classical(gappy, rows, IterativeImputer(max_iter=5, random_state=seed, sample_posterior=True)).set_axis(
            some.index
        )
        for seed in range(min(given.draws, 12))
    ]
    middle = classical(gappy, rows, IterativeImputer(max_iter=10, random_state=0)).set_axis(some.index)
    tell("iterative", judged(some, middle, posterior, some_holes))
    made = [
        each.set_axis(some.index) for each in tl.load(runs["gaps"]).imputations(gappy.iloc[rows], draws=given.draws)
    ]
    tell(f"{given.model} trained on gaps, {given.budget}", judged(some, made[0], made[1:], some_holes))

    opening = Opening(kind="table", target=given.target)
    data = tl.open_data(given.out / "gaps.csv", opening=opening)
    print("\n| gradient boosting learned from | asked about real rows |\n|---|---|")
    print(f"| the whole real table | {taught(data, truth, asked):.3f} |")
    print(f"| the real table with gaps | {taught(data, gappy, asked):.3f} |")
    for name, run in runs.items():
        rows_made = tl.load(run).generate(len(truth), seed=1)
        print(f"| rows made by {given.model} trained on {name} | {taught(data, rows_made, asked):.3f} |", flush=True)


if __name__ == "__main__":
    main()
