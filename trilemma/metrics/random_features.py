"""Features of a fixed random convolutional network: no training, no labels, sees blur and texture."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from trilemma.metrics.protocol import fingerprint

SCALES = 3
COARSE = 2  # cells per side in which the last responses are averaged: where things are
CHUNK_VALUES = 2_000_000
OPERATIONS: dict[int, tuple[Callable[..., torch.Tensor], ...]] = {  # convolution, pooling by size, pooling into cells
    1: (functional.conv1d, functional.avg_pool1d, functional.adaptive_avg_pool1d),
    2: (functional.conv2d, functional.avg_pool2d, functional.adaptive_avg_pool2d),
    3: (functional.conv3d, functional.avg_pool3d, functional.adaptive_avg_pool3d),
}


class RandomFeatures:
    """A random convolutional network, fixed by its seed and standardised by a reference set.

    `RandomFeatures(reference)(x)`: x (N, C, *grid) with a grid of 0 to 3 dimensions -> features (N, D) in float64.
    Each of up to three scales (halved by mean pooling) gives its rectified responses to random filters, averaged over
    the grid; three quarters of the filters have no mean, so that they see edges and grain only. A second layer on the
    coarsest scale, averaged in 2 cells per side, says where things are. Each group is divided by its deviation over
    the reference, otherwise fine grain would vanish beside broad light and shade. Without a grid the features are
    the values themselves, each standardised by the reference. `hash` fixes weights and standardisation.

    Known biases: knows no objects; its distances are not comparable between data sets.
    Source: random filters with pooling, Jarrett et al. 2009; for comparing generators, Naeem et al. 2020, section 4.
    """

    def __init__(self, reference: np.ndarray, *, seed: int = 0, width: int = 64) -> None:
        reference = _checked(reference)
        if width < 4:
            raise ValueError(f"width: {width} is too small; use at least 4")
        self.seed, self.width = seed, width
        self.shape = reference.shape[1:]
        axes = (0, *range(2, reference.ndim))
        self.mean = reference.mean(axes, dtype=np.float64)  # (C,)
        deviation = reference.std(axes, dtype=np.float64)
        self.deviation = np.where(deviation > 1e-12 * (1 + np.abs(self.mean)), deviation, 1.0)
        self.filters: list[torch.Tensor] = []
        self.groups: list[tuple[np.ndarray, float]] = []
        self._draw_filters()
        for responses in self._responses(reference):
            spread = float(np.sqrt(responses.var(0).mean()))
            # Without a grid each value is standardised already.
            self.groups.append((responses.mean(0), spread if spread > 1e-9 and len(self.shape) > 1 else 1.0))
        shifts = [mean for mean, _ in self.groups]
        spreads = np.array([spread for _, spread in self.groups])
        weights = [each.numpy() for each in self.filters]
        self.hash = fingerprint(self.mean, self.deviation, *weights, *shifts, spreads)

    def _draw_filters(self) -> None:
        channels, *grid = self.shape
        # NumPy's generator, because its stream is the same on every platform and version.
        generator = np.random.default_rng(self.seed)
        taps = tuple(3 if side >= 3 else 1 for side in grid)
        self.scales = 0
        sides = list(grid)
        while grid and self.scales < SCALES and (self.scales == 0 or max(sides) >= 4):
            weights = generator.standard_normal((self.width, channels, *taps))
            edges = slice(0, 3 * self.width // 4)
            if math.prod(taps) > 1:
                weights[edges] -= weights[edges].mean(tuple(range(2, weights.ndim)), keepdims=True)
            self.filters.append(torch.from_numpy(weights * (2 / (channels * math.prod(taps))) ** 0.5).float())
            self.scales += 1
            sides = [max(side // 2, 1) for side in sides]
        if grid:
            weights = generator.standard_normal((self.width // 2, self.width, *taps))
            self.filters.append(torch.from_numpy(weights * (2 / (self.width * math.prod(taps))) ** 0.5).float())

    def _responses(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the groups of features (N, width of the group) before their standardisation."""
        standard = (len(self.shape) - 1) * (1,)
        mean, deviation = self.mean.reshape(-1, *standard), self.deviation.reshape(-1, *standard)
        if len(self.shape) == 1:
            return [(x - mean) / deviation]
        convolve, pool, cells = OPERATIONS[len(self.shape) - 1]
        parts: list[list[np.ndarray]] = []
        step = max(1, CHUNK_VALUES // (self.width * math.prod(self.shape[1:])))
        with torch.inference_mode():
            for start in range(0, len(x), step):
                level = torch.from_numpy(((x[start : start + step] - mean) / deviation).astype(np.float32))
                groups = []
                rectified = level
                for scale in range(self.scales):
                    if scale:
                        halves = tuple(2 if side >= 2 else 1 for side in level.shape[2:])
                        level = pool(level, halves)
                    # No padding: a black rim would be an edge in every image.
                    taps = tuple(self.filters[scale].shape[2:])
                    sides = level.shape[2:]
                    padding = tuple(tap // 2 if side < tap else 0 for tap, side in zip(taps, sides, strict=True))
                    rectified = functional.relu(convolve(level, self.filters[scale], padding=padding))
                    groups.append(rectified.flatten(2).mean(2).double().numpy())
                same = tuple(tap // 2 for tap in self.filters[-1].shape[2:])
                second = functional.relu(convolve(rectified, self.filters[-1], padding=same))
                shape = tuple(min(COARSE, side) for side in second.shape[2:])
                groups.append(cells(second, shape).flatten(1).double().numpy())
                parts.append(groups)
        return [np.concatenate(group) for group in zip(*parts, strict=True)]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the features (N, D) of x (N, C, *grid); raises ValueError if it is not of the reference's shape."""
        x = _checked(x)
        if x.shape[1:] != self.shape:
            raise ValueError(f"features were fixed on examples of shape {self.shape}, not {x.shape[1:]}")
        responses = self._responses(x)
        return np.concatenate([(g - mean) / d for g, (mean, d) in zip(responses, self.groups, strict=True)], axis=1)


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if not 2 <= x.ndim <= 5 or min(x.shape) == 0:
        raise ValueError(f"expected shape (count, channels, *grid) with 0 to 3 grid dimensions, got {x.shape}")
    x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError("examples hold values that are not finite")
    return x


def random_features(
    x: np.ndarray, seed: int = 0, width: int = 64, *, reference: np.ndarray | None = None
) -> np.ndarray:
    """Return the random convolutional features (N, D) of x (N, C, *grid), standardised by the reference.

    Without a `reference` x is its own. Give it for samples: two sets standardised each by itself hide what differs.
    """
    return RandomFeatures(x if reference is None else reference, seed=seed, width=width)(x)
