"""Of signals and codes: how noisy one is, and the way from one to another."""

from __future__ import annotations

import torch
from torch import Tensor


def spherical(one: Tensor, two: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation of codes (White 2016): stays at the norm at which a Gaussian prior has its mass."""
    cosine = torch.nn.functional.cosine_similarity(one, two, dim=1).clamp(-0.9999, 0.9999).unsqueeze(1)
    angle = cosine.arccos()
    return (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * two) / angle.sin()


def estimated_noise(x: Tensor) -> Tensor:
    """Deviation (B,) of the noise in embedded x, from the median of second differences along the last axis.

    Immerkaer 1996 uses the mean of a Laplacian; the median is robust against edges. Vectors have no neighbours: 0.5.
    """
    if x.dim() < 3 or x.shape[-1] < 3:
        return torch.full((len(x),), 0.5, device=x.device)
    second = x[..., 2:] - 2 * x[..., 1:-1] + x[..., :-2]
    return (second.abs().flatten(1).median(1).values / 0.6745 / 6**0.5).clamp(min=0.02)


def rounds(sine: Tensor, cosine: Tensor, steps: int, late: float = 0.0) -> Tensor:
    """Which round each step is of, (B, T, rounds) of 0 and 1, where an angle goes round once in `steps` equal steps.

    sine, cosine (B, T): those of the angle, times anything above 0 and with noise. A round begins at angle 0, and its
    first step lies `late` steps behind that.
    """
    place = torch.arange(sine.shape[-1], device=sine.device)
    angle = place * (2 * torch.pi / steps)
    # The first step's angle is that of the sum of all, each turned back to it. No product of matrices: half precision
    # would put a round's beginning elsewhere.
    sine, cosine = sine.float(), cosine.float()
    y = (sine * angle.cos() - cosine * angle.sin()).sum(1, keepdim=True)
    x = (cosine * angle.cos() + sine * angle.sin()).sum(1, keepdim=True)
    first = (torch.atan2(y, x) * (steps / (2 * torch.pi)) - late).round().long() % steps
    number = torch.div(first + place, steps, rounding_mode="floor")
    last = torch.arange((sine.shape[-1] + steps - 2) // steps + 1, device=sine.device)
    return (number.unsqueeze(2) == last).to(sine.dtype)


def over_rounds(values: Tensor, own: Tensor, by: Tensor) -> Tensor:
    """Values (B, T) summed over each round of `own` (B, T, rounds) and divided `by` (B, rounds), given to all of it."""
    total = (values.unsqueeze(2) * own).sum(1) / by.clamp(min=1)
    return (total.unsqueeze(1) * own).sum(2)
