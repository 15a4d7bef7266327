"""The contract, for every model file that is there in every Space that it accepts. A new file is found by itself."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES, Case
from torch import Tensor

from trilemma.batches import Arrays, Batch, Options, Request
from trilemma.errors import InputError
from trilemma.maths.losses import squared_gradient_norm
from trilemma.maths.noise import Noise
from trilemma.mixed import Mixed
from trilemma.models.contract import (
    Criticizes,
    Decodes,
    Denoises,
    Encodes,
    Fills,
    Inverts,
    Matches,
    Model,
    Now,
    Samples,
    Scores,
    Translates,
    Turn,
    find,
    known_models,
    model_files,
)
from trilemma.spaces import Categorical, Continuous, fit_continuous, masked
from trilemma.training.loop import Loop
from trilemma.training.run import Run

PAIRS = toy.accepted()


def having(*kinds: type, holes: bool = False) -> pytest.MarkDecorator:
    """Every pair whose model has these capabilities; with `holes`, in the Spaces whose toy data have masks."""
    pairs = [(n, CASES[c]) for n, c in PAIRS if all(issubclass(find(n)[0], kind) for kind in kinds)]
    pairs = [(n, c) for n, c in pairs if not holes or c.data.observed is not None or c.data.valid is not None]
    return pytest.mark.parametrize(("name", "case"), pairs, ids=[f"{n}-{c.name}" for n, c in pairs])


EVERY = having()

# To learn eight examples by heart, quickly: what is known to help a model with that, and what is then asked of it.
# To learn a toy batch by heart: at a gamma of 0.1 the generator of a GAN keeps one example of each label; two sets of a
# few examples have many maps between them, and what keeps what is where holds the game up.
EAGER = {
    "gan": {"gamma_end": 1.0},
    "stylegan": {"gamma_end": 1.0},
    "cut": {"contrast": 0.03, "gamma": 0.1},
    "cyclegan": {"cycle": 1.0, "gamma": 0.1},
}
# On grids; others, which are told what to make of each example: 80.
STEPS = {"diffusion": 150, "gan": 150, "stylegan": 150, "cyclegan": 120}
# Mean distance of samples to the nearest example, in units of the data's deviation; a codec draws each place by itself.
NEAREST = {"diffusion": 0.7, "codec": 0.8}
# Factor on a fresh model's distance: twelve guided steps overshoot, a GAN may learn half the tokens by heart.
CLOSER = {"diffusion": 1.05, "gan": 0.9, "stylegan": 0.9}
FOUND = {"diffusion": 6, "gan": 3, "stylegan": 3}  # examples that some sample comes closest to; others: half of them


def turn_losses(model: Model, batch: Batch, *, step: int = 0) -> list[float]:
    """The loss of every turn of one step, without taking it."""
    found = []
    for turn in model.losses(batch, Now(step, step * len(batch), 1000)):
        found.append(float(turn.loss.detach()) / turn.weight)
        assert turn.weight > 0
        assert all(not value.requires_grad for value in turn.logs.values()), "logs hold a graph"
    return found


@functools.cache
def trained(name: str, case_name: str) -> Loop:
    """A model that has learned one toy batch by heart."""
    case = CASES[case_name]
    config = toy.settings(name, case, **EAGER.get(name, {}))
    config.optimizer.batch = 32 if case.space.grid else 64
    config.optimizer.rate *= 2.5 if case.space.grid else 1.5
    loop = toy.loop(name, case, steps=STEPS.get(name, 80) if case.space.grid else 250, config=config)
    while loop.seen < loop.training.examples:
        loop.take_step()
    loop.model.eval()
    with torch.no_grad():
        loop.model.fit(case.data.batches(4), Noise(0, np.arange(1)))
    return loop


@torch.no_grad()
def sampled(model: Model, request: Request) -> Tensor:
    assert isinstance(model, Samples)
    return model.sample(request)


def weights_of(loop: Loop) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in loop.model.named_parameters()}


def counted(case: Case) -> Tensor:
    """1 for the embedded elements of the batch that count, (B, width, *grid)."""
    batch = case.batch()
    mask = masked(case.space, batch.observed, batch.valid)
    ones = torch.ones(len(batch), *case.space.shape) if mask is None else mask
    return case.space.widen(ones).float()


def distances(case: Case, samples: Tensor) -> Tensor:
    """(n, B) root mean squared differences of samples and examples, in units of the data's deviation."""
    one, two, mask = case.space.embed(samples), case.space.embed(case.batch().x), counted(case)
    squares = ((one.unsqueeze(1) - two.unsqueeze(0)) ** 2 * mask).flatten(2).sum(2)
    return (squares / mask.flatten(1).sum(1)).sqrt()


