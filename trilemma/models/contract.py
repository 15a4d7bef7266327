"""The contract of a model: one method, one file in this folder, found by its file name.

A model sees Spaces, Batches and Requests; never files, images, runs or metrics. What it can do is its class header:
`class VAE(Model, Samples, Encodes, Decodes, Scores)`, and `isinstance` on these classes replaces every flag.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.batches import Batch, Options, Request
from trilemma.config import SIZES, assign
from trilemma.errors import InputError, unknown
from trilemma.maths.noise import Noise
from trilemma.mixed import Mixed
from trilemma.networks import perceptual
from trilemma.networks.layers import Kind
from trilemma.networks.transformer import transformer_settings
from trilemma.spaces import Continuous, Space
from trilemma.words import Words

LAYERS = 2**31  # number of the draw that layers' noise is, in a request: whatever was drawn before
MEAN_OF = 256  # codes that a mean style is the mean of


@dataclass
class Turn:
    """One backward pass for one group: `loss` is a sum over `weight` units (examples, unmasked tokens)."""

    group: str
    loss: Tensor
    weight: float
    logs: dict[str, Tensor] = field(default_factory=dict)  # detached sums over the same units
    shared: dict[str, Tensor] = field(default_factory=dict)  # such sums, of any shape: `Model.adjust` gets their means


@dataclass(frozen=True)
class Now:
    """The clock, in examples. Models branch on it and on their config only, never on data or rank."""

    step: int
    seen: int  # examples before this step
    total: int  # examples in the budget
    shortest: int = 0  # examples in the shortest budget that this training branches off to; 0: the budget itself

    @property
    def progress(self) -> float:
        return self.seen / max(self.total, 1)

    @property
    def rising(self) -> float:
        """`progress` for what rises at the start: that of the shortest training that is to come out of this one."""
        return self.seen / max(self.shortest or self.total, 1)


# What a model may learn from: one set; pairs, whose sources are the condition 'source' of x; two sets without pairs,
# the second one in the Space 'other' and as `batch.other`.
SETS = {
    "alone": "one set of examples",
    "paired": "pairs: two folders with equal file names, pictures of two halves (--set data.pairs=left), or "
    "--from-degradation",
    "unpaired": "two sets: DATA and DATA2",
}


class Model(nn.Module, ABC):
    """A method with its networks. `losses` is a generator: the loop steps the group between two yields."""

    Config: ClassVar[type]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # name -> dotted settings, laid over the defaults
    about: ClassVar[dict[str, str]] = {}  # name of a preset -> what it is, a sentence for docs/presets.md
    accepts: ClassVar[tuple[type[Space], ...]]
    needs_grid: ClassVar[bool] = False  # True: images, series ...; nothing without a place for each value
    needs_captions: ClassVar[bool] = False  # True: learns nothing where the Spaces have no captions (Words)
    kinds: ClassVar[tuple[str, ...]] = ("mlp", "conv")  # of networks that it can be built of on grids; rows have mlps
    finds_clusters: ClassVar[bool] = False  # True: its config has `clusters`, a condition for data without labels
    hunger: ClassVar[float] = 1.0  # how much longer than others it trains before a larger network pays
    average: ClassVar[float] = 0.1  # relative deviation of the weights' average that is taken where none is chosen
    learns_impressions: ClassVar[bool] = False  # True: its weights know what one CLIP sees, and that of no other
    couples_batch: ClassVar[bool] = False  # True: losses depend on which examples share a batch (`Batch.gather`)
    sets: ClassVar[tuple[str, ...]] = ("alone",)  # of SETS, what it learns from; the first one that fits is taken

    spaces: nn.ModuleDict

    @property
    def space(self) -> Space:
        """The Space of x."""
        space = self.spaces["x"]
        assert isinstance(space, Space)
        return space

    @classmethod
    @abstractmethod
    def adapt(cls, spaces: dict[str, Space], size: str, count: int) -> dict[str, Any]:
        """Dotted settings for this data: network kind and widths for the size, augmentation for `count` examples."""

    @abstractmethod
    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Named parameter groups, one optimizer each."""

    def compilable(self) -> tuple[nn.Module, ...]:
        """Networks that a compiler may take: their inputs' shapes stay, and nothing is differentiated through twice.

        These can be trained in shards as well: nothing but their `forward` uses their weights.
        """
        return ()

    @abstractmethod
    def losses(self, batch: Batch, now: Now) -> Iterator[Turn]:
        """Yield the turns of one step; of graphs, only what the next turn goes on with lives across a yield."""

    def adjust(self, means: dict[str, Tensor], now: Now) -> None:
        """After a turn with `shared`: its means over the whole batch, all processes' and micro-batches' parts of it.

        What a model steers by its losses (a probability, a running mean, a codebook) moves here, into buffers: once a
        turn, and equally in every process.
        """

    def of_places(self, start: int, stop: int) -> dict[str, slice]:
        """Buffers with rows for each place in a batch, such as pools: which rows are those of places [start, stop).

        A process writes those of its own places; a state that is saved has them all.
        """
        return {}

    def forget(self) -> None:
        """Blank what only training needs and what holds examples, such as pools: final weights are handed on."""
        return

    def fit(self, batches: Iterable[Batch], noise: Noise) -> None:
        """After training (and before a preview): fit what sampling needs on training examples, into buffers."""
        return


