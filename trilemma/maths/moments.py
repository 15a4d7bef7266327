"""Moments of data that may be larger than memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 22  # numbers that are read at once: 32 MB in float64


def channel_moments(x: Tensor | np.ndarray, rows: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation and largest absolute value of each channel of x (N, C, *grid), or of its `rows`: float64 (C,).

    x is read once, in chunks: it may be mapped from a disk.
    """
    count, channels = (len(x) if rows is None else len(rows)), x.shape[1]
    chunk = max(1, CHUNK // max(1, math.prod(x.shape[1:])))
    seen, largest = 0, torch.zeros(channels, dtype=torch.float64)
    mean, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for start in range(0, count, chunk):
        part = x[start : start + chunk] if rows is None else x[rows[start : start + chunk]]
        part = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
        flat = part.double().transpose(0, 1).reshape(channels, -1)
        largest = torch.maximum(largest, flat.abs().amax(1))
        # Chan et al. 1979: means and sums of squares of two parts joined without cancellation.
        here, gap = flat.shape[1], flat.mean(1) - mean
        squares += (flat - flat.mean(1, keepdim=True)).square().sum(1) + gap.square() * seen * here / (seen + here)
        mean += gap * here / (seen + here)
        seen += here
    return mean, (squares / seen).sqrt(), largest
