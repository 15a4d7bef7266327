"""Control by styles: mixing, directions, projection of given examples into styles, changes along a direction.

Functions over the capability `Styles` (with `Samples`); W is the space of styles, W+ has one style for each layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trilemma.batches import Arrays, Request
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.maths.signals import spherical
from trilemma.mixed import Attributes
from trilemma.modalities.attributes import NAME as TOLD
from trilemma.models.contract import MEAN_OF, Encodes, Model, Styles, frozen
from trilemma.networks.conv import pooled
from trilemma.numbered import Clusters
from trilemma.spaces import Categorical, Continuous
from trilemma.training import optimizers
from trilemma.training.progress import Bar
from trilemma.training.sampling import Prompt, Sampler

COUNT = 2048  # samples whose styles say what directions there are
STARTS = 256  # samples that projection looks for its start among
RATE = 0.05  # of projection, in deviations of styles; and of tuning the generator
TUNING_RATE = 3e-4
NEARNESS = 1e-3  # weight of how far, in deviations, projected styles are from the mean one: far ones cannot be edited
PART = 64  # examples that are projected at once, as memory allows
PLAIN = 1.0  # weight of correlations in the noise (Karras et al. 2020, appendix D): it must not draw the picture


@dataclass
class Direction:
    """A way through styles: one step of 1 along it adds `step` (style,) to the styles of the layers."""

    name: str
    step: Tensor


@dataclass
class Projection:
    """Given examples as styles (n, layers, style) and noise of layers (n, N), and how well they are met."""

    model: Model  # a tuned copy, where tuning was asked for
    styles: Tensor
    noise: Tensor
    psnr: np.ndarray  # (n,) dB

    @torch.no_grad()
    def decoded(self, styles: Tensor | None = None) -> Tensor:
        """Raw x (n, channels, *grid) of these styles, or of others with the same noise."""
        assert isinstance(self.model, Styles)
        styles = self.styles if styles is None else styles
        noise = self.noise.expand(len(styles), -1)
        parts = zip(styles.split(PART), noise.split(PART), strict=True)
        return torch.cat([self.model.space.decode(self.model.synthesise(*part)) for part in parts])


def layers_of(text: str | Sequence[int] | None, count: int) -> list[int]:
    """'4-8', '2' or '1,3-5', counted from 1 at the coarsest -> places from 0; None: all of them."""
    if text is None:
        return list(range(count))
    found: list[int] = []
    try:
        for part in text.split(",") if isinstance(text, str) else map(str, text):
            low, _, high = part.partition("-")
            found += range(int(low) - 1, int(high or low))
    except ValueError:
        raise InputError(f"--layers {text}: give numbers of layers, such as 4-8 or 1,2,5") from None
    if not found or min(found) < 0 or max(found) >= count:
        raise InputError(f"--layers {text}: this model has layers 1 to {count}, from coarse to fine")
    return sorted(set(found))


def capable(sampler: Sampler) -> Any:
    """The sampler's model as one with `Styles`, in evaluation mode."""
    model = sampler.model.eval()
    assert isinstance(model, Styles)
    return model


def layers_count(sampler: Sampler) -> int:
    """How many layers have styles of their own."""
    return len(capable(sampler).affines())


@torch.no_grad()
def sample_of(sampler: Sampler, seed: int, number: int) -> Projection:
    """A sample as its own projection."""
    model = capable(sampler)
    request = sampler.request(seed, np.array([number]))
    styles = model.style(model.draw(request), request)
    return Projection(sampler.model, styles, model.layer_noise(request.noise), np.full(1, np.inf))


@torch.no_grad()
def styles_of(sampler: Sampler, seeds: Sequence[int], *, label: int | None = None, psi: float | None = None) -> Tensor:
    """Styles (n, layers, style) of sample number 0 of each seed; psi: truncated."""
    model, found = capable(sampler), []
    for seed in seeds:
        request = sampler.request(seed, np.array([0]), label=label)
        styles = model.style(model.draw(request), request)
        found.append(styles if psi is None else torch.lerp(model.mean_style(request), styles, psi))
    return torch.cat(found)


@torch.no_grad()
def many_styles(sampler: Sampler, count: int, *, seed: int = 0) -> tuple[Tensor, Request]:
    """Styles (count, style) of samples as the data have their conditions, and the request that they come from."""
    model = capable(sampler)
    request = sampler.request(seed, np.arange(count))
    return model.style(model.draw(request), request)[:, 0], request


