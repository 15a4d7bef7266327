"""Bad and strange tables: each is read right, shown by its values, or refused in one line that names file and fix."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trilemma.errors import InputError
from trilemma.modalities import delimited, frames, table
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.door import open_data
from trilemma.modalities.plain import typed
from trilemma.modalities.table import Table

COUNT = 60
REFUSED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], Opening]] = {}
READ: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {}


def refused(*words: str, opening: Opening | None = None) -> Callable:
    """Register a maker of a bad table; the message must hold all of `words`."""

    def register(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
        REFUSED[make.__name__] = (make, words, opening or Opening())
        return make

    return register


def read(*notes: str) -> Callable:
    """Register a maker of (a strange table, what must hold of it once it is read); notes that must be given."""

    def register(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
        READ[make.__name__] = (make, notes)
        return make

    return register


def rows(count: int = COUNT) -> list[list[str]]:
    random = np.random.default_rng(0)
    return [[f"{random.normal():.3f}", "xyz"[n % 3], str(random.integers(100, 999))] for n in range(count)]


def csv(path: Path, lines: list[list[str]] | None = None, *, names: str = "a,b,c", name: str = "t.csv") -> Path:
    text = names + "\n" + "".join(",".join(line) + "\n" for line in lines or rows())
    (path / name).write_bytes(text.encode())
    return path / name


def with_column(path: Path, cells: list[str], name: str = "v") -> Path:
    """The usual table with one more column, its cells repeated as often as it takes."""
    return csv(path, [[*row, cells[n % len(cells)]] for n, row in enumerate(rows())], names=f"a,b,c,{name}")


def column(data: Data, name: str) -> Column:
    assert isinstance(data.modality, Table)
    return next(each for each in data.modality.columns if each.name == name)


def values_of(data: Data, name: str) -> np.ndarray:
    """The cells of a column as numbers, in the order of the source."""
    texts = {each.name: each for each in frames.read(data.facts["given"], "t")[0]}
    return table._values(column(data, name), texts[name], len(texts[name].codes), "t")


def again(data: Data, name: str = "v") -> list[str]:
    """The cells of a column as they are written again, in the order of the source."""
    return column(data, name).written(values_of(data, name), np.random.default_rng(0)).tolist()


def cells_kept(data: Data, cells: list[str], name: str = "v") -> None:
    assert again(data, name) == [cells[n % len(cells)] for n in range(COUNT)]


# Text tables: refused ------------------------------------------------------------------------------------------------


@refused("line 32 has 4 cells, where there are 3 names", "mend it")
def more_cells_than_names(path: Path) -> Path:
    return csv(path, [*rows()[:30], ["1", "x", "2", "3"], *rows()[30:]])


@refused("line 34 has 4 cells")
def more_cells_after_quoted_newlines(path: Path) -> Path:
    return csv(path, [["1", '"x\ny\nz"', "2"], *rows()[:29], ["1", "x", "2", "3"]])


@refused("line 31 opens a quote that nothing closes", "mend it")
def an_open_quote(path: Path) -> Path:
    return csv(path, [*rows()[:29], ["1", '"x', "2"], *rows()[29:]])


@refused("come twice ('b')", "rename them")
def names_twice(path: Path) -> Path:
    return csv(path, names="a,b, b")


@refused("has a line of names and no rows below it")
def names_only(path: Path) -> Path:
    (path / "t.csv").write_text("a,b,c\n\n\n")
    return path / "t.csv"


@refused("looks like a row, not like names (1.53, x, 312)", "put a line of names above it")
def no_names(path: Path) -> Path:
    text = "1.53,x,312\n" + "".join(",".join(line) + "\n" for line in rows())
    (path / "t.csv").write_text(text)
    return path / "t.csv"


@refused("looks like a row, not like names (x, y)")
def no_names_of_texts(path: Path) -> Path:
    (path / "t.csv").write_text("".join(f"{'xyz'[n % 3]},{'yx'[n % 2]}\n" for n in range(COUNT)))
    return path / "t.csv"


@refused("only 1 examples; at least 16")
def one_row(path: Path) -> Path:
    return csv(path, rows(1))


@refused("is empty (0 bytes)")
def an_empty_file(path: Path) -> Path:
    (path / "t.csv").write_bytes(b"")
    return path / "t.csv"


@refused("is empty", "a line of names")
def nothing_but_spaces(path: Path) -> Path:
    (path / "t.csv").write_bytes(b"  \n \n")
    return path / "t.csv"


@refused("10,000 columns", "leave some out of it")
def ten_thousand_columns(path: Path) -> Path:
    wide = ",".join(str(n) for n in range(10_000))
    (path / "t.csv").write_text(",".join(f"c{n}" for n in range(10_000)) + "\n" + (wide + "\n") * 20)
    return path / "t.csv"


@refused("no column in it that could be learned", "a: constant")
def nothing_but_constants(path: Path) -> Path:
    return csv(path, [["1", "x", "2"]] * COUNT)


@refused("is no text", "give a table as CSV")
def binary_junk(path: Path) -> Path:
    (path / "t.csv").write_bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes())
    return path / "t.csv"


@refused("is truncated or damaged", "download it again")
def a_truncated_gz(path: Path) -> Path:
    packed = gzip.compress(csv(path).read_bytes())
    (path / "t.csv.gz").write_bytes(packed[: len(packed) // 2])
    return path / "t.csv.gz"


@refused("is truncated or damaged", "download it again")
def a_truncated_xz(path: Path) -> Path:
    packed = lzma.compress(csv(path).read_bytes())
    (path / "t.csv.xz").write_bytes(packed[: len(packed) // 2])
    return path / "t.csv.xz"


@refused("damaged", "again")
def a_truncated_zip(path: Path) -> Path:
    with zipfile.ZipFile(path / "t.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(csv(path), "t.csv")
    packed = (path / "t.csv.zip").read_bytes()
    (path / "t.csv.zip").write_bytes(packed[: len(packed) // 2])
    return path / "t.csv.zip"


@refused("an archive of 2 files", "unpack it")
def a_zip_of_two_tables(path: Path) -> Path:
    with zipfile.ZipFile(path / "t.csv.zip", "w") as archive:
        archive.write(csv(path), "t.csv")
        archive.write(path / "t.csv", "u.csv")
    return path / "t.csv.zip"


@refused("Zstandard", "unpack it")
def a_zstandard_file(path: Path) -> Path:
    (path / "t.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(50))
    return path / "t.csv.zst"


@refused("is a folder", "name the table in it", opening=Opening(kind="table"))
def a_folder(path: Path) -> Path:
    (path / "t.csv").mkdir()
    (path / "t.csv" / "u.txt").write_text("x")
    return path / "t.csv"


@refused("is a file of Parquet, not text", ".parquet")
def parquet_by_the_name_of_csv(path: Path) -> Path:
    (path / "t.csv").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    return path / "t.csv"


@refused("is a file of Excel, not text", ".xlsx")
def old_excel_by_the_name_of_csv(path: Path) -> Path:
    (path / "t.csv").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    return path / "t.csv"


@refused("no kind of data that is known", "--kind")
def an_ending_that_nobody_knows(path: Path) -> Path:
    return csv(path, name="t.dat")


@refused("is no table that is known", ".csv", opening=Opening(kind="table"))
def an_ending_that_is_no_table(path: Path) -> Path:
    return csv(path, name="t.dat")


@refused("web page")
def a_web_page(path: Path) -> Path:
    (path / "t.csv").write_text("<!DOCTYPE html><html><body>404</body></html>")
    return path / "t.csv"


@refused("cannot be read as text", "save it as UTF-8")
def half_a_sign_of_utf_16(path: Path) -> Path:
    (path / "t.csv").write_bytes(csv(path).read_text().encode("utf-16")[:-1])
    return path / "t.csv"


@refused("setting data.columns.b=number: not all of its cells are numbers (but 'x' in row 1)",
         opening=Opening(columns=(("b", "number"),)))  # fmt: skip
def a_number_that_is_none(path: Path) -> Path:
    return csv(path)


@refused("'z' is not among them", "x < y", opening=Opening(columns=(("b", "ordered:x<y"),)))
def an_order_that_lacks_a_value(path: Path) -> Path:
    return csv(path)


@refused("setting data.columns.a=date: not all of its cells are dates", opening=Opening(columns=(("a", "date"),)))
def a_date_that_is_none(path: Path) -> Path:
    return csv(path)


# JSON lines: refused -------------------------------------------------------------------------------------------------


def jsonl(path: Path, lines: list[Any]) -> Path:
    (path / "t.jsonl").write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path / "t.jsonl"


def objects(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"a": float(a), "b": b, "c": int(c)} for a, b, c in rows(count)]


@refused("line 11 is no JSON", "mend it")
def a_bad_line_of_json(path: Path) -> Path:
    return jsonl(path, [*objects(10), '{"a": 1, "b": ', *objects(10)])


@refused("line 2 is no JSON object")
def json_that_is_no_object(path: Path) -> Path:
    return jsonl(path, [objects(1)[0], [1, 2, 3], *objects(20)])


@refused("line 3 has a list in 'b'", "give each of its entries a name")
def a_list_in_json(path: Path) -> Path:
    return jsonl(path, [*objects(2), {"a": 1.0, "b": ["x"], "c": 2}, *objects(20)])


@refused("has no rows")
def empty_json(path: Path) -> Path:
    return jsonl(path, ["", ""])


# Data frames: refused ------------------------------------------------------------------------------------------------


def frame(count: int = COUNT) -> pd.DataFrame:
    return pd.DataFrame(rows(count), columns=list("abc")).astype({"a": float, "c": int})


@refused("come twice ('b')")
def a_frame_with_names_twice(path: Path) -> pd.DataFrame:
    return frame().set_axis(["a", "b", "b"], axis=1)


@refused("names of columns have 2 levels", "frame.columns =")
def a_frame_with_levels_of_names(path: Path) -> pd.DataFrame:
    return frame().set_axis(pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]), axis=1)


@refused("column 'z' holds complex numbers", "two columns")
def a_frame_of_complex_numbers(path: Path) -> pd.DataFrame:
    return frame().assign(z=1 + 2j)


@refused("column 'z' holds list", "a cell is one number")
def a_frame_of_lists(path: Path) -> pd.DataFrame:
    return frame().assign(z=[[1, 2]] * COUNT)


@refused("has no rows")
def a_frame_without_rows(path: Path) -> pd.DataFrame:
    return frame().head(0)


@refused("has no rows")
def a_frame_without_columns(path: Path) -> pd.DataFrame:
    return pd.DataFrame(index=range(50))


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_table_is_one_clear_error(name: str, tmp_path: Path) -> None:
    make, words, opening = REFUSED[name]
    source = make(tmp_path)
    with pytest.raises(InputError) as caught:
        open_data(source, opening=opening)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    for word in words:
        assert word in message, message


# Read right: how files are written -----------------------------------------------------------------------------------


@read("2 lines have fewer cells than there are names (line 12 is the first)")
def fewer_cells_than_names(path: Path) -> tuple[Path, Callable]:
    lines = rows()
    lines[10], lines[20] = lines[10][:2], lines[20][:1]
    return csv(path, lines), lambda data: again(data, "c").count("") == 2


@read()
def separators_at_the_ends(path: Path) -> tuple[Path, Callable]:
    lines = [[*row, ""] for row in rows()]
    return csv(path, lines), lambda data: list(data.facts["columns"]) == ["a", "b", "c"]


@read()
def names_of_rows_without_a_name(path: Path) -> tuple[Path, Callable]:
    """As R writes them."""
    lines = [[f"r{n:03d}", *row] for n, row in enumerate(rows())]
    return csv(path, lines), lambda data: list(data.facts["columns"]) == ["column 1", "a", "b", "c"]


@read()
def columns_without_a_name(path: Path) -> tuple[Path, Callable]:
    lines = [[*row, *row] for row in rows()]
    return csv(path, lines, names=",x,column 1,,y,z"), lambda data: list(data.facts["columns"]) == [
        "column 1_", "x", "column 1", "column 4", "y", "z",
    ]  # fmt: skip


@read("2 lines hold bytes that are no UTF-8 (line 11 is the first): read as Windows-1252")
def mixed_encodings(path: Path) -> tuple[Path, Callable]:
    lines = [[a, "né", c] for a, _, c in rows()]
    raw = csv(path, lines).read_bytes().splitlines(keepends=True)
    raw[10], raw[11] = (line.decode().encode("cp1252") for line in raw[10:12])
    (path / "t.csv").write_bytes(b"".join(raw) + "1.0,€,5\n".encode())
    return path / "t.csv", lambda data: set(again(data, "b")) == {"né", "€"}


@read("read as Windows-1252")
def names_in_windows_1252(path: Path) -> tuple[Path, Callable]:
    text = csv(path, names="Größe,b,Preis €").read_text(encoding="utf-8")
    (path / "t.csv").write_bytes(text.encode("cp1252"))
    return path / "t.csv", lambda data: list(data.facts["columns"]) == ["Größe", "b", "Preis €"]


@read("read as Windows-1252")
def strange_bytes_far_down(path: Path) -> tuple[Path, Callable]:
    """Beyond what the encoding is judged by."""
    lines = [[*row, "x" * 5000] for row in rows()]
    raw = csv(path, lines, names="a,b,c,d").read_bytes()
    (path / "t.csv").write_bytes(raw + b"1.0,\xfcber,5," + b"x" * 5000 + b"\n")
    return path / "t.csv", lambda data: "über" in again(data, "b")


@read("read as Windows-1252")
def latin_1_with_a_byte_order_mark(path: Path) -> tuple[Path, Callable]:
    raw = csv(path, [*([a, "né", c] for a, _, c in rows()), ["1.0", "o", "5"]]).read_text()
    (path / "t.csv").write_bytes(b"\xef\xbb\xbf" + raw.encode("cp1252"))
    return path / "t.csv", lambda data: set(again(data, "b")) == {"né", "o"} and "a" in data.facts["columns"]


def _in(encoding: str) -> Callable[[Path], tuple[Path, Callable]]:
    def make(path: Path) -> tuple[Path, Callable]:
        text = csv(path, [[a, "日本" if b == "x" else b, c] for a, b, c in rows()]).read_text(encoding="utf-8")
        (path / "t.csv").write_bytes(text.encode(encoding))
        return path / "t.csv", lambda data: {"日本"} < set(again(data, "b")) and "a" in data.facts["columns"]

    return make


READ |= {f"encoding {e}": (_in(e), ()) for e in ("utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-8-sig", "utf-32")}


@read()
def quoted_newlines(path: Path) -> tuple[Path, Callable]:
    cells = ['"one\ntwo"', '"say ""so"""', '"a,b"', "plain"]
    return with_column(path, cells), lambda data: cells_kept(data, ["one\ntwo", 'say "so"', "a,b", "plain"]) is None


