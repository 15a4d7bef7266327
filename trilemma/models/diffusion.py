"""Diffusion: one denoiser, trained by one regression; DDPM, EDM and flow matching are its presets.

The network estimates x_0 from y = x_0 + s noise (scaled coordinates, see `maths/paths.py`). A preset fixes which levels
s are trained, what the network predicts, how errors are weighted, and the default sampler:
- edm (Karras et al. 2022): log-normal levels, preconditioned prediction F, weight 1 on F; the default.
- flow (Lipman et al. 2023, Esser et al. 2024): the linear path, velocity prediction, logit-normal times.
- ddpm (Ho et al. 2020): 1,000 fixed steps, noise prediction, simple loss, ancestral sampling; ddim samples it faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma import denoising
from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Cond, Conditioner, drop
from trilemma.config import SIZES, Optimizer
from trilemma.denoising import Given, scene_of
from trilemma.errors import InputError, unknown
from trilemma.impressions import GUIDE, Impression
from trilemma.latent import Latent
from trilemma.maths import guidance, paths, samplers
from trilemma.maths.inversion import from_noise, to_noise
from trilemma.maths.losses import reverse_step_kl
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand, sum_per_example
from trilemma.mixed import Mixed
from trilemma.models.contract import (
    Denoises,
    Fills,
    Inverts,
    Model,
    Now,
    Redraws,
    Samples,
    Scores,
    Surprises,
    Translates,
    Turn,
    default_clusters,
    log_volume,
)
from trilemma.networks.denoisers import denoiser
from trilemma.networks.layers import Network, initialise, sinusoids
from trilemma.networks.unet import unet_settings
from trilemma.numbered import Clusters
from trilemma.spaces import Categorical, Continuous, Space, masked

GIVEN = 0.25  # of a table's rows; at 0.5 samples are told apart more easily (AUC .76, at 0.25 .74, at 0 .73)
TABLE_WIDTHS = (256, 320, 384, 512, 768)  # by the size dial: small products cost little more than smaller ones
TABLE_STEPS = 48  # what rows teach grows with them: F1 .657 (12), .668 (24), .675 (48 and 96) of a census; real .702
FORECAST = 0.4  # of a series' windows: to forecast is to fill in the end
# In 12 steps a Gaussian law comes out 10 % too wide, in 24 over these levels 2 %: forecasts live by their width.
LAWFUL = {"steps": 24, "sigma_low": 0.01, "sigma_high": 40.0}
TOLD = 0.9  # of a series' windows that train without a part given: those that are told their calendar
RAISED = 4.0  # times the noise of an example of which a part is given
DDPM = {"path": "ddpm", "prediction": "eps", "sampler": "ddpm", "steps": 100, "guidance": 1.0}


@dataclass
class Config:
    network: Network = field(default_factory=Network)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(rate=2e-3, betas=(0.9, 0.99), stay=0.4, clip=1.0))
    path: Literal["edm", "ddpm", "linear"] = "edm"
    prediction: Literal["F", "eps", "x0", "v", "velocity"] = "F"
    weight: Literal["natural", "edm", "snr", "simple", "min-snr", "velocity"] = "natural"
    level_mean: float = -0.51  # of ln s in training (edm and linear paths), unit-variance data
    level_deviation: float = 1.2
    train_steps: int = 1000  # ddpm path
    variance: Literal["small", "large", "learned"] = "small"  # of the ancestral sampler
    variance_weight: float = 0.001  # of the variational bound that trains a learned variance (Nichol & Dhariwal 2021)
    embedding: int = 128  # width of noise level and conditions
    clusters: int = 0  # of data without labels: which one an example is in is a condition
    drop: float = 0.1  # probability of training without a condition
    text: str = ""  # captions as a condition: words (their own vocabulary), wordllama, minilm, a folder, hub:OWNER/NAME
    clip: str = ""  # that guides to captions by its slope: a model (clip:noise-aware), or a run's folder; '': none
    autoencoder: str = ""  # that codes the data first: a model (codec), or the folder of a run; '': none
    given: float = 0.0  # share of examples that train with a random part of them known: what `fill` needs
    sampler: str = "dpm++2m"
    steps: int = 12
    eta: float = 0.0  # ddim
    sigma_low: float = 0.006
    sigma_high: float = 80.0
    rho: float = 7.0
    guidance: float = 1.5  # where there are conditions; previews and short trainings use it, others choose their own
    interval: tuple[float, float] = (0.3, 5.0)  # of s in which guidance acts (Kynkaanniemi et al. 2024)


class Diffusion(Model, Samples, Inverts, Denoises, Fills, Redraws, Translates, Scores, Surprises):
    Config = Config
    presets = {
        "edm": {},
        "flow": {"path": "linear", "prediction": "velocity", "level_mean": 0.0, "level_deviation": 1.0},
        "latent": {"autoencoder": "codec"},
        "text": {"text": "words", "guidance": 3.0},
        "clip-guided": {"text": "words", "clip": "clip:noise-aware", "guidance": 3.0},
        "transformer": {"autoencoder": "codec", "network.kind": "transformer"},  # Peebles & Xie 2023
        "ddpm": DDPM,
        "ddpm-learned": {**DDPM, "variance": "learned"},
    }
    about = {
        "edm": "The default by its own name: log-normal noise levels, a preconditioned network (Karras et al. 2022).",
        "flow": "Flow matching: the velocity along a straight path between data and noise (Lipman et al. 2023).",
        "latent": "An autoencoder is trained first, in the same budget, and diffusion learns its codes.",
        "text": "Reads captions: token by token, and as a whole.",
        "clip-guided": "Reads captions, and a CLIP that is trained first leads samples by its slope.",
        "transformer": "Diffusion on codes, as `latent` is, by a transformer instead of a U-Net (Peebles & Xie 2023).",
        "ddpm": "A thousand fixed noise levels, predicted noise, the ancestral way back (Ho et al. 2020).",
        "ddpm-learned": "The same with a learned variance of each step back (Nichol & Dhariwal 2021).",
    }
    accepts = (Continuous, Categorical, Mixed, Latent)
    kinds = ("mlp", "conv", "transformer")
    sets = ("alone", "paired")  # a source is seen beside y (Saharia et al. 2022, Palette)
    finds_clusters = True
    hunger = 8.0

    def __init__(
        self,
        config: Config,
        spaces: dict[str, Space],
        start: Model | None = None,
        *,
        networks: dict[str, nn.Module] | None = None,
    ):
        super().__init__()
        if config.variance == "learned" and config.path != "ddpm":
            raise InputError("setting variance=learned: only the ddpm path has a variance to learn (--set path=ddpm)")
        if config.sampler not in samplers.SAMPLERS:
            raise unknown("setting sampler", config.sampler, samplers.SAMPLERS)
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        space = spaces["x"]
        width = config.embedding
        self.conditioner = Conditioner(spaces, width)
        self.level = nn.Sequential(initialise(nn.Linear(64, width)), nn.SiLU(), initialise(nn.Linear(width, width)))
        self.learns_variance = config.variance == "learned"
        outputs = space.width * (2 if self.learns_variance else 1)
        inputs = space.width * (2 if config.given else 1)  # beside each element, whether it is known
        inputs += self.conditioner.channels
        self.network = (networks or {}).get("network") or denoiser(
            space, inputs, outputs, config.network, width, context=self.conditioner.context
        )
        self.ddpm = paths.ddpm_path(config.train_steps) if config.path == "ddpm" else None

    def compilable(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        space, number, guide = spaces["x"], SIZES.index(size), spaces.get(GUIDE)
        if isinstance(guide, Impression):
            guide.check_leads(spaces)
        if not space.grid:
            table = isinstance(space, Mixed)
            width = (TABLE_WIDTHS if table else (64, 128, 256, 384, 512))[number]
            settings = {"network.kind": "mlp", "network.width": width, "network.depth": 4, "embedding": 64}
            if table:  # its columns go together at large levels, and part of it may be given
                settings |= {"given": GIVEN, "level_mean": 0.0, "steps": TABLE_STEPS}
            many = table and count >= 10_000
            rate = 1.4e-3 if many else 3e-3 if table else 1e-3
            return {**settings, "optimizer.batch": 512 if many else 256, "optimizer.rate": rate}
        series = isinstance(space, Continuous) and space.in_time
        return {
            "network.kind": "conv",
            **unet_settings(space.grid, size),
            "network.depth": 1 if size == "xs" else 2,
            "network.dropout": 0.0 if count >= 5000 else 0.1,
            "given": FORECAST if series else 0.0,
            # A cluster that is drawn beside a calendar may be one of another season.
            "clusters": 0 if space.stage else default_clusters(spaces, count, most=30),
            "optimizer.batch": 32 if series else 128 if count >= 5000 else 64,
            **(LAWFUL if series else {}),
        }

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    @property
    def dtype(self) -> torch.dtype:
        return next(self.level.parameters()).dtype

    # --- the network call: everything above it speaks of y, s and x_0 ---

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma_t) of the path at scaled levels s: x_t = alpha y, sigma_t = alpha s."""
        return paths.coefficients("linear" if self.config.path == "linear" else "variance-preserving", sigma)

    def output(self, y: Tensor, sigma: Tensor, cond: Cond, known: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The network's raw prediction at y (B, width, *grid) and s (B,); levels and sinusoids stay fp32.

        known: the elements of y that are x_0's own, a mask. Beside it the variance's v in [0, 1], where it is learned.
        """
        embedding = self.level(sinusoids(sigma.log() / 4, 64).to(self.dtype))
        if cond.vector is not None:
            embedding = embedding + cond.vector
        scaled = (y * expand((1 + sigma**2).rsqrt(), y)).to(self.dtype)
        if self.config.given:
            known = torch.zeros_like(y, dtype=torch.bool) if known is None else known
            scaled = torch.cat([torch.where(known, y.to(self.dtype), scaled), known.to(self.dtype)], 1)
        if cond.grid is not None:
            scaled = torch.cat([scaled, cond.grid.to(self.dtype)], 1)
        looked_at = () if cond.tokens is None else (cond.tokens.to(self.dtype), cond.token_mask)
        out = wide(self.network(scaled, functional.silu(embedding), *looked_at))
        if not self.learns_variance:
            return out, None
        prediction, v = out.chunk(2, 1)
        return prediction, ((v + 1) / 2).clamp(0, 1)

    def meant(self, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """The x_0 that a prediction means, were all of it numbers; `Space.settle` knows of tokens."""
        alpha, sigma_t = self.coefficients(sigma)
        return paths.to_x0(self.config.prediction, out, y * expand(alpha, y), alpha, sigma_t)

    def estimate(
        self, y: Tensor, sigma: Tensor, cond: Cond, given: Given | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x_0 from y at s (B,); with a learned variance also its v, from the smallest (0) to the largest (1)."""
        y = y if given is None else torch.where(given.known, given.values, y)
        out, v = self.output(y, sigma, cond, None if given is None else given.known)
        if given is not None and given.complete:
            out = self.space.complete(out)
        x0 = self.space.settle(self.meant(out, y, sigma), out, y, sigma)
        return (x0 if given is None else torch.where(given.known, given.values, x0)), v

    # --- training ---

    def levels(self, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Scaled levels s (B,) to train at, and the DDPM step numbers where there are steps."""
        z = torch.special.ndtri(noise.spread().to(self.dtype))
        if self.ddpm is not None:
            step = paths.uniform_step(z, self.config.train_steps)
            return self.ddpm.scaled_sigma(step.double() / self.config.train_steps).to(z.dtype), step
        return paths.log_normal_sigma(z, mean=self.config.level_mean, deviation=self.config.level_deviation), None

    def portion(self, x: Tensor, mask: Tensor | None, noise: Noise) -> tuple[Tensor, Tensor]:
        """Which elements of embedded x an example is given, and which examples (B,) are to fill in the rest."""
        chosen = noise.uniform() < self.config.given
        known = self.space.portion(noise) & expand(chosen, x)
        if self.space.stage:  # as samples are drawn, mostly
            known = known | self.space.staged(x) & expand(noise.uniform() < TOLD, x)
        return (known if mask is None else known & (mask > 0)), chosen

    def told(self, batch: Batch, chosen: Tensor | None) -> Cond:
        """The conditions of a batch, some of them left out; `chosen` examples fill in what is hidden."""
        uniform = {name: batch.noise.uniform() for name in sorted(batch.present)}
        present = drop(batch.present, uniform, self.config.drop)
        if "source" in present:
            present["source"] = batch.present["source"]
        if chosen is not None:  # a cluster would tell of what is hidden
            present |= {name: here & ~chosen for name, here in present.items() if self.is_cluster(name)}
        return self.conditioner(batch.raw, present, len(batch))

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise = self.config, batch.noise
        x, mask = batch.embedded(self.space), batch.mask(self.space)
        sigma, step = self.levels(noise)
        epsilon = noise.normal(*x.shape[1:])
        known, chosen = self.portion(x, mask, noise) if config.given else (None, None)
        if chosen is not None and step is None:  # what is given says most where the noise hides all else
            sigma = torch.where(chosen, sigma * RAISED, sigma)
        cond = self.told(batch, chosen)

        y = x + expand(sigma, x) * epsilon
        y = y if known is None else torch.where(known, x, y)
        out, v = self.output(y, sigma, cond, known)
        wanted = paths.target(config.prediction, x, epsilon, *self.coefficients(sigma))
        error = self.space.denoising_error((out - wanted) ** 2, out, batch.x, y, sigma)
        if known is not None:
            error, wanted = torch.where(known, 0.0, error), torch.where(known, 0.0, wanted)
        if mask is not None:
            error, wanted = error * mask, wanted * mask
        weight, dimensions = paths.prediction_weight(config.weight, config.prediction, sigma), math.prod(x.shape[1:])
        loss = (weight * sum_per_example(error) / dimensions).sum()
        logs = {"error": loss.detach(), "error_of_zero": (weight * sum_per_example(wanted**2) / dimensions).sum()}
        if v is not None and step is not None:
            x0 = self.space.settle(self.meant(out, y, sigma), out, y, sigma).detach()
            loss = loss + config.variance_weight * config.train_steps * self.bound(x, x0, v, sigma, step, mask).sum()
        yield Turn("model", loss, len(batch), logs)

    def bound(self, x: Tensor, x0: Tensor, v: Tensor, sigma: Tensor, step: Tensor, mask: Tensor | None) -> Tensor:
        """KL of the reverse step from the posterior, nats a dimension (B,): only v learns from it.

        Step 1 has no posterior variance: it is left out.
        """
        assert self.ddpm is not None
        after = self.ddpm.scaled_sigma((step - 1).clamp(min=1).double() / self.config.train_steps).to(sigma.dtype)
        kl = reverse_step_kl(x, x0, v, sigma, after)
        kl = kl if mask is None else kl * mask
        return torch.where(step > 1, sum_per_example(kl) / math.prod(x.shape[1:]), 0.0)

    # --- sampling ---

    def choices(self) -> list[list[Options]]:
        config, questions = self.config, []
        if self.ddpm is not None:
            return []
        if self.conditioner.names and not self.conditioner.worded:  # distances do not see how captions are followed
            others = (strength for strength in (1.0, 2.0, 3.0) if strength != config.guidance)
            questions.append([Options(guidance=strength) for strength in (config.guidance, *others)])
        if isinstance(self.space, Mixed) or (isinstance(self.space, Continuous) and self.space.in_time):
            return questions  # distances of features do not see what more steps bring to tables and series
        # Fewer steps are not always worse: what a solver leaves out may sharpen (benchmarks/2026-11-21-sampling.md).
        counts = dict.fromkeys([config.steps, *(max(config.steps * k // 3, 1) for k in (2, 4, 6))])
        questions.append([Options(steps=count) for count in counts])
        return questions

    def grid(self, steps: int) -> Tensor:
        """Scaled levels from noise to data, ending with 0."""
        config = self.config
        if config.path == "ddpm":
            return paths.ddpm_sigmas(steps, train_steps=config.train_steps)
        if config.path == "linear":
            return paths.uniform_sigmas(paths.linear_path(), steps, high=config.sigma_high)
        return paths.karras_sigmas(steps, low=config.sigma_low, high=config.sigma_high, rho=config.rho)

    def guidance_of(self, options: Options) -> tuple[float, tuple[float, float]]:
        """Its strength, and the interval of s in which it acts."""
        config = self.config
        return config.guidance if options.guidance is None else options.guidance, options.interval or config.interval

    def calls(self, options: Options) -> int:
        steps, sampler = options.steps or self.config.steps, options.sampler or self.config.sampler
        strength, interval = self.guidance_of(options)
        if strength == 1 or not self.conditioner.names:
            return samplers.calls(sampler, steps)
        return guidance.calls(sampler, self.grid(steps), interval)

    def denoiser(
        self, request: Request, given: Given | None = None, *, variance: bool = False
    ) -> Callable[[Tensor, float], Any]:
        """`denoise(y, s)` with the request's conditions and guidance bound, and what is given of x_0.

        variance: it returns the learned variance's v beside x_0.
        """

        def under(raw: dict[str, Tensor], present: dict[str, Tensor]) -> Callable[[Tensor, float], Any]:
            cond = self.conditioner(raw, present, len(request))  # a caption is read once, not at each step

            def denoise(y: Tensor, s: float) -> Any:
                answer = self.estimate(y, torch.full((len(y),), s, device=y.device), cond, given)
                return answer if variance else answer[0]

            return denoise

        conditional, (strength, interval) = under(request.raw, request.present), self.guidance_of(request.options)
        if strength == 1 or not {*request.raw, *request.against}.intersection(self.conditioner.names):
            return conditional  # of a source alone there is nothing that could be left out
        if GUIDE in self.spaces:
            guide, name = cast(Impression, self.spaces[GUIDE]), self.conditioner.worded
            if name not in request.raw:
                return conditional
            captions, away = request.raw[name], request.against.get(name)
            slope = guide.leading(captions, request.present[name], self.space, against=away)
            return guidance.led(conditional, slope, weight=strength - 1, interval=interval)
        source = {name: value for name, value in request.raw.items() if name == "source"}
        return guidance.guided(
            conditional, under({**source, **request.against}, {}), weight=strength, interval=interval
        )

    def sample(self, request: Request) -> Tensor:
        scene = self.space.scene(request.noise) if self.config.given else None
        if scene is None:
            return self.drawn(request, None)
        x, told = scene
        return torch.where(told, x, self.drawn(request, Given(*self.space.given(x, told, complete=False))))

    def can_fill(self) -> bool:
        return self.config.given > 0

    def fill(self, batch: Batch, request: Request, *, complete: bool) -> Tensor:
        """As the conditional law has it: without guidance, which would narrow it, unless the request asks for some."""
        if not self.config.given:
            raise InputError(
                "this model was not trained to fill in what is missing; train one with --set model.given=0.25"
            )
        mask = masked(self.space, batch.observed, batch.valid)
        if mask is None:
            return batch.x
        observed = mask > 0
        values, known = self.space.given(batch.x, observed, complete=complete)
        present = {name: here for name, here in request.present.items() if not self.is_cluster(name)}
        strength = request.options.guidance if present else None
        options = replace(request.options, guidance=1.0 if strength is None else strength)
        request = replace(request, raw={name: request.raw[name] for name in present}, present=present, options=options)
        return torch.where(observed, batch.x, self.drawn(request, Given(values, known, complete)))

    def is_cluster(self, name: str) -> bool:
        return isinstance(self.spaces[name], Clusters)

    def redraw(self, x: Tensor, request: Request, *, strength: float) -> Tensor:
        x = self.space.embed(x)
        if strength == 0:
            return self.space.decode(x)
        return self.drawn(request, scene_of(self.space, x) if self.config.given else None, begin=(x, strength))

    # --- noise as a code: `maths/inversion.py` says what is exact of it ---

    def invert(self, x: Tensor, request: Request) -> Tensor:
        """Under the request's conditions, with its guidance. Of codes of an autoencoder: what that loses is lost."""
        levels = self.levels_of_codes(request.options)
        if len(levels) < 3:
            raise InputError("steps=1: the way to the noise and back takes two steps or more")
        return to_noise(self.denoiser(request), self.space.embed(x), levels).flatten(1)

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        """Without fresh noise, whatever the sampler; that of the default, 2M on Karras' levels, does the same."""
        noise = codes.reshape(len(codes), self.space.width, *self.space.grid)
        levels = self.levels_of_codes(request.options)
        return self.space.decode(from_noise(self.denoiser(request), noise, levels))

    def draw(self, request: Request) -> Tensor:
        return request.noise.normal(self.space.width, *self.space.grid).flatten(1)

    def levels_of_codes(self, options: Options) -> Tensor:
        """Karras' levels for every path: steps that are even in t are coarse near the data, where pictures are lost.

        Of Fashion-MNIST by flow 27 dB come back in 12 steps of its own, and 42 in these.
        """
        config, high = self.config, float(self.grid(1)[0])
        return paths.karras_sigmas(options.steps or config.steps, low=config.sigma_low, high=high, rho=config.rho)

    def drawn(self, request: Request, given: Given | None, *, begin: tuple[Tensor, float] | None = None) -> Tensor:
        """Raw samples; of the elements that are given, what is left of them after `decode`.

        begin: embedded x and a strength above 0: the last share of the way alone, from x under the noise of its start.
        """
        options, config, noise = request.options, self.config, request.noise
        if options.prior not in (None, "normal"):
            raise InputError(f"prior {options.prior!r}: diffusion starts from 'normal' noise only")
        name, sigmas = options.sampler or config.sampler, self.grid(options.steps or config.steps)
        shape = (self.space.width, *self.space.grid)
        y = noise.normal(*shape)
        if begin is None:  # the largest level is not infinite: y starts as noise plus data of unit variance
            y = y * float((sigmas[0] ** 2 + 1).sqrt())
        else:
            steps = max(round(begin[1] * (len(sigmas) - 1)), 1)
            sigmas = sigmas[len(sigmas) - 1 - steps :]
            y = begin[0] + y * float(sigmas[0])
        watch = request.watch
        denoise = self.denoiser(request, given, variance=self.learns_variance and name == "ddpm")
        x0 = samplers.sample(
            name, denoise, y, sigmas, noise=lambda: noise.normal(*shape), variance=config.variance,
            eta=config.eta if options.eta is None else options.eta,
            callback=None if watch is None else lambda i, y, clean: watch(i, clean),
        )  # fmt: skip
        return self.space.decode(x0)

    def denoise(self, noisy: Tensor, sigma: Tensor, request: Request) -> Tensor:
        cond = self.conditioner(request.raw, request.present, len(noisy))
        return self.estimate(noisy, sigma.clamp(min=self.config.sigma_low), cond)[0]

    # --- what it says of examples ---

    def score(self, batch: Batch) -> Tensor:
        if isinstance(self.space, Latent):
            raise InputError("score: this model knows codes, and codes have no likelihood of the data themselves")
        cond = self.conditioner(batch.raw, batch.present, len(batch))

        def predict(y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            out, _ = self.output(y, sigma, cond)
            return out, self.meant(out, y, sigma)

        low, high = self.config.sigma_low, self.config.sigma_high
        return denoising.log_density(self.space, predict, batch, low=low, high=high) - log_volume(self.space)

    def surprise(self, batch: Batch) -> Tensor:
        cond = self.conditioner(batch.raw, batch.present, len(batch))

        def estimate(y: Tensor, sigma: Tensor, given: Given | None) -> Tensor:
            return self.estimate(y, sigma, cond, given)[0]

        return denoising.surprise(self.space, estimate, batch, fills=self.can_fill())
