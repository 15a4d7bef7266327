"""Bad and strange series: each is read right, shown by its times and values, or refused with what to mend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trilemma.errors import InputError
from trilemma.modalities.contract import Data
from trilemma.modalities.door import open_data
from trilemma.modalities.series import Series

COUNT = 24 * 40
HOURS = pd.date_range("2022-01-01", periods=COUNT, freq="h")
FORM = "%Y-%m-%d %H:%M:%S"


def hours(times: Any = HOURS, **more: Any) -> pd.DataFrame:
    random = np.random.default_rng(0)
    y = np.sin(np.arange(COUNT) / 24 * 2 * np.pi) + 0.1 * random.normal(size=COUNT)
    text = times.strftime(FORM) if isinstance(times, pd.DatetimeIndex) else times
    return pd.DataFrame({"time": text, "y": y.round(3)}).assign(**more)


def zurich(start: str) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=COUNT, freq="h", tz="UTC").tz_convert("Europe/Zurich")


def but(place: int, cell: Any) -> list[Any]:
    return [cell if n == place else text for n, text in enumerate(HOURS.strftime(FORM))]


REFUSED: dict[str, tuple[pd.DataFrame, str]] = {
    "a time that is none": (hours(but(70, "soon")), "column 'time' holds times, but 'soon' in row 71; mend it"),
    "a time that is missing": (hours(but(70, "")), "column 'time' of times is empty in row 71; give each row its time"),
    "every time twice": (pd.concat([hours(), hours()]).sort_values("time"), "come several times, and no column says"),
    "rows in no order": (
        hours().sample(frac=1, random_state=0),
        "neither rise nor fall from row to row; sort the rows",
    ),
    "two entities with steps of their own": (
        pd.concat([hours(who="a"), hours(pd.date_range("2022-01-01", periods=COUNT, freq="15min"), who="b")]),
        "series by column 'who' have steps of their own (a: 3600 s, b: 900 s); give those of one step in one file",
    ),
    "nothing but gaps": (hours(y=np.nan), "no column of numbers that change beside the times; add one"),
    "nothing that changes": (hours(y=1.0), "no column of numbers that change beside the times"),
    "texts alone": (hours(y="x"), "no column of numbers that change beside the times"),
    "too short": (hours().head(40), "40 steps are too few to learn from; give at least 120"),
    "no rows": (hours().head(0), "has a line of names and no rows below it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_series_is_one_clear_error(name: str, tmp_path: Path) -> None:
    frame, message = REFUSED[name]
    frame.to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(InputError) as caught:
        open_data(tmp_path / "s.csv", kind="series")
    assert str(caught.value).startswith(str(tmp_path / "s.csv")) and message in str(caught.value)


def on_the_grid(first: str, last: str, steps: int, note: str = "") -> Callable[[Data], None]:
    def holds(data: Data) -> None:
        said = f"{steps:,} steps of an hour, from {first} to {last}"
        assert data.facts["times"] == said, data.facts["times"]
        assert any(note in own for own in data.notes), data.notes or ["no notes"]

    return holds


DAY = on_the_grid("2022-01-01 00:00:00", "2022-02-09 23:00:00", COUNT)
READ: dict[str, tuple[pd.DataFrame, Callable[[Data], None]]] = {}


def plain(data: Data) -> None:
    data.notes.append("")
    DAY(data)
    assert isinstance(data.modality, Series)
    found = data.modality.rows(data.source)[0].values[:, 0]
    np.testing.assert_allclose(found, hours()["y"], atol=1e-9)


READ["from the last to the first"] = hours().iloc[::-1], plain
READ["dates of two forms"] = hours([t if n % 3 else HOURS[n].strftime("%d.%m.%Y %H:%M:%S") for n, t in
                                    enumerate(HOURS.strftime(FORM))]), plain  # fmt: skip
READ["decimal commas"] = hours(y=[f"{y:.3f}".replace(".", ",") for y in hours()["y"]]), plain
READ["a few times twice"] = (
    pd.concat([hours(), hours().iloc[100:105].assign(y=9.0)]).sort_values("time", kind="stable"),
    on_the_grid("2022-01-01 00:00:00", "2022-02-09 23:00:00", COUNT, "5 rows have the time of another one: averaged"),
)
READ["an infinite value"] = (
    hours(y=[np.inf if n == 80 else y for n, y in enumerate(hours()["y"])]),
    on_the_grid("2022-01-01 00:00:00", "2022-02-09 23:00:00", COUNT, "1 infinite values are taken as missing"),
)
READ["the hour that spring leaves out"] = (
    hours(zurich("2022-03-10").tz_localize(None)),
    on_the_grid("2022-03-10 01:00:00", "2022-04-19 01:00:00", COUNT + 1, ""),
)
READ["the hour that autumn has twice"] = (
    hours(zurich("2022-10-10").tz_localize(None)),
    on_the_grid("2022-10-10 02:00:00", "2022-11-19 00:00:00", COUNT - 1, "1 rows have the time of another one"),
)
READ["zones written out, over a change of clocks"] = (
    hours([moment.isoformat() for moment in zurich("2022-03-10")]),
    on_the_grid("2022-03-10T01:00:00+01:00", "2022-04-19T01:00:00+02:00", COUNT, "are those of Europe/Berlin"),
)


def with_gap(data: Data) -> None:
    assert float(data.facts["gaps"].split("%")[0]) > 85 and data.facts["times"].startswith("9,720 steps")


READ["a gap of a year"] = hours(HOURS[: COUNT // 2].append(HOURS[COUNT // 2 :] + pd.Timedelta(365, "D"))), with_gap


def two_of_them(data: Data) -> None:
    assert data.label_names == ["a", "c", "b"] and set(data.conditions["label"][:, 0]) == {0, 2}


READ["an entity of three rows"] = (
    pd.concat([hours(who="a"), hours(who="c").head(3), hours(who="b")]), two_of_them,
)  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_strange_series_is_read_right(name: str, tmp_path: Path) -> None:
    frame, holds = READ[name]
    frame.to_csv(tmp_path / "s.csv", index=False)
    data = open_data(tmp_path / "s.csv")
    assert data.modality.kind == "series" and np.isfinite(data.x).all()
    if not data.notes:
        data.notes.append("nothing to say")
    holds(data)


IRREGULAR = {
    "steps of all lengths": HOURS[0]
    + pd.to_timedelta(np.random.default_rng(0).exponential(3600, COUNT).cumsum().astype(int), "s"),
    "steps below a second": pd.date_range("2022-01-01", periods=COUNT, freq="500ms").strftime(FORM + ".%f").tolist(),
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_irregular_times_go_on_a_grid_where_a_series_is_asked_for(name: str, tmp_path: Path) -> None:
    hours(IRREGULAR[name]).to_csv(tmp_path / "s.csv", index=False)
    data = open_data(tmp_path / "s.csv", kind="series")
    assert any("times are irregular: values within one" in note for note in data.notes), data.notes
    assert open_data(tmp_path / "s.csv").modality.kind == "table", "nobody asked for a series"


def test_steps_are_counted_only_where_no_column_tells_the_time(tmp_path: Path) -> None:
    hours().drop(columns="time").to_csv(tmp_path / "s.csv", index=False)
    assert f"{COUNT:,} steps of a step" in open_data(tmp_path / "s.csv", kind="series").facts["times"]


@pytest.mark.parametrize("freq", ["D", "B", "MS"])
def test_days_of_a_zone_begin_at_its_midnight(freq: str) -> None:
    """Over changes of clocks: no row beside the grid, and what comes next is the zone's next midnight."""
    when = pd.date_range("2019-01-01", periods=440, freq=freq, tz="Europe/Berlin")
    frame = pd.DataFrame({"y": np.sin(np.arange(440)).round(3)}, index=when)
    data = open_data(frame[:-40])
    assert isinstance(data.modality, Series) and not data.notes and data.facts["gaps"] == "0.0% of values"
    clock, rows = data.modality.clock, data.modality.rows(frame[:-40])[0]
    ahead = pd.to_datetime(clock.written(clock.after(int(rows.times[-1]), 40)), utc=True)
    np.testing.assert_array_equal(ahead, when[-40:].tz_convert("UTC"))
    assert clock.written(rows.times[:1])[0] == "2019-01-01 00:00:00+0100"
    for other in (frame.tz_convert("UTC"), frame.tz_localize(None)):
        np.testing.assert_array_equal(data.modality.rows(other[:-40])[0].times, rows.times)


def test_frames_with_zones() -> None:
    """An index of times in a zone: a change of clocks is no gap, and leaves no step out."""
    frame = hours().drop(columns="time").set_axis(zurich("2022-03-10"))
    data = open_data(frame)
    assert data.facts["times"].startswith(f"{COUNT:,} steps of an hour, from 2022-03-10 01:00:00+0100")
    assert data.facts["gaps"] == "0.0% of values"
