"""Series are written as their files are: words, whole numbers, separators, decimal commas and zones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.modalities import numerals, periods, states
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Opening
from trilemma.modalities.frames import read
from trilemma.modalities.scenario import parse
from trilemma.modalities.series import Series
from trilemma.modalities.table import Table
from trilemma.modalities.times import find

WEATHER = np.array(["rain", "clear", "cloudy"])  # in no order of theirs


def hourly(count: int = 900) -> pd.DataFrame:
    """Counts written 5.0, a weather that steps from clear over cloudy to rain, a door, and what the time says."""
    random = np.random.default_rng(0)
    when = pd.date_range("2024-01-01 00:30", periods=count, freq="h")
    sky = np.zeros(count, dtype=int)
    for step in range(1, count):
        sky[step] = np.clip(sky[step - 1] + random.integers(-1, 2) * (random.uniform() < 0.4), 0, 2)
    return pd.DataFrame(
        {
            "time": when.strftime("%Y-%m-%d %H:%M"),
            "count": random.poisson(5 + 3 * np.sin(when.hour / 24 * 2 * np.pi)).astype(float),
            "level": (10 + np.sin(when.hour / 24 * 2 * np.pi) + random.normal(0, 0.2, count)).round(2),
            "sky": WEATHER[[1, 2, 0]][sky],
            "door": np.where(random.uniform(size=count) < np.where(when.hour < 12, 0.1, 0.8), "open", "closed"),
            "weekday": when.day_name(),
            "remark": np.where(random.uniform(size=count) < 0.02, "checked", ""),
        }
    )


def opened(source: object, **settings: object) -> tuple[tl.Data, Series]:
    data = tl.open_data(source, opening=Opening(kind="series", window=8, **settings))  # type: ignore[arg-type]
    assert isinstance(data.modality, Series)
    return data, data.modality


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with semicolons and decimal commas, with gaps; and a run of it."""
    folder, frame = tmp_path_factory.mktemp("words"), hourly()
    frame.to_csv(folder / "s.csv", index=False, sep=";", decimal=",")
    gaps = frame.copy()
    gaps.loc[800:806, ["count", "level", "sky", "door"]] = np.nan
    gaps.to_csv(folder / "gaps.csv", index=False, sep=";", decimal=",")
    settings = {"training.previews": 0, "data.window": 24}
    tl.train(folder / "s.csv", model="diffusion", out=folder / "run", budget="400", size="xs", settings=settings,
             quiet=True)  # fmt: skip
    return folder


def test_words_are_learned_as_numbers(tmp_path: Path) -> None:
    hourly().to_csv(tmp_path / "s.csv", index=False)
    data, series = opened(tmp_path / "s.csv")
    words = {each.column.name: each.column.values for each in series.channels if each.column.values}
    assert words == {"sky": ["clear", "cloudy", "rain"], "door": ["closed", "open"]}
    assert data.facts["columns"]["sky"] == "3 words, in the order clear, cloudy, rain"
    assert "left out, for the times say it already: weekday" in data.notes
    assert "left out, for they are neither numbers nor a few words: remark" in data.notes
    again = Series.from_description(series.describe())
    assert [each.column.values for each in again.channels] == [[], [], words["sky"], words["door"]]
    levels = series.rows(tmp_path / "s.csv")[0].values
    coded = np.repeat(series.encode(levels, np.arange(len(levels)))[0][None], 2, 0)
    np.testing.assert_array_equal(series.decode(coded)[0][:, 2:], levels[:, 2:])
    noisy = coded + np.random.default_rng(0).normal(0, 2, coded.shape)
    assert set(np.unique(series.decode(noisy)[:, :, 2])) == {0, 1, 2}
    series.save(data.x[:3], tmp_path / "made.csv")
    made = pd.read_csv(tmp_path / "made.csv")
    assert set(made["sky"]) <= set(WEATHER) and set(made["door"]) == {"open", "closed"}
    assert made["sky"][:8].tolist() == [words["sky"][int(code)] for code in series.export(data.x[:1])[0, :, 2]]
    np.testing.assert_allclose(series.read(tmp_path / "made.csv", data.spaces["x"])[0].shape, (3, *data.x.shape[1:]))


def test_what_changes_with_a_month_once_is_learned() -> None:
    frame = hourly(24 * 59)
    frame["tariff"] = np.where(frame["time"] < "2024-02", "old", "new")
    assert "tariff" in opened(frame)[0].facts["columns"]


