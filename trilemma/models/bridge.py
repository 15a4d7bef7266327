"""Bridge: a path to x that sees its source, learned by regression and walked in a few steps; the default for pairs.

It begins at noise: y_t = (1 - t) x + t noise e lies between x at t = 0 and noise at t = 1, which is flow matching under
the source as a condition (Lipman et al. 2023). `source` is a bridge in the word's strict sense, from the source with
noise on it: y_t = (1 - t) x + t (source + noise e), flow matching between paired ends (Albergo et al. 2023, "Stochastic
interpolants with data-dependent couplings"). Both are walked by posteriors as in Liu et al. 2023 (I2SB). The network
sees y_t, t and the source, and says where x is. Source and x can be shifted in training, both alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand, mean_per_example, sum_per_example
from trilemma.models.contract import Model, Now, Samples, Translates, Turn
from trilemma.networks.augment import jitter
from trilemma.networks.denoisers import denoiser
from trilemma.networks.layers import Network, initialise, pad_to, sinusoids, to_patches
from trilemma.networks.unet import unet_settings
from trilemma.spaces import Continuous, Space, masked

LEAST_NOISE = 0.01  # what is learned is in units of it
EARLIEST = 0.1  # t under which errors weigh no more: there is nothing left to say


@dataclass
class Config:
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(rate=2e-3, stay=0.4, clip=1.0, batch=32))
    start: Literal["noise", "source"] = "noise"  # where the path begins; 'source' (as many channels as x): under noise
    noise: float = 1.0  # deviation of the noise at t = 1
    time_mean: float = 1.0  # of the logit of t in training
    time_deviation: float = 1.5
    error: Literal["square", "absolute"] = "square"  # means, or medians: sharper where x is one thing or another
    draws: Literal[1, 2] = 1  # 2: the network draws x instead of its mean, by the energy score of two draws
    jitter: float = 0.0  # source and x are shifted together, by up to this share of a side
    embedding: int = 128
    steps: int = 4
    warp: float = 1.0  # over 1, steps are longer at the start
    eta: float = (
        0.5  # share of the noise that draws take: 1 all, and as diverse as x; less, nearer to what is likeliest
    )


class Bridge(Model, Samples, Translates):
    Config = Config
    presets = {"source": {"start": "source"}}
    about = {"source": "The path begins at the source under noise instead of at noise; as many channels as x has."}
    accepts = (Continuous,)
    kinds = ("mlp", "conv", "transformer")
    sets = ("paired",)
    hunger = 4.0

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        space, source = spaces["x"], spaces["source"]
        if config.start == "source" and source.width != space.width:
            raise InputError(f"setting start=source: it has {source.width} channels, x {space.width}; take start=noise")
        if config.jitter and not space.grid:
            raise InputError(f"setting jitter={config.jitter:g}: only data on a grid can be shifted; leave it out")
        if not config.noise >= LEAST_NOISE:
            raise InputError(f"setting noise={config.noise:g}: at least {LEAST_NOISE:g}, of data of deviation 1")
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        width = config.embedding
        self.conditioner = Conditioner(spaces, width)
        self.level = nn.Sequential(initialise(nn.Linear(64, width)), nn.SiLU(), initialise(nn.Linear(width, width)))
        inputs = space.width * (1 if config.draws == 1 else 2) + self.conditioner.channels
        self.network = denoiser(space, inputs, space.width, config.network, width)

    def compilable(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        space, number = spaces["x"], SIZES.index(size)
        if not space.grid:
            return {"network.kind": "mlp", "network.width": (64, 128, 256, 384, 512)[number], "network.depth": 4}
        return {
            **unet_settings(space.grid, size),
            "network.depth": 1 if number < 2 else 2,
            "network.dropout": 0.0 if count >= 5000 else 0.1,
        }

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def told(
        self, raw: dict[str, Tensor], present: dict[str, Tensor], count: int,
        move: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> tuple[Tensor, Tensor | None, Any]:  # fmt: skip
        """(source's grid, moved; vector of the other conditions; where the path starts but for its noise)."""
        cond = self.conditioner(raw, present, count)
        assert cond.grid is not None
        grid = move(cond.grid)
        return grid, cond.vector, grid[:, : self.space.width] if self.config.start == "source" else 0.0

    def estimate(self, z: Tensor, t: Tensor, grid: Tensor, vector: Tensor | None, noise: Noise) -> Tensor:
        """x less the source, where the path starts there, from z = y_t less it (B, width, *grid) at t (B,)."""
        dtype = next(self.level.parameters()).dtype
        embedding = self.level(sinusoids(2 * t, 64).to(dtype))
        embedding = embedding if vector is None else embedding + vector
        spread = ((1 - t) ** 2 + (t * self.config.noise) ** 2).rsqrt()
        parts = [(z * expand(spread, z)).to(dtype), grid.to(dtype)]
        if self.config.draws > 1:
            parts.append(noise.normal(*z.shape[1:]).to(dtype))
        # x itself, not the velocity nor the noise: a network that has seen little leaves no speckles in it.
        return wide(self.network(torch.cat(parts, 1), functional.silu(embedding)))

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise = self.config, batch.noise
        move = jitter(noise, self.space.grid, config.jitter)
        mask = masked(self.space, batch.observed, batch.valid)
        mask = None if mask is None else move(self.space.widen(mask))
        grid, vector, begin = self.told(batch.raw, batch.present, len(batch), move)
        x = move(self.space.embed(batch.x))
        r = x - begin if mask is None else (x - begin) * mask
        t = torch.sigmoid(config.time_mean + config.time_deviation * torch.special.ndtri(noise.spread().to(x.dtype)))
        z = r * expand(1 - t, x) + expand(t, x) * config.noise * noise.normal(*x.shape[1:])
        found = [self.estimate(z, t, grid, vector, noise) for _ in range(config.draws)]
        wrong = [(one - r) if mask is None else (one - r) * mask for one in found]
        weight = ((1 - t) ** 2 + (t * config.noise) ** 2).sqrt() / (t.clamp(min=EARLIEST) * config.noise)  # of F in EDM
        if config.draws == 1 and config.error == "absolute":
            loss = (weight * mean_per_example(wrong[0].abs())).sum()
        elif config.draws == 1:
            loss = (weight**2 * sum_per_example(wrong[0] ** 2) / wrong[0][0].numel()).sum()
        else:
            loss = (weight * energy_score(*wrong)).sum()
        yield Turn("model", loss, len(batch), {"error": loss.detach()})

    def choices(self) -> list[list[Options]]:
        config = self.config
        steps = [Options(steps=count) for count in dict.fromkeys([config.steps, 3, 2, 1])]
        return [steps, [Options(eta=share) for share in dict.fromkeys([config.eta, 0.3, 0.7])]]

    def calls(self, options: Options) -> int:
        return options.steps or self.config.steps

    def sample(self, request: Request) -> Tensor:
        self.source_of(request)
        config, options, noise = self.config, request.options, request.noise
        steps, eta = options.steps or config.steps, config.eta if options.eta is None else options.eta
        if options.steps is not None and options.steps < 1:
            raise InputError(f"steps={steps}: there must be at least one")
        shape = (self.space.width, *self.space.grid)
        grid, vector, begin = self.told(request.raw, request.present, len(request))
        z = noise.normal(*shape).to(grid) * config.noise * eta
        times = [(1 - k / steps) ** config.warp for k in range(steps + 1)]
        r = z
        for step, (t, s) in enumerate(pairwise(times)):
            r = self.estimate(z, torch.full((len(z),), t, device=z.device, dtype=z.dtype), grid, vector, noise)
            if request.watch is not None:
                request.watch(step, r + begin)
            # e of z_t = (1 - t) r + t noise e, and as much of it drawn anew as the posterior of z_s given r has.
            e = (z - (1 - t) * r) / (t * config.noise)
            if s:
                fresh = math.sqrt(1 - (s * (1 - t) / (t * (1 - s))) ** 2)
                e = e * math.sqrt(1 - fresh**2) + fresh * eta * noise.normal(*shape).to(e)
            z = (1 - s) * r + s * config.noise * e
        return self.space.decode(r + begin)


def energy_score(one: Tensor, two: Tensor) -> Tensor:
    """Energy score of two draws by their errors (B, C, *grid), per example (B,): least where draws follow the
    conditional law (Gneiting & Raftery 2007, eq. 22; as a loss of diffusion, De Bortoli et al. 2025).

    Taken over patches of several sizes: of all elements at once it hardly sees fine structure.
    """
    total = torch.zeros(len(one), device=one.device, dtype=one.dtype)
    sizes = [size for size in (1, 4, 16) if size <= 2 * max(one.shape[2:], default=1)] if one.dim() > 2 else [1]
    for size in sizes:
        a, b = (to_patches(pad_to(x, size), size) if size > 1 else x for x in (one, two))
        root = math.sqrt(a.shape[1])

        def length(x: Tensor) -> Tensor:
            return (x.square().sum(1) + 1e-6).sqrt().flatten(1).mean(1)

        total = total + (length(a) + length(b) - length(a - b)) / (2 * root)
    return total / len(sizes)
