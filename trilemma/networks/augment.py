"""Augmentation on any grid. For critics that see few examples, differentiable: `augment` is DiffAugment (Zhao et al.
2020), `vary` the wider pipe whose probability can be steered (Karras et al. 2020). For pairs: `jitter`, of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trilemma.maths.noise import Noise
from trilemma.maths.shapes import expand


def risen(probability: float, seen: int, over: int) -> float:
    """The probability after `seen` of the `over` examples by which it has risen to its whole.

    What a critic has met a few times it cannot know by heart: until then augmentation only makes its work harder.
    """
    return probability * min(seen / over, 1.0) if over else probability


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


JITTER = 0.06  # share of a side by which pix2pix shifts: 256 of 286 places are taken, which is 15 of 256 either way


def jitter(noise: Noise, grid: tuple[int, ...], share: float) -> Callable[[Tensor], Tensor]:
    """What moves any (B, channels, *grid) of these examples: a source and its x, and a mask of it, all alike.

    Each axis is shifted by up to this share of its side, and what comes in is the reflection at the border. As the
    random crops of pix2pix (Isola et al. 2017, section 6.2), but by whole places instead of out of an enlarged picture:
    nothing is blurred, and no two classes of a map are mixed.
    """
    if not grid or not share:
        return lambda x: x
    draws, places = noise.uniform(len(grid)), list[Tensor]()
    for axis, side in enumerate(grid):
        reach, turn = round(share * side), max(2 * side - 2, 1)
        shift = (draws[:, axis] * (2 * reach + 1)).long() - reach
        read = (torch.arange(side, device=shift.device) + shift.unsqueeze(1)) % turn
        places.append(torch.minimum(read, turn - read))

    def moved(x: Tensor) -> Tensor:
        for axis, place in enumerate(places, 2):
            shape = [len(x), *[1] * (x.dim() - 1)]
            shape[axis] = -1
            x = x.gather(axis, place.reshape(shape).expand_as(x))
        return x

    return moved


GREATEST = 0.8  # probability up to which the generator cannot take the pipe's distortions for the data's (Karras 2020)


def vary(x: Tensor, noise: Noise, probability: Tensor) -> Tensor:
    """Flip, turn, shift, stretch and recolour embedded x (B, C, *grid), each with this probability and per example.

    The pipe of adaptive augmentation (Karras et al. 2020, "Training generative adversarial networks with limited
    data", appendix B) on any grid: mirrored axes (of pictures the last one), quarter turns of squares, shifts by up to
    an eighth of a side, stretching by 2^N(0, 0.2^2) of all axes and of each; brightness and contrast; of three
    channels also hue and saturation. Each leaves an example alone with probability 1 - p, so that below `GREATEST` the
    distortions can be undone and do not leak. `probability` is one number in a tensor: a model may steer it.
    """
    axes = x.dim() - 2
    if axes < 1:
        return x
    apply = noise.uniform(8) < probability
    draws, spread = noise.uniform(3 + 2 * axes), noise.normal(4 + axes)
    one = torch.ones_like(draws[:, 0])
    turns = ((draws[:, 0] * 4).long() * apply[:, 1]) if axes == 2 and x.shape[2] == x.shape[3] else None
    if turns is not None:
        x = torch.where(expand(turns % 2 == 1, x), x.transpose(2, 3), x)
    together = torch.where(apply[:, 2], torch.exp2(0.2 * spread[:, 0]), one)
    for axis in range(axes):
        flip = (draws[:, 1] < 0.5) & apply[:, 0] if axis == axes - 1 else torch.zeros_like(apply[:, 0])
        if turns is not None:
            flip = flip ^ (turns >= 2) if axis == 0 else flip ^ ((turns == 1) | (turns == 2))
        stretch = together * torch.where(apply[:, 3], torch.exp2(0.2 * spread[:, 4 + axis]), one)
        shift = (draws[:, 2 + axis] - 0.5) * (x.shape[2 + axis] / 4) * apply[:, 4]
        whole = torch.where(draws[:, 2 + axes + axis] < 0.5, shift.round(), shift)  # half of them by whole places
        x = _resampled(x, 2 + axis, scale=torch.where(flip, -stretch, stretch), shift=whole)
    brightness = 0.4 * spread[:, 1] * apply[:, 5]
    contrast = torch.where(apply[:, 6], torch.exp2(0.5 * spread[:, 2]), one)
    if x.shape[1] == 3 and axes == 2:
        x = _recoloured(x, torch.where(apply[:, 7], torch.exp2(spread[:, 3]), one), draws[:, -1], apply[:, 7])
    return torch.addcmul(expand(brightness, x).to(x.dtype), x, expand(contrast, x).to(x.dtype))


def _resampled(x: Tensor, axis: int, *, scale: Tensor, shift: Tensor) -> Tensor:
    """x read along one axis at (place - middle) / scale + middle - shift, linearly; beyond its ends it is mirrored."""
    side = x.shape[axis]
    places = torch.arange(side, device=x.device, dtype=torch.float32)
    middle = (side - 1) / 2
    read = (places - middle) / scale.unsqueeze(1) + middle - shift.unsqueeze(1)
    if side > 1:
        read = (read % (2 * side - 2)).clamp(max=2 * side - 2)
        read = torch.minimum(read, 2 * side - 2 - read)
    # (B, side, side): one small product, the same on every device; gathering would add gradients in any order.
    weights = (1 - (read.unsqueeze(2) - places).abs()).clamp(min=0).to(x.dtype) if side > 1 else None
    if weights is None:
        return x
    moved = x.movedim(axis, -1)
    made = _product(moved.reshape(len(x), -1, side), weights.transpose(1, 2))
    return made.reshape(moved.shape).movedim(-1, axis)


def _recoloured(x: Tensor, saturation: Tensor, angle: Tensor, apply: Tensor) -> Tensor:
    """Three channels turned around their common axis by a hue angle (a share of the circle) and drawn from it."""
    turn = torch.where(apply, angle * (2 * math.pi), torch.zeros_like(angle))
    grey = torch.full((3, 3), 1 / 3, device=x.device)
    rest = torch.eye(3, device=x.device) - grey
    root = 1 / math.sqrt(3)
    cross = torch.tensor([[0, -root, root], [root, 0, -root], [-root, root, 0]], device=x.device)
    turned = turn.cos().reshape(-1, 1, 1) * rest + turn.sin().reshape(-1, 1, 1) * cross  # Rodrigues' formula
    matrix = (grey + saturation.reshape(-1, 1, 1) * turned).to(x.dtype)
    return _product(matrix, x.flatten(2)).reshape(x.shape)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, batched, in their own precision: what is left alone must stay what it was, under autocast as well."""
    with torch.autocast(a.device.type, enabled=False):
        return torch.bmm(a, b)
