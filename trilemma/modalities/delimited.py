"""Text tables (CSV, TSV and the like) -> parts of rows, with every cell as it is written."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Any

from trilemma.errors import InputError

DELIMITERS = ",;\t|"
PART = 5_000  # rows of a part: so few that their texts are near at hand while columns are made of them
FEW = 500  # rows at a time: so few that the garbage collector is not asked
PEEK = 1 << 18  # bytes by which separator and encoding are judged
NOISE = 0.005  # share of control characters that no text has,
KINDS = 5  # and different ones
PACKED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
KNOWN = {b"PAR1": ("Parquet", ".parquet"), b"SQLite format": ("SQLite", ".db"), b"\xd0\xcf\x11\xe0": ("Excel", ".xls")}
# Bytes that are no UTF-8 come as these signs; they are taken for Windows-1252, which most such files are.
STRAY = re.compile("[\udc80-\udcff]")
MEANT = {0xDC00 + b: bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(0x80, 0x100)}
csv.field_size_limit(1 << 30)  # its own 128 KB are less than people put into a cell


def opened(path: Path) -> IO[bytes]:
    """The bytes of a table, unpacked if it is packed. InputError for what is no text."""
    with open(path, "rb") as file:
        first = file.read(16)
    for magic, unpack in PACKED.items():
        if first.startswith(magic):
            return unpack(path)  # type: ignore[no-any-return]
    if first.startswith(b"\x28\xb5\x2f\xfd"):
        raise InputError(f"{path}: is packed with Zstandard; unpack it, or pack it with gzip")
    if first.startswith(b"PK\x03\x04"):
        return _only_member(path)
    for magic, (what, ending) in KNOWN.items():
        if first.startswith(magic):
            fix = "save it as .xlsx or .csv" if ending != ".parquet" else "let its name end in .parquet"
            raise InputError(f"{path}: is a file of {what}, not text; {fix}")
    return open(path, "rb")


def _only_member(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if "[Content_Types].xml" in names:
        raise InputError(f"{path}: is a file of Excel, not text; let its name end in .xlsx")
    if len(names) != 1:
        raise InputError(f"{path}: an archive of {len(names)} files; unpack it and give the one table")
    return archive.open(names[0])


class Delimited:
    """One text table: its names, then its rows part by part. InputError, with the line, for what cannot be read."""

    def __init__(self, path: Path):
        self.path = path
        self.notes: list[str] = []
        with opened(path) as file:
            head = file.read(PEEK)
        if not head.strip():
            raise InputError(f"{path}: is empty; give a table with a line of names and rows below it")
        self.encoding = _encoding(path, head)
        wide = self.encoding.startswith(("utf-16", "utf-32"))
        text = head.decode(self.encoding, "replace" if wide else "surrogateescape").translate(MEANT)
        text = text if len(head) < PEEK else text[: text.rfind("\n") + 1] or text
        said = re.match(r"sep=(.)\r?\n", text)  # as Excel has it
        self.skipped = 1 if said else 0
        self.delimiter = said[1] if said else _delimiter(text)
        if self.delimiter != ",":
            self.notes.append(f"cells are separated by {self.delimiter!r}")
        if wide:
            self.notes.append(f"read as {self.encoding.upper()}")
        rows = itertools.islice(self._reader(io.StringIO(text, newline="")), 50 + self.skipped)
        top = [row for row in rows if row][self.skipped :]
        if len(head) == PEEK and len(top) > 2:
            top = top[:-1]
        self.names = [name.strip() for name in top[0]] if top else []
        if len(top) > 2 and all(len(row) == len(self.names) + 1 and row[-1].strip() for row in top[1:]):
            self.names = ["", *self.names]  # R leaves out the name of the rows' own names

    def _reader(self, lines: Any) -> Any:
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)

    def parts(self, most: int = PART) -> Generator[list[list[str]]]:
        """Columns of the next rows, `most` of them at a time."""
        columns: list[list[str]] = [[] for _ in self.names]
        stray: list[int] = []
        short: list[int] = []
        with opened(self.path) as file:
            errors = "strict" if self.encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
            text = io.TextIOWrapper(file, self.encoding, errors, newline="")  # type: ignore[arg-type]
            reader = self._reader(_lines(text, stray))
            for _ in range(self.skipped):
                next(reader)
            next(row for row in reader if row)
            line, rows, last = reader.line_num, 0, False
            while not last:
                batch = list(itertools.islice(reader, FEW))
                last = not batch or (bool(batch[-1]) and batch[-1][-1].endswith(END))
                if last and batch:
                    if batch[-1] != [END]:
                        begin = reader.line_num - batch[-1][-1].count("\n")
                        raise InputError(f"{self.path}: line {begin} opens a quote that nothing closes; mend it")
                    batch.pop()
                if any(len(row) != len(columns) for row in batch):
                    batch = self._mended(batch, line, short)
                line, rows = reader.line_num, rows + len(batch)
                for column, cells in zip(columns, zip(*batch, strict=True), strict=bool(batch)):
                    column.extend(cells)
                if len(columns[0]) >= most or (last and columns[0]):
                    yield columns
                    columns = [[] for _ in self.names]
        if rows == 0:
            raise InputError(f"{self.path}: has a line of names and no rows below it")
        if stray:
            first = f"line {stray[0]} is the first"
            self.notes.append(f"{len(stray):,} lines hold bytes that are no UTF-8 ({first}): read as Windows-1252")
        if short:
            self.notes.append(
                f"{len(short):,} lines have fewer cells than there are names (line {short[0]} is the first): "
                "the rest are taken as missing"
            )

    def _mended(self, batch: list[list[str]], line: int, short: list[int]) -> list[list[str]]:
        """Rows with a cell for each name: no blank lines, no separators too many at their ends."""
        width, rows = len(self.names), []
        for row in batch:
            line += 1
            if not row:
                continue
            if len(row) > width:
                if any(cell.strip() for cell in row[width:]):
                    raise InputError(
                        f"{self.path}: line {line} has {len(row)} cells, where there are {width} names; mend it (a "
                        f"cell that holds {self.delimiter!r} stands in double quotes)"
                    )
                row = row[:width]
            elif len(row) < width:
                short.append(line)
                row = row + [""] * (width - len(row))
            line += sum(cell.count("\n") for cell in row)
            rows.append(row)
        return rows


END = "\0the end of the file\0"


def _lines(text: io.TextIOWrapper, stray: list[int]) -> Iterator[str]:
    """The lines, and one more by which a quote that is still open shows. Numbers of those with strange bytes."""
    for number, line in enumerate(text, 1):
        if not line.isascii() and STRAY.search(line):
            stray.append(number)
            yield line.translate(MEANT)
        else:
            yield line
    yield END


def _encoding(path: Path, head: bytes) -> str:
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = [head[start::2].count(0) / max(len(head[start::2]), 1) for start in (0, 1)]
    if max(zeros) > 0.4 and min(zeros) < 0.1:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    control = [head.count(byte) for byte in range(32) if byte not in b"\t\n\r\f"]
    if sum(control) > NOISE * len(head) and sum(count > 0 for count in control) > KINDS:
        raise InputError(f"{path}: is no text (it is full of control characters); give a table as CSV")
    return "utf-8-sig"


def _delimiter(text: str) -> str:
    """The sign that splits the first lines into equally many cells, the most of them.

    It splits the line of names, too: a decimal comma does not. Only where no sign does may one split the rows alone, as
    in R's export of one column.
    """
    lines = [line for line in re.split(r"\r\n|\n|\r", text)[:50] if line.strip()]
    lines = lines[:-1] if len(lines) > 2 and not text.endswith("\n") else lines
    best, most = ",", 1
    cells = {sign: [len(row) for row in csv.reader(lines, delimiter=sign)] for sign in DELIMITERS}
    named = {sign: counts for sign, counts in cells.items() if counts and counts[0] > 1}
    for sign, counts in (named or cells).items():
        common, times = Counter(counts).most_common(1)[0]
        if common > most and times > 0.8 * len(counts):
            best, most = sign, common
    return best


def check_names(path: Path, names: list[str], first: list[list[str]]) -> None:
    """InputError where the first line looks like a row. `first`: the columns of the first rows."""
    number = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
    numeric = [any(cells) and all(number.fullmatch(c.strip()) for c in cells if c.strip()) for cells in first]
    told = [name for name, own in zip(names, numeric, strict=True) if own]
    if told and not all(number.fullmatch(name) for name in told):
        return
    texts = [place for place, own in enumerate(numeric) if not own and names[place]]
    own = [names[place] in {cell.strip() for cell in first[place]} for place in texts]
    whole = all(re.fullmatch(r"\d+", name) for name in told)
    steps = [int(b) - int(a) for a, b in itertools.pairwise(told)] if whole else []
    counted = whole and (all(step > 0 for step in steps) or all(step < 0 for step in steps))  # years, mostly
    if (told and (any(own) or not counted)) or (not told and own and sum(own) * 2 >= len(own)):
        few = ", ".join(names[:4])
        raise InputError(
            f"{path}: its first line looks like a row, not like names ({few}); put a line of names above it, "
            "such as a,b,c"
        )
