"""Measures of what is made out of a source: against its hidden partner, against the source, and draw against draw.

All are means over examples, so that their intervals are Student's. Values are arrays (n, channels, *grid) in natural
units, sources and outputs in one order; feature maps are lists of arrays (n, channels, *grid), one for each level.
"""

from __future__ import annotations

import numpy as np

from trilemma.metrics.protocol import Better, Measure, interval, over_examples, student

WINDOW, DEVIATION = 11, 1.5  # of structural similarity, in places
ROUNDING = 1 / 255**2 / 12  # squared error of an 8-bit value, of a span of 1: nothing that is stored comes closer
PLACES = 100  # most places of a map that are compared with each other
SHIFTS = 4  # partners of each example that are not its own


def _alike(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim < 3 or one.size == 0:
        raise ValueError(f"outputs and partners must have one shape (n, channels, *grid): {one.shape} and {two.shape}")
    return one, two


def psnr(targets: np.ndarray, outputs: np.ndarray, *, span: float) -> Measure:
    """The mean over examples of 10 log10(span^2 / mean squared error), in decibels.

    Range (-inf, 59]: equal examples count as 59 dB, the error of rounding to 8 bits. Interval: Student's t over
    examples. Known biases: rewards blur; the mean of the examples' decibels is higher than the decibels of their mean
    error. Source: Huynh-Thu and Ghanbari 2008.
    """
    one, two = _alike(targets, outputs)
    errors = np.square((one - two) / span).reshape(len(one), -1).mean(1)
    return over_examples(-10 * np.log10(np.maximum(errors, ROUNDING)), "psnr", "higher", "dB")


def ssim(targets: np.ndarray, outputs: np.ndarray, *, span: float) -> Measure:
    """The mean over examples of the structural similarity index; range [-1, 1], 1 for equal examples.

    Gaussian windows of 11 places and deviation 1.5 that lie inside the grid, K1 = 0.01, K2 = 0.03, each channel by
    itself. On a shorter side the window is as long as an odd number allows. Interval: Student's t over examples. Known
    biases: high wherever both are flat; small shifts cost much. Source: Wang et al. 2004, eq. 13.
    """
    one, two = _alike(targets, outputs)
    values = np.concatenate([_similarity(one[i : i + 64], two[i : i + 64], span) for i in range(0, len(one), 64)])
    return over_examples(values, "ssim", "higher", least=-1.0, most=1.0)


def _similarity(one: np.ndarray, two: np.ndarray, span: float) -> np.ndarray:
    """(n,) indices of examples in float64."""
    from scipy import ndimage  # here: a training starts without it

    def smooth(x: np.ndarray) -> np.ndarray:
        for axis in range(2, x.ndim):
            radius = min(WINDOW, x.shape[axis]) // 2 - (min(WINDOW, x.shape[axis]) % 2 == 0)
            weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / DEVIATION) ** 2)
            smoothed = ndimage.correlate1d(x, weights / weights.sum(), axis=axis)
            x = np.take(smoothed, np.arange(radius, x.shape[axis] - radius), axis=axis)  # windows that lie inside
        return x

    mean_1, mean_2 = smooth(one), smooth(two)
    variance_1, variance_2 = smooth(one**2) - mean_1**2, smooth(two**2) - mean_2**2
    covariance = smooth(one * two) - mean_1 * mean_2
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    bottom = (mean_1**2 + mean_2**2 + c1) * (variance_1 + variance_2 + c2)
    return (top / bottom).reshape(len(one), -1).mean(1)


def map_distances(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """(n,): the squared distance of unit feature vectors, averaged over places and over levels; from 0 to 4.

    Source: Zhang et al. 2018, eq. 1, with all weights 1.
    """
    total = np.zeros(len(first[0]))
    for one, two in zip(first, second, strict=True):
        gap = np.square(_unit(one) - _unit(two)).sum(1)
        total += gap.reshape(len(gap), -1).mean(1)
    return total / len(first)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.square(x).sum(1, keepdims=True) + 1e-10)


def unrelated_distances(maps: list[np.ndarray]) -> np.ndarray:
    """(m,): `map_distances` of targets that have nothing to do with each other: how far is far?"""
    moved = [[np.roll(level, k, axis=0) for level in maps] for k in range(1, SHIFTS + 1) if k < len(maps[0])]
    return np.concatenate([map_distances(maps, each) for each in moved])


def relative(distances: np.ndarray, unrelated: np.ndarray, name: str, better: Better) -> Measure:
    """The mean of distances (n,) over the mean distance of two unrelated targets (m,), which counts as known.

    `perceptual`: of outputs to their partners; 0 is equal, 1 as far as another target. `draws`: of two outputs for one
    source; 0 is always the same, 1 as varied as the targets of all sources. Range [0, inf). Interval: Student's t over
    examples, given the unit. Known biases: its unit is the network's own, and other targets. Source: Zhang et al. 2018
    (see `map_distances`); of draws, the diversity of Zhu et al. 2017 (BicycleGAN).
    """
    unit = float(unrelated.mean())
    return over_examples(distances / unit if unit > 0 else np.zeros_like(distances), name, better, least=0.0)


