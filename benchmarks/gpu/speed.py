"""Training steps of our diffusion network and of diffusers' U-Net in turn, both in bf16, compiled, with CUDA graphs.

    python benchmarks/gpu/speed.py --out .bench/gpu [--peers FOLDER]

One process, one GPU; 3 x 32 x 32 pictures. Network costs differ: what is compared is operations a second (counted by
the same counter, 2 a multiply-add, forward and backward), the ratio of throughputs on the same network cost. Each round
is written when it is done. FOLDER: where `pip install --target FOLDER diffusers` put diffusers, if not beside us.
Without a GPU it runs as well, uncompiled unless `--compile`: that is how the script itself is tried.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import trilemma as tl
from trilemma.config import Training
from trilemma.models.contract import configure
from trilemma.report.bench import Operations, operations
from trilemma.training.probe import Probe, machine

CHANNELS = (128, 256, 256)


class Diffusers:
    """`UNet2DModel` as in its CIFAR-sized examples: attention at 16 x 16 pixels, DDPM's loss, AdamW, EMAModel."""

    def __init__(self, device: torch.device, channels: tuple[int, ...], *, compiled: bool):
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        self.network = UNet2DModel(
            sample_size=32,
            block_out_channels=channels,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        graphs = "reduce-overhead" if device.type == "cuda" else "default"
        self.forward = torch.compile(self.network, mode=graphs) if compiled else self.network
        self.schedule, self.device = DDPMScheduler(num_train_timesteps=1000), device
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.average = EMAModel(self.network.parameters(), decay=0.9999, foreach=True)

    def step(self, images: torch.Tensor) -> None:
        torch.compiler.cudagraph_mark_step_begin()
        noise = torch.randn_like(images)
        times = torch.randint(0, 1000, (len(images),), device=self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            predicted = self.forward(self.schedule.add_noise(images, noise, times), times).sample
        functional.mse_loss(predicted.float(), noise).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.step(self.network.parameters())


def rate(step: Callable[[], object], batch: int, device: torch.device, seconds: float) -> float:
    """Examples a second: the median over blocks of ten steps."""
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds or len(times) < 2:
        start = time.perf_counter()
        for _ in range(10):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 10)
    return batch / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peers", help="folder of packages with diffusers in it")
    parser.add_argument("--size", default="l", help="of our network")
    parser.add_argument("--channels", default=",".join(map(str, CHANNELS)), help="of diffusers' network, three")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    given = parser.parse_args()
    if given.peers:
        sys.path.append(given.peers)
    given.out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (max(4000, 2 * given.batch), 32, 32, 3), dtype=np.uint8)
    data = tl.open_data({"x": x, "label": np.arange(len(x)) % 10})
    config = configure(
        "diffusion", data.spaces, size=given.size, count=50_000, changes={"optimizer.batch": given.batch}
    )
    probe = Probe("diffusion", config, data, 0, networks=None, make=None)
    flops = {"ours": operations(probe.loop(Training(), "bfloat16"))}
    loop = probe.loop(Training(compile=given.compile), "bfloat16")
    device = loop.engine.device
    images = (
        torch.rand(given.batch, 3, 32, 32, device=device).mul(2).sub(1).contiguous(memory_format=torch.channels_last)
    )
    channels = tuple(int(part) for part in given.channels.split(","))
    counted = Diffusers(device, channels, compiled=False)
    counted.step(images)
    with Operations() as counter:
        counted.step(images)
    flops["diffusers"] = counter.flops / given.batch
    del counted
    peer = Diffusers(device, channels, compiled=given.compile)
    steps: dict[str, Callable[[], object]] = {"ours": loop.take_step, "diffusers": lambda: peer.step(images)}
    for step in steps.values():  # compiles, captures
        for _ in range(4):
            step()
    sizes = {"ours": loop.model, "diffusers": peer.network}
    facts = {
        "machine": machine(),
        "compile": given.compile,
        "batch": given.batch,
        "size": given.size,
        "parameters": {name: _count(network) for name, network in sizes.items()},
        "flops_per_example": flops,
    }
    ratios = []
    with (given.out / "speed.jsonl").open("a") as file:
        print(json.dumps(facts), file=file, flush=True)
        for number in range(given.rounds):
            rates = {name: rate(step, given.batch, device, given.seconds) for name, step in steps.items()}
            work = {name: rates[name] * flops[name] for name in rates}
            ratios.append(work["ours"] / work["diffusers"])
            row = {"round": number, "examples_per_second": rates, "flops_per_second": work, "ratio": ratios[-1]}
            print(json.dumps(row), file=file, flush=True)
    print(json.dumps(facts, indent=1))
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(f"operations a second, ours over diffusers': {middle:.2f} ({low:.2f} to {high:.2f})")


def _count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


if __name__ == "__main__":
    main()
