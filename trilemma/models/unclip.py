"""unCLIP: a caption becomes what CLIP would see, and that becomes an example (Ramesh et al. 2022, "DALL-E 2").

Two diffusion models and a CLIP that was trained before them: the prior draws an impression (a CLIP vector) for a
caption, the decoder draws x for an impression. The prior hears the caption and CLIP's vector of it; of two draws the
one that goes better with that vector is kept (section 2.2). Both learn side by side, a turn each. Given an example, its
own impression takes the prior's place: others that CLIP takes for the same (section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError
from trilemma.impressions import GUIDE, Impression
from trilemma.maths.noise import Noise
from trilemma.models import diffusion
from trilemma.models.contract import Model, Now, Redraws, Samples, Turn
from trilemma.networks.layers import Network
from trilemma.spaces import Continuous, Space
from trilemma.words import Words

SEEN, TOLD = "impression", "told"  # the decoder's condition; the prior's beside the caption: what CLIP reads in it
AWAY = 2**30  # number of the draw that impressions to lead away from are: asking for some moves no other noise
AGAIN = 2**20  # numbers between those of an impression's first draw and its second, and so on
PRIOR_WIDTHS, PRIOR_DEPTHS = (256, 320, 384, 512, 768), (4, 4, 4, 6, 6)  # by the size dial


@dataclass
class Config:
    network: Network = field(default_factory=Network)  # of the decoder
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(rate=2e-3, betas=(0.9, 0.99), stay=0.4, clip=1.0))
    text: str = "words"
    clip: str = "clip"  # what gives the impressions: a model that is trained first, or the folder of a run
    embedding: int = 128
    drop: float = 0.1  # probability of training without a condition
    sampler: str = "dpm++2m"  # of the decoder, as all that follows
    steps: int = 12
    guidance: float = 2.0
    interval: tuple[float, float] = (0.3, 5.0)
    eta: float = 0.0
    prior_width: int = 256
    prior_depth: int = 4
    prior_steps: int = 16
    prior_guidance: float = 1.0
    prior_draws: int = 2  # impressions for a caption, of which the one is kept that goes best with it


class UnCLIP(Model, Samples, Redraws):
    Config = Config
    accepts = (Continuous,)
    needs_grid = True
    needs_captions = True
    learns_impressions = True
    hunger = 8.0

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        words, told = next(((n, space) for n, space in spaces.items() if isinstance(space, Words)), ("", None))
        seen = spaces.get(GUIDE)
        if told is None or not isinstance(seen, Impression):
            raise InputError("model 'unclip' needs captions and a CLIP of them: take --model unclip on captioned data")
        self.config, self.spaces, self.caption = config, nn.ModuleDict(spaces), words
        shared = {"sampler": config.sampler, "steps": config.steps, "interval": config.interval, "eta": config.eta}
        decoder = diffusion.Config(
            network=config.network, embedding=config.embedding, drop=config.drop, guidance=config.guidance, **shared
        )
        self.decoder = diffusion.Diffusion(decoder, {"x": spaces["x"], SEEN: seen.codes})
        network = Network(kind="mlp", width=config.prior_width, depth=config.prior_depth)
        prior = diffusion.Config(
            network=network, embedding=config.embedding, drop=config.drop, guidance=config.prior_guidance,
            steps=config.prior_steps,
        )  # fmt: skip
        heard: dict[str, Space] = {"x": seen.codes, words: told}
        self.reads = seen.told is not None and seen.reads(told, more=True)  # not in runs of before there was that
        if self.reads and seen.told is not None:
            heard[TOLD] = seen.told
        self.prior = diffusion.Diffusion(prior, heard)

    @property
    def seen(self) -> Impression:
        found = self.spaces[GUIDE]
        assert isinstance(found, Impression)
        return found

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        found = diffusion.Diffusion.adapt({k: one for k, one in spaces.items() if k != GUIDE}, size, count)
        known = {one.name for one in fields(cls.Config)}
        found |= {"prior_width": PRIOR_WIDTHS[SIZES.index(size)], "prior_depth": PRIOR_DEPTHS[SIZES.index(size)]}
        return {key: value for key, value in found.items() if key.partition(".")[0] in known}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        parts = {"decoder": self.decoder, "prior": self.prior}
        groups = {name: [p for p in part.parameters() if p.requires_grad] for name, part in parts.items()}
        return {name: weights for name, weights in groups.items() if weights}  # of a new word the prior alone learns

    def compilable(self) -> tuple[nn.Module, ...]:
        return self.decoder.compilable()

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        seen = self.seen.see(batch.x)
        here = torch.ones(len(batch), dtype=torch.bool, device=batch.x.device)
        if "decoder" in self.groups():
            for turn in self.decoder.losses(replace(batch, raw={SEEN: seen}, present={SEEN: here}), now):
                yield replace(turn, group="decoder")
        raw, present = self.heard(batch.raw[self.caption], batch.present[self.caption])
        for turn in self.prior.losses(Batch(seen, batch.noise, batch.index, raw=raw, present=present), now):
            yield Turn("prior", turn.loss, turn.weight, {f"prior_{name}": value for name, value in turn.logs.items()})

    # --- sampling ---

    def choices(self) -> list[list[Options]]:
        return [question for question in self.decoder.choices() if question[0].guidance is None]  # as under captions

    def calls(self, options: Options) -> int:
        return self.decoder.calls(options) + self.draws * self.prior.calls(Options())

    @property
    def draws(self) -> int:
        """Of impressions for one caption: without CLIP's own vector of it nothing tells which one is the best."""
        return self.config.prior_draws if self.reads else 1

    def heard(self, captions: Tensor, here: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the prior hears of raw captions (B, 1, L), those that are `here` (B,): raw conditions, present bits."""
        raw, present = {self.caption: captions}, {self.caption: here}
        if self.reads:
            told, known = self.seen.read(captions)
            assert self.seen.told is not None
            raw[TOLD] = torch.where(known.unsqueeze(1), told, self.seen.told.mean)
            present[TOLD] = here & known & Words.mask(captions).any(1)
        return raw, present

    def imagined(self, request: Request) -> Tensor:
        """(B, E) impressions for the request's captions; unit vectors, as CLIP's are."""
        noise, everywhere = request.noise, torch.ones(len(request), dtype=torch.bool, device=request.noise.device)
        raw: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        against: dict[str, Tensor] = {}
        if self.caption in request.raw:
            raw, present = self.heard(request.raw[self.caption], request.present.get(self.caption, everywhere))
        if self.caption in request.against:
            against, _ = self.heard(request.against[self.caption], everywhere)
        further = [
            Noise(noise.seed, noise.index, noise.device, draw=noise.draw + number * AGAIN)
            for number in range(1, self.draws if TOLD in raw else 1)
        ]

        def drawn(noise: Noise) -> Tensor:
            asked = Request(noise, raw, present, Options(), against=against)
            return functional.normalize(self.prior.sample(asked).float(), dim=1)

        best = drawn(noise)
        for another in further:
            other = drawn(another)
            better = ((other - best) * raw[TOLD]).sum(1) > 0
            best = torch.where((better & present[TOLD]).unsqueeze(1), other, best)
        return best

    def under(self, seen: Tensor, request: Request) -> Request:
        """The decoder's request; it is led away from what the captions `against` become."""
        here = torch.ones(len(seen), dtype=torch.bool, device=seen.device)
        away = {}
        if self.caption in request.against:
            noise = Noise(request.noise.seed, request.noise.index, request.noise.device, draw=AWAY)
            away[SEEN] = self.imagined(Request(noise, request.against, {self.caption: here}))
        return Request(request.noise, {SEEN: seen}, {SEEN: here}, request.options, request.watch, away)

    def sample(self, request: Request) -> Tensor:
        return self.decoder.sample(self.under(self.imagined(request), request))

    def redraw(self, x: Tensor, request: Request, *, strength: float) -> Tensor:
        seen = self.imagined(request) if self.caption in request.raw else self.seen.see(x)
        return self.decoder.redraw(x, self.under(seen, request), strength=strength)
