"""Tables on disk and in memory <-> columns of texts: CSV, TSV, JSON lines, Parquet, Excel, data frames."""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from trilemma.errors import InputError, first_line
from trilemma.modalities.delimited import PART, Delimited, check_names
from trilemma.modalities.lines import JsonLines, lines_of
from trilemma.modalities.plain import plain
from trilemma.modalities.texts import Gathering, Texts
from trilemma.modalities.writing import writing_to

TEXT = (".csv", ".tsv", ".txt")
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *LINES, ".parquet", ".xlsx")
READ = tuple(each for each in SUFFIXES if each != ".txt")  # of files that are taken for tables without asking
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
MOST_COLUMNS = 5000
BATCH = 50_000  # rows of Parquet at a time
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)


def suffix(path: Path) -> str:
    """That of the table itself: `.csv` of `adult.csv.gz`."""
    own = path.suffix.lower()
    return Path(path.stem).suffix.lower() if own in PACKED else own


def is_frame(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "pandas" and hasattr(source, "columns") and hasattr(source, "iloc")


def read(source: Any, shown: str, most: int | None = None) -> tuple[list[Texts], list[str]]:
    """Columns of texts, and notes; `most`: of the first rows. InputError for what is no table."""
    columns, notes = gathered(source, shown, most)
    return [column.texts() for column in columns], notes


def gathered(source: Any, shown: str, most: int | None = None) -> tuple[list[Gathering], list[str]]:
    """What `read` gives, with each column packed until its `texts()` are taken: large tables take them one by one."""
    notes: list[str] = []
    if is_frame(source):
        return _of_frames(iter([with_index(source if most is None else source.head(most), notes)]), shown, notes)
    path, kind = Path(source), suffix(Path(source))
    with _said(path):
        if kind in TEXT:
            return _of_text(path, shown, most)
        if kind in LINES:
            return _of_lines(path, shown, most)
        return _of_frames(_typed_parts(path, most, notes), shown, notes)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """What goes wrong while a file is read in words that name the fix."""
    try:
        yield
    except InputError:
        raise
    except DAMAGED as problem:
        raise InputError(
            f"{path}: is truncated or damaged ({first_line(problem)}); copy or download it again"
        ) from problem
    except FileNotFoundError as problem:
        raise InputError(f"{path}: is not there any more; check the path") from problem
    except UnicodeError as problem:
        raise InputError(f"{path}: cannot be read as text ({first_line(problem)}); save it as UTF-8") from problem
    except (ValueError, TypeError, OSError, KeyError, csv.Error) as problem:
        raise InputError(f"{path}: cannot be read as a table ({first_line(problem)}); save it again") from problem


def head(source: Any, rows: int) -> list[Texts]:
    """The first rows of a table, as `read` gives all of them."""
    return read(source, str(source) if isinstance(source, (str, Path)) else "array", rows)[0]


def delimiter(source: Any) -> str:
    """What stands between the cells of a .csv or .txt; a comma where the source is none."""
    if not isinstance(source, (str, Path)) or suffix(Path(source)) not in (".csv", ".txt"):
        return ","
    with _said(Path(source)):
        return Delimited(Path(source)).delimiter


def whole(path: Path) -> pd.DataFrame:
    """A file that is no text, Parquet or Excel, with its types."""
    with _said(path):
        return pd.concat(_typed_parts(path, None, []), ignore_index=True)


def _typed_parts(path: Path, most: int | None, notes: list[str]) -> Iterator[pd.DataFrame]:
    return _parquet(path, most, notes) if suffix(path) == ".parquet" else _excel(path, most, notes)


def _of_text(path: Path, shown: str, most: int | None) -> tuple[list[Gathering], list[str]]:
    table = Delimited(path)
    parts = table.parts(min(PART, most or PART))
    first = next(parts)
    check_names(path, table.names, [cells[:1000] for cells in first])
    columns = [Gathering(name) for name in named(table.names, shown)]
    for part in itertools.chain([first], parts):
        for column, cells in zip(columns, part, strict=True):
            column.add(cells if most is None else cells[: most - column.rows])
        if most is not None and columns[0].rows >= most:
            parts.close()
            break
    return columns, table.notes


def _of_lines(path: Path, shown: str, most: int | None) -> tuple[list[Gathering], list[str]]:
    table, rows = JsonLines(path), 0
    columns: dict[str, Gathering] = {}
    for part, count in table.parts(min(PART, most or PART)):
        for name in part:
            if name not in columns:
                columns[name] = Gathering(name)
                columns[name].lacking(rows)
        for name, column in columns.items():
            column.add(part[name]) if name in part else column.lacking(count)
        rows += count
        if most is not None and rows >= most:
            break
    if not columns:
        raise InputError(f"{shown}: has no rows; give an object of names and values a line")
    for name, new in zip(columns, named(list(columns), shown), strict=True):
        columns[name].name, columns[name].dtype = new, table.types.get(name, "str")
    return list(columns.values()), table.notes


def _of_frames(parts: Iterator[pd.DataFrame], shown: str, notes: list[str]) -> tuple[list[Gathering], list[str]]:
    columns: list[Gathering] = []
    for part in parts:
        if not columns:
            if part.columns.nlevels > 1:
                raise InputError(
                    f"{shown}: names of columns have {part.columns.nlevels} levels; join them first: "
                    "frame.columns = ['_'.join(map(str, name)) for name in frame.columns]"
                )
            for name, dtype in zip(named(list(part.columns), shown), part.dtypes, strict=True):
                levels, kind = [], str(dtype)
                if isinstance(dtype, pd.CategoricalDtype):
                    inner = str(dtype.categories.dtype)
                    levels = [str(level) for level in dtype.categories]
                    kind = kind if inner in ("str", "object") else f"category[{inner}]"
                columns.append(Gathering(name, kind, levels, bool(getattr(dtype, "ordered", False))))
        for place, column in enumerate(columns):
            column.add(plain(part.iloc[:, place], column.name, shown))
    if not columns or columns[0].rows == 0:
        raise InputError(f"{shown}: has no rows; give a table with names of columns and rows below them")
    return columns, notes


def named(names: list[Any], shown: str) -> list[str]:
    """Names of columns as texts, each one once; one without a name is called by its place."""
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{shown}: {len(names):,} columns; a table may have {MOST_COLUMNS:,}: leave some out of it")
    given = ["" if name is None else str(name).strip() for name in names]
    twice = [name for name, times in Counter(given).items() if times > 1 and name]
    if twice:
        raise InputError(f"{shown}: names of columns come twice ({', '.join(map(repr, twice[:3]))}); rename them")
    taken, made = set(given), []
    for place, name in enumerate(given):
        free = name or f"column {place + 1}"
        while not name and free in taken:
            free += "_"
        made.append(free)
    return made


def with_index(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """An index that has a name, or holds times, is a column (several of them) like the others."""
    index = frame.index
    if all(name is None for name in index.names) and not isinstance(index, pd.DatetimeIndex):
        if index.nlevels > 1 or not pd.api.types.is_integer_dtype(index):
            note = "the index is left out, for it has no name; frame.reset_index() makes it a column"
            notes += [] if note in notes else [note]  # once for all parts
        return frame
    made = frame.reset_index(drop=True)
    for place, given in reversed(list(enumerate(index.names))):
        level, name = index.get_level_values(place), given
        if name is None:
            name = "time" if isinstance(level, pd.DatetimeIndex) else f"level_{place}"
        if given in frame and pd.Index(frame[given]).equals(level):
            continue  # set_index(..., drop=False): it is a column already
        while name in made:
            name = f"{name}_"
        made.insert(0, name, level)
    return made


def _parquet(path: Path, most: int | None, notes: list[str]) -> Iterator[pd.DataFrame]:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"{path}: Parquet needs PyArrow: pip install 'trilemma[tables]', or save it as CSV") from None
    with ParquetFile(path) as file:
        left, empty = most, True
        for part in file.iter_batches(min(BATCH, most or BATCH)):
            frame = with_index(part.to_pandas(), notes)
            empty = False
            yield frame if left is None else frame.head(left)
            left = None if left is None else left - len(frame)
            if left is not None and left <= 0:
                return
        if empty:
            yield with_index(file.schema_arrow.empty_table().to_pandas(), notes)


def _excel(path: Path, most: int | None, notes: list[str]) -> Iterator[pd.DataFrame]:
    try:
        import openpyxl
    except ImportError:
        raise InputError(f"{path}: Excel needs openpyxl: pip install 'trilemma[tables]', or save it as CSV") from None
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    names = book.sheetnames
    book.close()
    if len(names) > 1:
        notes.append(f"of {len(names)} sheets the first is read ({names[0]})")
    frame = pd.read_excel(path, nrows=most, engine="openpyxl", keep_default_na=False, na_values=[""])
    for name in [each for each in frame if frame[each].isna().all()]:
        if _formulas(path, list(frame.columns).index(name)):
            raise InputError(
                f"{path}: column {name!r} holds formulas without their values; open it in Excel or LibreOffice, save "
                "it there, or save it as CSV"
            )
    yield frame


def _formulas(path: Path, place: int) -> bool:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True)
    rows = book[book.sheetnames[0]].iter_rows(min_row=2, min_col=place + 1, max_col=place + 1, values_only=True)
    found = any(isinstance(row[0], str) and row[0].startswith("=") for row in itertools.islice(rows, 1000) if row)
    book.close()
    return found


