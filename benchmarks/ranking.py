"""Does the headline figure rank models as judges do that had no part in it? Models of graded quality, ranked twice.

    .venv/bin/python benchmarks/ranking.py train DATA --out FOLDER [--resolution 32] [--budgets 8s,25s,75s]
    .venv/bin/python benchmarks/ranking.py judge DATA --out FOLDER [--resolution 32]

`train` trains every model with every budget (what is trained already is not trained again; runs of other origin may
lie under FOLDER/runs too). `judge` measures each as `trilemma measure` does, then by judges held out of the product:
networks of another architecture and other tasks, trained here on a random part of the training split, with the test and
choose splits for reference. It prints Spearman's correlation of the headline with each judge and with their mean
rank, and writes FOLDER/ranking.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy import linalg, stats
from torch import nn
from torch.nn import functional

import trilemma as tl
from trilemma.report.asked import MODELS
from trilemma.report.measure import Ruler, count_for

SEED = 71_077  # of the judges: their split, weights and order of examples
STEPS, BATCH, RATE = 1000, 64, 2e-3
HEADLINES = ("frechet", "frechet@random", "kernel", "kernel@imagenet", "classifier", "precision", "recall")


class Body(nn.Module):
    """Plain convolutions with group norms, 96 outputs, which are the features."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        widths, layers, before = (48, 96, 128), [], channels
        for width in widths:
            for stride in (1, 2):
                layers += [nn.Conv2d(before, width, 3, stride, 1), nn.GroupNorm(8, width), nn.GELU()]
                before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(before * 4, 96))
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(96, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class Coder(nn.Module):
    """A convolutional autoencoder with a code of 96 numbers, trained on noisy pictures: the code is the features."""

    def __init__(self, channels: int, side: tuple[int, int]):
        super().__init__()
        self.grid = (-(-side[0] // 4), -(-side[1] // 4))
        self.side = side
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 5, 2, 2), nn.GELU(), nn.Conv2d(32, 64, 5, 2, 2), nn.GELU(), nn.Flatten(),
            nn.Linear(64 * self.grid[0] * self.grid[1], 96),
        )  # fmt: skip
        self.open = nn.Linear(96, 64 * self.grid[0] * self.grid[1])
        self.back = nn.Sequential(
            nn.GELU(), nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, 5, 1, 2), nn.GELU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(32, channels, 5, 1, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        again = self.back(self.open(self.body(x)).reshape(len(x), 64, *self.grid))
        return again[:, :, : self.side[0], : self.side[1]]


def as_pictures(x: np.ndarray) -> torch.Tensor:
    """uint8 (n, C, H, W) as float32 in [-1, 1]."""
    return torch.from_numpy(np.asarray(x)).float() / 127.5 - 1


def fit(network: nn.Module, loss, count: int) -> nn.Module:
    """Adam with a cosine over STEPS batches; `loss` takes the places of a batch and a generator."""
    torch.manual_seed(SEED)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(SEED)
    network.train()
    for _ in range(STEPS):
        value = loss(torch.randint(count, (BATCH,), generator=generator), generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def judges_of(data, folder: Path) -> tuple[dict[str, nn.Module], torch.Tensor]:
    """Trained judges by name, and the pictures that neither they nor the models learned from."""
    order = np.random.default_rng(SEED).permutation(data.splits["train"])
    known = order[: max(int(0.7 * len(order)), 1)][:30_000]
    held = np.concatenate([data.splits["test"], data.splits["choose"]])[:5000]
    pictures = as_pictures(np.stack([data.x[i] for i in known]))
    label = data.conditions.get("label")
    channels, side = pictures.shape[1], tuple(pictures.shape[2:])
    torch.manual_seed(SEED)
    judges: dict[str, nn.Module] = {"coder": Coder(channels, side)}
    if label is not None:
        targets = torch.from_numpy(np.asarray(label)[known, 0].astype(np.int64))
        judges["classes"] = Body(channels, int(targets.max()) + 1)
    else:
        judges["turns"] = Body(channels, 4)

    def coder_loss(places, generator):
        x = pictures[places]
        return functional.smooth_l1_loss(judges["coder"](x + 0.2 * torch.randn(x.shape, generator=generator)), x)

    def class_loss(places, generator):
        x = pictures[places]
        x = torch.roll(x, tuple(torch.randint(-2, 3, (2,), generator=generator).tolist()), (2, 3))
        return functional.cross_entropy(judges["classes"](x), targets[places])

    def turn_loss(places, generator):
        turns = torch.randint(4, (len(places),), generator=generator)
        x = torch.stack([torch.rot90(p, int(t), (1, 2)) for p, t in zip(pictures[places], turns, strict=True)])
        return functional.cross_entropy(judges["turns"](x), turns)

    losses = {"coder": coder_loss, "classes": class_loss, "turns": turn_loss}
    for name, network in judges.items():
        file = folder / f"judge-{name}.pt"
        if file.is_file():
            network.load_state_dict(torch.load(file, weights_only=True))
            network.eval()
        else:
            fit(network, losses[name], len(known))
            torch.save(network.state_dict(), file)
            print("trained judge", name, flush=True)
    return judges, as_pictures(np.stack([data.x[i] for i in held]))


@torch.no_grad()
def features(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    return torch.cat([network.body(part) for part in x.split(250)]).double().numpy()


def gradients(x: torch.Tensor) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs 2005): 8 directions in 4 x 4 cells of the grey picture."""
    grey = x.mean(1).numpy()
    down, across = np.gradient(grey, axis=(1, 2))
    size, angle = np.hypot(down, across), np.mod(np.arctan2(down, across), np.pi)
    bins = np.minimum((angle / np.pi * 8).astype(int), 7)
    rows, columns = (np.arange(n) * 4 // n for n in grey.shape[1:])
    cell = (rows[:, None] * 4 + columns[None]) * 8
    out = np.zeros((len(grey), 128))
    for i in range(len(grey)):
        out[i] = np.bincount((cell + bins[i]).ravel(), size[i].ravel(), 128)
    return out / np.sqrt(1e-3 + np.square(out).sum(1, keepdims=True))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The textbook's formula by SciPy's matrix root, with its own little ridge: no code of the product."""
    ridge = 1e-6 * np.trace(np.cov(a, rowvar=False)) / a.shape[1] * np.eye(a.shape[1])
    one, two = np.cov(a, rowvar=False) + ridge, np.cov(b, rowvar=False) + ridge
    root = linalg.sqrtm(one @ two)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(one + two - 2 * np.real(root)))


def train_all(arguments: argparse.Namespace, data) -> None:
    for budget in arguments.budgets.split(","):
        for model in MODELS:
            folder = arguments.out / "runs" / f"{model}-{budget}".replace(":", "-")
            tl.train(data, model=model, budget=budget, out=folder, quiet=True)
            print("trained", folder.name, flush=True)


def kept_samples(out: Path, folder: Path, count: int) -> np.ndarray:
    """Samples of a run, kept so that judging again is quick."""
    file = out / "samples" / f"{folder.name}.npy"
    if not file.is_file() or len(np.load(file, mmap_mode="r")) < count:
        file.parent.mkdir(exist_ok=True)
        run = tl.load(folder)
        np.save(file, run.sampler.samples(count, seed=5, options=run.options))
    return np.load(file)[:count]


def judge_all(arguments: argparse.Namespace, data) -> None:
    count = min(count_for(data), arguments.count)
    ruler = Ruler(data, count, quiet=True)
    judges, held = judges_of(data, arguments.out)
    reference = {name: features(network, held) for name, network in judges.items()} | {"gradients": gradients(held)}
    file = arguments.out / "ranking.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    rows = [row for row in rows if row["protocol"] == ruler.protocol.key()]
    for folder in sorted((arguments.out / "runs").iterdir()):
        if any(row["name"] == folder.name for row in rows) or not (folder / "weights.safetensors").is_file():
            continue
        x = kept_samples(arguments.out, folder, count)
        found = ruler.measure(x)[0]
        pictures = as_pictures(x)
        row = {"name": folder.name, "protocol": ruler.protocol.key()}
        row |= {name: found[name]["value"] for name in HEADLINES if name in found}
        row |= {
            f"judge {name}": frechet(reference[name], features(network, pictures)) for name, network in judges.items()
        }
        row["judge gradients"] = frechet(reference["gradients"], gradients(pictures))
        rows.append(row)
        with open(file, "a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    if not rows:
        raise SystemExit(f"{arguments.out}/runs holds no finished run: train first")
    held_out = [name for name in rows[0] if name.startswith("judge ")]
    ranks = {name: stats.rankdata([row[name] for row in rows]) for name in held_out}
    ranks["mean of ranks"] = np.mean(list(ranks.values()), axis=0)
    found = {}
    for headline in [name for name in HEADLINES if name in rows[0]]:
        better_high = headline in ("precision", "recall")
        values = np.array([-row[headline] if better_high else row[headline] for row in rows])
        found[headline] = {name: float(stats.spearmanr(values, rank)[0]) for name, rank in ranks.items()}
        print(headline.ljust(18), "  ".join(f"{name} {value:+.3f}" for name, value in found[headline].items()))
    text = json.dumps({"models": len(rows), "spearman": found, "rows": rows}, indent=1)
    (arguments.out / "ranking.json").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resolution")
    parser.add_argument("--count", type=int, default=600, help="samples of each model")
    parser.add_argument("--budgets", default="8s,25s,75s")
    arguments = parser.parse_args()
    (arguments.out / "runs").mkdir(parents=True, exist_ok=True)
    data = tl.open_data(arguments.data, resolution=arguments.resolution)
    {"train": train_all, "judge": judge_all}[arguments.what](arguments, data)


if __name__ == "__main__":
    main()