@torch.no_grad()
def mixed(
    sampler: Sampler, rows: Sequence[int], columns: Sequence[int], layers: Sequence[int], *,
    label: int | None = None, psi: float | None = None,
) -> np.ndarray:  # fmt: skip
    """Raw x ((rows + 1) x (columns + 1), ...): row i's sample with column j's styles in these layers.

    The first row and column are the samples themselves; the corner is the mean style's.
    """
    model = capable(sampler)
    down, across = (styles_of(sampler, seeds, label=label, psi=psi) for seeds in (rows, columns))
    corner = sampler.request(0, np.array([0]), label=label)
    made = [model.mean_style(corner), *across.split(1)]
    for row in down.split(1):
        made.append(row)
        for column in across.split(1):
            both = row.clone()
            both[:, list(layers)] = column[:, list(layers)]
            made.append(both)
    # Everybody has the noise of one: what differs are styles.
    noise = model.layer_noise(corner.noise)
    parts = [model.synthesise(torch.cat(made[i : i + 250]), noise.expand(len(made[i : i + 250]), -1))
             for i in range(0, len(made), 250)]  # fmt: skip
    return sampler.array(model.space.decode(torch.cat(parts).float()))


# --- directions -------------------------------------------------------------------------------------------------------

ATTRIBUTES: dict[str, Callable[[Tensor], Tensor]] = {  # of embedded x: what can be read off any example
    "brightness": lambda x: x.flatten(1).mean(1),
    "contrast": lambda x: x.flatten(1).std(1),
}


def names_of(sampler: Sampler, label_names: Sequence[str], columns: Sequence[Any] = ()) -> list[str]:
    """Names of all directions of this model: labels or clusters, attributes (of the data, with these `columns`, and
    those that can be read off any example), PCA and SeFa."""
    spaces, names = sampler.model.spaces, []
    names += [name for place, column in enumerate(columns) for name, _ in _told_names(sampler, column, place)]
    for name, space in spaces.items():
        if name not in ("x", "other") and isinstance(space, (Categorical, Clusters)):
            names += [label_names[i] if name == "label" and label_names else f"{name}-{i}" for i in range(space.count)]
    size = capable(sampler).affines()[0].shape[1]
    unsupervised = [f"{kind}-{i}" for kind in ("pca", "sefa") for i in range(1, min(size, 16) + 1)]
    return [*names, *ATTRIBUTES, *unsupervised]


def direction(
    sampler: Sampler, name: str, label_names: Sequence[str] = (), columns: Sequence[Any] = (), *,
    layers: Sequence[int] | None = None,
) -> Direction:  # fmt: skip
    """The direction of this name.

    A label's is the difference of the mean style under it from that of all labels: a step of 1 goes the whole way; so
    is that of an attribute's value that the model was told, NAME=VALUE, and of a number that of its upper half. All
    else that is told is as it was. That of what is read off examples is a linear regression of it on styles; `pca-K`
    the K-th principal component of styles (Harkonen et al. 2020); `sefa-K` the K-th direction that changes the layers'
    inputs most, from their weights alone (Shen & Zhou 2021, closed form). Those three are in deviations of styles.
    """
    known = names_of(sampler, label_names, columns)
    if name not in known:
        few = ", ".join(known[:12])
        raise InputError(f"--direction {name}: not a direction of this run. It has {few}, ... and sefa-1 to sefa-16")
    for place, column in enumerate(columns):
        for own, here in _told_names(sampler, column, place):
            if own == name:
                return Direction(name, step_to(sampler, place, here))
    w, request = many_styles(sampler, COUNT)
    kind, _, number = name.rpartition("-")
    if name in ATTRIBUTES:
        return Direction(name, regressed(w, ATTRIBUTES[name](synthesised(sampler, w, request))))
    if kind in ("pca", "sefa") and number.isdigit():
        if kind == "pca":
            _, _, axes = torch.linalg.svd(w - w.mean(0), full_matrices=False)
        else:
            affines = capable(sampler).affines()
            chosen = affines if layers is None else [affines[i] for i in layers]
            _, _, axes = torch.linalg.svd(torch.cat([functional.normalize(a, dim=1) for a in chosen]))
        axis = axes[int(number) - 1].to(w.dtype)
        axis = axis * axis[axis.abs().argmax()].sign()  # a singular vector has no sign of its own
        return Direction(name, axis * ((w - w.mean(0)) @ axis).std())
    return Direction(name, _of_label(sampler, name, label_names))


