"""Measures on the values themselves, in natural units: arrays (N, C, *grid) of any number of grid dimensions."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from trilemma.metrics.neighbours import squared_distances
from trilemma.metrics.protocol import Measure, interval, matching_features, over_examples, student

BLOCKS = 10
ROUNDING = 1e-12  # of values: what is smaller is nothing


def _on_grids(reference: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as floats (N, C, *grid), or raise ValueError for other shapes and values that are not finite."""
    arrays = []
    for name, given in (("reference", reference), ("samples", samples)):
        array = np.asarray(given)
        array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
        if array.ndim < 3 or min(array.shape) == 0:
            raise ValueError(f"{name}: expected shape (count, channels, *grid) with a grid, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: holds values that are not finite")
        arrays.append(array)
    if arrays[0].shape[1:] != arrays[1].shape[1:]:
        raise ValueError(f"shapes differ: {arrays[0].shape[1:]} in the reference, {arrays[1].shape[1:]} in the samples")
    return arrays[0], arrays[1]


def _roughness(x: np.ndarray) -> np.ndarray:
    """Return each example's mean absolute Laplacian over the inner points of its grid, (N,)."""
    axes = [axis for axis in range(2, x.ndim) if x.shape[axis] >= 3]
    if not axes:
        raise ValueError(f"a grid of {x.shape[2:]} is too small for a Laplacian: some side must be at least 3")
    means = np.empty(len(x))
    inner = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(x.ndim))
    step = max(1, 4_000_000 // math.prod(x.shape[1:]))
    for start in range(0, len(x), step):
        chunk = x[start : start + step].astype(np.float64)
        laplacian = -2.0 * len(axes) * chunk[inner]
        for axis in axes:
            for side in (slice(None, -2), slice(2, None)):
                laplacian += chunk[(*inner[:axis], side, *inner[axis + 1 :])]
        flat = np.abs(chunk).reshape(len(chunk), -1).max(1)
        sizes = np.abs(laplacian).reshape(len(chunk), -1).mean(1)
        means[start : start + step] = np.where(sizes > ROUNDING * flat, sizes, 0)
    return means


def _ratio_of_means(samples: np.ndarray, reference: np.ndarray, name: str) -> Measure:
    """Return mean(samples) / mean(reference) with Student's interval by the delta method in logarithms."""
    top, bottom = float(samples.mean()), float(reference.mean())
    if bottom == 0:
        # Nothing to compare with: equal when both are flat, otherwise no number says it.
        return Measure(1.0 if top == 0 else math.nan, None, None, name, "one")
    value = top / bottom
    if min(len(samples), len(reference)) < 4 or top == 0:
        return Measure(value, None, None, name, "one")
    parts = [float(np.var(each, ddof=1)) / len(each) / mean**2 for each, mean in ((samples, top), (reference, bottom))]
    if sum(parts) == 0:
        return Measure(value, value, value, name, "one")
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(samples) - 1) + parts[1] ** 2 / (len(reference) - 1))
    spread = math.exp(student(freedom) * sum(parts) ** 0.5)  # Satterthwaite's degrees of freedom
    return Measure(value, value / spread, value * spread, name, "one")