@read()
def zero_bytes(path: Path) -> tuple[Path, Callable]:
    return with_column(path, ["a\0b", "c"]), lambda data: cells_kept(data, ["a\0b", "c"]) is None


@read("free text is left out: v")
def very_long_cells(path: Path) -> tuple[Path, Callable]:
    """Longer than Python's csv takes by itself."""
    return with_column(path, [str(n) + "x" * 200_000 for n in range(COUNT)]), lambda data: True


@read()
def lines_that_end_in_many_ways(path: Path) -> tuple[Path, Callable]:
    raw = csv(path).read_bytes().splitlines()
    (path / "t.csv").write_bytes(b"\r\n".join(raw[:20]) + b"\r" + b"\r".join(raw[20:40]) + b"\n" + b"\n".join(raw[40:]))
    return path / "t.csv", lambda data: len(data.x) == COUNT


@read("cells are separated by ';'")
def what_excel_says_of_separators(path: Path) -> tuple[Path, Callable]:
    text = "sep=;\n" + csv(path).read_text().replace(",", ";")
    (path / "t.csv").write_text(text)
    return path / "t.csv", lambda data: list(data.facts["columns"]) == ["a", "b", "c"]


@read("cells are separated by ';'")
def decimal_commas(path: Path) -> tuple[Path, Callable]:
    text = csv(path).read_text().replace(",", ";").replace(".", ",")
    (path / "t.csv").write_text(text)
    return (
        path / "t.csv",
        lambda data: (
            column(data, "a").comma and sorted(again(data, "a")) == sorted(row[0].replace(".", ",") for row in rows())
        ),
    )


