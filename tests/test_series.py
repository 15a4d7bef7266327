"""Time series: times and their grid, columns that return or wander, windows in order of time, forecasts, CRPS."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import trilemma as tl
from trilemma.batches import Batch
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.metrics.memorisation import memorisation, values
from trilemma.metrics.series import autocorrelation, crps, pinball
from trilemma.metrics.stylised import FACTS
from trilemma.metrics.windows import discriminative_score
from trilemma.modalities.contract import Opening
from trilemma.modalities.frames import read
from trilemma.modalities.series import Series
from trilemma.modalities.times import Clock, find, regular
from trilemma.modalities.windows import sharing, shifts, stretches
from trilemma.report.baselines import real
from trilemma.report.baselines_of_series import autoregression, stationary_bootstrap
from trilemma.report.of_series import SeriesRuler
from trilemma.report.series_figures import heat, overlay
from trilemma.tasks.plain_forecasts import exponential_smoothing, period_of, seasonal_ensemble, seasonal_naive
from trilemma.training.features import FeatureNetwork


def daily(count: int = 1500, seed: int = 1) -> pd.DataFrame:
    """A column with a week and AR(1) noise around it, and a price that wanders off; business days."""
    random = np.random.default_rng(seed)
    when = pd.bdate_range("2015-01-01", periods=count)
    noise = np.zeros(count)
    for step in range(1, count):
        noise[step] = 0.6 * noise[step - 1] + random.normal()
    load = 20 + 5 * np.sin(2 * np.pi * np.arange(count) / 5) + noise
    price = 50 * np.exp(np.cumsum(0.01 * random.standard_t(4, count)))
    return pd.DataFrame({"day": when.strftime("%Y-%m-%d"), "load": load.round(2), "price": price.round(2)})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of windows of the daily table."""
    folder, frame = tmp_path_factory.mktemp("series"), daily()
    frame.loc[100:110, "load"] = np.nan
    settings = {"training.previews": 0}
    tl.train(frame, model="vae", out=folder / "run", budget="10k", size="xs", settings=settings, quiet=True)
    return folder / "run"


def test_times_of_all_sorts_are_found() -> None:
    count = 400
    hours = pd.date_range("2020-01-30 05:00", periods=count, freq="h")
    months = pd.date_range("1990-01-01", periods=count, freq="MS")
    value = np.sin(np.arange(count))

    def clock(frame: pd.DataFrame) -> tuple[str, list[str]]:
        found = find(read(frame, "test")[0])
        assert found is not None
        return found.clock.said(), found.clock.written(found.clock.after(int(found.seconds.max()), 2))

    assert clock(pd.DataFrame({"t": hours.strftime("%d.%m.%Y %H:%M"), "v": value})) == (
        "hour", ["15.02.2020 21:00", "15.02.2020 22:00"],
    )  # fmt: skip
    assert clock(pd.DataFrame({"Date": months.strftime("%Y%m"), "v": value})) == ("month", ["202305", "202306"])
    parts = {"year": hours.year, "month": hours.month, "day": hours.day, "hour": hours.hour, "v": value}
    assert clock(pd.DataFrame(parts)) == ("hour", ["2020-02-15 21:00:00", "2020-02-15 22:00:00"])
    assert clock(daily()) == ("day", ["2020-10-01", "2020-10-02"])
    assert clock(daily(1497)) == ("day", ["2020-09-28", "2020-09-29"])  # after a Friday comes a Monday
    long = pd.concat([daily(200, seed).assign(shop=f"shop {seed}") for seed in range(3)]).sort_values("day")
    found = find(read(long, "test")[0])
    assert found is not None and found.entity == "shop"
    random = np.random.default_rng(0)
    people = pd.DataFrame({"born": hours.to_numpy()[random.permutation(count)], "age": random.integers(0, 90, count)})
    assert find(read(people, "test")[0]) is None
    irregular = pd.DataFrame(
        {"t": hours[0] + pd.to_timedelta(np.cumsum(random.exponential(9e3, count)).round(), "s"), "v": 1}
    )
    assert find(read(irregular, "test")[0]) is None


