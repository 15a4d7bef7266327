"""Paths, predictions, noise densities and grids against closed forms."""

import math

import pytest
import torch

from trilemma.maths import paths
from trilemma.maths.shapes import expand, mean_per_example, sum_per_example

torch.set_num_threads(1)
SHAPES = [(2, 3), (2, 3, 5), (2, 3, 5, 4), (2, 3, 6, 5, 4)]  # batch, channels and sides all differ


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_per_example(shape):
    x = draw(*shape)
    t = torch.tensor([10.0, 20.0], dtype=torch.float64)
    shifted = x + expand(t, x)
    for i in range(2):
        assert torch.equal(shifted[i], x[i] + t[i])
        assert mean_per_example(x)[i] == pytest.approx(x[i].mean().item(), abs=1e-12)
        assert sum_per_example(x)[i] == pytest.approx(x[i].sum().item(), abs=1e-12)
    assert torch.equal(x * expand(t[0], x), x * 10) and expand(0.1, x) == 0.1


@pytest.mark.parametrize("name", paths.PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_inverts_the_scaled_level(name, dtype):
    path = paths.PATHS[name]()
    t = torch.linspace(0.01, 0.99, 50, dtype=dtype)
    for values in (path.alpha(t), path.sigma(t), path.time(path.scaled_sigma(t))):
        assert values.dtype == dtype and values.shape == t.shape
    assert torch.allclose(path.time(path.scaled_sigma(t)), t, atol=1e-5 if dtype == torch.float32 else 1e-11)
    assert (path.scaled_sigma(t).diff() > 0).all()


@pytest.mark.parametrize("name", ["cosine", "ddpm"])
def test_variance_preserving_paths_preserve_variance(name):
    path, t = paths.PATHS[name](), torch.linspace(0, 1, 77, dtype=torch.float64)
    assert torch.allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t), atol=1e-12)


def test_path_ends():
    ends = torch.tensor([0.0, 1.0])
    for name in ("linear", "cosine"):
        path = paths.PATHS[name]()
        assert path.alpha(ends).tolist() == [1, 0] and path.sigma(ends).tolist() == [0, 1]
        assert path.scaled_sigma(ends).tolist() == [0, math.inf]  # and not a large negative level
    assert paths.edm_path().sigma(ends.double()).tolist() == pytest.approx([0.004, 160])
    assert paths.linear_path().alpha(torch.tensor(0.3)).item() == pytest.approx(0.7)
    assert paths.cosine_path().alpha(torch.tensor(1 / 3)).item() == pytest.approx(math.sqrt(0.75))


@pytest.mark.parametrize("steps", [1000, 100])
def test_ddpm_path_is_the_iterated_forward_chain(steps):
    """q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t), iterated from x_0 (Ho et al. 2020, eq. 2)."""
    mean, variance, means, variances = 1.0, 0.0, [1.0], [0.0]
    for k in range(steps):
        beta = (1e-4 + (0.02 - 1e-4) * k / (steps - 1)) * 1000 / steps
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        means.append(mean)
        variances.append(variance)
    path, t = paths.ddpm_path(steps), torch.arange(steps + 1, dtype=torch.float64) / steps
    assert path.alpha(t).tolist() == pytest.approx(means, rel=1e-10)
    assert (path.sigma(t) ** 2).tolist() == pytest.approx(variances, rel=1e-10, abs=1e-15)
    between = torch.tensor([0.5 / steps], dtype=torch.float64)
    assert path.alpha(between).item() == pytest.approx(means[1] ** 0.5, rel=1e-12)  # half of step 1's rate


