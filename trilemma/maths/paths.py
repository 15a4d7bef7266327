"""Paths from data (t = 0) to noise (t = 1), what a network may predict along them, their noise grids and loss weights.

Everywhere: x_t = alpha x_0 + sigma noise. Samplers and densities speak of the *scaled* level s = sigma / alpha, where
y = x_t / alpha = x_0 + s noise. Data have unit deviation: sigmas of papers that assume 0.5 are multiplied by 2 here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from trilemma.errors import InputError
from trilemma.maths.shapes import expand

Level = TypeVar("Level", float, Tensor)
SIGMA_LOW, SIGMA_HIGH = 0.004, 160.0  # EDM's 0.002 and 80 for data of deviation 0.5, times 2


# --- Paths ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Path:
    """alpha and sigma as functions of t: tensors of times in, tensors of the same shape and dtype out."""

    name: str
    alpha: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]
    time: Callable[[Tensor], Tensor]  # scaled level s -> t, the inverse of `scaled_sigma`

    def scaled_sigma(self, t: Tensor) -> Tensor:
        """s = sigma / alpha; infinite where alpha is zero, so samplers start at a stated largest s instead of t = 1."""
        return self.sigma(t) / self.alpha(t)


def coefficients(kind: str, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma_t) at scaled levels s, so that x_t = alpha y: the path's own time is not needed.

    kind: 'linear' has alpha + sigma = 1; 'variance-preserving' (DDPM, cosine, EDM's preconditioned input) has
    alpha^2 + sigma^2 = 1.
    """
    alpha = 1 / (1 + sigma) if kind == "linear" else (1 + sigma**2).rsqrt()
    return alpha, alpha * sigma


def linear_path() -> Path:
    """alpha = 1 - t, sigma = t: flow matching and rectified flow (Liu et al. 2023, eq. 1; their time is our 1 - t)."""
    return Path("linear", alpha=lambda t: 1 - t, sigma=lambda t: t, time=lambda s: s / (1 + s))


def cosine_path() -> Path:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): variance preserving (Salimans & Ho 2022, section 2)."""
    quarter = math.pi / 2
    return Path(
        "cosine",
        # The cosine is written as a sine of 1 - t: cos(pi / 2) is a small negative number in float32.
        alpha=lambda t: torch.sin(quarter * (1 - t)),
        sigma=lambda t: torch.sin(quarter * t),
        time=lambda s: torch.atan(s) / quarter,
    )


def ddpm_path(steps: int = 1000) -> Path:
    """DDPM's schedule, exact at t = k / steps; in between the noise rate is constant (ln alpha_bar linear)."""
    # Step 0, the data, is put before the paper's steps 1 ... T, so that t = 0 is on the table.
    log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), ddpm_alpha_bar(steps).log()])
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)

    def log_signal(t: Tensor) -> Tensor:
        return _interpolate(t, times, log_alpha_bar)

    return Path(
        "ddpm",
        alpha=lambda t: torch.exp(log_signal(t) / 2),
        sigma=lambda t: torch.sqrt(-torch.expm1(log_signal(t))),  # 1 - alpha_bar without cancellation near the data
        time=lambda s: _interpolate(torch.log1p(s**2), -log_alpha_bar, times),
    )


def edm_path(*, low: float = SIGMA_LOW, high: float = SIGMA_HIGH, rho: float = 7.0) -> Path:
    """alpha = 1, sigma from `low` at t = 0 to `high` at t = 1, linear in sigma^(1/rho) (Karras et al. 2022, eq. 5)."""
    start, slope = low ** (1 / rho), high ** (1 / rho) - low ** (1 / rho)
    return Path(
        "edm",
        alpha=torch.ones_like,
        sigma=lambda t: (start + t * slope) ** rho,
        time=lambda s: (s ** (1 / rho) - start) / slope,
    )


PATHS: dict[str, Callable[[], Path]] = {
    "linear": linear_path,
    "cosine": cosine_path,
    "ddpm": ddpm_path,
    "edm": edm_path,
}


