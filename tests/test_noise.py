"""Noise: a pure function of (seed, index, draw number), and the endless order over examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trilemma.batches import Arrays, endless
from trilemma.maths.noise import Noise, permutation

KINDS = ("normal", "uniform", "integers", "spread")


def drawn(noise: Noise, kind: str) -> torch.Tensor:
    return {
        "normal": lambda: noise.normal(3, 2),
        "uniform": lambda: noise.uniform(4),
        "integers": lambda: noise.integers(1000, 5),
        "spread": lambda: noise.spread(),
    }[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_whatever_the_batch(kind: str) -> None:
    """Any subset of examples in any order gets the same bits."""
    whole = drawn(Noise(7, np.arange(20)), kind)
    some = np.array([13, 2, 19, 2])
    assert torch.equal(drawn(Noise(7, some), kind), whole[some])
    assert torch.equal(drawn(Noise(7, torch.tensor([4])), kind), whole[4:5])


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 3), (1, 4, 4)])
def test_not_a_bit_depends_on_the_size_of_the_batch(shape: tuple[int, ...]) -> None:
    """Vector units take several numbers at once: what a number becomes must not depend on its place among them."""
    whole = Noise(3, np.arange(67)).normal(*shape)
    for size in (1, 2, 3, 8, 31):
        parts = [Noise(3, np.arange(k, min(k + size, 67))).normal(*shape) for k in range(0, 67, size)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_differ(kind: str) -> None:
    one, two = drawn(Noise(0, np.arange(50)), kind), drawn(Noise(1, np.arange(50)), kind)
    assert not torch.equal(one, two)
    assert torch.equal(drawn(Noise(-1, np.arange(5)), kind), drawn(Noise(2**64 - 1, np.arange(5)), kind))


def test_draws_are_numbered() -> None:
    """The third draw is the third draw, whatever kinds and shapes came before it."""
    one, two = Noise(3, np.arange(6)), Noise(3, np.arange(6))
    first, second = one.normal(4), one.normal(4)
    assert not torch.equal(first, second)
    two.uniform(100)
    two.spread()  # takes no draw number: its values do not depend on one
    assert torch.equal(two.normal(4), second)
    assert torch.equal(Noise(3, np.arange(6), draw=1).normal(4), second)


def test_shapes_and_types() -> None:
    noise = Noise(0, np.arange(3))
    assert noise.normal().shape == noise.uniform().shape == noise.spread().shape == (3,)
    assert noise.normal(2, 5).shape == (3, 2, 5) and noise.uniform(1, 2).shape == (3, 1, 2)
    assert noise.normal().dtype == noise.uniform(2).dtype == noise.spread().dtype == torch.float32
    assert noise.integers(5).dtype == torch.int64 and noise.integers(5, 2).shape == (3, 2)
    assert Noise(0, np.arange(0)).normal(4).shape == (0, 4)


def test_normal_moments() -> None:
    """Over 40,000 numbers every moment lies within five standard errors of the normal's."""
    x = Noise(11, np.arange(2000)).normal(20).double().flatten()
    n = len(x)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((x**power).mean()) - moment) < 5 * math.sqrt(variance / n)
    assert 3.5 < x.abs().max() < 6.5


def test_uniform_moments() -> None:
    x = Noise(11, np.arange(2000)).uniform(20).double().flatten()
    assert x.min() >= 0 and x.max() < 1
    assert abs(float(x.mean()) - 0.5) < 5 / math.sqrt(12 * len(x))
    assert abs(float(x.var()) - 1 / 12) < 5 * math.sqrt(1 / 180 / len(x))
    counts = np.bincount(Noise(2, np.arange(3000)).integers(6).numpy(), minlength=6)
    assert counts.min() > 500 - 5 * math.sqrt(3000 * 5 / 36) and counts.max() < 500 + 5 * math.sqrt(3000 * 5 / 36)


