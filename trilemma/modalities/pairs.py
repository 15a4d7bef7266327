"""Two sides: sources and targets that belong together, or two sets without any order between them.

Pairs come as two folders with equal file names, as one folder whose metadata.csv names a source beside each file, as
pictures of which the left half is the source, or as pictures with a degradation that makes their sources.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from trilemma.errors import InputError, unknown
from trilemma.modalities import decode, pixels
from trilemma.modalities.gather import ArrayPictures, FilePictures, Found

WAYS = ("auto", "name", "row", "none", "left", "right")


@dataclass
class Sides:
    """Targets, and what they are made from."""

    target: Found
    source: Found | None  # None: made from the targets by a degradation
    paired: bool
    degradation: str | None = None
    alone: tuple[str, ...] = ()  # files without a partner that were left out


class Half:
    """The left or the right half of pictures that hold two side by side; has what `FilePictures` has."""

    def __init__(self, whole: Any, *, right: bool):
        self.whole, self.right = whole, right
        self.notes: list[str] = []
        self.mode, self.bits, self.modes, self.bad = whole.mode, whole.bits, whole.modes, dict(whole.bad)
        odd = [size for size in whole.sizes if size[1] < 2]
        if odd:
            raise InputError("data.pairs: images of one pixel width have no two halves")
        self.sizes = Counter({(height, width // 2): count for (height, width), count in whole.sizes.items()})

    def __len__(self) -> int:
        return len(self.whole)

    def name(self, index: int) -> str:
        return str(self.whole.name(index))

    def read(self, index: int, smallest: tuple[int, int] | None = None) -> np.ndarray:
        if isinstance(self.whole, FilePictures):
            self.whole.mode, self.whole.bits = self.mode, self.bits
        both = self.whole.read(index, None)
        half = both.shape[1] // 2
        return both[:, -half:] if self.right else both[:, :half]


def way_of(given: str | None) -> str:
    """`data.pairs` as one of WAYS."""
    way = "auto" if given is None else str(given).lower()
    if way not in WAYS:
        raise unknown("setting data.pairs", way, WAYS)
    return way


def halves(found: Found, way: str) -> Sides:
    """Pictures of two halves; way: which of them is the source, 'left' or 'right'."""
    parts = [replace(found, pictures=Half(found.pictures, right=right)) for right in (False, True)]  # type: ignore[arg-type]
    source, target = parts if way == "left" else parts[::-1]
    return Sides(target, replace(source, columns={}, notes=[]), True)


def by_metadata(found: Found) -> Sides:
    """Targets with the sources that metadata.csv names.

    Raises:
        InputError: a source that is not there.
    """
    places = {found.pictures.name(index): index for index in range(len(found.pictures))}
    rows, partners = [], []
    for index, name in enumerate(found.sources or []):
        if not name:
            continue
        folder = PurePosixPath(found.pictures.name(index)).parent
        wanted = next((one for one in ((folder / name).as_posix(), name) if one in places), None)
        if wanted is None:
            raise InputError(f"{found.shown}: metadata names the source {name!r}, which is not there")
        rows.append(index)
        partners.append(places[wanted])
    return Sides(having(found, np.array(rows)), having(found, np.array(partners)), True)


def matched(source: Found, target: Found, way: str, *, skip_bad: bool) -> Sides:
    """Two sets as pairs or as two sets, by `way`; 'auto': pairs where names (of arrays: numbers) are equal.

    Raises:
        InputError: partners that are missing, unless they are to be skipped.
    """
    if way in ("left", "right"):
        raise InputError(f"setting data.pairs={way}: is for one folder of pictures with two halves; leave DATA2 out")
    if way == "none":
        return Sides(target, source, False)
    in_memory = isinstance(source.pictures, ArrayPictures) or isinstance(target.pictures, ArrayPictures)
    if way == "row" or (way == "auto" and in_memory):
        if len(source.pictures) == len(target.pictures):
            target.notes.append("paired by their order; --set data.pairs=none makes two sets of them")
            return Sides(target, source, True)
        if way == "row":
            raise InputError(
                f"setting data.pairs=row: {len(source.pictures):,} sources and {len(target.pictures):,} targets; "
                "give as many of each"
            )
        return Sides(target, source, False)
    keys = [_keys(one) for one in (source, target)]
    common = keys[0].keys() & keys[1].keys()
    if not common:
        if way == "name":
            some = " and ".join(repr(next(iter(one), "nothing")) for one in keys)
            raise InputError(f"setting data.pairs=name: no file name is in both ({some}); rename the partners alike")
        return Sides(target, source, False)
    alone = [sorted(one.keys() - common) for one in keys]
    count = sum(map(len, alone))
    few = ", ".join(repr(name) for names in alone for name in names[:3])
    if count and not skip_bad:
        raise InputError(
            f"{source.shown} and {target.shown}: {len(common):,} pairs by file name, but {count:,} files without a "
            f"partner ({few}); add or remove them, leave them out with --skip-bad, or take two sets without pairs: "
            "--set data.pairs=none"
        )
    order = sorted(common)
    made = [
        having(one, np.array([key[name] for name in order])) for one, key in zip((source, target), keys, strict=True)
    ]
    if count:
        made[1].notes.append(f"{count:,} files without a partner were left out")
    lonely = [
        f"{side.shown}/{side.pictures.name(key[name])}"
        for side, key, names in zip((source, target), keys, alone, strict=True)
        for name in names
    ]
    return Sides(made[1], made[0], True, alone=tuple(lonely))


def _keys(found: Found) -> dict[str, int]:
    """File names without their ending -> places: whole paths, so that a/1.png and b/1.png stay two."""
    keys: dict[str, int] = {}
    for index in range(len(found.pictures)):
        name = PurePosixPath(found.pictures.name(index))
        if (key := name.with_suffix("").as_posix()) in keys:
            other = found.pictures.name(keys[key])
            raise InputError(f"{found.shown}: {other} and {name} have one name but for the ending; rename one of them")
        keys[key] = index
    return keys


def having(found: Found, rows: np.ndarray) -> Found:
    """The pictures `rows` of what was found, in that order."""
    pictures = copy(found.pictures)
    if isinstance(pictures, ArrayPictures):
        pictures.x = pictures.x[rows]
        pictures.sizes = Counter({pictures.understood.size: len(rows)})
    else:
        assert isinstance(pictures, FilePictures)
        back = {int(old): new for new, old in enumerate(rows)}
        pictures.places = [pictures.places[row] for row in rows]
        pictures.names = [pictures.names[row] for row in rows]
        pictures.bad = {back[old]: why for old, why in pictures.bad.items() if old in back}
        pictures.describe([pictures.headers[row] for row in rows])
    return replace(
        found,
        pictures=pictures,
        columns={name: np.asarray(values, dtype=object)[rows] for name, values in found.columns.items()},
        captions=[found.captions[row] for row in rows] if found.captions else None,
        sources=None,
        test=None if found.test is None else found.test[rows],
        notes=list(found.notes),
    )


def one_mode(sides: Sides) -> list[str]:
    """Bring both sides to one mode and depth, the richer one; what was done, in words."""
    if sides.source is None:
        return []
    one, two = sides.source.pictures, sides.target.pictures
    richer = max((one.mode, two.mode), key=lambda mode: pixels.CHANNELS[mode])
    bits = min(one.bits, two.bits)
    notes = []
    for side, found in (("sources", sides.source), ("targets", sides.target)):
        held = found.pictures
        if held.mode != richer or held.bits != bits:
            notes.append(f"{side} brought from {held.mode} of {held.bits} bits to {richer} of {bits}")
            if isinstance(held, ArrayPictures):
                found.pictures = Converted(held)  # type: ignore[assignment]
            found.pictures.mode, found.pictures.bits = richer, bits
    return notes


class Converted:
    """An array's pictures in another mode; has what `FilePictures` has."""

    def __init__(self, whole: ArrayPictures):
        self.whole, self.notes = whole, whole.notes
        self.mode, self.bits, self.modes, self.sizes = whole.mode, whole.bits, whole.modes, whole.sizes
        self.bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.whole)

    def name(self, index: int) -> str:
        return self.whole.name(index)

    def read(self, index: int, smallest: tuple[int, int] | None = None) -> np.ndarray:
        from PIL import Image

        one = self.whole.read(index)
        if one.dtype == np.uint16 and self.bits == 8:
            one = (one // 257).astype(np.uint8)
        if one.dtype == np.uint8 and one.shape[2] != pixels.CHANNELS[self.mode]:
            one = decode.from_image(Image.fromarray(one[..., 0] if one.shape[2] == 1 else one), self.mode, self.bits)
        return one
