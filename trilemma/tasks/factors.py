"""What the codes of a series stand for: how each goes with known factors of the same time, and what it moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from trilemma.batches import Arrays
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.modalities.contract import Modality
from trilemma.modalities.entities import Rows, read_entities
from trilemma.modalities.series import Series
from trilemma.models.contract import Decodes, Encodes
from trilemma.tasks.series import conditions_of, label_of, series_of
from trilemma.training.sampling import BATCH, Sampler

OVERLAP = 4  # windows begin a quarter of one apart
BLOCK = 2  # windows' lengths that stay together in a draw of the bootstrap
DRAWS = 1000
LEAST = 8  # blocks, below which no interval is worth its name
FOLDS, RIDGE = 5, 0.1  # stretches of time in turn, and the penalty in units of a code's variance


def known_factors(
    sampler: Sampler, modality: Modality, source: Any, factors: Any, *, codes: int, seed: int
) -> pd.DataFrame:
    """A row for each factor and each of the most used codes: `factor, code, deviation, correlation, low, high`, ...

    Windows of the series are encoded, and each factor is averaged over the time of each window: a row of its table
    holds until the next one. Intervals: 95 %, circular block bootstrap over time, entities of equal time together
    (Politis & Romano 1992); one pair in twenty lies apart from 0 by chance. moves X: what one deviation of the code,
    from half of one below its mean to half of one above, all others at their means, adds to column X: to its change
    over a window where it is learned by changes (of a price, of its logarithm), else to its mean level. The code `all`
    is what all codes together tell of a factor, by a ridge regression that did not see that stretch of time.

    Raises:
        InputError: no series; times that are only counted; several series of factors; hardly any time in common.
    """
    series = series_of(modality, "--factors")
    if series.clock.counted:
        raise InputError("--factors: this run's times are only counted; factors are found by their dates")
    given = read_entities(factors, str(factors) if isinstance(factors, str) else "factors")
    if len(given.found) != 1 or given.clock.counted:
        raise InputError(f"{factors}: needs one column of dates and columns of factors, a row a date")
    found, labels, spans = _encoded(sampler, series, source)
    values = np.stack([_averaged(given.found[0], c, spans) for c in range(len(given.columns))], 1)
    both = np.isfinite(values).all(1)
    if both.sum() < 2 * LEAST:
        raise InputError(f"{factors}: {both.sum()} windows of {source} lie within its time; at least {2 * LEAST}")
    found, values, spans = found[both], values[both], spans[both]
    deviation = found.std(0)
    used = np.argsort(-deviation)[:codes]
    drawn = _bootstrap(spans[:, 0], series, np.random.default_rng(seed))
    moved = [_moved(sampler, series, found, int(code), labels, seed) for code in used]
    told = _told(found, values, spans)
    rows = []
    for c, column in enumerate(given.columns):
        for code, moves in [(None, {}), *zip(used, moved, strict=True)]:
            pair = np.stack([told[:, c] if code is None else found[:, code], values[:, c]], 1)
            again = [_correlation(pair[places]) for places in drawn]
            low, high = np.quantile(again, [0.025, 0.975]) if again else (np.nan, np.nan)
            rows.append({
                "factor": column.name, "code": "all" if code is None else str(code),
                "deviation": np.nan if code is None else deviation[code],
                "correlation": _correlation(pair), "low": low, "high": high, **moves,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _told(codes: np.ndarray, values: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Factors (n, F) as all codes together tell them, by a ridge regression on the other stretches of time."""
    made = np.empty_like(values)
    scaled = (codes - codes.mean(0)) / np.where(codes.std(0) > 0, codes.std(0), 1)
    for part in np.array_split(np.arange(len(codes)), FOLDS):
        first, last = spans[part[0], 0], spans[part, 1].max()
        far = (spans[:, 1] < first) | (spans[:, 0] > last)  # windows that share no time with these
        if not far.any():
            raise InputError(
                "--factors: all windows lie at about the same time; codes need longer series to be held to"
            )
        x, y = scaled[far], values[far]
        gram = (x - x.mean(0)).T @ (x - x.mean(0)) + RIDGE * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, (x - x.mean(0)).T @ (y - y.mean(0)))
        # Without the mean of the other stretches: it is low where this one is high.
        made[part] = (scaled[part] - x.mean(0)) @ weights
    return made


