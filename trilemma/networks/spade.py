"""A generator that hears of its source in every normalisation, at that very place (Park et al. 2019, "SPADE").

A normalisation washes a flat region of a map away; scaling and shifting by the map behind it brings it back. So there
is no encoder: coarse features of the map and a code are grown, level by level. On grids of 1 to 3 dimensions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.networks.layers import (
    ACTIVATIONS,
    GroupNorm,
    Network,
    channels_last,
    convolution,
    crop_to,
    from_patches,
    initialise,
    pad_to,
    to_patches,
)

POOLS: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class Adaptive(nn.Module):
    """Normalisation whose scale and shift are made of the source at each place (their eq. 1 and figure 2)."""

    def __init__(self, width: int, source: int, hidden: int, dims: int, activation: str):
        super().__init__()
        self.norm = nn.GroupNorm(GroupNorm(width).num_groups, width, affine=False)
        self.look = initialise(convolution(dims, source, hidden))
        self.film = initialise(convolution(dims, hidden, 2 * width), 0.3)
        self.activation = ACTIVATIONS[activation]

    def forward(self, h: Tensor, source: Tensor) -> Tensor:
        scale, shift = self.film(self.activation(self.look(source))).chunk(2, 1)
        return torch.addcmul(shift, self.norm(h), 1 + scale)


class AdaptiveBlock(nn.Module):
    """Residual block of two convolutions behind adaptive normalisations; shifted per channel by the embedding."""

    def __init__(self, width: int, source: int, hidden: int, dims: int, *, embedding: int, network: Network):
        super().__init__()
        kind = network.activation
        self.norm1, self.norm2 = (Adaptive(width, source, hidden, dims, kind) for _ in range(2))
        self.conv1 = initialise(convolution(dims, width, width))
        self.conv2 = initialise(convolution(dims, width, width), 0.0)
        self.shift = initialise(nn.Linear(embedding, width), 0.3)
        self.dropout = nn.Dropout(network.dropout)
        self.activation = ACTIVATIONS[kind]
        self.ones = (1,) * dims

    def forward(self, h: Tensor, source: Tensor, embedding: Tensor) -> Tensor:
        inner = self.conv1(self.activation(self.norm1(h, source)))
        inner = inner + self.shift(embedding).unflatten(1, (-1, *self.ones))
        return h + self.conv2(self.dropout(self.activation(self.norm2(inner, source))))


class SpadeGenerator(nn.Module):
    """(B, channels, *grid) and an embedding (B, E) -> (B, outputs, *grid): from the coarsest grid upwards.

    The finest level sees the source whole, as patches; each coarser one the mean of four places of the one before: of
    planes of classes the shares.
    """

    def __init__(self, channels: int, outputs: int, grid: tuple[int, ...], network: Network, *, embedding: int):
        super().__init__()
        dims, self.patch = len(grid), network.patch
        widths = [network.width * m for m in network.multipliers]
        self.multiple, self.pool = network.patch * 2 ** (len(widths) - 1), POOLS[dims]
        planes, hidden = channels * self.patch**dims, max(network.width // 2, 16)
        self.narrow = initialise(convolution(dims, planes, hidden, 1))  # many classes, few kinds of places
        self.enter = initialise(convolution(dims, hidden, widths[-1]))
        self.code = initialise(nn.Linear(embedding, widths[-1]))
        self.levels, self.grow = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.levels.append(
                nn.ModuleList(
                    AdaptiveBlock(width, hidden, hidden, dims, embedding=embedding, network=network)
                    for _ in range(network.depth)
                )
            )
        for fine, coarse in pairwise(widths):
            self.grow.append(initialise(convolution(dims, coarse, fine * 2**dims, 1)))
        self.leave_norm = Adaptive(widths[0], hidden, hidden, dims, network.activation)
        self.leave = initialise(convolution(dims, widths[0], outputs * self.patch**dims))
        self.activation = ACTIVATIONS[network.activation]
        self.ones = (1,) * dims
        channels_last(self, dims)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        sources = [self.narrow(to_patches(pad_to(x, self.multiple), self.patch))]
        for _ in self.grow:
            sources.append(self.pool(sources[-1], 2))
        h = self.enter(sources[-1]) + self.code(embedding).unflatten(1, (-1, *self.ones))
        for level in reversed(range(len(self.levels))):
            for layer in cast(nn.ModuleList, self.levels[level]):
                h = layer(h, sources[level], embedding)
            if level > 0:
                h = from_patches(self.grow[level - 1](h), 2)
        out = self.leave(self.activation(self.leave_norm(h, sources[0])))
        return crop_to(from_patches(out, self.patch), x.shape[2:])
