"""Do pictures and captions go together, by vectors of a network that puts both into one space?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trilemma.metrics.protocol import Measure, bounded_interval, interval, over_examples, student

AMONG = 100  # candidates, one's own included
BLOCKS = 20


def found_among(
    cosines: np.ndarray, kinds: np.ndarray, *, most: int, among: int = AMONG, name: str = "retrieval"
) -> Measure:
    """Return the share of queries whose own candidate is among the `most` nearest of `among`: recall at `most`.

    cosines (N, N): of query i and candidate j, its own on the diagonal; kinds (N,): candidates of a query's own kind
    (equal captions) are neither right nor wrong, and count as not there. The value is the expectation over which
    `among` - 1 of the others stand beside one's own, computed exactly (hypergeometric), ties in random order. Range
    [0, 1]; chance is `most` / `among`. With fewer than `among` examples all of them are candidates. Interval: block
    jackknife over examples, each left out as a query and as a candidate; near 0 and 1 no narrower than Wilson's of as
    many independent queries; none of fewer than 40. Known biases: none in N; what the network
    cannot tell apart nobody finds: read it beside that of real pairs. Source: recall at K, Frome et al. 2013.
    """
    cosines, kinds = np.asarray(cosines, dtype=np.float64), np.asarray(kinds)
    count = len(cosines)
    if cosines.shape != (count, count) or kinds.shape != (count,) or count < 2:
        raise ValueError(f"retrieval: a square of cosines and a kind of each, got {cosines.shape} and {kinds.shape}")
    own, other = np.diagonal(cosines)[:, None], kinds[:, None] != kinds
    better, equal = (cosines > own) & other, (cosines == own) & other
    blocks = np.array_split(np.arange(count), min(BLOCKS, count))

    def share(queries: np.ndarray, left: np.ndarray) -> float:
        """Of these queries, among candidates that are `left`."""
        above, alike = better[np.ix_(queries, left)].sum(1), equal[np.ix_(queries, left)].sum(1)
        # Below each count of better ones: the chance that fewer than `most` of them are drawn, summed up.
        sums = np.concatenate([[0.0], np.cumsum(_chances(len(left) - 1, most, min(among, len(left)) - 1))])
        return float(((sums[above + alike + 1] - sums[above]) / (alike + 1)).mean())

    value = share(np.arange(count), np.arange(count))
    if count < 2 * BLOCKS:
        return Measure(value, None, None, name, "higher")
    parts = []
    for block in blocks:
        left = np.setdiff1d(np.arange(count), block)
        parts.append(share(left, left))
    deviation = math.sqrt((len(parts) - 1) ** 2 / len(parts) * float(np.var(parts, ddof=1)))
    low, high = bounded_interval(value, deviation, count, quantile=student(BLOCKS - 1))
    return Measure(value, low, high, name, "higher")


def _chances(others: int, most: int, drawn: int) -> np.ndarray:
    """(others + 1,): of b = 0, 1 ... better ones among `others`, that fewer than `most` are among `drawn` of them."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, others + 1)))])

    def log_choose(n: np.ndarray, k: int) -> np.ndarray:
        inside = (k >= 0) & (n >= k)
        safe = np.where(inside, n, max(k, 0))
        return np.where(inside, logs[safe] - logs[max(k, 0)] - logs[safe - max(k, 0)], -np.inf)

    better = np.arange(others + 1)
    whole = logs[others] - logs[drawn] - logs[others - drawn]
    terms = [
        np.exp(log_choose(better, k) + log_choose(others - better, drawn - k) - whole)
        for k in range(min(most, drawn + 1))
    ]
    return np.clip(np.sum(terms, axis=0), 0.0, 1.0)


def caption_score(cosines: np.ndarray, name: str = "clip_score") -> Measure:
    """Return the mean cosine (n,) of examples and their captions.

    Range [-1, 1]. Interval: Student's t over examples. Known biases: its unit is the network's own, and one that has
    learned by heart has larger ones for what it has seen: read it beside real pairs that it has not, and beside pairs
    that were shuffled. Source: Hessel et al. 2021 (there cut at 0 and times 2.5).
    """
    cosines = np.asarray(cosines, dtype=np.float64)
    if cosines.ndim != 1 or len(cosines) == 0:
        raise ValueError(f"caption score: one cosine for each example, got shape {cosines.shape}")
    return over_examples(cosines, name, "higher", least=-1.0, most=1.0)


def caption_variety(features: np.ndarray, kinds: Sequence[int] | np.ndarray) -> Measure:
    """Return the mean distance of two samples of one caption over that of two samples of different captions.

    features (N, D), kinds (N,): which caption each is of, at least two of each. Range [0, inf), 0: one sample for each
    caption; 1: captions decide nothing; not a number where all samples are one. Captions count alike. Interval:
    jackknife over captions, Student's t, given each one's samples; none of fewer than four captions. Known biases: what
    samples of all captions lack does not show, nor does whether they are of them; noise counts as variety. Source: the
    diversity of Zhu et al. 2017 (BicycleGAN), by plain distances and over that between conditions.
    """
    features, kinds = np.asarray(features, dtype=np.float64), np.asarray(kinds)
    _, counts = np.unique(kinds, return_counts=True)
    if features.ndim != 2 or kinds.shape != (len(features),) or len(counts) < 2 or counts.min() < 2:
        raise ValueError(
            f"caption variety: features and a kind of each, two or more of each: {features.shape}, {counts.tolist()}"
        )
    from scipy.spatial.distance import cdist  # here: a training starts without it

    # Mean distances between each two captions; on the diagonal of each two samples of one.
    member = (kinds[:, None] == np.unique(kinds)).astype(np.float64)
    apart = member.T @ cdist(features, features) @ member / (np.outer(counts, counts) - np.diag(counts))
    own, count = np.diagonal(apart), len(counts)
    others = apart.sum(1) - own
    if not others.sum() > 0:
        return Measure(math.nan, None, None, "caption_variety", "neither")
    value = float(own.sum() / others.sum() * (count - 1))
    rest = others.sum() - 2 * others  # without each caption
    if count < 4 or not (rest > 0).all():
        return Measure(value, None, None, "caption_variety", "neither")
    left = (own.sum() - own) / rest * (count - 2)
    deviation = math.sqrt((count - 1) ** 2 / count * float(np.var(left, ddof=1)))
    low, high = interval(value, deviation, quantile=student(count - 1), floor=0.0)
    return Measure(value, low, high, "caption_variety", "neither")


def shuffled(count: int, kinds: Sequence[int] | np.ndarray) -> np.ndarray:
    """(count,) for each example the place of another one, of another kind wherever there is one."""
    kinds, places = np.asarray(kinds), np.arange(count)
    other = np.roll(places, -1)
    for step in range(2, count):
        same = kinds[other] == kinds
        if not same.any():
            break
        other = np.where(same, np.roll(places, -step), other)
    return other
