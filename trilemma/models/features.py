"""A network that gives features for measuring, trained on the user's own data by the one loop.

It learns, from damaged examples, (1) the label and the attributes where there are any, (2) along which axes the example
was mirrored, (3) how it was damaged (clean, blurred, noisy, torn, phases scrambled) and (4) coarse random projections
of the clean example. Together these make features that know the data's classes and shapes and see blur, noise and
textures that hold together nowhere; no network trained elsewhere is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch
from trilemma.config import Optimizer
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand
from trilemma.mixed import Attributes, Mixed
from trilemma.models.contract import Encodes, Model, Now, Turn
from trilemma.networks.conv import Down, pooled
from trilemma.networks.layers import ACTIVATIONS, Network, initialise, resolutions
from trilemma.networks.mlp import MLP
from trilemma.spaces import Categorical, Continuous, Space

DAMAGES = 5  # clean, blurred, noisy, torn, scrambled
PROJECTIONS = 32


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(width=24, depth=1, activation="relu"))
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(rate=2e-3, betas=(0.9, 0.99), stay=0.4, batch=128))
    features: int = 64


class Features(Model, Encodes):
    projection: Tensor
    Config = Config
    accepts = (Continuous, Categorical, Mixed)

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        space = spaces["x"]
        if space.grid:
            self.body: nn.Module = Down(space.width, config.features, space.grid, config.network)
        else:
            self.body = MLP(space.width, config.features, width=config.network.width, depth=2)
        label = spaces.get("label")
        self.out = ACTIVATIONS[config.network.activation]
        self.classes = label.count if isinstance(label, Categorical) else 0
        told = spaces.get("attributes")
        self.mirrors = min(len(space.grid), 2)
        cells = told.width if isinstance(told, Attributes) else 0
        self.sizes = [self.classes, 2**self.mirrors, DAMAGES, PROJECTIONS, cells]
        self.heads = initialise(nn.Linear(config.features, sum(self.sizes)))
        generator = torch.Generator().manual_seed(0)
        probe = self.coarse(torch.zeros(1, space.width, *space.grid))
        self.register_buffer(
            "projection", torch.randn(probe.shape[1], PROJECTIONS, generator=generator) / probe.shape[1] ** 0.5
        )

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        space = spaces["x"]
        if not space.grid:
            return {"network.kind": "mlp", "network.width": 64}
        patch, levels = resolutions(space.grid, 8, 32)
        return {"network.patch": patch, "network.multipliers": (1, 2, 4, 4)[:levels]}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def coarse(self, x: Tensor) -> Tensor:
        """The example at about four places a side, flattened."""
        return (pooled(x, max(max(self.space.grid) // 4, 1)) if self.space.grid else x).flatten(1)

    def damage(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Mirror, then blur or add noise, per example; returns x and the two answers (B,)."""
        flips = (
            noise.integers(2**self.mirrors) if self.mirrors else torch.zeros(len(x), dtype=torch.long, device=x.device)
        )
        for axis in range(self.mirrors):
            flipped = torch.flip(x, (x.dim() - 1 - axis,))
            x = torch.where(expand((flips >> axis) & 1, x).bool(), flipped, x)
        kind, amount = noise.integers(DAMAGES), noise.uniform()
        if self.space.grid:
            # A mean over neighbours in each axis, mixed in by an amount.
            blurred = x
            for axis in range(2, x.dim()):
                blurred = (blurred.roll(1, axis) + blurred + blurred.roll(-1, axis)) / 3
            x = torch.where(expand(kind == 1, x), torch.lerp(x, blurred, expand(0.3 + 0.7 * amount, x).to(x.dtype)), x)
        grain = noise.normal(*x.shape[1:])
        if self.space.grid:
            x = torch.where(expand(kind == 3, x), torn(x, noise.integers(2 ** len(self.space.grid) - 1) + 1), x)
            x = torch.where(expand(kind == 4, x), scrambled(x, noise, expand(0.2 + 0.8 * amount, x)), x)
        strength = expand((kind == 2) * (0.05 + 0.5 * amount**2), x)
        return x + grain * strength.to(x.dtype), flips, kind

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        x = batch.embedded(self.space)
        seen, flips, kind = self.damage(x, batch.noise)
        features = self.out(wide(self.body(seen)))
        label, mirror, damage, projections, attributes = wide(self.heads(features)).split(self.sizes, 1)
        error = (projections - self.coarse(x) @ self.projection).square().mean(1).sum()
        loss = error + 0.3 * functional.cross_entropy(damage, kind, reduction="sum")
        if self.mirrors:
            loss = loss + 0.3 * functional.cross_entropy(mirror, flips, reduction="sum")
        logs = {"projection": error.detach()}
        if self.classes and "label" in batch.raw:
            cross = functional.cross_entropy(label, batch.raw["label"][:, 0].long(), reduction="none")
            cross = (cross * batch.present["label"]).sum()
            loss, logs["label"] = loss + cross, cross.detach()
        if self.sizes[-1]:
            cells, told = batch.raw["attributes"], self.spaces["attributes"]
            assert isinstance(told, Attributes)
            nats = (told.terms(attributes, cells) * ~cells.isnan()).sum() / cells.shape[1]
            loss, logs["attributes"] = loss + nats, nats.detach()
        yield Turn("model", loss, len(batch), logs)

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        """(B, features): the rectified outputs of the body."""
        return self.out(wide(self.body(batch.embedded(self.space))))

    def maps(self, batch: Batch) -> list[Tensor]:
        """(B, width, *grid) of each level, finest first: what is where, and not only what; of examples with a grid."""
        assert isinstance(self.body, Down)
        return [wide(level) for level in self.body.levels(batch.embedded(self.space))]


def torn(x: Tensor, axes: Tensor) -> Tensor:
    """x (B, C, *grid) moved round by half of its grid along the axes whose bits are set in `axes` (B,)."""
    for place in range(2, x.dim()):
        chosen = expand((axes >> (place - 2)) & 1, x).bool()
        x = torch.where(chosen, x.roll(x.shape[place] // 2, place), x)
    return x


def scrambled(x: Tensor, noise: Noise, amount: Tensor) -> Tensor:
    """x (B, C, *grid) with the phases of its Fourier transform turned by up to half a circle, times `amount`.

    The spectrum stays what it was: what goes is where things are. Amount 1 leaves a texture and nothing else.
    """
    axes = tuple(range(2, x.dim()))
    spectrum = torch.fft.rfftn(wide(x), dim=axes)
    phases = (2 * noise.uniform(*spectrum.shape[1:]) - 1).to(spectrum.real.dtype) * math.pi * amount
    turned = spectrum * torch.polar(torch.ones_like(phases), phases)
    return torch.fft.irfftn(turned, s=x.shape[2:], dim=axes).to(x.dtype)
