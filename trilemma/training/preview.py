"""What a training shows of itself: grids of samples or reconstructions at a few moments, a film, a cheap figure."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from trilemma.metrics.random_features import RandomFeatures
from trilemma.mixed import plain
from trilemma.modalities.contract import Data
from trilemma.training.run import Run, disk_errors
from trilemma.training.sampling import Sampler, recodes

EARLY = 0.2  # share of the budget in which samples are shown, not judged
FIT_LIMIT = 2000  # codes that a preview fits its density on


class Shows(Protocol):
    """What looks at a training at a few moments of its budget, and what that took."""

    moments: list[float]  # shares of the budget
    seconds: float

    def due(self, seen: int, batch: int, total: int) -> bool: ...

    def show(self, loop: Any) -> list[dict[str, Any]]: ...


class Preview:
    """Shows the averaged model at a few moments of the budget, with equal seeds: the film shows one thing changing."""

    def __init__(self, run: Run, data: Data, sampler: Sampler, *, moments: int, count: int, average: str | None):
        self.run, self.data, self.sampler = run, data, sampler
        # The first picture comes early: people want to see that something happens.
        self.moments = [0.02, *((i + 1) / moments for i in range(moments))]
        self.count, self.average = count, average
        self.real = data.rows("choose", 500)
        self.values = plain(data.spaces["x"], self.real)
        self.random = RandomFeatures(self.values, width=32)
        self.reference = self.random(self.values)
        self.seconds = 0.0

    def due(self, seen: int, batch: int, total: int) -> bool:
        """Did this step of `batch` examples pass one of the moments?"""
        return any(seen - batch < moment * total <= seen for moment in self.moments)

    def show(self, loop: Any) -> list[dict[str, Any]]:
        """Make the picture and the figure; returns health events."""
        if not loop.engine.main:
            return []
        from trilemma.metrics.fidelity import kernel_distance  # and scipy, which the first step need not wait for

        start = time.monotonic()
        with loop.averages.applied(loop.model, self.average):
            again = recodes(loop.model)
            if not again:
                self.sampler.fit(self.data.split("train"), seed=loop.seed, limit=FIT_LIMIT)
            samples = self.sampler.judged(self.data.split("choose"), self.count, seed=loop.seed)
        folder = self.run.samples_folder
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
            shown, columns = samples[: 64 if samples.ndim > 2 else len(samples)], None
            sources = self.data.sources("choose")
            if sources is not None:
                shown, columns = rows(self.data, sources[: len(samples)], samples)
            elif again and samples.ndim == 4:  # each beside what its codes give back
                pairs = max(len(shown) // 2, 1)
                both = [self.real[:pairs], shown[:pairs]]
                shown, columns = np.stack(both, 1).reshape(-1, *shown.shape[1:]), 8
            file = folder / f"{loop.seen:09d}.png"
            picture = self.data.modality.picture(shown, columns=columns, reference=self.real)
            picture.save(file.with_suffix(".part"), format="PNG")
            file.with_suffix(".part").replace(file)
        figure, values = None, plain(self.data.spaces["x"], samples)
        if len(self.reference) > 1 and np.isfinite(values.astype(np.float64)).all():
            figure = kernel_distance(self.reference, self.random(values)).value
        self.seconds += time.monotonic() - start
        self.run.log({"seen": loop.seen, "step": loop.step, "kernel@random": figure, "samples": len(samples)})
        # Every model begins with too little variety: that is no trouble yet.
        early = loop.seen < EARLY * loop.training.examples
        return [] if early else loop.health.of_samples(values, self.values)


def rows(data: Data, sources: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, int]:
    """What was made beside its source, and of pairs beside its target: examples for a picture, and its columns."""
    count = min(len(sources), len(made), 12)
    sides = [data.pictured(sources[:count], colour=True), made[:count]]
    if "source" in data.conditions:
        sides.append(data.rows("choose", count))
    if sides[0].shape[1] == 3:  # maps in colours beside grey pictures
        sides = [side.repeat(3, 1) if side.shape[1] == 1 else side for side in sides]
    return np.concatenate([side[row : row + 1] for row in range(count) for side in sides]), 3 * len(sides)


def film(folder: Path) -> Path | None:
    """All previews of a run as one animated picture."""
    pictures = sorted(folder.glob("[0-9]*.png"))
    if len(pictures) < 2:
        return None
    frames = []
    for path in pictures:
        # A picture that a power cut tore is no reason to lose the run.
        with contextlib.suppress(OSError), Image.open(path) as image:
            frames.append(image.convert("RGB"))
    if len(frames) < 2:
        return None
    out = folder / "film.gif"
    with disk_errors(out):
        frames[0].save(out, save_all=True, append_images=[*frames[1:], frames[-1]], duration=500, loop=0)
    return out