@read("cells are separated by ';'")
def decimal_commas_that_split_the_rows_as_well(path: Path) -> tuple[Path, Callable]:
    text = "datum;preis\n" + "".join(f"2020-01-{1 + n % 28:02d};{1002 + n},51\n" for n in range(COUNT))
    (path / "t.csv").write_text(text)
    return (
        path / "t.csv",
        lambda data: (
            list(data.facts["columns"]) == ["datum", "preis"]
            and values_of(data, "preis").tolist() == [1002.51 + n for n in range(COUNT)]
        ),
    )


@read()
def one_column_as_r_writes_it(path: Path) -> tuple[Path, Callable]:
    lines = [[f"r{n:03d}", row[0]] for n, row in enumerate(rows())]
    return csv(path, lines, names='"a"'), lambda data: list(data.facts["columns"]) == ["column 1", "a"]


@read()
def names_that_are_falling_years(path: Path) -> tuple[Path, Callable]:
    lines = [[f"c{n}", str(100 + n * 7 % 50), str(300 + n * 11 % 50), row[2]] for n, row in enumerate(rows())]
    made = csv(path, lines, names="country,2012,2011,2010")
    return made, lambda data: list(data.facts["columns"]) == ["country", "2012", "2011", "2010"]


@read()
def a_single_column(path: Path) -> tuple[Path, Callable]:
    return csv(path, [[row[0]] for row in rows()], names="a"), lambda data: data.x.shape == (COUNT, 1)


