"""Baselines of translation: number i belongs to test source i. They copy, interpolate or filter; none is a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.neighbors import NearestNeighbors

from trilemma.metrics.random_features import RandomFeatures
from trilemma.mixed import plain
from trilemma.modalities.contract import Data
from trilemma.modalities.degrade import factor, parse
from trilemma.spaces import Categorical

MOST = 20_000  # training examples that a mean is taken over, and that neighbours are searched among
SIDE = 7  # of the surroundings that a linear filter sees,
FITTED, PLACES = 500, 200  # training pairs that a filter is fitted on, and places in each of them
RIDGE = 1e-6  # of the mean square of what it sees: surroundings that are all alike leave it open
WIDTHS = (3, 5, 7)  # of the adaptive filter


def _sources(data: Data, split: str, count: int) -> np.ndarray:
    """Sources of a split as pictures; where there are fewer, again from the first."""
    held = data.sources(split)
    assert held is not None
    return data.pictured(held[np.arange(count) % len(held)])


def did_nothing(data: Data, count: int, *, seed: int) -> np.ndarray:
    """The sources themselves. Of --from-degradation downscale: brought back to size by bicubic interpolation."""
    return _sources(data, "test", count).astype(data.x.dtype)


def mean_target(data: Data, count: int, *, seed: int) -> np.ndarray:
    """The mean of the training targets, always: the best guess of who does not look at the source."""
    mean = data.rows("train", MOST).astype(np.float64).mean(0)
    mean = mean.round() if np.issubdtype(data.x.dtype, np.integer) else mean
    return np.repeat(mean.astype(data.x.dtype)[None], count, 0)


def nearest_target(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Of pairs the target of the training source that is most alike; of two sets the training target that is.

    By features of an untrained network.
    """
    asked, targets = _sources(data, "test", count), data.rows("train", MOST)
    paired = "source" in data.conditions
    known = _sources(data, "train", len(targets)) if paired else targets
    maps = isinstance(data.spaces.get("source"), Categorical)
    space = data.spaces["source" if paired and not maps else "x"]
    network = RandomFeatures(plain(space, known[:2000]))
    found = NearestNeighbors(n_neighbors=1).fit(network(plain(space, known)))
    return targets[found.kneighbors(network(plain(space, asked)), return_distance=False)[:, 0]]


def lanczos(data: Data, count: int, *, seed: int) -> np.ndarray:
    """The small picture of --from-degradation downscale, enlarged by Lanczos interpolation instead.

    Of a degradation with further steps, nobody has it: the source is made small again.
    """
    steps, rows = parse(data.opening.degradation or ""), data.splits["test"]
    given = _sources(data, "test", count) if len(steps) > 1 else data.x[rows[np.arange(count) % len(rows)]]
    return np.stack([_enlarged(one, factor(data.opening.degradation or "")) for one in given])


def _enlarged(x: np.ndarray, number: float) -> np.ndarray:
    """(channels, H, W) uint8, made smaller as the degradation does it, and brought back to size."""
    made = []
    for channel in x:
        image = Image.fromarray(channel)
        small = max(1, round(image.width / number)), max(1, round(image.height / number))
        small_one = image.resize(small, Image.Resampling.BICUBIC)
        made.append(np.asarray(small_one.resize(image.size, Image.Resampling.LANCZOS)))
    return np.stack(made)


def linear_filter(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Each place by the linear filter of what is round it that is best on training pairs, clipped: least squares.

    It undoes darkening, sharpens what is blurred and smooths noise, as far as can be without looking at what is there.
    Source: Wiener 1949, by samples in place of spectra.
    """
    sources, targets = _sources(data, "train", FITTED), data.rows("train", FITTED)
    generator, normal, right = np.random.default_rng(0), np.zeros(()), np.zeros(())
    for source, target in zip(sources, targets, strict=False):
        some = generator.permutation(target[0].size)[:PLACES]
        seen = _surroundings(source)[some]
        normal, right = normal + seen.T @ seen, right + seen.T @ target.reshape(len(target), -1).T[some]
    ridge = RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    weights = np.linalg.solve(normal + ridge, right)
    made = [(_surroundings(source) @ weights).T.reshape(source.shape) for source in _sources(data, "test", count)]
    return np.stack(made).round().clip(0, 255).astype(np.uint8)


def _surroundings(x: np.ndarray) -> np.ndarray:
    """(channels, H, W) -> (H * W, channels * SIDE^2 + 1): all values round each place, and a constant."""
    padded = np.pad(x.astype(np.float64), [(0, 0), *[(SIDE // 2, SIDE // 2)] * 2], mode="edge")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    return np.concatenate([seen.reshape(x[0].size, -1), np.full((x[0].size, 1), 255.0)], 1)


def adaptive_filter(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Noise of known strength smoothed where hardly anything else is (Lee 1980), as widely as suits training pairs."""
    ((_, deviation),) = parse(data.opening.degradation or "")
    some, targets = _sources(data, "train", PLACES), data.rows("train", PLACES).astype(np.float64)
    some = some[: len(targets)]
    errors = {width: np.square(_smoothed(some, width, deviation) - targets).mean() for width in WIDTHS}
    return _smoothed(_sources(data, "test", count), min(errors, key=lambda width: errors[width]), deviation)


def _smoothed(x: np.ndarray, width: int, deviation: float) -> np.ndarray:
    """(n, channels, H, W) uint8, each channel by itself; alpha, which has no noise, as it is."""
    made, colours = x.copy(), 3 if x.shape[1] == 4 else x.shape[1]
    values, size = x[:, :colours].astype(np.float64), (1, 1, width, width)
    mean = ndimage.uniform_filter(values, size, mode="nearest")
    variance = ndimage.uniform_filter(values**2, size, mode="nearest") - mean**2
    kept = (variance - deviation**2).clip(min=0) / variance.clip(min=1)
    made[:, :colours] = (mean + kept * (values - mean)).round().clip(0, 255)
    return made


def of_translation(data: Data) -> dict[str, Callable[..., np.ndarray]]:
    """Name -> samples(data, count, seed=...) of those that make sense for these sources."""
    steps = parse(data.opening.degradation) if data.opening.degradation else []
    names = [name for name, _ in steps]
    alone = names == ["downscale"]
    found: dict[str, Callable[..., np.ndarray]] = {"did nothing (bicubic)" if alone else "did nothing": did_nothing}
    if "downscale" in names:
        found["Lanczos"] = lanczos
    if names and "source" in data.conditions:
        found["linear filter"] = linear_filter
    if names == ["noise"]:
        found["adaptive filter"] = adaptive_filter
    return found | {"mean target": mean_target, "nearest target": nearest_target}
