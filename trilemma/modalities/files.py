"""Lists of files in folders and archives; members of archives are checked and never extracted under their own names."""

from __future__ import annotations

import contextlib
import errno
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from trilemma.errors import InputError, first_line
from trilemma.modalities.arrays import check_file, reading_error
from trilemma.modalities.writing import disk_error

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
IGNORED = {"thumbs.db", "desktop.ini", "__macosx", "icon\r"}
LARGEST_MEMBER = 1 << 29  # bytes unpacked; an image file of half a gigabyte is none
LARGEST_RATIO = 200  # unpacked to packed, for members over 16 MB and for whole archives over 1 GB
MOST_MEMBERS = 5_000_000


@dataclass
class Listing:
    """Files by their names relative to `root`, sorted; `read(name)` gives their bytes."""

    root: Path
    names: list[str]
    read: Callable[[str], bytes]
    stamps: list[tuple[str, int, int]]  # name, size, time: what a cache key needs
    folder: bool  # files lie open on a disk

    def shown(self, name: str) -> str:
        """How messages call one file."""
        return str(self.root / name) if self.folder else f"{self.root}:{name}"

    def location(self, name: str) -> Path | io.BytesIO:
        """What Pillow opens: a path, of which it reads only what it needs, or bytes."""
        return self.root / name if self.folder else io.BytesIO(self.read(name))


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _ignored(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part.lower() in IGNORED for part in parts)


def _walk(path: Path, refuse: Callable[[OSError], None] | None) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) for every folder below; linked folders are entered, circles are not."""
    state = os.stat(path)
    visited = {(state.st_dev, state.st_ino)}
    for folder, inner, files in os.walk(path, onerror=refuse, followlinks=True):
        for name in sorted(inner):
            state = os.stat(os.path.join(folder, name))
            if _ignored(name) or (state.st_dev, state.st_ino) in visited:
                inner.remove(name)
            visited.add((state.st_dev, state.st_ino))
        inner.sort()
        yield folder, files


def list_folder(path: Path) -> Listing:
    """All files below a folder, hidden ones and operating systems' litter apart."""
    stamps: list[tuple[str, int, int]] = []

    def refuse(error: OSError) -> None:
        raise reading_error(error, error.filename or path)

    for folder, files in _walk(path, refuse):
        relative = Path(folder).relative_to(path)
        for name in files:
            if _ignored(name):
                continue
            try:
                state = os.stat(os.path.join(folder, name))
            except OSError:
                state = os.lstat(os.path.join(folder, name))  # a dangling link is reported when it is read
            if stat.S_ISFIFO(state.st_mode) or stat.S_ISSOCK(state.st_mode) or stat.S_ISCHR(state.st_mode):
                continue  # reading it would wait for ever
            stamps.append(((relative / name).as_posix(), state.st_size, state.st_mtime_ns))
    stamps.sort()

    def read(name: str) -> bytes:
        return (path / name).read_bytes()

    return Listing(path, [name for name, _, _ in stamps], read, stamps, folder=True)


def holds(path: Path, wanted: Callable[[str], bool], *, limit: int = 10_000) -> bool:
    """Does a folder hold a file with a wanted name among its first `limit`? Cheap: for deciding who opens it."""
    seen = 0
    for _, names in _walk(path, None):
        for name in names:
            seen += 1
            if not _ignored(name) and wanted(name):
                return True
        if seen > limit:
            return False
    return False


@contextlib.contextmanager
def opened(path: Path, inside: str = "") -> Iterator[Listing]:
    """The files of a folder or an archive, while the block lasts; `inside` names a folder within the archive."""
    if path.is_dir():
        yield list_folder(path)
        return
    check_file(path)
    with contextlib.ExitStack() as stack:
        try:
            if path.name.lower().endswith(".zip"):
                listing = _list_zip(path, stack.enter_context(zipfile.ZipFile(path)))
            else:
                kept = stack.enter_context(tempfile.TemporaryFile())
                listing = _list_tar(path, stack.enter_context(tarfile.open(path)), kept)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            why = first_line(error).rstrip(":- ")
            raise InputError(
                f"{path}: is damaged or no archive of this kind ({why}); pack or download it again"
            ) from error
        except OSError as error:
            if error.errno is None:  # gzip and bz2 say so of bytes that are not theirs
                raise InputError(f"{path}: is damaged ({error}); pack or download it again") from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_error(error, Path(tempfile.gettempdir()), "name another folder in TMPDIR") from error
            raise reading_error(error, path) from error
        yield _narrow(listing, inside)


