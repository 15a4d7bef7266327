"""Series as people have them: counted, irregular and long times, arrays, columns known ahead, several entities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import trilemma as tl
from trilemma.batches import Batch, Options, Request
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.modalities import dates
from trilemma.modalities.columns import Texts, infer
from trilemma.modalities.contract import Opening, opening_of
from trilemma.modalities.series import Series
from trilemma.models.contract import Fills
from trilemma.spaces import Continuous
from trilemma.tasks.forecast import forecast
from trilemma.tasks.series import lengthened
from trilemma.training.engine import Engine
from trilemma.training.sampling import Sampler

SETTINGS = {"training.previews": 0, "data.window": 16}
WHEN = pd.date_range("2020-01-01", periods=300)


def opened(source: object, **settings: object) -> Series:
    made = tl.open_data(source, opening=Opening(kind="series", window=8, **settings)).modality  # type: ignore[arg-type]
    assert isinstance(made, Series)
    return made


def test_times_that_are_only_counted() -> None:
    value = np.random.default_rng(0).normal(size=300).round(2)
    for frame, names, step in (
        (pd.DataFrame({"v": value}), [], 1.0),
        (pd.DataFrame({"timestamp": np.arange(50, 350), "v": value}), ["timestamp"], 1.0),
        (pd.DataFrame({"time": (np.arange(300) * 0.04).round(2), "v": value}), ["time"], 0.04),
    ):
        series = opened(frame)
        assert (series.clock.names, series.clock.said(), series.calendar) == (names, "step", [])
        assert series.clock.counted == pytest.approx(step) and [c.column.name for c in series.channels] == ["v"]
        again = series.rows(frame)
        np.testing.assert_array_equal(again[0].values[:, 0], value)
    assert series.clock.written(np.array([300, 301])) == ["12", "12.04"]
    gap = pd.DataFrame({"t": np.delete(np.arange(300), [7, 8]), "v": np.delete(value, [7, 8])})
    assert np.flatnonzero(np.isnan(opened(gap).rows(gap)[0].values[:, 0])).tolist() == [7, 8]


def test_irregular_times_are_put_on_a_grid_and_that_is_said() -> None:
    random = np.random.default_rng(0)
    seconds = np.cumsum(random.exponential(1500, 2000)).round()
    frame = pd.DataFrame(
        {"at": pd.Timestamp("2020-01-01") + pd.to_timedelta(seconds, "s"), "v": random.normal(size=2000)}
    )
    data = tl.open_data(frame, opening=opening_of({"data.step": "1h", "data.window": 8}, "series", None, False))
    series = data.modality
    assert isinstance(series, Series) and series.clock.said() == "hour"
    assert any("irregular" in note and "averaged" in note for note in data.notes)
    first = seconds < 3600
    assert series.rows(frame)[0].values[0, 0] == pytest.approx(frame["v"][first].mean())
    with pytest.raises(InputError, match="setting data"):
        opening_of({"data.step": "soon"}, "series", None, False)


def test_long_tables_are_laid_out_wide(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    wide = pd.DataFrame(
        {
            "time": WHEN.strftime("%Y-%m-%d"),
            "warm": random.normal(size=300).round(1),
            "wet": random.normal(size=300).round(3),
        }
    )
    long = wide.melt("time").sort_values(["time", "variable"]).reset_index(drop=True)
    one, other = opened(wide), opened(long)
    assert [c.column.name for c in other.channels] == ["warm", "wet"] and [c.decimals for c in other.channels] == [1, 3]
    np.testing.assert_allclose(one.rows(wide)[0].values, other.rows(long)[0].values)
    tl.train(long, model="vae", out=tmp_path / "run", budget="1k", size="xs", settings=SETTINGS, quiet=True)
    run = tl.load(tmp_path / "run")
    gaps = long.assign(value=long["value"].mask(long.index % 40 < 7))
    full = run.impute(gaps, draws=2)
    assert list(full) == list(long) and full["value"].notna().all()
    same = gaps["value"].notna()
    assert (full["value"][same] == gaps["value"][same]).all()
    found = run.detect(gaps, normal=wide, false_alarms=0.05)
    assert len(found) == len(long) and np.isfinite(found["anomaly"]).all()
    # An entity beside the value is whose row it is.
    shops = pd.concat([wide[["time", "warm"]].assign(shop=name, area=size) for name, size in (("a", 10), ("b", 20))])
    data = tl.open_data(shops, opening=Opening(window=8))
    assert data.label_names == ["a", "b"] and [each.name for each in data.attributes] == ["area"]


def test_values_that_a_long_table_has_twice_are_averaged() -> None:
    value = np.arange(600).reshape(300, 2) * 1.0
    long = pd.DataFrame({"time": WHEN.strftime("%Y-%m-%d"), "warm": value[:, 0], "wet": value[:, 1]}).melt("time")
    twice = long.iloc[[20, 21, 320]].assign(value=[1000.0, 2000.0, 3000.0])
    shown = pd.concat([long, twice]).sort_values(["time", "variable"], kind="stable").reset_index(drop=True)
    data = tl.open_data(shown, opening=Opening(kind="series", window=8))
    assert "2 rows have the time of another one: averaged" in data.notes
    wanted = value.copy()
    wanted[20:22, 0], wanted[20, 1] = (value[20:22, 0] + [1000, 2000]) / 2, (value[20, 1] + 3000) / 2
    series = data.modality
    assert isinstance(series, Series)
    np.testing.assert_array_equal(series.rows(shown)[0].values, wanted)
    gaps = shown.assign(value=shown["value"].mask(shown.index % 50 == 3))  # each long row keeps its place
    found = series.gaps(gaps)
    full = series.filled(found, np.where(found.observed, found.x, -1.0))
    assert full["value"].tolist() == gaps["value"].fillna(-1.0).tolist()


def test_arrays_of_series(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 200)
    x = np.sin(np.arange(24) / 3 + 3 * label[:, None])[:, :, None] * [1, 2] + 0.1 * random.normal(size=(200, 24, 2))
    np.savez(tmp_path / "x.npz", x=x, y=label)
    data = tl.open_data(tmp_path / "x.npz", kind="series")
    assert data.x.shape == (200, 2, 24) and data.label_names == ["0", "1"]
    assert sum(len(part) for part in data.splits.values()) == 200 and min(map(len, data.splits.values())) > 5
    settings = {"training.previews": 0}
    tl.train(
        tmp_path / "x.npz",
        kind="series",
        model="vae",
        out=tmp_path / "run",
        budget="1k",
        size="xs",
        settings=settings,
        quiet=True,
    )
    run = tl.load(tmp_path / "run")
    assert run.generate(3, label="1").shape == (3, 24, 2)
    gaps = x[:4].copy()
    gaps[:, 5:9, 0] = np.nan
    full = run.impute(gaps, draws=2)
    assert full.shape == gaps.shape and np.isfinite(full).all()
    known = ~np.isnan(gaps)
    np.testing.assert_array_equal(full[known], gaps[known])
    table = run.forecast(x[:3, :12], horizon=4, draws=5).frame()
    assert table["series"].nunique() == 3 and len(table) == 3 * 2 * 5 * 4
    found = run.detect(x[:4], false_alarms=0.05)
    assert list(found)[:2] == ["series", "step"] and len(found) == 96
    np.save(tmp_path / "one.npy", x[:60].reshape(-1, 2))
    assert tl.open_data(tmp_path / "one.npy", kind="series").x.shape[1] == 2
    with pytest.raises(InputError, match="give \\(T,\\)"):
        tl.open_data(np.zeros((3, 4, 5, 6)), kind="series")
    with pytest.raises(InputError, match="where the run knows 2"):
        run.forecast(x[:, :, :1], horizon=2)


class Follows(nn.Module, Fills):
    """A model that makes of the first channel what stands in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = nn.ModuleDict()

    def can_fill(self) -> bool:
        return True

    def fill(self, batch: Batch, request: Request, *, complete: bool) -> torch.Tensor:
        assert batch.observed is not None and bool(batch.observed[:, 1:, -1].all()), "the future of what is known"
        first = torch.where(batch.observed[:, :1], batch.x[:, :1], batch.x[:, 1:2])
        return torch.cat([first, batch.x[:, 1:]], 1)


