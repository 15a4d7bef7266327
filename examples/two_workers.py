"""A cluster of two workers on this machine, a comparison on it, and, with --kill, the loss of one in the middle.

    pip install 'trilemma[cluster]'
    python examples/two_workers.py digits --budget-each 60k --out report/cluster [--kill]

Head and workers are Ray nodes of their own, as on three machines; the head computes nothing. With --kill the first
worker dies as soon as a training has saved a state: its task is tried again on the other one, and the weights are those
of an undisturbed run.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import trilemma


def saved(state: Path) -> float:
    """When it was; 0 for one that is gone already."""
    try:
        return state.stat().st_mtime
    except OSError:
        return 0.0


def lose(cluster: Cluster, worker: object) -> None:
    """Kill a worker's node once a training that began after now has saved a state."""
    begin = time.time()
    while True:
        states = Path(tempfile.gettempdir()).glob("trilemma-*/*/state/step-*")
        if any(saved(state) > begin for state in states):
            print("one worker dies", flush=True)
            cluster.remove_node(worker, allow_graceful=False)
            return
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--models", default="autoencoder,vae,gan,diffusion")
    parser.add_argument("--budget-each", default="60k")
    parser.add_argument("--out", default="report/cluster")
    parser.add_argument("--cpus-each", type=int, default=1)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=arguments.cpus_each) for _ in range(2)]
    cluster.wait_for_nodes()
    if arguments.kill:
        threading.Thread(target=lose, args=(cluster, workers[0]), daemon=True).start()
    try:
        page = trilemma.compare(
            arguments.data, models=arguments.models.split(","), budget_each=arguments.budget_each, out=arguments.out,
            on=f"ray:{cluster.address}", cpus_each=arguments.cpus_each,
        )  # fmt: skip
        print(page)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
