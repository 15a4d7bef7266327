"""A critic beside a reconstruction loss: what makes an autoencoder's decoder put in details that it cannot know.

Larsen et al. 2016 (VAE-GAN: its features also say how alike two examples are) and Esser et al. 2021 (VQGAN: an adaptive
weight, and a critic of patches that joins late). Here the weight is one of each example: each term pulls at what was
made with a fixed share of the reconstruction's own gradient, whatever the scale of either. Theirs compares gradients of
the last layer's weights over the batch; ours needs no more than what an example itself gives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trilemma.config import SIZES
from trilemma.maths.losses import PLAYS
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand, mean_per_example, sum_per_example
from trilemma.networks.layers import Network
from trilemma.networks.mlp import mlp
from trilemma.networks.patchgan import PatchCritic, critic_loss

WATCHES = 8  # steps: before it joins, a critic learns at every eighth one only
MOST = 1e4  # times that a gradient may be made longer


class Rival(nn.Module):
    """Scores (B, places) of embedded data (B, channels, *grid), one a patch; of data without a grid one in all."""

    def __init__(self, channels: int, grid: tuple[int, ...], network: Network):
        super().__init__()
        self.play = PLAYS["hinge"]
        self.critic: nn.Module = mlp(channels, 1, network)
        if grid:
            self.critic = PatchCritic(channels, grid, network, normalise=True)

    def forward(self, x: Tensor) -> Tensor:
        return wide(self.critic(x))

    def terms(self, made: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What `made` is to lower (B,): the game's loss, and how unlike its features are to those of the real ones."""
        if real is None or not isinstance(self.critic, PatchCritic):
            return self.play.generator(made, self(made)).mean(1), None
        with torch.no_grad():
            targets = self.critic.features(real)
        features = self.critic.features(made)
        game = self.play.generator(made, wide(self.critic.judged(features))).mean(1)
        apart = [
            mean_per_example((wide(one) - wide(two)).square()) / (mean_per_example(wide(two).square()) + 1e-6)
            for one, two in zip(features, targets, strict=True)
        ]
        return game, torch.stack(apart).mean(0)

    def look(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic minimises: its sum over examples, and logs."""
        loss, _, logs = critic_loss(self, self.play, real, fake, penalty="none", gamma=0.0)
        return loss, logs


def length_of(made: Tensor, loss: Tensor) -> Tensor:
    """How hard a loss, summed over examples, pulls at each of `made` (B, channels, *grid): its gradient's length."""
    (gradient,) = torch.autograd.grad(loss, made, retain_graph=True)
    return _length(gradient)


def pull(made: Tensor, length: Tensor, terms: list[tuple[float, Tensor | None]]) -> Tensor:
    """A number that is 0 and whose gradient pulls `made` (B, channels, *grid) down these terms.

    terms: weight, and a loss (B,) or None; the pull of each on an example is `weight` times as long as `length` (B,).
    Nothing but `made`, and what it was made by, gets a gradient of them.
    """
    total = torch.zeros_like(made)
    for weight, term in terms:
        if term is None or not weight:
            continue
        (gradient,) = torch.autograd.grad(term.sum(), made, retain_graph=True)
        factor = (weight * length / (_length(gradient) + 1e-12)).clamp(max=MOST)
        total = total + gradient * expand(factor, gradient)
    return ((made - made.detach()) * total).sum()


def _length(gradient: Tensor) -> Tensor:
    return sum_per_example(gradient.square()).sqrt()


def critic_settings(grid: tuple[int, ...], size: str) -> dict[str, Any]:
    """Dotted settings of the critic beside an autoencoder for examples on this grid."""
    side = max(grid, default=1)
    settings: dict[str, Any] = {"critic.width": (24, 32, 48, 64, 96)[SIZES.index(size)]}
    if not grid:
        return {"critic.width": 2 * settings["critic.width"], "critic.depth": 2}
    return settings | {"critic.multipliers": (1, 2) if side < 16 else (1, 2, 4), "critic.patch": 2 if side >= 16 else 1}