def error_of(case: Case, estimate: Tensor) -> float:
    """Root mean squared error of embedded estimates of the batch, over what counts; 1 is what the mean achieves."""
    mask = counted(case)
    wrong = ((estimate - case.space.embed(case.batch().x)) ** 2 * mask).sum() / mask.sum()
    return float(wrong.sqrt())


def energy_distance(case: Case, samples: Tensor) -> float:
    """How far samples are from the batch as distributions: 0 where they are equal (Szekely & Rizzo 2013)."""
    counts = counted(case).amax(0)
    one, two = ((case.space.embed(x) * counts).flatten(1).double() for x in (samples, case.batch().x))
    within = torch.cdist(one, one).sum() / (len(one) * (len(one) - 1))
    return float(2 * torch.cdist(one, two).mean() - within - torch.cdist(two, two).mean())


# --- the contract -----------------------------------------------------------------------------------------------------


def check_losses(name: str, case: Case) -> None:
    """Builds from its defaults at size xs; finite losses, at the start and with weights that are nowhere zero."""
    model = toy.build(name, case, seed=0).train()
    assert all(math.isfinite(loss) for step in (0, 1) for loss in turn_losses(model, case.batch(), step=step))
    toy.randomise(model)
    assert all(math.isfinite(loss) for step in (0, 1) for loss in turn_losses(model, case.batch(), step=step))


@EVERY
def test_finite_losses(name: str, case: Case) -> None:
    check_losses(name, case)


@pytest.mark.parametrize("shape", [(1, 2, 70), (3, 1), (1, 1, 9), (2, 3, 3, 17), (1, 33)], ids=str)
@pytest.mark.parametrize("name", model_files())
def test_grids_of_any_proportions(name: str, shape: tuple[int, ...]) -> None:
    """Long and narrow, a single place, odd sides: networks pad, crop and stop shrinking where nothing is left."""
    space = fit_continuous(np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32))
    if not isinstance(space, find(name)[0].accepts):
        pytest.skip("does not accept numbers")
    x, other = np.random.default_rng(1).normal(size=(2, 2, *shape)).astype(np.float32)
    case = (
        (toy.with_clip if getattr(find(name)[0].Config(), "clip", "") else toy.with_captions)(f"grid {shape}", shape)
        if find(name)[0].needs_captions
        else {
            "alone": Case(f"grid {shape}", {"x": space}, Arrays(x)),
            "paired": Case(f"pairs {shape}", {"x": space, "source": space}, Arrays(x, {"source": other})),
            "unpaired": Case(f"unpaired {shape}", {"x": space, "other": space}, Arrays(x, other=other)),
        }[find(name)[0].sets[0]]
    )
    check_losses(name, case)
    model = toy.build(name, case).eval()
    if isinstance(model, Samples):
        assert sampled(model, toy.request(case, 2)).shape == (2, *shape)


def check_turns(name: str, case: Case) -> None:
    """Groups are disjoint; a turn moves its own group, and nothing else."""
    loop = toy.loop(name, case)
    toy.randomise(loop.model)
    places = [id(weight) for weights in loop.groups.values() for weight in weights]
    assert len(places) == len(set(places)), "a weight is in two groups"
    owner = {id(weight): group for group, weights in loop.groups.items() for weight in weights}
    moves, move, before = [], loop._move, weights_of(loop)

    def watched(turns: list[Turn], logs: dict[str, float], now: Now) -> None:
        nonlocal before
        move(turns, logs, now)
        group = turns[0].group
        # Since the turn before: what `losses` itself did to weights counts too.
        moved = {n for n, p in loop.model.named_parameters() if not torch.equal(p, before[n])}
        before = weights_of(loop)
        mine = {n for n, p in loop.model.named_parameters() if owner.get(id(p)) == group}
        assert moved, f"turn {group} moved nothing"
        assert moved <= mine, f"turn {group} moved {sorted(moved - mine)}"
        moves.append(group)

    loop._move = watched  # type: ignore[method-assign]
    for _ in range(3):
        loop.take_step()
    assert set(moves) == set(loop.groups)


@EVERY
def test_a_turn_changes_only_its_group(name: str, case: Case) -> None:
    check_turns(name, case)


@having(holes=True)
def test_masked_elements_do_not_count(name: str, case: Case) -> None:
    check_masks(name, case)


