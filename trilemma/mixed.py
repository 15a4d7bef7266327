"""What a model sees of a table: numbers, categories and gaps side by side. And any Space from its description."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.maths.losses import bernoulli_nll, gaussian_nll
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.spaces import Categorical, Clusters, Continuous, Space


class Mixed(Space):
    """The columns of a table: grid (), raw x is (B, columns) floats with NaN where a cell is empty.

    `columns` holds 0 for a number and K for a category of K values (their index as a float). A number that may be
    missing (`gaps`) carries a generated 'present' bit; a category that may be missing has one value more.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        columns: list[int],
        gaps: list[bool],
        *,
        mean: Tensor | None = None,
        deviation: Tensor | None = None,
    ):
        super().__init__()
        assert len(columns) == len(gaps)
        self.columns, self.gaps = list(columns), list(gaps)
        self.shape, self.scales, self.dtype = (len(columns),), (len(columns),), torch.float32
        self.widths = [(1 + gap) if count == 0 else count + gap for count, gap in zip(columns, gaps, strict=True)]
        self.width = sum(self.widths)
        kinds = [
            Categorical((1,), count + gap) if count else nn.Identity() for count, gap in zip(columns, gaps, strict=True)
        ]
        self.tokens = nn.ModuleList(kinds)
        self.register_buffer("mean", torch.zeros(len(columns)) if mean is None else mean.float())
        self.register_buffer("deviation", torch.ones(len(columns)) if deviation is None else deviation.float())

    def describe(self) -> dict[str, Any]:
        return {"kind": "mixed", "columns": self.columns, "gaps": self.gaps}

    def _tokens(self, column: int) -> Categorical:
        tokens = self.tokens[column]
        assert isinstance(tokens, Categorical)
        return tokens

    def _token(self, value: Tensor, column: int) -> Tensor:
        return torch.where(value.isnan(), self.columns[column], value).long().unsqueeze(1)

    def embed(self, x: Tensor) -> Tensor:
        parts = []
        for column, (count, gap) in enumerate(zip(self.columns, self.gaps, strict=True)):
            value = x[:, column].to(self.mean.dtype)
            if count:
                parts.append(self._tokens(column).embed(self._token(value, column)))
                continue
            number = ((value - self.mean[column]) / self.deviation[column]).nan_to_num(0.0)
            parts.append(number.unsqueeze(1))
            if gap:
                parts.append(torch.where(value.isnan(), -1.0, 1.0).unsqueeze(1))
        return torch.cat(parts, 1)

    def decode(self, params: Tensor) -> Tensor:
        columns = []
        for column, part in enumerate(wide(params).split(self.widths, 1)):
            count, gap = self.columns[column], self.gaps[column]
            if count:
                token = part.argmax(1).float()
                columns.append(torch.where(token == count, torch.nan, token))
                continue
            number = part[:, 0] * self.deviation[column] + self.mean[column]
            columns.append(torch.where(part[:, 1] < 0, torch.nan, number) if gap else number)
        return torch.stack(columns, 1)

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        scales = torch.zeros(self.scales, device=params.device) if log_scale is None else log_scale.expand(self.scales)
        terms = []
        for column, part in enumerate(params.split(self.widths, 1)):
            value = x[:, column].to(self.mean.dtype)
            if self.columns[column]:
                terms.append(self._tokens(column).terms(part, self._token(value, column))[:, 0])
                continue
            here = ~value.isnan()
            target = ((value - self.mean[column]) / self.deviation[column]).nan_to_num(0.0)
            term = gaussian_nll(part[:, 0], target, scales[column]) * here
            if self.gaps[column]:
                term = term + bernoulli_nll(part[:, 1], here.float())
            terms.append(term)
        return torch.stack(terms, 1)

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        parts = []
        noise = [None] * len(self.columns) if uniform is None else uniform.split(self.widths, 1)
        for column, (part, draw) in enumerate(zip(params.split(self.widths, 1), noise, strict=True)):
            if self.columns[column]:
                parts.append(self._tokens(column).relax(part, draw))
            elif self.gaps[column]:
                parts.append(torch.cat([wide(part[:, :1]), wide(part[:, 1:]).tanh()], 1))
            else:
                parts.append(wide(part))
        return torch.cat(parts, 1)

    def _by_column(self, *given: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Each column's number with its channels of what is given."""
        yield from enumerate(zip(*(each.split(self.widths, 1) for each in given), strict=True))

    def settle(self, x0: Tensor, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        parts = []
        for column, (own, logits, noisy) in self._by_column(x0, out, y):
            parts.append(self._tokens(column).settle(own, logits, noisy, sigma) if self.columns[column] else own)
        return torch.cat(parts, 1)

    def denoising_error(self, error: Tensor, out: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        parts = []
        for column, (own, logits, noisy) in self._by_column(error, out, y):
            if self.columns[column]:
                token = self._token(x[:, column].to(self.mean.dtype), column)
                own = self._tokens(column).denoising_error(own, logits, token, noisy, sigma)
            parts.append(own)
        return torch.cat(parts, 1)

    def realise(self, params: Tensor, noise: Noise, *, log_scale: Tensor | None = None) -> Tensor:
        scales = torch.zeros(self.scales) if log_scale is None else log_scale.exp().expand(self.scales)
        relaxed, parts = self.relax(params, noise.uniform(self.width)), []
        for column, (own, normal) in self._by_column(relaxed, noise.normal(self.width)):
            if not self.columns[column]:
                spread = scales[column] * normal[:, :1]  # of the number; a present bit has none
                own = torch.cat([own[:, :1] + spread, own[:, 1:]], 1)
            parts.append(own)
        return self.decode(torch.cat(parts, 1))

    def portion(self, noise: Noise) -> Tensor:
        mask, uniform, parts = super().portion(noise), noise.uniform(len(self.columns)), []
        for column, (own,) in self._by_column(mask):
            if self._has_bit(column):  # that there is a value may be known where the value is not
                own = torch.stack([own[:, 0], own[:, 1] | (uniform[:, column] < 0.5)], 1)
            parts.append(own)
        return torch.cat(parts, 1)

    def given(self, x: Tensor, observed: Tensor, *, complete: bool) -> tuple[Tensor, Tensor]:
        values, known = super().given(x, observed, complete=complete)
        if complete:
            bits = torch.tensor(self._bits(), device=x.device)
            values = torch.where(bits & ~known, torch.ones_like(values), values)
            known = known | bits
        return values, known

    def complete(self, params: Tensor) -> Tensor:
        params = params.clone()
        params[:, torch.tensor(self._bits(), device=params.device)] = 30.0
        first = 0
        for count, gap, width in zip(self.columns, self.gaps, self.widths, strict=True):
            if count and gap:
                params[:, first + count] = -math.inf
            first += width
        return params

    def _has_bit(self, column: int) -> bool:
        return self.columns[column] == 0 and self.gaps[column]

    def _bits(self) -> list[bool]:
        """Which channels say that a number is there."""
        found: list[bool] = []
        for column, width in enumerate(self.widths):
            found += [place == 1 and self._has_bit(column) for place in range(width)]
        return found

    def narrow(self, values: Tensor) -> Tensor:
        return torch.stack([own.sum(1) for own in values.split(self.widths, 1)], 1)

    def widen(self, mask: Tensor) -> Tensor:
        return torch.repeat_interleave(mask, torch.tensor(self.widths, device=mask.device), dim=1)


def space_from(description: dict[str, Any]) -> Space:
    """The Space that `describe()` described; its statistics come with the weights."""
    kind = description["kind"]
    if kind == "continuous":
        low, high, levels = description["low"], description["high"], description["levels"]
        always = tuple(description.get("always", ()))
        return Continuous(tuple(description["shape"]), low=low, high=high, levels=levels, always=always)
    if kind == "categorical":
        return Categorical(tuple(description["shape"]), description["count"])
    if kind == "clusters":
        return Clusters(description["count"], description["size"])
    if kind == "mixed":
        return Mixed(description["columns"], description["gaps"])
    raise ValueError(f"unknown kind of space {kind!r}")


def plain(space: Space, x: np.ndarray) -> np.ndarray:
    """Raw examples as numbers that can be subtracted: a table's cells embedded, everything else as it is."""
    return space.embed(torch.from_numpy(np.asarray(x))).numpy() if isinstance(space, Mixed) else x
