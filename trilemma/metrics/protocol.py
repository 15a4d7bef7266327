"""What stands behind a number: a measure with its interval, and the protocol under which it was taken."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from typing import Any, Literal

import numpy as np

RECIPE = 11  # a new number wherever metrics are added or defined anew: old rows are then measured again
Better = Literal["lower", "higher", "one", "half", "neither"]


@dataclass(frozen=True)
class Measure:
    """One measured figure with its 95 % interval.

    The interval covers the sampling error of the metric's expectation at the counts that were measured; it says
    nothing about other training seeds. `low` and `high` are None where no interval can be stated; the value is not a
    number where nothing can be said at all (`records` leaves those out). `better` names the good direction: "one" for
    ratios to the real data, "half" for a classifier that should be at chance.
    """

    value: float
    low: float | None
    high: float | None
    name: str
    better: Better
    unit: str = ""

    def record(self) -> dict[str, Any]:
        """Return the measure as plain values for JSON, with None in place of what is not finite."""
        entries = asdict(self)
        for key in ("value", "low", "high"):
            number = entries[key]
            entries[key] = number if number is not None and math.isfinite(number) else None
        return entries


def records(measures: Mapping[str, Measure]) -> dict[str, dict[str, Any]]:
    """Return measures by name as plain values for JSON, without those whose value cannot be said: is not finite."""
    return {name: measure.record() for name, measure in measures.items() if math.isfinite(measure.value)}


def interval(
    value: float, deviation: float, *, quantile: float = 1.959964, floor: float = -math.inf, ceiling: float = math.inf
) -> tuple[float, float]:
    """Return value -/+ quantile * deviation, cut to the metric's range, with the value always inside."""
    low = max(value - quantile * deviation, min(floor, value))
    high = min(value + quantile * deviation, max(ceiling, value))
    return low, high


def share_interval(value: float, count: float, *, quantile: float = 1.959964) -> tuple[float, float]:
    """Return the interval of a share of `count` independent rows: Wilson's (1927), which knows no certainty."""
    square = quantile**2
    middle = (value + square / (2 * count)) / (1 + square / count)
    half = quantile / (1 + square / count) * (value * (1 - value) / count + square / (4 * count**2)) ** 0.5
    return max(min(middle - half, value), 0.0), min(max(middle + half, value), 1.0)


def bounded_interval(
    value: float, deviation: float, count: float, *, quantile: float = 1.959964
) -> tuple[float, float]:
    """Return the interval of a mean of `count` figures, each from 0 to 1: value -/+ quantile * deviation, cut to that.

    While less than three figures' worth is missing at one end, the mean is no surer than a share of as many rows: what
    is missing may not be there at all, and the deviation then claims certainty.
    """
    low, high = interval(value, deviation, quantile=quantile, floor=0.0, ceiling=1.0)
    if min(value, 1 - value) * count < 3:
        least, most = share_interval(value, count)
        low, high = min(low, least), max(high, most)
    return low, high


def over_examples(
    values: np.ndarray, name: str, better: Better, unit: str = "", *, least: float = -math.inf, most: float = math.inf
) -> Measure:
    """Return the mean of a figure an example (N,); Student's interval, cut to the range, none of fewer than four."""
    value = float(values.mean())
    if len(values) < 4:
        return Measure(value, None, None, name, better, unit)
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    low, high = interval(value, error, quantile=student(len(values) - 1), floor=least, ceiling=most)
    return Measure(value, low, high, name, better, unit)


def student(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t."""
    from scipy import special  # here: a report opens without it

    return float(special.stdtrit(freedom, 0.975))


def matching_features(reference: np.ndarray, samples: np.ndarray, *, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets as float64 arrays (N, D) and (M, D), or say what is wrong with them.

    Raises ValueError for other shapes, different dimensions, values that are not finite and fewer than `least` rows.
    """
    sets = []
    for name, given in (("reference", reference), ("samples", samples)):
        array = np.asarray(given, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(f"{name}: expected features of shape (count, dimension), got {array.shape}")
        if len(array) < least:
            raise ValueError(f"{name}: {len(array)} rows are too few for this metric; it needs at least {least}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {int((~np.isfinite(array)).any(1).sum())} rows hold values that are not finite")
        sets.append(array)
    if sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(
            f"reference has {sets[0].shape[1]} features and samples have {sets[1].shape[1]}: take both from one network"
        )
    return sets[0], sets[1]


def fingerprint(*arrays: np.ndarray) -> str:
    """Return 16 hexadecimal digits that change with any value, shape or type of the arrays, in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def current_versions() -> dict[str, str]:
    """Return the versions that can move a figure: numpy, scipy, scikit-learn, torch, trilemma and wordllama where
    installed."""
    versions = {}
    for name in ("numpy", "scipy", "scikit-learn", "torch", "trilemma", "wordllama"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True)
class Protocol:
    """Everything besides the samples that a figure depends on.

    `seeds` are those of the measuring (feature network, folds, subsamples), never those of the training that is
    measured. `data_hash` is the fingerprint of the reference data before features are taken from them. `judges`: hash
    (or name and reference count) of each further feature network, by the name that stands behind @ in a metric.
    `moved_count`: samples that are moved along directions of styles, where a model has any.
    """

    features: str
    features_hash: str
    split: str
    reference_count: int
    sample_count: int
    resize: str = "none"
    feature_split: str = "train"
    seeds: Mapping[str, int] = field(default_factory=dict)
    data_hash: str = ""
    judges: Mapping[str, str] = field(default_factory=dict)
    moved_count: int = 0
    recipe: int = RECIPE
    versions: Mapping[str, str] = field(default_factory=current_versions)

    def record(self) -> dict[str, Any]:
        """Return the protocol as plain values for JSON."""
        entries = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return entries | {"seeds": dict(self.seeds), "judges": dict(self.judges), "versions": dict(self.versions)}

    @classmethod
    def from_record(cls, entries: Mapping[str, Any]) -> Protocol:
        """Return the protocol that `record` described; raises ValueError for missing or unknown entries."""
        known = {entry.name for entry in fields(cls)}
        # A default would quietly put today's versions in an old record, so that all entries are demanded.
        wrong = sorted(known.symmetric_difference(entries))
        if wrong:
            raise ValueError(f"protocol: missing or unknown entries: {', '.join(wrong)}")
        return cls(**entries)

    def key(self) -> str:
        """Return a short name, stable over sessions, such as `test_2000v1000_classifier64-3fa9`."""
        text = json.dumps(self.record(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:4]
        return f"{self.split}_{self.reference_count}v{self.sample_count}_{self.features}-{digest}"