class Samples(ABC):
    @abstractmethod
    def sample(self, request: Request) -> Tensor:
        """Raw examples (B, channels, *grid)."""

    def choices(self) -> list[list[Options]]:
        """Questions of how to sample, asked one after the other on the choose split: answers each, the default first.

        An answer names its own settings only; those chosen before stay. The most rewarding question comes first.
        """
        return []

    @abstractmethod
    def calls(self, options: Options) -> int:
        """Network calls for one sample; guidance counts twice."""


class Encodes(ABC):
    """Tells of an example by few numbers."""

    @abstractmethod
    def encode(self, batch: Batch, *, random: bool = False) -> Tensor:
        """(B, D) codes; with `random`, one draw of the posterior by the batch's noise, where there is one."""


class Draws(ABC):
    """Makes x of codes that have a prior, whatever their size: to go from one example to another takes no more."""

    @abstractmethod
    def decode(self, codes: Tensor, request: Request) -> Tensor:
        """(B, D) codes -> raw x, under the request's conditions."""

    @abstractmethod
    def draw(self, request: Request) -> Tensor:
        """(B, D) codes from the prior: `sample` decodes them."""


class Decodes(Draws):
    """Its codes are few numbers, each of which has a part in what x is."""


class Inverts(Draws):
    """Its codes are as many numbers as x has, the noise that x is made of: nothing is squeezed or summed up in them."""

    @abstractmethod
    def invert(self, x: Tensor, request: Request) -> Tensor:
        """Raw x (B, channels, *grid) -> codes (B, D) of which `decode` makes x again, nearly, under the same request.

        Source: Song et al. 2021, "Denoising diffusion implicit models", section 5.4.
        """


class Styles(Decodes):
    """Codes become styles, one for each layer, and styles become examples: what control by styles stands on."""

    @abstractmethod
    def style(self, codes: Tensor, request: Request) -> Tensor:
        """(B, D) codes -> (B, layers, style) styles under the request's conditions, equal in all layers."""

    @abstractmethod
    def synthesise(self, styles: Tensor, noise: Tensor | None) -> Tensor:
        """(B, layers, style) -> embedded x (B, width, *grid), differentiable; noise of all layers, None: without."""

    @abstractmethod
    def noise_sides(self) -> list[tuple[int, ...]]:
        """The grid of each layer's noise, in the order in which they lie in `layer_noise`; of none, an empty list."""

    @abstractmethod
    def affines(self) -> list[Tensor]:
        """Of each layer the matrix (inputs, style) by which the style acts on it."""

    def layer_noise(self, noise: Noise, seed: int | None = None) -> Tensor:
        """(B, N) the noise of all layers, a function of (seed, index): a draw of its own, whatever was drawn before.

        seed: another one than the rest of the example has.
        """
        own, count = Noise(noise.seed if seed is None else seed, noise.index, noise.device, draw=LAYERS), 0
        for sides in self.noise_sides():
            count += math.prod(sides)
        return own.normal(count) if count else torch.zeros(len(noise), 0, device=noise.device)

    def mean_style(self, request: Request) -> Tensor:
        """(B, layers, style) mean styles under each of the request's conditions, over the same `MEAN_OF` codes."""
        means: dict[tuple[float, ...], Tensor] = {}
        rows: list[Tensor] = []
        for place in range(len(request)):
            raw, present = (
                {name: value[place : place + 1].expand(MEAN_OF, *value.shape[1:]) for name, value in one.items()}
                for one in (request.raw, request.present)
            )
            key = tuple(v for one in (*raw.values(), *present.values()) for v in one[0].flatten().tolist())
            if key not in means:
                many = Request(Noise(0, np.arange(MEAN_OF), request.noise.device), raw, present)
                means[key] = self.style(self.draw(many), many).mean(0)
            rows.append(means[key])
        return torch.stack(rows)

    def truncated(self, codes: Tensor, request: Request) -> Tensor:
        """`style`, brought towards the mean as the request's options ask (Karras et al. 2019, section 3.1 and B)."""
        styles, psi = self.style(codes, request), request.options.truncation
        return styles if psi in (None, 1) else torch.lerp(self.mean_style(request), styles, psi)


