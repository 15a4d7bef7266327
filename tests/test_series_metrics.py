"""Measures of series: closed forms, other people's formulas, and processes that differ in one thing only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import signal, stats

import trilemma as tl
from trilemma.batches import Batch, Options, Request
from trilemma.metrics.series import (
    alike,
    autocorrelation,
    autocorrelation_distance,
    correlation,
    cross_correlation_distance,
    marginals,
    power,
    spectral_distance,
)
from trilemma.metrics.signatures import signature_distance, signatures
from trilemma.metrics.stylised import shown, stylised_facts
from trilemma.metrics.windows import discriminative_score, predictive_score
from trilemma.modalities.contract import Opening
from trilemma.models.contract import Fills
from trilemma.report.of_series import SeriesRuler
from trilemma.training.engine import Engine
from trilemma.training.sampling import Sampler


def autoregressive(count: int, steps: int = 48, variables: int = 2, phi: float = 0.8, seed: int = 0) -> np.ndarray:
    """Independent windows of AR(1) with unit shocks."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, steps, variables))
    x[:, 0] /= (1 - phi**2) ** 0.5
    for step in range(1, steps):
        x[:, step] += phi * x[:, step - 1]
    return x


def garch(count: int, steps: int = 64, *, lever: float = 0.0, seed: int = 0) -> np.ndarray:
    """(count, steps, 1) returns of a GARCH(1, 1); `lever`: how much more of a squared loss stays in the variance."""
    random = np.random.default_rng(seed)
    variance, made = np.ones(count), []
    for _ in range(steps + 200):
        z = random.normal(size=count)
        made.append(variance**0.5 * z)
        variance = 0.05 + (0.1 + lever * (z < 0)) * made[-1] ** 2 + (0.85 - lever / 2) * variance
    return np.stack(made[200:], 1)[:, :, None]


def by_hand(windows: np.ndarray, lag: int, i: int, j: int) -> float:
    """Correlation of all pairs `lag` apart inside of windows, each side about its own mean; deviations of all steps."""
    pairs = [(w[t, i], w[t + lag, j]) for w in windows for t in range(len(w) - lag)]
    known = np.array([pair for pair in pairs if not np.isnan(pair).any()])
    covariance = np.mean(known[:, 0] * known[:, 1]) - known[:, 0].mean() * known[:, 1].mean()
    return float(covariance / (np.nanstd(windows[:, :, i]) * np.nanstd(windows[:, :, j])))


def test_memory_is_that_of_an_autoregression_and_of_the_formula() -> None:
    lags = np.array([1, 2, 5, 10])
    many = autoregressive(4000)
    np.testing.assert_allclose(autocorrelation(many, lags), np.repeat(0.8 ** lags[:, None], 2, 1), atol=0.02)
    few = autoregressive(7, 12)
    few[2, 3:6, 0] = few[5, :, 1] = np.nan
    for lag in (1, 4):
        wanted = [by_hand(few, lag, c, c) for c in range(2)]
        np.testing.assert_allclose(autocorrelation(few, np.array([lag]))[0], wanted, rtol=1e-9)
    mixed = np.stack([few[:, :, 0], few[:, :, 0] + 0.5 * autoregressive(7, 12, 1, seed=1)[:, :, 0]], 2)
    np.testing.assert_allclose(correlation(mixed[:2]), np.corrcoef(mixed[:2].reshape(-1, 2).T), rtol=1e-9)
    assert correlation(mixed, 3)[0, 1] == pytest.approx(by_hand(mixed, 3, 0, 1), rel=0.03)
    np.testing.assert_array_equal(autocorrelation(np.ones((5, 12, 1)), lags), 0)  # what never changes has none


