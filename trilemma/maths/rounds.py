"""Rounds of a series, days or weeks, told by an angle that goes round: some of its channels keep one value in each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Steady(NamedTuple):
    """A channel of a series that keeps one value for a day, or a week: as long as an angle goes round once.

    All of it is of raw x (B, channels, T), in which the angle's sine and cosine stand as channels.
    """

    channel: int
    sine: int
    cosine: int
    steps: int  # of a round
    late: float = 0.0  # steps from its beginning to the first of them

    def still(self, x: Tensor) -> Tensor:
        """x with the mean of each round in the channel."""
        own = rounds(x[:, self.sine], x[:, self.cosine], self.steps, self.late)
        return self._replaced(x, over_rounds(x[:, self.channel], own, own.sum(1)))

    def one_draw(self, made: Tensor, x: Tensor) -> Tensor:
        """Standard normal noise like x with one draw a round in the channel: a mean of several would be smaller."""
        own = rounds(x[:, self.sine], x[:, self.cosine], self.steps, self.late)
        return self._replaced(made, over_rounds(made[:, self.channel], own, own.sum(1).sqrt()))

    def deduced(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """x and a mask of what is known of it: a round's value is known where one of its steps is."""
        known = observed[:, self.channel].to(x.dtype)
        calendar = (observed[:, self.sine] & observed[:, self.cosine]).to(x.dtype)
        own = rounds(x[:, self.sine] * calendar, x[:, self.cosine] * calendar, self.steps, self.late)
        counts = (own * known.unsqueeze(2)).sum(1)
        values = over_rounds(x[:, self.channel] * known, own, counts)
        here = ((own * (counts > 0).to(x.dtype).unsqueeze(1)).sum(2) > 0) & calendar.any(1, keepdim=True)
        here |= observed[:, self.channel]
        values = torch.where(observed[:, self.channel], x[:, self.channel], values)
        x = self._replaced(x, torch.where(here, values, x[:, self.channel]))
        return x, self._replaced(observed, here)

    def _replaced(self, x: Tensor, values: Tensor) -> Tensor:
        """x with other values (B, T) in the channel, as a tensor of its own."""
        return torch.cat([x[:, : self.channel], values.unsqueeze(1), x[:, self.channel + 1 :]], 1)


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