@pytest.mark.parametrize("days", [28, 30])
def test_every_28_days_is_no_month(days: int) -> None:
    when = pd.date_range("2001-01-05", periods=160, freq=f"{days}D")
    frame = pd.DataFrame({"t": when.strftime("%Y-%m-%d"), "v": np.sin(np.arange(160)).round(3)})
    data = tl.open_data(frame)
    rows = data.modality.rows(frame)[0]
    assert data.modality.clock.said() == f"{days} days" and rows.values[:, 0].tolist() == frame["v"].tolist()
    assert data.modality.clock.written(rows.times) == frame["t"].tolist()


@pytest.mark.parametrize("day", [1, 28, 30, 31])
def test_a_series_stays_on_its_day_of_the_month(day: int) -> None:
    months = pd.date_range("2001-03-01", periods=204, freq="MS")
    when = pd.DatetimeIndex([each.replace(day=min(day, each.days_in_month)) for each in months])
    frame = pd.DataFrame({"t": when.strftime("%Y-%m-%d"), "v": np.sin(np.arange(204)).round(3)})
    known = frame[:-12]  # up to a February
    series = tl.open_data(known).modality
    assert isinstance(series, Series)
    rows = series.rows(known)[0]
    assert series.clock.written(rows.times) == known["t"].tolist()
    assert series.clock.written(series.clock.after(int(rows.times[-1]), 12)) == frame["t"][-12:].tolist()


def test_rows_that_share_a_month_are_said() -> None:
    for freq in ("MS", "YS", "QE"):
        when = pd.date_range("1850-01-01", periods=150, freq=freq)
        frame = pd.DataFrame({"t": when.strftime("%Y-%m-%d"), "v": np.sin(np.arange(150))})
        assert tl.open_data(frame).modality.clock.months == {"MS": 1, "YS": 12, "QE": 3}[freq]
        extra = pd.DataFrame({"t": [(when[70] + pd.Timedelta(3 if freq == "MS" else -3, "D")).strftime("%Y-%m-%d")]})
        notes = tl.open_data(pd.concat([frame, extra.assign(v=1.0)]).sort_values("t")).notes
        assert any("1 rows lie within the" in note and note.endswith("averaged") for note in notes), freq


