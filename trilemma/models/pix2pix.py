"""pix2pix: a U-Net from source to x against a critic of patches that sees both (Isola et al. 2017).

Draws could differ by a code z that enters every block (the paper's dropout would not be a function of (seed, index) in
sampling); as in the paper they hardly do, since the distance asks for the median. Diverse draws: the bridge.

`published` is the paper's game: non-saturating, a strong absolute distance, one example a step, no penalty. `spade`
hears of its source in every normalisation (Park et al. 2019): for maps of classes. `srgan` is for sources that are
blurred copies of x (Ledig et al. 2017): it adds to them, and its perceptual distance is one of the critic's own
features (Wang et al. 2018): no network that measures has a say in training. With `perceptual` that of a network of
photographs is added (theirs is VGG), and reports leave out what this one would say.

A source and its x can be shifted in training, both alike (`jitter`); the paper mirrors them as well (training.flip).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Cond, Conditioner
from trilemma.config import SIZES, Optimizer
from trilemma.maths.losses import PLAYS
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import mean_per_example
from trilemma.models.contract import Criticizes, Model, Now, Samples, Translates, Turn, frozen
from trilemma.networks import perceptual
from trilemma.networks.augment import JITTER, augment, jitter
from trilemma.networks.layers import Network, initialise, resolutions
from trilemma.networks.patchgan import PatchCritic, critic_loss
from trilemma.networks.spade import SpadeGenerator
from trilemma.networks.unet import UNet, unet_settings
from trilemma.spaces import Continuous, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(width=64, depth=1))
    critic: Network = field(default_factory=lambda: Network(width=48, depth=1, activation="leaky_relu"))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(rate=1e-3, betas=(0.5, 0.99), stay=0.4, batch=32, warm_up=2_000)
    )
    play: Literal["non-saturating", "hinge", "relativistic", "least-squares"] = "relativistic"
    penalty: Literal["none", "r1", "r1r2"] = "r1r2"
    gamma: float = 0.1  # weight of the penalty
    penalty_every: int = 2  # critic turns; the weight grows with it
    distance: float = 10.0  # weight of the absolute distance, in units of the data's deviation
    matching: float = 0.0  # weight of the absolute distance of the critic's features of x and of what is made
    perceptual: float = 0.0  # weight of how unlike x and what is made look to a packaged network of photographs
    generator: Literal["unet", "spade"] = "unet"
    residual: bool = False  # what is made is added to the source, where that has as many channels as x
    latent: int = 16  # width of z
    embedding: int = 128
    augment: float = 0.0  # probability of each differentiable augmentation of what the critic sees (Zhao et al. 2020)
    jitter: float = 0.0  # source and x are shifted together, by up to this share of a side


class Pix2Pix(Model, Samples, Translates, Criticizes):
    Config = Config
    presets = {
        # Its distance weighs 100 on data in [-1, 1], whose deviation is about 0.5.
        "published": {
            "play": "non-saturating",
            "penalty": "none",
            "distance": 50.0,
            "augment": 0.0,
            "jitter": JITTER,
            "optimizer.rate": 2e-4,
            "optimizer.betas": (0.5, 0.999),
            "optimizer.batch": 1,
            "optimizer.stay": 0.5,
            "optimizer.warm_up": 0,
        },
        "spade": {"generator": "spade", "matching": 5.0},
        # What a degradation left of x may go by places: a shift would be another degradation.
        "srgan": {"residual": True, "matching": 10.0, "jitter": 0.0},
    }
    about = {
        "published": "The paper's game: one example a step, a strong absolute distance (Isola et al. 2017).",
        "spade": "For label maps: each normalisation of the generator hears of the source (Park et al. 2019).",
        "srgan": "For blurred or shrunk sources: it adds to them, led by features of the critic (Ledig et al. 2017).",
    }
    accepts = (Continuous,)
    needs_grid = True
    kinds = ("conv",)
    sets = ("paired",)

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        space = spaces["x"]
        self.config, self.spaces, self.play = config, nn.ModuleDict(spaces), PLAYS[config.play]
        width = config.embedding
        self.conditioner = Conditioner(spaces, width)
        self.code = nn.Sequential(
            initialise(nn.Linear(config.latent, width)), nn.SiLU(), initialise(nn.Linear(width, width))
        )
        make = SpadeGenerator if config.generator == "spade" else UNet
        self.generator = make(self.conditioner.channels, space.width, space.grid, config.network, embedding=width)
        source = spaces["source"]
        alike = isinstance(space, Continuous) and isinstance(source, Continuous) and space.width == source.width
        self.adds = config.residual and alike
        seen = self.conditioner.channels + space.width
        self.critic = PatchCritic(seen, space.grid, config.critic, normalise=config.penalty == "none")

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        number, grid = SIZES.index(size), spaces["x"].grid
        patch, levels = resolutions(grid, 16, 32)
        return {
            **unet_settings(grid, size),
            "network.depth": 1 if number < 2 else 2,
            "critic.width": (32, 48, 64, 96, 128)[number],
            "critic.multipliers": (1, 2, 4, 4)[:levels],
            "critic.patch": patch,
            "augment": 1.0 if count < 5_000 else 0.0,
        }

    def groups(self) -> dict[str, list[nn.Parameter]]:
        player = [self.conditioner, self.code, self.generator]
        return {"critic": list(self.critic.parameters()), "generator": [p for m in player for p in m.parameters()]}

    def generate(self, cond: Cond, noise: Noise) -> Tensor:
        """Embedded x (B, width, *grid) out of the source in the conditions."""
        dtype = cast(Tensor, self.code[0].weight).dtype
        embedding = self.code(noise.normal(self.config.latent).to(dtype))
        embedding = embedding if cond.vector is None else embedding + cond.vector
        assert cond.grid is not None
        made = wide(self.generator(cond.grid.to(dtype), functional.silu(embedding)))
        return self.space.relax(made + self.taken(cond.grid) if self.adds else made)

    def taken(self, grid: Tensor) -> Tensor:
        """The source as if it were x: out of its own Space's units into those of x, (B, width, *grid)."""
        source = cast(Space, self.spaces["source"])
        return self.space.embed(source.decode(wide(grid[:, : source.width])))

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise = self.config, batch.noise
        move = jitter(noise, self.space.grid, config.jitter)
        mask = masked(self.space, batch.observed, batch.valid)
        mask = torch.ones_like(batch.x[:1], dtype=torch.float32) if mask is None else move(self.space.widen(mask))
        real = move(self.space.embed(batch.x)) * mask

        def told() -> Cond:
            cond = self.conditioner(batch.raw, batch.present, len(batch))
            assert cond.grid is not None
            return replace(cond, grid=move(cond.grid))

        cond = told()
        source = cast(Tensor, cond.grid)

        def shown(x: Tensor) -> Tensor:
            """(B, channels, *grid) of source and x, augmented alike."""
            both = torch.cat([source, x * mask], 1)
            return augment(both, noise, config.augment) if config.augment else both

        # One pass through the generator serves both turns; not with micro-batches, whose graphs would all be alive.
        kept, draw = not config.optimizer.micro, noise.draw
        with torch.set_grad_enabled(kept):
            made = self.generate(cond, noise)
        penalty = config.penalty if now.step % config.penalty_every == 0 else "none"
        settings: dict[str, Any] = {"penalty": penalty, "gamma": config.gamma, "factor": config.penalty_every}
        loss, on_real, logs = critic_loss(self.critic, self.play, shown(real), shown(made), **settings)
        yield Turn("critic", loss, len(batch), logs)

        if not kept:
            cond = told()
            after, noise.draw = noise.draw, draw
            made = self.generate(cond, noise)
            noise.draw = after
        draw = noise.draw
        with frozen(self.critic):
            *features, scores = self.critic.seen(shown(made))
        game = mean_per_example(self.play.generator(on_real, wide(scores))).sum()
        apart = mean_per_example((made - real).abs() * mask).sum()
        loss, logs = game + config.distance * apart, {"generator": game.detach(), "distance": apart.detach()}
        if config.matching:
            after, noise.draw = noise.draw, draw  # augmented alike, or places would not belong together
            with torch.no_grad():
                wanted = self.critic.seen(shown(real))[:-1]
            noise.draw = after
            levels = zip(features, wanted, strict=True)
            unlike = sum(mean_per_example((wide(one) - wide(two)).abs()).sum() for one, two in levels) / len(wanted)
            loss, logs["matching"] = loss + config.matching * unlike, cast(Tensor, unlike).detach()
        if config.perceptual:
            looks = perceptual.unlike(self.space, made * mask, real).sum()
            loss, logs["perceptual"] = loss + config.perceptual * looks, looks.detach()
        yield Turn("generator", loss, len(batch), logs)

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        self.source_of(request)
        cond = self.conditioner(request.raw, request.present, len(request))
        return self.space.decode(self.generate(cond, request.noise))

    def criticize(self, batch: Batch) -> Tensor:
        source = self.conditioner.grid(batch.raw, batch.present, len(batch))
        assert source is not None
        return mean_per_example(wide(self.critic(torch.cat([source, batch.embedded(self.space)], 1))))