class Denoises(ABC):
    @abstractmethod
    def denoise(self, noisy: Tensor, sigma: Tensor, request: Request) -> Tensor:
        """(B, width, *grid) embedded data with Gaussian noise of deviation sigma (B,) -> the estimate without it."""


class Fills(ABC):
    @abstractmethod
    def can_fill(self) -> bool:
        """Was this very model trained so that it can?"""

    @abstractmethod
    def fill(self, batch: Batch, request: Request, *, complete: bool) -> Tensor:
        """Raw x: what the batch has observed as it is, and the rest drawn from the model given that.

        complete: nothing that is filled in is a gap again.
        """


class Redraws(ABC):
    """Makes another example out of one: noise takes part of it away, and the model draws that anew."""

    @abstractmethod
    def redraw(self, x: Tensor, request: Request, *, strength: float) -> Tensor:
        """Raw x (B, channels, *grid) -> raw x under the request's conditions; strength 0 leaves it, 1 leaves nothing.

        Source: Meng et al. 2022, "SDEdit".
        """


class Surprises(ABC):
    @abstractmethod
    def surprise(self, batch: Batch) -> Tensor:
        """How badly each element of x, (B, channels, *grid), goes with the others: larger is stranger. Of one element,
        over examples, the order has a meaning; what is not observed is 0. Of codes, each of theirs."""


class Translates:
    """Makes x out of a source: `sample` takes it from the request, raw['source'], in the Space 'source' or 'other'."""

    spaces: nn.ModuleDict

    def can_translate(self) -> bool:
        """Was this very model trained on sources?"""
        return sets_of(self.spaces) != "alone"  # type: ignore[arg-type]

    def translate(self, request: Request, *, back: bool = False) -> Tensor:
        """Raw x made of raw['source'] (B, channels, *grid); with `back`, a raw source made of an x in raw['source'].

        Raises:
            InputError: `back` of a model that has learned one direction only.
        """
        if back:
            raise InputError("this model has learned one direction; train another one with DATA and DATA2 exchanged")
        assert isinstance(self, Samples)
        return self.sample(request)

    def source_of(self, request: Request) -> Tensor:
        """raw['source'] of a request that has one; InputError where somebody asked for samples of nothing."""
        if "source" not in request.raw:
            raise InputError("this model makes x out of a source: use translate and give it one")
        return request.raw["source"]


class Scores(ABC):
    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """(B,) log-likelihood (or a lower bound) in nats per example, as a density of the raw units of x."""


