"""Inception-v3 as of 2015, the network of Frechet Inception distances, for its published weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

FLAT, TALL = (1, 7), (7, 1)
Shape = tuple[int, int, tuple[int, int]]  # channels, those that come out, taps
Branch = list[str | tuple[str, ...]]  # names of units, one after the other; those of a tuple side by side


class Unit(nn.Module):
    """Convolution, batch normalisation, rectifier: (B, channels, H, W) -> (B, out, H', W')."""

    def __init__(self, channels: int, out: int, taps: tuple[int, int], *, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        padding = (taps[0] // 2, taps[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(channels, out, taps, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, joined in the channels; one more pools. pool: 'mean', 'most', or 'halve' (the grid)."""

    def __init__(self, units: Mapping[str, Shape], branches: list[Branch], pool: str = "mean") -> None:
        super().__init__()
        # Where the grid is halved, the last unit of each branch does it, without a border.
        halving = {str(branch[-1]) for branch in branches} if pool == "halve" else set()
        for name, (channels, out, taps) in units.items():
            stride = 2 if name in halving else 1
            self.add_module(name, Unit(channels, out, taps, stride=stride, pad=stride == 1))
        self.branches, self.pool = branches, pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self._along(branch, x) for branch in self.branches]
        if self.pool == "halve":
            return torch.cat([*found, functional.max_pool2d(x, 3, stride=2)], 1)
        if self.pool == "most":  # an oversight of 2015 that all Frechet Inception distances share
            pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
        else:
            pooled = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([*found, self._along(["branch_pool"], pooled)], 1)

    def _along(self, branch: Branch, x: torch.Tensor) -> torch.Tensor:
        for step in branch:
            names = (step,) if isinstance(step, str) else step
            x = torch.cat([self.get_submodule(name)(x) for name in names], 1)
        return x


def _coarse(channels: int, pooled: int) -> Mixed:
    units: dict[str, Shape] = {
        "branch1x1": (channels, 64, (1, 1)),
        "branch5x5_1": (channels, 48, (1, 1)),
        "branch5x5_2": (48, 64, (5, 5)),
        "branch3x3dbl_1": (channels, 64, (1, 1)),
        "branch3x3dbl_2": (64, 96, (3, 3)),
        "branch3x3dbl_3": (96, 96, (3, 3)),
        "branch_pool": (channels, pooled, (1, 1)),
    }
    threes: Branch = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Mixed(units, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], threes])


def _halved(channels: int) -> Mixed:
    units: dict[str, Shape] = {
        "branch3x3": (channels, 384, (3, 3)),
        "branch3x3dbl_1": (channels, 64, (1, 1)),
        "branch3x3dbl_2": (64, 96, (3, 3)),
        "branch3x3dbl_3": (96, 96, (3, 3)),
    }
    return Mixed(units, [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]], "halve")


def _long(channels: int, inner: int) -> Mixed:
    units: dict[str, Shape] = {
        "branch1x1": (channels, 192, (1, 1)),
        "branch7x7_1": (channels, inner, (1, 1)),
        "branch7x7_2": (inner, inner, FLAT),
        "branch7x7_3": (inner, 192, TALL),
        "branch7x7dbl_1": (channels, inner, (1, 1)),
        "branch7x7dbl_2": (inner, inner, TALL),
        "branch7x7dbl_3": (inner, inner, FLAT),
        "branch7x7dbl_4": (inner, inner, TALL),
        "branch7x7dbl_5": (inner, 192, FLAT),
        "branch_pool": (channels, 192, (1, 1)),
    }
    once: Branch = [f"branch7x7_{place}" for place in (1, 2, 3)]
    twice: Branch = [f"branch7x7dbl_{place}" for place in (1, 2, 3, 4, 5)]
    return Mixed(units, [["branch1x1"], once, twice])


def _halved_again(channels: int) -> Mixed:
    units: dict[str, Shape] = {
        "branch3x3_1": (channels, 192, (1, 1)),
        "branch3x3_2": (192, 320, (3, 3)),
        "branch7x7x3_1": (channels, 192, (1, 1)),
        "branch7x7x3_2": (192, 192, FLAT),
        "branch7x7x3_3": (192, 192, TALL),
        "branch7x7x3_4": (192, 192, (3, 3)),
    }
    sevens: Branch = [f"branch7x7x3_{place}" for place in (1, 2, 3, 4)]
    return Mixed(units, [["branch3x3_1", "branch3x3_2"], sevens], "halve")


def _wide(channels: int, pool: str) -> Mixed:
    units: dict[str, Shape] = {
        "branch1x1": (channels, 320, (1, 1)),
        "branch3x3_1": (channels, 384, (1, 1)),
        "branch3x3_2a": (384, 384, (1, 3)),
        "branch3x3_2b": (384, 384, (3, 1)),
        "branch3x3dbl_1": (channels, 448, (1, 1)),
        "branch3x3dbl_2": (448, 384, (3, 3)),
        "branch3x3dbl_3a": (384, 384, (1, 3)),
        "branch3x3dbl_3b": (384, 384, (3, 1)),
        "branch_pool": (channels, 192, (1, 1)),
    }
    once: Branch = ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")]
    twice: Branch = ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")]
    return Mixed(units, [["branch1x1"], once, twice], pool)


class Inception(nn.Module):
    """Pictures (B, 3, H, W) of -1 ... 1, 299 x 299 by convention -> features (B, 2048) after the last mean pooling.

    The variant on which Frechet Inception distances are defined: means do not count the border, and the last block
    pools by maximum. Weights have the names of their port to PyTorch. Source: Szegedy et al. 2016; Heusel et al. 2017.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, (3, 3), stride=2, pad=False)
        self.Conv2d_2a_3x3 = Unit(32, 32, (3, 3), pad=False)
        self.Conv2d_2b_3x3 = Unit(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Unit(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Unit(80, 192, (3, 3), pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _coarse(192, 32), _coarse(256, 64), _coarse(288, 64)
        self.Mixed_6a = _halved(288)
        self.Mixed_6b, self.Mixed_6c = _long(768, 128), _long(768, 160)
        self.Mixed_6d, self.Mixed_6e = _long(768, 160), _long(768, 192)
        self.Mixed_7a = _halved_again(768)
        self.Mixed_7b, self.Mixed_7c = _wide(1280, "mean"), _wide(2048, "most")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, stride=2)))
        x = functional.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            x = block(x) if name.startswith("Mixed") else x
        return x.flatten(2).mean(2)


def inception(weights: Mapping[str, torch.Tensor]) -> Inception:
    """Inception-v3 with published weights, in float32; its classifier's are left out.

    Raises RuntimeError (PyTorch's own) where some are missing.
    """
    network = Inception()
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(("fc.", "AuxLogits."))}
    # How many batches were seen is in some files only, and nobody reads it.
    counts = {name: tensor for name, tensor in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**counts, **kept})
    return network.eval().requires_grad_(False)
