"""Spaces: embedding and its inverse, likelihoods that are normalised, masks, gaps, and statistics."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from trilemma.batches import Batch
from trilemma.maths.moments import channel_moments
from trilemma.maths.noise import Noise
from trilemma.mixed import Mixed, space_from
from trilemma.spaces import MARGIN, Categorical, Continuous, Space, fit_continuous, masked

GRIDS = [(), (5,), (4, 6), (2, 3, 4)]


def pixels(*grid: int, channels: int = 2, count: int = 9) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, size=(count, channels, *grid)).astype(np.uint8)


def table() -> tuple[Mixed, Tensor]:
    """Number, number with gaps, category of 3, category of 2 with gaps."""
    nan = math.nan
    x = torch.tensor([[10.0, 1.0, 2, 0], [30.0, nan, 0, nan], [50.0, 3.0, 1, 1], [10.0, nan, 2, 1]])
    mean, deviation = torch.tensor([25.0, 2.0, 0, 0]), torch.tensor([16.0, 1.0, 1, 1])
    return Mixed([0, 0, 3, 2], [False, True, False, True], mean=mean, deviation=deviation), x


# --- embed and decode -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_continuous_embeds_to_unit_variance_and_back(grid: tuple[int, ...]) -> None:
    x = pixels(*grid)
    space = fit_continuous(x, low=0, high=255, levels=256)
    embedded = space.embed(torch.from_numpy(x))
    assert embedded.shape == (len(x), space.width, *grid) and embedded.dtype == torch.float32
    flat = embedded.transpose(0, 1).reshape(2, -1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(1, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert torch.equal(space.decode(embedded), torch.from_numpy(x).float())


def test_decode_rounds_to_levels_and_stays_in_range() -> None:
    space = Continuous((1,), low=-1, high=1, levels=5, mean=torch.tensor([0.2]), deviation=torch.tensor([0.5]))
    x = space.decode(torch.linspace(-9, 9, 41).unsqueeze(1))
    assert set(x[:, 0].tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    free = Continuous((1,), low=0.0)
    assert free.decode(torch.tensor([[-3.0], [2.3]]))[:, 0].tolist() == pytest.approx([0.0, 2.3])


def test_deviation_is_one_number_per_channel() -> None:
    """Never per pixel: a pixel that is always black must not be blown up."""
    x = pixels(4, 6)
    x[:, :, 0, 0] = 0
    space = fit_continuous(x)
    assert space.mean.shape == space.deviation.shape == (2,)
    torch.testing.assert_close(space.mean, torch.from_numpy(x).double().mean((0, 2, 3)).float())


def test_statistics_of_mapped_data_and_of_rows() -> None:
    """float64 sums in chunks: exact for data with a large offset; only the asked rows count."""
    generator = np.random.default_rng(1)
    x = (generator.normal(size=(3000, 2)) * 0.01 + 1000).astype(np.float64)
    space = fit_continuous(x)
    np.testing.assert_allclose(space.deviation.numpy(), x.std(0), rtol=1e-4)
    rows = np.arange(0, 3000, 3)
    np.testing.assert_allclose(fit_continuous(x, rows=rows).mean.numpy(), x[rows].mean(0), rtol=1e-7)


def test_a_constant_channel_stays_finite() -> None:
    x = pixels(3, 3)
    x[:, 1] = 77
    space = fit_continuous(x, low=0, high=255, levels=256)
    embedded = space.embed(torch.from_numpy(x))
    assert space.deviation[1] == 1 and embedded[:, 1].abs().max() < 1e-6
    assert torch.equal(space.decode(embedded), torch.from_numpy(x).float())


def test_categorical_round_trip() -> None:
    space = Categorical((1, 6), 5)
    x = torch.randint(5, (40, 1, 6), generator=torch.Generator().manual_seed(0))
    embedded = space.embed(x)
    assert embedded.shape == (40, 5, 6)
    assert torch.equal(space.decode(embedded), x) and space.decode(embedded).dtype == torch.int64
    every = space.embed(torch.arange(5).reshape(5, 1, 1).expand(5, 1, 6))
    torch.testing.assert_close(every.mean(0), torch.zeros(5, 6), atol=1e-6, rtol=0)
    torch.testing.assert_close(every.std(0, correction=0), torch.ones(5, 6))


def test_mixed_round_trip_with_gaps() -> None:
    space, x = table()
    embedded = space.embed(x)
    assert embedded.shape == (4, space.width) and space.width == 1 + 2 + 3 + 3
    assert torch.isfinite(embedded).all()
    torch.testing.assert_close(space.decode(embedded), x, equal_nan=True)


def test_mixed_without_gaps_never_decodes_to_one() -> None:
    space = Mixed([0, 4], [False, False])
    x = space.decode(torch.randn(200, space.width, generator=torch.Generator().manual_seed(0)) * 5)
    assert not x.isnan().any()
    assert set(x[:, 1].tolist()) == {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    "space", [Continuous((2, 4)), Categorical((1, 6), 5), table()[0]], ids=["numbers", "tokens", "table"]
)
def test_description_round_trip(space: Space) -> None:
    """A Space comes back from JSON and its state dict: both are in the run."""
    for buffer in space.state_dict().values():
        buffer.mul_(1.5)
    again = space_from(json.loads(json.dumps(space.describe())))
    again.load_state_dict(space.state_dict())
    assert type(again) is type(space) and again.shape == space.shape and again.width == space.width
    for one, two in zip(space.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    "space", [Continuous((3,)), Categorical((1, 2), 4), table()[0]], ids=["numbers", "tokens", "table"]
)
def test_double_precision_follows_the_model(space: Space) -> None:
    """A model in float64 gets float64 from its Space, so that tests can compare to nine digits."""
    x = {"Continuous": torch.ones(2, 3), "Categorical": torch.ones(2, 1, 2, dtype=torch.long)}.get(type(space).__name__)
    x = table()[1] if x is None else x
    assert space.embed(x).dtype == torch.float32
    space.double()
    assert space.embed(x).dtype == torch.float64
    params = space.embed(x) * 0.3
    assert space.nll(params, x).dtype == torch.float64 and space.relax(params).dtype == torch.float64
    space.float()


# --- likelihoods ------------------------------------------------------------------------------------------------------


def test_gaussian_density_integrates_to_one() -> None:
    """Over embedded values; the raw density follows by the Space's deviation."""
    space = Continuous((1,), mean=torch.tensor([3.0]), deviation=torch.tensor([2.0]))
    x = torch.linspace(-40, 46, 200_001, dtype=torch.float64).unsqueeze(1)
    space.double()
    nll = space.nll(torch.full_like(x, 0.7), x, log_scale=torch.tensor(-0.4, dtype=torch.float64))
    embedded_step = float(x[1] - x[0]) / 2
    assert float(torch.exp(-nll).sum()) * embedded_step == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("scale", [-3.0, -0.5, 1.0])
