"""What is asked of series: gaps filled in over windows, on a model whose conditional draws are exact; the verbs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import trilemma as tl
from trilemma.batches import Arrays, Batch, Options, Request
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.maths import samplers
from trilemma.maths.noise import Noise
from trilemma.metrics.risk import gaussian
from trilemma.modalities.channels import Channel
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Opening
from trilemma.modalities.entities import Rows
from trilemma.modalities.scenario import STATISTICS, parse
from trilemma.modalities.series import Series
from trilemma.modalities.times import Clock
from trilemma.models.contract import Decodes, Encodes, Fills, Surprises, configure
from trilemma.models.diffusion import Diffusion
from trilemma.spaces import Categorical, Continuous, Space, fit_continuous
from trilemma.tasks import series as tasks
from trilemma.tasks.alarms import around, detect, peaks
from trilemma.tasks.factors import _averaged, known_factors
from trilemma.tasks.forecast import companions, forecast, significant
from trilemma.tasks.risk import risk
from trilemma.training.engine import Engine
from trilemma.training.sampling import Sampler

MEMORY = 0.9  # of the AR(1) process that the exact model knows


class Exact(nn.Module, Fills):
    """A model of windows of independent AR(1) channels: draws what is missing given the rest, exactly."""

    def __init__(self, size: int, memory: float = MEMORY):
        super().__init__()
        self.spaces = nn.ModuleDict()
        lag = np.abs(np.arange(size)[:, None] - np.arange(size)[None])
        self.covariance = memory**lag
        self.laws: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}  # windows have few patterns of gaps

    def law(self, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(weights of the known, root of the covariance) of what is not known (T,)."""
        if known.tobytes() not in self.laws:
            here, there = np.flatnonzero(~known), np.flatnonzero(known)
            cross, own = self.covariance[np.ix_(here, there)], self.covariance[np.ix_(there, there)]
            weights = np.linalg.solve(own, cross.T).T
            spread = self.covariance[np.ix_(here, here)] - weights @ cross.T
            self.laws[known.tobytes()] = weights, np.linalg.cholesky(spread + 1e-9 * np.eye(len(here)))
        return self.laws[known.tobytes()]

    def can_fill(self) -> bool:
        return True

    def fill(self, batch: Batch, request: Request, *, complete: bool) -> torch.Tensor:
        noise = request.noise.normal(*batch.x.shape[1:]).double().numpy()
        x = batch.x.double().numpy().copy()
        assert batch.observed is not None
        for example, known in enumerate(batch.observed.numpy()):
            for channel in range(x.shape[1]):
                here, own = ~known[channel], x[example, channel]
                weights, root = self.law(known[channel])
                own[here] = weights @ own[~here] + root @ noise[example, channel, here]
        return torch.from_numpy(x).float()


def process(count: int, seed: int = 0, memory: float = MEMORY) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = np.zeros(count)
    made[0] = random.normal()
    for step in range(1, count):
        made[step] = memory * made[step - 1] + (1 - memory**2) ** 0.5 * random.normal()
    return made


