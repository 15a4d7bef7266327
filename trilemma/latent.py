"""What a model sees of examples that an autoencoder has coded: codes of unit variance, on their own smaller grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from trilemma.maths.losses import gaussian_nll
from trilemma.spaces import Space


class Coder(ABC):
    """An autoencoder whose codes lie on a grid: what `Latent` asks of it."""

    code_shape: tuple[int, ...]  # (width, *coarse)
    token_count: int  # different codes that a place can have; 0: codes are continuous, and there are no tokens

    @abstractmethod
    def codes(self, x: Tensor) -> Tensor:
        """(B, channels, *grid) raw examples -> (B, width, *coarse) codes."""

    @abstractmethod
    def restored(self, codes: Tensor) -> Tensor:
        """(B, width, *coarse) codes -> (B, channels, *grid) raw examples."""

    @abstractmethod
    def tokens(self, x: Tensor) -> Tensor:
        """(B, channels, *grid) raw examples -> (B, 1, *coarse) int64 below `token_count`.

        Raises:
            InputError: codes are continuous.
        """

    @abstractmethod
    def tokens_of(self, codes: Tensor) -> Tensor:
        """(B, width, *coarse) codes -> the tokens (B, 1, *coarse) that are nearest. Raises as `tokens` does."""

    @abstractmethod
    def from_tokens(self, tokens: Tensor) -> Tensor:
        """(B, 1, *coarse) tokens -> (B, width, *coarse) codes. Raises as `tokens` does."""


class Latent(Space):
    """Codes of an autoencoder that learns no more; raw examples are those of its own Space, `base`.

    One mean and deviation per channel of the codes, fitted on training examples. `embed` also takes codes themselves,
    which a training has made of its examples beforehand. Source: Rombach et al. 2022, section 3.1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, autoencoder: nn.Module, base: Space, shape: tuple[int, ...], *, made_by: dict[str, Any]):
        """made_by: the JSON from which the autoencoder is built again, its weights apart."""
        super().__init__()
        assert isinstance(autoencoder, Coder)
        self.autoencoder: Any = autoencoder.requires_grad_(False).eval()  # type: ignore[attr-defined]
        self.base, self.made_by = base, made_by
        self.shape, self.width, self.dtype = tuple(shape), shape[0], base.dtype
        self.register_buffer("mean", torch.zeros(shape[0]))
        self.register_buffer("deviation", torch.ones(shape[0]))

    @property
    def outer(self) -> Space:
        return self.base

    @property
    def token_count(self) -> int:
        return int(self.autoencoder.token_count)

    def tokens(self, x: Tensor) -> Tensor:
        """Of raw examples, or of codes themselves."""
        with torch.no_grad():
            found = self.autoencoder.tokens_of(x) if self._are_codes(x) else self.autoencoder.tokens(x)
        assert isinstance(found, Tensor)
        return found

    def from_tokens(self, tokens: Tensor) -> Tensor:
        codes = self.autoencoder.from_tokens(tokens)
        assert isinstance(codes, Tensor)
        return codes

    def train(self, mode: bool = True) -> Latent:
        """The autoencoder does what it does after its own training, whatever trains around it."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def describe(self) -> dict[str, Any]:
        return {"kind": "latent", "shape": list(self.shape), "base": self.base.describe(), "made_by": self.made_by}

    def _column(self, statistic: Tensor) -> Tensor:
        return statistic.reshape(1, -1, *[1] * len(self.grid))

    def _are_codes(self, x: Tensor) -> bool:
        return tuple(x.shape[1:]) == self.shape

    def embed(self, x: Tensor) -> Tensor:
        if self._are_codes(x):
            codes = x.to(self.mean.dtype)
        else:
            with torch.no_grad():
                codes = self.autoencoder.codes(x).to(self.mean.dtype)
        return (codes - self._column(self.mean)) / self._column(self.deviation)

    def decode(self, params: Tensor) -> Tensor:
        codes = params.to(self.mean.dtype) * self._column(self.deviation) + self._column(self.mean)
        return self.autoencoder.restored(codes)

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        """Of codes, not of examples: a loss, and no likelihood of what the user gave."""
        if likelihood != "gaussian":
            raise ValueError(f"likelihood {likelihood!r} is for the data themselves; codes have 'gaussian'")
        log_scale = torch.zeros((), device=params.device) if log_scale is None else log_scale
        return gaussian_nll(params, self.embed(x), log_scale)

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        return params
