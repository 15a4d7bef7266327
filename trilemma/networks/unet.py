"""A U-Net on n-dimensional grids (Ronneberger et al. 2015, with the residual blocks of Ho et al. 2020).

Built for CPUs as well as GPUs: a patch stem moves the work to few places with many channels, all feature maps stay
channels-last, and a block is two large convolutions with as few passes over memory as possible.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from trilemma.config import SIZES
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
    resolutions,
    to_patches,
)
from trilemma.networks.text import CrossAttention


def unet_settings(grid: tuple[int, ...], size: str) -> dict[str, Any]:
    """Dotted settings of a U-Net for this grid by the size dial, all but its depth."""
    patch, levels = resolutions(grid, 16, 32)
    return {
        "network.width": (32, 64, 96, 128, 192)[SIZES.index(size)],
        "network.multipliers": (1, 2, 2, 3)[:levels],
        "network.patch": patch,
    }


class Block(nn.Module):
    """Residual block: two convolutions, scaled and shifted per channel by the embedding."""

    def __init__(self, inputs: int, outputs: int, dims: int, *, embedding: int, activation: str, dropout: float):
        super().__init__()
        self.norm1 = GroupNorm(inputs)
        self.conv1 = initialise(convolution(dims, inputs, outputs))
        self.film = initialise(nn.Linear(embedding, 2 * outputs), 0.0)
        self.norm2 = GroupNorm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = initialise(convolution(dims, outputs, outputs), 0.0)
        self.skip = nn.Identity() if inputs == outputs else initialise(convolution(dims, inputs, outputs, 1))
        self.activation = ACTIVATIONS[activation]
        self.ones = (1,) * dims

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(self.activation(self.norm1(x)))
        scale, shift = self.film(embedding).unflatten(1, (2, -1, *self.ones)).unbind(1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.skip(x) + self.conv2(self.dropout(self.activation(h)))


class Attention(nn.Module):
    """Self-attention over the places of a coarse grid, 32 channels a head (Vaswani et al. 2017)."""

    def __init__(self, channels: int, dims: int):
        super().__init__()
        self.heads = max(channels // 32, 1)
        while channels % self.heads:
            self.heads -= 1
        self.norm = GroupNorm(channels)
        self.qkv = initialise(nn.Linear(channels, 3 * channels))
        self.out = initialise(nn.Linear(channels, channels), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, places, C)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Written out: for the few places of a coarse grid the fused kernel's backward is many times slower on CPUs.
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        return x + self.out(mixed).transpose(1, 2).unflatten(2, x.shape[2:])


MOST_PLACES = 256  # of a grid that looks at itself, or at a caption


class UNet(nn.Module):
    """(B, channels, *grid) and an embedding (B, E) -> (B, outputs, *grid), for any grid of 1 to 3 dimensions.

    context: the width of tokens (B, length, context), such as a caption's, that its coarse grids look at; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        grid: tuple[int, ...],
        network: Network,
        *,
        embedding: int,
        context: int = 0,
    ):
        super().__init__()
        dims, self.patch = len(grid), network.patch
        widths = [network.width * m for m in network.multipliers]
        self.multiple = network.patch * 2 ** (len(widths) - 1)

        def block(inputs: int, width: int) -> Block:
            activation, dropout = network.activation, network.dropout
            return Block(inputs, width, dims, embedding=embedding, activation=activation, dropout=dropout)

        self.enter = initialise(convolution(dims, channels * self.patch**dims, widths[0]))
        self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(block(width, width) for _ in range(network.depth)))
            self.up.append(nn.ModuleList(block(width, width) for _ in range(network.depth)))
            if level < len(widths) - 1:
                self.shrink.append(initialise(convolution(dims, width, widths[level + 1], 2, stride=2)))
                self.grow.append(initialise(convolution(dims, widths[level + 1], width * 2**dims, 1)))

        def places(level: int) -> int:
            return math.prod(-(-side // self.multiple) << (len(widths) - 1 - level) for side in grid)

        here = widths[-1]
        self.middle = nn.ModuleList([Attention(here, dims)] if places(len(widths) - 1) <= MOST_PLACES else [])
        # By level, on the way down and up; the coarsest level always has one.
        self.looks, self.looks_again = nn.ModuleDict(), nn.ModuleDict()
        for level, width in enumerate(widths if context else []):
            if places(level) <= MOST_PLACES or level == len(widths) - 1:
                self.looks[str(level)] = CrossAttention(width, context)
                self.looks_again[str(level)] = CrossAttention(width, context)
        here = widths[0]
        self.leave_norm = GroupNorm(here)
        self.leave = initialise(convolution(dims, here, outputs * self.patch**dims), 0.0)
        self.activation = ACTIVATIONS[network.activation]
        channels_last(self, dims)

    def forward(
        self, x: Tensor, embedding: Tensor, tokens: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Tensor:
        grid = x.shape[2:]
        h = self.enter(to_patches(pad_to(x, self.multiple), self.patch))
        skips = []
        for level, blocks in enumerate(self.down):
            for layer in cast(nn.ModuleList, blocks):
                h = layer(h, embedding)
            if tokens is not None and str(level) in self.looks:
                h = self.looks[str(level)](h, tokens, token_mask)
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        for layer in self.middle:
            h = layer(h)
        for level in reversed(range(len(self.up))):
            # Skips are added, not concatenated: half the work of a block, and no convolution to shrink its input.
            h = (h + skips[level]) * 0.5**0.5
            for layer in cast(nn.ModuleList, self.up[level]):
                h = layer(h, embedding)
            if tokens is not None and str(level) in self.looks_again:
                h = self.looks_again[str(level)](h, tokens, token_mask)
            if level > 0:
                h = from_patches(self.grow[level - 1](h), 2)
        out = self.leave(self.activation(self.leave_norm(h)))
        return crop_to(from_patches(out, self.patch), grid)
