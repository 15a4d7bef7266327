"""Directions of a StyleGAN on sprites of known factors: is what is asked for changed, and does the rest stay?

    .venv/bin/python benchmarks/control.py OUT [--budget 100k] [--size xs] [--together 0.8] [--seed 0]

Sprites, 16 x 16 in colour: a shape (the label), and as attributes its colour, size and side; shape and colour go
together in a share of the examples. What a sample shows is read off by the nearest of all sprites that can be drawn,
so that no learned judge has a say; the first row of the table says how often that is right on real sprites.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import trilemma as tl
from trilemma.modalities.attributes import NAME
from trilemma.tasks import styles

SIDE = 16
FACTORS: dict[str, tuple[str, ...]] = {
    "shape": ("cross", "disc", "square"),  # as labels are numbered
    "colour": ("red", "green", "blue"),
    "size": ("small", "large"),
    "side": ("left", "right"),
}
RADII, CENTRES = (2.2, 3.6), (4.5, 10.5)
COUNT, MOVED, AMOUNTS = 12_000, 1_000, (1.0, 1.5, 2.0)


def mask(shape: int, size: int, side: int, x: float, y: float) -> np.ndarray:
    """(16, 16) in [0, 1]: a sprite whose centre is off its usual place by x and y."""
    fine = (np.arange(SIDE * 4) + 0.5) / 4
    down, across = np.abs(fine[:, None] - 7.5 - y), np.abs(fine[None] - CENTRES[side] - x)
    radius = RADII[size]
    inside = (
        (np.minimum(down, across) < radius * 0.35) & (np.maximum(down, across) < radius * 1.2),
        np.hypot(down, across) < radius * 1.1,
        np.maximum(down, across) < radius * 0.95,
    )[shape]
    return inside.reshape(SIDE, 4, SIDE, 4).mean((1, 3))


def drawn(folder: Path, together: float) -> None:
    """Pictures and metadata.csv; in a share `together` of them shape and colour have the same number."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", *list(FACTORS)[1:]])
        for number in range(COUNT):
            shape, colour, size, side = (int(random.integers(len(values))) for values in FACTORS.values())
            colour = shape if random.random() < together else colour
            x = np.zeros((SIDE, SIDE, 3))
            x[..., colour] = mask(shape, size, side, *random.uniform(-1, 1, 2)) * random.uniform(0.7, 1)
            Image.fromarray((255 * x).round().astype(np.uint8)).save(folder / f"{number:05d}.png")
            told = (values[code] for values, code in zip(FACTORS.values(), (shape, colour, size, side), strict=True))
            writer.writerow([f"{number:05d}.png", *told])


class Reader:
    """Factors of pictures: the colour that is brightest, and the sprite that goes best with its brightness."""

    def __init__(self) -> None:
        kinds = itertools.product(*(range(len(FACTORS[name])) for name in ("shape", "size", "side")))
        places = np.linspace(-1, 1, 5)
        self.known = [(kind, x, y) for kind in kinds for x in places for y in places]
        rows = np.stack([mask(*kind, x, y).ravel() for kind, x, y in self.known])
        self.rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Raw x (n, 3, 16, 16) -> the code of each factor (n,)."""
        x = np.asarray(x, dtype=np.float64)
        colour = x.sum((2, 3)).argmax(1)
        best = (x[np.arange(len(x)), colour].reshape(len(x), -1) @ self.rows.T).argmax(1)
        shape, size, side = np.array([self.known[place][0] for place in best]).T
        return {"shape": shape, "colour": colour, "size": size, "side": side}


def untold(run: Any) -> torch.Tensor:
    """Mean styles under each label with nothing said of attributes: what directions of labels were once made of."""
    request = run.sampler.request(0, np.arange(len(FACTORS["shape"])))
    request.raw["label"] = torch.arange(len(request)).unsqueeze(1)
    for told in (request.raw, request.present):
        told.pop(NAME)
    return torch.as_tensor(run.model.mean_style(request)[:, 0])


def rows_of(run: Any, read: Reader) -> list[tuple[str, list[float]]]:
    """Rows of the table: name, share as asked, share of each other factor as before."""
    sampler = run.sampler
    w, request = styles.many_styles(sampler, MOVED, seed=1)

    def seen(w: torch.Tensor) -> dict[str, np.ndarray]:
        return read(sampler.array(run.space.decode(styles.synthesised(sampler, w, request))))

    before, found = seen(w), list[tuple[str, list[float]]]()
    labels = request.raw["label"][:, 0].numpy()
    found.append(("samples as they were asked for", [float((before["shape"] == labels).mean()), *[np.nan] * 3]))

    def row(name: str, factor: str, asked: np.ndarray, way: torch.Tensor) -> None:
        after = seen(w + way)
        kept = [float((after[other] == before[other]).mean()) for other in FACTORS if other != factor]
        found.append((name, [float((after[factor] == asked).mean()), *kept]))

    asked = (labels + 1) % len(FACTORS["shape"])
    for name, means in (("told", styles.means_of_labels(sampler)), ("untold (before)", untold(run))):
        for amount in AMOUNTS[:2]:
            way = amount * (means[asked] - means[labels])
            row(f"shape, own to another, attributes {name}, x {amount:g}", "shape", asked, way)
    steps = torch.stack([styles.direction(sampler, label, run.label_names).step for label in FACTORS["shape"]])
    for amount in AMOUNTS:
        row(f"shape, `edit --amount {amount:g}`", "shape", asked, amount * steps[asked])
    for factor, values in list(FACTORS.items())[1:]:
        asked = (before[factor] + 1) % len(values)
        told = (run.label_names, run.attributes)
        steps = torch.stack([styles.direction(sampler, f"{factor}={value}", *told).step for value in values])
        row(f"{factor}, own to another", factor, asked, steps[asked] - steps[before[factor]])
        row(f"{factor}, `edit --amount 1.5`", factor, asked, 1.5 * steps[asked])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", default="100k")
    parser.add_argument("--size", default="xs")
    parser.add_argument("--together", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder, read = given.out / "sprites", Reader()
    if not folder.is_dir():
        drawn(folder, given.together)
    data = tl.open_data(folder)
    truth = {"shape": data.conditions["label"][:, 0]}
    right = float((read(data.x[:2000])["shape"] == truth["shape"][:2000]).mean())
    begun = time.perf_counter()
    place = given.out / f"run-{given.budget}-{given.seed}"
    tl.train(data, model="stylegan", size=given.size, budget=given.budget, seed=given.seed, out=place)
    print(f"{time.perf_counter() - begun:.0f} s; shapes read right off real sprites: {right:.1%}")
    print("| | as asked | others as before (in order) | all the rest |\n|---|---|---|---|")
    for name, (hit, *kept) in rows_of(tl.load(place), read):
        each = ", ".join(f"{share:.3f}" for share in kept)
        print(f"| {name} | {hit:.3f} | {each} | {np.mean(kept):.3f} |")


if __name__ == "__main__":
    main()
