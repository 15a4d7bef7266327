"""Generative adversarial networks: the game is a setting, the networks and the loop are the same.

Default: the relativistic paired loss with zero-centred gradient penalties on real and fake data (R3GAN, Huang et al.
2024), the one game with proven local convergence; minimax and non-saturating (Goodfellow et al. 2014), Wasserstein with
gradient penalty (Gulrajani et al. 2017) and hinge (Lim & Ye 2017) are presets. With captions (`gan:text`) the critic is
also shown real data under captions of others, which it is to reject (Reed et al. 2016, matching-aware).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError
from trilemma.maths.losses import PLAYS, gradient_penalty, squared_gradient_norm
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.mixed import Mixed
from trilemma.models.contract import Criticizes, Model, Now, Samples, Styles, Turn, default_clusters, frozen
from trilemma.networks.augment import augment, risen
from trilemma.networks.conv import Critic, Up
from trilemma.networks.layers import ACTIVATIONS, Network, initialise, resolutions
from trilemma.networks.mlp import mlp
from trilemma.spaces import Categorical, Continuous, Space
from trilemma.words import Words

PASSES = 50  # through few examples, by which they are augmented in full
QUIET = 0.25  # deviation of a label's vector in the generator at the start; that of z is 1


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(activation="leaky_relu", depth=1))  # generator
    critic: Network = field(default_factory=lambda: Network(activation="leaky_relu", depth=1))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            rate=1e-3, betas=(0.0, 0.99), stay=0.3, batch=64, least_steps=3000, warm_up=12_800
        )
    )
    play: Literal["minimax", "non-saturating", "wasserstein", "hinge", "relativistic", "least-squares"] = "relativistic"
    penalty: Literal["none", "r1", "r1r2", "gradient"] = "r1r2"
    gamma: float = 1.0  # weight of the penalty ('gradient' on vectors: a tenth of it) at the start,
    gamma_end: float = 0.1  # and at the end of the budget (geometric between)
    penalty_every: int = 2  # critic turns; the weight grows with it
    critic_steps: int = 1  # critic turns for one generator turn
    one_pass: bool = True  # both turns of a step look at the same fakes; else the generator's at fresh ones
    prior: Literal["normal", "uniform"] = "normal"
    latent: int = 64
    style: int = 128  # width of the mapped code
    clusters: int = 0  # of data without labels: which one an example is in conditions both players
    text: str = ""  # captions as a condition: words (their own vocabulary), wordllama, minilm, a folder, hub:OWNER/NAME
    matching: float = 0.5  # weight of telling real data with their own captions from the same with others
    augment: float = 0.0  # probability of each differentiable augmentation (Zhao et al. 2020)
    augment_over: int = 0  # examples by which it has risen to that


class GAN(Model, Samples, Styles, Criticizes):
    Config = Config
    presets = {
        "minimax": {"play": "minimax", "penalty": "r1"},
        "non-saturating": {"play": "non-saturating", "penalty": "r1"},
        "wasserstein": {
            "play": "wasserstein",
            "penalty": "gradient",
            "gamma": 10.0,
            "gamma_end": 10.0,
            "penalty_every": 1,
            "critic_steps": 3,
            "optimizer.betas": (0.0, 0.9),
            "optimizer.least_steps": 500,
        },
        "hinge": {"play": "hinge", "penalty": "r1"},
        "relativistic": {},
        "least-squares": {"play": "least-squares", "penalty": "r1"},
        "text": {"text": "words"},
    }
    about = {
        "minimax": "The first game: the generator lowers the very sum that the critic raises (Goodfellow et al. 2014).",
        "non-saturating": "The generator raises what the critic takes for real: the game as it is mostly played.",
        "wasserstein": "WGAN-GP: scores are a distance, their slope is held at 1, the critic has three turns for one.",
        "hinge": "The critic parts scores by a margin and leaves alone what is beyond it (Lim & Ye 2017).",
        "relativistic": "The default by its own name: each real example is scored against the fake beside it (R3GAN).",
        "least-squares": "Scores are drawn to 1 and 0 by squares (Mao et al. 2017).",
        "text": "Reads captions; the critic also rejects real examples under captions of others (Reed et al. 2016).",
    }
    accepts = (Continuous, Categorical, Mixed)
    average = 0.16
    finds_clusters = True

    def __init__(
        self,
        config: Config,
        spaces: dict[str, Space],
        start: Model | None = None,
        *,
        networks: dict[str, nn.Module] | None = None,
    ):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        space = spaces["x"]
        given = networks or {}
        style = config.style
        self.play = PLAYS[config.play]
        # Labels start quieter than z: with equal voices a generator learns one picture a class and goes deaf to z.
        self.generator_conditioner = Conditioner(spaces, style, scale=QUIET)
        self.critic_conditioner = Conditioner(spaces, style)
        told = style if self.generator_conditioner.names else 0
        self.mapping = Mapping(config.latent, told, style, layers=0 if "generator" in given else 2)
        # A user's own generator takes z (and the condition behind it), a user's own critic gives the score itself.
        self.generator = given.get("generator") or generator(space, style, config.network)
        self.critic = given.get("critic") or critic(space, style, config.critic)
        self.score: nn.Module = nn.Identity() if "critic" in given else initialise(nn.Linear(style, 1))

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        space, number = spaces["x"], SIZES.index(size)
        if not space.grid:
            width = (64, 128, 256, 384, 512)[number]
            vector: dict[str, Any] = {
                "latent": max(16, space.width),
                "optimizer.batch": 256,
                "optimizer.least_steps": 1500,
            }
            for part in ("network", "critic"):
                vector |= {f"{part}.kind": "mlp", f"{part}.width": width, f"{part}.depth": 3}
                vector[f"{part}.activation"] = "silu"
            return vector
        side, (patch, levels) = max(space.grid), resolutions(space.grid, 16, 32)
        settings: dict[str, Any] = {"augment": 1.0, "augment_over": PASSES * count} if count < 10_000 else {}
        settings["clusters"] = default_clusters(spaces, count, most=100)
        # Squared gradients grow with the number of pixels; a critic that learns few examples by heart needs holding.
        few = min(10_000 / count, 10.0) if count < 10_000 and side > 16 else 1.0
        settings["gamma"] = round(max(math.prod(space.shape) / 1000, 1.0) * math.sqrt(few), 2)
        settings["gamma_end"] = round(settings["gamma"] * (0.2 if few > 1 else 0.1), 3)
        if side // patch <= 8:
            settings["critic.depth"] = 2  # one strided layer is all that a small grid gives: too weak a critic alone
        for part, widths in (("network", (24, 48, 64, 96, 128)), ("critic", (40, 64, 80, 96, 128))):
            settings |= {
                f"{part}.width": widths[number],
                f"{part}.multipliers": (1, 2, 3, 4)[:levels],
                f"{part}.patch": patch,
            }
        return settings

    def groups(self) -> dict[str, list[nn.Parameter]]:
        player = [self.mapping, self.generator, self.generator_conditioner]
        opponent = [self.critic, self.score, self.critic_conditioner]
        return {
            "critic": [p for module in opponent for p in module.parameters()],
            "generator": [p for module in player for p in module.parameters()],
        }

    def prior(self, noise: Noise) -> Tensor:
        """A code (B, latent) of unit variance."""
        if self.config.prior == "uniform":
            return (noise.uniform(self.config.latent) * 2 - 1) * math.sqrt(3)
        return noise.normal(self.config.latent)

    def generate(self, z: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor], relax: Tensor | None) -> Tensor:
        """(B, latent) -> embedded fake data (B, width, *grid)."""
        return self.space.relax(wide(self.generator(self.mapped(z, raw, present))), relax)

    def mapped(self, z: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """(B, latent) -> the style (B, style) that all of the generator hears."""
        told = self.generator_conditioner(raw, present, len(z)).vector
        return self.mapping(z.to(next(self.generator.parameters()).dtype), told)

    def style(self, codes: Tensor, request: Request) -> Tensor:
        return self.mapped(codes, request.raw, request.present).unsqueeze(1)

    def synthesise(self, styles: Tensor, noise: Tensor | None) -> Tensor:
        return self.space.relax(wide(self.generator(styles[:, 0])), None)

    def noise_sides(self) -> list[tuple[int, ...]]:
        return []

    def affines(self) -> list[Tensor]:
        layers = [layer for layer in self.generator.modules() if isinstance(layer, nn.Linear)]
        size = self.config.style if self.mapping else layers[0].in_features
        acting = [layer.weight.detach() for layer in layers if layer.in_features == size]
        return [torch.cat(acting)]

    def judge(self, x: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Scores (B,) of embedded data; conditions by projection (Miyato & Koyama 2018)."""
        features = wide(self.critic(x))
        score = wide(self.score(features)).flatten(1)[:, 0]
        cond = self.critic_conditioner(raw, present, len(x)).vector
        return (
            score
            if cond is None or isinstance(self.score, nn.Identity)
            else score + (features * cond).sum(1) / math.sqrt(self.config.style)
        )

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, count = self.config, len(batch)
        raw, present = batch.raw, batch.present
        noise = batch.noise

        def relaxing() -> Tensor | None:
            continuous = isinstance(self.space, Continuous)
            return None if continuous else noise.uniform(self.space.width, *self.space.grid)

        augmentation = risen(config.augment, now.seen, config.augment_over)

        def augmented(x: Tensor) -> Tensor:
            return augment(x, noise, augmentation) if augmentation else x

        def shown(x: Tensor) -> Tensor:
            # The critic sees fakes through the holes of the real example at their side: holes tell it nothing.
            return augmented(batch.holed(x, self.space))

        real = self.space.embed(batch.x)
        z, relax = self.prior(noise), relaxing()
        # One pass through the generator serves both turns; not with micro-batches, whose graphs would all be alive at
        # once: then the same fakes are made again.
        moves = now.step % config.critic_steps == 0
        kept = moves and config.one_pass and not config.optimizer.micro
        with torch.set_grad_enabled(kept):
            made = self.generate(z, raw, present, relax)
        penalised = config.penalty != "none" and now.step % config.penalty_every == 0
        real, fake = shown(real).detach(), shown(made.detach())
        if penalised and config.penalty in ("r1", "r1r2"):
            real.requires_grad_(True)
            fake.requires_grad_(config.penalty == "r1r2")
        on_real, on_fake = self.judge(real, raw, present), self.judge(fake, raw, present)
        loss = self.play.critic(on_real, on_fake).sum()
        logs = {"critic_real": on_real.sum().detach(), "critic_fake": on_fake.sum().detach(), "critic": loss.detach()}
        if penalised:
            first, last = max(config.gamma, 1e-12), max(config.gamma_end, 1e-12)
            gamma = first * (last / first) ** now.progress * config.penalty_every
            if config.penalty == "gradient":
                t = noise.uniform()
                # Scores of a few numbers differ by less than those of a picture (so does the authors' code for points).
                gamma *= 1.0 if self.space.grid else 0.1
                penalty = gamma * gradient_penalty(lambda x: self.judge(x, raw, present), real, fake, t)
            else:
                penalty = gamma / 2 * squared_gradient_norm(on_real, real)
                if config.penalty == "r1r2":
                    penalty = penalty + gamma / 2 * squared_gradient_norm(on_fake, fake)
            loss = loss + penalty.sum()
            logs["penalty"] = penalty.sum().detach() / config.penalty_every  # as if every turn paid its share
        if self.worded and config.matching:
            mismatch = self.mismatch(real, on_real, batch).sum()
            loss, logs["mismatch"] = loss + config.matching * mismatch, mismatch.detach()
        yield Turn("critic", loss, count, logs)

        if moves:
            if not config.one_pass:  # Goodfellow et al. 2014, algorithm 1
                z, relax = self.prior(noise), relaxing()
            made = made if kept else self.generate(z, raw, present, relax)
            yield self._generator_turn(batch, shown(made), on_real.detach())

    @property
    def worded(self) -> str:
        """The name of the condition that is a caption; '' without one."""
        return self.critic_conditioner.worded

    def mismatch(self, real: Tensor, on_real: Tensor, batch: Batch) -> Tensor:
        """The critic's loss (B,) on real data under captions of others, drawn from those that the Space keeps."""
        space, own = self.spaces[self.worded], batch.raw[self.worded]
        assert isinstance(space, Words)
        row = (batch.noise.uniform() * len(space.kept)).long().clamp(max=len(space.kept) - 1)
        # As long as the longest caption of the data, which none of those that are kept exceeds.
        other = space.kept[row].unsqueeze(1).to(own.dtype)[:, :, : own.shape[2]]
        differs = (other != own).flatten(1).any(1) & batch.present[self.worded]
        raw, present = {**batch.raw, self.worded: other}, {**batch.present, self.worded: differs}
        return self.play.critic(on_real, self.judge(real, raw, present)) * differs

    def _generator_turn(self, batch: Batch, fake: Tensor, on_real: Tensor) -> Turn:
        """on_real: the scores of before the critic's step, which moves them little; a relativistic game needs them."""
        # A function of its own: `frozen` must be left before the caller yields.
        with frozen(self.critic, self.score, self.critic_conditioner):
            on_fake = self.judge(fake, batch.raw, batch.present)
        loss = self.play.generator(on_real, on_fake).sum()
        return Turn("generator", loss, len(batch), {"generator": loss.detach()})

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        return self.decode(self.draw(request), request)

    def draw(self, request: Request) -> Tensor:
        if request.options.prior not in (None, self.config.prior):
            raise InputError(f"prior {request.options.prior!r}: this GAN was trained with {self.config.prior!r}")
        return self.prior(request.noise)

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        return self.space.decode(self.synthesise(self.truncated(codes, request), None))

    def criticize(self, batch: Batch) -> Tensor:
        return self.judge(batch.embedded(self.space), batch.raw, batch.present)


