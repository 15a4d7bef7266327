"""What an autoencoder's codes keep of unseen examples, and at what price: bits, error, distance, use of a codebook."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from trilemma.conditions import tell
from trilemma.latent import Coder, Latent
from trilemma.metrics.fidelity import frechet_distance
from trilemma.metrics.latent import codebook_use
from trilemma.metrics.pixels import reconstruction_error
from trilemma.metrics.protocol import Measure, over_examples
from trilemma.modalities.contract import Data
from trilemma.models.contract import Decodes, Encodes, Rates
from trilemma.report.measure import SEED, Ruler
from trilemma.spaces import Continuous
from trilemma.tasks.load import Loaded

BATCH = 250


@torch.no_grad()
def coding(loaded: Loaded, data: Data, ruler: Ruler) -> dict[str, Measure]:
    """Of a model with codes, or of the autoencoder within a model of codes; of tables and tokens, nothing.

    The examples are the first ones of the test split, as many as the protocol has samples.
    """
    model, space = loaded.model, loaded.space
    within = isinstance(space, Latent)
    coder = space.autoencoder if within else model
    base = space.outer
    if not (isinstance(coder, Encodes) and isinstance(coder, Decodes) and isinstance(base, Continuous) and base.grid):
        return {}
    x = ruler.test[: ruler.count]
    arrays, device = data.split("test"), str(loaded.engine.device)
    again, bits, tokens = [], [], []
    for part in np.array_split(np.arange(len(x)), -(-len(x) // BATCH)):
        batch = tell(model.spaces, arrays.gather(part, seed=SEED, device=device))
        if within:
            assert isinstance(coder, Coder)
            again.append(loaded.sampler.array(coder.restored(coder.codes(batch.x))))
        else:
            again.append(loaded.sampler.reconstruct(batch))
        if isinstance(coder, Rates):
            bits.append(coder.rate(batch).double().cpu().numpy())
        if isinstance(coder, Coder) and coder.token_count:
            tokens.append(coder.tokens(batch.x).cpu().numpy())
    found: dict[str, Measure] = {}
    made = np.concatenate(again)
    if base.low is not None and base.high is not None:
        errors = reconstruction_error(x, made, span=float(base.high) - float(base.low))
        found["reconstruction_psnr"] = replace(errors["psnr"], name="reconstruction_psnr")
    if ruler.network is not None and len(x) >= 10:
        # Of the same examples: what sampling adds to a distance is in both, so no interval of its own tells much.
        distance = frechet_distance(ruler.features[: len(x)], ruler.network(made))
        found["reconstruction_frechet"] = replace(distance, low=None, high=None, name="reconstruction_frechet")
    if bits:
        found["rate"] = over_examples(np.concatenate(bits), "rate", "lower", "bits", least=0.0)
    if tokens:
        assert isinstance(coder, Coder)
        found |= codebook_use(np.concatenate(tokens), coder.token_count)
    return found
