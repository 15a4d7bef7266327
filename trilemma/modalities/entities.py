"""A table of times as the series in it: one for each entity, on a regular grid; wide tables, long ones and arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilemma.errors import InputError
from trilemma.modalities import arrays, faults, frames, states, times
from trilemma.modalities.columns import Column, Texts, all_whole, infer
from trilemma.modalities.times import Clock

VARIABLES = ("variable", "metric", "parameter", "measure", "channel", "sensor", "indicator")  # of a long table: what
VALUES = ("value", "val", "values", "reading")  # and how much


@dataclass
class Rows:
    """The rows of one entity on the clock's grid."""

    name: str
    times: np.ndarray  # (n,) seconds, or counted steps
    values: np.ndarray  # (n, columns) levels, NaN where there is none


@dataclass
class Reading:
    """What was read: the series, and where each row of the table went."""

    found: list[Rows]
    columns: list[Column]  # of the values
    clock: Clock
    entity: str | None
    left: list[str]  # columns that are no numbers
    notes: list[str]
    texts: list[Texts] = field(default_factory=list)  # the table as it was read
    owner: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))  # (N,) whose each row of it is,
    place: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))  # (N,) and its step; -1: off the grid
    variable: list[str] | None = None  # (N,) of a long table: the column that each row gives a value of
    value: str = ""  # and the column in which it stands
    frame: pd.DataFrame | None = None  # of a source that is none of texts: as it was
    apart: bool = False  # examples that have no common time
    labels: np.ndarray | None = None  # (entities,) numbers of classes that examples come with,
    label_names: list[str] = field(default_factory=list)  # and their names
    delimiter: str = ","  # between cells of a text file,
    comma: bool = False  # and whether there are decimal commas in it

    def texts_of(self, name: str) -> Texts | None:
        """The column in which the values of one of `columns` stand; None of arrays."""
        own = name if self.variable is None else self.value
        return next((each for each in self.texts if each.name == own), None)


def read_entities(
    source: Any,
    shown: str,
    *,
    clock: Clock | None = None,
    wanted: dict[str, Column] | None = None,
    entity: str | None = None,
    forced: bool = False,
    step: int | None = None,
) -> Reading:
    """The series of a table. clock, wanted, entity: those of a run, its columns by name. forced: take it for a series,
    with times that are counted, irregular or not there at all. step: seconds of the grid to put irregular times on.

    Raises:
        InputError: what is no table, has no times, or no column of numbers.
    """
    frame = None
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        arrays.check_file(path)
        frame = None if frames.suffix(path) in (*frames.TEXT, *frames.LINES) else frames.whole(path)
        source = path if frame is None else frame
    elif frames.is_frame(source):
        frame = source
    else:
        raise InputError(f"a {type(source).__name__} is no series; give a file, a data frame or an array")
    given, notes = frames.read(source, shown)
    long = None if entity is not None and entity.lower() in VARIABLES else _widened(given)
    texts = given if long is None else long.texts
    if entity is not None and entity not in {each.name for each in texts}:
        raise InputError(f"{shown}: has no column {entity!r}, which says whose rows they are; add it")
    when = times.find(texts, clock, entity, forced=forced or clock is not None, step=step)
    if when is not None and clock is None and when.clock.counted and (fault := faults.broken(texts)):
        raise InputError(f"{shown}: {fault}")  # nobody counts steps beside a column of times
    if when is None:
        names = ", ".join(clock.names) if clock and clock.names else ""
        raise InputError(
            f"{shown}: has no times in {names}, where the run's data have them"
            if names
            else f"{shown}: {faults.why_not(texts)}"
        )
    own = clock or when.clock
    notes += when.notes
    columns, table, left, more = _columns(texts, when, wanted, shown)
    owner, place = np.zeros(len(when.seconds), dtype=int), np.full(len(when.seconds), -1)
    found = []
    for number, (name, chosen) in enumerate(_by_entity(texts, when)):
        own_name = f" of {name!r}" if name else ""
        again = len(chosen) - len(np.unique(when.seconds[chosen]))
        if again and not own.irregular:
            more.append(f"{again:,} rows have the time of another one{own_name}: averaged")
        grid, levels, spots, off = times.regular(table[chosen], when.seconds[chosen], own)
        for c, column in enumerate(columns):
            levels[:, c] = levels[:, c].round() if column.values else levels[:, c]  # a mean of words is none
        far = int((spots < 0).sum())
        shared = len(spots) - len(np.unique(spots)) - again
        if shared and own.months:
            more.append(f"{shared:,} rows lie within the {own.said()} of another one{own_name}: averaged")
        if off > far and not own.months and not own.irregular:
            more.append(f"{off - far:,} times lie beside the grid of one {own.said()}: they went to the nearest place")
        if far:
            more.append(f"{far:,} rows are left out: at their times of the week hardly anything ever happens")
        owner[chosen], place[chosen] = number, spots
        found.append(Rows(name, grid, levels))
    if long is not None:
        owner, place = owner[long.rows], place[long.rows]
    variable, value = (None, "") if long is None else (long.variables, long.value)
    made = Reading(found, columns, own, when.entity, left, notes + more, given, owner, place, variable, value, frame)
    made.delimiter, made.comma = frames.delimiter(source), frame is None and any(each.comma for each in columns)
    return made


