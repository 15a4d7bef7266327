"""Losses of twenty steps of every preset, float64: `python tests/golden_losses.py` writes golden/losses.json anew.

A difference means that some model, network, loss or draw has changed: on purpose, then write the file anew and say so
in the commit; or not. Weights come from our own generator, so that the numbers are the same on every machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import contract_cases as toy
import torch

from trilemma.models.contract import configure, known_models

FILE = Path(__file__).parent / "golden" / "losses.json"
STEPS = 20


def names() -> list[str]:
    return [*known_models(), "features"]


def losses(name: str) -> dict[str, list[float]]:
    """What each step logs: logged quantity -> its value at every step that logs it."""
    case = toy.usual(name)
    config = configure(name, case.spaces, size="xs", count=10_000)
    for part in ("network", "critic"):
        network = getattr(config, part, None)
        if network is not None:
            network.width, network.depth = 8, 1
    if hasattr(config, "augment"):
        config.augment = 0.7  # its gradients and draws belong to the game
    config.optimizer.batch, config.optimizer.warm_up = toy.COUNT, 0
    loop = toy.loop(name, case, steps=STEPS, dtype="float64", config=config)
    toy.randomise(loop.model)
    seen: dict[str, list[float]] = {}
    for _ in range(STEPS):
        for key, value in loop.take_step().items():
            seen.setdefault(key, []).append(value)
    return seen


def write() -> None:
    torch.set_num_threads(1)
    found = {name: losses(name) for name in names()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
    print(f"{FILE}: {len(found)} presets", file=sys.stderr)


if __name__ == "__main__":
    write()