@pytest.mark.parametrize("place", [-4.0, 0.1, 2.5])
def test_discretised_probabilities_sum_to_one(scale: float, place: float) -> None:
    space = Continuous(
        (1,), low=0, high=15, levels=16, mean=torch.tensor([6.0]), deviation=torch.tensor([4.0])
    ).double()
    x = torch.arange(16, dtype=torch.float64).unsqueeze(1)
    params, log_scale = torch.full_like(x, place), torch.tensor(scale, dtype=torch.float64)
    mass = torch.exp(-space.nll(params, x, log_scale=log_scale, likelihood="discretised"))
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
    if scale < 0:  # a wide Gaussian has most of its mass in the two open ends
        assert float(mass.argmax()) == float(space.decode(params[:1])[0, 0])


def test_bernoulli_probabilities_sum_to_one() -> None:
    space = Continuous((1,), low=0, high=255)
    params = torch.full((2, 1), 1.3)
    mass = torch.exp(-space.nll(params, torch.tensor([[0.0], [255.0]]), likelihood="bernoulli"))
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    assert float(mass[1]) == pytest.approx(1 / (1 + math.exp(-1.3)), rel=1e-5)


def test_categorical_probabilities_sum_to_one() -> None:
    space = Categorical((1, 2), 3)
    params = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(1))
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3)).reshape(9, 1, 2)
    mass = torch.exp(-space.nll(params.expand(9, 3, 2), every))
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)


