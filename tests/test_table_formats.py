"""Parquet and Excel: what is read is what was written, in the same types; what is broken or missing is said."""

from __future__ import annotations

import decimal
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trilemma.errors import InputError
from trilemma.modalities import frames
from trilemma.modalities.door import open_data
from trilemma.modalities.frames import write
from trilemma.modalities.texts import hashed
from trilemma.tasks.verbs import check_table

pytest.importorskip("openpyxl")
pytest.importorskip("pyarrow")

COUNT = 80
CUTS = ["Fair", "Good", "Ideal"]
FORMATS = (".parquet", ".xlsx", ".csv", ".tsv", ".jsonl", ".csv.gz", ".jsonl.gz")


def people() -> pd.DataFrame:
    random, row = np.random.default_rng(0), np.arange(COUNT)
    return pd.DataFrame(
        {
            "age": random.integers(18, 90, COUNT).astype(np.int16),
            "wage": random.gamma(2, 900, COUNT).round(2),
            "children": pd.array([None if n % 9 == 0 else n % 20 for n in row], "Int64"),
            "smoker": row % 3 == 0,
            "cut": pd.Categorical([CUTS[n * 2 % 3] for n in row], CUTS, ordered=True),
            "seen": pd.date_range("2021-01-01", periods=COUNT)[random.permutation(COUNT)],
            "note": [("=1+1", "plain", "émile", "07")[n % 4] for n in row],
        }
    )  # fmt: skip


@pytest.mark.parametrize("ending", FORMATS)
def test_a_table_goes_through_a_file(tmp_path: Path, ending: str) -> None:
    """Cells as texts are alike whatever the file; Parquet keeps the types, the order of categories too."""
    given = people()
    write(given, tmp_path / f"t{ending}")
    texts, _ = frames.read(tmp_path / f"t{ending}", "t")
    whole = {each.name: [[*each.texts, each.empty][code] for code in each.codes] for each in texts}
    assert whole["note"] == given["note"].tolist() and whole["age"] == given["age"].astype(str).tolist()
    assert [float(cell) for cell in whole["wage"]] == given["wage"].tolist()
    assert [cell.lower() for cell in whole["smoker"]] == [str(cell).lower() for cell in given["smoker"]]
    assert [cell[:10] for cell in whole["seen"]] == given["seen"].dt.strftime("%Y-%m-%d").tolist()
    assert whole["children"] == given["children"].map(str, na_action="ignore").fillna("").tolist()
    data = open_data(tmp_path / f"t{ending}", kind="table")
    made = data.modality.save(data.x, tmp_path / f"made{ending}")[0]
    again = open_data(made, kind="table")
    assert again.facts["columns"] == data.facts["columns"]
    if ending == ".parquet":
        exported = pd.read_parquet(made)
        assert exported.dtypes.astype(str).tolist() == given.dtypes.astype(str).tolist()
        assert exported["cut"].cat.ordered and exported["cut"].cat.categories.tolist() == ["Fair", "Good", "Ideal"]
        assert data.facts["columns"]["cut"] == "ordered category of 3"
    if ending == ".xlsx":
        import openpyxl

        sheet = openpyxl.load_workbook(made).active
        cells = {sheet.cell(row, 7).value: sheet.cell(row, 7).data_type for row in range(2, COUNT)}
        assert cells["=1+1"] == "s"  # a text, not a formula that would be carried out


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".xlsx"])
def test_filled_and_judged_tables_keep_their_types(tmp_path: Path, ending: str) -> None:
    """Numbers are no texts in files that know them, whether gaps are filled or columns stand beside."""
    import openpyxl

    given = people()
    table = open_data(given, kind="table").modality
    gaps = table.gaps(given)
    table.filled(gaps, gaps.x, tmp_path / f"full{ending}")
    table.beside(gaps, {"anomaly": np.arange(COUNT) / 2}, tmp_path / f"judged{ending}")  # type: ignore[attr-defined]
    for name in ("full", "judged"):
        file = tmp_path / f"{name}{ending}"
        if ending == ".jsonl":
            made = pd.DataFrame(map(json.loads, file.read_text(encoding="utf-8").splitlines()))
        else:
            made = frames.whole(file)
        if ending == ".xlsx":  # pandas takes texts for numbers when it reads them
            assert [openpyxl.load_workbook(file).active.cell(2, place).data_type for place in (1, 2)] == ["n", "n"]
        for column in ("age", "wage") if name == "full" else ("age", "wage", "anomaly"):
            assert pd.api.types.is_numeric_dtype(made[column]), made.dtypes
        assert made["age"].tolist() == given["age"].tolist() and made["wage"].tolist() == given["wage"].tolist()
        if ending == ".parquet":
            assert made[list(given)].dtypes.astype(str).tolist() == given.dtypes.astype(str).tolist()
        assert made["children"].notna().all() == (name == "full")


