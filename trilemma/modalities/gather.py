"""What a source of images holds, before a pixel is resized: pictures, labels, captions, an official test set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from trilemma.errors import InputError
from trilemma.modalities import arrays, decode, metadata, pixels
from trilemma.modalities.files import Listing
from trilemma.modalities.progress import progress

THREADS = min(16, (os.cpu_count() or 1) + 2)


@dataclass
class Found:
    """Pictures that can be read one by one, with all that is known of them."""

    shown: str
    pictures: ArrayPictures | FilePictures
    columns: dict[str, Any] = field(default_factory=dict)  # 'label' and numbers, one entry per picture
    label_names: list[str] | None = None
    captions: list[str] | None = None
    sources: list[str | None] | None = None  # of pictures that are to be made from others: the others' names
    test: np.ndarray | None = None  # (N,) bool: an official test set
    levels: int | None = None  # of the values 0..255, where it is known
    notes: list[str] = field(default_factory=list)


class ArrayPictures:
    """Images of one size in an array; `rows(a, b)` gives (n, H, W, C) uint8 or uint16."""

    def __init__(self, x: np.ndarray, shown: str, *, tensor: bool = False):
        self.x, self.shown = x, shown
        self.understood = pixels.understand(x, shown, tensor=tensor)
        self.mode, self.bits = pixels.MODES[self.understood.channels], self.understood.bits
        self.notes = self.understood.notes
        self.sizes = Counter({self.understood.size: len(x)})
        self.modes = Counter({self.mode + (" 16-bit" if self.bits == 16 else ""): len(x)})
        self.bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.x)

    def name(self, index: int) -> str:
        return f"{index:05d}"

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self.understood.convert(self.x[start:stop])

    def read(self, index: int, smallest: tuple[int, int] | None = None) -> np.ndarray:
        return self.rows(index, index + 1)[0]


class FilePictures:
    """Image files (or PIL images in memory), each decoded when it is asked for; their headers are read at once."""

    def __init__(self, places: list[Any], names: list[str], shown: str):
        self.places, self.names, self.shown = places, names, shown
        self.bad: dict[int, str] = {}
        headers: list[decode.Header | None] = [None] * len(places)

        def look(index: int) -> None:
            try:
                headers[index] = self._header(index)
            except decode.Bad as error:
                self.bad[index] = str(error)

        with ThreadPoolExecutor(THREADS) as pool, progress("Looking at images", len(places)) as advance:
            for _ in pool.map(look, range(len(places))):
                advance(1)
        self.describe(headers)

    def describe(self, headers: list[decode.Header | None]) -> None:
        """What these headers say of all pictures together."""
        self.headers = headers
        known = [header for header in headers if header is not None]
        self.sizes = Counter(header.size for header in known)
        self.modes = Counter(header.mode + (" 16-bit" if header.bits == 16 else "") for header in known)
        self.mode, self.bits, self.notes = _one_mode(known)

    def _header(self, index: int) -> decode.Header:
        place = self.places[index]
        if isinstance(place, Image.Image):
            return _of_memory(lambda: decode.header_of(place))
        try:
            location = place() if callable(place) else place
        except Exception as error:  # a damaged archive may raise anything
            raise decode.Bad(str(error)[:80]) from error
        return decode.header(location)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int, smallest: tuple[int, int] | None = None) -> np.ndarray:
        place = self.places[index]
        if isinstance(place, Image.Image):
            return _of_memory(lambda: decode.from_image(place, self.mode, self.bits))
        try:
            location = place() if callable(place) else place
        except Exception as error:  # a damaged archive may raise anything
            raise decode.Bad(str(error)[:80]) from error
        return decode.pixels(location, self.mode, self.bits, smallest)


def _of_memory(read: Callable[[], Any]) -> Any:
    """What `read` gives of an image object, which may still be a file on disk, and a damaged one."""
    try:
        return read()
    except decode.Bad:
        raise
    except Exception as error:  # a decoder may raise anything on bad bytes
        raise decode.Bad(f"damaged: {str(error)[:80]}") from error


def _one_mode(headers: list[decode.Header]) -> tuple[str, int, list[str]]:
    """The mode and bits that all images are brought to, and what to say about it."""
    if not headers:
        return "L", 8, []
    modes = Counter(header.mode for header in headers)
    total = len(headers)
    notes = [f"{count:,} {note}" for note, count in Counter(h.note for h in headers if h.note).items()]
    sixteen = sum(header.bits == 16 for header in headers)
    bits = 16 if sixteen == total else 8
    if 0 < sixteen < total:
        notes.append(f"{sixteen:,} of {total:,} images have 16 bits: all were brought to 8")
    if modes["RGBA"] * 2 >= total:
        mode = "RGBA"
    elif modes["RGB"] or modes["RGBA"]:
        mode = "RGB"
        if modes["RGBA"]:
            notes.append(f"{modes['RGBA']:,} of {total:,} images are transparent: they were laid on white")
    else:
        mode = "L"
    if len(modes) > 1:
        mixed = ", ".join(f"{count:,} {name}" for name, count in modes.most_common())
        notes.append(f"mixed modes ({mixed}): all were brought to {mode}")
    return mode, bits, notes


def from_listing(listing: Listing, shown: str) -> Found:
    """Images in a folder or archive: class subfolders, train/ and test/, metadata.csv; or the MNIST-type IDX files."""
    if listing.folder:
        idx = [name for name in listing.names if arrays.is_idx(Path(name)) and "images" in name.lower()]
        if idx:
            return from_idx_folder([listing.root / name for name in idx], shown)
        binary = [name for name in listing.names if PurePosixPath(name).name in CIFAR]
        if binary:
            return from_cifar([listing.root / name for name in binary], shown)
    names = _images(listing)
    table = metadata.read(listing, names)
    metadata.beside(listing, names, table)
    if not names:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in listing.names)
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        raise InputError(
            f"{shown}: no image in it ({'it holds ' + held if held else 'it is empty'}); "
            "name the folder that holds the .png or .jpg files"
        )
    others = len(listing.names) - len(names) - len(table.files)
    notes = [f"{others:,} other files were ignored"] if others else []

    def place(name: str) -> Any:
        return listing.root / name if listing.folder else (lambda: listing.location(name))

    found = Found(shown, FilePictures([place(name) for name in names], names, shown), notes=notes)
    parts = [PurePosixPath(name).parts[:-1] for name in names]
    around = ""
    while parts and all(part for part in parts) and len({part[0] for part in parts}) == 1:
        around = parts[0][0]
        parts = [part[1:] for part in parts]  # a single folder around everything says nothing
    found.test, parts = _official(parts)
    columns = dict(table.columns)
    if "label" not in columns:
        labels = [part[0] if part else None for part in parts]
        if any(labels):
            columns["label"] = labels
        elif around:
            found.notes.append(f"all pictures are in one folder ({around}): no label is made of a single one")
    if found.test is not None and "label" in columns:
        known = {label for label, test in zip(columns["label"], found.test, strict=True) if not test}
        unseen = sorted(
            {
                str(v)
                for v, t in zip(columns["label"], found.test, strict=True)
                if t and v is not None and v not in known
            }
        )
        if unseen:
            raise InputError(
                f"{shown}: the test folder has labels that training has not ({', '.join(unseen[:5])}); "
                "make the class folders of both match"
            )
    found.columns, found.captions, found.sources = columns, table.captions, table.sources
    found.notes += table.notes
    return found


def captions(listing: Listing) -> list[str] | None:
    """The captions of the images that `from_listing` finds, '' where one has none; None where there are none at all."""
    names = _images(listing)
    if not names:
        return None
    table = metadata.read(listing, names)
    metadata.beside(listing, names, table)
    return table.captions


def _images(listing: Listing) -> list[str]:
    return [name for name in listing.names if PurePosixPath(name).suffix.lower() in decode.SUFFIXES]


def _official(parts: list[tuple[str, ...]]) -> tuple[np.ndarray | None, list[tuple[str, ...]]]:
    """train/ and test/ (or train/ and val/) at the top are splits, not classes."""
    tops = {part[0].lower() for part in parts if part}
    held_out = next((name for name in ("test", "testing", "val", "valid", "validation") if name in tops), None)
    train = {"train", "training"} & tops
    known = {"train", "training", "test", "testing", "val", "valid", "validation"}
    if held_out is None or not train or not tops <= known or not all(parts):
        return None, parts
    test = np.array([part[0].lower() == held_out for part in parts])
    return test, [part[1:] for part in parts]


def from_idx_folder(images: list[Path], shown: str) -> Found:
    """MNIST-type files: *images-idx3-ubyte[.gz], each with its *labels-idx1-ubyte[.gz]."""
    by_stem = {path.name.lower().removesuffix(".gz"): path for path in sorted(images)}
    # t10k-images-idx3-ubyte, emnist-letters-test-images-idx3-ubyte, ...
    tests = [stem for stem in by_stem if re.search(r"(^|[-_.])(t10k|test)", stem)]
    test_files = [path for stem, path in by_stem.items() if stem in tests]
    train_files = [path for stem, path in by_stem.items() if stem not in tests]
    parts = [_idx_part(files, shown) for files in (train_files, test_files) if files]
    if len(parts) == 1:
        return Found(shown, ArrayPictures(parts[0][0], shown), parts[0][1])
    (x, columns), (test_x, test_columns) = parts
    if x.shape[1:] != test_x.shape[1:]:
        raise InputError(f"{shown}: training images are {x.shape[1:]}, test images {test_x.shape[1:]}; they must match")
    mask = np.r_[np.zeros(len(x), bool), np.ones(len(test_x), bool)]
    columns = arrays.joined_columns(columns, test_columns, shown)
    notes = [f"{len(test_x):,} test images of their own"]
    return Found(shown, ArrayPictures(np.concatenate([x, test_x]), shown), columns, test=mask, notes=notes)


def _idx_part(files: list[Path], shown: str) -> tuple[np.ndarray, dict[str, Any]]:
    read = [(path, arrays.read_idx(path)) for path in files]
    x = np.concatenate([array for _, array in read]) if len({a.shape[1:] for _, a in read}) == 1 else read[0][1]
    labels = []
    for path, array in read:
        beside = labels_beside(path)
        if beside is not None:
            labels.append(arrays.check_labels(arrays.read_idx(beside), len(array), str(beside)))
    if labels and len(labels) < len(read):
        raise InputError(
            f"{shown}: labels for some of the IDX files only; put every labels-idx1-ubyte file beside them"
        )
    return x, {"label": np.concatenate(labels)} if labels else {}


def labels_beside(path: Path) -> Path | None:
    """The labels file that belongs to an images file, plain or gz."""
    name = path.name.replace("images", "labels")
    for shape in ("idx3", "idx4"):
        name = name.replace(shape, "idx1")
    plain = name.removesuffix(".gz")
    for candidate in (name, plain, plain + ".gz"):
        beside = path.with_name(candidate)
        if beside != path and beside.is_file():
            return beside
    return None


CIFAR = (
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
)


def from_cifar(files: list[Path], shown: str) -> Found:
    """CIFAR-10's binary version: rows of one label byte and 3 x 32 x 32 pixel bytes; test_batch.bin is the test set."""
    xs, labels, tests = [], [], []
    for path in sorted(files):
        arrays.check_file(path)
        rows = np.fromfile(path, np.uint8)
        if len(rows) % 3073:
            raise InputError(f"{path}: is no whole CIFAR-10 batch ({len(rows):,} bytes); download it again")
        rows = rows.reshape(-1, 3073)
        xs.append(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(rows[:, 0].astype(np.int64))
        tests.append(np.full(len(rows), path.name == "test_batch.bin"))
    test = np.concatenate(tests)
    pictures = ArrayPictures(np.concatenate(xs), shown)
    return Found(
        shown, pictures, {"label": np.concatenate(labels)}, test=test if test.any() and not test.all() else None
    )


def from_array_file(path: Path) -> Found:
    """A .npy, .npz or IDX file."""
    if arrays.is_idx(path):
        return from_idx_folder([path], str(path))
    loaded = arrays.load(path)
    if isinstance(loaded, np.ndarray):
        return Found(str(path), ArrayPictures(loaded, str(path)))
    return from_mapping(loaded, str(path))


def from_mapping(mapping: Mapping[str, Any], shown: str, *, tensor: bool = False) -> Found:
    done = arrays.sort_out(mapping, shown)
    pictures = ArrayPictures(done.x, shown, tensor=tensor)
    return Found(shown, pictures, done.columns, done.label_names, test=done.test, notes=done.notes)


def from_object(source: Any) -> Found:
    """Arrays, tensors, (images, labels), mappings, lists of PIL images or arrays, a datasets.Dataset."""
    if is_dataset(source):
        return _from_dataset(source)
    if isinstance(source, tuple) and len(source) == 2 and (hasattr(source[0], "shape") or isinstance(source[0], list)):
        found = from_object(source[0])
        found.columns["label"] = arrays.check_labels(source[1], len(found.pictures), "labels")
        return found
    if isinstance(source, Mapping):
        tensor = any(arrays.is_tensor(value) for value in source.values())
        return from_mapping(source, "array", tensor=tensor)
    if isinstance(source, (list, tuple)):
        source = list(source)
        if not source:
            raise InputError("array: the list is empty; give at least 16 images")
        if all(isinstance(item, tuple) and len(item) == 2 for item in source):
            found = from_object([item[0] for item in source])
            found.columns["label"] = arrays.check_labels([item[1] for item in source], len(source), "labels")
            return found
        if all(isinstance(item, Image.Image) for item in source):
            return Found("array", FilePictures(source, [f"{i:05d}" for i in range(len(source))], "list of images"))
        if any(isinstance(item, Image.Image) for item in source):
            raise InputError("array: the list mixes images and other things; give images only")
        if all(arrays.is_tensor(item) for item in source):
            source = [arrays.to_numpy(item) for item in source]
            return Found("array", ArrayPictures(_stack(source), "array", tensor=True))
        return Found("array", ArrayPictures(_stack(source), "array"))
    return Found("array", ArrayPictures(arrays.to_numpy(source), "array", tensor=arrays.is_tensor(source)))


def _stack(items: list[Any]) -> np.ndarray:
    try:
        return np.stack([np.asarray(item) for item in items])
    except ValueError as error:
        raise InputError(
            "array: the list's images have different shapes; give PIL images, or arrays of one shape"
        ) from error


def is_dataset(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "datasets"


def _from_dataset(source: Any) -> Found:
    """A Hugging Face Dataset or DatasetDict: its image column, label, text and numbers."""
    if isinstance(source, Mapping):
        train, test = source.get("train"), source.get("test")
        if train is None:
            raise InputError(f"dataset: splits {', '.join(source)}, none named 'train'; give one of them")
        first = _from_dataset(train)
        if test is None:
            return first
        second = _from_dataset(test)
        columns = arrays.joined_columns(first.columns, second.columns, "dataset")
        assert isinstance(first.pictures, FilePictures) and isinstance(second.pictures, FilePictures)
        places = first.pictures.places + second.pictures.places
        pictures = FilePictures(places, [f"{i:05d}" for i in range(len(places))], "dataset")
        mask = np.arange(len(places)) >= len(first.pictures)
        captions = first.captions + second.captions if first.captions and second.captions else None
        return Found("dataset", pictures, columns, first.label_names, captions, test=mask)
    features = source.features
    column = next((name for name, kind in features.items() if type(kind).__name__ == "Image"), None)
    if column is None:
        raise InputError(f"dataset: no image column among {', '.join(features)}; cast one to datasets.Image()")

    def place(index: int) -> Any:
        return lambda: _encoded(source[index][column])

    names = [f"{index:05d}" for index in range(len(source))]
    found = Found("dataset", FilePictures([place(index) for index in range(len(source))], names, "dataset"))
    rest = source.remove_columns([column])
    rows = {name: list(rest[name]) for name in features if name != column}
    metadata.assign(found, rows)
    label = next((name for name in rows if name.lower() in metadata.LABELS), None)
    if label is not None and getattr(features[label], "names", None):
        found.label_names = list(features[label].names)
    return found


def _encoded(image: Any) -> Any:
    """A PIL image as bytes that Pillow opens again, so that all pictures take one way."""
    import io

    memory = io.BytesIO()
    image.save(memory, format="TIFF" if image.mode in decode.SIXTEEN else "PNG")
    memory.seek(0)
    return memory
