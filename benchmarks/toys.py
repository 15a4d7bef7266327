"""Known densities: do all families find all modes, and is the diffusion model's likelihood the true one?

.venv/bin/python benchmarks/toys.py --out FOLDER [--budget 60s] [--data eight-gaussians]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import trilemma as tl
from trilemma.metrics.pixels import modes_found

MODELS = (
    "autoencoder",
    "vae",
    "gan",
    "gan:wasserstein",
    "gan:non-saturating",
    "gan:minimax",
    "gan:hinge",
    "gan:least-squares",
    "diffusion",
    "diffusion:flow",
    "diffusion:ddpm",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--data", default="eight-gaussians")
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    data = tl.open_data(arguments.data)
    test = data.rows("test", 2000)
    deviation = (
        np.sqrt(((test[:, None] - data.centres[None]) ** 2).sum(-1)).min(1).mean() / 1.2533
        if data.centres is not None
        else 1.0
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for model in arguments.models.split(","):
        folder = arguments.out / model.replace(":", "-")
        tl.train(data, model=model, budget=arguments.budget, out=folder, quiet=True)
        run = tl.load(folder)
        samples = run.generate(2000, seed=1)
        row: dict[str, object] = {"model": model, "data": arguments.data}
        if data.centres is not None:
            found = modes_found(samples, data.centres, float(deviation))
            row |= {
                "modes": f"{found['modes'].value:.0f} of {len(data.centres)}",
                "at_modes": round(found["at_modes"].value, 3),
            }
        if "score" in run.can() and data.log_density is not None:
            mine, truth = run.score(test), data.log_density(test)
            row |= {
                "log_likelihood": float(mine.mean()),
                "truth": float(truth.mean()),
                "difference": float(mine.mean() - truth.mean()),
            }
        run.modality.picture(samples, reference=test).save(folder / "samples.png")
        with open(arguments.out / "toys.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
