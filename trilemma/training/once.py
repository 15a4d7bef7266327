"""Networks that are trained once for a data set, by the one loop, and kept in the cache: what measures and chooses."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from trilemma.batches import Arrays
from trilemma.config import Optimizer, Training
from trilemma.errors import DiskError
from trilemma.modalities import cache
from trilemma.modalities.writing import disk_error
from trilemma.models.contract import Model
from trilemma.training.engine import Engine, bf16_possible
from trilemma.training.loop import Loop
from trilemma.training.progress import Bar
from trilemma.training.run import write_json, write_tensors

Known = tuple[dict[str, Tensor], dict[str, Any]]  # weights, and facts about them
UNSTORED: dict[Path, Known] = {}  # what the cache would not take: this process has it once all the same
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


def known(folder: Path, make: Callable[[], Known], *, quiet: bool) -> Known:
    """Weights and facts of an entry of the cache; made now, and put there, where there is none."""
    if (folder / "facts.json").is_file():
        return load_file(folder / "weights.safetensors"), json.loads((folder / "facts.json").read_text("utf-8"))
    if folder not in UNSTORED:
        state, facts = make()
        try:
            with storing(folder) as aside:
                write_tensors(aside / "weights.safetensors", state)
                write_json(aside / "facts.json", facts)
        except DiskError as problem:
            if not quiet:
                print(f"what was trained is used and not kept: {problem}", file=sys.stderr)
            UNSTORED[folder] = state, facts
        return state, facts
    return UNSTORED[folder]


@contextlib.contextmanager
def storing(folder: Path) -> Iterator[Path]:
    """A folder aside that becomes this entry of the cache, whole or not at all; DiskError where it cannot."""
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        yield aside
        try:
            aside.rename(folder)
        except OSError:
            if not (folder / "facts.json").is_file():  # else another process was first with the same
                raise
    except OSError as error:
        raise disk_error(error, cache.root(), cache.FIX) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
