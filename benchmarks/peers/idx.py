"""Read the four IDX files of Fashion-MNIST (plain or gzipped) as NumPy arrays."""

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


def read_split(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28) and labels (N,) of the split 'train' or 'test'."""
    arrays = []
    for name in NAMES[split]:
        found = [path for path in (Path(folder) / name, Path(folder) / f"{name}.gz") if path.exists()]
        if not found:
            raise SystemExit(f"{folder} has no {name}[.gz]: --data must name the folder of the four IDX files")
        arrays.append(read_idx(found[0]))
    return arrays[0], arrays[1]