def test_words_are_never_changes(tmp_path: Path) -> None:
    frame = hourly()
    with pytest.raises(InputError, match=r"data.columns.sky=change: its cells are words; say level, known or left-out"):
        opened(frame, columns=(("sky", "change"),))
    assert [each.kind for each in opened(frame, columns=(("door", "known"),))[1].channels][-1] == "known"
    _, series = opened(frame)
    with pytest.raises(InputError, match=r"'fog' in column 'sky' is none of clear, cloudy, rain, as the run's data"):
        series.rows(frame.assign(sky=["fog", *frame["sky"][1:]]))
    many = frame.assign(sky=[f"w{n % 40}" for n in range(len(frame))])
    assert any(note.endswith("a few words: sky, remark") for note in opened(many)[0].notes)
    truth = frame.assign(door=frame["door"] == "open").astype({"door": object})
    truth.loc[5:9, "door"] = None
    _, series = opened(truth)
    gaps = series.gaps(truth)
    full = series.filled(gaps, np.where(gaps.observed, gaps.x, 1.0))
    assert full["door"][5:10].tolist() == [True] * 5 and full["door"][10:].equals(truth["door"][10:])
    kinds = frame.assign(door=frame["door"].astype("category"))
    kinds.loc[5:9, "door"] = None
    gaps = series.gaps(kinds) if "open" in series.channels[3].column.values else opened(frame)[1].gaps(kinds)
    again = opened(frame)[1].filled(gaps, np.where(gaps.observed, gaps.x, 0.0))
    assert again["door"].dtype == kinds["door"].dtype and (again["door"][5:10] == "closed").all()


def test_the_middle_of_draws_is_a_value(files: Path) -> None:
    _, series = opened(hourly())
    sky, count = series.channels[2], series.channels[0]
    np.testing.assert_array_equal(sky.middle(np.array([[0.0, 2], [2, 1], [0, 2], [2, 2], [0, 0]])), [0, 2])
    assert set(count.values) and count.middle(np.array([[1.0, 3], [2, 3]])).tolist() in ([1, 3], [2, 3])


def test_whole_numbers_written_with_a_point_stay_whole(tmp_path: Path) -> None:
    data, series = opened(hourly())
    count = series.channels[0]
    assert count.decimals == 0 and count.written(np.array([4.4, 12.0])).tolist() == ["4.0", "12.0"]
    hourly().to_csv(tmp_path / "s.csv", index=False)
    _, series = opened(tmp_path / "s.csv")
    assert series.channels[0].written(np.array([4.4, 12.0, np.nan])).tolist() == ["4.0", "12.0", ""]
    assert series.channels[1].decimals == 2
    # Whole numbers have no sign of their own: quantiles between them take that of the file.
    assert series.channels[0].written(np.array([4.4]), rounded=False, comma=True).tolist() == ["4,4"]
    assert (series.export(data.x)[:, :, 0] % 1 == 0).all()


def invoke(*arguments: Any) -> None:
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_files_are_written_in_the_user_s_own_way(files: Path, tmp_path: Path) -> None:
    """Separators, decimal commas, .0 and words, of every task."""
    run, own = files / "run", {"sep": ";", "dtype": str, "keep_default_na": False}
    invoke("generate", run, "-n", "3", "--steps", "2", "--out", tmp_path / "made.csv")
    made = pd.read_csv(tmp_path / "made.csv", **own)
    invoke("stress", run, "--where", "sky at 2 = rain and max(level) > 9", "-n", "3", "--out", tmp_path / "stress.csv")
    rainy = pd.read_csv(tmp_path / "stress.csv", **own)
    assert (rainy[rainy["step"] == "1"]["sky"] == "rain").all()
    invoke("impute", run, files / "gaps.csv", "--draws", "2", "--steps", "2", "--out", tmp_path / "full.csv")
    full, given = pd.read_csv(tmp_path / "full.csv", **own), pd.read_csv(files / "gaps.csv", **own)
    same = given.where(given != "", full)
    pd.testing.assert_frame_equal(full, same)
    for table in (made, rainy, full):
        assert table["count"].str.fullmatch(r"-?\d+,0").all() and table["level"].str.fullmatch(r"-?\d+(,\d+)?").all()
        assert table["sky"].isin(WEATHER).all() and table["door"].isin(["open", "closed"]).all()
    invoke(
        "forecast", run, files / "s.csv", "--horizon", "4", "--draws", "5", "--steps", "2", "--out", tmp_path / "f.csv"
    )
    draws, quantiles = (pd.read_csv(tmp_path / name, **own) for name in ("f.csv", "f.quantiles.csv"))
    values = dict(iter(draws.groupby("variable")["value"]))
    assert values["count"].str.fullmatch(r"-?\d+,0").all() and values["sky"].isin(WEATHER).all()
    assert values["level"].str.fullmatch(r"-?\d+(,\d{1,2})?").all()
    told = quantiles.set_index("variable")
    assert not told.drop(columns="time").stack().str.contains(".", regex=False).any()
    assert set(told.index) == {
        "count",
        "level",
        "sky = clear",
        "sky = cloudy",
        "sky = rain",
        "door = closed",
        "door = open",
    }
    shares = told["mean"].str.replace(",", ".").astype(float)
    np.testing.assert_allclose(shares["sky = clear"] + shares["sky = cloudy"].values + shares["sky = rain"].values, 1)
    assert (told.loc["sky = rain", "q50"] == "").all() and told.loc["level"].map(lambda c: "." not in c).all(axis=None)
    invoke("detect", run, files / "gaps.csv", "--false-alarms", "5%", "--out", tmp_path / "odd.csv")
    odd = pd.read_csv(tmp_path / "odd.csv", **own)
    assert odd["anomaly"].str.fullmatch(r"\d+,\d+").all() and (odd["level"] == given["level"]).all()
    python = tl.load(run).forecast(files / "s.csv", horizon=2, draws=2, steps=2)
    frame = python.frame().set_index("variable")
    assert set(frame.loc["sky", "value"]) <= set(WEATHER) and frame.loc["level", "value"].map(float).notna().all()


