"""What an estimate of x_0 from noisy data says of examples, whatever network makes it: how probable, and how strange.

Scaled coordinates: y = x_0 + s noise (see `maths/paths.py`), x and y embedded, (B, width, *grid).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trilemma.batches import Batch
from trilemma.maths.likelihood import log_likelihood
from trilemma.maths.losses import gaussian_nll
from trilemma.maths.paths import karras_sigmas
from trilemma.maths.shapes import sum_per_example
from trilemma.spaces import Continuous, Space, masked

SMALL = 8  # elements of an example up to which a divergence is exact
BLURRED = 0.5  # the level up to which a score of tokens leaves all to the network's posterior
SEVERAL = 64  # columns that are looked at one by one for what is strange in them,
HIDING = 4.0  # under noise in which nothing of them is left; else all at once,
LEVELS = (0.1, 0.3, 1.0, 2.0)  # under these; pictures under more, among which none is lost in the noise of one draw
OF_PICTURES = (0.3, 0.37, 0.45, 0.54, 0.66, 0.81, 0.98, 1.2)


@dataclass
class Given:
    """What is known of x_0 where the rest of it is filled in."""

    values: Tensor  # (B, width, *grid) embedded
    known: Tensor  # the same shape, bool
    complete: bool = False  # what is filled in is not missing


def scene_of(space: Space, x: Tensor) -> Given | None:
    """What embedded x tells of its scene: nothing, but for a series' calendar."""
    return Given(x, space.staged(x)) if space.stage else None


def log_density(
    space: Space,
    predict: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    batch: Batch,
    *,
    low: float,
    high: float,
) -> Tensor:
    """ln p(x) (B,) in embedded units by the probability-flow ODE from level `low` to `high`; exact divergence for small
    vectors, one Hutchinson probe otherwise.

    predict(y, s): the network's output at levels s (B,), and the x_0 that it means of numbers (`Space.settle`).

    Tokens have no density: of them, and of tables, it is a bound, ln p(x | y) + ln p(y) - ln q(y | x) at one y of a
    level at which the network still tells tokens apart (Kingma et al. 2021, equation 11, with p(y) by the ODE).
    """
    x, mask = batch.embedded(space), batch.mask(space)
    small = math.prod(x.shape[1:]) <= SMALL
    probe = None if small else (batch.noise.uniform(*x.shape[1:]) < 0.5).float() * 2 - 1
    bound = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    if isinstance(space, Continuous):
        low = min(low, 0.004) if small else low
    else:
        low, epsilon = BLURRED, batch.noise.normal(*x.shape[1:]).to(x.dtype)
        bound, x = _told_apart(space, predict, batch.x, x, epsilon, mask), x + low * epsilon

    def clean(y: Tensor, s: float) -> Tensor:
        sigma = torch.full((len(y),), s, device=y.device)
        out, x0 = predict(y, sigma)
        return space.settle(x0, out, y, sigma)

    levels = karras_sigmas(64 if small else 24, low=low, high=high)
    return bound + log_likelihood(clean, x, levels, trace="exact" if small else "hutchinson", probe=probe)


def _told_apart(
    space: Space,
    predict: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    raw: Tensor,
    x: Tensor,
    epsilon: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """ln p(x | y) - ln q(y | x), nats an example (B,), at level BLURRED; numbers have its deviation around x_0."""
    y = x + BLURRED * epsilon
    sigma, log_scale = torch.full((len(x),), BLURRED, device=x.device), torch.tensor(math.log(BLURRED))
    out, x0 = predict(y, sigma)
    missed = space.denoising_error(gaussian_nll(x0, x, log_scale), out, raw, y, sigma)
    missed = missed if mask is None else missed * mask
    return sum_per_example(gaussian_nll(torch.zeros_like(y), epsilon, log_scale * 0) + log_scale - missed)


def surprise(
    space: Space, estimate: Callable[[Tensor, Tensor, Given | None], Tensor], batch: Batch, *, fills: bool
) -> Tensor:
    """Squared error (B, channels, *grid) of the estimate of each element: of a table's column from all others, where
    parts can be given (`fills`); else of noisy x, over several levels (Livernoche et al. 2024).

    estimate(y, s, given): x_0 from y at levels s (B,).
    """
    mask = masked(space, batch.observed, batch.valid)
    observed = torch.ones_like(batch.x, dtype=torch.bool) if mask is None else mask > 0
    coded = space is not space.outer  # codes are known as a whole
    x, known = (space.embed(batch.x), None) if coded else space.given(batch.x, observed, complete=False)
    x = x if known is None else torch.where(known, x, 0.0)

    def error(level: float, given: Given | None, start: Tensor | float) -> Tensor:
        y = start + level * batch.noise.normal(*x.shape[1:])
        wrong = (estimate(y, torch.full((len(x),), level, device=x.device), given) - x).square()
        return wrong if known is None else space.narrow(wrong * known)

    if not fills or space.grid or space.shape[0] > SEVERAL:
        levels = OF_PICTURES if len(space.grid) == 2 else LEVELS
        scene = scene_of(space, x) if fills else None
        return torch.stack([error(level, scene, x) for level in levels]).sum(0)
    found = []
    for column in range(space.shape[0]):
        others = observed.clone()
        others[:, column] = False
        found.append(error(HIDING, Given(*space.given(batch.x, others, complete=False)), 0.0)[:, column])
    return torch.stack(found, 1)