class Matches(ABC):
    """Puts examples and their captions into one space, where those that belong together point the same way."""

    scale: Any  # what a cosine is multiplied by to become a logit: the inverse of the temperature, a tensor ()
    sees_noise: bool  # has it learned to: may `images` be told a sigma?

    @abstractmethod
    def images(self, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        """(B, E) unit vectors of embedded x (B, width, *grid), differentiable; sigma (B,): x is under noise of it.

        Raises:
            InputError: `sigma` of a model that has not learned to see noise.
        """

    @abstractmethod
    def texts(self, captions: Tensor) -> Tensor:
        """(B, E) unit vectors of raw captions (B, 1, length)."""


class Rates(ABC):
    """Its codes cost bits: a figure beside that of how well x comes back, not something to do."""

    @abstractmethod
    def rate(self, batch: Batch) -> Tensor:
        """(B,) bits that the codes of x cost: KL(q(z|x) || prior) of Gaussian ones, log2 of the choices of others."""


class Criticizes(ABC):
    @abstractmethod
    def criticize(self, batch: Batch) -> Tensor:
        """(B,) how real x looks to the model; larger is more real."""


CAPABILITIES = (
    Samples,
    Encodes,
    Decodes,
    Inverts,
    Styles,
    Denoises,
    Fills,
    Redraws,
    Translates,
    Scores,
    Surprises,
    Criticizes,
    Matches,
)
TRAINED = (Samples, Matches)  # what `train` makes; others are trained where they are needed


ALIASES = {"diffusion:unclip": "unclip"}  # other names for a model: it is diffusion twice, in a file of its own


def model_files() -> list[str]:
    """Names of the model files, by looking into this folder: 'autoencoder', 'diffusion', ..."""
    folder = str(Path(__file__).parent)
    return sorted(m.name for m in pkgutil.iter_modules([folder]) if m.name not in ("contract",))


def find(name: str) -> tuple[type[Model], str]:
    """'gan:wasserstein' -> (GAN, 'wasserstein'). A path to a .py file with one Model in it works too."""
    name = ALIASES.get(name, name)
    if name.endswith(".py") or ".py:" in name:
        file, _, preset = name.partition(".py")
        path, preset = Path(file + ".py"), preset.removeprefix(":")
        spec = importlib.util.spec_from_file_location(f"trilemma_model_{path.stem}", path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise InputError(f"model file {path} does not exist")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # dataclasses look up their module by name
        spec.loader.exec_module(module)
    else:
        stem, _, preset = name.partition(":")
        if stem not in model_files():
            raise unknown("model", name, known_models())
        module = importlib.import_module(f"trilemma.models.{stem}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise InputError(f"model file {module.__file__} must define exactly one Model; it defines {len(found)}")
    if preset and preset not in found[0].presets:
        raise unknown("model", name, [f"{name.partition(':')[0]}:{p}" for p in found[0].presets])
    return found[0], preset


def known_models(kinds: type | tuple[type, ...] = TRAINED) -> list[str]:
    """Every name that `--model` takes, presets included; of models with these capabilities."""
    names = []
    for stem in model_files():
        model, _ = find(stem)
        if not issubclass(model, kinds):
            continue
        names += [stem, *(f"{stem}:{preset}" for preset in model.presets)]
    return names


def configure(
    name: str, spaces: dict[str, Space], *, size: str = "s", count: int = 10_000, changes: dict[str, Any] | None = None
) -> Any:
    """The full config of a model for this data: defaults, then data and size, then preset, then the user's changes."""
    model, preset = find(name)
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    if not isinstance(spaces["x"], model.accepts):
        kinds = ", ".join(kind.__name__ for kind in model.accepts)
        raise InputError(f"model {name!r} needs {kinds} data; this data is {type(spaces['x']).__name__}")
    if model.needs_grid and not spaces["x"].grid:
        raise InputError(f"model {name!r} needs data on a grid, such as images or series; these data are single rows")
    fitting_sets(name, spaces)
    if model.needs_captions and not any(isinstance(space, Words) for space in spaces.values()):
        raise InputError(f"model {name!r} learns from examples with captions; these data have none")
    config = model.Config()
    asked = {**model.presets.get(preset, {}), **(changes or {})}
    adapted = {**model.adapt(spaces, size, count), **_kind_of_network(name, asked, spaces["x"], size)}
    for path, value in {**adapted, **asked}.items():
        assign(config, path, value, setting=path if "." in path else f"model.{path}")
    if getattr(config, "perceptual", 0.0):  # here, not in the model: a run is used without the network
        perceptual.check(spaces["x"])
    return config


def _kind_of_network(name: str, asked: dict[str, Any], space: Space, size: str) -> dict[str, Any]:
    """Settings that go with the kind of network that is asked for; `adapt` knows those of its own kind only.

    Raises:
        InputError: a kind of which the model cannot be built, or not for this data.
    """
    kinds = find(name)[0].kinds
    for key, kind in asked.items():
        if not (kind in get_args(Kind) and (key.endswith(".kind") or "." not in key)):
            continue
        if not space.grid and kind != "mlp":
            raise InputError(f"setting {key}={kind}: needs data on a grid; these are single rows: take mlp")
        if space.grid and kind not in kinds:
            raise InputError(f"setting {key}={kind}: {name} is built of {' or '.join(kinds)}")
    chosen = (asked.get("network.kind"), asked.get("network"))  # the latter is short for it
    return transformer_settings(space.grid, size) if "transformer" in chosen else {}


def sets_of(spaces: dict[str, Space]) -> str:
    """Which of SETS the data of these Spaces are."""
    return "paired" if "source" in spaces else "unpaired" if "other" in spaces else "alone"


def fitting_sets(name: str, spaces: dict[str, Space]) -> None:
    """InputError where a model cannot learn from what is there: from pairs, from two sets, from one."""
    model, found = find(name)[0], sets_of(spaces)
    if found in model.sets:
        return
    able = [stem for stem in model_files() if found in find(stem)[0].sets and issubclass(find(stem)[0], Samples)]
    raise InputError(
        f"model {name!r} learns from {' or '.join(SETS[one] for one in model.sets)}; these data are "
        f"{found}: models that fit: {', '.join(able)}"
    )


def default_clusters(spaces: dict[str, Space], count: int, *, most: int) -> int:
    """A `clusters` setting: 500 examples each on average; none beside labels, off grids, for few examples."""
    if not spaces["x"].grid or set(spaces) - {"x"} or count < 5000:
        return 0
    return min(count // 500, most)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Build a graph through these modules without gradients for their weights. Never `yield` a Turn inside."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def log_volume(space: Space) -> float:
    """sum of log(d raw / d embedded) over one example, nats: log p(raw) = log p(embedded) - this."""
    if isinstance(space, Continuous):
        return float(space.deviation.double().log().sum()) * math.prod(space.grid)
    if isinstance(space, Mixed):
        numbers = torch.tensor([count == 0 for count in space.columns])
        return float(space.deviation.double().cpu().log()[numbers].sum())
    return 0.0
