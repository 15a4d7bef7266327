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
