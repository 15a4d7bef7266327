"""Adversarial games, penalties and likelihood terms against formulas written out and torch.distributions."""

import math

import pytest
import torch
from torch import distributions

from trilemma.maths import losses

torch.set_num_threads(1)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


REAL = torch.tensor([-2.0, -0.3, 0.4, 1.7, 3.0], dtype=torch.float64)
FAKE = torch.tensor([0.9, -1.4, 2.2, -0.1, -3.0], dtype=torch.float64)


def probability(score: float) -> float:
    return 1 / (1 + math.exp(-score))


FORMULAS = {  # name: (critic, generator) on numbers, from the papers
    "minimax": (
        lambda r, f: -math.log(probability(r)) - math.log(1 - probability(f)),
        lambda r, f: math.log(1 - probability(f)),
    ),
    "non-saturating": (
        lambda r, f: -math.log(probability(r)) - math.log(1 - probability(f)),
        lambda r, f: -math.log(probability(f)),
    ),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "hinge": (lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda r, f: -f),
    "relativistic": (lambda r, f: -math.log(probability(r - f)), lambda r, f: -math.log(probability(f - r))),
    "least-squares": (lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2, lambda r, f: 0.5 * (f - 1) ** 2),
}


@pytest.mark.parametrize("name", losses.PLAYS)
def test_plays_are_the_papers_formulas(name):
    play, (critic, generator) = losses.PLAYS[name], FORMULAS[name]
    pairs = list(zip(REAL.tolist(), FAKE.tolist(), strict=True))
    assert play.critic(REAL, FAKE).tolist() == pytest.approx([critic(r, f) for r, f in pairs])
    assert play.generator(REAL, FAKE).tolist() == pytest.approx([generator(r, f) for r, f in pairs])
    alike = torch.equal(play.generator(torch.zeros_like(REAL), FAKE), play.generator(REAL, FAKE))
    assert alike == (name != "relativistic"), "only that game looks at real data in the generator's turn"


@pytest.mark.parametrize("name", losses.PLAYS)
def test_each_player_pulls_its_way(name):
    """The critic wants real up and fake down, the generator fake up; finite even when one side has won by far."""
    real, fake = torch.zeros(1).requires_grad_(), torch.zeros(1).requires_grad_()
    on_real, on_fake = torch.autograd.grad(losses.PLAYS[name].critic(real, fake).sum(), (real, fake), allow_unused=True)
    assert on_real < 0 and (on_fake > 0 or name == "least-squares")  # there a fake score of 0 is the critic's aim
    (pull,) = torch.autograd.grad(losses.PLAYS[name].generator(real, fake).sum(), fake)
    assert pull < 0
    far = torch.tensor([1e4, -1e4])
    assert torch.isfinite(losses.PLAYS[name].critic(far, far.flip(0))).all()
    assert torch.isfinite(losses.PLAYS[name].generator(far, far.flip(0))).all()


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4), (3, 2, 4, 5)])
def test_squared_gradient_norm(shape):
    x, weight = draw(*shape).requires_grad_(), draw(*shape[1:], seed=1)
    linear = (x * weight).reshape(3, -1).sum(1)
    norm = losses.squared_gradient_norm(linear, x)
    assert torch.allclose(norm, weight.square().sum().expand(3))
    quadratic = (weight * x.square()).reshape(3, -1).sum(1)
    norm = losses.squared_gradient_norm(quadratic, x)
    assert torch.allclose(norm, (2 * weight * x).square().reshape(3, -1).sum(1))
    # It is a loss: d|2 w x|^2 / dx = 8 w^2 x.
    (second,) = torch.autograd.grad(norm.sum(), x)
    assert torch.allclose(second, 8 * weight**2 * x)


def test_squared_gradient_norm_sums_in_float32():
    x = torch.ones(2, 10_000, dtype=torch.bfloat16, requires_grad=True)
    norm = losses.squared_gradient_norm((x * 0.1).sum(1), x)
    assert norm.dtype == torch.float32
    assert norm.tolist() == pytest.approx([100.0, 100.0], rel=0.01)