def _packed(name: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], tuple[Path, Callable]]:
    def make(path: Path) -> tuple[Path, Callable]:
        (path / name).write_bytes(pack(csv(path).read_bytes()))
        return path / name, lambda data: len(data.x) == COUNT and data.x.shape[1] == 3

    return make


READ["packed gz"] = (_packed("t.csv.gz", gzip.compress), ())
READ["packed bz2"] = (_packed("t.csv.bz2", bz2.compress), ())
READ["packed xz"] = (_packed("t.tsv.xz", lzma.compress), ())
READ["packed, but its name does not say so"] = (_packed("u.csv", gzip.compress), ())


@read()
def a_zip_of_one_table(path: Path) -> tuple[Path, Callable]:
    with zipfile.ZipFile(path / "t.csv.zip", "w") as archive:
        archive.write(csv(path), "t.csv")
    return path / "t.csv.zip", lambda data: len(data.x) == COUNT


# Read right: cells ---------------------------------------------------------------------------------------------------


@read("column 'v' is empty")
def a_column_of_nothing(path: Path) -> tuple[Path, Callable]:
    return with_column(path, [""]), lambda data: set(again(data)) == {""}


@read("4 infinite values are taken as missing")
def infinite_values(path: Path) -> tuple[Path, Callable]:
    cells = ["inf", "-Infinity", *(f"{n}.25" for n in range(28))]
    return with_column(
        path, cells
    ), lambda data: column(data, "v").kind == "number" and again(data)[:3] == ["", "", "0.25"]


