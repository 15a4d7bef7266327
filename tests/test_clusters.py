"""Data without labels get a condition of their own: which cluster an example falls in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import trilemma as tl
from trilemma.conditions import Conditioner, tell
from trilemma.errors import InputError
from trilemma.mixed import space_from
from trilemma.models.contract import configure
from trilemma.models.gan import GAN
from trilemma.models.vae import VAE
from trilemma.numbered import Clusters
from trilemma.spaces import Categorical, Continuous, Space
from trilemma.training.clusters import clustered
from trilemma.training.run import Run

SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
    "network.width": 16,
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


def of(space: Space | None, data: Any, places: np.ndarray) -> np.ndarray:
    """The clusters that a batch of these training examples is told."""
    assert space is not None
    spaces = nn.ModuleDict({"x": data.spaces["x"], "cluster": space})
    return tell(spaces, data.split("train").gather(places)).raw["cluster"][:, 0].numpy()


def test_clusters_are_the_parts_of_the_data() -> None:
    data = tl.open_data(bars())
    parts = clustered(data, GAN, GAN.Config(clusters=3))
    assert "cluster" not in data.spaces
    space, places = parts.spaces["cluster"], np.arange(len(data.splits["train"]))
    numbers, truth = of(space, data, places), kind_of(data.rows("train"))
    pairs = {(int(a), int(b)) for a, b in zip(truth, numbers, strict=True)}
    assert len(pairs) == 3
    shares = dict(pairs)
    for kind, share in enumerate(np.bincount(truth) / len(truth)):
        assert float(space.shares[shares[kind]]) == pytest.approx(share, abs=0.02)
    assert float(space.shares.sum()) == pytest.approx(1)
    # Nothing at all when nobody asks, or when the model could not.
    assert clustered(data, GAN, GAN.Config()) is data
    assert clustered(data, VAE, VAE.Config()) is data


def test_the_same_clusters_on_any_number_of_threads() -> None:
    """And alone or in company: the number of an example depends on nothing but the example."""
    data = tl.open_data(np.random.default_rng(2).integers(0, 255, (500, 20, 20)).astype(np.uint8))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            space = clustered(data, GAN, GAN.Config(clusters=7)).spaces["cluster"]
            found.append((space.centres, of(space, data, np.arange(300))))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])
    assert [int(of(space, data, np.array([i]))[0]) for i in range(40)] == found[0][1][:40].tolist()


def test_holes_and_mirrors_are_seen_as_the_model_sees_them() -> None:
    """What is missing counts as the mean, and a mirrored example is in the cluster of what it is now."""
    data = tl.open_data(bars().transpose(0, 2, 1).copy())  # bars at the left, in the middle, at the right
    space = clustered(data, GAN, GAN.Config(clusters=3)).spaces["cluster"]
    batch = data.split("train").gather(np.arange(60))
    spaces = nn.ModuleDict({"x": data.spaces["x"], "cluster": space})
    plain = tell(spaces, batch).raw["cluster"].clone()
    batch.x = batch.x.flip(-1)
    mirrored = tell(spaces, batch).raw["cluster"]
    kinds = kind_of(data.rows("train", 60).transpose(0, 1, 3, 2)[:, 0])
    assert torch.equal(plain == mirrored, torch.from_numpy(kinds == 1)[:, None])
    holes = np.random.default_rng(0).random(batch.x.shape) < 0.2
    batch.observed = torch.from_numpy(~holes)
    hidden = torch.where(batch.observed, batch.x, torch.tensor(255, dtype=torch.uint8))
    first = tell(spaces, batch).raw["cluster"].clone()
    batch.x = hidden
    assert torch.equal(tell(spaces, batch).raw["cluster"], first)


def test_the_nearest_centre() -> None:
    """By hand: blocks of the grid averaged, squared distances, the smallest."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(20, 2, 16, 24)).astype(np.float32)
    coarse = x.reshape(20, 2, 8, 2, 8, 3).mean((3, 5)).reshape(20, -1)
    centres = coarse[[3, 8, 11]] + 0.1
    space = Clusters(3, 128)
    space.centres.copy_(torch.from_numpy(centres))
    wanted = ((coarse[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    assert space.nearest(Clusters.coarse(torch.from_numpy(x)))[:, 0].tolist() == wanted.tolist()
    assert space.nearest(Clusters.coarse(torch.from_numpy(x).double()))[:, 0].tolist() == wanted.tolist()
    again = space_from(space.describe())
    again.load_state_dict(space.state_dict())
    assert isinstance(again, Clusters) and again.count == 3 and torch.equal(again.centres, space.centres)
    for shape in ((2, 5), (1, 30), (2, 9, 3, 12)):  # a series, and a volume with a short side
        assert Clusters.coarse(torch.ones(4, *shape)).shape == (4, shape[0] * np.prod([min(s, 8) for s in shape[1:]]))


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
    narrow = {"critic.width": 16} if model == "gan" else {}
    usual: dict[str, Any] = {"model": model, "size": "xs", "settings": {**SETTINGS, **narrow}, "quiet": True}
    run = tl.train(bars(), out=tmp_path / "run", budget="1k", **usual)
    assert isinstance(run, Run)
    loaded = tl.load(run.folder)
    space = loaded.model.spaces["cluster"]
    assert isinstance(space, Clusters)
    shares, centres = space.shares.tolist(), space.centres
    drawn = loaded.sampler.request(1, np.arange(200)).raw["cluster"][:, 0].numpy()
    assert np.abs(np.bincount(drawn, minlength=3) - 200 * np.array(shares)).max() < 5
    # Inputs are put into the clusters that the training had.
    batch = loaded.prepared(bars(), 0)[0]
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trilemma.training.clusters.k_means", None)
        tl.train(bars(), out=other, budget="1k", **usual)
    assert (other / "weights.safetensors").read_bytes() == (run.folder / "weights.safetensors").read_bytes()
    # Begun from that run on other pictures, the numbers mean what its weights have learned.
    usual["settings"].pop("clusters")
    started = tl.train(bars()[:90, ::-1].copy(), out=tmp_path / "started", budget="300", start=run.folder, **usual)
    assert isinstance(started, Run)
    assert torch.equal(tl.load(started.folder).model.spaces["cluster"].centres, centres)
    with pytest.raises(InputError, match="another shape"):
        tl.train(bars()[:, :7, :7].copy(), out=tmp_path / "small", budget="300", start=run.folder, **usual)
    # Half as much again: the extension keeps them too.
    usual["settings"]["clusters"] = 3
    tl.train(bars(), out=run.folder, budget="+1k", **usual)
    assert torch.equal(tl.load(run.folder).model.spaces["cluster"].centres, centres)


def test_a_plan_and_a_comparison_with_clusters(tmp_path: Path) -> None:
    """One Data for all rows: what the GAN finds stays with the GAN."""
    data, settings = tl.open_data(bars()), dict(SETTINGS)
    plan = tl.train(data, model="gan", size="xs", budget="3k", out=tmp_path / "plan", settings=settings, dry_run=True)
    assert not isinstance(plan, Run) and plan.steps > 0 and "cluster" not in data.spaces
    tl.train(data, model="gan", size="xs", budget="1k", out=tmp_path / "gan", settings=settings, quiet=True)
    settings.pop("clusters")
    run = tl.train(data, model="vae", size="xs", budget="1k", out=tmp_path / "vae", settings=settings, quiet=True)
    assert isinstance(run, Run) and set(run.config()["spaces"]) == {"x"}


def test_another_model_is_no_start(tmp_path: Path) -> None:
    """Said as what it is: not the clusters are wrong."""
    settings = {key: value for key, value in SETTINGS.items() if key != "clusters"}
    common: dict[str, Any] = {"size": "xs", "budget": "1k", "quiet": True}
    run = tl.train(bars(), model="vae", out=tmp_path / "vae", settings=settings, **common)
    assert isinstance(run, Run)
    with pytest.raises(InputError, match="another model"):
        tl.train(bars(), model="gan", out=tmp_path / "gan", settings=dict(SETTINGS), start=run.folder, **common)
    assert not (tmp_path / "gan").exists()


def test_labels_need_no_clusters(tmp_path: Path) -> None:
    """Both at once would have to be drawn together."""
    for name in "ab":
        (tmp_path / name).mkdir()
    for number, x in enumerate(bars()[:40]):
        Image.fromarray(x).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    with pytest.raises(InputError, match=r"clusters=3.*labels"):
        tl.train(tmp_path, model="gan", out=tmp_path / "run", budget="1k", settings=dict(SETTINGS), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_condition_between_two_values() -> None:
    """Shares of the values of a label: all on one is that label itself."""
    conditioner = Conditioner({"x": Continuous((1, 4, 4)), "cluster": Clusters(3, 16)}, 8)
    hard = conditioner({"cluster": torch.tensor([[2], [0]])}, {}, 2).vector
    soft = conditioner({"cluster": torch.tensor([[0.0, 0, 1], [1, 0, 0], [0.5, 0, 0.5]])}, {}, 3).vector
    assert hard is not None and soft is not None
    torch.testing.assert_close(soft[:2], hard)
    torch.testing.assert_close(soft[2], hard.mean(0))