def test_gradient_penalty_of_a_linear_critic():
    real, fake, t = draw(4, 2, 3, 5, seed=1), draw(4, 2, 3, 5, seed=2), torch.rand(4, dtype=torch.float64)
    weight = draw(2, 3, 5, seed=3)
    for scale in (0.01, 1.0):
        slope = scale * weight.norm().item()

        def critic(x, scale=scale):
            return scale * (x * weight).sum((1, 2, 3))

        assert losses.gradient_penalty(critic, real, fake, t).tolist() == pytest.approx([(slope - 1) ** 2] * 4)


def test_gradient_penalty_of_a_quadratic_critic():
    """Critic a |x|^2 / 2 has slope a |x| at real + t (fake - real); the penalty trains a."""
    real, fake = draw(3, 2, 4, seed=1), draw(3, 2, 4, seed=2)
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    penalty = losses.gradient_penalty(lambda x: a * x.square().sum((1, 2)) / 2, real, fake, t)
    between = torch.stack([real[0], 0.75 * real[1] + 0.25 * fake[1], fake[2]]).flatten(1).norm(dim=1)
    assert torch.allclose(penalty, (1.5 * between - 1) ** 2)
    (pull,) = torch.autograd.grad(penalty.sum(), a)
    assert torch.allclose(pull, (2 * (1.5 * between - 1) * between).sum())


def test_gradient_penalty_of_a_dead_critic_is_finite():
    a = torch.zeros((), dtype=torch.float64, requires_grad=True)
    penalty = losses.gradient_penalty(lambda x: a * x.sum(1), draw(3, 2), draw(3, 2, seed=1), torch.rand(3))
    assert penalty.tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(penalty.sum(), a)[0])


def test_kl_against_distributions():
    mean, log_variance = draw(5, 3), draw(5, 3, seed=1)
    posterior = distributions.Normal(mean, (log_variance / 2).exp())
    kl = losses.kl_to_standard_normal(mean, log_variance)
    assert kl.shape == (5, 3)
    assert torch.allclose(kl, distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)))
    # Near the prior float32 keeps the digits: for a small log variance e the divergence is e^2 / 4.
    small = losses.kl_to_standard_normal(torch.zeros(1), torch.full((1,), 1e-2))
    assert small.item() == pytest.approx(1e-4 / 4, rel=5e-3)


def test_kl_of_a_reverse_step_against_distributions():
    """Posterior of DDPM's step between two levels, against one around an estimate with a variance of its own."""
    now, after = torch.tensor([0.5, 3.0], dtype=torch.float64), torch.tensor([0.3, 2.5], dtype=torch.float64)
    x, x0, v = draw(2, 3), draw(2, 3, seed=1), torch.rand(2, 3, dtype=torch.float64)
    y = draw(2, 3, seed=2)
    kl = losses.reverse_step_kl(x, x0, v, now, after)
    for row in range(2):
        s, t = now[row], after[row]
        small, large = (s**2 - t**2) * t**2 / s**2, (s**2 - t**2) * (1 + t**2) / (1 + s**2)

        def step(x0: torch.Tensor, variance: torch.Tensor, row: int = row) -> distributions.Normal:
            ratio = (after[row] / now[row]) ** 2
            return distributions.Normal(x0 + ratio * (y[row] - x0), variance.sqrt())

        learned = step(x0[row], small * (large / small) ** v[row])
        assert torch.allclose(kl[row], distributions.kl_divergence(step(x[row], small), learned))