def test_rows_are_put_on_the_grid() -> None:
    frame = daily(60).drop(index=[10, 11, 30]).reset_index(drop=True)
    found = find(read(frame, "test")[0])
    assert found is not None
    times, values, place, off = regular(frame[["load"]].to_numpy(), found.seconds, found.clock)
    assert len(times) == 60 and off == 0 and place.tolist() == [i for i in range(60) if i not in (10, 11, 30)]
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == [10, 11, 30]
    weekday = (times // 86_400 + 3) % 7
    assert set(weekday.tolist()) == {0, 1, 2, 3, 4}


def test_a_table_of_times_becomes_windows() -> None:
    frame = daily()
    frame.loc[100:110, "load"] = np.nan
    data = tl.open_data(frame)
    series = data.modality
    assert isinstance(series, Series) and data.observed is not None
    assert [each.kind for each in series.channels] == ["level", "return"] and series.window == 64
    assert series.calendar == ["day of week, sine", "day of week, cosine", "day of year, sine", "day of year, cosine"]
    assert data.spaces["x"].always == (2, 3, 4, 5)  # type: ignore[union-attr]
    # In order of time: what is tested comes after what is learned, without a common step.
    coded, _ = series.encode(frame[["load", "price"]].to_numpy(), find(read(frame, "t")[0]).seconds)  # type: ignore[union-attr]
    every = np.lib.stride_tricks.sliding_window_view(coded[1], 64)
    begins = {
        name: [int(np.flatnonzero((every == window[1]).all(1))[0]) for window in data.rows(name)]
        for name in ("train", "choose", "test")
    }
    assert max(begins["train"]) + 64 <= min(begins["choose"]) and max(begins["choose"]) + 64 <= min(begins["test"])
    # Values come back: levels as they are, prices from the level before.
    known = slice(200, 264)
    x, _ = series.encode(frame[["load", "price"]].to_numpy()[199:264], np.zeros(65, dtype=np.int64))
    again = series.decode(x[None, :, 1:], frame[["load", "price"]].to_numpy()[199])[0]
    np.testing.assert_allclose(again, frame[["load", "price"]].to_numpy()[known], atol=0.02, rtol=1e-3)
    gap = np.array([50.0, np.nan, np.nan, 55.0])
    change = series.channels[1].relative(gap)
    assert np.isnan(change[:3]).all() and change[3] == pytest.approx(np.log(1.1))
    np.testing.assert_allclose(series.channels[1].levels(change[None, 1:], 50.0)[0], [50, 50, 55])
    same = Series.from_description(data.modality.describe())
    np.testing.assert_array_equal(same.export(data.x[:3]), series.export(data.x[:3]))
    assert series.picture(data.x[:4], reference=data.x[4:8]).width > 300
    assert tl.open_data(frame, kind="table").modality.kind == "table"
    other = tl.open_data(frame, opening=Opening(columns=(("price", "level"), ("load", "left-out")), window=32))
    assert other.x.shape[1:] == (5, 32)
    for opening, message in (
        (Opening(columns=(("price", "prize"),)), "Did you mean|Known"),
        (Opening(columns=(("nothing", "level"),)), "nothing"),
        (Opening(window=500), "too short for windows"),
    ):
        with pytest.raises(InputError, match=message):
            tl.open_data(frame, opening=opening)
    with pytest.raises(InputError, match="no column of numbers that change beside the times"):
        tl.open_data(pd.DataFrame({"a": np.arange(99.0)}), kind="series")


def test_values_beyond_those_seen_go_both_ways() -> None:
    """A map with tails is the inverse of itself far outside of what it was fitted on."""
    series = tl.open_data(daily()).modality
    assert isinstance(series, Series)
    column = series.channels[0].column
    values = np.array([-5.0, 5.0, 20.0, 44.4, 47.0])
    again = column.from_scores(column.scores(values, np.full(5, 0.5)))
    np.testing.assert_allclose(again, values, atol=0.02)
    assert (np.diff(column.scores(values, np.full(5, 0.5))) > 0).all()


def test_forecasts_continue_the_series(run: Path, tmp_path: Path) -> None:
    loaded, frame = tl.load(run), daily()
    found = loaded.forecast(frame, horizon=70, draws=60)  # more than a window
    table = found.frame()
    assert list(table) == ["time", "variable", "draw", "value"] and len(table) == 2 * 60 * 70
    ahead = pd.bdate_range("2020-10-01", periods=70).strftime("%Y-%m-%d")
    assert table[(table["variable"] == "load") & (table["draw"] == 3)]["time"].tolist() == ahead.tolist()
    first = table[(table["variable"] == "price") & (table["time"] == ahead[0])]["value"]
    assert first.median() == pytest.approx(frame["price"].iloc[-1], rel=0.03)
    spread = [
        table[(table["variable"] == "price") & (table["time"] == day)]["value"].std() for day in (ahead[0], ahead[60])
    ]
    assert spread[1] > 2 * spread[0], "what lies farther off is less certain"
    pd.testing.assert_frame_equal(table, loaded.forecast(frame, horizon=70, draws=60).frame())
    short = loaded.forecast(frame.tail(20), horizon=3, draws=5)
    assert np.isfinite(short.draws[0]).all()
    frame.to_csv(tmp_path / "s.csv", index=False)
    command = ["forecast", str(run), str(tmp_path / "s.csv"), "--horizon", "6", "--draws", "9"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "f.csv")], catch_exceptions=False)
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("f*")) == ["f.csv", "f.png", "f.quantiles.csv"]
    quantiles = pd.read_csv(tmp_path / "f.quantiles.csv")
    assert len(quantiles) == 12 and (quantiles["q05"] <= quantiles["q95"]).all()
    with pytest.raises(InputError, match="at least one step"):
        loaded.forecast(frame, horizon=0)
    with pytest.raises(InputError, match="has no column 'price'"):
        loaded.forecast(frame.drop(columns="price"), horizon=2)


def test_series_are_generated_and_written(run: Path, tmp_path: Path) -> None:
    loaded = tl.load(run)
    made = loaded.generate(20)
    assert made.shape == (20, 64, 2) and np.isfinite(made).all() and (made[:, :, 1] > 0).all()
    done = CliRunner().invoke(app, ["generate", str(run), "-n", "3", "--out", str(tmp_path / "made.csv")])
    assert done.exit_code == 0
    table = pd.read_csv(tmp_path / "made.csv")
    assert list(table) == ["series", "step", "load", "price"] and len(table) == 3 * 64
    with pytest.raises(InputError, match="only a table"):
        loaded.generate(5, where="load > 3")