def test_equal_sets_have_no_distance_and_others_have_theirs() -> None:
    real, other, apart = autoregressive(60), autoregressive(4000, phi=0.5, seed=1), autoregressive(4000, seed=2)
    real[3, 5:9, 1] = np.nan
    distances = (autocorrelation_distance, cross_correlation_distance, spectral_distance)
    for distance in distances:
        same = distance(real, real.copy())
        assert same is not None and same.value == pytest.approx(0, abs=1e-9) and same.better == "lower"
    assert marginals(real, real).value == 1
    lags = np.arange(1, 25)
    wanted = np.sqrt(np.mean((0.8**lags - 0.5**lags) ** 2))
    assert autocorrelation_distance(apart, other).value == pytest.approx(wanted, rel=0.05)
    tied = apart.copy()
    tied[:, :, 1] = apart[:, :, 0]
    gap = cross_correlation_distance(apart, tied)
    assert gap is not None and gap.value == pytest.approx(
        np.sqrt(np.mean(0.8 ** (2.0 * np.array([0, 1, 2, 4, 8])))), rel=0.05
    )
    assert cross_correlation_distance(apart[:, :, :1], tied[:, :, :1]) is None
    # Twice as large: the same memory, 20 log10(2) decibels at each frequency.
    assert spectral_distance(apart, 2 * apart).value == pytest.approx(20 * np.log10(2), rel=1e-6)
    assert autocorrelation_distance(apart, 2 * apart).value == pytest.approx(0, abs=1e-9)


def test_values_and_spectra_by_other_people_s_formulas() -> None:
    real, made = autoregressive(30), 0.3 + autoregressive(40, seed=1)
    real[1, 2:9, 0] = np.nan
    wanted = []
    for c in range(2):
        own = real[:, :, c].ravel()
        wanted.append(1 - stats.ks_2samp(own[~np.isnan(own)], made[:, :, c].ravel()).statistic)
    assert marginals(real, made).value == pytest.approx(np.mean(wanted), rel=1e-12)
    taper = np.hanning(50)[1:-1]
    _, density = signal.periodogram(made, window=taper, detrend="constant", axis=1)
    ratio = power(made) / density[:, 1:].mean(0)
    np.testing.assert_allclose(ratio[:-1], ratio[0, 0], rtol=1e-9)


def test_gaps_tell_nothing() -> None:
    """Samples get the gaps of real windows: a set with gaps and the same without are equal to every measure."""
    real, made = autoregressive(80), autoregressive(80, seed=1)
    real[::2, 10:20] = np.nan
    one, two = alike(real, made)
    assert not np.isnan(one).any() and not np.isnan(two).any()
    np.testing.assert_allclose(two[0, 9:21, 0], np.interp(np.arange(12), [0, 11], made[0, [9, 20], 0]))
    np.testing.assert_array_equal(two[1], made[1])
    assert discriminative_score(one, two)["discriminative"].value < 0.12


@pytest.mark.parametrize("distance", [autocorrelation_distance, spectral_distance, signature_distance])
def test_intervals_cover_the_expectation(distance) -> None:  # type: ignore[no-untyped-def]
    for phi in (0.8, 0.7):
        found = [
            distance(autoregressive(60, 24, 1, seed=2 * n), autoregressive(60, 24, 1, phi, seed=2 * n + 1))
            for n in range(60)
        ]
        expected = np.mean([each.value for each in found])
        inside = np.mean([each.low <= expected <= each.high for each in found])
        assert inside >= 0.85, (phi, inside)
        assert inside < 1 or phi == 0.8, "an interval that always covers says nothing"


def test_windows_whose_order_is_lost_are_told_apart() -> None:
    real, same = autoregressive(160), autoregressive(200, seed=1)
    shuffled = np.random.default_rng(0).permuted(same, axis=1)
    found = discriminative_score(real, same)
    assert found["discriminative"].value < 0.1 and found["discriminative"].low == 0
    assert found["classifier"].low < 0.5 < found["classifier"].high
    told = discriminative_score(real, shuffled)
    assert told["discriminative"].value > 0.45 and told["discriminative"].low > 0.3 and told["classifier"].value > 0.97
    again = discriminative_score(real, shuffled)
    assert again["discriminative"].value == told["discriminative"].value
    with pytest.raises(ValueError, match="at least 20"):
        discriminative_score(real[:5], same)
    with pytest.raises(ValueError, match="do not fit"):
        discriminative_score(real, same[:, 1:])


