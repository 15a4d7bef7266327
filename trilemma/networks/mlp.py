"""Networks for vectors (grid ()): residual multilayer perceptrons, with an optional condition vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trilemma.networks.layers import ACTIVATIONS, Network, initialise


class MLP(nn.Module):
    """(B, inputs) -> (B, outputs), `depth` hidden layers with residuals after the first; FiLM by `cond` (B, width)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int = 3,
        condition: int = 0,
        activation: str = "silu",
        dropout: float = 0.0,
        gain: float = 1.0,
    ):
        super().__init__()
        self.enter = initialise(nn.Linear(inputs, width))
        self.hidden = nn.ModuleList(initialise(nn.Linear(width, width), 1.0) for _ in range(depth))
        self.film = nn.ModuleList(
            initialise(nn.Linear(condition, 2 * width), 0.0) for _ in range(depth if condition else 0)
        )
        self.leave = initialise(nn.Linear(width, outputs), gain)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.enter(x)
        for number, layer in enumerate(self.hidden):
            update = layer(self.activation(h))
            if self.film and cond is not None:
                scale, shift = self.film[number](cond).chunk(2, 1)
                update = update * (1 + scale) + shift
            h = h + self.dropout(update)
        return self.leave(self.activation(h))


def mlp(inputs: int, outputs: int, network: Network, condition: int = 0) -> MLP:
    """An MLP by a model's settings."""
    return MLP(
        inputs,
        outputs,
        width=network.width,
        depth=network.depth,
        condition=condition,
        activation=network.activation,
        dropout=network.dropout,
    )


class VectorDenoiser(nn.Module):
    """(B, C) noisy vector, (B, E) embedding of noise level and conditions -> (B, C)."""

    def __init__(
        self, channels: int, outputs: int, *, width: int, depth: int, embedding: int, activation: str, dropout: float
    ):
        super().__init__()
        self.net = MLP(
            channels + embedding,
            outputs,
            width=width,
            depth=depth,
            condition=embedding,
            activation=activation,
            dropout=dropout,
            gain=0.0,
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.net(torch.cat([x, embedding], 1), embedding)
