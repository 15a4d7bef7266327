"""Filling in gaps: cells of a table are blanked, models and imputers fill them in, and the truth is known.

    .venv/bin/python benchmarks/impute.py casp.csv.gz --out OUT [--blank 0.3] [--how random|value] [--budget 60s]
        [--models diffusion,vae] [--draws 50] [--rows 5000]

All are learned from the blanked table. Judged on blanked cells of `rows` rows: of numbers the root mean squared error
in units of the column's deviation, of categories how often the value is right; how often the middle 90 % of the draws
hold the number; and how far (Kolmogorov-Smirnov) the filled-in numbers are from the truth as a distribution, where
plain means shrink. `value` blanks larger numbers more often (twice the share in the upper half of a column, none in
the lower).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import OrdinalEncoder

import trilemma as tl


def blanked(frame: pd.DataFrame, share: float, how: str, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """The frame with a share of its cells empty, and which these are (n, columns)."""
    generator = np.random.default_rng(seed)
    holes = generator.uniform(size=frame.shape) < share
    if how == "value":
        for place, name in enumerate(frame):
            ranks = frame[name].rank(pct=True) if pd.api.types.is_numeric_dtype(frame[name]) else None
            if ranks is not None:
                holes[:, place] = generator.uniform(size=len(frame)) < np.where(ranks > 0.5, 2 * share, 0)
    holes &= frame.notna().to_numpy()
    return frame.mask(holes), holes


def judged(truth: pd.DataFrame, filled: pd.DataFrame, draws: list[pd.DataFrame], holes: np.ndarray) -> dict[str, float]:
    errors, right, inside, shapes = [], [], [], []
    for place, name in enumerate(truth):
        here = holes[:, place]
        if not here.any():
            continue
        real, made = truth[name][here], filled[name][here]
        if pd.api.types.is_numeric_dtype(truth[name]):
            deviation = truth[name].std()
            errors.append((((made.astype(float) - real) / deviation) ** 2).mean() ** 0.5)
            one = draws[0][name][here] if draws else made
            shapes.append(ks_2samp(one.astype(float), real).statistic)
            if len(draws) > 10:
                all_draws = np.stack([draw[name][here].astype(float) for draw in draws])
                low, high = np.quantile(all_draws, [0.05, 0.95], axis=0)
                inside.append(((real >= low) & (real <= high)).mean())
        else:
            right.append((made.astype(str).to_numpy() == real.astype(str).to_numpy()).mean())
    return {
        "rmse": float(np.mean(errors)) if errors else np.nan,
        "right": float(np.mean(right)) if right else np.nan,
        "inside 90 %": float(np.mean(inside)) if inside else np.nan,
        "shape": float(np.mean(shapes)) if shapes else np.nan,
    }


def classical(frame: pd.DataFrame, rows: np.ndarray, imputer: object) -> pd.DataFrame:
    """scikit-learn's imputers on codes of categories, rounded to codes again."""
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    coder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("texts", coder, texts)], remainder="passthrough", verbose_feature_names_out=False)
    coded = pd.DataFrame(columns.fit_transform(frame), columns=columns.get_feature_names_out()).astype(float)
    scale = coded.std().replace(0, 1)
    fit = coded.sample(min(len(coded), 10_000), random_state=0)
    imputer.fit((fit / scale).to_numpy())  # type: ignore[attr-defined]
    made = imputer.transform((coded.iloc[rows] / scale).to_numpy()) * scale.to_numpy()  # type: ignore[attr-defined]
    result = pd.DataFrame(made, columns=coded.columns, index=rows)
    for place, name in enumerate(texts):
        values = columns.named_transformers_["texts"].categories_[place]
        known = [value for value in values if isinstance(value, str)]
        result[name] = np.asarray(known, dtype=object)[result[name].round().clip(0, len(known) - 1).astype(int)]
    return result[list(frame)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--blank", type=float, default=0.3)
    parser.add_argument("--how", choices=("random", "value"), default="random")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--models", default="diffusion,vae")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--rows", type=int, default=5000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    truth = pd.read_csv(given.table)
    for name in truth.select_dtypes(["integer", "bool"]):
        if truth[name].nunique() <= 12:
            truth[name] = truth[name].astype(str)  # as our tables take it: a category
    gappy, holes = blanked(truth, given.blank, given.how)
    gappy.to_csv(given.out / "gaps.csv", index=False)
    gappy = pd.read_csv(given.out / "gaps.csv", dtype={n: str for n in truth if truth[n].dtype == object})
    rows = np.sort(np.random.default_rng(1).permutation(len(truth))[: given.rows])
    some, some_holes = truth.iloc[rows], holes[rows]
    gappy.iloc[rows].to_csv(given.out / "asked.csv", index=False)
    print("| filled in by | error of numbers | categories right | truth inside 90 % | shape |\n|---|---|---|---|---|")

    def tell(name: str, figures: dict[str, float]) -> None:
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |", flush=True)

    kinds = {
        "mean, most frequent": SimpleImputer(),
        "nearest 5": KNNImputer(n_neighbors=5),
        "iterative": IterativeImputer(max_iter=10, random_state=0),
    }
    for name, imputer in kinds.items():
        tell(name, judged(some, classical(gappy, rows, imputer).set_axis(some.index), [], some_holes))
    for model in [name for name in given.models.split(",") if name]:
        run = given.out / model.replace(":", "-")
        tl.train(given.out / "gaps.csv", model=model, budget=given.budget, out=run)
        made = tl.load(run).imputations(given.out / "asked.csv", draws=given.draws)
        frames = [frame.set_axis(some.index) for frame in made]
        tell(f"{model}, {given.budget}, mean of {given.draws}", judged(some, frames[0], frames[1:], some_holes))
        tell(f"{model}, {given.budget}, one draw", judged(some, frames[1], frames[1:2], some_holes))


if __name__ == "__main__":
    main()
