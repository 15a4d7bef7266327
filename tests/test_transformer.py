"""The transformer: places by rotation, what text it sees, where it begins, and where it can be asked for."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from trilemma.errors import InputError
from trilemma.models.contract import configure
from trilemma.networks.layers import Network
from trilemma.networks.transformer import (
    FEW,
    Attention,
    Transformer,
    attend,
    rotated,
    rotations,
    transformer_settings,
)
from trilemma.spaces import Categorical, Continuous, Space

GRIDS = [(5,), (33,), (7, 7), (10, 9), (1, 1), (4, 4, 4), (1, 1, 9)]


def moved(grid: tuple[int, ...], context: int = 0, patch: int = 1) -> Transformer:
    torch.manual_seed(0)
    network = Transformer(
        3, 5, grid, Network(kind="transformer", width=32, depth=2, patch=patch), embedding=8, context=context
    )  # fmt: skip
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return network.eval()


@pytest.mark.parametrize("grid", [(9,), (4, 5), (3, 4, 2)], ids=str)
def test_rotations_tell_distances_along_each_axis(grid: tuple[int, ...]) -> None:
    """The product of a query and a key depends on the distance of their places alone, and tells every distance."""
    cos, sin = rotations(grid, 32)
    assert cos.shape == (math.prod(grid), 16)
    q, k = torch.randn(2, 1, 1, 1, 32, generator=torch.Generator().manual_seed(0)).expand(2, 1, 1, len(cos), 32)
    products = (rotated(q, cos, sin) @ rotated(k, cos, sin).transpose(-1, -2))[0, 0].double()
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid)).reshape(len(cos), -1)
    found: dict[tuple[int, ...], float] = {}
    for one, a in enumerate(places):
        for two, b in enumerate(places):
            found.setdefault(tuple((a - b).tolist()), float(products[one, two]))
            assert found[tuple((a - b).tolist())] == pytest.approx(float(products[one, two]), abs=1e-4)
    values = sorted(found.values())
    assert min(b - a for a, b in itertools.pairwise(values)) > 1e-6


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_any_grid(grid: tuple[int, ...], patch: int) -> None:
    x, embedding = torch.randn(2, 3, *grid), torch.randn(2, 8)
    out = moved(grid, patch=patch)(x, embedding)
    assert out.shape == (2, 5, *grid) and bool(out.isfinite().all())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(moved(grid, patch=patch)(x, embedding).isfinite().all())


def test_a_block_begins_as_nothing() -> None:
    """adaLN-zero: all gates and the last layer are 0, so that the depth does not matter at the start."""
    network = Transformer(3, 5, (4, 4), Network(kind="transformer", width=32, depth=3), embedding=8)
    x = torch.randn(2, 16, 32)
    turns = (network.cos, network.sin)
    for block in network.blocks:
        assert torch.equal(block(x, torch.randn(2, 8), turns, None, None), x)
    assert not network(torch.randn(2, 3, 4, 4), torch.randn(2, 8)).any()


def test_text_is_seen_where_its_mask_says() -> None:
    network, x, embedding = moved((4, 4), context=6), torch.randn(3, 3, 4, 4), torch.randn(3, 8)
    tokens, mask = torch.randn(3, 5, 6), torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    out = network(x, embedding, tokens, mask)
    hidden = torch.where(mask.unsqueeze(2), tokens, 7.0)
    torch.testing.assert_close(network(x, embedding, hidden, mask), out)
    other = network(x, embedding, tokens + 1, mask)
    assert not torch.allclose(other[0], out[0]) and not torch.allclose(other[2], out[2])
    torch.testing.assert_close(network(x, embedding)[1], out[1])  # no text at all


@pytest.mark.parametrize("context", [0, 6])
def test_how_long_queries_and_keys_are_does_not_matter(context: int) -> None:
    """They are normalised: weights that make them a thousand times as long change nothing; of values they do."""
    torch.manual_seed(0)
    attention = Attention(32, context)
    for weight in attention.parameters():
        torch.nn.init.normal_(weight)
    x, tokens = torch.randn(2, 9, 32), torch.randn(2, 5, 6) if context else None
    turns = None if context else rotations((3, 3), 32 // attention.heads)

    def out() -> torch.Tensor:
        with torch.no_grad():
            return attention(x, turns, tokens)

    before = out()
    keys, values = slice(0, 32), slice(32, 64)
    with torch.no_grad():
        for weight in (
            attention.ask.weight,
            attention.ask.bias,
            attention.tell.weight[keys],
            attention.tell.bias[keys],
        ):
            weight *= 1000
    torch.testing.assert_close(out(), before, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        attention.norm_q.gain *= 3  # how sharp attention is, is learned here
        sharper = out()
        attention.norm_q.gain /= 3
        attention.tell.weight[values] *= 2
    assert not torch.allclose(sharper, before, atol=1e-2) and not torch.allclose(out(), before, atol=1e-2)


def test_both_ways_to_attend_are_one() -> None:
    q, k, v = torch.randn(3, 1, 2, FEW + 1, 8)
    mask = torch.rand(1, 1, 1, FEW + 1) < 0.7
    torch.testing.assert_close(attend(q, k, v, mask)[:, :FEW], attend(q[:, :, :FEW], k, v, mask))
    written = ((q[:, :, :FEW] * 8**-0.5) @ k[:, :, :FEW].transpose(-1, -2)).softmax(-1) @ v[:, :, :FEW]
    few = (one[:, :, :FEW] for one in (q, k, v))
    torch.testing.assert_close(attend(*few), written.transpose(1, 2).flatten(2))


def test_where_it_can_be_asked_for() -> None:
    """Its sizes come with it; settings of one's own win; other models and single rows refuse it."""
    image: dict[str, Space] = {"x": Continuous((1, 28, 28))}
    asked = {"network.kind": "transformer"}
    for name in ("diffusion", "diffusion:ddpm"):
        network = configure(name, image, changes=asked).network
        assert {"network.kind": network.kind, "network.width": network.width, "network.depth": network.depth,
                "network.patch": network.patch} == transformer_settings((28, 28), "s")  # fmt: skip
    assert configure("diffusion", image, changes={**asked, "network.patch": 7}).network.patch == 7
    assert configure("diffusion", image).network.kind == "conv"
    assert (
        configure("masked", {"x": Categorical((1, 7, 7), 9)}, changes={"network.kind": "conv"}).network.kind == "conv"
    )
    with pytest.raises(InputError, match="built of"):
        configure("vae", image, changes=asked)
    with pytest.raises(InputError, match="built of"):
        configure("gan", image, changes={"critic.kind": "transformer"})
    for kind in ("conv", "transformer"):
        with pytest.raises(InputError, match="needs data on a grid"):
            configure("diffusion", {"x": Continuous((3,))}, changes={"network.kind": kind})