def exact(
    frame: pd.DataFrame, window: int = 32, memory: float = MEMORY, *, calendar: bool = False
) -> tuple[Sampler, Series]:
    """An exact model at work on such a table."""
    series = tl.open_data(frame, opening=Opening(window=window, kind="series")).modality
    assert isinstance(series, Series) and bool(series.calendar) == calendar
    sampler = Sampler(Exact(window, memory), Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
    return sampler, series


def test_gaps_are_filled_without_seams() -> None:
    """Steps from one to the next vary within gaps as they do elsewhere, wherever windows meet; so do levels."""
    count = 6000
    frame = pd.DataFrame({"v": process(count), "w": process(count, 1)})
    sampler, series = exact(frame)
    random = np.random.default_rng(2)
    gaps = frame.copy()
    gaps.loc[random.uniform(size=count) < 0.3, "v"] = np.nan
    for begin in range(200, 5000, 300):  # much longer than a window of 32, and of a length that windows meet anywhere
        gaps.loc[begin : begin + 150, "w"] = np.nan
    gaps.loc[:40, "v"] = np.nan
    gaps.loc[5950:, "w"] = np.nan
    read, middle, draws = tasks.impute(sampler, series, gaps, draws=3, seed=0, options=Options())
    for place, name in enumerate(("v", "w")):
        known = gaps[name].notna().to_numpy()
        np.testing.assert_array_equal(middle[known, place], gaps[name][known])
        for draw in draws:
            own = draw[:, place]
            assert np.isfinite(own).all()
            steps = np.diff(own)[~known[1:]] ** 2
            assert steps.mean() == pytest.approx(2 * (1 - MEMORY), rel=0.12)
            assert own[~known].std() == pytest.approx(1, abs=0.15)
    # Where two windows meet in a long gap nothing is to be seen: the joints of the first gap, over many draws.
    _, _, many = tasks.impute(sampler, series, gaps[:420], draws=200, seed=1, options=Options())
    jumps = (np.diff(np.stack(many)[:, :, 1], axis=1) ** 2).mean(0)[200:350]
    assert jumps.max() < 2 * (1 - MEMORY) * 1.5 and jumps.min() > 2 * (1 - MEMORY) * 0.6
    # The mean of the draws is what the process itself says given both sides of a gap.
    at = 200
    left, right = gaps["w"][at - 1], gaps["w"][at + 151]
    near = np.stack(many)[:, at, 1]
    assert near.mean() == pytest.approx(MEMORY * left, abs=4 * (1 - MEMORY**2) ** 0.5 / 200**0.5)
    assert np.isfinite(right)
    assert read.observed.shape == middle.shape == (count, 2)


def test_series_of_any_length_have_no_joints() -> None:
    sampler, series = exact(pd.DataFrame({"v": process(3000)}))
    own = {"label": None, "seed": 0, "start": 0, "options": Options()}
    made = tasks.lengthened(sampler, series, 300, 150, **own)
    assert made.shape == (300, 1, 150)
    jumps = (np.diff(made[:, 0], axis=1) ** 2).mean(0)
    wanted = 2 * (1 - MEMORY)
    # The joints are where half a window ends: 31, 47, 63, ...
    joints = np.arange(31, 149, 16)
    assert jumps[joints].mean() == pytest.approx(np.delete(jumps, joints).mean(), rel=0.1)
    np.testing.assert_allclose(jumps, wanted, rtol=0.45)
    assert made[:, 0].std(0).min() > 0.85 and made[:, 0].std(0).max() < 1.15
    again = tasks.lengthened(sampler, series, 5, 150, **{**own, "start": 3})
    np.testing.assert_allclose(again[0], made[3], atol=1e-5)
    assert tasks.lengthened(sampler, series, 2, 9, **own).shape == (2, 1, 9)
    with pytest.raises(InputError, match="--length 0"):
        tasks.lengthened(sampler, series, 2, 0, **own)


def test_a_price_meets_the_level_behind_its_gap() -> None:
    """A bridge: of independent Gaussian changes it has the closed form of Brownian motion given both ends."""
    channel = Channel(Column("p", "number"), "change")
    random = np.random.default_rng(0)
    values = np.array([3.0, np.nan, np.nan, np.nan, 7.0])
    made = np.stack([channel.bridged(random.normal(size=5), values) for _ in range(20_000)])
    np.testing.assert_allclose(made[:, [0, 4]], [[3.0, 7.0]] * len(made))
    np.testing.assert_allclose(made.mean(0)[1:4], [4, 5, 6], atol=0.03)
    times = np.array([1, 2, 3]) / 4
    wanted = 4 * (np.minimum(times[:, None], times[None]) - times[:, None] * times[None])
    np.testing.assert_allclose(np.cov(made[:, 1:4].T), wanted, atol=0.04)
    prices = Channel(Column("p", "number"), "return")
    values = np.array([np.nan, 100.0, np.nan, 121.0, np.nan])
    whole = prices.bridged(np.array([9.0, 0.1, 0.5, 0.3, 0.2]), values)
    # Before: backwards; between: 21 % in two equal logarithms and what they miss; after: on and on.
    half = np.log(1.21) / 2
    np.testing.assert_allclose(whole, [100 / np.exp(0.1), 100, 100 * np.exp(half + 0.1), 121, 121 * np.exp(0.2)])
    assert np.isnan(values).sum() == 3 and (whole > 0).all()
    zero = prices.bridged(np.zeros(5), np.array([100.0, np.nan, 0.0, np.nan, 100.0]))
    np.testing.assert_allclose(zero, [100, 100, 0, 100, 100], err_msg="a price of 0 stays, and spoils no other")


class Still(nn.Module, Fills):
    """Fills in the median of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = nn.ModuleDict()

    def can_fill(self) -> bool:
        return True

    def fill(self, batch: Batch, request: Request, *, complete: bool) -> torch.Tensor:
        assert batch.observed is not None
        return batch.x * batch.observed


def test_each_price_goes_on_from_its_own_last_level() -> None:
    """Wherever another one ends, and though it has a gap there itself."""
    frame = prices(900)
    series = tl.open_data(frame, opening=Opening(window=16, columns=(("A", "change"), ("B", "return")))).modality
    assert isinstance(series, Series)
    sampler = Sampler(Still(), Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
    frame.loc[895:, "A"], frame.loc[896:897, "B"], frame.loc[899, "B"] = np.nan, np.nan, 0.0
    found = forecast(sampler, series, frame, horizon=3, draws=2, seed=0, options=Options()).draws[0]
    a, b = (float(each.column.from_scores(np.zeros(1))[0]) for each in series.channels)
    steps = np.arange(1, 4)
    np.testing.assert_allclose(found[0, :, 0], frame["A"][894] + a * (5 + steps), atol=2e-3)
    np.testing.assert_allclose(found[0, :, 1], frame["B"][898] * np.exp(b * (1 + steps)), atol=2e-3)


def test_files_beside_a_forecast_have_its_whole_name(tmp_path: Path) -> None:
    names = ("quantiles.csv", "png")
    for out, name, packed in (("f.a.csv", "f.a", ""), ("f.2024-05.CSV.gz", "f.2024-05", ".gz"), ("csv.csv", "csv", "")):
        beside, picture = companions(tmp_path / out, "quantiles")
        assert [beside.name.replace("CSV", "csv"), picture.name] == [f"{name}.{names[0]}{packed}", f"{name}.{names[1]}"]
    np.testing.assert_array_equal(significant(np.array([0.1 + 0.2, 3e-13, -7.0])), [0.3, 3e-13, -7.0])


def table(count: int = 700, seed: int = 1) -> pd.DataFrame:
    """Two shops, day by day, rows as they come: a level with a week, and a price."""
    parts = []
    for shop in range(2):
        random = np.random.default_rng([seed, shop])
        when = pd.date_range("2019-01-01", periods=count)
        sales = 20 + 5 * np.sin(2 * np.pi * np.arange(count) / 7) + random.normal(size=count)
        price = 50 * np.exp(np.cumsum(0.01 * random.normal(size=count)))
        own = {"shop": f"s{shop}", "note": "x", "day": when.strftime("%d/%m/%Y")}
        parts.append(pd.DataFrame({**own, "sales": sales.round().astype(int), "price": price.round(2)}))
    whole = pd.concat(parts)
    order = np.argsort(pd.to_datetime(whole["day"], format="%d/%m/%Y").to_numpy(), kind="stable")
    return whole.iloc[order].reset_index(drop=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    settings = {"training.previews": 0, "data.window": 16}
    tl.train(table(), model="vae", out=folder / "run", budget="2k", size="xs", settings=settings, quiet=True)
    return folder / "run"


def test_a_file_is_written_as_it_was(run: Path, tmp_path: Path) -> None:
    """Same rows, order, columns and decimals; what was there stays as it was written."""
    frame = table().astype(str)
    frame.loc[60:130, "price"] = "NA"
    frame.loc[100:110, "sales"] = ""
    frame.loc[0, "price"] = ""
    frame.to_csv(tmp_path / "gaps.csv", index=False, sep=";")
    out = tmp_path / "full.csv"
    command = ["impute", str(run), str(tmp_path / "gaps.csv"), "--draws", "3", "--out", str(out)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert sorted(each.name for each in tmp_path.glob("full*")) == [
        "full.csv", "full.draw1.csv", "full.draw2.csv", "full.draw3.csv",
    ]  # fmt: skip
    made = pd.read_csv(out, sep=";", dtype=str, keep_default_na=False)
    assert list(made) == list(frame) and len(made) == len(frame)
    for name in frame:
        same = ~frame[name].isin(["NA", ""])
        assert (made[name][same] == frame[name][same]).all()
    assert made["price"].str.fullmatch(r"\d+(\.\d{1,2})?").all() and made["sales"].str.fullmatch(r"-?\d+").all()
    # A price steps over neither edge of its gap.
    whole = made.assign(when=pd.to_datetime(made["day"], format="%d/%m/%Y"), price=made["price"].astype(float))
    for _, own in whole.sort_values("when").groupby("shop"):
        assert np.abs(np.diff(np.log(own["price"]))).max() < 0.08
    # From Python: a data frame like the one that was given.
    numbers = table()
    gaps = numbers.assign(price=numbers["price"].mask(np.arange(len(numbers)) % 50 < 20))
    gaps.index = gaps.index + 1000
    full = tl.load(run).impute(gaps, draws=2)
    assert (full.index == gaps.index).all() and (full.dtypes == gaps.dtypes).all() and full["price"].notna().all()
    again = tl.load(run).imputations(gaps, draws=2)
    pd.testing.assert_frame_equal(full, again[0])
    assert not again[1].equals(again[2])
    short = tl.load(run).impute(gaps[gaps["shop"] == "s1"].tail(9), draws=1)
    assert len(short) == 9 and short["price"].notna().all()
    with pytest.raises(InputError, match="--draws 0"):
        tl.load(run).impute(gaps, draws=0)


def test_strange_steps_raise_alarms(run: Path, tmp_path: Path) -> None:
    loaded, normal = tl.load(run), table(seed=5)
    own = table(seed=6)
    own["sales"] = own["sales"].astype(float)
    at = own.index[(own["shop"] == "s1")][300:310]
    own.loc[at, "sales"] = 45.0
    own.loc[own.index[own["shop"] == "s0"][100], "price"] *= 2
    found = loaded.detect(own, false_alarms=0.01, normal=normal)
    assert list(found) == [*own, "anomaly", "p_value", "alarm", "because", "point", "window"]
    assert found.loc[at, "alarm"].mean() > 0.8 and found.loc[at, "because"].str.startswith("sales").mean() > 0.8
    bare = found.drop(index=range(at[0] - 40, at[-1] + 40))
    assert bare["alarm"].mean() < 0.04
    jump = found[found["shop"] == "s0"].iloc[100]
    assert jump["alarm"] and jump["because"].startswith("price")
    # Of new steps like the normal ones as many raise an alarm as was asked for, on average.
    same = loaded.detect(table(seed=7), false_alarms=0.05, normal=normal)
    assert 0.01 < same["alarm"].mean() < 0.12
    own.to_csv(tmp_path / "new.csv", index=False)
    normal.to_csv(tmp_path / "normal.csv", index=False)
    command = ["detect", str(run), str(tmp_path / "new.csv"), "--normal", str(tmp_path / "normal.csv")]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out.csv")], catch_exceptions=False)
    assert done.exit_code == 0
    written = pd.read_csv(tmp_path / "out.csv")
    assert len(written) == len(own) and written["alarm"].sum() >= 8
    with pytest.raises(InputError, match="which is not here"):
        loaded.detect(own)
    with pytest.raises(InputError, match="cannot tell"):
        loaded.detect(own, normal=normal.tail(40), false_alarms=0.001)


class Sizes(nn.Module, Surprises):
    """Surprised by what is far from 0, of what it is given."""

    def surprise(self, batch: Batch) -> torch.Tensor:
        assert batch.observed is not None
        return batch.x.square() * batch.observed


def test_a_price_of_nothing_is_strange() -> None:
    """It has no logarithm: nobody may take it for a value that is not there."""
    frame = prices(900)
    series = tl.open_data(frame, opening=Opening(window=16)).modality
    assert isinstance(series, Series) and all(each.kind == "return" for each in series.channels)
    sampler = Sampler(Sizes(), Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
    frame.loc[500, "B"], frame.loc[700, "A"] = 0.0, -3.0
    found = detect(sampler, series, frame, false_alarms=0.01, normal=prices(900, seed=4), seed=0)
    assert found.alarms[[500, 700]].all() and set(np.argsort(-found.scores)[:2]) == {500, 700}
    because = found.columns()["because"]
    assert because[500].startswith("B") and because[700].startswith("A")
    normal = detect(sampler, series, frame, false_alarms=0.01, normal=frame, seed=0)
    assert np.isfinite(normal.scores).all() and normal.p_values[500] > found.p_values[500]


def test_means_around_each_step() -> None:
    values = np.random.default_rng(0).normal(size=(20, 2))
    for length in (1, 4, 7, 30):
        before = (length - 1) // 2
        wanted = [values[max(i - before, 0) : i - before + length].mean(0) for i in range(20)]
        np.testing.assert_allclose(around(values, length), wanted)


def prices(count: int = 1600, seed: int = 3) -> pd.DataFrame:
    """Two prices of business days whose spread comes in bunches."""
    random = np.random.default_rng(seed)
    spread = 0.01 * np.exp(process(count, seed, 0.98) * 0.4)[:, None]
    shocks = spread * (random.standard_t(6, (count, 2)) + 0.7 * random.normal(size=(count, 1)))
    levels = 50 * np.exp(np.cumsum(shocks, 0))
    when = pd.bdate_range("2012-01-02", periods=count).strftime("%Y-%m-%d")
    return pd.DataFrame({"day": when, "A": levels[:, 0].round(3), "B": levels[:, 1].round(3)})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    settings = {"training.previews": 0, "data.window": 16}
    tl.train(prices(), model="diffusion", out=folder / "run", budget="2k", size="xs", settings=settings, quiet=True)
    return folder / "run"


def test_risk_of_a_portfolio(market: Path, tmp_path: Path) -> None:
    frame = prices()
    frame.to_csv(tmp_path / "p.csv", index=False)
    command = [
        "risk",
        str(market),
        str(tmp_path / "p.csv"),
        "--weights",
        "A=60%,B=0.4",
        "--draws",
        "16",
        "--steps",
        "4",
    ]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "r.csv")], catch_exceptions=False)
    assert done.exit_code == 0 and "Kupiec" in done.stderr
    made, tests = pd.read_csv(tmp_path / "r.csv"), pd.read_csv(tmp_path / "r.tests.csv")
    assert (tmp_path / "r.png").stat().st_size > 5000 and len(made) == 240 and tests["way"].tolist()[0] == "model"
    # Losses are those of the prices, and history's value at risk is the quantile of the 500 before.
    gain = frame.set_index("day")[["A", "B"]].pct_change() @ [0.6, 0.4]
    np.testing.assert_allclose(made["loss"][:-1], -gain[made["time"][1:]], atol=1e-9)
    day = made["time"][100]
    past = gain[: list(gain.index).index(day) + 1][-500:]
    assert made["var_history"][100] == pytest.approx(-np.quantile(past, 0.01, method="weibull"))
    assert 0.3 < made["var_model"].mean() / made["var_history"].mean() < 2
    assert (made["es_model"] >= made["var_model"] - 1e-12).all()
    loaded = tl.load(market)
    assert len(loaded.risk(frame, horizon=3, draws=8, most=10, steps=2).frame()) == 11
    for settings, message in (
        ({"weights": "A=0.5,C=1"}, "column 'C'"), ({"horizon": 9}, "half of the run's"), ({"draws": 2}, "least 8"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            loaded.risk(frame, **settings)


def test_risk_of_an_exact_model() -> None:
    """Independent Gaussian changes: value at risk over two steps in closed form, for a model that knows them."""
    values = np.cumsum(2.0 * np.random.default_rng(0).normal(size=4000))
    frame = pd.DataFrame({"p": values})
    opening = Opening(window=16, kind="series", columns=(("p", "change"),))
    series = tl.open_data(frame, opening=opening).modality
    model: Any = Exact(16, 0.0)
    sampler = Sampler(model, Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))
    own: dict[str, Any] = {"weights": "p=-3", "level": 0.95, "horizon": 2, "draws": 400, "most": 30}
    found = risk(sampler, series, frame, **own, seed=0, options=Options())
    var, shortfall = gaussian(np.zeros(1), np.array([3 * 2 * 2**0.5]), 0.95)
    assert found.value_at_risk["model"].mean() == pytest.approx(var[0], rel=0.06)
    assert found.shortfall["model"].mean() == pytest.approx(shortfall[0], rel=0.06)
    assert found.value_at_risk["history"].mean() == pytest.approx(var[0], rel=0.15)
    assert found.value_at_risk["gaussian"].mean() == pytest.approx(var[0], rel=0.15)
    np.testing.assert_allclose(found.loss[:-1], 3 * (values[-61:][2::2] - values[-61:][:-2:2]), rtol=1e-9)


def test_a_gap_does_not_void_a_backtest() -> None:
    frame = pd.DataFrame({"p": process(600)})
    sampler, series = exact(frame, window=16)
    frame.loc[560, "p"] = np.nan  # at an origin
    own: dict[str, Any] = {"weights": "p=1", "level": 0.9, "horizon": 1, "draws": 20, "most": 60}
    found = risk(sampler, series, frame, **own, seed=0, options=Options())
    assert all(np.isfinite(each).all() for each in (*found.value_at_risk.values(), *found.shortfall.values()))


def test_a_backtest_counts_only_what_is_known() -> None:
    frame = pd.DataFrame({"p": process(600)})
    sampler, series = exact(frame, window=16)
    own: dict[str, Any] = {"weights": "p=1", "level": 0.9, "horizon": 1, "draws": 20, "seed": 0, "options": Options()}
    frame.loc[:559, "p"] = np.nan  # one that begins late
    found = risk(sampler, series, frame, **own | {"most": 60})
    tests, made = found.tests().set_index("way"), found.frame()
    assert tests.loc["history", "forecasts"] == 37 and tests.loc["model", "forecasts"] == 39
    assert np.isfinite(found.value_at_risk["adjusted"][-30:]).all() and np.isfinite(tests["var_next"]).all()
    assert (tests["expected"] == (0.1 * tests["forecasts"]).round(1)).all()
    assert made["violation_history"].isna().sum() == 61 - 37 and "unknown" not in found.said()
    frame["p"] = np.nan
    lost = risk(sampler, series, frame, **own | {"most": 60})
    assert "0 of 0 losses" in lost.said() and "cannot tell" in lost.said() and "next: unknown" in lost.said()
    for settings, message in (
        ({"most": 1}, "--most 1: at least 2"), ({"most": 0}, "--most 0: at least 2"), ({"level": 95.0}, "--level 95: "),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            risk(sampler, series, frame, **{"most": 60, **own, **settings})


def test_a_backtest_keeps_out_of_what_was_learned() -> None:
    """Of a file that ends earlier than the run's the last 15 % are no test: it begins where the run's own does."""
    day = pd.date_range("2019-01-01", periods=800)
    frame = pd.DataFrame({"day": day, "p": process(800)})
    sampler, series = exact(frame, window=16, calendar=True)
    own: dict[str, Any] = {"weights": "p=1", "level": 0.9, "horizon": 1, "draws": 20, "seed": 0, "options": Options()}
    own["most"] = None
    whole, shorter = (
        risk(sampler, Series.from_description(series.describe()), frame[:end], **own) for end in (800, 730)
    )
    assert (whole.times[0], len(whole.loss), whole.note) == (str(day[680].date()), 120, "")
    assert (shorter.times[0], len(shorter.loss)) == (str(day[680].date()), 50)
    assert f"begins at {day[680].date()}" in shorter.note and shorter.said().startswith(shorter.note)
    with pytest.raises(InputError, match=f"too short for a backtest: .*begins at {day[680].date()}"):
        risk(sampler, series, frame[:600], **own)
    _, counted = exact(frame[["p"]], window=16)
    (least, begin), note = counted.unseen(Rows("", np.arange(600), np.zeros((600, 1))))
    assert (least, begin) == (420, 510) and "before step 680 of its own series" in note


def test_a_price_of_nothing_is_no_backtest() -> None:
    frame = prices(900)
    series = tl.open_data(frame, opening=Opening(window=16)).modality
    own: dict[str, Any] = {"weights": "A=1", "level": 0.9, "horizon": 1, "draws": 8, "most": 20}
    frame.loc[860, ["A", "B"]] = 0.0
    with pytest.raises(InputError, match=f"column 'A' is 0 at {frame['day'][860]}; it is learned by its returns"):
        risk(None, series, frame, **own, seed=0, options=Options())  # type: ignore[arg-type]


def test_made_series_of_months_begin_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, series = exact(pd.DataFrame({"v": process(720)}), window=16)
    when = pd.date_range("1960-01-01", periods=720, freq="MS").strftime("%Y-%m-%d")
    months = tl.open_data(pd.DataFrame({"time": when, "v": process(720)})).modality
    assert isinstance(months, Series) and months.clock.months == 1
    series, begins, after = replace(series, clock=months.clock), [], Clock.after

    def told(clock: Clock, last: int, count: int) -> np.ndarray:
        begins.append(last)
        return after(clock, last, count)

    monkeypatch.setattr(Clock, "after", told)
    tasks.lengthened(sampler, series, 6, 20, seed=0, start=0, label=None, options=Options())
    assert len(set(begins)) == 6


def test_scenarios_meet_their_conditions(
    market: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trilemma.tasks.stress.FIRST", 250)
    command = ["stress", str(market), "--where", "A return < -2% and max(B) > 1", "-n", "30", "--horizon", "8"]
    command += ["--weights", "A=50%,B=0.5", "--level", "95%"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "s.csv")], catch_exceptions=False)
    assert done.exit_code == 0 and "by the model the probability of 'A return < -2%" in done.stderr
    assert "loss of A=50%,B=0.5 given it" in done.stderr and "value at risk (0.95)" in done.stderr
    made = pd.read_csv(tmp_path / "s.csv")
    last = prices()["A"].iloc[-1]
    ends = made[made["step"] == 7]["A"]
    assert len(made) == 240 and len(ends) == 30 and (ends / last - 1 < -0.02).all()
    loaded = tl.load(run)
    paths = loaded.stress("sales at 3 = 30 and price drawdown < 50%", n=20, label="s1")
    assert paths.shape == (20, 16, 2) and np.abs(paths[:, 2, 0] - 30).max() <= 1
    for where, message in (
        ("C return < 1", "column 'C'"),
        ("A retrun < 1", "statistic of a path"), ("A return = 1", "one exact value"), ("A", "is no condition"),
        ("A at 99 < 1", "the steps 1 to 16"), ("min(A) < x", "is no number"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            tl.load(market).stress(where, n=3)
    for own, message in (({"weights": "C=1"}, "column 'C'"), ({"level": 99.0}, "--level 99"), ({"n": 0}, "-n 0")):
        with pytest.raises(InputError, match=message):
            tl.load(market).scenarios("A return < 1", **own)


def test_statistics_of_paths() -> None:
    levels, before = np.array([[3.0, 6.0, 2.0, 4.0]]), np.array([4.0])
    wanted = {"min": 2, "max": 6, "mean": 3.75, "sum": 15, "first": 3, "last": 4, "change": 0, "return": 0}
    wanted |= {"drawdown": 2 / 3, "deviation": levels.std()}
    assert {name: act(levels, before)[0] for name, act in STATISTICS.items()} == pytest.approx(wanted)
    channels = [Channel(Column("my load (MW)", "number"), "level"), Channel(Column("x", "number"), "change")]
    made = parse('min("my load (MW)") <= 10 and x change > 5% and x at 2 > -1e3', channels, 4)
    assert [(each.place, each.statistic, each.step, each.sign, each.value) for each in made] == [
        (0, "min", 0, "<=", 10.0), (1, "change", 0, ">", 0.05), (1, "at", 1, ">", -1000.0),
    ]  # fmt: skip


def test_what_a_series_trains_to_fill_in() -> None:
    """Half of the parts given are beginnings, a third all but one stretch of some channels, a sixth single elements."""
    masks = Continuous((3, 64)).portion(Noise(0, np.arange(3000))).numpy()
    turns = np.abs(np.diff(masks.astype(int), axis=2)).sum(2)  # how often each channel changes
    begins = masks[:, :, 0].all(1) & (turns <= 1).all(1) & (masks == masks[:, :1]).all((1, 2))
    single = (turns > 4).any(1)
    hidden = ~single & ~begins
    assert begins.mean() == pytest.approx(0.5 + 1 / 24, abs=0.05)  # and stretches of no channel, or of all to the end
    assert single.mean() == pytest.approx(1 / 6, abs=0.04) and hidden.mean() == pytest.approx(7 / 24, abs=0.05)
    assert (turns[hidden] <= 2).mean() > 0.95  # single elements of which hardly any, or hardly none, is given
    always = Continuous((3, 64), always=(2,)).portion(Noise(0, np.arange(50)))
    assert bool(always[:, 2].all())


def _denoiser_of_windows(labels: int = 0) -> tuple[Diffusion, Batch]:
    x = np.random.default_rng(0).normal(size=(8, 2, 16)).astype(np.float32)
    spaces: dict[str, Space] = {"x": fit_continuous(x)}
    conditions = {}
    if labels:
        spaces["label"], conditions["label"] = Categorical((1,), labels), np.zeros((8, 1), dtype=np.int64)
    observed = np.ones(x.shape, dtype=bool)
    observed[:, :, 8:] = False
    model = Diffusion(configure("diffusion", spaces, size="xs"), spaces)
    return model, Arrays(x, observed=observed, conditions=conditions).gather(np.arange(8))


def test_laws_of_series_have_their_width() -> None:
    """Of a Gaussian law the ideal denoiser is known: draws are as wide as it within 3 % (12 steps: 10 %)."""
    model, _ = _denoiser_of_windows()
    assert not any(answer.steps for question in model.choices() for answer in question)
    sigmas = model.grid(model.config.steps)
    for deviation in (1.0, 0.5, 0.2, 0.1):

        def denoise(y: torch.Tensor, s: float, variance: float = deviation**2) -> torch.Tensor:
            return y * variance / (variance + s**2)

        start = torch.ones(1, dtype=torch.float64) * (sigmas[0] ** 2 + 1).sqrt()  # one deviation of what is begun with
        found = samplers.SAMPLERS[model.config.sampler](denoise, start, sigmas)
        assert float(found) == pytest.approx(deviation, rel=0.03)


def test_what_is_filled_in_is_not_guided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance narrows a law: none where something is filled in, but for one who asks for it."""
    model, batch = _denoiser_of_windows(labels=2)
    asked: list[float | None] = []

    def drawn(request: Request, given: object) -> torch.Tensor:
        asked.append(request.options.guidance)
        return torch.zeros_like(batch.x)

    monkeypatch.setattr(model, "drawn", drawn)
    for options in (Options(), Options(guidance=2.0)):
        model.fill(batch, Request(batch.noise, batch.raw, batch.present, options), complete=True)
    assert model.config.guidance == 1.5 and asked == [1.0, 2.0]


def test_what_was_chosen_by_looks_decides_no_law(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, seen = tl.load(run), []
    loaded.options = Options(steps=4, guidance=3.0, prior="normal")
    monkeypatch.setattr("trilemma.tasks.forecast.forecast", lambda *_, options, **__: seen.append(options))
    loaded.forecast(table(), horizon=2)
    assert seen == [Options(guidance=1.0, prior="normal")]
    with pytest.raises(InputError, match="--steps 8: vae has no such setting"):
        loaded.forecast(table(), horizon=2, steps=8)


class Means(nn.Module, Encodes, Decodes):
    """Two codes: nothing, and the mean of a window, which is decoded to a window of it."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = nn.ModuleDict()

    def draw(self, request: Request) -> torch.Tensor:
        raise NotImplementedError

    def encode(self, batch: Batch, *, random: bool = False) -> torch.Tensor:
        mean = batch.x[:, 0].mean(1)
        return torch.stack([torch.zeros_like(mean), mean], 1)

    def decode(self, codes: torch.Tensor, request: Request) -> torch.Tensor:
        return codes[:, 1:, None].expand(-1, 7, 32)


def test_codes_are_held_against_known_factors(tmp_path: Path) -> None:
    """A code that is the mean of its window goes with that mean, month by month; it does not with mere noise."""
    frame = pd.DataFrame({"day": pd.date_range("2000-01-01", periods=4000), "v": process(4000, memory=0.99)})
    series = tl.open_data(frame, opening=Opening(window=32, columns=(("v", "level"),))).modality
    assert isinstance(series, Series)
    sampler = Sampler(Means(), Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
    month = frame["day"].dt.strftime("%Y%m")
    monthly = frame.groupby(month)["v"].mean()
    other = np.random.default_rng(5).normal(size=len(monthly))
    factors = pd.DataFrame({"Date": monthly.index, "own": monthly.to_numpy(), "other": other})
    factors.to_csv(tmp_path / "factors.csv", index=False)
    found = known_factors(sampler, series, frame, str(tmp_path / "factors.csv"), codes=1, seed=0)
    assert list(found) == ["factor", "code", "deviation", "correlation", "low", "high", "moves v"]
    assert found["code"].tolist() == ["all", "1"] * 2 and found.loc[0, "correlation"] > 0.85
    assert found.loc[2, "low"] < 0.1 and np.isnan(found.loc[0, "moves v"])
    own, other_one = found.loc[1], found.loc[3]
    assert own["correlation"] > 0.85 and own["low"] > 0.7 and own["high"] <= 1
    assert other_one["low"] < 0 < other_one["high"]
    assert own["moves v"] == pytest.approx(frame["v"][:2800].std() * own["deviation"], rel=0.15)
    with pytest.raises(InputError, match="lie within its time"):
        known_factors(sampler, series, frame[:100], str(tmp_path / "factors.csv"), codes=1, seed=0)


def test_factors_are_averaged_over_a_window() -> None:
    rows = Rows("", np.array([0, 10, 30]), np.array([[1.0], [4.0], [np.nan]]))  # the last one holds 20 seconds, too
    spans = np.array([[0, 10], [5, 20], [25, 40], [-1, 5], [35, 51], [31, 45]])
    expected = [1, (5 * 1 + 10 * 4) / 15, 4, np.nan, np.nan, np.nan]
    np.testing.assert_allclose(_averaged(rows, 0, spans), expected)


class Blurred(nn.Module, Surprises):
    """Surprised by what is far from 0, and half as much by what stands up to four steps beside it."""

    def surprise(self, batch: Batch) -> torch.Tensor:
        assert batch.observed is not None
        own = (batch.x * batch.observed).square()
        near = torch.nn.functional.max_pool1d(own, 9, 1, 4) / 2
        return torch.maximum(own, near) * batch.observed


def test_one_strange_step_is_one_alarm() -> None:
    """However strange it is: not one of its whole stretch, nor of the steps beside it that surprise for its sake."""
    random, count = np.random.default_rng(0), 4000
    frame = pd.DataFrame({"t": np.arange(count), "v": random.normal(size=count).round(3)})
    series = tl.open_data(frame, opening=Opening(kind="series", window=64)).modality
    assert isinstance(series, Series)
    sampler = Sampler(Blurred(), Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
    normal = pd.DataFrame({"t": np.arange(count), "v": random.normal(size=count).round(3)})
    spots, odd = np.arange(200, 1000, 100), frame.copy()
    odd.loc[spots, "v"] = 30.0
    odd.loc[2000:2029, "v"] = 2.2 * random.choice([-1, 1], 30)  # none of which is strange by itself
    clean, found = (
        detect(sampler, series, each, false_alarms=0.01, normal=normal, seed=0).alarms for each in (frame, odd)
    )
    added = np.flatnonzero(found & ~clean)
    assert found[spots].all() and found[2005:2025].mean() > 0.8
    single = added[added < 1900]
    assert (np.abs(single[:, None] - spots).min(1) <= 2).mean() > 0.7, single
    cells = np.zeros((30, 1))
    cells[[10, 11, 12, 18, 25], 0] = [5, 6, 5, 4.65, 4.7]
    assert np.flatnonzero(peaks(cells, 0.01)).tolist() == [11, 25]
