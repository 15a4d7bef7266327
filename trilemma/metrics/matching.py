"""Do pictures and captions go together, by vectors of a network that puts both into one space?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trilemma.metrics.protocol import Measure, bounded_interval, over_examples, student

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
    terms = [np.exp(log_choose(better, k) + log_choose(others - better, drawn - k) - whole) for k in range(most)]
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