def test_mixed_probabilities_sum_to_one() -> None:
    """Over a category with gaps and a number with gaps: gap + density over numbers is one."""
    space = Mixed([0, 2], [True, True]).double()
    params = torch.tensor([[0.3, -0.8, 0.2, 1.0, -0.5]], dtype=torch.float64)
    numbers = torch.cat([torch.linspace(-12, 12, 4001, dtype=torch.float64), torch.tensor([math.nan])])
    total = 0.0
    for category in (0.0, 1.0, math.nan):
        x = torch.stack([numbers, torch.full_like(numbers, category)], 1)
        mass = torch.exp(-space.nll(params.expand(len(x), -1), x))
        total += float(mass[:-1].sum()) * 24 / 4000 + float(mass[-1])
    assert total == pytest.approx(1, abs=1e-9)


def test_likelihoods_that_do_not_fit_say_so() -> None:
    free = Continuous((1,))
    for likelihood in ("bernoulli", "discretised", "gausian"):
        with pytest.raises(ValueError, match=r"gaussian"):
            free.nll(torch.zeros(1, 1), torch.zeros(1, 1), likelihood=likelihood)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "discretised"])
def test_masked_elements_count_nothing(likelihood: str) -> None:
    """Per example, the sum over what the mask leaves: as if the rest were not there."""
    x = torch.from_numpy(pixels(4, channels=1)).float()
    space = fit_continuous(x.numpy(), low=0, high=255, levels=256)
    params = torch.randn(9, 1, 4, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([1.0, 0, 1, 1]).expand(9, 1, 4)
    found = space.nll(params, x, mask=mask, likelihood=likelihood)
    single = fit_continuous(x.numpy(), low=0, high=255, levels=256)
    parts = [single.nll(params[..., k : k + 1], x[..., k : k + 1], likelihood=likelihood) for k in (0, 2, 3)]
    torch.testing.assert_close(found, sum(parts))
    altered = torch.where(mask > 0, x, 255 - x)
    assert torch.equal(found, space.nll(params, altered, mask=mask, likelihood=likelihood))


def test_moments_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 1000 + np.random.default_rng(0).normal(size=(50, 2, 3)).astype(np.float32)
    whole = channel_moments(x)
    monkeypatch.setattr("trilemma.maths.moments.CHUNK", 6 * 7)
    for one, other in zip(whole, channel_moments(x), strict=True):
        torch.testing.assert_close(one, other)
    assert whole[1][0] == pytest.approx(x[:, 0].astype(np.float64).std()) and whole[2][1] == x[:, 1].max()


def test_what_does_not_count_is_the_mean() -> None:
    space, x = Continuous((2, 3), mean=torch.tensor([1.0, -1.0])), torch.zeros(1, 2, 3)
    observed = torch.tensor([[[True, True, False], [True, True, True]]])
    valid = torch.tensor([[[True, False, True], [True, True, True]]])
    batch = Batch(x, Noise(0, np.arange(1)), torch.arange(1))
    assert batch.mask(space) is None and batch.embedded(space).tolist() == [[[-1, -1, -1], [1, 1, 1]]]
    batch = replace(batch, observed=observed, valid=valid)
    assert batch.embedded(space).tolist() == [[[-1, 0, 0], [1, 1, 1]]]
    assert batch.holed(x + 5, space).tolist() == [[[5, 0, 0], [5, 5, 5]]]


def test_masked_columns_and_tokens_count_nothing() -> None:
    space, x = table()
    params = torch.randn(4, space.width, generator=torch.Generator().manual_seed(3))
    whole = space.nll(params, x)
    parts = [space.nll(params, x, mask=torch.eye(4)[k].expand(4, 4)) for k in range(4)]
    torch.testing.assert_close(sum(parts), whole)
    tokens = Categorical((1, 3), 4)
    y = torch.tensor([[[0, 1, 3]]])
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(4))
    cut = tokens.nll(logits, y, mask=torch.tensor([[[1.0, 1.0, 0.0]]]))
    torch.testing.assert_close(cut, Categorical((1, 2), 4).nll(logits[..., :2], y[..., :2]))


