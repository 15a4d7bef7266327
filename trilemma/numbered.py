"""What a model sees of whole numbers that it is told as conditions: which cluster an example is in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trilemma.spaces import Categorical, Space


class Numbered(Space):
    """Whole numbers that a model is told, embedded as tokens are: `numbers` says how."""

    numbers: Categorical

    def embed(self, x: Tensor) -> Tensor:
        return self.numbers.embed(x)

    def decode(self, params: Tensor) -> Tensor:
        return self.numbers.decode(params)

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        return self.numbers.terms(params, x, log_scale=log_scale, likelihood=likelihood)

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        return self.numbers.relax(params, uniform)


class Clusters(Numbered):
    """The number (B, 1) of the nearest of `count` centres: a label that x itself gives, so that nobody has to name it.

    `shares` are those of the training examples.
    """

    centres: Tensor
    shares: Tensor
    SIDE = 8  # places a side, at most, of the coarse x that is compared

    def __init__(self, count: int, size: int):
        super().__init__()
        self.shape, self.width, self.count, self.dtype = (1,), count, count, torch.int64
        self.numbers = Categorical((1,), count)
        self.register_buffer("centres", torch.zeros(count, size))
        self.register_buffer("shares", torch.full((count,), 1 / count))

    def describe(self) -> dict[str, Any]:
        return {"kind": "clusters", "count": self.count, "size": self.centres.shape[1]}

    @classmethod
    def coarse(cls, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embedded x (B, width, *grid) -> (B, D) means over blocks of the grid; what is masked out is 0."""
        x = (x if mask is None else x * mask).float()
        sides = tuple(min(side, cls.SIDE) for side in x.shape[2:])
        return (functional.interpolate(x, sides, mode="area") if sides else x).flatten(1)

    def nearest(self, coarse: Tensor) -> Tensor:
        """(B, D) -> (B, 1), the same whatever stands beside an example in its batch."""
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(coarse, self.centres.float(), compute_mode=exact).argmin(1, keepdim=True)