@read()
def formulas(path: Path) -> tuple[Path, Callable]:
    cells = ["=cmd|' /C calc'!A0", "@SUM(A1:A2)", "+A1", "-A1", "plain"]
    return with_column(path, cells), lambda data: cells_kept(data, cells) is None


@read("dates of 3 forms; all are written %Y-%m-%d")
def dates_of_three_forms(path: Path) -> tuple[Path, Callable]:
    days = [pd.Timestamp("2021-01-05") + pd.Timedelta(n, "D") for n in range(COUNT)]
    forms = ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d", "%b %d, %Y"]
    cells = [f'"{day.strftime(forms[n % 4])}"' for n, day in enumerate(days)]
    return with_column(path, cells), lambda data: again(data) == [day.strftime("%Y-%m-%d") for day in days]


@read()
def dates_with_zones(path: Path) -> tuple[Path, Callable]:
    cells = [f"2021-03-{1 + n % 28:02d}T10:00:00+0100" for n in range(COUNT)]
    return with_column(path, cells), lambda data: again(data)[3] == "2021-03-04T09:00:00+0000"


def _numbers(cells: list[str], wanted: list[float], kind: str = "number") -> Callable[[Path], tuple[Path, Callable]]:
    """Cells that are numbers, and are written as they came; more of them, so that they are no category."""

    def make(path: Path) -> tuple[Path, Callable]:
        def holds(data: Data) -> bool:
            own = column(data, "v")
            assert own.kind == kind, own.kind
            cells_kept(data, cells)
            np.testing.assert_allclose(values_of(data, "v")[: len(wanted)], wanted, rtol=1e-12)
            return True

        return with_column(path, [f'"{cell}"' for cell in cells]), holds

    return make


READ["thousands"] = (_numbers([f"{1000 + 37 * n:,}" for n in range(19)] + ["7"], [1000, 1037], "integer"), ())
READ["thousands and cents"] = (_numbers([f"{n * 700 + 0.25:,.2f}" for n in range(30)], [0.25, 700.25, 1400.25]), ())
READ["thousands in German"] = (
    _numbers([f"{n * 700 + 0.25:,.2f}".translate({44: ".", 46: ","}) for n in range(30)], [0.25, 700.25]), ()
)  # fmt: skip
READ["thousands in French"] = (
    _numbers([f"{n * 700 + 0.25:,.2f}".translate({44: "\u202f", 46: ","}) for n in range(30)], [0.25, 700.25]), ()
)  # fmt: skip
READ["per cent"] = (_numbers([f"{n * 1.5:.1f}%" for n in range(30)], [0, 1.5, 3.0]), ())
READ["dollars"] = (_numbers([f"${n * 700:,}.50" for n in range(30)], [0.5, 700.5]), ())
READ["debts"] = (_numbers([f"-${n + 1}.50" for n in range(30)], [-1.5, -2.5]), ())
READ["euros"] = (_numbers([f"{n},50 €" for n in range(30)], [0.5, 1.5]), ())
READ["exponents"] = (_numbers([f"{n}.5e-0{k}" for n in range(1, 9) for k in (5, 7, 9)], [1.5e-5, 1.5e-7]), ())


