"""Networks with published weights: against independent ones, and how weights are got or done without."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import trilemma as tl
from trilemma.errors import InputError
from trilemma.metrics.given_features import Preparation, sha256
from trilemma.modalities import cache, download
from trilemma.modalities.door import open_data
from trilemma.networks.inception import Inception, inception
from trilemma.networks.vision_transformer import CLIP, DINOV2, vision_transformer
from trilemma.training import published
from trilemma.training.published import PUBLISHED, open_given, read_wanted

WIDTH, PATCH, SIDE = 128, 4, 3  # two heads; learned on 3 x 3 places


def encoder(activation) -> nn.ModuleList:
    """PyTorch's own transformer layers, the independent reference."""
    torch.manual_seed(0)
    layers = nn.ModuleList(
        nn.TransformerEncoderLayer(WIDTH, 2, 64, 0.0, activation, batch_first=True, norm_first=True) for _ in range(2)
    ).eval()
    for parameter in layers.parameters():
        nn.init.normal_(parameter, 0.1, 0.2)
    return layers


def clip_weights(layers: nn.ModuleList) -> dict[str, torch.Tensor]:
    """Under CLIP's names, with a part of its text encoder."""
    weights = {
        "visual.conv1.weight": torch.randn(WIDTH, 3, PATCH, PATCH),
        "visual.class_embedding": torch.randn(WIDTH),
        "visual.positional_embedding": torch.randn(1 + SIDE**2, WIDTH),
        "visual.proj": torch.randn(WIDTH, 32),
        "transformer.resblocks.7.ln_1.weight": torch.randn(4),
    }
    for name in ("ln_pre", "ln_post"):
        weights |= {f"visual.{name}.weight": torch.rand(WIDTH) + 0.5, f"visual.{name}.bias": torch.randn(WIDTH)}
    names = {"norm1": "ln_1", "norm2": "ln_2", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj"}
    for place, layer in enumerate(layers):
        for name, tensor in layer.state_dict().items():
            first, _, rest = name.partition(".")
            theirs = f"attn.{rest}" if first == "self_attn" else f"{names[first]}.{rest}"
            weights[f"visual.transformer.resblocks.{place}.{theirs}"] = tensor
    return weights


def dinov2_weights(layers: nn.ModuleList) -> dict[str, torch.Tensor]:
    """Under DINOv2's names, with scales of one."""
    weights = {
        "cls_token": torch.randn(1, 1, WIDTH),
        "pos_embed": torch.randn(1, 1 + SIDE**2, WIDTH),
        "mask_token": torch.zeros(1, WIDTH),
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, PATCH, PATCH) / 7,
        "patch_embed.proj.bias": torch.randn(WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }
    names = {"norm1": "norm1", "norm2": "norm2", "linear1": "mlp.fc1", "linear2": "mlp.fc2"}
    for place, layer in enumerate(layers):
        for name, tensor in layer.state_dict().items():
            first, _, rest = name.partition(".")
            theirs = f"{names.get(first)}.{rest}"
            if first == "self_attn":
                theirs = {"in_proj_": "attn.qkv.", "out_proj": "attn.proj"}[rest[:8]] + rest[8:]
            weights[f"blocks.{place}.{theirs}"] = tensor.clone()
        weights |= {f"blocks.{place}.ls{number}.gamma": torch.ones(WIDTH) for number in (1, 2)}
    return weights


def test_clip_against_torch_layers() -> None:
    layers = encoder(lambda x: x * torch.sigmoid(1.702 * x))
    weights = clip_weights(layers)
    x = torch.randn(2, 3, PATCH * SIDE, PATCH * SIDE)
    with torch.no_grad():
        tokens = functional.conv2d(x, weights["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
        tokens = torch.cat([weights["visual.class_embedding"].expand(2, 1, -1), tokens], 1)
        tokens = tokens + weights["visual.positional_embedding"]
        norm = [(weights[f"visual.{n}.weight"], weights[f"visual.{n}.bias"]) for n in ("ln_pre", "ln_post")]
        tokens = functional.layer_norm(tokens, (WIDTH,), *norm[0])
        for layer in layers:
            tokens = layer(tokens)
        expected = functional.layer_norm(tokens[:, 0], (WIDTH,), *norm[1]) @ weights["visual.proj"]
        found = vision_transformer({name: each.half().float() for name, each in weights.items()}, CLIP)(x)
        assert (found - expected).abs().max() < 0.05 * expected.abs().max(), "half precision is widened"
        found = vision_transformer(weights, CLIP)(x)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_dinov2_against_torch_layers() -> None:
    layers = encoder("gelu")
    for layer in layers:
        layer.norm1.eps = layer.norm2.eps = 1e-6
    weights = dinov2_weights(layers)
    # A scale is a factor of the layer before it.
    weights["blocks.1.ls2.gamma"] = torch.rand(WIDTH)
    x = torch.randn(2, 3, PATCH * SIDE, PATCH * SIDE)
    with torch.no_grad():
        layers[1].linear2.weight *= weights["blocks.1.ls2.gamma"][:, None]
        layers[1].linear2.bias *= weights["blocks.1.ls2.gamma"]
        tokens = functional.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], PATCH)
        tokens = torch.cat([weights["cls_token"].expand(2, 1, -1), tokens.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + weights["pos_embed"]
        for layer in layers:
            tokens = layer(tokens)
        expected = functional.layer_norm(tokens[:, 0], (WIDTH,), eps=1e-6)
        network = vision_transformer(weights, DINOV2)
        torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)
        assert network(torch.randn(2, 3, 5 * PATCH, 5 * PATCH)).shape == (2, WIDTH), "places are interpolated"
    with pytest.raises(ValueError, match="not the weights of a vision transformer"):
        vision_transformer({"a": torch.zeros(1)}, DINOV2)


def test_inception_is_the_network_of_2015() -> None:
    network = Inception()
    # Of 23,834,568 parameters 2,049,000 are those of the classifier for 1,000 classes.
    assert sum(each.numel() for each in network.parameters()) == 21_785_568
    weights = network.state_dict()
    assert weights["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    again = inception({**weights, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)})
    with torch.no_grad():
        x = torch.rand(2, 3, 75, 75)
        assert again(x).shape == (2, 2048) and torch.equal(again(x), network.eval()(x))
        flat = torch.ones(1, 192, 5, 5)
        pooled = functional.relu(network.Mixed_5b.branch_pool(flat))
        assert torch.allclose(network.Mixed_5b(flat)[:, -32:], pooled), "a mean over a border does not count it"
        peak = torch.zeros(1, 2048, 3, 3)
        peak[..., 1, 1] = 1
        everywhere = network.Mixed_7c.branch_pool(torch.ones_like(peak))
        assert torch.allclose(network.Mixed_7c(peak)[:, -192:], everywhere), "the last block pools by maximum"


# --- getting weights --------------------------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A local server with a small 'dinov2', whose checksum is known; returns the file."""
    file = tmp_path / "site" / "features" / PUBLISHED["dinov2"].file
    file.parent.mkdir(parents=True)
    torch.save(dinov2_weights(encoder("gelu")), file)
    small = replace(PUBLISHED["dinov2"], checksum=sha256(file), preparation=Preparation((12, 12), 3))
    monkeypatch.setitem(published.PUBLISHED, "dinov2", small)
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    _Quiet.asked = []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path / "site"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TRILEMMA_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
    yield file
    server.shutdown()
    server.server_close()


def images(count: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def test_weights_are_downloaded_once(site: Path) -> None:
    data = open_data(images())
    for _ in range(2):
        given = open_given(read_wanted("dinov2"), data)
        assert not given.left_out and given.networks[0].hash == sha256(site)
        assert given.networks[0](data.rows("test", 3)).shape == (3, WIDTH)
    assert _Quiet.asked == [f"/features/{site.name}"]
    assert "12x12 bicubic antialiased, 3 channels" in given.networks[0].record
    local = open_given(read_wanted(f"dinov2={site}"), data)
    assert local.networks[0].hash == given.networks[0].hash


def test_weights_with_a_wrong_checksum_are_left_out(site: Path, tmp_path: Path) -> None:
    site.write_bytes(site.read_bytes()[:-1] + b"!")
    given = open_given(read_wanted("dinov2"), open_data(images()))
    assert not given.networks and "wrong checksum" in given.left_out["dinov2"]
    target = cache.root() / "downloads" / "features"
    assert not list(target.iterdir()), "nothing is left of it"
    (target / site.name).write_bytes(b"put there by hand")
    given = open_given(read_wanted("dinov2"), open_data(images()))
    assert f"{target / site.name} has a wrong checksum; delete it" in given.left_out["dinov2"]


def test_without_a_network_the_judge_is_left_out_and_the_rest_goes_on(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILEMMA_MIRROR", "http://127.0.0.1:9")
    found = tl.measure(images(), images(40, seed=1), features="dinov2", quiet=True)
    assert not any("dinov2" in name for name in found.metrics)
    (note,) = [note for note in found.notes if "dinov2" in note]
    assert note.startswith("no figures by dinov2: its weights could not be downloaded (")
    assert f"put {site.name} into {cache.root() / 'downloads' / 'features'}" in note
    assert "--features dinov2=FILE" in note
    json.dumps(found.record())


def test_weights_of_another_network_are_refused(site: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for name in PUBLISHED:
        with pytest.raises(InputError, match=rf"other\.pth: holds no weights of {name}"):
            open_given(read_wanted(f"{name}={tmp_path / 'other.pth'}"), open_data(images()))


def test_what_is_published_is_complete() -> None:
    """Checksums as they stand in the addresses, where they do."""
    for known in PUBLISHED.values():
        assert len(known.checksum) == 64 and all(address.startswith("https://") for address in known.addresses)
        assert known.preparation.channels == 3 and known.preparation.size
    assert PUBLISHED["clip"].checksum in PUBLISHED["clip"].addresses[0]
    assert all(PUBLISHED["inception"].checksum[:8] in address for address in PUBLISHED["inception"].addresses)
