"""A GAN that learns an encoder in the same game: the critic sees pairs of data and code.

Real data come with the code that the encoder gives them, fakes with the code that they were made from; where the critic
cannot tell the two kinds of pairs apart, encoder and generator are each other's inverse (BiGAN, Donahue et al. 2017;
ALI, Dumoulin et al. 2017). The critic also scores data alone and codes alone (BigBiGAN, Donahue & Simonyan 2019); the
encoder also learns to find the codes of fakes, which are known, and what comes back from a code is to be the example
itself (ALICE, Li et al. 2017). The game is the one of `gan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from trilemma.batches import Batch
from trilemma.config import Optimizer
from trilemma.maths.losses import squared_gradient_norm
from trilemma.maths.precision import wide
from trilemma.models import gan
from trilemma.models.contract import Encodes, Model, Now, Surprises, Turn, frozen
from trilemma.networks.augment import augment
from trilemma.networks.layers import Network, initialise
from trilemma.networks.mlp import MLP
from trilemma.spaces import Continuous, Space, masked


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


class BiGAN(gan.GAN, Encodes, Surprises):
    Config = Config  # type: ignore[assignment]  # less can be chosen here
    presets = {"published": {"play": "non-saturating", "penalty": "r1", "codes": 0.0, "cycle": 0.0}}

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__(config, spaces, start)  # type: ignore[arg-type]  # the settings that it reads are here as well
        style = config.style
        self.encoder = gan.critic(spaces["x"], style, config.critic)
        self.leave = initialise(nn.Linear(style, config.latent))
        self.code_critic = MLP(config.latent, style, width=style, depth=1, activation="leaky_relu")
        self.joint = MLP(2 * style, style, width=2 * style, depth=1, activation="leaky_relu")
        self.alone = initialise(nn.Linear(2 * style, 1))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        groups = super().groups()
        for name, modules in (
            ("critic", (self.code_critic, self.joint, self.alone)),
            ("generator", (self.encoder, self.leave)),
        ):
            groups[name] += [p for module in modules for p in module.parameters()]
        return groups

    def code(self, x: Tensor) -> Tensor:
        """Embedded data (B, width, *grid) -> codes (B, latent)."""
        return wide(self.leave(self.encoder(x)))

    def judge_pair(self, x: Tensor, code: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Scores (B,) of embedded data with codes; conditions by projection (Miyato & Koyama 2018)."""
        dtype = next(self.critic.parameters()).dtype
        both = torch.cat([self.critic(x), self.code_critic(code.to(dtype))], 1)
        features = wide(self.joint(both))
        score = wide(self.score(features) + self.alone(both)).flatten(1)[:, 0]
        cond = self.critic_conditioner(raw, present, len(x)).vector
        return score if cond is None else score + (features * cond).sum(1) / self.config.style**0.5

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, count, noise = self.config, len(batch), batch.noise
        assert isinstance(config, Config)
        raw, present = batch.raw, batch.present
        relax = None if isinstance(self.space, Continuous) else noise.uniform(self.space.width, *self.space.grid)
        z, x = self.prior(noise), self.holed(self.space.embed(batch.x), batch)

        def made() -> tuple[Tensor, Tensor]:
            # Fakes have the holes of the real example at their side: holes tell neither critic nor encoder anything.
            return self.holed(self.generate(z, raw, present, relax), batch), self.code(x)

        def shown(x: Tensor) -> Tensor:
            return augment(x, noise, config.augment) if config.augment else x

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
        assert isinstance(config, Config)
        # A function of its own: `frozen` must be left before the caller yields.
        with frozen(self.critic, self.score, self.critic_conditioner, self.code_critic, self.joint, self.alone):
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
            again = self.holed(self.generate(code, batch.raw, batch.present, relax), batch)
            error = (again - x).square().flatten(1).mean(1).sum()
            loss = loss + config.cycle * error
            logs["cycle"] = error.detach()
        return Turn("generator", loss, len(batch), logs)

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        return self.code(self.holed(self.space.embed(batch.x), batch))

    def surprise(self, batch: Batch) -> Tensor:
        """What each element adds to the error of the example made again from its code."""
        mask = masked(self.space, batch.observed, batch.valid)
        x = batch.x if mask is None else torch.where(mask > 0, batch.x, torch.zeros_like(batch.x))
        terms = self.space.terms(wide(self.generator(self.mapped(self.encode(batch), batch.raw, batch.present))), x)
        return terms if mask is None else terms * mask

    def criticize(self, batch: Batch) -> Tensor:
        x = self.holed(self.space.embed(batch.x), batch)
        return self.judge_pair(x, self.code(x), batch.raw, batch.present)
