"""A network that reads the source off its target: of maps of classes a segmenter (Long et al. 2015).

Trained on real pairs, it says of a translation what a translation of its own source would let it say: Isola et al. 2017
(4.1) measure by it whether a photograph made from a map is still of that map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from trilemma.batches import Batch
from trilemma.config import SIZES, Optimizer
from trilemma.maths.precision import wide
from trilemma.maths.shapes import mean_per_example
from trilemma.models.contract import Encodes, Model, Now, Turn
from trilemma.networks.layers import Network
from trilemma.networks.unet import UNet
from trilemma.spaces import Continuous, Space


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(width=24, depth=1))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(rate=3e-3, stay=0.4, clip=1.0, batch=16, warm_up=500)
    )


class Reader(Model, Encodes):
    Config = Config
    presets = {}
    accepts = (Continuous,)
    needs_grid = True
    sets = ("paired",)

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        space, source = spaces["x"], spaces["source"]
        self.network = UNet(space.width, source.width, space.grid, config.network, embedding=1)

    @property
    def source(self) -> Space:
        return cast(Space, self.spaces["source"])

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        number, side = SIZES.index(size), max(spaces["x"].grid)
        patch = 4 if side >= 64 else 2 if side >= 24 else 1
        return {
            "network.width": (24, 32, 48, 64, 96)[number],
            "network.multipliers": (1, 2, 3) if side // patch >= 8 else (1, 2),
            "network.patch": patch,
            "network.dropout": 0.0 if count >= 5000 else 0.1,
        }

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def params(self, batch: Batch) -> Tensor:
        """What the source's Space decodes, (B, width, *grid), out of the x of a batch."""
        x = batch.embedded(self.space)
        return wide(self.network(x, torch.zeros_like(x.flatten(1)[:, :1])))

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        loss = mean_per_example(self.source.terms(self.params(batch), batch.raw["source"])).sum()
        yield Turn("model", loss, len(batch), {"reading": loss.detach()})

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        """(B, width * places): what it would say of the source, as the source's Space decodes it."""
        return self.params(batch).flatten(1)

    def read(self, batch: Batch) -> Tensor:
        """The most likely raw source (B, channels, *grid) of each x of a batch."""
        return self.source.decode(self.params(batch))
