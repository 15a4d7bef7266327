"""The network that reads sources off targets: trained once for a set of pairs, on their train split, by the one loop.

It measures alone: no loss, guidance or choice ever hears of it. Cached by the data's hash.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from trilemma.batches import Arrays
from trilemma.config import Training, to_json
from trilemma.modalities import cache
from trilemma.modalities.contract import Data
from trilemma.models.contract import configure
from trilemma.models.reader import Config, Reader
from trilemma.training.engine import Engine, bf16_possible
from trilemma.training.loop import Loop
from trilemma.training.progress import Bar
from trilemma.training.run import write_json, write_tensors

SEED = 505
BATCH = 100
RECIPE = 1  # a new number wherever the network or its training changes


class SourceReader:
    """Raw targets (n, channels, *grid) -> their sources as the network reads them."""

    def __init__(self, model: Reader):
        self.model = model

    @torch.no_grad()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(x), BATCH):
            part = x[start : start + BATCH]
            parts.append(self.model.read(Arrays(part).gather(np.arange(len(part)))).numpy())
        return np.concatenate(parts)


def examples_for(data: Data) -> int:
    """Thirty passes, within bounds that keep it to half a minute or so."""
    space = data.spaces["source"]
    most = max(160_000_000 // (int(np.prod(space.grid)) * (space.width + 24)), 1000)  # planes of classes cost, too
    return int(min(max(30 * len(data.splits["train"]), 2000), most, 6000))


def source_reader(data: Data, *, quiet: bool = False) -> SourceReader:
    """The network of these pairs: from the cache, or trained now."""
    spaces = {name: data.spaces[name] for name in ("x", "source")}
    config: Config = configure("reader", spaces, size="xs", count=len(data.splits["train"]))
    recipe = json.dumps([data.hash, SEED, examples_for(data), to_json(config), RECIPE])
    folder = cache.root() / "features" / f"reader-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}"
    torch.manual_seed(SEED)
    model = Reader(config, spaces)
    if not (folder / "facts.json").is_file():
        _train(model, config, data, folder, quiet=quiet)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return SourceReader(model.eval())


def _train(model: Reader, config: Config, data: Data, folder: Path, *, quiet: bool) -> None:
    training = Training(examples=examples_for(data), averages=(0.1,), average_every=4, previews=0)
    engine = Engine(dtype="bfloat16" if bf16_possible("cpu") else "float32", device="cpu")
    held = data.split("train")
    pairs = Arrays(held.x, {"source": held.conditions["source"]}, rows=held.rows)
    loop = Loop(engine.place(model), pairs, config.optimizer, training, engine, seed=SEED)  # type: ignore[arg-type]
    bar = Bar("what reads sources off targets", training.examples, quiet=quiet)
    loop.go(bar=bar)
    bar.close()
    with loop.averages.applied(model, "0.10"):
        state = {key: value.clone() for key, value in model.state_dict().items()}
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_tensors(aside / "weights.safetensors", state)
    write_json(aside / "facts.json", {"seed": SEED, "data": data.hash, "examples": training.examples})
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
