"""Where data have labels: are all classes there, in the right shares, and are samples of the class asked for?"""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trilemma.metrics.protocol import Measure, bounded_interval, student


def class_reader(features: np.ndarray, labels: np.ndarray) -> object:
    """Return a classifier of features (N, D) with labels (N,), for `.predict`: a linear one, on standardised values."""
    if len(np.unique(labels)) < 2:
        raise ValueError("labels: a classifier needs at least two classes")
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(features, labels)


def class_shares(
    reference: np.ndarray, samples: np.ndarray, *, count: int | None = None, share: float = 0.1
) -> dict[str, Measure]:
    """Return how many classes the samples hold, and how far their shares are those of the reference.

    Shapes (N,) and (M,): classes as one classifier reads them, in real data and in samples alike, so that its
    mistakes are in both; `count`: how many classes there are, K (those of the reference unless given).
    `classes`: those of the reference that have at least `share` of their part of it among the samples, range 0 to K.
    `balance`: 1 - total variation distance of the two shares, range [0, 1], 1 for equal shares. No interval: near 1 the
    distance is all noise, which a normal interval does not describe.

    Known biases: `balance` of equal distributions is below 1 by about sqrt(K / M); a classifier takes noise for
    something, too. Source: Santurkar et al. 2018; the total variation distance of two multinomials.
    """
    if len(reference) == 0 or len(samples) == 0:
        raise ValueError("class shares need at least one example and one sample")
    names = np.unique(np.concatenate([reference, samples]))
    real, made = (np.array([(each == name).mean() for name in names]) for each in (reference, samples))
    there = (real > 0) & (made > 0) & (made >= share * real)
    return {
        "classes": Measure(float(there.sum()), None, None, "classes", "higher", f"of {count or int((real > 0).sum())}"),
        "balance": Measure(float(1 - np.abs(real - made).sum() / 2), None, None, "balance", "higher"),
    }


def mean_control(hits: np.ndarray) -> Measure:
    """Return the share of attributes that samples have as they were asked for.

    Shape (M, A): 1 where attribute a of sample m is read as it was asked for, 0 where not, NaN where nobody asked. A
    sample counts with the mean over its attributes. Range [0, 1]. Interval: Student's t over samples; near 0 and 1 no
    narrower than Wilson's (1927) of as many independent answers. Known biases: those of `control`, of each attribute;
    attributes that hang together count as often as others. Source: the attribute accuracy of He et al. 2019 (AttGAN).
    """
    each = np.nanmean(hits[~np.isnan(hits).all(1)], 1)
    if hits.ndim != 2 or len(each) == 0:
        raise ValueError(f"attributes: (samples, attributes) with one that was asked for, got {hits.shape}")
    value = float(each.mean())
    if len(each) < 4:
        return Measure(value, None, None, "attributes", "higher")
    error = float(each.std(ddof=1)) / len(each) ** 0.5
    low, high = bounded_interval(value, error, int((~np.isnan(hits)).sum()), quantile=student(len(each) - 1))
    return Measure(value, low, high, "attributes", "higher")


def control(asked: np.ndarray, read: np.ndarray) -> Measure:
    """Return the share of samples that are read as the class that was asked for; shapes (M,) and (M,), range [0, 1].

    Interval: exact (Clopper and Pearson 1934). Known biases: read it beside what the classifier reads right in real
    data, for its mistakes count against the model; samples more typical than real ones are read better than they.
    Source: the converse of the classification accuracy score, Ravuri and Vinyals 2019.
    """
    if asked.shape != read.shape or asked.ndim != 1 or len(asked) == 0:
        raise ValueError(f"control: one class read for each one asked is needed, got {asked.shape} and {read.shape}")
    hits = int((asked == read).sum())
    bounds = stats.binomtest(hits, len(asked)).proportion_ci(0.95)
    return Measure(hits / len(asked), float(bounds.low), float(bounds.high), "control", "higher")
