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
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.conditions import Cond, Conditioner, drop
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError, unknown
from trilemma.impressions import GUIDE, Impression
from trilemma.latent import Latent
from trilemma.maths import samplers
from trilemma.maths.inversion import from_noise, to_noise
from trilemma.maths.likelihood import log_likelihood
from trilemma.maths.losses import gaussian_nll
from trilemma.maths.noise import Noise
from trilemma.maths.paths import (
    coefficients,
    ddpm_path,
    ddpm_sigmas,
    karras_sigmas,
    linear_path,
    log_normal_sigma,
    loss_weight,
    target,
    to_x0,
    uniform_sigmas,
    uniform_step,
)
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
from trilemma.spaces import Categorical, Clusters, Continuous, Space, masked
from trilemma.words import Words

NATURAL_WEIGHT = {"F": "edm", "v": "edm", "eps": "simple", "velocity": "velocity"}  # weight 1 on the prediction


GIVEN = 0.25  # of a table's rows; at 0.5 samples are told apart more easily (AUC .76, at 0.25 .74, at 0 .73)
TABLE_WIDTHS = (256, 320, 384, 512, 768)  # by the size dial: small products cost little more than smaller ones
TABLE_STEPS = 48  # what rows teach grows with them: F1 .657 (12), .668 (24), .675 (48 and 96) of a census; real .702
FORECAST = 0.4  # of a series' windows: to forecast is to fill in the end
# In 12 steps a Gaussian law comes out 10 % too wide, in 24 over these levels 2 %: forecasts live by their width.
LAWFUL = {"steps": 24, "sigma_low": 0.01, "sigma_high": 40.0}
TOLD = 0.9  # of a series' windows that train without a part given: those that are told their calendar
RAISED = 4.0  # times the noise of an example of which a part is given
SEVERAL = 64  # columns that are looked at one by one for what is strange in them,
HIDING = 4.0  # under noise in which nothing of them is left; else all at once,
LEVELS = (0.1, 0.3, 1.0, 2.0)  # under these; pictures under more, among which none is lost in the noise of one draw
OF_PICTURES = (0.3, 0.37, 0.45, 0.54, 0.66, 0.81, 0.98, 1.2)
BLURRED = 0.5  # the level up to which a score of tokens leaves all to the network's posterior


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


@dataclass
class Given:
    """What is known of x_0 where the rest of it is filled in."""

    values: Tensor  # (B, width, *grid) embedded
    known: Tensor  # the same shape, bool
    complete: bool  # what is filled in is not missing


