"""The feature networks beside the in-domain one: each is a judge of its own, and its figures stand behind its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trilemma.metrics.fidelity import frechet_distance, kernel_distance
from trilemma.metrics.given_features import PictureFeatures
from trilemma.metrics.imagenet import ImageNetFeatures, available
from trilemma.metrics.protocol import Measure
from trilemma.metrics.random_features import RandomFeatures
from trilemma.modalities.contract import Data
from trilemma.modalities.progress import progress

PICTURES = 2000  # most pictures of a set that a large network sees
SLOW = 1000  # most that one with published weights sees: it takes 0.1 to 0.2 s of one core for each
CHUNK = 256
ENOUGH = 2.0  # rows a feature: with fewer, most of a Frechet distance is bias


@dataclass(frozen=True)
class Judge:
    """A feature network with the reference's features (n, D).

    `enough`: rows a feature that its Frechet distance needs. `most`: samples that it sees, evenly from among all.
    `record` stands in the protocol: everything that the figures depend on besides the samples.
    """

    name: str
    network: Callable[[np.ndarray], np.ndarray]
    reference: np.ndarray
    record: str
    enough: float = ENOUGH
    most: int | None = None

    def measure(self, samples: np.ndarray) -> dict[str, Measure]:
        """`kernel@NAME`, which has no bias, and `frechet@NAME` where there are clearly more rows than features."""
        features = _features(self.name, self.network, samples if self.most is None else spread(samples, self.most))
        found = {f"kernel@{self.name}": kernel_distance(self.reference, features)}
        if min(len(self.reference), len(features)) >= self.enough * features.shape[1]:
            found[f"frechet@{self.name}"] = frechet_distance(self.reference, features)
        return found


def judges_for(data: Data, test: np.ndarray, train: np.ndarray, given: list[PictureFeatures]) -> list[Judge]:
    """The judges for these data: random features, ImageNet's where they are installed, and the networks given."""
    found = []
    if test.ndim > 2:
        random = RandomFeatures(train[:2000])
        # Its Frechet distance is in every table, whatever the counts: the bias is that of equal counts.
        found.append(Judge("random", random, random(test), random.hash, enough=0.0))
    if data.modality.kind == "image" and data.x.shape[1] == 3 and data.x.dtype == np.uint8 and available():
        imagenet = ImageNetFeatures()
        found.append(_large("imagenet", imagenet, test, imagenet.name, PICTURES))
    for network in given:
        judge = _large(network.name, network, test, network.record, SLOW if network.published else PICTURES)
        found.append(judge if network.published else _scaled(judge))
    return found


def taught_by(config: dict[str, Any]) -> list[str]:
    """The judges here whose network a run's loss has looked at, by its config.json: their figures say nothing of it."""

    def looks(part: Any) -> bool:
        if isinstance(part, dict):
            return bool(part.get("perceptual")) or any(looks(value) for value in part.values())
        return False

    return ["imagenet"] if looks(config.get("config")) or looks(config.get("spaces")) else []


def _large(name: str, network: Callable[[np.ndarray], np.ndarray], test: np.ndarray, record: str, most: int) -> Judge:
    reference = _features(name, network, spread(test, most))
    return Judge(
        name, network, reference, f"{record}, {len(reference)} reference pictures, at most {most} samples", most=most
    )


def spread(x: np.ndarray, most: int) -> np.ndarray:
    """At most so many of these, evenly from the first to the last: folders come sorted by class."""
    return x if len(x) <= most else x[np.linspace(0, len(x) - 1, most).round().astype(int)]


def _scaled(judge: Judge) -> Judge:
    """The judge with its features divided by their root mean square over the reference.

    The cubic kernel (x . y / D + 1)^3 sees nothing in features of 0.01 and little but the third power in those of 100.
    """
    size = float(np.sqrt(np.square(judge.reference).mean())) or 1.0
    return replace(
        judge,
        network=lambda x: judge.network(x) / size,
        reference=judge.reference / size,
        record=f"{judge.record}, of unit mean square",
    )


def _features(name: str, network: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    parts = []
    with progress(f"Features ({name})", len(x)) as advance:
        for start in range(0, len(x), CHUNK):
            parts.append(network(x[start : start + CHUNK]))
            advance(len(parts[-1]))
    return np.concatenate(parts)