def test_columns_known_ahead() -> None:
    """What is known of the days to come is what the model is told, and no part of what it tells."""
    random = np.random.default_rng(0)
    promo, when = random.normal(size=900), pd.date_range("2020-01-01", periods=900).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"promo": promo, "day": when, "sales": (10 + 3 * random.normal(size=900)).round(2)})
    opening = opening_of({"data.columns.promo": "known", "data.window": 16}, None, None, False)
    data = tl.open_data(frame, opening=opening)
    series, space = data.modality, data.spaces["x"]
    assert isinstance(series, Series) and series.told == 1 and isinstance(space, Continuous)
    assert [each.column.name for each in series.channels] == ["sales", "promo"] and space.always[0] == 1
    given = space.portion(Noise(0, np.arange(50)))
    assert given[:, 1:].all() and not given[:, 0].all()
    model: Any = Follows()
    sampler = Sampler(model, Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))
    later = frame.assign(sales=frame["sales"].where(frame.index < 890))
    own: dict[str, Any] = {"draws": 3, "seed": 0, "options": Options()}
    found = forecast(sampler, series, later, horizon=10, **own)
    table = found.frame()
    assert table["variable"].unique().tolist() == ["sales"] and table["time"].min() == when[890]
    np.testing.assert_allclose(found.draws[0][:, :, 0], np.tile(10 + 3 * promo[890:], (3, 1)), atol=0.7)
    with pytest.raises(InputError, match="'promo' is known ahead: give its values for the 12 steps"):
        forecast(sampler, series, later, horizon=12, **own)
    with pytest.raises(InputError, match="nobody knows them"):
        lengthened(sampler, series, 2, 40, label=None, seed=0, start=0, options=Options())


