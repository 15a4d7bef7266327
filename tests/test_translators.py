"""What the translators are made of: the bridge's steps against a closed form, pools, patches, and their errors."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES
from safetensors.torch import load_file
from torch import Tensor

import trilemma as tl
from trilemma.batches import Arrays, Options, Request
from trilemma.errors import InputError
from trilemma.maths.losses import PLAYS
from trilemma.maths.noise import Noise
from trilemma.models.bridge import Bridge, energy_score
from trilemma.models.contract import Now, configure
from trilemma.models.cut import CUT
from trilemma.models.cyclegan import Pool
from trilemma.networks.augment import jitter
from trilemma.networks.layers import Network
from trilemma.networks.patchgan import PatchCritic, ResnetGenerator, critic_loss
from trilemma.networks.spade import SpadeGenerator
from trilemma.spaces import fit_continuous

ONE_WAY = [("bridge", "pairs"), ("pix2pix", "pairs"), ("cut", "unpaired")]


@pytest.mark.parametrize(("eta", "deviation"), [(1.0, 1.0), (0.5, 0.5)])
def test_the_bridge_reaches_the_law_of_the_data(eta: float, deviation: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of standard normal x the best estimate is linear; small steps lead to unit deviation, those of half the noise to
    half of it."""

    def best(self: Bridge, z: Tensor, t: Tensor, *rest: object) -> Tensor:
        t = t.reshape(-1, *[1] * (z.dim() - 1))
        return z * (1 - t) / ((1 - t) ** 2 + (t * self.config.noise) ** 2)

    monkeypatch.setattr(Bridge, "estimate", best)
    case = CASES["pairs"]
    model = toy.build("bridge", case, toy.settings("bridge", case, noise=0.7, start="noise"))
    with torch.no_grad():
        made = model.sample(toy.request(case, 40, options=Options(steps=150, eta=eta)))  # type: ignore[operator]
    assert float(case.space.embed(made).std()) == pytest.approx(deviation, abs=0.04)


def test_the_energy_score_is_least_for_true_draws() -> None:
    """Draws as wide as the truth beat draws that are narrower, wider, or all the mean."""
    noise = Noise(0, np.arange(400))
    x, a, b = (noise.normal(2, 8, 8) for _ in range(3))

    def score(width: float) -> float:
        return float(energy_score(width * a - x, width * b - x).mean())

    assert score(1.0) < min(score(0.0), score(0.5), score(1.6))


def test_a_pool_gives_back_old_results_by_place() -> None:
    """Once it is full half of what critics see is old; parts of a batch read and write what the whole does."""
    whole, parts = Pool(8, 4, (1, 2)), Pool(8, 4, (1, 2))
    place, old = torch.arange(4), 0
    for step in range(60):
        made = torch.full((4, 1, 2), float(step)) + place[:, None, None] / 10
        shown, slot = whole.exchange(made, place, Noise(0, step * 4 + np.arange(4)))
        halves = [parts.exchange(made[i], place[i], Noise(0, step * 4 + place[i].numpy())) for i in place.split(2)]
        assert torch.equal(shown, torch.cat([one for one, _ in halves]))
        if step < 2:
            assert torch.equal(shown, made), "an old result from a pool that is not full"
        old += int((shown != made).any(2).sum())
        torch.testing.assert_close(shown[:, 0, 0] % 1, place / 10, atol=1e-4, rtol=0)  # each place's own
        whole.keep(made, slot)
        for i, (_, own) in zip(place.split(2), halves, strict=True):
            parts.keep(made[i], own)
    assert torch.equal(whole.kept, parts.kept) and bool(whole.filled.all())
    assert 0.35 < old / (4 * 58) < 0.65
    assert set(whole.state_dict()) == {"kept", "filled"}