@read()
def negative_zero(path: Path) -> tuple[Path, Callable]:
    cells = ["-0.0", "0.0", "1.5", "-1.5"] + [f"{n}.5" for n in range(2, 28)]
    return with_column(path, cells), lambda data: set(again(data)) == {*cells} - {"-0.0"}


@read()
def whole_numbers_beyond_floats(path: Path) -> tuple[Path, Callable]:
    cells = [str(2**53 + 1 + 2 * n) for n in range(20)]
    return with_column(path, cells), lambda data: column(data, "v").kind == "category" and not cells_kept(data, cells)


@read()
def identifiers_beyond_floats(path: Path) -> tuple[Path, Callable]:
    cells = [str(10**19 + 7 * n) for n in range(COUNT)]
    return with_column(
        path, cells
    ), lambda data: column(data, "v").kind == "identifier" and all(len(cell) == 20 for cell in again(data))


@read()
def zip_codes(path: Path) -> tuple[Path, Callable]:
    cells = [f"{n * 531:05d}" for n in range(20)]
    return with_column(path, cells), lambda data: cells_kept(data, cells) is None


@read()
def spaces_around_categories(path: Path) -> tuple[Path, Callable]:
    return with_column(path, ["yes", " yes", "yes ", '" no "']), lambda data: set(again(data)) == {"yes", "no"}


@read("'Yes' and 'yes' are two values")
def booleans_of_all_spellings(path: Path) -> tuple[Path, Callable]:
    cells = ["Yes", "yes", "TRUE", "False", "t", "0", "1", "N"]
    return with_column(path, cells), lambda data: cells_kept(data, cells) is None


@read()
def spellings_of_nothing(path: Path) -> tuple[Path, Callable]:
    cells = ["NA", "N/A", "null", "None", "", "nan", "#N/A", "?", "1.5", "2.5", "NA", "3.5"]
    return with_column(
        path, cells
    ), lambda data: set(again(data)) == {"NA", "1.5", "2.5", "3.5"} and again(data).count("NA") == COUNT * 3 // 4


@read("cells are taken as missing (-, missing)")
def numbers_with_signs_for_nothing(path: Path) -> tuple[Path, Callable]:
    cells = [f"{n}.25" for n in range(28)] + ["-", "missing"]
    return with_column(path, cells), lambda data: column(data, "v").kind == "number" and again(data).count("-") == 4


@read("nearly all numbers (but 'about 5' in row 20)", "taken as a category")
def mixed_types(path: Path) -> tuple[Path, Callable]:
    cells = [f"{n}.25" for n in range(19)] + ["about 5"] + [f"{n}.75" for n in range(10)]
    return with_column(path, cells), lambda data: set(again(data)) == set(cells)


@read()
def a_constant(path: Path) -> tuple[Path, Callable]:
    return with_column(path, ["CH"]), lambda data: cells_kept(data, ["CH"]) is None


@read()
def identifiers(path: Path) -> tuple[Path, Callable]:
    cells = [f"user-{n:05d}" for n in range(COUNT)]
    return (
        with_column(path, cells),
        lambda data: (
            len(again(data)) == len(set(again(data)) - set(cells))
            and all(cell.startswith("user-") and len(cell) == 10 for cell in again(data))
        ),
    )


@read("free text is left out: v")
def texts_all_different(path: Path) -> tuple[Path, Callable]:
    return with_column(path, [f"the story of number {n}" for n in range(COUNT)]), lambda data: True


# Read right: JSON lines and data frames ------------------------------------------------------------------------------