def test_an_entity_goes_on_from_its_own_level(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"day": WHEN.strftime("%Y-%m-%d"), "who": name}).assign(
            price=(level * np.exp(np.cumsum(0.01 * random.normal(size=300)))).round(2)
        )
        for name, level in (("dear", 1000.0), ("cheap", 1.0))
    ]
    tl.train(pd.concat(parts), model="vae", out=tmp_path / "run", budget="1k", size="xs", settings=SETTINGS, quiet=True)
    run = tl.load(tmp_path / "run")
    for part, name in zip(parts, ("dear", "cheap"), strict=True):
        made = run.generate(20, label=name, length=50)
        assert made.shape == (20, 50, 1) and made[:, 0].mean() == pytest.approx(part["price"].iloc[-1], rel=0.1)
    assert run.generate(4, label="cheap").max() < 10


def test_parquet_stays_what_it_was(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    value = np.random.default_rng(0).normal(size=300).round(2)
    frame = pd.DataFrame({"at": WHEN, "name": "x", "v": value, "count": np.arange(300) % 7})
    frame.loc[5:9, "v"] = np.nan
    frame.to_parquet(tmp_path / "s.parquet")
    series = opened(tmp_path / "s.parquet")
    gaps = series.gaps(tmp_path / "s.parquet")
    series.filled(gaps, np.where(gaps.observed, gaps.x, 1.234), tmp_path / "full.parquet")
    again = pd.read_parquet(tmp_path / "full.parquet")
    pd.testing.assert_frame_equal(again, frame.fillna({"v": 1.23}))


def test_a_later_file_is_read_as_the_run_s_own(tmp_path: Path) -> None:
    """Thousands apart: four digits alone could be decimals. Known cells come out as what they are, in numbers, too."""
    level = 5000 + 900 * np.sin(np.arange(300) / 9).round(3)
    for form in ("{:,.1f}", "${:,.1f}", "{:.1f}%"):
        frame = pd.DataFrame({"at": WHEN.strftime("%Y-%m-%d"), "v": [form.format(each) for each in level * 300 + 0.5]})
        frame.to_csv(tmp_path / "run.csv", index=False)
        series = opened(tmp_path / "run.csv")
        later = frame.assign(v=[form.format(1000 + n) for n in range(300)])
        if form == "{:,.1f}":
            later["v"] = later["v"].str.removesuffix(".0")  # 1,000 to 1,299
        later.loc[5:9, "v"] = ""
        later.to_csv(tmp_path / "later.csv", index=False)
        gaps = series.gaps(tmp_path / "later.csv")
        known = gaps.observed[:, 0]
        np.testing.assert_array_equal(gaps.x[known, 0], (1000.0 + np.arange(300))[known])
        full = series.filled(gaps, np.where(gaps.observed, gaps.x, 1004.5))
        np.testing.assert_array_equal(full["v"], np.where(known, 1000.0 + np.arange(300), 1004.5))
        plain = pd.DataFrame({"at": WHEN.strftime("%Y-%m-%d"), "v": 1000.5 + np.arange(300)})
        np.testing.assert_array_equal(series.rows(plain)[0].values[:, 0], plain["v"])
    frame.assign(v="about 5%").to_csv(tmp_path / "later.csv", index=False)
    with pytest.raises(InputError, match="'about 5%' in column 'v' is no number as the run's data have them"):
        series.rows(tmp_path / "later.csv")


def test_days_first_stay_days_first() -> None:
    """A later file is read in the run's order; a first one in the order that leaves no gaps, and that is said."""
    when = pd.date_range("2023-01-01", periods=300)
    run = opened(pd.DataFrame({"at": when.strftime("%d/%m/%Y"), "v": np.sin(np.arange(300))}))
    march = pd.date_range("2024-03-01", periods=12 * 24, freq="h")[::24]
    later = pd.DataFrame({"at": march.strftime("%d/%m/%Y"), "v": np.arange(12.0)})
    rows = run.rows(later)[0]
    assert run.clock.written(rows.times) == later["at"].tolist() and rows.values[:, 0].tolist() == list(range(12))
    iso = run.rows(later.assign(at=march.strftime("%Y-%m-%d")))[0]  # written otherwise, it is read as it is
    np.testing.assert_array_equal(iso.times, rows.times)
    dashed = run.rows(later.assign(at=march.strftime("%d-%m-%Y")))[0]
    np.testing.assert_array_equal(dashed.times, rows.times)
    months = pd.date_range("2010-01-01", periods=150, freq="MS")
    for form, order in (("%d/%m/%Y", "day before month"), ("%m/%d/%Y", "month before day")):
        data = tl.open_data(pd.DataFrame({"at": months.strftime(form), "v": np.sin(np.arange(150))}))
        assert data.facts["times"].startswith("150 steps of a month, from 01/01/2010")
        assert any(f"01/01/2010 is taken as {order}" in note for note in data.notes)
    thirds = pd.DataFrame({"at": pd.date_range("2010-01-01", periods=150, freq="3h"), "v": np.sin(np.arange(150))})
    assert tl.open_data(thirds).facts["times"].startswith("150 steps of 3 hours, from ")


def test_dates_are_written_as_they_were_read() -> None:
    """With their Z, and to the microsecond; where offsets stand beside it, by what reads both."""
    texts = ["2024-01-05T07:58:46.621677Z", "2024-01-05T08:00:00.000000Z", "2024-01-06T08:00:00.125000Z"]
    column, seconds, _ = infer(Texts("at", np.arange(3), texts, "", "str"), "date")
    assert column.format.endswith("%fZ") and column.unit == 1e-6
    assert column.written(seconds, np.random.default_rng(0)).tolist() == texts
    column.fit(seconds)
    again = column.from_scores(column.scores(seconds, np.full(3, 0.5)))
    assert column.written(again, np.random.default_rng(0)).tolist() == texts
    assert dates.unit_of(np.array([3.0, 61.0])) == 1 and dates.unit_of(np.array([0.25])) == 1e-3
    assert dates.forms_of(["2024-01-05T10:00:00Z", "2024-01-05T10:00:00+0100"]) == ["%Y-%m-%dT%H:%M:%S%z"]
    frame = pd.DataFrame({"at": WHEN.strftime("%Y-%m-%dT%H:%M:%SZ"), "v": np.sin(np.arange(300))})
    series = opened(frame)
    assert series.clock.written(series.rows(frame)[0].times) == frame["at"].tolist()


def test_an_index_of_times_goes_through_files(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"v": np.random.default_rng(0).normal(size=300).round(2)}, index=WHEN)
    frame.iloc[5:9] = np.nan
    frame.to_parquet(tmp_path / "s.parquet")
    wanted = frame.fillna(1.23).rename_axis(index="time").reset_index()
    for source in (frame, tmp_path / "s.parquet"):
        series = opened(source)
        assert series.clock.names == ["time"]
        gaps = series.gaps(source)
        full = np.where(gaps.observed, gaps.x, 1.234)
        series.filled(gaps, full, tmp_path / "full.parquet")
        made = pd.read_parquet(tmp_path / "full.parquet")
        pd.testing.assert_frame_equal(made, wanted, check_dtype=False)
        series.filled(gaps, full, tmp_path / "full.csv")
        assert pd.read_csv(tmp_path / "full.csv")["time"].tolist() == WHEN.strftime("%Y-%m-%d").tolist()
    assert isinstance(series.filled(opened(frame).gaps(frame), full).index, pd.DatetimeIndex)  # as it was


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_made_series_are_numbers_where_files_know_them(tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    count = np.random.default_rng(0).integers(1000, 9000, 300)
    at = WHEN.strftime("%Y-%m-%d")
    frame = pd.DataFrame({"at": at, "v": [f"${each:,}.50" for each in count], "n": count[::-1]})
    frame.to_csv(tmp_path / "s.csv", index=False)
    data = tl.open_data(tmp_path / "s.csv", opening=Opening(kind="series", window=8))
    series, out = data.modality, tmp_path / f"made{ending}"
    series.save(data.x[:4], out)
    lines = [] if ending == ".parquet" else out.read_text(encoding="utf-8").splitlines()
    made = pd.DataFrame(map(json.loads, lines)) if lines else pd.read_parquet(out)
    assert made["v"].dtype == np.float64 and made["n"].dtype == np.int64
    np.testing.assert_array_equal(made[["v", "n"]], series.export(data.x[:4]).reshape(-1, 2))
    series.save(data.x[:4], tmp_path / "made.csv")
    assert pd.read_csv(tmp_path / "made.csv")["v"].str.startswith("$").all()


@pytest.mark.parametrize("dtype", ["Float64", "Float32", "float32", "Int64"])
def test_gaps_are_filled_in_columns_of_any_number(dtype: str) -> None:
    frame = pd.DataFrame({"at": WHEN, "v": np.arange(300) % 7})
    frame["v"] = frame["v"].astype(dtype)
    frame.loc[5:9, "v"] = None
    series = opened(frame)
    gaps = series.gaps(frame)
    full = series.filled(gaps, np.where(gaps.observed, gaps.x, 2.0))
    np.testing.assert_array_equal(full["v"].astype(float), np.where(gaps.observed[:, 0], np.arange(300) % 7, 2.0))
    assert "Int64" in dtype or full["v"].dtype == dtype


def test_cells_of_a_series_that_stand_for_no_number_are_filled_in(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).normal(size=300).round(2).astype(str).astype(object)
    wide = pd.DataFrame({"time": WHEN.strftime("%Y-%m-%d"), "v": cells, "w": cells[::-1]})
    wide.to_csv(tmp_path / "run.csv", index=False)
    series = opened(tmp_path / "run.csv")
    wide.loc[3:6, "v"] = ["-", "unknown", "inf", ""]
    for given, name in ((wide, "v"), (wide.melt("time"), "value")):
        given.to_csv(tmp_path / "gaps.csv", index=False)
        gaps = series.gaps(tmp_path / "gaps.csv")
        series.filled(gaps, np.where(gaps.observed, gaps.x, 7.25), tmp_path / "full.csv")
        full = pd.read_csv(tmp_path / "full.csv", dtype=str, keep_default_na=False)
        assert full[name].tolist() == [*cells[:3], *["7.25"] * 4, *given[name].iloc[7:]]


@pytest.mark.parametrize("ending", ["csv", "npy", "jsonl"])
def test_windows_are_read_as_they_were_written(ending: str, tmp_path: Path) -> None:
    """So that made series can be measured, whatever made them."""
    when = pd.date_range("2020-01-01", periods=600, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"time": when, "y": random.normal(size=600).round(3), "p": 9 + random.normal(size=600)})
    data = tl.open_data(frame, opening=Opening(window=32))
    windows = data.x[:40]
    file = data.modality.save(windows, tmp_path / f"made.{ending}")[0]
    again, _ = data.modality.read(file, data.spaces["x"])
    assert again.shape == windows.shape
    np.testing.assert_allclose(data.modality.export(again), data.modality.export(windows), atol=2e-3)