def _columns(
    texts: list[Texts], when: times.Times, wanted: dict[str, Column] | None, shown: str
) -> tuple[list[Column], np.ndarray, list[str], list[str]]:
    """The columns of numbers and of few words, their values (N, columns), names of all others, notes."""
    names, columns, values, left, notes = {*when.clock.names, when.entity}, [], [], [], []
    timed = wanted is None and not when.clock.counted
    spoken = states.of_calendar(texts, when) if timed else []
    same = {*spoken, *_same_time(texts, when)} if timed else set()
    order = np.lexsort((when.seconds, _owner(texts, when)))
    for each in texts:
        if each.name in names or (each.name in same if wanted is None else each.name not in wanted):
            continue
        if wanted is not None:
            column, numbers, more = _known(each, wanted[each.name], shown)
        else:
            column, numbers, more = _new(each, order)
        if column.kind != "number":
            left.append(each.name)
            continue
        columns.append(column)
        values.append(numbers)
        notes += more
    if spoken:
        notes.append(f"left out, for the times say it already: {', '.join(spoken)}")
    if not columns:
        raise InputError(f"{shown}: no column of numbers that change beside the times; add one, or --kind table")
    return columns, np.stack(values, 1), left, notes


def _new(texts: Texts, order: np.ndarray) -> tuple[Column, np.ndarray, list[str]]:
    """A column of numbers, whole ones however they are written, or of few words as their places; else as `infer` has
    it. order (N,): the rows in order of time."""
    column, numbers, notes = infer(texts, "number" if _numeric(texts) else None)
    if column.kind == "number" and column.decimals and all_whole(numbers):
        column.decimals = 0  # 5.0
    found = states.numbered(column, numbers, order)
    return (*found, notes) if found is not None else (column, numbers, notes)


def _owner(texts: list[Texts], when: times.Times) -> np.ndarray:
    """(N,) whose each row is."""
    if when.entity is None:
        return np.zeros(len(when.seconds), dtype=int)
    return next(each.codes for each in texts if each.name == when.entity)


def _known(texts: Texts, column: Column, shown: str) -> tuple[Column, np.ndarray, list[str]]:
    """A column as a run's data have it: `8,076` is what it was there, whatever the few rows of now would make of it."""
    numbers, strange = column.numbers(texts)
    if strange:
        what = f"none of {', '.join(column.values)}," if column.values else "no number"
        raise InputError(f"{shown}: {strange[:40]!r} in column {column.name!r} is {what} as the run's data have them")
    gone = int(np.isnan(numbers)[texts.codes[texts.codes >= 0]].sum())
    notes = [f"column {column.name!r}: {gone:,} cells are taken as missing"] if gone else []
    return column, np.append(numbers, np.nan)[texts.codes], notes


@dataclass
class Long:
    """A long table laid out wide."""

    texts: list[Texts]
    rows: np.ndarray  # (N,) the wide row of each long one
    variables: list[str]  # (N,)
    value: str


def _widened(texts: list[Texts]) -> Long | None:
    """A table of times, variables and values with a column for each variable; None where it is none."""
    named = {each.name.lower(): each for each in texts}
    variable = next((named[name] for name in VARIABLES if name in named), None)
    value = next((named[name] for name in VALUES if name in named), None)
    if variable is None or value is None or (variable.codes < 0).any() or len(texts) > 6:
        return None
    if not (_numeric(value) and 1 <= len(variable.texts) <= 2000):
        return None
    others = [each for each in texts if each is not variable and each is not value]
    if not others:
        return None
    # A second value of the same time is a row of its own, to be averaged with the first as in wide tables.
    keys = np.stack([each.codes for each in others], 1)
    again = pd.DataFrame(keys).assign(variable=variable.codes)
    keys = np.column_stack([keys, again.groupby(list(again)).cumcount()])
    distinct, first, rows = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they come in the table
    rows = np.argsort(order)[rows.ravel()]
    if len(distinct) * len(variable.texts) > 4 * len(keys):
        return None  # they are no rows of the same times
    made = [Texts(each.name, each.codes[first[order]], each.texts, each.empty, each.dtype) for each in others]
    for number, name in enumerate(variable.texts):
        codes = np.full(len(distinct), -1, dtype=np.int64)
        here = variable.codes == number
        codes[rows[here]] = value.codes[here]
        seen = np.unique(codes[codes >= 0])
        packed = np.where(codes >= 0, np.searchsorted(seen, codes), -1)
        made.append(Texts(name, packed, [value.texts[code] for code in seen], value.empty, value.dtype))
    return Long(made, rows, [variable.texts[code] for code in variable.codes], value.name)


def _by_entity(texts: list[Texts], when: times.Times) -> list[tuple[str, np.ndarray]]:
    if when.entity is None:
        return [("", np.argsort(when.seconds, kind="stable"))]
    own = next(each for each in texts if each.name == when.entity)
    found = []
    for code, name in enumerate(own.texts):
        rows = np.flatnonzero(own.codes == code)
        found.append((name, rows[np.argsort(when.seconds[rows], kind="stable")]))
    return found


def _numeric(texts: Texts) -> bool:
    """Is this a column of numbers, however few different ones?"""
    try:
        return infer(texts, "number")[0].kind == "number" and len(texts.texts) > 1
    except InputError:
        return False


def _same_time(texts: list[Texts], when: times.Times) -> set[str]:
    """Columns that say the time once more: rows counted through, parts of it, a coarser date."""
    said, moments = set(), when.seconds.astype("datetime64[s]")
    parts = pd.DatetimeIndex(moments)
    for each in texts:
        if (each.codes < 0).any() or not each.texts:
            continue
        name, column = each.name.lower(), infer(each)[0]
        if column.kind == "date":
            said.add(each.name)
            continue
        try:
            numbers = infer(each, "number")[1]
        except InputError:
            continue
        whose = {"hr": "hour"}.get(name, name)
        if (whose in times.PARTS and (numbers == getattr(parts, whose)).all()) or (
            len(each.texts) == len(when.seconds) and (np.diff(numbers) == 1).all()
        ):
            said.add(each.name)
    return said