def check_masks(name: str, case: Case) -> None:
    """Neither losses nor codes and scores see what is hidden; they do see the rest."""
    batch = case.batch()
    mask = masked(case.space, batch.observed, batch.valid)
    assert mask is not None
    hidden = mask < 0.5
    assert hidden.any()
    model = toy.build(name, case)
    toy.randomise(model)
    model.train()

    def altered(where: Tensor) -> Batch:
        x = batch.x.clone()
        if isinstance(case.space, Categorical):
            x = torch.where(where, (x + 2) % case.space.count, x)
        elif isinstance(case.space, Mixed):
            counts = torch.tensor(case.space.columns)
            other = torch.where(counts > 0, (x + 1) % counts.clamp(min=1), x + 50)
            x = torch.where(where, other, x)
        else:
            x = torch.where(where, x + 3, x)
        return replace(case.batch(), x=x)

    for step in (0, 1):
        assert turn_losses(model, altered(hidden), step=step) == turn_losses(model, case.batch(), step=step)
        assert turn_losses(model, altered(~hidden), step=step) != turn_losses(model, case.batch(), step=step)
    model.eval()
    for kind, verb in ((Encodes, "encode"), (Scores, "score"), (Criticizes, "criticize")):
        if isinstance(model, kind):
            torch.testing.assert_close(getattr(model, verb)(altered(hidden)), getattr(model, verb)(case.batch()))


# Volumes are slow, and learned as pictures are.
LEARNED = [(name, case) for name, case in PAIRS if case != "volume" or name in ("vae", "diffusion")]


