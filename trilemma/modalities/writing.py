"""Files that are whole or not there at all, and disk errors in words that name the fix."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from trilemma.errors import InputError


def disk_error(error: OSError, path: Path, fix: str = "") -> InputError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"{path}: the disk is full; free some space" + (f" or {fix}" if fix else ""))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"{path}: no permission to write there; " + (fix or "choose another place"))
    return InputError(f"{path}: cannot be written ({error.strerror or error}); " + (fix or "choose another place"))


def check_folder(out: Path) -> None:
    """Make an output folder; InputError when the name belongs to something else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, not a folder; choose another output name, or end it in .npy or .png")
    try:
        out.mkdir(parents=True, exist_ok=True)
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
