"""Image sets that are known by name: scikit-learn's digits, and three that are downloaded once."""

from __future__ import annotations

import gzip
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities import cache
from trilemma.modalities.download import fetch, unpack
from trilemma.modalities.gather import ArrayPictures, Found

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Remote:
    """Where a set is downloaded from: its files with MD5 checksums, and the folders that hold them."""

    files: dict[str, str]
    mirrors: tuple[str, ...]
    archive: tuple[str, ...] = ()  # files that are taken out of the one archive


DOWNLOADS = {
    "mnist": Remote(
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    ),
    "fashion-mnist": Remote(
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    "cifar10": Remote(
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        ("https://www.cs.toronto.edu/~kriz/",),
        (*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"),
    ),
}
IMAGE_SETS = ("digits", *DOWNLOADS)


def label_names(name: str) -> list[str] | None:
    """Class names of the sets whose files hold numbers only; also of a user's own folder of that name."""
    known = {"fashion-mnist": CLOTHES, "fashion_mnist": CLOTHES, "FashionMNIST": CLOTHES, "cifar10": THINGS}
    return list(known[name]) if name in known else None


def in_memory(name: str) -> Found:
    """The sets that ship with a dependency: digits, 1,797 grey images of 8 x 8 with 17 levels."""
    assert name == "digits", name
    rows = _digit_rows()
    # Levels 0..16 spread over 0..255: pictures and metrics then treat them like any other grey images.
    x = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Found(name, ArrayPictures(x, name), {"label": rows[:, 64].astype(np.int64)}, list(DIGITS), levels=17)


def _digit_rows() -> np.ndarray:
    """(1797, 65): 64 pixels of 0..16 and the digit."""
    found = importlib.util.find_spec("sklearn")
    if found is not None and found.submodule_search_locations:
        table = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
        if table.is_file():  # importing scikit-learn for one small table takes seconds on a busy machine
            with gzip.open(table, "rt") as file:
                return np.array([line.split(",") for line in file], dtype=np.float64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.concatenate([bunch.data, bunch.target[:, None]], 1)


def place(name: str) -> Path:
    """The folder with a set's files: TRILEMMA_DATA/name, ./name, or the cache, filled by a download when needed."""
    remote = DOWNLOADS[name]
    wanted = remote.archive or tuple(remote.files)
    own = os.environ.get("TRILEMMA_DATA")
    folders = [Path(own).expanduser() / name] if own else []
    target = cache.root() / "downloads" / name
    for folder in [*folders, Path(name), target]:
        if all((folder / file).is_file() or (folder / file.removesuffix(".gz")).is_file() for file in wanted):
            return folder
    mirrors = remote.mirrors
    if os.environ.get("TRILEMMA_MIRROR"):
        mirrors = (os.environ["TRILEMMA_MIRROR"].rstrip("/") + f"/{name}/",)
    try:
        for file, checksum in remote.files.items():
            fetch([mirror + file for mirror in mirrors], target / file, checksum)
    except InputError as error:
        raise InputError(
            f"{name}: could not be downloaded ({error}). Without a network, put {', '.join(wanted)} into {target} "
            f"or into a folder {name!r} here, or name the folder above it in TRILEMMA_DATA"
        ) from error
    if remote.archive:
        (archive,) = remote.files
        unpack(target / archive, remote.archive, target)
    return target