def write(frame: pd.DataFrame, out: Path, delimiter: str = ",", *, comma: bool = False) -> None:
    """A table by its suffix: .csv, .tsv, .jsonl, .parquet, .xlsx (and .csv.gz).

    delimiter: of .csv and .txt. comma: decimal commas in columns of numbers, of text files.
    """
    kind, frame, packed = suffix(out), frame.rename(columns=str), out.suffix.lower() == ".gz"
    if out.suffix.lower() in PACKED and not (packed and kind in (*TEXT, *LINES)):
        raise InputError(f"{out}: tables are packed as .csv.gz, .tsv.gz or .jsonl.gz; choose another name")
    with writing_to(out) as temporary:
        if kind in (*TEXT, *LINES):
            with (gzip.open if packed else open)(temporary, "wt", encoding="utf-8", newline="") as file:
                if kind in LINES:
                    file.writelines(lines_of(frame))
                else:
                    between, decimal = "\t" if kind == ".tsv" else delimiter, "," if comma else "."
                    frame.to_csv(file, index=False, sep=between, decimal=decimal)
        elif kind == ".parquet":
            _write_parquet(frame, temporary, out)
        else:
            _write_excel(frame, temporary, out)


def _write_parquet(frame: pd.DataFrame, temporary: Path, out: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(f"{out}: Parquet needs PyArrow: pip install 'trilemma[tables]', or write .csv") from None
    for name in frame.columns[frame.dtypes == "object"]:
        if pd.api.types.infer_dtype(frame[name]).startswith("mixed"):
            frame = frame.assign(**{name: frame[name].map(str, na_action="ignore")})  # a column has one type there
    frame.to_parquet(temporary, index=False)


def _write_excel(frame: pd.DataFrame, temporary: Path, out: Path) -> None:
    """Texts stay texts: `=1+1` from a table of the user's is no formula to be carried out."""
    try:
        from openpyxl.utils.exceptions import IllegalCharacterError
    except ImportError:
        raise InputError(f"{out}: Excel needs openpyxl: pip install 'trilemma[tables]', or write .csv") from None
    for name in frame.select_dtypes("datetimetz"):
        frame = frame.assign(**{name: frame[name].astype(str)})  # Excel has no zones
    try:
        with open(temporary, "wb") as file, pd.ExcelWriter(file, engine="openpyxl") as writer:
            frame.to_excel(writer, index=False)
            for row in writer.sheets["Sheet1"].iter_rows():
                for cell in row:
                    if cell.data_type == "f":
                        cell.data_type = "s"
    except IllegalCharacterError as problem:
        raise InputError(f"{out}: Excel cannot hold a cell ({first_line(problem)!r}); write .csv instead") from problem
    except ValueError as problem:  # more rows or columns than a sheet has
        raise InputError(f"{out}: cannot be written as Excel ({first_line(problem)}); write .csv instead") from problem
