"""A transformer on n-dimensional grids (Peebles & Xie 2023): attention over patches, steered by the embedding.

Each block's two branches are scaled, shifted and gated by the embedding, all gates 0 at the start (adaLN-zero). Places
are told by rotating queries and keys, a share of the channels for each axis (Su et al. 2021), and by a learned vector
each; queries and keys are normalised, so that no attention grows without bounds (Henry et al. 2020).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.config import SIZES
from trilemma.errors import InputError
from trilemma.maths.precision import wide
from trilemma.networks.layers import (
    ACTIVATIONS,
    Network,
    crop_to,
    from_patches,
    initialise,
    pad_to,
    padded_grid,
    to_patches,
)

HEAD = 32  # channels of one attention head
FEW = (
    256  # places up to which attention written out is the faster one on CPUs: the fused kernel's backward is slow there
)
PLACES = (64, 64, 256, 256, 256)  # by the size dial: patches are as large as it takes to have no more of them
WIDTHS = (64, 128, 192, 256, 384)
DEPTHS = (3, 6, 8, 10, 12)


def transformer_settings(grid: tuple[int, ...], size: str) -> dict[str, Any]:
    """Dotted settings of a transformer for this grid by the size dial."""
    number, patch = SIZES.index(size), 1
    while math.prod(-(-side // patch) for side in grid) > PLACES[number]:
        patch *= 2
    return {
        "network.kind": "transformer",
        "network.width": WIDTHS[number],
        "network.depth": DEPTHS[number],
        "network.patch": patch,
    }


def rotations(grid: tuple[int, ...], channels: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (places, channels / 2) by which pairs of channels turn: an equal share of them for each axis.

    From 1 radian a place down to a quarter of a turn over the whole axis; pairs that are left over do not turn.
    """
    pairs, share = channels // 2, channels // 2 // len(grid)
    angles = torch.zeros(*grid, pairs)
    for axis, side in enumerate(grid):
        slowest = min(math.pi / (2 * side), 1.0)
        speeds = torch.logspace(0, math.log10(slowest), share) if share > 1 else torch.ones(share)
        place = torch.arange(side).reshape([side if k == axis else 1 for k in range(len(grid))] + [1])
        angles[..., axis * share : (axis + 1) * share] = place * speeds
    angles = angles.flatten(0, -2)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, heads, places, channels): the first half of the channels and the second are the two sides of the pairs."""
    one, two = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, heads, places, channels) queries, keys and values -> (B, places, heads * channels); mask: True is seen."""
    if q.is_cuda or max(q.shape[2], k.shape[2]) > FEW:
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    else:
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        weights = weights if mask is None else weights.masked_fill(~mask, -math.inf)
        mixed = weights.softmax(-1) @ v
    return mixed.transpose(1, 2).flatten(2)