def sharpness(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the samples' mean absolute Laplacian over the reference's.

    Shapes (N, C, *grid), (M, C, *grid), grid of one dimension or more; range [0, inf), 1 is as sharp as real data,
    below 1 is blur; not a number where the reference is flat and the samples are not. The Laplacian is the sum of
    second differences along each side of at least 3. Interval: of a ratio of two means, by the delta method in
    logarithms, Student's t with Satterthwaite's degrees of freedom.

    Known biases: noise and ringing count as sharpness; a set of other content has another sharpness when perfect.
    Source: the Laplacian as a focus measure, Pertuz et al. 2013.
    """
    reference, samples = _on_grids(reference, samples)
    return _ratio_of_means(_roughness(samples), _roughness(reference), "sharpness")


def reconstruction_error(x: np.ndarray, y: np.ndarray, *, span: float | None = None) -> dict[str, Measure]:
    """Return the mean squared error of reconstructions y of x, and with a `span` the peak signal-to-noise ratio.

    Shapes (N, ...), equal; `mse` in squared units of the data, range [0, inf); `psnr` = 10 log10(span^2 / mse) in
    decibels of the mean over all examples (255 or 1 for images), range (-inf, inf], infinite for perfect copies.
    Interval: Student's t over examples, of the error; its ends in decibels.

    Known biases: rewards blur; the mean of per-example ratios, which others print, is higher than `psnr` here.
    Source: the peak signal-to-noise ratio as in Huynh-Thu and Ghanbari 2008.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim < 1 or x.size == 0:
        raise ValueError(f"reconstructions must have the data's shape: {x.shape} and {y.shape}")
    error = over_examples(np.square(x - y).reshape(len(x), -1).mean(1), "mse", "lower", least=0.0)
    measures = {"mse": error}
    if span is not None:
        if not span > 0:
            raise ValueError(f"span: {span} must be positive, such as 255 for 8-bit images")

        def decibels(error: float | None) -> float | None:
            return None if error is None else 10 * math.log10(span**2 / error) if error > 0 else math.inf

        peak = decibels(error.value)
        assert peak is not None
        measures["psnr"] = Measure(peak, decibels(error.high), decibels(error.low), "psnr", "higher", "dB")
    return measures


def _power(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean power spectrum by distance from zero frequency for each of ten blocks of examples, and counts."""
    grid = x.shape[2:]
    axes = tuple(range(2, x.ndim))
    frequencies = np.meshgrid(*[np.fft.fftfreq(side) for side in grid], indexing="ij")
    radius = np.sqrt(sum(np.square(each) for each in frequencies))
    bins = max(2, max(grid) // 2)
    index = np.minimum((radius / 0.5 * bins).round().astype(int), bins)
    members = np.maximum(np.bincount(index.ravel(), minlength=bins + 1), 1)
    order = np.random.default_rng(seed).permutation(len(x))
    spectra, blocks = [], np.array_split(order, min(BLOCKS, len(x)))
    for rows in blocks:
        power = np.zeros(grid)
        for part in np.array_split(rows, max(1, len(rows) * math.prod(x.shape[1:]) // 2_000_000)):
            # In double precision: a flat example's rounding must not look like texture.
            power += np.square(np.abs(np.fft.fftn(x[part].astype(np.float64), axes=axes))).sum((0, 1))
        power /= len(rows) * x.shape[1]
        spectra.append(np.bincount(index.ravel(), power.ravel(), bins + 1) / members)
    # The first bin holds the mean brightness, which is no matter of texture; empty bins of thin grids go too.
    there = np.bincount(index.ravel(), minlength=bins + 1)[1:] > 0
    return np.array(spectra)[:, 1:][:, there], np.array([len(rows) for rows in blocks])


def spectrum_distance(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the root mean square difference of the two mean power spectra by spatial frequency, in decibels.

    Shapes (N, C, *grid), (M, C, *grid); range [0, inf), 0 for equal spectra, not a number where the reference is flat
    and the samples are not. Powers below 1e-10 of the reference's largest count as that. Interval: block jackknife on
    both sets; none where one has fewer than four examples.

    Known biases: positive for equal distributions by an amount that falls with the counts; not periodic borders leak.
    Source: Durall et al. 2020, with the mean taken before the logarithm.
    """
    reference, samples = _on_grids(reference, samples)
    if max(reference.shape[2:]) < 3:
        raise ValueError(f"a grid of {reference.shape[2:]} is too small for a spectrum: some side must be at least 3")
    spectra = _power(reference, 1), _power(samples, 2)
    means = [np.average(each, axis=0, weights=counts) for each, counts in spectra]
    nothing = max(float(np.square(x, dtype=np.float64).mean()) for x in (reference, samples))
    nothing *= ROUNDING**2 * math.prod(reference.shape[2:])
    if means[0].max() <= nothing:  # flat examples: equal to flat ones, and no decibels from any others
        equal = bool(means[1].max() <= nothing)
        return Measure(0.0 if equal else math.nan, None, None, "spectrum", "lower", "dB")
    floor = float(means[0].max()) * 1e-10

    def distance(first: np.ndarray, second: np.ndarray) -> float:
        ratio = np.log10(np.maximum(second, floor) / np.maximum(first, floor))
        return 10 * float(np.sqrt(np.square(ratio).mean()))

    value = distance(means[0], means[1])
    variances: list[float] = []
    for side, (each, counts) in enumerate(spectra):
        blocks = len(each)
        if blocks < 4:
            return Measure(value, None, None, "spectrum", "lower", "dB")
        left = (counts.sum() - counts)[:, None]
        kept = (means[side] * counts.sum() - counts[:, None] * each) / left
        moved = [distance(part, means[1]) if side == 0 else distance(means[0], part) for part in kept]
        variances.append((blocks - 1) * float(np.var(moved)))
    total = sum(variances)
    parts = sum(v**2 / (len(each) - 1) for v, (each, _) in zip(variances, spectra, strict=True))
    freedom = total**2 / parts if parts > 0 else 1.0  # Satterthwaite's
    low, high = interval(value, total**0.5, quantile=student(freedom), floor=0.0)
    return Measure(value, low, high, "spectrum", "lower", "dB")


def mean_distance_between_pairs(reference: np.ndarray, samples: np.ndarray) -> Measure:
    """Return the mean Euclidean distance between two samples over that between two reference examples.

    Shapes (N, ...), (M, ...): values or features; range [0, inf), 1 is as diverse as real data, 0 one single sample;
    not a number where the reference is a single point and the samples are not. Interval: first-order U-statistic
    (Hoeffding 1948) in logarithms, Student's t with Satterthwaite's degrees of freedom.

    Known biases: noise counts as diversity, blur as the lack of it.
    Source: the diversity of Zhu et al. 2017 (BicycleGAN), by plain distances and over the real data's.
    """
    reference, samples = np.asarray(reference), np.asarray(samples)
    flat = matching_features(reference.reshape(len(reference), -1), samples.reshape(len(samples), -1))
    rows = []
    for x in flat:
        tiny = ROUNDING * np.abs(x).max()
        x = x - x.mean(0)
        lengths = np.square(x).sum(1)
        step = max(1, 8_000_000 // len(x))
        sums = [
            np.sqrt(squared_distances(x[i : i + step], x, y_lengths=lengths)).sum(1) for i in range(0, len(x), step)
        ]
        # Each row's mean moves the mean of pairs by twice its own part, hence the factor two on its deviation.
        means = np.concatenate(sums) / (len(x) - 1)
        means = np.where(means > tiny, means, 0)
        rows.append(means.mean() + 2 * (means - means.mean()))
    return _ratio_of_means(rows[1], rows[0], "diversity")


def modes_found(
    samples: np.ndarray, centres: np.ndarray, deviation: float, *, reach: float = 4.0, share: float = 0.1
) -> dict[str, Measure]:
    """Return how many modes of a known mixture the samples hold, and the share of samples at any mode.

    Shapes (M, D) and (K, D); `modes`: centres that have at least `share` of an even part of the samples within
    `reach` deviations, range 0 to K, no interval; `at_modes`: share of samples that near to their nearest centre, range
    [0, 1]. Interval: exact (Clopper and Pearson 1934).

    Known biases: `at_modes` of perfect samples is below 1 (0.9997 for 4 deviations in two dimensions, less in more).
    Source: Srivastava et al. 2017 (with a minimum count, so that noise does not find modes).
    """
    samples, centres = matching_features(samples, centres, least=1)
    if not deviation > 0:
        raise ValueError(f"deviation: {deviation} must be positive")
    distances = np.sqrt(squared_distances(samples, centres, y_lengths=np.square(centres).sum(1)))
    near = distances.min(1) <= reach * deviation
    counts = np.bincount(distances.argmin(1)[near], minlength=len(centres))
    modes = int((counts >= max(1.0, share * len(samples) / len(centres))).sum())
    bounds = stats.binomtest(int(near.sum()), len(samples)).proportion_ci(0.95)
    return {
        "modes": Measure(float(modes), None, None, "modes", "higher", f"of {len(centres)}"),
        "at_modes": Measure(float(near.mean()), float(bounds.low), float(bounds.high), "at_modes", "higher"),
    }