def test_free_bits():
    kl = torch.tensor([[0.1, 0.7], [2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    kept = losses.free_bits(kl, 0.5)
    assert kept.tolist() == [[0.5, 0.7], [2.0, 0.5]]
    assert torch.autograd.grad(kept.sum(), kl)[0].tolist() == [[0, 1], [1, 0]]


def test_gaussian_and_bernoulli_against_distributions():
    mean, x, log_scale = draw(4, 3), draw(4, 3, seed=1), draw(4, 1, seed=2)
    truth = -distributions.Normal(mean, log_scale.exp()).log_prob(x)
    assert torch.allclose(losses.gaussian_nll(mean, x, log_scale), truth)
    bits = (x > 0).double()
    truth = -distributions.Bernoulli(logits=3 * mean).log_prob(bits)
    assert torch.allclose(losses.bernoulli_nll(3 * mean, bits), truth)
    assert losses.bernoulli_nll(torch.tensor(1e4), torch.tensor(0.0)).item() == 1e4


LEVELS = torch.arange(16, dtype=torch.float64) * 0.25 - 1.5
BINS = dict(bin_width=0.25, low=-1.5, high=2.25)


@pytest.mark.parametrize("mean", [-9.0, -1.5, 0.1, 0.125, 2.3, 30.0])
@pytest.mark.parametrize("log_scale", [-4.0, -1.0, 0.0, 3.0, 7.0])
def test_discretised_masses_sum_to_one(mean, log_scale):
    mean, log_scale = torch.tensor(mean).double(), torch.tensor(log_scale).double()
    masses = torch.exp(-losses.discretised_gaussian_nll(mean, LEVELS, log_scale, **BINS))
    assert masses.sum().item() == pytest.approx(1.0, abs=1e-6) and (masses >= 0).all()


def test_discretised_masses_are_differences_of_the_distribution():
    mean, log_scale = torch.tensor(0.3).double(), torch.tensor(-0.7).double()
    edges = torch.cat([torch.tensor([-math.inf]), (LEVELS[1:] + LEVELS[:-1]) / 2, torch.tensor([math.inf])])
    truth = torch.special.ndtr((edges - mean) / log_scale.exp()).diff()
    masses = torch.exp(-losses.discretised_gaussian_nll(mean, LEVELS, log_scale, **BINS))
    assert torch.allclose(masses, truth, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discretised_tails_are_stable(dtype):
    """A hundred deviations away and with very narrow bins: finite, with finite slopes of the right sign."""
    x = torch.tensor([-1.0, 0.0, 0.5, -1.5, 2.25], dtype=dtype)
    for mean_value, log_scale_value in [(4.0, -3.5), (-4.0, -3.5), (0.1, 9.0), (0.1, 20.0)]:
        mean = torch.full_like(x, mean_value).requires_grad_()
        log_scale = torch.full_like(x, log_scale_value).requires_grad_()
        value = losses.discretised_gaussian_nll(mean, x, log_scale, **BINS)
        pulls = torch.autograd.grad(value.sum(), (mean, log_scale))
        assert torch.isfinite(value).all() and all(torch.isfinite(pull).all() for pull in pulls)
        if abs(mean_value) == 4.0:
            assert (pulls[0][:3] * mean_value > 0).all()  # the mean is drawn back towards x
            assert (pulls[1][:3] < 0).all()  # and the scale wants to grow


def test_discretised_gaussian_tail_value():
    """Forty deviations out, ln of the mass by the tail's asymptotic series, far below float64's smallest number."""
    value = losses.discretised_gaussian_nll(
        torch.zeros((), dtype=torch.float64),
        torch.tensor([41.0, -41.0], dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
        bin_width=2.0,
        low=-100.0,
        high=100.0,
    )
    # Between 40 and 42 the mass at the nearer edge decides: Q(40) = phi(40) / 40 (1 - 1/40^2 + 3/40^4 - ...).
    truth = 40.0**2 / 2 + math.log(2 * math.pi) / 2 + math.log(40) - math.log1p(-1 / 1600 + 3 / 40**4)
    assert value.tolist() == pytest.approx([truth, truth], rel=1e-9)


def test_narrow_bins_meet_the_density():
    """Where the two formulas of the Gaussian's mass change hands, they agree."""
    x, mean = torch.linspace(-2, 2, 9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    for width in (0.999e-3, 1.001e-3):
        value = losses.discretised_gaussian_nll(mean, x, torch.zeros(9).double(), bin_width=width, low=-9.0, high=9.0)
        density = losses.gaussian_nll(mean, x, torch.zeros(9).double()) - math.log(width)
        assert torch.allclose(value, density, atol=1e-6)
    # In float32 a difference of distribution functions has two digits left for bins this narrow.
    narrow = dict(bin_width=1e-5, low=-9.0, high=9.0)
    value = losses.discretised_gaussian_nll(mean.float(), x.float(), torch.zeros(9), **narrow)
    assert torch.allclose(value, losses.gaussian_nll(mean, x, torch.zeros(9)).float() - math.log(1e-5), atol=1e-4)