def test_scenarios_name_words() -> None:
    _, series = opened(hourly())
    assert parse("last(sky) = 'rain'", series.channels, 8)[0].value == 2
    with pytest.raises(InputError, match="value of 'sky'"):
        parse("last(sky) = fog", series.channels, 8)


@pytest.mark.parametrize(
    ("zone", "freq", "days"),
    [("+02:00", "h", True), ("-05:30", "D", True), ("Europe/Berlin", "h", False), ("America/New_York", "D", True)],
)
def test_times_come_back_in_their_zone(zone: str, freq: str, days: bool) -> None:
    when = pd.date_range("2024-01-01", periods=3000 if freq == "h" else 400, freq=freq, tz=zone)
    texts = [moment.isoformat() for moment in when]
    frame = pd.DataFrame({"time": texts, "v": np.sin(np.arange(len(when)))})
    found = find(read(frame[:-9], "test")[0])
    assert found is not None and (found.clock.zone, found.clock.shown) == ((zone, "") if days else ("", zone))
    assert found.clock.written(found.clock.after(int(found.seconds[-1]), 9)) == texts[-9:]
    again = find(read(frame[5:-9], "test")[0], found.clock)
    assert again is not None and again.clock.written(again.seconds[:3]) == texts[5:8]
    if days:  # which begin at midnight there
        assert found.seconds[0] % 86_400 == 0


def test_offsets_of_no_zone_are_said() -> None:
    when = pd.date_range("2024-01-01", periods=300, freq="h", tz="UTC")
    texts = [moment.tz_convert("+02:00" if n % 3 else "+05:00").isoformat() for n, moment in enumerate(when)]
    data, series = opened(pd.DataFrame({"time": texts, "v": np.sin(np.arange(300))}))
    assert any("change as in no zone that is known here: times are written in UTC" in note for note in data.notes)
    assert series.clock.written(np.array([0])) == ["1970-01-01T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("name", "texts", "step", "after"),
    [
        ("quarter", [f"{1984 + n // 4}Q{n % 4 + 1}" for n in range(160)], "3 months", ["2024Q1", "2024Q2"]),
        ("when", [f"Q{n % 4 + 1} {1984 + n // 4}" for n in range(160)], "3 months", ["Q1 2024", "Q2 2024"]),
        ("year", [str(1803 + n) for n in range(220)], "year", ["2023", "2024"]),
        ("ts", [str(1_704_067_200_000 + 60_000 * n) for n in range(300)], "minute", ["1704085200000", "1704085260000"]),
        ("unix_time", [str(1_704_067_200 + 3600 * n) for n in range(300)], "hour", ["1705147200", "1705150800"]),
        ("week", pd.date_range("2020-01-06", periods=200, freq="7D").strftime("%G-W%V").tolist(), "7 days",
         ["2023-W45", "2023-W46"]),
    ],
)  # fmt: skip
def test_times_that_are_no_dates(name: str, texts: list[str], step: str, after: list[str]) -> None:
    frame = pd.DataFrame({name: texts, "v": np.sin(np.arange(len(texts)))})
    found = find(read(frame, "test")[0])
    assert found is not None and found.clock.said() == step and found.clock.written(found.seconds[:2]) == texts[:2]
    assert found.clock.written(found.clock.after(int(found.seconds[-1]), 2)) == after
    later = find(read(frame.iloc[9:20], "test")[0], found.clock)
    assert later is not None and later.clock.written(later.seconds) == texts[9:20]


