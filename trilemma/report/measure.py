"""One row of the table: samples of any origin measured on the test split under one recorded protocol."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.batches import Batch, Options
from trilemma.conditions import tell
from trilemma.metrics.classifier import two_sample_test
from trilemma.metrics.fidelity import frechet_distance, kernel_distance
from trilemma.metrics.imagenet import ImageNetFeatures, available
from trilemma.metrics.memorisation import memorisation
from trilemma.metrics.neighbours import precision_recall_density_coverage
from trilemma.metrics.pixels import mean_distance_between_pairs, modes_found, reconstruction_error, sharpness
from trilemma.metrics.protocol import Measure, Protocol, interval
from trilemma.metrics.random_features import RandomFeatures
from trilemma.modalities.contract import Data
from trilemma.models.contract import Decodes, Encodes, Samples, Scores
from trilemma.tasks.load import Loaded
from trilemma.training.engine import forget_peak, peak_memory
from trilemma.training.features import feature_network

REFERENCE = 10_000  # most test examples
TRAIN = 10_000  # most training examples in the search for copies
FEWEST = 10  # test examples for measures that count neighbours or fit a classifier
SEED = 0x6D656173757265


class Ruler:
    """The reference side of all metrics, computed once: features of the test and the training split."""

    def __init__(self, data: Data, count: int, *, quiet: bool = False):
        self.data, self.count = data, count
        self.network = feature_network(data, "measure", quiet=quiet)
        self.test = data.rows("test", REFERENCE)
        self.train = data.rows("train", TRAIN)
        self.features = self.network(self.test)
        self.train_features = self.network(self.train)
        self.random = RandomFeatures(self.train[:2000]) if self.test.ndim > 2 else None
        self.random_features = self.random(self.test) if self.random else None
        judges = {"random": self.random.hash} if self.random else {}
        self.imagenet: ImageNetFeatures | None = None
        if data.modality.kind == "image" and data.x.shape[1] == 3 and data.x.dtype == np.uint8 and available():
            self.imagenet = ImageNetFeatures()
            self.imagenet_features = self.imagenet(self.test[:2000])
            judges["imagenet"] = f"{self.imagenet.name}, {len(self.imagenet_features)} reference pictures"
        self.protocol = Protocol(
            features=self.network.name,
            features_hash=self.network.hash,
            split="test",
            reference_count=len(self.test),
            sample_count=count,
            resize="x".join(map(str, data.x.shape[1:])),
            seeds={"samples": SEED},
            data_hash=data.hash,
            judges=judges,
        )

    def measure(self, samples: np.ndarray) -> tuple[dict[str, Any], dict[str, str], np.ndarray, np.ndarray]:
        """(metrics, verdicts, order of samples by nearness to the training set, their nearest training rows)."""
        features = self.network(samples)
        found: dict[str, Measure] = {
            "frechet": frechet_distance(self.features, features),
            "kernel": kernel_distance(self.features, features),
            "diversity": mean_distance_between_pairs(self.features, features),
        }
        if min(len(self.features), len(features)) >= FEWEST:
            found |= precision_recall_density_coverage(self.features, features)
            found["classifier"] = two_sample_test(self.features, features)
        if self.random is not None and self.random_features is not None:
            found["frechet@random"] = frechet_distance(self.random_features, self.random(samples))
            found["sharpness"] = sharpness(self.test, samples)
        if self.imagenet is not None:
            # With more features than samples a Frechet distance is mostly bias; the kernel distance has none.
            found["kernel@imagenet"] = kernel_distance(self.imagenet_features, self.imagenet(samples))
        if self.data.centres is not None:
            spread = float(np.median(_to_centres(self.test, self.data.centres)))
            # The distance to the nearest of K round modes in D dimensions is about spread times a chi variable.
            found |= modes_found(samples, self.data.centres, spread / max(self.data.centres.shape[1] - 0.6, 0.5) ** 0.5)
        copies = memorisation(self.train_features, self.features, features)
        # Features miss a copy under noise, pixels miss a shifted one: either may raise the alarm.
        flat = [x.reshape(len(x), -1).astype(np.float32) for x in (self.train, self.test, samples)]
        alarms = {copies["verdict"], memorisation(*flat)["verdict"]}
        verdict = next(word for word in ("copies", "none", "cannot tell") if word in alarms)
        found["memorisation"], found["near_copies"] = copies["ratio"], copies["near_copies"]
        order = np.argsort(copies["distances"])[:8]
        nearest = np.asarray(copies["nearest"])[order]
        metrics = {name: measure.record() for name, measure in found.items()}
        return metrics, {"memorisation": verdict}, order, nearest


def _to_centres(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - centres[None]) ** 2).sum(-1)).min(1)


def of_run(loaded: Loaded, data: Data, count: int) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Samples (count, ...) of a run, its extra metrics (reconstruction, likelihood) and its speed."""
    model = loaded.model
    assert isinstance(model, Samples)
    forget_peak()
    start = time.perf_counter()
    loaded.sampler.samples(1, seed=SEED, options=loaded.options)
    first = time.perf_counter() - start
    start = time.perf_counter()
    samples = loaded.sampler.samples(count, seed=SEED, options=loaded.options)
    seconds = time.perf_counter() - start
    config, choices = loaded.config, loaded.run.choices()
    spent = choices.get("seconds", {})
    examples = config["training"]["examples"]
    speed = {
        "samples_per_second": count / seconds,
        "first_sample_seconds": first,
        "calls": model.calls(loaded.options or Options()),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "model_bytes": loaded.run.weights_file.stat().st_size,
        "train_seconds": spent.get("total"),
        "examples": examples,
        "examples_per_second": examples / spent["loop"] if spent.get("loop") else None,
        "train_memory_bytes": choices.get("memory_bytes"),
        "sample_memory_bytes": peak_memory(),
    }
    metrics: dict[str, Any] = {}
    rows = data.splits["test"][:500]
    arrays, where = data.split("test"), str(loaded.engine.device)
    places = np.arange(len(rows))

    def told(part: np.ndarray) -> Batch:
        return tell(model.spaces, arrays.gather(part, seed=SEED, device=where))

    if isinstance(model, Encodes) and isinstance(model, Decodes):
        parts = np.array_split(places, -(-len(places) // 250))
        again = np.concatenate([loaded.sampler.reconstruct(told(part)) for part in parts])
        errors = reconstruction_error(np.asarray(data.x[rows]), again)
        metrics["reconstruction"] = errors["mse"].record()
    if isinstance(model, Scores) and data.x.ndim == 2:
        metrics["log_likelihood"] = _likelihood(model, told(places)).record()
    return samples, metrics, speed


def _likelihood(model: Scores, batch: Batch) -> Measure:
    """Mean log-likelihood of these examples, nats an example."""
    scores = model.score(batch).detach().double().cpu().numpy()
    value, error = float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(len(scores)))
    low, high = interval(value, error)
    return Measure(value, low, high, "log_likelihood", "higher", "nats an example")


def write_samples(folder: Path, name: str, x: np.ndarray) -> str:
    """Raw samples under the report folder; returns the path relative to it."""
    path = folder / "samples" / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, x)
    return str(path.relative_to(folder))
