"""A run: one folder with everything that is needed to use a model, to go on with its training and to repeat it.

config.json           data, spaces, model, every setting, seed, budget (written before step 1)
weights.safetensors   the final model: a function of config and seed
choices.json          how to sample, as chosen on held-out data, and the figures behind the choice
stats.jsonl           losses, qualities and events, one line each
card.md               what this is, in words
samples/              pictures of samples at about eight moments, and a film of them
state/                work in progress, and the state before the learning rate falls
.lock                 held by the process that trains
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from trilemma.errors import DiskError, InputError

FORMAT = 1

LOCK = ".lock"  # file of a folder that one process at a time writes to
FIRST_STAGES = ("autoencoder", "clip")  # folders of what is trained before a run itself, each a run of its own


def branch_state(share: float) -> str:
    """Name of the state from which a training of this share of the budget branches off."""
    return f"branch-{share:g}"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say in words what a full or forbidden disk means."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"the disk is full: {path} could not be written. Free some space, then repeat the command"
            ) from None
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(f"no permission to write {path}: choose another --out") from None
        raise DiskError(f"{path} cannot be written ({problem.strerror}): choose another --out") from None


def _aside(path: Path) -> Path:
    """A name beside it that no other process writes to."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone within this block; a kill gives it free.

    Raises:
        InputError: another process has it.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        _lock(file, folder)
        yield
    finally:
        os.close(file)


def _lock(file: int, folder: Path) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{folder} is being trained by another process: wait for it, stop it, or give a new --out"
        ) from None
    except (ImportError, OSError):  # a system or a disk that knows no locks
        pass


def write_text(path: Path, text: str) -> None:
    """Atomic: readers see the old file or the new one, whatever happens."""
    temporary = _aside(path)
    with disk_errors(path):
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Atomic, like `write_text`; safetensors, so that loading never runs code."""
    temporary = _aside(path)
    # Shared or strided memory is not allowed in the format; equal contents give equal bytes.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    with disk_errors(path):
        try:
            save_file(plain, temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException as problem:
            temporary.unlink(missing_ok=True)
            if "No space left" in str(problem):
                raise OSError(errno.ENOSPC, "No space left on device") from problem
            raise


class Run:
    """The folder and its files; knows nothing of training."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config_file = self.folder / "config.json"
        self.weights_file = self.folder / "weights.safetensors"
        self.choices_file = self.folder / "choices.json"
        self.stats_file = self.folder / "stats.jsonl"
        self.state_folder = self.folder / "state"
        self.samples_folder = self.folder / "samples"

    @classmethod
    def at(cls, folder: str | Path | Run) -> Run:
        """An existing run, or an error that says what the folder is instead."""
        run = folder if isinstance(folder, Run) else cls(folder)
        if not run.folder.exists():
            raise InputError(f"run {run.folder} does not exist: give the folder that `trilemma train --out` wrote")
        first = next((cls(run.folder / name) for name in FIRST_STAGES if cls(run.folder / name).exists), None)
        if not run.config_file.is_file() and first is not None:
            raise InputError(
                f"{run.folder} has only its first stage yet: repeat its command to go on; {first.folder} is a run"
            )
        if not run.config_file.is_file():
            raise InputError(
                f"{run.folder} is not a run: it has no config.json. Give the folder that `trilemma train --out` wrote"
            )
        run.config()
        return run

    @property
    def exists(self) -> bool:
        return self.config_file.is_file()

    @property
    def finished(self) -> bool:
        """Are the weights there, and are they those of the whole budget, every `+10m` included?"""
        if not self.weights_file.is_file():
            return False
        return self.choices().get("extended", 0) == len(self.config()["extended"])

    def check(self) -> None:
        """Refuse a place that is something else."""
        above = next((p for p in (self.folder, *self.folder.absolute().parents) if os.path.lexists(p)), self.folder)
        if above.exists() and not above.is_dir():
            raise InputError(f"--out {self.folder}: {above} is a file; give a folder")

        # A kill in the middle of the first write leaves a lock and one unfinished file behind: they are ours.
        # So is the first of two stages, in a folder of its own.
        def torn(place: Path) -> bool:
            return place.name == LOCK or place.match(f".{self.config_file.name}.*.part")

        def ours(place: Path) -> bool:
            stage = place.name in FIRST_STAGES and place.is_dir()
            return torn(place) or (stage and (Run(place).exists or all(torn(part) for part in place.iterdir())))

        if self.folder.is_dir() and not self.exists and not all(ours(place) for place in self.folder.iterdir()):
            raise InputError(
                f"--out {self.folder} is a folder with other things in it and no run; give a new or empty one"
            )

    def config(self) -> dict[str, Any]:
        try:
            config = json.loads(self.config_file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as problem:
            raise InputError(f"{self.config_file} is damaged ({problem}); the run cannot be read") from None
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise InputError(f"{self.config_file} was not written by this version of Trilemma (format {FORMAT})")
        return config

    def choices(self) -> dict[str, Any]:
        return json.loads(self.choices_file.read_text(encoding="utf-8")) if self.choices_file.is_file() else {}

    # --- stats ---

    def log(self, row: dict[str, Any]) -> None:
        with disk_errors(self.stats_file), open(self.stats_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def stats(self) -> list[dict[str, Any]]:
        """All whole rows; a last line torn by a kill is left out."""
        rows = []
        if self.stats_file.is_file():
            for line in self.stats_file.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return rows

    def forget_after(self, seen: int) -> None:
        """Drop the rows and pictures of steps that will be done again; events stay, they happened."""
        kept = [row for row in self.stats() if row.get("seen", 0) <= seen or "event" in row]
        write_text(self.stats_file, "".join(json.dumps(row) + "\n" for row in kept))
        for picture in self.samples_folder.glob("[0-9]*.png"):
            if int(picture.stem) > seen:
                picture.unlink()

    # --- states ---

    def save_state(self, name: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """A state appears whole or not at all: it is written aside and renamed."""
        folder, aside = self.state_folder / name, self.state_folder / f".{name}.part"
        with disk_errors(folder):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            try:
                write_tensors(aside / "tensors.safetensors", tensors)
                write_json(aside / "facts.json", facts)
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(aside, folder)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise

    def states(self) -> list[str]:
        """Names of the whole states, oldest first."""
        if not self.state_folder.is_dir():
            return []
        return sorted(p.name for p in self.state_folder.iterdir() if (p / "facts.json").is_file() and p.name[0] != ".")

    def load_state(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        folder = self.state_folder / name
        return load_file(folder / "tensors.safetensors"), json.loads(
            (folder / "facts.json").read_text(encoding="utf-8")
        )

    def latest_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest step state that can be read; a damaged one is passed over."""
        for name in reversed([name for name in self.states() if name.startswith("step-")]):
            try:
                return self.load_state(name)
            except Exception:  # whatever is wrong with this one, an older one may be whole
                continue
        return None

    def drop_states(self, *, keep: int) -> None:
        """Remove all but the newest step states."""
        steps = [name for name in self.states() if name.startswith("step-")]
        for name in steps[: len(steps) - keep]:
            shutil.rmtree(self.state_folder / name, ignore_errors=True)
