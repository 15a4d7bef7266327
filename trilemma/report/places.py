"""Where the trainings of a comparison run: here, one after the other; in processes of this machine; on a Ray cluster.

A place only trains: each run folder comes back under `runs/`, and everything is measured here afterwards, one after the
other, as if it had been trained here. A training whose process is killed goes on from its last safe state.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from trilemma.errors import DiskError, InputError
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.door import open_data
from trilemma.training.engine import all_threads, when_killed
from trilemma.training.features import feature_network, place
from trilemma.training.once import storing
from trilemma.training.run import Run
from trilemma.training.start import train

TRIES = 4  # of a training whose process is killed or whose machine is lost
RAY_CPUS = 2  # of each training on a cluster that has as many in one machine, unless --cpus-each says otherwise
DISK = 74  # how a process ends that could not write: EX_IOERR of sysexits.h
Say = Callable[[str], None]


@dataclass
class Job:
    """One training: the arguments of `train`."""

    data: Data
    model: str
    budget: str
    seed: int
    out: Path
    settings: dict[str, Any]
    size: str | None = None

    def prepare(self, *, quiet: bool) -> None:
        """Train the network for choices, if it is wanted: it belongs to the data, and no model's budget pays for it."""
        if self.settings.get("training.choose_samples") != 0:
            feature_network(self.data, "choose", quiet=quiet)

    def run(self, data: Data | None = None, out: Path | None = None, *, quiet: bool = True) -> None:
        train(
            data or self.data, model=self.model, budget=self.budget, seed=self.seed, out=out or self.out,
            settings=self.settings, size=self.size, quiet=quiet,
        )  # fmt: skip


class Failed(Exception):
    """A training elsewhere went wrong: its traceback."""

    def __str__(self) -> str:
        return (str(self.args[0]).strip().splitlines() or ["no words"])[-1]


@dataclass
class Source:
    """Data by the way to open them again, where that leads to the same ones: nothing large is written or sent."""

    places: tuple[str, ...]  # one, or two of two sets
    opening: Opening
    hash: str

    def open(self) -> Data:
        data = open_data(self.places[0], opening=self.opening, data2=(*self.places[1:], None)[0])
        if data.hash != self.hash:
            raise InputError(f"{' and '.join(self.places)} has changed since the comparison began")
        return data


class Here:
    """One after the other, in this process: nothing to do beforehand."""

    at_once = 1  # trainings

    def __init__(self) -> None:
        self.failed: dict[Path, str] = {}  # run folder -> traceback of what went wrong elsewhere

    def ahead(self, jobs: list[Job], *, quiet: bool) -> None:
        """Train elsewhere what is not finished, all before the first figure: measuring wants a quiet machine."""

    def finish(self, job: Job, *, quiet: bool) -> None:
        """The finished run of this job; trained now, unless it was before."""
        if job.out in self.failed:
            raise Failed(self.failed[job.out])
        job.prepare(quiet=quiet)
        job.run(quiet=quiet)


class Elsewhere(Here):
    """Trains several jobs at once, and only that."""

    def ahead(self, jobs: list[Job], *, quiet: bool) -> None:
        todo = [job for job in jobs if not Run(job.out).finished]
        for job in todo:
            job.prepare(quiet=quiet)
        if todo:
            self.train(todo, (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True)))

    def train(self, jobs: list[Job], said: Say) -> None:
        """Train all, and note what failed."""
        raise NotImplementedError


