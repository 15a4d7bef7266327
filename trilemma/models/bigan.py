"""A GAN that learns an encoder in the same game: the critic sees pairs of data and code.

Real data come with the code that the encoder gives them, fakes with the code that they were made from; where the critic
cannot tell the two kinds of pairs apart, encoder and generator are each other's inverse (BiGAN, Donahue et al. 2017;
ALI, Dumoulin et al. 2017). The critic also scores data alone and codes alone (BigBiGAN, Donahue & Simonyan 2019); the
encoder also learns to find the codes of fakes, which are known, and what comes back from a code is to be the example
itself (ALICE, Li et al. 2017). Game, generator and critic of data are those of `gan`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner
from trilemma.config import Optimizer
from trilemma.errors import InputError
from trilemma.maths.losses import PLAYS, squared_gradient_norm
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.mixed import Mixed
from trilemma.models import gan
from trilemma.models.contract import Criticizes, Encodes, Model, Now, Samples, Styles, Surprises, Turn, frozen
from trilemma.networks.augment import augment, risen
from trilemma.networks.layers import Network, initialise
from trilemma.networks.mlp import MLP
from trilemma.spaces import Categorical, Continuous, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(activation="leaky_relu", depth=1))  # generator
    critic: Network = field(default_factory=lambda: Network(activation="leaky_relu", depth=1))  # encoder, too
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(rate=1e-3, betas=(0.0, 0.99), stay=0.3, batch=64, warm_up=12_800)
    )
    play: Literal["non-saturating", "relativistic"] = "relativistic"
    penalty: Literal["none", "r1", "r1r2"] = "r1r2"
    gamma: float = 1.0  # weight of the penalty at the start,
    gamma_end: float = 0.1  # and at the end of the budget (geometric between)
    penalty_every: int = 2  # steps; the weight grows with it
    prior: Literal["normal", "uniform"] = "normal"
    latent: int = 64
    style: int = 128  # width of the mapped code, and of what the critic makes of data and of codes
    codes: float = 1.0  # weight of the encoder's squared error on the codes of fakes,
    cycle: float = 1.0  # of the squared error of real data made again from their codes (ALICE), for both players
    clusters: int = 0  # of data without labels: which one an example is in conditions both players
    augment: float = 0.0  # probability of each differentiable augmentation (Zhao et al. 2020)
    augment_over: int = 0  # examples by which it has risen to that


class BiGAN(Model, Samples, Styles, Criticizes, Encodes, Surprises):
    Config = Config
    presets = {"published": {"play": "non-saturating", "penalty": "r1", "codes": 0.0, "cycle": 0.0}}
    about = {"published": "The critic's game alone, without errors on codes and on what comes back from them."}
    accepts = (Continuous, Categorical, Mixed)
    average = 0.16
    finds_clusters = True

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        space, style = spaces["x"], config.style
        self.play = PLAYS[config.play]
        # Labels start quieter than z: with equal voices a generator learns one picture a class and goes deaf to z.
        self.generator_conditioner = Conditioner(spaces, style, scale=gan.QUIET)
        self.critic_conditioner = Conditioner(spaces, style)
        told = style if self.generator_conditioner.names else 0
        self.mapping = gan.Mapping(config.latent, told, style)
        self.generator = gan.generator(space, style, config.network)
        self.critic = gan.critic(space, style, config.critic)
        self.score = initialise(nn.Linear(style, 1))
        self.encoder = gan.critic(space, style, config.critic)
        self.leave = initialise(nn.Linear(style, config.latent))
        self.code_critic = MLP(config.latent, style, width=style, depth=1, activation="leaky_relu")
        self.joint = MLP(2 * style, style, width=2 * style, depth=1, activation="leaky_relu")
        self.alone = initialise(nn.Linear(2 * style, 1))

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        return gan.GAN.adapt(spaces, size, count)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        players = [self.mapping, self.generator, self.generator_conditioner, self.encoder, self.leave]
        return {
            "critic": [p for module in self.opponents() for p in module.parameters()],
            "generator": [p for module in players for p in module.parameters()],
        }

    def opponents(self) -> list[nn.Module]:
        return [self.critic, self.score, self.critic_conditioner, self.code_critic, self.joint, self.alone]

    # --- the players ---

    def prior(self, noise: Noise) -> Tensor:
        """A code (B, latent) of unit variance."""
        if self.config.prior == "uniform":
            return (noise.uniform(self.config.latent) * 2 - 1) * math.sqrt(3)
        return noise.normal(self.config.latent)

    def mapped(self, z: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """(B, latent) -> the style (B, style) that all of the generator hears."""
        told = self.generator_conditioner(raw, present, len(z)).vector
        return self.mapping(z.to(next(self.generator.parameters()).dtype), told)

    def generate(self, z: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor], relax: Tensor | None) -> Tensor:
        """(B, latent) -> embedded fake data (B, width, *grid)."""
        return self.space.relax(wide(self.generator(self.mapped(z, raw, present))), relax)

    def code(self, x: Tensor) -> Tensor:
        """Embedded data (B, width, *grid) -> codes (B, latent)."""
        return wide(self.leave(self.encoder(x)))

    # --- the game ---

    def judge_pair(self, x: Tensor, code: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Scores (B,) of embedded data with codes; conditions by projection (Miyato & Koyama 2018)."""
        dtype = next(self.critic.parameters()).dtype
        both = torch.cat([self.critic(x), self.code_critic(code.to(dtype))], 1)
        features = wide(self.joint(both))
        score = wide(self.score(features) + self.alone(both)).flatten(1)[:, 0]
        cond = self.critic_conditioner(raw, present, len(x)).vector
        return score if cond is None else score + (features * cond).sum(1) / math.sqrt(self.config.style)

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, count, noise = self.config, len(batch), batch.noise
        raw, present = batch.raw, batch.present
        relax = None if isinstance(self.space, Continuous) else noise.uniform(self.space.width, *self.space.grid)
        z, x = self.prior(noise), batch.embedded(self.space)

        def made() -> tuple[Tensor, Tensor]:
            # Fakes have the holes of the real example at their side: holes tell neither critic nor encoder anything.
            return batch.holed(self.generate(z, raw, present, relax), self.space), self.code(x)

        augmentation = risen(config.augment, now.seen, config.augment_over)

        def shown(x: Tensor) -> Tensor:
            return augment(x, noise, augmentation) if augmentation else x

        # One pass serves both turns; not with micro-batches, whose graphs would all be alive at once.
        kept = not config.optimizer.micro
        with torch.set_grad_enabled(kept):
            fake, code = made()
        pairs = [(shown(x).detach(), code.detach()), (shown(fake.detach()), z.clone())]
        penalised = config.penalty != "none" and now.step % config.penalty_every == 0
        for parts in pairs[: {"none": 0, "r1": 1, "r1r2": 2}[config.penalty] if penalised else 0]:
            for part in parts:
                part.requires_grad_(True)
        on_real, on_fake = (self.judge_pair(*pair, raw, present) for pair in pairs)
        loss = self.play.critic(on_real, on_fake).sum()
        logs = {"critic_real": on_real.sum().detach(), "critic_fake": on_fake.sum().detach(), "critic": loss.detach()}
        if penalised:
            first, last = max(config.gamma, 1e-12), max(config.gamma_end, 1e-12)
            gamma = first * (last / first) ** now.progress * config.penalty_every
            steep = [
                squared_gradient_norm(scores, part)
                for scores, pair in zip((on_real, on_fake), pairs, strict=True)
                for part in pair
                if part.requires_grad
            ]
            penalty = gamma / 2 * torch.stack(steep).sum()
            loss = loss + penalty
            logs["penalty"] = penalty.detach() / config.penalty_every  # as if every turn paid its share
        yield Turn("critic", loss, count, logs)

        fake, code = (fake, code) if kept else made()
        yield self._players_turn(batch, (x, code), (fake, z), shown, relax)

    def _players_turn(
        self, batch: Batch, real: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor],
        shown: Callable[[Tensor], Tensor], relax: Tensor | None,
    ) -> Turn:  # fmt: skip
        """The generator makes fakes pass for real pairs, and the encoder makes real pairs pass for fakes."""
        config, (x, code), (fake, z) = self.config, real, made
        # A function of its own: `frozen` must be left before the caller yields.
        with frozen(*self.opponents()):
            on_real = self.judge_pair(shown(x), code, batch.raw, batch.present)
            on_fake = self.judge_pair(shown(fake), z, batch.raw, batch.present)
        # Each player sees the other's scores as they are. To the encoder the roles are exchanged: scores turn around.
        loss = self.play.generator(on_real.detach(), on_fake).sum()
        loss = loss + self.play.generator(-on_fake.detach(), -on_real).sum()
        logs = {"generator": loss.detach()}
        if config.codes:
            error = (self.code(fake) - z).square().mean(1).sum()
            loss = loss + config.codes * error
            logs["codes"] = error.detach()
        if config.cycle:
            again = batch.holed(self.generate(code, batch.raw, batch.present, relax), self.space)
            error = (again - x).square().flatten(1).mean(1).sum()
            loss = loss + config.cycle * error
            logs["cycle"] = error.detach()
        return Turn("generator", loss, len(batch), logs)

    # --- what it can do ---

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

    def style(self, codes: Tensor, request: Request) -> Tensor:
        return self.mapped(codes, request.raw, request.present).unsqueeze(1)

    def synthesise(self, styles: Tensor, noise: Tensor | None) -> Tensor:
        return self.space.relax(wide(self.generator(styles[:, 0])), None)

    def noise_sides(self) -> list[tuple[int, ...]]:
        return []

    def affines(self) -> list[Tensor]:
        layers = [layer for layer in self.generator.modules() if isinstance(layer, nn.Linear)]
        return [torch.cat([layer.weight.detach() for layer in layers if layer.in_features == self.config.style])]

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        return self.code(batch.embedded(self.space))

    def surprise(self, batch: Batch) -> Tensor:
        """What each element adds to the error of the example made again from its code."""
        mask = masked(self.space, batch.observed, batch.valid)
        x = batch.x if mask is None else torch.where(mask > 0, batch.x, torch.zeros_like(batch.x))
        terms = self.space.terms(wide(self.generator(self.mapped(self.encode(batch), batch.raw, batch.present))), x)
        return terms if mask is None else terms * mask

    def criticize(self, batch: Batch) -> Tensor:
        x = batch.embedded(self.space)
        return self.judge_pair(x, self.code(x), batch.raw, batch.present)