@pytest.mark.parametrize(("name", "case"), [(n, CASES[c]) for n, c in LEARNED], ids=[f"{n}-{c}" for n, c in LEARNED])
def test_memorises_one_batch(name: str, case: Case) -> None:
    """Judged by what it makes, never by its loss."""
    model = trained(name, case.name).model
    if isinstance(model, Encodes) and isinstance(model, Decodes):
        batch = case.batch()
        with torch.no_grad():
            again = model.decode(model.encode(batch), Request(batch.noise, batch.raw, batch.present))
        assert error_of(case, case.space.embed(again)) < 0.4
    if isinstance(model, Samples):
        samples, fresh = (sampled(m, toy.request(case, 64)) for m in (model, toy.build(name, case).eval()))
        apart, before, near = energy_distance(case, samples), energy_distance(case, fresh), distances(case, samples)
        nearest, found = float(near.min(1).values.mean()), len(near.argmin(1).unique())
        message = f"distance {before:.2f} -> {apart:.2f}, nearest {nearest:.2f}, {found} of {toy.COUNT} examples found"
        # A fresh denoiser's samples are of the right mean and variance: there is little distance to lose.
        assert apart < CLOSER.get(name, 0.75) * before, message
        assert nearest < NEAREST.get(name, 0.75), message
        assert found >= FOUND.get(name, toy.COUNT // 2), message
        spread = float(case.space.embed(samples).std(0).mean() / case.space.embed(case.batch().x).std(0).mean())
        assert 0.4 < spread < 1.7, f"spread {spread:.2f}"
    elif not isinstance(model, Decodes):
        assert isinstance(model, Encodes)
        batch = case.batch()
        with torch.no_grad():
            codes = model.encode(batch)
            if isinstance(case.space, Continuous):
                x = batch.x + 0.1 * case.space.deviation.mean() * batch.noise.normal(*case.space.shape)
                batch = replace(batch, x=x)
            again = model.encode(batch)
        assert torch.equal(torch.cdist(again, codes).argmin(1), torch.arange(len(codes))), (
            "codes do not tell examples apart"
        )


def check_samples(name: str, case: Case, model: Model) -> None:
    """Shape, dtype and range of samples; a function of (seed, i) alone."""
    space = case.space
    x = sampled(model, toy.request(case, 7))
    assert x.shape == (7, *space.shape)
    assert x.dtype == space.dtype
    if isinstance(space, Categorical):
        assert int(x.min()) >= 0 and int(x.max()) < space.count
        extent = torch.tensor(1.0)
    elif isinstance(space, Mixed):
        for column, (count, gap) in enumerate(zip(space.columns, space.gaps, strict=True)):
            here = x[:, column]
            assert gap or not here.isnan().any()
            if count:
                assert set(here[~here.isnan()].tolist()) <= set(range(count))
        extent = 4 * space.deviation
    else:
        assert isinstance(space, Continuous)
        assert torch.isfinite(x).all()
        if space.low is not None:
            assert x.min() >= space.low and x.max() <= space.high
            assert torch.equal(x, x.round())  # this toy set's levels are whole numbers
        extent = 4 * space.deviation.reshape(-1, *[1] * len(space.grid))
    assert torch.equal(x.nan_to_num(-9), sampled(model, toy.request(case, 7)).nan_to_num(-9)), "not deterministic"
    other = sampled(model, toy.request(case, 7, seed=4))
    assert not torch.equal(x.nan_to_num(-9), other.nan_to_num(-9)), "the seed does not matter"
    for start, count in ((0, 3), (3, 4), (5, 1)):
        part = sampled(model, toy.request(case, count, start=start))
        whole = x[start : start + count]
        assert torch.equal(part.isnan(), whole.isnan())
        apart = ((part - whole).nan_to_num(0).abs() / extent).max()
        allowed = (
            1 / 255 if not (isinstance(space, Continuous) and space.step) else space.step / float(extent.min()) * 1.01
        )
        assert apart <= allowed, f"sample {start} depends on its batch by {float(apart):.2g} of the range"


@having(Samples)
def test_samples(name: str, case: Case) -> None:
    model = trained(name, case.name).model
    assert isinstance(model, Samples)
    check_samples(name, case, model)
    for options in (Options(), *(answer for question in model.choices() for answer in question)):
        assert model.calls(options) >= 1
        assert sampled(model, toy.request(case, 2, options=options)).shape == (2, *case.space.shape)


@EVERY
def test_state_round_trip(name: str, case: Case) -> None:
    """All that sampling and coding need is in the state: a model of other weights becomes the same by loading it."""
    model = trained(name, case.name).model
    other = toy.build(name, case, seed=99).eval()
    toy.randomise(other, seed=5)
    other.load_state_dict(model.state_dict())
    if isinstance(model, Samples):
        one, two = (sampled(m, toy.request(case, 4)).nan_to_num(-9) for m in (model, other))
        assert torch.equal(one, two)
    if isinstance(model, Encodes):
        assert torch.equal(model.encode(case.batch()), other.encode(case.batch()))  # type: ignore[attr-defined]


@EVERY
def test_what_only_training_needs_is_forgotten(name: str, case: Case) -> None:
    """Samples are as they were, and of what was held for the places of a batch nothing is left."""
    model = toy.build(name, case)
    turn_losses(model, case.batch())
    model.eval()
    before = sampled(model, toy.request(case, 2)).nan_to_num(-9) if isinstance(model, Samples) else None
    model.forget()
    held = dict(model.named_buffers())
    assert not any(held[one].any() for one in model.of_places(0, 1))
    if before is not None:
        assert torch.equal(before, sampled(model, toy.request(case, 2)).nan_to_num(-9))


def check_resume(name: str, case: Case, folder: Path) -> None:
    """Six steps are three steps, a state on disk, a fresh process's loop, and three steps: to the last bit."""

    def fresh() -> Loop:
        config = toy.settings(name, case)
        if hasattr(config, "network"):
            config.network.dropout = 0.2  # layers' own randomness must come back too
        config.optimizer.batch = 5  # the order of examples runs across epochs
        return toy.loop(name, case, steps=12, config=config)

    whole = fresh()
    for _ in range(6):
        whole.take_step()
    half = fresh()
    for _ in range(3):
        half.take_step()
    run = Run(folder)
    run.save_state("step-000000003", half.tensors(), half.facts())
    again = fresh()
    toy.randomise(again.model, seed=8)
    again.take_step()  # whatever this loop was, it becomes the saved one
    state = run.latest_state()
    assert state is not None
    again.load(*state)
    for _ in range(3):
        again.take_step()
    expected, found = whole.tensors(), again.tensors()
    assert expected.keys() == found.keys()
    different = [key for key in expected if not torch.equal(expected[key], found[key])]
    assert not different, f"resume is not exact in {different[:5]}"
    assert whole.facts() == again.facts()


@EVERY
def test_resume_is_exact(name: str, case: Case, tmp_path: Path) -> None:
    check_resume(name, case, tmp_path)


def exact_loop(name: str, case: Case, *, batch: int = 8, micro: int = 0, shard: bool = False) -> Loop:
    """Float64 and plain gradient descent: equal gradients give equal weights, and small ones no large steps."""
    config = toy.settings(name, case)
    config.optimizer.kind, config.optimizer.momentum, config.optimizer.rate = "sgd", 0.0, 1e-2
    config.optimizer.batch = batch
    loop = toy.loop(name, case, dtype="float64", config=config, micro=micro, shard=shard)
    if not shard:
        toy.randomise(loop.model)
    return loop


def check_same_step(start: dict[str, Tensor], one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    """Both moved from `start` by the same, to nine digits of the movement."""
    moved = False
    for name, weight in one.items():
        step = (weight - start[name]).abs().max()
        moved |= bool(step > 0)
        apart = (weight - two[name]).abs().max()
        assert apart <= 1e-9 * step + 1e-14, f"{name}: {float(apart):.2g} apart after a step of {float(step):.2g}"
    assert moved


def check_micro_batches(name: str, case: Case) -> None:
    whole, parts = exact_loop(name, case), exact_loop(name, case, micro=4)
    start, logs = weights_of(whole), []
    for _ in range(2):
        logs.append((whole.take_step(), parts.take_step()))
    check_same_step(start, weights_of(whole), weights_of(parts))
    for (key, one), two in zip(whole.model.named_buffers(), parts.model.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=f"buffer {key}")
    for before, after in logs:
        assert before == pytest.approx(after, rel=1e-9)


@EVERY
def test_two_times_four_is_eight(name: str, case: Case) -> None:
    if find(name)[0].couples_batch:
        pytest.skip("says that it couples its batch")
    check_micro_batches(name, case)


@pytest.mark.parametrize("name", [name for name in known_models() if ":" in name])
def test_presets_keep_the_contract(name: str, tmp_path: Path) -> None:
    """What the default of each file does in every Space, every other preset does on images (holes: on a series)."""
    case = toy.usual(name)
    check_losses(name, case)
    check_turns(name, case)
    check_resume(name, case, tmp_path)
    if not find(name)[0].couples_batch:
        check_micro_batches(name, case)
    # Others need data with levels, or with sources.
    if case.name == "image" and getattr(toy.settings(name, case), "likelihood", "gaussian") == "gaussian":
        check_masks(name, CASES["series"])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gan", {"prior": "uniform"}),
        ("gan", {"penalty": "none"}),
        ("gan", {"gamma": 0.0}),
        ("gan", {"augment": 1.0}),
        ("stylegan", {"play": "non-saturating", "penalty": "r1", "mixing": 0.9}),
        ("vae", {"free_bits": 0.1, "beta": 4.0}),
        ("vae", {"texture": 0.0}),
        ("codec", {"adversarial": 0.5, "similarity": 0.5, "critic_from": 0.0}),
        ("codec:vq", {"start": 0.0}),
        *(("diffusion", {"prediction": prediction}) for prediction in ("eps", "x0", "v", "velocity")),
        *(("diffusion", {"weight": weight}) for weight in ("edm", "snr", "simple", "min-snr", "velocity")),
        ("diffusion:ddpm", {"prediction": "v"}),
        ("diffusion:ddpm", {"variance": "large"}),
    ],
    ids=str,
)
def test_settings_train_and_sample(name: str, changes: dict) -> None:
    """Settings that no preset uses: finite losses that move the weights, finite samples."""
    case = CASES["image"]
    loop = toy.loop(name, case, config=toy.settings(name, case, **changes))
    before = weights_of(loop)
    for _ in range(3):
        assert all(math.isfinite(value) for value in loop.take_step().values())
    assert any(not torch.equal(p, before[n]) for n, p in loop.model.named_parameters())
    loop.model.eval()
    with torch.no_grad():
        loop.model.fit(case.data.batches(4), Noise(0, np.arange(1)))
    assert torch.isfinite(sampled(loop.model, toy.request(case))).all()


