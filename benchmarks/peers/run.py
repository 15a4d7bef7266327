"""Run the rows of the benchmark one after the other, each command in its own process, skipping what is done.

First every row trains, then every row samples, then `judge.py` judges all rows that have samples. What is done is read
from each row's row.json (`training_seconds`, `sampling_seconds`), so that a run that was cut off goes on where it was.
Needs Python 3.11 and NumPy; the judge runs with the peers' interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import resource
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
from images import read_split

HERE = Path(__file__).resolve().parent
DONE = {"train": "training_seconds", "sample": "sampling_seconds"}


def read_row(folder: Path) -> dict:
    """Return what is recorded of a row so far."""
    record = folder / "row.json"
    return json.loads(record.read_text()) if record.exists() else {}


def run(command: str, log: Path, nice: int) -> dict:
    """Run a command in its own process and return its wall-clock, processor seconds, date and machine load."""
    load = round(os.getloadavg()[0], 2)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    words = ["nice", "-n", str(nice), *shlex.split(command)]
    with log.open("w") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=nice != 0)
        # Linux weighs sessions first and processes within them second: a new session needs the priority too.
        with contextlib.suppress(OSError):
            if nice:
                Path(f"/proc/{process.pid}/autogroup").write_text(str(nice))
        try:
            code = process.wait()
        finally:
            process.kill()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit(f"{log}: exit code {code} of {command}\n{log.read_text()[-2000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"wall_seconds": round(wall, 2), "cpu_seconds": round(used, 2), "load_before": load, "ended": date}


def main() -> None:
    """Run what is missing, then judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the peers' environment (setup.sh makes one)")
    parser.add_argument("--data", required=True, help="folder of IDX files, or an .npz (images.py)")
    parser.add_argument("--out", type=Path, default=Path(".bench/peers"), help="folder for everything that is made")
    parser.add_argument("--rows", type=Path, nargs="+", default=[HERE / "rows.toml"], help="files that name the rows")
    parser.add_argument("--only", help="comma-separated names of the rows to run (all are judged)")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trilemma", default=".venv/bin/trilemma", help="our command, for the rows of rows-ours.toml")
    parser.add_argument("--phases", default="train,sample,judge", help="what to do of these three")
    parser.add_argument("--nice", type=int, default=0, help="added to the priority of the training commands")
    arguments = parser.parse_args()
    rows = [row for path in arguments.rows for row in tomllib.loads(path.read_text())["row"]]
    chosen = set(arguments.only.split(",")) if arguments.only else {row["name"] for row in rows}
    if missing := chosen - {row["name"] for row in rows}:
        raise SystemExit(f"no row is named {', '.join(sorted(missing))}: rows are {', '.join(r['name'] for r in rows)}")
    out = arguments.out.resolve()
    if not (out / "unlabelled.npz").exists():
        images = {f"x_{split}": read_split(arguments.data, split)[0] for split in ("train", "test")}
        out.mkdir(parents=True, exist_ok=True)
        np.savez(out / "unlabelled.npz", **images)
    phases = arguments.phases.split(",")
    for phase, evidence in ((phase, evidence) for phase, evidence in DONE.items() if phase in phases):
        for row in (row for row in rows if row["name"] in chosen):
            folder = out / row["name"]
            if evidence in read_row(folder):
                print(f"{row['name']}: {phase} is done", flush=True)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            words = {"python": arguments.python, "here": HERE, "folder": folder, "data": Path(arguments.data).resolve()}
            words |= {"trilemma": Path(arguments.trilemma).absolute(), "out": out}
            words |= {"seconds": f"{arguments.seconds:g}", "seed": arguments.seed, "samples": arguments.samples}
            command = row[phase].format(**words)
            print(f"{row['name']}: {phase}: {command}", flush=True)
            measured = run(command, out / "log" / f"{row['name']}.{phase}", arguments.nice if phase == "train" else 0)
            record = {"name": row["name"], **read_row(folder), f"{phase}_command": {"command": row[phase], **measured}}
            # Commands that record no figures of their own get those of the whole process.
            if evidence not in record:
                record[evidence] = measured["wall_seconds"]
                if phase == "sample":
                    record["sampling_images_per_second"] = round(arguments.samples / measured["wall_seconds"], 2)
            unfinished = folder / "row.json.part"
            unfinished.write_text(json.dumps(record, indent=1) + "\n")
            unfinished.replace(folder / "row.json")
    if "judge" not in phases:
        return
    samples = [out / row["name"] / "samples.npy" for row in rows]
    command = [arguments.python, HERE / "judge.py", *(path for path in samples if path.exists())]
    command += [
        "--number",
        arguments.samples,
        "--data",
        arguments.data,
        "--cache",
        out / "judge.pt",
        "--out",
        out / "rows.jsonl",
    ]
    sys.exit(subprocess.run([str(word) for word in command]).returncode)


if __name__ == "__main__":
    main()
