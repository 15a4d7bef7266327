"""Samplers: free functions that carry y = x_0 + s noise from the first to the last level of a grid of scaled levels s.

`denoise(y, s)` returns the estimate of x_0 for y (B, C, *grid) at the level s, a Python float; conditions are already
bound. y enters at `sigmas[0]`; `sigmas` is 1-d, decreasing, and ends with 0 (or at any positive level). The sampled
differential equation is dy/ds = (y - D(y, s)) / s (Karras et al. 2022, eq. 1 and 3 with scale 1). Scaled coordinates
make every variance-preserving, variance-exploding or flow path the same equation. All return y at `sigmas[-1]`.
`callback(i, y, denoised)` sees step i before it is taken: y at `sigmas[i]` and the estimate of x_0 from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from trilemma.errors import unknown
from trilemma.maths.paths import reverse_variances

Denoise = Callable[[Tensor, float], Tensor]
Callback = Callable[[int, Tensor, Tensor], None]
Noise = Callable[[], Tensor]  # each call gives a fresh standard normal tensor like y
Earlier = Sequence[tuple[float, Tensor]]  # (level, value) pairs from before sigmas[0], oldest first


def euler(denoise: Denoise, y: Tensor, sigmas: Tensor, *, callback: Callback | None = None) -> Tensor:
    """Euler's method, order 1: the same as DDIM with eta = 0 (Song et al. 2021, eq. 13). Increasing grids encode."""
    for i, (now, after) in enumerate(_steps(sigmas, either_way=True)):
        clean = denoise(y, now)
        if callback:
            callback(i, y, clean)
        y = clean + after / now * (y - clean)  # y + (after - now) (y - clean) / now, exact at after = 0
    return y