def test_a_pool_smaller_than_the_batch_and_none_at_all() -> None:
    place, noise = torch.arange(4), Noise(0, np.arange(4))
    made = torch.ones(4, 1, 2)
    small, none = Pool(2, 4, (1, 2)), Pool(0, 4, (1, 2))
    assert small.exchange(made, place, noise)[1].tolist() == [0, 1, -1, -1]
    assert none.exchange(made, place, noise)[1].tolist() == [-1] * 4
    for pool, slot in ((small, [1, 0, -1, -1]), (none, [-1] * 4)):
        pool.keep(made * torch.arange(4)[:, None, None], torch.tensor(slot))
    assert small.kept[:, 0, 0].tolist() == [1, 0] and small.filled.all() and len(none.kept) == 0
    # No look at a value, for which a GPU would have to be waited for: there is none on this device.
    Pool(8, 4, (1, 2)).to("meta").keep(made.to("meta"), place.to("meta"))


def test_final_weights_hold_no_results_of_training(tmp_path: Path) -> None:
    """A state has the pools, with which a longer run goes on; what others get has none."""
    x = np.random.default_rng(0).integers(0, 256, (2, 40, 8, 8), dtype=np.uint8)
    settings = {"training.previews": 0, "training.choose_samples": 0, "network.width": 8, "critic.width": 8}
    run = tl.train(
        x[0], x[1], model="cyclegan", size="xs", budget="128", out=tmp_path / "run", quiet=True,
        settings={**settings, "data.pairs": "none", "training.dtype": "float32"},
    )  # fmt: skip
    pools = ("pool_x", "pool_other")
    state, final = run.load_state("before-decay")[0], load_file(run.weights_file)
    assert all(bool(state[f"model.{pool}.filled"].any()) for pool in pools)
    assert not any(bool(final[f"{pool}.{held}"].any()) for pool in pools for held in ("kept", "filled"))


def test_a_critic_of_patches_sees_patches() -> None:
    """A change in one corner moves the scores near it, and none far away."""
    torch.manual_seed(0)
    critic = PatchCritic(3, (32, 32), Network(width=8, multipliers=(1, 2), depth=1, patch=2))
    x = torch.randn(2, 3, 32, 32)
    other = x.clone()
    other[:, :, :3, :3] += 1
    moved = (critic(x) - critic(other)).abs().reshape(2, 8, 8)
    assert (moved[:, 0, 0] > 1e-4).all() and (moved[:, 5:, :] == 0).all() and (moved[:, :, 5:] == 0).all()


def test_a_penalty_is_part_of_the_critic_s_loss() -> None:
    """The logs say what one turn pays; `factor` counts it for those turns that pay nothing."""
    torch.manual_seed(0)
    critic = PatchCritic(1, (8, 8), Network(width=4, multipliers=(1, 2), depth=1))
    real, fake = torch.randn(2, 3, 1, 8, 8)
    losses = [
        critic_loss(critic, PLAYS["relativistic"], real, fake, penalty=penalty, gamma=2.0, factor=factor)
        for penalty, factor in (("none", 1), ("r1", 1), ("r1r2", 1), ("r1r2", 3))
    ]
    plain, one, both, thrice = (float(loss.detach()) for loss, _, _ in losses)
    paid = float(losses[2][2]["penalty"])
    assert plain < one < both
    assert both - plain == pytest.approx(paid, rel=1e-5) and thrice - plain == pytest.approx(3 * paid, rel=1e-5)


def test_a_fresh_translator_changes_nothing() -> None:
    """Where x has as many channels as its source, the generator starts at "do nothing"; where not, it makes x's."""
    network = Network(width=8, multipliers=(1, 2), depth=2, patch=2)
    x, style = torch.randn(2, 3, 16, 15), torch.randn(2, 4)
    same = ResnetGenerator(3, 3, (16, 15), network, embedding=4)
    assert torch.equal(same(x, style), x)
    other = ResnetGenerator(3, 1, (16, 15), network, embedding=4)
    made = other(x, style)
    assert made.shape == (2, 1, 16, 15)
    shapes = [[one.shape for one in other.features(value, style)] for value in (x, made)]
    assert shapes[0] == shapes[1] and [shape[1] for shape in shapes[0]] == other.widths


def test_contrast_is_least_for_what_stays_where_it_is() -> None:
    case = CASES["unpaired"]
    model = toy.build("cut", case, toy.settings("cut", case, patches=20))
    assert isinstance(model, CUT)
    source = model.other.embed(case.batch().other)  # type: ignore[arg-type]
    style = model.coded(Noise(0, np.arange(len(source))))
    theirs = model.generate(source, style)[1]
    apart = [model.contrast(one, theirs, style, Noise(0, np.arange(len(source)))) for one in (source, source.flip(2))]
    assert (apart[0] < apart[1]).all()


