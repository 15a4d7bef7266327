"""What waiting threads cost: steps of a training with OpenMP's threads spinning or sleeping, on an idle machine or not.

    python benchmarks/speed/waiting.py [--model diffusion] [--size s] [--repeats 3]

In turn, each in a process of its own: milliseconds a step with all threads, alone and beside a process that keeps one
core busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

POLICIES: dict[str, dict[str, str]] = {
    "as torch has it": {"GOMP_SPINCOUNT": "300000"},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"},
    "as trilemma has it": {},
}
BUSY = "while True: pass"
STEPS = """
import sys, time
from trilemma.report.bench import Bench
name, size = sys.argv[1:3]
loop, _ = Bench([name], size, "float32", quiet=True).loop(name)
for _ in range(2):
    loop.take_step()
count, start = 0, time.perf_counter()
while count < 3 or time.perf_counter() - start < 4:
    loop.take_step()
    count += 1
print((time.perf_counter() - start) / count * 1000)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="diffusion")
    parser.add_argument("--size", default="s")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    for _ in range(given.repeats):
        for name, settings in POLICIES.items():
            for beside in (False, True):
                other = subprocess.Popen([sys.executable, "-c", BUSY]) if beside else None
                try:
                    told = subprocess.run(
                        [sys.executable, "-c", STEPS, given.model, given.size],
                        env={**clean, **settings}, capture_output=True, text=True, check=True,
                    ).stdout  # fmt: skip
                finally:
                    if other is not None:
                        other.kill()
                row = {"threads": name, "beside a busy process": beside, "ms a step": round(float(told), 1)}
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
