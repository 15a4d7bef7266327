"""Known answers on real data: each damage is seen by the metrics that should see it, and not by those that should not.

    .venv/bin/python benchmarks/known_answers.py --data digits --out FOLDER [--repeats 20]

The sets are real training examples, as many as the protocol takes, and what was done to them is known: half of the
classes left out, blurred, noisy, less contrast, lighter (greys) or with their colours exchanged. Each is held against
an untouched set of other training examples under one `Ruler`. EXPECTED says which metrics move which way and which
stay; a metric with an interval moved if the two intervals part, another one if it changed by a tenth.

Memorisation, `--repeats` times with other draws: sets made of training examples must be called copies every time; real
data that the search never saw, never. For the latter one half of the training examples is taken out of the search.

Rows are written when they are done; rows that are there are not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import trilemma as tl
from trilemma.report.measure import Ruler, count_for

UP, DOWN, STAYS = "up", "down", "stays"
EXPECTED: dict[str, dict[str, str]] = {
    "half of the classes": {
        "frechet": UP, "kernel": UP, "recall": DOWN, "coverage": DOWN, "classes": DOWN, "balance": DOWN, "vendi": DOWN,
        "classifier": UP, "precision": STAYS, "sharpness": STAYS,
    },
    "blurred": {
        "frechet": UP, "frechet@random": UP, "sharpness": DOWN, "spectrum": UP, "precision": DOWN, "classifier": UP,
        "classes": STAYS,
    },
    "noisy": {
        "frechet": UP, "frechet@random": UP, "sharpness": UP, "spectrum": UP, "precision": DOWN, "classifier": UP,
        "classes": STAYS,
    },
    "half the contrast": {
        "frechet@random": UP, "classifier": UP, "sharpness": DOWN, "spectrum": UP, "diversity": DOWN, "classes": STAYS,
    },
    "lighter": {"frechet@random": UP, "classifier": UP, "classes": STAYS, "sharpness": STAYS, "spectrum": STAYS},
    "colours exchanged": {
        "frechet": UP, "frechet@random": UP, "classifier": UP, "sharpness": STAYS, "spectrum": STAYS,
    },
}  # fmt: skip
# A set of other content has another sharpness, and a spectrum of its own, when each example is perfect.
SLACK = {"sharpness": 0.15, "spectrum": 1.0, "classes": 0.0}


def blurred(x: np.ndarray) -> np.ndarray:
    sigma = max(x.shape[-1] / 32, 0.6)
    return ndimage.gaussian_filter(x.astype(np.float64), (0, 0, sigma, sigma)).round().astype(x.dtype)


def noisy(x: np.ndarray, generator: np.random.Generator, deviation: float) -> np.ndarray:
    return (x + deviation * generator.standard_normal(x.shape)).round().clip(0, 255).astype(x.dtype)


def lighter(x: np.ndarray) -> np.ndarray:
    """Greys moved up by 25, at most to white: the contrast stays but for what was almost white."""
    return (x.astype(np.float64) + 25).clip(0, 255).astype(x.dtype)


def pale(x: np.ndarray) -> np.ndarray:
    """Half the contrast about the mean of all."""
    return (x.mean() + 0.5 * (x - x.mean())).round().astype(x.dtype)


def shifted(x: np.ndarray) -> np.ndarray:
    """By one pixel to the right; the first column stands twice."""
    return np.concatenate([x[..., :1], x[..., :-1]], -1)


def verdict_on(kind: str, real: dict[str, Any], made: dict[str, Any], name: str) -> tuple[str, bool]:
    """How a metric moved, and whether that is what was expected."""
    step, expected = made["value"] - real["value"], EXPECTED[kind][name]
    if expected == STAYS and name in SLACK:
        limit = SLACK[name] * (abs(real["value"]) if name != "spectrum" else 1.0)
        moved = abs(step) > limit
    elif real["low"] is not None and made["low"] is not None:
        moved = made["low"] > real["high"] or made["high"] < real["low"]
    else:
        moved = abs(step) > 0.1 * max(abs(real["value"]), 1e-9)
    told = (UP if step > 0 else DOWN) if moved else STAYS
    # What should not fall may rise: half of the classes are denser among themselves.
    return told, told == expected or (expected == STAYS and name == "precision" and told == UP)


def damages(data: Any, count: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    rows = generator.permutation(data.splits["train"])
    labels = np.asarray(data.conditions["label"])[rows, 0]
    kept = np.unique(labels)[: len(np.unique(labels)) // 2]
    x = np.asarray(data.x[rows[-count:]])
    sets = {
        "untouched": np.asarray(data.x[rows[:count]]),
        "half of the classes": np.asarray(data.x[rows[np.isin(labels, kept)][-count:]]),
        "blurred": blurred(x),
        "noisy": noisy(x, generator, 0.5 * float(x.std())),
        "half the contrast": pale(x),
    }
    return sets | ({"colours exchanged": x[:, ::-1]} if x.shape[1] == 3 else {"lighter": lighter(x)})


def copies(train: np.ndarray, unseen: np.ndarray, count: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Sets of samples by name: all but the last are copies of rows of `train`."""
    again = train[generator.integers(len(train), size=count)]
    other = unseen[generator.permutation(len(unseen))[:count]]
    half = np.concatenate([again[: len(other) // 2], other[len(other) // 2 :]])
    return {
        "resampled training set": again,
        "copies with noise of 10": noisy(again, generator, 10.0),
        "copies with noise of 25": noisy(again, generator, 25.0),
        "copies shifted by a pixel": shifted(again),
        "copies shifted by a pixel, noise of 10": noisy(shifted(again), generator, 10.0),
        "copies in a mirror": np.ascontiguousarray(again[..., ::-1]),
        "half copies": half,
        "held-out real data": other,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "known-answers.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    data = tl.open_data(arguments.data)
    count = count_for(data)
    ruler = Ruler(data, count)

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        with open(file, "a") as lines:
            lines.write(json.dumps(row) + "\n")

    generator = np.random.default_rng(arguments.seed)
    print("| set | metric | untouched | damaged | expected | measured | |\n|---|---|---|---|---|---|---|")
    sets = damages(data, min(count, len(data.splits["train"]) // 3), generator)
    for kind, samples in sets.items():
        if not any(row.get("damage") == kind for row in rows):
            keep({"data": data.name, "damage": kind, "metrics": ruler.measure(samples)[0]})
    found = {row["damage"]: row["metrics"] for row in rows if "damage" in row}
    for kind in list(sets)[1:]:
        for name, expected in EXPECTED[kind].items():
            real, made = found["untouched"][name], found[kind][name]
            told, right = verdict_on(kind, real, made, name)
            said = "as expected" if right else "NOT as expected"
            print(f"| {kind} | {name} | {real['value']:.3g} | {made['value']:.3g} | {expected} | {told} | {said} |")

    every, every_features = ruler.train, ruler.train_features
    for repeat in range(arguments.repeats):
        if any(row.get("repeat") == repeat for row in rows):
            continue
        generator = np.random.default_rng([arguments.seed, repeat])
        order = generator.permutation(len(every))
        kept, left = order[: len(order) // 2], order[len(order) // 2 :]
        ruler.train, ruler.train_features = every[kept], every_features[kept]
        ruler.unseen, ruler.searched = {}, np.arange(len(kept))  # taken anew
        said = {
            name: ruler.copies(samples, ruler.network(samples))[1]
            for name, samples in copies(ruler.train, every[left], count, generator).items()
        }
        keep({"data": data.name, "repeat": repeat, "verdicts": said})
    verdicts = [row["verdicts"] for row in rows if "verdicts" in row]
    print(f"\n| set, {len(verdicts)} repeats | copies | none | cannot tell |\n|---|---|---|---|")
    for name in verdicts[0]:
        counts = [sum(each[name] == word for each in verdicts) for word in ("copies", "none", "cannot tell")]
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |")


if __name__ == "__main__":
    main()
