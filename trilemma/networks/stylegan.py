"""A mapping network and a synthesis that its style modulates, for any number of grid dimensions, vectors too.

StyleGAN2 (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"): weights are modulated by
scaling a layer's inputs by the style and dividing its outputs by the length that the modulated weights would have
(their eq. 1 and 3). That is exactly the convolution by modulated weights, without a kernel for each example.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.maths.shapes import expand
from trilemma.networks.layers import ACTIVATIONS, Network, crop_to, from_patches, padded_grid

CONVOLVE: tuple[Any, ...] = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
POOL: tuple[Any, ...] = (None, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


class Equal(nn.Module):
    """Weights (outputs, inputs, *size) with an equalised rate (Karras et al. 2018, section 4.1), and a bias.

    An optimizer such as Adam moves every weight by about its rate: stored with deviation 1 / pace in all layers, and
    brought to their size where they are used, all layers learn at the same relative rate, `pace` times the optimizer's.
    """

    def __init__(self, inputs: int, outputs: int, *size: int, gain: float = 1.0, pace: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.scale = gain * pace / math.sqrt(inputs * math.prod(size))
        stored = torch.randn(outputs, inputs, *size) / pace
        if len(size) == 2:  # the layout in which convolutions are fast, on CPUs and tensor cores
            stored = stored.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(stored)
        self.bias = nn.Parameter(torch.full((outputs,), bias))

    def scaled(self) -> Tensor:
        """The weights as they act."""
        return self.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs); for weights without a grid."""
        return functional.linear(x, self.scaled(), self.bias)


class Mapping(nn.Module):
    """(B, latent) codes and (B, told) condition, or None -> (B, style): where a style is made of a code."""

    def __init__(self, latent: int, told: int, style: int, depth: int, *, pace: float):
        super().__init__()
        sizes = [latent + told, *[style] * depth]
        self.layers = nn.ModuleList(Equal(one, other, gain=math.sqrt(2), pace=pace) for one, other in pairwise(sizes))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        w = w if condition is None else torch.cat([w, condition], 1)
        for layer in self.layers:
            w = ACTIVATIONS["leaky_relu"](layer(w))
        return w


