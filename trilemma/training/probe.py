"""What is fast on this machine: steps of a throw-away copy, timed before step 1 on real batches, and remembered."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trilemma.config import Training, Tuning, to_json
from trilemma.errors import DiskError
from trilemma.modalities import cache
from trilemma.modalities.contract import Data
from trilemma.models.contract import Now
from trilemma.training.engine import Engine, all_threads, bf16_possible
from trilemma.training.loop import Loop
from trilemma.training.machine import convolution_rate
from trilemma.training.optimizers import MakeOptimizer
from trilemma.training.restore import build
from trilemma.training.run import write_json

COMMON_RATE = 450e9  # operations/s of that convolution on the machine on which the dial of sizes was tuned, bf16
PACE_TRIES, PACE_IMAGES = 100, 4  # each so short that some of them meet no other work
CLEAR_WIN = 1.15  # a setting other than the default must be this much faster
WORTH_COMPILING = 3600.0  # seconds of a budget: networks take minutes to compile


class Probe:
    """Times steps and samples of a throw-away copy on real batches."""

    def __init__(
        self, name: str, config: Any, data: Data, seed: int, *, networks: dict | None, make: MakeOptimizer | None,
        tuning: Tuning | None = None,
    ):  # fmt: skip
        self.name, self.config, self.data, self.seed = name, config, data, seed
        self.networks, self.make, self.tuning = networks, make, tuning

    def loop(self, training: Training, dtype: str) -> Loop:
        engine = Engine(dtype=dtype, threads=training.threads)
        networks = copy.deepcopy(self.networks)
        config, spaces = copy.deepcopy(self.config), self.data.spaces
        model = engine.place(build(self.name, config, spaces, self.seed, networks=networks, tuning=self.tuning))
        trial = replace(training, examples=10**9, branches=(), corrections=(), flip=False)
        optimizer = copy.deepcopy(self.config.optimizer)
        optimizer.warm_up = 0
        return Loop(model, self.data.split("train"), optimizer, trial, engine, seed=self.seed, make=self.make)  # type: ignore[arg-type]

    def seconds(self, loop: Loop, most: float) -> float:
        """Median-like time of a step: the mean over runs of a few steps (penalties may come every second step)."""
        for _ in range(2):
            loop.take_step()
        times: list[float] = []
        begin = time.perf_counter()
        while not times or (time.perf_counter() - begin < most and len(times) < 12):
            start = time.perf_counter()
            for _ in range(4):
                loop.take_step()
            loop.engine.synchronize()
            times.append((time.perf_counter() - start) / 4)
        return float(np.median(times))

    def gradient(self, dtype: str, training: Training) -> torch.Tensor:
        """Gradient of the first turn on the first batch, flat, fp32."""
        loop = self.loop(training, dtype)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in loop.model.parameters():  # layers that start at zero would hide all that is behind them
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator).to(weight))
        run = loop.model.losses(loop.batch(), Now(0, 0, 10**9))
        with loop.engine.autocast():
            turn = next(run)
        turn.loss.backward()
        return torch.cat([p.grad.float().flatten() for p in loop.model.parameters() if p.grad is not None])

    def agree(self, training: Training) -> bool:
        """Is the bf16 gradient the fp32 gradient, but for rounding?"""
        one, two = self.gradient("float32", training), self.gradient("bfloat16", training)
        cosine = torch.nn.functional.cosine_similarity(one, two, dim=0)
        return bool(torch.isfinite(two).all()) and float(cosine) > 0.98 and 0.9 < float(two.norm() / one.norm()) < 1.1


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{device} {torch.get_num_threads()} threads {capability} torch {torch.__version__}"


def remembered(probe: Probe, *asked: Any, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `find` found for this machine, model and shape of data, now or in an earlier training."""
    about = [machine(), probe.name, to_json(probe.config), list(probe.data.x.shape[1:]), *asked]
    return _once(about, find)


def _once(about: list[Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    file = cache.root() / "probe" / f"{key}.json"
    if file.is_file():
        return dict(json.loads(file.read_text()))
    found = {**find(), "machine": machine()}
    with contextlib.suppress(OSError, DiskError):  # it is found again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, found)
    return found


def pace(threads: int) -> float:
    """How fast this processor convolves, in its faster type of number, as a share of the machine the dial was tuned on.

    Both with their threads (that one had two): a training of as many seconds sees that share of the examples. One
    thread is timed and stands for all: several wait for each other wherever other work holds one of them up.
    """

    def find() -> dict[str, Any]:
        engine, before = Engine(device="cpu"), torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            dtype = torch.bfloat16 if bf16_possible("cpu") else torch.float32
            return {"rate": convolution_rate(engine, dtype, tries=PACE_TRIES, images=PACE_IMAGES)}
        finally:
            torch.set_num_threads(before)

    return threads * float(_once([machine(), "pace"], find)["rate"]) / COMMON_RATE


def dtype_verdict(probe: Probe, training: Training, most: float) -> str:
    """bfloat16 where it is clearly faster and agrees with float32."""

    def find() -> dict[str, Any]:
        if not probe.agree(training):
            return {"dtype": "float32"}

        def timed() -> list[float]:
            return [probe.seconds(probe.loop(training, dtype), most) for dtype in ("float32", "bfloat16")]

        slow, fast = timed()
        if slow <= CLEAR_WIN * fast:  # once more: the answer is kept, and other work may have hit the one that lost
            slow, fast = map(min, zip((slow, fast), timed(), strict=True))
        return {"dtype": "bfloat16" if slow > CLEAR_WIN * fast else "float32", "float32": slow, "bfloat16": fast}

    return str(remembered(probe, "dtype", find=find)["dtype"]) if bf16_possible() else "float32"


def threads_verdict(probe: Probe, training: Training, most: float) -> int:
    """All threads, or half as many (and half of these) where that is clearly faster."""
    most_threads = all_threads()

    def find() -> dict[str, Any]:
        def timed(threads: int) -> float:
            return probe.seconds(probe.loop(replace(training, threads=threads), str(training.dtype)), most)

        threads, seconds = most_threads, timed(most_threads)
        while threads >= 2 and seconds >= CLEAR_WIN * (fewer := timed(threads // 2)):
            threads, seconds = threads // 2, fewer
        return {"threads": threads, "seconds": seconds}

    if most_threads < 4 or torch.cuda.is_available():
        return most_threads
    return int(remembered(probe, training.dtype, "threads", find=find)["threads"])


def compile_verdict(probe: Probe, training: Training, most: float, budget: float) -> bool:
    """Compiled networks on a GPU, where a step is clearly faster with them and the budget outweighs the compiling."""

    def find() -> dict[str, Any]:
        seconds = {}
        for compiled in (False, True):
            loop = probe.loop(replace(training, compile=compiled), str(training.dtype))
            if compiled and not loop.model.compilable():
                return {"compile": False}
            seconds[compiled] = probe.seconds(loop, most)
        wins = seconds[False] > CLEAR_WIN * seconds[True]
        return {"compile": wins, "eager": seconds[False], "compiled": seconds[True]}

    if budget < WORTH_COMPILING or not torch.cuda.is_available():
        return False
    return bool(remembered(probe, training.dtype, "compile", find=find)["compile"])
