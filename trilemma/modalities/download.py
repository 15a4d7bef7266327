"""Downloads that are whole or not there: mirrors, retries, resumption, checksums."""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from trilemma.errors import InputError
from trilemma.modalities.progress import progress
from trilemma.modalities.writing import disk_error, writing_to

TRIES = 3  # for each mirror
PAUSE = 1.0  # seconds before the second try; doubles
TIMEOUT = 30.0


def checksum_of(path: Path, algorithm: str = "md5") -> str:
    total = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def fetch(addresses: Sequence[str], target: Path, checksum: str) -> Path:
    """Download the first of `addresses` that answers to `target`; MD5 (32 digits) or SHA-256 `checksum`.

    What arrives lies in `target`.part until it is whole and its checksum right; a broken download goes on from there,
    also in the next process. InputError when no address gives the file.
    """
    if target.is_file():
        return target
    algorithm = "md5" if len(checksum) == 32 else "sha256"
    part = target.with_name(target.name + ".part")
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            for address in addresses:
                try:
                    _continue(address, part)
                except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                    failures.append(f"{address}: {getattr(error, 'reason', None) or error}")
                    continue
                if checksum_of(part, algorithm) == checksum:
                    os.replace(part, target)
                    return target
                failures.append(f"{address}: wrong checksum")
                part.unlink()
            if attempt + 1 < TRIES:
                time.sleep(PAUSE * 2**attempt)
    except OSError as error:
        raise disk_error(error, part, "name another cache folder in TRILEMMA_CACHE") from error
    raise InputError("; ".join(dict.fromkeys(failures)))


def _continue(address: str, part: Path) -> None:
    """Append to `part` what is missing of it."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "trilemma"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing: the checksum will tell
            return
        raise
    with answer:
        if answer.status != 206:
            have = 0  # a server that does not resume begins again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        with open(part, "ab" if have else "wb") as file, progress(f"Downloading {part.stem}", total) as advance:
            advance(have)
            while block := answer.read(1 << 16):
                file.write(block)
                advance(len(block))
            if total and file.tell() < total:
                raise ConnectionError("the connection broke")


def unpack(archive: Path, wanted: Sequence[str], folder: Path) -> None:
    """The `wanted` files of a tar archive, by their last names, into `folder`."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in wanted:
                    source = tar.extractfile(member)
                    assert source is not None
                    with writing_to(folder / name) as temporary, open(temporary, "wb") as file:
                        while block := source.read(1 << 20):
                            file.write(block)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{archive}: is damaged ({error}); delete it and try again") from error
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{archive}: lacks {', '.join(missing)}; delete it and try again")
