"""One image file -> pixels, whatever its mode, bit depth and orientation; what is wrong with it in words."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "gif", "bmp", "dib", "tif", "tiff", "tga"),
        *("ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "ico", "pcx", "sgi", "qoi", "heic"),
    )
)
SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N", "I")
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class Bad(Exception):
    """This file cannot be read; the text says why."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded."""

    size: tuple[int, int]  # (height, width), upright
    mode: str  # L, RGB or RGBA: what its pixels become
    bits: int  # 8 or 16
    note: str = ""  # a kind of note that is counted over all files


def explain(error: Exception, location: Path | io.BytesIO) -> str:
    """Why an image could not be read, from its first bytes where those tell more than Pillow."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "a link to a file that is not there"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "far too many pixels: a decompression bomb"
    try:
        first = location.getvalue()[:64] if isinstance(location, io.BytesIO) else location.open("rb").read(64)
    except OSError:
        return "cannot be read"
    if not first:
        return "empty, 0 bytes"
    start = first.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head")):
        return "a web page (HTML), not an image"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run git lfs pull"
    if "identify image" in str(error):
        return "not an image, or damaged"
    if "truncated" in str(error) or isinstance(error, EOFError):
        return "truncated"
    return f"damaged: {str(error)[:80] or type(error).__name__}"


def kind_of(image: Image.Image) -> tuple[str, int, str]:
    note = ""
    if getattr(image, "n_frames", 1) > 1:
        note = "animations or files of several pages (the first one taken)"
    if image.mode in SIXTEEN:
        return "L", 16, note
    if image.mode == "F":
        raise Bad("an image of 32-bit floats: give such data as a .npy array, or save it as 16-bit PNG")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return "RGBA", 8, note
    if image.mode in ("L", "1"):
        return "L", 8, note
    if image.mode == "P" and image.palette is not None:
        colours = np.frombuffer(image.palette.tobytes(), np.uint8)
        colours = colours[: len(colours) // 3 * 3].reshape(-1, 3)
        grey = image.palette.mode == "RGB" and (colours == colours[:, :1]).all()
        return ("L" if grey else "RGB"), 8, note
    if image.mode == "RGB" and any("16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        return "RGB", 8, "colour images of 16 bits (read with 8)"
    return "RGB", 8, note


def header_of(image: Image.Image) -> Header:
    """What an open image says of itself."""
    height, width = image.height, image.width
    if height * width > (Image.MAX_IMAGE_PIXELS or 1 << 27):
        raise Bad("far too many pixels: a decompression bomb")
    if min(height, width) < 1:
        raise Bad("no pixels")
    if image.getexif().get(0x0112) in TURNED:
        height, width = width, height
    mode, bits, note = kind_of(image)
    return Header((height, width), mode, bits, note)


def header(location: Path | io.BytesIO) -> Header:
    """Size and mode of an image file; Bad when it cannot be read."""
    try:
        with Image.open(location) as image:
            return header_of(image)
    except Bad:
        raise
    except Exception as error:  # a decoder may raise anything on bad bytes
        raise Bad(explain(error, location)) from error


def pixels(location: Path | io.BytesIO, mode: str, bits: int, smallest: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W, C) uint8 or uint16 in this mode, upright; Bad when it cannot be read.

    `smallest` (height, width) lets a JPEG decode at a fraction of its size, as long as it stays larger than that.
    """
    try:
        with Image.open(location) as image:
            if smallest is not None and image.format == "JPEG":
                image.draft(None, (3 * max(smallest), 3 * max(smallest)))
            return from_image(image, mode, bits)
    except Bad:
        raise
    except Exception as error:  # a decoder may raise anything on bad bytes
        raise Bad(explain(error, location)) from error


def from_image(image: Image.Image, mode: str, bits: int) -> np.ndarray:
    """(H, W, C) uint8 or uint16 of a PIL image; transparency lies on white where the mode has none."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN:
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise Bad("32-bit values beyond 0..65535: save it with 16 bits")
        if bits == 16:
            return wide.astype(np.uint16)[..., None]
        image = Image.fromarray((wide // 257).astype(np.uint8))
    if bits == 16:
        return np.asarray(image.convert("L")).astype(np.uint16)[..., None] * np.uint16(257)
    if image.mode in ("LA", "PA", "La", "RGBa", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if mode != "RGBA":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    done = np.asarray(image.convert(mode))
    return done[..., None] if done.ndim == 2 else done