def test_masks_widen_to_what_embed_gives() -> None:
    space, x = table()
    wide = space.widen(torch.eye(4))
    assert wide.shape == space.embed(x).shape
    assert wide.sum(1).tolist() == [1, 2, 3, 3]
    assert Categorical((1, 6), 5).widen(torch.ones(2, 1, 6)).shape == (2, 5, 6)
    assert Continuous((3, 4)).widen(torch.ones(2, 3, 4)).shape == (2, 3, 4)


def test_the_two_masks_act_together() -> None:
    observed, valid = torch.tensor([[True, False, True]]), torch.tensor([[True, True, False]])
    both = masked(Continuous((3,)), observed, valid)
    assert both is not None and both.tolist() == [[1.0, 0.0, 0.0]]
    assert masked(Continuous((3,)), None, None) is None
    assert masked(Continuous((3,)), None, valid).tolist() == [[1.0, 1.0, 0.0]]  # type: ignore[union-attr]


# --- relaxed samples --------------------------------------------------------------------------------------------------


def test_relaxed_samples_are_differentiable_and_in_embedded_units() -> None:
    for space in (Categorical((1, 2), 3), table()[0]):
        shape = (5, space.width, *space.grid)
        params = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        uniform = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        sample = space.relax(params, uniform)
        assert sample.shape == shape
        sample.square().sum().backward()
        assert params.grad is not None and torch.isfinite(params.grad).all() and params.grad.abs().sum() > 0
    certain = torch.tensor([[[40.0], [0.0], [0.0]]])
    space = Categorical((1, 1), 3)
    torch.testing.assert_close(space.relax(certain, torch.full_like(certain, 0.5)), space.embed(torch.zeros(1, 1, 1)))


def test_gumbel_noise_draws_from_the_probabilities() -> None:
    """The largest of logits plus Gumbel noise is a draw from the softmax (Gumbel 1954)."""
    space, n = Categorical((1, 1), 3), 20_000
    logits = torch.tensor([0.2, 0.5, 0.3]).log().reshape(1, 3, 1).expand(n, 3, 1)
    uniform = torch.rand(n, 3, 1, generator=torch.Generator().manual_seed(2))
    shares = torch.bincount(space.decode(space.relax(logits, uniform)).flatten(), minlength=3) / n
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), atol=5 * 0.5 / n**0.5, rtol=0)


def test_relaxed_numbers_stop_softly_outside_the_range() -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 2, 4)).astype(np.uint8)
    space = fit_continuous(x, low=0, high=255, levels=256)
    inside = space.embed(torch.from_numpy(x[:8]))
    assert torch.equal(space.relax(inside), inside)
    ends = space.embed(torch.tensor([0.0, 255.0]).reshape(2, 1, 1).expand(2, 2, 4))
    far = torch.stack([ends[0] - 1e6, ends[1] + 1e6])
    margin = (space.relax(far) - ends).abs()
    torch.testing.assert_close(margin, torch.full_like(margin, MARGIN))
    near = (ends + torch.tensor([-0.1, 0.1]).reshape(2, 1, 1)).requires_grad_()
    space.relax(near).sum().backward()
    assert near.grad is not None and (near.grad > 0.5).all() and (near.grad < 1).all()
    unlimited = fit_continuous(x)
    assert torch.equal(unlimited.relax(far), far)
