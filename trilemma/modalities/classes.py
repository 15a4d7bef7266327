"""Maps of few colours: pictures in which each colour is the name of a region, and a mixture of two names nothing.

Sources of pairs that are such maps are held as the numbers of their classes and resized without mixing; a model sees
one plane for each class. `--classes` says which colours there are, or that there are none.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from trilemma.errors import InputError
from trilemma.modalities import decode
from trilemma.modalities.gather import ArrayPictures, FilePictures, Found
from trilemma.modalities.progress import progress

AT_ONCE = 8192  # colours that are compared with the palette
MOST = 256  # classes
FEWEST, MOST_GREYS = 3, 32  # colours (levels of grey) of maps that are recognised: two may be a drawing, more a picture
FLAT = 0.6  # share of neighbours that are equal in what is recognised as a map
LOOKED = 16  # pictures that say at first whether the others are worth a look
FORMS = "a number of colours (5), colours (#0000ff,#00ff00 or blue,lime or, of grey maps, 0,1,2), a file with one in "
FORMS += "each line, or none"


@dataclass(frozen=True)
class Palette:
    """The colours (K, 3) uint8 of classes 0 ... K - 1, and what they are called, if anybody said so."""

    colours: np.ndarray
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.colours)

    def called(self) -> list[str]:
        """Each by its name, or by its colour."""
        colours = [_hex(colour) for colour in self.colours.tolist()]
        return [name or colour for name, colour in zip(self.names or colours, colours, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {"colours": self.colours.tolist(), "names": list(self.names)}

    @classmethod
    def from_description(cls, description: dict[str, Any] | None) -> Palette | None:
        if description is None:
            return None
        return cls(np.array(description["colours"], np.uint8).reshape(-1, 3), tuple(description["names"]))

    def numbers(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """(H, W, C) uint8 -> classes (H, W) uint8, the nearest where a colour is none of ours; the share of those."""
        seen, place, counts = np.unique(coded(pixels), return_inverse=True, return_counts=True)
        parts = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], -1)
        nearest, nearness = np.empty(len(parts), np.int64), np.empty(len(parts), np.int64)
        for start in range(0, len(parts), AT_ONCE):  # a photograph has half a million colours
            some = slice(start, start + AT_ONCE)
            apart = np.square(parts[some, None] - self.colours.astype(np.int64)[None]).sum(-1)  # (colours seen, K)
            nearest[some], nearness[some] = apart.argmin(1), apart.min(1)
        foreign = counts[nearness > 0].sum() / max(pixels.shape[0] * pixels.shape[1], 1)
        return nearest[place].reshape(pixels.shape[:2]).astype(np.uint8), float(foreign)

    def painted(self, classes: np.ndarray, channels: int = 3) -> np.ndarray:
        """Classes (n, 1, H, W) -> (n, channels, H, W) uint8: grey (ITU-R BT.601, as in Pillow), RGB or opaque RGBA."""
        colours = self.colours
        if channels == 1:
            colours = np.rint(colours @ np.array([0.299, 0.587, 0.114]))[:, None].astype(np.uint8)
        elif channels == 4:
            colours = np.concatenate([colours, np.full_like(colours[:, :1], 255)], 1)
        return np.ascontiguousarray(colours[np.asarray(classes[:, 0], np.int64)].transpose(0, 3, 1, 2))


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)


def coded(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 of any mode -> (H * W,) int64, a number for each colour; transparency is laid on white."""
    if pixels.shape[2] == 4:
        pixels = decode.from_image(Image.fromarray(pixels), "RGB", 8)
    red, green, blue = (pixels[..., min(channel, pixels.shape[2] - 1)].astype(np.int64) for channel in range(3))
    return ((red << 16) + (green << 8) + blue).reshape(-1)


class Mapped:
    """Pictures as the numbers of their classes, (H, W, 1) uint8; has what `FilePictures` has."""

    def __init__(self, whole: ArrayPictures | FilePictures, palette: Palette):
        self.whole, self.palette = whole, palette
        self.mode, self.bits, self.notes = "L", 8, list[str]()
        self.modes, self.sizes, self.bad = whole.modes, whole.sizes, dict(whole.bad)
        self.foreign: dict[int, float] = {}  # share of the pixels whose colour is no class

    def __len__(self) -> int:
        return len(self.whole)

    def name(self, index: int) -> str:
        return self.whole.name(index)

    def read(self, index: int, smallest: tuple[int, int] | None = None) -> np.ndarray:
        numbers, self.foreign[index] = self.palette.numbers(self.whole.read(index))  # never shrunk while it is read
        return numbers[..., None]

    def said(self) -> str:
        """What was found, in words."""
        share = float(np.mean(list(self.foreign.values()))) if self.foreign else 0.0
        more = f"; {share:.1%} of their pixels have other colours, taken for the nearest" if share > 0 else ""
        return f"sources read as maps of {len(self.palette)} classes by colour{more}; --classes none reads pictures"


def classified(found: Found, asked: str | None) -> Found:
    """Sources as maps of classes, where they are asked for or recognised; else as they are.

    Raises:
        InputError: colours that are none, or more of them than there are.
    """
    pictures = found.pictures
    palette = None if asked == "none" else palette_of(pictures, asked, found.shown)
    if palette is None:
        return found
    return replace(found, pictures=Mapped(pictures, palette))  # type: ignore[arg-type]