@pytest.mark.parametrize(("name", "case"), ONE_WAY, ids=[name for name, _ in ONE_WAY])
def test_what_cannot_be_asked(name: str, case: str) -> None:
    model = toy.build(name, CASES[case])
    with pytest.raises(InputError, match="translate"):
        model.sample(Request(Noise(0, np.arange(2))))  # type: ignore[operator]
    with pytest.raises(InputError, match="one direction"):
        model.translate(toy.request(CASES[case]), back=True)  # type: ignore[operator]


def test_a_bridge_without_noise_is_none() -> None:
    with pytest.raises(InputError, match="noise=0: at least"):
        toy.build("bridge", CASES["pairs"], toy.settings("bridge", CASES["pairs"], noise=0.0))


def test_settings_that_cannot_be_are_told_by_name() -> None:
    for name, spaces, wrong in (
        ("bridge", CASES["pairs"].spaces, {"draws": (3, 0), "warp": (0, -1, math.inf)}),
        ("cut", CASES["unpaired"].spaces, {"projection": (0,), "patches": (0,), "temperature": (0, -0.1)}),
        ("cyclegan", CASES["unpaired"].spaces, {"pool": (-5,)}),
    ):
        for key, values in wrong.items():
            for value in values:
                with pytest.raises(InputError, match=f"setting model.{key}={value}"):
                    configure(name, spaces, changes={key: value})
    config = configure("bridge", CASES["pairs"].spaces, changes={"draws": 2.0})
    assert type(config.draws) is int  # as whole numbers of other settings


@pytest.mark.parametrize("name", ["cut", "cyclegan"])
def test_identity_is_of_x_as_somebody_would_hand_it_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator of the identity term sees raw x in the statistics of the sources, as `translate` will."""
    case = CASES["unpaired"]
    other = copy.deepcopy(case.space)  # as many channels
    other.mean += 1.0
    model = toy.build(name, dataclasses.replace(case, spaces={**case.spaces, "other": other}))
    batch, seen = case.batch(), list[Tensor]()
    batch.other = batch.x.roll(1, 0)
    generator = model.generator if name == "cut" else model.to_x
    features = generator.features

    def watched(x: Tensor, style: Tensor) -> list[Tensor]:
        seen.append(x.detach())
        return features(x, style)

    monkeypatch.setattr(generator, "features", watched)
    for _ in model.losses(batch, Now(0, 0, 100, 100)):
        pass
    want = other.embed(batch.x)
    assert any(torch.allclose(x.to(want.dtype), want) for x in seen)


def test_a_bridge_cannot_start_at_a_source_of_other_channels() -> None:
    case = CASES["pairs"]
    with pytest.raises(InputError, match="start=source"):
        toy.build("bridge", case, toy.settings("bridge", case, start="source"))


def test_what_is_added_to_the_source_begins_as_the_source() -> None:
    """A fresh `srgan` hands out its source in x's own units; where the channels differ, it makes x alone."""
    case = CASES["pairs"]
    spaces = copy.deepcopy(case.spaces)
    x = case.data.x[:, :1] * 3 + 7  # other units than the source's
    alike = dataclasses.replace(case, spaces={"x": fit_continuous(x), "source": spaces["source"]})
    alike.data = Arrays(x, case.data.conditions)
    model = toy.build("pix2pix:srgan", alike, toy.settings("pix2pix:srgan", alike, residual=True))
    with torch.no_grad():
        made = model.translate(toy.request(alike, 4))  # type: ignore[operator]
    source = torch.from_numpy(case.data.conditions["source"][:4])
    torch.testing.assert_close(made, source, atol=1e-4, rtol=1e-4)
    assert not toy.build("pix2pix", case, toy.settings("pix2pix", case, residual=True)).adds