def _of_label(sampler: Sampler, name: str, label_names: Sequence[str]) -> Tensor:
    """The mean style under a label less the mean over all of them, by their shares."""
    own = "label" if name in label_names else name.rpartition("-")[0]
    number = label_names.index(name) if name in label_names else int(name.rpartition("-")[2])
    shares = sampler.frequencies if own == "label" else capable(sampler).spaces[own].shares.tolist()
    means = means_of_labels(sampler, own)
    weights = torch.tensor(shares, dtype=means.dtype, device=means.device)
    return means[number] - (weights / weights.sum()) @ means


@torch.no_grad()
def means_of_labels(sampler: Sampler, own: str = "label") -> Tensor:
    """Mean styles (count, style) under each label, or each cluster (`own`), over the same codes and attributes.

    These are told as the data have them, to each label the same: untold, those that go along with it would move, too.
    """
    model = capable(sampler)
    request = sampler.request(0, np.arange(MEAN_OF))
    codes, means = model.draw(request), []
    for number in range(model.spaces[own].count):
        request.raw[own] = torch.full_like(request.raw[own], number)
        means.append(model.style(codes, request)[:, 0].mean(0))
    return torch.stack(means)


def _told_names(sampler: Sampler, column: Any, place: int) -> list[tuple[str, np.ndarray]]:
    """Directions of an attribute, `NAME=VALUE`, of a number `NAME`, and which rows (n,) of the pool each leads to."""
    space = sampler.model.spaces[TOLD]
    assert isinstance(space, Attributes)
    cells = space.pool()[0][:, place]
    if column.scored:
        values = column.from_scores(cells.astype(float))
        found = [(column.name, values > np.nanmedian(values))]
    else:
        found = [(f"{column.name}={value}", cells == code) for code, value in enumerate(column.values)]
    return [(name, here) for name, here in found if here.any()]


def step_to(sampler: Sampler, place: int, here: np.ndarray) -> Tensor:
    """The mean style of the attributes that are kept, had all of them in this column what these (n,) of them have, less
    that as they are: labels, codes and other columns stay, or whatever goes along with the attribute would move, too.
    """
    space = sampler.model.spaces[TOLD]
    assert isinstance(space, Attributes)
    rows, labels = space.pool()
    changed = rows.copy()
    changed[:, place] = np.random.default_rng(0).choice(rows[here, place], len(rows))
    means, model = [], capable(sampler)
    for told in (changed, rows):
        request = sampler.request(0, np.arange(COUNT), prompt=Prompt(pool=(told, labels)))
        with torch.no_grad():
            means.append(model.style(model.draw(request), request)[:, 0].mean(0))  # type: ignore[attr-defined]
    return means[0] - means[1]


def regressed(w: Tensor, values: Tensor) -> Tensor:
    """The step (style,) by which one deviation more of `values` (n,) comes with styles w (n, style).

    The pattern of a linear regression (Haufe et al. 2014), not its weights: these would leave the styles that occur.
    """
    values = (values - values.mean()) / values.std().clamp(min=1e-8)
    centred = w - w.mean(0)
    ridge = 1e-2 * centred.var(0).mean() * len(w)
    weights = torch.linalg.solve(
        centred.T @ centred + ridge * torch.eye(w.shape[1], device=w.device), centred.T @ values
    )
    predicted = centred @ weights
    return centred.T @ predicted / (predicted @ predicted).clamp(min=1e-12)


@torch.no_grad()
def synthesised(sampler: Sampler, w: Tensor, request: Request) -> Tensor:
    """Embedded x of styles (n, style), equal in all layers, with the noise of the request's first n examples."""
    model = capable(sampler)
    layers, noise, parts = len(model.affines()), model.layer_noise(request.noise), []
    for start in range(0, len(w), 250):
        part = w[start : start + 250].unsqueeze(1).expand(-1, layers, -1)
        parts.append(model.synthesise(part, noise[start : start + len(part)]).float())
    return torch.cat(parts)


@torch.no_grad()
def moved(found: Projection, step: Tensor, amounts: Sequence[float], layers: Sequence[int]) -> Tensor:
    """Embedded x (amounts, ...) of one example's styles (1, layers, style), moved by each amount in these layers."""
    ways = found.styles.repeat(len(amounts), 1, 1)
    ways[:, list(layers)] += torch.tensor(amounts, device=ways.device, dtype=ways.dtype).reshape(-1, 1, 1) * step
    assert isinstance(found.model, Styles)
    return found.model.synthesise(ways, found.noise.expand(len(amounts), -1)).float()


# --- projection -------------------------------------------------------------------------------------------------------


