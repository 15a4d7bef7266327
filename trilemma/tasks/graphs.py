"""What a run is used for as functions of tensors alone, by its capabilities: what `export` writes.

Every random number of a model comes through its request: here each is an input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from trilemma.batches import Batch, Options, Request
from trilemma.borrowed import Encoder
from trilemma.errors import InputError
from trilemma.impressions import GUIDE
from trilemma.maths.noise import Noise
from trilemma.mixed import Attributes, Mixed
from trilemma.models.contract import Decodes, Denoises, Encodes, Model, Styles, Translates
from trilemma.numbered import Clusters
from trilemma.spaces import Categorical, Continuous, Space
from trilemma.words import Words

UNROLLED = 8  # steps of a translation that become one graph; where there are more, the network of one step does


@dataclass
class Port:
    """An input of a graph, (batch, *shape) float32, or whole numbers where its examples are."""

    name: str
    shape: tuple[int, ...]
    values: str  # units, range and meaning
    examples: Callable[[int, torch.Generator], Tensor]


class Fed(Noise):
    """Noise that is handed in: each draw takes the next numbers. Without them it draws any, and counts."""

    def __init__(self, count: int, given: dict[str, Tensor] | None = None):
        super().__init__(0, np.arange(count))
        self.given, self.counts = given, {"noise": 0, "uniform": 0}

    def _next(self, name: str, shape: tuple[int, ...]) -> Tensor:
        start, many = self.counts[name], math.prod(shape)
        self.counts[name] += many
        if self.given is None:
            generator = torch.Generator().manual_seed(start)
            return {"noise": torch.randn, "uniform": torch.rand}[name](len(self), *shape, generator=generator)
        part = self.given[name][:, start : start + many]
        return part.unflatten(1, shape) if shape else part[:, 0]

    def normal(self, *shape: int) -> Tensor:
        return self._next("noise", shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._next("uniform", shape)

    def integers(self, below: int, *shape: int) -> Tensor:
        return (self.uniform(*shape) * below).long()

    def spread(self) -> Tensor:
        return self.uniform()


@dataclass
class Graph:
    """One file: `call` makes the output of the inputs by name, and of noise."""

    name: str
    does: str
    inputs: list[Port]
    output: str
    gives: str
    call: Callable[[dict[str, Tensor], Fed], Tensor]
    unused: set[str] = field(default_factory=set)  # inputs that the file does not have: nothing depends on them
    check: dict[str, Any] | None = None

    def values(self, count: int, *, seed: int = 0) -> dict[str, Tensor]:
        """Examples of all inputs."""
        generator = torch.Generator().manual_seed(seed)
        return {port.name: port.examples(count, generator) for port in self.inputs}

    def with_noise(self) -> Graph:
        """The same with inputs for what `call` draws."""
        noise = Fed(1)
        self.call(self.values(1), noise)
        told = {"noise": "standard normal numbers, other ones for each draw", "uniform": "uniform numbers in (0, 1)"}
        ports = [_drawn(name, many, told[name]) for name, many in noise.counts.items() if many]
        self.inputs = [*self.inputs, *ports]
        return self

    def run(self, values: dict[str, Tensor]) -> Tensor:
        """What PyTorch makes of such values."""
        count = len(next(iter(values.values())))
        return self.call(values, Fed(count, values))


def _drawn(name: str, many: int, told: str) -> Port:
    make = torch.rand if name == "uniform" else torch.randn
    return Port(name, (many,), told, lambda count, generator: make(count, many, generator=generator))


def _says(space: Space) -> str:
    """What raw values of a Space are."""
    space = space.outer
    if isinstance(space, Mixed):
        return (
            "a row of the table: numbers as they are, a category by its place in the list of its values, NaN for an "
            "empty cell; the columns are under 'modality'"
        )
    if isinstance(space, Continuous) and space.low is not None and space.high is not None:
        levels = f" in {space.levels} levels" if space.levels else ""
        return f"raw values of the data, from {space.low:g} to {space.high:g}{levels}"
    if isinstance(space, Continuous):
        return "raw values of the data; how they came from the files is under 'modality'"
    return f"tokens, whole numbers from 0 to {space.width - 1}"


def _raw(name: str, space: Space) -> Port:
    """Raw examples of a Space as an input."""
    outer = space.outer

    def make(count: int, generator: torch.Generator) -> Tensor:
        return outer.decode(torch.randn(count, outer.width, *outer.grid, generator=generator))

    return Port(name, outer.shape, _says(space), make)


@dataclass
class Conditions:
    """What a model is told beside x: an input for each."""

    spaces: dict[str, Space]
    shares: dict[str, int] = field(default_factory=dict)  # of those with values: how many
    ports: list[Port] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, space in self.spaces.items():
            if name in ("x", "other", "source", GUIDE):
                continue
            if isinstance(space, Words):
                words = "tokens of a caption as `Words.write` gives them (vocabulary: config.json), as numbers; "
                self.ports.append(Port(name, space.shape, words + "all 0: not told", self._captions(space)))
                continue
            if isinstance(space, Attributes):
                words = "a row of attributes, see data.attributes in config.json; NaN: not told"
                self.ports.append(Port(name, space.shape, words, self._examples(space)))
                continue
            if isinstance(space, (Categorical, Clusters)):
                self.shares[name] = space.width
                told = "share of each value, as 0 0 1 0: between two where they are mixed; all 0: not told"
            else:
                told = "raw numbers; NaN: not told"
            self.ports.append(Port(name, (space.width,), told, self._examples(space)))

    @staticmethod
    def _examples(space: Space) -> Callable[[int, torch.Generator], Tensor]:
        if isinstance(space, Attributes):
            return lambda count, generator: space.decode(torch.randn(count, space.width, generator=generator))
        if not isinstance(space, (Categorical, Clusters)):
            return lambda count, generator: torch.randn(count, space.width, generator=generator)
        # The last of several is told nothing.
        return lambda count, generator: (
            torch.eye(space.width).repeat(count, 1)[:count]
            * ((torch.arange(count) < max(count - 1, 1)).float().unsqueeze(1))
        )

    @staticmethod
    def _captions(space: Words) -> Callable[[int, torch.Generator], Tensor]:
        def make(count: int, generator: torch.Generator) -> Tensor:
            return torch.randint(1, space.count, (count, *space.shape), generator=generator).float()

        return make

    def told(self, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`raw` and `present` of a request."""
        raw, present = {}, {}
        for port in self.ports:
            value = values[port.name]
            if isinstance(self.spaces[port.name], Words):
                present[port.name], raw[port.name] = (value > 0).flatten(1).any(1), value.long()
                continue
            if isinstance(self.spaces[port.name], Attributes):
                present[port.name], raw[port.name] = ~value.isnan().all(1), value
                continue
            is_share = port.name in self.shares
            present[port.name] = value.sum(1) > 0.5 if is_share else ~value.isnan().any(1)
            raw[port.name] = value if is_share else value.nan_to_num(0.0)
        return raw, present

    def chosen(self, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`told`, but the likeliest value (B, 1) instead of shares: what mixtures of a prior are chosen by."""
        raw, present = self.told(values)
        return {n: v.argmax(1, keepdim=True) if n in self.shares else v for n, v in raw.items()}, present


# --- the graphs of each capability ------------------------------------------------------------------------------------


def graphs(model: Model, options: Options) -> tuple[list[Graph], list[str]]:
    """All graphs of a model, and notes on their use.

    Raises:
        InputError: a model with none of the capabilities that have one; one that reads by a text encoder.
    """
    for space in model.spaces.values():
        if isinstance(space, Words) and isinstance(space.vectors, Encoder):
            raise InputError(
                f"export: this run reads by the text encoder {space.vectors.name}, which no file of it can hold; train "
                "one with text=words or wordllama"
            )
    conditions = Conditions({name: cast(Space, space) for name, space in model.spaces.items()})
    if isinstance(model, Translates) and model.can_translate():
        if not isinstance(model, Denoises) or _steps(model, options) <= UNROLLED:
            return _translations(model, conditions, options), [
                "A larger picture is translated in tiles of the size of 'source' that overlap by half, blended."
            ]
        return _denoiser(model, conditions)
    found: list[Graph] = []
    notes: list[str] = []
    if isinstance(model, Decodes):
        found += [*_prior(model, conditions, options), *_decoders(model, conditions)]
    if isinstance(model, Encodes):
        found.append(_encoder(model, conditions))
        if conditions.shares:
            notes.append("Codes of an example whose label nobody knows: take the one under which it is decoded best.")
    if isinstance(model, Denoises):
        more, told = _denoiser(model, conditions)
        found, notes = [*found, *more], [*notes, *told]
    if not found:
        raise InputError("export: this model neither decodes, encodes, denoises nor translates: nothing to export")
    return found, notes


def _steps(model: Model, options: Options) -> int:
    return int(cast(Any, model).calls(options))


def _translations(model: Model, conditions: Conditions, options: Options) -> list[Graph]:
    source = conditions.spaces.get("source") or conditions.spaces["other"]
    x = model.space

    def way(back: bool) -> Graph:
        def call(values: dict[str, Tensor], noise: Fed) -> Tensor:
            raw, present = conditions.told(values)
            raw["source"] = values["source"]
            present["source"] = torch.ones_like(values["source"].flatten(1)[:, 0], dtype=torch.bool)
            return cast(Translates, model).translate(Request(noise, raw, present, options), back=back)

        one, other = (x, source) if back else (source, x)
        name, does = ("back", "the second side -> the first one") if back else ("translate", "source -> target")
        return Graph(name, does, [_raw("source", one), *conditions.ports], "x", _says(other), call).with_noise()

    found = [way(False)]
    with suppress(InputError):  # where one direction is all that it has learned
        found.append(way(True))
    return found


def _prior(model: Model, conditions: Conditions, options: Options) -> list[Graph]:
    """Codes of noise, where they are not just that noise."""
    decodes = cast(Decodes, model)

    def call(values: dict[str, Tensor], noise: Fed) -> Tensor:
        return decodes.draw(Request(noise, *conditions.chosen(values), options))

    graph = Graph("prior", "noise -> codes, as those of samples are", conditions.ports, "codes", "codes", call)
    values, first, again = graph.values(1), Fed(1), Fed(1)
    codes = call(values, first)
    if not first.counts["uniform"] and torch.equal(codes, again.normal(*codes.shape[1:])):
        return []
    return [graph.with_noise()]


def _codes(model: Model, conditions: Conditions) -> Port:
    noise = Fed(1)
    request = Request(noise, *conditions.chosen({p.name: p.examples(1, torch.Generator()) for p in conditions.ports}))
    codes = cast(Decodes, model).draw(request)
    plain = not noise.counts["uniform"] and torch.equal(codes, Fed(1).normal(*codes.shape[1:]))
    port = _drawn("codes", codes.shape[1], "codes: standard normal numbers" if plain else "codes: see prior.onnx")
    return port


def _decoders(model: Model, conditions: Conditions) -> list[Graph]:
    decodes, codes, gives = cast(Decodes, model), _codes(model, conditions), _says(model.space)

    def decode(values: dict[str, Tensor], noise: Fed) -> Tensor:
        return decodes.decode(values["codes"], Request(noise, *conditions.told(values)))

    if not isinstance(model, Styles):
        return [Graph("decoder", "codes -> x", [codes, *conditions.ports], "x", gives, decode).with_noise()]
    truncation = _truncation(model, conditions)
    sides = [math.prod(side) for side in model.noise_sides()]
    layer = _drawn("noise", sum(sides), f"standard normal numbers for {len(sides)} layers; all 0: without noise")

    def style(values: dict[str, Tensor], noise: Fed) -> Tensor:
        styles = model.style(values["codes"], Request(noise, *conditions.told(values)))
        return truncation.applied(styles, values) if truncation else styles

    def synthesise(values: dict[str, Tensor], noise: Fed) -> Tensor:
        made = model.synthesise(values["styles"], values["noise"] if sides else None)
        return model.space.decode(made)

    def whole(values: dict[str, Tensor], noise: Fed) -> Tensor:
        return synthesise(values | {"styles": style(values, noise)}, noise)

    told = [codes, *conditions.ports, *([truncation.port] if truncation else [])]
    noisy = [layer] if sides else []
    example = style({port.name: port.examples(1, torch.Generator()) for port in told}, Fed(1))
    layers, width = example.shape[1:]
    styles = Port("styles", (layers, width), "a style for each layer, from coarse to fine; mapping.onnx makes them",
                  lambda count, generator: torch.randn(count, layers, width, generator=generator))  # fmt: skip
    return [
        Graph("decoder", "codes -> x: mapping and synthesis in one", [*told, *noisy], "x", gives, whole),
        Graph("mapping", "codes -> styles", told, "styles", styles.values, style),
        Graph("synthesis", "styles -> x", [styles, *noisy], "x", gives, synthesise),
    ]


@dataclass
class Truncation:
    """Styles brought towards the mean one of their label, by a table of these."""

    means: Tensor  # (values + 1, layers, style), the last one for what is not told
    name: str | None  # the condition

    @property
    def port(self) -> Port:
        told = "share of the way from the mean style: 1 leaves styles as they are, 0.7 is usual, 0 the mean"
        return Port("truncation", (), told, lambda count, generator: torch.linspace(1.0, 0.5, count))

    def applied(self, styles: Tensor, values: dict[str, Tensor]) -> Tensor:
        """(B, layers, style)"""
        mean = self.means
        if self.name is not None:
            shares = values[self.name]
            shares = torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1)
            mean = (shares @ self.means.flatten(1)).unflatten(1, self.means.shape[1:])
        return torch.lerp(mean.expand_as(styles), styles, values["truncation"].reshape(-1, 1, 1))


def _truncation(model: Styles, conditions: Conditions) -> Truncation | None:
    """None where several conditions, or numbers, have too many means for a table."""
    if not conditions.ports:
        return Truncation(model.mean_style(Request(Noise(0, np.arange(1)))), None)
    if len(conditions.ports) > 1 or not conditions.shares:
        return None
    ((name, count),) = conditions.shares.items()
    shares = torch.cat([torch.eye(count), torch.zeros(1, count)])
    raw, present = conditions.told({name: shares})
    return Truncation(model.mean_style(Request(Noise(0, np.arange(count + 1)), raw, present)), name)


def _encoder(model: Model, conditions: Conditions) -> Graph:
    def call(values: dict[str, Tensor], noise: Fed) -> Tensor:
        raw, present = conditions.told(values)
        x = values["x"]
        observed = ~x.isnan() if x.is_floating_point() and isinstance(model.space, Mixed) else None
        batch = Batch(x, noise, torch.zeros(len(noise), dtype=torch.int64), observed, raw=raw, present=present)
        return cast(Encodes, model).encode(batch)

    return Graph("encoder", "x -> codes", [_raw("x", model.space), *conditions.ports], "codes", "codes", call)


def _denoiser(model: Model, conditions: Conditions) -> tuple[list[Graph], list[str]]:
    space, source = model.space, conditions.spaces.get("source")

    def make(count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, space.width, *space.grid, generator=generator)

    def call(values: dict[str, Tensor], noise: Fed) -> Tensor:
        raw, present = conditions.told(values)
        if source is not None:
            raw["source"] = values["source"]
            present["source"] = torch.ones_like(values["source"].flatten(1)[:, 0], dtype=torch.bool)
        return cast(Denoises, model).denoise(values["y"], values["sigma"], Request(noise, raw, present))

    shape = (space.width, *space.grid)
    y = Port("y", shape, "embedded x plus sigma times standard normal noise", make)
    sigma = Port("sigma", (), "deviation of the noise, of data of deviation 1",
                 lambda count, generator: torch.logspace(-1, 1, count))  # fmt: skip
    told = [y, sigma, *([_raw("source", source)] if source is not None else []), *conditions.ports]
    embedded = "the estimate x_0 of embedded x; to_data.onnx turns it into data"
    last = Port("x0", shape, "embedded x", make)
    found = [
        Graph("denoiser", "noisy x -> the estimate without noise", told, "x0", embedded, call).with_noise(),
        Graph("to_data", "embedded x -> x", [last], "x", _says(space), lambda given, noise: space.decode(given["x0"])),
    ]
    notes = [
        "Embedded x is (raw x - mean) / deviation, by channel, where the data are numbers: see 'space'.",
        "To sample where the model generates: choose levels s_1 > ... > s_n > 0 and then 0 (sigma_high and sigma_low "
        "of 'settings' are the ends that were trained); y = sqrt(s_1^2 + 1) noise; at each level s with next level t: "
        "x0 = denoiser(y, s); y = x0 + t / s (y - x0) (Euler). The last y goes through to_data.",
    ]
    if GUIDE in model.spaces:
        notes.append("The CLIP that leads this run's samples is not in these files: they sample as at guidance 1.")
    elif conditions.ports:
        notes.append(
            "Guidance g: x0 = u + g (c - u), c under the condition and u with it not told, at levels s with low < s <= "
            "high; at others x0 = c. g and [low, high]: 'guidance' and 'interval' of 'options', or else of 'settings'."
        )
    return found, notes
