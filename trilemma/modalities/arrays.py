"""Arrays of every kind brought to one: .npy, .npz, IDX, tensors, pairs of images and labels, lists of pictures."""

from __future__ import annotations

import gzip
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import InputError

X_NAMES = ("x", "images", "image", "data", "samples", "arr_0", "pixels")
Y_NAMES = ("y", "labels", "label", "target", "targets", "class", "classes", "category")
NAME_NAMES = ("names", "label_names", "class_names", "classes", "categories")
TRAIN, TEST = ("train",), ("test", "t10k")


@dataclass
class SortedOut:
    """What a mapping of arrays was understood as."""

    x: np.ndarray
    columns: dict[str, Any] = field(default_factory=dict)  # 'label' and numbers, one row per example
    test: np.ndarray | None = None  # (N,) bool: an official test set
    label_names: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def shown(source: Any) -> str:
    """How messages call a source."""
    return str(source) if isinstance(source, (str, Path)) else "array"


def is_tensor(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "torch" and hasattr(source, "detach")


def to_numpy(source: Any, name: str = "array") -> np.ndarray:
    """A tensor, an array or nested lists of numbers as an array."""
    if is_tensor(source):
        source = source.detach().cpu()
        return (source.float() if str(source.dtype) in ("torch.bfloat16", "torch.float16") else source).numpy()
    try:
        return np.asarray(source)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: its rows have different shapes; give an array in which all are equal") from error


def dimensions(source: Any) -> int | None:
    """Number of array dimensions of the examples in a source, without reading them all; None when it holds no array."""
    if isinstance(source, tuple) and len(source) == 2:
        source = source[0]
    if isinstance(source, np.ndarray) or is_tensor(source):
        return int(source.ndim)
    if isinstance(source, Mapping) and source:
        return max((int(np.ndim(value)) for value in source.values() if hasattr(value, "shape")), default=None)
    if isinstance(source, list) and source and is_tensor(source[0]):
        return 1 + int(source[0].ndim)
    if isinstance(source, list) and source and isinstance(source[0], (int, float, list, tuple, np.ndarray, np.number)):
        return 1 + np.ndim(source[0])
    if isinstance(source, (str, Path)):
        return _dimensions_of_file(Path(source))
    return None


def _dimensions_of_file(path: Path) -> int | None:
    try:
        if path.suffix == ".npy" and path.is_file():
            with open(path, "rb") as file:
                return len(_header(file)[0])
        if path.suffix == ".npz" and path.is_file():
            with zipfile.ZipFile(path) as archive:
                found = []
                for name in archive.namelist():
                    with archive.open(name) as member:
                        found.append(len(_header(member)[0]))
            return max(found, default=None)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, InputError, SyntaxError, tokenize.TokenError):
        return None  # opening it will say what is wrong
    return None


