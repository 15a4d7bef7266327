"""Autoencoders whose codes lie on a grid: the first stage of latent diffusion (Rombach et al. 2022).

`kl` (the default) has Gaussian codes, held near N(0, I) by a small weight on their KL divergence; `fsq` rounds a few
bounded channels to fixed levels (Mentzer et al. 2024): a codebook that nothing has to learn, and no part of which dies;
`vq` takes the nearest entry of a codebook that follows the codes (van den Oord et al. 2017).
The loss is -log-likelihood of pixels under one learned deviation (Rybkin et al. 2021) and of their local energies
(`networks/texture.py`), which see blur as pixels do not; `perceptual` adds what a packaged network of photographs sees
(Zhang et al. 2018). As a sampler of its own it draws each place of the codes by itself: what a second model is for
shows by comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError
from trilemma.latent import Coder
from trilemma.maths.losses import kl_to_standard_normal
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import sum_per_example
from trilemma.models.contract import Decodes, Encodes, Model, Now, Rates, Samples, Turn, frozen
from trilemma.networks import perceptual
from trilemma.networks.grid_codec import GridDecoder, GridEncoder, code_grid
from trilemma.networks.layers import LogScale, Network
from trilemma.networks.quantise import Codebook, Levels
from trilemma.networks.rival import WATCHES, Rival, critic_settings, length_of, pull
from trilemma.networks.texture import Texture, texture_nll
from trilemma.spaces import Continuous, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(kind="adamw", rate=2e-3, betas=(0.9, 0.99), stay=0.4, weight_decay=1e-4)
    )
    codes: Literal["kl", "fsq", "vq"] = "kl"
    channels: int = 4  # of the codes; of fsq as many as there are levels
    levels: tuple[int, ...] = (8, 5, 5, 5)  # fsq: of each channel
    beta: float = 0.02  # kl: weight of the divergence
    entries: int = 1024  # vq: of the codebook
    decay: float = 0.99  # vq: of the running means that the entries are
    commitment: float = 1.0  # vq: weight of the squared distance of outputs to their entries
    start: float = 0.05  # vq: fraction of the budget in which codes pass as they are, while entries find their places
    revive: float = 0.8  # vq: fraction of the budget up to which entries that hardly serve start anew
    texture: float = 3.0  # weight of the likelihood of local energies; 0: pixels only
    perceptual: float = 0.0  # pull of how unlike examples look to ImageNet's network, in units of the likelihood's
    adversarial: float = 0.0  # pull of a critic of patches on each example, in units of the likelihood's; 0: no critic
    similarity: float = 0.0  # the same of how unlike examples are in the features of that critic
    critic_from: float = 0.5  # fraction of the budget from which it pulls
    critic: Network = field(default_factory=lambda: Network(width=32, depth=1, activation="leaky_relu"))


class Codec(Model, Samples, Encodes, Decodes, Rates, Coder):
    mean: Tensor
    deviation: Tensor
    Config = Config
    presets = {"kl": {}, "fsq": {"codes": "fsq"}, "vq": {"codes": "vq"}}
    about = {
        "kl": "The default by its own name: Gaussian codes, held near N(0, I) by a small weight.",
        "fsq": "Codes are rounded to fixed levels: tokens without a codebook to learn (Mentzer et al. 2024).",
        "vq": "Codes are the nearest entry of a codebook that follows them (van den Oord et al. 2017).",
    }
    accepts = (Continuous,)
    average = 0.05
    needs_grid = True
    kinds = ("conv",)

    def __init__(
        self,
        config: Config,
        spaces: dict[str, Space],
        start: Model | None = None,
        *,
        networks: dict[str, nn.Module] | None = None,
    ):
        super().__init__()
        space = spaces["x"]
        if config.codes == "fsq" and (not config.levels or min(config.levels) < 2):
            raise InputError(f"setting model.levels={config.levels}: each channel of codes needs two levels or more")
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        dims, given = len(space.grid), networks or {}
        if config.codes == "vq" and (config.entries < 2 or config.channels < 1):
            raise InputError(f"setting model.entries={config.entries}: a codebook needs two entries or more")
        self.quantiser: Levels | Codebook | None = None
        if config.codes == "fsq":
            self.quantiser = Levels(config.levels)
        elif config.codes == "vq":
            self.quantiser = Codebook(config.entries, config.channels, decay=config.decay)
        self.width = config.channels if self.quantiser is None else self.quantiser.width
        self.token_count = 0 if self.quantiser is None else self.quantiser.count
        self.code_shape = (self.width, *code_grid(space.grid, config.network))
        outputs = 2 * self.width if self.quantiser is None else self.width
        self.encoder = given.get("encoder") or GridEncoder(space.width, outputs, dims, config.network)
        self.decoder = given.get("decoder") or GridDecoder(self.width, space.width, space.grid, config.network)
        self.log_scale = LogScale(torch.zeros(()))
        self.texture = Texture(space.width, space.grid) if config.texture else None
        if self.texture is not None:
            self.texture_scale = LogScale(torch.zeros(()))
        if config.similarity and not config.adversarial:
            raise InputError(
                "setting model.similarity: features are those of the critic; set model.adversarial as well"
            )
        self.rival = Rival(space.width, space.grid, config.critic) if config.adversarial else None
        self.register_buffer("mean", torch.zeros(self.code_shape))
        self.register_buffer("deviation", torch.ones(self.code_shape))

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        side, number = max(spaces["x"].grid), SIZES.index(size)
        levels = 1 if side < 16 else 2 if side < 96 else 3  # the codes: 2, 4 or 8 times fewer places a side
        return {
            "network.width": (32, 48, 64, 96, 128)[number],
            "network.multipliers": (1, 2, 4)[:levels],
            "network.depth": 1 if size in ("xs", "s") else 2,
            "network.patch": 2,
            **critic_settings(spaces["x"].grid, size),
            "optimizer.batch": 128 if count >= 5000 else 64,
        }

    def compilable(self) -> tuple[nn.Module, ...]:
        return self.encoder, self.decoder

    def groups(self) -> dict[str, list[nn.Parameter]]:
        rival = [] if self.rival is None else list(self.rival.parameters())
        others = {id(p) for p in rival}
        groups = {"model": [p for p in self.parameters() if p.requires_grad and id(p) not in others]}
        return groups | ({"critic": rival} if rival else {})

    # --- codes ---

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, width, *coarse) of the Gaussian codes of embedded x."""
        mean, log_variance = wide(self.encoder(x)).chunk(2, 1)
        return mean, log_variance.clamp(-12, 8)

    def coded(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Codes (B, width, *coarse) of embedded x; with noise, a draw of the posterior where there is one."""
        if self.quantiser is not None:
            return self.quantiser(wide(self.encoder(x)))
        mean, log_variance = self.posterior(x)
        return mean if noise is None else mean + (log_variance / 2).exp() * noise.normal(*self.code_shape)

    def codes(self, x: Tensor) -> Tensor:
        return self.coded(self.space.embed(x))

    def tokens(self, x: Tensor) -> Tensor:
        return self.tokens_of(self.codes(x))

    def tokens_of(self, codes: Tensor) -> Tensor:
        quantiser = self._quantised()
        return quantiser.tokens(quantiser.nearest(codes))

    def from_tokens(self, tokens: Tensor) -> Tensor:
        return self._quantised().codes(tokens)

    def _quantised(self) -> Levels | Codebook:
        if self.quantiser is None:
            raise InputError("the codes of codec:kl are no tokens; take the autoencoder codec:vq or codec:fsq")
        return self.quantiser

    def restored(self, codes: Tensor) -> Tensor:
        codes = codes if self.quantiser is None else self.quantiser.nearest(codes)
        return self.space.decode(wide(self.decoder(codes.to(self.log_scale.dtype))))

    # --- training ---

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config = self.config
        mask = masked(self.space, batch.observed, batch.valid)
        x = batch.embedded(self.space)
        logs: dict[str, Tensor] = {}
        shared: dict[str, Tensor] = {}
        loss = torch.zeros((), device=x.device)
        if self.quantiser is None:
            mean, log_variance = self.posterior(x)
            codes = mean + (log_variance / 2).exp() * batch.noise.normal(*self.code_shape)
            kl = kl_to_standard_normal(mean, log_variance).sum()
            loss, logs["kl"] = config.beta * kl, kl.detach()
        else:
            out = wide(self.encoder(x))
            codes = self.quantiser(out)
            if isinstance(self.quantiser, Codebook):
                apart = (out - codes.detach()).square().sum()
                loss, logs["apart"] = config.commitment * apart, apart.detach()
                place = torch.as_tensor(batch.index, device=x.device) % config.optimizer.batch
                shared = self.quantiser.seen(out, batch.noise, place, config.optimizer.batch)
                codes = out if now.rising < config.start else codes  # entries are not worth much yet
        params = wide(self.decoder(codes.to(self.log_scale.dtype)))
        likelihood = self.space.nll(params, batch.x, mask=mask, log_scale=self.log_scale).sum()
        logs["nll"] = likelihood.detach()
        made = params if mask is None else params * self.space.widen(mask)
        if self.texture is not None:
            energies = texture_nll(self.texture, self.texture_scale, x, made).sum()
            likelihood, logs["texture"] = likelihood + config.texture * energies, energies.detach()
        terms: list[tuple[float, Tensor | None]] = []
        if self.rival is not None and now.progress >= config.critic_from:
            with frozen(self.rival):
                game, unlike = self.rival.terms(made, x if config.similarity else None)
            logs["generator"] = game.sum().detach()
            terms = [(config.adversarial, game), (config.similarity, unlike)]
        if config.perceptual:
            looks = perceptual.unlike(self.space, made, x)
            logs["perceptual"] = looks.sum().detach()
            terms.append((config.perceptual, looks))
        if terms:
            loss = loss + pull(params, length_of(params, likelihood), terms)
        yield Turn("model", loss + likelihood, len(batch), logs, shared)
        if self.rival is not None and (now.progress >= config.critic_from or now.step % WATCHES == 0):
            look, logs = self.rival.look(x, made.detach())
            yield Turn("critic", look, len(batch), logs)

    def adjust(self, means: dict[str, Tensor], now: Now) -> None:
        if "shares" in means and isinstance(self.quantiser, Codebook):
            self.quantiser.follow(means, revive=now.progress < self.config.revive)

    # --- sampling ---

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], noise: Noise) -> None:
        """Mean and deviation of the codes at every place, over training examples."""
        found = [self.coded(batch.embedded(self.space)).double() for batch in batches]
        codes = torch.cat(found)
        self.mean.copy_(codes.mean(0))
        self.deviation.copy_(codes.std(0, correction=0).clamp(min=1e-6))

    def draw(self, request: Request) -> Tensor:
        if request.options.prior not in (None, "normal"):
            raise InputError(f"prior {request.options.prior!r}: a codec draws its codes from 'normal' only")
        return (request.noise.normal(*self.code_shape) * self.deviation + self.mean).flatten(1)

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        return self.decode(self.draw(request), request)

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        return self.coded(batch.embedded(self.space), batch.noise if random else None).flatten(1)

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        return self.restored(codes.unflatten(1, self.code_shape))

    def rate(self, batch: Batch) -> Tensor:
        if self.token_count:
            return torch.full((len(batch),), math.log2(self.token_count) * math.prod(self.code_shape[1:]))
        mean, log_variance = self.posterior(batch.embedded(self.space))
        return sum_per_example(kl_to_standard_normal(mean, log_variance)) / math.log(2)
