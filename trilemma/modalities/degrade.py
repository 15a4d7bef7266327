"""Degradations: what a picture was made from, made from the picture itself. `--from-degradation "downscale 4"`.

Super-resolution, colourisation, deblurring and denoising are then pairs like any others: the source is the degraded
picture, the target the one that was given.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from trilemma.errors import InputError, unknown

# name -> (least, most) of its number, or None where it has none
KNOWN: dict[str, tuple[float, float] | None] = {
    "downscale": (2, 16),  # times smaller on each side, and brought back to size by bicubic interpolation
    "blur": (0.1, 20),  # deviation of a Gaussian, pixels
    "noise": (1, 128),  # deviation of white noise, of 255
    "darken": (0.02, 0.95),  # factor on the light
    "jpeg": (1, 95),  # quality
    "grey": None,
}


def parse(text: str) -> list[tuple[str, float]]:
    """'darken 0.3, noise 20' -> [('darken', .3), ('noise', 20)], in that order.

    Raises:
        InputError: a degradation that is not known, or a number out of its range.
    """
    found = []
    for part in text.split(","):
        words = re.fullmatch(r"\s*([a-zA-Z]+)\s*=?\s*([0-9.]*)\s*", part)
        name = words[1].lower().replace("gray", "grey") if words else part.strip()
        if name.split(" ")[0] in KNOWN and not words:
            raise InputError(f"--from-degradation {part.strip()!r}: give a number after {name.split(' ')[0]}")
        if name not in KNOWN:
            raise unknown("--from-degradation", name, KNOWN)
        limits = KNOWN[name]
        try:
            number = float(words[2]) if words and words[2] else 0.0
        except ValueError:
            number = float("nan")
        if limits is None and words and words[2]:
            raise InputError(f"--from-degradation {name}: takes no number")
        if limits is not None and not limits[0] <= number <= limits[1]:
            raise InputError(
                f"--from-degradation {part.strip()!r}: give a number from {limits[0]:g} to {limits[1]:g}, "
                f"as in '{name} {limits[0] * 2:g}'"
            )
        found.append((name, number))
    return found


def factor(text: str) -> float:
    """How many times smaller than its target a source of this degradation is."""
    return float(np.prod([number for name, number in parse(text) if name == "downscale"]))


def by_chance(text: str) -> bool:
    """Would another seed give another picture?"""
    return any(name == "noise" for name, _ in parse(text))


def degraded(x: np.ndarray, text: str, seeds: np.ndarray) -> np.ndarray:
    """Pictures (n, C, H, W) uint8, degraded, in the same shape; noise is a function of each picture's seed alone."""
    steps = parse(text)
    result = np.empty_like(x)
    for row, (one, seed) in enumerate(zip(x, seeds, strict=True)):
        pixels = one.transpose(1, 2, 0)
        generator = np.random.default_rng(int(seed))
        for name, number in steps:
            pixels = _step(pixels, name, number, generator)
        result[row] = pixels.transpose(2, 0, 1)
    return result


def _step(pixels: np.ndarray, name: str, number: float, generator: np.random.Generator) -> np.ndarray:
    """One degradation of (H, W, C) uint8; the alpha channel of RGBA stays as it is but for changes of shape."""
    channels = pixels.shape[2]
    if name in ("downscale", "blur", "jpeg"):
        return _by_pillow(pixels, _PILLOW[name], number)
    colours = pixels[..., : 3 if channels == 4 else channels].astype(np.float32)
    if name == "noise":
        colours = colours + number * generator.standard_normal(colours.shape, dtype=np.float32)
    elif name == "darken":
        colours = colours * number
    elif name == "grey" and channels >= 3:  # ITU-R BT.601, as Pillow does
        colours = (colours @ np.array([0.299, 0.587, 0.114], np.float32))[..., None].repeat(3, -1)
    done = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    return np.concatenate([done, pixels[..., 3:]], -1) if channels == 4 else done


def _smaller(image: Image.Image, number: float) -> Image.Image:
    small = max(1, round(image.width / number)), max(1, round(image.height / number))
    return image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


def _compressed(image: Image.Image, number: float) -> Image.Image:
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=int(number))
    with Image.open(memory) as again:
        return again.convert(image.mode)


_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "downscale": _smaller,
    "blur": lambda image, number: image.filter(ImageFilter.GaussianBlur(number)),
    "jpeg": _compressed,
}


def _by_pillow(pixels: np.ndarray, change: Callable[[Image.Image, float], Image.Image], number: float) -> np.ndarray:
    """A change of Pillow's on colours, and on alpha as a picture of its own."""
    parts = [pixels[..., :3], pixels[..., 3:]] if pixels.shape[2] == 4 else [pixels]
    made = []
    for part in parts:
        done = np.asarray(change(Image.fromarray(part[..., 0] if part.shape[2] == 1 else part), number))
        made.append(done[..., None] if done.ndim == 2 else done)
    return np.concatenate(made, -1)
