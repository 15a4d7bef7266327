"""Other examples out of given ones: part of each is taken away by noise, and drawn anew under what is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays, Options, Request
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.mixed import Attributes
from trilemma.models.contract import Redraws
from trilemma.numbered import Clusters
from trilemma.training.sampling import BATCH, Prompt, merged

Loaded = Any  # a run as `load` gives it; imports point downward


def varied(
    run: Loaded,
    source: Any,
    *,
    draws: int,
    strength: float,
    prompt: Prompt | None,
    label: int | None,
    asked: Options,
    seed: int,
) -> np.ndarray:
    """Raw (n * draws, channels, *grid): `draws` of each given example, one after the other; draw d of example i depends
    on (seed, i, d) alone.

    strength: 0 leaves an example as it is, 1 leaves nothing of it. Without prompt, attributes or label
    nothing is asked for.
    """
    run.require("vary")
    spaces = run.model.spaces
    # Does the model hear what the example was like, whatever is asked for?
    kept = run.model.learns_impressions or any(isinstance(space, Clusters) for space in spaces.values())
    assert isinstance(run.model, Redraws)
    if not 0 <= strength <= 1:
        raise InputError(f"--strength {strength:g}: give a number from 0 (as it is) to 1 (nothing left of it)")
    if draws < 1:
        raise InputError(f"-n {draws}: ask for at least one of each")
    run.check_options(asked, prompt)
    if asked.guidance is not None and label is None and prompt is None and not kept:
        raise InputError(
            f"--guidance {asked.guidance:g}: leads to what is asked for, and nothing is: say what, or leave it out"
        )
    given = run.read(source).x
    x, options = np.repeat(given, draws, 0), merged(run.options, asked)
    device, made = run.engine.device, []
    for start in range(0, len(x), BATCH):
        batch = Arrays(x[start : start + BATCH]).gather(np.arange(len(x[start : start + BATCH])), device=str(device))
        places = np.arange(start, start + len(batch))
        index = places // draws + (places % draws << 32)  # of the example's number, and of the draw's
        tell(spaces, batch)
        told = run.sampler.request(seed, index, label=label, options=options, prompt=prompt)
        raw, present = {}, {}
        for name, space in spaces.items():
            if isinstance(space, Clusters):  # what it was like; much noise may lead it elsewhere
                raw[name], present[name] = batch.raw[name], batch.present[name]
            elif isinstance(space, Attributes) and (prompt is None or prompt.pool is None):
                continue
            elif name in told.raw and (label if name == "label" else prompt) is not None:
                raw[name], present[name] = told.raw[name], told.present[name]
        request = Request(Noise(seed, index, device), raw, present, options, against=told.against)
        with torch.no_grad(), run.engine.autocast():
            made.append(run.sampler.array(run.model.redraw(batch.x, request, strength=strength)))
    return np.concatenate(made)
