"""Convolutional encoders and decoders on n-dimensional grids, for autoencoders and GANs.

No normalisation: residual branches start at zero (fix-up, Zhang et al. 2019), so that depth costs no stability and
gradient penalties differentiate cleanly through every layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.networks.layers import (
    ACTIVATIONS,
    CONVOLUTIONS,
    Network,
    channels_last,
    convolution,
    crop_to,
    from_patches,
    initialise,
    pad_to,
    padded_grid,
    to_patches,
)


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), the last convolution starting at zero; optionally modulated by a vector."""

    def __init__(self, channels: int, dims: int, *, activation: str, style: int = 0, dropout: float = 0.0):
        super().__init__()
        self.conv1 = initialise(convolution(dims, channels, channels), math.sqrt(2))
        self.conv2 = initialise(convolution(dims, channels, channels), 0.0)
        self.style = initialise(nn.Linear(style, 2 * channels), 0.5) if style else None
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.ones = (1,) * dims

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        h = self.conv1(self.activation(x))
        if self.style is not None and style is not None:
            scale, shift = self.style(style).unflatten(1, (2, -1, *self.ones)).unbind(1)
            h = torch.addcmul(shift, h, 1 + scale)
        return x + self.conv2(self.dropout(self.activation(h)))


class Down(nn.Module):
    """Encoder or critic body: (B, channels, *grid) -> (B, features) by strided convolutions and residual blocks."""

    def __init__(self, channels: int, features: int, grid: tuple[int, ...], network: Network, *, condition: int = 0):
        super().__init__()
        dims, self.patch = len(grid), network.patch
        widths = [network.width * m for m in network.multipliers]
        self.multiple = network.patch * 2 ** (len(widths) - 1)
        self.enter = initialise(convolution(dims, channels * self.patch**dims, widths[0]))
        self.layers = nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(network.depth):
                self.layers.append(
                    Residual(width, dims, activation=network.activation, style=condition, dropout=network.dropout)
                )
            if level < len(widths) - 1:
                self.layers.append(initialise(convolution(dims, width, widths[level + 1], 2, stride=2)))
        coarse = [side // self.multiple for side in padded_grid(grid, self.multiple)]
        self.leave = initialise(nn.Linear(widths[-1] * math.prod(coarse), features))
        self.activation = ACTIVATIONS[network.activation]
        channels_last(self, dims)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.leave(self.levels(x, condition)[-1].flatten(1))

    def levels(self, x: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """(B, width, *grid) activated, before each halving of the grid and at its end."""
        found, h = [], self.enter(to_patches(pad_to(x, self.multiple), self.patch))
        for layer in self.layers:
            if isinstance(layer, Residual):
                h = layer(h, condition)
            else:
                found.append(h)
                h = layer(h)
        return [self.activation(each) for each in [*found, h]]


class Up(nn.Module):
    """Decoder or generator: (B, codes) -> (B, channels, *grid), a mirror of `Down`; `style` modulates every block."""

    def __init__(self, codes: int, channels: int, grid: tuple[int, ...], network: Network, *, style: int = 0):
        super().__init__()
        dims, self.patch, self.grid = len(grid), network.patch, tuple(grid)
        widths = [network.width * m for m in network.multipliers][::-1]
        multiple = network.patch * 2 ** (len(widths) - 1)
        self.coarse = [side // multiple for side in padded_grid(grid, multiple)]
        self.enter = initialise(nn.Linear(codes, widths[0] * math.prod(self.coarse)))
        self.layers = nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(network.depth):
                self.layers.append(
                    Residual(width, dims, activation=network.activation, style=style, dropout=network.dropout)
                )
            if level < len(widths) - 1:
                self.layers.append(initialise(convolution(dims, width, widths[level + 1] * 2**dims, 1)))
        self.leave = initialise(convolution(dims, widths[-1], channels * self.patch**dims), 0.7)
        self.activation = ACTIVATIONS[network.activation]
        self.first = widths[0]
        channels_last(self, dims)

    def forward(self, codes: Tensor, style: Tensor | None = None) -> Tensor:
        h = self.enter(codes).unflatten(1, (self.first, *self.coarse))
        if len(self.coarse) == 2:
            h = h.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            h = layer(h, style) if isinstance(layer, Residual) else from_patches(layer(h), 2)
        return crop_to(from_patches(self.leave(self.activation(h)), self.patch), self.grid)


def pooled(x: Tensor, factor: int) -> Tensor:
    """Mean over blocks of the grid; sides that do not divide are padded by their edge."""
    pools = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
    return pools[x.dim() - 2](pad_to(x, factor), factor)


class Critic(nn.Module):
    """Critic body: strided convolutions down to about 4 places a side, then one learned pattern a channel (R3GAN).

    Few, large operations and no normalisation: a gradient penalty differentiates through every one of them twice.
    """

    def __init__(self, channels: int, features: int, grid: tuple[int, ...], network: Network):
        super().__init__()
        dims, self.patch = len(grid), network.patch
        here, sides = network.width, [side // network.patch for side in padded_grid(grid, network.patch)]
        self.enter = initialise(convolution(dims, channels * self.patch**dims, here))
        self.layers = nn.ModuleList()
        # At least once, small as the grid may be: with one layer of its own the critic tells next to nothing.
        while max(sides) > 4 or (not self.layers and max(sides) > 1):
            wider = min(2 * here, 4 * network.width)
            # An axis that has shrunk to one place stays as it is.
            size, stride, padding = zip(*((4, 2, 1) if side > 1 else (1, 1, 0) for side in sides), strict=True)
            halve: Any = CONVOLUTIONS[dims]
            halve = halve(here, wider, size, stride=stride, padding=padding)
            self.layers.append(initialise(halve, math.sqrt(2)))
            settings: dict[str, Any] = {"activation": network.activation, "dropout": network.dropout}
            self.layers.extend(Residual(wider, dims, **settings) for _ in range(network.depth - 1))
            here, sides = wider, [max(side // 2, 1) for side in sides]
        self.basis = nn.Parameter(torch.randn(math.prod(sides), here) / math.sqrt(math.prod(sides)))
        self.leave = initialise(nn.Linear(here, features))
        self.activation = ACTIVATIONS[network.activation]
        channels_last(self, dims)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(to_patches(pad_to(x, self.patch), self.patch))
        for layer in self.layers:
            h = layer(h) if isinstance(layer, Residual) else layer(self.activation(h))
        h = self.activation(h)
        # Places before channels: the layout that the convolutions left in memory, forward and backward.
        return self.leave((h.movedim(1, -1).flatten(1, -2) * self.basis).sum(1))
