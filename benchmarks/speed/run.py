"""Our training and sampling speed against a peer's, in turn, so that a noisy machine is noisy for both.

    python benchmarks/speed/run.py --peers ENV/bin/python --out .bench/speed

Equal data (1 x 28 x 28), equal batch; at equal floating-point operations the throughputs are compared as operations a
second; examples/s and samples/s as they are. Each round is written when it is done, and a second call goes on. Peers
are set up by `benchmarks/peers/setup.sh ENV`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAIRS = {"diffusers": "diffusion", "torchcfm": "diffusion", "pythae": "vae", "torchgan": "gan"}
SAMPLES = {
    "diffusers": 32,
    "torchcfm": 32,
    "pythae": 1000,
    "torchgan": 2000,
    "diffusion": 250,
    "vae": 2000,
    "gan": 2000,
}


def timed(command: list[str]) -> dict[str, float]:
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(said.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="the python of the peers' environment")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="comma-separated peers")
    parser.add_argument("--threads", default="2")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "rounds.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    chosen = given.only.split(",") if given.only else list(PAIRS)
    for number in range(given.rounds):
        for peer in chosen:
            if any(row["peer"] == peer and row["round"] == number for row in rows):
                continue
            ours, common = PAIRS[peer], ["--threads", given.threads]
            row = {"peer": peer, "ours": ours, "round": number}
            row["us"] = timed(
                [sys.executable, str(HERE / "our_speed.py"), "--model", ours, "--samples", str(SAMPLES[ours]), *common]
            )
            row["them"] = timed(
                [given.peers, str(HERE / "peer_speed.py"), "--peer", peer, "--samples", str(SAMPLES[peer]), *common]
            )
            rows.append(row)
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
    print("| peer | ours | GFLOP/s ours | theirs | ratio of operations/s | ratio of examples/s | ratio of samples/s |")
    print("|---|---|---|---|---|---|---|")
    for peer in chosen:
        mine = [row for row in rows if row["peer"] == peer]
        rates = {
            who: [row[who]["flops_per_example"] * row[who]["examples_per_second"] / 1e9 for row in mine]
            for who in ("us", "them")
        }
        ratios = [spread([a / b for a, b in zip(rates["us"], rates["them"], strict=True)])]
        for key in ("examples_per_second", "samples_per_second"):
            ratios.append(spread([row["us"][key] / row["them"][key] for row in mine]))
        middle = [f"{statistics.median(rates[who]):,.0f}" for who in ("us", "them")]
        print(f"| {peer} | {PAIRS[peer]} | {' | '.join(middle)} | {' | '.join(ratios)} |")


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()
