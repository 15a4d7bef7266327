"""Where results may be written: what a bad `--out` is refused for, before the work; and arrays as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trilemma.errors import InputError
from trilemma.training.run import disk_errors

ARRAYS = (".npy", ".csv")
# Endings by which people mean a file: a folder of this name would surprise them.
OTHERS = (".npy", ".png", ".csv", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".npz", ".json", ".zip", ".txt",
          ".bz2", ".xz", ".zst")  # fmt: skip


def check_out(out: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a bad --out before the work, not after it."""
    if suffixes == ARRAYS and out.suffix not in suffixes:
        raise InputError(f"--out {out}: codes and scores are written as .npy or .csv")
    files = " or ".join(each for each in suffixes if each != ".gz")
    if out.suffix.lower() in OTHERS and out.suffix not in suffixes and not out.is_dir():
        raise InputError(f"--out {out}: {out.suffix} is not written here; name a folder, or a file in {files}")
    if out.suffix in suffixes:
        if out.is_dir():
            raise InputError(f"--out {out} is a folder; name a file")
        if not out.parent.is_dir():
            raise InputError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    elif out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder, or a file in {files}")


def check_table(out: Path) -> None:
    """Refuse before the work what is no file of a table."""
    from trilemma.modalities.frames import READ, suffix

    if suffix(out) not in READ or out.is_dir():
        raise InputError(f"--out {out}: name a file in {', '.join(READ)}")
    check_out(out, (*READ, ".gz"))


def save_array(x: np.ndarray, out: Path) -> list[Path]:
    """An array as .npy or .csv, whole or not at all."""
    if out.suffix not in (".npy", ".csv"):
        raise InputError(f"--out {out}: codes and scores are written as .npy or .csv")
    temporary = out.with_name(f".{out.name}.part")
    with disk_errors(out):
        try:
            with open(temporary, "wb") as file:
                if out.suffix == ".npy":
                    np.save(file, x)
                else:
                    np.savetxt(file, x, delimiter=",")
            temporary.replace(out)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return [out]
