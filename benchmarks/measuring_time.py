"""How long do all metrics take on 10,000 samples against 10,000, besides feature extraction, and in how much memory?

    taskset -c 0,1 .venv/bin/python benchmarks/measuring_time.py --data DATA [--count 10000] [--threads 2]

DATA with at least 10,000 test examples, such as Fashion-MNIST; the samples are training examples. Prints one line of
JSON: seconds of `Ruler.measure`, those of them in feature networks, what is left, the same for a second set (what
depends on the data alone is known by then), and the peak of resident memory before and after.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import trilemma as tl
from trilemma.report.measure import Ruler


class Timed:
    """A feature network that counts its seconds."""

    def __init__(self, network: Any):
        self.network, self.seconds = network, 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        begun = time.perf_counter()
        features = self.network(x)
        self.seconds += time.perf_counter() - begun
        return features


def peak() -> float:
    """Resident memory at its highest so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="print the functions that take longest")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        data = tl.open_data(arguments.data)
        ruler = Ruler(data, arguments.count)
        networks = [Timed(each) for each in (ruler.network, *(judge.network for judge in ruler.judges))]
        ruler.network = networks[0]  # type: ignore[assignment]
        ruler.judges = [replace(judge, network=own) for judge, own in zip(ruler.judges, networks[1:], strict=True)]
        rows = np.random.default_rng(0).permutation(data.splits["train"])
        row: dict[str, Any] = {"data": data.name, "reference": len(ruler.test), "samples": arguments.count}
        row |= {"threads": arguments.threads, "memory_before": round(peak())}
        for name, start in (("first", 0), ("second", arguments.count)):
            samples = np.asarray(data.x[rows[start : start + arguments.count]])
            spent, begun, busy = sum(each.seconds for each in networks), time.perf_counter(), time.process_time()
            profile = cProfile.Profile()
            if arguments.profile:
                profile.enable()
            ruler.measure(samples)
            profile.disable()
            whole, spent = time.perf_counter() - begun, sum(each.seconds for each in networks) - spent
            row[name] = {"whole": round(whole, 1), "networks": round(spent, 1), "rest": round(whole - spent, 1)}
            row[name]["processor_seconds"] = round(time.process_time() - busy, 1)
            if arguments.profile:
                pstats.Stats(profile).sort_stats("cumulative").print_stats(40)
        row["memory_after"] = round(peak())
    print(json.dumps(row))


if __name__ == "__main__":
    main()
