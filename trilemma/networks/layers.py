"""The few layers that all networks share, for any number of grid dimensions (1 to 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.maths.precision import wide

Kind = Literal["mlp", "conv", "transformer"]
Activation = Literal["silu", "relu", "gelu", "leaky_relu", "tanh"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "tanh": torch.tanh,
}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass
class Network:
    """The shape of a network. `kind` is chosen by the data: mlp for vectors, conv for grids."""

    kind: Kind = "conv"
    width: int = 64  # channels at the finest working resolution (conv) or of a patch (transformer), units (mlp)
    depth: int = 2  # residual blocks a resolution (conv), blocks (transformer), hidden layers (mlp)
    multipliers: tuple[int, ...] = (1, 2)  # conv: of the width, from the finest resolution to the coarsest
    patch: int = 1  # side of the patches that become one place of the finest working resolution
    activation: Activation = "silu"
    dropout: float = 0.0


def resolutions(grid: tuple[int, ...], *limits: int) -> tuple[int, int]:
    """(patch, count) for a convolutional network on this grid: at how many resolutions it works behind its patch stem.

    Two, and one more for each of the limits that its places a side exceed.
    """
    side = max(grid)
    patch = 2 if side >= 16 else 1
    return patch, 2 + sum(side // patch > limit for limit in limits)


class LogScale(nn.Parameter):
    """Learned logarithms of deviations, 0 at first: optimizers give them ten times the rate of weights.

    They weigh the terms of a likelihood, and are right only once they have come down to the errors that are left; Adam
    moves a number by its rate a step, and the errors of a short training fall faster than that.
    """


def convolution(
    dims: int, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, bias: bool = True
) -> nn.Module:
    """An n-dimensional convolution that keeps the grid (at stride 1)."""
    padding = 0 if size == stride else size // 2
    return CONVOLUTIONS[dims](inputs, outputs, size, stride=stride, padding=padding, bias=bias)


def initialise(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Variance-preserving weights of the given gain and zero biases, in place."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if gain == 0:
        nn.init.zeros_(weight)
    else:
        fan_in = weight[0].numel()
        nn.init.normal_(weight, std=gain / math.sqrt(fan_in))
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)
    return layer


def to_patches(x: Tensor, patch: int) -> Tensor:
    """(B, C, *grid) -> (B, C * patch^n, *grid / patch); the grid must be divisible."""
    if patch == 1:
        return x
    dims = x.dim() - 2
    if dims == 2:
        return functional.pixel_unshuffle(x, patch)
    shape = [-1, x.shape[1]]  # the batch is left open: a graph that is exported must not know its size
    for side in x.shape[2:]:
        shape += [side // patch, patch]
    x = x.reshape(shape)
    order = [0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)]
    return x.permute(order).flatten(1, 1 + dims)


def from_patches(x: Tensor, patch: int) -> Tensor:
    """(B, C * patch^n, *grid) -> (B, C, *grid * patch)."""
    if patch == 1:
        return x
    dims = x.dim() - 2
    if dims == 2:
        return functional.pixel_shuffle(x, patch)
    grid, channels = x.shape[2:], x.shape[1] // patch**dims
    x = x.reshape(-1, channels, *[patch] * dims, *grid)
    order = [0, 1]
    for k in range(dims):
        order += [2 + dims + k, 2 + k]
    return x.permute(order).reshape(-1, channels, *[side * patch for side in grid])


def padded_grid(grid: Sequence[int], multiple: int) -> list[int]:
    return [-(-side // multiple) * multiple for side in grid]


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Repeat the far edges until every side of the grid is a multiple; `crop_to` undoes it."""
    pads: list[int] = []
    for side in reversed(x.shape[2:]):
        pads += [0, -side % multiple]
    return functional.pad(x, pads, mode="replicate") if any(pads) else x


def crop_to(x: Tensor, grid: Sequence[int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(grid):
        return x
    return x[(slice(None), slice(None), *(slice(side) for side in grid))]


def channels_last(module: nn.Module, dims: int) -> nn.Module:
    """The memory layout in which convolutions are fast on CPUs and tensor cores; values are unchanged."""
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    for layer in module.modules():
        if dims in formats and isinstance(layer, tuple(CONVOLUTIONS.values())):
            layer.to(memory_format=formats[dims])  # type: ignore[call-overload]
    return module


class GroupNorm(nn.GroupNorm):
    """Group normalisation with groups of about 16 channels."""

    def __init__(self, channels: int):
        groups = max(channels // 16, 1)
        while channels % groups:
            groups -= 1
        super().__init__(groups, channels)


def sinusoids(value: Tensor, width: int) -> Tensor:
    """(B,) of order 1 -> (B, width) sines and cosines of geometrically spaced frequencies, float32 at least."""
    value = wide(value)
    powers = torch.linspace(0.0, math.log(1000.0), width // 2, device=value.device, dtype=value.dtype)
    angles = value.unsqueeze(1) * powers.exp() * 0.25
    return torch.cat([angles.sin(), angles.cos()], 1)
