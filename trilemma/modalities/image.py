"""Images: folders, archives, arrays, IDX files, data sets by name <-> (N, C, H, W) of 8 or 16 bits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trilemma.errors import InputError
from trilemma.modalities import arrays, assemble, cache, decode, degrade, files, gather, named, pairs, pixels, splits
from trilemma.modalities.classes import Palette
from trilemma.modalities.contract import Data, Modality, Opening
from trilemma.modalities.gather import ArrayPictures, FilePictures, Found
from trilemma.modalities.writing import own_folder, writing_to
from trilemma.spaces import Space

HINT = "mend or remove them"
PACKED_TABLES = (".csv.zip", ".tsv.zip", ".jsonl.zip")  # archives of one table are tables


class Images(Modality):
    """Pictures of one size and mode; knows how the user's own files are fitted to it."""

    kind = "image"
    names = tuple(named.IMAGE_SETS)

    def __init__(self, mode: str = "RGB", bits: int = 8, fit: str = "crop", palette: Palette | None = None):
        self.mode, self.bits, self.fit = mode, bits, fit
        self.palette = palette  # of sources that are maps of classes

    @property
    def high(self) -> int:
        return (1 << self.bits) - 1

    @classmethod
    def claims(cls, source: Any) -> bool:
        if gather.is_dataset(source):
            return True
        if isinstance(source, (list, tuple)) and source and isinstance(source[0], (Image.Image, tuple)):
            return True
        if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], list):
            return cls.claims(source[0])
        if isinstance(source, Path):
            if source.is_dir():
                return files.holds(source, _is_ours)
            if source.name.lower().endswith(PACKED_TABLES):
                return False
            if files.is_archive(source) or files.archive_around(source) or arrays.is_idx(source):
                return True
            if source.suffix.lower() in (*decode.SUFFIXES, ".npz", ".npy", ".bin"):
                return arrays.dimensions(source) != 2
        return (arrays.dimensions(source) or 0) >= 3 or (isinstance(source, (list, tuple)) and len(source) == 0)

    @classmethod
    def open(cls, source: Any, opening: Opening, *, data2: Any = None) -> Data:
        name, shown = "images", arrays.shown(source)
        if isinstance(source, str) and source in cls.names:
            name = source
        elif isinstance(source, Path):
            name = source.resolve().name.split(".")[0] or "images"
        sources = [_place(one) for one in (source, data2) if one is not None]
        if len(sources) == 2:
            if isinstance(sources[1], Path):
                name = f"{name}-to-{sources[1].resolve().name.split('.')[0]}"
            shown = f"{shown} and {arrays.shown(data2)}"
        way = pairs.way_of(opening.pairs)
        if opening.degradation is not None:
            degrade.parse(opening.degradation)
            if len(sources) == 2 or way != "auto":
                raise InputError("--from-degradation makes the sources of one set: leave DATA2 and data.pairs out")
        elif len(sources) == 1 and way in ("name", "row", "none"):
            raise InputError(f"setting data.pairs={way}: is for two sets, DATA and DATA2; only one was given")
        with contextlib.ExitStack() as stack:
            key, listings = None, []
            asked = assemble.contents_of(opening)
            if all(isinstance(one, Path) for one in sources):
                stamps = []
                for one in sources:
                    listings.append(files.list_folder(one) if one.is_dir() else None)
                    held = listings[-1]
                    stamps.append(_stamps(one) if held is None else (str(one.resolve()), held.stamps))
                one = sources[0]
                key = cache.key_of("image", *(stamps if len(stamps) > 1 or not one.is_dir() else stamps[0]), asked)
                known = assemble.restore(cls, key, name, shown, opening)
                if known is not None:
                    return known
            found = [_open_one(stack, one, listings[place] if listings else None) for place, one in enumerate(sources)]
            found[0].label_names = found[0].label_names or named.label_names(name)
            # What memory may not hold.
            large = any(isinstance(one, (Path, np.memmap)) or gather.is_dataset(one) for one in sources)
            folder = stack.enter_context(cache.filling()) if large else None
            sides = _sides(found, way, opening)
            return assemble.build(cls, sides, opening, folder, key, name, shown)

    def describe(self) -> dict[str, Any]:
        held = {"kind": self.kind, "mode": self.mode, "bits": self.bits, "fit": self.fit}
        return held if self.palette is None else {**held, "palette": self.palette.describe()}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Images:
        palette = Palette.from_description(description.get("palette"))
        return cls(description["mode"], description["bits"], description["fit"], palette)

    def without_classes(self) -> Images:
        return Images(self.mode, self.bits, self.fit)

    def painted(self, classes: np.ndarray, *, colour: bool = False) -> np.ndarray:
        assert self.palette is not None
        channels = pixels.CHANNELS[self.mode]
        x = self.palette.painted(classes, max(channels, 3) if colour else channels)
        return x if self.bits == 8 else x.astype(np.uint16) * np.uint16(257)

    def read(self, source: Any, space: Space, notes: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
        shown = arrays.shown(source)
        size = (space.shape[1], space.shape[2])
        with contextlib.ExitStack() as stack:
            pictures = self._pictures(source, stack)
            if notes is not None:
                notes += pictures.notes if isinstance(pictures, ArrayPictures) else []
                others = [(count, tuple(each)) for each, count in pictures.sizes.items() if tuple(each) != size]
                if others:
                    count, shape = sum(count for count, _ in others), "x".join(map(str, max(others)[1]))
                    notes.append(f"{count} of other sizes (such as {shape}) brought to {size[0]}x{size[1]}")
            rows = []
            for index in range(len(pictures)):
                one = self._whole(pictures, index, shown, size)
                rows.append(pixels.resize(one, size, self.fit).transpose(2, 0, 1))
        x = np.stack(rows)
        if x.shape[1:] != space.shape:
            raise InputError(f"{shown}: {x.shape[1]} channels where the data have {space.shape[0]}; convert the images")
        return x, _names(pictures)

    def captions(self, source: Any) -> list[str] | None:
        if gather.is_dataset(source):
            return gather.from_object(source).captions
        if not isinstance(source, (str, Path)):
            return None
        source = Path(source).expanduser()
        where = files.archive_around(source) or (source,)
        if not (source.is_dir() or files.is_archive(source) or len(where) > 1):
            return None
        with files.opened(*where) as listing:
            return gather.captions(listing)

    def whole(self, source: Any) -> tuple[list[str], Iterator[np.ndarray]]:
        stack = contextlib.ExitStack()
        pictures = self._pictures(source, stack)

        def read() -> Iterator[np.ndarray]:
            with stack:
                for index in range(len(pictures)):
                    read = self._whole if self.palette is None else self._map
                    yield read(pictures, index, arrays.shown(source), None).transpose(2, 0, 1)

        return _names(pictures), read()

    def _pictures(self, source: Any, stack: contextlib.ExitStack) -> ArrayPictures | FilePictures:
        """The user's own files, or arrays; InputError where one of them is no picture by its header."""
        shown = arrays.shown(source)
        pictures: ArrayPictures | FilePictures
        if isinstance(source, Image.Image):
            source = [source]
        if isinstance(source, (str, Path)):
            source = Path(source).expanduser()
            if not source.exists() and not files.archive_around(source):
                raise InputError(f"{source}: no such file or folder; check the path")
            if source.is_dir() or files.is_archive(source) or files.archive_around(source):
                where = files.archive_around(source) or (source,)
                pictures = gather.from_listing(stack.enter_context(files.opened(*where)), shown).pictures
            elif source.suffix.lower() in (".npy", ".npz") or arrays.is_idx(source):
                pictures = self._few(arrays.load(source), shown)
            else:
                arrays.check_file(source)
                pictures = FilePictures([source], [source.name], shown)
        elif isinstance(source, np.ndarray) or arrays.is_tensor(source):
            pictures = self._few(source, shown)
        else:
            pictures = gather.from_object(source).pictures
        if pictures.bad:
            raise assemble.unreadable(pictures, pictures.bad, shown, hint=HINT)
        return pictures

    def _whole(
        self, pictures: ArrayPictures | FilePictures, index: int, shown: str, smallest: tuple[int, int] | None
    ) -> np.ndarray:
        """(H, W, C) of one picture in the run's own mode and depth."""
        try:
            if isinstance(pictures, FilePictures):
                pictures.mode, pictures.bits = self.mode, self.bits
                return pictures.read(index, smallest)  # as the data were decoded
            one = pictures.read(index)
            if self.bits == 16 and pictures.x.dtype == np.uint16:
                one = one.astype(np.uint16)  # however dark
            return self._convert(one)
        except decode.Bad as error:
            raise assemble.unreadable(pictures, {index: str(error)}, shown, hint=HINT) from error

    def _map(
        self, pictures: ArrayPictures | FilePictures, index: int, shown: str, smallest: tuple[int, int] | None
    ) -> np.ndarray:
        """(H, W, 1) numbers of the classes of one map."""
        assert self.palette is not None
        try:
            if isinstance(pictures, FilePictures):
                pictures.mode, pictures.bits = "RGB", 8
            return self.palette.numbers(pictures.read(index))[0][..., None]
        except decode.Bad as error:
            raise assemble.unreadable(pictures, {index: str(error)}, shown, hint=HINT) from error

    def _few(self, source: Any, shown: str) -> ArrayPictures:
        """Arrays of the run's own kind, also a single image."""
        if isinstance(source, dict):
            source = arrays.sort_out(source, shown).x
        x = arrays.to_numpy(source, shown)
        single = x.ndim == 2 or (x.ndim == 3 and pixels.CHANNELS[self.mode] == x.shape[-1] > 1)
        return ArrayPictures(x[None] if single else x, shown, tensor=arrays.is_tensor(source))

    def _convert(self, one: np.ndarray) -> np.ndarray:
        """(H, W, C) of any mode and depth in the run's own."""
        if one.dtype == np.uint16 and self.bits == 8:
            one = (one // 257).astype(np.uint8)
        elif one.dtype == np.uint8 and self.bits == 16:
            return one.astype(np.uint16) * np.uint16(257)
        if one.shape[2] == pixels.CHANNELS[self.mode]:
            return one
        image = Image.fromarray(one[..., 0] if one.shape[2] == 1 else one)
        return decode.from_image(image, self.mode, self.bits)

    def export(self, x: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W) for grey, (n, H, W, C) else; uint16 for 16-bit data."""
        values = np.clip(np.rint(np.nan_to_num(np.asarray(x, dtype=np.float64))), 0, self.high)
        values = values.astype(np.uint8 if self.bits == 8 else np.uint16).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(values[..., 0] if values.shape[3] == 1 else values)

    def save(self, x: np.ndarray, out: Path, *, names: list[str] | None = None) -> list[Path]:
        out = Path(out)
        if out.suffix == ".npy":
            with writing_to(out) as temporary, open(temporary, "wb") as file:
                np.save(file, self.export(x))
            return [out]
        if out.suffix == ".png":
            with writing_to(out) as temporary:
                self.picture(x).save(temporary, format="PNG")
            return [out]
        stems = names or [f"{index:05d}" for index in range(len(x))]
        written = [out / f"{stem}.png" for stem in stems]
        with own_folder(out, written):
            self._write(x, written)
        return written

    def stream(self, parts: Iterable[np.ndarray], count: int, out: Path) -> list[Path]:
        out = Path(out)
        if out.suffix == ".png":
            return super().stream(parts, count, out)
        if out.suffix == ".npy":
            with writing_to(out) as temporary, open(temporary, "wb") as file:
                for number, part in enumerate(map(self.export, parts)):
                    if number == 0:  # plain writes: a full disk is an error there, and a crash in a memory map
                        kind = np.lib.format.dtype_to_descr(part.dtype)
                        head = {"descr": kind, "fortran_order": False, "shape": (count, *part.shape[1:])}
                        np.lib.format.write_array_header_1_0(file, head)
                    file.write(np.ascontiguousarray(part).data)
            return [out]
        written = [out / f"{index:05d}.png" for index in range(count)]
        paths = iter(written)
        with own_folder(out, written):
            for part in parts:
                self._write(part, [next(paths) for _ in range(len(part))])
        return written

    def write(self, one: np.ndarray, path: Path) -> None:
        self._write(one[None], [path])

    def _write(self, x: np.ndarray, paths: list[Path]) -> None:
        for path, one in zip(paths, self.export(x), strict=True):
            if one.dtype == np.uint16 and one.ndim == 3:
                one = (one // 257).astype(np.uint8)  # Pillow has no colours of 16 bits; .npy keeps them
            with writing_to(path) as temporary:
                Image.fromarray(one).save(temporary, format="PNG")

    def picture(self, x: np.ndarray, *, columns: int | None = None, reference: np.ndarray | None = None) -> Image.Image:
        assert len(x) > 0, "a picture of no examples"
        return pixels.grid(pixels.eight_bits(x, self.high), columns=columns)


def _is_ours(name: str) -> bool:
    """Could a file of this name be images? Decides whether this modality takes a folder."""
    path = Path(name)
    return path.suffix.lower() in decode.SUFFIXES or arrays.is_idx(path) or path.name in gather.CIFAR


def _stamps(path: Path) -> tuple[Any, ...]:
    """What tells an unchanged file: its own size and time, and those of the labels beside it."""
    around = files.archive_around(path)
    watched = [around[0] if around else path, gather.labels_beside(path)]
    stamps = []
    for one in watched:
        try:
            state = one.stat() if one is not None else None
        except OSError as error:
            raise arrays.reading_error(error, path) from error
        stamps.append((str(one.resolve()), state.st_size, state.st_mtime_ns) if one is not None and state else None)
    return (*stamps, around[1] if around else "")


def _names(pictures: ArrayPictures | FilePictures) -> list[str]:
    """A name for each picture, without its ending, and no two alike."""
    paths = [Path(pictures.name(index)).with_suffix("") for index in range(len(pictures))]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):  # cats/1.png and dogs/1.png
        names = ["-".join(path.parts) for path in paths]
    if len(set(names)) < len(names):  # 1.png and 1.jpg
        names = [f"{name}-{index}" for index, name in enumerate(names)]
    return names


def _place(source: Any) -> Any:
    """The path of a named set that is downloaded; everything else as it is."""
    return named.place(source) if isinstance(source, str) and source in named.DOWNLOADS else source


def _open_one(stack: contextlib.ExitStack, source: Any, listing: files.Listing | None) -> Found:
    """What one source holds; an archive stays open as long as `stack`."""
    if isinstance(source, Path) and listing is None:
        inside = files.archive_around(source)
        if inside or source.is_dir() or files.is_archive(source):
            listing = stack.enter_context(files.opened(*(inside or (source,))))
    return _found(source, listing, arrays.shown(source))


def _sides(found: list[Found], way: str, opening: Opening) -> pairs.Sides:
    """One set, pairs or two sets."""
    if len(found) == 2:
        return pairs.matched(found[0], found[1], way, skip_bad=opening.skip_bad)
    (only,) = found
    if way in ("left", "right"):
        return pairs.halves(only, way)
    if only.sources is not None and opening.degradation is None:
        return pairs.by_metadata(only)
    return pairs.Sides(only, None, opening.degradation is not None, opening.degradation)


def _found(source: Any, listing: files.Listing | None, shown: str) -> Found:
    if listing is not None:
        return gather.from_listing(listing, shown)
    if isinstance(source, Path):
        if source.suffix.lower() in decode.SUFFIXES:
            arrays.check_file(source)
            raise InputError(
                f"{source}: is a single image; give the folder that holds at least {splits.FEWEST} of them"
            )
        if source.name in gather.CIFAR:
            return gather.from_cifar([source], shown)
        return gather.from_array_file(source)
    if isinstance(source, str):
        return named.in_memory(source)
    return gather.from_object(source)