@pytest.mark.timeout(600)
def test_a_series_is_compared(tmp_path: Path) -> None:
    """The whole table, with the floor and the baselines, on windows with a gap."""
    frame = daily(900)
    frame.loc[700:705, "load"] = np.nan
    settings = {"training.previews": 1, "data.window": 16}
    tl.compare(frame, models=["vae"], budget_each="2k", settings=settings, out=tmp_path / "report", quiet=True)
    rows = {row["name"]: row for row in json.loads((tmp_path / "report" / "results.json").read_text())["rows"]}
    assert rows["vae"]["metrics"]["frechet"]["value"] > rows["real against real"]["metrics"]["frechet"]["value"] > 0
    assert {"PCA-Gaussian", "resampled training set", "stationary bootstrap", "autoregression + GARCH"} <= set(rows)
    assert (tmp_path / "report" / "index.html").stat().st_size > 50_000
    own = {"marginals", "autocorrelation", "cross_correlation", "spectra", "discriminative", "predictive", "signature"}
    own |= {"facts", *(fact.key for fact in FACTS)}
    for name, row in rows.items():
        assert own <= set(row["metrics"]) and row["column"] == rows["vae"]["column"], name
        assert all(np.isfinite(row["metrics"][key]["value"]) for key in own), name
        assert {row["verdicts"][fact.key] for fact in FACTS} <= {"inside", "missed"}
    memory = {name: row["metrics"]["autocorrelation"]["value"] for name, row in rows.items()}
    assert memory["autoregression + GARCH"] < 0.2 and memory["real against real"] < 0.2
    told = {name: row["metrics"]["discriminative"]["value"] for name, row in rows.items()}
    assert told["real against real"] < 0.2 and told["vae"] > told["real against real"]
    ahead = {"forecast", "forecast_tails", "forecast_coverage"}
    assert ahead <= set(rows["vae"]["metrics"]) and not ahead & set(rows["PCA-Gaussian"]["metrics"])
    page = (tmp_path / "report" / "index.html").read_text()
    for words in (
        "Forecasts of unseen time",
        "seasonal naive",
        "How variables go together",
        "Stylised facts of returns",
        "Volatility clustering",
        "price, absolute",
    ):
        assert words in page, words
    judged = tl.measure(frame, rows_of(frame), settings={"data.window": 16}, quiet=True)
    assert own <= set(judged.metrics) and "stylised facts of returns:" in judged.text()


def rows_of(frame: pd.DataFrame) -> np.ndarray:
    """Levels (n, T, C) of windows, as `generate` gives them."""
    values = frame[["load", "price"]].interpolate().to_numpy()
    return np.stack([values[k : k + 16] for k in range(0, 800, 4)])


def test_windows_know_the_time_that_they_share() -> None:
    """Steps between windows, the stretches they came from, and the baselines that are made of these."""
    path = np.random.default_rng(0).normal(size=(2, 60))
    x = np.stack([path[:, k : k + 12] for k in (0, 5, 10, 30, 35)])
    assert shifts(x).tolist() == [5, 5, 0, 5] and sharing(x) == 3 and sharing(x[[0, 3]]) == 1
    one, two = stretches(x)
    np.testing.assert_array_equal(one, path[:, :22])
    np.testing.assert_array_equal(two, path[:, 30:47])
    data = tl.open_data(daily(), opening=Opening(window=32))
    whole = stretches(data.x[np.sort(data.splits["train"])])[0]
    steps = {whole[:, k : k + 2].tobytes() for k in range(whole.shape[1] - 1)}
    made = stationary_bootstrap(data, 300, seed=0)
    assert made.shape == (300, *data.x.shape[1:]) and made.dtype == data.x.dtype
    joined = np.mean([[w[:, k : k + 2].tobytes() in steps for k in range(31)] for w in made])
    assert joined == pytest.approx(1 - 4 / 32, abs=0.02), "a new block each quarter of a window, on average"
    np.testing.assert_array_equal(made, stationary_bootstrap(data, 300, seed=0))
    rows = real(data, 50, seed=3)
    places = [int(np.flatnonzero((data.x == row).all((1, 2)))[0]) for row in rows]
    assert places == sorted(places) and set(places) <= set(data.splits["train"].tolist())


