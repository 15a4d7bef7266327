"""Train CTGAN or TVAE (the package `ctgan`) on a CSV for some seconds, then write rows of it.

    ENV/bin/python benchmarks/peers/table_peer.py ctgan|tvae TRAIN.csv --seconds 600 --rows 36000 --out MADE.csv

Settings are the package's defaults, but that it stops at the end of the epoch in which the seconds are over instead of
after 300 epochs. Both refuse gaps: numbers are filled with the median, categories with a word of their own. Texts, and
whole numbers of at most twelve values, are discrete columns.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from ctgan import CTGAN, TVAE
from ctgan.synthesizers import ctgan as ctgan_file
from ctgan.synthesizers import tvae as tvae_file

FEW = 12


class UntilTime:
    """Stands in for the packages' progress bar over epochs: it ends when the time is over."""

    def __init__(self, seconds: float):
        self.seconds, self.begun, self.epochs = seconds, 0.0, 0

    def __call__(self, epochs: Iterable[int], **ignored: Any) -> Iterator[int]:
        for number in epochs:
            if time.perf_counter() - self.begun > self.seconds:
                return
            self.epochs = number + 1
            yield number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=("ctgan", "tvae"))
    parser.add_argument("table")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    np.random.seed(given.seed)
    torch.manual_seed(given.seed)
    frame, discrete = pd.read_csv(given.table), []
    for name in frame.columns:
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column):
            frame[name] = column.astype(object).where(column.notna(), "(missing)").astype(str)
            discrete.append(name)
        else:
            frame[name] = column.fillna(column.median())
            if pd.api.types.is_integer_dtype(column) and column.nunique() <= FEW:
                discrete.append(name)
    clock = UntilTime(given.seconds)
    ctgan_file.tqdm = tvae_file.tqdm = clock
    clock.begun = time.perf_counter()  # the fit of its data transformer counts, as ours does
    model = (CTGAN if given.peer == "ctgan" else TVAE)(epochs=10**6, enable_gpu=False)
    model.fit(frame, discrete)
    spent = time.perf_counter() - clock.begun
    model.sample(given.rows).to_csv(given.out, index=False)
    print(f"{given.peer}: {clock.epochs} epochs in {spent:.0f} s, {given.rows:,} rows in {given.out}")


if __name__ == "__main__":
    main()
