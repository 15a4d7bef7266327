"""What each verb of the command line does with files: load the run, call one method, write the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trilemma.errors import InputError
from trilemma.tasks.load import Loaded, load
from trilemma.training.run import disk_errors

PICTURES, ARRAYS = (".npy", ".png"), (".npy", ".csv")
# Endings by which people mean a file: a folder of this name would surprise them.
OTHERS = (".npy", ".png", ".csv", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".npz", ".json", ".zip", ".txt")


def generate(
    run: Path,
    n: int,
    *,
    seed: int,
    out: Path,
    label: str | None,
    guidance: float | None,
    steps: int | None,
    sampler: str | None,
    prior: str | None,
) -> list[Path]:
    """n samples into a folder of files, an .npy array or a .png grid."""
    check_out(out)
    loaded = load(run)
    x = loaded.generate(
        n, seed=seed, label=label, guidance=guidance, steps=steps, sampler=sampler, prior=prior, raw=True
    )
    return loaded.modality.save(x, out)


def reconstruct(run: Path, source: Any, *, out: Path) -> list[Path]:
    check_out(out)
    loaded = load(run)
    return _save(loaded, loaded.reconstruct(source), out)


def denoise(run: Path, source: Any, *, sigma: float | None, out: Path) -> list[Path]:
    check_out(out)
    loaded = load(run)
    return loaded.modality.save(loaded.denoise(source, sigma=sigma, raw=True), out)


def interpolate(run: Path, first: str, second: str, *, steps: int, seed: int, out: Path) -> list[Path]:
    check_out(out)
    loaded = load(run)
    return _save(loaded, loaded.interpolate(first, second, steps=steps, seed=seed), out)


def traverse(run: Path, *, dimensions: int, steps: int, seed: int, out: Path) -> list[Path]:
    """One row of examples for each code dimension."""
    check_out(out)
    loaded = load(run)
    rows = loaded.traverse(dimensions=dimensions, steps=steps, seed=seed)
    if out.suffix == ".npy":
        return save_array(rows, out)
    flat, _ = loaded.modality.read(rows.reshape(-1, *rows.shape[2:]), loaded.space)
    if out.suffix == ".png":
        with disk_errors(out):
            loaded.modality.picture(flat, columns=steps).save(out)
        return [out]
    return loaded.modality.save(flat, out)


def embed(run: Path, source: Any, *, out: Path) -> list[Path]:
    check_out(out, ARRAYS)
    return save_array(load(run).embed(source), out)


def score(run: Path, source: Any, *, out: Path) -> list[Path]:
    check_out(out, ARRAYS)
    return save_array(load(run).score(source), out)


def info(run: Path) -> str:
    """The run's facts as JSON."""
    return json.dumps(load(run).info(), indent=1, ensure_ascii=False)


def check_out(out: Path, suffixes: tuple[str, ...] = PICTURES) -> None:
    """Refuse a bad --out before the work, not after it."""
    if suffixes == ARRAYS and out.suffix not in suffixes:
        raise InputError(f"--out {out}: codes and scores are written as .npy or .csv")
    if out.suffix.lower() in OTHERS and out.suffix not in suffixes and not out.is_dir():
        raise InputError(f"--out {out}: {out.suffix} is not written here; name a folder, an .npy or a .png")
    if out.suffix in suffixes:
        if out.is_dir():
            raise InputError(f"--out {out} is a folder; name a file")
        if not out.parent.is_dir():
            raise InputError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    elif out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder, an .npy or a .png")


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


def _save(loaded: Loaded, exported: np.ndarray, out: Path) -> list[Path]:
    x, _ = loaded.modality.read(exported, loaded.space)
    return loaded.modality.save(x, out)
