"""Scenarios: paths of a series that meet conditions (see `modalities/scenario.py`), as probable as the model has them.

Levels that are demanded exactly are given to a model that fills in the rest; all else is met by leaving out the paths
that do not: exact for any model, and refused where it would take too long.
"""

from __future__ import annotations

import numpy as np

from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.modalities.contract import Modality
from trilemma.modalities.scenario import Demand, parse
from trilemma.modalities.series import Series
from trilemma.models.contract import Fills
from trilemma.tasks.series import fill, series_of
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Sampler

PATIENCE = 500  # paths looked at for one that is wanted,
LEAST = 5000  # and at least so many before giving up


def scenarios(
    sampler: Sampler,
    modality: Modality,
    n: int,
    where: str,
    *,
    horizon: int | None,
    label: int | None,
    seed: int,
    options: Options,
) -> tuple[np.ndarray, float]:
    """n raw windows cut to `horizon` steps (None: whole ones) that meet `where`, and the share of all that did.

    Raises:
        InputError: conditions that cannot be read, that (almost) no path of the model meets, or exact values for a
            model that does not fill in.
    """
    series = series_of(modality, "stress")
    length = series.window if horizon is None else horizon
    if not 1 <= length <= series.window:
        raise InputError(f"--horizon {length}: paths of this run have 1 to {series.window} steps")
    if n < 1:
        raise InputError(f"-n {n}: ask for at least one path")
    demands = parse(where, series.channels[: series.told], length)
    exact = [each for each in demands if each.given(length) is not None]
    if exact and not (isinstance(sampler.model, Fills) and sampler.model.can_fill()):
        raise InputError(
            f"--where {where!r}: this model fills in nothing, so that no exact value can be given; use < or >"
        )
    others = [each for each in demands if each not in exact]
    kept, found, looked, bar = [], 0, 0, Bar("stress", n)
    while found < n:
        index = np.arange(looked, looked + BATCH)
        x = _given(sampler, series, exact, length, index, label, seed, options) if exact else sampler.samples(
            BATCH, seed=seed, start=looked, label=label, options=options
        )  # fmt: skip
        good = x[_meets(series, x[:, :, :length], others)]
        kept.append(good)
        found, looked = found + len(good), looked + BATCH
        bar.update(min(found, n), {})
        if found < n and looked >= max(LEAST, PATIENCE * found):
            raise InputError(
                f"--where {where!r}: {found} of {looked:,} paths that the model made meet it; ask for something that "
                "is less rare, or a longer --horizon"
            )
    bar.close()
    return np.concatenate(kept)[:n, :, :length], found / looked


def _meets(series: Series, x: np.ndarray, demands: list[Demand]) -> np.ndarray:
    """Which of raw x (n, channels, T) meet all demands."""
    levels, met = series.decode(x), np.ones(len(x), dtype=bool)
    for each in demands:
        own, channel = levels[:, :, each.place], series.channels[each.place]
        before = np.full(len(x), channel.start) if channel.wanders else own[:, 0]
        met &= each.holds(own, before)
    return met


def _given(
    sampler: Sampler,
    series: Series,
    demands: list[Demand],
    length: int,
    index: np.ndarray,
    label: int | None,
    seed: int,
    options: Options,
) -> np.ndarray:
    """Raw windows in which the levels demanded are given."""
    x = np.zeros((len(index), len(series.channels) + len(series.calendar), series.window), dtype=np.float32)
    observed = np.zeros(x.shape, dtype=bool)
    for each in demands:
        step, column = each.given(length), series.channels[each.place].column
        x[:, each.place, step] = column.scores(np.array([each.value]), np.array([0.5]))
        observed[:, each.place, step] = True
    labels = sampler.labels(seed, index) if label is None else np.full((len(index), 1), label)
    return fill(sampler, x, observed, seed=seed, index=index, label=labels, options=options)