def project(
    sampler: Sampler, x: np.ndarray, *, steps: int = 300, tune: int = 0, seed: int = 0, quiet: bool = False
) -> Projection:
    """Styles in W+ and noise that give raw x (n, channels, *grid) back (Karras et al. 2020, appendix D).

    The start is the sample that comes closest, or what the model's own encoder finds. Errors are of x and of coarser
    versions of it; `tune`: then as many steps of the generator itself (pivotal tuning, Roich et al. 2021), in a copy.
    """
    if steps < 1 or tune < 0:
        raise InputError(f"--steps {steps} --tune {tune}: at least one step, and none or more of tuning")
    model, engine = capable(sampler), sampler.engine
    w, request = many_styles(sampler, STARTS, seed=seed)
    known, places = synthesised(sampler, w, request), range(0, len(x), PART)
    parts = [model.space.embed(torch.from_numpy(np.ascontiguousarray(x[i : i + PART])).to(engine.device)).float()
             for i in places]  # fmt: skip
    bar, done = Bar("project", steps * len(parts) + tune, quiet=quiet), list[tuple[Tensor, Tensor]]()
    for place, given in zip(places, parts, strict=True):
        nearest = torch.cdist(given.flatten(1), known.flatten(1)).argmin(1)
        start = w[nearest]
        if isinstance(model, Encodes):
            start = _encoded(sampler, x[place : place + PART], request, nearest)
        noise = model.layer_noise(Noise(seed, np.arange(place, place + len(given)), engine.device))
        done.append(_found(sampler, given, start, noise, spread=w, steps=steps, bar=bar, begun=steps * len(done)))
    if tune:
        model = copy.deepcopy(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=TUNING_RATE)  # those that take no part get no gradient
        for step in range(tune):
            optimizer.zero_grad(set_to_none=True)
            for given, (styles, noise) in zip(parts, done, strict=True):
                with engine.autocast():
                    made = model.synthesise(styles, noise).float()
                _apart(made, given).sum().backward()
            optimizers.step(optimizer)
            bar.update(steps * len(parts) + step + 1, {})
    bar.close()
    styles, noise = (torch.cat(each) for each in zip(*done, strict=True))
    found = Projection(model, styles, noise, np.zeros(len(x)))
    found.psnr = decibels(x, sampler.array(found.decoded().float()), _extent(model.space, x))
    return found


def _found(
    sampler: Sampler, given: Tensor, start: Tensor, noise: Tensor, *, spread: Tensor, steps: int, bar: Bar, begun: int
) -> tuple[Tensor, Tensor]:
    """Styles (n, layers, style) and noise (n, N) for embedded x, from styles `start` (n, style) on.

    No example sees another one. spread: styles (samples, style) that occur.
    """
    model = capable(sampler)
    mean, deviation = spread.mean(0), spread.std(0).clamp(min=1e-4)
    first = start.unsqueeze(1).repeat(1, len(model.affines()), 1)
    offset, noise = torch.zeros_like(first, requires_grad=True), noise.requires_grad_(True)
    optimizers.light()
    optimizer = torch.optim.Adam([offset, noise], lr=RATE, betas=(0.9, 0.99))
    for step in range(steps):
        _schedule(optimizer, RATE, step / steps)
        styles = first + offset * deviation
        with sampler.engine.autocast(), frozen(model):
            made = model.synthesise(styles, noise).float()
        loss = _apart(made, given).sum() + PLAIN * _correlations(noise, model).sum()
        loss = loss + NEARNESS * ((styles - mean) / deviation).square().mean((1, 2)).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizers.step(optimizer)
        bar.update(begun + step + 1, {})
        if noise.shape[1] > 1:
            with torch.no_grad():
                noise.sub_(noise.mean(1, keepdim=True)).div_(noise.std(1, keepdim=True).clamp(min=1e-6))
    return (first + offset * deviation).detach(), noise.detach()


@torch.no_grad()
def _encoded(sampler: Sampler, x: np.ndarray, request: Request, rows: Tensor) -> Tensor:
    """Styles (n, style) of the codes of raw x, under the conditions of these rows of the request."""
    model, encoder, count = capable(sampler), sampler.model, len(x)
    assert isinstance(encoder, Encodes)
    raw, present = ({name: value[rows] for name, value in told.items()} for told in (request.raw, request.present))
    batch = Arrays(x).gather(np.arange(count), device=str(sampler.engine.device))
    batch.raw, batch.present = raw, present
    with sampler.engine.autocast():
        codes = encoder.encode(batch).float()
    return model.style(codes, Request(batch.noise, raw, present))[:, 0].float()