def _header(file: Any) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a .npy file (mapped), the arrays of a .npz file, or those of IDX files by their names."""
    check_file(path)
    name = path.name.lower()
    if name.endswith((".npy", ".npz")):
        return _load_numpy(path)
    return read_idx(path)


def check_file(path: Path) -> None:
    """InputError for what is wrong with a file before it is even read."""
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        with open(path, "rb") as file:
            first = file.read(512)
    except OSError as error:
        raise reading_error(error, path) from error
    if not first:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if looks_like_page(first):
        raise InputError(f"{path}: is a web page (HTML), not data; download the file itself")


def looks_like_page(first: bytes) -> bool:
    start = first.lstrip()[:64].lower()
    return start.startswith((b"<!doctype html", b"<html", b'<?xml version="1.0"?><error', b"<head"))


def reading_error(error: OSError, path: Path | str) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{path}: no permission to read it; change its permissions (chmod +r) or choose another")
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file or folder; check the path")
    return InputError(f"{path}: cannot be read ({error.strerror or error}); check the file or copy it again")


def _load_numpy(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            arrays = {}
            for name in loaded.files:
                arrays[name] = loaded[name]
            return arrays
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, SyntaxError, KeyError) as error:
        with open(path, "rb") as file:
            numpy_file = file.read(1) in (b"\x93", b"\x80") or zipfile.is_zipfile(path)  # a bare pickle too
        if numpy_file and any(word in str(error) for word in ("allow_pickle", "Object arrays", "Python objects")):
            raise InputError(
                f"{path}: holds Python objects (pickled), which are never opened; save plain numbers: "
                "np.save(path, np.stack(images))"
            ) from error
        raise InputError(f"{path}: is damaged or no NumPy file; save it again with np.save or np.savez") from error
    except MemoryError as error:
        raise InputError(f"{path}: declares more data than memory holds; save it again or split it") from error
    except OSError as error:
        raise reading_error(error, path) from error


IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path: Path) -> bool:
    """By its name: train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz ..."""
    name = path.name.lower().removesuffix(".gz")
    return ("idx" in name and name.endswith("ubyte")) or name.endswith(".idx")


def read_idx(path: Path) -> np.ndarray:
    """The array of one IDX file (the MNIST format), plain or gz."""
    check_file(path)
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not 1 <= head[3] <= 5:
                raise InputError(f"{path}: is no IDX file (bad magic number {head.hex()}); download it again")
            shape = tuple(int(v) for v in np.frombuffer(file.read(4 * head[3]), ">u4"))
            dtype = np.dtype(IDX_TYPES[head[2]])
            size = int(np.prod([int(v) for v in shape], dtype=object)) * dtype.itemsize
            if len(shape) != head[3]:
                raise InputError(f"{path}: is truncated in its header; download it again")
            if size > 1 << 40:
                raise InputError(f"{path}: declares {shape}, more than a terabyte: damaged; download it again")
            body = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: is truncated or damaged ({error}); download it again") from error
    except OSError as error:
        raise reading_error(error, path) from error
    if len(body) != size:
        raise InputError(f"{path}: should hold {size:,} bytes of data, has {len(body):,}; download it again")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def sort_out(mapping: Mapping[str, Any], name: str, *, wanted: int = 3) -> SortedOut:
    """Which array of a mapping holds the examples (at least `wanted` dimensions), which ones labels or numbers.

    Understood: x and y; images and labels; x_train, y_train, x_test, y_test; one array of examples beside arrays with
    one value per example.
    """
    arrays = {str(key): to_numpy(value, f"{name}[{key!r}]") for key, value in mapping.items()}
    for key, value in arrays.items():
        if value.dtype == object:
            raise InputError(f"{name}: array {key!r} holds Python objects; save plain numbers")
    halves = {key: _half(key) for key in arrays}
    train = {key: halves[key][1] for key in arrays if halves[key][0] == "train"}
    test = {key: halves[key][1] for key in arrays if halves[key][0] == "test"}
    if train and test:
        first = _one_part({train[key]: arrays[key] for key in train}, name, wanted)
        second = _one_part({test[key]: arrays[key] for key in test}, name, wanted)
        if first.x.shape[1:] != second.x.shape[1:]:
            raise InputError(
                f"{name}: training examples have shape {first.x.shape[1:]}, test examples {second.x.shape[1:]}; "
                "bring them to one shape"
            )
        columns = joined_columns(first.columns, second.columns, name)
        mask = np.r_[np.zeros(len(first.x), bool), np.ones(len(second.x), bool)]
        names = _names({key: arrays[key] for key in arrays if not halves[key][0]})
        return SortedOut(np.concatenate([first.x, second.x]), columns, mask, names)
    return _one_part(arrays, name, wanted)


def joined_columns(train: dict[str, Any], test: dict[str, Any], name: str) -> dict[str, Any]:
    """Labels and numbers of a training and a test part, one after the other; they must speak of the same things."""
    if train.keys() != test.keys():
        odd = sorted(train.keys() ^ test.keys())
        raise InputError(f"{name}: {', '.join(odd)} given for one of training and test only; give both or neither")
    if "label" in train and set(np.asarray(test["label"]).ravel().tolist()) == {-1}:  # Hugging Face's "not known"
        test = {**test, "label": np.full(len(test["label"]), None, dtype=object)}
    if "label" in train:
        unseen = sorted(
            set(np.asarray(test["label"]).ravel().tolist()) - set(np.asarray(train["label"]).ravel().tolist()) - {None}
        )
        if unseen:
            few = ", ".join(map(str, unseen[:5]))
            raise InputError(
                f"{name}: the test set has labels that training has not ({few}); make the label sets match"
            )
    return {key: np.concatenate([np.asarray(train[key]), np.asarray(test[key])]) for key in train}


def _half(key: str) -> tuple[str, str]:
    """'x_train' -> ('train', 'x'); 'images' -> ('', 'images')."""
    words = key.lower().replace("-", "_").split("_")
    for half, marks in (("train", TRAIN), ("test", TEST)):
        if any(word in marks for word in words):
            return half, "_".join(word for word in words if word not in marks) or "x"
    return "", key.lower()


def _names(arrays: Mapping[str, np.ndarray]) -> list[str] | None:
    for key, value in arrays.items():
        if key.lower() in NAME_NAMES and value.ndim == 1 and value.dtype.kind == "U":
            return [str(v) for v in value]
    return None


def _one_part(arrays: dict[str, np.ndarray], name: str, wanted: int) -> SortedOut:
    candidates = {key: value for key, value in arrays.items() if value.ndim >= wanted and value.dtype.kind in "biuf"}
    if not candidates:
        held = ", ".join(f"{key} {value.shape}" for key, value in arrays.items()) or "nothing"
        raise InputError(f"{name}: no array of at least {wanted} dimensions in it (it holds {held}); add one named 'x'")
    by_name = [key for wish in X_NAMES for key in candidates if key.lower() == wish]
    if not by_name and len({len(value) for value in candidates.values()}) > 1:
        held = ", ".join(f"{key} {value.shape}" for key, value in candidates.items())
        raise InputError(f"{name}: several sets of examples ({held}); write the one that is meant to a file, named 'x'")
    chosen = by_name[0] if by_name else max(candidates, key=lambda key: candidates[key].size)
    x = candidates[chosen]
    columns: dict[str, Any] = {}
    rest = {key: value for key, value in arrays.items() if key != chosen and value.ndim >= 1}
    named = [key for wish in Y_NAMES for key in rest if key.lower() == wish and rest[key].dtype.kind in "iubU"]
    named = [key for key in named if not (rest[key].dtype.kind == "U" and len(rest[key]) != len(x))]
    # An array of the examples' own shape named 'label' is a map of regions, not a label.
    named = [key for key in named if rest[key].ndim < 3]
    fitting = [key for key, value in rest.items() if len(value) == len(x) and value.ndim == 1]
    others = [key for key in fitting if rest[key].dtype.kind in "iubU"]
    notes = []
    label = named[0] if named else others[0] if len(others) == 1 else None
    if label is not None:
        columns["label"] = check_labels(rest[label], len(x), f"{name}[{label!r}]")
        if not named:
            notes.append(f"array {label!r} was taken for the labels")
    for key in fitting:
        if rest[key].dtype.kind == "f":
            columns[key] = rest[key]
    ignored = [
        key for key in arrays if key not in (chosen, label) and key not in columns and key.lower() not in NAME_NAMES
    ]
    if ignored:
        notes.append(f"arrays not used: {', '.join(ignored)}")
    return SortedOut(x, columns, None, _names({k: v for k, v in rest.items() if k != label}), notes)


def check_labels(labels: Any, count: int, name: str) -> np.ndarray:
    """One label per example (N,), whole numbers or strings; one-hot rows are understood."""
    array = to_numpy(labels, name)
    if array.ndim == 2 and array.shape[1] > 1 and len(array) and ((array == 0) | (array == 1)).all():
        if not (array.sum(1) == 1).all():
            raise InputError(f"{name}: rows with several labels; give one label per example")
        array = array.argmax(1)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or len(array) != count:
        raise InputError(f"{name}: {array.shape} labels for {count} examples; give exactly one label per example")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.round(array)).any():
            raise InputError(f"{name}: labels must be whole numbers or names, these are fractions or NaN; mend them")
        array = array.astype(np.int64)
    if array.dtype.kind not in "iubU":
        raise InputError(f"{name}: labels of type {array.dtype}; give whole numbers or names")
    return array


def finite(x: np.ndarray, name: str) -> None:
    """InputError when floats are NaN or infinite, with the first place."""
    if x.dtype.kind != "f":
        return
    for start in range(0, len(x), 4096):
        part = np.asarray(x[start : start + 4096])
        wrong = ~np.isfinite(part)
        if wrong.any():
            row = start + int(np.nonzero(wrong.reshape(len(part), -1).any(1))[0][0])
            raise InputError(f"{name}: NaN or infinite values, first in example {row}; remove or replace them")
