"""`compare --on`: trainings in processes of this machine or on a Ray cluster give what they give here."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from trilemma import cli
from trilemma.errors import DiskError, InputError
from trilemma.modalities.door import open_data
from trilemma.modalities.writing import disk_error
from trilemma.report.compare import compare
from trilemma.report.places import Job, Processes, place_for, train_elsewhere, work
from trilemma.training.run import Run

SETTINGS = {
    "training.dtype": "float32",
    "training.choose_samples": 0,
    "training.previews": 1,
    "training.preview_samples": 4,
    "training.save_every": 5,
    "training.threads": 1,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    x = (np.arange(8) * random.uniform(5, 25, (300, 1, 1)) + random.uniform(0, 60, (300, 8, 1))).clip(0, 255)
    file = tmp_path_factory.mktemp("data") / "x.npy"
    np.save(file, x.astype(np.uint8))
    return file


def job(source: object, out: Path, model: str = "vae", budget: str = "2k", **settings: object) -> Job:
    return Job(open_data(source), model, budget, 0, out, {**SETTINGS, **settings}, "xs")


def alive(mark: str) -> list[str]:
    """Processes that were started with this word in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environment.read_text(errors="replace"):
                found.append(environment.parent.name)
    return found


def same(one: Path, two: Path) -> bool:
    return Run.at(one).weights_file.read_bytes() == Run.at(two).weights_file.read_bytes()


def test_processes_train_what_one_process_trains(source: Path, tmp_path: Path) -> None:
    """One from a file, one from an array, one with an error; the process of one is killed and it goes on."""
    array = np.load(source)
    jobs = [
        job(str(source), tmp_path / "file", budget="10k"),
        job(array, tmp_path / "array", "vae", "500"),
        job(str(source), tmp_path / "wrong", **{"optimizer.rate": 1e30}),
    ]
    said: list[str] = []
    place = Processes(2, 1)

    def kill() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if list((tmp_path / "file" / "state").glob("step-*/facts.json")):
                mine = [child for child in multiprocessing.active_children() if child.name == "file"]
                if mine:
                    mine[0].kill()
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    place.train(jobs, said.append)
    killer.join()
    assert any("killed (signal 9)" in text for text in said)
    assert sum("trained (" in text for text in said) == 2 and sum("wrong: failed" in text for text in said) == 1
    assert "non-finite" in place.failed[jobs[2].out]
    with pytest.raises(Exception, match="non-finite"):
        place.finish(jobs[2], quiet=True)
    for one, original in zip(jobs[:2], (str(source), array), strict=True):
        here = job(original, tmp_path / f"{one.out.name}-here", one.model, one.budget)
        here.run()
        assert same(one.out, here.out)
        place.finish(one, quiet=True)  # trained already: nothing is done
    assert not multiprocessing.active_children()