def test_an_autoregression_simulates_memory_volatility_and_calendar() -> None:
    random = np.random.default_rng(0)
    count, variance, shock = 4000, 1.0, 0.0
    load, price = np.zeros(count), np.zeros(count)
    for step in range(1, count):
        load[step] = 0.7 * load[step - 1] + random.normal()
        variance = 0.05 + 0.12 * shock**2 + 0.83 * variance
        shock = variance**0.5 * random.normal()
        price[step] = price[step - 1] + 0.01 * shock
    when = pd.bdate_range("2001-01-01", periods=count)
    load += 3 * np.sin(2 * np.pi * when.dayofweek / 5)
    frame = pd.DataFrame({"day": when.strftime("%Y-%m-%d"), "load": load, "price": np.exp(price)})
    data = tl.open_data(frame, opening=Opening(window=32, columns=(("load", "level"), ("price", "return"))))
    made = autoregression(data, 600, seed=0)
    assert np.isfinite(made).all() and np.array_equal(made[:3], autoregression(data, 600, seed=0)[:3])
    train, lags = data.rows("train"), np.array([1, 2, 5])
    real_x, made_x = (each.transpose(0, 2, 1).astype(float) for each in (train, made))
    np.testing.assert_allclose(
        autocorrelation(made_x[:, :, :1], lags), autocorrelation(real_x[:, :, :1], lags), atol=0.12
    )
    assert autocorrelation(np.abs(made_x[:, :, 1:2]), np.arange(1, 6)).mean() > 0.08, "calm and storm last"
    assert abs(autocorrelation(made_x[:, :, 1:2], np.array([1]))[0, 0]) < 0.06


def test_crps_of_a_gaussian() -> None:
    """Its closed form (Gneiting & Raftery 2007, equation 20), by many draws; fair for few of them."""
    random = np.random.default_rng(0)
    truth, mean, deviation = 1.3, 0.4, 2.0
    z = (truth - mean) / deviation
    wanted = deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    many = crps(random.normal(mean, deviation, (200_000, 1)), np.array([truth]))
    assert many[0] == pytest.approx(wanted, rel=0.01)
    few = crps(random.normal(mean, deviation, (3, 60_000)), np.full(60_000, truth))
    assert few.mean() == pytest.approx(wanted, rel=0.02)
    draws = random.normal(size=(7, 4))
    naive = np.abs(draws - 0.3).mean(0) - np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (2 * 7 * 6)
    np.testing.assert_allclose(crps(draws, np.full(4, 0.3)), naive)
    assert np.isnan(crps(draws[:, :1], np.array([np.nan]))[0]) and crps(draws[:1], np.zeros(4))[0] == abs(draws[0, 0])
    with pytest.raises(ValueError, match="do not fit"):
        crps(draws, np.zeros(3))
    np.testing.assert_allclose(pinball(np.array([1.0, 1.0]), np.array([3.0, 0.0]), 0.9), [1.8, 0.1])


