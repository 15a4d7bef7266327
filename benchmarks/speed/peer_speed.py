"""Time one peer's training step and its sampling on random images; prints one JSON line. For the peers' Python."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
from train_peer import PEERS, stand_in_for_torchvision_operators


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=sorted(PEERS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=0, help="also time this many samples")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    keep = stand_in_for_torchvision_operators()
    torch.manual_seed(0)
    peer, images = PEERS[given.peer]((1, 28, 28)), torch.rand(given.batch, 1, 28, 28)
    with FlopCounterMode(display=False) as counter:
        peer.step(images)
    peer.step(images)
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < given.seconds:
        start = time.perf_counter()
        peer.step(images)
        times.append(time.perf_counter() - start)
    row = {
        "flops_per_example": counter.get_total_flops() / given.batch,
        "examples_per_second": given.batch / statistics.median(times),
    }
    if given.samples:
        start = time.perf_counter()
        with torch.no_grad():
            peer.sample(given.samples)
        row["samples_per_second"] = given.samples / (time.perf_counter() - start)
    print(json.dumps(row))
    del keep


if __name__ == "__main__":
    main()
