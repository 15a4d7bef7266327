"""Kill trainings at random moments and compare the final weights, byte for byte, with uninterrupted ones.

    .venv/bin/python benchmarks/kills.py --out FOLDER [--kills 10] [--budget 60k]

Each family is trained once in peace; then again, killed with SIGKILL `kills` times at random moments (import, probe,
training, saving, choices: whatever is under way) and started again with the same command until it ends.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--budget", default="60k")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--models", default="vae,gan,diffusion")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    rows = []
    for model in arguments.models.split(","):

        def command(folder: Path, model: str = model) -> list[str]:
            line = [sys.executable, "-m", "trilemma", "train", arguments.data, "--model", model]
            return [*line, "--budget", arguments.budget, "--size", "xs", "--out", str(folder)]

        peaceful, killed = arguments.out / f"{model}-peaceful", arguments.out / f"{model}-killed"
        shutil.rmtree(peaceful, ignore_errors=True)
        shutil.rmtree(killed, ignore_errors=True)
        start = time.monotonic()
        subprocess.run(command(peaceful), check=True, capture_output=True)
        whole = time.monotonic() - start
        kills, moments = 0, []
        while True:
            process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Over the whole length of an uninterrupted command; a kill after its end is no kill.
            wait = generator.uniform(0.1, 0.6) * whole if kills < arguments.kills else None
            try:
                code = process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                moments.append(round(wait or 0, 2))
                continue
            if code != 0:
                raise SystemExit(f"{model}: the resumed command ended with code {code}")
            if kills >= arguments.kills:
                break
            shutil.rmtree(killed)  # finished before all kills were spent: begin again, keep counting
        same = digest(peaceful / "weights.safetensors") == digest(killed / "weights.safetensors")
        rows.append(
            {"model": model, "kills": kills, "seconds_in_peace": round(whole, 1), "identical": same, "moments": moments}
        )
        print(json.dumps(rows[-1]), flush=True)
    (arguments.out / "kills.json").write_text(json.dumps(rows, indent=1))
    if not all(row["identical"] for row in rows):
        raise SystemExit("weights differ")


if __name__ == "__main__":
    main()
