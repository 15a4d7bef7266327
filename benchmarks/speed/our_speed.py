"""Time one of our models in the same way as `peer_speed.py` times a peer; prints one JSON line."""

from __future__ import annotations

import argparse
import json
import statistics
import time

from trilemma.config import Training
from trilemma.models.contract import configure, find
from trilemma.report.bench import BUDGET, operations, pictures
from trilemma.training.plan import choose_size, frequencies_of
from trilemma.training.probe import Probe, dtype_verdict
from trilemma.training.sampling import Sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=0)
    given = parser.parse_args()
    data = pictures()
    size = choose_size(data, "seconds", BUDGET, find(given.model)[0])
    config = configure(given.model, data.spaces, size=size, count=60_000, changes={"optimizer.batch": given.batch})
    probe, training = Probe(given.model, config, data, 0, networks=None, make=None), Training(threads=given.threads)
    training.dtype = dtype_verdict(probe, training, 2.0)
    loop = probe.loop(training, training.dtype)
    flops = operations(loop)
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < given.seconds:
        start = time.perf_counter()
        for _ in range(2):  # penalties come every second step
            loop.take_step()
        times.append((time.perf_counter() - start) / 2)
    row = {"flops_per_example": flops, "examples_per_second": given.batch / statistics.median(times), "size": size}
    if given.samples:
        sampler = Sampler(loop.model, loop.engine, frequencies=frequencies_of(data), dtype=data.x.dtype)
        sampler.fit(data.split("train"), seed=0, limit=2000)
        sampler.samples(8)
        start = time.perf_counter()
        sampler.samples(given.samples)
        row["samples_per_second"] = given.samples / (time.perf_counter() - start)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
