"""What a model is told beside x: raw conditions by name, and the three routes by which a network hears of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch
from trilemma.impressions import GUIDE
from trilemma.maths.noise import Noise
from trilemma.maths.shapes import expand
from trilemma.mixed import Attributes
from trilemma.networks.layers import initialise
from trilemma.networks.text import TextTower
from trilemma.numbered import Clusters
from trilemma.spaces import Categorical, Continuous, Space, masked
from trilemma.words import Words


@dataclass
class Cond:
    """Embedded conditions. The three routes of latent diffusion, and no fourth; an unused one is None."""

    vector: Tensor | None = None  # (B, width)
    tokens: Tensor | None = None  # (B, length, width)
    token_mask: Tensor | None = None  # (B, length) bool
    grid: Tensor | None = None  # (B, channels, *grid)


class Conditioner(nn.Module):
    """Raw conditions -> Cond. Owned by the model; an absent condition becomes its learned null vector, per example.

    Labels (Categorical, grid ()), numbers (Continuous, grid ()) and Attributes add up on the `vector` route; a caption
    (Words) is read by a text tower: its tokens are the `tokens` route, and the whole of it adds to the vector. The one
    with a grid, a 'source', is the `grid` route: embedded, behind it whether it is there. `scale` is the deviation of a
    label's vector at the start.
    """

    def __init__(self, spaces: dict[str, Space], width: int, *, scale: float = 1.0):
        super().__init__()
        self.names = [name for name in sorted(spaces) if name not in ("x", "other", "source", GUIDE)]
        self.source = spaces.get("source")
        self.width = width
        self.maps = nn.ModuleDict()
        self.nulls = nn.ParameterDict()
        self.worded = ""  # the name of the condition that is a caption
        for name in self.names:
            space = spaces[name]
            if isinstance(space, Words):
                self.worded, (_, length) = name, space.shape
                self.maps[name] = TextTower(space.count, length, width, vectors=space.vectors)
                self.whole, self.scale = initialise(nn.Linear(width, width)), scale
                self.null_token = nn.Parameter(torch.randn(width) * 0.5)
            elif space.grid != ():
                raise ValueError(f"condition {name!r} has a grid; only labels and numbers can condition this model")
            elif isinstance(space, (Categorical, Clusters)):
                embedding = nn.Embedding(space.count, width)
                nn.init.normal_(embedding.weight, std=scale)
                self.maps[name] = embedding
            elif isinstance(space, Continuous):
                self.maps[name] = nn.Linear(space.width, width)
            elif isinstance(space, Attributes):
                self.maps[name] = layer = nn.Linear(space.width, width)
                nn.init.normal_(layer.weight, std=scale / space.width**0.5)
                nn.init.zeros_(layer.bias)
            else:
                raise ValueError(f"condition {name!r} is of a kind that cannot condition a model yet")
            self.nulls[name] = nn.Parameter(torch.randn(width) * 0.5 * scale)
        self.spaces = nn.ModuleDict({name: spaces[name] for name in self.names})

    def forward(self, raw: dict[str, Tensor], present: dict[str, Tensor], count: int) -> Cond:
        """`raw[name]` (B, channels), `present[name]` (B,) bool; names that are missing count as absent.

        A label may also come as shares of its values, floats (B, count): a place between two classes.
        """
        grid = self.grid(raw, present, count)
        if not self.names:
            return Cond(grid=grid)
        device = self.nulls[self.names[0]].device
        total = torch.zeros(count, self.width, device=device, dtype=self.nulls[self.names[0]].dtype)
        tokens, token_mask, whole = self.caption(raw, present, count)
        for name in self.names:
            null = self.nulls[name].expand(count, -1)
            if name not in raw:
                total = total + null
                continue
            layer, space = self.maps[name], self.spaces[name]
            if name == self.worded:
                assert whole is not None
                value = whole
            elif not isinstance(layer, nn.Embedding):
                value = layer(cast(Space, space).embed(raw[name]))
            elif raw[name].is_floating_point():
                value = (raw[name].to(layer.weight.dtype).unsqueeze(2) * layer.weight).sum(1)  # never in bf16
            else:
                value = layer(raw[name][:, 0].long())
            here = present.get(name)
            total = total + (value if here is None else torch.where(here.unsqueeze(1), value, null))
        return Cond(total, tokens, token_mask, grid)

    @property
    def context(self) -> int:
        """Width of the `tokens` route; 0 without a caption."""
        return self.width if self.worded else 0

    def caption(
        self, raw: dict[str, Tensor], present: dict[str, Tensor], count: int
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """(B, length, width) tokens, (B, length) which of them are there, and (B, width) the whole caption.

        An absent one is a single token that was learned for it.
        """
        if not self.worded:
            return None, None, None
        if self.worded not in raw:
            token = self.null_token.expand(count, 1, -1)
            return token, torch.ones(count, 1, dtype=torch.bool, device=token.device), None
        told = raw[self.worded]
        tokens, whole = self.maps[self.worded](told[:, 0].long())
        mask, here = Words.mask(told), present.get(self.worded)
        here = mask.any(1) if here is None else here & mask.any(1)
        alone = torch.zeros_like(mask)
        alone[:, 0] = True
        tokens = torch.where(here.unflatten(0, (-1, 1, 1)), tokens, self.null_token)
        # Of one loudness, whatever the tower learns: a generator that hears captions better than z makes one of each.
        spoken = self.scale * functional.layer_norm(self.whole(whole), (self.width,))
        there = here.unsqueeze(1)
        return tokens, (mask & there) | (alone & ~there), spoken

    @property
    def channels(self) -> int:
        """Of the `grid` route; 0 without a source."""
        return 0 if self.source is None else self.source.width + 1

    def grid(self, raw: dict[str, Tensor], present: dict[str, Tensor], count: int) -> Tensor | None:
        """(B, channels, *grid) of the embedded source, zeros where it is absent; its last channel says which."""
        if self.source is None:
            return None
        space = self.source
        if "source" not in raw:
            likely = next(self.parameters(), None)
            zeros = torch.zeros(count, self.channels, *space.grid)
            return zeros if likely is None else zeros.to(likely)
        value = space.embed(raw["source"])
        here = present.get("source")
        bit = torch.ones_like(value[:, :1]) if here is None else torch.zeros_like(value[:, :1]) + expand(here, value)
        return torch.cat([value * bit, bit], 1)


def tell(spaces: nn.ModuleDict, batch: Batch) -> Batch:
    """Put into a batch what x itself gives: the number of its cluster, where the model has clusters."""
    for name, space in spaces.items():
        if isinstance(space, Clusters):
            x = cast(Space, spaces["x"])
            coarse = space.coarse(x.embed(batch.x), masked(x, batch.observed, batch.valid))
            batch.raw[name] = space.nearest(coarse)
            batch.present[name] = torch.ones(len(batch), dtype=torch.bool, device=batch.x.device)
    return batch


HIDING = 0x686964696E67  # what is hidden is drawn from a stream of its own


def hide(spaces: nn.ModuleDict, batch: Batch) -> Batch:
    """Leave some of the attributes of a training batch untold, so that any part of them can be asked for later."""
    for name, space in spaces.items():
        if isinstance(space, Attributes):
            noise = Noise(batch.noise.seed ^ HIDING, batch.noise.index, batch.noise.device)
            batch.raw[name] = space.hidden(batch.raw[name], noise)
            batch.present[name] = batch.present[name] & ~batch.raw[name].isnan().all(1)
    return batch


def drop(present: dict[str, Tensor], uniform: dict[str, Tensor], probability: float) -> dict[str, Tensor]:
    """Present bits with each condition dropped per example where its `uniform` (B,) falls below `probability`."""
    return {name: here & (uniform[name] >= probability) for name, here in present.items()}


def told(vector: Tensor | None) -> tuple[Tensor, ...]:
    """The condition as an argument, or none at all: a user's own network need not take what does not exist."""
    return () if vector is None else (vector,)
