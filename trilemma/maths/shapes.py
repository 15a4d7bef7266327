"""The only helpers that know where the example axis is, so that any number of grid dimensions runs through one code."""

from __future__ import annotations

from typing import overload

import torch


@overload
def expand(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor: ...
@overload
def expand(t: float, x: torch.Tensor) -> float: ...
def expand(t: torch.Tensor | float, x: torch.Tensor) -> torch.Tensor | float:
    """Give per-example scalars (B,) (or one 0-d value) trailing axes, so that they broadcast over x (B, C, *grid)."""
    if not isinstance(t, torch.Tensor):
        return t  # a Python number broadcasts already, and unlike a tensor keeps its 64 bits
    return t.reshape(t.shape + (1,) * (x.dim() - t.dim()))


def mean_per_example(x: torch.Tensor) -> torch.Tensor:
    """Mean over everything but the first axis: (B, ...) -> (B,)."""
    return x.reshape(len(x), -1).mean(1)


def sum_per_example(x: torch.Tensor) -> torch.Tensor:
    """Sum over everything but the first axis: (B, ...) -> (B,)."""
    return x.reshape(len(x), -1).sum(1)
