"""Value at risk, expected shortfall and their tests, against closed forms, published figures and simulations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from trilemma.metrics.risk import (
    adjusted,
    christoffersen,
    expected_shortfall,
    filtered,
    gaussian,
    kupiec,
    value_at_risk,
)


def test_closed_forms_of_a_gaussian() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0.1, 2.0, (400_000, 2))
    for level in (0.95, 0.99):
        var, shortfall = gaussian(np.array([0.1]), np.array([2.0]), level)
        assert var[0] == pytest.approx(-stats.norm.ppf(1 - level, 0.1, 2.0))
        tail = stats.norm.expect(lambda x: x, loc=0.1, scale=2.0, ub=-var[0]) / (1 - level)
        assert shortfall[0] == pytest.approx(-tail, rel=1e-6)
        np.testing.assert_allclose(value_at_risk(draws, level), var[0], rtol=0.02)
        np.testing.assert_allclose(expected_shortfall(draws, level), shortfall[0], rtol=0.02)
    ten = np.arange(10.0)
    assert expected_shortfall(ten, 0.85) == pytest.approx(-(0 + 0.5 * 1) / 1.5)


def test_few_draws_are_exceeded_as_often_as_they_should_be() -> None:
    random = np.random.default_rng(1)
    draws, truth = random.standard_t(4, (20_000, 150)), random.standard_t(4, 20_000)
    share = (truth < -value_at_risk(draws.T, 0.98)).mean()
    assert share == pytest.approx(0.02, abs=4 * (0.02 * 0.98 / 20_000) ** 0.5)


def test_filtered_draws_follow_the_spread_of_each_moment() -> None:
    """Scales that change from day to day, heavy tails, 64 draws: violations as they should come, and no look ahead."""
    random = np.random.default_rng(2)
    count, level = 4000, 0.99
    scale = np.exp(np.cumsum(random.normal(0, 0.05, count)))
    draws = scale[:, None] * random.standard_t(5, (count, 64))
    truth = scale * random.standard_t(5, count)
    var, shortfall = filtered(draws, level)
    wanted = -scale * stats.t.ppf(0.01, 5)
    assert np.median(np.abs(np.log(var[200:] / wanted[200:]))) < 0.15
    bad = -truth > var
    assert kupiec(bad, level)[1] > 0.01 and christoffersen(bad)[1] > 0.01
    assert shortfall[bad].mean() == pytest.approx(-truth[bad].mean(), rel=0.2)
    early, _ = filtered(draws[:300], level)
    np.testing.assert_array_equal(early, var[:300])
    many = random.normal(size=(3, 2000))
    np.testing.assert_array_equal(filtered(many, level)[0], value_at_risk(many.T, level))


def test_forecasts_are_adjusted_by_how_they_fared() -> None:
    """A model that knows nothing of bunches and is half as wide as it should be, put right; nothing later is used."""
    random = np.random.default_rng(4)
    count, level = 5000, 0.99
    variance, gains = np.ones(count), np.zeros(count)
    for step in range(count):  # GARCH(1, 1)
        if step:
            variance[step] = 0.03 + 0.1 * gains[step - 1] ** 2 + 0.87 * variance[step - 1]
        gains[step] = variance[step] ** 0.5 * random.normal()
    draws = 0.5 * random.normal(size=(count, 64))
    raw = -gains > filtered(draws, level)[0]
    assert kupiec(raw, level)[1] < 1e-6
    var, shortfall = adjusted(gains, draws, level, first=250)
    assert np.isnan(var[:250]).all()
    bad = -gains[250:] > var[250:]
    assert kupiec(bad, level)[1] > 0.05 and christoffersen(bad)[1] > 0.05
    assert shortfall[250:][bad].mean() == pytest.approx(-gains[250:][bad].mean(), rel=0.15)
    # By the closed form: the true value at risk of each day.
    wanted = -stats.norm.ppf(0.01) * variance[250:] ** 0.5
    assert np.corrcoef(var[250:], wanted)[0, 1] > 0.6 and var[250:].mean() == pytest.approx(wanted.mean(), rel=0.12)
    changed = gains.copy()
    changed[3000:] = 99.0
    np.testing.assert_array_equal(adjusted(changed, draws, level, first=250)[0][:3001], var[:3001])


def test_kupiec_as_published() -> None:
    """The regions of Kupiec 1995, table 3: how many failures are not rejected at 95 % confidence."""

    def accepted(count: int, level: float) -> list[int]:
        return [bad for bad in range(60) if kupiec(np.arange(count) < bad, level)[1] >= 0.05]

    # Of 255 days none at all has a ratio of 5.1 as well, which the table leaves out.
    for count, level, low, high in ((255, 0.99, 0, 7), (510, 0.99, 1, 11), (1000, 0.99, 4, 17), (255, 0.95, 6, 21)):
        found = accepted(count, level)
        assert (min(found), max(found)) == (low + 1, high - 1)
    ratio = -2 * (stats.binom.logpmf(9, 500, 0.01) - stats.binom.logpmf(9, 500, 9 / 500))
    assert kupiec(np.arange(500) < 9, 0.99)[0] == pytest.approx(ratio)


def test_christoffersen_sees_bunches() -> None:
    random = np.random.default_rng(3)
    bad = np.zeros(1000, dtype=bool)
    bad[[100, 101, 102, 500, 501, 700, 701, 702]] = True
    assert christoffersen(bad)[1] < 1e-6
    # By the likelihoods of the two chains themselves.
    chain = random.uniform(size=400) < 0.1
    pairs = list(pairwise(chain))
    free = {state: np.mean([b for a, b in pairs if a == state]) for state in (False, True)}
    same = np.mean([b for _, b in pairs])

    def log(p: float, b: bool) -> float:
        return np.log(p if b else 1 - p)

    ratio = 2 * sum(log(free[a], b) - log(same, b) for a, b in pairs)
    assert christoffersen(chain)[0] == pytest.approx(ratio)
    rejected = [christoffersen(random.uniform(size=1000) < 0.05)[1] < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(rejected) < 0.1
    assert christoffersen(np.zeros(50, dtype=bool))[1] == 1.0