@pytest.mark.parametrize("name", paths.PATHS)
def test_forward_marginals(name):
    """Mean and variance of x_t = alpha x_0 + sigma noise for orthogonal x_0 ~ (0.7, 0.5^2) and noise ~ (0, 1)."""
    path = paths.PATHS[name]()
    x0 = 0.7 + 0.5 * torch.tensor([1.0, 1, -1, -1], dtype=torch.float64)
    noise = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)
    for t in torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64):
        alpha, sigma = path.alpha(t), path.sigma(t)
        # Back from eps to x_t, so that the conversions are what is tested.
        x_t = alpha * x0 + sigma * noise
        assert x_t.mean().item() == pytest.approx(0.7 * alpha.item())
        assert x_t.var(correction=0).item() == pytest.approx((0.25 * alpha**2 + sigma**2).item())
        scaled = x_t / alpha
        assert scaled.var(correction=0).item() == pytest.approx(0.25 + path.scaled_sigma(t).item() ** 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", paths.PREDICTIONS)
@pytest.mark.parametrize("name", paths.PATHS)
def test_predictions_round_trip(kind, shape, name):
    path = paths.PATHS[name]()
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    x0, noise, other = draw(*shape, seed=1), draw(*shape, seed=2), draw(*shape, seed=3)
    x_t = expand(alpha, x0) * x0 + expand(sigma, x0) * noise
    truth = paths.target(kind, x0, noise, alpha, sigma)
    assert torch.allclose(paths.to_x0(kind, truth, x_t, alpha, sigma), x0, atol=1e-8)
    # Off the truth, too, they are one straight line in the prediction.
    half = paths.to_x0(kind, (truth + other) / 2, x_t, alpha, sigma)
    assert torch.allclose(2 * half - x0, paths.to_x0(kind, other, x_t, alpha, sigma), atol=1e-8)
    one = paths.to_x0(kind, other[:1], x_t[:1], alpha[0].item(), sigma[0].item())
    assert torch.allclose(one, paths.to_x0(kind, other, x_t, alpha, sigma)[:1])


def test_predictions_are_the_papers_formulas():
    x0, noise, alpha, sigma = draw(4, 2, seed=1), draw(4, 2, seed=2), 0.8, 0.6
    assert torch.equal(paths.target("eps", x0, noise, alpha, sigma), noise)
    assert torch.equal(paths.target("x0", x0, noise, alpha, sigma), x0)
    assert torch.allclose(paths.target("v", x0, noise, alpha, sigma), 0.8 * noise - 0.6 * x0)
    assert torch.allclose(paths.target("velocity", x0, noise, alpha, sigma), noise - x0)
    assert torch.allclose(paths.target("F", x0, noise, alpha, sigma), -paths.target("v", x0, noise, alpha, sigma))
    # EDM's table 1 with sigma_data = 1, in scaled coordinates.
    s = torch.tensor([0.3, 0.75, 2.0, 50.0], dtype=torch.float64)
    y, answer = x0 + s[:, None] * noise, draw(4, 2, seed=3)
    power = 1 + s[:, None] ** 2
    denoised = y / power + s[:, None] / power.sqrt() * answer
    assert torch.allclose(denoised, paths.to_x0("F", answer, y, torch.ones(4, dtype=torch.float64), s))
    with pytest.raises(ValueError, match="velocity"):
        paths.target("score", x0, noise, alpha, sigma)
    with pytest.raises(ValueError, match="velocity"):
        paths.skip_and_out("score", alpha, sigma)


@pytest.mark.parametrize(
    ("weight", "kind", "path"),
    [("edm", "F", "edm"), ("edm", "v", "cosine"), ("simple", "eps", "ddpm"), ("velocity", "velocity", "linear")],
)
def test_weights_make_the_loss_one_on_the_prediction(weight, kind, path):
    path, t = paths.PATHS[path](), torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    x0, noise, answer = draw(3, 5, seed=1), draw(3, 5, seed=2), draw(3, 5, seed=3)
    x_t = alpha[:, None] * x0 + sigma[:, None] * noise
    wanted = mean_per_example((answer - paths.target(kind, x0, noise, alpha, sigma)) ** 2)
    error = mean_per_example((paths.to_x0(kind, answer, x_t, alpha, sigma) - x0) ** 2)
    assert torch.allclose(paths.loss_weight(weight, sigma / alpha) * error, wanted)


def test_signal_to_noise_weights():
    s = torch.tensor([0.1, 0.5, 3.0], dtype=torch.float64)
    assert paths.loss_weight("snr", s).tolist() == pytest.approx([100, 4, 1 / 9])
    assert paths.loss_weight("min-snr", s).tolist() == pytest.approx([5, 4, 1 / 9])
    assert paths.loss_weight("min-snr", s, gamma=2.0).tolist() == pytest.approx([2, 2, 1 / 9])
    with pytest.raises(ValueError, match="min-snr"):
        paths.loss_weight("max-snr", s)


def test_weights_on_predictions():
    s = torch.tensor([0.1, 0.5, 3.0], dtype=torch.float64)
    for prediction, own in (("F", "edm"), ("eps", "simple"), ("velocity", "velocity")):
        for name in ("natural", own):
            assert torch.allclose(paths.prediction_weight(name, prediction, s), torch.ones_like(s))
    # The same weight on the error of x_0, whatever the network predicts: eps has 1 / s of its error.
    assert torch.allclose(paths.prediction_weight("min-snr", "x0", s), paths.loss_weight("min-snr", s))
    assert paths.prediction_weight("min-snr", "eps", s).tolist() == pytest.approx([0.05, 1.0, 1.0])


def test_training_densities():
    # The midpoints of 1000 equally likely pieces of a standard normal stand for its draws.
    z = torch.special.ndtri((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    logs = paths.log_normal_sigma(z).log()
    assert logs.mean().item() == pytest.approx(-0.51, abs=1e-9) and logs.std().item() == pytest.approx(1.2, rel=0.01)
    assert torch.equal(paths.uniform_step(z, 1000), torch.arange(1, 1001))
    assert paths.uniform_step(torch.tensor([-40.0, 40.0]), 250).tolist() == [1, 250]


def test_grids():
    for steps in (1, 2, 18):
        grids = [paths.karras_sigmas(steps)]
        grids += [paths.uniform_sigmas(paths.PATHS[name](), steps, high=80.0) for name in ("linear", "cosine", "ddpm")]
        grids += [paths.ddpm_sigmas(steps), paths.ddpm_sigmas(steps, train_steps=200)]
        for grid in grids:
            assert grid.shape == (steps + 1,) and grid.dtype == torch.float64
            assert grid[-1] == 0 and (grid.diff() < 0).all() and torch.isfinite(grid).all()
        assert [grid[0].item() for grid in grids[:4]] == pytest.approx([160, 80, 80, 80])
    # EDM's paper, 18 steps from 80 to 0.002, times 2; the second level by its equation 5.
    grid = paths.karras_sigmas(18)
    assert grid[17].item() == pytest.approx(0.004)
    assert grid[1].item() == pytest.approx(2 * (80 ** (1 / 7) + (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17) ** 7)
    linear = paths.uniform_sigmas(paths.linear_path(), 10, high=99.0)
    assert (linear / (1 + linear)).tolist() == pytest.approx([0.99 * (1 - i / 10) for i in range(11)])


def test_ddpm_grid_is_the_trained_levels():
    path = paths.ddpm_path(1000)
    every = path.scaled_sigma(torch.arange(1000, -1, -1, dtype=torch.float64) / 1000)
    assert torch.allclose(paths.ddpm_sigmas(1000), every, rtol=1e-9)
    assert torch.allclose(paths.ddpm_sigmas(4), every[::250], rtol=1e-9)
    with pytest.raises(ValueError, match="trained with 1000 steps"):
        paths.ddpm_sigmas(1001)
    with pytest.raises(ValueError, match="at least 21"):
        paths.ddpm_alpha_bar(20)
    assert (paths.ddpm_alpha_bar(21) > 0).all()
    with pytest.raises(ValueError, match="at least one step"):
        paths.karras_sigmas(0)
