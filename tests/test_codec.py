"""What autoencoders add to the contract: a codebook that follows its codes, a critic beside a loss, what codes cost."""

from __future__ import annotations

import itertools
from pathlib import Path

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES
from test_contract import check_losses, check_masks, check_micro_batches, check_resume, check_turns

from trilemma.maths.noise import Noise
from trilemma.metrics.latent import codebook_use
from trilemma.models.contract import Now, Rates, configure
from trilemma.networks.grid_codec import code_grid
from trilemma.networks.layers import Network
from trilemma.networks.quantise import Codebook
from trilemma.networks.rival import Rival, length_of, pull
from trilemma.spaces import Continuous, Space

WITH_CRITIC = {"adversarial": 0.5, "similarity": 0.5, "critic_from": 0.0}


@pytest.mark.parametrize(("name", "case"), [("codec:vq", "image"), ("codec", "series"), ("vae:gan", "table")])
def test_a_critic_beside_a_loss_keeps_the_contract(
    name: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on, in Spaces of several kinds: the presets' tests see it join late, or on images only."""
    plain = toy.settings
    monkeypatch.setattr(toy, "settings", lambda name, case, **changes: plain(name, case, **WITH_CRITIC, **changes))
    check_losses(name, CASES[case])
    check_turns(name, CASES[case])
    check_resume(name, CASES[case], tmp_path)
    check_micro_batches(name, CASES[case])
    if CASES[case].data.observed is not None:
        check_masks(name, CASES[case])


def test_what_is_missing_does_not_move_the_law_of_the_codes() -> None:
    """Whatever stands where nothing was observed, the codes that are fitted are those that `encode` gives."""
    case = CASES["series"]
    model, batch = toy.build("codec", case).eval(), case.batch()
    toy.randomise(model)
    assert batch.observed is not None
    batch.x = torch.where(batch.observed, batch.x, 9.0)
    model.fit([batch], Noise(0, np.arange(1)))
    with torch.no_grad():
        codes = model.encode(batch).reshape(len(batch), *model.code_shape)  # type: ignore[operator, misc]
    torch.testing.assert_close(model.mean, codes.mean(0))


def followed(out: torch.Tensor, book: Codebook, *, steps: int, revive: bool = True) -> None:
    """Let a codebook see these outputs, as one batch, again and again."""
    for step in range(steps):
        index = np.arange(len(out)) + step * len(out)
        seen = book.seen(out, Noise(0, index), torch.arange(len(out)), len(out))
        book.follow({name: value / len(out) for name, value in seen.items()}, revive=revive)


def test_a_codebook_finds_the_modes_of_its_codes() -> None:
    """Of well separated modes each gets an entry, rare ones too, and no entry is idle; not so without revival, which
    leaves entries where nothing is."""
    generator = torch.Generator().manual_seed(0)
    modes = 4 * torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    shares = torch.tensor([0.72] + [0.04] * 7)
    which = torch.multinomial(shares, 64 * 16, replacement=True, generator=generator)
    out = (modes[which] + 0.01 * torch.randn(len(which), 3, generator=generator)).reshape(64, 4, 4, 3).movedim(-1, 1)
    torch.manual_seed(0)
    book, idle = Codebook(24, 3, decay=0.9), Codebook(24, 3, decay=0.9)
    followed(out, book, steps=150)
    followed(out, idle, steps=150, revive=False)
    distance = torch.cdist(modes, book.entries)
    assert float(distance.min(1).values.max()) < 0.05
    assert len(book.tokens(out).unique()) == 24 and len(idle.tokens(out).unique()) < 16
    assert torch.equal(book.tokens(book.codes(book.tokens(out))), book.tokens(out))
    counts = torch.bincount(book.tokens(out).flatten(), minlength=24) / len(out)
    torch.testing.assert_close(book.shares, counts, rtol=0, atol=0.05)


def test_codes_of_a_codebook_pass_gradients_on() -> None:
    book, out = Codebook(8, 2, decay=0.99), torch.randn(3, 2, 4, 4, requires_grad=True)
    codes = book(out)
    torch.testing.assert_close(codes, book.nearest(out))
    codes.square().sum().backward()
    torch.testing.assert_close(out.grad, 2 * codes.detach())


@pytest.mark.parametrize(
    ("grid", "factor"),
    [((8, 8), 2), ((15,), 2), ((16, 16), 4), ((28, 28), 4), ((64, 48), 4), ((95,), 4), ((96, 64), 8), ((256, 256), 8)],
)
def test_how_much_smaller_codes_are_follows_the_side(grid: tuple[int, ...], factor: int) -> None:
    """2, 4 or 8 times fewer places a side, of whatever size and budget; settings of one's own win."""
    spaces: dict[str, Space] = {"x": Continuous((1, *grid))}
    for size in ("xs", "m"):
        config = configure("codec", spaces, size=size)
        assert code_grid(grid, config.network) == tuple(-(-side // factor) for side in grid)
    own = configure("codec", spaces, changes={"network.multipliers": (1,), "network.patch": 1})
    assert code_grid(grid, own.network) == grid


def test_codes_pass_as_they_are_until_entries_are_worth_something() -> None:
    """In the first steps a decoder sees what the encoder gave; from then on entries of the codebook."""
    loop = toy.loop("codec:vq", CASES["image"])
    model, seen = loop.model, []
    model.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    for progress in (0, 500):
        list(model.losses(CASES["image"].batch(), Now(0, progress, 1000)))
    early, late = (model.quantiser.nearest(one) - one for one in seen)
    assert float(early.abs().max()) > 1e-3 and float(late.abs().max()) < 1e-5


def test_a_pull_is_as_long_as_was_asked() -> None:
    """Whatever the scale of the term: a share of the loss's own gradient, of each example, and nothing else."""
    made = torch.randn(5, 1, 8, 8, requires_grad=True)
    length = length_of(made, (made.square().mean((1, 2, 3)) * torch.arange(1, 6)).sum())
    rival = Rival(1, (8, 8), Network(width=8, depth=1, multipliers=(1, 2)))
    for scale in (1.0, 1e-3):
        game, unlike = rival.terms(made, torch.randn(5, 1, 8, 8))
        loss = pull(made, length, [(0.5, scale * game)])
        assert float(loss.detach()) == 0 and unlike is not None
        (gradient,) = torch.autograd.grad(loss, made)
        torch.testing.assert_close(gradient.flatten(1).norm(dim=1), 0.5 * length)


@pytest.mark.parametrize("name", ["codec", "codec:fsq", "codec:vq", "vae"])
def test_codes_cost_bits(name: str) -> None:
    """Of Gaussian codes more where they know more; of whole numbers always the same."""
    case = CASES["image"]
    model, batch = toy.build(name, case).eval(), case.batch()
    assert isinstance(model, Rates)
    with torch.no_grad():
        bits = model.rate(batch)
    assert bits.shape == (len(batch),) and torch.isfinite(bits).all() and bool((bits >= 0).all())
    if getattr(model, "token_count", 0):
        places = int(np.prod(model.code_shape[1:]))
        assert float(bits[0]) == pytest.approx(places * np.log2(model.token_count), rel=1e-6)


def test_use_of_a_codebook() -> None:
    found = codebook_use(np.array([0, 0, 1, 1, 5, 5]), 6)
    assert found["codebook_use"].value == 0.5 and found["perplexity"].value == pytest.approx(3)
    with pytest.raises(ValueError, match="0 to 4"):
        codebook_use(np.array([0, 5]), 5)
