"""Pixels in arrays: what shape and range they come in, resizing, and pictures of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trilemma.errors import InputError
from trilemma.modalities.arrays import finite

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
LARGEST_SIDE = 4096
SLACK = 0.02  # of a range of floats
SERIES = "--kind series takes them as a series"


@dataclass
class Understood:
    """How an array of images is read: `convert(x[a:b])` gives (n, H, W, C) uint8 or uint16."""

    convert: Callable[[np.ndarray], np.ndarray]
    size: tuple[int, int]
    channels: int
    bits: int
    notes: list[str]


def understand(x: np.ndarray, name: str, *, tensor: bool = False) -> Understood:
    """Layout and value range of an array of images; InputError where it cannot be told. Reads x twice at most."""
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise InputError(
            f"{name}: shape {x.shape}; images need a non-empty (N, H, W), (N, H, W, C) or (N, C, H, W) array"
            + (f"; numbers one after the other: {SERIES}" if x.ndim == 1 and x.size else "")
        )
    if x.ndim == 3 and x.shape[2] in (1, 2, 3, 4):
        raise InputError(
            f"{name}: shape {x.shape}: one image, or points? Images need (N, H, W), (N, H, W, C) or (N, C, H, W); "
            f"examples of {x.shape[1]:,} steps of {x.shape[2]}: {SERIES}"
        )
    notes: list[str] = []
    move = False
    if x.ndim == 4:
        last, first = x.shape[3] in MODES, x.shape[1] in MODES
        if not last and not first:
            raise InputError(
                f"{name}: shape {x.shape}; 1 (grey), 3 (RGB) or 4 (RGBA) channels are understood, no others"
            )
        move = first and (not last or tensor)
        order = "(N, C, H, W)" if move else "(N, H, W, C)"
        notes.append(f"array {x.shape} read as {order}" + (" although both orders fit" if last and first else ""))
    shape = x.shape if not move else (x.shape[0], x.shape[2], x.shape[3], x.shape[1])
    if max(shape[1:3]) > LARGEST_SIDE:
        raise InputError(
            f"{name}: images of {shape[1]} x {shape[2]} pixels; at most {LARGEST_SIDE} a side: cut or shrink"
        )
    scale, bits, note = _range(x, name)
    notes += [note] if note else []

    def convert(part: np.ndarray) -> np.ndarray:
        part = np.asarray(part)
        part = part[..., None] if part.ndim == 3 else part.transpose(0, 2, 3, 1) if move else part
        return scale(part)

    return Understood(convert, (shape[1], shape[2]), shape[3] if len(shape) == 4 else 1, bits, notes)


def _range(x: np.ndarray, name: str) -> tuple[Callable[[np.ndarray], np.ndarray], int, str]:
    """How values become 8 or 16 bits, and what to say about it."""
    kind = x.dtype.kind
    if kind == "b":
        return lambda part: part.astype(np.uint8) * 255, 8, "true and false read as white and black"
    if kind not in "iuf":
        raise InputError(f"{name}: values of type {x.dtype}, not numbers; give uint8, uint16 or floats")
    finite(x, name)
    steps = f", or, of examples of steps (N, T, columns), {SERIES}" if x.ndim == 3 else ""
    low, high = np.inf, -np.inf
    for start in range(0, len(x), 4096):
        part = x[start : start + 4096]
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if kind in "iu":
        if low >= 0 and high == 1:
            return lambda part: part.astype(np.uint8) * 255, 8, "values 0 and 1 read as black and white"
        if low >= 0 and high <= 255:
            return lambda part: part.astype(np.uint8), 8, ""
        if low >= 0 and high <= 65535:
            return lambda part: part.astype(np.uint16), 16, "16-bit values kept"
        raise InputError(f"{name}: values from {low:g} to {high:g}; pixels are 0..255 or 0..65535: rescale them{steps}")
    # Resizing overshoots: a little beyond a range still belongs to it, and is clipped.
    if low >= -SLACK and high <= 1 + SLACK:
        return _floats(0, 255), 8, "floats in [0, 1] read as 8-bit values"
    if low >= -1 - 2 * SLACK and high <= 1 + 2 * SLACK:
        return _floats(-1, 127.5), 8, "floats in [-1, 1] read as 8-bit values"
    if low >= -255 * SLACK and 2 < high <= 255 * (1 + SLACK):  # less would be black: another range that overshoots
        return _floats(0, 1), 8, "floats in [0, 255] read as 8-bit values"
    raise InputError(
        f"{name}: floats from {low:g} to {high:g}; images are in [0, 1], [-1, 1] or [0, 255]: rescale them{steps}"
    )


def _floats(low: float, scale: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda part: np.clip(np.rint((part.astype(np.float32) - low) * scale), 0, 255).astype(np.uint8)


def resize(
    pixels: np.ndarray, size: tuple[int, int], fit: str, *, smooth: bool = False, nearest: bool = False
) -> np.ndarray:
    """(H, W, C) -> (height, width, C), antialiased: centre crop to the aspect, or pad with the border's own colour.

    smooth: bicubic, as degraded pictures are brought back to size; else Lanczos. nearest: of (H, W, 1) numbers of
    classes, none of which may be mixed.
    """
    kernel = Image.Resampling.BICUBIC if smooth else Image.Resampling.LANCZOS
    kernel = Image.Resampling.NEAREST if nearest else kernel
    height, width = size
    if pixels.shape[:2] == (height, width):
        return pixels
    scales = height / pixels.shape[0], width / pixels.shape[1]
    scale = max(scales) if fit == "crop" else min(scales)
    if fit == "crop":
        tall, wide = height / scale, width / scale
        top, left = (pixels.shape[0] - tall) / 2, (pixels.shape[1] - wide) / 2
        return _scaled(pixels, (height, width), (left, top, left + wide, top + tall), kernel)
    inner = max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))
    inner = min(inner[0], height), min(inner[1], width)
    small = _scaled(pixels, inner, (0, 0, pixels.shape[1], pixels.shape[0]), kernel)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    result = np.empty((height, width, pixels.shape[2]), pixels.dtype)
    usual = np.bincount(border[:, 0]).argmax() if nearest else np.median(border, axis=0).astype(pixels.dtype)
    result[:] = 0 if pixels.shape[2] == 4 else usual
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = small
    return result


def _scaled(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float], kernel: Image.Resampling
) -> np.ndarray:
    target = (size[1], size[0])
    if pixels.dtype == np.uint16:
        # Pillow's antialiasing works on 8-bit or float images; floats keep all 16 bits.
        planes = [Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(pixels.shape[2])]
        small = [np.asarray(p.resize(target, kernel, box=box, reducing_gap=3.0)) for p in planes]
        return np.clip(np.rint(np.stack(small, -1)), 0, 65535).astype(np.uint16)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if image.mode == "RGBA":  # colours weighted by alpha, or hidden colours would bleed into the edges
        image = image.convert("RGBa")
    image = image.resize(target, kernel, box=box, reducing_gap=3.0)
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    done = np.asarray(image)
    return done[..., None] if done.ndim == 2 else done


def eight_bits(x: np.ndarray, high: int) -> np.ndarray:
    """Raw examples (n, C, H, W) of 0..high as (n, H, W, C) uint8 for the eye."""
    values = np.asarray(x, dtype=np.float32) * (255 / high)
    return np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def grid(x: np.ndarray, *, columns: int | None = None, gap: int = 2) -> Image.Image:
    """(n, H, W, C) uint8 -> one picture, `gap` pixels between, small ones enlarged, transparency on a checkerboard."""
    count, height, width, channels = x.shape
    if columns is None:
        # About 4:3, and full rows where a number of columns nearby allows it.
        wish = max(1, min(count, round((count * height / width * 4 / 3) ** 0.5)))
        nearby = [n for n in range(max(1, round(wish * 0.75)), min(count, round(wish * 1.4)) + 1) if count % n == 0]
        columns = min(nearby, key=lambda n: abs(n - wish), default=wish)
    rows = -(-count // columns)
    zoom = max(1, min(64 // max(height, width), 1600 // max(1, columns * width)))
    x = x.repeat(zoom, axis=1).repeat(zoom, axis=2)
    height, width = height * zoom, width * zoom
    if channels == 4:
        x = over_checkerboard(x)
    elif channels == 1:
        x = x.repeat(3, axis=3)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for place in range(count):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = x[place]
    if channels == 1:
        return Image.fromarray(sheet).convert("L")
    return Image.fromarray(sheet)


def over_checkerboard(x: np.ndarray, square: int = 8) -> np.ndarray:
    """(n, H, W, 4) -> (n, H, W, 3) on light grey squares, so that transparency is seen."""
    down, across = np.indices(x.shape[1:3]) // square
    board = np.where((down + across) % 2 == 0, 255.0, 225.0)[None, :, :, None]
    alpha = x[..., 3:].astype(np.float32) / 255
    return np.rint(x[..., :3] * alpha + board * (1 - alpha)).astype(np.uint8)
