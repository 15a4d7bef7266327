"""Devices, precision and processes: with `shards` the only file that knows of `torch.distributed`.

Replicas are plain modules: broadcast once, one flat all-reduce of gradients after backward. No DDP wrapper: gradient
penalties, JVPs and two-player turns break it.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.rendezvous import rendezvous

from trilemma.errors import InputError, first_line

MEETING = datetime.timedelta(minutes=2)  # of processes that `torchrun` has started at the same time
WAITING = datetime.timedelta(days=2)  # one process makes the choices at the end: the usual half hour may be too short
COUNTERS = Path("/sys/class/powercap")  # of energy, where Linux shows those of the processors
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@cache
def all_threads() -> int:
    """Threads of this process as it began: a training may have taken fewer since then."""
    return torch.get_num_threads()


def prepare() -> None:
    """Process-wide settings that must come before any parallel work: denormals slow small networks by factors."""
    all_threads()
    torch.set_flush_denormal(True)
    if torch.cuda.is_available():
        # Atomic additions in another order would end every claim of equal runs and exact resume.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def join() -> None:
    """Meet the other processes, where `torchrun` (or its environment variables) started several; once."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    # torchrun gives each process one thread, whatever the machine has.
    torch.set_num_threads(max((os.cpu_count() or 1) // here, 1))
    try:
        store, rank, _ = next(rendezvous("env://", timeout=MEETING))
        # torchrun keeps the store when it starts all again after a loss: the dead ones' addresses are still in it.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=MEETING)
        dist.barrier()  # NCCL meets here
    except RuntimeError as problem:
        raise InputError(
            f"the {world} processes did not meet within {MEETING.seconds} s ({first_line(problem)}): are all of them "
            "started, and do they reach each other? `torchrun --max-restarts 3` tries again by itself"
        ) from problem
    _set_pg_timeout(WAITING)


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Is this the process that plans, writes and measures?"""
    return not dist.is_initialized() or dist.get_rank() == 0


def agreed(make: Callable[[], Any]) -> Any:
    """What the first process makes, in all of them; what it raises for the user, all of them raise."""
    if not dist.is_initialized():
        return make()
    told: list[Any] = [None, None]
    if first():
        try:
            told[0] = make()
        except InputError as problem:
            told[1] = problem
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else None
    dist.broadcast_object_list(told, 0, device=device)
    if told[1] is not None:
        raise told[1]
    return told[0]


def agreed_state(make: Callable[[], tuple[dict[str, Tensor], Any] | None]) -> tuple[dict[str, Tensor], Any] | None:
    """`agreed`, of tensors in main memory and facts: a GPU, which NCCL needs, has one tensor of them at a time."""
    held: list[tuple[dict[str, Tensor], Any] | None] = [None]

    def known() -> tuple[dict[str, Any], Any] | None:
        held[0] = state = make()
        return None if state is None else ({n: (t.shape, t.dtype) for n, t in state[0].items()}, state[1])

    told = agreed(known)
    if told is None or not dist.is_initialized():
        return held[0]
    own, tensors = {} if held[0] is None else held[0][0], dict[str, Tensor]()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else "cpu"
    for name, (shape, dtype) in told[0].items():
        tensor = own[name].to(device) if first() else torch.empty(shape, dtype=dtype, device=device)
        dist.broadcast(tensor, 0)
        tensors[name] = tensor.cpu()
    return tensors, told[1]


@contextmanager
def when_killed(do: Callable[[], None]) -> Iterator[None]:
    """What Ctrl-C and a polite kill (SIGTERM) do within this block; nothing changes outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, lambda *_: do()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def bf16_possible(device: str | None = None) -> bool:
    """Where bf16 has instructions of its own; elsewhere it is emulated, and slower."""
    if (device or "cuda") != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def forget_peak() -> int | None:
    """From here on `peak_memory` counts anew: on a GPU and on Linux; elsewhere it is the peak of the whole process.

    Returns what is in use now, in bytes.
    """
    with suppress(OSError, AttributeError, TypeError):
        # Pages that glibc keeps from earlier work would be in use before and after: what fits into them would be free.
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int | None:
    """Bytes: the most that tensors took on the GPU, otherwise the most that this process had in memory at once."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        high = next((line for line in lines if line.startswith("VmHWM")), None)
        if high is not None:
            return int(high.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def energy(device: torch.device) -> float | None:
    """Joules that the processors' own counters (RAPL) and that of the GPU at work (NVML) have counted.

    None where there are none, and on a GPU that tells nothing: the processors alone would be the small half. Only
    differences mean something; a counter that has wrapped round in between makes them negative.
    """
    total, found = 0.0, False
    if device.type == "cuda":
        drawn = _drawn_by(device)
        if drawn is None:
            return None
        total, found = drawn, True
    for counter in COUNTERS.glob("intel-rapl:[0-9]*/energy_uj"):
        with suppress(OSError, ValueError):
            if counter.parent.name.count(":") == 1:  # packages; what is below them is a part of them
                total, found = total + int(counter.read_text()) / 1e6, True
    return total if found else None


def _drawn_by(device: torch.device) -> float | None:
    """Joules that a GPU has drawn since its driver was loaded (the extra `gpu`); None where it does not tell."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # By its own name: CUDA may number the devices of a machine otherwise, or see a part of them.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except pynvml.NVMLError:
        return None


def _either(eager: Callable[..., Any], fast: Callable[..., Any], *inputs: Any) -> Any:
    return (fast if torch.is_grad_enabled() else eager)(*inputs)


class _Gathered(torch.autograd.Function):
    """Rows [start, stop) of `size` that each process holds, in all of them; each gets the slopes of all by its own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, start: int, stop: int, size: int) -> Tensor:
        ctx.own = slice(start, stop)
        whole = rows.new_zeros(size, *rows.shape[1:])
        whole[ctx.own] = rows
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        summed = slopes.clone()
        dist.all_reduce(summed)
        return summed[ctx.own], None, None, None


class Engine:
    """Where and how numbers are computed in this process; `shared` with the others that `join` met, or alone."""

    def __init__(
        self, *, dtype: str = "float32", threads: int | None = None, device: str | None = None, shared: bool = False
    ):
        if shared:
            join()
        prepare()
        if dtype not in DTYPES:
            raise InputError(f"setting training.dtype={dtype!r}: choose one of {', '.join(DTYPES)}")
        several = shared and dist.is_initialized()
        self.world, self.rank = (dist.get_world_size(), dist.get_rank()) if several else (1, 0)
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device(device or (f"cuda:{local}" if torch.cuda.is_available() else "cpu"))
        self.dtype = DTYPES[dtype]
        if threads:
            torch.set_num_threads(threads)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[object]:
        if self.dtype is not torch.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def seed(self, number: int) -> None:
        """Seed the layers' own randomness, here alone: `torch.manual_seed` takes 2 ms and keeps a record of each call
        where there is no GPU, for devices that may come."""
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model here and give every replica the weights of rank 0."""
        model.to(self.device)
        if self.dtype is torch.float64:
            model.double()
        if self.world > 1:
            for tensor in [*model.parameters(), *model.buffers()]:
                dist.broadcast(tensor.detach(), 0)
        return model

    def compile(self, networks: Iterable[nn.Module], *, graphs: bool) -> None:
        """Compile the networks' forward passes where gradients are wanted; samples and codes are made as before.

        graphs: with CUDA graphs, on a GPU; then a step begins with `torch.compiler.cudagraph_mark_step_begin()`.
        """
        if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
            print("training.compile: there is no C++ compiler here; the networks stay as they are", file=sys.stderr)
            return
        mode = "reduce-overhead" if graphs and self.device.type == "cuda" else "default"
        for network in networks:
            eager, fast = network.forward, torch.compile(network.forward, mode=mode, dynamic=False)
            network.forward = partial(_either, eager, fast)  # type: ignore[method-assign]

    def share(self, batch_size: int) -> tuple[int, int]:
        """The examples [start, stop) of a batch that this process works on; uneven batches differ by one."""
        return self.rank * batch_size // self.world, (self.rank + 1) * batch_size // self.world

    def total(self, value: float) -> float:
        """Sum of a number over processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor)

    def add_gradients(self, parameters: Iterable[Tensor], more: Iterable[float | Tensor] = ()) -> list[Tensor]:
        """Sum gradients over processes with one flat all-reduce; a weight without a gradient counts as zero.

        Returns `more`, further numbers and tensors, summed by the same one; nothing where there is one process.
        """
        if self.world == 1:
            return []
        weights = [p for p in parameters if p.requires_grad]
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        dtype = next((weight.dtype for weight in weights), torch.float64)
        others = [torch.as_tensor(n, dtype=dtype, device=self.device) for n in more]
        every = [*(p.grad for p in weights if p.grad is not None), *others]
        flat = torch.cat([one.reshape(-1) for one in every])
        dist.all_reduce(flat)
        summed = [
            part.view_as(one) for part, one in zip(flat.split([one.numel() for one in every]), every, strict=True)
        ]
        for weight, gradient in zip(weights, summed, strict=False):
            assert weight.grad is not None
            weight.grad.copy_(gradient)
        return summed[len(weights) :]

    def gather(self, rows: Tensor, *, size: int) -> Tensor:
        """Of this process's rows of a batch of this size, those of all processes; differentiable by each."""
        if self.world == 1:
            return rows
        numbers = rows.int() if rows.dtype == torch.bool else rows
        whole: Tensor = _Gathered.apply(numbers, *self.share(size), size)  # type: ignore[no-untyped-call]
        return whole.to(rows.dtype)

    def gather_rows(self, buffers: dict[str, Tensor], rows: dict[str, slice]) -> None:
        """Give each buffer the rows that the processes have written: every process's own, and no others."""
        if self.world == 1:
            return
        for name, own in rows.items():
            part = torch.zeros_like(buffers[name], dtype=torch.float32 if buffers[name].dtype == torch.bool else None)
            part[own] = buffers[name][own].to(part.dtype)
            dist.all_reduce(part)
            buffers[name].copy_(part.to(buffers[name].dtype))

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