def test_a_penalty_in_bf16_is_the_one_in_fp32() -> None:
    """Its graph may run in bf16, its norm is summed in fp32: within 2 %."""
    case = CASES["image"]
    model = toy.build("gan", case)
    toy.randomise(model)
    batch, found = case.batch(), []
    for low in (False, True):
        x = case.space.embed(batch.x).requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            score = model.judge(x, batch.raw, batch.present)
            found.append(squared_gradient_norm(score, x).sum().detach())
    assert found[1].dtype == torch.float32
    assert float(found[1]) == pytest.approx(float(found[0]), rel=0.02)


def shared_pairs() -> list[tuple[str, str]]:
    """(model, case) for two processes: in all Spaces a loss is a sum over examples, as `micro` shows of every pair.

    What several processes add is to put turns and their weights together: each model once where all elements count,
    and once where some do not.
    """
    kinds = ("image", "series", "table", "pairs", "unpaired")
    only = {name for name, _ in PAIRS} - {name for name, case in PAIRS if case in kinds}  # tokens, captions
    rest = ("tokens", "captions", "impressions")
    return [(name, case) for name, case in PAIRS if case in kinds or (name in only and case in rest)]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """One pair of processes for all models; a batch of 7, which they cannot share evenly. So are those in shards."""
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {name for name, _ in shared_pairs()} == {name for name, _ in PAIRS}
    for name, case_name in shared_pairs() + toy.STEERED:
        loop = exact_loop(name, CASES[case_name], batch=7)
        start = weights_of(loop)
        for _ in range(2):
            loop.take_step()
        for rank in range(3 if (name, case_name) in toy.IN_SHARDS else 2):
            state = torch.load(tmp_path / f"{name}-{case_name}-{rank}.pt", weights_only=True)
            check_same_step(start, weights_of(loop), state)
            for key, buffer in loop.model.named_buffers():
                torch.testing.assert_close(buffer, state[key], msg=f"{name}: buffer {key}")