@read()
def json_with_other_keys(path: Path) -> tuple[Path, Callable]:
    lines = [each if n % 3 else {"c": each["c"], "d": n / 7} for n, each in enumerate(objects())]
    return jsonl(
        path, lines
    ), lambda data: list(data.facts["columns"]) == ["c", "d", "a", "b"] and (again(data, "b").count("") == COUNT // 3)


@read("objects within rows became columns of their own: b")
def nested_json(path: Path) -> tuple[Path, Callable]:
    lines = [{**each, "b": {"x": each["b"], "y": {"z": each["a"]}}} for each in objects()]
    return jsonl(path, lines), lambda data: list(data.facts["columns"]) == ["a", "b.x", "b.y.z", "c"]


@read()
def json_with_digits_and_truths(path: Path) -> tuple[Path, Callable]:
    lines = [{**each, "v": 2**60 + 2 * (n % 20) + 1, "w": n % 2 == 0} for n, each in enumerate(objects())]

    def holds(data: Data) -> bool:
        exported = data.modality.export(data.x)
        assert exported["w"].dtype == bool
        return again(data)[:3] == [str(2**60 + 1), str(2**60 + 3), str(2**60 + 5)]

    return jsonl(path, lines), holds


@read()
def a_frame_with_an_index_of_levels(path: Path) -> tuple[Any, Callable]:
    own = frame().set_index(["b", "c"])
    return own, lambda data: list(data.facts["columns"]) == ["b", "c", "a"]


@read("the index is left out")
def a_frame_with_an_index_without_a_name(path: Path) -> tuple[Any, Callable]:
    return frame().set_axis([f"r{n}" for n in range(COUNT)]), lambda data: data.x.shape[1] == 3


def _typed(cells: Any, kind: str | None = None) -> Callable[[Path], tuple[Any, Callable]]:
    """A column of a data frame comes out in the type that it had, with the values that it had."""

    def make(path: Path) -> tuple[Any, Callable]:
        own = frame().assign(v=cells)

        def holds(data: Data) -> bool:
            made = typed(pd.Series(again(data)), column(data, "v"))
            assert data.modality.export(data.x)["v"].dtype == made.dtype == own["v"].dtype, made.dtype
            if kind is not None:
                assert column(data, "v").kind == kind
            for new, old in zip(made, own["v"], strict=True):
                assert (pd.isna(new) and pd.isna(old)) or new == old, (new, old)
            return True

        return own, holds

    return make


every = np.arange(COUNT)
moments = pd.Series(pd.date_range("2021-03-20 01:30", periods=COUNT, freq="7h"))
READ |= {
    f"frame of {name}": (_typed(cells, kind), ())
    for name, cells, kind in [
        ("Int64 with gaps", pd.array([None if n % 7 == 0 else n % 20 for n in range(COUNT)], "Int64"), "integer"),
        ("few Int64 with gaps", pd.array([None if n % 7 == 0 else n % 3 for n in range(COUNT)], "Int64"), "category"),
        ("boolean with gaps", pd.array([None if n % 7 == 0 else n % 2 == 0 for n in range(COUNT)], "boolean"), None),
        ("bool", every % 3 == 0, "category"),
        ("uint8", (every % 40).astype(np.uint8), "integer"),
        ("float32", (every % 30 / 8).astype(np.float32), "number"),
        ("whole floats with gaps", np.where(every % 5, every % 20, np.nan), "integer"),
        ("categories", pd.Categorical([("Good", "Fair")[n % 2] for n in range(COUNT)], ["Fair", "Good", "Ideal"]),
         "category"),
        ("ordered categories", pd.Categorical([("Good", "Fair", None)[n % 3] for n in range(COUNT)],
         ["Fair", "Good", "Ideal"], ordered=True), "category"),
        ("categories of whole numbers", pd.Categorical([(3, 1, None)[n % 3] for n in range(COUNT)], [3, 2, 1]),
         "category"),
        ("ordered categories of floats", pd.Categorical(0.5 + every % 3 / 4, ordered=True), "category"),
        ("categories of times", pd.Categorical(moments[every % 3]), "category"),
        ("categories of truths", pd.Categorical([(True, False, None)[n % 3] for n in range(COUNT)]), "category"),
        ("durations", pd.to_timedelta(every % 30 * 90, "s"), None),
        ("times with a zone", moments.dt.tz_localize("UTC").dt.tz_convert("Europe/Zurich"), "date"),
        ("times", moments, "date"),
        ("dates with gaps", moments.dt.normalize().where(every % 6 > 0), "date"),
        ("dates of Python", pd.Series([datetime.date(2021, 1, 1 + n % 28) for n in range(COUNT)]).astype(str), "date"),
        ("months", pd.Series(["red", "blue"] * 30, dtype=object), "category"),
    ]
}  # fmt: skip


@read()
def a_frame_of_mixed_objects(path: Path) -> tuple[Any, Callable]:
    cells = [1, "one", 2.5, None, True, decimal.Decimal("3.50")] * 10
    return frame().assign(v=pd.Series(cells, dtype=object)), lambda data: again(data)[:6] == [
        "1", "one", "2.5", "", "True", "3.50",
    ]  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_strange_table_is_read_right(name: str, tmp_path: Path) -> None:
    make, notes = READ[name]
    source, holds = make(tmp_path)
    data = open_data(source, kind="table")
    data.facts["given"] = source
    for note in notes:
        assert any(note in own for own in data.notes), data.notes
    assert holds(data)
    made = data.modality.save(data.x, tmp_path / "made.csv")[0]
    assert frames.read(made, "made")[0][0].name == next(iter(data.facts["columns"]))


def test_cells_that_stand_for_no_number_are_filled_in(tmp_path: Path) -> None:
    """What is counted as a gap does not stay in the file; a category that the run does not know does."""
    file = with_column(tmp_path, [*(f"{n}.5" for n in range(1, 20)), "unknown"])
    run = open_data(file, kind="table").modality
    cells = ["-", "#div/0!", "inf", "", "2.5"] + ["3.5"] * (COUNT - 5)
    lines = [[a, "new" if n == 7 else b, c, cells[n]] for n, (a, b, c) in enumerate(rows())]
    given = csv(tmp_path, lines, names="a,b,c,v", name="gaps.csv")
    gaps = run.gaps(given)
    run.filled(gaps, gaps.x, tmp_path / "full.csv")
    full = pd.read_csv(tmp_path / "full.csv", dtype=str, keep_default_na=False)
    assert full["v"].tolist()[4:] == cells[4:] and full["b"].tolist() == [line[1] for line in lines]
    assert all(1.5 <= float(cell) <= 19.5 for cell in full["v"][:4])
    assert full[["a", "c"]].to_numpy().tolist() == [[a, c] for a, _, c in rows()]


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "int64", "Int16", "uint8"])
def test_plain_numbers_of_a_frame_for_a_run_with_thousands(tmp_path: Path, dtype: str) -> None:
    """`1234.5` of a data frame is no 12345, though the run's file has points between thousands."""
    cells = [f"{n * 700 + 0.25:,.2f}".translate({44: ".", 46: ","}) for n in range(30)]
    run = open_data(with_column(tmp_path, [f'"{cell}"' for cell in cells]), kind="table")
    given = np.array([12.5, 123.0, 99.0] if dtype.startswith("f") else [12, 123, 99]).astype(dtype.lower())
    own = frame(3).assign(v=pd.Series(given, dtype=dtype))
    texts = next(each for each in frames.read(own, "own")[0] if each.name == "v")
    found = table._values(column(run, "v"), texts, 3, "own")
    np.testing.assert_array_equal(found, given.astype(float))
    big = frame(3).assign(v=[1234.5, 1002.0, 8.076])
    texts = next(each for each in frames.read(big, "big")[0] if each.name == "v")
    np.testing.assert_array_equal(table._values(column(run, "v"), texts, 3, "big"), big["v"])


