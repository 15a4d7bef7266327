"""Data larger than memory: train on an array file, start again, sample and measure, with LIMIT GiB of one's own.

    .venv/bin/python benchmarks/memory.py --out FOLDER [--count 1000000] [--side 32] [--limit 4] [--budget 40s]
        [--model vae] [--samples 5000]

Own memory is what cannot be read again from a file (RLIMIT_DATA bounds it, RssAnon in /proc/PID/status is its use);
pages of mapped files are the system's to drop. The images are noise over smooth gradients, no two alike. `start`:
seconds from the start of the process to the end of its first steps of training, with probe and planning; of the first
run on the data and of the second. One JSON line for each stage, in FOLDER/rows.jsonl too; stages that are there are
not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def write(path: Path, count: int, side: int) -> None:
    """An .npy of (count, side, side, 3) uint8 images, written piece by piece."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    generator = np.random.default_rng(0)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    for start in range(0, count, 4096):
        n = min(4096, count - start)
        slopes = generator.uniform(-60, 60, (2, n, 1, 1, 3)).astype(np.float32)
        base = 128 + slopes[0] * ramp[:, None, None] + slopes[1] * ramp[None, :, None]
        noise = generator.integers(-16, 16, (n, side, side, 3), dtype=np.int8)
        array[start : start + n] = (base + noise).clip(0, 255).astype(np.uint8)
    array.flush()


def own_memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def computed(pid: int) -> float:
    """Seconds that a process has computed: of a busy machine more telling than the clock's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stepped(run: Path) -> bool:
    try:
        return '"step"' in (run / "stats.jsonl").read_text()
    except OSError:
        return False


def stage(command: list[str], limit: float, run: Path | None = None) -> dict[str, Any]:
    """One command of trilemma under the limit: its exit status, seconds, most memory, start and rate of training."""
    bound = int(limit * 2**30)
    begin, most, start, start_computed = time.monotonic(), 0, None, 0.0
    process = subprocess.Popen(
        [sys.executable, "-m", "trilemma", *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (bound, bound)),
    )
    while process.poll() is None:
        most = max(most, own_memory(process.pid))
        if run is not None and start is None and stepped(run):
            start = round(time.monotonic() - begin, 2)
            start_computed = round(computed(process.pid), 2)
        time.sleep(0.05)
    row: dict[str, Any] = {"code": process.returncode, "seconds": round(time.monotonic() - begin, 1)}
    row["peak_own_gib"] = round(most / 2**30, 2)
    if run is not None and process.returncode == 0:
        seconds = json.loads((run / "choices.json").read_text())["seconds"]
        batch = json.loads((run / "config.json").read_text())["config"]["optimizer"]["batch"]
        row |= {
            "start": start,
            "start_computed": start_computed,
            "examples_per_second": round(batch / seconds["step"], 1),
            "batch": batch,
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--limit", type=float, default=4.0)
    parser.add_argument("--budget", default="40s")
    parser.add_argument("--model", default="vae")
    parser.add_argument("--samples", type=int, default=5000)
    arguments = parser.parse_args()
    out, limit = arguments.out, arguments.limit
    out.mkdir(parents=True, exist_ok=True)
    file, rows, samples = out / "images.npy", out / "rows.jsonl", out / "samples.npy"
    if not file.is_file():
        write(out / "part.npy", arguments.count, arguments.side)
        (out / "part.npy").rename(file)
    done = [json.loads(line)["stage"] for line in rows.read_text().splitlines()] if rows.is_file() else []
    train = ["train", str(file), "--model", arguments.model, "--budget", arguments.budget, "--out"]
    stages: dict[str, tuple[list[str], Path | None]] = {
        "first run": ([*train, str(out / "first")], out / "first"),
        "second run": ([*train, str(out / "second")], out / "second"),
        "generate": (["generate", str(out / "first"), "-n", str(arguments.samples), "--out", str(samples)], None),
        "measure": (["measure", str(file), str(samples), "--json"], None),
    }
    for name, (command, run) in stages.items():
        if name not in done:
            row = {"stage": name, "images": arguments.count, "data_gib": round(file.stat().st_size / 2**30, 2),
                   "limit_gib": limit, "model": arguments.model, **stage(command, limit, run)}  # fmt: skip
            print(json.dumps(row), flush=True)
            with open(rows, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            if row["code"]:
                raise SystemExit(row["code"])


if __name__ == "__main__":
    main()