# --- what each capability promises ------------------------------------------------------------------------------------


@having(Encodes)
def test_encodes(name: str, case: Case) -> None:
    model, batch = trained(name, case.name).model, case.batch()
    assert isinstance(model, Encodes)
    with torch.no_grad():
        codes = model.encode(batch)
        assert codes.dim() == 2 and len(codes) == len(batch)
        assert torch.isfinite(codes).all()
        torch.testing.assert_close(model.encode(batch.part(2, 5)), codes[2:5], rtol=1e-4, atol=1e-5)
        assert torch.isfinite(model.encode(batch, random=True)).all()


@having(Decodes)
def test_decodes(name: str, case: Case) -> None:
    model = trained(name, case.name).model
    assert isinstance(model, Decodes)
    request = toy.request(case, 4)
    codes = Noise(1, np.arange(4)).normal(model.draw(toy.request(case, 4)).shape[1])
    with torch.no_grad():
        x = model.decode(codes, request)
        assert x.shape == (4, *case.space.shape) and x.dtype == case.space.dtype
        assert not torch.equal(x.nan_to_num(-9), model.decode(codes.flip(0), request).nan_to_num(-9)), (
            "codes do not matter"
        )
        # A sample is a decoded draw; of tokens, tables and series it is drawn again, around what is decoded.
        if isinstance(model, Samples):
            drawn = model.draw(request)
            assert drawn.shape == codes.shape
            again = toy.request(case, 4)
            samples, decoded = model.sample(again), model.decode(drawn, again)
            if isinstance(case.space, Continuous) and not case.space.in_time:
                torch.testing.assert_close(samples, decoded)
            else:
                apart = (case.space.embed(samples) - case.space.embed(decoded)).square().mean()
                far = (case.space.embed(samples) - case.space.embed(decoded.flip(0))).square().mean()
                assert apart < far


@having(Inverts)
def test_inverts(name: str, case: Case) -> None:
    """Of an example's noise, as many numbers as `embed` gives, the example is decoded; each by itself."""
    model, batch = trained(name, case.name).model, case.batch()
    assert isinstance(model, Inverts)

    def request(one: Batch) -> Request:
        return Request(one.noise, one.raw, one.present, Options(guidance=1.0, steps=24))

    with torch.no_grad():
        codes = model.invert(batch.x, request(batch))
        assert codes.shape == (len(batch), case.space.embed(batch.x)[0].numel()) and torch.isfinite(codes).all()
        assert model.draw(request(batch)).shape == codes.shape
        part = batch.part(2, 5)
        torch.testing.assert_close(model.invert(part.x, request(part)), codes[2:5], rtol=1e-3, atol=1e-4)
        again = model.decode(codes, request(batch))
        assert again.shape == batch.x.shape and again.dtype == case.space.dtype
        assert error_of(case, case.space.embed(again)) < 0.05


@having(Denoises)
def test_denoises(name: str, case: Case) -> None:
    """Without noise the estimate is the input: at once for a denoiser, up to what it learned for one with codes."""
    model, batch = trained(name, case.name).model, case.batch()
    assert isinstance(model, Denoises)
    clean = case.space.embed(batch.x) * counted(case)
    request = Request(batch.noise, batch.raw, batch.present)
    with torch.no_grad():
        estimate = model.denoise(clean, torch.full((len(batch),), 1e-3), request)
        assert estimate.shape == clean.shape
        assert error_of(case, estimate) < (0.4 if isinstance(model, Encodes) else 0.02)
        # At a level of 1 the noise is as large as the data: a model that knows its eight examples removes most of it.
        noisy = clean + batch.noise.normal(*clean.shape[1:])
        estimate = model.denoise(noisy, torch.ones(len(batch)), request)
    assert torch.isfinite(estimate).all()
    if not isinstance(model, Encodes):
        assert error_of(case, estimate) < 0.8 * error_of(case, noisy)


@having(Translates)
def test_translates(name: str, case: Case) -> None:
    """Of pairs that were learned by heart, each source gives its own partner; of two sets, each its own result."""
    model = trained(name, case.name).model
    assert isinstance(model, Translates)
    sources = case.data.conditions.get("source", case.data.other)
    assert model.can_translate() == (sources is not None)
    if sources is None:
        return
    count = len(sources)
    with torch.no_grad():
        made = model.translate(toy.request(case, count))
        near = distances(case, made)
        if toy.sets_of(case.spaces) == "paired":
            assert torch.equal(near.argmin(1), torch.arange(count)), "sources do not get their own partners"
        else:
            embedded = case.space.embed(made).flatten(1)
            apart = torch.cdist(embedded, embedded) + 1e9 * torch.eye(count)
            typical = case.space.embed(case.batch().x).flatten(1).std(0).norm()
            assert apart.min() > 0.1 * typical, "different sources give one result"
        request = toy.request(case, count)
        request.raw["source"] = made
        try:
            again = model.translate(request, back=True)
        except InputError as error:
            assert "one direction" in str(error)
        else:
            assert again.shape == (count, *case.spaces["other"].shape)


