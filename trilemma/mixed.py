"""What a model sees of a table: numbers, categories and gaps side by side. And any Space from its description."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trilemma.maths.losses import bernoulli_nll, gaussian_nll
from trilemma.maths.noise import Noise
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand
from trilemma.numbered import Clusters
from trilemma.spaces import Categorical, Continuous, Space, gumbel
from trilemma.words import Words


class Mixed(Space):
    """The columns of a table: grid (), raw x is (B, columns) floats with NaN where a cell is empty.

    `columns` holds 0 for a number and K for a category of K values (their index as a float). A number that may be
    missing (`gaps`) carries a generated 'present' bit; a category that may be missing has one value more.
    """

    mean: Tensor
    deviation: Tensor
    owner: Tensor
    members: Tensor
    heads: Tensor
    first: Tensor
    is_token: Tensor
    has_bit: Tensor
    token: Tensor
    bits: Tensor
    number: Tensor
    kinds: Tensor

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
        self.register_buffer("mean", torch.zeros(len(columns)) if mean is None else mean.float())
        self.register_buffer("deviation", torch.ones(len(columns)) if deviation is None else deviation.float())
        self._lay_out()

    def _lay_out(self) -> None:
        """Where each column's channels are, so that all columns are computed at once."""

        def keep(name: str, value: Tensor) -> None:
            self.register_buffer(name, value, persistent=False)

        widths, count = torch.tensor(self.widths), len(self.columns)
        owner = torch.repeat_interleave(torch.arange(count), widths)
        tokens = torch.tensor([values > 0 for values in self.columns])
        keep("owner", owner)  # the column of each channel
        keep("first", widths.cumsum(0) - widths)  # the first channel of each column
        keep("members", functional.one_hot(owner, count).float())  # (width, columns)
        keep("is_token", tokens)  # of columns
        keep("token", tokens[owner])  # of channels
        keep("bits", torch.tensor(self._bits()))
        keep("number", ~self.token & ~self.bits)
        heads = functional.one_hot(self.first, self.width).float() * tokens.float().unsqueeze(1)
        keep("heads", heads)  # (columns, width): the first channel of each column of tokens
        keep("kinds", widths[owner])  # of each channel's column
        keep("has_bit", torch.tensor([self._has_bit(column) for column in range(count)]))

    def describe(self) -> dict[str, Any]:
        return {"kind": "mixed", "columns": self.columns, "gaps": self.gaps}

    def _places(self, x: Tensor) -> Tensor:
        """(B, columns): the channel of each cell's number or token; an empty cell of tokens has the last one."""
        last = self._counts(x).expand_as(x)
        token = torch.where(x.isnan(), last, x).long()
        return self.first + torch.where(self.is_token, token, 0)

    def _units(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel's one-hot token, as of `Categorical`; 0 and 1 of all others."""
        mean = torch.where(self.token, 1 / self.kinds.to(self.mean.dtype), 0.0)
        return mean, torch.where(self.token, (mean * (1 - mean)).sqrt().clamp(min=1e-6), 1.0)

    def _counts(self, like: Tensor) -> Tensor:
        return torch.tensor(self.columns, device=like.device, dtype=like.dtype)

    def _numbers(self, x: Tensor) -> Tensor:
        """(B, columns) of deviation 1; 0 where a cell is empty."""
        return ((x.to(self.mean.dtype) - self.mean) / self.deviation).nan_to_num(0.0)

    def embed(self, x: Tensor) -> Tensor:
        mean, deviation = self._units()
        made = -mean / deviation + torch.zeros_like(x[:, :1], dtype=self.mean.dtype)
        one = ((1 - mean) / deviation)[self.first]
        made.scatter_(1, self._places(x), torch.where(self.is_token, one, self._numbers(x)))
        if any(self.gaps):
            here = torch.where(x.isnan(), -1.0, 1.0).to(made.dtype)
            made = torch.where(self.bits, here.index_select(1, self.owner), made)
        return made

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

    def _shares(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """exp(logits) over the largest of each column, and the logarithm of the columns' sums (B, columns)."""
        places = self.owner.expand_as(logits)
        top = logits.detach().index_select(1, self.first).scatter_reduce(1, places, logits.detach(), "amax")
        shares = (logits - top.index_select(1, self.owner)).exp()
        return shares, top + _exact(shares, self.members).log()

    def _softmax(self, logits: Tensor) -> Tensor:
        """Over the channels of each column."""
        shares, _ = self._shares(logits)
        return shares / _exact(_exact(shares, self.members), self.members.T)

    def _cross_entropy(self, logits: Tensor, x: Tensor) -> Tensor:
        """(B, columns) nats; means nothing where a column is a number."""
        _, total = self._shares(logits)
        return total - logits.gather(1, self._places(x))

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        scales = torch.zeros(self.scales, device=params.device) if log_scale is None else log_scale.expand(self.scales)
        params, here = wide(params), ~x.isnan()
        number = gaussian_nll(params.index_select(1, self.first), self._numbers(x), scales) * here
        if bool(self.has_bit.any()):
            bits = params.index_select(1, (self.first + 1).clamp(max=self.width - 1))
            number = number + torch.where(self.has_bit, bernoulli_nll(bits, here.to(params.dtype)), 0.0)
        return torch.where(self.is_token, self._cross_entropy(params, x), number)

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        params = wide(params)
        soft = self._softmax(params if uniform is None else gumbel(params, uniform))
        mean, deviation = self._units()
        made = torch.where(self.token, (soft - mean) / deviation, params)
        return torch.where(self.bits, params.tanh(), made) if any(self.gaps) else made

    def _logits(self, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """Those of a noisy row's tokens, see `Categorical`; a number's channels are of no use."""
        _, deviation = self._units()
        return wide(out) + wide(y) / (deviation * expand(sigma, y) ** 2) * self.token

    def settle(self, x0: Tensor, out: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        mean, deviation = self._units()
        soft = (self._softmax(self._logits(out, y, sigma)) - mean) / deviation
        return torch.where(self.token, soft.to(x0.dtype), x0)

    def denoising_error(self, error: Tensor, out: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        cross = torch.where(self.is_token, self._cross_entropy(self._logits(out, y, sigma), x), 0.0)
        return torch.where(self.token, _exact(cross, self.heads).to(error.dtype), error)

    def realise(self, params: Tensor, noise: Noise, *, log_scale: Tensor | None = None) -> Tensor:
        scales = torch.zeros(self.scales) if log_scale is None else log_scale.exp().expand(self.scales)
        relaxed, normal = self.relax(params, noise.uniform(self.width)), noise.normal(self.width)
        spread = scales.to(normal.device).index_select(0, self.owner) * self.number  # a present bit has none
        return self.decode(relaxed + spread * normal)

    def portion(self, noise: Noise) -> Tensor:
        mask, uniform = super().portion(noise), noise.uniform(len(self.columns))
        # That there is a value may be known where the value is not.
        return mask | (self.bits & (uniform < 0.5).index_select(1, self.owner))

    def given(self, x: Tensor, observed: Tensor, *, complete: bool) -> tuple[Tensor, Tensor]:
        values, known = super().given(x, observed, complete=complete)
        if complete:
            values = torch.where(self.bits & ~known, torch.ones_like(values), values)
            known = known | self.bits
        return values, known

    def complete(self, params: Tensor) -> Tensor:
        params = params.clone()
        params[:, self.bits] = 30.0
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
        return _exact(values, self.members)

    def widen(self, mask: Tensor) -> Tensor:
        return mask.index_select(1, self.owner)


class Attributes(Mixed):
    """What is known beside an example, as a row of a table: a condition of which any part may be told.

    `kept` are rows (KEPT, columns) of training examples, and `labels` theirs (-1: none known; -2: the row is not used).
    """

    kept: Tensor
    labels: Tensor
    KEPT = 4096
    ALL, SOME = 0.15, 0.35  # chances in training that nothing is told, and that, or a part only

    def __init__(self, columns: list[int]):
        super().__init__(columns, [True] * len(columns))
        self.register_buffer("kept", torch.full((self.KEPT, len(columns)), torch.nan))
        self.register_buffer("labels", torch.full((self.KEPT,), -2, dtype=torch.int32))

    def describe(self) -> dict[str, Any]:
        return {"kind": "attributes", "columns": self.columns}

    def forget(self) -> None:
        """No rows are kept any more."""
        self.kept.fill_(torch.nan)
        self.labels.fill_(-2)

    def keep(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Rows (n, columns) of training examples and their labels (n,)."""
        self.kept[: len(rows)] = torch.from_numpy(rows)
        self.labels[: len(rows)] = torch.from_numpy(labels.astype(np.int32))

    def pool(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows (n, columns) that are kept, and their labels (n,)."""
        labels = self.labels.cpu().numpy()
        return self.kept.float().cpu().numpy()[labels > -2], labels[labels > -2]

    def hidden(self, x: Tensor, noise: Noise) -> Tensor:
        """Rows as a model in training is told them: some are not told at all, and some in part."""
        coin, each = noise.uniform(), noise.uniform(x.shape[1])
        gone = (coin < self.ALL).unsqueeze(1) | ((coin < self.SOME).unsqueeze(1) & (each < 0.5))
        return torch.where(gone, torch.nan, x)


def _exact(values: Tensor, matrix: Tensor) -> Tensor:
    """values @ matrix in the precision of `values`, also where a network's products are taken in bf16."""
    with torch.autocast(values.device.type, enabled=False):
        return values @ matrix.to(values.dtype)


def space_from(description: dict[str, Any]) -> Space:
    """The Space that `describe()` described; its statistics come with the weights."""
    kind = description["kind"]
    if kind == "continuous":
        low, high, levels = description["low"], description["high"], description["levels"]
        always, steady = tuple(description.get("always", ())), description.get("steady", description.get("held", ()))
        return Continuous(
            tuple(description["shape"]), low=low, high=high, levels=levels, always=always, steady=tuple(steady),
            scenes=tuple(description.get("scenes", (0, 0))),
        )  # fmt: skip
    if kind == "categorical":
        return Categorical(tuple(description["shape"]), description["count"])
    if kind == "clusters":
        return Clusters(description["count"], description["size"])
    if kind == "mixed":
        return Mixed(description["columns"], description["gaps"])
    if kind == "attributes":
        return Attributes(description["columns"])
    if kind == "words":
        return Words.described(description)
    raise ValueError(f"unknown kind of space {kind!r}")


def plain(space: Space, x: np.ndarray) -> np.ndarray:
    """Raw examples as numbers that can be subtracted: a table's cells embedded, everything else as it is."""
    return space.embed(torch.from_numpy(np.asarray(x))).numpy() if isinstance(space, Mixed) else x
