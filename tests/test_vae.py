"""The VAE's likelihoods against closed forms, and its likelihood of texture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from trilemma.batches import Arrays, Request
from trilemma.maths.noise import Noise
from trilemma.models.contract import Now, configure, find
from trilemma.models.vae import VAE
from trilemma.networks.texture import Texture, cosines, texture_nll
from trilemma.spaces import Continuous, Space, fit_continuous


def _vae(**changes: object) -> tuple[VAE, Arrays]:
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 12, 12)).astype(np.uint8)
    spaces = {"x": fit_continuous(x, low=0, high=255, levels=256)}
    torch.manual_seed(0)
    return VAE(configure("vae", spaces, size="xs", changes=dict(changes)), spaces), Arrays(x)


def test_texture_is_the_mean_magnitude_of_a_bank_of_filters() -> None:
    """Against plain loops over windows; blind to brightness, and blur takes energy away."""
    texture = Texture(2, (10, 9))
    x = torch.randn(3, 2, 10, 9)
    (energies,) = texture(x)
    responses = torch.nn.functional.conv2d(x, texture.filters, padding=1).abs()
    for row, column in ((0, 0), (2, 1), (3, 2)):
        window = responses[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
        torch.testing.assert_close(energies[:, :, row, column], window.mean((2, 3)))
    torch.testing.assert_close(texture.filters.flatten(2).mean(2), torch.zeros(16, 2), atol=1e-6, rtol=0)
    # One band each: orthonormal, with the two constants all that a patch of 3 x 3 in two channels can hold.
    bank = texture.filters.flatten(1)
    torch.testing.assert_close(bank @ bank.T, torch.eye(16), atol=1e-5, rtol=0)
    inside = (slice(None), slice(None), 1, 1)  # away from the border
    torch.testing.assert_close(texture(x + 5)[0][inside], energies[inside], atol=1e-4, rtol=1e-4)
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    assert texture(blurred)[0].mean() < 0.6 * energies.mean()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_cosines_are_scipy_s(count: int) -> None:
    expected = scipy.fft.dct(np.eye(count), axis=0, norm="ortho")
    torch.testing.assert_close(cosines(count), torch.from_numpy(expected).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("grid", "scales"), [((8, 8), 1), ((28, 28), 3), ((12,), 1), ((4, 4, 4), 1), ((64, 48), 3)])
def test_texture_on_any_grid(grid: tuple[int, ...], scales: int) -> None:
    texture = Texture(3, grid)
    energies = texture(torch.randn(2, 3, *grid))
    assert len(energies) == texture.scales == scales
    assert texture.count == 3 * (3 ** len(grid) - 1)
    assert all(e.shape[:2] == (2, texture.count) and e.dim() == 2 + len(grid) for e in energies)


def test_texture_likelihood_is_that_of_gaussians_around_the_energies() -> None:
    model, data = _vae()
    batch, params = data.gather(np.arange(6)), torch.randn(6, 1, 12, 12)
    assert model.texture is not None
    with torch.no_grad():
        model.texture_scale.fill_(-0.3)
        expected = torch.zeros(6)
        for one, other in zip(model.texture(params), model.texture(model.space.embed(batch.x)), strict=True):
            normal = torch.distributions.Normal(one, math.exp(-0.3))
            expected += -normal.log_prob(other).flatten(1).mean(1) * 144 / model.texture.scales
        found = texture_nll(model.texture, model.texture_scale, model.space.embed(batch.x), params)
        torch.testing.assert_close(found, expected)


def test_the_bound_does_not_know_of_texture() -> None:
    model, data = _vae()
    plain, _ = _vae(texture=0.0)
    assert plain.texture is None
    next(model.losses(data.gather(np.arange(6)), Now(0, 0, 100))).loss.backward()
    assert model.texture_scale.grad is not None and model.texture_scale.grad.abs().sum() > 0
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("texture")})
    with torch.no_grad():
        bound = model.score(data.gather(np.arange(6)))
        torch.testing.assert_close(bound, plain.score(data.gather(np.arange(6))))
    assert math.isfinite(float(bound.sum()))


class Posterior(nn.Module):
    """x -> mean and log variance of the linear-Gaussian model's exact posterior, in rotated coordinates."""

    def __init__(self, weights: Tensor, variance: float):
        super().__init__()
        precision = weights.T @ weights + variance * torch.eye(weights.shape[1])
        self.register_buffer("gain", torch.linalg.solve(precision, weights.T))
        # Its columns are orthogonal (principal axes), so the posterior's covariance is diagonal.
        self.register_buffer("log_variance", (variance / precision.diagonal()).log())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x @ self.gain.T, self.log_variance.expand(len(x), -1)], 1)