@having(Scores)
def test_scores(name: str, case: Case) -> None:
    """Data that were learned score higher than data far away."""
    model, batch = trained(name, case.name).model, case.batch().part(0, 4)
    assert isinstance(model, Scores)
    if isinstance(case.space, Categorical):
        far = (batch.x + 1 + batch.noise.integers(case.space.count - 1, *case.space.shape)) % case.space.count
    elif isinstance(case.space, Mixed):
        far = batch.x + 10 * case.space.deviation * (torch.tensor(case.space.columns) == 0)
    else:
        far = batch.x + 10 * case.space.deviation.reshape(-1, *[1] * len(case.space.grid))
    with torch.no_grad():
        near_score, far_score = model.score(batch), model.score(replace(batch.part(0, 4), x=far))
    assert near_score.shape == far_score.shape == (4,)
    assert torch.isfinite(near_score).all() and torch.isfinite(far_score).all()
    assert near_score.mean() > far_score.mean()


@having(Fills)
def test_fills(name: str, case: Case) -> None:
    """What is known stays bit for bit; what is not is drawn from it alone, by each example's own noise, and no gap."""
    config = toy.settings(name, case)
    if hasattr(config, "given"):
        config.given = 0.5
    model = toy.build(name, case, config).eval()
    toy.randomise(model)
    assert isinstance(model, Fills)
    batch = case.batch()
    known = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    batch = replace(batch, observed=known, valid=None)

    def filled(part: Batch, *, complete: bool = True) -> Tensor:
        request = Request(Noise(3, part.noise.index), part.raw, part.present)
        with torch.no_grad():
            return model.fill(part, request, complete=complete)

    x = filled(batch)
    assert x.shape == batch.x.shape and torch.isfinite(x[~known]).all()
    torch.testing.assert_close(x[known], batch.x[known].to(x.dtype), rtol=0, atol=0, equal_nan=True)
    other = batch.x.clone()
    other[~known] = batch.x.roll(1, 0)[~known].nan_to_num(1) if batch.x.is_floating_point() else 0
    torch.testing.assert_close(filled(replace(batch, x=other))[~known], x[~known])
    torch.testing.assert_close(filled(batch.part(2, 5)), x[2:5], rtol=1e-3, atol=1e-3, equal_nan=True)
    assert filled(batch, complete=False).shape == x.shape
    if hasattr(config, "given"):
        config.given = 0.0
        with pytest.raises(InputError, match="was not trained to fill in"):
            toy.build(name, case, config).fill(batch, toy.request(case, len(batch)), complete=True)  # type: ignore


@having(Matches)
def test_matches(name: str, case: Case) -> None:
    """Unit vectors of both sides; each example that was learned by heart is nearest to its own caption."""
    model, batch = trained(name, case.name).model, case.batch()
    assert isinstance(model, Matches)
    with torch.no_grad():
        seen, told = model.images(case.space.embed(batch.x)), model.texts(batch.raw["caption"])
        torch.testing.assert_close(seen.norm(dim=1), torch.ones(len(batch)))
        torch.testing.assert_close(told.norm(dim=1), torch.ones(len(batch)))
        torch.testing.assert_close(model.texts(batch.raw["caption"][2:5]), told[2:5], rtol=1e-4, atol=1e-5)
    same = (batch.raw["caption"] == batch.raw["caption"].transpose(0, 1)).all(2)
    here = batch.present["caption"]
    nearest = (seen @ told.T).masked_fill(~here, -2).argmax(1)
    assert bool(same[torch.arange(len(batch)), nearest][here].all()), "an example finds another one's caption"
    assert 1 < float(model.scale.detach()) < 100
    x = case.space.embed(batch.x).requires_grad_(True)
    (slope,) = torch.autograd.grad(model.images(x).sum(), x)
    assert torch.isfinite(slope).all() and (slope.flatten(1).norm(dim=1) > 0).all()


def test_a_clip_knows_whether_it_sees_noise() -> None:
    case = CASES["captions"]
    x, sigma = case.space.embed(case.batch().x), torch.full((toy.COUNT,), 2.0)
    aware = toy.build("clip:noise-aware", case)
    toy.randomise(aware)
    assert not torch.equal(aware.images(x, sigma), aware.images(x, sigma / 10))  # type: ignore[operator]
    torch.testing.assert_close(aware.images(x), aware.images(x, sigma * 1e-3))  # type: ignore[operator]
    with pytest.raises(InputError, match="noise-aware"):
        toy.build("clip", case).images(x, sigma)  # type: ignore[operator]
    with pytest.raises(InputError, match="whole batch"):
        toy.loop("clip", case, micro=4)


