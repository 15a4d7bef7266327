"""A Gaussian mixture over codes, one per class where labels are known: the ex-post prior of Ghosh et al. 2020.

Fitted after training on codes of training examples, by EM; its parameters are buffers of the model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from trilemma.maths.mixtures import gaussians


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
            weights, means, covariances = gaussians(mine, count, floor=1e-4 * spread, seed=seed)
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
