"""What the Space of a series knows: columns that keep one value for a day or a week, few levels, calendars."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import trilemma as tl
import trilemma.modalities.series as series_module
from trilemma.batches import Options, Request
from trilemma.maths.noise import Noise
from trilemma.maths.rounds import over_rounds, rounds
from trilemma.mixed import space_from
from trilemma.modalities.channels import Channel
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Opening
from trilemma.modalities.series import Series
from trilemma.models.contract import Fills, Now, configure
from trilemma.models.diffusion import Diffusion
from trilemma.report.baselines import pca_gaussian
from trilemma.spaces import Continuous, Space
from trilemma.tasks.series import fill
from trilemma.training.sampling import Sampler


def hourly(days: int = 120, begin: str = "2024-01-01 07:00") -> pd.DataFrame:
    """Counts of hours, a temperature and rain of days, and an alarm that rings in few hours."""
    random = np.random.default_rng(0)
    when = pd.date_range(begin, periods=24 * days, freq="h")
    day = (when.floor("D") - when[0].floor("D")).days.to_numpy()
    warm, rain = random.normal(10, 4, day[-1] + 1).round(1), random.exponential(3, day[-1] + 1).round(1)
    rain[random.uniform(size=len(rain)) < 0.5] = 0.0
    return pd.DataFrame(
        {
            "time": when,
            "count": np.round(20 + 10 * np.sin(when.hour / 24 * 2 * np.pi) + random.normal(0, 3, len(when))),
            "warm": warm[day],
            "rain": rain[day],
            "alarm": (random.uniform(size=len(when)) < 0.01) * random.uniform(1, 2, len(when)).round(2),
        }
    )


def opened(frame: pd.DataFrame, **how: Any) -> tuple[tl.Data, Series, Continuous]:
    data = tl.open_data(frame, opening=Opening(kind="series", **how))
    series, space = data.modality, data.spaces["x"]
    assert isinstance(series, Series) and isinstance(space, Continuous)
    return data, series, space


def test_daily_values_are_recognised() -> None:
    data, series, space = opened(hourly(), window=72)
    assert [each.circle for each in series.channels] == ["", "hour of day", "hour of day", ""]
    assert data.facts["columns"]["rain"] == "number, one value a day"
    assert [each[0] for each in space.steady] == [1, 2] and {each.steps for each in space.steady} == {24}
    again = space_from(space.describe())
    assert isinstance(again, Continuous) and again.steady == space.steady
    described = space.describe()
    described["held"] = described.pop("steady")  # their name in runs of before
    before = space_from(described)
    assert isinstance(before, Continuous) and before.steady == space.steady and before.describe() == space.describe()
    assert Series.from_description(series.describe()).channels[1].circle == "hour of day"


def test_values_of_the_hour_are_not_daily_ones() -> None:
    frame = hourly()
    frame.loc[frame.index % 5 == 2, "warm"] += 0.1
    _, series, _ = opened(frame, window=72)
    assert [each.circle for each in series.channels] == ["", "", "hour of day", ""]


def test_weekly_values_among_daily_ones() -> None:
    when = pd.date_range("2020-01-01", periods=700, freq="D")
    random = np.random.default_rng(1)
    week = ((when - pd.Timestamp("2019-12-30")).days // 7).to_numpy()
    values = random.normal(size=week[-1] + 1).round(3)[week]
    frame = pd.DataFrame({"date": when, "sold": random.normal(size=700).round(2), "price": values})
    _, series, space = opened(frame)
    assert [each.circle for each in series.channels] == ["", "day of week"] and space.steady[0].steps == 7


def test_a_day_has_one_score() -> None:
    data, _, space = opened(hourly(), window=72)
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:50]]))
    days = rounds(x[:, space.steady[0].sine], x[:, space.steady[0].cosine], 24)
    for channel in (1, 2):
        for window, own in zip(x[:, channel], days, strict=True):
            for day in own.T:
                assert len(window[day > 0].unique()) <= 1
    # Dry days are apart: equal values of different days have scores of their own.
    dry = x[0, 2][x[0, 2] < 0]
    assert len(dry.unique()) > 1 or len(dry) < 48


def test_days_are_found_under_noise() -> None:
    angle = 2 * torch.pi * (torch.arange(100) + 5) / 24
    noise = Noise(0, np.arange(200))
    sine = 1.4 * angle.sin() + 0.3 * noise.normal(100)
    cosine = 1.4 * angle.cos() + 0.3 * noise.normal(100)
    own = rounds(sine, cosine, 24)
    assert own.shape == (200, 100, 6)
    begins = own.argmax(2).diff(dim=1) > 0
    expected = torch.zeros(99, dtype=torch.bool)
    expected[18::24] = True
    assert bool((begins == expected).all(1).float().mean() > 0.99)


def test_what_is_made_keeps_still() -> None:
    data, _, space = opened(hourly(), window=72)
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:64]]))
    noisy = (space.embed(x) + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    made = space.decode(noisy)
    own = rounds(x[:, space.steady[0].sine], x[:, space.steady[0].cosine], 24)
    for channel in (1, 2):
        values, places = made[:, channel].detach(), own.argmax(2)
        same = places.diff(dim=1) == 0
        assert bool((values.diff(dim=1)[same] == 0).all())
        whole = (own.sum(1) == 24).nonzero()[:20]
        for window, day in whole:
            here = own[window, :, day] > 0
            mean = (noisy[window, channel] * space.deviation[channel] + space.mean[channel])[here].mean()
            torch.testing.assert_close(values[window][here][0], mean.detach())
    torch.testing.assert_close(space.decode(space.embed(x)), x, atol=1e-5, rtol=1e-5)
    # A generator's rows are the same for its critic, and it learns by them.
    relaxed = space.relax(noisy)
    torch.testing.assert_close(space.decode(relaxed), made)
    relaxed[:, 1].sum().backward()
    assert noisy.grad is not None and bool((noisy.grad[:, 1] != 0).all())


def test_noise_of_a_law_is_that_of_days() -> None:
    data, _, space = opened(hourly(), window=72)
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:1]])).expand(2000, -1, -1)
    noise, scale = Noise(3, np.arange(2000)), torch.full((x.shape[1],), -1.0)
    scale[4:] = -20.0
    drawn = space.embed(space.realise(space.embed(x), noise, log_scale=scale)) - space.embed(x)
    for channel in (0, 1, 2):
        assert drawn[:, channel].std().item() == pytest.approx(np.exp(-1), rel=0.03)


def test_what_is_known_of_a_day_is_known_of_all_of_it() -> None:
    data, series, space = opened(hourly(), window=72)
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:40]]))
    observed = torch.zeros(x.shape, dtype=torch.bool)
    observed[:, series.told :] = True
    observed[:, :, :30] = True
    given, known = space.deduced(torch.where(observed, x, 7.0), observed)
    day = rounds(x[:, space.steady[0].sine], x[:, space.steady[0].cosine], 24).argmax(2)
    expected = observed.clone()
    for channel in (1, 2):
        expected[:, channel] = day <= day[:, 29:30]
    assert torch.equal(known, expected)
    torch.testing.assert_close(given[known], x[known])
    assert bool((given[~known] == 7).all())
    # Without the calendar nothing follows.
    observed[:, series.told :] = False
    assert torch.equal(space.deduced(x, observed)[1], observed)


def test_a_model_fills_in_the_rest_of_days() -> None:
    data, _, space = opened(hourly(), window=72)

    class Zeros(torch.nn.Module, Fills):
        def __init__(self, space: Continuous):
            super().__init__()
            self.spaces, self.space = torch.nn.ModuleDict({"x": space}), space

        def can_fill(self) -> bool:
            return True

        def fill(self, batch: Any, request: Any, *, complete: bool) -> torch.Tensor:
            return torch.where(batch.observed, batch.x, torch.zeros_like(batch.x))

    engine = SimpleNamespace(device="cpu", autocast=torch.inference_mode)
    sampler = Sampler(Zeros(space), engine, frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
    x = np.asarray(data.x[data.splits["train"][:4]])
    observed = np.ones(x.shape, dtype=bool)
    observed[:, 1, 30:] = False
    made = fill(sampler, x, observed, seed=0, index=np.arange(4), label=None, options=Options())
    day = rounds(torch.from_numpy(x[:, 4]), torch.from_numpy(x[:, 5]), 24).argmax(2).numpy()
    rest = day > day[:, 29:30]
    assert (made[:, 1][rest] == 0).all()
    np.testing.assert_allclose(made[:, 1][~rest], x[:, 1][~rest], rtol=1e-6)


def test_windows_that_are_read_back_have_days(tmp_path: Path) -> None:
    data, series, space = opened(hourly(), window=72)
    x = np.asarray(data.x[data.splits["test"][:6]])
    series.save(x, tmp_path / "made.csv")
    again, _ = series.read(tmp_path / "made.csv", space)
    for channel in (1, 2):
        for there, back in zip(x[:, channel], again[:, channel], strict=True):
            assert len(np.unique(back)) == len(np.unique(there))
            np.testing.assert_array_equal(np.diff(back) != 0, np.diff(there) != 0)


def test_nothing_lies_between_few_levels() -> None:
    """Degrees Fahrenheit in Celsius, and a sensor of coarse steps: in hours and in days."""
    frame = hourly(400)
    frame["warm"] = (((frame["warm"] * 1.8 + 32).round() - 32) / 1.8).round(1)
    frame["load"] = (frame["count"] // 7 * 7).astype(float) / 10
    data, series, space = opened(frame, window=72)
    count, warm, load = (series.channels[place] for place in (0, 1, 4))
    assert set(warm.values) == set(frame["warm"][: int(0.7 * len(frame))]) and load.values
    assert len(count.values) < 80  # whole numbers that come again and again
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:64]]))
    noise = Noise(0, np.arange(64)).normal(*x.shape[1:])
    made = series.decode(space.decode(space.embed(x) + 0.1 * noise).numpy())[:, :, 1]
    inside = (made >= warm.values[0]) & (made <= warm.values[-1])
    assert set(made[inside]) <= set(warm.values) and len(np.unique(made)) > 20
    beyond = warm.from_scores(np.array([[-5.0, 5.0]]))[0]  # ends are no limits
    assert beyond[0] < warm.values[0] and beyond[1] > warm.values[-1]
    again = Series.from_description(series.describe())
    assert again.channels[1].values == warm.values
    assert not {"values", "circle"} & Channel(Column("a", "number"), "level").describe().keys()


def test_samples_have_calendars_of_training_windows() -> None:
    data, series, space = opened(hourly(), window=72)
    spaces: dict[str, Space] = {"x": space}
    model = Diffusion(configure("diffusion", spaces, size="xs"), spaces)
    for parameter in model.parameters():  # so that the network says something
        torch.nn.init.normal_(parameter, std=0.02)
    with torch.no_grad():
        x = model.sample(Request(Noise(5, np.arange(64)), options=Options(steps=3))).numpy()
    kept = np.asarray(data.x[data.splits["train"]])[:, series.told :]
    known = {window.tobytes() for window in kept}
    assert all(window.tobytes() in known for window in x[:, series.told :])
    assert len({window.tobytes() for window in x[:, series.told :]}) > 40
    # Sample i does not depend on the others.
    with torch.no_grad():
        alone = model.sample(Request(Noise(5, np.arange(7, 8)), options=Options(steps=3))).numpy()
    np.testing.assert_allclose(alone[0], x[7], atol=1e-4)
    # Edited windows keep theirs.
    own = np.asarray(data.x[data.splits["test"][:8]])
    with torch.no_grad():
        edited = model.redraw(
            torch.from_numpy(own), Request(Noise(0, np.arange(8)), options=Options(steps=6)), strength=0.5
        )
    np.testing.assert_allclose(edited[:, series.told :].numpy(), own[:, series.told :], atol=1e-5)
    assert np.abs(edited[:, : series.told].numpy() - own[:, : series.told]).mean() > 0.1


def test_most_windows_are_told_their_calendar_in_training() -> None:
    data, series, space = opened(hourly(), window=72)
    spaces: dict[str, Space] = {"x": space}
    model = Diffusion(configure("diffusion", spaces, size="xs"), spaces)
    seen: list[torch.Tensor] = []
    output = model.output

    def watched(y: torch.Tensor, sigma: torch.Tensor, cond: Any, known: Any = None) -> Any:
        seen.append(known)
        return output(y, sigma, cond, known)

    model.output = watched  # type: ignore[method-assign]
    batch = data.split("train").gather(np.arange(2000) % 500, seed=0, index=np.arange(2000))
    turn = next(iter(model.losses(batch, Now(0, 0, 1000))))
    known = seen[0]
    calendar = known[:, series.told :].flatten(1)
    told = calendar.all(1)
    assert bool((told | ~calendar.any(1)).all())
    share = model.config.given + (1 - model.config.given) * 0.9
    assert told.float().mean().item() == pytest.approx(share, abs=0.03)
    alone = told & ~known[:, : series.told].flatten(1).any(1)
    assert alone.float().mean().item() == pytest.approx((1 - model.config.given) * 0.9, abs=0.06)
    assert turn.loss.isfinite()


def test_scenes_travel_with_the_space() -> None:
    _, series, space = opened(hourly(), window=72)
    again = space_from(space.describe())
    again.load_state_dict(space.state_dict())
    assert isinstance(again, Continuous) and again.stage == len(series.calendar) == space.stage > 0
    assert torch.equal(again.scenes, space.scenes) and len(space.scenes) <= 1024
    # A run from before has none, and draws its calendars with the rest.
    old = {name: value for name, value in space.describe().items() if name not in ("scenes", "steady")}
    before = space_from(old)
    assert before.stage == 0 and before.scene(Noise(0, np.arange(3))) is None
    assert set(before.state_dict()) == {"mean", "deviation"}


def test_days_are_found_in_half_precision() -> None:
    """Weeks of hours, days of minutes: under autocast a product of matrices would move their beginnings."""
    for steps, window in ((24, 168), (168, 168), (288, 128), (1440, 240)):
        angle = 2 * torch.pi * (torch.arange(window) + torch.arange(0, steps, 7).unsqueeze(1)) / steps
        sine, cosine = 2**0.5 * angle.sin(), 2**0.5 * angle.cos()
        exact = (torch.arange(window) + torch.arange(0, steps, 7).unsqueeze(1)) // steps
        with torch.autocast("cpu", torch.bfloat16):
            own = rounds(sine, cosine, steps)
            shared = over_rounds(angle, own, own.sum(1))
        assert torch.equal(own.argmax(2), exact)
        torch.testing.assert_close(shared, over_rounds(angle, own, own.sum(1)))


def test_a_value_once_a_day_is_known_all_day() -> None:
    frame = hourly()
    once = frame["time"].dt.hour == 12
    frame["warm"] = frame["warm"].where(once)
    frame.loc[frame.index[500:530], "rain"] = np.nan
    data, series, space = opened(frame, window=72)
    assert [each.circle for each in series.channels[:3]] == ["", "hour of day", "hour of day"]
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"]]))
    if data.observed is not None:
        assert data.observed[:, 1].mean() > 0.95 and data.observed[:, 2].mean() > 0.99
    same = (space.decode(space.embed(x))[:, 1] - x[:, 1]).abs() < 1e-3
    assert same.float().mean() > 0.95


def test_columns_of_few_windows_and_of_levels_that_last() -> None:
    frame = hourly()
    frame["warm"] = frame["warm"].where(frame["time"].dt.hour == 12)
    assert opened(frame, window=24)[1].window == 24
    # A value of six hours is no grid of levels; neither is one that comes every three.
    random = np.random.default_rng(2)
    frame["slow"] = np.repeat(random.normal(size=len(frame) // 6), 6)
    assert not opened(frame, window=72)[1].channels[-1].values
    every = hourly(400, "2024-01-01 06:00").iloc[::3].reset_index(drop=True)
    _, series, space = opened(every)
    assert [each.circle for each in series.channels[:3]] == ["", "hour of day", "hour of day"]
    assert {each.steps for each in space.steady} == {8}


def test_a_scenario_has_whole_days_and_a_calendar(tmp_path: Path) -> None:
    run = tl.train(
        hourly(), model="diffusion", budget=64, size="xs", out=tmp_path / "run", settings={"data.window": 48}
    )
    found = tl.load(run).stress("warm at 30 = 20", n=6, seed=0)
    levels = found if isinstance(found, np.ndarray) else np.asarray(found)
    assert (levels[:, 29, 1] == 20).all() or (levels[:, 30, 1] == 20).all()
    changes = (np.diff(levels[:, :, 1], axis=1) != 0).sum(1)
    assert (changes <= 2).all()


def test_a_run_that_knew_less_goes_on(tmp_path: Path) -> None:
    """One from before Spaces kept calendars: it is resumed, and another begins with it."""
    frame = hourly()[["time", "count"]]
    how: dict[str, Any] = {"model": "diffusion", "budget": 64, "size": "xs", "settings": {"data.window": 48}}
    spaces = series_module.fit_continuous
    try:
        series_module.fit_continuous = lambda *a, calendar, **k: spaces(*a, **k)  # type: ignore[assignment]
        tl.train(frame, out=tmp_path / "old", **how)
    finally:
        series_module.fit_continuous = spaces
    old = tl.load(tmp_path / "old")
    assert isinstance(old.space, Continuous) and old.space.stage == 0
    longer = tl.train(frame, out=tmp_path / "old", **{**how, "budget": "+64"})
    assert isinstance(tl.load(longer).space, Continuous) and tl.load(longer).space.stage == 0
    begun = tl.train(frame[:2000], out=tmp_path / "new", start=tmp_path / "old", **how)
    assert tl.load(begun).space.stage > 0


@pytest.mark.parametrize(("begin", "every", "late"), [("2024-01-01 07:30", 1, 0.5), ("2024-01-01 01:00", 3, 1 / 3)])
def test_days_that_begin_between_two_steps(begin: str, every: int, late: float, tmp_path: Path) -> None:
    """Times at half past, or every three hours from one on: the first step of a day lies behind its beginning."""
    data, series, space = opened(hourly(400, begin).iloc[::every].reset_index(drop=True), window=72)
    assert [each.circle for each in series.channels[:3]] == ["", "hour of day", "hour of day"]
    assert [each.late for each in space.steady] == pytest.approx([late, late])
    again = space_from(space.describe())
    assert isinstance(again, Continuous) and again.steady == space.steady
    assert Series.from_description(series.describe()).clock.offset == series.clock.offset == round(3600 * every * late)
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:64]]))
    noisy = x.clone()
    noisy[:, series.told :] += 0.2 * torch.randn(
        noisy[:, series.told :].shape, generator=torch.Generator().manual_seed(0)
    )
    for channel in (1, 2):
        torch.testing.assert_close(space.decode(space.embed(noisy))[:, channel], x[:, channel], atol=1e-4, rtol=1e-4)
    series.save(x.numpy()[:6], tmp_path / "made.csv")
    back = torch.from_numpy(series.read(tmp_path / "made.csv", space)[0])
    torch.testing.assert_close(space.decode(space.embed(back)), back, atol=1e-4, rtol=1e-4)


def test_inspect_says_of_days_what_is_kept() -> None:
    """Weeks longer than a window are kept; what is learned by changes, or of entities whose hours lie apart, is not."""
    frame = hourly(200)
    week = ((frame["time"] - pd.Timestamp("2024-01-01")).dt.days // 7).to_numpy()
    frame["rain"] = np.random.default_rng(5).normal(size=week[-1] + 1).round(3)[week]
    frame["price"] = (100 * np.exp(np.cumsum(np.random.default_rng(6).normal(0, 0.02, 201)))).round(2)[
        (frame["time"].dt.floor("D") - frame["time"][0].floor("D")).dt.days
    ]
    data, _, space = opened(frame[["time", "count", "rain", "price"]], window=24)
    assert data.facts["columns"]["rain"] == "number, one value a week" and data.facts["columns"]["price"] == (
        "number, by its returns"
    )
    x = torch.from_numpy(np.asarray(data.x[data.splits["train"][:300]]))
    assert [each.channel for each in space.steady] == [1]
    torch.testing.assert_close(space.decode(space.embed(x))[:, 1], x[:, 1], atol=1e-4, rtol=1e-4)
    late = frame.assign(time=frame["time"] + pd.Timedelta(minutes=30))
    data, _, space = opened(
        pd.concat([each.assign(who=n) for n, each in zip("abc", (frame, late, frame), strict=True)])
    )
    assert "one value" not in data.facts["columns"]["rain"] and not space.steady


def test_a_gaussian_keeps_days() -> None:
    """The baseline beside models: as even over a day as what they make."""
    data, _, space = opened(hourly(), window=72)
    made = torch.from_numpy(pca_gaussian(data, 20, seed=0))
    torch.testing.assert_close(space.decode(space.embed(made)), made, atol=1e-4, rtol=1e-4)
    own = rounds(made[:, space.steady[0].sine], made[:, space.steady[0].cosine], 24).argmax(2)
    same = own.diff(dim=1) == 0
    assert bool((made[:, 1].diff(dim=1)[same].abs() < 1e-5).all())
