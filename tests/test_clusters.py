"""Data without labels get a condition of their own: which cluster an example falls in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import trilemma as tl
from trilemma.conditions import Conditioner
from trilemma.errors import InputError
from trilemma.models.contract import configure
from trilemma.models.gan import Config
from trilemma.spaces import Categorical, Clusters, Continuous, space_from
from trilemma.training.clusters import clustered
from trilemma.training.run import Run
from trilemma.training.sampling import frequencies_of

SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
    "clusters": 3,
}


def bars() -> np.ndarray:
    """300 grey pictures of 12 x 12: a light bar at the top (150 of them), in the middle (90) or at the bottom (60)."""
    generator = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], [150, 90, 60])
    x = generator.integers(0, 60, size=(300, 12, 12))
    for number, kind in enumerate(kinds):
        x[number, 4 * kind : 4 * kind + 3] = generator.integers(180, 250)
    return x.astype(np.uint8)[generator.permutation(300)]


def kind_of(x: np.ndarray) -> np.ndarray:
    """Where the bar is, from the pictures themselves."""
    return x.reshape(len(x), 3, 4, 12).astype(float).mean((2, 3)).argmax(1)


def test_clusters_are_the_parts_of_the_data() -> None:
    data = tl.open_data(bars())
    parts = clustered(data, Config(clusters=3))
    assert "cluster" not in data.spaces and "cluster" not in data.conditions
    truth, numbers = kind_of(bars()), parts.conditions["cluster"][:, 0]
    assert len({(a, b) for a, b in zip(truth, numbers, strict=True)}) == 3
    shares = frequencies_of(parts.split("train"), parts.spaces)["cluster"]
    assert sorted(shares) == pytest.approx([0.2, 0.3, 0.5], abs=0.05)
    # The same again, whatever the number of threads; and nothing at all when nobody asks.
    again = clustered(data, Config(clusters=3))
    assert torch.equal(parts.spaces["cluster"].centres, again.spaces["cluster"].centres)
    assert clustered(data, Config()) is data
    assert clustered(data, configure("vae", data.spaces)) is data


def test_the_nearest_centre() -> None:
    """By hand: blocks of the grid averaged, squared distances, the smallest."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(20, 2, 16, 24)).astype(np.float32)
    coarse = x.reshape(20, 2, 8, 2, 8, 3).mean((3, 5)).reshape(20, -1)
    centres = coarse[[3, 8, 11]] + 0.1
    space = Clusters(3, 128, torch.from_numpy(centres))
    wanted = ((coarse[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    assert space.of(torch.from_numpy(x))[:, 0].tolist() == wanted.tolist()
    again = space_from(space.describe())
    again.load_state_dict(space.state_dict())
    assert isinstance(again, Clusters) and again.count == 3
    assert torch.equal(again.of(torch.from_numpy(x)), space.of(torch.from_numpy(x)))


def test_only_grids_without_labels_get_clusters() -> None:
    x, label = Continuous((1, 28, 28)), Categorical((1,), 10)
    for model in ("gan", "diffusion"):
        assert configure(model, {"x": x}, count=50_000).clusters > 1
        assert configure(model, {"x": x, "label": label}, count=50_000).clusters == 0
        assert configure(model, {"x": Continuous((2,))}, count=50_000).clusters == 0
        assert configure(model, {"x": x}, count=100).clusters == 0
        assert configure(model, {"x": x}, count=50_000, changes={"clusters": 0}).clusters == 0


@pytest.mark.parametrize("model", ["gan", "diffusion"])
def test_a_run_with_clusters(model: str, tmp_path: Path) -> None:
    """Trained, loaded, drawn by frequency, resumed and started from: the weights keep their own centres."""
    usual = {"model": model, "size": "xs", "settings": dict(SETTINGS), "quiet": True}
    run = tl.train(bars(), out=tmp_path / "run", budget="3k", **usual)
    assert isinstance(run, Run)
    loaded = tl.load(run.folder)
    shares = loaded.config["data"]["frequencies"]["cluster"]
    drawn = loaded.sampler.request(1, np.arange(200)).raw["cluster"][:, 0].numpy()
    assert np.abs(np.bincount(drawn, minlength=3) - 200 * np.array(shares)).max() < 5
    # Inputs are put into the clusters that the training had.
    batch = loaded._batches(bars(), 0)[0]
    centres = loaded.model.spaces["cluster"].centres
    assert len({(a, b) for a, b in zip(kind_of(bars())[:250], batch.raw["cluster"][:, 0].tolist(), strict=True)}) == 3
    assert loaded.generate(9, seed=3).shape == (9, 12, 12)
    with pytest.raises(InputError, match="without labels"):
        loaded.generate(2, label=0)
    if model == "diffusion":
        assert loaded.generate(2, guidance=2.0).shape == (2, 12, 12)
        assert np.isfinite(loaded.score(bars()[:4])).all()
        assert loaded.denoise(bars()[:4]).shape == (4, 12, 12)
    else:
        way, ends = loaded.interpolate(0, 1, steps=5), loaded.generate(2)
        assert np.abs(way[[0, -1]].astype(int) - ends).max() <= 1
    # Interrupted after a state and resumed, it ends with the same bytes, though nobody fits centres again.
    state = next(iter(run.state_folder.glob("before-decay")))
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    (other / "weights.safetensors").unlink()
    shutil.copytree(state, other / "state" / "step-000000001")
    tl.train(bars(), out=other, budget="3k", **usual)
    assert (other / "weights.safetensors").read_bytes() == (run.folder / "weights.safetensors").read_bytes()
    # Begun from that run on other pictures, the numbers mean what its weights have learned.
    started = tl.train(bars()[:, ::-1].copy(), out=tmp_path / "started", budget="1k", start=run.folder, **usual)
    assert isinstance(started, Run)
    assert torch.equal(tl.load(started.folder).model.spaces["cluster"].centres, centres)


def test_a_condition_between_two_values() -> None:
    """Shares of the values of a label: all on one is that label itself."""
    conditioner = Conditioner({"x": Continuous((1, 4, 4)), "cluster": Clusters(3, 16)}, 8)
    hard = conditioner({"cluster": torch.tensor([[2], [0]])}, {}, 2).vector
    soft = conditioner({"cluster": torch.tensor([[0.0, 0, 1], [1, 0, 0], [0.5, 0, 0.5]])}, {}, 3).vector
    assert hard is not None and soft is not None
    torch.testing.assert_close(soft[:2], hard)
    torch.testing.assert_close(soft[2], hard.mean(0))
