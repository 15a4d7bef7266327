"""Variational autoencoder (Kingma & Welling 2014) with the optimal decoder deviation of Rybkin et al. 2021.

Loss: -ELBO = -log p(x | z) + beta KL(q(z | x) || N(0, I)), in nats, z ~ q by reparameterisation. The Gaussian decoder's
deviation is one learned scalar, so no weight has to be tuned between the two terms. Samples come from N(0, I) or from
a mixture fitted on the codes after training (Ghosh et al. 2020); which one is chosen on held-out data.
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
from trilemma.maths.losses import free_bits, gaussian_nll, kl_to_standard_normal
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import mean_per_example
from trilemma.models.contract import (
    Decodes,
    Encodes,
    Model,
    Now,
    Perceives,
    Samples,
    Scores,
    Turn,
    log_volume,
)
from trilemma.models.features import body
from trilemma.networks.codec import coder_settings, decoded, decoder, encoder, fit_mixture
from trilemma.networks.conv import Down
from trilemma.networks.layers import Network
from trilemma.networks.mixture import Mixture
from trilemma.spaces import Categorical, Continuous, Mixed, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(kind="adamw", rate=2e-3, betas=(0.9, 0.99), stay=0.4, weight_decay=1e-4)
    )
    latent: int = 32  # dimensions of a code
    beta: float = 1.0  # weight of the KL term
    warm_up: float = 0.05  # fraction of the budget over which beta rises from 0
    free_bits: float = 0.0  # nats a dimension that cost nothing (Kingma et al. 2016)
    likelihood: Literal["gaussian", "bernoulli", "discretised"] = "gaussian"
    features: float = 1.0  # weight of the likelihood of feature maps, on grids; 0: pixels only
    components: int = 10  # of the mixture (per class where labels are known)
    condition: int = 64  # width of the embedded conditions


class VAE(Model, Samples, Encodes, Decodes, Scores, Perceives):
    Config = Config
    presets = {"bernoulli": {"likelihood": "bernoulli"}, "discretised": {"likelihood": "discretised"}}
    accepts = (Continuous, Categorical, Mixed)

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
        self.conditioner = Conditioner(spaces, config.condition)
        condition = config.condition if self.conditioner.names else 0
        self.encoder = given.get("encoder") or encoder(space, 2 * config.latent, config.network, condition)
        self.decoder = given.get("decoder") or decoder(space, config.latent, config.network, condition)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.features = None
        if config.features and space.grid and isinstance(space, Continuous):
            self.features = body(space).requires_grad_(False)
            assert isinstance(self.features, Down)
            self.feature_scales = nn.Parameter(torch.zeros(len(self.features.maps(torch.zeros(1, *space.shape)))))
        label = spaces.get("label")
        self.mixture = Mixture(config.latent, config.components, label.count if isinstance(label, Categorical) else 1)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        return coder_settings(spaces, size, count)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def posterior(self, batch: Batch, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), each (B, latent)."""
        mask = masked(self.space, batch.observed, batch.valid)
        embedded = self.space.embed(batch.x)
        if mask is not None:
            embedded = embedded * self.space.widen(mask)
        mean, log_variance = wide(self.encoder(embedded, *told(cond))).chunk(2, 1)
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
            self.config.beta * min(now.progress / self.config.warm_up, 1.0) if self.config.warm_up else self.config.beta
        )
        logs = {"nll": nll.sum().detach(), "kl": kl.sum().detach()}
        loss = nll.sum() + beta * paid
        if self.features is not None:
            seen = self.feature_nll(params, batch.x, mask).sum()
            loss, logs["features"] = loss + self.config.features * seen, seen.detach()
        yield Turn("model", loss, len(batch), logs)

    def feature_nll(self, params: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """-log-likelihood (B,) of x's feature maps under Gaussians around those of the decoder's mean.

        Each map has a learned deviation and counts as many elements as x has, so that no map outvotes the pixels.
        """
        assert isinstance(self.features, Down)
        total = torch.zeros(len(x), device=x.device, dtype=params.dtype)
        given, made = self.space.embed(x), params
        if mask is not None:
            given, made = given * self.space.widen(mask), made * self.space.widen(mask)
        with torch.no_grad():
            targets = self.features.maps(given)
        for target, found, scale in zip(targets, self.features.maps(made), self.feature_scales, strict=True):
            total = total + mean_per_example(gaussian_nll(wide(found), wide(target), scale))
        return total * math.prod(self.space.shape) / len(targets)

    def fit(self, batches: Iterable[Batch], noise: Noise) -> None:
        fit_mixture(self, self.mixture, batches, noise.seed, random=True)

    def choices(self) -> list[Options]:
        return [Options(prior="mixture"), Options(prior="normal")]

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        return self.decode(self.draw(request), request)

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

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        cond = self.conditioner(request.raw, request.present, len(codes)).vector
        params = wide(self.decoder(codes.to(self.log_scale.dtype), *told(cond)))
        return decoded(self.space, params, self.config.likelihood)

    def score(self, batch: Batch) -> Tensor:
        """The ELBO with one posterior draw: a lower bound of log p(x)."""
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        mean, log_variance = self.posterior(batch, cond)
        z = mean + (log_variance / 2).exp() * batch.noise.normal(self.config.latent)
        mask = masked(self.space, batch.observed, batch.valid)
        params = wide(self.decoder(z, *told(cond)))
        nll = self.space.nll(params, batch.x, mask=mask, log_scale=self.log_scale, likelihood=self.config.likelihood)
        volume = log_volume(self.space) if self.config.likelihood == "gaussian" else 0.0
        return -nll - kl_to_standard_normal(mean, log_variance).sum(1) - volume