def heun(
    denoise: Denoise,
    y: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    churn: float = 0.0,
    churn_interval: tuple[float, float] = (0.0, math.inf),
    churn_scale: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """EDM's second-order sampler with optional churn (Karras et al. 2022, algorithms 1 and 2).

    Two calls a step, one on a last step to 0. Increasing grids encode, without churn.
    """
    # Raising the noise before a step makes sense on the way down only.
    steps = _steps(sigmas, either_way=churn == 0)
    amount = min(churn / len(steps), math.sqrt(2) - 1)
    if churn and noise is None:
        raise ValueError("churn draws fresh noise: pass noise=.")
    for i, (now, after) in enumerate(steps):
        if noise is not None and amount > 0 and churn_interval[0] <= now <= churn_interval[1]:
            # Fresh noise up to a higher level first: the step down then corrects errors of the steps before.
            raised = now * (1 + amount)
            y = y + math.sqrt(raised**2 - now**2) * churn_scale * noise()
            now = raised
        clean = denoise(y, now)
        if callback:
            callback(i, y, clean)
        if after == 0:  # the slope at s = 0 is 0 / 0, and the step there is tiny
            return clean
        slope = (y - clean) / now
        ahead = y + (after - now) * slope
        slope_ahead = (ahead - denoise(ahead, after)) / after
        y = y + (after - now) * (slope + slope_ahead) / 2
    return y


def ddim(
    denoise: Denoise,
    y: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DDIM: eta = 0 is deterministic, eta = 1 is DDPM with the small variance (Song et al. 2021, eq. 12 and 16)."""
    if eta and noise is None:
        raise ValueError("ddim with eta above 0 draws fresh noise: pass noise=.")
    for i, (now, after) in enumerate(_steps(sigmas, either_way=eta == 0)):
        clean = denoise(y, now)
        if callback:
            callback(i, y, clean)
        # Equation 16 divided by alpha: the path drops out, only the two scaled levels stay.
        fresh = eta * after * math.sqrt(max(0.0, 1 - (after / now) ** 2))
        kept = math.sqrt(max(0.0, after**2 - fresh**2))  # the estimated noise fills up the level's variance
        y = clean + kept / now * (y - clean)
        if noise is not None and fresh > 0:
            y = y + fresh * noise()
    return y


def ancestral(
    denoise: Callable[[Tensor, float], Tensor | tuple[Tensor, Tensor]],
    y: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise | None = None,
    variance: str = "small",
    callback: Callback | None = None,
) -> Tensor:
    """DDPM's reverse chain (Ho et al. 2020, algorithm 2); no noise is added on the last step to 0.

    variance: small is the posterior's beta-tilde, large is beta of a variance-preserving path; with learned, `denoise`
    returns (x_0, v); v in [0, 1], like y, goes from small to large in the logarithm (Nichol & Dhariwal 2021, eq. 15).
    """
    if variance not in ("small", "large", "learned"):
        raise ValueError(f"variance {variance!r}: choose one of small, large, learned.")
    if noise is None:
        raise ValueError("the ancestral sampler draws fresh noise: pass noise=.")
    for i, (now, after) in enumerate(_steps(sigmas)):
        answer = denoise(y, now)
        clean, fraction = answer if isinstance(answer, tuple) else (answer, None)
        if callback:
            callback(i, y, clean)
        # The posterior mean of equation 7: in scaled coordinates its two weights are 1 - r^2 and r^2, r = after / now.
        y = clean + (after / now) ** 2 * (y - clean)
        if after == 0:
            return y
        small, large = reverse_variances(now, after)
        if variance == "learned":
            if fraction is None:
                raise ValueError("variance 'learned': denoise must return (x_0, v); this one returns x_0 alone.")
            y = y + math.sqrt(small) * torch.exp(fraction * (math.log(large / small) / 2)) * noise()
        else:
            y = y + math.sqrt(small if variance == "small" else large) * noise()
    return y


def dpm_solver_plus_plus(
    denoise: Denoise,
    y: Tensor,
    sigmas: Tensor,
    *,
    order: int = 2,
    earlier: Earlier = (),
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++ multistep, 2M (Lu et al. 2022, algorithm 2) or 3M, in lambda = -ln s; one call a step.

    Starts with lower orders unless `earlier` gives (level, estimate of x_0) pairs; a last step to 0 takes the estimate.
    """
    if order not in (2, 3):
        raise ValueError(f"order={order}: DPM-Solver++ multistep has orders 2 and 3.")
    history = [(-math.log(level), clean) for level, clean in earlier]
    for i, (now, after) in enumerate(_steps(sigmas, either_way=True)):
        clean = denoise(y, now)
        if callback:
            callback(i, y, clean)
        if after == 0:  # lambda is infinite there, and no polynomial reaches it
            return clean
        history = [*history, (-math.log(now), clean)][-order:]
        y = after / now * y + _exponential_push(history, math.log(now / after))
    return y


def adams_bashforth(
    denoise: Denoise,
    y: Tensor,
    sigmas: Tensor,
    *,
    order: int = 3,
    earlier: Earlier = (),
    callback: Callback | None = None,
) -> Tensor:
    """Adams-Bashforth of order 1 to 4, its coefficients computed for the grid's own steps, so that the order holds.

    Starts with lower orders unless `earlier` gives (level, slope (y - D) / s) pairs; one call a step.
    """
    return _multistep(denoise, y, sigmas, order=order, earlier=earlier, callback=callback, weigh=_variable_weights)


def ipndm(
    denoise: Denoise,
    y: Tensor,
    sigmas: Tensor,
    *,
    order: int = 4,
    earlier: Earlier = (),
    callback: Callback | None = None,
) -> Tensor:
    """iPNDM: Adams-Bashforth's equal-step coefficients on any grid (Zhang & Chen 2023, table 1); one call a step.

    Its order is 4 on grids uniform in s and 2 on others, where its small coefficients often still win at few steps.
    """
    return _multistep(denoise, y, sigmas, order=order, earlier=earlier, callback=callback, weigh=_fixed_weights)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "euler": euler,
    "heun": heun,
    "ddim": ddim,
    "ddpm": ancestral,
    "dpm++2m": partial(dpm_solver_plus_plus, order=2),
    "dpm++3m": partial(dpm_solver_plus_plus, order=3),
    "adams-bashforth": adams_bashforth,
    "ipndm": ipndm,
}


def sample(
    name: str,
    denoise: Callable[[Tensor, float], Any],
    y: Tensor,
    sigmas: Tensor,
    *,
    noise: Noise,
    eta: float = 0.0,
    variance: str = "small",
    callback: Callback | None = None,
) -> Tensor:
    """By the sampler of this name, which gets what it takes: `eta` is ddim's, `variance` ddpm's.

    Raises:
        InputError: there is no such sampler.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    own: dict[str, Any] = {}
    if name == "ddpm":
        own = {"noise": noise, "variance": variance}
    elif name == "ddim" and eta:
        own = {"noise": noise, "eta": eta}
    return SAMPLERS[name](denoise, y, sigmas, callback=callback, **own)


def calls(name: str, steps: int) -> int:
    """Calls of `denoise` that a sampler makes on a grid of `steps` steps that ends with 0 (guidance doubles them)."""
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    return 2 * steps - 1 if name == "heun" else steps


class Counter:
    """Counts network calls: wrap every network with one counter, and guidance counts twice by itself."""

    def __init__(self) -> None:
        self.calls = 0

    def wrap(self, denoise: Denoise) -> Denoise:
        """The same function, counted."""

        def counted(y: Tensor, sigma: float) -> Tensor:
            self.calls += 1
            return denoise(y, sigma)

        return counted


def _steps(sigmas: Tensor, *, either_way: bool = False) -> list[tuple[float, float]]:
    """(level now, level after) of every step as Python floats, whose 64 bits do not promote y's dtype."""
    levels = sigmas.tolist()
    # A wrong grid would not fail but give plausible nonsense, so it is checked at the only door.
    if sigmas.dim() != 1 or len(levels) < 2 or not all(math.isfinite(level) and level >= 0 for level in levels):
        raise ValueError("sigmas: a grid is one row of at least two finite levels, none below 0.")
    steps = list(pairwise(levels))
    falling = all(now > after for now, after in steps)
    rising = either_way and all(now < after for now, after in steps)
    if not (falling or rising) or levels[0] == 0:
        raise ValueError(
            "sigmas: levels must fall strictly" + (", or rise strictly from above 0." if either_way else ".")
        )
    return steps


def _exponential_push(history: list[tuple[float, Tensor]], step: float) -> Tensor:
    """Integral of D(tau) e^(tau - step) over a step in lambda, D a polynomial through (lambda, estimate) pairs."""
    (here, clean), decay = history[-1], -math.expm1(-step)
    if len(history) == 1:
        return decay * clean
    past, past_clean = history[-2]
    slope = (clean - past_clean) * (step / (here - past))
    if len(history) == 2:
        return decay * (clean + slope / 2)  # the paper's midpoint form
    oldest, oldest_clean = history[-3]
    slope_before = (past_clean - oldest_clean) * (step / (past - oldest))
    bend = (slope - slope_before) * (step / (here - oldest))
    slope = slope + bend * ((here - past) / step)
    first = 1 - decay / step  # the integral of tau / step; that of its square is 1 - 2 first / step
    # The authors' code has half this weight on `bend`, which costs it the third order (a test shows both).
    return decay * clean + first * slope + (1 - 2 * first / step) * bend


def _multistep(
    denoise: Denoise,
    y: Tensor,
    sigmas: Tensor,
    *,
    order: int,
    earlier: Earlier,
    callback: Callback | None,
    weigh: Callable[[list[float], float], list[float]],
) -> Tensor:
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order={order}: Adams-Bashforth and iPNDM have orders 1 to 4.")
    history = list(earlier)
    for i, (now, after) in enumerate(_steps(sigmas, either_way=True)):
        clean = denoise(y, now)
        if callback:
            callback(i, y, clean)
        # Old slopes are kept, not old y: they cost nothing to reuse, one call a step at any order.
        history = [*history, (now, (y - clean) / now)][-order:]
        weights = weigh([level for level, _ in history], after)
        for weight, (_, slope) in zip(weights, history, strict=True):
            y = y + (after - now) * weight * slope
    return y


def _variable_weights(levels: list[float], after: float) -> list[float]:
    """Weights (per unit step, oldest first) that integrate the polynomial through slopes at `levels` exactly."""
    now = levels[-1]
    # In units of the step, nodes stay of order one, and the moment equations sum w_j x_j^k = 1 / (k + 1) well posed.
    nodes = torch.tensor([(level - now) / (after - now) for level in levels], dtype=torch.float64)
    powers = torch.arange(len(levels), dtype=torch.float64)
    return torch.linalg.solve(nodes[None, :] ** powers[:, None], 1 / (powers + 1)).tolist()


def _fixed_weights(levels: list[float], after: float) -> list[float]:
    # Oldest first; fewer slopes than the order, at the start, use the row of their number.
    table = {1: (1,), 2: (-1 / 2, 3 / 2), 3: (5 / 12, -16 / 12, 23 / 12), 4: (-9 / 24, 37 / 24, -59 / 24, 55 / 24)}
    return list(table[len(levels)])
