"""What a column can be beyond numbers and a few categories: ordered, of very many values, rare, conditions on it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.modalities import numerals
from trilemma.modalities.columns import Column, Texts, infer
from trilemma.modalities.contract import Opening
from trilemma.modalities.table import Table
from trilemma.modalities.where import parse

GRADES = ["poor", "fair", "good", "very good", "ideal"]


def stones(count: int = 3000) -> pd.DataFrame:
    """A hidden quality makes size, and the grade by its thresholds."""
    random = np.random.default_rng(0)
    quality = random.normal(size=count)
    grade = np.digitize(quality + 0.3 * random.normal(size=count), [-1.5, -0.5, 0.5, 1.5])
    return pd.DataFrame(
        {"size": (quality + 5).round(3), "cut": [GRADES[g] for g in grade], "n": random.poisson(9, count)}
    )


def opened(frame: pd.DataFrame, **columns: str) -> tl.Data:
    return tl.open_data(frame, opening=Opening(columns=tuple(columns.items())))


@pytest.mark.parametrize("how", ["ordered:poor<fair<good<very good<ideal", "ordered", "categorical"])
def test_an_ordered_category_is_a_score_in_its_order(how: str) -> None:
    frame = stones()
    if how == "ordered":  # as they come: let them come in order
        frame = frame.iloc[np.argsort([GRADES.index(cut) for cut in frame["cut"]], kind="stable")]
    if how == "categorical":
        data = opened(frame.assign(cut=pd.Categorical(frame["cut"], GRADES, ordered=True)))
    else:
        data = opened(frame.reset_index(drop=True), cut=how)
    assert isinstance(data.modality, Table)
    column = data.modality.columns[1]
    assert column.values == GRADES and column.ordered and column.scored
    assert data.facts["columns"]["cut"] == "ordered category of 5"
    assert data.spaces["x"].columns == [0, 0, 0]  # type: ignore[attr-defined]
    rows = data.splits["train"]
    assert stats.spearmanr(data.x[rows, 0], data.x[rows, 1])[0] > 0.85
    made = data.modality.export(data.x[rows])
    np.testing.assert_array_equal(made["cut"].astype(str), frame["cut"].to_numpy()[rows])
    if how == "categorical":
        assert made["cut"].dtype == pd.CategoricalDtype(GRADES, ordered=True)
    drawn = column.from_scores(np.random.default_rng(1).standard_normal(20_000))
    shares = np.bincount(drawn.astype(int), minlength=5) / 20_000
    real = frame["cut"].iloc[rows].value_counts(normalize=True)[GRADES]
    np.testing.assert_allclose(shares, real, atol=0.012)
    better = parse("cut >= very good", data.modality.columns).holds(data.x[rows])
    np.testing.assert_array_equal(better, frame["cut"].iloc[rows].isin(["very good", "ideal"]))


def test_orders_that_are_none() -> None:
    for how, message in (
        ("ordered:poor<fair<good", "is not among them"),
        ("ordered:poor<poor<fair<good<very good<ideal", "one comes twice"),
        ("category:a<b", "a column is one of"),
        ("orderd", "a column is one of .*ordered:LOW<MIDDLE<HIGH"),
    ):
        with pytest.raises(InputError, match=message):
            opened(stones(), cut=how)
    data = opened(stones(), n="ordered")
    assert data.modality.columns[2].values == sorted(set(map(str, stones()["n"])), key=int)  # type: ignore[attr-defined]


def test_a_column_of_very_many_categories() -> None:
    """Twenty thousand values in forty thousand rows, half of them once: none is lost, all can be drawn."""
    random, count = np.random.default_rng(0), 40_000
    hidden = random.normal(size=count)
    shop = np.concatenate([np.arange(20_000), (20_000 * random.beta(0.5, 4, count - 20_000)).astype(int)])
    order = random.permutation(count)
    frame = pd.DataFrame(
        {
            "shop": [f"shop {n:05d}" for n in shop],
            "sales": (shop / 4000 + hidden).round(3),
            "kind": random.integers(0, 3, count),
        }
    ).iloc[order]
    data = opened(frame.reset_index(drop=True))
    assert isinstance(data.modality, Table)
    column = data.modality.columns[0]
    assert sorted(column.values) == [f"shop {n:05d}" for n in range(20_000)] and column.scored
    rows = data.splits["train"]
    made = data.modality.export(data.x[rows])
    np.testing.assert_array_equal(made["shop"], frame["shop"].to_numpy()[rows])
    drawn = column.from_scores(random.standard_normal(400_000)).astype(int)
    codes = data.modality.cells(data.x[rows]).values[:, 0].astype(int)
    seen = np.bincount(codes, minlength=20_000)
    once = np.flatnonzero(seen == 1)
    assert (np.bincount(drawn, minlength=20_000)[once] > 0).mean() > 0.99  # eleven times each, on average
    common = np.argsort(-seen)[:50]
    shares = np.bincount(drawn, minlength=20_000)[common] / 400_000
    np.testing.assert_allclose(shares, seen[common] / len(rows), atol=0.001)
    # Neighbours in the score are alike: what a shop sells is told by its place.
    place = data.x[data.splits["test"], 0]
    known = ~np.isnan(place)
    assert abs(stats.spearmanr(place[known], data.x[data.splits["test"], 1][known])[0]) > 0.5


def test_rare_conditions_are_drawn_among_the_rows_that_meet_them() -> None:
    data = opened(stones(20_000))
    assert isinstance(data.modality, Table)
    real = stones(20_000).iloc[data.splits["train"]]
    for text, wanted in (
        ("size > 7", real["size"][real["size"] > 7]),
        ("size <= 3.2", real["size"][real["size"] <= 3.2]),
        ("n >= 16", real["n"][real["n"] >= 16]),
        ("n < 3 and cut = good", real["n"][real["n"] < 3]),
    ):
        x, observed = parse(text, data.modality.columns).given(4000, np.random.default_rng(1))
        name = text.split()[0]
        place = list(real).index(name)
        assert observed[:, place].all() and observed.sum() == 4000 * (1 + ("good" in text))
        drawn = data.modality.cells(x).values[:, place]
        parsed = parse(text.split(" and ")[0], data.modality.columns)
        assert parsed.holds(x).mean() > 0.99
        assert stats.ks_2samp(drawn, wanted).statistic < 0.1, text
    for text in ("size > 5", "size > 50", "size != 5", "cut != good"):
        assert not parse(text, data.modality.columns).given(10, np.random.default_rng(1))[1].any()


def test_rare_categories_are_drawn_by_their_shares() -> None:
    """Of few values and of very many, in any order, and of numbers; gaps are none of them."""
    random, count = np.random.default_rng(0), 20_000
    few = random.choice(6, count, p=[0.01, 0.6, 0.03, 0.31, 0.04, 0.01])
    frame = pd.DataFrame(
        {
            "city": np.array([*"ABCDEF"])[few],
            "rooms": np.where(random.uniform(size=count) < 0.1, np.nan, few + 1.0),
            "shop": [f"s{n:03d}" for n in (random.beta(0.5, 2, count) * 150).astype(int)],
            "x": random.normal(size=count),
        }
    )
    data = opened(frame)
    assert isinstance(data.modality, Table) and data.spaces["x"].columns[:3] == [6, 6, 0]  # type: ignore[attr-defined]
    cells = data.modality.cells(data.rows("train")).values
    for text, place in (
        ("city in (A, C)", 0),
        ("rooms < 2", 1),
        ("rooms >= 5.5 and x > -1", 1),
        ("rooms in (1, 3)", 1),
        ("shop in (s090, s091, s100)", 2),
    ):
        wanted = parse(text.split(" and ")[0], data.modality.columns)
        x, observed = parse(text, data.modality.columns).given(4000, np.random.default_rng(1))
        assert observed[:, place].all() and observed.sum() == 4000, text
        assert wanted.holds(x).mean() > 0.99, text
        real = cells[wanted.holds(data.rows("train")), place].astype(int)
        drawn = data.modality.cells(x).values[:, place].astype(int)
        shares = [np.bincount(each, minlength=151) / len(each) for each in (real, drawn)]
        np.testing.assert_allclose(*shares, atol=0.03, err_msg=text)
    for text in ("city in (A, B)", "rooms < 3", "rooms is not missing", "city != A"):
        assert not parse(text, data.modality.columns).given(10, np.random.default_rng(1))[1].any(), text


def test_ordered_from_the_command_line(tmp_path: Path) -> None:
    stones(400).to_csv(tmp_path / "stones.csv", index=False)
    given = ["inspect", str(tmp_path / "stones.csv"), "--set", "data.columns.cut=ordered:" + "<".join(GRADES)]
    said = CliRunner().invoke(app, given, catch_exceptions=False)
    assert said.exit_code == 0 and "cut: ordered category of 5" in said.stdout


def test_conditions_that_no_row_can_meet_are_refused() -> None:
    columns = [Column("sex", "category", values=["F", "M"], gaps=True), Column("age", "number", knots=[0, 9])]
    assert len(parse("sex = F and sex = F and age > 3", columns).clauses) == 3
    for text in ("sex = F and sex = M", "sex = F and sex is missing"):
        with pytest.raises(InputError, match="no row has two values of 'sex'"):
            parse(text, columns)


@pytest.mark.parametrize(
    ("cells", "form", "count"),
    [
        ([f"P{n:04d}" for n in range(2000)], r"P\d{4}", 2000),
        ([f"P{n:04d}" for n in range(2000)], r"P\d{5}", 9000),  # of four digits there are 8,000 more
        ([f"{n * 2654435761 % 2**32:08x}" for n in range(1, 2001)], r"[0-9a-f]{8}", 2000),
        ([f"{n * 2654435761 % 2**32:08x}-{n**9:040d}" for n in range(1, 2001)], r"[0-9a-f]{8}-\d{40}", 2000),
        ([f"user{n}" for n in range(8, 12_000)], r"user\d{6}", 5000),  # longer than all: those of four digits are taken
        ([f"{n}" for n in range(1000, 9000, 3)], r"[1-9]\d{3}", 900),
        (["north", "south", "centre"], r"[centrouhs]{5}", 100),  # too few to say that h is always the fifth
        (["one"], r"[oen]{4}", 40),
    ],
)
def test_identifiers_written_anew_are_no_real_ones_and_no_two_alike(cells: list[str], form: str, count: int) -> None:
    column, values, _ = infer(Texts("id", np.arange(len(cells)), cells), "identifier")
    column = Column.from_json(json.loads(json.dumps(vars(column))))
    made = [column.written(np.full(count, np.nan), np.random.default_rng(seed)) for seed in (0, 1)]
    for own in made:
        assert len(set(own)) == count and not set(own) & set(cells)
        assert all(re.fullmatch(form, text) for text in own)
    assert len(set(made[0]) & set(made[1])) < count
    assert len(column.written(values[:0], np.random.default_rng(0))) == 0


def test_other_rows_have_other_identifiers() -> None:
    frame = stones(200).assign(id=[f"R{n:05d}" for n in range(200)])
    data = opened(frame)
    one, two, again = (data.modality.export(data.x[rows])["id"] for rows in (slice(50), slice(50, 100), slice(50)))
    assert len(set(one) & set(two)) < 5 and list(one) == list(again)


def test_conditions_are_read_as_the_column_is_written() -> None:
    """A number, a date or a category of numbers may be asked for in the data's own way, or plainly."""
    euro = {"comma": True, "group": ".", "prefix": "€", "decimals": 2}
    columns = [
        Column("price", "number", knots=[0, 9999], **euro),
        Column("share", "integer", knots=[0, 99], suffix="%"),
        Column("day", "date", format="%d.%m.%Y", formats=["%d.%m.%Y"], knots=[0, 2e9]),
        Column("at", "date", format="%d.%m.%Y %H:%M", formats=["%d.%m.%Y %H:%M"], knots=[0, 2e9]),
        Column("rate", "category", values=["5%", "10%", "12,5%"]),
    ]

    def value(text: str) -> float:
        return parse(text, columns).clauses[0].values[0]

    prices = ["€2.000,50", "2.000,50", "2000,50", "2000.5", "€2000.5"]
    assert [value(f"price > {text}") for text in prices] == [2000.5] * 5 and value("price > 1.234") == 1234
    assert value("share >= 30%") == value("share >= 30 %") == value("share >= 30") == 30
    dollars = [Column("price", "number", knots=[0, 9999], group=",", decimals=2)]
    assert parse("price > 1,234", dollars).clauses[0].values[0] == 1234
    with pytest.raises(InputError, match="'12,5' is no number"):  # not 125
        parse("price > 12,5", dollars)
    june = pd.Timestamp("2024-06-01").timestamp()
    assert [value(f"{name} >= {text}") for name in ("day", "at") for text in ("01.06.2024", "2024-06-01")] == [june] * 4
    assert value("at = 2024-06-01T12:30") == value("at = 01.06.2024 12:30") == june + 12.5 * 3600
    cells = np.array([[0.0], [1], [2]])
    assert parse("rate > 7%", columns[4:]).holds(cells).tolist() == [False, True, True]
    with pytest.raises(InputError, match=r"no date written .*, as 'day' needs; 2024-12-31 is understood"):
        value("day > soon")
    with pytest.raises(InputError, match="'a lot' is no number, as 'rate' needs"):
        value("rate > a lot")


