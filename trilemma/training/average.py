"""Power-function moving averages of weights (Karras et al. 2024, EDM2, section 3): their length grows with training.

An average of relative deviation s weighs the past like t^gamma: at any moment it covers the same fraction of training,
so there is no half-life to tune. Several deviations are kept; which one is used is chosen on held-out data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


def exponent(deviation: float) -> float:
    """gamma of the profile t^gamma whose relative standard deviation this is (EDM2, equation 126)."""
    inverse = deviation**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


class Averages:
    """Averages of a model's floating-point parameters, one set for each deviation."""

    def __init__(self, model: nn.Module, deviations: tuple[float, ...]):
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.exponents = {f"{d:.2f}": exponent(d) for d in deviations}
        source = self._source(model)
        self.values = {key: [p.detach().clone() for p in source] for key in self.exponents}

    def _source(self, model: nn.Module) -> list[Tensor]:
        parameters = dict(model.named_parameters())
        return [parameters[name].detach() for name in self.names]

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

    def load(self, state: dict[str, Tensor]) -> None:
        for key, values in self.values.items():
            for name, value in zip(self.names, values, strict=True):
                value.copy_(state[f"{key}.{name}"])