def test_windows_that_share_steps_are_not_learned_by_heart() -> None:
    """Sliding windows of one path each, of one process: without care a classifier knows either by its neighbours."""
    one, two = (autoregressive(1, 24 + 4 * 400, 1, 0.99, seed)[0] for seed in (0, 1))
    real, made = (np.stack([x[4 * k : 4 * k + 24] for k in range(400)]) for x in (one, two))
    careless = discriminative_score(real, made)["classifier"].value
    careful = discriminative_score(real, made, together=40)["classifier"].value
    assert careless > careful + 0.1


def test_the_next_step_of_an_autoregression() -> None:
    """A Gaussian AR(1)'s best error is sqrt(2 / pi) deviations of its shock; values in any order teach nothing."""
    real, made = autoregressive(100, 48, 1), autoregressive(300, 48, 1, seed=1)
    best = (2 / np.pi * (1 - 0.8**2)) ** 0.5
    found = predictive_score(real, made)
    assert found is not None and found.value == pytest.approx(best, rel=0.06) and found.low < found.value < found.high
    lost = np.random.default_rng(0).permutation(made.ravel()).reshape(made.shape)
    worse = predictive_score(real, lost)
    assert worse is not None and worse.value == pytest.approx((2 / np.pi) ** 0.5, rel=0.06)
    assert predictive_score(real[:, :8], made[:, :8]) is None


def test_signatures_obey_their_identities() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6, 2))
    found = signatures(x)
    one, two, three = np.split(found, [3, 12], axis=1)
    two, three = two.reshape(3, 3, 3), three.reshape(3, 3, 3, 3)
    np.testing.assert_allclose(one, np.concatenate([np.ones((3, 1)), x[:, -1]], 1))  # path from 0, in time 1
    np.testing.assert_allclose(one[:, :, None] * one[:, None, :], two + two.transpose(0, 2, 1))  # shuffle product
    product = one[:, :, None, None] * two[:, None]
    shuffled = three + three.transpose(0, 2, 1, 3) + three.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(product, shuffled, atol=1e-12)
    straight = np.linspace(1, 6, 6)[None, :, None] * np.array([1.0, -2.0]) / 6
    line = np.array([1, 1, -2.0])
    np.testing.assert_allclose(signatures(straight)[0, 12:], np.einsum("i,j,k->ijk", line, line, line).ravel() / 6)
    assert signatures(np.zeros((2, 5, 60))).shape[1] <= 1500


def test_the_signature_distance_has_no_bias() -> None:
    values = [
        signature_distance(autoregressive(40, 12, 1, seed=2 * n), autoregressive(50, 12, 1, seed=2 * n + 1)).value
        for n in range(120)
    ]
    assert abs(np.mean(values)) < 2.5 * np.std(values) / 120**0.5
    moved = signature_distance(autoregressive(100, 12, 1), autoregressive(100, 12, 1, 0.2, seed=1))
    assert moved.low is not None and moved.low > 0
    # Windows of one path: those that share steps are alike, and would make the real set look narrow.
    values = {1: [], 12: []}
    for n in range(60):
        path = autoregressive(1, 212, 1, 0.5, seed=3 * n)[0]
        real = np.stack([path[2 * k : 2 * k + 12] for k in range(100)])
        for together, kept in values.items():
            made = autoregressive(60, 12, 1, 0.5, seed=3 * n + 1)
            kept.append(signature_distance(real, made, together=together).value)
    assert abs(np.mean(values[12])) < np.mean(values[1]) / 2


def test_facts_of_returns() -> None:
    random = np.random.default_rng(0)
    plain = stylised_facts(random.normal(size=(400, 64, 1)))
    heavy = stylised_facts(random.standard_t(3, size=(400, 64, 1)))
    clustered, levered = stylised_facts(garch(400)), stylised_facts(garch(400, lever=0.12))
    assert heavy["tail_index"].value == pytest.approx(2.7, abs=0.35) and plain["tail_index"].value > 5
    zero = ("linear_autocorrelation", "volatility_clustering", "leverage", "gain_loss_asymmetry")
    for key in zero:
        assert abs(plain[key].value) < 0.02 and plain[key].low < plain[key].value < plain[key].high
    assert clustered["volatility_clustering"].low > 0.03 and abs(clustered["leverage"].value) < 0.02
    assert levered["leverage"].high < -0.02 and levered["volatility_clustering"].low > 0
    # Losses that come as crashes after slow gains are faster.
    crashes = np.where(random.uniform(size=(3000, 64, 1)) < 0.02, -4.0, 0.08) + random.normal(size=(3000, 64, 1)) / 20
    assert stylised_facts(crashes)["gain_loss_asymmetry"].low > 0
    words = shown(clustered, plain)
    assert words["volatility_clustering"] == "missed" and words["leverage"] == "inside"