class Processes(Elsewhere):
    """Several at once on this machine, each with its share of the processor's cores."""

    def __init__(self, count: int | None, threads: int | None):
        super().__init__()
        # Of a machine that is shared, the part that is ours.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.at_once = count or max(cores // (threads or min(cores, 2)), 1)
        self.threads = threads or max(cores // self.at_once, 1)

    def train(self, jobs: list[Job], said: Say) -> None:
        waiting, done = [(job, 1) for job in jobs], 0
        working: dict[BaseProcess, tuple[Job, int, int]] = {}
        free = list(range(self.at_once))
        with tempfile.TemporaryDirectory(prefix="trilemma-") as folder, when_killed(_stop):
            try:
                while waiting or working:
                    while waiting and free:
                        job, tries = waiting.pop(0)
                        slot = free.pop()
                        working[self._start(job, Path(folder), slot)] = job, tries, slot
                    wait([child.sentinel for child in working])
                    for child in [one for one in working if not one.is_alive()]:
                        job, tries, slot = working.pop(child)
                        free.append(slot)
                        code = child.exitcode or 0
                        if code < 0 and tries < TRIES:
                            said(f"{job.out.name}: its process was killed (signal {-code}); it goes on")
                            waiting.insert(0, (job, tries + 1))
                            continue
                        done += 1
                        if code != 0:
                            error = Path(folder) / job.out.name
                            told = error.read_text() if error.is_file() else f"its process ended with {code}"
                            if code == DISK:
                                raise DiskError(told)
                            self.failed[job.out] = told
                        said(f"{job.out.name}: {'failed' if code else 'trained'} ({done} of {len(jobs)})")
            finally:
                for child in working:
                    child.terminate()  # politely: the state is saved
                for child in working:
                    child.join()

    def _start(self, job: Job, folder: Path, slot: int) -> BaseProcess:
        """A fresh interpreter for this job, with its share of the cores and one of the GPUs."""
        own = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        if torch.cuda.device_count() > 1:
            own["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
        child = get_context("spawn").Process(
            target=work, args=(*_portable(job), folder / job.out.name), name=job.out.name, daemon=True
        )
        before = {name: os.environ.get(name) for name in own}
        os.environ |= own  # libraries read it when they are loaded
        try:
            child.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        return child


def _stop() -> None:
    """A polite kill of this process, like Ctrl-C, stops the children as well: none trains on for nobody."""
    raise KeyboardInterrupt


def _portable(job: Job) -> tuple[Job, Source | None]:
    """The job for another process of this machine: without the data, where they can be opened again."""
    places = job.data.places
    source = Source(places, job.data.opening, job.data.hash)
    if not places or "array" in places or not _opens_the_same(source):
        return job, None
    return replace(job, data=None), source  # type: ignore[arg-type]


def _opens_the_same(source: Source) -> bool:
    try:
        source.open()
    except InputError:  # a part of a set
        return False
    return True


def work(job: Job, source: Source | None, error: Path) -> None:
    """What a child process does; what goes wrong is told in the file `error`."""
    if hasattr(os, "setsid"):
        os.setsid()  # a Ctrl-C at the terminal reaches the parent alone, which then asks politely, and once
    try:
        job.run(source.open() if source else None)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as problem:
        disk = isinstance(problem, (DiskError, OSError))
        with contextlib.suppress(OSError):  # that disk may be full as well
            error.write_text(str(problem) if disk else traceback.format_exc())
        sys.exit(DISK if disk else 1)


class Ray(Elsewhere):
    """On a Ray cluster: tasks with resources, tried again where a worker is lost; no shared disk is needed."""

    def __init__(self, address: str | None, threads: int | None):
        super().__init__()
        try:
            import ray
        except ImportError:
            raise InputError("--on ray: Ray is missing: pip install 'trilemma[cluster]', or --on processes") from None
        self.ray = ray
        if not ray.is_initialized():
            modules = {"py_modules": [str(Path(__file__).resolve().parents[1])]}  # this very code on all machines
            try:
                ray.init(address=address, log_to_driver=False, runtime_env=modules)
            except (ConnectionError, ValueError, RuntimeError) as problem:
                raise InputError(
                    f"--on ray:{address}: no cluster there ({problem}); start one: ray start --head"
                ) from None
        most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
        self.threads = threads or max(min(RAY_CPUS, most), 1)
        if self.threads > most:  # its tasks would wait for ever
            raise InputError(f"--cpus-each {self.threads}: no machine of the cluster has more than {most} cores for it")
        self.at_once = max(int(ray.cluster_resources().get("CPU", 1)) // self.threads, 1)

    def train(self, jobs: list[Job], said: Say) -> None:
        ray = self.ray
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=TRIES - 1)(train_elsewhere)
        held: dict[str, Any] = {}  # data and their network for choices travel once
        for job in jobs:
            if job.data.hash not in held:
                held[job.data.hash] = ray.put((job.data, _network_of(job)))
        waiting = {
            task.remote(held[job.data.hash], replace(job, data=None), self.threads): job  # type: ignore[arg-type]
            for job in jobs
        }
        failed = self.failed
        number = len(waiting)
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(ready)
            try:
                packed, problem = ray.get(ready)
            except ray.exceptions.RayError as error:
                packed, problem = None, str(error)
            if isinstance(problem, DiskError):
                raise problem
            if problem is not None:
                failed[job.out] = problem
            else:
                with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                    archive.extractall(job.out, filter="data")
            said(
                f"{job.out.name}: {'failed' if job.out in failed else 'trained'} ({number - len(waiting)} of {number})"
            )


def _network_of(job: Job) -> dict[str, bytes]:
    """The files of the data's network for choices, by path below the cache: all machines choose by the same one."""
    if job.settings.get("training.choose_samples") == 0 or not job.data.spaces["x"].grid:
        return {}
    folder = place(job.data, "choose")[0]
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def train_elsewhere(
    held: tuple[Data, dict[str, bytes]], job: Job, threads: int
) -> tuple[bytes | None, str | DiskError | None]:
    """What a Ray worker does: (the run folder as a tar archive, None), or (None, what went wrong)."""
    data, network = held
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
    all_threads()
    if network:
        goal = place(data, "choose")[0]
        if not (goal / "facts.json").is_file():
            with contextlib.suppress(DiskError), storing(goal) as aside:
                for name, content in network.items():
                    (aside / name).write_bytes(content)
    asked = repr((data.hash, job.model, job.budget, job.seed, sorted(job.settings.items(), key=str), job.size))
    # Tried again on the same machine, it goes on where it was.
    out = Path(tempfile.gettempdir()) / f"trilemma-{hashlib.sha256(asked.encode()).hexdigest()[:16]}" / job.out.name
    try:
        job.run(data, out)
    except DiskError as problem:
        return None, problem
    except Exception:
        return None, traceback.format_exc()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(out, arcname=".")
    shutil.rmtree(out.parent)  # a later comparison of the same words may run other code
    return packed.getvalue(), None


def place_for(on: str | None, threads: int | None) -> Here:
    """'processes', 'processes:4', 'ray', 'ray:ADDRESS' -> where to train; None: here, one after the other.

    Raises:
        InputError: another word, Ray without an installation or a cluster.
    """
    if threads is not None and threads < 1:
        raise InputError(f"--cpus-each {threads}: at least one")
    if on is None:
        return Here()
    kind, _, rest = on.partition(":")
    if kind == "processes" and re.fullmatch(r"\d*", rest) and rest != "0":
        return Processes(int(rest) if rest else None, threads)
    if kind == "ray":
        return Ray(rest or None, threads)
    raise InputError(f"--on {on}: choose processes, processes:NUMBER, ray or ray:ADDRESS")
