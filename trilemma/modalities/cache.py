"""Decoded data on disk: written whole or not at all, found again by the files' names, sizes and times.

`ROOT/entries/HASH/` holds one decoded set (x.npy, columns.npz, meta.json), `ROOT/known/KEY` says which entry an
unchanged source and opening lead to. ROOT is TRILEMMA_CACHE, or ~/.cache/trilemma.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.modalities.writing import disk_error

FORMAT = 4  # part of every key: raise it when decoding changes
FIX = "name another folder in the environment variable TRILEMMA_CACHE"


def root() -> Path:
    """The cache folder; it need not exist."""
    return Path(os.environ.get("TRILEMMA_CACHE") or "~/.cache/trilemma").expanduser()


def key_of(*parts: Any) -> str:
    return hashlib.blake2b(repr((FORMAT, *parts)).encode(), digest_size=16).hexdigest()


def find(key: str) -> Path | None:
    """The folder of the entry that `key` leads to, if it is there whole."""
    try:
        entry = root() / "entries" / (root() / "known" / key).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    # meta.json is written last: where it is, everything is.
    return entry if (entry / "meta.json").is_file() else None


@contextlib.contextmanager
def filling() -> Iterator[Path]:
    """A temporary folder in the cache; whatever is not committed from it vanishes with the block."""
    folder = root() / "entries" / f"unfinished-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir(parents=True)
        _sweep(folder.parent)
        yield folder
    except OSError as error:
        raise disk_error(error, root(), FIX) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(entries: Path) -> None:
    """Remove what killed processes left more than a day ago."""
    for old in entries.glob("unfinished-*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > 86_400:
                shutil.rmtree(old, ignore_errors=True)


def allocate(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A writable array mapped from a new .npy file whose blocks are reserved now.

    Writing through a map to a full disk would kill the process with SIGBUS; reserving first makes it an error.
    """
    size = int(np.prod([int(v) for v in shape], dtype=object)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise InputError(
            f"{path.parent.parent.parent}: {size / 2**30:.2f} GiB of decoded data do not fit into the "
            f"{free / 2**30:.2f} GiB left on this disk; free some space, choose a smaller --resolution, or {FIX}"
        )
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate") and size:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return array


def commit(folder: Path, entry: str, key: str | None, columns: dict[str, np.ndarray], meta: dict[str, Any]) -> Path:
    """Make the temporary `folder` with its x.npy the entry of this name, and let `key` lead to it."""
    target = root() / "entries" / entry
    try:
        np.savez(folder / "columns.npz", **columns)  # type: ignore[arg-type]
        (folder / "meta.json").write_text(json.dumps(meta, ensure_ascii=False))
        if read(target) is None or not _has(target, folder):
            shutil.rmtree(target, ignore_errors=True)
            try:
                os.rename(folder, target)
            except OSError:
                if not (target / "meta.json").is_file():  # else another process was first with the same contents
                    raise
        if key is not None:
            known = root() / "known"
            known.mkdir(parents=True, exist_ok=True)
            temporary = known / f".{key}.{uuid.uuid4().hex[:8]}"
            temporary.write_text(entry)
            os.replace(temporary, known / key)
    except OSError as error:
        raise disk_error(error, root(), FIX) from error
    return target


def _has(target: Path, folder: Path) -> bool:
    """Are all arrays of `folder` whole in `target`, too?"""
    try:
        for file in folder.glob("*.npy"):
            np.load(target / file.name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return True


def read(entry: Path) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]] | None:
    """(x mapped read-only, columns, meta) of an entry; None when it is damaged, so that it is made again."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        x = np.load(entry / "x.npy", mmap_mode="r", allow_pickle=False)
        with np.load(entry / "columns.npz", allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        if list(x.shape) != meta["shape"]:
            return None
    except Exception:  # any damage at all means the same: decode again
        return None
    return x, columns, meta
