"""A condition for data without labels: which of k clusters an example falls in.

A set that is broken into parts is learned faster, and guidance needs a condition (Bao et al. 2022; Adaloglou et al.
2024: cluster-conditioned diffusion is nearly as good as class-conditioned). The clusters are k-means on coarse
versions of training examples. They are a Space of the model, so that its weights keep them; `conditions.tell` puts
the number of an example's cluster into its batch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from trilemma.batches import Arrays
from trilemma.errors import InputError
from trilemma.maths.mixtures import k_means
from trilemma.modalities.contract import Data
from trilemma.models.contract import Model
from trilemma.numbered import Clusters
from trilemma.spaces import masked

FIT = 10_000  # examples that the centres are fitted on, at most
ROUNDS = 30  # of k-means, at most
VALUES = 1 << 22  # numbers held at once while examples are read


def clustered(data: Data, model: type[Model], config: Any, start: Model | None = None) -> Data:
    """The data with a Space 'cluster', if this model's settings ask for one: `start`'s, or one fitted here."""
    count = config.clusters if model.finds_clusters else 0
    if not count or "cluster" in data.spaces:
        return data
    if set(data.spaces) - {"x", "other"}:
        told = "attributes" if "attributes" in data.spaces else "labels"
        raise InputError(f"setting clusters={count}: these data have {told}, which say more; leave it out")
    seen = _coarse(data)
    if start is not None:
        theirs = dict(start.spaces.items()).get("cluster")
        if not isinstance(theirs, Clusters) or theirs.count != count:
            raise InputError(f"setting clusters={count}: the run of --from has others, or none; leave it out")
        centres = theirs.centres.cpu()
        if centres.shape[1] != seen.shape[1]:
            raise InputError("--from: that run has examples of another shape; its weights do not fit here")
    else:
        with threadpool_limits(1):  # sums over several threads may differ: the centres must be the same again
            coarse, most = seen.double().numpy(), min(count, len(seen))
            centres = torch.from_numpy(k_means(coarse, most, np.random.RandomState(0), rounds=ROUNDS)[0])
    found = Clusters(*centres.shape)
    found.centres.copy_(centres)
    # One more than was seen: no cluster is impossible.
    found.shares.copy_(torch.bincount(found.nearest(seen)[:, 0], minlength=found.count) + 1.0)
    found.shares.div_(found.shares.sum())
    return replace(data, spaces={**data.spaces, "cluster": found})


def _coarse(data: Data) -> Tensor:
    """Coarse training examples (n, D), read in the order of the disk."""
    space, train = data.spaces["x"], data.splits["train"]
    rows = np.sort(train[:: max(len(train) // FIT, 1)][:FIT])
    arrays = Arrays(data.x if data.codes is None else data.codes, observed=data.observed, valid=data.valid, rows=rows)
    parts = []
    for batch in arrays.batches(max(VALUES // math.prod(data.x.shape[1:]), 1)):
        parts.append(Clusters.coarse(space.embed(batch.x), masked(space, batch.observed, batch.valid)))
    return torch.cat(parts)