def ddpm_alpha_bar(steps: int = 1000, *, low: float = 1e-4, high: float = 0.02) -> Tensor:
    """alpha_bar of steps 1 ... T, float64 (T,): beta linear from `low` to `high` (Ho et al. 2020, section 4).

    Both ends are multiplied by 1000 / T, which keeps the noise of the last step about the same for every T.
    """
    if steps * 0.999 < 1000 * high:
        raise ValueError(f"steps={steps}: DDPM's schedule needs at least {math.ceil(1000 * high / 0.999)} steps.")
    # float64: the product of a thousand factors near 1 is what every level is computed from.
    beta = torch.linspace(low, high, steps, dtype=torch.float64) * (1000 / steps)
    return torch.cumprod(1 - beta, 0)


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through (knots, values), the outer pieces continued; `knots` increase."""
    knots, values = knots.to(x), values.to(x)
    left = (torch.searchsorted(knots, x.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
    fraction = (x - knots[left]) / (knots[left + 1] - knots[left])
    return values[left] + fraction * (values[left + 1] - values[left])


def reverse_variances(now: Level, after: Level) -> tuple[Level, Level]:
    """(small, large) variance of DDPM's reverse step between two scaled levels (Ho et al. 2020, section 3.2).

    beta-tilde of the posterior, and beta of a variance-preserving path: both in scaled coordinates, divided by the
    next level's alpha^2; alpha^2 = 1 / (1 + s^2) enters the large one only.
    """
    gap = now**2 - after**2
    return gap * (after / now) ** 2, gap * (1 + after**2) / (1 + now**2)


# --- What a network predicts ------------------------------------------------------------------------------------------

PREDICTIONS = ("eps", "x0", "v", "velocity", "F")


def skip_and_out(kind: str, alpha: Tensor | float, sigma: Tensor | float) -> tuple:
    """(skip, out) of x_0 = skip x_t + out prediction: every parameterisation is such a pair.

    eps is the noise, v = alpha eps - sigma x_0 (Salimans & Ho 2022), velocity = eps - x_0 = dx_t/dt of the linear path,
    F is EDM's raw network output; on a variance-preserving path F = -v.
    """
    power = alpha**2 + sigma**2  # 1 on variance-preserving paths; kept, so that v and F work on every path
    if kind == "eps":
        return 1 / alpha, -sigma / alpha
    if kind == "x0":
        return 0 * sigma, 1 + 0 * sigma  # of sigma's shape and dtype, like the others
    if kind == "v":
        return alpha / power, -sigma / power
    if kind == "velocity":
        return 1 / (alpha + sigma), -sigma / (alpha + sigma)
    if kind == "F":
        return alpha / power, sigma / power**0.5
    raise ValueError(f"prediction {kind!r}: choose one of {', '.join(PREDICTIONS)}.")


def to_x0(kind: str, prediction: Tensor, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """The estimate of x_0 that a prediction at x_t (B, C, *grid) means; alpha and sigma are (B,), 0-d or numbers."""
    skip, out = skip_and_out(kind, expand(alpha, x_t), expand(sigma, x_t))
    return skip * x_t + out * prediction


def target(kind: str, x0: Tensor, noise: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """What the network should have predicted (B, C, *grid), also at sigma = 0."""
    alpha, sigma = expand(alpha, x0), expand(sigma, x0)
    if kind == "eps":
        return noise
    if kind == "x0":
        return x0
    if kind == "v":
        return alpha * noise - sigma * x0
    if kind == "velocity":
        return noise - x0
    if kind == "F":
        return (sigma * x0 - alpha * noise) / (alpha**2 + sigma**2) ** 0.5
    raise ValueError(f"prediction {kind!r}: choose one of {', '.join(PREDICTIONS)}.")


# --- Which levels are trained: all from one standard normal draw per example, so that a switch moves no other draw ----


def log_normal_sigma(z: Tensor, *, mean: float = -0.51, deviation: float = 1.2) -> Tensor:
    """Scaled levels with ln s ~ N(mean, deviation^2) from z ~ N(0, 1) (Karras et al. 2022, table 1; -1.2 + ln 2)."""
    return torch.exp(mean + deviation * z)


def uniform_step(z: Tensor, steps: int = 1000) -> Tensor:
    """DDPM's step numbers, int64, uniform on 1 ... steps, from z ~ N(0, 1); t = step / steps on `ddpm_path(steps)`."""
    # In float32 the normal's distribution function reaches 1 from z = 5.4 on: the clamp keeps step T the last.
    return (torch.special.ndtr(z) * steps).long().clamp(max=steps - 1) + 1


