r"""What a process holds of a diffusion transformer between two steps and at most within one, whole and in shards.

    MALLOC_MMAP_THRESHOLD_=65536 .venv/bin/python -m torch.distributed.run --standalone --nproc-per-node 2 \
        benchmarks/shards.py [--shard] [--width 512] [--depth 8] [--steps 1]

(The variable makes the C library give memory back at once; what a process has is then what it uses.)

One JSON line from each process: bytes of weights, optimizer state and averages (in the first process also those of the
whole copy that samples are made with), the most memory that the steps took beyond what the process had before there was
a model, seconds of a step, and the last error.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from torch import Tensor

from trilemma.batches import Arrays
from trilemma.config import Training
from trilemma.models.contract import configure
from trilemma.spaces import Space, fit_continuous
from trilemma.training.engine import Engine, forget_peak, peak_memory
from trilemma.training.loop import Loop
from trilemma.training.restore import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1)
    asked = parser.parse_args()
    x = np.random.default_rng(0).integers(0, 256, (64, 3, 16, 16)).astype(np.uint8)
    spaces: dict[str, Space] = {"x": fit_continuous(x, low=0, high=255, levels=256)}
    shape = {"network.width": asked.width, "network.depth": asked.depth, "network.patch": 2, "optimizer.batch": 8}
    changes = {"network.kind": "transformer", **shape}
    config = configure("diffusion", spaces, changes=changes)
    engine = Engine(threads=1, shared=True)
    before = forget_peak() or 0
    model = engine.place(build("diffusion", config, spaces, 0))
    count = sum(weight.numel() for weight in model.parameters())
    training = Training(examples=8000, average_every=1, shard=asked.shard)
    loop = Loop(model, Arrays(x), config.optimizer, training, engine, seed=0)
    loop.take_step()
    start, most = time.perf_counter(), forget_peak()
    for _ in range(asked.steps):
        logs = loop.take_step()
    seconds, most = (time.perf_counter() - start) / asked.steps, peak_memory()

    def size(tensors: list[Tensor]) -> int:
        return sum(one.nbytes for one in tensors)

    weights = [weight for group in loop.groups.values() for weight in group]
    states = [entry for one in loop.optimizers.values() for state in one.state.values() for entry in state.values()]
    copied = list(model.parameters()) if loop.shards and engine.main else []
    found = {
        "process": engine.rank, "processes": engine.world, "shard": asked.shard, "parameters": count,
        "weights": size(weights), "optimizer": size([e for e in states if isinstance(e, Tensor)]),
        "averages": sum(size(values) for values in loop.averages.values.values()), "copy": size(copied),
        "most": (most or 0) - before, "seconds": round(seconds, 3), "error": logs["error"],
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    engine.barrier()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