def archive_around(path: Path) -> tuple[Path, str] | None:
    """'a.zip/cats' -> ('a.zip', 'cats') where a.zip is an archive on the disk."""
    for parent in path.parents:
        if parent.is_file() and is_archive(parent):
            return parent, path.relative_to(parent).as_posix()
    return None


def _narrow(listing: Listing, inside: str) -> Listing:
    if not inside:
        return listing
    prefix = inside.strip("/") + "/"
    names = [name for name in listing.names if name.startswith(prefix)]
    if not names:
        tops = sorted({name.split("/")[0] for name in listing.names if "/" in name})
        raise InputError(f"{listing.root}: has no folder {inside!r}; it has {', '.join(tops[:10]) or 'no folders'}")
    read = listing.read
    return Listing(listing.root, [name[len(prefix) :] for name in names], lambda name: read(prefix + name), [], False)


def check_member(path: Path, name: str, size: int, packed: int) -> None:
    """InputError for a member's name that leads outside, or a declared size that no image has."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or ".." in parts or (len(name) > 1 and name[1] == ":"):
        raise InputError(f"{path}: unsafe name {name!r} in the archive (it leads outside); pack it again without it")
    if size > LARGEST_MEMBER or (size > 1 << 24 and size > LARGEST_RATIO * max(packed, 1)):
        raise InputError(
            f"{path}: {name!r} would unpack to {size / 2**20:,.0f} MB from {packed / 2**20:,.2f} MB: "
            "looks like an archive bomb; unpack it yourself if you trust it"
        )


def _check_whole(path: Path, total: int, members: int) -> None:
    packed = path.stat().st_size
    if members > MOST_MEMBERS or (total > 1 << 30 and total > LARGEST_RATIO * packed):
        raise InputError(
            f"{path}: {members:,} members of {total / 2**30:,.1f} GB in a file of {packed / 2**20:,.1f} MB: "
            "looks like an archive bomb; unpack it yourself if you trust it"
        )


def _list_zip(path: Path, archive: zipfile.ZipFile) -> Listing:
    names, total = [], 0
    for member in archive.infolist():
        check_member(path, member.filename, member.file_size, member.compress_size)
        if member.flag_bits & 1:
            raise InputError(f"{path}: {member.filename!r} is encrypted; unpack the archive yourself")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(
                f"{path}: {member.filename!r} is a link, which is unsafe in an archive; pack the file itself"
            )
        total += member.file_size
        if not member.is_dir() and not _ignored(member.filename):
            names.append(member.filename)
    _check_whole(path, total, len(archive.infolist()))
    lock = threading.Lock()  # one file position is shared by all readers

    def read(name: str) -> bytes:
        with lock, archive.open(name) as file:
            return file.read(LARGEST_MEMBER)

    return Listing(path, sorted(set(names)), read, [], folder=False)


def _list_tar(path: Path, archive: tarfile.TarFile, kept: IO[bytes]) -> Listing:
    """Files of a tar archive. A packed one can only be read from front to back: its files are unpacked into `kept`."""
    total, places = 0, {}
    plain = path.suffix.lower() == ".tar"
    for count, member in enumerate(archive):
        check_member(path, member.name, member.size, member.size)
        if member.issym() or member.islnk() or member.isdev():
            raise InputError(f"{path}: {member.name!r} is a link or device, unsafe in an archive; pack the file itself")
        total += member.size
        _check_whole(path, total, count)
        name = member.name.removeprefix("./")
        if not member.isfile() or _ignored(name):
            continue
        places[name] = (member.offset_data if plain else kept.tell(), member.size)
        if not plain:
            source = archive.extractfile(member)
            assert source is not None
            shutil.copyfileobj(source, kept, 1 << 20)
    lock = threading.Lock()
    file = archive.fileobj if plain else kept
    assert file is not None

    def read(name: str) -> bytes:
        start, size = places[name]
        with lock:
            file.seek(start)
            return file.read(size)

    return Listing(path, sorted(places), read, [], folder=False)