def _encoded(sampler: Sampler, series: Series, source: Any) -> tuple[np.ndarray, int | None, np.ndarray]:
    """Codes (n, D) of windows in order of time, the label of one of them, and their first and last times (n, 2)."""
    model, size = sampler.model, series.window
    assert isinstance(model, Encodes)
    x, known, labels, spans = [], [], [], []
    for rows in series.rows(source):
        whole, seen = series.encode(rows.values, rows.times)
        for begin in range(0, whole.shape[1] - size + 1, max(size // OVERLAP, 1)):
            x.append(whole[:, begin : begin + size])
            known.append(seen[:, begin : begin + size])
            labels.append(label_of(series, rows.name) or 0)
            spans.append((rows.times[begin], rows.times[begin + size - 1]))
    if not x:
        raise InputError(f"{source}: shorter than a window of {size} steps; give more")
    order = np.argsort([first for first, _ in spans], kind="stable")
    conditions = conditions_of(sampler, np.array(labels)[order][:, None] if "label" in model.spaces else None)
    arrays = Arrays(np.stack(x)[order], observed=np.stack(known)[order], conditions=conditions)
    made = []
    model.eval()
    for batch in arrays.batches(BATCH, seed=0, device=str(sampler.engine.device)):
        with torch.no_grad(), sampler.engine.autocast():
            made.append(model.encode(tell(model.spaces, batch)).float().cpu().numpy())
    return np.concatenate(made).astype(np.float64), labels[0] if conditions else None, np.array(spans)[order]


def _averaged(rows: Rows, c: int, spans: np.ndarray) -> np.ndarray:
    """A factor's mean over each span (n, 2) of seconds, as far as it is known there; NaN outside of its time."""
    step = np.diff(rows.times)
    edges = np.append(rows.times, rows.times[-1] + (step[-1] if len(step) else 1)).astype(float)
    known = np.isfinite(rows.values[:, c])
    lengths = np.diff(edges)
    total, there = (
        np.interp(spans, edges, np.append(0.0, np.cumsum(each * lengths)))
        for each in (np.where(known, rows.values[:, c], 0.0), known.astype(float))
    )
    length = np.diff(there, axis=1)[:, 0]
    inside = (spans[:, 0] >= edges[0]) & (spans[:, 1] <= edges[-1]) & (length > 0)
    return np.where(inside, np.diff(total, axis=1)[:, 0] / np.where(length > 0, length, 1.0), np.nan)


def _bootstrap(begins: np.ndarray, series: Series, random: np.random.Generator) -> list[np.ndarray]:
    """Places of windows drawn in circular blocks of time; none where there are too few blocks."""
    times, owner = np.unique(begins, return_inverse=True)
    block = BLOCK * min(OVERLAP, series.window)
    count = -(-len(times) // block)
    if count < LEAST:
        return []
    members = [np.flatnonzero(owner == number) for number in range(len(times))]
    made = []
    for _ in range(DRAWS):
        starts = random.integers(len(times), size=count)
        chosen = (starts[:, None] + np.arange(block)).ravel()[: len(times)] % len(times)
        made.append(np.concatenate([members[number] for number in chosen]))
    return made


def _correlation(pair: np.ndarray) -> float:
    """Of two columns (n, 2); 0 where one of them never changes."""
    apart = pair - pair.mean(0)
    scale = float(np.sqrt(np.square(apart).sum(0)).prod())
    return float((apart[:, 0] * apart[:, 1]).sum() / scale) if scale > 0 else 0.0


@torch.no_grad()
def _moved(
    sampler: Sampler, series: Series, codes: np.ndarray, code: int, label: int | None, seed: int
) -> dict[str, float]:
    """What one deviation of a code adds to each column."""
    model = sampler.model
    assert isinstance(model, Decodes)
    way = np.repeat(codes.mean(0, keepdims=True), 2, 0)
    way[:, code] += np.array([-0.5, 0.5]) * codes[:, code].std()
    request = sampler.request(seed, np.zeros(2, dtype=np.int64), label=label)
    with sampler.engine.autocast():
        x = sampler.array(model.decode(torch.from_numpy(way).float().to(sampler.engine.device), request))
    learned, made = series.learned(x), {}
    for c, channel in enumerate(series.channels[: series.told]):
        own = learned[:, c].sum(1) if channel.wanders else learned[:, c].mean(1)
        made[f"moves {channel.column.name}"] = float(own[1] - own[0])
    return made
