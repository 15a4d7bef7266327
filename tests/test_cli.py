"""The command line: `train` in all its ways, errors that are one line, and a start that takes no time."""

from __future__ import annotations

import errno
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import call
from torch import Tensor, nn

import trilemma as tl
from trilemma.errors import InputError
from trilemma.networks.layers import ACTIVATIONS
from trilemma.training import run as run_files
from trilemma.training.run import Run

VERBS = ["inspect", "train", "compare", "generate", "reconstruct", "denoise", "interpolate", "traverse"]
VERBS += ["embed", "score", "export", "info", "mix", "project", "edit", "vary", "directions"]
QUICK = [
    *("--set", "training.previews=1"),
    *("--set", "training.preview_samples=16"),
    *("--set", "training.choose_samples=0"),
    *("--set", "training.dtype=float32"),
]
SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
}


def bars(count: int = 240) -> np.ndarray:
    """(count, 8, 8) uint8: a bright bar at a random place and angle."""
    generator = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    slope, place = generator.normal(size=(2, count, 1, 1))
    return (255 * np.exp(-((rows - 4 + slope * (columns - 4) + place) ** 2) / 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "bars.npy"
    np.save(file, bars())
    return file


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A finished VAE and the command that made it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    command = ["train", data, "--model", "vae", "--size", "xs", "--budget", "1k", "--out", run, *QUICK]
    said = call(*command)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == str(run)
    return run, command


def changed(command: list[object], **options: object) -> list[object]:
    """The command with other values of some options."""
    new = list(command)
    for name, value in options.items():
        if f"--{name}" in new:
            new[new.index(f"--{name}") + 1] = value
        else:
            new += [f"--{name}", value]
    return new


# --- starting ---------------------------------------------------------------------------------------------------------


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m trilemma ARGUMENTS` as a process of its own."""
    return subprocess.run([sys.executable, "-m", "trilemma", *map(str, arguments)], capture_output=True, text=True)


def test_help_comes_at_once_and_names_every_verb() -> None:
    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    help = script("--help")
    assert help.returncode == 0
    assert spent() - before < 1, "seconds of CPU; seconds on the clock depend on who else is at work"
    for verb in VERBS:
        assert re.search(rf"^\W*{verb}\b", help.stdout, re.M), verb


def test_help_and_usage_errors_load_no_torch() -> None:
    code = (
        "import sys\nfrom trilemma import cli\n"
        "for words in (['--help'], ['train', '--help'], ['trian'], ['train', 'digits']):\n"
        "    sys.argv = ['trilemma', *words]\n"
        "    try: cli.main()\n"
        "    except SystemExit as end: print(end.code, file=sys.stderr)\n"
        "heavy = sorted({'torch', 'sklearn', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules))\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.isdigit()] == ["0", "0", "2", "2"]


def test_the_script_says_errors_in_one_line(tmp_path: Path) -> None:
    done = script("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert "nowhere" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = script("info", tmp_path / "nowhere", "--debug")
    assert done.returncode not in (0, 2)
    assert "Traceback" in done.stderr and "InputError" in done.stderr and "nowhere" in done.stderr
    with pytest.raises(InputError, match="nowhere"):
        call("info", tmp_path / "nowhere", "--debug")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_debug(verb: str) -> None:
    said = call(verb, "--help")
    assert said.code == 0 and "--debug" in said.out


def test_inspect(data: Path, tmp_path: Path) -> None:
    said = call("inspect", data, "--out", tmp_path / "look")
    assert said.code == 0, said.err
    assert "240" in said.out and "8" in said.out and "trilemma compare" in said.out
    written = [Path(line) for line in said.out.splitlines() if line.startswith(str(tmp_path))]
    assert written and all(path.is_file() for path in written)
    assert "nowhere" in call("inspect", tmp_path / "nowhere").error


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_again_says_finished(trained: tuple[Path, list[object]]) -> None:
    run, command = trained
    weights = (run / "weights.safetensors").read_bytes()
    stamp = (run / "weights.safetensors").stat().st_mtime_ns
    said = call(*command)
    assert said.code == 0 and "finished" in said.err and said.out.splitlines()[-1] == str(run)
    assert (run / "weights.safetensors").stat().st_mtime_ns == stamp
    assert (run / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 7}, ["seed", "0", "7"]),
        ({"size": "s"}, ["size", "xs", "'s'"]),
        ({"budget": "2k"}, ["budget", "1k", "2k"]),
        ({"model": "gan"}, ["model", "vae", "gan"]),
        ({"set": "model.beta=4"}, ["model.beta", "4"]),
        ({"resolution": 16}, ["resolution", "16"]),
    ],
)
def test_changed_settings_of_a_run_are_named(
    trained: tuple[Path, list[object]], options: dict[str, object], words: list[str]
) -> None:
    run, command = trained
    command = [*command, "--set", options["set"]] if "set" in options else changed(command, **options)
    error = call(*command).error
    assert str(run) in error and "--out" in error
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "difusion"}, ["difusion", "diffusion"]),
        ({"model": "gan:waserstein"}, ["gan:waserstein", "gan:wasserstein"]),
        ({"model": "features"}, ["features", "vae"]),
        ({"size": "xxs"}, ["xxs", "xs"]),
        ({"kind": "imag"}, ["imag", "image"]),
        ({"resolution": "big"}, ["--resolution", "big", "32"]),
        ({"set": "model.betta=4"}, ["model.betta", "model.beta"]),
        ({"set": "optimizer.lr=4"}, ["optimizer.lr", "optimizer.rate"]),
        ({"set": "training.preview=4"}, ["training.preview", "training.previews"]),
        ({"set": "nothing.at.all=4"}, ["nothing.at.all"]),
        ({"set": "model.beta=high"}, ["model.beta", "high", "float"]),
        ({"set": "likelihood=gauss"}, ["likelihood", "gauss", "gaussian"]),
        ({"set": "network=cnn"}, ["network.kind", "cnn", "conv", "mlp"]),
        ({"set": "network.activation=rellu"}, ["activation", "rellu", "relu"]),
        ({"set": "optimizer=adamm"}, ["optimizer.kind", "adamm", "adam"]),
        ({"set": "training.dtype=float8"}, ["training.dtype", "float8", "float32"]),
        ({"set": "model.beta"}, ["--set", "model.beta", "KEY=VALUE"]),
        ({"set": "=4"}, ["--set", "=4", "KEY=VALUE"]),
        ({"set": "model.latent=0"}, ["model.latent", "at least 1"]),
        ({"set": "optimizer.batch=-1"}, ["optimizer.batch", "at least 1"]),
        ({"set": "network.dropout=2"}, ["network.dropout", "between 0 and 0.95"]),
        ({"set": "optimizer.betas=(0.9,1.5)"}, ["optimizer.betas", "less than 1"]),
        ({"model": "diffusion", "set": "sampler=eular"}, ["sampler", "eular", "euler"]),
        ({"from": "nowhere"}, ["nowhere", "does not exist"]),
        ({"budget": "10x"}, ["10x", "10m", "40k"]),
        ({"budget": "-5m"}, ["-5m", "10m", "40k"]),
        ({"budget": "0"}, ["'0'", "10m", "40k"]),
        ({"budget": "0s"}, ["'0s'", "10m", "40k"]),
        ({"budget": "abc"}, ["abc", "10m", "40k"]),
        ({"budget": ""}, ["''", "10m", "40k"]),
        ({"budget": "m"}, ["'m'", "10m", "40k"]),
        ({"budget": "+"}, ["'+'", "10m", "40k"]),
        ({"budget": "+10m"}, ["+10m", "finished run"]),
        ({"budget": "+2k"}, ["+2k", "finished run"]),
    ],
    ids=lambda value: " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_train_does_not_know(data: Path, tmp_path: Path, options: dict[str, object], words: list[str]) -> None:
    command = ["train", data, "--model", "vae", "--size", "xs", "--budget", "64", "--out", tmp_path / "run"]
    command += [f"--{name}={value}" for name, value in options.items()]
    said = call(*command)
    for word in words:
        assert word in said.error
    assert not (tmp_path / "run").exists(), "an error must leave nothing behind"


def test_out_is_something_else(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("mine")
    for name in ("file", "folder"):
        assert str(tmp_path / name) in call("train", data, "--out", tmp_path / name, "--budget", "64").error
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["letter.txt"]


def test_dry_run_tells_and_writes_nothing(
    data: Path, trained: tuple[Path, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", data, "--model", "vae", "--size", "xs", "--budget", "1k", "--dry-run", "--out"]
    said = call(*command, tmp_path / "run")
    assert said.code == 0, said.err
    told = dict(re.split(r" {2,}|(?<=examples) ", line, maxsplit=1) for line in said.out.splitlines())
    config = Run.at(trained[0]).config()
    parameters = sum(p.numel() for p in tl.load(trained[0]).model.parameters())
    assert told["parameters"] == f"{parameters:,}"
    examples, whole = int(told["training examples"].split()[0].replace(",", "")), config["training"]["examples"]
    assert abs(examples - whole) < config["config"]["optimizer"]["batch"], (
        "the same, but for a last step that is filled"
    )
    assert re.fullmatch(r"about [\d,]+ MiB", told["memory"])
    assert re.fullmatch(r"about [\d,]+ s", told["finishes in"])
    assert not list(tmp_path.iterdir())
    assert "is a run already" in call(*command, trained[0]).error
    said = call(
        "train", data, "--model", "vae", "--size", "xs", "--budget", "20s", "--dry-run", "--out", tmp_path / "b"
    )
    seconds = re.search(r"finishes in +about ([\d,]+) s", said.out)
    assert seconds is not None and 14 <= int(seconds[1]) <= 22
    assert not list(tmp_path.iterdir())


def test_from_starts_with_the_weights_of_another_run(
    data: Path, trained: tuple[Path, list[object]], tmp_path: Path
) -> None:
    run, command = trained
    said = call(*changed(command, out=tmp_path / "more"), "--from", run, "--set", "optimizer.rate=0")
    assert said.code == 0, said.err
    # With a rate of zero nothing moves: the weights are those of the start.
    before, after = (dict(tl.load(folder).model.named_parameters()) for folder in (run, tmp_path / "more"))
    for name, weight in before.items():
        assert torch.allclose(weight, after[name], atol=1e-6), name
    error = call(*changed(command, out=tmp_path / "other", model="gan"), "--from", run).error
    assert "--from" in error and "another model" in error


def test_more_budget_goes_on_with_a_finished_run(trained: tuple[Path, list[object]], tmp_path: Path) -> None:
    run, command = tmp_path / "run", trained[1]
    shutil.copytree(trained[0], run)
    said = call(*changed(command, out=run, budget="+2k"))
    assert said.code == 0, said.err
    assert Run.at(run).finished and Run.at(run).config()["training"]["examples"] > 2000
    assert "too small" in call(*changed(command, out=run, budget="+1")).error
    assert Run.at(run).finished


@pytest.mark.parametrize(
    ("settings", "place", "value"),
    [
        (["network=mlp"], ("network", "kind"), "mlp"),
        (["optimizer=sgd", "optimizer.rate=0.001"], ("optimizer", "kind"), "sgd"),
        (["network.activation=relu"], ("network", "activation"), "relu"),
        (["model.beta=4", "warm_up=0"], ("beta",), 4.0),
    ],
)
def test_settings_reach_the_model(
    data: Path, tmp_path: Path, settings: list[str], place: tuple[str, ...], value: object
) -> None:
    run = tmp_path / "run"
    command = ["train", data, "--model", "vae", "--size", "xs", "--budget", "128", "--out", run, *QUICK]
    said = call(*command, *(word for setting in settings for word in ("--set", setting)))
    assert said.code == 0, said.err
    loaded = tl.load(run)
    here = loaded.model.config
    for name in place:
        here = getattr(here, name)
    assert here == value
    kinds = {type(module) for module in loaded.model.modules()}
    if value == "mlp":
        assert nn.Conv2d not in kinds
    if value == "relu":
        used = {module.activation for module in loaded.model.modules() if hasattr(module, "activation")}
        assert used == {ACTIVATIONS["relu"]}


def test_a_full_disk_leaves_no_half_written_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_files, "save_file", full)
    run = tmp_path / "run"
    command = ["train", data, "--model", "vae", "--size", "xs", "--budget", "256", "--out", run, *QUICK]
    assert "disk is full" in call(*command).error
    assert not (run / "weights.safetensors").exists()
    assert not [path for path in run.rglob("*") if path.name.endswith(".part") and path.is_file()]
    monkeypatch.undo()
    said = call(*command)
    assert said.code == 0 and Run.at(run).finished, "free some space, then repeat the command"


def test_ctrl_c_is_no_error(data: Path, tmp_path: Path, stop_after: Callable[[int], None]) -> None:
    run = tmp_path / "run"
    command = ["train", data, "--model", "autoencoder", "--size", "xs", "--budget", "1k", "--out", run, *QUICK]
    stop_after(8)
    said = call(*command)
    assert said.code == 130 and "the same command goes on" in said.err and "Traceback" not in said.err
    assert not Run.at(run).finished
    told = json.loads(call("info", run).out)
    assert told["finished"] is False and told["examples"].startswith("512 of ")
    said = call("generate", run, "-n", 3, "--out", tmp_path / "x.npy")
    assert said.code == 0, said.err
    assert np.load(tmp_path / "x.npy").shape == (3, 8, 8)
    stop_after(10**9)
    said = call(*command)
    assert said.code == 0 and "resumed" in said.err
    assert json.loads(call("info", run).out)["finished"] is True


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Set the step after which the loop believes that Ctrl-C was pressed."""
    from trilemma.training.loop import Loop

    take, most = Loop.take_step, [10**9]

    def watched(loop: Loop, *arguments: object, **more: object) -> object:
        answer = take(loop, *arguments, **more)  # type: ignore[arg-type]
        loop.stop = loop.step >= most[0]
        return answer

    monkeypatch.setattr(Loop, "take_step", watched)

    def choose(steps: int) -> None:
        most[0] = steps

    yield choose


# --- from Python ------------------------------------------------------------------------------------------------------


class OwnEncoder(nn.Module):
    def __init__(self, places: int, out: int):
        super().__init__()
        self.net = nn.Linear(places, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


class OwnDecoder(nn.Module):
    def __init__(self, latent: int, grid: tuple[int, ...]):
        super().__init__()
        self.grid, self.net = grid, nn.Linear(latent, int(np.prod(grid)))

    def forward(self, codes: Tensor) -> Tensor:
        return self.net(codes).unflatten(1, self.grid)


def own_networks() -> dict[str, nn.Module]:
    return {"encoder": OwnEncoder(64, 8), "decoder": OwnDecoder(4, (1, 8, 8))}


def test_own_networks_and_optimizer(tmp_path: Path) -> None:
    made: list[torch.optim.Optimizer] = []

    def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(torch.optim.Adagrad(parameters, lr=0.05))
        return made[-1]

    given, run = own_networks(), tmp_path / "run"
    tl.train(
        bars(), model="vae", out=run, size="xs", budget="512", networks=given, optimizer=optimizer, quiet=True,
        settings={**SETTINGS, "latent": 4},
    )  # fmt: skip
    assert made, "the optimizer was never asked for"
    with pytest.raises(InputError, match=r"your own networks.*decoder, encoder"):
        tl.load(run)
    loaded = tl.load(run, networks=own_networks())
    assert type(loaded.model.encoder) is OwnEncoder
    assert loaded.generate(3, seed=1).shape == (3, 8, 8)
    codes = loaded.embed(bars(5))
    assert codes.shape == (5, 4) and codes.std() > 0
    # The weights are the trained ones, not those that were handed in for their shape.
    assert np.array_equal(codes, tl.load(run, networks=own_networks()).embed(bars(5)))
