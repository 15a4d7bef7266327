"""How data become codes and codes become data, whatever the Space: shared by the autoencoder and the VAE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.batches import Batch
from trilemma.config import SIZES
from trilemma.maths.noise import Noise
from trilemma.networks.conv import Down, Up
from trilemma.networks.layers import Network, resolutions
from trilemma.networks.mixture import Mixture
from trilemma.networks.mlp import mlp
from trilemma.spaces import Continuous, Space


def coder_settings(spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
    """Widths for the size dial. Small data get more weight decay: an autoencoder learns 400 faces by heart."""
    space = spaces["x"]
    number = SIZES.index(size)
    if not space.grid:
        width = (64, 128, 256, 384, 512)[number]
        return {
            "network.kind": "mlp",
            "network.width": width,
            "network.depth": 3,
            "latent": min(32, max(2, 2 * space.width)),
            "optimizer.batch": 256,
        }
    side, (patch, levels) = max(space.grid), resolutions(space.grid, 16, 32)
    return {
        "network.kind": "conv",
        "network.width": (16, 32, 48, 64, 96)[number],
        "network.multipliers": (1, 2, 4, 4)[:levels],
        "network.depth": 1 if size == "xs" else 2,
        "network.patch": patch,
        "latent": 16 if side <= 8 else 32 if side <= 32 else 64,
        "optimizer.batch": 128 if count >= 5000 else 64,
        "optimizer.weight_decay": 1e-4 if count >= 5000 else 1e-2,
    }


def encoder(space: Space, outputs: int, network: Network, condition: int) -> nn.Module:
    if network.kind == "mlp" or not space.grid:
        return Flat(space.width, space.grid, outputs, network, condition)
    return Down(space.width, outputs, space.grid, network, condition=condition)


def decoder(space: Space, codes: int, network: Network, condition: int) -> nn.Module:
    if network.kind == "mlp" or not space.grid:
        return Unflat(codes, space.width, space.grid, network, condition)
    return Styled(codes, space.width, space.grid, network, condition)


class Flat(nn.Module):
    """An MLP on the flattened grid."""

    def __init__(self, channels: int, grid: tuple[int, ...], outputs: int, network: Network, condition: int):
        super().__init__()
        inputs = channels * int(np.prod(grid))
        self.net = mlp(inputs, outputs, network, condition)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.net(x.flatten(1), cond)


class Unflat(nn.Module):
    """An MLP whose output is laid out on the grid."""

    def __init__(self, codes: int, channels: int, grid: tuple[int, ...], network: Network, condition: int):
        super().__init__()
        outputs = channels * int(np.prod(grid))
        self.shape = (channels, *grid)
        self.net = mlp(codes, outputs, network, condition)

    def forward(self, codes: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.net(codes, cond).unflatten(1, self.shape)


class Styled(nn.Module):
    """A convolutional decoder that reads code and condition at the start and again as the style of every block."""

    def __init__(self, codes: int, channels: int, grid: tuple[int, ...], network: Network, condition: int):
        super().__init__()
        self.up = Up(codes + condition, channels, grid, network, style=codes + condition)

    def forward(self, codes: Tensor, cond: Tensor | None = None) -> Tensor:
        style = codes if cond is None else torch.cat([codes, cond], 1)
        return self.up(style, style)


def decoded(space: Space, params: Tensor, likelihood: str) -> Tensor:
    """The decoder's mean as raw x; Bernoulli parameters are logits between the two levels."""
    if likelihood == "bernoulli" and isinstance(space, Continuous) and space.low is not None and space.high is not None:
        return space.low + params.sigmoid() * (space.high - space.low)
    return space.decode(params)


def realised(space: Space, params: Tensor, likelihood: str, noise: Noise, log_scale: Tensor | None = None) -> Tensor:
    """Raw x from the decoder's distribution, as the Space realises it."""
    if likelihood == "bernoulli" and isinstance(space, Continuous):
        return decoded(space, params, likelihood)
    return space.realise(params, noise, log_scale=log_scale)


def fit_mixture(model: Any, mixture: Mixture, batches: Iterable[Batch], seed: int, *, random: bool) -> None:
    """Fit the model's mixture on its codes of these batches."""
    codes, labels = [], []
    for batch in batches:
        codes.append(model.encode(batch, random=random).float().cpu().numpy())
        if "label" in batch.raw:
            # An example without a label belongs to no class: -1 is none of them.
            labels.append(torch.where(batch.present["label"], batch.raw["label"][:, 0], -1).cpu().numpy())
    mixture.fit(np.concatenate(codes), np.concatenate(labels) if labels else None, seed=seed)
