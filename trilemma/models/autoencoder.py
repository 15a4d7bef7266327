"""Autoencoder (Hinton & Salakhutdinov 2006) and denoising autoencoder (Vincent et al. 2008).

Loss: the squared error of decoder(encoder(x)), or of decoder(encoder(corrupted x)). A plain autoencoder has no density:
samples come from a Gaussian mixture fitted on the codes of training examples after training (Ghosh et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Conditioner, told
from trilemma.config import Optimizer
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand
from trilemma.mixed import Mixed
from trilemma.models.contract import Decodes, Denoises, Encodes, Model, Now, Samples, Surprises, Turn
from trilemma.networks.codec import coder_settings, decoder, encoder, fit_mixture
from trilemma.networks.layers import Network
from trilemma.networks.mixture import Mixture
from trilemma.spaces import Categorical, Continuous, Space, masked


@dataclass
class Config:
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(kind="adamw", rate=2e-3, stay=0.4, weight_decay=1e-4)
    )
    latent: int = 32  # dimensions of a code
    corruption: Literal["none", "gaussian", "salt-and-pepper", "mask"] = "none"
    amount: float = 1.0  # gaussian: largest deviation (unit-variance data); else: largest share of places hit
    code_penalty: float = 1e-3  # on |code|^2, keeps codes where a density can be fitted (RAE-L2)
    components: int = 10  # of the mixture (per class where labels are known)
    condition: int = 64  # width of the embedded conditions


class Autoencoder(Model, Samples, Encodes, Decodes, Denoises, Surprises):
    Config = Config
    presets = {
        "denoising": {"corruption": "gaussian", "amount": 1.0},
        "salt-and-pepper": {"corruption": "salt-and-pepper", "amount": 0.4},
        "masking": {"corruption": "mask", "amount": 0.6},
    }
    about = {
        "denoising": "Takes Gaussian noise off, of any deviation up to that of the data.",
        "salt-and-pepper": "Puts right up to 40 % of places, set to an example's darkest or lightest value.",
        "masking": "Fills in up to 60 % of places, which were blanked.",
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
        given = networks or {}
        self.conditioner = Conditioner(spaces, config.condition)
        condition = config.condition if self.conditioner.names else 0
        self.encoder = given.get("encoder") or encoder(space, config.latent, config.network, condition)
        self.decoder = given.get("decoder") or decoder(space, config.latent, config.network, condition)
        label = spaces.get("label")
        self.mixture = Mixture(config.latent, config.components, label.count if isinstance(label, Categorical) else 1)
        self.deviation: Tensor | None  # of what decoded series miss, a channel; measured after training
        known = isinstance(space, Continuous) and space.in_time
        self.register_buffer("deviation", torch.zeros(space.scales) if known else None)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        return coder_settings(spaces, size, count)

    def compilable(self) -> tuple[nn.Module, ...]:
        return self.encoder, self.decoder

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def corrupt(self, x: Tensor, noise: Noise) -> Tensor:
        """Damage embedded x (B, width, *grid) by an amount that is uniform up to the largest, per example."""
        kind, share = self.config.corruption, expand(noise.uniform() * self.config.amount, x)
        if kind == "gaussian":
            return x + share * noise.normal(*x.shape[1:])
        if kind == "none":
            return x
        uniform = noise.uniform(1, *x.shape[2:])  # one draw a place: all its channels are hit together
        if kind == "mask":
            return torch.where(uniform < share, torch.zeros_like(x), x)
        # Each example's own extremes: those of a batch would couple its examples.
        low, high = expand(x.flatten(1).amin(1), x), expand(x.flatten(1).amax(1), x)
        return torch.where(uniform < share / 2, low, torch.where(uniform < share, high, x))

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        codes = wide(self.encoder(self.corrupt(batch.embedded(self.space), batch.noise), *told(cond)))
        mask = masked(self.space, batch.observed, batch.valid)
        # The Gaussian likelihood of deviation 1 is the squared error, up to a constant.
        error = self.space.nll(wide(self.decoder(codes, *told(cond))), batch.x, mask=mask)
        penalty = codes.square().sum() * self.config.code_penalty
        yield Turn("model", error.sum() + penalty, len(batch), {"error": error.sum().detach()})

    def fit(self, batches: Iterable[Batch], noise: Noise) -> None:
        fit_mixture(self, self.mixture, self.measured(batches), noise.seed, random=False)

    def measured(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches as they come; after the last of a series it is known by how much it is missed."""
        sums = []
        for batch in batches:
            if self.deviation is not None:
                mask = masked(self.space, batch.observed, batch.valid)
                seen = torch.ones_like(batch.x) if mask is None else mask
                params = self.parameters_of(self.encode(batch), Request(batch.noise, batch.raw, batch.present))
                missed = (params - self.space.embed(batch.x)).square() * seen
                sums.append(torch.stack([missed.sum((0, 2)), seen.sum((0, 2))]))
            yield batch
        if self.deviation is not None:
            squares, count = torch.stack(sums).sum(0)
            self.deviation.copy_((squares / count.clamp(min=1)).sqrt())

    def choices(self) -> list[list[Options]]:
        return [[Options(prior="mixture")]]

    def calls(self, options: Options) -> int:
        return 1

    def sample(self, request: Request) -> Tensor:
        params = self.parameters_of(self.draw(request), request)
        return self.space.realise(
            params, request.noise, log_scale=None if self.deviation is None else self.deviation.log()
        )

    def draw(self, request: Request) -> Tensor:
        if request.options.prior not in (None, "mixture"):
            raise InputError(f"prior {request.options.prior!r}: an autoencoder samples from 'mixture' only")
        normal, uniform = request.noise.normal(self.config.latent), request.noise.uniform()
        label = request.raw.get("label")
        return self.mixture.sample(normal, uniform, None if label is None else label[:, 0])

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        cond = self.conditioner(batch.raw, batch.present, len(batch)).vector
        return wide(self.encoder(batch.embedded(self.space), *told(cond)))

    def parameters_of(self, codes: Tensor, request: Request) -> Tensor:
        """The decoder's output (B, width, *grid)."""
        cond = self.conditioner(request.raw, request.present, len(codes)).vector
        return wide(self.decoder(codes.to(self.mixture.means.dtype), *told(cond)))

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        return self.space.decode(self.parameters_of(codes, request))

    def surprise(self, batch: Batch) -> Tensor:
        """What each element adds to the reconstruction error."""
        mask = masked(self.space, batch.observed, batch.valid)
        x = batch.x if mask is None else torch.where(mask > 0, batch.x, torch.zeros_like(batch.x))
        params = self.parameters_of(self.encode(batch), Request(batch.noise, batch.raw, batch.present))
        terms = self.space.terms(params, x)
        return terms if mask is None else terms * mask

    def denoise(self, noisy: Tensor, sigma: Tensor, request: Request) -> Tensor:
        cond = self.conditioner(request.raw, request.present, len(noisy)).vector
        codes = self.encoder(noisy.to(self.mixture.means.dtype), *told(cond))
        return self.space.relax(wide(self.decoder(codes, *told(cond))))
