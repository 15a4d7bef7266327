"""Columns of data frames <-> texts, with nothing of their type lost: zones, durations, gaps in whole numbers."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from trilemma.errors import InputError
from trilemma.modalities.numerals import undressed

NESTED = (list, tuple, dict, set, bytes, np.ndarray)


def plain(column: pd.Series, name: str, shown: str) -> np.ndarray:
    """All cells as texts (n,), empty ones ''. InputError for what is no cell."""
    kind = str(column.dtype)
    here = column.notna().to_numpy()
    if kind.startswith("complex"):
        raise InputError(
            f"{shown}: column {name!r} holds complex numbers; give real and imaginary parts as two columns"
        )
    if kind.startswith("datetime64"):
        text = _dates(column)
    elif kind.startswith("timedelta64"):
        text = column.dt.total_seconds().map(lambda seconds: f"{seconds:.6f}".rstrip("0").rstrip("."))
    elif kind.startswith(("float", "Float", "double")):
        text = _floats(column)
    else:
        text = column.astype(object)
        if kind in ("object", "category"):
            odd = next((cell for cell in text[here].head(1000) if isinstance(cell, (*NESTED, complex))), None)
            if odd is not None:
                raise InputError(
                    f"{shown}: column {name!r} holds {type(odd).__name__} ({str(odd)[:40]}); a cell is one number, "
                    "date or text"
                )
        text = text.map(str)
    made = text.to_numpy(dtype=object, copy=True)
    made[~here] = ""
    return made


def _floats(column: pd.Series) -> pd.Series:
    """Whole numbers that only a gap made floats are written as whole."""
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = values[np.isfinite(values)]
    if np.isnan(values).any() and len(known) and (known == np.round(known)).all() and np.abs(known).max() < 2.0**53:
        return (
            pd.Series(np.where(np.isfinite(values), np.nan_to_num(values), 0).astype(np.int64), dtype=object)
            .where(np.isfinite(values), values)
            .map(str)
        )
    if str(column.dtype) in ("float32", "float16"):
        return pd.Series(column.to_numpy().astype(str), dtype=object)  # 0.1, not 0.10000000149
    return column.astype(object).map(str)


def _dates(column: pd.Series) -> pd.Series:
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC")
        form = "%Y-%m-%d %H:%M:%S%z"
    else:
        days = column.dropna()
        form = "%Y-%m-%d" if bool((days == days.dt.normalize()).all()) else "%Y-%m-%d %H:%M:%S"
    if bool((column.dropna().dt.microsecond != 0).any()):
        form = form.replace("%S", "%S.%f")
    return column.dt.strftime(form).astype(object)


def typed(cells: pd.Series, column: Any) -> pd.Series:
    """Texts of one `Column` in the type that its cells had, or in the nearest that holds all of them as they are."""
    dtype, kind = column.dtype, column.kind
    empty = (cells == column.empty) if column.gaps else pd.Series(False, index=cells.index)
    known = cells.where(~empty, None)
    if kind in ("number", "integer"):
        if column.prefix or column.suffix:
            return known  # 5 % or $5: in the user's own way
        bare = known.astype(object).where(known.notna(), "")
        if column.group or column.comma:
            bare = bare.map(lambda text: undressed(text, column.form))
        numbers = pd.to_numeric(bare, errors="coerce")
        if (numbers.isna() & (bare != "")).any():
            return known  # a cell that is no number stays
        if dtype.startswith("timedelta64"):
            return pd.to_timedelta(numbers, unit="s").astype(dtype)
        made = _held(numbers, dtype) if dtype[:3].lower() in ("int", "uin", "flo") else None
        if made is None and kind == "integer" and numbers.isna().any():
            made = _held(numbers, "Int64")
        return numbers if made is None else made
    with contextlib.suppress(ValueError, TypeError):  # what is no such value stays a text
        if dtype.startswith("category"):
            levels = column.levels or column.values
            if inner := dtype[len("category[") : -1]:  # the type of its values
                own = replace(column, kind="category", dtype=inner)
                values, sorts = typed(cells, own), typed(pd.Series(levels, dtype=object), own)
                if values.dropna().isin(sorts).all():
                    return values.astype(pd.CategoricalDtype(sorts, ordered=column.ordered))
            elif known.dropna().isin(levels).all():
                return cells.where(~empty).astype(pd.CategoricalDtype(levels, ordered=column.ordered))
        if dtype in ("bool", "boolean"):
            truth = known.map({"True": True, "False": False, "true": True, "false": False})
            if not (truth.isna() & known.notna()).any():
                return truth.astype("bool" if not truth.isna().any() else "boolean" if dtype == "boolean" else object)
        if dtype.startswith("datetime64"):
            moments = pd.to_datetime(known, format=column.format or None, utc="," in dtype)
            return (moments.dt.tz_convert(dtype.split(",")[1].strip(" ]")) if "," in dtype else moments).astype(dtype)
        if dtype.startswith(("int", "uint", "float", "Int", "UInt", "Float")):
            numbers = pd.to_numeric(known)
            made = _held(numbers, dtype)
            return numbers if made is None else made
    made = known if column.gaps else cells
    return made.astype(object) if dtype == "object" else made


def _held(numbers: pd.Series, dtype: str) -> pd.Series | None:
    """Numbers in a type; None where it would change one by more than its own precision."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        made, own = numbers.astype(dtype), np.dtype(dtype.lower().partition("[")[0])
        given, back = (each.to_numpy(dtype=np.float64, na_value=np.nan) for each in (numbers, made))
        near = float(np.finfo(own).eps) if own.kind == "f" else 0.0
        if np.isclose(back, given, rtol=near, atol=0, equal_nan=True).all():
            return made
    return None
