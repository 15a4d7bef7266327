"""CIFAR-10, 60,000 pictures: quality after 5, 10 and 15 million training examples, beside EDM's small network.

    python benchmarks/gpu/curve.py CIFAR10 --inception WEIGHTS --out .bench/curve

One training of 15 million examples with branches at a third and two thirds, each with its own decay, so that each is
what a training of that length gives. FID: 50,000 samples against the 50,000 training pictures, Inception's features, as
EDM's published curve has it (network of 96 channels, batch 128: 16.1 after 5, 9.95 after 10, 7.3 after 15 million).
WEIGHTS: those of `--features inception`. Without them the distance is that of `trilemma measure`, which no published
figure can be held against. Each row is written when it is done; call it again to go on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import trilemma as tl
from trilemma.metrics.fidelity import frechet_distance
from trilemma.training.branch import branch, shares_of
from trilemma.training.probe import machine
from trilemma.training.published import open_given, read_wanted
from trilemma.training.run import Run

EDM = {5: 16.1, 10: 9.95, 15: 7.3}  # FID by million examples, github.com/yuanzhi-zhu/mini_edm, figs/EDM_fid.png
PART = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="CIFAR-10: its folder, or an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--inception", help="file of Inception's weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="l")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--examples", type=int, default=15_000_000)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = tl.open_data(given.source)
    inception = None
    if given.inception:
        opened = open_given(read_wanted(f"inception={given.inception}"), data)
        if not opened.networks:
            raise SystemExit("; ".join(opened.left_out.values()))
        inception = opened.networks[0]
    begin = time.monotonic()
    run = tl.train(
        given.source,
        model="diffusion",
        out=given.out / "run",
        size=given.size,
        budget=given.examples,
        seed=given.seed,
        settings={
            "optimizer.batch": given.batch,
            "training.branches": (1 / 3, 2 / 3),
            "training.flip": True,
            "training.compile": torch.cuda.is_available(),
        },
    )
    assert isinstance(run, Run)
    print(f"trained, or found: {time.monotonic() - begin:.0f} s")
    file = given.out / "curve.jsonl"
    done = {json.loads(line)["examples"] for line in file.read_text().splitlines()} if file.is_file() else set()
    for each in [*[branch(data, run, share) for share in shares_of(run)], run]:
        examples = each.config()["training"]["examples"]
        if examples not in done:
            row = {"examples": examples, **measured(each, data, given.samples, inception), "machine": machine()}
            row["seconds"] = each.choices()["seconds"]
            with file.open("a") as out:
                print(json.dumps(row), file=out)
    print("| million examples | FID | EDM's small network | seconds of training |\n|---|---|---|---|")
    for row in sorted(map(json.loads, file.read_text().splitlines()), key=lambda row: row["examples"]):
        millions = round(row["examples"] / 1e6)
        beside = EDM.get(millions, "") if row["by"] == "inception" else ""
        cells = (f"{row['examples'] / 1e6:.3g}", f"{row['fid']:.2f} ({row['by']})", beside, row["seconds"]["total"])
        print("|", " | ".join(map(str, cells)), "|")


def measured(run: Run, data: object, count: int, inception: object) -> dict[str, object]:
    """The distance of `count` samples: by Inception to the training pictures, else as `trilemma measure` has it."""
    made = tl.load(run.folder)
    begin = time.monotonic()
    if inception is None:
        samples = made.generate(min(count, 5000))
        seconds = time.monotonic() - begin
        judged = tl.measure(data, samples, quiet=True)
        return {"fid": judged.metrics["frechet"]["value"], "by": "trilemma measure", "sampling_seconds": seconds}
    features, reference = [], []
    for start in range(0, count, PART):
        features.append(inception(made.generate(min(PART, count - start), start=start, raw=True)))  # type: ignore[operator]
    seconds = time.monotonic() - begin
    for split in ("train", "choose"):  # together the published training pictures
        pictures = data.rows(split)  # type: ignore[attr-defined]
        for start in range(0, len(pictures), PART):
            reference.append(inception(pictures[start : start + PART]))  # type: ignore[operator]
    value = frechet_distance(np.concatenate(reference), np.concatenate(features)).value
    return {"fid": value, "by": "inception", "samples": count, "sampling_seconds": seconds}


if __name__ == "__main__":
    main()
