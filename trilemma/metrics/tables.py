"""Tables: does each column look right, and each pair of columns? By SDMetrics' definitions, on plain arrays."""

from __future__ import annotations

import numpy as np
from scipy import stats

from trilemma.metrics.protocol import Measure

BINS = 10  # into which a number is cut where it meets a category
PAIRS = 5000  # of columns that are looked at: all of a hundred columns, of more some drawn at random
COUNTED = 1 << 20  # counts in a table: of more only those that are not 0


def _checked(reference: np.ndarray, samples: np.ndarray, numbers: list[bool]) -> None:
    if reference.ndim != 2 or samples.ndim != 2 or not reference.shape[1] == samples.shape[1] == len(numbers):
        raise ValueError(f"tables: shapes {reference.shape} and {samples.shape} for {len(numbers)} columns do not fit")
    if len(reference) == 0 or len(samples) == 0:
        raise ValueError("tables: at least one row of each is needed")


def shape_of(reference: np.ndarray, samples: np.ndarray, *, number: bool) -> float:
    """Likeness of one column, (n,) and (m,), in [0, 1]; NaN cells are left out.

    0 where one of them has no cell, NaN where neither has.

    Of numbers 1 - the Kolmogorov-Smirnov statistic, of categories 1 - the total variation distance.
    """
    real, made = reference[~np.isnan(reference)], samples[~np.isnan(samples)]
    if len(real) == 0 or len(made) == 0:
        return 0.0 if len(real) or len(made) else float("nan")
    if number:
        both = np.concatenate([real, made])
        below = [np.searchsorted(np.sort(each), both, "right") / len(each) for each in (real, made)]
        return float(1 - np.abs(below[0] - below[1]).max())
    return 1 - _variation(real, made)


def _variation(real: np.ndarray, made: np.ndarray) -> float:
    """Of codes (n,) and (m,)."""
    codes = np.concatenate([real, made]).astype(np.int64)
    if codes.max() >= COUNTED:
        codes = np.unique(codes, return_inverse=True)[1]
    count = codes.max() + 1
    shares = [np.bincount(part, minlength=count) / len(part) for part in np.split(codes, [len(real)])]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def column_shapes(reference: np.ndarray, samples: np.ndarray, numbers: list[bool]) -> Measure:
    """Mean likeness of the columns of two tables (n, C) and (m, C); higher is better.

    numbers: which columns are numbers; the others hold codes of categories. Range [0, 1]. No interval is stated. Known
    biases: equal distributions give less than 1, by about 0.9 sqrt(1 / n + 1 / m) a column of numbers. Source:
    KSComplement and TVComplement of SDMetrics (Column Shapes).
    """
    _checked(reference, samples, numbers)
    found = [shape_of(reference[:, place], samples[:, place], number=number) for place, number in enumerate(numbers)]
    known = [value for value in found if not np.isnan(value)]
    return Measure(float(np.mean(known)) if known else float("nan"), None, None, "shapes", "higher")


def pair_trends(reference: np.ndarray, samples: np.ndarray, numbers: list[bool]) -> Measure | None:
    """Mean likeness of all pairs of columns of two tables (n, C) and (m, C), range [0, 1]; None for a single column.

    Of more than a hundred columns 5,000 pairs are drawn at random, the same ones in every table of as many columns.

    Two numbers: 1 - half the difference of Pearson's correlations, where both have one; 0 where one table has fewer
    than two rows with both. Else 1 - the total variation distance of the tables of counts; a number is cut into ten
    equal parts of its real range; empty cells count.
    No interval is stated. Known biases: as of `column_shapes`, and stronger where there are many pairs of categories.
    Source: CorrelationSimilarity and ContingencySimilarity of SDMetrics (Column Pair Trends).
    """
    _checked(reference, samples, numbers)
    columns, cut = [np.ascontiguousarray(each.T) for each in (reference, samples)], []
    for number, *pair in zip(numbers, *columns, strict=True):
        if number:
            known = pair[0][~np.isnan(pair[0])]
            edges = np.histogram_bin_edges(known, BINS)[1:-1] if len(known) else np.zeros(1)
            codes = [np.where(np.isnan(each), BINS + 1, np.digitize(each, edges)) for each in pair]
        else:
            codes = [np.where(np.isnan(each), -1, each).astype(np.int64) + 1 for each in pair]
        cut.append((codes, 1 + max(int(part.max()) for part in codes)))
    pairs = np.stack(np.triu_indices(len(numbers), 1), 1)
    if len(pairs) > PAIRS:
        pairs = pairs[np.random.default_rng(0).choice(len(pairs), PAIRS, replace=False)]
    found = []
    for first, second in pairs.tolist():
        if numbers[first] and numbers[second]:
            found.append(_correlations(*([each[first], each[second]] for each in columns)))
            continue
        (one, _), (two, most) = cut[first], cut[second]
        found.append(1 - _variation(*(a * most + b for a, b in zip(one, two, strict=True))))
    known = [value for value in found if not np.isnan(value)]
    return Measure(float(np.mean(known)), None, None, "trends", "higher") if known else None


def associations(values: np.ndarray, numbers: list[bool]) -> np.ndarray:
    """How strongly each two columns of a table (n, C) go together: (C, C), NaN where a column has one value only.

    Two numbers: Pearson's correlation in [-1, 1]. A number and a category: the correlation ratio in [0, 1], the root of
    the share of variance between the category's groups (Fisher 1925). Two categories: Cramer's V in [0, 1] (1946,
    section 21.9). Rows in which either cell is empty are left out.
    """
    count = values.shape[1]
    found = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(i, count):
            known = ~np.isnan(values[:, [i, j]]).any(1)
            one, two = values[known, i], values[known, j]
            if len(one) < 2 or one.min() == one.max() or two.min() == two.max():
                continue
            if numbers[i] and numbers[j]:
                strength = float(np.corrcoef(one, two)[0, 1])
            elif not numbers[i] and not numbers[j]:
                table = stats.contingency.crosstab(one, two).count
                strength = float(stats.contingency.association(table, "cramer"))
            else:
                number, category = (one, two) if numbers[i] else (two, one)
                groups = np.unique(category, return_inverse=True)[1]
                means = np.bincount(groups, number) / np.bincount(groups)
                strength = float(min(np.sqrt(means[groups].var() / number.var()), 1.0))
            found[i, j] = found[j, i] = strength
    return found


def _correlations(*tables: list[np.ndarray]) -> float:
    """Likeness of the correlations of two columns (n,) in either table."""
    found, counts = [], []
    for one, two in tables:
        known = ~(np.isnan(one) | np.isnan(two))
        one, two = one[known], two[known]
        counts.append(len(one))
        if len(one) < 2 or one.min() == one.max() or two.min() == two.max():
            found.append(np.nan)
            continue
        one, two = one - one.mean(), two - two.mean()
        found.append(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
    if (counts[0] < 2) != (counts[1] < 2):
        return 0.0
    return float(1 - abs(found[0] - found[1]) / 2)


def rules_broken(broken: np.ndarray) -> Measure:
    """Share of rows (n,) that break a rule between columns, bool in; lower is better.

    Range [0, 1]. Interval: exact (Clopper and Pearson 1934). Known biases: none. Source: a binomial share, as
    plain as it is.
    """
    if broken.ndim != 1 or len(broken) == 0:
        raise ValueError(f"tables: one truth for each row is needed, not shape {broken.shape}")
    times = int(broken.sum())
    result = stats.binomtest(times, len(broken)).proportion_ci(0.95)
    return Measure(times / len(broken), float(result.low), float(result.high), "rules_broken", "lower")