class Diffusion(Model, Samples, Inverts, Denoises, Fills, Redraws, Translates, Scores, Surprises):
    Config = Config
    presets = {
        "edm": {},
        "flow": {
            "path": "linear",
            "prediction": "velocity",
            "level_mean": 0.0,
            "level_deviation": 1.0,
        },
        "latent": {"autoencoder": "codec"},
        "text": {"text": "words", "guidance": 3.0},
        "clip-guided": {"text": "words", "clip": "clip:noise-aware", "guidance": 3.0},
        "transformer": {"autoencoder": "codec", "network.kind": "transformer"},  # Peebles & Xie 2023
        "ddpm": {"path": "ddpm", "prediction": "eps", "sampler": "ddpm", "steps": 100, "guidance": 1.0},
        "ddpm-learned": {
            "path": "ddpm",
            "prediction": "eps",
            "variance": "learned",
            "sampler": "ddpm",
            "steps": 100,
            "guidance": 1.0,
        },
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
        self.ddpm = ddpm_path(config.train_steps) if config.path == "ddpm" else None

    def compilable(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        space, number, guide = spaces["x"], SIZES.index(size), spaces.get(GUIDE)
        if isinstance(guide, Impression) and not guide.sees_noise:
            raise InputError("setting clip: it has not learned to see noise; take clip:noise-aware, or a run of it")
        words = next((one for one in spaces.values() if isinstance(one, Words)), None)
        if isinstance(guide, Impression) and words is not None and not guide.reads(words):
            raise InputError(
                "setting clip: it has learned another vocabulary than that of these captions; leave it out"
            )
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
        side = max(space.grid)
        patch = 2 if side >= 16 else 1
        levels = 2 if side // patch <= 16 else 3 if side // patch <= 32 else 4
        return {
            "network.kind": "conv",
            "network.width": (32, 64, 96, 128, 192)[number],
            "network.multipliers": (1, 2, 2, 3)[:levels],
            "network.depth": 1 if size == "xs" else 2,
            "network.patch": patch,
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
        return coefficients("linear" if self.config.path == "linear" else "variance-preserving", sigma)

    def output(
        self,
        y: Tensor,
        sigma: Tensor,
        raw: dict[str, Tensor],
        present: dict[str, Tensor],
        known: Tensor | None = None,
        cond: Cond | None = None,
    ) -> Tensor:
        """The network's raw prediction at y (B, width, *grid) and s (B,); levels and sinusoids stay fp32.

        known: the elements of y that are x_0's own, a mask. cond: the conditions, where they are embedded already.
        """
        embedding = self.level(sinusoids(sigma.log() / 4, 64).to(self.dtype))
        cond = self.conditioner(raw, present, len(y)) if cond is None else cond
        if cond.vector is not None:
            embedding = embedding + cond.vector
        scaled = (y * expand((1 + sigma**2).rsqrt(), y)).to(self.dtype)
        if self.config.given:
            known = torch.zeros_like(y, dtype=torch.bool) if known is None else known
            scaled = torch.cat([torch.where(known, y.to(self.dtype), scaled), known.to(self.dtype)], 1)
        if cond.grid is not None:
            scaled = torch.cat([scaled, cond.grid.to(self.dtype)], 1)
        looked_at = () if cond.tokens is None else (cond.tokens.to(self.dtype), cond.token_mask)
        return wide(self.network(scaled, functional.silu(embedding), *looked_at))

    def estimate(
        self,
        y: Tensor,
        sigma: Tensor,
        raw: dict[str, Tensor],
        present: dict[str, Tensor],
        given: Given | None = None,
        cond: Cond | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """x_0 from y at s (B,); with a learned variance also its interpolation v in [0, 1]."""
        alpha, sigma_t = self.coefficients(sigma)
        y = y if given is None else torch.where(given.known, given.values, y)
        out, v = self.split(self.output(y, sigma, raw, present, None if given is None else given.known, cond))
        if given is not None and given.complete:
            out = self.space.complete(out)
        x0 = self.space.settle(to_x0(self.config.prediction, out, y * expand(alpha, y), alpha, sigma_t), out, y, sigma)
        x0 = x0 if given is None else torch.where(given.known, given.values, x0)
        return x0 if v is None else (x0, v)

    def split(self, out: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.learns_variance:
            return out, None
        prediction, v = out.chunk(2, 1)
        return prediction, ((v + 1) / 2).clamp(0, 1)

    # --- training ---

    def levels(self, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Scaled levels s (B,) to train at, and the DDPM step numbers where there are steps."""
        z = torch.special.ndtri(noise.spread().to(self.dtype))
        if self.ddpm is not None:
            step = uniform_step(z, self.config.train_steps)
            return self.ddpm.scaled_sigma(step.double() / self.config.train_steps).to(z.dtype), step
        return log_normal_sigma(z, mean=self.config.level_mean, deviation=self.config.level_deviation), None

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise = self.config, batch.noise
        mask = masked(self.space, batch.observed, batch.valid)
        x = self.space.embed(batch.x)
        if mask is not None:
            x = x * self.space.widen(mask)
        sigma, step = self.levels(noise)
        epsilon = noise.normal(*x.shape[1:])
        known = None
        if config.given:
            chosen = noise.uniform() < config.given
            known = self.space.portion(noise) & expand(chosen, x)
            if self.space.stage:  # as samples are drawn, mostly
                known = known | self.space.staged(x) & expand(noise.uniform() < TOLD, x)
            known = known if mask is None else known & (self.space.widen(mask) > 0)
            if step is None:  # what is given says most where the noise hides all else
                sigma = torch.where(chosen, sigma * RAISED, sigma)
        uniform = {name: noise.uniform() for name in sorted(batch.present)}
        dropped = drop(batch.present, uniform, config.drop)
        present = {name: batch.present[name] if name == "source" else here for name, here in dropped.items()}
        if known is not None:  # a cluster would tell of what is hidden
            present = {name: here & ~chosen if self.is_cluster(name) else here for name, here in present.items()}

        alpha, sigma_t = self.coefficients(sigma)
        y = x + expand(sigma, x) * epsilon
        y = y if known is None else torch.where(known, x, y)
        out, v = self.split(self.output(y, sigma, batch.raw, present, known))
        wanted = target(config.prediction, x, epsilon, alpha, sigma_t)
        error = self.space.denoising_error((out - wanted) ** 2, out, batch.x, y, sigma)
        weight = self.weight(sigma)
        if known is not None:
            error, wanted = torch.where(known, 0.0, error), torch.where(known, 0.0, wanted)
        if mask is not None:
            error, wanted = error * self.space.widen(mask), wanted * self.space.widen(mask)
        dimensions = math.prod(x.shape[1:])
        loss = (weight * sum_per_example(error) / dimensions).sum()
        logs = {"error": loss.detach(), "error_of_zero": (weight * sum_per_example(wanted**2) / dimensions).sum()}
        if v is not None and step is not None:
            x0 = to_x0(config.prediction, out, y * expand(alpha, y), alpha, sigma_t)
            x0 = self.space.settle(x0, out, y, sigma).detach()
            loss = loss + config.variance_weight * config.train_steps * self.bound(x, y, x0, v, sigma, step, mask).sum()
        yield Turn("model", loss, len(batch), logs)

    def weight(self, sigma: Tensor) -> Tensor:
        """Weight (B,) on the squared error of the prediction: 1 unless another weight than its natural one is asked."""
        if self.config.weight == "natural":
            return torch.ones_like(sigma)
        of_x0 = loss_weight(self.config.weight, sigma)
        natural = NATURAL_WEIGHT.get(self.config.prediction)
        return of_x0 if natural is None else of_x0 / loss_weight(natural, sigma)

    def bound(
        self, x: Tensor, y: Tensor, x0: Tensor, v: Tensor, sigma: Tensor, step: Tensor, mask: Tensor | None
    ) -> Tensor:
        """KL of the reverse step from the posterior, nats a dimension (B,) (Nichol & Dhariwal 2021, eq. 4, 6 and 15).

        Only v learns from it. Step 1 has no posterior variance: it is left out.
        """
        assert self.ddpm is not None
        after = self.ddpm.scaled_sigma((step - 1).clamp(min=1).double() / self.config.train_steps).to(sigma.dtype)
        gap = sigma**2 - after**2
        small = (gap * (after / sigma) ** 2).clamp(min=1e-20)
        large = (gap * (1 + after**2) / (1 + sigma**2)).clamp(min=1e-20)
        log_small, log_large = expand(small.log(), x), expand(large.log(), x)
        log_variance = torch.lerp(log_small.expand_as(x), log_large.expand_as(x), v)
        distance = expand(gap / sigma**2, x) * (x - x0)  # between the two means, in scaled coordinates
        kl = (log_variance - log_small + (log_small.exp() + distance**2) / log_variance.exp() - 1) / 2
        if mask is not None:
            kl = kl * self.space.widen(mask)
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
        if steps < 1:
            raise InputError(f"steps={steps}: a sampler needs at least one step")
        config = self.config
        if config.path == "ddpm":
            if steps > config.train_steps:
                raise InputError(
                    f"steps={steps}: this model was trained with {config.train_steps} steps; ask for fewer"
                )
            return ddpm_sigmas(steps, train_steps=config.train_steps)
        if config.path == "linear":
            return uniform_sigmas(linear_path(), steps, high=config.sigma_high)
        return karras_sigmas(steps, low=config.sigma_low, high=config.sigma_high, rho=config.rho)

    def calls(self, options: Options) -> int:
        steps, sampler = options.steps or self.config.steps, options.sampler or self.config.sampler
        count = samplers.calls(sampler, steps)
        guidance = self.config.guidance if options.guidance is None else options.guidance
        if guidance == 1 or not self.conditioner.names:
            return count
        low, high = options.interval or self.config.interval
        inside = [low < s <= high for s in self.grid(steps).tolist()]
        if sampler == "heun":  # at each level a step ends and one begins, but for the first
            return count + 2 * sum(inside) - inside[0]
        return count + sum(inside)

    def denoiser(self, request: Request, given: Given | None = None) -> Callable[[Tensor, float], Any]:
        """`denoise(y, s)` with the request's conditions and guidance bound, and what is given of x_0."""
        options = request.options
        guidance = self.config.guidance if options.guidance is None else options.guidance

        def under(raw: dict[str, Tensor], present: dict[str, Tensor]) -> Callable[[Tensor, float], Any]:
            cond = self.conditioner(raw, present, len(request))  # a caption is read once, not at each step
            return lambda y, s: self.estimate(y, torch.full((len(y),), s, device=y.device), raw, present, given, cond)

        conditional = under(request.raw, request.present)
        told = {*request.raw, *request.against}.intersection(self.conditioner.names)
        if guidance == 1 or not told:  # of a source alone there is nothing that could be left out
            return conditional
        if GUIDE in self.spaces:
            return self.guided_by_clip(conditional, request, guidance - 1)
        interval = options.interval or self.config.interval
        source = {name: value for name, value in request.raw.items() if name == "source"}
        unconditional = under({**source, **request.against}, {})
        return samplers.guided(conditional, unconditional, weight=guidance, interval=interval)

    def guided_by_clip(self, denoise: Callable[[Tensor, float], Any], request: Request, weight: float) -> Any:
        """`denoise` led by a CLIP to the request's captions, and away from those that it is against."""
        guide, name = self.spaces[GUIDE], self.conditioner.worded
        assert isinstance(guide, Impression)
        if name not in request.raw:
            return denoise
        here = request.present[name]

        def slope(y: Tensor, s: float) -> Tensor:
            sigma = torch.full((len(y),), s, device=y.device)
            found = guide.lean(y, sigma, request.raw[name], self.space)
            if name in request.against:
                found = found - guide.lean(y, sigma, request.against[name], self.space)
            return found * expand(here.to(found.dtype), found)

        interval = request.options.interval or self.config.interval
        return samplers.led(denoise, slope, weight=weight, interval=interval)

    def sample(self, request: Request) -> Tensor:
        scene = self.space.scene(request.noise) if self.config.given else None
        if scene is None:
            return self.drawn(request, None)
        x, told = scene
        return torch.where(
            told, x, self.drawn(request, Given(*self.space.given(x, told, complete=False), complete=False))
        )

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
        guidance = request.options.guidance if present else None
        options = replace(request.options, guidance=1.0 if guidance is None else guidance)
        request = replace(request, raw={name: request.raw[name] for name in present}, present=present, options=options)
        return torch.where(observed, batch.x, self.drawn(request, Given(values, known, complete)))

    def is_cluster(self, name: str) -> bool:
        return isinstance(self.spaces[name], Clusters)

    def redraw(self, x: Tensor, request: Request, *, strength: float) -> Tensor:
        x = self.space.embed(x)
        return self.drawn(request, self.scene_of(x), begin=(x, strength))

    def scene_of(self, x: Tensor) -> Given | None:
        """What embedded x tells of its scene: nothing, but for a series' calendar."""
        return Given(x, self.space.staged(x), complete=False) if self.space.stage and self.config.given else None

    # --- noise as a code: `maths/inversion.py` says what is exact of it ---

    def invert(self, x: Tensor, request: Request) -> Tensor:
        """Under the request's conditions, with its guidance. Of codes of an autoencoder: what that loses is lost."""
        levels = self.levels_of_codes(request.options)
        if len(levels) < 3:
            raise InputError("steps=1: the way to the noise and back takes two steps or more")
        return to_noise(self.mean_denoiser(request), self.space.embed(x), levels).flatten(1)

    def decode(self, codes: Tensor, request: Request) -> Tensor:
        """Without fresh noise, whatever the sampler; that of the default, 2M on Karras' levels, does the same."""
        noise = codes.reshape(len(codes), self.space.width, *self.space.grid)
        levels = self.levels_of_codes(request.options)
        return self.space.decode(from_noise(self.mean_denoiser(request), noise, levels))

    def draw(self, request: Request) -> Tensor:
        return request.noise.normal(self.space.width, *self.space.grid).flatten(1)

    def levels_of_codes(self, options: Options) -> Tensor:
        """Karras' levels for every path: steps that are even in t are coarse near the data, where pictures are lost.

        Of Fashion-MNIST by flow 27 dB come back in 12 steps of its own, and 42 in these.
        """
        config, high = self.config, float(self.grid(1)[0])
        return karras_sigmas(options.steps or config.steps, low=config.sigma_low, high=high, rho=config.rho)

    def mean_denoiser(self, request: Request) -> Callable[[Tensor, float], Tensor]:
        """`denoiser` without a learned variance."""
        denoise = self.denoiser(request)
        return lambda y, s: denoise(y, s)[0] if self.learns_variance else denoise(y, s)

    def drawn(self, request: Request, given: Given | None, *, begin: tuple[Tensor, float] | None = None) -> Tensor:
        """Raw samples; of the elements that are given, what is left of them after `decode`.

        begin: embedded x and a strength: the last share of the way alone, from x under the noise of its start.
        """
        options, config, noise = request.options, self.config, request.noise
        name = options.sampler or config.sampler
        if name not in samplers.SAMPLERS:
            raise unknown("sampler", name, samplers.SAMPLERS)
        if options.prior not in (None, "normal"):
            raise InputError(f"prior {options.prior!r}: diffusion starts from 'normal' noise only")
        sigmas = self.grid(options.steps or config.steps)
        shape = (self.space.width, *self.space.grid)
        # The largest level is not infinite: y starts as noise plus data of unit variance.
        y = noise.normal(*shape)
        if begin is None:
            y = y * float((sigmas[0] ** 2 + 1).sqrt())
        else:
            x, strength = begin
            if strength == 0:
                return self.space.decode(x)
            steps = max(round(strength * (len(sigmas) - 1)), 1)
            sigmas = sigmas[len(sigmas) - 1 - steps :]
            y = x + y * float(sigmas[0])
        watch = request.watch
        settings: dict[str, Any] = {"callback": None if watch is None else lambda i, y, clean: watch(i, clean)}
        if name == "ddpm":
            settings |= {"noise": lambda: noise.normal(*shape), "variance": config.variance}
        elif name == "ddim" and (eta := config.eta if options.eta is None else options.eta):
            settings |= {"noise": lambda: noise.normal(*shape), "eta": eta}
        denoise = self.denoiser(request, given)
        if self.learns_variance and name != "ddpm":
            with_variance, denoise = denoise, lambda y, s: with_variance(y, s)[0]
        return self.space.decode(samplers.SAMPLERS[name](denoise, y, sigmas, **settings))

    def denoise(self, noisy: Tensor, sigma: Tensor, request: Request) -> Tensor:
        answer = self.estimate(noisy, sigma.clamp(min=self.config.sigma_low), request.raw, request.present)
        return answer[0] if isinstance(answer, tuple) else answer

    def score(self, batch: Batch) -> Tensor:
        """log p(x) by the probability-flow ODE; exact divergence for small vectors, one Hutchinson probe otherwise.

        Tokens have no density: of them, and of tables, it is a bound, ln p(x | y) + ln p(y) - ln q(y | x) at one y of a
        level at which the network still tells tokens apart (Kingma et al. 2021, equation 11, with p(y) by the ODE).
        """
        if isinstance(self.space, Latent):
            raise InputError("score: this model knows codes, and codes have no likelihood of the data themselves")
        mask = masked(self.space, batch.observed, batch.valid)
        x = self.space.embed(batch.x)
        if mask is not None:
            x = x * self.space.widen(mask)
        small = math.prod(x.shape[1:]) <= 8
        request = Request(batch.noise, batch.raw, batch.present, Options(guidance=1.0))
        denoise = self.denoiser(request)
        probe = None if small else (batch.noise.uniform(*x.shape[1:]) < 0.5).float() * 2 - 1
        low = self.config.sigma_low if not small else min(self.config.sigma_low, 0.004)
        bound = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        if not isinstance(self.space, Continuous):
            low, epsilon = BLURRED, batch.noise.normal(*x.shape[1:]).to(x.dtype)
            bound, x = self.told_apart(batch, x, x + low * epsilon, epsilon, mask), x + low * epsilon
        sigmas = karras_sigmas(64 if small else 24, low=low, high=self.config.sigma_high)

        def clean(y: Tensor, s: float) -> Tensor:
            answer = denoise(y, s)
            return answer[0] if isinstance(answer, tuple) else answer

        trace = "exact" if small else "hutchinson"
        return bound + log_likelihood(clean, x, sigmas, trace=trace, probe=probe) - log_volume(self.space)

    def surprise(self, batch: Batch) -> Tensor:
        """Squared error of what the network makes of each element: of a table's column from all others, where it was
        trained to; else of noisy x, over several levels (Livernoche et al. 2024)."""
        mask = masked(self.space, batch.observed, batch.valid)
        observed = torch.ones_like(batch.x, dtype=torch.bool) if mask is None else mask > 0
        coded = self.space is not self.space.outer  # codes are known as a whole
        x, known = (self.space.embed(batch.x), None) if coded else self.space.given(batch.x, observed, complete=False)
        x = x if known is None else torch.where(known, x, 0.0)

        def error(level: float, given: Given | None, start: Tensor | float) -> Tensor:
            y = start + level * batch.noise.normal(*x.shape[1:])
            answer = self.estimate(y, torch.full((len(x),), level, device=x.device), batch.raw, batch.present, given)
            clean = answer[0] if isinstance(answer, tuple) else answer
            wrong = (clean - x).square()
            return wrong if known is None else self.space.narrow(wrong * known)

        if not self.config.given or self.space.grid or self.space.shape[0] > SEVERAL:
            levels = OF_PICTURES if len(self.space.grid) == 2 else LEVELS
            scene = self.scene_of(x)
            return torch.stack([error(level, scene, x) for level in levels]).sum(0)
        found = []
        for column in range(self.space.shape[0]):
            others = observed.clone()
            others[:, column] = False
            given = Given(*self.space.given(batch.x, others, complete=False), complete=False)
            found.append(error(HIDING, given, 0.0)[:, column])
        return torch.stack(found, 1)

    def told_apart(self, batch: Batch, x: Tensor, y: Tensor, epsilon: Tensor, mask: Tensor | None) -> Tensor:
        """ln p(x | y) - ln q(y | x), nats an example (B,), at level BLURRED; numbers have its deviation around x_0."""
        sigma, log_scale = torch.full((len(x),), BLURRED, device=x.device), torch.tensor(math.log(BLURRED))
        alpha, sigma_t = self.coefficients(sigma)
        out, _ = self.split(self.output(y, sigma, batch.raw, batch.present))
        x0 = to_x0(self.config.prediction, out, y * expand(alpha, y), alpha, sigma_t)
        missed = self.space.denoising_error(gaussian_nll(x0, x, log_scale), out, batch.x, y, sigma)
        if mask is not None:
            missed = missed * self.space.widen(mask)
        return sum_per_example(gaussian_nll(torch.zeros_like(y), epsilon, log_scale * 0) + log_scale - missed)