@having(Criticizes)
def test_criticizes(name: str, case: Case) -> None:
    model, batch = trained(name, case.name).model, case.batch()
    assert isinstance(model, Criticizes)
    with torch.no_grad():
        scores = model.criticize(batch)
        torch.testing.assert_close(model.criticize(batch.part(1, 3)), scores[1:3], rtol=1e-4, atol=1e-4)
    assert scores.shape == (len(batch),) and torch.isfinite(scores).all()


# --- a model that nobody has seen before ------------------------------------------------------------------------------

NEW_MODEL = '''
"""A Gaussian with one learned mean and deviation per element: the smallest model there is."""
from dataclasses import dataclass, field
import math
import torch
from torch import nn
from trilemma.batches import Options
from trilemma.config import Optimizer
from trilemma.models.contract import Model, Samples, Turn
from trilemma.spaces import Continuous, masked


@dataclass
class Config:
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(rate=1e-2))
    deviation: float = 0.0


class Bell(Model, Samples):
    Config = Config
    presets = {"wide": {"deviation": 1.0}}
    accepts = (Continuous,)

    def __init__(self, config, spaces, start=None):
        super().__init__()
        self.config, self.spaces = config, nn.ModuleDict(spaces)
        self.mean = nn.Parameter(torch.zeros(spaces["x"].shape))
        self.log_deviation = nn.Parameter(torch.full(spaces["x"].shape, config.deviation))

    @classmethod
    def adapt(cls, spaces, size, count):
        return {}

    def groups(self):
        return {"bell": list(self.parameters())}

    def losses(self, batch, now):
        x = self.spaces["x"].embed(batch.x)
        error = ((x - self.mean) / self.log_deviation.exp()) ** 2 / 2 + self.log_deviation
        yield Turn("bell", error.sum(), len(batch), {"error": error.sum().detach()})

    def fit(self, batches, noise):
        pass

    def choices(self):
        return []

    def calls(self, options):
        return 1

    def sample(self, request):
        noise = request.noise.normal(*self.spaces["x"].shape)
        return self.spaces["x"].decode(self.mean + self.log_deviation.exp() * noise)
'''


def test_a_new_model_is_one_file(tmp_path: Path) -> None:
    """A file named by its path is a model: nothing else has to be edited."""
    file = tmp_path / "bell.py"
    file.write_text(NEW_MODEL)
    name = str(file)
    model_class, preset = find(f"{name}:wide")
    assert model_class.__name__ == "Bell" and preset == "wide"
    case = CASES["image"]
    check_losses(name, case)
    check_turns(name, case)
    check_samples(name, case, toy.build(name, case))
    check_resume(name, case, tmp_path / "run")
    check_micro_batches(name, case)
    with pytest.raises(ValueError, match="Continuous"):
        toy.settings(name, CASES["tokens"])


def test_the_contract_finds_what_breaks_it(tmp_path: Path) -> None:
    """The checks can fail: a model that couples its batch, and one whose turn moves what is not its own."""
    coupled, foreign = tmp_path / "coupled.py", tmp_path / "foreign.py"
    coupled.write_text(NEW_MODEL.replace("error.sum(), len(batch)", "(error * x.mean()).sum(), len(batch)"))
    with pytest.raises(AssertionError, match="apart"):
        check_micro_batches(str(coupled), CASES["vector"])
    source = NEW_MODEL.replace('{"bell": list(self.parameters())}', '{"bell": [self.log_deviation]}')
    foreign.write_text(
        source.replace("        x = self.spaces", "        self.mean.data += 1\n        x = self.spaces", 1)
    )
    with pytest.raises(AssertionError, match="moved"):
        check_turns(str(foreign), CASES["vector"])
    forgetful = tmp_path / "forgetful.py"
    source = NEW_MODEL.replace(
        "        self.log_deviation = nn", "        self.count = 0\n        self.log_deviation = nn"
    )
    grows = "        self.count += 1\n        error = error * (1 + self.count / 10)\n        yield Turn("
    forgetful.write_text(source.replace("        yield Turn(", grows))
    with pytest.raises(AssertionError, match="resume is not exact"):
        check_resume(str(forgetful), CASES["vector"], tmp_path / "run")


def test_every_model_file_is_tested() -> None:
    assert {name for name, _ in PAIRS} == set(model_files())
    assert set(model_files()) >= {"autoencoder", "vae", "gan", "diffusion"}
