"""`torchrun --nproc-per-node 2 -m trilemma train`: one training in two processes, from the command line."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import trilemma as tl
from trilemma.errors import InputError
from trilemma.training.run import Run

SETTINGS = {
    "training.dtype": "float64",
    "training.save_every": 5,
    "training.previews": 2,
    "training.preview_samples": 4,
}
# What a training in one process is equal to: without a network to choose by, which tests train otherwise.
ALONE = {"training.choose_samples": 0, "optimizer.batch": 33, "network.dropout": 0}


def flags_of(settings: dict[str, object]) -> list[str]:
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey gradients in two classes, a number of examples that no batch divides."""
    random = np.random.default_rng(0)
    slope = random.uniform(5, 25, 333)
    x = (np.arange(8) * slope[:, None, None] + random.uniform(0, 60, (333, 8, 1))).clip(0, 255).astype(np.uint8)
    file = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(file, x=x, label=(slope > 15).astype(int))
    return file


def torchrun(source: Path, out: Path, *more: str, restarts: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), "-m", "trilemma", "train", str(source), "--size", "xs"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return subprocess.Popen(
        [*command, "--out", str(out), *flags_of(SETTINGS), *more], env=environment, stderr=subprocess.PIPE, text=True
    )


def alone(source: Path, out: Path, model: str, budget: str) -> Run:
    settings = {**SETTINGS, **ALONE}
    run = tl.train(str(source), model=model, out=out, budget=budget, size="xs", settings=settings, quiet=True)
    assert isinstance(run, Run)
    return run


def test_two_processes_train_as_one_though_one_dies(source: Path, tmp_path: Path) -> None:
    """An uneven batch of 33 over two processes: the weights of one process, but for the order of sums.

    torchrun starts all processes again when one is killed; they go on from the last safe state. Without dropout, whose
    masks are drawn by each process for itself.
    """
    killed = tmp_path / "two"
    child = torchrun(source, killed, "--model", "diffusion", "--budget", "660", *flags_of(ALONE), restarts=3)
    end = time.monotonic() + 60
    while not list((killed / "state").glob("step-*/facts.json")) and time.monotonic() < end:
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    said = child.communicate(timeout=200)[1]
    assert child.returncode == 0, said
    assert "resumed" in said
    run = alone(source, tmp_path / "one", "diffusion", "660")
    one, two = load_file(run.weights_file), load_file(killed / "weights.safetensors")
    fresh = load_file(alone(source, tmp_path / "fresh", "diffusion", "33").weights_file)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        moved = np.abs(weight - fresh[name]).max()
        assert np.abs(weight - two[name]).max() <= 1e-9 + 1e-6 * moved, name
    first, second = run.config(), Run.at(killed).config()
    assert first["config"] == second["config"] and first["data"] == second["data"]
    assert [row["seen"] for row in run.stats() if "seen" in row and "event" not in row] == [
        row["seen"] for row in Run.at(killed).stats() if "seen" in row and "event" not in row
    ]
    assert tl.load(killed).generate(3).shape == (3, 8, 8)


def test_two_processes_in_shards_train_as_one(source: Path, tmp_path: Path) -> None:
    """They go on from a state of one process, and one from theirs: losses and weights are those of one alone."""
    settings = {**SETTINGS, **ALONE, "training.shard": True, "training.branches": [0.9], "network.kind": "transformer"}

    def alone(out: Path) -> Run:
        run = tl.train(str(source), model="diffusion", out=out, budget="330", size="xs", settings=settings, quiet=True)
        assert isinstance(run, Run)
        return run

    def begun(out: Path, of: Path, state: str) -> Path:
        """A run that has come to this state of another one."""
        shutil.copytree(of, out)
        (out / "weights.safetensors").unlink()
        shutil.move(out / "state" / state, out / "state" / "step-000000001")
        return out

    def losses(run: Run) -> list[float]:
        return [row["error"] for row in run.stats() if "error" in row]

    one = alone(tmp_path / "one")
    two = begun(tmp_path / "two", one.folder, "before-decay")
    child = torchrun(source, two, "--model", "diffusion", "--budget", "330", *flags_of(settings))
    said = child.communicate(timeout=200)[1]
    assert child.returncode == 0 and "resumed" in said, said
    three = alone(begun(tmp_path / "three", two, "branch-0.9"))
    weights = load_file(one.weights_file)
    assert len(losses(one)) == 10
    for other in (Run.at(two), three):
        for name, weight in load_file(other.weights_file).items():
            np.testing.assert_allclose(weight, weights[name], rtol=1e-6, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(losses(other), losses(one), rtol=1e-9)
    for model, wrong, words in (("gan", {}, "whole"), ("vae", {"training.compile": True}, "compiled")):
        with pytest.raises(InputError, match=f"training.shard.*{words}"):
            tl.train(
                str(source), model=model, out=tmp_path / "no", budget="66", settings={"training.shard": True, **wrong}
            )


def test_a_process_that_meets_nobody_says_so() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    code = (
        "import datetime\nfrom trilemma.training import engine\n"
        "engine.MEETING = datetime.timedelta(seconds=2)\nengine.join()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **meeting}, capture_output=True, text=True, timeout=60
    ).stderr
    assert "InputError: the 2 processes did not meet within 2 s" in said, said


def test_a_time_budget_and_errors_in_two_processes(source: Path, tmp_path: Path) -> None:
    child = torchrun(source, tmp_path / "timed", "--model", "vae", "--budget", "4s")
    begin = time.monotonic()
    assert child.wait(120) == 0
    assert time.monotonic() - begin < 60
    run = Run.at(tmp_path / "timed")
    assert run.finished and 1 < run.choices()["seconds"]["total"] < 16
    child = torchrun(source, tmp_path / "wrong", "--model", "vea")
    said = child.communicate(timeout=120)[1]
    assert child.returncode != 0
    assert [line for line in said.splitlines() if line.startswith("error:")] == [
        line for line in said.splitlines() if "unknown model" in line
    ]
    assert sum(line.startswith("error:") for line in said.splitlines()) == 1
