"""Read images as NumPy arrays: a folder of the four IDX files of Fashion-MNIST (plain or gzipped), or an `.npz`."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path) -> np.ndarray:
    """Return the unsigned bytes of one IDX file, in the shape that its header states."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dimensions = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_split(source: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes (N, H, W) or (N, H, W, 3) and labels (N,) of the split 'train' or 'test'.

    An `.npz` holds x_train, y_train, x_test and y_test.
    """
    if Path(source).suffix == ".npz":
        with np.load(source, allow_pickle=False) as arrays:
            return arrays[f"x_{split}"], arrays[f"y_{split}"]
    arrays = []
    for name in NAMES[split]:
        found = [path for path in (Path(source) / name, Path(source) / f"{name}.gz") if path.exists()]
        if not found:
            raise SystemExit(f"{source} has no {name}[.gz]: --data must name the folder of the four IDX files")
        arrays.append(read_idx(found[0]))
    return arrays[0], arrays[1]


def as_planes(images: np.ndarray) -> np.ndarray:
    """Return bytes (N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
