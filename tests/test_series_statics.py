"""What never changes within a series: attributes that are learned from, asked for, and told with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.modalities.attributes import NAME
from trilemma.modalities.contract import Opening
from trilemma.modalities.inspection import of_data
from trilemma.modalities.series import Series

SIZES = (120.5, 150.0, 180.25, 210.0, 90.75, 300.0)
LEVELS = {"north": 60.0, "south": 10.0}


def panel(count: int = 260) -> pd.DataFrame:
    """Six shops day by day, the even ones in the north: only there people buy much."""
    parts = []
    for shop, size in enumerate(SIZES):
        random, region = np.random.default_rng(shop), ("north", "south")[shop % 2]
        sales = LEVELS[region] + 3 * np.sin(2 * np.pi * np.arange(count) / 7) + random.normal(size=count)
        own = {
            "shop": f"s{shop}",
            "region": region,
            "size": size,
            "open": "yes",
            "mood": random.choice([f"m{n}" for n in range(20)], count),
        }
        parts.append(pd.DataFrame({"day": pd.date_range("2021-01-01", periods=count), **own, "sales": sales.round(1)}))
    return pd.concat(parts, ignore_index=True)


def opened(frame: pd.DataFrame, **columns: str) -> Any:
    return tl.open_data(frame, opening=Opening(window=16, columns=tuple(columns.items())))


def test_constant_columns_become_attributes() -> None:
    frame = panel()
    frame.loc[frame["shop"] == "s5", "region"] = None
    frame.loc[5, "size"] = np.nan  # a gap says nothing else
    data = opened(frame)
    assert isinstance(data.modality, Series) and [c.column.name for c in data.modality.channels] == ["sales"]
    assert [(c.name, c.kind) for c in data.attributes] == [("size", "number"), ("region", "category")]
    owner, cells = data.conditions["label"][:, 0], data.conditions[NAME]
    np.testing.assert_allclose(data.attributes[0].from_scores(cells[:, 0]), np.array(SIZES)[owner])
    assert (cells[owner % 2 == 0, 1] == 0).all() and np.isnan(cells[owner == 5, 1]).all()
    assert "left out, for they are neither numbers nor a few words: mood" in data.notes
    assert "left out, for they never change: open" in data.notes
    assert any('can be asked for (--where "NAME = VALUE"): size' in note for note in data.notes)
    rows, labels = data.spaces[NAME].pool()
    assert set(labels) == set(range(6)) and len(rows) == len(data.splits["train"])
    text = of_data(data).text()
    assert "attribute   region: category of 2, with gaps" in text and "column      sales: number" in text
    # What is asked for is told; other values of the same columns are other data.
    assert [c.name for c in opened(frame, region="left-out").attributes] == ["size"]
    ordered = opened(frame, region="ordered:south<north").attributes[1]
    assert ordered.ordered and ordered.values == ["south", "north"]
    assert opened(frame, size="category").attributes[0].kind == "category"
    assert len({each.hash for each in (data, opened(panel()), opened(frame, region="text"))}) == 3
    for columns, message in (
        ({"mood": "category"}, "never changes within a shop"), ({"sales": "integer"}, "never changes within a shop"),
        ({"mood": "level"}, "not all of its cells are numbers"),
        ({"size": "cat"}, "mean 'category'"),
        ({"zone": "text"}, "'zone'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            opened(frame, **columns)
    one = opened(frame[frame["shop"] == "s0"].drop(columns="shop"))
    assert not one.attributes and one.conditions == {}
    short = pd.concat([frame, frame[:17].assign(shop="new", region="west", size=77.0)])  # no window to learn from
    late = opened(short)
    rows, labels = late.spaces[NAME].pool()
    assert late.label_names[-1] == "new" and 6 not in labels


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("statics")
    settings = {"training.previews": 0, "data.window": 16}
    tl.train(panel(), model="diffusion", out=folder / "run", budget="6k", size="xs", settings=settings, quiet=True)
    return folder / "run"


def test_series_follow_what_is_asked_for(run: Path, tmp_path: Path) -> None:
    loaded = tl.load(run)
    assert [one.name for one in loaded.attributes] == ["size", "region"]
    means = {name: float(loaded.generate(60, where=f"region = {name}").mean()) for name in LEVELS}
    assert means["north"] > 45 and means["south"] < 25
    long = loaded.generate(20, where="region = north and size < 100", length=40, steps=6)  # s4
    assert long.shape == (20, 40, 1) and long[:, :, 0].mean(1).min() > 35
    command = ["generate", str(run), "-n", "5", "--where", "size > 250", "--out", str(tmp_path / "m.csv")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0 and pd.read_csv(tmp_path / "m.csv")["sales"].mean() < 30  # s5 is in the south
    # A combination of which there is none goes without a label.
    loaded.sampler.request(0, np.arange(4), prompt=(told := loaded.pooled("region = south and size < 100")))
    request = loaded.sampler.request(0, np.arange(4), prompt=told)
    assert told.strange and not request.present["label"].any() and request.present[NAME].all()
    assert loaded.generate(2, where="region = south and size < 100", length=20, steps=2).shape == (2, 20, 1)
    for where, label, message in (
        ("region = east", None, "'east'"), ("zone = 1", None, "'zone'"),
        ("size = 151", None, "nearest value of 'size'"),
        ("region = south", "s0", "north is the region of 's0'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            loaded.generate(2, where=where, label=label)


def test_an_entity_is_told_with_its_own_attributes(run: Path) -> None:
    """Whatever is drawn, filled in or looked at of it, and whether or not the new file has these columns."""
    loaded = tl.load(run)
    region = loaded.attributes[1].values
    for label in (0, 3):
        request = loaded.sampler.request(0, np.arange(5), label=np.full((5, 1), label))
        cells = request.raw[NAME].numpy()
        assert {region[int(code)] for code in cells[:, 1]} == {("north", "south")[label % 2]}
        np.testing.assert_allclose(loaded.attributes[0].from_scores(cells[:, 0].astype(float)), SIZES[label])
    frame = panel()[["day", "shop", "sales"]]
    found = loaded.forecast(frame, horizon=4, draws=10, steps=6)
    ends = {rows.name: draws.mean() for rows, draws in zip(found.past, found.draws, strict=True)}
    assert min(ends[f"s{i}"] for i in (0, 2, 4)) > 45 and max(ends[f"s{i}"] for i in (1, 3, 5)) < 25
    assert np.isfinite(loaded.detect(frame, normal=panel(), false_alarms=0.05)["anomaly"]).all()
    with pytest.raises(InputError, match="is none that the run knows"):
        loaded.forecast(frame.assign(shop=frame["shop"].replace("s5", "s9")), horizon=2)
    assert json.loads((run / "config.json").read_text())["data"]["attributes"][1]["values"] == ["north", "south"]


def test_a_model_with_codes_knows_no_strangers(tmp_path: Path) -> None:
    settings = {"training.previews": 0, "data.window": 16}
    tl.train(panel(), model="vae", out=tmp_path / "run", budget="1k", size="xs", settings=settings, quiet=True)
    loaded = tl.load(tmp_path / "run")
    assert loaded.generate(3, where="region = south").shape == (3, 16, 1)
    with pytest.raises(InputError, match="no shop of the run has all of this, and vae knows no others"):
        loaded.generate(3, where="region = south and size < 100")


def test_scenarios_of_what_is_asked_for(run: Path) -> None:
    loaded = tl.load(run)
    found = loaded.scenarios("region = north and min(sales) > 0 and last(sales) > 40", 20)
    assert found.probability > 0.8 and found.where == "min(sales) > 0 and last(sales) > 40"
    assert (
        "of series with 'region = north' is" in found.said() and loaded.shown(None).export(found.x)[..., -1].mean() > 45
    )
    assert loaded.scenarios("last(sales) > 40 and region in (south, 'south')", 5).probability < 0.2
    exact = loaded.stress("region = south and first(sales) = 12", 8)
    np.testing.assert_allclose(exact[:, 0, -1], 12, atol=0.1)
    with pytest.raises(InputError, match="says nothing of the path"):
        loaded.stress("region = north", 2)
    with pytest.raises(InputError, match="'east'"):
        loaded.stress("region = east and last(sales) > 40", 2)
