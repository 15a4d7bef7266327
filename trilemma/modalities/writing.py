"""Files that are whole or not there at all, and disk errors in words that name the fix."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from trilemma.errors import DiskError, InputError


def disk_error(error: OSError, path: Path, fix: str = "") -> DiskError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"{path}: the disk is full; free some space" + (f" or {fix}" if fix else ""))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DiskError(f"{path}: no permission to write there; " + (fix or "choose another place"))
    return DiskError(f"{path}: cannot be written ({error.strerror or error}); " + (fix or "choose another place"))


MARK = ".trilemma-samples"  # lists what we wrote into a folder, so that we replace only that


@contextlib.contextmanager
def own_folder(out: Path, files: list[Path]) -> Iterator[None]:
    """An output folder that is new, empty or our own earlier one, whose files are then replaced.

    InputError when the name belongs to something else: nobody's photographs are overwritten or mixed with samples.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, not a folder; choose another output name, or end it in .npy or .png")
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = sorted(path.name for path in out.iterdir())
        mark = out / MARK
        if held and not mark.is_file():
            few = ", ".join(held[:3])
            raise InputError(f"{out}: this folder holds something else ({few}); choose a new or empty output folder")
        earlier = [name for name in mark.read_text().splitlines() if "/" not in name] if held else []
        for name in earlier:
            (out / name).unlink(missing_ok=True)
        if earlier:
            print(f"{out}: its {len(earlier):,} earlier samples give way to {len(files):,}", file=sys.stderr)
        # Written first: what an interrupted run leaves is still ours to replace.
        mark.write_text("\n".join(path.name for path in files))
        yield
    except OSError as error:
        raise disk_error(error, out, "choose another output folder") from error


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end: readers never see half a file."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, and a file was to be written there; choose another output name")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise disk_error(error, path, "choose another output name") from error
    finally:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None