def test_the_users_own_cells_and_rows_stay(tmp_path: Path) -> None:
    """Cells that the run's types do not hold are what is looked for; an index says whose the answers are."""
    table = open_data(people(), kind="table").modality
    given = people().head(6).set_axis([7, 3, 5, 1, 9, 2])
    given["age"] = [33.7, np.nan, 40, 41, 42, 300]
    given["wage"] = given["wage"].where(given.index != 3, np.inf)
    given["cut"] = given["cut"].cat.add_categories("STRANGE").where(given.index != 5, "STRANGE")
    gaps = table.gaps(given)
    beside = table.beside(gaps, {"alarm": given.index > 4})  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(beside, given.assign(alarm=given.index > 4))
    filled = table.filled(gaps, gaps.x)
    assert filled.index.tolist() == given.index.tolist() and filled["age"].notna().all()
    pd.testing.assert_frame_equal(
        filled.drop(columns=["age", "wage", "children"]), given[["smoker", "cut", "seen", "note"]]
    )
    assert filled["age"].drop(3).tolist() == given["age"].drop(3).tolist()
    named = given.set_index("note")
    assert table.filled(table.gaps(named), gaps.x).index.tolist() == given["note"].tolist()


def test_categories_of_numbers_stay_numbers(tmp_path: Path) -> None:
    given = people().assign(size=pd.Categorical([(1, 3)[n % 2] for n in range(COUNT)], [3, 2, 1], ordered=True))
    data = open_data(given, kind="table")
    made = data.modality.export(data.x)["size"]
    assert made.dtype == given["size"].dtype and made.tolist() == given["size"].tolist()
    again = pd.read_parquet(data.modality.save(data.x, tmp_path / "t.parquet")[0])["size"]
    assert again.tolist() == given["size"].tolist()
    gaps = given.assign(size=given["size"].where(given.index % 5 > 0))
    read = data.modality.gaps(gaps)
    assert data.modality.filled(read, read.x)["size"].dtype == given["size"].dtype
    (tmp_path / "new.csv").write_text("size,age\n1,20\nhuge,30\n")
    beside = data.modality.beside(data.modality.gaps(tmp_path / "new.csv"), {})  # type: ignore[attr-defined]
    assert beside["size"].tolist() == ["1", "huge"]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".xlsx"])
def test_cells_of_a_text_file_get_types_only_where_these_hold_them(tmp_path: Path, ending: str) -> None:
    table = open_data(people().assign(small=people()["age"].astype(np.int8)), kind="table").modality
    rows = ["33.5,inf,4,True,STRANGE,7", ",unknown,,maybe,Good,300", "40,3.1,7,False,Ideal,5"]
    (tmp_path / "new.csv").write_text("\n".join(["age,wage,children,smoker,cut,small", *rows]))
    gaps = table.gaps(tmp_path / "new.csv")
    table.beside(gaps, {"alarm": np.arange(3) > 1}, tmp_path / f"out{ending}")  # type: ignore[attr-defined]
    if ending == ".jsonl":
        made = pd.DataFrame(map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()))
    else:
        made = frames.whole(tmp_path / f"out{ending}")
    assert made["age"].tolist()[::2] == [33.5, 40] and made["age"].isna()[1]
    assert [str(cell) for cell in made["wage"]] == ["inf", "unknown", "3.1"]
    assert [str(cell) for cell in made["smoker"]] == ["True", "maybe", "False"]
    assert made["cut"].tolist() == ["STRANGE", "Good", "Ideal"] and made["small"].tolist() == [7, 300, 5]
    assert made["children"].tolist()[::2] == [4, 7] and made["alarm"].tolist() == [False, False, True]


