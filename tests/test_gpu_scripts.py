"""The scripts for a GPU run on a CPU, too: what they would measure there, in a few steps."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"


def call(name: str, *words: object) -> None:
    before = sys.argv
    sys.argv = [name, *map(str, words)]
    try:
        runpy.run_path(str(FOLDER / name), run_name="__main__")
    finally:
        sys.argv = before


def test_the_curve_has_a_row_for_each_third_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--size", "xs", "--batch", 16, "--examples", 480, "--samples", 64, "--out", tmp_path)
    call("curve.py", "digits", *asked)
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["examples"] for row in rows] == [160, 320, 480]
    assert all(np.isfinite(row["fid"]) and row["by"] == "trilemma measure" for row in rows)
    weights = (tmp_path / "run" / "weights.safetensors").read_bytes()
    call("curve.py", "digits", *asked)
    assert len((tmp_path / "curve.jsonl").read_text().splitlines()) == 3
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == weights
    assert capsys.readouterr().out.count("| million examples |") == 2


def test_the_speed_of_both_networks_is_counted_alike(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    small = ("--size", "xs", "--channels", "32,32,32", "--batch", 4, "--rounds", 1, "--seconds", 0.1)
    call("speed.py", *small, "--out", tmp_path)
    facts, row = map(json.loads, (tmp_path / "speed.jsonl").read_text().splitlines())
    for name, rate in row["examples_per_second"].items():
        assert row["flops_per_second"][name] == pytest.approx(rate * facts["flops_per_example"][name])
    assert row["ratio"] == pytest.approx(row["flops_per_second"]["ours"] / row["flops_per_second"]["diffusers"])
