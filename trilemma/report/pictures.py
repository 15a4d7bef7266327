"""Pictures of examples as data URIs: grids, strips, pairs and films at one of several thrifts."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

Pictures = Callable[..., Image.Image]  # of examples; `columns`: so many beside each other
COLUMNS = 6  # of a table in a row
GAP = 2
LARGE = 60_000  # bytes from which a picture without loss is too dear


@dataclass(frozen=True)
class Thrift:
    """How much room pictures may take."""

    samples: int  # in a grid
    side: int  # pixels of a grid's longer side
    quality: int  # of lossy WebP
    film: int  # largest film in bytes; 0: none
    sheet: int  # largest sheet of the quiz without loss, in bytes


THRIFTS = (
    Thrift(64, 520, 82, 400_000, 1_000_000),
    Thrift(64, 400, 70, 150_000, 500_000),
    Thrift(36, 320, 60, 60_000, 250_000),
    Thrift(16, 256, 45, 0, LARGE),
    Thrift(9, 160, 30, 0, LARGE),
    Thrift(0, 0, 0, 0, 0),  # no pictures: the figures come first
)


@dataclass(frozen=True)
class Embedded:
    """A picture in the page."""

    uri: str
    width: int
    height: int
    crisp: bool  # enlarged pixels, which a browser should not smooth
    still: str = ""  # of a film, for readers who asked for less motion


def drawn_once(draw: Pictures) -> Pictures:
    """The same, but what is no picture (tables, series) is drawn once: a page is written anew after each row."""
    known: dict[tuple[Any, ...], Image.Image] = {}

    def drawn(x: np.ndarray, **how: Any) -> Image.Image:
        if x.ndim == 4:
            return draw(x, **how)
        key = (hashlib.sha256(x.tobytes()).digest(), x.shape, x.dtype.str, *sorted(how.items()))
        if key not in known:
            known[key] = draw(x, **how)
        return known[key]

    return drawn


class Gallery:
    """Reads the arrays of a report folder and turns them into embedded pictures; what cannot be read is left out.

    reserved: of these files, only so many examples from the start are shown: the quiz has the others.
    """

    def __init__(self, folder: Path, pictures: Pictures, thrift: Thrift, reserved: Mapping[str, int] | None = None):
        self.folder, self.pictures, self.thrift, self.reserved = folder, pictures, thrift, reserved or {}

    def load(self, name: str | None, *, whole: bool = False) -> np.ndarray | None:
        """The examples of a file, those of the quiz only as a `whole`; None where there is nothing to be read."""
        if not name or not self.thrift.samples:
            return None
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        array = array if whole else array[: self.reserved.get(name)]
        return array if len(array) else None

    def grid(self, name: str | None) -> Embedded | None:
        """Samples in a square; points and other kinds as their modality draws them."""
        x = self.load(name)
        if x is None:
            return None
        if x.ndim != 4:
            return self.embed(_within(self.pictures(np.asarray(x)), self.thrift.side))
        native = max(x.shape[2:])
        columns = 8 if native <= 64 else 5 if native <= 128 else 4
        columns = max(1, min(columns, int(min(len(x), self.thrift.samples) ** 0.5)))
        cells = [self._one(x[i : i + 1], self.thrift.side // columns) for i in range(min(columns**2, len(x)))]
        return self.embed(tile([cells[i : i + columns] for i in range(0, len(cells), columns)]), crisp=native <= 16)

    def row(self, name: str | None, count: int, cell: int = 64) -> Embedded | None:
        """The first samples in one row; of points one picture, of tables some columns in one row."""
        x = self.load(name)
        if x is None:
            return None
        if x.ndim != 4:
            return self.embed(_within(self.pictures(np.asarray(x), columns=COLUMNS), 1080))
        cell = min(cell, self.thrift.side // 4)
        cells = [self._one(x[i : i + 1], cell, enlarged=True) for i in range(min(count, len(x)))]
        return self.embed(tile([cells]), crisp=max(x.shape[2:]) <= 16)

    def strip(self, name: str | None, frames: int = 10, samples: int = 4) -> Embedded | None:
        """(frames, n, C, *grid) as a sheet: time goes right, one sample a row."""
        x = self.load(name)
        if x is None or x.ndim < 3:
            return None
        moments = np.unique(np.linspace(0, len(x) - 1, min(frames, len(x))).round().astype(int))
        cell = min(64 if x.ndim == 5 else 120, self.thrift.side // 4)
        if x.ndim != 5:
            return self.embed(tile([[_within(self.pictures(np.asarray(x[t])), cell) for t in moments]]))
        rows = [[self._one(x[t, i : i + 1], cell) for t in moments] for i in range(min(samples, x.shape[1]))]
        return self.embed(tile(rows), crisp=max(x.shape[3:]) <= 16)

    def pairs(self, above: str | None, below: str | None, count: int = 8) -> Embedded | None:
        """Each sample above its neighbour."""
        one, two = self.load(above), self.load(below)
        if one is None or two is None or one.ndim != 4:
            return None
        cell = min(64, self.thrift.side // 4)
        rows = [[self._one(x[i : i + 1], cell) for i in range(min(count, len(one), len(two)))] for x in (one, two)]
        return self.embed(tile(rows), crisp=max(one.shape[2:]) <= 16)

    def named(self, rows: Mapping[str, Any] | None, cell: int = 56) -> list[tuple[str, Embedded]]:
        """Rows of examples (names, n, C, H, W) with the name of each; nothing where there is nothing to be read."""
        x = self.load(rows["samples"]) if rows else None
        if rows is None or x is None or x.ndim != 5:
            return []
        return [(name, self.stack([part], len(part), cell)) for name, part in zip(rows["names"], x, strict=False)]

    def stack(self, parts: Sequence[np.ndarray], count: int, cell: int = 64) -> Embedded:
        """The first examples of each part, one part below the other."""
        cell = min(cell, self.thrift.side // 4)
        rows = [[self._one(x[i : i + 1], cell, enlarged=True) for i in range(min(count, len(x)))] for x in parts]
        return self.embed(tile(rows), crisp=max(parts[0].shape[2:]) <= 16)

    def sheet(self, examples: Sequence[np.ndarray], columns: int) -> tuple[str, tuple[int, int], bool]:
        """Examples (1, C, H, W) on one sheet: (data URI, size of a cell, whether its pixels stay sharp enlarged)."""
        cells = [self._one(x, self.thrift.side // 2) for x in examples]
        image = tile([cells[i : i + columns] for i in range(0, len(cells), columns)])
        picture = self.embed(image, crisp=True, most=self.thrift.sheet)
        return picture.uri, cells[0].size, max(examples[0].shape[2:]) <= 32

    def film(self, name: str | None) -> Embedded | None:
        """An animated picture where it is small enough, otherwise its last frame."""
        if not name or not self.thrift.samples:
            return None
        try:
            with Image.open(self.folder / name) as image:
                frames = [_within(f.convert("RGB"), min(320, self.thrift.side)) for f in ImageSequence.Iterator(image)]
        except (OSError, ValueError):
            return None
        last = self.embed(frames[-1])
        if len(frames) < 2 or not self.thrift.film:
            return last
        file = io.BytesIO()
        frames[0].save(
            file, format="WEBP", save_all=True, append_images=frames[1:], duration=500, loop=0, quality=60, method=2
        )
        if file.tell() > self.thrift.film:
            return last
        return Embedded(_uri(file.getvalue(), "webp"), *frames[0].size, crisp=False, still=last.uri)

    def _one(self, x: np.ndarray, cell: int, *, enlarged: bool = False) -> Image.Image:
        """One example, no side longer than `cell`; enlarged: by a whole number, as far as that goes."""
        image = self.pictures(np.asarray(x))
        times = cell // max(image.size)
        if enlarged and times > 1:
            image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
        return _within(image, cell)

    def embed(self, image: Image.Image, *, crisp: bool = False, most: int = LARGE) -> Embedded:
        """WebP: without loss where that is small (few or enlarged pixels, no more bytes than `most`), or lossy."""
        if image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
        file = io.BytesIO()
        if crisp or image.width * image.height < 30_000:
            image.save(file, format="WEBP", lossless=True, quality=20, method=1)
        if not 0 < file.tell() <= most:
            file = io.BytesIO()
            image.save(file, format="WEBP", quality=self.thrift.quality, method=2)
        return Embedded(_uri(file.getvalue(), "webp"), *image.size, crisp=crisp)


def tile(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size on a sheet with transparent gaps, so that it stands on light and dark pages."""
    width, height = rows[0][0].size
    across, down = max(len(row) for row in rows), len(rows)
    size = (across * (width + GAP) - GAP, down * (height + GAP) - GAP)
    sheet = Image.new("RGBA", size, (0, 0, 0, 0))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image.convert("RGB"), (x * (width + GAP), y * (height + GAP)))
    return sheet


def _within(image: Image.Image, side: int) -> Image.Image:
    """No side longer than this; whole fractions of enlarged pixels stay sharp."""
    longest = max(image.size)
    if longest <= side:
        return image
    factor = side / longest
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _uri(contents: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(contents).decode()}"
