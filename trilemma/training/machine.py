"""What this machine can do at most: the limits that the speed of a training is a share of.

2 operations a multiply-add. Best of several tries: a limit is what the machine does when nothing disturbs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from trilemma.training.engine import Engine

SIDE = 2048  # of the square matrices
IMAGES, CHANNELS, PLACES = 256, 128, 14  # 3 x 3 convolution, channels last
COPIED = 2**28  # bytes: larger than caches
TRIES = 10
PATIENCE = 3.0  # seconds for the tries of one limit: a type of number that a machine emulates takes minutes for ten
SMALL = 256  # side of matrices that say how long large ones take


def _fastest(engine: Engine, work: Callable[[], object], tries: int) -> float:
    """Seconds of the fastest of `tries` calls, after one that is not counted; of fewer where they take long."""
    work()
    best, begin = float("inf"), time.perf_counter()
    for _ in range(tries):
        if best < float("inf") and time.perf_counter() - begin > PATIENCE:
            break
        engine.synchronize()
        start = time.perf_counter()
        work()
        engine.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


@torch.no_grad()
def convolution_rate(engine: Engine, dtype: torch.dtype, *, tries: int = TRIES, images: int | None = None) -> float:
    """Operations/s of a 3 x 3 convolution of 128 to 128 channels on 256 x 14 x 14 places, channels last, forward."""
    layout, images = {"device": engine.device, "dtype": dtype}, images or IMAGES
    x = torch.randn(images, CHANNELS, PLACES, PLACES, **layout).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, **layout).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    operations = 2 * 9 * CHANNELS**2 * PLACES**2 * images
    return operations / _fastest(engine, lambda: functional.conv2d(x, weight, padding=1), tries)


@torch.no_grad()
def matrix_rate(engine: Engine, dtype: torch.dtype, *, tries: int = TRIES) -> float:
    """Operations/s of the product of two matrices of 2048 x 2048; of smaller ones where one product takes too long."""

    def rate(side: int) -> float:
        a, b = (torch.randn(side, side, device=engine.device, dtype=dtype) for _ in range(2))
        return 2 * side**3 / _fastest(engine, lambda: a @ b, tries)

    small = rate(SMALL)
    return small if 2 * SIDE**3 / small > PATIENCE else rate(SIDE)


@torch.no_grad()
def bandwidth(engine: Engine, *, tries: int = TRIES) -> float:
    """Bytes/s read and written by copying 256 MiB."""
    source = torch.zeros(COPIED // 4, device=engine.device)
    goal = torch.empty_like(source)
    return 2 * COPIED / _fastest(engine, lambda: goal.copy_(source), tries)


def limits(engine: Engine, *, tries: int = TRIES) -> dict[str, float]:
    """The machine's own rates: operations/s of convolutions and matrices in bf16 and fp32, bytes/s of memory."""
    rates = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        rates[f"convolution_{name}_flops_per_second"] = convolution_rate(engine, dtype, tries=tries)
        rates[f"matrix_{name}_flops_per_second"] = matrix_rate(engine, dtype, tries=tries)
    rates["memory_bytes_per_second"] = bandwidth(engine, tries=tries)
    return rates