def self_similarity(maps: np.ndarray) -> np.ndarray:
    """(n, pairs): the cosine of what is at each two places of a map (n, channels, *grid), about the map's own mean.

    What things look like cancels; where they are alike stays. Source: Shechtman and Irani 2007; as a distance of
    pictures from two domains, Kolkin et al. 2019, eq. 5, and Tumanyan et al. 2022, eq. 2.
    """
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    if flat.shape[2] > PLACES:
        flat = flat[:, :, np.linspace(0, flat.shape[2] - 1, PLACES).round().astype(int)]
    flat = _unit(flat - flat.mean(2, keepdims=True))
    upper = np.triu_indices(flat.shape[2], 1)
    return np.stack([(each.T @ each)[upper] for each in flat])


def structure_kept(sources: np.ndarray, outputs: np.ndarray) -> Measure:
    """How much of the sources' layout the outputs have: 1 all, 0 no more than that of other sources.

    Self-similarities (n, pairs) of both, in one order. The mean correlation of each source with its own output, r, is
    put on a scale by u, that with the outputs of other sources: (r - u) / (1 - u). Range (-inf, 1]. Interval: Student's
    t over examples, given u. Known biases: needs both sides to be described by one network; where all layouts are
    alike, little is left to be told. Source: the self-similarity of Kolkin et al. 2019, eq. 5, as a correlation.
    """
    one, two = (_standard(each) for each in (sources, outputs))
    own = (one * two).mean(1)
    shifts = [k for k in range(1, SHIFTS + 1) if k < len(one)]
    other = float(np.mean([(one * np.roll(two, k, axis=0)).mean(1) for k in shifts])) if shifts else 0.0
    kept = (own - other) / max(1 - other, 1e-6)
    return over_examples(kept, "structure", "higher", most=1.0)


def _standard(x: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and mean square 1; a flat one is zeros."""
    x = x - x.mean(1, keepdims=True)
    return x / np.maximum(np.sqrt(np.square(x).mean(1, keepdims=True)), 1e-9)


def cycle_error(sources: np.ndarray, returned: np.ndarray) -> Measure:
    """Squared error of sources that were translated there and back, over that of the sources' mean; 0 is exact.

    Range [0, inf). Interval: Student's t over examples, given the spread of the sources. Known biases: a translator may
    hide the source in its output where nobody sees it (Chu et al. 2017). Source: the cycle consistency of Zhu et al.
    2017 (CycleGAN), eq. 2, there in absolute values.
    """
    one, two = _alike(sources, returned)
    spread = float(np.square(one - one.mean(0)).mean())
    errors = np.square(one - two).reshape(len(one), -1).mean(1)
    return over_examples(errors / max(spread, 1e-12), "cycle", "lower", least=0.0)


def both(perceptual: Measure, distance: Measure, spread: float) -> Measure:
    """The perceptual distance to the partners and the distance to the targets as a set, half of each; 0 is perfect.

    The Frechet distance counts by its root, as a share of the targets' `spread` (the trace of their features'
    covariance, which is what one point at their mean is away): each part is about 1 for who does not look at the
    source, the one for another target, the other for always the mean. Blur alone or a likely picture of something else
    gets one of them right. Range [0, inf). Interval: half-widths as of independent figures. Known biases: those of
    both; that of the Frechet distance, of unequal counts, comes in by its root. Source: our own mean of two published
    figures, Zhang et al. 2018 and Heusel et al. 2017.
    """

    def share(value: float) -> float:
        return float(np.sqrt(max(value, 0.0) / spread)) if spread > 0 else 0.0

    value = (perceptual.value + share(distance.value)) / 2
    if perceptual.low is None or perceptual.high is None or distance.low is None or distance.high is None:
        return Measure(value, None, None, "translation", "lower")
    below = np.hypot(perceptual.value - perceptual.low, share(distance.value) - share(distance.low)) / 2
    above = np.hypot(perceptual.high - perceptual.value, share(distance.high) - share(distance.value)) / 2
    return Measure(value, max(value - float(below), 0.0), value + float(above), "translation", "lower")


def map_agreement(maps: np.ndarray, read: np.ndarray, count: int) -> Measure:
    """Mean over classes of intersection over union of source maps and what a segmenter reads off the outputs.

    Numbers of classes (n, 1, *grid), 0 ... count - 1, in one order; places of all examples are counted together, and
    classes that no map has do not count. Range [0, 1], 1 is the same everywhere. Interval: jackknife over examples.
    Known biases: bounded by the segmenter, so that real targets are the measure of it; rare classes count as much as
    common ones. Source: Long et al. 2015, section 5; of translations, Isola et al. 2017, section 4.1.
    """
    if maps.shape != read.shape or len(maps) == 0:
        raise ValueError(f"maps and what is read must have one shape (n, 1, *grid): {maps.shape} and {read.shape}")
    hits, either = (np.zeros((len(maps), count)) for _ in range(2))
    for number, (true, found) in enumerate(zip(maps, read, strict=True)):
        true, found = true.reshape(-1).astype(np.int64), found.reshape(-1).astype(np.int64)
        hits[number] = np.bincount(true[true == found], minlength=count)
        either[number] = np.bincount(true, minlength=count) + np.bincount(found, minlength=count) - hits[number]
    there = np.isin(np.arange(count), maps)

    def over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        return (top / np.maximum(bottom, 1))[..., there].mean(-1)

    n, value = len(maps), float(over(hits.sum(0), either.sum(0)))
    if n < 4:
        return Measure(value, None, None, "agreement", "higher")
    without = over(hits.sum(0) - hits, either.sum(0) - either)
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    low, high = interval(value, error, quantile=student(n - 1), floor=0.0, ceiling=1.0)
    return Measure(value, low, high, "agreement", "higher")