def test_times_as_people_have_them() -> None:
    """A date beside a time of day, month ends, newest first, a stamp twice, an index, minutes of a market."""
    count = 300
    hours = pd.date_range("2020-01-30", periods=count, freq="h")
    value = np.round(np.sin(np.arange(count)), 3)

    def series(frame: pd.DataFrame) -> Series:
        made = tl.open_data(frame, opening=Opening(window=8)).modality
        assert isinstance(made, Series)
        return made

    for parts in (
        {"Date": hours.strftime("%d/%m/%Y"), "Time": hours.strftime("%H:%M:%S")},
        {"dteday": hours.strftime("%Y-%m-%d"), "hr": hours.hour},
    ):
        made = series(pd.DataFrame({**parts, "cnt": value}))
        assert made.clock.said() == "hour" and made.entity is None and [c.column.name for c in made.channels] == ["cnt"]
    ends = pd.date_range("2000-01-31", periods=200, freq="ME")
    clock = series(pd.DataFrame({"month": ends.strftime("%Y-%m-%d"), "v": value[:200]})).clock
    last = int(ends[-1].timestamp())
    wanted = pd.date_range(ends[-1], periods=4, freq="ME")[1:].strftime("%Y-%m-%d").tolist()
    assert clock.written(clock.after(last, 3)) == wanted
    assert len(clock.grid(int(ends[0].timestamp()), last)) == 200
    frame = pd.DataFrame({"t": hours.strftime("%Y-%m-%d %H:%M"), "v": value})
    assert series(frame[::-1]).clock.said() == "hour"
    assert series(pd.concat([frame, frame.iloc[[5]]])).clock.said() == "hour"
    assert series(frame.assign(t=hours).set_index("t")).clock.said() == "hour"
    market = pd.DatetimeIndex(
        [d + pd.Timedelta(minutes=570 + 5 * k) for d in pd.bdate_range("2020-01-01", periods=40) for k in range(78)]
    )
    clock = series(pd.DataFrame({"t": market, "v": np.sin(np.arange(len(market)))})).clock
    ahead = clock.written(clock.after(int(market[-1].timestamp()), 100))
    assert len(ahead) == 100 and ahead[0].startswith("2020-02-26")
    zoned = pd.DataFrame({"t": hours.strftime("%Y-%m-%dT%H:%M:%S+0200"), "v": value})
    made = series(zoned)
    assert made.clock.written(made.rows(zoned)[0].times) == zoned["t"].tolist()


def test_hard_columns_and_entities(tmp_path: Path) -> None:
    frame = daily(600)
    frame["snow"] = np.where(np.arange(600) < 430, 0.0, np.arange(600) * 1.0)
    frame["sun"] = np.where(np.arange(600) % 4 == 0, 7.0 + np.arange(600) % 3, 0.0)
    frame.loc[590, "sun"] = -0.01
    data = tl.open_data(frame, opening=Opening(window=16))
    assert any("'snow' is left out" in note for note in data.notes) and np.abs(data.x).max() <= 12
    shops = pd.concat([daily(300, seed).assign(variable=f"shop {seed}", step=seed) for seed in range(3)])
    settings = {"training.previews": 0, "data.window": 16, "data.columns.step": "left-out"}
    tl.train(shops, model="vae", out=tmp_path / "run", budget="1k", size="xs", settings=settings, quiet=True)
    run = tl.load(tmp_path / "run")
    one = shops[shops["variable"] == "shop 2"]
    table = run.forecast(one.tail(20), horizon=2, draws=3).frame()
    assert next(iter(table)) == "variable_" and set(table["variable_"]) == {"shop 2"}
    assert len(run.forecast(shops.groupby("variable").tail(10), horizon=2, draws=3).draws) == 3
    with pytest.raises(InputError, match="is none that the run knows"):
        run.forecast(one.assign(variable="shop 9"), horizon=2)
    with pytest.raises(InputError, match="says whose rows they are"):
        run.forecast(one.drop(columns="variable"), horizon=2)
    # What a price has grown in a gap at the end is part of the forecast.
    short = one.copy()
    short.loc[short.index[-5:], "price"] = np.nan
    assert np.isfinite(run.forecast(short, horizon=2, draws=3).draws[0]).all()


