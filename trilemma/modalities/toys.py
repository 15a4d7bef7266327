"""Toy sets in the plane whose density is known exactly: what a model learned can be compared with the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COUNT = 50_000  # 40,000 of them to learn from
Density = Callable[[np.ndarray], np.ndarray]


def mixture_log_density(centres: np.ndarray, deviation: float) -> Density:
    """x (M, 2) -> log of the equal mixture of round Gaussians at `centres` (K, 2), in nats."""

    def log_density(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        result = np.empty(len(x))
        for start in range(0, len(x), 2048):
            part = x[start : start + 2048]
            square = ((part[:, None] - centres[None]) ** 2).sum(-1) / (2 * deviation**2)
            least = square.min(1)
            summed = np.exp(least[:, None] - square).mean(1)
            result[start : start + 2048] = np.log(summed) - least
        return result - np.log(2 * np.pi * deviation**2)

    return log_density


def eight_gaussians(count: int, random: np.random.Generator) -> tuple[np.ndarray, Density, np.ndarray]:
    """Eight round Gaussians of deviation 0.2 on a circle of radius 2."""
    angle = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    x = centres[random.integers(8, size=count)] + 0.2 * random.standard_normal((count, 2))
    return x, mixture_log_density(centres, 0.2), centres


def _along(curve: Callable[[np.ndarray], np.ndarray], deviation: float, count: int, random: np.random.Generator):
    """Gaussian noise around 512 places along a curve, much denser than the noise is wide.

    The places are drawn from, and not the curve itself, so that the density is exact and not an integral's estimate.
    """
    places = curve((np.arange(512) + 0.5) / 512)
    x = places[random.integers(512, size=count)] + deviation * random.standard_normal((count, 2))
    return x, mixture_log_density(places, deviation), None


def moons(count: int, random: np.random.Generator) -> tuple[np.ndarray, Density, None]:
    """Two interleaved half circles of radius 1 with noise of deviation 0.1."""

    def curve(t: np.ndarray) -> np.ndarray:
        upper, angle = t < 0.5, np.pi * (2 * t % 1)
        across = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
        return np.stack([across, np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25], 1)

    return _along(curve, 0.1, count, random)


def swiss_roll(count: int, random: np.random.Generator) -> tuple[np.ndarray, Density, None]:
    """A spiral of one and a half turns, radius 0.67 to 2, with noise of deviation 0.06."""

    def curve(t: np.ndarray) -> np.ndarray:
        angle = 1.5 * np.pi * (1 + 2 * t)
        radius = 2 * angle / (4.5 * np.pi)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)

    return _along(curve, 0.06, count, random)


def checkerboard(count: int, random: np.random.Generator) -> tuple[np.ndarray, Density, np.ndarray]:
    """Uniform on the eight dark squares, one unit wide, of a 4 x 4 board; the density is 0 (-inf nats) elsewhere."""
    corners = np.array([(i, j) for i in range(-2, 2) for j in range(-2, 2) if (i + j) % 2 == 0], dtype=np.float64)
    x = corners[random.integers(8, size=count)] + random.random((count, 2))

    def log_density(x: np.ndarray) -> np.ndarray:
        cell = np.floor(np.asarray(x, dtype=np.float64))
        inside = (np.abs(cell + 0.5) < 2).all(1) & (cell.sum(1) % 2 == 0)
        return np.where(inside, -np.log(8.0), -np.inf)

    return x, log_density, corners + 0.5


TOYS = {
    "checkerboard": checkerboard,
    "eight-gaussians": eight_gaussians,
    "moons": moons,
    "swiss-roll": swiss_roll,
}


def toy(name: str, count: int = COUNT, seed: int = 0) -> tuple[np.ndarray, Density, np.ndarray | None]:
    """`count` points (count, 2) float32 of a toy set, its log density, and its modes' centres where it has some."""
    x, log_density, centres = TOYS[name](count, np.random.default_rng([seed, len(name)]))
    return x.astype(np.float32), log_density, centres
