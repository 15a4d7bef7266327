"""A condition for data without labels: which of k clusters an example falls in.

A set that is broken into parts is easier to learn, and guidance needs a condition (Bao et al. 2022; Adaloglou et al.
2024: cluster-conditioned diffusion is nearly as good as class-conditioned). The clusters are k-means on coarse
versions of the training examples. A model asks for them by a setting `clusters` of its own; nobody else sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from trilemma.batches import Arrays
from trilemma.modalities.contract import Data
from trilemma.spaces import Clusters

FIT = 20_000  # examples that the centres are fitted on, at most
CHUNK = 2000


def clustered(data: Data, config: Any, centres: Tensor | None = None) -> Data:
    """The data with a condition 'cluster', if a model's settings ask for one: by given centres, or by fitted ones."""
    count = getattr(config, "clusters", 0)
    if not count or "cluster" in data.spaces:
        return data
    centres = _fitted(data, count) if centres is None else centres
    space = Clusters(len(centres), centres.shape[1], centres)
    x = data.spaces["x"]
    numbers = torch.cat([space.of(x.embed(part)) for part in _chunks(data, np.arange(len(data.x)))]).numpy()
    spaces, conditions = {**data.spaces, "cluster": space}, {**data.conditions, "cluster": numbers}
    return replace(data, spaces=spaces, conditions=conditions)


def _fitted(data: Data, count: int) -> Tensor:
    """Centres (count, D) by k-means."""
    train = data.splits["train"]
    x, rows = data.spaces["x"], train[:: max(len(train) // FIT, 1)][:FIT]
    seen = torch.cat([Clusters.coarse(x.embed(part)) for part in _chunks(data, rows)]).numpy()
    with threadpool_limits(1):  # sums over several threads come in any order: the centres must be the same again
        means = KMeans(min(count, len(seen)), n_init=1, random_state=0).fit(seen)
    return torch.from_numpy(means.cluster_centers_)


def _chunks(data: Data, rows: np.ndarray) -> Iterator[Tensor]:
    return (batch.x for batch in Arrays(data.x, rows=rows).batches(CHUNK))
