"""`trilemma bench`: counted operations are torch's own count, and the JSON holds what it promises."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.report import bench as bench_module
from trilemma.report.bench import Bench, Operations, bench, operations, text
from trilemma.training import machine
from trilemma.training.engine import Engine

# Calls of operators in a step of size xs and bf16, measured on 2026-11-21; a tenth more is a regression.
CALLS = {"autoencoder": 509, "diffusion": 827, "gan": 1076, "vae": 739}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small matrices and few seconds: what is tested is the book-keeping."""
    for owner, name, value in (
        (machine, "SIDE", 128),
        (machine, "IMAGES", 4),
        (machine, "COPIED", 2**20),
        (machine, "TRIES", 2),
        (bench_module, "SECONDS", 0.2),
        (bench_module, "PROFILED_STEPS", 4),
    ):
        monkeypatch.setattr(owner, name, value)


def test_operations_are_those_of_torch() -> None:
    """Equal to FlopCounterMode where that one works: models without a gradient inside their loss."""
    work = Bench(["vae", "diffusion"], "xs", "float32", quiet=True)
    for name in work.names:
        loop, _ = work.loop(name)
        loop.take_step()
        with FlopCounterMode(display=False) as theirs:
            loop.take_step()
        assert operations(loop, 1) * loop.config.batch == theirs.get_total_flops() > 1e6


def test_operations_of_a_convolution_by_hand() -> None:
    """2 x multiply-adds forward; backward as many for the weights and as many for the input."""
    layer = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with Operations() as counted:
        layer(x).sum().backward()
    assert counted.flops == 3 * 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
    assert counted.waits == 0
    with Operations() as counted:
        float(x.detach().sum())
    assert counted.waits == 1


def test_rates_are_of_this_order() -> None:
    """Twice the work in twice the time: the rate is of operations, not of calls."""
    engine = Engine()
    rates = machine.limits(engine, tries=2)
    assert all(rate > 1e8 for rate in rates.values())
    assert set(rates) == {
        *(f"{what}_{dtype}_flops_per_second" for what in ("convolution", "matrix") for dtype in ("bf16", "fp32")),
        "memory_bytes_per_second",
    }


@pytest.mark.parametrize("name", list(CALLS))
def test_a_step_calls_no_more_operators_than_it_did(name: str) -> None:
    """A guard against slowness that no clock of a noisy machine would show: operators and waits of a step."""
    loop, _ = Bench([name], "xs", "bfloat16", quiet=True).loop(name)
    loop.config.batch = 8  # a step calls as many of them for few examples
    for _ in range(4):
        loop.take_step()
    with Operations() as counted:
        for _ in range(4):
            loop.take_step()
    assert counted.calls / 4 <= 1.1 * CALLS[name]
    assert counted.waits == 0  # the numbers of a turn are read once, all together


@pytest.mark.usefixtures("quick")
def test_the_command_line_prints_json_alone(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    result = CliRunner().invoke(app, ["bench", "--model", "vae,gan", "--size", "xs", "--dtype", "float32", "--json"])
    found = json.loads(result.stdout)
    assert set(found["models"]) == {"vae", "gan"} and found["machine"]["convolution_bf16_flops_per_second"] > 0
    for row in found["models"].values():
        assert row["dtype"] == "float32" and row["size"] == "xs"
        speed = row["train_flops_per_example"] * row["train_examples_per_second"]
        assert row["train_flops_per_second"] == pytest.approx(speed)
        limit = max(found["machine"][f"convolution_{dtype}_flops_per_second"] for dtype in ("bf16", "fp32"))
        assert row["limit"] in ("bf16", "fp32") and row["share_of_limit"] == pytest.approx(speed / limit)
        assert row["samples_per_second"] > 0


@pytest.mark.usefixtures("quick")
def test_a_profile_says_where_the_time_goes() -> None:
    found = bench(["gan"], size="xs", dtype="float32", profiled=True, quiet=True)
    profile = found["models"]["gan"]["profile"]
    parts = profile["parts"]
    assert set(parts) == {"data", "averaging", "optimizer (critic)", "optimizer (generator)", "forward, backward"}
    assert all(seconds > 0 for seconds in parts.values())  # averaging comes every fourth step
    assert sum(parts.values()) <= profile["step_seconds"]
    assert any("convolution" in row["name"] for row in profile["operators"])
    shown = text(found)
    assert "of limit" in shown and "optimizer (critic)" in shown and "convolution_backward" in shown


def test_unknown_names_are_told() -> None:
    with pytest.raises(InputError, match="unknown model"):
        bench(["vea"], quiet=True)
    with pytest.raises(InputError, match="no samples"):
        bench(["features"], quiet=True)
    with pytest.raises(InputError, match="dtype"):
        bench(["vae"], dtype="half", quiet=True)
