"""How unlike two pictures look to a packaged network that has learned ImageNet's photographs: a loss on request.

Zhang et al. 2018 (LPIPS), equation 1 with all weights 1, on EfficientNet-Lite0 (the extra `photographs`). It learns
nothing here and is no part of a run. Reports leave out what the same network would say of models that it has taught.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trilemma.borrowed import check_photographs, photographs
from trilemma.errors import InputError
from trilemma.maths.precision import wide
from trilemma.maths.shapes import mean_per_example
from trilemma.spaces import Continuous, Space

SIDE = 64  # pixels a side, at least: in smaller pictures its later stages would have no places left
STAGES = 4  # of 2, 4, 8 and 16 pixels a place; what comes after them knows objects, not looks


def check(space: Space) -> None:
    """InputError where the packages are missing, or these data are no grey or colour pictures."""
    known = isinstance(space, Continuous) and space.low is not None and space.high is not None
    if not known or len(space.grid) != 2 or space.shape[0] not in (1, 3):
        shape = " x ".join(map(str, space.shape))
        raise InputError(
            f"setting model.perceptual: its network sees grey or colour pictures of whole numbers, and these data are "
            f"{shape}; leave it out"
        )
    check_photographs("setting model.perceptual")


def unlike(space: Space, made: Tensor, real: Tensor) -> Tensor:
    """(B,) how unlike embedded pictures (B, C, H, W) are to it, 0 for equal ones; differentiable by `made`."""
    with torch.autocast(made.device.type, enabled=False):
        with torch.no_grad():
            targets = _features(space, real)
        found = _features(space, made)
    return torch.stack(
        [mean_per_example((a - b).square().sum(1, True)) for a, b in zip(found, targets, strict=True)]
    ).mean(0)


def _features(space: Space, x: Tensor) -> list[Tensor]:
    """Of embedded pictures (B, C, H, W): the first stages' features, at each place of unit length, the finest first."""
    assert isinstance(space, Continuous) and space.low is not None and space.high is not None
    raw = wide(x) * space._column(space.deviation) + space._column(space.mean)
    pixels = (raw - space.low) * (255 / (space.high - space.low))
    short = min(pixels.shape[2:])
    if short < SIDE:
        size = [round(side * SIDE / short) for side in pixels.shape[2:]]
        pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
    if pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    network, found = _network(str(x.device), pixels.dtype), []
    h = network._swish(network._bn0(network._conv_stem((pixels - 127) / 128)))  # scaled as it was trained
    for block in network._blocks:
        if max(block._depthwise_conv.stride) > 1:
            found.append(h / (h.square().sum(1, True) + 1e-8).sqrt())
            if len(found) == STAGES:
                break
        h = block(h)
    return found


@lru_cache(4)
def _network(device: str, dtype: torch.dtype) -> Any:
    return copy.deepcopy(photographs()).to(device, dtype)
