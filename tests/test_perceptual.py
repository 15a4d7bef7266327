"""A packaged network of photographs in a loss, by a stand-in of the same form; and what the report then keeps apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES, Case
from test_contract import check_losses, check_micro_batches, check_resume, check_turns
from torch import nn

import trilemma as tl
from trilemma import borrowed
from trilemma.batches import Arrays
from trilemma.errors import InputError
from trilemma.metrics import imagenet
from trilemma.models.contract import configure
from trilemma.networks import perceptual
from trilemma.report import judges
from trilemma.spaces import fit_continuous


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self._depthwise_conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._depthwise_conv(x).relu()


class StandIn(nn.Module):
    """Named as EfficientNet-Lite0's parts are: a stem, and blocks of which some halve the grid."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self._conv_stem, self._bn0, self._swish = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6()
        self._blocks = nn.ModuleList([Block(4, 4, 1), *(Block(4, 4, 2) for _ in range(4))])

    def extract_features(self, x: torch.Tensor) -> torch.Tensor:
        return self._blocks[0](self._swish(self._bn0(self._conv_stem(x))))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    found = StandIn().eval().requires_grad_(False)
    monkeypatch.setattr(perceptual, "photographs", lambda: found)
    monkeypatch.setattr(borrowed, "has_photographs", lambda: True)
    perceptual._network.cache_clear()
    yield found
    perceptual._network.cache_clear()


def pairs() -> Case:
    """Grey pictures of 8 bits out of themselves, darker."""
    x = CASES["image"].data.x
    space, source = (fit_continuous(one, low=0, high=255, levels=256) for one in (x, x // 2))
    return Case("photographs", {"x": space, "source": source}, Arrays(x, {"source": x // 2}))


def test_the_distance_is_of_looks_and_of_each_picture_alone(network: StandIn) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 24), dtype=np.uint8)
    space = fit_continuous(x, low=0, high=255, levels=256)
    real = space.embed(torch.from_numpy(x))
    made = (real + 0.3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    far = perceptual.unlike(space, made, real)
    far.sum().backward()
    assert made.grad is not None and (made.grad.flatten(1).norm(dim=1) > 0).all() and (far > 0).all()
    assert perceptual.unlike(space, real, real).tolist() == [0, 0, 0]
    with torch.no_grad():
        alone = torch.cat([perceptual.unlike(space, made[i : i + 1], real[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(far, alone)
        # The same pictures of 16 bits have the same looks, and grey ones those of three equal channels.
        deep = fit_continuous(x.astype(np.uint16) * np.uint16(257), low=0, high=65535, levels=65536)
        torch.testing.assert_close(perceptual.unlike(deep, made, real), far, rtol=1e-3, atol=1e-6)
        grey = fit_continuous(x[:, :1], low=0, high=255, levels=256)
        three = fit_continuous(np.repeat(x[:, :1], 3, 1), low=0, high=255, levels=256)
        one, same = (
            perceptual.unlike(
                kind, made[:, :1].expand(-1, kind.width, -1, -1), real[:, :1].expand(-1, kind.width, -1, -1)
            )
            for kind in (grey, three)
        )
        torch.testing.assert_close(one, same)
    shapes = [tuple(level.shape) for level in perceptual._features(space, real)]
    assert shapes == [(3, 4, 54, 32), (3, 4, 27, 16), (3, 4, 14, 8), (3, 4, 7, 4)]  # 40 x 24 enlarged to 107 x 64


@pytest.mark.parametrize("name", ["codec", "codec:vq", "pix2pix:srgan"])
def test_a_loss_with_it_keeps_the_contract(
    name: str, network: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, plain = pairs() if name == "pix2pix:srgan" else CASES["image"], toy.settings
    monkeypatch.setattr(toy, "settings", lambda name, case, **changes: plain(name, case, perceptual=0.5, **changes))
    monkeypatch.setattr(perceptual, "SIDE", 32)
    check_losses(name, case)
    check_turns(name, case)
    check_resume(name, case, tmp_path)
    check_micro_batches(name, case)
    model = toy.build(name, case)
    assert not any("_conv_stem" in key for key in model.state_dict())
    loop = toy.loop(name, case)
    logs = loop.take_step()
    assert logs["perceptual"] > 0
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_it_is_refused_before_a_training_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, and of what is no picture; a run is loaded without it."""
    monkeypatch.setattr(borrowed, "has_photographs", lambda: False)
    for name, case in (("codec", CASES["image"]), ("pix2pix", pairs())):
        with pytest.raises(InputError, match=r"setting model.perceptual: .*trilemma\[photographs\]"):
            configure(name, case.spaces, changes={"perceptual": 0.5})
        toy.build(name, case, toy.settings(name, case, perceptual=0.5))
    for case in (CASES["series"], CASES["volume"]):
        with pytest.raises(InputError, match="grey or colour pictures"):
            configure("codec", case.spaces, changes={"perceptual": 0.5})
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for model, settings in (("codec", {"perceptual": 0.5}), ("diffusion:latent", {"autoencoder.perceptual": 0.5})):
        with pytest.raises(InputError, match="photographs"):
            tl.train(x, model=model, out=tmp_path / "run", budget=64, settings=settings, quiet=True)
        assert not (tmp_path / "run").exists()


def test_the_judge_that_taught_a_model_does_not_judge_it(
    network: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have its figures; the row of a codec whose loss has looked at its network has none, and says so."""
    from trilemma.training import features

    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "examples_for", lambda data: 256)
    monkeypatch.setattr(judges, "available", lambda: True)
    monkeypatch.setattr(imagenet, "photographs", lambda: network)
    monkeypatch.setattr(imagenet, "available", lambda: True)
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    settings = {"training.previews": 1, "training.choose_samples": 0, "model.perceptual": 0.5}
    page = tl.compare(x, models=["codec"], budget_each="64", settings=settings, out=tmp_path / "report", quiet=True)
    taught, *others = json.loads((page.parent / "results.json").read_text())["rows"]
    assert others and all("kernel@imagenet" in row["metrics"] and not row["problems"] for row in others)
    assert not [key for key in taught["metrics"] if key.endswith("@imagenet")] and "kernel@random" in taught["metrics"]
    assert "imagenet" in taught["problems"][0] and "not measured: figures by imagenet" in page.read_text()
    # A model on the codes of such an autoencoder is taught by it, too.
    inside = {"config": {"perceptual": None}, "spaces": {"x": {"made_by": {"config": {"perceptual": 0.5}}}}}
    assert judges.taught_by(inside) == ["imagenet"] and judges.taught_by({"config": {}, "spaces": {}}) == []
