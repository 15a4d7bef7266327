"""Networks of image-to-image games, on grids of 1 to 3 dimensions: a critic of patches, a generator of residual blocks.

Sources: Isola et al. 2017 (PatchGAN), Johnson et al. 2016 and Zhu et al. 2017 (down, residual blocks, up; no skips). As
in the U-Net, a patch stem moves the work to few places with many channels; group normalisation stands for the papers'
instance normalisation, which is not defined on a single place.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn

from trilemma.config import SIZES
from trilemma.maths.losses import Play, squared_gradient_norm
from trilemma.maths.precision import wide
from trilemma.maths.shapes import mean_per_example
from trilemma.networks.conv import Residual
from trilemma.networks.layers import (
    ACTIVATIONS,
    CONVOLUTIONS,
    GroupNorm,
    Network,
    channels_last,
    convolution,
    crop_to,
    from_patches,
    initialise,
    pad_to,
    padded_grid,
    resolutions,
    to_patches,
)
from trilemma.networks.unet import Block


def unpaired_settings(grid: tuple[int, ...], size: str) -> dict[str, Any]:
    """Dotted settings of generator and critic between two sets of examples on this grid, by the size dial."""
    number, (patch, levels) = SIZES.index(size), resolutions(grid, 32)
    return {
        "network.width": (24, 48, 64, 96, 128)[number],
        "network.multipliers": (1, 2, 4)[:levels],
        "network.depth": (2, 4, 6, 6, 9)[number],
        "network.patch": patch,
        "critic.width": (32, 48, 64, 96, 128)[number],
        "critic.multipliers": (1, 2, 4)[:levels],
        "critic.patch": patch,
    }


class PatchCritic(nn.Module):
    """(B, channels, *grid) -> (B, places) scores, each of one of the overlapping patches (Isola et al. 2017, 3.2.2).

    Each of network.multipliers but the first halves the grid; `normalise` as published, not under a gradient penalty.
    """

    def __init__(self, channels: int, grid: tuple[int, ...], network: Network, *, normalise: bool = False):
        super().__init__()
        dims, self.patch = len(grid), network.patch
        widths = [network.width * m for m in network.multipliers]
        sides = [side // network.patch for side in padded_grid(grid, network.patch)]
        self.enter = initialise(convolution(dims, channels * self.patch**dims, widths[0]))
        self.layers = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            # An axis that has shrunk to one place stays as it is.
            size, stride, padding = zip(*((4, 2, 1) if side > 1 else (1, 1, 0) for side in sides), strict=True)
            halve: Any = CONVOLUTIONS[dims]
            self.layers.append(initialise(halve(inputs, outputs, size, stride=stride, padding=padding), math.sqrt(2)))
            if normalise:
                self.layers.append(GroupNorm(outputs))
            kind = network.activation
            self.layers.extend(Residual(outputs, dims, activation=kind) for _ in range(network.depth - 1))
            sides = [max(side // 2, 1) for side in sides]
        self.leave = initialise(convolution(dims, widths[-1], 1))
        self.activation = ACTIVATIONS[network.activation]
        channels_last(self, dims)

    def features(self, x: Tensor) -> list[Tensor]:
        """What its layers make of x, one after the other."""
        found = [self.enter(to_patches(pad_to(x, self.patch), self.patch))]
        for layer in self.layers:
            h = found[-1]
            found.append(layer(h) if isinstance(layer, Residual | GroupNorm) else layer(self.activation(h)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.judged(self.features(x))

    def judged(self, features: list[Tensor]) -> Tensor:
        """The scores, from the features."""
        return self.leave(self.activation(features[-1])).flatten(1)

    def seen(self, x: Tensor) -> list[Tensor]:
        """What it sees on its way: (B, width, *coarse) before each halving and at the end, and last the scores."""
        features = self.features(x)
        before = [
            h for h, layer in zip(features, self.layers, strict=False) if not isinstance(layer, Residual | GroupNorm)
        ]
        return [*before, features[-1], self.judged(features)]


class ResnetGenerator(nn.Module):
    """(B, channels, *grid) and an embedding (B, E) -> (B, outputs, *grid): down, residual blocks, up, without skips.

    Where outputs and channels are as many, it adds to its input: at the start it changes nothing. network.depth counts
    the blocks on the coarsest grid.
    """

    def __init__(self, channels: int, outputs: int, grid: tuple[int, ...], network: Network, *, embedding: int):
        super().__init__()
        dims, self.patch, self.channels = len(grid), network.patch, channels
        widths = [network.width * m for m in network.multipliers]
        self.multiple = network.patch * 2 ** (len(widths) - 1)
        self.adds = channels == outputs

        def block(width: int) -> Block:
            kind, dropout = network.activation, network.dropout
            return Block(width, width, dims, embedding=embedding, activation=kind, dropout=dropout)

        self.enter = initialise(convolution(dims, channels * self.patch**dims, widths[0]))
        # What it makes has features too; a stem of its own where it has other channels.
        self.enter_outputs = None if self.adds else initialise(convolution(dims, outputs * self.patch**dims, widths[0]))
        self.fine, self.rise = (nn.ModuleList(block(width) for width in widths[:-1]) for _ in range(2))
        self.shrink = nn.ModuleList(initialise(convolution(dims, a, b, 2, stride=2)) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(initialise(convolution(dims, b, a * 2**dims, 1)) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(block(widths[-1]) for _ in range(network.depth))
        self.leave_norm = GroupNorm(widths[0])
        self.leave = initialise(convolution(dims, widths[0], outputs * self.patch**dims), 0.0 if self.adds else 1.0)
        self.activation = ACTIVATIONS[network.activation]
        self.first = (network.depth + 1) // 2  # blocks of the first half: 5 of the papers' 9
        self.widths = [widths[0], *widths, widths[-1]]  # channels of `features`
        channels_last(self, dims)

    def features(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """What its first half makes of x, or of an output: after the stem, each level and half of the blocks."""
        enter = self.enter if x.shape[1] == self.channels or self.enter_outputs is None else self.enter_outputs
        h = enter(to_patches(pad_to(x, self.multiple), self.patch))
        found = [h]
        for level, shrink in enumerate(self.shrink):
            h = self.fine[level](h, embedding)
            found.append(h)
            h = shrink(h)
        found.append(h)
        for layer in self.blocks[: self.first]:
            h = layer(h, embedding)
        return [*found, h]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.finish(x, self.features(x, embedding), embedding)

    def finish(self, x: Tensor, features: list[Tensor], embedding: Tensor) -> Tensor:
        """The output, from the features of x."""
        h = features[-1]
        for layer in self.blocks[self.first :]:
            h = layer(h, embedding)
        for level in reversed(range(len(self.grow))):
            h = cast(Block, self.rise[level])(from_patches(self.grow[level](h), 2), embedding)
        h = self.leave(self.activation(self.leave_norm(h)))
        h = crop_to(from_patches(h, self.patch), x.shape[2:])
        return x + h if self.adds else h


def critic_loss(
    critic: nn.Module, play: Play, real: Tensor, fake: Tensor, *, penalty: str, gamma: float, factor: int = 1
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """What a critic of patches minimises on real and fake (B, channels, *grid): its sum, scores of real ones, logs.

    Penalty none, r1 or r1r2 (Mescheder et al. 2018) of each patch's own score: the mean of their squared gradients,
    by one backward through their sum, as if patches shared no element. `factor` counts it several times.
    """
    real, fake = real.detach(), fake.detach()
    real.requires_grad_(penalty in ("r1", "r1r2"))
    fake.requires_grad_(penalty == "r1r2")
    on_real, on_fake = wide(critic(real)), wide(critic(fake))
    loss = mean_per_example(play.critic(on_real, on_fake)).sum()
    logs = {"critic_real": mean_per_example(on_real).sum().detach(), "critic": loss.detach()}
    logs["critic_fake"] = mean_per_example(on_fake).sum().detach()
    if penalty != "none":
        squared = squared_gradient_norm(on_real, real)
        squared = squared + squared_gradient_norm(on_fake, fake) if penalty == "r1r2" else squared
        paid = gamma / 2 * (squared / on_real.shape[1]).sum()
        loss, logs["penalty"] = loss + factor * paid, paid.detach()
    return loss, on_real.detach(), logs
