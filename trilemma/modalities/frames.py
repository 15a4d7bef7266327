"""Tables on disk and in memory <-> columns of texts: CSV, TSV, JSON lines, Parquet, Excel, data frames."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilemma.errors import InputError, first_line
from trilemma.modalities.columns import MISSING, Texts
from trilemma.modalities.writing import writing_to

TEXT = (".csv", ".tsv", ".txt")
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *LINES, ".parquet", ".xlsx")
READ = tuple(each for each in SUFFIXES if each != ".txt")  # of files that are taken for tables without asking
DELIMITERS = ",;\t|"
PART = 100_000  # rows read at a time
PEEK = 1 << 18  # bytes by which delimiter and encoding are judged
MOST_COLUMNS = 2000


def suffix(path: Path) -> str:
    """That of the table itself: `.csv` of `adult.csv.gz`."""
    own = path.suffix.lower()
    return Path(path.stem).suffix.lower() if own in (".gz", ".bz2", ".xz", ".zst") else own


def is_frame(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "pandas" and hasattr(source, "columns") and hasattr(source, "iloc")


def read(source: Any, shown: str) -> tuple[list[Texts], list[str]]:
    """Columns of texts, and notes. InputError for what is no table."""
    if is_frame(source):
        if source.index.name is not None or _moments(source.index.to_series()):
            name = "time" if source.index.name is None else source.index.name
            source = source.rename_axis(index=name).reset_index()
        return _gathered([_plain(source)], list(source.columns), shown, [str(dtype) for dtype in source.dtypes]), []
    path, kind = Path(source), suffix(Path(source))
    notes: list[str] = []
    try:
        if kind in TEXT:
            parts = _delimited(path, notes)
        elif kind in LINES:
            parts = iter(pd.read_json(path, lines=True, dtype=False, chunksize=PART))
        elif kind == ".parquet":
            parts = iter([_parquet(path)])
        else:
            parts = iter([_excel(path)])
        first = next(parts, None)
        if first is None:
            raise InputError(f"{path}: has no rows; give a table with a line of names and rows below it")
        types = [str(dtype) for dtype in first.dtypes]
        names = list(first.columns)

        def all_parts() -> Iterator[pd.DataFrame]:
            yield first if kind in TEXT else _plain(first)
            for part in parts:
                yield part if kind in TEXT else _plain(part)

        return _gathered(all_parts(), names, shown, types if kind not in TEXT else ["str"] * len(names)), notes
    except InputError:
        raise
    except (ValueError, OSError, EOFError, KeyError, csv.Error, UnicodeError) as problem:
        raise InputError(f"{path}: cannot be read as a table ({first_line(problem)})") from problem


def head(source: Any, rows: int) -> list[Texts]:
    """The first rows of a text table or a data frame, as `read` gives all of them."""
    if is_frame(source):
        return read(source.head(rows), "array")[0]
    path, kind = Path(source), suffix(Path(source))
    if kind in SUFFIXES and kind not in (*TEXT, *LINES):
        return read(whole(path).head(rows), str(path))[0]
    try:
        parts = (
            _delimited(path, [])
            if kind in TEXT
            else iter(pd.read_json(path, lines=True, dtype=False, nrows=rows, chunksize=rows))
        )
        first = next(parts).head(rows)
    except (ValueError, OSError, EOFError, KeyError, csv.Error, UnicodeError, StopIteration) as problem:
        raise InputError(f"{path}: cannot be read as a table ({first_line(problem)})") from problem
    return _gathered(
        [first if kind in TEXT else _plain(first)], list(first.columns), str(path), ["str"] * first.shape[1]
    )


def whole(path: Path) -> pd.DataFrame:
    """A file that is no text: Parquet or Excel."""
    return _parquet(path) if suffix(path) == ".parquet" else _excel(path)


def _delimited(path: Path, notes: list[str]) -> Iterator[pd.DataFrame]:
    """Parts of a text table, all cells as they are written."""
    head = _head(path)
    if not head.strip():
        raise InputError(f"{path}: is empty; give a table with a line of names and rows below it")
    encoding = _encoding(head)
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.append(f"read as {encoding}: it is no UTF-8")
    delimiter = _delimiter(head.decode(encoding, "replace"))
    if delimiter != ",":
        notes.append(f"cells are separated by {delimiter!r}")
    return _parts(path, encoding, delimiter)


def _parts(path: Path, encoding: str, delimiter: str) -> Iterator[pd.DataFrame]:
    header = next(csv.reader(io.StringIO(_first_line(path, encoding)), delimiter=delimiter))
    reader = pd.read_csv(
        path, sep=delimiter, encoding=encoding, encoding_errors="replace", dtype=str, keep_default_na=False,
        na_filter=False, chunksize=PART, skipinitialspace=True, engine="c", on_bad_lines="error", index_col=False,
    )  # fmt: skip
    seen = 0
    for part in reader:
        part.columns = [*(str(name).strip() for name in header), *part.columns[len(header) :]]
        seen += len(part)
        yield part
    if seen == 0:
        raise InputError(f"{path}: has a line of names and no rows below it")


def _first_line(path: Path, encoding: str) -> str:
    return next((line for line in _head(path).decode(encoding, "replace").splitlines() if line.strip()), "")


def _head(path: Path) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
        return file.read(PEEK)


def _encoding(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    try:
        head[: head.rfind(b"\n") + 1 or None].decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(text: str) -> str:
    """The sign that splits the first lines into equally many cells, the most of them."""
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    lines = lines[:-1] if len(lines) > 2 and not text.endswith("\n") else lines
    best, most = ",", 1
    for sign in DELIMITERS:
        counts = [len(row) for row in csv.reader(lines, delimiter=sign)]
        common, times = Counter(counts).most_common(1)[0]
        if common > most and times > 0.8 * len(counts):
            best, most = sign, common
    return best


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError:
        raise InputError(f"{path}: Parquet needs PyArrow: pip install pyarrow, or save it as CSV") from None


def _excel(path: Path) -> pd.DataFrame:
    try:
        return pd.read_excel(path)
    except ImportError:
        raise InputError(f"{path}: Excel needs openpyxl: pip install openpyxl, or save it as CSV") from None


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """All cells as texts, empty ones ''."""
    plain = {}
    for place in range(frame.shape[1]):
        column = frame.iloc[:, place]
        text = column.astype(object).map(str) if not _moments(column) else _as_dates(column)
        plain[place] = text.where(column.notna(), "")
    made = pd.DataFrame(plain)
    made.columns = frame.columns
    return made


def _moments(column: pd.Series) -> bool:
    return str(column.dtype).startswith("datetime64")


def _as_dates(column: pd.Series) -> pd.Series:
    days = column.dropna()
    whole = bool((days == days.dt.normalize()).all())
    return column.dt.strftime("%Y-%m-%d" if whole else "%Y-%m-%d %H:%M:%S").astype(object)


def _gathered(parts: Any, names: list[Any], shown: str, types: list[str]) -> list[Texts]:
    """One `Texts` a column from parts of rows: each different text is kept once."""
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{shown}: {len(names):,} columns; a table may have {MOST_COLUMNS:,}: leave some out")
    named = [str(name).strip() or f"column {place + 1}" for place, name in enumerate(names)]
    twice = [name for name, times in Counter(named).items() if times > 1]
    if twice:
        raise InputError(f"{shown}: {len(twice)} names of columns come twice ({twice[0]!r}); rename them")
    known: list[dict[str, int]] = [{} for _ in names]
    codes: list[list[np.ndarray]] = [[] for _ in names]
    empty: list[Counter[str]] = [Counter() for _ in names]
    for part in parts:
        for place in range(len(names)):
            own, texts = pd.factorize(part.iloc[:, place].to_numpy(dtype=object), use_na_sentinel=False)
            table = np.empty(len(texts), dtype=np.int32)
            times = np.bincount(own, minlength=len(texts))
            for number, text in enumerate(texts):
                stripped = str(text).strip()
                if stripped.lower() in MISSING:
                    table[number] = -1
                    empty[place][stripped] += int(times[number])
                else:
                    table[number] = known[place].setdefault(stripped, len(known[place]))
            codes[place].append(table[own])
    made = []
    for place, name in enumerate(named):
        common = empty[place].most_common(1)
        made.append(
            Texts(name, np.concatenate(codes[place]), list(known[place]), common[0][0] if common else "", types[place])
        )
    return made


def write(frame: pd.DataFrame, out: Path) -> None:
    """A table by its suffix: .csv, .tsv, .jsonl, .parquet, .xlsx (and .csv.gz)."""
    kind = suffix(out)
    with writing_to(out) as temporary:
        if kind in TEXT:
            packed = "gzip" if out.suffix.lower() == ".gz" else None
            frame.to_csv(temporary, index=False, sep="\t" if kind == ".tsv" else ",", compression=packed)
        elif kind in LINES:
            frame.to_json(temporary, orient="records", lines=True, date_format="iso")
        elif kind == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_excel(temporary, index=False, engine="openpyxl")
