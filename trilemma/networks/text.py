"""Networks that read captions: a small transformer over tokens, and attention from places of a grid to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.borrowed import Encoder, Table
from trilemma.networks.layers import GroupNorm, initialise

HEAD = 32  # channels of an attention head


def heads_of(width: int) -> int:
    """As many heads of about `HEAD` channels as divide the width."""
    heads = max(width // HEAD, 1)
    while width % heads:
        heads -= 1
    return heads


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, heads: int) -> Tensor:
    """(B, N, C) queries over (B, L, C) keys and values, of which `mask` (B, L) are there.

    Written out: for few places the fused kernel's backward is many times slower on CPUs.
    """

    def split(one: Tensor) -> Tensor:
        return one.unflatten(2, (heads, -1)).transpose(1, 2)

    q, k, v = split(q), split(k), split(v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask.unflatten(1, (1, 1, -1)), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each after its normalisation (Vaswani et al. 2017; Xiong et al. 2020)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = heads_of(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = initialise(nn.Linear(width, 3 * width))
        self.out = initialise(nn.Linear(width, width), 0.5)
        self.rise = initialise(nn.Linear(width, 4 * width))
        self.fall = initialise(nn.Linear(4 * width, width), 0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, 2)
        x = x + self.out(attend(q, k, v, mask, self.heads))
        return x + self.fall(functional.gelu(self.rise(self.norm2(x))))


class TextTower(nn.Module):
    """(B, L) tokens, L <= length, 0 behind the end -> (B, L, width) of each and (B, width) of the whole caption."""

    def __init__(self, count: int, length: int, width: int, depth: int = 2, *, vectors: Table | Encoder | None = None):
        """vectors: of the tokens, by what others bring, which stays as it is; without, each token's is learned."""
        super().__init__()
        self.vectors = vectors  # not among the weights of a run
        self.places = nn.Parameter(torch.randn(length, width) * 0.3)
        if vectors is None:
            self.embedding = nn.Embedding(count, width)
            nn.init.normal_(self.embedding.weight, std=1.0)
        else:
            self.enter = initialise(nn.Linear(vectors.width, width))
        self.layers = nn.ModuleList(Layer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, forgotten: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """forgotten (B, L): tokens that are not read."""
        whole = tokens
        tokens = tokens if forgotten is None else torch.where(forgotten, 0, tokens)
        mask = tokens > 0
        # A caption without a token attends to its first place, padding: no row of the softmax may be empty.
        first = torch.zeros_like(mask)
        first[:, 0] = True
        mask = mask | (first & ~mask.any(1, keepdim=True))
        if self.vectors is None:
            x = self.embedding(tokens)
        else:
            x = self.enter((self.vectors(whole) * (tokens > 0).unsqueeze(2)).to(self.places.dtype))
        x = x + self.places[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        weight = mask.unsqueeze(2).to(x.dtype)
        return x, (x * weight).sum(1) / weight.sum(1)


class CrossAttention(nn.Module):
    """Places of a grid look at the tokens of a caption (Rombach et al. 2022, section 3.3)."""

    def __init__(self, channels: int, context: int):
        super().__init__()
        self.heads = heads_of(channels)
        self.norm = GroupNorm(channels)
        self.q = initialise(nn.Linear(channels, channels))
        self.kv = initialise(nn.Linear(context, 2 * channels))
        self.out = initialise(nn.Linear(channels, channels), 0.0)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        places = self.norm(x).flatten(2).transpose(1, 2)  # (B, places, C)
        k, v = self.kv(tokens).chunk(2, 2)
        mixed = attend(self.q(places), k, v, mask, self.heads)
        return x + self.out(mixed).transpose(1, 2).unflatten(2, x.shape[2:])
