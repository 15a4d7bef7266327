"""Make the benchmark's two sets of colour images as `.npz` files: sets.py DATA OUT.

DATA holds `cifar10/` (sheets of 2,000 photographs and labels.npz) and `emoji/` (emoji64.zip, emoji.csv), as
`benchmarks/pairs.py` says of its own. OUT/cifar10.npz has 6,000 photographs for training and 2,000 for judging, with
their classes; OUT/emoji.npz the 1,906 of Twemoji at 32 x 32 pixels with their nine categories, every fifth for judging.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def cifar10(folder: Path) -> dict[str, np.ndarray]:
    """Return x_train, y_train, x_test and y_test of the sheets (50 photographs across, 40 down)."""

    def sheet(name: str) -> np.ndarray:
        pixels = np.asarray(Image.open(folder / f"{name}.webp").convert("RGB"))
        return pixels.reshape(40, 32, 50, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)

    labels = np.load(folder / "labels.npz")
    train = np.concatenate([sheet(f"train_{part}") for part in range(3)])
    return {"x_train": train, "y_train": labels["train"], "x_test": sheet("test_0"), "y_test": labels["test"]}


def emoji(folder: Path) -> dict[str, np.ndarray]:
    """Return x_train, y_train, x_test and y_test of Twemoji, averaged over squares of four pixels."""
    with (folder / "emoji.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["category"] for row in rows})
    images, labels = [], []
    with zipfile.ZipFile(folder / "emoji64.zip") as archive:
        for row in rows:
            picture = Image.open(io.BytesIO(archive.read(f"twemoji/{row['id']}.png"))).convert("RGB")
            images.append(np.asarray(picture.resize((32, 32), Image.Resampling.BOX)))
            labels.append(names.index(row["category"]))
    x, y, judged = np.stack(images), np.array(labels, np.uint8), np.arange(len(images)) % 5 == 4
    return {"x_train": x[~judged], "y_train": y[~judged], "x_test": x[judged], "y_test": y[judged]}


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, make in {"cifar10": cifar10, "emoji": emoji}.items():
        arrays = make(arguments.data / name)
        np.savez(arguments.out / f"{name}.npz", **arrays)
        print(name, {key: value.shape for key, value in arrays.items()})


if __name__ == "__main__":
    main()
