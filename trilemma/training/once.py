"""Networks that are trained once for a data set, by the one loop, and kept in the cache: what measures and chooses."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from trilemma.batches import Arrays
from trilemma.config import Optimizer, Training
from trilemma.models.contract import Model
from trilemma.training.engine import Engine, bf16_possible
from trilemma.training.loop import Loop
from trilemma.training.progress import Bar
from trilemma.training.run import write_json, write_tensors

AVERAGE = 0.1  # relative deviation of the power average that is kept


def fitted(
    model: Model, held: Arrays, optimizer: Optimizer, *, examples: int, seed: int, what: str, quiet: bool
) -> dict[str, Tensor]:
    """Train a model on so many examples; it is left with its averaged weights, which are returned.

    what: is trained, for the bar.
    """
    training = Training(examples=examples, averages=(AVERAGE,), average_every=4, previews=0)
    engine = Engine(dtype="bfloat16" if bf16_possible("cpu") else "float32", device="cpu")
    loop = Loop(engine.place(model), held, optimizer, training, engine, seed=seed)  # type: ignore[arg-type]
    bar = Bar(what, examples, quiet=quiet)
    loop.go(bar=bar)
    bar.close()
    with loop.averages.applied(model, f"{AVERAGE:.2f}"):
        state = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    return state


def pace(model: Model, held: Arrays, optimizer: Optimizer) -> float:
    """Seconds an example of such a training here and now: the second and third of three steps."""
    training = Training(examples=3 * optimizer.batch, averages=(AVERAGE,), average_every=4, previews=0)
    engine = Engine(dtype="bfloat16" if bf16_possible("cpu") else "float32", device="cpu")
    loop = Loop(engine.place(model), held, optimizer, training, engine, seed=0)  # type: ignore[arg-type]
    loop.take_step()
    start = time.perf_counter()
    for _ in range(2):
        loop.take_step()
    return (time.perf_counter() - start) / (2 * optimizer.batch)


def keep(folder: Path, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Put weights and what is known of them into the cache, whole or not at all."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_tensors(aside / "weights.safetensors", state)
    write_json(aside / "facts.json", facts)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
