"""Two stages in one run: an autoencoder is trained first, then a model on its codes (Rombach et al. 2022).

The first stage is a run of its own in the folder `autoencoder` of the second, or one that the user gives. Training
examples are coded once, before the second stage begins; its weights hold those of the autoencoder, so that nothing else
is needed to use it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trilemma.batches import Arrays
from trilemma.config import to_json
from trilemma.errors import InputError, unknown
from trilemma.latent import Coder, Latent, fit_latent
from trilemma.modalities.contract import Data
from trilemma.models.contract import Model, configure, find, known_models
from trilemma.training.engine import Engine
from trilemma.training.restore import build, restore
from trilemma.training.run import Run

FIRST = "autoencoder"  # folder of the first stage
BATCH = 250


def first_stage(name: str, settings: dict[str, Any]) -> str:
    """What codes the data for this model: a model's name, a run's folder, or '' for nothing."""
    model, preset = find(name)
    given = {**model.presets.get(preset, {}), **{key.removeprefix("model."): value for key, value in settings.items()}}
    default = getattr(model.Config(), FIRST, "")
    chosen = str(given.get(FIRST, default) or "")
    if chosen and not Path(chosen).exists() and chosen.partition(":")[0].rpartition(".")[2] != "py":
        coders = [one for one in known_models() if issubclass(find(one)[0], Coder)]
        if chosen not in coders:
            raise unknown(f"setting {FIRST}: a run's folder or a model,", chosen, coders)
    return chosen


def coded(data: Data, autoencoder: Model, name: str, config: dict[str, Any]) -> Data:
    """The data as the second stage sees them: codes of training examples, and the Space that they live in.

    Raises:
        InputError: an autoencoder of examples of another shape, or data with gaps.
    """
    base = data.spaces["x"]
    if not isinstance(autoencoder, Coder):
        raise InputError(f"setting {FIRST}: {name} has no codes on a grid; take a run of codec")
    theirs = autoencoder.space.shape
    if tuple(theirs) != tuple(base.shape):
        raise InputError(
            f"setting {FIRST}: that run codes examples of {_size(theirs)}, these are {_size(base.shape)}; "
            "train another one, or give --resolution"
        )
    if data.observed is not None or data.valid is not None:
        raise InputError(f"setting {FIRST}: these data have gaps, which codes cannot say; leave it out")
    autoencoder.eval()
    shape = tuple(int(side) for side in autoencoder.code_shape)
    made_by = {"model": name, "config": config, "x": autoencoder.space.describe()}
    space = Latent(autoencoder, base, shape, made_by=made_by)
    codes = np.zeros((len(data.x), *shape), dtype=np.float32)
    rows = np.sort(data.splits["train"])
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            batch = Arrays(data.x, rows=some).gather(np.arange(len(some)))
            codes[some] = autoencoder.codes(batch.x).float().numpy()
    fit_latent(space, torch.from_numpy(codes[rows]))
    return replace(data, spaces={**data.spaces, "x": space}, codes=codes)


def coded_by(data: Data, run: Run) -> Data:
    """`coded`, by the autoencoder of a run."""
    config = run.config()
    return coded(data, restore(run, Engine(device="cpu")), config["model"], config["config"])


def coded_untrained(data: Data, name: str, size: str, *, seed: int = 0) -> Data:
    """`coded`, by an autoencoder that has learned nothing: for plans."""
    settings = configure(name, data.spaces, size=size, count=len(data.splits["train"]))
    model = build(name, settings, {"x": data.spaces["x"]}, seed)
    few = {key: rows[:500] for key, rows in data.splits.items()}
    return replace(coded(replace(data, splits=few), model, name, to_json(settings)), splits=data.splits)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
