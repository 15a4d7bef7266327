"""Variational autoencoder (Kingma & Welling 2014) with the optimal decoder deviation of Rybkin et al. 2021.

Loss: -ELBO = -log p(x | z) + beta KL(q(z | x) || N(0, I)), in nats, z ~ q by reparameterisation. The Gaussian decoder's
deviation is one learned scalar, so no weight has to be tuned between the two terms. On grids the local energies of x
are data as well (`networks/texture.py`): a decoder that blurs is far from them, however small its error in pixels.
Samples come from N(0, I) or from a mixture fitted on the codes after training (Ghosh et al. 2020); which one is chosen
on held-out data. `gan` puts a critic beside it (Larsen et al. 2016): it judges reconstructions and samples, and its
features say how alike two examples are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner, told
from trilemma.config import Optimizer
from trilemma.errors import InputError
from trilemma.maths.losses import free_bits, kl_to_standard_normal
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand
from trilemma.mixed import Mixed
from trilemma.models.contract import (
    Decodes,
    Encodes,
    Fills,
    Model,
    Now,
    Rates,
    Samples,
    Scores,
    Surprises,
    Turn,
    frozen,
    log_volume,
)
from trilemma.networks.codec import coder_settings, decoded, decoder, encoder, fit_mixture, realised
from trilemma.networks.layers import LogScale, Network
from trilemma.networks.mixture import Mixture
from trilemma.networks.rival import WATCHES, Rival, critic_settings, length_of, pull
from trilemma.networks.texture import Texture, texture_nll
from trilemma.spaces import Categorical, Continuous, Space, masked

ROUNDS = 20  # of the chain that fills in what is missing


@dataclass
class Config:
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            kind="adamw", rate=2e-3, betas=(0.9, 0.99), stay=0.4, weight_decay=1e-4, least_steps=2000
        )
    )
    latent: int = 32  # dimensions of a code
    beta: float = 1.0  # weight of the KL term
    warm_up: float = 0.05  # fraction of the budget over which beta rises from 0
    free_bits: float = 0.0  # nats a dimension that cost nothing (Kingma et al. 2016)
    likelihood: Literal["gaussian", "bernoulli", "discretised"] = "gaussian"
    texture: float = 3.0  # weight of the likelihood of local energies, on grids; 0: pixels only
    adversarial: float = 0.0  # pull of a critic on what is decoded, in units of the likelihood's; 0: no critic
    similarity: float = 0.0  # the same of how unlike examples are in the features of that critic, on grids
    critic_from: float = 0.3  # fraction of the budget from which it pulls
    critic: Network = field(default_factory=lambda: Network(width=32, depth=1, activation="leaky_relu"))
    components: int = 10  # of the mixture (per class where labels are known)
    condition: int = 64  # width of the embedded conditions


class VAE(Model, Samples, Encodes, Decodes, Rates, Fills, Scores, Surprises):
    Config = Config
    presets = {
        "bernoulli": {"likelihood": "bernoulli"},
        "discretised": {"likelihood": "discretised"},
        "gan": {"adversarial": 0.1, "similarity": 0.25},
    }
    about = {
        "bernoulli": "Values count as probabilities, as in many textbooks: a loss, and of greys no likelihood.",
        "discretised": "The likelihood of the data's own levels (256 of 8-bit pictures): bits that can be compared.",
        "gan": "VAE-GAN: a critic also judges what is decoded, and examples are to look alike to its features.",
    }
    accepts = (Continuous, Categorical, Mixed)
    average = 0.05

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
        bounds = {"bernoulli": "low", "discretised": "step"}.get(config.likelihood)
        if isinstance(space, Continuous) and bounds and getattr(space, bounds) is None:
            raise InputError(f"likelihood {config.likelihood!r} needs data with levels; these need 'gaussian'")
        given = networks or {}
        self.conditioner = Conditioner(spaces, config.condition)
        condition = config.condition if self.conditioner.names else 0
        self.encoder = given.get("encoder") or encoder(space, 2 * config.latent, config.network, condition)
        self.decoder = given.get("decoder") or decoder(space, config.latent, config.network, condition)
        self.log_scale = LogScale(torch.zeros(space.scales))
        # A Bernoulli decoder's numbers are logits: they have no texture.
        sharpened = config.texture and space.grid and isinstance(space, Continuous) and config.likelihood != "bernoulli"
        self.texture = Texture(space.width, space.grid) if sharpened else None
        if self.texture is not None:
            self.texture_scale = LogScale(torch.zeros(()))
        self.rival = Rival(space.width, space.grid, config.critic) if config.adversarial else None
        label = spaces.get("label")
        self.mixture = Mixture(config.latent, config.components, label.count if isinstance(label, Categorical) else 1)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        settings = {**coder_settings(spaces, size, count), **critic_settings(spaces["x"].grid, size)}
        # What is drawn of a series has noise: means as rough as the data would have it twice.
        return settings | ({"texture": 0.0} if len(spaces["x"].grid) == 1 else {})

    def compilable(self) -> tuple[nn.Module, ...]:
        return self.encoder, self.decoder

    def groups(self) -> dict[str, list[nn.Parameter]]:
        rival = [] if self.rival is None else list(self.rival.parameters())
        others = {id(p) for p in rival}
        groups = {"model": [p for p in self.parameters() if p.requires_grad and id(p) not in others]}
        return groups | ({"critic": rival} if rival else {})

    def posterior(self, batch: Batch, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), each (B, latent)."""
        mean, log_variance = wide(self.encoder(batch.embedded(self.space), *told(cond))).chunk(2, 1)
        return mean, log_variance.clamp(-12, 8)

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        mean, log_variance = self.posterior(batch, cond)
        z = mean + (log_variance / 2).exp() * batch.noise.normal(self.config.latent)
        mask = masked(self.space, batch.observed, batch.valid)
        params = wide(self.decoder(z, *told(cond)))
        nll = self.space.nll(params, batch.x, mask=mask, log_scale=self.log_scale, likelihood=self.config.likelihood)
        kl = kl_to_standard_normal(mean, log_variance)  # (B, latent)
        paid = free_bits(kl, self.config.free_bits).sum() if self.config.free_bits else kl.sum()
        beta = (
            self.config.beta * min(now.rising / self.config.warm_up, 1.0) if self.config.warm_up else self.config.beta
        )
        logs = {"nll": nll.sum().detach(), "kl": kl.sum().detach()}
        x, seen = self.space.embed(batch.x), 1.0 if mask is None else self.space.widen(mask)
        x, likelihood = x * seen, nll.sum()
        if self.texture is not None:
            energies = texture_nll(self.texture, self.texture_scale, x, params * seen).sum()
            likelihood, logs["texture"] = likelihood + self.config.texture * energies, energies.detach()
        loss = likelihood + beta * paid
        joined = self.rival is not None and now.progress >= self.config.critic_from
        if self.rival is None or not (joined or now.step % WATCHES == 0):
            yield Turn("model", loss, len(batch), logs)
            return
        # The critic sees samples as well, which owe nothing to an example.
        drawn = wide(self.decoder(batch.noise.normal(self.config.latent).to(z.dtype), *told(cond)))
        shown = [self.relaxed(one, batch.noise) * seen for one in (params, drawn)]
        if joined:
            length = length_of(params, likelihood)
            with frozen(self.rival):
                game, unlike = self.rival.terms(shown[0], x if self.config.similarity else None)
                of_drawn, _ = self.rival.terms(shown[1], None)
            weight = self.config.adversarial
            loss = loss + pull(params, length, [(weight, game), (self.config.similarity, unlike)])
            loss, logs["generator"] = loss + pull(drawn, length, [(weight, of_drawn)]), game.sum().detach()
        fake = torch.where(expand(torch.as_tensor(batch.index, device=x.device) % 2, x) > 0, *shown).detach()
        yield Turn("model", loss, len(batch), logs)
        look, logs = self.rival.look(x, fake)
        yield Turn("critic", look, len(batch), logs)

    def relaxed(self, params: Tensor, noise: Noise) -> Tensor:
        """Embedded data (B, width, *grid) of a decoder's numbers, differentiable, as a critic sees them."""
        if not isinstance(self.space, Continuous):
            return self.space.relax(params, noise.uniform(self.space.width, *self.space.grid))
        if self.config.likelihood == "bernoulli":  # they are logits
            return self.space.embed(decoded(self.space, params, "bernoulli"))
        return self.space.relax(self.space.noised(params, noise, self.log_scale))

    def fit(self, batches: Iterable[Batch], noise: Noise) -> None:
        fit_mixture(self, self.mixture, batches, noise.seed, random=True)

    def choices(self) -> list[list[Options]]:
        return [[Options(prior="mixture"), Options(prior="normal")]]

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        params = self.parameters_of(self.draw(request), request)
        return realised(self.space, params, self.config.likelihood, request.noise, self.log_scale)

    def draw(self, request: Request) -> Tensor:
        prior = request.options.prior or "mixture"
        if prior not in ("mixture", "normal"):
            raise InputError(f"prior {prior!r}: a VAE samples from 'mixture' or 'normal'")
        normal, uniform = request.noise.normal(self.config.latent), request.noise.uniform()
        if prior == "normal":
            return normal
        label = request.raw.get("label")
        return self.mixture.sample(normal, uniform, None if label is None else label[:, 0])

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        mean, log_variance = self.posterior(batch, cond)
        return mean + (log_variance / 2).exp() * batch.noise.normal(self.config.latent) if random else mean

    def rate(self, batch: Batch) -> Tensor:
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        return kl_to_standard_normal(*self.posterior(batch, cond)).sum(1) / math.log(2)

    def parameters_of(self, codes: Tensor, request: Request) -> Tensor:
        """Those of p(x | z) (B, width, *grid)."""
        cond = self.conditioner(request.raw, request.present, len(codes)).vector
        return wide(self.decoder(codes.to(self.log_scale.dtype), *told(cond)))

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        return decoded(self.space, self.parameters_of(codes, request), self.config.likelihood)

    def can_fill(self) -> bool:
        return True

    def fill(self, batch: Batch, request: Request, *, complete: bool) -> Tensor:
        """A chain of codes and decoded examples, what is known put back each time (Rezende et al. 2014, appendix F)."""
        mask = masked(self.space, batch.observed, batch.valid)
        if mask is None:
            return batch.x
        codes = self.draw(request)
        for number in range(ROUNDS):
            params = self.parameters_of(codes, request)
            if complete:
                params = self.space.complete(params)
            x = realised(self.space, params, self.config.likelihood, request.noise, self.log_scale)
            x = torch.where(mask > 0, batch.x, x.to(batch.x.dtype))
            if number < ROUNDS - 1:
                filled = Batch(x, request.noise, batch.index, raw=request.raw, present=request.present)
                codes = self.encode(filled, random=True)
        return x

    def surprise(self, batch: Batch) -> Tensor:
        """-log p of each element where the mean code puts it."""
        mask = masked(self.space, batch.observed, batch.valid)
        x = batch.x if mask is None else torch.where(mask > 0, batch.x, torch.zeros_like(batch.x))
        params = self.parameters_of(self.encode(batch), Request(batch.noise, batch.raw, batch.present))
        terms = self.space.terms(params, x, log_scale=self.log_scale, likelihood=self.config.likelihood)
        return terms if mask is None else terms * mask

    def score(self, batch: Batch) -> Tensor:
        """The ELBO with one posterior draw: a lower bound of log p(x)."""
        if self.config.likelihood == "bernoulli" and getattr(self.space, "levels", None) != 2:
            raise InputError("score: a Bernoulli likelihood is a probability of black-and-white data only")
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        mean, log_variance = self.posterior(batch, cond)
        z = mean + (log_variance / 2).exp() * batch.noise.normal(self.config.latent)
        mask = masked(self.space, batch.observed, batch.valid)
        params = wide(self.decoder(z, *told(cond)))
        nll = self.space.nll(params, batch.x, mask=mask, log_scale=self.log_scale, likelihood=self.config.likelihood)
        volume = log_volume(self.space) if self.config.likelihood == "gaussian" else 0.0
        return -nll - kl_to_standard_normal(mean, log_variance).sum(1) - volume
