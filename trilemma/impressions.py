"""What a CLIP sees in examples and reads in captions: unit vectors as Spaces, with the CLIP in them, so that a run's
weights hold it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trilemma.errors import InputError
from trilemma.maths.losses import gaussian_nll
from trilemma.maths.shapes import expand
from trilemma.spaces import Continuous, Space
from trilemma.words import Words

GUIDE = "guide"  # name of this Space in a model: nothing that conditions by itself


class Impression(Space):
    """Unit vectors (B, E) that a CLIP gives to examples, with the mean and deviation of training examples'.

    `told`: the same of their captions; None in runs of before there was that. The CLIP learns no more. `see` takes raw
    examples, `read` raw captions, `lean` examples on their way out of noise.
    """

    def __init__(self, matcher: nn.Module, size: int, *, made_by: dict[str, Any], told: bool = False):
        """matcher: a model with the capability Matches. made_by: the JSON from which it is built again."""
        super().__init__()
        self.matcher: Any = matcher.requires_grad_(False).eval()
        self.made_by = made_by
        self.shape, self.width, self.dtype = (size,), size, torch.float32
        self.codes = Continuous((size,))
        self.told = Continuous((size,)) if told else None

    @property
    def sees_noise(self) -> bool:
        return bool(self.matcher.sees_noise)

    def reads(self, words: Words, *, more: bool = False) -> bool:
        """Does the CLIP read the captions of this Space? more: all but words that were added to them later."""
        return any(isinstance(one, Words) and one.holds(words, more=more) for one in self.matcher.spaces.values())

    def check_leads(self, spaces: dict[str, Space]) -> None:
        """InputError where this CLIP cannot lead a sampler to the captions of these Spaces."""
        if not self.sees_noise:
            raise InputError("setting clip: it has not learned to see noise; take clip:noise-aware, or a run of it")
        words = next((one for one in spaces.values() if isinstance(one, Words)), None)
        if words is not None and not self.reads(words):
            raise InputError(
                "setting clip: it has learned another vocabulary than that of these captions; leave it out"
            )

    def describe(self) -> dict[str, Any]:
        about = {"kind": "impression", "size": self.width, "made_by": self.made_by}
        return about if self.told is None else {**about, "told": True}

    def train(self, mode: bool = True) -> Impression:
        super().train(mode)
        self.matcher.eval()
        return self

    @torch.no_grad()
    def see(self, x: Tensor) -> Tensor:
        """(B, channels, *grid) raw examples -> (B, E)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.matcher.images(self.matcher.space.embed(x)).to(self.codes.mean.dtype)

    @torch.no_grad()
    def read(self, captions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, L) raw captions -> (B, E), and (B,) whether the CLIP knows all of their words; see `reads`."""
        (count,) = {space.count for space in self.matcher.spaces.values() if isinstance(space, Words)}
        known = captions < count
        with torch.autocast(captions.device.type, enabled=False):
            vectors = self.matcher.texts(torch.where(known, captions, 0)).to(self.codes.mean.dtype)
        return vectors, known.flatten(1).all(1)

    def lean(self, y: Tensor, sigma: Tensor, captions: Tensor, space: Space) -> Tensor:
        """Slope (B, width, *grid) of ln p(caption | y) by the CLIP, up to a constant: of its logit of the two.

        y: examples embedded in `space` under noise of deviation sigma (B,) (Nichol et al. 2022, section 2.4).
        """
        own = self.matcher.space
        with torch.enable_grad(), torch.autocast(y.device.type, enabled=False):
            y = y.detach().float().requires_grad_(True)
            seen, level = y, sigma.float()
            if isinstance(space, Continuous) and isinstance(own, Continuous):  # the CLIP may know other data's units
                ratio = space._column(space.deviation) / own._column(own.deviation)
                seen = y * ratio + (space._column(space.mean) - own._column(own.mean)) / own._column(own.deviation)
                level = level * ratio.mean()
            logit = self.matcher.scale * (self.matcher.images(seen, level) * self.matcher.texts(captions)).sum(1)
            (slope,) = torch.autograd.grad(logit.sum(), y)
        return slope

    def leading(
        self, captions: Tensor, here: Tensor, space: Space, *, against: Tensor | None = None
    ) -> Callable[[Tensor, float], Tensor]:
        """`lean` as guidance takes it, slope(y, s) at one level: to captions that are `here` (B,), away from others."""

        def slope(y: Tensor, s: float) -> Tensor:
            sigma = torch.full((len(y),), s, device=y.device)
            found = self.lean(y, sigma, captions, space)
            if against is not None:
                found = found - self.lean(y, sigma, against, space)
            return found * expand(here.to(found.dtype), found)

        return slope

    def embed(self, x: Tensor) -> Tensor:
        return self.codes.embed(x)

    def decode(self, params: Tensor) -> Tensor:
        return self.codes.decode(params)

    def terms(
        self, params: Tensor, x: Tensor, *, log_scale: Tensor | None = None, likelihood: str = "gaussian"
    ) -> Tensor:
        log_scale = torch.zeros((), device=params.device) if log_scale is None else log_scale
        return gaussian_nll(params, self.embed(x), log_scale)

    def relax(self, params: Tensor, uniform: Tensor | None = None) -> Tensor:
        return params
