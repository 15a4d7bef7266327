"""What people ask of tables: rows under conditions, classes in equal shares, gaps filled in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays, Options
from trilemma.errors import InputError, unknown
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Gaps, Modality
from trilemma.modalities.table import Table
from trilemma.modalities.where import Clause, Where, parse
from trilemma.models.contract import Fills, Model
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Sampler

PART = 10 * BATCH  # rows at a time: a table's are small
LOOK = 4 * BATCH  # rows that tell how often conditions are met
SELDOM = 0.02  # share of rows: more are waited for
PATIENCE = 2000  # rows looked at for one that is wanted,
LEAST = 20_000  # and at least so many before giving up


def table_of(modality: Modality, setting: str) -> Table:
    if not isinstance(modality, Table):
        raise InputError(f"{setting}: only a table has columns; this run's data are of kind {modality.kind}")
    return modality


def fills(model: Model) -> bool:
    """Can this very model fill in what is missing?"""
    return isinstance(model, Fills) and model.can_fill()


@torch.no_grad()
def fill(sampler: Sampler, gaps: Gaps, *, seed: int, index: np.ndarray, options: Options, complete: bool) -> np.ndarray:
    """Raw rows (n, columns): what was not observed, drawn given the rest. Row i has the noise of index[i]."""
    model = sampler.model
    assert isinstance(model, Fills)
    model.eval()
    made = []
    arrays = Arrays(gaps.x, observed=gaps.observed)
    for first in range(0, len(gaps.x), PART):
        places = np.arange(first, min(first + PART, len(gaps.x)))
        batch = arrays.gather(places, seed=seed, index=index[places], device=str(sampler.engine.device))
        request = sampler.request(seed, index[places], options=options)
        with sampler.engine.autocast():
            made.append(sampler.array(model.fill(batch, request, complete=complete)))
    return np.concatenate(made)


def rows_where(
    sampler: Sampler, n: int, wanted: Where, *, options: Options, seed: int = 0, start: int = 0
) -> np.ndarray:
    """n raw rows that meet all conditions (see `modalities/where.py`).

    Rows are made and those that do not meet them left out. Where fewer than SELDOM do, and the model can fill in, the
    cells of which one value is demanded are given to it, and all else is met by leaving out.

    Raises:
        InputError: conditions that (almost) no row of the model meets.
    """
    kept, found, looked = [], 0, 0
    bar = Bar("generate", n)
    for rows, given in _candidates(sampler, wanted, seed=seed, start=start, options=options):
        good = rows[wanted.holds(rows, given=given)]
        kept.append(good)
        found, looked = found + len(good), looked + len(rows)
        bar.update(min(found, n), {})
        if found >= n:
            break
        if looked >= max(LEAST, PATIENCE * found):
            raise InputError(
                f"{wanted.text}: {found} of {looked:,} rows that the model made meet it; ask for something that is "
                "less rare, or train on rows that meet it"
            )
    bar.close()
    return np.concatenate(kept)[:n]


def asked(
    sampler: Sampler,
    modality: Modality,
    n: int,
    *,
    where: str | None,
    balance: str | None,
    seed: int,
    start: int,
    options: Options,
) -> np.ndarray:
    """n raw rows under conditions, in equal shares of a category, or both."""
    table = table_of(modality, "--where" if balance is None else "--balance")
    if balance is not None:
        return balanced(sampler, table, n, balance, where=where, seed=seed, start=start, options=options)
    assert where is not None
    return rows_where(sampler, n, parse(where, table.columns), seed=seed, start=start, options=options)


def _candidates(
    sampler: Sampler, wanted: Where, *, seed: int, start: int, options: Options
) -> Iterator[tuple[np.ndarray, bool]]:
    """Raw rows, and whether they were filled in around what is demanded."""
    met = 1.0
    if fills(sampler.model):
        rows = sampler.samples(LOOK, seed=seed, start=start, options=options, batch=LOOK)
        met, start = wanted.holds(rows).mean(), start + LOOK
        yield rows, False
    while True:
        x, observed = wanted.given(PART, np.random.default_rng([seed % 2**64, start]))
        if met < SELDOM and observed.any():
            gaps = Gaps(x, observed, None)
            yield fill(sampler, gaps, seed=seed, index=start + np.arange(PART), options=options, complete=False), True
        else:
            yield sampler.samples(PART, seed=seed, start=start, options=options, batch=PART), False
        start += PART


def balanced(
    sampler: Sampler, table: Table, n: int, name: str, *, where: str | None, seed: int, start: int, options: Options
) -> np.ndarray:
    """n raw rows in which the values of a category come equally often, mixed."""
    column = category_of(table.columns, name, "--balance")
    place = table.columns.index(column)
    others = parse(where, table.columns).clauses if where else []
    if any(each.place == place and each.sign in ("=", "missing") for each in others):
        raise InputError(f"--balance {name}: --where asks for one value of it; leave one of them out")
    shares = np.diff(np.linspace(0, n, len(column.values) + 1).round().astype(int))
    parts = []
    for number, (value, count) in enumerate(zip(column.values, shares, strict=True)):
        if count:
            said = f"--balance {name}: {value!r}" + (f" with --where {where!r}" if where else "")
            both = Where(said, table.columns, [Clause(place, "=", [float(number)], column.step), *others])
            parts.append(
                rows_where(sampler, int(count), both, seed=seed, start=(number << 32) + start, options=options)
            )
    return np.concatenate(parts)[np.random.default_rng(seed % 2**64).permutation(n)]


def category_of(columns: list[Column], name: str, setting: str) -> Column:
    known = {column.name: column for column in columns if column.kind == "category"}
    if name not in known:
        raise unknown(f"{setting}: category", name, list(known))
    return known[name]


def impute(
    sampler: Sampler, modality: Modality, source: Any, *, draws: int, seed: int, options: Options
) -> tuple[Gaps, np.ndarray, list[np.ndarray]]:
    """What was read, the best guess at it whole, and `draws` of it, raw rows (n, columns) each.

    The guess is the mean of the draws for numbers and their most frequent value for categories.
    """
    if draws < 1:
        raise InputError(f"--draws {draws}: at least one")
    table = table_of(modality, "impute")
    gaps = table.gaps(source)
    holes = np.flatnonzero(~gaps.observed.all(1))
    made: list[np.ndarray] = []
    some = Gaps(gaps.x[holes], gaps.observed[holes], None)
    bar = Bar("impute", draws)
    for number in range(draws):
        rows = gaps.x.copy()
        if len(holes):
            index = (number << 32) + holes
            rows[holes] = fill(sampler, some, seed=seed, index=index, options=options, complete=True)
        made.append(rows)
        bar.update(number + 1, {})
    bar.close()
    return gaps, guess(table.columns, gaps, made), made


def guess(columns: list[Column], gaps: Gaps, draws: list[np.ndarray]) -> np.ndarray:
    """The middle of several draws of raw rows; what was observed stays."""
    learned, middle = [column for column in columns if column.learned], draws[0].copy()
    for place, column in enumerate(learned):
        holes = ~gaps.observed[:, place]
        if not holes.any() or len(draws) == 1:
            continue
        own = np.stack([draw[holes, place] for draw in draws])  # (draws, holes)
        if column.kind == "category":
            values = column.from_scores(own) if column.scored else own
            best = _most_frequent(values.astype(int), len(column.values)).astype(float)
            middle[holes, place] = column.scores(best, np.full(len(best), 0.5)) if column.scored else best
        else:
            mean = column.nearest(column.from_scores(own).mean(0))
            middle[holes, place] = column.scores(mean, np.full(len(mean), 0.5))
    return middle


def _most_frequent(values: np.ndarray, count: int) -> np.ndarray:
    """Of each column of (draws, n) whole numbers; the first drawn of those that come equally often."""
    times = (values[:, None, :] == values[None, :, :]).sum(1)  # how often each draw's value comes among the draws
    return np.take_along_axis(values, times.argmax(0)[None], 0)[0]
