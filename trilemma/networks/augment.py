"""Differentiable augmentation for critics that see few examples (DiffAugment, Zhao et al. 2020), on any grid."""

from __future__ import annotations

import torch
from torch import Tensor

from trilemma.maths.noise import Noise
from trilemma.maths.shapes import expand


def augment(x: Tensor, noise: Noise, probability: float) -> Tensor:
    """Shift, cut out and recolour embedded x (B, C, *grid), each with this probability and per example.

    The same law acts on real and on fake data, so that the generator does not learn the augmentations.
    """
    if x.dim() < 3:
        return x
    apply = noise.uniform(3) < probability
    draws = noise.uniform(2 + 2 * (x.dim() - 2))
    # Brightness and contrast, in units of the data's deviation.
    brightness = (draws[:, 0] - 0.5) * apply[:, 0]
    contrast = torch.where(apply[:, 0], draws[:, 1] + 0.5, 1.0)
    mean = x.flatten(1).mean(1)
    x = (x - expand(mean, x)) * expand(contrast, x) + expand(mean + brightness, x)
    keep = torch.ones_like(x[:, :1])
    # The emptiest value of each example: the batch's would couple its examples.
    fill = expand(x.flatten(1).amin(1), x).detach()
    for axis in range(2, x.dim()):
        side = x.shape[axis]
        # Translation by up to an eighth of the side; what comes in from outside is the emptiest value.
        reach = side / 8
        shift = ((draws[:, 2 * axis - 2] * 2 - 1) * reach).round().long() * apply[:, 1]
        places = torch.arange(side, device=x.device).unsqueeze(0) - shift.unsqueeze(1)
        inside = (places >= 0) & (places < side)
        shape = [len(x), *[1] * (x.dim() - 1)]
        shape[axis] = side
        x = torch.gather(x, axis, places.clamp(0, side - 1).reshape(shape).expand_as(x))
        x = torch.where(inside.reshape(shape), x, fill)
        # Cut-out of half the side in each axis.
        start = draws[:, 2 * axis - 1] * side - side / 4
        here = torch.arange(side, device=x.device).unsqueeze(0)
        hidden = (here >= start.unsqueeze(1)) & (here < start.unsqueeze(1) + side / 2)
        keep = keep * hidden.reshape(shape)
    hide = keep.bool() & expand(apply[:, 2], x)
    return torch.where(hide, torch.zeros_like(x), x)
