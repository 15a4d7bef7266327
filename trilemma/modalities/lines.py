"""JSON lines <-> rows: cells as they are written, objects within objects as columns of their own."""

from __future__ import annotations

import decimal
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilemma.errors import InputError
from trilemma.modalities.delimited import PART, opened

KINDS = {bool: "bool", int: "int64", float: "float64", str: "str"}


class Number(str):
    """A number's own digits."""


class Whole(Number):
    pass


class JsonLines:
    """One file; `types` are known when all parts are read."""

    def __init__(self, path: Path):
        self.path = path
        self.notes: list[str] = []
        self.types: dict[str, str] = {}

    def parts(self, most: int = PART) -> Iterator[tuple[dict[str, list[str]], int]]:
        """Columns of the next rows by name, and how many rows; a column that none of them has is not there."""
        rows: list[dict[str, str]] = []
        inner: set[str] = set()
        with opened(self.path) as file:
            for number, line in enumerate(io.TextIOWrapper(file, "utf-8-sig", newline="\n"), 1):  # type: ignore[arg-type]
                if not line.strip():
                    continue
                rows.append(self._row(line, number, inner))
                if len(rows) == most:
                    yield self._columns(rows)
                    rows = []
        if rows:
            yield self._columns(rows)
        if inner:
            self.notes.append(f"objects within rows became columns of their own: {', '.join(sorted(inner)[:5])}")

    def _row(self, line: str, number: int, inner: set[str]) -> dict[str, str]:
        try:
            row = json.loads(line, parse_float=Number, parse_int=Whole, parse_constant=Number)
        except (ValueError, RecursionError) as problem:
            raise InputError(f"{self.path}: line {number} is no JSON ({problem}); mend it") from None
        if not isinstance(row, dict):
            raise InputError(f'{self.path}: line {number} is no JSON object; write each row as {{"name": value, ...}}')
        made: dict[str, str] = {}
        self._flat(row, "", made, number, inner)
        return made

    def _flat(self, row: dict[str, Any], before: str, made: dict[str, str], number: int, inner: set[str]) -> None:
        for name, value in row.items():
            if isinstance(value, dict):
                inner.add(before + name)
                self._flat(value, f"{before}{name}.", made, number, inner)
                continue
            if isinstance(value, list):
                raise InputError(
                    f"{self.path}: line {number} has a list in {before + name!r}; give each of its entries a name"
                )
            kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, Whole) else "str"
            kind = "float64" if isinstance(value, Number) and kind == "str" else kind
            if value is not None:
                known = self.types.setdefault(before + name, kind)
                if known != kind:
                    number_ = {known, kind} == {"int64", "float64"}
                    self.types[before + name] = "float64" if number_ else "str"
            made[before + name] = "" if value is None else str(value)

    @staticmethod
    def _columns(rows: list[dict[str, str]]) -> tuple[dict[str, list[str]], int]:
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name, "") for row in rows] for name in names}, len(rows)


def lines_of(frame: pd.DataFrame) -> Iterator[str]:
    """A line for each row: numbers with all of their digits, infinite ones as texts, missing cells as null."""
    columns = [_cells(frame.iloc[:, place]) for place in range(frame.shape[1])]
    for row in zip(*columns, strict=True):
        cells = dict(zip(frame.columns, row, strict=True))
        yield json.dumps(cells, ensure_ascii=False, separators=(",", ":"), default=_cell) + "\n"


def _cells(column: pd.Series) -> list[Any]:
    if str(column.dtype) in ("float16", "float32", "Float32"):
        column = pd.to_numeric(column.astype(str), errors="coerce")  # 0.1, not 0.10000000149
    cells = column.astype(object).where(column.notna(), None).tolist()
    return [str(cell) if isinstance(cell, float) and np.isinf(cell) else cell for cell in cells]


def _cell(cell: Any) -> Any:
    """What JSON has no form of."""
    if isinstance(cell, np.generic):
        return cell.item()
    if isinstance(cell, decimal.Decimal):
        return float(cell)
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