class LinearDecoder(nn.Module):
    def __init__(self, weights: Tensor):
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weights.T


def test_bound_of_a_linear_gaussian_model_is_the_likelihood_of_probabilistic_pca() -> None:
    """Tipping & Bishop 1999: with the exact posterior the bound is tight; scikit-learn's PCA knows the likelihood."""
    generator = np.random.default_rng(3)
    raw = generator.normal(size=(4000, 5)) @ generator.normal(size=(5, 5)) + generator.normal(size=5) * 3
    pca = PCA(2).fit(raw)
    deviation = 2.0  # one for all columns: the noise stays isotropic
    space = Continuous((5,), mean=torch.tensor(pca.mean_), deviation=torch.full((5,), deviation))
    variance = pca.noise_variance_
    axes = pca.components_.T * np.sqrt(pca.explained_variance_ - variance)
    weights = torch.tensor(axes / deviation, dtype=torch.float64)
    networks = {"encoder": Posterior(weights, variance / deviation**2), "decoder": LinearDecoder(weights)}
    spaces = {"x": space}
    model = VAE(configure("vae", spaces, changes={"latent": 2}), spaces, networks=networks).double()
    model.log_scale.data.fill_(0.5 * math.log(variance / deviation**2))
    for x in raw[:5]:
        copies = Arrays(np.repeat(x[None], 20_000, 0)).gather(np.arange(20_000), seed=1)
        with torch.no_grad():
            bound = model.score(copies).double()  # one draw of the posterior each
        error = float(bound.std()) / 20_000**0.5
        assert abs(float(bound.mean()) - pca.score_samples(x[None])[0]) < 4 * error + 1e-4
        assert error < 0.02
    # Any other posterior is worse by its divergence from the true one: here by a shift of the mean.
    model.encoder.gain.mul_(1.3)
    with torch.no_grad():
        assert float(model.score(copies).mean()) < pca.score_samples(x[None])[0] - 5 * error


def test_draws_of_series_have_the_noise_of_their_law() -> None:
    """Each channel its own; means alone are too sure. Of pictures the mean is what is wanted."""
    x = np.random.default_rng(0).normal(size=(64, 2, 16)).astype(np.float32) * [[[0.3], [2.0]]]
    space = fit_continuous(x)
    log_scale, params, wide = torch.tensor([0.5, 0.1]).log(), torch.zeros(4000, 2, 16), torch.zeros(3, 2, 4, 4)
    noise = Noise(0, np.arange(4000))
    found = space.embed(space.realise(params, noise, log_scale=log_scale))
    torch.testing.assert_close(found.std((0, 2)), torch.tensor([0.5, 0.1]), rtol=0.02, atol=0)
    expected = torch.distributions.Normal(params, torch.tensor([0.5, 0.1]).reshape(1, 2, 1)).log_prob(found)
    torch.testing.assert_close(space.terms(params, space.decode(found), log_scale=log_scale), -expected)
    pictures = Continuous((2, 4, 4))
    assert torch.equal(pictures.realise(wide, Noise(0, np.arange(3)), log_scale=torch.zeros(())), pictures.decode(wide))
    spaces: dict[str, Space] = {"x": space}
    model = VAE(configure("vae", spaces, size="xs"), spaces)
    assert model.log_scale.shape == (2,) and model.texture is None


@pytest.mark.parametrize("name", ["vae", "autoencoder"])
def test_samples_of_series_vary_by_what_is_missed(name: str) -> None:
    """A decoder that always gives the mean: what is made of white noise is white noise again, gaps left out."""
    x = np.random.default_rng(0).normal(size=(500, 1, 16)).astype(np.float32)
    observed = np.random.default_rng(1).uniform(size=x.shape) < 0.8
    x[~observed] = 50.0  # whatever stands there
    spaces: dict[str, Space] = {"x": Continuous((1, 16))}
    model = find(name)[0](configure(name, spaces, size="xs"), spaces)
    for parameter in model.decoder.parameters():
        parameter.data.zero_()
    with torch.no_grad():
        model.fit([Arrays(x, observed=observed).gather(np.arange(500))], Noise(0, np.arange(1)))
        made = model.sample(Request(Noise(0, np.arange(2000))))
    assert float(made.std()) == pytest.approx(1, abs=0.03)
