"""Does a training take the time and the memory that `--dry-run` foretells?

    .venv/bin/python benchmarks/dry_run.py --data DATA --out FOLDER [--models vae,gan,diffusion] [--budgets 60s,20k]

Each row is one `trilemma train --dry-run` and, straight after it, the training itself, both as a user types them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="vae,gan,diffusion")
    parser.add_argument("--budgets", default="60s,20k")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for model in arguments.models.split(","):
        for budget in arguments.budgets.split(","):
            folder = arguments.out / f"{model}-{budget}".replace(":", "-")
            shutil.rmtree(folder, ignore_errors=True)
            command = [sys.executable, "-m", "trilemma", "train", arguments.data, "--model", model]
            command += ["--budget", budget, "--out", str(folder)]
            said = subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True).stdout
            told = re.search(r"finishes in\s+about ([\d,]+) s", said)
            room = re.search(r"memory\s+about ([\d,]+) MiB", said)
            if told is None or room is None:
                raise SystemExit(f"no finish time or no memory in:\n{said}")
            foretold, memory = (float(found.group(1).replace(",", "")) for found in (told, room))
            begin = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            took = time.monotonic() - begin
            row = {"model": model, "budget": budget, "foretold": foretold, "took": round(took, 1)}
            row["ratio"] = round(took / foretold, 3)
            used = json.loads((folder / "choices.json").read_text())["memory_bytes"] / 2**20
            row |= {"memory_foretold": memory, "memory": round(used), "memory_ratio": round(used / memory, 3)}
            print(json.dumps(row), flush=True)
            with open(arguments.out / "rows.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
