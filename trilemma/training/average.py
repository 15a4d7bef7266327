"""Power-function moving averages of weights (Karras et al. 2024, EDM2, section 3): their length grows with training.

An average of relative deviation s weighs the past like t^gamma: at any moment it covers the same fraction of training,
so there is no half-life to tune. Several deviations are kept; which one is used is chosen on held-out data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.errors import InputError

WIDEST = 0.28  # a uniform average of all weights has 1 / sqrt(12)


def exponent(deviation: float) -> float:
    """gamma of the profile t^gamma whose relative standard deviation this is (EDM2, equation 126)."""
    inverse = deviation**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


def keys(deviations: tuple[float, ...]) -> dict[str, float]:
    """The name of each average, and its exponent. InputError for a deviation that no profile t^gamma has."""
    found = {f"{deviation:.2f}": deviation for deviation in deviations}
    if len(found) < len(deviations) or not all(0.005 <= deviation <= WIDEST for deviation in deviations):
        raise InputError(
            f"setting training.averages={deviations}: relative deviations from 0.01 to {WIDEST}, no two of them equal "
            "to two decimals"
        )
    return {key: exponent(deviation) for key, deviation in found.items()}


def usual(deviations: tuple[float, ...], deviation: float) -> str | None:
    """The name of the average nearest to `deviation`, which is taken where none is chosen; None where there is none."""
    return min(keys(deviations), key=lambda key: abs(float(key) - deviation), default=None)


class Averages:
    """Averages of a model's floating-point parameters, one set for each deviation."""

    def __init__(self, model: nn.Module, deviations: tuple[float, ...]):
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.exponents = keys(deviations)
        source = self._source(model)
        self.values = {key: [p.detach().clone() for p in source] for key in self.exponents}

    def _source(self, model: nn.Module) -> list[Tensor]:
        parameters = dict(model.named_parameters())
        with torch.no_grad():  # of a network in shards, this process's rows
            return [getattr(parameters[name], "to_local", parameters[name].detach)() for name in self.names]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, every: int) -> None:
        """After step number `step` (from 1); `every` steps have passed since the last update."""
        source = self._source(model)
        for key, gamma in self.exponents.items():
            keep = (1 - every / step) ** (gamma + 1) if step > every else 0.0
            torch._foreach_lerp_(self.values[key], source, 1 - keep)

    @contextmanager
    def applied(self, model: nn.Module, key: str | None) -> Iterator[None]:
        """The model with these averaged weights inside the `with`, and its own again after it."""
        if key is None:
            yield
            return
        source = self._source(model)
        own = [p.clone() for p in source]
        torch._foreach_copy_(source, self.values[key])
        try:
            yield
        finally:
            torch._foreach_copy_(source, own)

    def state(self) -> dict[str, Tensor]:
        return {
            f"{key}.{name}": value
            for key, values in self.values.items()
            for name, value in zip(self.names, values, strict=True)
        }

    def load(self, state: dict[str, Tensor], part: Callable[[str, Tensor], Tensor] = lambda name, whole: whole) -> None:
        """part: what of a whole tensor (its weight's name, the tensor) is held here."""
        for key, values in self.values.items():
            for name, value in zip(self.names, values, strict=True):
                value.copy_(part(name, state[f"{key}.{name}"]))
