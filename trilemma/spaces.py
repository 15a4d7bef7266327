"""What a model sees of the data: shapes, units and likelihoods.

A Space turns raw examples `x` (B, channels, *grid), in the data's own units, into unit-variance floats
(`embed`) and back (`decode`). Its fitted statistics are buffers: they travel with the weights trained on them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.maths.losses import bernoulli_nll, discretised_gaussian_nll, gaussian_nll
from trilemma.maths.moments import channel_moments
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.rounds import Steady
from trilemma.maths.shapes import expand, sum_per_example

TEMPERATURE = 0.6  # of relaxed tokens: on a census a GAN's rows are told apart with AUC .81, at 1 .86, at .3 .82
MARGIN = 0.25  # deviations beyond the data's range that a relaxed sample may reach
SCENES, SCENE_SIZE = 1024, 1 << 20  # calendars that a Space keeps at most, and numbers in all of them
LIKELIHOODS = ("gaussian", "bernoulli", "discretised")


class Space(nn.Module, ABC):
    """Shape, units and likelihood of one kind of example."""

    shape: tuple[int, ...]  # (channels, *grid)
    width: int  # channels of `embed`, and those a decoder must output
    dtype: torch.dtype  # of raw x
    stage: int = 0  # channels, the last ones, that a `scene` gives
    scales: tuple[int, ...] = ()  # shape of a decoder's `log_scale`: one for all, or one for each column

    @property
    def token_count(self) -> int:
        """How many tokens there are where each place of the grid holds one; 0: x is not made of tokens."""
        return 0

    def tokens(self, x: Tensor) -> Tensor:
        """Raw x -> the token (B, 1, *grid) of each place, int64, where there are tokens."""
        raise NotImplementedError

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens (B, 1, *grid) -> what `embed` takes."""
        raise NotImplementedError

    @property
    def grid(self) -> tuple[int, ...]:
        return self.shape[1:]

    @property
    def outer(self) -> Space:
        """The Space of the examples that people see: this one, or what is behind codes."""
        return self

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """JSON that `space_from` turns back into this Space, its statistics apart."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """(B, channels, *grid) raw -> (B, width, *grid) floats of about unit variance."""

    @abstractmethod
    def decode(self, params: Tensor) -> Tensor:
        """(B, width, *grid) model output -> the most likely raw x."""

    def nll(
        self,
        params: Tensor,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        log_scale: Tensor | None = None,
        likelihood: str = "gaussian",
    ) -> Tensor:
        """-log p(x | params) in nats per example (B,), in embedded units; masked-out elements of x count nothing."""
        terms = self.terms(params, x, log_scale=log_scale, likelihood=likelihood)
        return sum_per_example(terms if mask is None else terms * mask)

    @abstractmethod
    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        """What each element of x (B, channels, *grid) adds to `nll`."""

    def narrow(self, values: Tensor) -> Tensor:
        """Values of `embed`'s shape summed over the channels of each element: (B, channels, *grid)."""
        return values if self.width == self.shape[0] else values.sum(1, keepdim=True)

    @abstractmethod
    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        """A differentiable sample in `embed`'s units; `uniform` (0, 1) of params' shape where the Space needs noise."""

    def settle(self, x0: Tensor, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """What a denoising network's estimate x_0 of embedded x means here; `out` is its raw output at y and s (B,).

        Numbers are the estimate itself. Tokens are the mean over tokens under their posterior: `out` is added to the
        logits that y alone gives (Dieleman et al. 2022, "Continuous diffusion for categorical data").
        """
        return x0

    def denoising_error(self, error: Tensor, out: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """The error (B, width, *grid) that such a network minimises: as given for numbers, cross-entropy for tokens."""
        return error

    def realise(self, params: Tensor, noise: Noise, *, log_scale: Tensor | None = None) -> Tensor:
        """A raw example from p(x | params)."""
        return self.decode(params)

    def widen(self, mask: Tensor) -> Tensor:
        """A mask of x's shape -> one of `embed`'s shape (B, width, *grid)."""
        return mask.expand(len(mask), self.width, *self.grid)

    # --- of filling in what is not known ---

    def portion(self, noise: Noise) -> Tensor:
        """A random part of each example's elements, a mask of `embed`'s shape: what is given to one that learns to fill
        in the rest. Its share is uniform."""
        share = noise.uniform()
        uniform = noise.uniform(*self.shape)
        return self.widen(uniform < expand(share, uniform))

    def given(self, x: Tensor, observed: Tensor, *, complete: bool) -> tuple[Tensor, Tensor]:
        """Embedded x and which of its elements are known, (B, width, *grid) each, from a mask of x's shape.

        complete: of what is not observed it is known that it is not missing.
        """
        return self.embed(torch.where(observed, x, torch.zeros_like(x))), self.widen(observed)

    def scene(self, noise: Noise) -> tuple[Tensor, Tensor] | None:
        """What a sample may be told before it is drawn: raw x, and which of its elements that is; None: nothing."""
        return None

    def staged(self, x: Tensor) -> Tensor:
        """Which elements of x (B, channels, *grid) a `scene` gives, a mask of its shape."""
        made = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        made[:, x.shape[1] - self.stage :] = True
        return made

    def deduced(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Raw x and which of it is known, with what follows from that."""
        return x, observed

    def complete(self, params: Tensor) -> Tensor:
        """A decoder's output (B, width, *grid) made such that no cell that it gives is missing."""
        return params


class Continuous(Space):
    """Numbers on a grid: pixels, sensor values, points. One mean and deviation per channel.

    `levels` counts the steps between `low` and `high` when the data are discretised (256 for 8-bit images): then
    `decode` rounds to them and the discretised likelihood exists.
    """

    mean: Tensor
    deviation: Tensor
    scenes: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        low: float | None = None,
        high: float | None = None,
        levels: int | None = None,
        mean: Tensor | None = None,
        deviation: Tensor | None = None,
        always: tuple[int, ...] = (),
        steady: tuple[Steady, ...] = (),
        scenes: tuple[int, int] = (0, 0),
    ):
        """scenes: how many there are of the last so many channels: calendars of training windows, one for a sample."""
        super().__init__()
        self.shape, self.width, self.dtype = tuple(shape), shape[0], torch.float32
        self.low, self.high, self.levels = low, high, levels
        self.always = tuple(always)  # channels that are known wherever a part is given: the calendar of a series
        self.steady = tuple(Steady(*each) for each in steady)
        if scenes[0]:
            self.register_buffer("scenes", torch.zeros(*scenes, *shape[1:]))
            self.stage = scenes[1]
        self.register_buffer("mean", torch.zeros(shape[0]) if mean is None else mean.float())
        self.register_buffer("deviation", torch.ones(shape[0]) if deviation is None else deviation.float())
        if self.in_time:
            self.scales = (shape[0],)

    @property
    def in_time(self) -> bool:
        """Do the numbers follow each other along one axis, as those of a series, of which any law has noise?"""
        return len(self.grid) == 1

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "continuous",
            "shape": list(self.shape),
            "low": self.low,
            "high": self.high,
            "levels": self.levels,
            "always": list(self.always),
            **({"steady": [list(each if each.late else each[:4]) for each in self.steady]} if self.steady else {}),
            **({"scenes": list(self.scenes.shape[:2])} if self.stage else {}),
        }

    def portion(self, noise: Noise) -> Tensor:
        """Of a series its beginning; in a third all but a stretch of some channels; in a sixth as of any Space."""
        mask = super().portion(noise)
        if self.in_time:
            share, gaps, where = noise.uniform(), noise.uniform(), noise.uniform()
            hidden = noise.uniform(self.shape[0], 1) < 0.5
            place = (torch.arange(self.grid[0], device=mask.device) / self.grid[0]).unsqueeze(0)
            past = (place < share.unsqueeze(1)).unsqueeze(1).expand_as(mask)
            begin = (where * (1 - share)).unsqueeze(1)
            stretch = (place >= begin) & (place < begin + share.unsqueeze(1))
            around = ~(stretch.unsqueeze(1) & hidden)
            mask = torch.where(expand(gaps < 1 / 6, mask), mask, torch.where(expand(gaps < 0.5, mask), around, past))
        if self.always:
            mask = mask.clone()
            mask[:, list(self.always)] = True
        return mask

    def scene(self, noise: Noise) -> tuple[Tensor, Tensor] | None:
        if not self.stage:
            return None
        drawn = self.scenes[(noise.uniform() * len(self.scenes)).long().clamp(max=len(self.scenes) - 1)]
        x = torch.cat([drawn.new_zeros(len(drawn), self.shape[0] - drawn.shape[1], *self.grid), drawn], 1)
        return x, self.staged(x)

    def _column(self, statistic: Tensor) -> Tensor:
        return statistic.reshape(1, -1, *[1] * len(self.grid))

    @property
    def step(self) -> float | None:
        """Distance between two neighbouring levels, raw units."""
        if self.levels is None or self.low is None or self.high is None:
            return None
        return (self.high - self.low) / (self.levels - 1)

    def embed(self, x: Tensor) -> Tensor:
        return (x.to(self.mean.dtype) - self._column(self.mean)) / self._column(self.deviation)

    def decode(self, params: Tensor) -> Tensor:
        x = self._raw(wide(params))
        if self.step is not None and self.low is not None:
            x = self.low + ((x - self.low) / self.step).round() * self.step
        if self.low is not None or self.high is not None:
            x = x.clamp(self.low, self.high)
        return self._still(x)

    def _raw(self, params: Tensor) -> Tensor:
        return params * self._column(self.deviation) + self._column(self.mean)

    def _still(self, x: Tensor) -> Tensor:
        """Raw x with the mean of each round in channels that keep one value."""
        for each in self.steady:
            x = each.still(x)
        return x

    def deduced(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Of channels that keep one value a round is known where one of its steps is."""
        for each in self.steady:
            x, observed = each.deduced(x, observed)
        return x, observed

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        target = self.embed(x)
        log_scale = torch.zeros((), device=params.device) if log_scale is None else log_scale
        log_scale = self._column(log_scale) if log_scale.dim() else log_scale
        if likelihood == "gaussian":
            terms = gaussian_nll(params, target, log_scale)
        elif likelihood == "bernoulli":
            if self.low is None or self.high is None:
                raise ValueError("the Bernoulli likelihood needs data with two levels; use likelihood=gaussian")
            terms = bernoulli_nll(params, (x.to(self.mean.dtype) - self.low) / (self.high - self.low))
        elif likelihood == "discretised":
            if self.step is None or self.low is None or self.high is None:
                raise ValueError("the discretised likelihood needs data with levels (8-bit images); use gaussian")
            deviation = self._column(self.deviation)
            terms = discretised_gaussian_nll(
                self._raw(params),
                x.to(self.mean.dtype),
                log_scale + deviation.log(),
                bin_width=self.step,
                low=self.low,
                high=self.high,
            )
        else:
            raise ValueError(f"unknown likelihood {likelihood!r}; known: {', '.join(LIKELIHOODS)}")
        return terms

    def realise(self, params: Tensor, noise: Noise, *, log_scale: Tensor | None = None) -> Tensor:
        return self.decode(self.noised(params, noise, log_scale))

    def noised(self, params: Tensor, noise: Noise, log_scale: Tensor | None) -> Tensor:
        """With the noise that a law of series has, without which forecasts are too sure; a picture is its mean."""
        if not self.in_time or log_scale is None:
            return params
        made = noise.normal(*params.shape[1:])
        for each in self.steady:
            made = each.one_draw(made, self._raw(params))
        return params + self._column(log_scale.exp()) * made

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        """The numbers themselves within the data's range, a soft stop just outside it: a generator cannot run away."""
        if self.steady:
            params = self.embed(self._still(self._raw(params)))
        if self.low is None or self.high is None:
            return params
        low, high = (
            (limit - self._column(self.mean)) / self._column(self.deviation) for limit in (self.low, self.high)
        )
        inside = torch.maximum(torch.minimum(params, high), low)
        return inside + MARGIN * torch.tanh((params - inside) / MARGIN)


class Categorical(Space):
    """One of `count` tokens at each place of the grid; raw x is (B, 1, *grid) of whole numbers."""

    one: Tensor

    def __init__(self, shape: tuple[int, ...], count: int):
        super().__init__()
        assert shape[0] == 1, "tokens have one channel"
        self.shape, self.width, self.count, self.dtype = tuple(shape), count, count, torch.int64
        # Each one-hot channel of a uniform token has mean 1/K and variance (1/K)(1 - 1/K).
        self.mean = 1 / count
        self.deviation = max((self.mean * (1 - self.mean)) ** 0.5, 1e-6)
        # Nothing to save: it tells `embed` the precision that the model was moved to.
        self.register_buffer("one", torch.ones(()), persistent=False)

    def describe(self) -> dict[str, Any]:
        return {"kind": "categorical", "shape": list(self.shape), "count": self.count}

    @property
    def token_count(self) -> int:
        return self.count

    def tokens(self, x: Tensor) -> Tensor:
        return x.long()

    def from_tokens(self, tokens: Tensor) -> Tensor:
        return tokens

    def embed(self, x: Tensor) -> Tensor:
        hot = functional.one_hot(x[:, 0].long(), self.count).movedim(len(self.shape), 1).to(self.one.dtype)
        return (hot - self.mean) / self.deviation

    def decode(self, params: Tensor) -> Tensor:
        return params.argmax(1, keepdim=True)

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        return functional.cross_entropy(wide(params), x[:, 0].long(), reduction="none").unsqueeze(1)

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        logits = wide(params) if uniform is None else gumbel(wide(params), uniform)
        return (logits.softmax(1) - self.mean) / self.deviation

    def _logits(self, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        # Under noise of deviation s the log-density of y rises by y_k / (deviation s^2) where token k is the true one.
        return wide(out) + wide(y) / (self.deviation * expand(sigma, y) ** 2)

    def settle(self, x0: Tensor, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        return ((self._logits(out, y, sigma).softmax(1) - self.mean) / self.deviation).to(x0.dtype)

    def denoising_error(self, error: Tensor, out: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        cross = functional.cross_entropy(self._logits(out, y, sigma), x[:, 0].long(), reduction="none")
        return torch.cat([cross.unsqueeze(1), torch.zeros_like(error[:, 1:])], 1)

    def realise(self, params: Tensor, noise: Noise, *, log_scale: Tensor | None = None) -> Tensor:
        return self.decode(self.relax(params, noise.uniform(*params.shape[1:])))


def gumbel(logits: Tensor, uniform: Tensor) -> Tensor:
    """Logits whose softmax is a relaxed draw of a token; `uniform` (0, 1) of their shape (Jang et al. 2017, eq. 2)."""
    return (logits - (-uniform.clamp(1e-6, 1 - 1e-6).log()).log()) / TEMPERATURE


def fit_continuous(
    x: Tensor | np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
    levels: int | None = None,
    rows: np.ndarray | None = None,
    always: tuple[int, ...] = (),
    steady: tuple[Steady, ...] = (),
    calendar: int = 0,
) -> Continuous:
    """A Continuous Space with the per-channel mean and deviation of x (N, C, *grid), or of its `rows`, in float64.

    calendar: of how many channels, the last ones, it keeps `SCENES` examples at most, from all over x.

    A constant channel gets the deviation of one level (or 1), so that it stays finite.
    """
    count = len(x) if rows is None else len(rows)
    assert count > 0, "a Space is fitted on at least one example"
    mean, deviation, largest = channel_moments(x, rows)
    smallest = 1.0 if levels is None or low is None or high is None else (high - low) / max(levels - 1, 1)
    deviation = torch.where(deviation < 1e-9 * (1 + largest), torch.full_like(deviation, smallest), deviation)
    shape = tuple(x.shape[1:])
    kept = min(SCENES, count, SCENE_SIZE // (calendar * math.prod(shape[1:]))) if calendar else 0
    space = Continuous(
        shape, low=low, high=high, levels=levels, mean=mean, deviation=deviation, always=always, steady=steady,
        scenes=(kept, calendar),
    )  # fmt: skip
    if kept:
        places = np.linspace(0, count - 1, kept).round().astype(int)
        chosen = x[places if rows is None else np.sort(rows)[places]]
        space.scenes.copy_(torch.as_tensor(chosen[:, shape[0] - calendar :]))
    return space


def masked(space: Space, observed: Tensor | None, valid: Tensor | None) -> Tensor | None:
    """The elements of x that count, as floats of x's shape, or None when all do."""
    if observed is None and valid is None:
        return None
    both = [mask for mask in (observed, valid) if mask is not None]
    result = both[0].float()
    for mask in both[1:]:
        result = result * mask.float()
    return result
