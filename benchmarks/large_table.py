"""A large table: from the command to the first steps of training, and the memory of one's own that it takes.

    .venv/bin/python benchmarks/large_table.py --out FOLDER [--rows 1000000] [--columns 30] [--limit 4] [--budget 60s]
        [--model vae] [--categories 100000]

Half of the columns are numbers of four decimals, no two alike; a sixth are whole numbers, a sixth categories of 3 to
40 values; one is a date, one a code of `categories` values (0: none), one an identifier. `start`: seconds from the
start of the process to its first steps, with reading, probe and planning. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from memory import stage


def write(path: Path, rows: int, columns: int, categories: int, part: int = 50_000) -> None:
    """A CSV of rows that hang together by one hidden number, written piece by piece."""
    generator = np.random.default_rng(0)
    numbers, wholes, groups = columns // 2, columns // 6, columns // 6
    others = columns - numbers - wholes - groups
    with open(path, "w") as file:
        for start in range(0, rows, part):
            count = min(part, rows - start)
            hidden = generator.normal(size=count)
            made: dict[str, object] = {}
            for number in range(numbers):
                made[f"number {number}"] = (1000 * np.exp(hidden * 0.3 + generator.normal(size=count))).round(4)
            for number in range(wholes):
                made[f"whole {number}"] = generator.poisson(20 * np.exp(0.4 * hidden))
            for number in range(groups):
                values = 3 + 37 * number // max(groups - 1, 1)
                place = (hidden + generator.normal(size=count)) * values / 6 + values / 2
                made[f"group {number}"] = [f"value {int(v):02d}" for v in place.clip(0, values - 1)]
            made["day"] = (
                pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(0, 1500, count), "D")
            ).strftime("%Y-%m-%d")
            if categories:
                shop = (categories * generator.beta(0.6, 3, count) * (1 + np.tanh(hidden)) / 2).astype(int)
                made["shop"] = [f"shop {number:06d}" for number in shop]
            for number in range(others - len(made) + numbers + wholes + groups):
                made[f"code {number}"] = [f"R-{start + row:08d}" for row in range(count)]
            pd.DataFrame(made).to_csv(file, index=False, header=start == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--categories", type=int, default=100_000)
    parser.add_argument("--limit", type=float, default=4.0, help="GiB")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--model", default="vae")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"table-{given.rows}-{given.columns}-{given.categories}.csv"
    if not file.exists():
        begin = time.monotonic()
        write(file, given.rows, given.columns, given.categories)
        print(f"{file}: {file.stat().st_size / 2**20:,.0f} MB in {time.monotonic() - begin:.0f} s", file=sys.stderr)
    run = given.out / f"run-{time.strftime('%H%M%S')}"
    command = ["train", str(file), "--model", given.model, "--budget", given.budget, "--out", str(run)]
    row = {"rows": given.rows, "columns": given.columns, **stage(command, given.limit, run)}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
