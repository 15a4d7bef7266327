"""Translation of the user's own pictures, of any size: tiles that overlap, blended so that no seam is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trilemma.batches import Options, Request
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.modalities.contract import Modality
from trilemma.modalities.degrade import factor
from trilemma.modalities.pixels import resize
from trilemma.models.contract import Translates
from trilemma.training.sampling import Sampler

OVERLAP = 0.5  # of a tile's side, at least: tiles differ in brightness, and a long way from one to the next hides it
BATCH = 64  # tiles at once
LARGEST = 16_384  # pixels a side


@dataclass
class Plan:
    """How the pictures that a run was trained on came about, and so what to do with others."""

    grid: tuple[int, int]  # (height, width) of what the model sees
    scale: float | None  # by which its pictures were shrunk; None: they were of several sizes
    degradation: str | None  # that made the sources, where they are what is translated
    maps: bool = False  # its pictures are maps of classes, which no resizing may mix


class Field(Noise):
    """Noise of tiles of one picture: on a grid, windows at the tiles' corners of one field over all of the picture, so
    that tiles agree where they overlap; anything else (codes) is the same for all tiles."""

    def __init__(self, seed: int, corners: list[tuple[int, int]], grid: tuple[int, int], device: torch.device):
        super().__init__(seed, np.zeros(len(corners)), device)
        self.corners, self.grid = np.array(corners), np.array(grid)

    def normal(self, *shape: int) -> torch.Tensor:
        if len(shape) != 3:
            return super().normal(*shape)
        # The field is made of blocks as large as a tile (of codes: as large as theirs), so that none is made in vain.
        sides = np.array(shape[1:])
        block, within = np.divmod(np.rint(self.corners * sides / self.grid).astype(np.int64), sides)
        (top, left), (bottom, right) = block.T, (block + (within > 0)).T
        index = np.stack([top, top, bottom, bottom], 1) * 2**32 + np.stack([left, right, left, right], 1)
        own, places = np.unique(index, return_inverse=True)
        drawn = Noise(self.seed, own, self.device, draw=self.draw).normal(*shape)
        self.draw += 1
        four = drawn[torch.from_numpy(places.reshape(-1, 2, 2)).to(self.device)]
        around = four.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # (B, channels, 2 rows, 2 columns)
        ways = zip(around, within, strict=True)
        return torch.stack([part[:, y : y + sides[0], x : x + sides[1]] for part, (y, x) in ways])


def translated(
    sampler: Sampler,
    modality: Modality,
    source: Any,
    plan: Plan,
    *,
    back: bool = False,
    draws: int = 1,
    seed: int = 0,
    options: Options | None = None,
) -> tuple[list[str], Iterator[np.ndarray]]:
    """Names of the pictures of the source, and raw (draws, C, H, W) of each in turn, translated.

    A picture is brought to the scale of those that were learned from, then translated in tiles where it is larger than
    these. Draw d of picture i depends on (seed, i, d) alone.
    """
    names, pictures = modality.whole(source)

    def made() -> Iterator[np.ndarray]:
        for number, whole in enumerate(pictures):
            scaled = at_scale(whole, plan)
            corners = tiles(scaled.shape[1:], plan.grid)  # type: ignore[arg-type]
            drawn = [
                _tiles(sampler, scaled, corners, plan.grid, keys=(seed, number, draw), back=back, options=options)
                for draw in range(draws)
            ]
            yield np.stack(drawn)

    return names, made()


def at_scale(whole: np.ndarray, plan: Plan) -> np.ndarray:
    """(C, H, W) at the scale that the model knows, at least as large as what it sees.

    Raises:
        InputError: a picture that would become too large.
    """
    height, width = whole.shape[1:]
    larger = factor(plan.degradation) if plan.degradation else 1.0
    # What was learned from smaller copies is itself a smaller copy of a larger picture.
    scale = larger if larger > 1 else plan.scale or 0.0
    scale = max(scale, plan.grid[0] / height, plan.grid[1] / width)
    size = max(plan.grid[0], round(height * scale)), max(plan.grid[1], round(width * scale))
    if max(size) > LARGEST:
        raise InputError(f"translate: {height} x {width} would become {size[0]} x {size[1]}; cut the picture in parts")
    return resize(whole.transpose(1, 2, 0), size, "crop", smooth=larger > 1, nearest=plan.maps).transpose(2, 0, 1)


def tiles(size: tuple[int, int], grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Corners (top, left) of tiles that cover a picture, evenly spread, neighbours overlapping by OVERLAP or more."""
    ways = []
    for side, tile in zip(size, grid, strict=True):
        step = max(int(tile * (1 - OVERLAP)), 1)
        count = 1 + -(-(side - tile) // step)
        ways.append(np.linspace(0, side - tile, count).round().astype(int).tolist())
    return [(top, left) for top in ways[0] for left in ways[1]]


def blended(parts: np.ndarray, corners: list[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
    """Tiles (n, C, h, w) laid over each other into (C, H, W), each weighing less towards its border."""
    window = np.ones((1, 1))
    for side in parts.shape[2:]:
        ramp = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float64)
        window = window[..., None] * np.minimum(ramp / (OVERLAP * side + 1), 1.0)
    total, weight = np.zeros((parts.shape[1], *size), np.float32), np.zeros(size, np.float32)
    window = window.astype(np.float32)
    for part, (top, left) in zip(parts, corners, strict=True):
        here = np.s_[top : top + part.shape[1], left : left + part.shape[2]]
        total[:, *here] += window[0] * part
        weight[here] += window[0, 0]
    return total / weight


def _tiles(
    sampler: Sampler,
    whole: np.ndarray,
    corners: list[tuple[int, int]],
    grid: tuple[int, int],
    *,
    keys: tuple[int, int, int],
    back: bool,
    options: Options | None,
) -> np.ndarray:
    """One draw of one picture (C, H, W), tile by tile; keys: (seed, number of the picture, number of the draw)."""
    model, device = sampler.model, sampler.engine.device
    assert isinstance(model, Translates)
    model.eval()
    cut = np.stack([whole[:, top : top + grid[0], left : left + grid[1]] for top, left in corners])
    own, done = hashlib.blake2b(repr(keys).encode(), digest_size=7).digest(), []
    for start in range(0, len(cut), BATCH):
        part = np.ascontiguousarray(cut[start : start + BATCH])
        noise = Field(int.from_bytes(own, "little"), corners[start : start + BATCH], grid, device)
        present = {"source": torch.ones(len(part), dtype=torch.bool, device=device)}
        request = Request(noise, {"source": torch.from_numpy(part).to(device)}, present, options or Options())
        with torch.no_grad(), sampler.engine.autocast():
            made = model.translate(request, back=back)
        done.append(sampler.array(made))
    parts = np.concatenate(done)
    if len(parts) == 1:
        return parts[0]
    mixed = blended(parts, corners, whole.shape[1:])  # type: ignore[arg-type]
    return np.rint(mixed).astype(parts.dtype) if np.issubdtype(parts.dtype, np.integer) else mixed


def direction(asked: str | None, sides: tuple[str, str]) -> bool:
    """Whether `--to` means the way back: the name of one of the two sides, or else 'a' (sources) or 'b'.

    Raises:
        InputError: a name that is neither, or that both sides have.
    """
    if asked is None:
        return False
    told, names = asked.lower(), [side.lower() for side in sides]
    known = names if names[0] != names[1] and told in names else ["a", "b"]
    if told in known:
        return told == known[0]
    both = "both sides are called so; " if told in names else ""
    raise InputError(f"--to {asked}: {both}give b ({sides[1]}) or, of models that learn both ways, a ({sides[0]})")
