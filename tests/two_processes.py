"""Two processes train the models in toy Spaces; run by test_contract.py with a folder to write weights to.

This file starts itself twice, with the environment that `torchrun` would give.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

STEPS = 2


def start(folder: str) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    root = str(Path(__file__).resolve().parent.parent)
    children = []
    for rank in range(2):
        own = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": root}
        command = [sys.executable, __file__, folder, "work"]
        children.append(subprocess.Popen(command, env={**os.environ, **own, **meeting}))
    return max(child.wait() for child in children)


def work(folder: Path) -> None:
    import torch
    from contract_cases import CASES, IN_SHARDS, STEERED
    from test_contract import exact_loop, shared_pairs, weights_of

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for name, case in shared_pairs() + STEERED:
        loop = exact_loop(name, CASES[case], batch=7)
        for _ in range(STEPS):
            loop.take_step()
        loop.gather()
        torch.save(weights_of(loop) | dict(loop.model.named_buffers()), folder / f"{name}-{case}-{rank}.pt")
        if (name, case) in IN_SHARDS:
            fresh, parts = exact_loop(name, CASES[case], batch=7), exact_loop(name, CASES[case], batch=7, shard=True)
            parts.load(fresh.tensors(), fresh.facts())
            for _ in range(STEPS):
                parts.take_step()
            with parts.whole():
                if rank == 0:
                    torch.save(weights_of(parts) | dict(parts.model.named_buffers()), folder / f"{name}-{case}-2.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        work(Path(sys.argv[1]))
    else:
        sys.exit(start(sys.argv[1]))
