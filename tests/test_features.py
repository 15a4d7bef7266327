"""The in-domain feature network: what is cached of it, and what happens when its units die."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trilemma.metrics.fidelity import frechet_distance
from trilemma.modalities.door import open_data
from trilemma.report.baselines import pca_gaussian, real
from trilemma.training import features
from trilemma.training.features import feature_network, is_cached, place
from trilemma.training.once import storing
from trilemma.training.probe import remembered
from trilemma.training.run import write_json


def test_a_network_whose_units_died_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rectified units that are zero everywhere give all examples one place: no distance would mean anything."""
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "examples_for", lambda data: 512)
    fitted, tried = features._fitted, []

    def dying(data: Any, purpose: str, activation: str, *, quiet: bool) -> Any:
        tried.append(activation)
        model, state = fitted(data, purpose, activation, quiet=quiet)
        if activation == "relu":
            with torch.no_grad():
                model.body.leave.bias.fill_(-1e6)
            state = {key: value.clone() for key, value in model.state_dict().items()}
        return model, state

    x = np.random.default_rng(0).integers(0, 255, (300, 8, 8), dtype=np.uint8)
    data = open_data(x)
    monkeypatch.setattr(features, "_fitted", dying)
    first = feature_network(data, "measure", quiet=True)
    assert tried == ["relu", "leaky_relu"] and is_cached(data, "measure")
    found = first(data.rows("test", 30))
    assert len(np.unique(found, axis=0)) == len(found)
    # From the cache it is the same network.
    again = feature_network(data, "measure", quiet=True)
    assert len(tried) == 2 and again.hash == first.hash and (again(data.rows("test", 30)) == found).all()
    facts = json.loads((place(data, "measure")[0] / "facts.json").read_text())
    assert facts["activation"] == "leaky_relu"


def test_equal_examples_may_share_their_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "examples_for", lambda data: 256)
    data = open_data(np.repeat(np.random.default_rng(0).integers(0, 255, (4, 8, 8), dtype=np.uint8), 60, 0))
    feature_network(data, "choose", quiet=True)
    assert json.loads((place(data, "choose")[0] / "facts.json").read_text())["activation"] == "relu"


@pytest.mark.parametrize("dimensions", [2, 10])
def test_without_a_grid_distances_see_the_shape(dimensions: int) -> None:
    """A Gaussian with the mean and the covariance of the data is no better than the data five per cent too wide."""
    generator = np.random.default_rng(0)
    x = generator.choice([-1.0, 1.0], (8000, dimensions)) + 0.2 * generator.standard_normal((8000, dimensions))
    data = open_data(x.astype(np.float32))
    network = feature_network(data, "measure", quiet=True)
    known = network(data.rows("test", 800))
    own = real(data, 800, seed=0)

    def distance(samples: np.ndarray) -> float:
        return frechet_distance(network.shaped(known), network.shaped(network(samples))).value

    gaussian, wide, floor = (distance(x) for x in (pca_gaussian(data, 800, seed=0), 1.05 * own, own))
    assert gaussian > 3 * floor and gaussian > 1.5 * wide, (gaussian, wide, floor)
    assert frechet_distance(known, network(pca_gaussian(data, 800, seed=0))).value < gaussian / 10, "of values alone"
    # What looks for neighbours goes on looking among the values, and choices are made by other cosines.
    assert known.shape == (800, dimensions) and network.hash != feature_network(data, "choose", quiet=True).hash


def test_a_cache_that_takes_nothing_costs_nothing_but_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noticed after a whole training: what was trained is used, in all of this process, and the remedy is named."""
    (tmp_path / "file").write_text("")
    data = open_data(np.random.default_rng(1).integers(0, 255, (200, 8, 8), dtype=np.uint8))
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(features, "examples_for", lambda data: 256)
    fitted, tried = features._fitted, []

    def counted(*arguments: Any, **more: Any) -> Any:
        tried.append(arguments)
        return fitted(*arguments, **more)

    monkeypatch.setattr(features, "_fitted", counted)
    first, again = feature_network(data, "choose"), feature_network(data, "choose")
    told = [line for line in capsys.readouterr().err.splitlines() if "TRILEMMA_CACHE" in line]
    assert first.hash == again.hash and len(tried) == 1 and len(told) == 1 and is_cached(data, "choose")
    probe: Any = SimpleNamespace(name="vae", config={}, data=data)
    assert remembered(probe, "dtype", find=lambda: {"dtype": "float32"})["dtype"] == "float32"


def test_two_processes_may_store_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither destroys what the other writes: the first one wins, and the entry is whole at all times."""
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    with storing(tmp_path / "features" / "key") as one:
        with storing(tmp_path / "features" / "key") as other:
            for aside in (one, other):
                write_json(aside / "facts.json", {"by": aside.name})
        entry = json.loads((tmp_path / "features" / "key" / "facts.json").read_text())
    assert json.loads((tmp_path / "features" / "key" / "facts.json").read_text()) == entry == {"by": other.name}
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["key"]
    replace = os.replace

    def second(*places: Any) -> None:  # another process, at the worst of all moments
        monkeypatch.setattr(os, "replace", replace)
        write_json(tmp_path / "facts.json", {"by": "another"})
        replace(*places)

    monkeypatch.setattr(os, "replace", second)
    write_json(tmp_path / "facts.json", {"by": "me"})
    assert json.loads((tmp_path / "facts.json").read_text()) == {"by": "me"}
