"""Every metric against its definition written again (`written_out.py`), on sets with everything odd about them."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import mean_squared_error
from written_out import GRIDS, OF_GRIDS, OF_SETS, SETS, Figures, half_way, normal

from trilemma.metrics import pixels
from trilemma.metrics.classes import class_shares, control
from trilemma.metrics.classifier import two_sample_test
from trilemma.metrics.control import perceptual_path_length
from trilemma.metrics.fidelity import frechet_distance, frechet_extrapolated, kernel_distance
from trilemma.metrics.latent import midpoints, noise_left, path_length
from trilemma.metrics.memorisation import memorisation
from trilemma.metrics.neighbours import precision_recall_density_coverage
from trilemma.metrics.protocol import Measure, records
from trilemma.metrics.variety import alpha_precision_beta_recall, vendi_score

MEASURED = {
    "frechet": frechet_distance,
    "frechet_extrapolated": frechet_extrapolated,
    "kernel": kernel_distance,
    "diversity": pixels.mean_distance_between_pairs,
    "neighbours": precision_recall_density_coverage,
    "midpoints": lambda x, y: midpoints(x, y, between=half_way(y)),
    "vendi": vendi_score,
    "supports": alpha_precision_beta_recall,
    "classifier": lambda x, y: two_sample_test(x, y, kind="linear"),
    "memorisation": lambda x, y: memorisation(x[::2], x[1::2], y),
    "modes": lambda x, y: pixels.modes_found(y, x[:4], 0.5),
    "sharpness": pixels.sharpness,
    "spectrum": pixels.spectrum_distance,
}
LEAST = {"frechet_extrapolated": 20, "neighbours": 6, "classifier": 10}  # rows of each set


def assert_as_written(found: Any, written: Figures | float) -> None:
    """Each figure within 1e-4 of its definition written again, its interval round it, and all fit for results.json."""
    if not isinstance(written, dict):
        found, written = {"": found if isinstance(found, Measure) else found["modes"]}, {"": written}
    for name, value in written.items():
        assert found[name].value == pytest.approx(value, rel=1e-4, abs=1e-7, nan_ok=True), name
        if found[name].low is not None:
            assert found[name].low <= found[name].value <= found[name].high, name
            assert math.isfinite(found[name].low) and math.isfinite(found[name].high), name
        recorded = records({name: found[name]})
        assert bool(recorded) == math.isfinite(value), "what cannot be said is left out"
        json.dumps(recorded, allow_nan=False)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("metric", OF_SETS)
def test_metrics_equal_their_definitions(metric, name):
    x, y = SETS[name]
    if min(len(x), len(y)) < LEAST.get(metric, 2):
        with pytest.raises(ValueError, match="too few"):
            MEASURED[metric](x, y)
        return
    assert_as_written(MEASURED[metric](x, y), OF_SETS[metric](x, y))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("metric", OF_GRIDS)
def test_metrics_of_grids_equal_their_definitions(metric, name):
    x, y = GRIDS[name]
    assert_as_written(MEASURED[metric](x, y), OF_GRIDS[metric](x, y))


@pytest.mark.parametrize("kind", ["trees", "linear"])
def test_classifier_on_odd_sets(kind):
    """A class missing, fewer rows than features, every row there twice."""
    classes = np.repeat(np.eye(3) * 8, 20, axis=0) + normal(0, 60, 3)
    lost = two_sample_test(classes, np.repeat(np.eye(3)[:2] * 8, 20, axis=0) + normal(1, 40, 3), kind=kind)
    assert lost.value > 0.55, "a third of the real rows can be told"
    assert lost.low < lost.value < lost.high
    wide = two_sample_test(normal(0, 20, 60), normal(1, 16, 60), kind=kind)
    assert wide.low < 0.5 < wide.high
    assert two_sample_test(normal(0, 20, 60), normal(1, 16, 60) + 5, kind=kind).value > 0.9
    twice = two_sample_test(np.repeat(normal(0, 30, 3), 2, 0), np.repeat(normal(1, 30, 3), 2, 0), kind=kind)
    assert twice.low < 0.5 < twice.high, "a twin in another fold would be learned by heart"


def test_data_that_hold_each_example_twice_are_no_copies():
    """Twins fall on one side of the split; at no distance from each other they made honest samples look like copies."""
    train, held = np.repeat(normal(0, 300, 4), 2, 0), np.repeat(normal(1, 100, 4), 2, 0)
    held = held + 1e-7 * normal(3, *held.shape)  # as features of equal examples differ by rounding
    once = memorisation(train[::2], held[::2], normal(2, 150, 4))
    twice = memorisation(train, held, normal(2, 150, 4))
    assert once["verdict"] == twice["verdict"] == "none"
    assert twice["ratio"].value == pytest.approx(once["ratio"].value, rel=1e-3)
    assert memorisation(train, held, train[:150])["verdict"] == "copies"
    # Equal rows of a table are split one by one: then twins in both splits are as they should be.
    coarse = np.random.default_rng(4).integers(3, size=(700, 2)).astype(float)
    assert memorisation(coarse[:400], coarse[400:600], coarse[600:])["ratio"].value == 1
    assert memorisation(train, np.repeat(normal(1, 5, 4), 30, 0), train)["verdict"] == "cannot tell", "five examples"


LABELS = {
    "one class": ([3] * 12, [3] * 7),
    "one class missing": ([0, 1, 2] * 10, [0, 1] * 9),
    "a class too many": ([0, 1] * 10, [0, 1, 5] * 4),
    "one sample": ([0, 1, 2, 3], [2]),
    "none of them": ([0] * 5, [1] * 5),
    "repeats": (np.repeat(np.arange(4), 50), np.repeat(np.arange(4), 25)),
    "names": (["cat", "dog"] * 5, ["dog"] * 6),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_by_counting(name):
    real, made = (np.array(each) for each in LABELS[name])
    counts = [Counter(each.tolist()) for each in (real, made)]
    shares = [{key: number / counter.total() for key, number in counter.items()} for counter in counts]
    apart = sum(abs(shares[0].get(key, 0) - shares[1].get(key, 0)) for key in {*counts[0], *counts[1]}) / 2
    found = class_shares(real, made)
    assert found["balance"].value == pytest.approx(1 - apart)
    assert found["classes"].value == sum(shares[1].get(key, 0) >= 0.1 * share for key, share in shares[0].items())
    read = np.resize(made, len(real))
    hits = sum(one == two for one, two in zip(real.tolist(), read.tolist(), strict=True))
    measured, exact = control(real, read), scipy_stats.binomtest(hits, len(real)).proportion_ci()
    assert (measured.value, measured.low, measured.high) == pytest.approx((hits / len(real), exact.low, exact.high))
    json.dumps(records({**found, "control": measured}), allow_nan=False)


def test_ways_between_equal_samples_have_no_length():
    """Nothing over nothing: what cannot be said stays out of results.json."""
    still = np.ones((12, 5, 3))
    assert math.isnan(path_length(still).value)
    assert perceptual_path_length(still[:, 0], still[:, 0], step=0.1).value == 0
    ways = np.concatenate([still, still + np.linspace(0, 1, 5)[:, None]])  # half stand still, half go straight on
    assert path_length(ways).value == pytest.approx(1)
    folded = np.stack([np.array([[0.0], [2.0], [1.0]])] * 6)  # 2 there, 1 back, over 1
    assert path_length(folded).value == path_length(folded).high == 3
    found = {"path_length": path_length(still), "midpoints": midpoints(still[:, 0], still[:, 1], between=still[:, 2])}
    assert records(found) == {} and math.isnan(found["midpoints"].value)


@pytest.mark.parametrize("name", GRIDS)
def test_errors_of_reconstructions_on_odd_grids(name):
    x = GRIDS[name][0].astype(np.float64)
    again = x + np.where(np.arange(len(x)) % 2, 0.5, 0.0).reshape(-1, *[1] * (x.ndim - 1))
    found = pixels.reconstruction_error(x, again, span=2.0)
    mean = np.mean([mean_squared_error(a.ravel(), b.ravel()) for a, b in zip(x, again, strict=True)])
    assert found["mse"].value == pytest.approx(mean) and found["psnr"].value == pytest.approx(10 * math.log10(4 / mean))
    left = noise_left(x, x + 1, again=again)
    assert left.value == pytest.approx(mean) and (left.low is None or left.low <= left.value <= left.high)
