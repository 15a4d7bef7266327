"""Series as arrays: (T,) or (T, C) one series, (N, T, C) many examples of equal length, with labels perhaps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities import arrays, splits
from trilemma.modalities.columns import Column
from trilemma.modalities.entities import Reading, Rows
from trilemma.modalities.times import Clock


def holds(source: Any) -> bool:
    """Is this an array, or a file or a mapping of arrays?"""
    if isinstance(source, (str, Path)):
        return Path(source).suffix.lower() in (".npy", ".npz")
    return isinstance(source, (np.ndarray, Mapping)) or arrays.is_tensor(source)


def read_examples(source: Any, shown: str, names: list[str] | None = None) -> Reading:
    """The series of an array, its steps counted; NaN where there is no value. names: those of a run's columns.

    Raises:
        InputError: arrays of other shapes, or other columns than the run's.
    """
    held = arrays.load(Path(source).expanduser()) if isinstance(source, (str, Path)) else source
    labels, called = None, None
    notes: list[str] = []
    alone = _alone(held) if isinstance(held, Mapping) else None
    if alone is not None:
        held = held[alone]
    elif isinstance(held, Mapping):
        found = arrays.sort_out(held, shown, wanted=2)
        held, labels, called = found.x, found.columns.get("label"), found.label_names
        notes += found.notes
    x = arrays.to_numpy(held, shown)
    if x.dtype.kind not in "biuf" or x.ndim not in (1, 2, 3) or 0 in x.shape:
        raise InputError(f"{shown}: shape {x.shape}; give (T,), (T, columns) or (N, T, columns) numbers")
    if x.ndim == 3 and x.shape[1] == 1 < x.shape[2]:
        raise InputError(
            f"{shown}: shape {x.shape} is {len(x)} examples of one step; time comes second: write x.transpose(0, 2, 1)"
        )
    one = x.ndim < 3
    x = x.astype(np.float64).reshape(1, len(x), -1) if one else x.astype(np.float64)
    x = np.where(np.isinf(x), np.nan, x)
    own = [f"column {place + 1}" for place in range(x.shape[2])] if alone is None else [alone]
    if names is not None and set(names) <= set(own):
        x, own = x[:, :, [own.index(name) for name in names]], names
    elif names is not None:
        if len(names) != len(own):
            raise InputError(f"{shown}: {len(own)} columns, where the run knows {len(names)} ({', '.join(names[:5])})")
        own = names
    columns = [Column(name, "number") for name in own]
    given = Reading(
        [Rows("", np.arange(x.shape[1]), each) for each in x], columns, Clock(1, counted=1.0), None, [], notes
    )
    if one:
        return given
    given.apart, given.labels = True, labels
    if labels is not None:
        kinds = list(dict.fromkeys(sorted(labels.tolist())))
        given.labels = np.array([kinds.index(each) for each in labels.tolist()])
        given.label_names = called if called and len(called) == len(kinds) else [str(each) for each in kinds]
    return given


def _alone(held: Mapping[str, Any]) -> str | None:
    """The name of the one row of numbers (T,) among single numbers, such as a rate of sampling: a series."""
    several = [name for name, value in held.items() if np.ndim(value)]
    return several[0] if len(several) == 1 and np.ndim(held[several[0]]) == 1 else None


def edges(given: Reading, shown: str, parts: tuple[float, float]) -> list[list[int]]:
    """Of each series where train begins, choose, test, and where it ends: parts of its time, or of all examples."""
    lengths = [len(each.times) for each in given.found]
    if not given.apart:
        return [[0, int(parts[0] * length), int(parts[1] * length), length] for length in lengths]
    digest = splits.digests(np.stack([each.values for each in given.found]))
    cut, more = splits.cut(digest, shown)
    given.notes += more
    made = [[0, 0, 0, 0] for _ in lengths]
    for number, name in enumerate(("train", "choose", "test")):
        for example in cut[name]:
            made[example][number + 1 :] = [lengths[example]] * (3 - number)
    return made
