"""bfloat16 against float32 on a real training: the same command twice, but for its precision; time and quality.

    .venv/bin/python benchmarks/precision.py --data DATA --out FOLDER [--models vae,gan,diffusion] [--budget 60k]

Each row is written when it is done; rows that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import trilemma as tl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="vae,gan,diffusion")
    parser.add_argument("--budget", default="60k")
    parser.add_argument("--size", default="s")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "rows.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    data = tl.open_data(arguments.data)
    for model in arguments.models.split(","):
        for seed in range(arguments.seeds):
            for dtype in ("float32", "bfloat16"):  # in turn: a machine's pace drifts
                if any((row["model"], row["seed"], row["dtype"]) == (model, seed, dtype) for row in done):
                    continue
                folder = arguments.out / f"{model}-{seed}-{dtype}".replace(":", "-")
                run = tl.train(
                    data, model=model, size=arguments.size, budget=arguments.budget, seed=seed, out=folder, quiet=True,
                    settings={"training.dtype": dtype, "training.previews": 1},
                )  # fmt: skip
                judged = tl.measure(data, tl.load(folder).generate(2000, seed=0), quiet=True).metrics
                row = {"model": model, "seed": seed, "dtype": dtype, "loop_seconds": run.choices()["seconds"]["loop"]}
                row |= {
                    name: round(judged[name]["value"], 4) for name in ("frechet", "recall", "coverage", "sharpness")
                }
                row |= {"low": round(judged["frechet"]["low"], 4), "high": round(judged["frechet"]["high"], 4)}
                print(json.dumps(row), flush=True)
                with open(file, "a") as lines:
                    lines.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