def test_matching_compares_places_that_are_augmented_alike() -> None:
    """Of what is made just as x is, the critic's features do not differ, whatever the augmentation."""
    case = CASES["pairs"]
    model = toy.build("pix2pix", case, toy.settings("pix2pix", case, matching=1.0, augment=1.0))
    real = model.space.embed(case.batch().x)
    model.generate = lambda cond, noise: real.clone().requires_grad_()  # type: ignore[assignment, method-assign]
    turns = {turn.group: turn for turn in model.losses(case.batch(), Now(0, 0, 100, 100))}
    assert float(turns["generator"].logs["matching"]) == 0
    assert "matching" not in toy.build("pix2pix", case).presets["published"]


@pytest.mark.parametrize("grid", [(20,), (32, 13), (5, 8, 1)], ids=len)
def test_jitter_moves_whatever_lies_at_one_place_alike(grid: tuple[int, ...]) -> None:
    """By whole places, reflected at the border, by (seed, index) alone; values and classes stay what they are."""
    x = torch.arange(math.prod(grid), dtype=torch.float32).reshape(1, 1, *grid).expand(40, -1, *[-1] * len(grid))
    move = jitter(Noise(0, np.arange(40)), grid, 0.25)
    moved = move(x)
    assert torch.equal(move(torch.cat([-x, x % 3], 1)), torch.cat([-moved, moved % 3], 1)), "two things, two ways"
    steps = {tuple(one) for one in (moved[:, 0].flatten(1)[:, 0]).reshape(-1, 1).tolist()}
    assert len(steps) > 3, "everybody is moved alike"
    place, reach = grid[-1] // 2, round(grid[-1] / 4)  # far from the border: by at most a quarter
    along = moved.flatten(2)[..., : grid[-1]][:, 0, place] % grid[-1]
    assert (along - place).abs().max() == reach and set(along.tolist()) <= set(range(grid[-1]))
    assert torch.equal(moved[7:9], jitter(Noise(0, np.arange(7, 9)), grid, 0.25)(x[7:9]))
    assert jitter(Noise(0, np.arange(40)), grid, 0.0)(x) is x


@pytest.mark.parametrize("name", ["pix2pix", "bridge"])
def test_a_source_and_its_x_are_moved_together(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who knows what to make of a source makes no error under jitter either; in micro-batches the same."""
    case = CASES["pairs"]
    model = toy.build(name, case, toy.settings(name, case, jitter=0.25, optimizer__micro=4))
    seen = list[Tensor]()

    def partner(grid: Tensor) -> Tensor:
        seen.append(model.spaces["source"].decode(grid[:, :1]))  # type: ignore[operator]
        return model.space.embed(torch.cat([-seen[-1], 0.5 * seen[-1] + 1], 1)).requires_grad_()

    if name == "pix2pix":
        monkeypatch.setattr(model, "generate", lambda cond, noise: partner(cond.grid))
    else:
        monkeypatch.setattr(model, "estimate", lambda z, t, grid, vector, noise: partner(grid))
    *_, last = model.losses(case.batch(), Now(0, 0, 100, 100))
    assert float(last.logs["distance" if name == "pix2pix" else "error"]) < 1e-6
    given = case.batch().raw["source"]
    assert not torch.allclose(seen[0], given) and torch.equal(seen[0], seen[-1])
    assert all(float(x.min()) >= float(own.min()) - 1e-5 for x, own in zip(seen[0], given, strict=True))


@pytest.mark.parametrize("grid", [(20,), (32, 13), (32, 8, 8)], ids=len)
def test_a_map_is_heard_at_its_place(grid: tuple[int, ...]) -> None:
    """A change of the map in a corner changes the output there, and less at the far end; the code changes it, too."""
    torch.manual_seed(0)
    network = Network(width=16, multipliers=(1, 2), depth=1, patch=2)
    made = SpadeGenerator(3, 2, grid, network, embedding=4)
    toy.randomise(made)
    x, code = torch.zeros(1, 3, *grid), torch.zeros(1, 4)
    x[:, 0] = 1.0
    other = x.clone()
    corner = (slice(None), slice(None), *[slice(0, 3)] * len(grid))
    other[corner] = other[corner].flip(1)
    with torch.no_grad():
        first, second, coded = made(x, code), made(other, code), made(x, code + 1)
    assert first.shape == (1, 2, *grid)
    apart = (first - second).abs()
    assert float(apart[corner].mean()) > 1.5 * float(apart[:, :, -4:].mean()) > 0
    assert not torch.equal(coded, first)