@pytest.mark.parametrize("source", [[1, 2, 3], 5])
def test_what_is_no_series_is_one_clear_error(source: object) -> None:
    when = pd.date_range("2020-01-01", periods=600, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    frame = pd.DataFrame({"time": when, "y": np.random.default_rng(0).normal(size=600)})
    data = tl.open_data(frame, opening=Opening(window=32))
    with pytest.raises(InputError, match="is no series; give a file, a data frame or an array"):
        data.modality.read(source, data.spaces["x"])


def test_noise_upon_a_slow_season_is_a_level() -> None:
    """A temperature of half a year comes back to where it was; a random walk, and noise upon a trend, do not."""
    random, hours = np.random.default_rng(0), np.arange(4600)
    when = pd.date_range("2023-03-01", periods=len(hours), freq="h")
    noise = random.normal(size=(2, len(hours)))
    frame = pd.DataFrame({
        "time": when,
        "season": 12 + 8 * np.sin(2 * np.pi * hours / 8766) + noise[0],
        "walk": 100 * np.exp(0.01 * noise[1].cumsum()),
        "trend": 10 + hours / 50 + noise[0],
    })  # fmt: skip
    made = tl.open_data(frame, opening=Opening(window=168)).modality
    assert isinstance(made, Series)
    assert [each.kind for each in made.channels] == ["level", "return", "return"]


def test_times_that_come_twice_now_and_then_are_averaged() -> None:
    """A few doubled rows make no series a table for whoever says that it is one; many of them do."""
    hours = pd.date_range("2024-01-01", periods=400, freq="h")
    for doubled, fits in ((20, True), (200, False)):
        when = hours.append(hours[100 : 100 + doubled]).sort_values()
        frame = pd.DataFrame({"at": when, "v": np.sin(np.arange(len(when)) / 4)})
        if fits:
            data = tl.open_data(frame, opening=Opening(kind="series", window=16))
            assert data.facts["times"].startswith("400 steps of an hour")
            assert any("values within one hour are averaged" in note for note in data.notes)
        else:
            with pytest.raises(InputError, match="come several times"):
                tl.open_data(frame, opening=Opening(kind="series", window=16))


def test_files_of_several_arrays(tmp_path: Path) -> None:
    wave = np.sin(np.arange(2000) / 5) + 0.1 * np.random.default_rng(0).normal(size=2000)
    np.savez(tmp_path / "heart.npz", ecg=wave.astype(np.float32), hz=360)
    data = tl.open_data(tmp_path / "heart.npz", kind="series")
    assert [each.column.name for each in data.modality.channels][:1] == ["ecg"]
    np.savez(tmp_path / "two.npz", waves=wave.reshape(20, 100, 1), steps=wave.reshape(40, 50, 1))
    with pytest.raises(InputError, match=r"several sets of examples \(waves \(20, 100, 1\), steps \(40, 50, 1\)\)"):
        tl.open_data(tmp_path / "two.npz", kind="series")
    np.savez(tmp_path / "turned.npz", x=wave.reshape(20, 1, 100))
    with pytest.raises(InputError, match=r"time comes second: write x.transpose\(0, 2, 1\)"):
        tl.open_data(tmp_path / "turned.npz", kind="series")