class Modulated(nn.Module):
    """A convolution (of vectors: a linear layer) whose weights a style modulates.

    Weights are demodulated, unless the layer gives the output; `noise` with a learned strength, 0 at the start.
    """

    def __init__(
        self, inputs: int, outputs: int, dims: int, size: int, *, style: int, pace: float, gain: float, last: bool
    ):
        super().__init__()
        self.convolution = Equal(inputs, outputs, *[size] * dims, gain=gain if last else 1.0, pace=pace)
        self.affine = Equal(style, inputs, pace=pace, bias=1.0)
        self.strength = None if last else nn.Parameter(torch.zeros(()))
        self.convolve, self.gain, self.last = CONVOLVE[dims], gain, last
        self.padding = {"padding": size // 2} if dims else {}

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, inputs, *grid), style (B, style), noise (B, 1, *grid) -> (B, outputs, *grid)."""
        style, weight = self.affine(w), self.convolution.scaled()
        y = self.convolve(x * expand(style, x), weight, **self.padding)
        bias = self.convolution.bias.reshape(-1, *[1] * (x.dim() - 2))
        if self.last:
            return y + bias
        # Eq. 3: the length of the modulated weights of each output, for all examples by one small product.
        squares = weight.square().flatten(2).sum(2) if weight.dim() > 2 else weight.square()
        length = torch.rsqrt(functional.linear(style.square(), squares) + 1e-8) * self.gain
        if noise is not None and self.strength is not None:
            bias = bias + self.strength * noise
        return torch.addcmul(bias.to(y.dtype), y, expand(length, y).to(y.dtype))


class Synthesis(nn.Module):
    """Styles (B, layers, style) -> (B, channels, *grid): a start at the coarsest grid, `network.depth`
    modulated layers at each resolution, and an output of each resolution added to that of the one below ("skip").

    Its finest working resolution is in patches of `network.patch` a side. Sides that do not divide are cropped.
    """

    def __init__(self, channels: int, grid: tuple[int, ...], network: Network, *, style: int, pace: float):
        super().__init__()
        self.grid, self.patch, dims = tuple(grid), network.patch if grid else 1, len(grid)
        widths = [network.width * m for m in (network.multipliers if grid else (1,))][::-1]
        multiple = self.patch * 2 ** (len(widths) - 1)
        coarse = [side // multiple for side in padded_grid(grid, multiple)]
        # Where all begins: a learned constant, and what the first layer's style adds to it. With a constant alone small
        # budgets end before the layout of an example follows its code.
        self.shape = (widths[0], *coarse)
        self.start = Equal(style, math.prod(self.shape), pace=pace)
        nn.init.normal_(self.start.bias)
        self.modulated, self.outputs = nn.ModuleList(), nn.ModuleList()
        self.sides: list[tuple[int, ...]] = []  # of the noise of each layer
        settings: dict[str, Any] = {"style": style, "pace": pace}
        for number, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            inputs = [before, *[width] * (network.depth - 1)]
            level = [Modulated(one, width, dims, 3, gain=math.sqrt(2), last=False, **settings) for one in inputs]
            self.modulated.extend(level)
            finest = number == len(widths) - 1
            made = channels * (self.patch**dims if finest else 1)
            gain = 0.7 / math.sqrt(len(widths))
            # The finest looks around: patches that do not know of their neighbours show as a grid.
            size = 3 if finest else 1
            output = Modulated(width, made, dims, size, gain=gain, last=True, **settings)
            self.outputs.append(output)
            self.sides += [tuple(side * 2**number for side in coarse)] * network.depth
        self.layers, self.depth = len(self.sides), network.depth
        self.noises = [math.prod(sides) for sides in self.sides]
        self.activation = ACTIVATIONS[network.activation]

    def forward(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """noise (B, sum of `noises`): standard normal numbers for all layers; None: without."""
        h = self.start(styles[:, 0]).unflatten(1, self.shape)
        if len(self.grid) == 2:
            h = h.contiguous(memory_format=torch.channels_last)
        parts = [None] * self.layers if noise is None else noise.to(h.dtype).split(self.noises, 1)
        made: list[Tensor] = []
        for place, (layer, part, sides) in enumerate(zip(self.modulated, parts, self.sides, strict=True)):
            if place and place % self.depth == 0:
                h = functional.interpolate(h, scale_factor=2.0)
            h = self.activation(layer(h, styles[:, place], None if part is None else part.unflatten(1, (1, *sides))))
            if (place + 1) % self.depth == 0:
                made.append(self.outputs[place // self.depth](h, styles[:, place]))
        out = made[0]
        for number, finer in enumerate(made):
            finer = from_patches(finer, self.patch) if number == len(made) - 1 else finer
            out = finer if number == 0 else finer + self._enlarged(out, finer)
        return crop_to(out, self.grid)

    def _enlarged(self, out: Tensor, like: Tensor) -> Tensor:
        """Twice (at the end, with patches: that much again) as large, and smooth."""
        while out.shape != like.shape:
            out = functional.interpolate(out, scale_factor=2.0)
            out = POOL[len(self.grid)](functional.pad(out, [1, 1] * len(self.grid), mode="replicate"), 3, 1)
        return out

    def affines(self) -> list[Tensor]:
        """Of each layer the matrix (inputs, style) by which its style comes from a w: what SeFa factorises."""
        layers = [layer for layer in self.modulated if isinstance(layer, Modulated)]
        matrices = [layer.affine.scaled().detach() for layer in layers]
        return [torch.cat([matrices[0], self.start.scaled().detach()]), *matrices[1:]]
