"""The network that estimates clean data from noisy data, for any Space."""

from __future__ import annotations

import math

from torch import Tensor, nn

from trilemma.networks.layers import Network
from trilemma.networks.mlp import VectorDenoiser
from trilemma.networks.transformer import Transformer
from trilemma.networks.unet import UNet
from trilemma.spaces import Space


def denoiser(
    space: Space, inputs: int, outputs: int, network: Network, embedding: int, *, context: int = 0
) -> nn.Module:
    """The network for this Space: a U-Net or a transformer on grids, a residual MLP on vectors.

    context: width of the tokens (B, length, context) that it looks at, where it can; 0 for none.
    """
    if space.grid and network.kind == "transformer":
        return Transformer(inputs, outputs, space.grid, network, embedding=embedding, context=context)
    if space.grid and network.kind == "conv":
        return UNet(inputs, outputs, space.grid, network, embedding=embedding, context=context)
    return Flattened(space, inputs, outputs, network, embedding)


class Flattened(nn.Module):
    """An MLP denoiser that sees the grid as one vector, and of a caption what is in the embedding."""

    def __init__(self, space: Space, inputs: int, outputs: int, network: Network, embedding: int):
        super().__init__()
        places = math.prod(space.grid)
        self.shape = (outputs, *space.grid)
        self.net = VectorDenoiser(
            inputs * places,
            outputs * places,
            width=network.width,
            depth=network.depth,
            embedding=embedding,
            activation=network.activation,
            dropout=network.dropout,
        )

    def forward(
        self, x: Tensor, embedding: Tensor, tokens: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Tensor:
        return self.net(x.flatten(1), embedding).unflatten(1, self.shape)