def test_forecasts_that_need_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    past = np.arange(30.0) % 5 + 10 * (np.arange(30) // 5)
    assert seasonal_naive(past, 7, 5).tolist() == [[50, 51, 52, 53, 54, 50, 51]]
    found = seasonal_ensemble(past, 6, 5)
    assert found.shape == (6, 6) and found[1].tolist() == [40, 41, 42, 43, 44, 40]
    straight = seasonal_ensemble(3.0 * np.arange(100), 4, 5, changes=True)
    assert straight.shape == (14, 4)
    np.testing.assert_allclose(straight, np.tile(297 + 3.0 * np.arange(1, 5), (14, 1)))
    for clock, period in (
        (Clock(3600), 24),
        (Clock(86_400), 7),
        (Clock(86_400, slots=[0, 1, 2, 3, 4]), 5),
        (Clock(0, 1), 12),
        (Clock(300, slots=[24 * day + hour for day in range(5) for hour in range(9, 17)]), 96),
        (Clock(30 * 86_400), 1),
    ):
        assert period_of(clock) == period, clock
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "statsmodels.tsa.exponential_smoothing.ets", None)
        with pytest.raises(InputError, match="extra `series`"):
            exponential_smoothing(past, 3, 5)
    pytest.importorskip("statsmodels")
    random, when = np.random.default_rng(0), np.arange(448)
    wave = 10 + 3 * np.sin(2 * np.pi * when / 7) + 0.5 * random.normal(size=448)
    draws = exponential_smoothing(wave[:420], 28, 7, draws=300)
    assert draws.shape == (300, 28)
    np.testing.assert_allclose(draws.mean(0), 10 + 3 * np.sin(2 * np.pi * when[420:] / 7), atol=0.6)
    assert draws.std(0)[0] == pytest.approx(0.5, abs=0.12)


def test_what_a_page_draws_of_series() -> None:
    """A curve that leaves the scale leaves the picture; a variable that no test window has is no error."""
    drawing = str(overlay([[0.0, 1.0, 0.5]], [[0.2, 0.4, float("inf"), 0.1, 0.3]], title="a < b"))
    assert drawing.count("<polyline") == 3 and drawing.count('class="real"') == 1 and "a &lt; b" in drawing
    tops = [float(pair.split(",")[1]) for pair in re.findall(r"[\d.]+,[\d.]+", drawing)]
    assert min(tops) > 0 and max(tops) < 88
    matrix = str(heat([[1.0, -0.5], [-0.5, 1.0]], ["load", "a very long name"], title="t"))
    assert matrix.count("<rect") == 4 and matrix.count('class="minus"') == 2 and "a very lo…" in matrix
    frame = daily(900)
    frame.loc[600:, "load"] = np.nan
    ruler = SeriesRuler(tl.open_data(frame, opening=Opening(window=16)))
    drawn = ruler.drawn()
    assert drawn["kinds"] == ["level", "return"] and sum(drawn["histograms"][1]) == pytest.approx(1, abs=0.01)
    found, verdicts = ruler.measure(real(ruler.data, 60, seed=0))
    assert all(np.isfinite(each.value) for each in found.values()) and len(verdicts) == len(FACTS)


def test_windows_score_in_a_file_as_in_memory(tmp_path: Path) -> None:
    """Real ones cannot be told from real ones, though no file tells the calendar and the first return of a window."""
    data = tl.open_data(daily(1600).drop(columns="load"), opening=Opening(window=16))
    ruler, x = SeriesRuler(data), real(data, 100, seed=0)
    again, _ = data.modality.read(data.modality.save(x, tmp_path / "made.csv")[0], data.spaces["x"])
    assert ruler.walks.all() and data.modality.calendar
    np.testing.assert_allclose(data.modality.seen(again), data.modality.seen(x), atol=0.06)
    made = [ruler._learned(each, None) for each in (x, again)]
    told = [discriminative_score(ruler.then, each, together=ruler.sharing_then)["discriminative"] for each in made]
    assert max(each.value for each in told) < 0.1
    features = FeatureNetwork("", Mean(), data, "")  # type: ignore[arg-type]
    np.testing.assert_allclose(features(again), features(x), atol=0.02)


class Mean:
    def encode(self, batch: Batch) -> torch.Tensor:
        return batch.x.mean(2)


def test_copies_are_looked_for_where_nothing_is_shared() -> None:
    """Windows set aside share no step with those that are searched; real windows are copies, simulated ones none."""
    data = tl.open_data(daily(4000), opening=Opening(window=16))
    ruler = SeriesRuler(data)
    places, aside = ruler.set_aside(10_000)
    searched = data.x[data.splits["train"][places]]
    steps = {window[:, k].tobytes() for window in searched for k in range(16)}
    assert len(aside) > 30 and not any(window[:, k].tobytes() in steps for window in aside for k in range(16))
    judged = {
        name: memorisation(values(searched), values(aside), values(make(data, 200, seed=0)))["verdict"]
        for name, make in (("real", real), ("made", autoregression))
    }
    assert judged == {"real": "copies", "made": "none"}
