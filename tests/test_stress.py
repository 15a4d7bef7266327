"""Rare scenarios: led there level by level, with the probability and the law that closed forms have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special
from torch import nn

import trilemma as tl
from trilemma.batches import Options, Request
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.metrics.risk import gaussian
from trilemma.modalities.contract import Opening
from trilemma.modalities.series import Series
from trilemma.models.contract import Samples
from trilemma.tasks import splitting
from trilemma.tasks.stress import Scenarios, scenarios, share
from trilemma.training.engine import Engine
from trilemma.training.sampling import Sampler

STEPS = 8


class Independent(nn.Module, Samples):
    """Windows of independent standard normal scores; half of the noise says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = nn.ModuleDict()

    def sample(self, request: Request) -> torch.Tensor:
        scores = request.noise.normal(1, STEPS)
        return scores + 0 * request.noise.uniform(1, STEPS)

    def calls(self, options: Options) -> int:
        return 1


def market() -> tuple[Sampler, Series]:
    """Gaussian changes of deviation 2."""
    frame = pd.DataFrame({"p": np.cumsum(2.0 * np.random.default_rng(0).normal(size=4000))})
    series = tl.open_data(frame, opening=Opening(window=STEPS, kind="series", columns=(("p", "change"),))).modality
    assert isinstance(series, Series)
    model: Any = Independent()
    return Sampler(model, Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32)), series


OWN: dict[str, Any] = {"horizon": None, "label": None, "options": Options()}


def test_a_rare_scenario_has_its_probability_and_its_law() -> None:
    """Changes add up to a normal number; what a portfolio loses given that it is low is a mean of its tail."""
    sampler, series = market()
    law = series.channels[0].column.from_scores(special.ndtri((np.arange(100_000) + 0.5) / 100_000))
    middle, deviation = STEPS * law.mean(), law.std() * STEPS**0.5  # what the map of the data makes of the scores
    for z, most in ((-1.0, 8000), (-3.2, 45_000)):
        made = scenarios(sampler, series, 1000, f"p change < {middle + z * deviation}", seed=3, weights="p=1", **OWN)
        truth = float(special.ndtr(z))
        assert made.interval[0] < truth < made.interval[1] and made.interval[1] < 2 * made.interval[0]
        assert made.x.shape == (1000, 1, STEPS) and made.drawn < most and (made.levels > 2) == (z < -2)
        totals = (series.learned(made.x)[:, 0].sum(1) - middle) / deviation
        assert (totals < z).all() and len(np.unique(totals)) > 850
        _, mean = gaussian(np.zeros(1), np.ones(1), 1 - truth)
        assert -totals.mean() == pytest.approx(mean[0], abs=0.05)
        assert made.given is not None and made.all is not None
        loss, error = made.given.mean
        assert (loss + middle) / deviation == pytest.approx(mean[0], abs=0.05) and error / deviation < 0.05
        beyond = -special.ndtri(0.01 * truth)
        assert (made.given.value_at_risk[0] + middle) / deviation == pytest.approx(beyond, abs=0.3)
        var, shortfall = gaussian(np.zeros(1), np.ones(1), 0.99)
        assert (made.all.value_at_risk[0] + middle) / deviation == pytest.approx(var[0], abs=0.25)
        assert (made.all.shortfall[0] + middle) / deviation == pytest.approx(shortfall[0], abs=0.35)
        assert share(made.probability) in made.said() and f"{made.drawn:,} paths" in made.said()
    assert "drawn at random it would take" in made.said()
    again = scenarios(sampler, series, 1000, f"p change < {middle + z * deviation}", seed=3, **OWN)
    np.testing.assert_array_equal(again.x, made.x)


def test_the_probability_is_right_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though hardly anything moves: levels are given, so that products of shares have no bias."""
    monkeypatch.setattr(splitting, "MOVES", 1)

    def draw(noise: Noise) -> np.ndarray:
        return noise.normal(1).numpy()

    def far(x: np.ndarray) -> np.ndarray:
        return np.maximum(2.5 - x[:, 0], 0)

    found = [
        splitting.rare(draw, far, 64, seed=seed, device="cpu", watch=lambda drawn, known: None).probability
        for seed in range(40)
    ]
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found) - special.ndtr(-2.5)) < 3 * error and error < 0.12 * special.ndtr(-2.5)


def test_what_no_path_comes_to_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, series = market()
    monkeypatch.setattr("trilemma.tasks.stress.FIRST", 500)
    with pytest.raises(InputError, match=r"no path of the model comes there .* below .* the nearest one has change -"):
        scenarios(sampler, series, 5, "p change < -1000", seed=0, **OWN)
    with pytest.raises(InputError, match="no path of the model comes there"):  # at once: all miss it by as much
        splitting_free = "p at 1 < -1e9 and p at 1 > 1e9"
        scenarios(sampler, series, 5, splitting_free, seed=0, **OWN)


def test_noise_that_is_held() -> None:
    """What is held stands in for what is drawn, with the same law; what is not is kept."""
    held: dict[int, torch.Tensor] = {}
    noise, plain = Noise(1, np.arange(4000), held=held), Noise(1, np.arange(4000))
    first, second = noise.normal(3), noise.uniform()
    assert torch.equal(first, plain.normal(3)) and sorted(held) == [0, 1] and noise.draw == 2
    assert second.min() > 0 and second.max() < 1 and abs(float(second.mean()) - 0.5) < 0.02
    again = Noise(9, np.arange(4000), held={0: -first, 1: held[1]})
    assert torch.equal(again.normal(3), -first) and torch.equal(again.uniform(), second)


def test_shares_are_said_in_few_digits() -> None:
    said = [share(value) for value in (0.124, 0.0021, 3.4e-7, 0.99, 0.996, 1.0)]
    assert said == ["12 %", "0.21 %", "3.4e-05 %", "99 %", "99.6 %", "100 %"]


def test_what_is_demanded_exactly_has_no_probability_of_its_own() -> None:
    """The share of the paths that meet all else is one given it."""
    paths = np.zeros((20, 1, 4))
    made = Scenarios(paths, "x at 2 = 1", 1.0, (0.98, 1.0), 250, 0, 0.1, exact="all")
    assert "how probable that is, is not told" in made.said() and "%" not in made.said()
    made = Scenarios(paths, "x at 2 = 1 and max(x) > 3", 0.9, (0.8, 0.95), 250, 0, 0.1, exact="some")
    assert "given what is demanded with =, is 90 %" in made.said()
