"""A Gaussian mixture over codes, one per class where labels are known: the ex-post prior of Ghosh et al. 2020.

Fitted after training on codes of training examples, by scikit-learn's EM (one Gaussian alone in closed form); its
parameters are buffers of the model.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """`classes` mixtures of `components` full-covariance Gaussians in `size` dimensions."""

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, size: int, components: int, classes: int = 1):
        super().__init__()
        self.register_buffer("weights", torch.full((classes, components), 1 / components))
        self.register_buffer("means", torch.zeros(classes, components, size))
        self.register_buffer("factors", torch.eye(size).expand(classes, components, -1, -1).clone())

    @property
    def classes(self) -> int:
        return len(self.weights)

    def fit(self, codes: np.ndarray, labels: np.ndarray | None, *, seed: int, most: int = 20_000) -> None:
        """Fit to codes (N, size), class by class when `labels` (N,) are given; an empty class gets the whole."""
        codes = codes.astype(np.float64)
        spread = codes.var(0).mean() + 1e-12
        for number in range(self.classes):
            mine = codes if labels is None or self.classes == 1 else codes[labels == number]
            if len(mine) < 2:
                mine = codes
            mine = mine[:most]
            # A component needs clearly more examples than dimensions, or it sits on a handful of them.
            count = int(np.clip(len(mine) // (3 * codes.shape[1]), 1, self.weights.shape[1]))
            weights, means, covariances = mixed(mine, count, floor=1e-4 * spread, seed=seed)
            self.weights[number] = 0
            self.weights[number, :count] = torch.from_numpy(weights)
            self.means[number, :count] = torch.from_numpy(means)
            self.factors[number, :count] = torch.from_numpy(np.linalg.cholesky(covariances))

    def sample(self, normal: Tensor, uniform: Tensor, labels: Tensor | None) -> Tensor:
        """Codes from normal (B, size) and uniform (B,) draws; `labels` (B,) choose the mixture."""
        normal = normal.to(self.factors.dtype)
        which = torch.zeros(len(normal), dtype=torch.long) if labels is None or self.classes == 1 else labels.long()
        which = which.to(self.weights.device)
        chosen = (self.weights[which].cumsum(1) < uniform.unsqueeze(1) * self.weights[which].sum(1, keepdim=True)).sum(
            1
        )
        chosen = chosen.clamp(max=self.weights.shape[1] - 1)
        return self.means[which, chosen] + (self.factors[which, chosen] @ normal.unsqueeze(2)).squeeze(2)


def mixed(codes: np.ndarray, count: int, *, floor: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (K,), means (K, D), covariances (K, D, D) of `count` Gaussians for codes (N, D); floor: of variances."""
    if count == 1:  # has a closed form, which a short training need not wait for scikit-learn to start for
        mean = codes.mean(0)
        apart = codes - mean
        return np.ones(1), mean[None], (apart.T @ apart / len(codes) + floor * np.eye(len(mean)))[None]
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(count, reg_covar=floor, max_iter=30, random_state=seed % 2**32, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged in 30 rounds is good enough for a sampler
        model.fit(codes)
    return model.weights_, model.means_, model.covariances_