WEIGHTS = ("edm", "snr", "simple", "min-snr", "velocity")


def loss_weight(name: str, sigma: Tensor, *, gamma: float = 5.0) -> Tensor:
    """Weight (B,) on the squared error of the x_0 estimate at scaled levels s (B,); the signal-to-noise ratio is 1/s^2.

    edm: 1 on F, which on a variance-preserving path is 1 on v. simple: 1 on eps (Ho et al. 2020, eq. 14), and that is
    the ratio itself, snr. min-snr: min(ratio, gamma) (Hang et al. 2023, eq. 8). velocity: 1 on eps - x_0.
    """
    # All on x_0's error, because every prediction's error at a given y is that of x_0 times a factor of s.
    ratio = sigma**-2
    if name == "edm":
        return ratio + 1
    if name in ("snr", "simple"):
        return ratio
    if name == "min-snr":
        return ratio.clamp(max=gamma)
    if name == "velocity":
        return (1 + 1 / sigma) ** 2
    raise ValueError(f"weight {name!r}: choose one of {', '.join(WEIGHTS)}.")


NATURAL = {"F": "edm", "v": "edm", "eps": "simple", "velocity": "velocity"}  # the weight that is 1 on the prediction


def prediction_weight(name: str, prediction: str, sigma: Tensor) -> Tensor:
    """Weight (B,) on the squared error of a prediction: 1 where it is 'natural', else `loss_weight` of that name."""
    if name == "natural":
        return torch.ones_like(sigma)
    of_x0, natural = loss_weight(name, sigma), NATURAL.get(prediction)
    return of_x0 if natural is None else of_x0 / loss_weight(natural, sigma)


# --- Grids of scaled levels for samplers: float64 (steps + 1,), decreasing to an exact 0 ------------------------------


def karras_sigmas(steps: int, *, low: float = SIGMA_LOW, high: float = SIGMA_HIGH, rho: float = 7.0) -> Tensor:
    """Uniform in s^(1/rho) from `high` to `low`, then 0 (Karras et al. 2022, eq. 5); rho = 7 puts most steps near 0."""
    ramp = torch.linspace(0, 1, _at_least_one(steps), dtype=torch.float64)
    return _to_zero((high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho)


def uniform_sigmas(path: Path, steps: int, *, high: float = SIGMA_HIGH) -> Tensor:
    """Uniform in the path's own t from `path.time(high)` to 0; the usual grid of the linear and the cosine path."""
    # Not from t = 1: there linear and cosine paths are pure noise, an infinite scaled level.
    start = path.time(torch.tensor(high, dtype=torch.float64))
    t = start * torch.linspace(1, 0, _at_least_one(steps) + 1, dtype=torch.float64)
    return _to_zero(path.scaled_sigma(t[:-1]))


def ddpm_sigmas(steps: int, *, train_steps: int = 1000) -> Tensor:
    """DDPM's levels at `steps` evenly spaced steps of the trained ones, the noisiest included, then 0."""
    if _at_least_one(steps) > train_steps:
        raise InputError(f"steps={steps}: this model was trained with {train_steps} steps; ask for fewer")
    chosen = torch.linspace(train_steps, 0, steps + 1, dtype=torch.float64)[:-1].round().long()
    alpha_bar = ddpm_alpha_bar(train_steps)[chosen - 1]
    return _to_zero(((1 - alpha_bar) / alpha_bar).sqrt())


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise InputError(f"steps={steps}: a sampler needs at least one step")
    return steps


def _to_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