def test_few_years_are_no_series() -> None:
    cars = pd.DataFrame({"year": np.arange(1970, 2010), "price": np.random.default_rng(0).normal(size=40)})
    assert find(read(cars, "test")[0]) is None


def test_numbers_with_a_unit_are_numbers(tmp_path: Path) -> None:
    when = pd.date_range("2024-01-01", periods=300, freq="h")
    value = np.random.default_rng(0).normal(20, 3, 300).round(1)
    frame = pd.DataFrame(
        {"time": when, "energy": [f"{each} kWh" for each in value], "heat": [f"{each}°C" for each in value]}
    )
    frame["code"] = [f"{n % 50}{'ab'[n % 2]}" for n in range(300)]
    frame["still"] = 7
    frame.to_csv(tmp_path / "s.csv", index=False)
    data, series = opened(tmp_path / "s.csv")
    np.testing.assert_array_equal(series.rows(tmp_path / "s.csv")[0].values, np.stack([value, value], 1))
    assert [each.written(np.array([3.14]))[0] for each in series.channels] == ["3.1 kWh", "3.1°C"]
    assert data.notes[-2:] == [
        "left out, for they never change: still",
        "left out, for they are neither numbers nor a few words: code",
    ]


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_scores_beside_a_table_have_its_decimal_comma(delimiter: str, tmp_path: Path) -> None:
    random, out = np.random.default_rng(0), tmp_path / ("out.tsv" if delimiter == "\t" else "out.csv")
    frame = pd.DataFrame({"a": random.normal(size=200).round(2), "b": random.integers(0, 99, 200)})
    frame.to_csv(tmp_path / "t.csv", index=False, sep=delimiter, decimal=",")
    table = tl.open_data(tmp_path / "t.csv", kind="table").modality
    assert isinstance(table, Table)
    table.beside(table.gaps(tmp_path / "t.csv"), {"anomaly": random.uniform(size=200).round(3)}, out)
    again = pd.read_csv(out, sep=delimiter, decimal=",")
    assert list(again) == ["a", "b", "anomaly"] and again["anomaly"].between(0, 1).all()
    pd.testing.assert_frame_equal(again[["a", "b"]], frame)
    assert "." not in out.read_text(encoding="utf-8")


def test_what_only_looks_like_seconds_is_counted(tmp_path: Path) -> None:
    """Parts of a second are kept, and signs that `int` does not read are no times."""
    value = np.sin(np.arange(400) / 9)
    start = 1_700_000_000_000
    pd.DataFrame({"time": start + 500 * np.arange(400), "x": value}).to_csv(tmp_path / "ms.csv", index=False)
    data = tl.open_data(tmp_path / "ms.csv", kind="series")
    assert "400 steps" in data.facts["times"]
    assert periods.seconds_of("time", ["0²", "1²"]) is None


def test_a_word_that_training_time_does_not_have_stays_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sky = random.choice(["clear", "rain"], 600).astype(object)
    sky[520:560] = "storm"
    when = pd.date_range("2024-01-01", periods=600, freq="h").strftime("%Y-%m-%d %H:%M")
    frame = pd.DataFrame({"time": when, "sky": sky, "x": np.sin(np.arange(600) / 5)})
    frame.to_csv(tmp_path / "sky.csv", index=False)
    data = tl.open_data(tmp_path / "sky.csv")
    channel = next(each for each in data.modality.channels if each.column.name == "sky")
    places = np.arange(3.0)
    scores = channel.column.scores(places, np.full(3, 0.5))
    assert channel.column.from_scores(scores).tolist() == [0, 1, 2] and len(set(scores)) == 3


def test_words_that_go_round_stand_alike_however_they_are_cut() -> None:
    """Of a circle no line is the best one."""
    column = Column("shift", "category", values=["a", "b", "c", "d"])
    orders = []
    for begin, count in ((0, 800), (1, 800), (0, 801), (2, 799)):
        codes = ((np.arange(count) + begin) % 4).astype(float)
        made, _ = states.numbered(column, codes, np.arange(count))
        orders.append(made.values)
    assert all(order == orders[0] for order in orders)


def test_codes_with_a_letter_are_no_numbers() -> None:
    assert numerals.parse(["10023X", "10024X", "10311X"]) is None and numerals.parse(["5A", "6A"]) is None
    assert numerals.parse(["12 kWh", "7 kWh"])[0].tolist() == [12, 7]
    assert numerals.parse(["12.5kWh", "7.0kWh"])[0].tolist() == [12.5, 7]
