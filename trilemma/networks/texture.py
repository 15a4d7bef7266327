"""Local energies of a bank of small filters: what blur takes away, and what a pixel's error hardly sees.

The mean magnitude of a band-pass filter over a few places is its energy there (Heeger & Bergen 1995). The bank is the
discrete cosine basis of three places a side without its constant, for brightness and each contrast of colours, at up to
three scales: each filter is one band, so that none can make up for another. Nothing is learned here.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.maths.losses import gaussian_nll
from trilemma.maths.precision import wide
from trilemma.maths.shapes import mean_per_example

SCALES = 3
CONVOLVE: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
POOL: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def cosines(count: int) -> Tensor:
    """(count, count) the orthonormal discrete cosine basis (type II), one vector a row, the constant first."""
    places = torch.arange(count, dtype=torch.float64)
    basis = torch.cos(math.pi * places.unsqueeze(1) * (2 * places + 1) / (2 * count)) * math.sqrt(2 / count)
    basis[0] /= math.sqrt(2)
    return basis.float()


class Texture(nn.Module):
    """Embedded data (B, channels, *grid) -> energies (B, count, *places), one map a scale, the finest first."""

    filters: Tensor

    def __init__(self, channels: int, grid: tuple[int, ...]):
        super().__init__()
        mixes, waves = cosines(channels), cosines(3)  # of colours: brightness and contrasts; of places
        bank = []
        for mix, *bands in itertools.product(mixes, *[range(3)] * len(grid)):
            if any(bands):  # blind to brightness
                filtered = mix
                for band in bands:
                    filtered = filtered.unsqueeze(-1) * waves[band]
                bank.append(filtered)
        self.register_buffer("filters", torch.stack(bank), persistent=False)
        self.count = len(bank)
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


def texture_nll(texture: Texture, log_scale: Tensor, x: Tensor, made: Tensor) -> Tensor:
    """-log-likelihood (B,) of the energies of embedded x (B, channels, *grid) under Gaussians around those of `made`.

    log_scale: the learned log deviation, one for all of the texture's scales. With one for each, coarse energies, which
    averages over many places tell exactly, would weigh a hundred times as much as fine ones in long trainings, and
    codes would be spent on them. All scales together count as many elements as x has.
    """
    with torch.no_grad():
        targets = texture(x)
    pairs = zip(texture(made), targets, strict=True)
    terms = [mean_per_example(gaussian_nll(wide(found), wide(target), log_scale)) for found, target in pairs]
    return torch.stack(terms).mean(0) * x[0].numel()
