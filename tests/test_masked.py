"""Masked tokens: draws and schedule by closed forms, what is known stays, and tokens of pictures by an autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_latent import PLAIN, fresh, pictures
from torch import Tensor, nn

import trilemma as tl
from trilemma.batches import Options, Request
from trilemma.errors import InputError
from trilemma.latent import Latent
from trilemma.maths.noise import Noise
from trilemma.models.codec import Codec
from trilemma.models.codec import Config as CodecConfig
from trilemma.models.masked import Masked, drawn_tokens
from trilemma.networks.layers import Network
from trilemma.spaces import Categorical
from trilemma.training.stages import coded


class Twins(nn.Module):
    """Knows that both tokens of two places are equal, and nothing else: what is hidden has even chances."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        self.calls += 1
        return 20 * x[:, :-1].flip(2)


class Free(nn.Module):
    """Logits (B, 3, 4, 5) that are the same whatever is seen."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits, self.seen = logits, []

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        self.seen.append(x[:, -1] > 0)
        return self.logits.reshape(1, -1, 1, 1).expand(len(x), -1, *x.shape[2:])


def model_with(network: nn.Module, shape: tuple[int, ...], count: int, **settings: Any) -> Masked:
    spaces: dict[str, Any] = {"x": Categorical(shape, count), "label": Categorical((1,), 2)}
    return Masked(Masked.Config(**settings), spaces, networks={"network": network}).eval()


def asking(count: int, **options: Any) -> Request:
    labels = torch.zeros(count, 1, dtype=torch.long)
    there = torch.ones(count, dtype=torch.bool)
    return Request(Noise(0, np.arange(count)), {"label": labels}, {"label": there}, Options(**options))


def test_tokens_are_drawn_by_their_probabilities() -> None:
    shares = torch.tensor([0.5, 0.0, 0.2, 0.3])
    uniform = ((torch.arange(1000) + 0.5) / 1000).unsqueeze(1)
    tokens, sure = drawn_tokens(shares.log().expand(1000, 4), uniform)
    assert tokens.flatten().bincount(minlength=4).tolist() == [500, 0, 200, 300]
    torch.testing.assert_close(sure, shares[tokens].log())


@torch.no_grad()
def test_tokens_of_later_steps_know_those_of_earlier_ones() -> None:
    """In one step both places are drawn by themselves; in two the second follows the first."""
    network = Twins()
    model = model_with(network, (1, 2), 2, guidance=1.0)
    alike = {}
    for steps in (1, 2):
        network.calls = 0
        x = model.sample(asking(400, steps=steps))
        assert network.calls == steps == model.calls(Options(steps=steps))
        alike[steps] = float((x[:, 0, 0] == x[:, 0, 1]).float().mean())
        assert 0.4 < float(x.float().mean()) < 0.6
    assert alike[1] < 0.6 and alike[2] == 1.0
    network.calls = 0
    model.sample(asking(4, steps=3, guidance=2.0))
    assert network.calls == model.calls(Options(steps=3, guidance=2.0)) == 5
    with pytest.raises(InputError, match="steps=0"):
        model.sample(asking(2, steps=0))


@torch.no_grad()
@pytest.mark.parametrize("eta", [0.0, 0.8])
def test_the_cosine_schedule(eta: float) -> None:
    """Of 20 places those of the cosine are hidden before each step; what is seen once stays as it is."""
    network = Free(torch.tensor([0.2, 0.1, 0.0]))
    model = model_with(network, (1, 4, 5), 3, guidance=1.0)
    shown: list[Tensor] = []
    request = asking(6, steps=4, eta=eta)
    request.watch = lambda step, x: shown.append(x)
    x = model.sample(request)
    hidden = [(~seen).flatten(1).sum(1).tolist() for seen in network.seen]
    assert hidden == [[int(20 * np.cos(np.pi / 2 * k / 4) + 1e-9)] * 6 for k in range(4)]
    for before, now in zip(network.seen, network.seen[1:], strict=False):
        assert bool((now | ~before).all())
    for k in range(1, 4):  # of the estimates of a step those that stay are in the end's
        torch.testing.assert_close(
            *(one * network.seen[k].unsqueeze(1) for one in (shown[k - 1], model.space.embed(x)))
        )
    if eta == 0:  # the surest ones first
        first, left = shown[0].argmax(1), network.seen[1]
        assert int(first[left].max()) <= 1


@torch.no_grad()
def test_the_rest_is_drawn_around_what_is_seen() -> None:
    model = model_with(Twins(), (1, 2), 2, guidance=1.0)
    tokens = torch.tensor([[[0, 1]], [[1, 0]], [[1, 0]]])
    seen = torch.tensor([[[True, False]], [[False, True]], [[True, True]]])
    assert model.drawn(asking(3), tokens, seen)[:, 0].tolist() == [[0, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize("codes", ["fsq", "vq"])
def test_tokens_of_pictures(codes: str) -> None:
    """A picture's tokens are those of its codes, made beforehand or now, and give the same embedded codes again."""
    data, plain = fresh(pictures()[0])
    network = Network(width=16, depth=1, multipliers=(1, 2), patch=2)
    codec = Codec(CodecConfig(codes=codes, network=network), {"x": data.spaces["x"]}).eval()
    made = coded(data, codec, f"codec:{codes}", {})
    space = made.spaces["x"]
    assert isinstance(space, Latent) and space.token_count == codec.token_count > 0
    train = made.split("train").gather(np.arange(8))
    raw = torch.from_numpy(data.x[data.splits["train"][:8]])
    tokens = space.tokens(train.x)
    assert tokens.shape == (8, 1, *space.grid) and tokens.dtype == torch.int64
    assert torch.equal(tokens, space.tokens(raw))
    torch.testing.assert_close(space.embed(space.from_tokens(tokens)), space.embed(train.x))
    if codes == "fsq":
        moved = space.from_tokens(tokens) + 0.1  # less than half a level
        assert torch.equal(space.tokens(moved), tokens)
    smooth = coded(data, plain, "codec", {})
    with pytest.raises(InputError, match="codec:fsq"):
        Masked(Masked.Config(), smooth.spaces)


@pytest.mark.parametrize("model", ["masked", "diffusion:transformer"])
def test_a_run_of_two_stages(model: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = dict(PLAIN)
    if model == "masked":
        with pytest.raises(InputError, match="codec:fsq"):  # before anything is trained
            tl.train(
                pictures(), model=model, out=out, budget="1k", settings={**PLAIN, "autoencoder": "codec"}, quiet=True
            )
        assert not out.exists()
    run = tl.train(pictures(), model=model, out=out, budget="500", size="xs", settings=settings, quiet=True)
    loaded = tl.load(run.folder)  # type: ignore[union-attr]
    samples = loaded.generate(4, seed=3, label=4, steps=3)
    assert samples.shape == (4, 16, 16) and len(np.unique(samples.reshape(4, -1), axis=0)) == 4
    np.testing.assert_array_equal(samples[2:], loaded.generate(2, seed=3, label=4, steps=3, start=2))
    assert "impute" not in loaded.can()
