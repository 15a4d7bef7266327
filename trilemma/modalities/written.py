"""A table of times written again as it was read: only the cells that were empty are new, or columns stand beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilemma.errors import InputError
from trilemma.modalities import frames, numerals, plain
from trilemma.modalities.channels import Channel
from trilemma.modalities.columns import Column, Texts
from trilemma.modalities.entities import Reading


def filled(given: Reading, channels: list[Channel], levels: np.ndarray, out: Path | None) -> Any:
    """Cells without a value from levels (steps of all entities, C): a data frame, or written to a file.

    Times that have no row get none.
    """
    if not given.texts:  # arrays
        if out is not None:
            raise InputError(f"--out {out}: of arrays this writes none; give a table, or ask from Python")
        made = np.stack([each.rounded(levels[:, place]) for place, each in enumerate(channels)], 1)
        made = made.reshape(len(given.found), -1, len(channels))
        return made if given.apart else made[0]
    spots = steps_of(given)
    columns = {channel.column.name: place for place, channel in enumerate(channels)}
    frame, texts = _frame(given), {each.name: each for each in given.texts}
    if given.variable is None:
        cells = [
            (name, np.flatnonzero(_none(channels[place].column, texts[name]) & (spots >= 0)), place)
            for name, place in columns.items()
        ]
    else:
        empty = _none(channels[0].column, texts[given.value]) & (spots >= 0)
        own = np.array([columns.get(name, -1) for name in given.variable])
        cells = [(given.value, np.flatnonzero(empty & (own == place)), place) for place in columns.values()]
    for name, rows, place in cells:
        if not len(rows):
            continue
        channel = channels[place]
        values = channel.rounded(levels[spots[rows], place])
        new: Any = values
        if given.frame is None:
            new = channel.written(values, texts[name])
        elif channel.column.values:
            frame[name], new = _with_words(frame[name], channel.written(values, texts[name]))
        else:
            own_dtype = frame[name].dtype
            if own_dtype.kind == "f":
                new = pd.array(values, dtype=own_dtype)
            else:
                frame[name] = frame[name].astype("Float64" if own_dtype.kind == "i" else object)
        frame.iloc[rows, frame.columns.get_loc(name)] = new
    return _out(given, frame, out)


def beside(given: Reading, columns: dict[str, np.ndarray], out: Path | None) -> Any:
    """The table with more columns at its end, of (steps of all entities,) values; empty in rows off the grid."""
    if not given.texts:  # arrays
        given.frame = pd.DataFrame({
            "series": np.repeat(np.arange(len(given.found)), len(given.found[0].times)),
            "step": np.concatenate([each.times for each in given.found]),
        })  # fmt: skip
        given.owner, given.place = given.frame["series"].to_numpy(), given.frame["step"].to_numpy()
    spots, frame = steps_of(given), _frame(given)
    taken = next((name for name in columns if name in frame.columns), None)
    if taken is not None:
        raise InputError(f"column {taken!r} is what this would write; give the table without it or rename it")
    for name, values in columns.items():
        cells = values[np.maximum(spots, 0)]
        if (spots < 0).any():
            cells = np.where(spots < 0, *((np.nan, cells) if cells.dtype.kind == "f" else (None, cells.astype(object))))
        frame[name] = cells
    return _out(given, frame, out)


def steps_of(given: Reading) -> np.ndarray:
    """(N,) the step of each row of the table among those of all entities one after the other; -1: none."""
    begins = np.cumsum([0, *(len(each.times) for each in given.found)])
    return np.where(given.place < 0, -1, begins[given.owner] + given.place)


def _none(column: Column, texts: Texts) -> np.ndarray:
    """Which cells (N,) are empty, or stand for no number."""
    return np.append(np.isnan(column.numbers(texts)[0]), True)[texts.codes]


def typed(levels: np.ndarray, channel: Channel) -> np.ndarray:
    """Levels (n,) for programs and for files that know numbers; words as such."""
    return channel.written(levels) if channel.column.values else _whole(levels, channel.decimals)


def _whole(numbers: np.ndarray, decimals: int | None) -> np.ndarray:
    """Whole numbers (n,) of a column of these decimals in their own type, where it holds them."""
    whole = decimals in (0, None) and bool(((numbers == numbers.round()) & (np.abs(numbers) < 2.0**53)).all())
    return numbers.astype(np.int64) if whole else numbers


def _with_words(cells: pd.Series, words: np.ndarray) -> tuple[pd.Series, list[Any]]:
    """A data frame's column in a type that holds these words, and the words as its cells are: True, not 'True'."""
    same = {str(cell): cell for cell in (True, False)} if str(cells.dtype).startswith("bool") else {}
    same |= {str(cell): cell for cell in cells.dropna().unique()}
    new = [same.get(word, word) for word in words]
    held = not isinstance(cells.dtype, pd.CategoricalDtype) or set(new) <= set(cells.dtype.categories)
    return cells if held else cells.astype(object), new


def _frame(given: Reading) -> pd.DataFrame:
    if given.frame is not None:
        return given.frame.set_axis(frames.named(list(given.frame.columns), ""), axis=1)
    return pd.DataFrame({each.name: _cells(each) for each in given.texts})


def _cells(texts: Texts) -> np.ndarray:
    return np.asarray([*texts.texts, texts.empty], dtype=object)[texts.codes]


def _out(given: Reading, frame: pd.DataFrame, out: Path | None) -> Any:
    """Texts become numbers for programs and for files that know them."""
    if given.frame is None and (out is None or frames.suffix(out) not in frames.TEXT):
        known, texts = {column.name: column for column in given.columns}, {each.name: each for each in given.texts}
        for name in frame.columns:
            column = known.get(name) or (known and next(iter(known.values())) if name == given.value else None)
            if column and column.values:
                frame[name] = plain.typed(frame[name], replace(column.like(texts[name]), kind="category"))
            elif column:
                numbers = numerals.read(frame[name].tolist(), column.like(texts[name]).form)[0]
                frame[name] = _whole(numbers, column.decimals)
    if out is None:
        if given.frame is not None:  # called as they were
            frame.columns = pd.Index([*given.frame.columns, *frame.columns[given.frame.shape[1] :]])
        return frame
    frames.write(frames.with_index(frame, []), out, given.delimiter, comma=given.comma)
    return [out]