def test_examples_draws_and_seeds_are_independent() -> None:
    """Neighbouring indices, draws and seeds share nothing: correlations are those of chance."""
    noise = Noise(5, np.arange(64))
    one, two, other = noise.normal(400), noise.normal(400), Noise(6, np.arange(64)).normal(400)
    rows = torch.cat([one, two, other]).double()
    correlation = torch.corrcoef(rows) - torch.eye(len(rows), dtype=torch.float64)
    assert correlation.abs().max() < 6 / math.sqrt(400)
    assert abs(float(correlation.mean())) < 1e-2


def test_spread_is_even() -> None:
    """Any run of neighbouring indices fills [0, 1) far more evenly than chance would."""
    for start in (0, 5, 1000, 10**6):
        places = np.sort(Noise(3, np.arange(start, start + 128)).spread().numpy())
        gaps = np.diff(np.concatenate([places, [places[0] + 1]]))
        assert gaps.max() < 3 / 128 and gaps.min() > 0.3 / 128
    # Far along the endless order too: a long training has seen 10^9 examples.
    far = np.sort(Noise(3, np.arange(10**9, 10**9 + 128)).spread().numpy())
    assert np.diff(far).max() < 3.5 / 128


def test_permutations() -> None:
    one, two = permutation(0, 0, 1000), permutation(0, 1, 1000)
    assert sorted(one.tolist()) == list(range(1000))
    assert np.array_equal(one, permutation(0, 0, 1000))
    assert not np.array_equal(one, two) and not np.array_equal(one, permutation(1, 0, 1000))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.2


@pytest.mark.parametrize("count", [1, 7, 64])
def test_endless_visits_each_example_once_an_epoch(count: int) -> None:
    places = endless(count, 3, 0, 5 * count)
    for epoch in range(5):
        assert sorted(places[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))
    if count > 7:
        assert not np.array_equal(places[:count], places[count : 2 * count])


def test_endless_is_a_function_of_the_place() -> None:
    whole = endless(10, 1, 0, 95)
    for start, stop in ((0, 1), (9, 11), (37, 68), (90, 95)):
        assert np.array_equal(endless(10, 1, start, stop), whole[start:stop])
    assert not np.array_equal(endless(10, 2, 0, 95), whole)


def test_endless_survives_a_large_number_of_orders() -> None:
    """The orders that are kept for speed are found again after others pushed them out."""
    first = endless(10, 1, 0, 30).copy()
    for seed in range(20):
        endless(50, seed, 0, 100)
    assert np.array_equal(endless(10, 1, 0, 30), first)


def test_a_part_of_a_batch_is_the_same_batch() -> None:
    """`part` keeps data, conditions, masks and noise of its examples: that is what makes 2 x 4 = 8."""
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    known = {"label": np.arange(8) != 2}
    data = Arrays(x, {"label": np.arange(8)[:, None]}, known, observed=x > 5, valid=x > 2, other=x[:5] + 100)
    whole, part = data.gather(np.arange(8), seed=4), data.gather(np.arange(8), seed=4).part(3, 6)
    assert len(part) == 3
    for field in ("x", "observed", "valid", "other", "index"):
        assert torch.equal(getattr(part, field), getattr(whole, field)[3:6]), field
    assert torch.equal(part.raw["label"], whole.raw["label"][3:6])
    assert torch.equal(part.present["label"], whole.present["label"][3:6])
    assert torch.equal(part.noise.normal(2), whole.noise.normal(2)[3:6])


def test_the_second_set_has_an_order_of_its_own() -> None:
    """`other` depends on the place in the endless order, not on which x is there; each is seen once an epoch."""
    data = Arrays(np.zeros((12, 1), dtype=np.float32), other=np.arange(4, dtype=np.float32)[:, None])
    index = np.arange(8)
    batch = data.gather(np.zeros(8, dtype=np.int64), seed=2, index=index)
    assert batch.other is not None
    seen = batch.other[:, 0].tolist()
    assert sorted(seen[:4]) == sorted(seen[4:]) == [0, 1, 2, 3]
    assert data.gather(np.array([3]), seed=2, index=index[5:6]).other[0, 0] == seen[5]
