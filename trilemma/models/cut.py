"""CUT: unpaired translation in one direction; the default for two sets (Park et al. 2020).

A critic of patches says whether results look like x. Contrast keeps what is where: by the features of the generator's
first half, each patch of a result must be found among those of its own source (their eq. 3 and 4). `fast` is their
FastCUT, with a stronger contrast and no identity term; `published` the paper's game at one example a step.
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
from trilemma.maths.shapes import mean_per_example
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
    contrast: float = 1.0  # weight of the patches' contrast
    identity: float = 1.0  # weight of the same contrast for x itself, which should stay what it is
    temperature: float = 0.07
    patches: int = 64  # places a layer; all, where there are fewer (the paper's 256 cost more than the generator here)
    projection: int = 64  # width of the features that are contrasted
    latent: int = 8  # width of z, by which draws differ
    embedding: int = 64
    augment: float = 0.0  # probability of each differentiable augmentation of what the critic sees


class CUT(Model, Samples, Translates, Criticizes):
    Config = Config
    presets = {
        # FastCUT, but for its flip equivariance (sources mirrored at random, and their features back).
        "fast": {"contrast": 10.0, "identity": 0.0},
        # The paper's equation: both weights are 1 beside the generator's whole squares; ours count half. The authors'
        # code takes the mean of the two contrasts there: --set contrast=0.25 --set identity=0.25.
        "published": {
            "contrast": 0.5,
            "identity": 0.5,
            "patches": 256,
            "projection": 256,
            "play": "least-squares",
            "penalty": "none",
            "optimizer.rate": 2e-4,
            "optimizer.betas": (0.5, 0.999),
            "optimizer.batch": 1,
            "optimizer.stay": 0.5,
            "optimizer.warm_up": 0,
        },
    }
    about = {
        "fast": "FastCUT: a stronger contrast and no identity term, so fewer passes a step.",
        "published": "The paper's game: least squares, one example a step, 256 patches (Park et al. 2020).",
    }
    accepts = (Continuous,)
    needs_grid = True
    kinds = ("conv",)
    sets = ("unpaired",)

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        space, source = spaces["x"], spaces["other"]
        self.config, self.spaces, self.play = config, nn.ModuleDict(spaces), PLAYS[config.play]
        width, hidden = config.embedding, config.projection
        self.code = nn.Sequential(initialise(nn.Linear(config.latent, width)))
        self.generator = ResnetGenerator(source.width, space.width, space.grid, config.network, embedding=width)
        self.heads = nn.ModuleList(
            nn.Sequential(initialise(nn.Linear(size, hidden), 2**0.5), nn.ReLU(), initialise(nn.Linear(hidden, hidden)))
            for size in self.generator.widths
        )
        self.critic = PatchCritic(space.width, space.grid, config.critic, normalise=config.penalty == "none")

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        return unpaired_settings(spaces["x"].grid, size)

    @property
    def other(self) -> Space:
        """What x is made of."""
        return cast(Space, self.spaces["other"])

    def groups(self) -> dict[str, list[nn.Parameter]]:
        player = [self.code, self.generator, self.heads]
        return {"critic": list(self.critic.parameters()), "generator": [p for m in player for p in m.parameters()]}

    def coded(self, noise: Noise) -> Tensor:
        """(B, embedding) of a code z."""
        return self.code(noise.normal(self.config.latent).to(cast(Tensor, self.code[0].weight).dtype))

    def generate(self, source: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embedded x (B, width, *grid) out of an embedded source, and the source's features without gradients."""
        style, source = functional.silu(embedding), source.to(embedding.dtype)
        features = self.generator.features(source, style)
        made = self.space.relax(wide(self.generator.finish(source, features, style)))
        return made, [one.detach() for one in features]

    def contrast(self, made: Tensor, theirs: list[Tensor], embedding: Tensor, noise: Noise) -> Tensor:
        """Cross-entropy (B,) of finding the source's patch of each patch of `made`, mean over layers (eq. 3 and 4)."""
        config = self.config
        ours = self.generator.features(made.to(embedding.dtype), functional.silu(embedding))
        order = noise.uniform(ours[0][0, 0].numel()).argsort(1)  # of the places of the finest layer
        losses = []
        for head, one, two in zip(self.heads, ours, theirs, strict=True):
            one, two = one.flatten(2).transpose(1, 2), two.flatten(2).transpose(1, 2)  # (B, places, channels)
            count = one.shape[1]
            if count > config.patches:
                few = order[order < count].reshape(len(order), count)[:, : config.patches, None]
                one, two = (x.gather(1, few.expand(-1, -1, x.shape[2])) for x in (one, two))
            query = functional.normalize(wide(head(one)), dim=2)
            with torch.no_grad():
                key = functional.normalize(wide(head(two)), dim=2)
            logits = query @ key.transpose(1, 2) / config.temperature
            losses.append(-logits.log_softmax(2).diagonal(dim1=1, dim2=2).mean(1))
        return torch.stack(losses).mean(0)

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise = self.config, batch.noise
        assert batch.other is not None
        mask = masked(self.space, batch.observed, batch.valid)
        mask = torch.ones_like(batch.x[:1], dtype=torch.float32) if mask is None else self.space.widen(mask)
        real, source = self.space.embed(batch.x) * mask, self.other.embed(batch.other)

        def shown(x: Tensor) -> Tensor:
            return augment(x * mask, noise, config.augment) if config.augment else x * mask

        # One pass through the generator serves both turns; not with micro-batches, whose graphs would all be alive.
        kept, draw = not config.optimizer.micro, noise.draw
        with torch.set_grad_enabled(kept):
            embedding = self.coded(noise)
            made, theirs = self.generate(source, embedding)
        penalty = config.penalty if now.step % config.penalty_every == 0 else "none"
        settings: dict[str, Any] = {"penalty": penalty, "gamma": config.gamma, "factor": config.penalty_every}
        loss, on_real, logs = critic_loss(self.critic, self.play, shown(real), shown(made), **settings)
        yield Turn("critic", loss, len(batch), logs)

        if not kept:
            after, noise.draw = noise.draw, draw
            embedding = self.coded(noise)
            made, theirs = self.generate(source, embedding)
            noise.draw = after
        with frozen(self.critic):
            on_fake = wide(self.critic(shown(made)))
        loss = mean_per_example(self.play.generator(on_real, on_fake)).sum()
        near = self.contrast(made, theirs, embedding, noise).sum()
        logs = {"generator": loss.detach(), "contrast": near.detach()}
        loss = loss + config.contrast * near
        if config.identity and self.other.width == self.space.width:  # x itself should stay what it is
            taken = self.other.embed(batch.x) * mask  # as somebody would hand it in
            near = self.contrast(*self.generate(taken, embedding), embedding, noise).sum()
            logs["identity"], loss = near.detach(), loss + config.identity * near
        yield Turn("generator", loss, len(batch), logs)

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        source = self.other.embed(self.source_of(request))
        return self.space.decode(self.generate(source, self.coded(request.noise))[0])

    def criticize(self, batch: Batch) -> Tensor:
        return mean_per_example(wide(self.critic(batch.embedded(self.space))))