def test_a_full_disk_stops_them_all(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no failure of the one that met it first."""

    def full(self: Job, *arguments: object, **more: object) -> None:
        raise disk_error(OSError(errno.ENOSPC, "No space left on device"), self.out)

    def start(self: Processes, job: Job, folder: Path, slot: int) -> BaseProcess:
        started.append(job.out.name)
        child = multiprocessing.get_context("fork").Process(target=work, args=(job, None, folder / job.out.name))
        child.start()
        return child

    started: list[str] = []
    monkeypatch.setattr(Job, "run", full)
    monkeypatch.setattr(Processes, "_start", start)
    place = Processes(1, 1)
    with pytest.raises(DiskError, match="disk is full"):
        place.train([job(str(source), tmp_path / name) for name in ("one", "two")], lambda text: None)
    assert started == ["one"] and not place.failed
    packed, problem = train_elsewhere((open_data(str(source)), {}), job(str(source), tmp_path / "three"), 1)
    assert packed is None and isinstance(problem, DiskError)


def test_compare_on_processes(source: Path, tmp_path: Path) -> None:
    compare(
        str(source), models=["gan"], budget_each="600", settings=dict(SETTINGS), out=tmp_path / "there",
        on="processes:2", quiet=True,
    )  # fmt: skip
    here = Job(open_data(str(source)), "gan", "600", 0, tmp_path / "gan", dict(SETTINGS))
    here.run()
    assert same(here.out, tmp_path / "there" / "runs" / "gan-s0")


def test_an_interrupt_stops_the_children(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from trilemma.report.compare import compare\n"
        f"compare({str(source)!r}, models=['vae'], budget_each='4M', out={str(tmp_path / 'c')!r}, on='processes:1',"
        f" settings={SETTINGS!r})"
    )
    own = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "MARK": f"mark-{tmp_path}"}
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **own})
    end = time.monotonic() + 120
    while not list(tmp_path.glob("c/runs/vae-s0/state/step-*/facts.json")) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(alive(own["MARK"])) >= 2
    child.send_signal(signal.SIGINT)
    assert child.wait(60) != 0
    end = time.monotonic() + 10  # helpers of the standard library follow a moment later
    while alive(own["MARK"]) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(own["MARK"])
    assert Run.at(tmp_path / "c" / "runs" / "vae-s0").latest_state() is not None


def test_of_a_shared_machine_our_own_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert Processes(None, 1).at_once == 4 and Processes(2, None).threads == 2


@pytest.mark.parametrize("on", ["cloud", "processes:0", "processes:two", "ray:nowhere:1"])
def test_places_that_are_none(on: str) -> None:
    if on.startswith("ray"):
        with contextlib.suppress(ImportError):
            import ray  # noqa: F401

            pytest.skip("Ray is installed: it would look for the cluster")
    with pytest.raises(InputError, match="--on"):
        place_for(on, None)
    with pytest.raises(InputError, match="--cpus-each"):
        place_for("processes", 0)


def test_the_command_line_says_how_to_get_ray(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for on, words in (("ray", "pip install 'trilemma[cluster]'"), ("cloud", "choose processes")):
        monkeypatch.setattr(sys, "argv", ["trilemma", "compare", str(source), "--out", str(tmp_path / "c"), "--on", on])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2 and words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "c").exists()


def test_studies_on_a_ray_cluster(source: Path, tmp_path: Path) -> None:
    """Variants go there as well, those on a part of the data, too; more cores than there are do not wait for ever."""
    ray = pytest.importorskip("ray")
    try:
        with pytest.raises(InputError, match="--cpus-each 1000"):
            place_for("ray", 1000)
        compare(
            str(source), models=["vae"], budget_each="500", settings=dict(SETTINGS), out=tmp_path / "there", on="ray",
            cpus_each=1, subsample="50%", sensitivity=True, quiet=True,
        )  # fmt: skip
    finally:
        ray.shutdown()
    rows = json.loads((tmp_path / "there" / "results.json").read_text())["rows"]
    assert [row["status"] for row in rows if row["kind"] in ("model", "variant")] == ["ok"] * 6
    base = Run.at(tmp_path / "there" / "runs" / "vae-s0").config()
    (part,) = (tmp_path / "there" / "runs").glob("variant-*50*")
    assert Run.at(part).config()["data"]["counts"]["train"] == round(base["data"]["counts"]["train"] / 2)


def test_a_ray_cluster(source: Path, tmp_path: Path) -> None:
    """The same weights as here; the first worker kills itself in the middle, and its task is tried again."""
    ray = pytest.importorskip("ray")
    place = place_for("ray", 1)
    jobs = [job(str(source), tmp_path / "there", budget="10k"), job(str(source), tmp_path / "gan", "gan", "500")]

    def kill() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            states = list(Path("/tmp").glob("trilemma-*/there/state/step-*/facts.json"))
            found = subprocess.run(
                ["pgrep", "-f", "ray::train_elsewhere"], capture_output=True, text=True
            ).stdout.split()
            if states and found:
                os.kill(int(found[0]), signal.SIGKILL)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    said: list[str] = []
    try:
        place.train(jobs, said.append)  # type: ignore[attr-defined]
    finally:
        killer.join()
        ray.shutdown()
    assert not place.failed and len(said) == 2
    for one in jobs:
        here = job(str(source), tmp_path / f"{one.out.name}-here", one.model, one.budget)
        here.run()
        assert same(one.out, here.out)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("whole_trainings")
def test_a_cluster_of_two_workers_loses_one(tmp_path: Path) -> None:
    """examples/two_workers.py with --kill: both trainings end, with the weights of trainings here."""
    pytest.importorskip("ray")
    script = Path(__file__).resolve().parent.parent / "examples" / "two_workers.py"
    flags = ["--models", "vae,gan", "--budget-each", "5k", "--out", str(tmp_path / "report"), "--kill"]
    done = subprocess.run([sys.executable, str(script), "digits", *flags], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "one worker dies" in done.stdout and done.stdout.splitlines()[-1].endswith("index.html")
    for name in ("vae", "gan"):
        here = Job(open_data("digits"), name, "5k", 0, tmp_path / name, {"training.threads": 1})
        here.run()
        assert same(here.out, tmp_path / "report" / "runs" / f"{name}-s0")
