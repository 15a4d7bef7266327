"""Encoders and decoders whose codes lie on a smaller grid, so that a second model can learn them as it learns pictures.

Residual blocks with group normalisation at every resolution, a patch stem, strided steps: the encoder of latent
diffusion (Rombach et al. 2022) in a form that is fast on CPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    padded_grid,
    to_patches,
)


class Block(nn.Module):
    """Residual block of two normalised convolutions, the last one starting at zero."""

    def __init__(self, channels: int, dims: int, network: Network):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(channels), GroupNorm(channels)
        self.conv1 = initialise(convolution(dims, channels, channels))
        self.conv2 = initialise(convolution(dims, channels, channels), 0.0)
        self.dropout = nn.Dropout(network.dropout)
        self.activation = ACTIVATIONS[network.activation]

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.activation(self.norm1(x)))
        return x + self.conv2(self.dropout(self.activation(self.norm2(h))))


def factor_of(network: Network) -> int:
    """How many times fewer places a side the codes have."""
    return network.patch * 2 ** (len(network.multipliers) - 1)


def code_grid(grid: tuple[int, ...], network: Network) -> tuple[int, ...]:
    """The grid of the codes of examples on this grid."""
    factor = factor_of(network)
    return tuple(side // factor for side in padded_grid(grid, factor))


class GridEncoder(nn.Module):
    """(B, channels, *grid) -> (B, outputs, *code_grid)."""

    def __init__(self, channels: int, outputs: int, dims: int, network: Network):
        super().__init__()
        self.patch, self.multiple = network.patch, factor_of(network)
        widths = [network.width * m for m in network.multipliers]
        self.enter = initialise(convolution(dims, channels * self.patch**dims, widths[0]))
        self.layers = nn.ModuleList()
        for level, width in enumerate(widths):
            self.layers.extend(Block(width, dims, network) for _ in range(network.depth))
            if level < len(widths) - 1:
                self.layers.append(initialise(convolution(dims, width, widths[level + 1], 2, stride=2)))
        self.norm = GroupNorm(widths[-1])
        self.leave = initialise(convolution(dims, widths[-1], outputs))
        self.activation = ACTIVATIONS[network.activation]
        channels_last(self, dims)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(to_patches(pad_to(x, self.multiple), self.patch))
        for layer in self.layers:
            h = layer(h)
        return self.leave(self.activation(self.norm(h)))


class GridDecoder(nn.Module):
    """(B, codes, *code_grid) -> (B, channels, *grid), a mirror of `GridEncoder`."""

    def __init__(self, codes: int, channels: int, grid: tuple[int, ...], network: Network):
        super().__init__()
        dims, self.patch, self.grid = len(grid), network.patch, tuple(grid)
        widths = [network.width * m for m in network.multipliers][::-1]
        self.enter = initialise(convolution(dims, codes, widths[0]))
        self.blocks, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.blocks.append(nn.ModuleList(Block(width, dims, network) for _ in range(network.depth)))
            if level < len(widths) - 1:
                self.grow.append(initialise(convolution(dims, width, widths[level + 1] * 2**dims, 1)))
        self.norm = GroupNorm(widths[-1])
        self.leave = initialise(convolution(dims, widths[-1], channels * self.patch**dims), 0.5)
        self.activation = ACTIVATIONS[network.activation]
        channels_last(self, dims)

    def forward(self, codes: Tensor) -> Tensor:
        h = self.enter(codes)
        if h.dim() == 4:
            h = h.contiguous(memory_format=torch.channels_last)
        for level, blocks in enumerate(self.blocks):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h)
            if level < len(self.grow):
                h = from_patches(self.grow[level](h), 2)
        out = self.leave(self.activation(self.norm(h)))
        return crop_to(from_patches(out, self.patch), self.grid)
