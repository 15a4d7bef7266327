"""What made tables give away about the rows that a model learned from: exact copies, membership, an attribute."""

from __future__ import annotations

import numpy as np
from scipy import stats

from trilemma.metrics.classifier import area_interval, area_under_curve
from trilemma.metrics.memorisation import nearest
from trilemma.metrics.protocol import Measure, interval

CHUNK = 4_000_000  # distances at a time
BINS = 10  # equally common parts of a number that is to be guessed


def _keys(cells: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(np.nan_to_num(np.asarray(cells, dtype=np.float64), nan=-9.87e300) + 0.0)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def exact_copies(train: np.ndarray, samples: np.ndarray) -> Measure:
    """Share of rows (n, C) that stand, cell for cell, among the training rows (m, C) too; range [0, 1].

    Interval: exact (Clopper and Pearson 1934). Known biases: none; but rows of few coarse columns meet by chance:
    compare it with the same share of unseen real rows. Source: the converse of NewRowSynthesis of SDMetrics, without
    its tolerance for numbers.
    """
    if samples.shape[1] != train.shape[1]:
        raise ValueError(f"tables: shapes {train.shape} and {samples.shape} do not fit")
    times = int(np.isin(_keys(samples), np.unique(_keys(train))).sum())
    result = stats.binomtest(times, len(samples)).proportion_ci(0.95)
    return Measure(times / len(samples), float(result.low), float(result.high), "exact_copies", "lower")


def membership(train: np.ndarray, unseen: np.ndarray, samples: np.ndarray) -> Measure:
    """How well one who sees only the samples tells training rows from unseen ones: area under the curve, 0.5 is chance.

    Features (n, D), (m, D), (k, D); the guess is the distance to the nearest sample. Range [0, 1]. Interval: DeLong's,
    in the form of `area_interval`. Known biases: a lower bound of what the best attack could do. Source: Chen et al.
    2020, "GAN-Leaks", full black box.
    """
    close = [-nearest(rows, samples)[1] for rows in (train, unseen)]
    area, deviation = area_under_curve(*close)
    low, high = area_interval(area, deviation, len(train), len(unseen))
    return Measure(area, low, high, "membership", "half")


def attribute_gain(
    train: np.ndarray,
    unseen: np.ndarray,
    samples: np.ndarray,
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    number: bool = False,
) -> Measure:
    """How much better a row's attribute is guessed from the samples when the row was trained on; 0 is no gain.

    Features without the attribute (n, D), (m, D), (k, D), and the attribute's values for each: that of the nearest
    sample is the guess; a number's is right where it lies in the right tenth of all. Range [-1, 1]. Interval: normal,
    for the difference of two shares. Known biases: a lower bound, as `membership`. Source: the attribute advantage of
    Yeom et al. 2018.
    """
    known = np.concatenate(answers)
    if number:
        edges = np.unique(np.nanquantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
        answers = tuple(np.where(np.isnan(each), -1, np.digitize(each, edges)) for each in answers)  # type: ignore[assignment]
    shares, variance = [], 0.0
    for rows, right in zip((train, unseen), answers[:2], strict=True):
        guessed = answers[2][nearest(rows, samples)[0]]
        share = float(np.mean((guessed == right) | (np.isnan(guessed) & np.isnan(right))))
        shares.append(share)
        variance += share * (1 - share) / len(rows)
    gain = shares[0] - shares[1]
    low, high = interval(gain, variance**0.5, floor=-1.0, ceiling=1.0)
    return Measure(gain, low, high, "attribute_gain", "lower")


def closest_record(
    train: np.ndarray, unseen: np.ndarray, samples: np.ndarray, numbers: list[bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each made row (k, C) its distance to the closest of the training rows (n, C), to that of the unseen ones
    (m, C), and which row of both together it is.

    Cells in the user's units: a number's distance is its share of the training rows' range, a category's 0 or 1, a
    missing cell is at distance 0 from another one and 1 from all else; their mean over columns.
    Source: DCR of SDMetrics; TabSyn (Zhang et al. 2024) takes the sum, which orders rows alike.
    """
    both = np.concatenate([train, unseen])
    count, close = len(train), []
    step = max(CHUNK // len(both), 1)
    spans = [
        np.ptp(own[~np.isnan(own)]) if number and not np.isnan(own).all() else 1.0
        for own, number in zip(train.T, numbers, strict=True)
    ]
    for start in range(0, len(samples), step):
        part = samples[start : start + step]
        total = np.zeros((len(part), len(both)), dtype=np.float32)
        for place, number in enumerate(numbers):
            own, other = part[:, place, None].astype(np.float32), both[:, place].astype(np.float32)
            apart = (
                np.abs(own - other) / np.float32(spans[place] or 1.0) if number else (own != other).astype(np.float32)
            )
            gone = np.isnan(own), np.isnan(other)
            if gone[0].any() or gone[1].any():
                apart = np.where(gone[0] | gone[1], (gone[0] != gone[1]).astype(np.float32), apart)
            total += apart
        first, second = total[:, :count].min(1), total[:, count:].min(1)
        close.append(np.stack([first, second, total.argmin(1)]))
    first, second, nearest_row = np.concatenate(close, 1)
    return first / len(numbers), second / len(numbers), nearest_row.astype(np.int64)


def closer_to_train(train: np.ndarray, unseen: np.ndarray, samples: np.ndarray, numbers: list[bool]) -> Measure:
    """Share of made rows (k, C) that are closer to a training row than to any unseen real one; 0.5 is chance.

    More training than unseen rows are nearer by chance already: the odds are divided by n / m, so that 0.5 is chance
    and 1 all copies for any counts, and equal ones give the share itself; ties count as chance has it. Range [0, 1].
    Distances as of `closest_record`. Interval: normal; made rows that are closest to one and the same real row count as
    one. Known biases: none, where training and unseen rows were split at random. Source: "DCR score" of TabSyn, Zhang
    et al. 2024; DCROverfittingProtection of SDMetrics is min(1, 2 - 2 x this).
    """
    if not train.shape[1] == unseen.shape[1] == samples.shape[1] == len(numbers):
        raise ValueError(f"tables: shapes {train.shape}, {unseen.shape} and {samples.shape} do not fit")
    first, second, row = closest_record(train, unseen, samples, numbers)
    ratio = len(train) / len(unseen)
    share = float(np.mean(np.where(first == second, ratio / (1 + ratio), first < second)))
    times = np.bincount(row, minlength=1).astype(float)
    deviation = float(np.sqrt(max(share * (1 - share), 1 / len(samples)) * np.square(times / len(samples)).sum()))
    ends = interval(share, deviation, floor=0.0, ceiling=1.0)
    value, low, high = (each / (each + (1 - each) * ratio) for each in (share, *ends))
    return Measure(value, low, high, "closer_to_train", "half")
