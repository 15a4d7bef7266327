"""Noise as a pure function of (seed, index, draw number).

Every random number of a method comes from here through a batch or a request. It does not depend on batch size,
micro-batch, rank, device or order: that one rule gives exact resume, and image i depends on (seed, i) alone.
The generator is Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), one stream per example.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Noise:
    """Numbered draws for a set of examples; each call takes the next draw number, the same for every example."""

    def __init__(self, seed: int, index: Tensor | np.ndarray, device: torch.device | str = "cpu", *, draw: int = 0):
        self.seed = int(seed) % 2**64
        self.index = np.asarray(index, dtype=np.uint64)
        self.device = torch.device(device)
        self.draw = draw

    def __len__(self) -> int:
        return len(self.index)

    def _generators(self) -> list[np.random.Generator]:
        draw, self.draw = self.draw, self.draw + 1
        # The low counter word is left to the stream itself: 2^64 blocks for each (seed, index, draw).
        key = np.array([self.seed, draw], dtype=np.uint64)
        bits = [np.random.Philox(key=key, counter=np.array([0, 0, i, 0], dtype=np.uint64)) for i in self.index]
        return [np.random.Generator(b) for b in bits]

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal float32."""
        out = np.empty((len(self), *(shape or (1,))), dtype=np.float32)
        for row, generator in zip(out, self._generators(), strict=True):
            generator.standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(out if shape else out[:, 0]).to(self.device, non_blocking=True)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) uniform float32 in [0, 1)."""
        rows = [generator.random(shape, dtype=np.float32) for generator in self._generators()]
        return torch.from_numpy(np.asarray(rows, dtype=np.float32)).to(self.device, non_blocking=True)

    def spread(self) -> Tensor:
        """(B,) in [0, 1) that fill the interval evenly over neighbouring indices: the additive golden-ratio sequence.

        Still a function of (seed, index) alone; noise levels drawn so make losses less noisy than independent ones.
        """
        start = np.random.Generator(np.random.Philox(key=np.array([self.seed, 2**64 - 1], dtype=np.uint64))).random()
        places = (start + self.index.astype(np.float64) * 0.6180339887498949) % 1.0
        return torch.from_numpy(places.astype(np.float32)).clamp(1e-6, 1 - 1e-6).to(self.device)

    def integers(self, below: int, *shape: int) -> Tensor:
        """(B, *shape) whole numbers in [0, below)."""
        rows = [generator.integers(below, size=shape) for generator in self._generators()]
        return torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self.device)


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which epoch number `epoch` visits `count` examples."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, 2**63 + epoch], dtype=np.uint64))).permutation(count)