def palette_of(pictures: Any, asked: str | None, shown: str) -> Palette | None:
    """The colours that were asked for, or those that a set of maps has; None for pictures that are no maps."""
    number = re.fullmatch(r"\s*(\d+)\s*", asked) if asked is not None else None
    if asked is not None and number is None:
        return parse(asked)
    if pictures.bits != 8:
        if number is None:
            return None
        raise InputError(f"--classes: {shown} has 16 bits a pixel; maps of classes have 8: convert them")
    wanted = int(number[1]) if number else None
    if wanted is not None and not 2 <= wanted <= MOST:
        raise InputError(f"--classes {wanted}: give a number of colours from 2 to {MOST}")
    counts = _colours(pictures, MOST if wanted is None else None)
    if counts is None:
        return None
    if wanted is None:
        grey = all(code >> 16 == code & 255 == code >> 8 & 255 for code in counts)
        known = FEWEST <= len(counts) <= (MOST_GREYS if grey else MOST)
        kept = sorted(counts) if known else []
    else:
        if len(counts) < wanted:
            raise InputError(f"--classes {wanted}: {shown} has {len(counts):,} colours only; give their number or less")
        kept = sorted(code for code, _ in counts.most_common(wanted))
    if not kept:
        return None
    return Palette(np.array([[code >> 16, code >> 8 & 255, code & 255] for code in kept], np.uint8))


def _colours(pictures: Any, most: int | None) -> Counter[int] | None:
    """How often each colour is seen; None, where there may be so many `most`, for what is no set of flat maps."""
    readable = [index for index in range(len(pictures)) if index not in pictures.bad]
    some = [readable[place] for place in np.linspace(0, len(readable) - 1, LOOKED).astype(int)] if readable else []
    counts: Counter[int] = Counter()
    if most is not None:
        flat = []
        for index in dict.fromkeys(some):
            pixels = _readable(pictures, index)
            if pixels is None or len(np.unique(coded(pixels))) > most:
                return None
            codes = coded(pixels).reshape(pixels.shape[:2])
            if len(codes[0]) > 1:
                flat.append(float((codes[:, 1:] == codes[:, :-1]).mean()))
        if not flat or np.mean(flat) < FLAT:
            return None
    with progress("Counting colours", len(readable)) as advance:
        for index in readable:
            pixels = _readable(pictures, index)
            if pixels is not None:
                seen, often = np.unique(coded(pixels), return_counts=True)
                counts.update(dict(zip(seen.tolist(), often.tolist(), strict=True)))
            if most is not None and len(counts) > most:
                return None
            advance(1)
    return counts


def _readable(pictures: Any, index: int) -> np.ndarray | None:
    try:
        return pictures.read(index)
    except decode.Bad:
        return None  # is told of where all pictures are read


def parse(text: str) -> Palette:
    """'#000000,#00ff00', 'blue,lime', '0,1,2' or a file with a colour, and perhaps its name, in each line.

    Raises:
        InputError: what is no colour, fewer than two of them, or one twice.
    """
    path = Path(text).expanduser()
    if os.path.isfile(path):  # Path.is_file raises for a list that is longer than any name of a file
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--classes {text}: cannot be read as text ({error}); give {FORMS}") from error
        lines = [line for line in map(str.strip, lines) if line and not line.startswith(("# ", "//"))]
        entries = [_line(line, text) for line in lines]
    else:
        entries = [(_colour(part.strip(), text), "") for part in text.split(",")]
    colours = [colour for colour, _ in entries]
    if not 2 <= len(colours) <= MOST:
        raise InputError(f"--classes {text}: holds {len(colours)} colours; a map has from 2 to {MOST}")
    if len(set(colours)) < len(colours):
        twice = next(one for one in colours if colours.count(one) > 1)
        raise InputError(f"--classes {text}: the colour {_hex(twice)} is there twice; give it once")
    names = tuple(name for _, name in entries)
    return Palette(np.array(colours, np.uint8), names if any(names) else ())


def _line(line: str, text: str) -> tuple[tuple[int, int, int], str]:
    """A line of a palette file: '#ff0000 roof', '255,0,0,roof', '255 0 0 roof', '3 roof' or 'red'."""
    three = re.match(r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})(?:[\s,;]+(.*))?$", line)
    if three:
        values = [int(three[number]) for number in (1, 2, 3)]
        if max(values) > 255:
            raise InputError(f"--classes {text}: {line!r}: values of a colour are from 0 to 255")
        return (values[0], values[1], values[2]), (three[4] or "").strip()
    first, _, rest = re.sub(r"[,;\t]", " ", line, count=1).partition(" ")
    return _colour(first, text), rest.strip()


def _colour(word: str, text: str) -> tuple[int, int, int]:
    if re.fullmatch(r"\d{1,3}", word) and int(word) < 256:
        return int(word), int(word), int(word)
    try:
        found = ImageColor.getrgb(word)
    except ValueError:
        raise InputError(f"--classes {text}: {word!r} is no colour and no file; give {FORMS}") from None
    return found[0], found[1], found[2]
