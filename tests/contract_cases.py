"""Toy data in every kind of Space: small enough to learn by heart in seconds, with labels, holes and padding."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trilemma.batches import Arrays, Batch, Request
from trilemma.config import Optimizer, Training
from trilemma.impressions import GUIDE, Impression
from trilemma.maths.noise import Noise
from trilemma.mixed import Mixed
from trilemma.models.contract import Model, configure, find, model_files, sets_of
from trilemma.spaces import Categorical, Space, fit_continuous
from trilemma.training.engine import Engine
from trilemma.training.loop import Loop
from trilemma.words import Words

COUNT = 8  # examples to learn by heart
NARROW = {"width": 16, "depth": 1}  # networks of the toy models; those on vectors stay at their own small width


@dataclass
class Case:
    """One toy data set: its Spaces, its examples, and which of their elements count."""

    name: str
    spaces: dict[str, Space]
    data: Arrays

    @property
    def space(self) -> Space:
        return self.spaces["x"]

    def batch(self, *, seed: int = 0) -> Batch:
        return self.data.gather(np.arange(len(self.data)), seed=seed)


def _smooth(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """(COUNT, *shape) waves of a few frequencies: structure that networks of any kind can learn."""
    grid = np.meshgrid(*[np.linspace(0, 1, side) for side in shape[1:]], indexing="ij") if len(shape) > 1 else []
    x = np.empty((COUNT, *shape), dtype=np.float32)
    for number in range(COUNT):
        for channel in range(shape[0]):
            wave = generator.normal() * 0.7
            for axis in grid:
                wave = wave + np.cos(2 * np.pi * (axis * generator.uniform(0.3, 1.5) + generator.uniform()))
            x[number, channel] = wave
    return x


def _continuous(name: str, shape: tuple[int, ...], *, eight_bit: bool = False, holes: bool = False) -> Case:
    generator = np.random.default_rng(len(name))
    x = _smooth(shape, generator)
    limits: dict[str, Any] = {}
    if eight_bit:
        x = np.round(255 * (x - x.min()) / (x.max() - x.min())).astype(np.uint8)
        limits = {"low": 0, "high": 255, "levels": 256}
    # Few classes and a gap among the labels: example 3's is not known.
    labels = (np.arange(COUNT) % 2).astype(np.int64)[:, None]
    present = np.arange(COUNT) != 3
    observed = None
    if holes:
        observed = np.ones_like(x, dtype=bool)
        observed[::2, 0, 3:5] = False
    spaces = {"x": fit_continuous(x, **limits), "label": Categorical((1,), 2)}
    return Case(name, spaces, Arrays(x, {"label": labels}, {"label": present}, observed=observed))


def _tokens() -> Case:
    generator = np.random.default_rng(5)
    x = generator.integers(0, 5, size=(COUNT, 1, 6))
    valid = np.ones((COUNT, 1, 6), dtype=bool)
    valid[1::2, 0, 4:] = False  # short sentences, padded
    return Case("tokens", {"x": Categorical((1, 6), 5)}, Arrays(x.astype(np.int64), valid=valid))


def _table() -> Case:
    """Number; number with gaps; category of 3; category of 2 with gaps."""
    generator = np.random.default_rng(7)
    x = np.stack(
        [
            generator.normal(40, 12, COUNT),
            generator.normal(-2, 0.1, COUNT),
            generator.integers(0, 3, COUNT),
            generator.integers(0, 2, COUNT),
        ],
        1,
    ).astype(np.float32)
    x[2, 1] = x[5, 1] = x[1, 3] = x[6, 3] = np.nan
    mean, deviation = torch.from_numpy(np.nanmean(x, 0)), torch.from_numpy(np.nanstd(x, 0))
    mean[2:], deviation[2:] = 0, 1
    space = Mixed([0, 0, 3, 2], [False, True, False, True], mean=mean, deviation=deviation)
    observed = np.ones_like(x, dtype=bool)
    observed[4, 0] = observed[7, 2] = False  # not known whether there is a value, unlike a gap
    return Case("table", {"x": space}, Arrays(x, observed=observed))


def _shifted(name: str, *, paired: bool, more: bool = True) -> Case:
    """Each example is its source with the signs turned and one channel more: what a translator can learn in seconds."""
    generator = np.random.default_rng(11)
    source = _smooth((1, 9, 8), generator)
    x = np.concatenate([-source, 0.5 * source + 1], 1) if more else -source
    if paired:
        spaces: dict[str, Space] = {"x": fit_continuous(x), "source": fit_continuous(source)}
        return Case(name, spaces, Arrays(x, {"source": source}))
    source = source[:6]  # and fewer of them than of x
    return Case(name, {"x": fit_continuous(x), "other": fit_continuous(source)}, Arrays(x, other=source))


def with_captions(name: str, shape: tuple[int, ...] = (1, 10, 9)) -> Case:
    """Examples with captions: two of them alike, one without."""
    texts = ["red bird", "a blue bird", "red fish", "", "blue fish", "red bird", "a green tree", "tree, old"]
    x = _smooth((*shape,), np.random.default_rng(13))
    words = Words.fit([text for text in texts if text])
    told = {"caption": words.write(texts)}, {"caption": np.array([bool(text) for text in texts])}
    return Case(name, {"x": fit_continuous(x), "caption": words}, Arrays(x, *told))


def with_clip(name: str, shape: tuple[int, ...] = (1, 10, 9)) -> Case:
    """The same beside a CLIP that has learned nothing."""
    case = with_captions(name, shape)
    torch.manual_seed(0)
    config = configure("clip:noise-aware", case.spaces, size="xs", changes={"embedding": 16, "network.width": 8})
    matcher = find("clip")[0](config, copy.deepcopy(case.spaces))  # type: ignore[call-arg]
    return replace(case, spaces={**case.spaces, GUIDE: Impression(matcher, 16, made_by={})})


def cases() -> list[Case]:
    return [
        _continuous("vector", (3,)),
        _continuous("series", (2, 12), holes=True),
        _continuous("image", (1, 10, 9), eight_bit=True),
        _continuous("volume", (1, 4, 4, 4)),
        _tokens(),
        _table(),
        _shifted("pairs", paired=True),
        _shifted("unpaired", paired=False),
        with_captions("captions"),
        with_clip("impressions"),
    ]


CASES = {case.name: case for case in cases()}
ALIKE = _shifted("alike", paired=True, more=False)  # for the preset that needs as many channels in the source
STEERED = [
    ("stylegan:ada", "image"),
    ("stylegan:smooth", "image"),
    ("codec:vq", "image"),
]  # presets with state that losses move
IN_SHARDS = [("vae", "image"), ("bridge", "pairs"), ("masked", "tokens")]  # two networks; a U-Net; a transformer


def fits(model_class: type[Model], case: Case) -> bool:
    """Does a model of this class learn from such data?"""
    placed = bool(case.space.grid) or not model_class.needs_grid
    if "caption" in case.spaces and not hasattr(model_class.Config(), "text"):
        return False
    placed = placed and (GUIDE in case.spaces) == bool(getattr(model_class.Config(), "clip", ""))
    placed = placed and (not model_class.needs_captions or "caption" in case.spaces)
    return placed and isinstance(case.space, model_class.accepts) and sets_of(case.spaces) in model_class.sets


def accepted() -> list[tuple[str, str]]:
    """(model file, case) for every model that is there and every case that it accepts."""
    pairs = []
    for stem in model_files():
        model_class, _ = find(stem)
        pairs += [(stem, name) for name, case in CASES.items() if fits(model_class, case)]
    return pairs


def usual(name: str) -> Case:
    """The images that a preset is tried on; of translators those that it learns from, of others tokens."""
    if name == "bridge:source":
        return ALIKE
    model_class = find(name)[0]
    kinds = ("image", "pairs", "unpaired", "captions", "impressions", "tokens")
    return next(CASES[one] for one in kinds if fits(model_class, CASES[one]))


def settings(name: str, case: Case, **changes: Any) -> Any:
    """A tiny config: defaults of size xs, narrower, one batch of all examples, no dropout, no augmentation."""
    config = configure(name, case.spaces, size="xs", count=10_000)
    for part in ("network", "critic"):
        network = getattr(config, part, None)
        if network is not None and hasattr(network, "width"):
            network.dropout = 0.0
            if case.space.grid and network.kind == "conv":
                network.width, network.depth = NARROW["width"], NARROW["depth"]
    optimizer = getattr(config, "optimizer", None) or Optimizer()
    optimizer.batch, optimizer.warm_up, optimizer.weight_decay = COUNT, 0, 0.0
    for path, value in changes.items():
        owner, _, key = path.rpartition("__")
        setattr(getattr(config, owner) if owner else config, key, value)
    return config


def build(name: str, case: Case, config: Any = None, *, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model_class, _ = find(name)
    config = config if config is not None else settings(name, case)
    return model_class(config, copy.deepcopy(case.spaces))  # type: ignore[call-arg]


def loop(
    name: str,
    case: Case,
    *,
    steps: int = 10**6,
    dtype: str = "float32",
    config: Any = None,
    seed: int = 0,
    micro: int = 0,
    shard: bool = False,
) -> Loop:
    config = config if config is not None else settings(name, case)
    config.optimizer.micro = micro
    engine = Engine(dtype=dtype, device="cpu", shared=True)
    model = engine.place(build(name, case, config, seed=seed))
    training = Training(examples=steps * config.optimizer.batch, averages=(0.1,), average_every=1, shard=shard)
    return Loop(model, case.data, config.optimizer, training, engine, seed=seed)


def request(case: Case, count: int = 5, *, seed: int = 3, start: int = 0, **settings: Any) -> Request:
    """A request for samples start ... start + count - 1, with labels where the case has them."""
    index = np.arange(start, start + count)
    raw: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    if "label" in case.spaces:
        raw["label"] = torch.from_numpy(index % 2)[:, None].long()
        present["label"] = torch.ones(count, dtype=torch.bool)
    if "caption" in case.spaces:
        captions = np.asarray(case.data.conditions["caption"])
        raw["caption"] = torch.from_numpy(captions[index % len(captions)])
        present["caption"] = torch.ones(count, dtype=torch.bool)
    sources = case.data.conditions.get("source", case.data.other)
    if sources is not None:
        raw["source"] = torch.from_numpy(sources[index % len(sources)])
        present["source"] = torch.ones(count, dtype=torch.bool)
    return Request(Noise(seed, index), raw, present, **settings)


def randomise(model: torch.nn.Module, *, seed: int = 1, scale: float = 0.5) -> None:
    """Weights from our own generator, equal on every machine, none of them zero: fresh branches often start at zero."""
    with torch.no_grad():
        for number, (_, weight) in enumerate(sorted(model.named_parameters())):
            values = Noise(seed, np.array([number])).normal(weight.numel())[0].reshape(weight.shape)
            spread = scale / max(weight[0].numel() if weight.dim() > 1 else 25, 1) ** 0.5
            weight.copy_(values * spread)
