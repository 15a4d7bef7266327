"""`trilemma bench`: how fast each model trains and samples here, and which share of the machine's limit that is.

Convention: data of 1 x 28 x 28 pixels with ten labels, the size that a budget of ten minutes chooses, 2 operations a
multiply-add, forward and backward, counted by `torch.utils.flop_counter` over whole steps of the loop; the limit is the
machine's bf16 convolution (`training/machine.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from trilemma.config import SIZES, Training, names_of
from trilemma.errors import InputError, unknown
from trilemma.metrics.protocol import current_versions
from trilemma.modalities.contract import Data
from trilemma.modalities.door import open_data
from trilemma.models.contract import Samples, configure, find, known_models
from trilemma.spaces import Continuous
from trilemma.training.engine import DTYPES, Engine, forget_peak, peak_memory
from trilemma.training.loop import Loop
from trilemma.training.machine import limits
from trilemma.training.plan import choose_size, frequencies_of
from trilemma.training.probe import Probe, dtype_verdict, machine, threads_verdict
from trilemma.training.progress import Bar
from trilemma.training.sampling import BATCH, Sampler

EXAMPLES, SIDE, LABELS = 4000, 28, 10
BUDGET = 600.0  # seconds, by which the size is chosen
COUNTED_STEPS = 4  # penalties may come every second step
SECONDS = 6.0  # of steps, and of samples, for each model
PROFILED_STEPS = 24
SHOWN = 15  # operators of a profile


def pictures() -> Data:
    """Grey blobs of 28 x 28 with ten labels: what they show does not matter for speed."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (EXAMPLES, 7, 7))
    x = np.kron(coarse, np.ones((SIDE // 7, SIDE // 7))).astype(np.uint8)
    return open_data({"x": x, "label": np.arange(EXAMPLES) % LABELS})


class Operations(TorchDispatchMode):
    """Counts floating-point operations, calls and synchronisations (numbers that Python waits for) while it is entered.

    `FlopCounterMode` itself follows modules, and fails where a loss calls `torch.autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.calls, self.waits = 0, 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        packet = function._overloadpacket
        self.calls += 1
        self.waits += packet is torch.ops.aten._local_scalar_dense
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=result)
        return result


def operations(loop: Loop, steps: int = COUNTED_STEPS) -> float:
    """Floating-point operations of training on one example, averaged over steps."""
    with Operations() as counter:
        for _ in range(steps):
            loop.take_step()
    return counter.flops / (steps * loop.config.batch)


def sampling_rate(sampler: Sampler, seconds: float) -> float:
    """Samples/s with default options, in batches of 250 at most, after a warm-up."""
    sampler.samples(16)
    count, begin = 16, time.perf_counter()
    while True:
        start = time.perf_counter()
        sampler.samples(count)
        spent = time.perf_counter() - start
        if count >= BATCH or time.perf_counter() - begin > seconds:
            return count / spent
        count = int(min(BATCH, count * 4))


class Bench:
    """The models to be timed, on one set of data, and what was found."""

    def __init__(self, models: list[str] | None, size: str | None, dtype: str | None, *, quiet: bool):
        usual = [name for name in known_models(Samples) if ":" not in name and "alone" in find(name)[0].sets]
        # What learns from captions or codes alone learns nothing from these pictures.
        usual = [n for n in usual if Continuous in find(n)[0].accepts and not find(n)[0].needs_captions]
        self.names = models or usual
        for name in self.names:
            if not issubclass(find(name)[0], Samples):
                raise InputError(f"model {name!r} makes no samples: choose one of {', '.join(known_models(Samples))}")
        if dtype not in (None, *DTYPES):  # before anything is timed
            raise unknown("dtype", str(dtype), DTYPES)
        if size not in (None, *SIZES):
            raise unknown("size", str(size), SIZES)
        self.size, self.dtype, self.data, self.quiet = size, dtype, pictures(), quiet

    def loop(self, name: str) -> tuple[Loop, str]:
        """A fresh loop of this model as `train` would set it up, and its size."""
        size = self.size or choose_size(self.data, "seconds", BUDGET, find(name)[0])
        config = configure(name, self.data.spaces, size=size, count=60_000)
        training, probe = Training(), Probe(name, config, self.data, 0, networks=None, make=None)
        training.dtype = self.dtype or dtype_verdict(probe, training, 2.0)
        training.threads = threads_verdict(probe, training, 2.0)
        return probe.loop(training, training.dtype), size

    def model(self, name: str) -> dict[str, Any]:
        """One model's row."""
        loop, size = self.loop(name)
        forget_peak()
        flops = operations(loop)
        probe = Probe(name, None, self.data, 0, networks=None, make=None)
        step = probe.seconds(loop, SECONDS)
        sampler = Sampler(loop.model, loop.engine, frequencies=frequencies_of(self.data), dtype=self.data.x.dtype)
        sampler.fit(self.data.split("train"), seed=0, limit=EXAMPLES)
        rate = sampling_rate(sampler, SECONDS)
        speed = loop.config.batch / step
        return {
            "size": size,
            "parameters": sum(p.numel() for p in loop.model.parameters() if p.requires_grad),
            "batch": loop.config.batch,
            "dtype": str(loop.engine.dtype).removeprefix("torch."),
            "train_flops_per_example": flops,
            "train_examples_per_second": speed,
            "train_flops_per_second": flops * speed,
            "samples_per_second": rate,
            "peak_memory_bytes": peak_memory(),
        }

    def profile(self, name: str) -> dict[str, Any]:
        """Where the time of a step goes: seconds a step in each part, and in the operators that take most."""
        loop, size = self.loop(name)
        for _ in range(4):
            loop.take_step()
        parts = {"data": (loop, "batch"), "averaging": (loop.averages, "update")}
        parts |= {f"optimizer ({group})": (o, "step") for group, o in loop.optimizers.items()}
        parts["forward, backward"] = (loop, "_turn")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells on stderr when it starts and stops
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        for part, (owner, function) in parts.items():  # this loop is thrown away afterwards
            setattr(owner, function, _marked(part, getattr(owner, function)))
        loop.engine.synchronize()
        with profile(activities=activities, acc_events=True) as profiler:
            start = time.perf_counter()
            for _ in range(PROFILED_STEPS):
                loop.take_step()
            loop.engine.synchronize()
            spent = (time.perf_counter() - start) / PROFILED_STEPS
        rows = profiler.key_averages()
        inside = {row.key: row.cpu_time_total / 1e6 / PROFILED_STEPS for row in rows if row.key in parts}
        operators = sorted((row for row in rows if row.key not in parts), key=_own_time, reverse=True)
        busy = sum(_own_time(row) for row in operators) / PROFILED_STEPS
        return {
            "size": size,
            "step_seconds": spent,
            "parts": {part: inside.get(part, 0.0) for part in parts},
            "python_seconds": max(spent - busy, 0.0),
            "operators": [
                {"name": row.key, "seconds": _own_time(row) / PROFILED_STEPS, "calls": row.count / PROFILED_STEPS}
                for row in operators[:SHOWN]
            ],
            "operator_calls": sum(row.count for row in operators) / PROFILED_STEPS,
        }


def _own_time(row: Any) -> float:
    """Seconds of an operator without those that it calls; on a GPU, of its kernels."""
    return float(row.self_device_time_total if torch.cuda.is_available() else row.self_cpu_time_total) / 1e6


def _marked(part: str, function: Any) -> Any:
    def marked(*given: Any, **named: Any) -> Any:
        with record_function(part):
            return function(*given, **named)

    return marked


def bench(
    models: Sequence[str] | str | None = None,
    *,
    size: str | None = None,
    dtype: str | None = None,
    profiled: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The machine's limits and the models' speeds: {"machine": {...}, "models": {name: {...}}}.

    models: names, default all families; size: of the dial, default what ten minutes would choose; dtype: 'float32' or
    'bfloat16' instead of the faster one; profiled: where the time of a step goes as well ("profile" in each model).

    Raises:
        InputError: an unknown model, size or dtype.
    """
    work = Bench(names_of(models), size, dtype, quiet=quiet)
    bar = Bar("bench", 1 + len(work.names), quiet=quiet)
    engine, rows, found = Engine(), {}, limits(Engine())
    for number, name in enumerate(work.names):
        bar.update(1 + number, {})
        rows[name] = work.model(name)
        if profiled:
            rows[name]["profile"] = work.profile(name)
        # Machines change their pace: the limit is the best that was seen before, between and after the models.
        found = {key: max(rate, found[key]) for key, rate in limits(engine, tries=3).items()}
    bar.close()
    for row in rows.values():
        # Processors that only emulate bf16 are slower in it than in fp32: that is not their limit.
        row["limit"] = max(("bf16", "fp32"), key=lambda dtype: found[f"convolution_{dtype}_flops_per_second"])
        row["share_of_limit"] = row["train_flops_per_second"] / found[f"convolution_{row['limit']}_flops_per_second"]
    return {"machine": {"name": machine(), **found, "versions": current_versions()}, "models": rows}


def text(found: dict[str, Any]) -> str:
    """The same as a table for people."""
    limit = found["machine"]
    lines = [
        limit["name"],
        *(
            f"{what:<12} {limit[f'{what}_bf16_flops_per_second'] / 1e9:8,.0f} GFLOP/s in bf16, "
            f"{limit[f'{what}_fp32_flops_per_second'] / 1e9:,.0f} in fp32"
            for what in ("convolution", "matrix")
        ),
        f"{'memory':<12} {limit['memory_bytes_per_second'] / 1e9:8,.1f} GB/s",
        "",
        f"{'model':<18}{'size':>5}{'weights':>11}{'MFLOP/ex.':>11}{'ex./s':>9}"
        f"{'of limit':>9}{'samples/s':>11}{'MiB':>7}",
    ]
    for name, row in found["models"].items():
        memory = "" if row["peak_memory_bytes"] is None else f"{row['peak_memory_bytes'] / 2**20:,.0f}"
        lines.append(
            f"{name:<18}{row['size']:>5}{row['parameters']:>11,}{row['train_flops_per_example'] / 1e6:>11,.1f}"
            f"{row['train_examples_per_second']:>9,.0f}{row['share_of_limit']:>9.1%}{row['samples_per_second']:>11,.0f}"
            f"{memory:>7}"
        )
    for name, row in found["models"].items():
        if "profile" in row:
            lines += ["", *_profile_text(name, row["profile"])]
    return "\n".join(lines)


def _profile_text(name: str, found: dict[str, Any]) -> list[str]:
    step = found["step_seconds"]
    parts = {**found["parts"], "outside operators (Python)": found["python_seconds"]}
    lines = [f"{name} ({found['size']}): {step * 1e3:.1f} ms a step while profiled"]
    lines += [f"  {part:<42}{seconds * 1e3:9.2f} ms {seconds / step:6.1%}" for part, seconds in parts.items()]
    lines.append(f"  operators, {found['operator_calls']:,.0f} calls a step; the dearest:")
    for row in found["operators"]:
        share = row["seconds"] / step
        lines.append(f"    {row['name']:<40}{row['seconds'] * 1e3:9.2f} ms {share:6.1%}{row['calls']:8,.0f} calls")
    return lines