def test_there_are_more_than_sixty_cases() -> None:
    assert len(REFUSED) + len(READ) >= 60


def test_a_file_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = csv(tmp_path)
    real = delimited.Delimited.__init__

    def vanishing(self: delimited.Delimited, path: Path) -> None:
        real(self, path)
        path.unlink(missing_ok=True)

    monkeypatch.setattr(delimited.Delimited, "__init__", vanishing)
    with pytest.raises(InputError, match="is not there any more; check the path"):
        frames.read(file, str(file))


def test_many_parts_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that come in several parts have one code; keys of JSON that come late are gaps before."""
    whole = [each.texts for each in frames.read(csv(tmp_path), "t")[0]]
    monkeypatch.setattr(frames, "PART", 7)
    monkeypatch.setattr(delimited, "FEW", 5)
    parts, _ = frames.read(tmp_path / "t.csv", "t")
    assert [each.texts for each in parts] == whole and all(len(each.codes) == COUNT for each in parts)
    given = rows()
    for place, each in enumerate(parts):
        assert [each.texts[code] for code in each.codes] == [row[place] for row in given]
    late = jsonl(tmp_path, [*objects(40), *({**each, "late": "q"} for each in objects(20))])
    found = frames.read(late, "t")[0][3]
    assert (found.codes[:40] == -1).all() and (found.codes[40:] == 0).all()
    assert [len(each.codes) for each in frames.head(tmp_path / "t.csv", 14)] == [14] * 3


def test_rows_in_order_of_irregular_times_are_said() -> None:
    """Nobody need find out from the results that their series was taken for rows."""
    random = np.random.default_rng(0)
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.exponential(600, 200).cumsum().round(), unit="s")
    log = pd.DataFrame({"at": when, "v": random.normal(size=200)})
    said = "rows are in order of 'at', but its steps are not regular"
    assert any(said in note for note in open_data(log).notes)
    assert not any(said in note for note in open_data(log, kind="table").notes)
    assert not any(said in note for note in open_data(log.sample(frac=1, random_state=0)).notes)