def test_decimals_that_arithmetic_left_are_none_of_the_column() -> None:
    """40.09 comes out of a product as 40.089999999999996; and no more digits are written than a float has."""
    for cells, decimals, shown in (
        (["40.089999999999996", "15.4", "3.25"], 2, "15.43"),
        (["56.99999999999999", "1.5"], 1, "15.4"),
        (["0.30000000000000004", "0.1"], 1, "15.4"),
        (["1699999999999.968", "2.5"], 3, "15.432"),  # all of its digits are meant
    ):
        found = numerals.parse(cells)
        assert found is not None and found[1].decimals == decimals
        assert numerals.written(15.4321, found[1], whole=False) == shown
    cells = [repr(value) for value in np.random.default_rng(0).uniform(0, 60, 50).tolist()]
    found = numerals.parse(cells)
    assert found is not None
    for value in (45.3124630458051, 0.123456789, 1234.5):
        text = numerals.written(value, found[1], whole=False)
        assert float(text) == pytest.approx(value, rel=1e-15) and len(text.strip("0").replace(".", "")) <= 17


def test_whole_numbers_with_a_nought_behind_the_point_stay_whole() -> None:
    """As pandas writes a column of whole numbers with gaps: 5.0 rooms, never 5.3."""
    random = np.random.default_rng(0)
    rooms = random.integers(1, 60, 300)
    texts = Texts("rooms", np.where(random.uniform(size=300) < 0.1, -1, rooms - 1), [f"{n}.0" for n in range(1, 60)])
    column, values, _ = infer(texts)
    assert column.kind == "integer" and column.step == 1
    column.fit(values)
    found = column.written(column.from_scores(random.normal(size=200)), random)
    assert set(found) <= {f"{n}.0" for n in range(1, 60)}
    assert infer(Texts("x", np.arange(40), [f"{n / 2}" for n in range(40)]))[0].kind == "number"
