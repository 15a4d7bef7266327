"""Hugging Face's metadata.csv and metadata.jsonl: labels, captions and numbers beside image files."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.modalities.files import Listing

LABELS = ("label", "labels", "class", "category", "target")
SOURCES = ("source_file_name", "input_file_name", "condition_file_name", "source")
CAPTIONS = ("text", "caption", "captions", "prompt", "description")
FILES = ("metadata.csv", "metadata.jsonl")


@dataclass
class Table:
    """What was read: one entry per image, None where a row is missing."""

    columns: dict[str, Any] = field(default_factory=dict)
    captions: list[str] | None = None
    sources: list[str | None] | None = None  # names of the pictures that these are to be made from
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(listing: Listing, images: list[str]) -> Table:
    """All metadata files of a listing; file names in them are relative to their own folder."""
    table = Table(files=[name for name in listing.names if PurePosixPath(name).name in FILES])
    rows: dict[str, dict[str, Any]] = {}
    known = set(images)
    for name in table.files:
        shown = listing.shown(name)
        folder = PurePosixPath(name).parent
        missing = []
        for row in _rows(listing, name, shown):
            file = row.pop("file_name", None)
            if not isinstance(file, str) or not file.strip():
                raise InputError(f"{shown}: a row without a file_name; give every row the name of its image")
            target = (folder / file.strip().replace("\\", "/")).as_posix().removeprefix("./")
            if target in rows:
                raise InputError(f"{shown}: two rows for {file!r}; keep one")
            rows[target] = row
            if target not in known:
                missing.append(file)
        if missing:
            few = ", ".join(map(repr, missing[:3]))
            raise InputError(
                f"{shown}: names {len(missing):,} images that are not there ({few}); "
                "put them there or remove their rows"
            )
    if rows:
        names = list(dict.fromkeys(column for row in rows.values() for column in row))
        source = next((name for name in names if _names_sources(name, rows, known)), None)
        if source is not None:
            table.sources = [_file(rows.get(image, {}).get(source)) for image in images]
            names.remove(source)
        assign(table, {column: [rows.get(image, {}).get(column) for image in images] for column in names})
        named = {row.get(source) for row in rows.values()} if source is not None else set()
        without = sum(
            image not in rows and PurePosixPath(image).name not in named and image not in named for image in images
        )
        if without:
            table.notes.append(f"{without:,} images have no row in {', '.join(table.files)}")
    return table


def beside(listing: Listing, images: list[str], table: Table) -> None:
    """Captions from text files that stand beside their pictures: dog.txt of dog.png; '' where there is none."""
    there = set(listing.names)
    files = [PurePosixPath(name).with_suffix(".txt").as_posix() for name in images]
    if table.captions is not None or not any(file in there for file in files):
        return
    table.captions = [" ".join(_text(listing, file).split()) if file in there else "" for file in files]
    table.files += [file for file in dict.fromkeys(files) if file in there]


def _text(listing: Listing, name: str) -> str:
    shown = listing.shown(name)
    try:
        return listing.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: is not UTF-8 text; save it as UTF-8") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{shown}: cannot be read ({error}); check the file and its permissions") from error


def _rows(listing: Listing, name: str, shown: str) -> list[dict[str, Any]]:
    text = _text(listing, name)
    if name.endswith(".jsonl"):
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{shown}: line {number} is not JSON ({error}); mend it") from error
            if not isinstance(row, dict) or "file_name" not in row:
                raise InputError(f'{shown}: line {number} has no "file_name"; give each line the name of its image')
            rows.append(row)
        return rows
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = [column for column in reader.fieldnames or [] if column]
        if "file_name" not in columns:
            hint = unknown("column", "file_name", columns).args[0] if columns else "the file is empty"
            raise InputError(f"{shown}: no column 'file_name' ({hint}); name the column with the images' names so")
        rows = [dict(row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{shown}: is not a readable CSV table ({error}); save it again as CSV") from error
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f"{shown}: line {number} has not {len(columns)} columns like the header; mend it")
    return rows


def assign(table: Any, rows: dict[str, list[Any]]) -> None:
    """Sort columns (one value per image, None where there is none) into `table`'s label, captions and attributes."""
    ignored = []
    for column, values in rows.items():
        lower = column.lower()
        if lower in LABELS and "label" not in table.columns and not any(isinstance(v, (list, dict)) for v in values):
            table.columns["label"] = [_label(value) for value in values]
        elif lower in CAPTIONS and table.captions is None and any(isinstance(v, str) and v.strip() for v in values):
            table.captions = ["" if value is None else str(value) for value in values]
        else:
            numbers = _numbers(values)
            if numbers is not None:
                table.columns[column] = numbers
            elif any(isinstance(value, (list, dict)) for value in values):
                ignored.append(column)
            else:
                table.columns[column] = values
    if ignored:
        table.notes.append(f"columns not used: {', '.join(ignored)}")


def _names_sources(column: str, rows: dict[str, dict[str, Any]], known: set[str]) -> bool:
    """Does this column name the pictures that others are made from? One called 'source' only where all are there."""
    if column.lower() != "source":
        return column.lower() in SOURCES
    named = [(PurePosixPath(target).parent, _file(row.get(column))) for target, row in rows.items()]
    there = [name in known or (folder / name).as_posix() in known for folder, name in named if name]
    return bool(there) and all(there)


def _file(value: Any) -> str | None:
    return value.strip().replace("\\", "/").removeprefix("./") or None if isinstance(value, str) else None


def _label(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isdecimal() and text.isascii() and len(text) < 15 else text or None
    return int(value) if isinstance(value, (bool, float)) and float(value).is_integer() else value


def _numbers(values: list[Any]) -> np.ndarray | None:
    """Floats with NaN where a value is missing; None when the column is no numbers."""
    result = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if isinstance(value, (list, dict)):
            return None
        try:
            result[row] = float(value)
        except (TypeError, ValueError):
            return None
    return result if np.isfinite(result).any() else None