def test_no_kind_of_network_is_passed_over() -> None:
    """What a model cannot be built of is an error, not a setting that does nothing; single rows have mlps."""
    image = {"x": Continuous((3, 16, 16))}
    sides = {name: {**image, key: Continuous((3, 16, 16))} for name, key in
             (("pix2pix", "source"), ("cut", "other"), ("cyclegan", "other"))}  # fmt: skip
    for name, spaces in {**sides, "stylegan": image, "codec": image}.items():
        for key in ("network", "network.kind", "critic.kind"):
            assert configure(name, spaces, changes={key: "conv"}) == configure(name, spaces)
            with pytest.raises(InputError, match=f"setting {key}=mlp: {name} is built of conv"):
                configure(name, spaces, changes={key: "mlp"})
    assert configure("stylegan", {"x": Continuous((3,))}, changes={"network.kind": "mlp"}).network.kind == "mlp"


def test_a_transformer_by_its_short_name_is_no_other_one() -> None:
    spaces = {"x": Continuous((1, 8, 8))}
    assert configure("diffusion", spaces, changes={"network": "transformer"}) == configure(
        "diffusion", spaces, changes={"network.kind": "transformer"}
    )
    with pytest.raises(InputError, match="built of"):
        configure("vae", spaces, changes={"network": "transformer"})
    with pytest.raises(InputError, match="even"):
        Transformer(1, 1, (8, 8), Network(kind="transformer", width=33, depth=1), embedding=4)
