"""Networks of the user's as judges: what files are taken, how pictures reach them, what is refused in which words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import trilemma as tl
from trilemma.errors import InputError
from trilemma.metrics.fidelity import frechet_distance, kernel_distance
from trilemma.metrics.given_features import (
    Network,
    PictureFeatures,
    Preparation,
    given_features,
    open_network,
    read_weights,
    sha256,
)
from trilemma.modalities.door import open_data
from trilemma.report.judges import judges_for, spread
from trilemma.training.published import Wanted, open_given, read_wanted

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")


class Small(nn.Module):
    """Rectified convolutions, (B, channels, H, W) -> (B, 6, h, w)."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(channels, 6, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolution(x))


class Flat(nn.Module):
    """Takes 8 x 8 pictures only and returns their values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[2:] == (8, 8), "expected 8 x 8"
        return x.flatten(1)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flatten(1), x.flatten(1)


class Rank(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2)


class Infinite(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 / x.flatten(1)


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) + torch.rand(len(x), 1)


class Coupled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) - x.flatten(1).mean(0)


def script(network: nn.Module, path: Path) -> Path:
    torch.jit.script(network.eval()).save(str(path))
    return path


def pictures(count: int = 40, channels: int = 1, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def test_features_are_those_of_the_network(tmp_path: Path) -> None:
    path, x = script(Small(), tmp_path / "small.pt"), pictures(300)
    features = given_features(path, x, name="small")
    found = features(x)
    with torch.no_grad():
        expected = Small()(torch.from_numpy(x).float() / 255).mean((2, 3)).double().numpy()
    assert found.shape == (300, 6) and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert features.hash == sha256(path) and features.hash in features.record and "TorchScript" in features.record
    signed = given_features(path, x, name="small", low=-255.0, high=255.0)
    assert not np.allclose(signed(x), found), "raw values are scaled by the data's limits"


def test_sizes_and_channels_that_a_network_asks_for(tmp_path: Path) -> None:
    grey = pictures()
    flat = given_features(script(Flat(), tmp_path / "flat.pt"), grey, name="flat", size=(8, 8))
    small = torch.from_numpy(grey[:1]).float() / 255
    # Pillow's bicubic reduction is the independent reference, of floats so that nothing is rounded.
    image = Image.fromarray(small[0, 0].numpy()).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(flat(grey[:1])[0].reshape(8, 8), np.clip(np.asarray(image), 0, 1), atol=1e-5)
    assert "8x8 bicubic antialiased" in flat.record
    with pytest.raises(
        InputError, match=r"flat\.pt: does not take pictures of 1 x 16 x 16 .*expected 8 x 8.*flat\.pt:64"
    ):
        given_features(tmp_path / "flat.pt", grey, name="flat")
    path = script(Small(3), tmp_path / "colour.pt")
    colour = given_features(path, grey, name="colour")
    np.testing.assert_array_equal(colour(grey), given_features(path, grey, name="c")(np.repeat(grey, 3, 1)))
    assert "3 channels" in colour.record
    with pytest.raises(InputError, match=r"grey\.pt: does not take pictures of 3 x 16 x 16"):
        given_features(script(Small(), tmp_path / "grey.pt"), pictures(channels=3), name="grey")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Pair(), "returns 2 outputs; export a network whose only output"),
        (Rank(), r"returns \(4, 1, 256\) for 4 pictures; its output must be \(B, D\)"),
        (Infinite(), "of 4 of 4 pictures are not finite"),
        (Random(), "change from call to call.*evaluation mode"),
        (Coupled(), "or with the pictures beside it"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, nn.Module) else "",
)
def test_what_is_no_feature_is_refused(tmp_path: Path, network: nn.Module, words: str) -> None:
    x = pictures()
    x[:, :, 0, 0] = 0
    with pytest.raises(InputError, match=rf"network\.pt: .*{words}"):
        given_features(script(network, tmp_path / "network.pt"), x, name="network")


def test_files_that_are_no_network(tmp_path: Path) -> None:
    """A pickle may run code, and is refused before anything of it is read."""
    for name, legacy in (("new.pt", True), ("old.pt", False)):
        torch.save(Small(), tmp_path / name, _use_new_zipfile_serialization=legacy)
        with pytest.raises(InputError, match=rf"{name}: is a pickle .*write it by torch\.jit\.script"):
            open_network(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: no weights can be read"):
            read_weights(tmp_path / name)
    save_file(Small().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="holds weights, not a network"):
        open_network(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="no such file"):
        open_network(tmp_path / "none.pt")
    torch.save({"state_dict": Small().state_dict()}, tmp_path / "w.pth")
    script(Small(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pth", "w.pt"):
        weights = read_weights(tmp_path / name)
        assert torch.equal(weights["convolution.weight"], Small().convolution.weight)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no weights by name"):
        read_weights(tmp_path / "list.pth")


def test_how_networks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt", "my=net.pt", "a:8.pt"):
        (tmp_path / name).touch()
    assert read_wanted("net.pt") == [Wanted("net", Path("net.pt"))]
    assert read_wanted([Path("net.pt"), "b=net.pt:32", "c=net.pt:32x48"]) == [
        Wanted("net", Path("net.pt")), Wanted("b", Path("net.pt"), (32, 32)), Wanted("c", Path("net.pt"), (32, 48)),
    ]  # fmt: skip
    assert read_wanted(["my=net.pt", "a:8.pt"]) == [Wanted("my-net", Path("my=net.pt")), Wanted("a-8", Path("a:8.pt"))]
    assert read_wanted(["clip", "dinov2=net.pt"]) == [Wanted("clip"), Wanted("dinov2", Path("net.pt"))]
    for given, words in {
        "dinov": r"unknown feature network 'dinov'\. Did you mean 'dinov2'.*or a TorchScript or ONNX file",
        "lost.pt": "lost.pt is no file",
        "random=net.pt": "there is a judge 'random' already; call it NAME=net.pt",
        "clip:64": "leave out the size",
    }.items():
        with pytest.raises(InputError, match=words):
            read_wanted(given)
    with pytest.raises(InputError, match="there is a judge 'net' already"):
        read_wanted(["net.pt", "net=a:8.pt"])


def test_only_pictures_are_judged_by_networks_for_pictures(tmp_path: Path) -> None:
    path = script(Small(), tmp_path / "net.pt")
    points = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    with pytest.raises(InputError, match=r"such networks see pictures, and these are points data"):
        open_given(read_wanted(path), open_data(points))


def test_figures_of_a_judge_and_their_protocol(tmp_path: Path) -> None:
    """Both distances are the metrics' own on the network's features; a Frechet distance needs enough rows."""
    images = pictures(400)[:, 0]
    data = open_data(images)
    given = open_given(read_wanted(script(Small(), tmp_path / "net.pt")), data).networks
    test = data.rows("test", 100)
    assert 12 <= len(test) < 100
    (judge,) = [one for one in judges_for(data, test, data.rows("train", 100), given) if one.name == "net"]
    samples = pictures(50, seed=1) // 2
    found = judge.measure(samples)
    reference, features = given[0](test), given[0](samples)
    size = np.sqrt(np.square(reference).mean())
    assert found["kernel@net"].value == pytest.approx(kernel_distance(reference / size, features / size).value)
    assert found["frechet@net"].value == pytest.approx(frechet_distance(reference / size, features / size).value)
    assert set(judge.measure(samples[:11])) == {"kernel@net"}, "11 rows of 6 features are too few"
    assert sha256(tmp_path / "net.pt") in judge.record and f"{len(test)} reference pictures" in judge.record
    rows = np.arange(4000)
    assert len(spread(rows, 1000)) == len(set(spread(rows, 1000))) == 1000 and spread(rows, 1000)[[0, -1]].tolist() == [
        0,
        3999,
    ]
    few = replace(judge, most=30).measure(samples)["kernel@net"].value
    assert few == pytest.approx(judge.measure(spread(samples, 30))["kernel@net"].value) != found["kernel@net"].value


def test_measure_by_a_network_of_ones_own(tmp_path: Path) -> None:
    images, samples = pictures(300)[:, 0], pictures(60, seed=1)[:, 0]
    one, two = (script(Small(channels), tmp_path / f"{channels}.pt") for channels in (1, 3))
    plain = tl.measure(images, samples, quiet=True)
    found = tl.measure(images, samples, features=[one, f"two={two}"], quiet=True)
    assert {"kernel@1", "frechet@1", "kernel@two"} <= set(found.metrics) and "kernel@1" in found.floor
    assert {name: entry for name, entry in found.metrics.items() if "@1" not in name and "@two" not in name} == (
        plain.metrics
    )
    assert found.protocol["key"] != plain.protocol["key"] and sha256(two) in found.protocol["judges"]["two"]
    json.dumps(found.record())
    assert "kernel@two" in found.text()


# --- ONNX -------------------------------------------------------------------------------------------------------------


def onnx(path: Path, side: int | str = 16, batch: int | str = "n", kind: str = "FLOAT") -> Path:
    """A network of one layer, mean over rows of (B, 3, side, side) -> (B, 3 * side), written without PyTorch."""
    pytest.importorskip("onnxruntime")
    made = pytest.importorskip("onnx")
    tensor, helper = getattr(made.TensorProto, kind), made.helper
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Flatten", ["mean"], ["features"]),
    ]
    axes = helper.make_tensor("axes", made.TensorProto.INT64, [1], [2])
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", tensor, [batch, 3, side, side])],
        [helper.make_tensor_value_info("features", tensor, None)],
        [axes],
    )  # fmt: skip
    made.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize(("side", "batch"), [(16, "n"), ("s", "n"), (16, 3), (16, 1)])
def test_onnx(tmp_path: Path, side: int | str, batch: int | str) -> None:
    x = pictures(10)
    features = given_features(onnx(tmp_path / "net.onnx", side, batch), x, name="net")
    expected = np.repeat(x, 3, 1).mean(2).reshape(10, -1) / 255
    np.testing.assert_allclose(features(x), expected, rtol=1e-4)
    assert features.record.startswith("ONNX, sha256 ")


def test_onnx_that_does_not_fit(tmp_path: Path) -> None:
    path, x = onnx(tmp_path / "net.onnx", 8), pictures()
    assert given_features(path, x, name="net")(x).shape == (40, 24), "the file says its size"
    with pytest.raises(InputError, match=r"net\.onnx: takes pictures of 8 x 8 only; leave out :32x32"):
        given_features(path, x, name="net", size=(32, 32))
    double = onnx(tmp_path / "double.onnx", kind="DOUBLE")
    with pytest.raises(InputError, match=r"double\.onnx: takes x tensor\(double\).*must take one float32"):
        given_features(double, x, name="net")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InputError, match=r"text\.onnx: is neither TorchScript nor ONNX"):
        open_network(tmp_path / "text.onnx")


def test_onnx_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "net.onnx").write_bytes(b"\x08\x09")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"net\.onnx: reading ONNX needs the extra: pip install 'trilemma\[onnx\]'"):
        open_network(tmp_path / "net.onnx")


def test_memory_is_bounded_by_chunks() -> None:
    seen: list[tuple[int, ...]] = []

    def call(x: torch.Tensor) -> Any:
        seen.append(tuple(x.shape))
        return x.mean((2, 3))

    features = PictureFeatures("net", Network(call, "test"), Path(__file__), preparation=Preparation((299, 299), 3))
    assert features(pictures(40)).shape == (40, 3)
    assert sum(shape[0] for shape in seen) == 40 and max(np.prod(shape) for shape in seen) <= 4_000_000
