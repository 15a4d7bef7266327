"""How near pictures come back from the noise that diffusion finds for them, by steps: the figures of
benchmarks/2026-12-01-inversion.md. Runs are trained beforehand.

    python benchmarks/inversion.py RUN... [--count 100] [--steps 12,24,48] [--grid way.png]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import trilemma as tl
from trilemma.batches import Options
from trilemma.latent import Latent
from trilemma.metrics.pixels import reconstruction_error


def decibels(x: np.ndarray, again: np.ndarray) -> float:
    return reconstruction_error(x, again, span=255.0)["psnr"].value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", default="12,24,48")
    parser.add_argument("--grid", type=Path, help="folder for pictures of the ways between five pairs")
    asked = parser.parse_args()
    for folder in asked.runs:
        run = tl.load(folder)
        data = run.data("inversion", "name a run whose data are there")
        x = data.x[data.splits["test"][: asked.count]]
        given = run.modality.export(x)
        if isinstance(run.space, Latent):
            with torch.no_grad():
                coded = run.sampler.array(run.space.decode(run.space.embed(torch.from_numpy(x))))
            print(f"{folder.name}: autoencoder alone {decibels(x, coded):.1f} dB", flush=True)
        for steps in map(int, asked.steps.split(",")):
            began = time.perf_counter()
            again = run.reconstruct(given, steps=steps, raw=True)
            took = time.perf_counter() - began
            codes = torch.cat([code for code, _ in run._codes(given[:50], options=Options(steps=steps, guidance=1.0))])
            extra = f", of its codes {decibels(coded, again):.1f} dB" if isinstance(run.space, Latent) else ""
            print(
                f"{folder.name}: {steps} steps {decibels(x, again):.1f} dB{extra}; variance of the noise "
                f"{float(codes.square().mean()):.2f}; {took:.1f} s",
                flush=True,
            )
        if asked.grid:
            asked.grid.mkdir(parents=True, exist_ok=True)
            rows = [run.interpolate(given[2 * k], given[2 * k + 1], sampler_steps=24, raw=True) for k in range(5)]
            flat = np.concatenate(rows)
            run.modality.picture(flat, columns=9).save(asked.grid / f"{folder.name}.png")


if __name__ == "__main__":
    main()
