"""Whole-number codes: what a quantised autoencoder makes of its encoder's outputs, place by place.

`Levels` rounds a few bounded channels (Mentzer et al. 2024). Gradients pass as if nothing had been rounded. A code's
number is its token; `codes` makes the code of it again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Levels(nn.Module):
    """Fixed levels in -1 ... 1 for each channel: (B, width, *coarse) outputs -> codes of the same shape."""

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        self.levels, self.width, self.count = levels, len(levels), math.prod(levels)

    def _column(self, numbers: list[float], like: Tensor) -> Tensor:
        return torch.tensor(numbers, device=like.device, dtype=like.dtype).reshape(1, -1, *[1] * (like.dim() - 2))

    def reach(self, like: Tensor) -> Tensor:
        """Half of the way from each channel's lowest level to its highest, in steps: a column to fit `like`."""
        return self._column([(count - 1) / 2 for count in self.levels], like)

    def forward(self, out: Tensor) -> Tensor:
        """The nearest levels of bounded outputs (Mentzer et al. 2024, eq. 1)."""
        half = self.reach(out)
        shift = (half * 2 % 2) / 2  # an even number of levels has none in the middle
        bounded = torch.tanh(out) * (half + shift * 0.999) - shift
        return (bounded + (bounded.round() - bounded).detach() + shift) / half

    def nearest(self, codes: Tensor) -> Tensor:
        """Of codes that another model made those that are nearest."""
        half = self.reach(codes)
        return torch.minimum(((codes + 1) * half).round().clamp(min=0), 2 * half) / half - 1

    def tokens(self, codes: Tensor) -> Tensor:
        """(B, width, *coarse) codes -> (B, 1, *coarse) int64 below `count`; the first channel is the lowest digit."""
        digits = ((codes + 1) * self.reach(codes)).round().long()
        strides = [math.prod(self.levels[:place]) for place in range(self.width)]
        return sum(digits[:, place] * stride for place, stride in enumerate(strides)).unsqueeze(1)  # type: ignore[union-attr]

    def codes(self, tokens: Tensor) -> Tensor:
        """(B, 1, *coarse) -> (B, width, *coarse) codes, float32."""
        strides = [math.prod(self.levels[:place]) for place in range(self.width)]
        digits = [tokens // stride % count for stride, count in zip(strides, self.levels, strict=True)]
        found = torch.cat(digits, 1).float()
        return found / self.reach(found) - 1