class Mapping(nn.ModuleList):
    """(B, latent) and what is told (B, told) -> the style (B, style); of no layers both, side by side."""

    def __init__(self, latent: int, told: int, style: int, *, layers: int = 2):
        # As much variance out as in, though a part of the input is quiet.
        loud = math.sqrt((latent + told) / (latent + QUIET**2 * told))
        sizes = [(latent + told, style, loud), (style, style, 1.0)][:layers]
        super().__init__(initialise(nn.Linear(a, b), gain * math.sqrt(2)) for a, b, gain in sizes)

    def forward(self, z: Tensor, told: Tensor | None) -> Tensor:
        style = z if told is None else torch.cat([z, told], 1)
        for layer in self:
            style = ACTIVATIONS["leaky_relu"](layer(style))
        return style


class VectorGenerator(nn.Module):
    """(B, style) -> (B, channels, *grid) by an MLP."""

    def __init__(self, style: int, channels: int, grid: tuple[int, ...], network: Network):
        super().__init__()
        self.shape = (channels, *grid)
        outputs = channels * int(np.prod(grid))
        self.net = mlp(style, outputs, network)

    def forward(self, style: Tensor) -> Tensor:
        return self.net(style).unflatten(1, self.shape)


class GridGenerator(nn.Module):
    """(B, style) -> (B, channels, *grid): the style enters at the coarsest grid and again in every block."""

    def __init__(self, style: int, channels: int, grid: tuple[int, ...], network: Network):
        super().__init__()
        self.up = Up(style, channels, grid, network, style=style)

    def forward(self, style: Tensor) -> Tensor:
        return self.up(style, style)


class VectorCritic(nn.Module):
    """(B, channels, *grid) -> (B, features) by an MLP."""

    def __init__(self, channels: int, grid: tuple[int, ...], features: int, network: Network):
        super().__init__()
        inputs = channels * int(np.prod(grid))
        self.net = mlp(inputs, features, network)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


def generator(space: Space, style: int, network: Network) -> nn.Module:
    if network.kind == "mlp" or not space.grid:
        return VectorGenerator(style, space.width, space.grid, network)
    return GridGenerator(style, space.width, space.grid, network)


def critic(space: Space, features: int, network: Network) -> nn.Module:
    if network.kind == "mlp" or not space.grid:
        return VectorCritic(space.width, space.grid, features, network)
    return Critic(space.width, features, space.grid, network)