class Normalised(nn.Module):
    """Queries or keys of length 1 times one learned number for each channel, computed in float32 at least."""

    def __init__(self, channels: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (functional.rms_norm(wide(x), (x.shape[-1],), eps=1e-6) * self.gain).to(x.dtype)


class Attention(nn.Module):
    """Attention with normalised queries and keys: over the places themselves, or over `context` wide tokens."""

    def __init__(self, width: int, context: int = 0):
        super().__init__()
        if width % 2:
            raise InputError(f"setting network.width={width}: a transformer's is even, as pairs of channels turn")
        self.heads = max(width // HEAD, 1)
        while width % self.heads or width // self.heads % 2:
            self.heads -= 1
        self.ask = initialise(nn.Linear(width, width))
        self.tell = initialise(nn.Linear(context or width, 2 * width))
        self.norm_q, self.norm_k = (Normalised(width // self.heads) for _ in range(2))
        self.out = initialise(nn.Linear(width, width), 0.0 if context else 1.0)

    def forward(
        self, x: Tensor, turns: tuple[Tensor, Tensor] | None, tokens: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(B, places, width) -> the same; `turns` of the places, or `tokens` (B, n, context) and their mask (B, n)."""
        q = self.ask(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        told = self.tell(x if tokens is None else tokens)
        k, v = told.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.norm_q(q), self.norm_k(k)
        if turns is not None:
            q, k = rotated(q, *turns), rotated(k, *turns)
        return self.out(attend(q, k, v, None if mask is None else mask[:, None, None]))


class Block(nn.Module):
    """Attention and two layers, each scaled, shifted and gated by the embedding; between them text, where there is."""

    def __init__(self, width: int, *, embedding: int, activation: str, dropout: float, context: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.film = initialise(nn.Linear(embedding, 6 * width), 0.0)
        self.attention = Attention(width)
        self.norm_read = nn.LayerNorm(width, eps=1e-6) if context else None
        self.read = Attention(width, context) if context else None
        self.widen, self.narrow = initialise(nn.Linear(width, 4 * width)), initialise(nn.Linear(4 * width, width))
        self.activation, self.dropout = ACTIVATIONS[activation], nn.Dropout(dropout)

    def forward(
        self, x: Tensor, embedding: Tensor, turns: tuple[Tensor, Tensor], tokens: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.film(embedding).unsqueeze(1).chunk(6, -1)
        x = x + gate1 * self.attention(torch.addcmul(shift1, self.norm1(x), 1 + scale1), turns)
        if self.read is not None and self.norm_read is not None:
            x = x + self.read(self.norm_read(x), None, tokens, mask)
        h = self.widen(torch.addcmul(shift2, self.norm2(x), 1 + scale2))
        return x + gate2 * self.narrow(self.dropout(self.activation(h)))


class Transformer(nn.Module):
    """(B, channels, *grid) and an embedding (B, E) -> (B, outputs, *grid), for any grid of 1 to 3 dimensions.

    context: width of tokens (B, n, context) that it also reads, where it is told some; 0: none.
    """

    cos: Tensor
    sin: Tensor

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
        dims, width, self.patch = len(grid), network.width, network.patch
        self.coarse = tuple(side // self.patch for side in padded_grid(grid, self.patch))
        self.enter = initialise(nn.Linear(channels * self.patch**dims, width))
        self.places = nn.Parameter(torch.randn(math.prod(self.coarse), width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(
                width, embedding=embedding, activation=network.activation, dropout=network.dropout, context=context
            )
            for _ in range(network.depth)
        )  # fmt: skip
        # One token that is always there: an example without text has something to look at.
        self.nothing = nn.Parameter(torch.randn(1, context) * 0.02) if context else None
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.film = initialise(nn.Linear(embedding, 2 * width), 0.0)
        self.leave = initialise(nn.Linear(width, outputs * self.patch**dims), 0.0)
        cos, sin = rotations(self.coarse, width // self.blocks[0].attention.heads)  # type: ignore[union-attr,operator,arg-type]
        # Functions of the grid: nothing to save.
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, x: Tensor, embedding: Tensor, tokens: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Tensor:
        grid = x.shape[2:]
        h = to_patches(pad_to(x, self.patch), self.patch).flatten(2).transpose(1, 2)  # (B, places, C)
        h = self.enter(h) + self.places
        if self.nothing is not None:
            tokens, token_mask = self.with_nothing(len(x), tokens, token_mask)
        for block in self.blocks:
            h = block(h, embedding, (self.cos, self.sin), tokens, token_mask)
        scale, shift = self.film(embedding).unsqueeze(1).chunk(2, -1)
        out = self.leave(torch.addcmul(shift, self.norm(h), 1 + scale))
        return crop_to(from_patches(out.transpose(1, 2).unflatten(2, self.coarse), self.patch), grid)

    def with_nothing(self, count: int, tokens: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The tokens (B, n + 1, context) with the one that is always there in front, and their mask (B, n + 1)."""
        assert self.nothing is not None
        first = self.nothing.expand(count, 1, -1)
        if tokens is None:
            return first, None
        mask = None if mask is None else functional.pad(mask, (1, 0), value=True)
        return torch.cat([first.to(tokens.dtype), tokens], 1), mask