def test_facts_by_hand_with_gaps() -> None:
    """Hill's estimator and lagged correlations written out; a block bootstrap is wider where windows are alike."""
    x = garch(60, lever=0.1)
    x[5, 10:20] = np.nan
    facts = stylised_facts(x)
    size = np.sort(np.abs(x - np.nanmedian(x))[~np.isnan(x)])[::-1]
    kept = round(0.05 * len(size))
    hill = 1 / np.mean(np.log(size[:kept] / size[kept]))
    assert facts["tail_index"].value == pytest.approx(hill, rel=0.02)
    linear = np.mean([by_hand(x, lag, 0, 0) for lag in range(1, 6)])
    assert facts["linear_autocorrelation"].value == pytest.approx(linear, abs=1e-9)
    both = np.concatenate([x, np.abs(x - np.nanmean(x))], 2)
    clustering = np.mean([by_hand(both, lag, 1, 1) for lag in range(1, 21)])
    assert facts["volatility_clustering"].value == pytest.approx(clustering, abs=1e-9)
    leverage = np.mean([by_hand(both, lag, 0, 1) for lag in range(1, 11)])
    assert facts["leverage"].value == pytest.approx(leverage, abs=1e-9)
    path = garch(1, 64 + 2 * 300)[0]
    sliding = np.stack([path[2 * k : 2 * k + 64] for k in range(300)])
    narrow, wide = (stylised_facts(sliding, together=n)["volatility_clustering"] for n in (1, 64))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert stylised_facts(np.zeros((30, 16, 2))) == {}
    with pytest.raises(ValueError, match="four steps"):
        stylised_facts(x[:, :3])


class Lawful(torch.nn.Module, Fills):
    """Fills in Gaussian noise of this deviation, and asserts that nothing of the future is told."""

    def __init__(self, deviation: float):
        super().__init__()
        self.spaces, self.deviation = torch.nn.ModuleDict(), deviation

    def can_fill(self) -> bool:
        return True

    def fill(self, batch: Batch, request: Request, *, complete: bool) -> torch.Tensor:
        assert batch.observed is not None and complete
        assert not batch.observed[:, :, -8:].any() and batch.observed[:, :, :-8].all() and not batch.x[:, :, -8:].any()
        return torch.where(batch.observed, batch.x, self.deviation * request.noise.normal(*batch.x.shape[1:]))


def test_forecasts_are_measured_beside_plain_ones() -> None:
    """White noise has no better forecast than its law, which the ensemble draws from; one that is too sure is worse."""
    values = np.random.default_rng(0).normal(size=3000)
    data = tl.open_data(pd.DataFrame({"v": values}), opening=Opening(window=32, kind="series"))
    ruler = SeriesRuler(data).forecasts
    assert len(ruler.origins) == 20 and ruler.horizon == 8
    plain = ruler.plain()
    assert plain["seasonal ensemble"]["forecast"]["value"] == pytest.approx(1)
    assert plain["seasonal naive"]["forecast"]["value"] > 1.5 and "forecast_tails" not in plain["seasonal naive"]
    found = {}
    for spread in (1.0, 0.2):
        sampler = Sampler(Lawful(spread), Engine(threads=1), frequencies=None, dtype=np.dtype(np.float32))  # type: ignore[arg-type]
        loaded: Any = SimpleNamespace(sampler=sampler, model=sampler.model, lawful=Options())
        found[spread] = {name: each.value for name, each in ruler.of_model(loaded).items()}
    assert found[1.0]["forecast"] == pytest.approx(1, abs=0.05)  # fair, however few draws there are
    assert found[1.0]["forecast_coverage"] == pytest.approx(0.9, abs=0.05)
    assert found[0.2]["forecast"] > 1.15 and found[0.2]["forecast_coverage"] < 0.4
    assert found[0.2]["forecast_tails"] > 1.5 * found[1.0]["forecast_tails"]
