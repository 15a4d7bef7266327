"""Data larger than memory: train on an array file of SIZE GiB in a process that may not have LIMIT GiB of its own.

    .venv/bin/python benchmarks/memory.py --out FOLDER [--size 4] [--limit 2] [--budget 60s] [--model vae]

Own memory is what cannot be read again from a file (RLIMIT_DATA bounds it, RssAnon in /proc/PID/status is its use);
pages of mapped files are the system's to drop. The images are noise over smooth gradients, no two alike.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIDE = 64


def write(path: Path, gib: float) -> int:
    """An .npy of (N, SIDE, SIDE, 3) uint8 images, written piece by piece; returns N."""
    count = int(gib * 2**30 / (SIDE * SIDE * 3))
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
    generator = np.random.default_rng(0)
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    for start in range(0, count, 4096):
        n = min(4096, count - start)
        slopes = generator.uniform(-60, 60, (2, n, 1, 1, 3)).astype(np.float32)
        base = 128 + slopes[0] * ramp[:, None, None] + slopes[1] * ramp[None, :, None]
        noise = generator.integers(-16, 16, (n, SIDE, SIDE, 3), dtype=np.int8)
        array[start : start + n] = (base + noise).clip(0, 255).astype(np.uint8)
    array.flush()
    return count


def own_memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=float, default=4.0)
    parser.add_argument("--limit", type=float, default=2.0)
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--model", default="vae")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file, bound = arguments.out / "images.npy", int(arguments.limit * 2**30)
    count = write(file, arguments.size)
    command = [sys.executable, "-m", "trilemma", "train", str(file), "--model", arguments.model]
    command += ["--budget", arguments.budget, "--out", str(arguments.out / "run")]
    begin, most = time.monotonic(), 0
    process = subprocess.Popen(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (bound, bound)))
    while process.poll() is None:
        most = max(most, own_memory(process.pid))
        time.sleep(0.2)
    row = {
        "images": count, "data_gib": arguments.size, "limit_gib": arguments.limit, "code": process.returncode,
        "peak_own_gib": round(most / 2**30, 2), "seconds": round(time.monotonic() - begin, 1), "model": arguments.model,
    }  # fmt: skip
    print(json.dumps(row))
    (arguments.out / "memory.json").write_text(json.dumps(row))
    raise SystemExit(process.returncode)


if __name__ == "__main__":
    main()