def test_an_index_of_parquet_is_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has a name, or holds times; one that has none is left out, which is said once."""
    monkeypatch.setattr(frames, "BATCH", 9)
    given = people()
    for index, name in ((["age", "note"], "age"), ("seen", "seen")):
        given.set_index(index).to_parquet(tmp_path / "t.parquet")
        texts, notes = frames.read(tmp_path / "t.parquet", "t")
        assert texts[0].name == name and len(texts) == 7 and not notes
        whole = frames.whole(tmp_path / "t.parquet")
        assert sorted(whole) == sorted(given) and whole.index.tolist() == list(range(COUNT))
        assert whole[name].tolist() == given[name].tolist()
    given.set_axis(pd.date_range("2020-01-01", periods=COUNT)).to_parquet(tmp_path / "t.parquet")
    assert frames.read(tmp_path / "t.parquet", "t")[0][0].name == "time"
    given.set_axis([f"r{n}" for n in range(COUNT)]).to_parquet(tmp_path / "t.parquet")
    texts, notes = frames.read(tmp_path / "t.parquet", "t")
    assert len(texts) == 7 and len(notes) == 1 and "the index is left out" in notes[0]


def test_numbers_keep_their_digits_in_json_lines(tmp_path: Path) -> None:
    given = pd.DataFrame(
        {
            "x": [1.98e-14, 52.18281794506296, np.nan, -np.inf],
            "short": np.array([0.1, 1e-7, 3, 4], dtype=np.float32),
            "any": [np.int64(7), decimal.Decimal("2.5"), None, "é"],
            "seen": pd.to_datetime(["2021-03-04 05:06:07.000008", None, "2021-03-04", "2021-03-05"], format="ISO8601"),
        }
    )
    write(given, tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"x":1.98e-14,"short":0.1,"any":7,"seen":"2021-03-04T05:06:07.000008"}'
    assert lines[1] == '{"x":52.18281794506296,"short":1e-07,"any":2.5,"seen":null}'
    assert lines[2:] == [
        '{"x":null,"short":3.0,"any":null,"seen":"2021-03-04T00:00:00"}',
        '{"x":"-inf","short":4.0,"any":"é","seen":"2021-03-05T00:00:00"}',
    ]


@pytest.mark.parametrize("name", ["t.csv.bz2", "t.csv.xz", "t.tsv.zst", "t.jsonl.zip", "t.parquet.gz"])
def test_no_name_promises_what_is_not_done(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"tables are packed as \.csv\.gz"):
        write(people(), tmp_path / name)
    if not name.endswith(".gz"):
        with pytest.raises(InputError, match="is not written here"):
            check_table(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["table", "series"])
def test_any_index_beside_any_columns(tmp_path: Path, kind: str) -> None:
    """An index that is a column already, one whose name is taken, names of columns that are numbers."""
    times = pd.date_range("2021-01-01", periods=2 * COUNT, freq="h")
    values = np.random.default_rng(0).normal(size=(len(times), 2)).cumsum(0).round(3)
    plain = pd.DataFrame(values, columns=["a", "b"]).assign(date=times)
    later = times + pd.Timedelta("1D")
    for own, names in (
        (plain.set_index("date", drop=False), ["a", "b", "date"]),
        (plain.rename(columns={"date": "time"}).set_axis(later), ["time_", "a", "b", "time"]),
        (plain.set_axis(later.rename("date")), ["date_", "a", "b", "date"]),
        (pd.DataFrame(values, index=times), ["time", "0", "1"]),
    ):
        assert [each.name for each in frames.read(own, "own")[0]] == names
        modality = open_data(own, kind=kind).modality
        gaps = own.copy()
        gaps.iloc[5, 0] = np.nan
        read = modality.gaps(gaps)
        filled = modality.filled(read, read.x)
        assert list(filled) == list(own) and filled.index.equals(own.index) and filled.iloc[:, 0].notna().all()
        pd.testing.assert_frame_equal(filled.drop(index=own.index[5]), own.drop(index=own.index[5]))
        modality.filled(read, read.x, tmp_path / "filled.parquet")
        assert list(pd.read_parquet(tmp_path / "filled.parquet")) == names


def test_parquet_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people().to_parquet(tmp_path / "t.parquet", index=False)
    whole = frames.read(tmp_path / "t.parquet", "t")[0]
    monkeypatch.setattr(frames, "BATCH", 9)
    for one, other in zip(whole, frames.read(tmp_path / "t.parquet", "t")[0], strict=True):
        assert one.texts == other.texts and (one.codes == other.codes).all() and one.dtype == other.dtype
    assert [len(each.codes) for each in frames.head(tmp_path / "t.parquet", 12)] == [12] * 7


def written_by_hand(path: Path, rows: int = 12_000) -> Path:
    """A text file of all that columns may be, more of it than is read at once."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=rows)
    columns = {
        "price": [f"{v:.4f}" for v in 1000 * np.exp(hidden)],
        "share": [repr(v) for v in random.uniform(size=rows).tolist()],
        "small": [f"{v:.3e}" if n % 7 else "0" for n, v in enumerate((random.uniform(size=rows) * 1e-5).tolist())],
        "pay": ["" if n % 11 == 0 else f"{v:.1f}" for n, v in enumerate((hidden * 90).tolist())],
        "euro": [f"€{v:,.2f}" for v in (9000 * random.uniform(size=rows)).tolist()],
        "count": [f"{v:+d}" for v in random.poisson(400, rows).tolist()],
        "zip": [f"{v:05d}" for v in random.integers(0, 99_999, rows).tolist()],
        "shop": [f" shop {v}" for v in (900 * random.beta(0.6, 3, rows)).astype(int).tolist()],
        "city": [("Rōma", "Bern", "na", "Wien", "?")[v] for v in random.integers(0, 5, rows).tolist()],
        "day": [f"{1 + v % 28:02d}.{1 + v % 12:02d}.2021" for v in random.integers(0, 336, rows).tolist()],
        "code": [f"R-{v:06x}" for v in random.permutation(rows).tolist()],
        "row": [str(v) for v in random.permutation(rows).tolist()],
    }
    lines = [";".join(columns), *(";".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_text_file_counts_as_the_data_that_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of before go on with their data only where columns, maps and splits are the same, bit by bit."""
    path = written_by_hand(tmp_path / "t.csv")
    data = open_data(path)
    assert data.hash == "fecd19359c8fac1a9bc19a77aece55f1"  # as of 1 December 2026, when reading became faster
    kinds = {column.name: (column.kind, column.decimals) for column in data.modality.columns}
    assert kinds["price"] == ("number", 4) and kinds["small"] == ("number", None) and kinds["pay"] == ("number", 1)
    assert kinds["count"] == ("integer", 0) and kinds["zip"][0] == "category" and kinds["code"][0] == "identifier"
    for rows in (1100, 50_000):
        monkeypatch.setattr(frames, "PART", rows)
        again = open_data(path)
        assert again.hash == data.hash and again.x.tobytes() == data.x.tobytes()
        assert [vars(one) for one in again.modality.columns] == [vars(one) for one in data.modality.columns]


def test_texts_have_one_hash_however_they_are_kept() -> None:
    texts = ["1.5", "-2e9", "0"]
    kept = hashed(np.array(texts, dtype="S"))
    np.testing.assert_array_equal(kept, hashed(texts))
    np.testing.assert_array_equal(kept, pd.util.hash_array(np.array(texts, dtype=object), categorize=False))
    half = hashed(["émile", "\ud83d", "1.5"])  # half a character, as JSON may have it
    assert half[0] == hashed(["émile"])[0] and half[2] == kept[0] and len(set(half.tolist())) == 3


def test_broken_files(tmp_path: Path) -> None:
    people().to_parquet(tmp_path / "t.parquet", index=False)
    people().to_excel(tmp_path / "t.xlsx", index=False)
    people().to_csv(tmp_path / "t.csv", index=False)
    for ending in (".parquet", ".xlsx"):
        raw = (tmp_path / f"t{ending}").read_bytes()
        (tmp_path / f"half{ending}").write_bytes(raw[: len(raw) // 2])
        (tmp_path / f"text{ending}").write_bytes((tmp_path / "t.csv").read_bytes())
        for name in ("half", "text"):
            with pytest.raises(InputError, match=rf"{name}{ending}: (is truncated|cannot be read as a table).*again"):
                open_data(tmp_path / f"{name}{ending}")
    people().head(0).to_parquet(tmp_path / "none.parquet")
    people().head(0).to_excel(tmp_path / "none.xlsx", index=False)
    for name in ("none.parquet", "none.xlsx"):
        with pytest.raises(InputError, match="has no rows"):
            open_data(tmp_path / name)
    (tmp_path / "t.xlsx").rename(tmp_path / "u.csv")
    with pytest.raises(InputError, match=r"is a file of Excel, not text; let its name end in \.xlsx"):
        open_data(tmp_path / "u.csv")
    nested = people().assign(more=[[1, 2]] * COUNT)
    nested.to_parquet(tmp_path / "nested.parquet")
    with pytest.raises(InputError, match="column 'more' holds"):
        open_data(tmp_path / "nested.parquet")


def test_excel_as_people_have_it(tmp_path: Path) -> None:
    """Several sheets; formulas that no program has computed; cells that it cannot hold; too many rows."""
    with pd.ExcelWriter(tmp_path / "two.xlsx") as writer:
        people().to_excel(writer, sheet_name="first", index=False)
        people().head(3).to_excel(writer, sheet_name="second", index=False)
    data = open_data(tmp_path / "two.xlsx", kind="table")
    assert len(data.x) == COUNT and any("of 2 sheets the first is read (first)" in note for note in data.notes)
    formulas = people().assign(total=[f"=A{n + 2}+B{n + 2}" for n in range(COUNT)])
    formulas.to_excel(tmp_path / "formulas.xlsx", index=False)
    with pytest.raises(InputError, match="column 'total' holds formulas without their values"):
        open_data(tmp_path / "formulas.xlsx")
    with pytest.raises(InputError, match=r"Excel cannot hold a cell.*write \.csv"):
        write(people().assign(odd="a\0b"), tmp_path / "odd.xlsx")
    zones = people().assign(seen=people()["seen"].dt.tz_localize("Europe/Zurich"))
    write(zones, tmp_path / "zones.xlsx")
    assert frames.read(tmp_path / "zones.xlsx", "z")[0][5].texts[0].endswith("+01:00")
    assert not (tmp_path / "odd.xlsx").exists()


@pytest.mark.parametrize(("package", "ending"), [("pyarrow", ".parquet"), ("openpyxl", ".xlsx")])
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, ending: str
) -> None:
    file = tmp_path / f"t{ending}"
    write(people(), file)
    for name in [each for each in sys.modules if each.split(".")[0] == package] + [package, f"{package}.parquet"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'trilemma\[tables\]', or save it as CSV"):
        open_data(file)
    with pytest.raises(InputError, match=r"pip install 'trilemma\[tables\]', or write \.csv"):
        write(people(), tmp_path / f"new{ending}")


def test_cells_are_separated_as_in_the_users_file(tmp_path: Path) -> None:
    """A spreadsheet with decimal commas opens what is made as it opens what was given."""
    lines = [f"{n % 3};{n},{n % 10};{'red' if n % 2 else 'blue'}" for n in range(60)]
    file = tmp_path / "euro.csv"
    file.write_text("\n".join(["a;b;c", *lines]))
    data = open_data(file)
    modality = type(data.modality).from_description(json.loads(json.dumps(data.modality.describe())))
    made = modality.save(data.x[data.splits["train"]], tmp_path / "made.csv")[0].read_text().splitlines()
    assert made[0] == "a;b;c" and set(made[1:]) <= set(lines)
    assert modality.save(data.x[:5], tmp_path / "made.tsv")[0].read_text().startswith("a\tb\tc")
    gaps = tmp_path / "gaps.csv"
    gaps.write_text("\n".join(["a;b;c", *lines[:4], "1;;red"]))
    given = modality.gaps(gaps)
    full = modality.filled(given, given.x, tmp_path / "full.csv")[0].read_text().splitlines()
    assert full[:5] == ["a;b;c", *lines[:4]] and full[5].count(";") == 2 and ";;" not in full[5]
    plain = tmp_path / "plain.csv"
    plain.write_text("a,b,c\n1,,red\n2,3.5,blue\n")
    given = modality.gaps(plain)
    assert modality.filled(given, given.x, tmp_path / "own.csv")[0].read_text().startswith("a,b,c\n1,")
