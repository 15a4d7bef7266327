"""Exact log-likelihood of a denoiser's distribution by its probability-flow differential equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from trilemma.maths.shapes import sum_per_example


def log_likelihood(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    sigmas: Tensor,
    *,
    trace: str = "exact",
    probe: Tensor | None = None,
) -> Tensor:
    """ln p(x) in nats per example (B,), for x (B, C, *grid) in the Space's unit-deviation coordinates.

    Integrates dy/ds = (y - D) / s and its divergence with a fourth-order Runge-Kutta method in ln s over the positive
    levels of a sampling grid (Song et al. 2021, eq. 39; Chen et al. 2018, eq. 8): four calls a step. x counts as y at
    the smallest level, so the density is that of the data with this much noise. The largest level must be far above 1:
    there y is taken as N(0, s^2 + 1). trace: exact takes one backward pass per dimension; hutchinson one in all, with
    a `probe` of independent signs +-1 like x: unbiased, so averages over probes converge to the exact value.
    """
    if trace not in ("exact", "hutchinson"):
        raise ValueError(f"trace {trace!r}: choose exact or hutchinson.")
    if (trace == "hutchinson") != (probe is not None):
        raise ValueError("trace 'hutchinson' needs a probe of signs like x, and 'exact' takes none.")
    levels = sorted(level for level in sigmas.tolist() if level > 0)
    if len(levels) < 2:
        raise ValueError("sigmas: a likelihood needs at least two positive levels.")
    dimensions = x[0].numel()

    def slopes(y: Tensor, log_level: float) -> tuple[Tensor, Tensor]:
        # With ln s as the clock, both slopes stay of order one over five decades of s.
        clean, divergence = _with_divergence(denoise, y, math.exp(log_level), probe)
        return y - clean, dimensions - divergence

    y, gained = x.detach(), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for start, end in pairwise(math.log(level) for level in levels):
        step = end - start
        y1, gain1 = slopes(y, start)
        y2, gain2 = slopes(y + step / 2 * y1, start + step / 2)
        y3, gain3 = slopes(y + step / 2 * y2, start + step / 2)
        y4, gain4 = slopes(y + step * y3, end)
        y = y + step / 6 * (y1 + 2 * y2 + 2 * y3 + y4)
        gained = gained + step / 6 * (gain1 + 2 * gain2 + 2 * gain3 + gain4)
    # What is left of data of unit variance after this much noise; its shape no longer shows.
    variance = levels[-1] ** 2 + 1
    base = -sum_per_example(y.square()) / (2 * variance) - dimensions / 2 * math.log(2 * math.pi * variance)
    return base + gained


def _with_divergence(
    denoise: Callable[[Tensor, float], Tensor], y: Tensor, sigma: float, probe: Tensor | None
) -> tuple[Tensor, Tensor]:
    """D(y) like y and the trace of its Jacobian (B,); examples must not influence each other."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        clean = denoise(y, sigma)
        if probe is not None:
            (product,) = torch.autograd.grad((clean * probe).sum(), y)
            return clean.detach(), sum_per_example(product * probe)
        # One row of the Jacobian at a time for the whole batch: an example's output sees only its own input.
        rows = clean.reshape(len(y), -1)
        divergence = torch.zeros(len(y), dtype=y.dtype, device=y.device)
        for k in range(rows.shape[1]):
            (row,) = torch.autograd.grad(rows[:, k].sum(), y, retain_graph=True)
            divergence = divergence + row.reshape(len(y), -1)[:, k]
    return clean.detach(), divergence
