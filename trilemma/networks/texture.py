"""Local energies of fixed random filters: what blur takes away, and what a pixel's error hardly sees.

One layer of random filters is enough to tell textures apart (Ustyuzhaninov et al. 2017); averages of a filter's
magnitude over a few places are its energy there (Heeger & Bergen 1995). Nothing is learned here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FILTERS, SCALES, SEED = 16, 3, 101
CONVOLVE: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
POOL: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class Texture(nn.Module):
    """Embedded data (B, channels, *grid) -> energies (B, FILTERS, *places), one map a scale, the finest first."""

    filters: Tensor

    def __init__(self, channels: int, grid: tuple[int, ...]):
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        filters = torch.randn(FILTERS, channels, *[3] * len(grid), generator=generator).flatten(2)
        filters = filters - filters.mean(2, keepdim=True)  # blind to brightness
        filters = filters / filters.flatten(1).norm(dim=1).reshape(-1, 1, 1)
        self.register_buffer("filters", filters.unflatten(2, [3] * len(grid)), persistent=False)
        self.scales = 1
        while self.scales < SCALES and min(grid) >> self.scales >= 7:
            self.scales += 1

    def forward(self, x: Tensor) -> list[Tensor]:
        dims, energies = x.dim() - 2, []
        for scale in range(self.scales):
            x = POOL[dims](x, 2) if scale else x
            magnitude = CONVOLVE[dims](x, self.filters, padding=1).abs()
            windows = [min(4, side) for side in magnitude.shape[2:]]
            energies.append(POOL[dims](magnitude, windows, [max(window // 2, 1) for window in windows]))
        return energies
