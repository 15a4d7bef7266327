"""Noise as a pure function of (seed, index, draw number).

Every random number of a method comes from here through a batch or a request. It does not depend on batch size,
micro-batch, rank, device or order: that one rule gives exact resume, and image i depends on (seed, i) alone.
The generator is Philox 4x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), counted by the block
within an example, the draw number and the example's index, keyed by the seed; all examples are computed at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROUNDS = 7  # the fewest that pass every statistical test of the paper (table 2)
LOW = 0xFFFFFFFF
MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)


def philox(counter: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """Four words of 32 random bits for each counter of four words (broadcast), under a 64-bit key.

    Counters are tensors of int64, or arrays of uint64: small ones of those take a quarter of the time.
    """
    a, b, c, d = counter
    key, other = seed & LOW, (seed >> 32) & LOW
    for _ in range(ROUNDS):
        # Products of 32-bit words wrap around in int64; their bits are the right ones all the same.
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            ((second >> 32) & LOW) ^ b ^ key,
            second & LOW,
            ((first >> 32) & LOW) ^ d ^ other,
            first & LOW,
        )
        key, other = (key + WEYL[0]) & LOW, (other + WEYL[1]) & LOW
    return a, b, c, d


class Noise:
    """Numbered draws for a set of examples; each call takes the next draw number, the same for every example.

    held: by draw number standard normal numbers (B, *shape) that stand in for what is drawn; what is not there yet is
    put there. So noise can be kept, and moved.
    """

    def __init__(
        self,
        seed: int,
        index: Tensor | np.ndarray,
        device: torch.device | str = "cpu",
        *,
        draw: int = 0,
        held: dict[int, Tensor] | None = None,
    ):
        self.seed = int(seed) % 2**64
        self.index = np.asarray(index, dtype=np.uint64)
        self.device = torch.device(device)
        self.draw, self.held = draw, held

    def __len__(self) -> int:
        return len(self.index)

    def _words(self, count: int) -> Tensor:
        """(B, count) words of 32 random bits, int64."""
        draw, self.draw = self.draw, self.draw + 1
        blocks = -(-count // 4)
        if self.device.type == "cpu":
            index = self.index[:, None]
            counter: tuple[Any, ...] = (
                np.arange(blocks, dtype=np.uint64)[None],
                np.uint64(draw & LOW),
                index & LOW,
                index >> 32,
            )
            words = torch.from_numpy(np.stack(philox(counter, self.seed), 2).astype(np.int64))
        else:
            place = torch.from_numpy(self.index.astype(np.int64)).to(self.device).unsqueeze(1)
            along = torch.arange(blocks, device=self.device).unsqueeze(0) + torch.zeros_like(place)
            counter = (along, torch.full_like(place, draw & LOW), place & LOW, (place >> 32) & LOW)
            words = torch.stack(philox(counter, self.seed), 2)
        return words.flatten(1)[:, :count]

    def _uniform(self, count: int) -> Tensor:
        """(B, count) float32 strictly between 0 and 1: the 2^23 centres of equal bins."""
        return ((self._words(count) >> 9).float() + 0.5) * 2.0**-23

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal float32, by Box and Muller (1958)."""
        if self.held is not None:
            if self.draw not in self.held:
                self.held[self.draw] = Noise(self.seed, self.index, self.device, draw=self.draw).normal(*shape)
            self.draw += 1
            return self.held[self.draw - 1]
        count = math.prod(shape)
        pairs = -(-count // 2)
        radius, angle = self._uniform(2 * pairs).split(pairs, 1)
        radius, angle = (-2 * radius.log()).sqrt_(), angle * (2 * math.pi)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, :count].reshape(len(self), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) uniform float32 in (0, 1)."""
        if self.held is not None:
            return torch.special.ndtr(self.normal(*shape)).clamp(2.0**-24, 1 - 2.0**-24)
        return self._uniform(math.prod(shape)).reshape(len(self), *shape)

    def spread(self) -> Tensor:
        """(B,) in (0, 1) that fill the interval evenly over neighbouring indices: the additive golden-ratio sequence.

        Still a function of (seed, index) alone; noise levels drawn so make losses less noisy than independent ones.
        """
        start = np.random.Generator(np.random.Philox(key=np.array([self.seed, 2**64 - 1], dtype=np.uint64))).random()
        places = (start + self.index.astype(np.float64) * 0.6180339887498949) % 1.0
        return torch.from_numpy(places.astype(np.float32)).clamp(1e-6, 1 - 1e-6).to(self.device)

    def integers(self, below: int, *shape: int) -> Tensor:
        """(B, *shape) whole numbers in [0, below); `below` far under 2^32, so that the shares are even."""
        words = self._words(math.prod(shape))
        return ((words * below) >> 32).reshape(len(self), *shape)


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which epoch number `epoch` visits `count` examples."""
    key = np.array([seed % 2**64, 2**63 + epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)
