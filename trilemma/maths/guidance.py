"""Guidance: wrappers of `denoise` that lead samples towards what is asked for, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trilemma.maths import samplers
from trilemma.maths.shapes import expand


def calls(sampler: str, sigmas: Tensor, interval: tuple[float, float]) -> int:
    """Network calls of a sampler on this grid of levels that ends with 0, guided for low < s <= high."""
    low, high = interval
    inside = [low < s <= high for s in sigmas.tolist()]
    count = samplers.calls(sampler, len(inside) - 1)
    if sampler == "heun":  # at each level a step ends and one begins, but for the first
        return count + 2 * sum(inside) - inside[0]
    return count + sum(inside)


def guided(
    conditional: Callable[[Tensor, float], Any],
    unconditional: Callable[[Tensor, float], Any],
    *,
    weight: float,
    interval: tuple[float, float] = (0.0, math.inf),
) -> Callable[[Tensor, float], Any]:
    """Classifier-free guidance or autoguidance as a wrapper: D_u + weight (D_c - D_u) for low < s <= high.

    Outside the interval, and with weight 1 everywhere, only the conditional network is called (Kynkaanniemi et al.
    2024, eq. 5). A learned variance (x_0, v) keeps the conditional network's v.
    """
    low, high = interval

    def denoise(y: Tensor, sigma: float) -> Any:
        answer = conditional(y, sigma)
        # Not calling the second network is what makes an interval cheaper than guidance everywhere.
        if weight == 1 or not low < float(sigma) <= high:
            return answer
        other = unconditional(y, sigma)
        if isinstance(answer, tuple):
            other = other[0] if isinstance(other, tuple) else other
            return torch.lerp(other, answer[0], weight), answer[1]
        return torch.lerp(other, answer, weight)

    return denoise


def led(
    denoise: Callable[[Tensor, float], Any],
    slope: Callable[[Tensor, float], Tensor],
    *,
    weight: float,
    interval: tuple[float, float] = (0.0, math.inf),
) -> Callable[[Tensor, float], Any]:
    """Guidance by a classifier's slope of ln p(condition | y): D + weight s^2 slope for low < s <= high.

    By Tweedie's formula D = y + s^2 grad ln p(y), so that a term of ln p adds s^2 times its slope (Dhariwal & Nichol
    2021, section 4). The move of an example is cut to the length of its own estimate: slopes of networks have no limit.
    """
    low, high = interval

    def moved(y: Tensor, sigma: float) -> Any:
        answer = denoise(y, sigma)
        if weight == 0 or not low < float(sigma) <= high:
            return answer
        clean = answer[0] if isinstance(answer, tuple) else answer
        move = weight * float(sigma) ** 2 * slope(y, sigma).to(clean.dtype)
        size = move.flatten(1).norm(dim=1).clamp(min=1e-12)
        limit = clean.flatten(1).norm(dim=1).clamp(min=1e-12)
        clean = clean + expand((limit / size).clamp(max=1.0), move) * move
        return (clean, answer[1]) if isinstance(answer, tuple) else clean

    return moved
