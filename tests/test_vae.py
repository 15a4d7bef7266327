"""The VAE's likelihoods against closed forms, and its loss on feature maps."""

from __future__ import annotations

import math

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from torch import Tensor, nn

import trilemma as tl
from trilemma.batches import Arrays
from trilemma.modalities.door import open_data
from trilemma.models.contract import Now, configure
from trilemma.models.vae import VAE
from trilemma.networks.conv import Down
from trilemma.spaces import Continuous, fit_continuous
from trilemma.training.features import feature_network


def _vae(**changes: object) -> tuple[VAE, Arrays]:
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 12, 12)).astype(np.uint8)
    spaces = {"x": fit_continuous(x, low=0, high=255, levels=256)}
    torch.manual_seed(0)
    return VAE(configure("vae", spaces, size="xs", changes=dict(changes)), spaces), Arrays(x)


def test_feature_likelihood_is_that_of_gaussians_around_the_maps() -> None:
    model, data = _vae()
    batch = data.gather(np.arange(6))
    params = torch.randn(6, 1, 12, 12)
    with torch.no_grad():
        model.feature_scales.copy_(torch.linspace(-0.2, 0.3, len(model.feature_scales)))
        assert isinstance(model.features, Down)
        made, given = model.features.maps(params), model.features.maps(model.space.embed(batch.x))
        expected = torch.zeros(6)
        for one, other, scale in zip(made, given, model.feature_scales, strict=True):
            normal = torch.distributions.Normal(one, scale.exp())
            expected += -normal.log_prob(other).flatten(1).mean(1) * 144 / len(made)
        torch.testing.assert_close(model.feature_nll(params, batch.x, None), expected)
        # Maps are read where the network reads them: its features follow from the last one.
        last = model.features.leave(made[-1].flatten(1))
        torch.testing.assert_close(last, model.features(params))


def test_the_feature_network_is_frozen_and_the_bound_does_not_know_it() -> None:
    model, data = _vae()
    plain, _ = _vae(features=0.0)
    assert plain.features is None
    learning = {id(p) for p in model.groups()["model"]}
    assert not learning & {id(p) for p in model.features.parameters()}
    batch = data.gather(np.arange(6))
    next(model.losses(batch, Now(0, 0, 100))).loss.backward()
    assert all(p.grad is None for p in model.features.parameters())
    assert model.feature_scales.grad is not None and model.feature_scales.grad.abs().sum() > 0
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("feature")})
    with torch.no_grad():
        bound = model.score(data.gather(np.arange(6)))
        torch.testing.assert_close(bound, plain.score(data.gather(np.arange(6))))
    assert math.isfinite(float(bound.sum()))


def test_a_training_hands_in_the_network_for_losses(tmp_path) -> None:
    run = tl.train("digits", model="vae", out=tmp_path / "run", budget="2k", size="xs", quiet=True)
    trained = feature_network(open_data("digits"), "loss", quiet=True).model
    assert trained is not None
    weights = load_file(run.weights_file)
    for name, tensor in trained.body.state_dict().items():
        assert torch.equal(weights[f"features.{name}"], tensor), name
    assert any("features" in row for row in run.stats())


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