def _extent(space: Any, x: np.ndarray) -> float:
    """The range of raw values that decibels are counted from."""
    if isinstance(space, Continuous) and space.low is not None and space.high is not None:
        return float(space.high - space.low)
    return float(np.nanmax(x) - np.nanmin(x)) or 1.0


def decibels(x: np.ndarray, again: np.ndarray, extent: float) -> np.ndarray:
    """Peak signal-to-noise ratio of each example (n,), dB."""
    rows = np.square(again.astype(np.float64) - x).reshape(len(x), -1)
    return 20 * np.log10(extent) - 10 * np.log10(np.maximum(np.nanmean(rows, 1), 1e-12))


def _schedule(optimizer: torch.optim.Optimizer, rate: float, t: float) -> None:
    """A rate that rises in the first twentieth and falls along a cosine in the last quarter."""
    fall = 0.5 - 0.5 * np.cos(np.pi * min(1.0, (1 - t) / 0.25))
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, t / 0.05 + 0.1) * fall


def _apart(made: Tensor, given: Tensor) -> Tensor:
    """Squared errors (n,) of x and of means over blocks of it, so that what is large is met first."""
    total = (made - given).square().flatten(1).mean(1)
    while made.dim() > 2 and max(made.shape[2:]) > 4:
        made, given = pooled(made, 2), pooled(given, 2)
        total = total + (made - given).square().flatten(1).mean(1)
    return total


def _correlations(noise: Tensor, model: Any) -> Tensor:
    """How much neighbouring numbers of each layer's noise agree (n,), 0 for white noise."""
    total = torch.zeros(len(noise), device=noise.device)
    sides_of = model.noise_sides()
    if not sides_of:
        return total
    for part, sides in zip(noise.split([math.prod(sides) for sides in sides_of], 1), sides_of, strict=True):
        grid = part.unflatten(1, sides) if sides else part
        for axis in range(1, grid.dim()):
            if grid.shape[axis] > 2:
                total = total + (grid * grid.roll(1, axis)).flatten(1).mean(1).square()
    return total


# --- ways -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def way_in_styles(sampler: Sampler, codes: Tensor, request: Request, *, steps: int, seed: int) -> np.ndarray:
    """Raw x (steps, ...) on the straight way in W between the styles of two codes (2, D) under their conditions."""
    model = capable(sampler)
    t = torch.linspace(0, 1, steps, device=codes.device).reshape(-1, 1, 1)
    noise = model.layer_noise(Noise(seed, np.zeros(steps), sampler.engine.device))
    with sampler.engine.autocast():  # as samples are made: the ends are the same
        ends = model.style(codes, request)
        x = model.synthesise(torch.lerp(ends[:1], ends[1:], t), noise)
    return sampler.array(model.space.decode(x.float()))


def way_between(sampler: Sampler, x: np.ndarray, *, steps: int, seed: int, quiet: bool) -> np.ndarray:
    """Raw x (steps, ...) on the straight way in W+ between the styles under which two examples (2, ...) are made, from
    the noise of one to that of the other."""
    ends = project(sampler, x, seed=seed, quiet=quiet)
    t = torch.linspace(0, 1, steps, device=ends.styles.device).unsqueeze(1)
    styles = torch.lerp(ends.styles[:1], ends.styles[1:], t.unsqueeze(2))
    way = Projection(ends.model, styles, spherical(ends.noise[:1], ends.noise[1:], t), np.zeros(steps))
    return sampler.array(way.decoded().float())


@torch.no_grad()
def nearby(
    sampler: Sampler, count: int, *, step: float = 1e-2, space: str = "w", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Embedded x (count, width, *grid) at random places of ways between two codes each, and a little further on: what
    `metrics.control.perceptual_path_length` compares features of. Both have one noise and one condition.

    Not rounded to the data's levels: a small step would be lost in them.

    step: how much further, as a share of the way; space: ways through codes ('z') or through styles ('w').
    """
    model, here, there = capable(sampler), list[np.ndarray](), list[np.ndarray]()
    for start in range(0, count, 250):
        index = np.arange(start, min(start + 250, count))
        request = sampler.request(seed, index)
        one, two = model.draw(request), model.draw(request)
        t = request.noise.uniform(1) * (1 - step)
        noise = model.layer_noise(request.noise)
        for parts, place in ((here, t), (there, t + step)):
            if space == "z":
                w = model.style(spherical(one, two, place), request)
            else:
                w = torch.lerp(model.style(one, request), model.style(two, request), place.unsqueeze(2))
            parts.append(model.synthesise(w, noise).float().cpu().numpy())
    return np.concatenate(here), np.concatenate(there)
