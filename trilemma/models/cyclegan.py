"""CycleGAN: unpaired translation both ways (Zhu et al. 2017).

One generator makes x out of the other set, one makes the other set out of x; a critic of patches judges each result,
which must lead back to where it came from. `published` is the paper's game: least squares, one example a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.config import Optimizer
from trilemma.maths.losses import PLAYS
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand, mean_per_example
from trilemma.models.contract import Criticizes, Model, Now, Samples, Translates, Turn, frozen
from trilemma.networks.augment import augment
from trilemma.networks.layers import Network, initialise
from trilemma.networks.patchgan import PatchCritic, ResnetGenerator, critic_loss, unpaired_settings
from trilemma.spaces import Continuous, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(width=48, depth=4))
    critic: Network = field(default_factory=lambda: Network(width=48, depth=1, activation="leaky_relu"))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(rate=1e-3, betas=(0.5, 0.99), stay=0.4, batch=16, warm_up=2_000)
    )
    play: Literal["non-saturating", "hinge", "relativistic", "least-squares"] = "non-saturating"
    penalty: Literal["none", "r1", "r1r2"] = "r1"
    gamma: float = 0.1  # weight of the penalty
    penalty_every: int = 2  # critic turns; the weight grows with it
    cycle: float = 5.0  # weight of the absolute distance to the start after both ways, in units of the data's deviation
    identity: float = 2.5  # the same for x that is taken for a source, where the channels are as many
    pool: int = 50  # past results that the critics see instead of half of the new ones; 0: none
    latent: int = 8  # width of z, by which draws differ
    embedding: int = 64
    augment: float = 0.0  # probability of each differentiable augmentation of what the critics see


BUFFERS = ("kept", "filled")  # buffers of a pool


class Pool(nn.Module):
    """Past results of one generator (Shrivastava et al. 2017), a few for each place in a batch.

    An example reads and writes its own place's, so that parts of a batch and processes do as the whole does.
    """

    kept: Tensor
    filled: Tensor

    def __init__(self, size: int, batch: int, shape: tuple[int, ...]):
        super().__init__()
        self.size, self.each = size, max(size // batch, 1)
        self.register_buffer("kept", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))

    def exchange(self, made: Tensor, place: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """(what the critic sees: (B, ...), where each new result goes or -1): half are old ones, once all is full."""
        if not self.size:
            return made, torch.full_like(place, -1)
        uniform, first = noise.uniform(2), place * self.each
        own = first.unsqueeze(1) + torch.arange(self.each, device=place.device)
        count = self.filled[own.clamp(max=self.size - 1)].sum(1)
        slot, full = first + (uniform[:, 0] * self.each).long(), count >= self.each
        has = first + self.each <= self.size  # of a batch larger than the pool only some places have any
        old = has & full & (uniform[:, 1] < 0.5)
        shown = torch.where(expand(old, made), self.kept[slot.clamp(max=self.size - 1)].to(made.dtype), made)
        return shown, torch.where(old, slot, torch.where(full | ~has, -1, first + count))

    def keep(self, made: Tensor, slot: Tensor) -> None:
        """Write results where `exchange` said."""
        # Slot by slot, which result it gets, if any: picking out those that go somewhere, one must wait for a GPU.
        goes = torch.arange(self.size, device=slot.device).unsqueeze(1) == slot
        gets = goes.any(1)
        new = made[goes.int().argmax(1)].to(self.kept.dtype)
        self.kept.copy_(torch.where(expand(gets, new), new, self.kept))
        self.filled.logical_or_(gets)

    def forget(self) -> None:
        """Nothing is kept any more."""
        self.kept.zero_()
        self.filled.fill_(False)


class CycleGAN(Model, Samples, Translates, Criticizes):
    Config = Config
    presets = {
        # Its distances weigh 10 and 5 on data in [-1, 1], whose deviation is about 0.5; its generators' squares count
        # whole, ours half: a quarter of the weights keeps the balance.
        "published": {
            "cycle": 2.5,
            "identity": 1.25,
            "play": "least-squares",
            "penalty": "none",
            "optimizer.rate": 2e-4,
            "optimizer.betas": (0.5, 0.999),
            "optimizer.batch": 1,
            "optimizer.stay": 0.5,
            "optimizer.warm_up": 0,
        },
    }
    about = {"published": "The paper's game: least squares, one example a step, no penalty (Zhu et al. 2017)."}
    accepts = (Continuous,)
    needs_grid = True
    kinds = ("conv",)
    sets = ("unpaired",)

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        space, other = spaces["x"], spaces["other"]
        self.config, self.spaces, self.play = config, nn.ModuleDict(spaces), PLAYS[config.play]
        width, norm = config.embedding, config.penalty == "none"
        self.code = initialise(nn.Linear(config.latent, width))
        self.to_x = ResnetGenerator(other.width, space.width, space.grid, config.network, embedding=width)
        self.to_other = ResnetGenerator(space.width, other.width, space.grid, config.network, embedding=width)
        self.critic_x = PatchCritic(space.width, space.grid, config.critic, normalise=norm)
        self.critic_other = PatchCritic(other.width, other.grid, config.critic, normalise=norm)
        size = (config.pool, config.optimizer.batch)
        self.pool_x = Pool(*size, (space.width, *space.grid))
        self.pool_other = Pool(*size, (other.width, *other.grid))

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        return unpaired_settings(spaces["x"].grid, size)

    @property
    def other(self) -> Space:
        """What x is made of."""
        return cast(Space, self.spaces["other"])

    def of_places(self, start: int, stop: int) -> dict[str, slice]:
        each = self.pool_x.each
        return {
            f"{pool}.{own}": slice(start * each, stop * each) for pool in ("pool_x", "pool_other") for own in BUFFERS
        }

    def forget(self) -> None:
        self.pool_x.forget()
        self.pool_other.forget()

    def groups(self) -> dict[str, list[nn.Parameter]]:
        player, opponent = [self.code, self.to_x, self.to_other], [self.critic_x, self.critic_other]
        return {
            "critic": [p for module in opponent for p in module.parameters()],
            "generator": [p for module in player for p in module.parameters()],
        }

    def coded(self, noise: Noise) -> Tensor:
        """(B, embedding) of a code z."""
        weight = cast(Tensor, self.code.weight)
        return functional.silu(self.code(noise.normal(self.config.latent).to(weight.dtype)))

    def make_x(self, source: Tensor, style: Tensor) -> Tensor:
        """Embedded x out of the embedded other."""
        return self.space.relax(wide(self.to_x(source.to(style.dtype), style)))

    def make_other(self, x: Tensor, style: Tensor) -> Tensor:
        """Embedded other out of embedded x."""
        return self.other.relax(wide(self.to_other(x.to(style.dtype), style)))

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise, count = self.config, batch.noise, len(batch)
        assert batch.other is not None
        mask = masked(self.space, batch.observed, batch.valid)
        mask = torch.ones_like(batch.x[:1], dtype=torch.float32) if mask is None else self.space.widen(mask)
        x, other = self.space.embed(batch.x) * mask, self.other.embed(batch.other)

        def shown(value: Tensor) -> Tensor:
            return augment(value, noise, config.augment) if config.augment else value

        # One pass through the generators serves both turns; not with micro-batches, whose graphs would all be alive.
        kept, draw = not config.optimizer.micro, noise.draw
        with torch.set_grad_enabled(kept):
            style = self.coded(noise)
            made_x, made_other = self.make_x(other, style), self.make_other(x, style)
        place = batch.index % config.optimizer.batch
        old_x, slot_x = self.pool_x.exchange(made_x.detach(), place, noise)
        old_other, slot_other = self.pool_other.exchange(made_other.detach(), place, noise)
        penalty = config.penalty if now.step % config.penalty_every == 0 else "none"
        settings: dict[str, Any] = {"penalty": penalty, "gamma": config.gamma, "factor": config.penalty_every}
        loss, on_x, logs = critic_loss(self.critic_x, self.play, shown(x), shown(old_x * mask), **settings)
        second, on_other, more = critic_loss(self.critic_other, self.play, shown(other), shown(old_other), **settings)
        logs = {name: (value + more[name]) / 2 for name, value in logs.items()}
        yield Turn("critic", loss + second, count, logs)

        if not kept:
            after, noise.draw = noise.draw, draw
            style = self.coded(noise)
            made_x, made_other = self.make_x(other, style), self.make_other(x, style)
            noise.draw = after
        with frozen(self.critic_x, self.critic_other):
            game = self.play.generator(on_x, wide(self.critic_x(shown(made_x * mask)))).mean(1)
            game = game + self.play.generator(on_other, wide(self.critic_other(shown(made_other)))).mean(1)
        cycle = mean_per_example((self.make_x(made_other, style) - x).abs() * mask)
        cycle = cycle + mean_per_example((self.make_other(made_x, style) - other).abs())
        loss = (game + config.cycle * cycle).sum()
        logs = {"generator": game.sum().detach(), "cycle": cycle.sum().detach()}
        if config.identity and self.space.width == self.other.width:
            # Each as somebody would hand it in: in the statistics of the side that it is taken for.
            taken, other_taken = self.other.embed(batch.x) * mask, self.space.embed(batch.other)
            same = mean_per_example((self.make_x(taken, style) - x).abs() * mask)
            same = same + mean_per_example((self.make_other(other_taken, style) - other).abs())
            loss, logs["identity"] = loss + config.identity * same.sum(), same.sum().detach()
        made_x, made_other = made_x.detach(), made_other.detach()
        yield Turn("generator", loss, count, logs)
        # All parts of the batch have read by now.
        self.pool_x.keep(made_x, slot_x)
        self.pool_other.keep(made_other, slot_other)

    def translate(self, request: Request, *, back: bool = False) -> Tensor:
        if not back:
            return self.sample(request)
        style = self.coded(request.noise)
        return self.other.decode(self.make_other(self.space.embed(request.raw["source"]), style))

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        style = self.coded(request.noise)
        return self.space.decode(self.make_x(self.other.embed(self.source_of(request)), style))

    def criticize(self, batch: Batch) -> Tensor:
        return mean_per_example(wide(self.critic_x(batch.embedded(self.space))))
