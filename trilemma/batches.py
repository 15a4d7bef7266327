"""What flows into a model: a Batch of examples to learn from, a Request for samples to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from trilemma.maths.noise import Noise, permutation
from trilemma.spaces import Space, masked


def _alone(rows: Tensor) -> Tensor:
    return rows


@dataclass
class Batch:
    """Examples with all that is known of them. Masks and conditions are None or empty where everything is there."""

    x: Tensor  # (B, channels, *grid) raw
    noise: Noise  # keyed by the place of each example in the endless order
    index: Tensor  # (B,) that place
    observed: Tensor | None = None  # x's shape, bool: not missing
    valid: Tensor | None = None  # x's shape, bool: not padding
    raw: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, channels)
    present: dict[str, Tensor] = field(default_factory=dict)  # name -> (B,) bool
    other: Tensor | None = None  # x of a second, unpaired set
    place: int = 0  # of the first example in the batch that this is one process's part of
    gather: Callable[[Tensor], Tensor] = _alone  # rows of that part -> those of the whole batch, differentiable

    def __len__(self) -> int:
        return len(self.x)

    def mask(self, space: Space) -> Tensor | None:
        """Which elements of x as this Space embeds it count, 1 or 0 (B, width, *grid); None: all do."""
        mask = masked(space, self.observed, self.valid)
        return None if mask is None else space.widen(mask)

    def holed(self, x: Tensor, space: Space) -> Tensor:
        """Embedded x with zeros (the mean) where these examples have holes or padding."""
        mask = self.mask(space)
        return x if mask is None else x * mask

    def embedded(self, space: Space) -> Tensor:
        """x as this Space embeds it, with zeros (the mean) where something is missing."""
        return self.holed(space.embed(self.x), space)

    def part(self, start: int, stop: int) -> Batch:
        """The examples [start, stop) with their own noise: the same numbers that they have in the whole batch."""

        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[start:stop]

        return Batch(
            x=self.x[start:stop],
            noise=Noise(self.noise.seed, self.noise.index[start:stop], self.noise.device),
            index=self.index[start:stop],
            observed=cut(self.observed),
            valid=cut(self.valid),
            raw={name: value[start:stop] for name, value in self.raw.items()},
            present={name: value[start:stop] for name, value in self.present.items()},
            other=cut(self.other),
            place=self.place + start,
            gather=self.gather,
        )


@dataclass
class Options:
    """How to sample. None means the model's own choice; a setting that a model does not have is an error there."""

    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    interval: tuple[float, float] | None = None  # of sigma (unit-variance data) in which guidance acts
    eta: float | None = None  # noise that ddim adds (0 none, 1 as ddpm) or a bridge, or masked on which tokens stay
    prior: str | None = None  # normal, mixture
    truncation: float | None = None  # psi: styles w become mean + psi (w - mean); 1 leaves them, 0 is the mean
    noise_seed: int | None = None  # of the noise of layers, where it is not that of the rest


@dataclass
class Request:
    """Samples wanted: image i depends on (noise.seed, noise.index[i]) and its conditions alone."""

    noise: Noise
    raw: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, channels); of a label also shares (B, count)
    present: dict[str, Tensor] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    watch: Callable[[int, Tensor], None] | None = None  # called with (step, embedded estimate): film strips
    against: dict[str, Tensor] = field(default_factory=dict)  # conditions that guidance leads away from

    def __len__(self) -> int:
        return len(self.noise)

    def having(self, options: Options) -> Request:
        return replace(self, options=options)


@dataclass
class Rows:
    """Some rows of an array that may lie on disk."""

    array: np.ndarray
    rows: np.ndarray | None = None  # None for all

    def __len__(self) -> int:
        return len(self.array) if self.rows is None else len(self.rows)

    def __getitem__(self, places: np.ndarray | slice) -> np.ndarray:
        """A copy in memory of the rows at these places."""
        return np.ascontiguousarray(self.array[places if self.rows is None else self.rows[places]])


@dataclass
class Arrays:
    """Examples in memory or mapped from disk, cut to one split: what batches are gathered from."""

    x: np.ndarray  # (N, channels, *grid)
    conditions: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (N, channels)
    present: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (N,) bool
    observed: np.ndarray | None = None
    valid: np.ndarray | None = None
    rows: np.ndarray | None = None  # the examples of this split; None for all
    other: np.ndarray | None = None  # (M, channels, *grid) of a second, unpaired set
    other_rows: np.ndarray | None = None  # those of this split; None for all
    # A condition's name or 'other' -> what makes it anew for each example that is gathered: (rows, noise) -> values.
    renewed: dict[str, Callable[[np.ndarray, Noise], np.ndarray]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x) if self.rows is None else len(self.rows)

    def gather(
        self, places: np.ndarray, *, seed: int = 0, index: np.ndarray | None = None, device: str = "cpu"
    ) -> Batch:
        """The examples at `places` of this split as a Batch; its noise is keyed by `index` (default: the places)."""
        index = places if index is None else index
        rows = places if self.rows is None else self.rows[places]

        def take(array: np.ndarray | None) -> Tensor | None:
            return None if array is None else torch.from_numpy(np.ascontiguousarray(array[rows])).to(device)

        x = take(self.x)
        assert x is not None

        def held(name: str, array: np.ndarray, rows: np.ndarray) -> Tensor:
            again = self.renewed.get(name)
            values = np.ascontiguousarray(array[rows]) if again is None else again(rows, Noise(seed, index))
            return torch.from_numpy(values).to(device)

        raw = {name: held(name, values, rows) for name, values in self.conditions.items()}
        present = {
            name: torch.from_numpy(np.ascontiguousarray(self.present[name][rows])).to(device)
            if name in self.present
            else torch.ones(len(rows), dtype=torch.bool, device=device)
            for name in self.conditions
        }
        other = None
        if self.other is not None:
            theirs = np.arange(len(self.other)) if self.other_rows is None else self.other_rows
            order = [endless(len(theirs), seed + 1, int(i), int(i) + 1)[0] for i in index]
            other = held("other", self.other, theirs[order])
        return Batch(
            x=x,
            noise=Noise(seed, index, device),
            index=torch.from_numpy(np.asarray(index, dtype=np.int64)).to(device),
            observed=take(self.observed),
            valid=take(self.valid),
            raw=raw,
            present=present,
            other=other,
        )

    def batches(self, size: int, *, limit: int | None = None, seed: int = 0, device: str = "cpu") -> Iterator[Batch]:
        """Every example once, in order (at most `limit`): for measuring and fitting, not for training."""
        total = len(self) if limit is None else min(limit, len(self))
        for start in range(0, total, size):
            yield self.gather(np.arange(start, min(start + size, total)), seed=seed, device=device)


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def endless(count: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Places [start, stop) of the endless order over `count` examples: epoch after epoch, each freshly permuted."""
    places = np.arange(start, stop)
    result = np.empty(stop - start, dtype=np.int64)
    for epoch in np.unique(places // count):
        key = (seed, int(epoch), count)
        if key not in _orders:
            if len(_orders) > 8:
                _orders.clear()
            _orders[key] = permutation(seed, int(epoch), count)
        here = places // count == epoch
        result[here] = _orders[key][places[here] % count]
    return result
