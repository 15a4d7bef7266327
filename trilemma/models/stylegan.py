"""A style-based GAN: codes are mapped to styles, and a style steers every layer of the generator.

StyleGAN2's generator (Karras et al. 2020: weights modulated by the style, noise in each layer, an output of each
resolution) in the relativistic game with penalties on real and fake data (R3GAN, Huang et al. 2024), whose critic it
has; style mixing and path-length regularisation as published; augmentation whose probability follows how well the
critic tells real from fake (Karras et al. 2020, "Training generative adversarial networks with limited data").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError
from trilemma.maths.losses import PLAYS, squared_gradient_norm
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.mixed import Mixed
from trilemma.models.contract import (
    Criticizes,
    Model,
    Now,
    Samples,
    Styles,
    Turn,
    default_clusters,
    frozen,
)
from trilemma.networks.augment import GREATEST, vary
from trilemma.networks.conv import Critic
from trilemma.networks.layers import Network, initialise
from trilemma.networks.mlp import mlp
from trilemma.networks.stylegan import Mapping, Synthesis
from trilemma.spaces import Categorical, Continuous, Space

QUIET = 0.25  # deviation of a label's vector in the mapping at the start; that of z is 1
# Of pairs. Karras et al. keep E[sign(critic(real))] at 0.6: four of five reals above zero. Where normal scores lie that
# far apart, reals win 88 % of pairs: 0.88 - 0.12.
USUAL = 0.76
FOLLOW = 0.01  # weight of the newest mean path length in the running one (StyleGAN2, appendix B)


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(activation="leaky_relu"))  # synthesis
    critic: Network = field(default_factory=lambda: Network(activation="leaky_relu", depth=1))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(rate=1e-3, betas=(0.0, 0.99), stay=0.3, batch=64, warm_up=12_800)
    )
    play: Literal["non-saturating", "relativistic"] = "relativistic"
    penalty: Literal["none", "r1", "r1r2"] = "r1r2"
    gamma: float = 1.0  # weight of the penalty at the start,
    gamma_end: float = 0.1  # and at the end of the budget (geometric between)
    penalty_every: int = 2  # steps; the weight grows with it
    latent: int = 64
    style: int = 128  # width of the styles
    mapping: int = 2  # layers from codes to styles
    pace: float = 20.0  # relative rate of the synthesis' weights, in optimizer rates
    mapping_pace: float = 5.0  # and of the mapping's
    mixing: float = 0.0  # share of fakes whose layers, from a random one on, have another code's style
    path_length: float = 0.0  # weight of path-length regularisation; 0: none. StyleGAN2's: 2
    path_every: int = 4  # steps
    clusters: int = 0  # of data without labels: which one an example is in conditions both players
    augment: float = 0.0  # probability of each augmentation at the start
    target: float = 0.0  # what augmentation keeps E[sign(critic(real) - critic(fake))] at; 0: its probability stays
    rise: float = 0.25  # share of the budget in which the probability can go from 0 to 1


class StyleGAN(Model, Samples, Styles, Criticizes):
    Config = Config
    presets = {
        "ada": {"augment": 0.0, "target": USUAL},
        "plain": {"augment": 0.0, "target": 0.0},
        "smooth": {"path_length": 2.0},
    }
    about = {
        "ada": "Augmentation that the critic steers, of however many examples; the default below 10,000.",
        "plain": "No augmentation, however few examples there are.",
        "smooth": "Equal steps in styles are to be equal steps in examples: StyleGAN2's path-length regularisation.",
    }
    accepts = (Continuous, Categorical, Mixed)
    kinds = ("conv",)
    average = 0.16
    finds_clusters = True

    path_mean: Tensor
    probability: Tensor

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        space, style = spaces["x"], config.style
        self.play = PLAYS[config.play]
        # Labels start quieter than z: with equal voices a generator learns one picture a class and goes deaf to z.
        self.generator_conditioner = Conditioner(spaces, style, scale=QUIET)
        self.critic_conditioner = Conditioner(spaces, style)
        told = style if self.generator_conditioner.names else 0
        self.mapping = Mapping(config.latent, told, style, config.mapping, pace=config.mapping_pace)
        self.synthesis = Synthesis(space.width, space.grid, config.network, style=style, pace=config.pace)
        if not space.grid:
            inputs = space.width * math.prod(space.grid)
            self.critic: nn.Module = nn.Sequential(nn.Flatten(), mlp(inputs, style, config.critic))
        else:
            self.critic = Critic(space.width, style, space.grid, config.critic)
        self.score = initialise(nn.Linear(style, 1))
        self.register_buffer("probability", torch.tensor(config.augment))
        self.register_buffer("path_mean", torch.tensor(0.0))

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        space, number = spaces["x"], SIZES.index(size)
        few = count < 10_000
        if not space.grid:
            width = (64, 128, 256, 384, 512)[number]
            vector: dict[str, Any] = {
                "latent": max(16, space.width),
                "optimizer.batch": 256,
                "network.depth": 3,
            }
            vector |= {"network.kind": "mlp", "network.width": width, "critic.kind": "mlp", "critic.width": width}
            return vector | {"critic.depth": 3, "critic.activation": "silu"}
        side = max(space.grid)
        patch = 2 if side >= 16 else 1
        levels = min(max(math.ceil(math.log2(side / patch / 7)), 0), 5) + 1
        settings: dict[str, Any] = {
            "target": USUAL if few else 0.0,
            "clusters": default_clusters(spaces, count, most=100),
        }
        # Squared gradients grow with the number of pixels; a critic that learns few examples by heart needs holding.
        scarce = min(10_000 / count, 10.0) if few and side > 16 else 1.0
        settings["gamma"] = round(max(math.prod(space.shape) / 1000, 1.0) * math.sqrt(scarce), 2)
        settings["gamma_end"] = round(settings["gamma"] * (0.2 if scarce > 1 else 0.1), 3)
        if side // patch <= 8:
            settings["critic.depth"] = 2  # one strided layer is all that a small grid gives: too weak a critic alone
        for part, widths in (("network", (24, 48, 64, 96, 128)), ("critic", (40, 64, 80, 96, 128))):
            settings |= {f"{part}.width": widths[number], f"{part}.patch": patch}
        return settings | {"network.multipliers": (1, 2, 3, 4, 4, 4)[:levels]}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        player = [self.mapping, self.synthesis, self.generator_conditioner]
        opponent = [self.critic, self.score, self.critic_conditioner]
        return {
            "critic": [p for module in opponent for p in module.parameters()],
            "generator": [p for module in player for p in module.parameters()],
        }

    # --- the generator ---

    def mapped(self, z: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """(B, latent) -> (B, style)."""
        cond = self.generator_conditioner(raw, present, len(z)).vector
        return wide(self.mapping(z.to(self.synthesis.start.weight.dtype), cond))

    def styles(self, z: Tensor, other: Tensor, draws: Tensor, batch: Batch) -> Tensor:
        """Styles (B, layers, style) of z, with those of `other` from a random layer on in a share of the examples
        (style mixing, Karras et al. 2019, section 3.1). draws: uniform (B, 2)."""
        layers = self.synthesis.layers
        w = self.mapped(z, batch.raw, batch.present).unsqueeze(1).expand(-1, layers, -1)
        if not self.config.mixing or layers < 2:
            return w
        late = self.mapped(other, batch.raw, batch.present).unsqueeze(1)
        crossing = 1 + (draws[:, 1:] * (layers - 1)).long()
        crossing = torch.where(draws[:, :1] < self.config.mixing, crossing, torch.full_like(crossing, layers))
        here = torch.arange(layers, device=w.device).unsqueeze(0) < crossing
        return torch.where(here.unsqueeze(2), w, late)

    def synthesise(self, styles: Tensor, noise: Tensor | None, relax: Tensor | None = None) -> Tensor:
        return self.space.relax(wide(self.synthesis(styles.to(self.synthesis.start.weight.dtype), noise)), relax)

    def style(self, codes: Tensor, request: Request) -> Tensor:
        return self.mapped(codes, request.raw, request.present).unsqueeze(1).repeat(1, self.synthesis.layers, 1)

    def noise_sides(self) -> list[tuple[int, ...]]:
        return self.synthesis.sides

    def affines(self) -> list[Tensor]:
        return self.synthesis.affines()

    # --- the game ---

    def judge(self, x: Tensor, raw: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Scores (B,) of embedded data; conditions by projection (Miyato & Koyama 2018)."""
        features = wide(self.critic(x))
        score = wide(self.score(features)).flatten(1)[:, 0]
        cond = self.critic_conditioner(raw, present, len(x)).vector
        return score if cond is None else score + (features * cond).sum(1) / math.sqrt(self.config.style)

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, count, noise = self.config, len(batch), batch.noise
        raw, present = batch.raw, batch.present
        numbers = isinstance(self.space, Continuous)  # of tokens and tables nothing can be turned or recoloured
        augmenting = numbers and bool(self.space.grid) and (config.target > 0 or config.augment > 0)

        def shown(x: Tensor) -> Tensor:
            # The critic sees fakes through the holes of the real example at their side: holes tell it nothing.
            x = batch.holed(x, self.space)
            return vary(x, noise, self.probability) if augmenting else x

        z, other = noise.normal(2, config.latent).unbind(1)
        draws, layer_noise = noise.uniform(2), noise.normal(sum(self.synthesis.noises))
        relax = None if numbers else noise.uniform(self.space.width, *self.space.grid)

        def made() -> tuple[Tensor, Tensor]:
            w = self.styles(z, other, draws, batch)
            return w, self.synthesise(w, layer_noise, relax)

        # One pass through the generator serves both turns; not with micro-batches, whose graphs would all be alive at
        # once: then the same fakes are made again.
        kept = not config.optimizer.micro
        with torch.set_grad_enabled(kept):
            w, x = made()
        penalised = config.penalty != "none" and now.step % config.penalty_every == 0
        real, fake = shown(self.space.embed(batch.x)).detach(), shown(x.detach())
        if penalised:
            real.requires_grad_(True)
            fake.requires_grad_(config.penalty == "r1r2")
        on_real, on_fake = self.judge(real, raw, present), self.judge(fake, raw, present)
        loss = self.play.critic(on_real, on_fake).sum()
        logs = {"critic_real": on_real.sum().detach(), "critic_fake": on_fake.sum().detach(), "critic": loss.detach()}
        if penalised:
            first, last = max(config.gamma, 1e-12), max(config.gamma_end, 1e-12)
            gamma = first * (last / first) ** now.progress * config.penalty_every
            penalty = gamma / 2 * squared_gradient_norm(on_real, real)
            if config.penalty == "r1r2":
                penalty = penalty + gamma / 2 * squared_gradient_norm(on_fake, fake)
            loss = loss + penalty.sum()
            logs["penalty"] = penalty.sum().detach() / config.penalty_every  # as if every turn paid its share
        # A relativistic critic's scores have no zero: it knows data by heart where every real example beats its fake.
        shared = {"wins": (on_real - on_fake).sign().sum().detach()} if augmenting and config.target else {}
        if augmenting:
            logs |= {"augment": self.probability * count, **shared}
        yield Turn("critic", loss, count, logs, shared)

        w, x = (w, x) if kept else made()
        yield self._generator_turn(batch, now, w, x, shown(x), on_real.detach())

    def _generator_turn(self, batch: Batch, now: Now, w: Tensor, x: Tensor, fake: Tensor, on_real: Tensor) -> Turn:
        """on_real: the scores of before the critic's step, which moves them little; a relativistic game needs them."""
        # A function of its own: `frozen` must be left before the caller yields.
        config = self.config
        with frozen(self.critic, self.score, self.critic_conditioner):
            on_fake = self.judge(fake, batch.raw, batch.present)
        loss = self.play.generator(on_real, on_fake).sum()
        logs, shared = {"generator": loss.detach()}, {}
        if config.path_length and now.step % config.path_every == 0:
            lengths = path_lengths(x, w, batch.noise)
            penalty = config.path_length * config.path_every * (lengths - self.path_mean).square().sum()
            loss = loss + penalty
            logs["path"] = shared["path"] = lengths.sum().detach()
        return Turn("generator", loss, len(batch), logs, shared)

    @torch.no_grad()
    def adjust(self, means: dict[str, Tensor], now: Now) -> None:
        config = self.config
        if "wins" in means:
            step = config.optimizer.batch / (config.rise * max(now.total, 1))
            way = (means["wins"] - config.target).sign().to(self.probability.dtype)  # no number: nobody waits for it
            self.probability.add_(way * step).clamp_(0.0, GREATEST)
        if "path" in means:
            self.path_mean.lerp_(means["path"].to(self.path_mean.dtype), FOLLOW)

    # --- what it can do ---

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        return self.decode(self.draw(request), request)

    def draw(self, request: Request) -> Tensor:
        if request.options.prior not in (None, "normal"):
            raise InputError(f"prior {request.options.prior!r}: StyleGAN draws its codes from 'normal' only")
        return request.noise.normal(self.config.latent)

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        noise = self.layer_noise(request.noise, request.options.noise_seed)
        return self.space.decode(self.synthesise(self.truncated(codes, request), noise))

    def criticize(self, batch: Batch) -> Tensor:
        return self.judge(batch.embedded(self.space), batch.raw, batch.present)


def path_lengths(x: Tensor, styles: Tensor, noise: Noise) -> Tensor:
    """|J^T y| per example (B,): how far x (B, C, *grid) moves for a step of its styles (B, layers, style), in a random
    direction y of unit length on average, the root of its mean square over layers (StyleGAN2, eq. 4)."""
    y = noise.normal(*x.shape[1:]).to(x.dtype) / math.sqrt(x[0].numel())
    (gradient,) = torch.autograd.grad((x * y).sum(), styles, create_graph=True)
    return (gradient.square().sum(2).mean(1) + 1e-12).sqrt()
