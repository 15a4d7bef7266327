"""CLIP: examples and their captions in one space, learned from the user's own pairs (Radford et al. 2021).

Two towers give unit vectors: a convolutional network of x, a small transformer of the caption. Within a batch each
example is to find its own caption among all of them, and each caption its example. Captions that are equal are
answers to each other's examples: several positives (Khosla et al. 2020), without which data with few different
captions, such as names of classes, would be pushed apart.

`noise-aware` sees x under noise of a level that it is told (Dhariwal & Nichol 2021, section 4; Nichol et al. 2022):
what guides a sampler has to read what is not finished.

A loss needs the whole batch at once: processes gather the vectors of all, and micro-batches are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch
from trilemma.config import SIZES, Optimizer
from trilemma.errors import InputError
from trilemma.maths.losses import matching_sigmoid, matching_softmax
from trilemma.maths.paths import log_normal_sigma
from trilemma.maths.precision import wide
from trilemma.maths.shapes import expand
from trilemma.models.contract import Encodes, Matches, Model, Now, Turn
from trilemma.networks.augment import augment
from trilemma.networks.conv import Down
from trilemma.networks.layers import Network, initialise, resolutions, sinusoids
from trilemma.networks.text import TextTower
from trilemma.spaces import Continuous, Space
from trilemma.words import Words

SHARPEST = 100.0  # the temperature's inverse stays below (Radford et al. 2021, section 2.5)
CLEAN = 0.02  # level of noise, of data of unit variance, that stands for none
# Of pictures that are others when mirrored: sides, directions, ways to turn, the moon, clocks, what is written.
WORDS = """
left right leftward rightward leftwards rightwards lefthand righthand east west eastern western eastward
westward eastwards westwards northeast northwest southeast southwest clockwise anticlockwise
counterclockwise waxing waning quarter clock letter letters digit digits numeral numerals links rechts linke
rechte linker rechter linken rechten ost osten westen uhr buchstabe ziffer gauche droite ouest lettre
chiffre izquierda derecha izquierdo derecho oeste letra cifra sinistra destra esquerda direita
"""
SIDES = set(WORDS.split())
LETTERS = set("bcfghjknpqrvwxz")  # alone; the others stand in sentences, too ("a", "y", "it's")
SIGNS = "左右"


def tells_sides(words: Iterable[str]) -> bool:
    """Are there words which a mirrored picture would no longer be told by? Digits and letters are read off pictures."""
    return any(
        word in SIDES or word in LETTERS or any(sign.isdigit() or sign in SIGNS for sign in word) for word in words
    )


@dataclass
class Config:
    network: Network = field(default_factory=lambda: Network(width=32, depth=1, activation="silu"))
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(kind="adamw", rate=3e-3, betas=(0.9, 0.98), weight_decay=0.1, stay=0.3)
    )
    text: str = "words"  # captions, by a vocabulary of their own, or wordllama, minilm, a folder, hub:OWNER/NAME
    embedding: int = 128  # width of the common space
    reading: int = 64  # width of the text tower,
    layers: int = 1  # and how deep it is
    loss: Literal["softmax", "sigmoid"] = "softmax"
    augment: float = 0.5  # probability of each: another brightness and contrast, shifted, a part cut out
    flip: bool = False  # also mirrored: not where captions tell sides, or letters and digits
    forget: float = 0.1  # share of a caption's tokens that are not read in training
    noise_aware: bool = False
    level_mean: float = -0.51  # of ln s in training, as diffusion draws it
    level_deviation: float = 1.2


class Clip(Model, Encodes, Matches):
    Config = Config
    presets = {"noise-aware": {"noise_aware": True}}
    about = {"noise-aware": "Sees pictures under noise of a level that it is told, as `diffusion:clip-guided` needs."}
    accepts = (Continuous,)
    needs_grid = True
    kinds = ("conv",)
    needs_captions = True
    couples_batch = True
    hunger = 2.0

    def __init__(self, config: Config, spaces: dict[str, Space], start: Model | None = None):
        super().__init__()
        words = next((space for space in spaces.values() if isinstance(space, Words)), None)
        if words is None:
            raise InputError("model 'clip' learns from examples with captions; these data have none")
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        self.name = next(name for name, space in spaces.items() if space is words)
        space, width = spaces["x"], config.embedding
        self.level, self.sees_noise = None, config.noise_aware
        if config.noise_aware:
            self.level = nn.Sequential(initialise(nn.Linear(64, width)), nn.SiLU(), initialise(nn.Linear(width, width)))
        self.seeing = Down(space.width, width, space.grid, config.network, condition=width if config.noise_aware else 0)
        self.reading = TextTower(words.count, words.shape[1], config.reading, config.layers, vectors=words.vectors)
        self.said = initialise(nn.Linear(config.reading, width))
        # The logit of what cosines are multiplied by, as a share of its limit: 1 / 0.07 at the start.
        self.sharpness = nn.Parameter(torch.tensor(-1.79))
        self.shift = nn.Parameter(torch.tensor(-10.0 if config.loss == "sigmoid" else 0.0))

    @classmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        number = SIZES.index(size)
        patch, levels = resolutions(spaces["x"].grid, 8, 32)
        words = next((space for space in spaces.values() if isinstance(space, Words)), None)
        return {
            "network.patch": patch,
            "network.width": (24, 32, 48, 64, 96)[number],
            "network.multipliers": (1, 2, 4, 4)[:levels],
            "network.depth": 1 if number < 2 else 2,
            "reading": (64, 64, 96, 128, 192)[number],
            "layers": 1 if number < 2 else 2,
            "flip": words is not None and len(spaces["x"].grid) == 2 and not tells_sides(words.known),
            "optimizer.batch": 32 if count < 500 else 64 if count < 2000 else 128 if count < 20_000 else 256,
        }

    def groups(self) -> dict[str, list[nn.Parameter]]:
        still = {id(self.shift)} if self.config.loss == "softmax" else set()  # it moves all alike: nothing to learn
        return {"model": [p for p in self.parameters() if p.requires_grad and id(p) not in still]}

    @property
    def scale(self) -> Tensor:
        return SHARPEST * torch.sigmoid(wide(self.sharpness))

    # --- the two towers ---

    def images(self, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        if self.level is None:
            if sigma is not None:
                raise InputError("this clip has not learned to see noise: train it with --model clip:noise-aware")
            return functional.normalize(wide(self.seeing(x)), dim=1)
        sigma = x.new_full((len(x),), CLEAN) if sigma is None else sigma.clamp(min=CLEAN)
        told = self.level(sinusoids(sigma.log() / 4, 64).to(self.sharpness.dtype))
        seen = self.seeing((x * expand((1 + sigma**2).rsqrt(), x)).to(self.sharpness.dtype), functional.silu(told))
        return functional.normalize(wide(seen), dim=1)

    def texts(self, captions: Tensor, forgotten: Tensor | None = None) -> Tensor:
        return functional.normalize(wide(self.said(self.reading(captions[:, 0].long(), forgotten)[1])), dim=1)

    # --- training ---

    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        config, noise, captions = self.config, batch.noise, batch.raw[self.name]
        here = batch.present[self.name] & Words.mask(captions).any(1)
        x = batch.embedded(self.space)
        if config.flip:
            x = torch.where(expand(noise.uniform() < 0.5, x), x.flip(-1), x)
        if config.augment:
            x = augment(x, noise, config.augment)
        sigma = None
        if config.noise_aware:
            z = torch.special.ndtri(noise.spread().to(x.dtype))
            sigma = log_normal_sigma(z, mean=config.level_mean, deviation=config.level_deviation)
            x = x + expand(sigma, x) * noise.normal(*x.shape[1:]).to(x.dtype)
        forgotten = noise.uniform(*captions.shape[1:])[:, 0] < config.forget if config.forget else None
        every, own = batch.gather, slice(batch.place, batch.place + len(batch))
        cosines = every(self.images(x, sigma)) @ every(self.texts(captions, forgotten)).T
        captions, here = every(captions), every(here)
        same = (captions == captions.transpose(0, 1)).all(2)
        matching = matching_softmax if config.loss == "softmax" else matching_sigmoid
        error = matching(self.scale * cosines + self.shift, same, here)[own]
        with torch.no_grad():
            hit = same.gather(1, cosines.masked_fill(~here, -2.0).argmax(1, keepdim=True))[:, 0] & here
        yield Turn("model", error.sum(), len(batch), {"error": error.sum().detach(), "found": hit[own].sum()})

    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        return self.images(batch.embedded(self.space))
