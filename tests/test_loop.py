"""The loop: its clock, averages and health, what it does when numbers break, and runs that survive anything."""

from __future__ import annotations

import copy
import errno
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import contract_cases as toy
import golden_losses
import numpy as np
import pytest
import torch
from contract_cases import CASES
from safetensors.torch import load_file
from torch import nn

import trilemma as tl
from trilemma.batches import Arrays
from trilemma.config import Optimizer, Training, assign, parse_value
from trilemma.errors import InputError
from trilemma.maths.losses import gaussian_nll
from trilemma.maths.mixtures import gaussians, k_means
from trilemma.modalities.door import open_data
from trilemma.models.contract import Model, Turn, configure, find
from trilemma.networks.codec import fit_mixture
from trilemma.networks.layers import LogScale
from trilemma.networks.mixture import Mixture
from trilemma.spaces import Continuous
from trilemma.training import run as run_files
from trilemma.training.average import WIDEST, Averages, exponent, usual
from trilemma.training.choose import choose
from trilemma.training.engine import Engine
from trilemma.training.health import WORDS, Health
from trilemma.training.loop import MEMORY, MOST_ROLLBACKS, SPIKE, Loop
from trilemma.training.optimizers import KINDS, make, rate_factor
from trilemma.training.plan import (
    Clock,
    _rates,
    _set_aside,
    _smaller_batches,
    choose_size,
)
from trilemma.training.preview import film
from trilemma.training.probe import Probe, compile_verdict, dtype_verdict, threads_verdict
from trilemma.training.restore import build, restore
from trilemma.training.run import Run, branch_state, claimed, write_json, write_tensors, write_text
from trilemma.training.sampling import Sampler, label_frequencies

# --- the clock --------------------------------------------------------------------------------------------------------


def test_rate_warms_up_stays_and_decays_to_zero() -> None:
    config = Optimizer(warm_up=1000, stay=0.5, batch=100)
    curve = [rate_factor(config, seen, 100_000) for seen in range(0, 100_000, 100)]
    assert curve[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert set(curve[10:501]) == {1.0}
    falling = np.diff(curve[501:])
    assert (falling < 0).all() and np.ptp(falling) < 1e-12  # linear
    assert curve[750] == pytest.approx(0.5)
    assert 0 < curve[-1] < 0.005 and rate_factor(config, 100_000, 100_000) == 0


def test_warm_up_is_at_most_a_twentieth_of_the_budget() -> None:
    config = Optimizer(warm_up=20_000, batch=100)
    assert rate_factor(config, 400, 10_000) == 1.0 and rate_factor(config, 300, 10_000) == pytest.approx(0.8)
    assert rate_factor(Optimizer(warm_up=0), 0, 10_000) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_optimizers_descend(kind: str) -> None:
    weight = nn.Parameter(torch.tensor([[3.0, -2.0]]))
    optimizer = make(Optimizer(kind=kind, rate=0.05), [weight])
    for _ in range(200):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.abs().max() < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_learned_deviations_come_down_faster_than_weights(kind: str) -> None:
    """An errors' deviation of e^-3 is reached in the steps of a short training, and decay does not pull on it."""
    scale, weight = LogScale(torch.zeros(2)), nn.Parameter(torch.zeros(2, 2))
    optimizer = make(Optimizer(kind=kind, rate=2e-3, weight_decay=0.1), [scale, weight])
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert rates == {id(scale): (2e-2, 0.0), id(weight): (2e-3, 0.1)}
    for _ in range(300):
        optimizer.zero_grad()
        error = torch.full((2,), math.exp(-3.0))
        (gaussian_nll(torch.zeros(2), error, scale).sum() + (weight + 3).abs().sum()).backward()
        optimizer.step()
    if kind.startswith("adam"):
        assert (scale + 3).abs().max() < 0.2 and weight.max() > -0.7
    copied = copy.deepcopy(nn.ParameterList([scale]))[0]
    assert isinstance(copied, LogScale) and torch.equal(copied, scale)


# --- power averages ---------------------------------------------------------------------------------------------------


def test_optimizers_do_without_the_compiler() -> None:
    """Its import takes longer than many a first step. Steps without it are the same, bit by bit."""
    code = """
import sys
import torch
from torch import nn
from trilemma.config import Optimizer
from trilemma.training import optimizers

def trained(step, kind):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizers.light()
    optimizer = optimizers.make(Optimizer(kind=kind), list(layers.parameters()))
    for _ in range(5):
        layers(torch.randn(8, 3)).square().sum().backward()
        step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    optimizer.load_state_dict(optimizer.state_dict())
    return torch.cat([p.detach().flatten() for p in layers.parameters()])

ours = {kind: trained(optimizers.step, kind) for kind in optimizers.KINDS}
assert "torch._dynamo" not in sys.modules
called = []
layer = nn.Linear(2, 2)
hooked = optimizers.make(Optimizer(), list(layer.parameters()))
hooked.register_step_post_hook(lambda *_: called.append(1))
layer(torch.ones(1, 2)).sum().backward()
optimizers.step(hooked)
assert called
for kind, weights in ours.items():
    assert torch.equal(weights, trained(lambda optimizer: optimizer.step(), kind)), kind
assert "torch._dynamo" in sys.modules
assert torch.equal(trained(optimizers.step, "adam"), ours["adam"])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("deviation", [0.05, 0.10, 0.16, 0.25])
def test_exponent_gives_the_asked_deviation(deviation: float) -> None:
    """Mean and variance of the density (g + 1) t^g on [0, 1] in closed form."""
    g = exponent(deviation)
    mean, second = (g + 1) / (g + 2), (g + 1) / (g + 3)
    assert math.sqrt(second - mean**2) == pytest.approx(deviation, rel=1e-9)


def test_exponents_of_the_paper() -> None:
    """Karras et al. 2024: relative deviations 5 % and 10 % are gamma 16.97 and 6.94."""
    assert exponent(0.05) == pytest.approx(16.97, abs=0.01)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.01)


@pytest.mark.parametrize("every", [1, 4])
def test_averages_are_weighted_sums_of_the_trajectory(every: int) -> None:
    """Step k of T weighs the integral of (g + 1) t^g over its share of [0, 1]: no half-life, no bias at the start."""
    generator = torch.Generator().manual_seed(0)
    model, steps = nn.Linear(3, 2).double(), 60
    averages, path = Averages(model, (0.05, 0.16)), []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=generator, dtype=torch.float64))
        path.append(model.weight.detach().clone())
        if step % every == 0:
            averages.update(model, step, every)
    own = model.weight.detach().clone()
    for key, g in averages.exponents.items():
        ends = torch.arange(0, steps + 1, every, dtype=torch.float64) / steps
        weights = ends[1:] ** (g + 1) - ends[:-1] ** (g + 1)
        assert float(weights.sum()) == pytest.approx(1)
        expected = sum(w * path[(k + 1) * every - 1] for k, w in enumerate(weights))
        with averages.applied(model, key):
            torch.testing.assert_close(model.weight.detach(), expected)
        assert torch.equal(model.weight, own), "the model did not get its own weights back"
        # And the weights are those of t^g: their ratio at two places tells the exponent.
        measured = math.log(weights[-1] / weights[len(weights) // 2]) / math.log(ends[-1] / ends[len(weights) // 2 + 1])
        assert measured == pytest.approx(g, rel=0.2)


def test_which_averages_there_can_be() -> None:
    """No t^gamma is wider than its limit, the uniform average; two of one name would be one."""
    for deviations in ((0.31,), (0.35, 0.1), (0.051, 0.049), (0.0,), (-0.1,)):
        with pytest.raises(InputError, match=r"training\.averages"):
            Averages(nn.Linear(2, 2), deviations)
    assert exponent(WIDEST) > 0
    assert usual((0.05, 0.10, 0.16), 0.16) == "0.16" and usual((0.05, 0.2), 0.1) == "0.05" and usual((), 0.1) is None


def test_averages_round_trip() -> None:
    model = nn.Linear(2, 2)
    one, two = Averages(model, (0.1,)), Averages(nn.Linear(2, 2), (0.1,))
    two.load({name: tensor.clone() for name, tensor in one.state().items()})
    assert all(torch.equal(a, b) for a, b in zip(one.state().values(), two.state().values(), strict=True))


# --- numbers that break -----------------------------------------------------------------------------------------------


@dataclass
class FragileConfig:
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(kind="sgd", rate=0.1, momentum=0.0, batch=4, warm_up=0)
    )


class Fragile(Model):
    """A point that walks to the data; at the steps `bad` its loss, or only its gradient, is not finite."""

    Config = FragileConfig
    accepts = (Continuous,)

    def __init__(self, bad: Callable[[int], bool], *, gradient_only: bool = False):
        super().__init__()
        self.spaces = nn.ModuleDict()
        self.place, self.bad, self.gradient_only = nn.Parameter(torch.zeros(3)), bad, gradient_only

    @classmethod
    def adapt(cls, spaces: Any, size: str, count: int) -> dict[str, Any]:
        return {}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [self.place]}

    def losses(self, batch: Any, now: Any) -> Iterator[Turn]:
        loss = (batch.x - self.place).square().sum()
        if self.bad(now.step):
            # The root's slope at 0 is infinite though its value is 0.
            loss = loss + (self.place * 0).sum().sqrt() if self.gradient_only else loss * math.nan
        yield Turn("model", loss, len(batch), {"error": loss.detach()})

    def fit(self, batches: Any, noise: Any) -> None:
        pass


def fragile_loop(bad: Callable[[int], bool], *, steps: int = 20, **kind: Any) -> Loop:
    data = Arrays(np.random.default_rng(0).normal(2, 1, size=(16, 3)).astype(np.float32))
    training = Training(examples=4 * steps, averages=(0.1,), average_every=1, save_every=2)
    engine = Engine(dtype="float32", device="cpu")
    optimizer = FragileConfig().optimizer
    return Loop(Fragile(bad, **kind), data, optimizer, training, engine, seed=0)


@pytest.mark.parametrize("gradient_only", [False, True])
def test_non_finite_rolls_back_and_goes_on(tmp_path: Path, gradient_only: bool) -> None:
    """Back to the last good state, past the bad examples, at half the rate; written down before it goes on."""
    run, before, after = Run(tmp_path), [], []
    loop = fragile_loop(lambda step: step == 7, gradient_only=gradient_only)
    take, back = loop.take_step, loop.roll_back

    def watched_back(*arguments: Any) -> None:
        before.append((loop.seen, loop.step, loop.model.place.detach().clone()))
        back(*arguments)
        state = run.latest_state()
        assert state is not None
        after.append((loop.seen, loop.step, loop.model.place.detach().clone(), run.stats(), state))

    rates = {}

    def watched_take() -> dict[str, float]:
        logs = take()
        rates[loop.step] = loop.optimizers["model"].param_groups[0]["lr"]
        return logs

    saved = {}
    save = run.save_state

    def watched_save(name: str, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        saved[facts["step"]] = tensors["model.place"].clone()
        save(name, tensors, facts)

    run.save_state = watched_save  # type: ignore[method-assign]
    loop.roll_back, loop.take_step = watched_back, watched_take  # type: ignore[method-assign]
    loop.go(run)
    assert len(before) == 1 and loop.rollbacks == 1 and loop.seen == 80
    assert before[0][:2] == (28, 7) and after[0][:2] == (32, 8), "the clock goes on past the bad examples"
    assert torch.equal(after[0][2], saved[6]) and not torch.equal(after[0][2], before[0][2])
    events = [row for row in after[0][3] if row.get("event") == "non-finite"]
    assert len(events) == 1 and "rolled back" in events[0]["action"], "the event is written before going on"
    state = after[0][4]
    assert state[1]["step"] == 8 and state[1]["rollbacks"] == 1, "a kill now resumes behind the bad examples"
    assert rates[7] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(0.05)
    assert torch.isfinite(loop.model.place).all()
    assert loop.health.counts == {"non-finite": 1}


def test_three_rollbacks_are_enough(tmp_path: Path) -> None:
    run = Run(tmp_path)
    loop = fragile_loop(lambda step: step >= 5)
    with pytest.raises(InputError, match=r"optimizer\.rate") as error:
        loop.go(run)
    assert "non-finite" in str(error.value)
    events = [row for row in run.stats() if row.get("event") == "non-finite"]
    assert [row["action"].split()[0] for row in events] == ["rolled"] * MOST_ROLLBACKS + ["stopped"]
    state = run.latest_state()
    assert state is not None and all(torch.isfinite(t).all() for t in state[0].values() if t.is_floating_point())


def test_infinite_weights_are_not_saved(tmp_path: Path) -> None:
    run, loop = Run(tmp_path), fragile_loop(lambda step: False)
    loop.take_step()
    loop.save(run)
    loop.take_step()
    loop.model.place.data[0] = math.inf
    loop.save(run)
    assert run.states() == ["step-000000001"]


def test_clipping_bounds_the_step() -> None:
    one, two = fragile_loop(lambda step: False), fragile_loop(lambda step: False)
    two.config.clip = 0.5
    before = one.model.place.detach().clone()
    one.take_step(), two.take_step()
    free, clipped = (float((loop.model.place - before).detach().norm()) for loop in (one, two))
    assert free > clipped and clipped == pytest.approx(0.1 * 0.5, rel=1e-4)


class Spiky(Fragile):
    """At the steps `bad` the loss is finite and a million million times too large."""

    def losses(self, batch: Any, now: Any) -> Iterator[Turn]:
        loss = (batch.x - self.place).square().sum() * (1e12 if self.bad(now.step) else 1.0)
        yield Turn("model", loss, len(batch), {"error": loss.detach()})


def test_one_wild_gradient_does_not_undo_a_training() -> None:
    """It is cut to ten usual ones; what is usual follows lasting changes only, and is kept with the state."""
    loop, calm = (fragile_loop(lambda step: False, steps=100) for _ in range(2))
    loop.model = Spiky(lambda step: step == 12).to(loop.engine.device)
    loop = Loop(loop.model, loop.data, loop.config, loop.training, loop.engine, seed=0)
    for _ in range(12):
        loop.take_step(), calm.take_step()
    assert torch.equal(loop.model.place, calm.model.place), "nothing is cut in a calm training"
    usual, before = loop.usual["model"], loop.model.place.detach().clone()
    facts = json.loads(json.dumps(loop.facts()))
    loop.take_step()
    moved = float((loop.model.place - before).detach().norm())
    assert moved == pytest.approx(0.1 * SPIKE * usual, rel=1e-4)
    assert usual < loop.usual["model"] <= usual * SPIKE ** max(MEMORY, 1 / 13) * 1.0001
    again = fragile_loop(lambda step: False)
    again.load({k: t.clone() for k, t in calm.tensors().items()}, facts)
    assert again.usual == {"model": usual}
    for _ in range(400):
        longest = loop._longest("model", 1e6 * usual)
    assert longest > 1e6 * usual, "a new length that stays is no spike"


def test_mirroring_is_a_fair_coin_of_its_own() -> None:
    """Half of the examples, chosen by (seed, place) alone, and not by a number that the model draws too."""
    x = np.tile(np.arange(4, dtype=np.float32), (500, 1, 1))
    loop = fragile_loop(lambda step: False)
    loop.data, loop.config.batch, loop.training.flip = Arrays(x, {"source": 10 * x, "label": x[:, :, 0]}), 500, True
    batch = loop.batch()
    assert torch.equal(batch.raw["source"], 10 * batch.x)  # partners stay partners
    assert torch.equal(batch.raw["label"], torch.from_numpy(x[:, :, 0]))
    flipped = batch.x[:, 0, 0] == 3
    assert torch.equal(batch.x[flipped], torch.from_numpy(x[:1]).flip(-1).expand(int(flipped.sum()), -1, -1))
    assert 200 < int(flipped.sum()) < 300
    for first in (batch.part(0, 500).noise.uniform() < 0.5, batch.part(0, 500).noise.normal() < 0):
        agree = float((first == flipped).float().mean())
        assert 0.4 < agree < 0.6


# --- health -----------------------------------------------------------------------------------------------------------


def kinds_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def test_health_of_samples() -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(100, 30, size=(200, 1, 6, 6))
    fine = generator.normal(90, 25, size=(64, 1, 6, 6))
    constant = np.full((64, 1, 6, 6), 17.0) + generator.normal(0, 0.01, size=(64, 1, 6, 6))
    collapsed = real[:1] + generator.normal(0, 3, size=(64, 1, 6, 6))
    assert Health().of_samples(fine, real) == []
    assert kinds_of(Health().of_samples(constant, real)) == ["constant"]
    assert kinds_of(Health().of_samples(collapsed, real)) == ["collapsed"]
    assert kinds_of(Health().of_samples(fine * np.nan, real)) == ["non-finite"]
    assert "mode collapse" in Health().of_samples(collapsed, real)[0]["words"]


def test_health_tells_each_trouble_once_while_it_lasts() -> None:
    generator = np.random.default_rng(1)
    real = generator.normal(size=(100, 4))
    bad, health = np.zeros((64, 4)), Health()
    told = [kinds_of(health.of_samples(x, real)) for x in (bad, bad, real, bad)]
    assert told == [["constant"], [], [], ["constant"]]
    assert health.counts == {"constant": 2}


def gan_logs(gap: float, penalty: float = 0.0) -> dict[str, float]:
    return {"critic_real": gap / 2, "critic_fake": -gap / 2, "penalty": penalty}


def test_health_of_critics() -> None:
    """Overpowered: a large gap for a long time, and no penalty that holds it. A short or a held one is no trouble."""
    lasting, short, held, healthy = Health(), Health(), Health(), Health()
    assert [kinds_of(lasting.of_logs(gan_logs(15), 0.5)) for _ in range(20)] == [[]] * 19 + [["critic-overpowered"]]
    assert not any(short.of_logs(gan_logs(15 if k == 3 else 1), 0.5) for k in range(60))
    assert not any(held.of_logs(gan_logs(15, penalty=0.5), 0.5) for k in range(60))
    assert not any(healthy.of_logs(gan_logs(1.5), k / 60) for k in range(60))
    assert healthy.counts == {}


def test_health_of_codes() -> None:
    """Posterior collapse counts after the warm-up of beta only."""
    assert Health().of_logs({"nll": 5.0, "kl": 0.001}, 0.1) == []
    assert kinds_of(Health().of_logs({"nll": 5.0, "kl": 0.001}, 0.5)) == ["posterior-collapsed"]
    assert Health().of_logs({"nll": 5.0, "kl": 9.0}, 0.5) == []
    assert Health().of_logs({"error": 1.0}, 0.5) == []


def test_health_of_denoisers() -> None:
    """Dead: no better than an answer that does not look at its input, after the first fifth of the budget."""
    logs = {"error": 0.999, "error_of_zero": 1.0}
    assert Health().of_logs(logs, 0.1) == []
    assert kinds_of(Health().of_logs(logs, 0.5)) == ["dead"]
    assert Health().of_logs({**logs, "error": 0.7}, 0.5) == []


def test_health_has_one_event_for_one_trouble() -> None:
    """A figure that wobbles about its limit is one trouble: it ends only where it is clearly over."""
    health, generator = Health(), np.random.default_rng(2)
    real = generator.normal(size=(400, 6))

    def spread_of(share: float) -> list[str]:
        return kinds_of(health.of_samples(share * generator.normal(size=(400, 6)), real))

    assert [spread_of(share) for share in (0.35, 0.45, 0.35, 0.45)] == [["collapsed"], [], [], []]
    assert [spread_of(share) for share in (0.6, 0.45, 0.35)] == [[], [], ["collapsed"]]
    critic = Health()
    told = [critic.of_logs(gan_logs(9.5 if k % 40 < 20 else 6.5), 0.5) for k in range(400)]
    assert sum(map(len, told)) == 1 and critic.counts == {"critic-overpowered": 1}


def test_health_round_trip() -> None:
    one = Health()
    for _ in range(15):
        one.of_logs(gan_logs(15), 0.5)
    one.of_samples(np.zeros((8, 2)), np.random.default_rng(0).normal(size=(9, 2)))
    two = Health()
    two.of_logs(gan_logs(3), 0.5)
    two.load(json.loads(json.dumps(one.state())))
    assert two.state() == one.state()
    assert [kinds_of(two.of_logs(gan_logs(15), 0.5)) for _ in range(5)] == [[]] * 4 + [["critic-overpowered"]]
    assert set(WORDS) >= set(two.counts)


# --- the run folder ---------------------------------------------------------------------------------------------------


def full_disk(*arguments: Any, **settings: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, weights, run = tmp_path / "a.json", tmp_path / "w.safetensors", Run(tmp_path / "run")
    write_json(text, {"good": 1})
    write_tensors(weights, {"w": torch.ones(3)})
    run.save_state("step-000000001", {"w": torch.ones(3)}, {"step": 1})
    for broken in ("os.fsync", "os.replace", "save_file"):
        with monkeypatch.context() as patched:
            patched.setattr(run_files if broken == "save_file" else run_files.os, broken.split(".")[-1], full_disk)
            for attempt in (
                lambda: write_json(text, {"good": 2}),
                lambda: write_tensors(weights, {"w": torch.zeros(3)}),
                lambda: run.save_state("step-000000002", {"w": torch.zeros(3)}, {"step": 2}),
            ):
                if broken == "save_file" and attempt.__code__.co_names[0] == "write_json":
                    continue
                with pytest.raises(InputError, match="disk is full"):
                    attempt()
    assert json.loads(text.read_text()) == {"good": 1}
    assert torch.equal(load_file(weights)["w"], torch.ones(3))
    assert run.states() == ["step-000000001"]
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".part")], "half-written files are left"


def test_a_forbidden_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any, **settings: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(run_files.os, "replace", forbidden)
    with pytest.raises(InputError, match=r"no permission to write .*a\.txt"):
        write_text(tmp_path / "a.txt", "x")


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    """Whatever their order and layout in memory: runs are compared by the bytes of their weights."""
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    write_tensors(tmp_path / "1", {"a": x, "b": torch.ones(2)})
    write_tensors(tmp_path / "2", {"b": torch.ones(2), "a": x.contiguous(memory_format=torch.channels_last)})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "no facts", "empty", "other bytes"])
def test_a_torn_state_is_passed_over(tmp_path: Path, damage: str) -> None:
    run = Run(tmp_path)
    for step in (1, 2):
        run.save_state(f"step-{step:09d}", {"w": torch.full((50,), float(step))}, {"step": step})
    newest = tmp_path / "state" / "step-000000002"
    file = newest / "tensors.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "no facts":
        (newest / "facts.json").unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        (newest / "facts.json").write_text('{"step": ')
    state = run.latest_state()
    assert state is not None and state[1]["step"] == 1 and torch.equal(state[0]["w"], torch.ones(50))


def test_only_the_newest_states_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (9, 10, 100):
        run.save_state(f"step-{step:09d}", {"w": torch.ones(1)}, {"step": step})
    run.save_state("before-decay", {"w": torch.ones(1)}, {"step": 5})
    run.drop_states(keep=2)
    assert run.states() == ["before-decay", "step-000000010", "step-000000100"]


def test_a_torn_last_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log({"seen": 1})
    run.log({"seen": 2, "event": "collapsed"})
    run.log({"seen": 3})
    with open(run.stats_file, "a") as file:
        file.write('{"seen": 4, "lo')
    assert [row["seen"] for row in run.stats()] == [1, 2, 3]
    run.forget_after(1)
    assert run.stats() == [{"seen": 1}, {"seen": 2, "event": "collapsed"}]


# --- whole trainings --------------------------------------------------------------------------------------------------

# Nothing here asks what is fast on this machine: the same numbers everywhere.
PLAIN = {"training.threads": 1, "training.dtype": "float32", "training.previews": 2, "training.preview_samples": 8}


def moons(count: int = 240, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(0)
    angle = generator.uniform(0, np.pi, count)
    side = generator.integers(0, 2, count)
    x = np.stack([np.cos(angle) * (1 - 2 * side) + side, np.sin(angle) * (1 - 2 * side) + side / 2], 1)
    return (x + generator.normal(0, 0.05, x.shape) + shift).astype(np.float32)


def pictures(count: int = 120) -> np.ndarray:
    """(count, 8, 8) uint8: a bright bar at a random place and angle."""
    generator = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    slope, place = generator.normal(size=(2, count, 1, 1))
    return (255 * np.exp(-((rows - 4 + slope * (columns - 4) + place) ** 2) / 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished VAE on points, 6,000 examples."""
    out = tmp_path_factory.mktemp("finished") / "run"
    tl.train(moons(), model="vae", out=out, budget="6k", size="xs", settings=dict(PLAIN), quiet=True)
    return out


def test_a_run_has_everything(finished: Path) -> None:
    run = Run.at(finished)
    assert run.finished
    config = run.config()
    assert config["training"]["examples"] >= 6000 and config["training"]["dtype"] == "float32"
    rows = run.stats()
    losses = [row["nll"] for row in rows if "nll" in row]
    assert len(losses) > 10 and np.mean(losses[-5:]) < np.mean(losses[:5])
    assert rows[-1]["event"] == "end" and rows[0]["event"] == "start"
    assert any("kernel@random" in row for row in rows)
    assert list(run.samples_folder.glob("*.png")) and (run.samples_folder / "film.gif").is_file()
    assert "vae" in (finished / "card.md").read_text()
    assert run.states() == ["before-decay"], "work in progress is gone, the state before the decay stays"
    assert set(run.choices()) >= {"average", "options", "seconds", "events"}
    assert not list(finished.rglob("*.part"))
    samples = tl.load(finished).generate(200, seed=1)
    assert samples.shape == (200, 2)
    assert np.abs(samples.mean(0) - moons().mean(0)).max() < 0.3


def test_a_finished_run_says_so(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "weights.safetensors").stat().st_mtime_ns
    tl.train(moons(), model="vae", out=finished, budget="6k", size="xs", settings=dict(PLAIN))
    assert "finished" in capsys.readouterr().err
    assert (finished / "weights.safetensors").stat().st_mtime_ns == before


def test_changed_settings_are_named(finished: Path) -> None:
    usual: dict[str, Any] = {"model": "vae", "out": finished, "budget": "6k", "size": "xs", "settings": dict(PLAIN)}
    for change, named in (
        ({"seed": 1}, "seed"),
        ({"budget": "7k"}, "budget"),
        ({"size": "s"}, "size"),
        ({"model": "gan"}, "model"),
        ({"settings": {**PLAIN, "model.beta": 2.0}}, "settings.model.beta"),
    ):
        with pytest.raises(InputError, match="other settings") as error:
            tl.train(moons(), **{**usual, **change})
        assert f"{named}:" in str(error.value)


def test_other_data_are_refused_wherever_they_lie(tmp_path: Path) -> None:
    """A run, finished or not, knows its data by their contents: they may be moved."""
    np.save(tmp_path / "x.npy", moons())
    usual: dict[str, Any] = {"model": "vae", "out": tmp_path / "run", "budget": "256", "size": "xs", "quiet": True}
    run = tl.train(tmp_path / "x.npy", **usual, settings=dict(PLAIN))
    weights = run.weights_file.read_bytes()
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    np.save(tmp_path / "x.npy", moons(shift=0.1))
    for _ in range(2):
        with pytest.raises(InputError, match="other data"):
            tl.train(tmp_path / "x.npy", **usual, settings=dict(PLAIN))
        tl.train(tmp_path / "y.npy", **usual, settings=dict(PLAIN))
        assert run.weights_file.read_bytes() == weights
        run.weights_file.unlink()


def test_a_named_set_keeps_its_name_beside_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run = tl.train("moons", model="vae", out="moons", budget="256", size="xs", settings=dict(PLAIN))
    told = capsys.readouterr().err
    assert "finished" in told and run.config()["asked"]["source"] == "moons"
    assert "a larger budget pays" not in told, "no time was asked for: 256 examples are what was wanted"
    (tmp_path / "eight-gaussians").mkdir()
    run = tl.train("eight-gaussians", model="vae", out="other", budget="256", size="xs", settings=dict(PLAIN))
    assert run.config()["asked"]["source"] == "eight-gaussians"


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="other things"):
        tl.train(moons(), model="vae", out=tmp_path, budget="1k")
    with pytest.raises(InputError, match="is a file"):
        tl.train(moons(), model="vae", out=tmp_path / "thesis.tex", budget="1k")
    # What a kill in the middle of the very first write leaves is no other thing.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.1a2b3c4d.part").write_text("{")
    Run(tmp_path / "run").check()


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path, begun: bool) -> None:
    """The same command twice at once: neither breaks the other one's run, and the end of one gives it free."""
    pytest.importorskip("fcntl")
    command: dict[str, Any] = {"model": "vae", "out": tmp_path, "budget": "256", "size": "xs", "quiet": True}
    if begun:
        tl.train(moons(), **command, settings=dict(PLAIN)).weights_file.unlink()
    held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with claimed(tmp_path):
        with pytest.raises(InputError, match="being trained by another process"):
            tl.train(moons(), **command, settings=dict(PLAIN))
        assert {path: path.read_bytes() for path in held} == held and Run(tmp_path).exists == begun
    assert tl.train(moons(), **command, settings=dict(PLAIN)).finished
    with claimed(tmp_path):  # what is only read is nobody's alone
        assert tl.train(moons(), **command, settings=dict(PLAIN)).finished and len(tl.load(tmp_path).generate(3)) == 3


def test_the_same_command_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    tl.train(moons(), model="vae", out=tmp_path / "run", budget="6k", size="xs", settings=dict(PLAIN), quiet=True)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (finished / "weights.safetensors").read_bytes()
    tl.train(moons(), model="vae", out=tmp_path / "2", budget="6k", size="xs", seed=1, settings=dict(PLAIN), quiet=True)
    assert (tmp_path / "2" / "weights.safetensors").read_bytes() != (finished / "weights.safetensors").read_bytes()


def test_a_plus_goes_on_from_before_the_decay(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    run, loaded = Run.at(out), []
    place = run.load_state("before-decay")[1]["seen"]
    old = run.config()["training"]["examples"]
    assert 0.35 * old < place < 0.6 * old
    load = Loop.load

    def watched(self: Loop, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        loaded.append(facts["seen"])
        load(self, tensors, facts)

    monkeypatch.setattr(Loop, "load", watched)
    usual: dict[str, Any] = {"model": "vae", "out": out, "size": "xs", "settings": dict(PLAIN), "quiet": True}
    with pytest.raises(InputError, match="too small"):
        tl.train(moons(), budget="+1k", **usual)
    assert run.finished
    tl.train(moons(), budget="+6k", **usual)
    assert loaded == [place]
    config = run.config()
    assert config["extended"] == ["+6k"] and run.finished
    assert old < config["training"]["examples"] and place + 6000 <= config["training"]["examples"] < place + 6600
    assert (out / "weights.safetensors").read_bytes() != (finished / "weights.safetensors").read_bytes()
    assert max(row["seen"] for row in run.stats()) == config["training"]["examples"]
    shown = {int(path.stem) for path in run.samples_folder.glob("[0-9]*.png")}
    assert shown == {row["seen"] for row in run.stats() if "kernel@random" in row}, "the film shows one training"
    # The original command still knows the run as its own, finished.
    tl.train(moons(), budget="6k", **usual)


def test_a_plus_killed_at_its_start_extends_once(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"model": "vae", "size": "xs", "settings": dict(PLAIN), "quiet": True}
    for name in ("whole", "killed"):
        shutil.copytree(finished, tmp_path / name)
    tl.train(moons(), budget="+6k", out=tmp_path / "whole", **usual)

    def kill(self: Run, seen: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "forget_after", kill)
        with pytest.raises(KeyboardInterrupt):
            tl.train(moons(), budget="+6k", out=tmp_path / "killed", **usual)
    run = Run.at(tmp_path / "killed")
    assert run.weights_file.is_file() and not run.finished
    tl.train(moons(), budget="+6k", out=tmp_path / "killed", **usual)
    assert run.finished and run.config()["extended"] == ["+6k"]
    assert run.weights_file.read_bytes() == (tmp_path / "whole" / "weights.safetensors").read_bytes()


def test_a_plus_on_a_slow_machine_is_still_more(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock may cut what the time allowed, never below what had been done before."""

    class Slow:
        def __init__(self, *_: Any, **__: Any):
            pass

        def due(self, step: int, batch: int, *_: Any) -> bool:
            return step * batch > 5000

        def corrected(self, step: int, batch: int, *_: Any) -> int:
            return (step + 1) * batch

    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = Run.at(out).config()["training"]["examples"]
    monkeypatch.setattr("trilemma.training.carry.Clock", Slow)
    tl.train(moons(), model="vae", out=out, budget="+20s", size="xs", settings=dict(PLAIN), quiet=True)
    run = Run.at(out)
    assert run.finished and before < run.config()["training"]["examples"] <= before + 1000


def test_a_plus_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finished run"):
        tl.train(moons(), model="vae", out=tmp_path / "run", budget="+6k")


def test_from_starts_with_the_weights_of_a_run(finished: Path, tmp_path: Path) -> None:
    """The weights are theirs, the Space's statistics are those of the new data."""
    source, engine = Run.at(finished), Engine(dtype="float32", device="cpu")
    start = restore(source, engine)
    data = open_data(moons(shift=5.0))
    model = build("vae", start.config, data.spaces, 3, start=start)
    for (name, mine), theirs in zip(model.named_parameters(), start.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert torch.equal(model.spaces["x"].mean, data.spaces["x"].mean)
    assert model.spaces["x"].mean.mean() > 4
    settings = {**PLAIN, "optimizer.rate": 1e-9}
    out = tmp_path / "run"
    tl.train(moons(), model="vae", out=out, budget="500", size="xs", start=finished, settings=settings, quiet=True)
    one, two = load_file(finished / "weights.safetensors"), load_file(out / "weights.safetensors")
    for name in ("encoder.net.enter.weight", "decoder.net.leave.bias"):
        torch.testing.assert_close(one[name], two[name], atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="do not fit"):
        tl.train(moons(), model="gan", out=tmp_path / "gan", budget="500", size="xs", start=finished, quiet=True)


def test_a_run_in_float64_trains_and_samples(tmp_path: Path) -> None:
    for model in ("vae", "gan", "diffusion"):
        settings = {**PLAIN, "training.dtype": "float64", "training.previews": 1}
        run = tl.train(
            moons(), model=model, out=tmp_path / model, budget="600", size="xs", settings=settings, quiet=True
        )
        assert tl.load(run.folder).generate(3).shape == (3, 2)


def test_a_corrected_count_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time budget whose count was set right: done again, and killed and resumed, it ends in the same weights."""

    class Once:
        def __init__(self, *_: Any, **__: Any):
            pass

        def due(self, step: int, *_: Any) -> bool:
            return step == 3

        def corrected(self, step: int, batch: int, *_: Any) -> int:
            return 60 * batch

    monkeypatch.setattr("trilemma.training.carry.Clock", Once)
    settings = {**PLAIN, "training.save_every": 10, "optimizer.batch": 16, "training.choose_samples": 0}

    def command(out: Path) -> None:
        tl.train(moons(), model="vae", out=out, budget="20s", size="xs", settings=settings, quiet=True)

    one, two, killed = (tmp_path / name for name in ("one", "two", "killed"))
    command(one)
    config = Run.at(one).config()
    assert config["training"]["corrections"] == [[3, 960]] and Run.at(one).choices()["seconds"]["step"] > 0
    for other in (two, killed):  # the plan of this machine at this moment is a part of the run
        other.mkdir()
        shutil.copy(one / "config.json", other)
    command(two)
    step, stop = Loop.take_step, [True]

    def stopping(self: Loop) -> dict[str, float]:
        self.stop = stop[0] and self.step == 25
        return step(self)

    monkeypatch.setattr(Loop, "take_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        command(killed)
    before = Run.at(killed).latest_state()
    assert before is not None and before[1]["seconds"] > 0
    stop[0] = False
    command(killed)
    for other in (two, killed):
        assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    # What it cost is the sum of both sessions.
    seconds = Run.at(killed).choices()["seconds"]
    assert seconds["loop"] > before[1]["seconds"] and seconds["total"] > seconds["loop"]
    rows = [row["seconds"] for row in Run.at(killed).stats() if "event" not in row and "seconds" in row]
    assert rows == sorted(rows)


def test_a_budget_that_shrinks_past_the_decay_keeps_its_state(tmp_path: Path) -> None:
    """The clock may set the count right at the very moment at which the rate begins to fall."""
    case = CASES["vector"]
    loop = toy.loop("vae", case, steps=100)

    def correct(loop: Loop, spent: float, steps: int) -> None:
        if loop.step == 40:  # stay is 0.4: of 80 steps the rate would have begun to fall at 32
            loop.training.examples = 80 * loop.config.batch

    run = Run(tmp_path)
    loop.go(run, correct=correct)
    assert run.load_state("before-decay")[1]["step"] == 40


def test_a_budget_that_grows_comes_to_its_branches_again(tmp_path: Path) -> None:
    """What was kept for half of ten steps is half of them no more when they have become twenty."""
    loop = toy.loop("vae", CASES["vector"], steps=10)
    loop.training.branches = (0.5,)

    def correct(loop: Loop, spent: float, steps: int) -> None:
        if loop.step == 3:  # stay is 0.4: the state was kept at 2
            assert run.load_state(branch_state(0.5))[1]["step"] == 2
            loop.training.examples = 20 * loop.config.batch

    run = Run(tmp_path)
    loop.go(run, correct=correct)
    assert run.load_state(branch_state(0.5))[1]["step"] == 4 and run.load_state("before-decay")[1]["step"] == 8


def test_processes_agree_on_the_states_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may see a folder of its own, or see the first one's late: what is gathered is gathered by all."""
    asked: list[Any] = []

    def agreed(make: Callable[[], Any]) -> Any:
        asked.append(make)
        return [branch_state(0.25)]

    monkeypatch.setattr("trilemma.training.loop.agreed", agreed)
    run, loop = Run(tmp_path), toy.loop("vae", CASES["vector"], steps=10)
    loop.training.branches = (0.25, 0.5)
    for _ in range(2):  # past the moment of the first one
        loop.take_step()
    loop.go(run)
    assert asked == [run.states]
    assert branch_state(0.25) not in run.states() and branch_state(0.5) in run.states()


def test_own_parts_are_asked_for_on_resume(tmp_path: Path) -> None:
    def optimizer(weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(weights, lr=0.01)

    out = tmp_path / "run"
    common: dict[str, Any] = {"model": "vae", "budget": "1k", "size": "xs", "settings": dict(PLAIN), "quiet": True}
    tl.train(moons(), out=out, optimizer=optimizer, **common)
    (out / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="your own optimizer"):
        tl.train(moons(), out=out, **common)
    tl.train(moons(), out=out, optimizer=optimizer, **common)


def test_own_networks_to_start_from(tmp_path: Path) -> None:
    """The run to begin with was trained with them: handed in, they are enough."""
    common: dict[str, Any] = {"model": "diffusion", "budget": "1k", "size": "xs", "quiet": True}

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    first = tl.train(moons(), out=tmp_path / "a", networks={"network": Own()}, settings=dict(PLAIN), **common)
    assert isinstance(first, Run)
    tl.train(
        moons(), out=tmp_path / "b", networks={"network": Own()}, settings=dict(PLAIN), start=first.folder, **common
    )
    with pytest.raises(InputError, match="hand them in"):
        tl.train(moons(), out=tmp_path / "c", settings=dict(PLAIN), start=first.folder, **common)


def test_weights_of_another_version_are_told(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    name = min(weights)
    write_tensors(tmp_path / "run" / "weights.safetensors", {k: v for k, v in weights.items() if k != name})
    with pytest.raises(InputError, match=r"another version of Trilemma.*train it again"):
        tl.load(tmp_path / "run").generate(2)


def test_a_torn_picture_costs_no_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "samples", tmp_path / "samples")
    pictures = sorted((tmp_path / "samples").glob("[0-9]*.png"))
    pictures[0].write_bytes(b"")
    (tmp_path / "samples" / "film.gif").unlink()
    assert (film(tmp_path / "samples") is None) == (len(pictures) < 3)
    assert not list(finished.glob("samples/*.part"))


def test_a_plus_waits_for_the_end(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"not finished yet.*--budget 6k"):
        tl.train(moons(), model="vae", out=out, budget="+6k", size="xs", settings=dict(PLAIN), quiet=True)


def test_a_likelihood_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="discretised"):
        tl.train(moons(), model="vae:discretised", out=tmp_path / "run", budget="1k", size="xs", quiet=True)
    assert not (tmp_path / "run").exists()


def test_settings_that_mean_nothing() -> None:
    from trilemma.models.autoencoder import Config as Autoencoder
    from trilemma.models.gan import Config as Gan

    for config, name in ((Gan(), "penalty"), (Autoencoder(), "corruption")):
        assign(config, name, parse_value("none"))
        assert getattr(config, name) == "none"
    for name in ("penalty_every", "critic_steps"):
        with pytest.raises(InputError, match="at least 1"):
            assign(Gan(), name, 0)


def test_only_grids_are_mirrored() -> None:
    loop = toy.loop("vae", CASES["vector"])
    loop.training.flip = True
    with pytest.raises(InputError, match="flip"):
        loop.take_step()


def test_examples_without_a_label_count_for_none() -> None:
    """Two thirds are not labelled: shares come from the rest, and no class is fitted on codes of nobody knows whom."""
    count = 90
    labels = np.zeros((count, 1), dtype=np.int64)
    labels[:10] = 1
    present = np.arange(count) < 30
    data = Arrays(np.zeros((count, 2), dtype=np.float32), {"label": labels}, {"label": present})
    assert label_frequencies(data, 2) == pytest.approx([20 / 30, 10 / 30])
    x = np.random.default_rng(0).normal(size=(count, 2))
    x[30:] += 50
    given = Arrays(x.astype(np.float32), {"label": labels}, {"label": present})

    class Identity:
        def encode(self, batch: Any, *, random: bool) -> torch.Tensor:
            return batch.x

    mixture = Mixture(2, 1, 2)
    fit_mixture(Identity(), mixture, given.batches(16), 0, random=False)
    assert mixture.means.abs().max() < 3


@pytest.mark.parametrize("count", [1, 2, 7])
def test_clusters_and_gaussians_are_what_scikit_learn_makes_of_them(count: int) -> None:
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    generator = np.random.default_rng(count)
    codes = (generator.normal(size=(5, 4)) * 3)[generator.integers(5, size=600)] + generator.normal(size=(600, 4)) + 9
    for rounds in (2, 300):  # stopped, settled
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = KMeans(count, n_init=1, max_iter=rounds, random_state=3).fit(codes)
            mixed = GaussianMixture(count, reg_covar=0.01, max_iter=rounds, random_state=3).fit(codes)
        centres, labels = k_means(codes, count, np.random.RandomState(3), rounds=rounds)
        np.testing.assert_allclose(centres, theirs.cluster_centers_)
        np.testing.assert_array_equal(labels, theirs.labels_)
        weights, means, covariances = gaussians(codes, count, floor=0.01, seed=3, rounds=rounds)
        np.testing.assert_allclose(weights, mixed.weights_, rtol=1e-6)
        np.testing.assert_allclose(means, mixed.means_, rtol=1e-6)
        np.testing.assert_allclose(covariances, mixed.covariances_, rtol=1e-6, atol=1e-9)


def test_fewer_different_examples_than_clusters() -> None:
    codes = np.repeat(np.arange(3.0)[:, None], 20, 0)
    centres, labels = k_means(codes, 5, np.random.RandomState(0))
    np.testing.assert_allclose(centres[labels], codes)
    assert all(np.isfinite(part).all() for part in gaussians(codes, 5, floor=0.01, seed=0))


# --- the verdict of the probe -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agrees", "seconds", "busy", "verdict"),
    [
        (True, {"float32": 2.0, "bfloat16": 1.0}, 1.0, "bfloat16"),
        (True, {"float32": 2.0, "bfloat16": 1.0}, 3.0, "bfloat16"),  # other work while bf16 was timed first
        (True, {"float32": 1.1, "bfloat16": 1.0}, 1.0, "float32"),  # no clear win
        (False, {"float32": 9.0, "bfloat16": 1.0}, 1.0, "float32"),  # fast and wrong
    ],
)
def test_bf16_where_it_is_faster_and_right(
    agrees: bool, seconds: dict[str, float], busy: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    monkeypatch.setattr("trilemma.training.probe.bf16_possible", lambda: True)
    timed: list[str] = []

    def time_of(dtype: str, most: float) -> float:
        timed.append(dtype)
        return seconds[dtype] * (busy if len(timed) == 2 else 1.0)

    probe: Any = SimpleNamespace(
        name="vae", config=Optimizer(), data=SimpleNamespace(x=np.zeros((4, 1, 8, 8))),
        agree=lambda training: agrees, loop=lambda training, dtype: dtype, seconds=time_of,
    )  # fmt: skip
    assert dtype_verdict(probe, Training(), 0.1) == verdict
    asked = len(timed)
    assert dtype_verdict(probe, Training(), 0.1) == verdict and len(timed) == asked, "the verdict is remembered"


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [
        ({8: 1.0, 4: 1.4}, 8),
        ({8: 1.0, 4: 0.95}, 8),  # no clear win
        ({8: 1.0, 4: 0.7, 2: 0.69}, 4),
        ({8: 1.0, 4: 0.6, 2: 0.4, 1: 0.3}, 1),
    ],
    ids=str,
)
def test_fewer_threads_where_that_is_faster(
    seconds: dict[int, float], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    monkeypatch.setattr("trilemma.training.probe.all_threads", lambda: 8)
    probe: Any = SimpleNamespace(
        name="vae", config=Optimizer(), data=SimpleNamespace(x=np.zeros((4, 1, 8, 8))),
        loop=lambda training, dtype: training.threads, seconds=lambda loop, most: seconds[loop],
    )  # fmt: skip
    training = Training(dtype="float32")
    assert threads_verdict(probe, training, 0.1) == threads
    probe.seconds = None
    assert threads_verdict(probe, training, 0.1) == threads, "the verdict is remembered"


@pytest.mark.parametrize(
    ("model", "budget", "compiled_seconds", "verdict"),
    [("vae", 7200.0, 0.5, True), ("vae", 7200.0, 0.95, False), ("vae", 600.0, 0.1, False), ("gan", 7200.0, 0.1, False)],
    ids=["faster", "hardly faster", "a short budget", "differentiated through twice"],
)
def test_compiled_where_that_pays(
    model: str, budget: float, compiled_seconds: float, verdict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    probe: Any = SimpleNamespace(
        name=model, config=Optimizer(), data=SimpleNamespace(x=np.zeros((4, 1, 8, 8))),
        loop=lambda training, dtype: SimpleNamespace(
            model=SimpleNamespace(compilable=lambda: () if model == "gan" else (1,)), compiled=training.compile
        ),
        seconds=lambda loop, most: compiled_seconds if loop.compiled else 1.0,
    )  # fmt: skip
    training = Training(dtype="float32")
    assert not compile_verdict(probe, training, 0.1, budget), "not on a CPU: minutes of compiling gained nothing"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert compile_verdict(probe, training, 0.1, budget) == verdict
    probe.seconds = None
    assert compile_verdict(probe, training, 0.1, budget) == verdict, "the verdict is remembered"


@pytest.mark.skipif(not shutil.which("g++"), reason="a C++ compiler is needed")
@pytest.mark.parametrize(("model", "backend"), [("vae", "aot_eager"), ("diffusion", "inductor")])
def test_compiled_networks_train_alike_and_sample_as_before(
    model: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with PyTorch's own compiler, which takes long; the other with the graphs alone that it is given."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    data = tl.open_data("moons")
    losses, samples = {}, {}
    for compiled in (False, True):
        config = configure(model, data.spaces, size="xs", changes={"optimizer.batch": 32})
        training = Training(examples=320, dtype="float32", compile=compiled)
        probe = Probe(model, config, data, 0, networks=None, make=None)
        loop = probe.loop(training, "float32")
        losses[compiled] = [sum(loop.take_step().values()) for _ in range(6)]
        sampler = Sampler(loop.model, loop.engine, frequencies=None, dtype=np.dtype("float32"))
        sampler.fit(data.split("train"), seed=0, limit=100)
        samples[compiled] = sampler.samples(5)
        network = loop.model.compilable()[0]
        assert ("forward" in vars(network)) == compiled
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert losses[False][-1] != losses[False][0]
    np.testing.assert_allclose(samples[True], samples[False], rtol=1e-2, atol=1e-2)


def test_agreement_sees_behind_layers_that_start_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(pictures())
    config = configure("diffusion", data.spaces, size="xs")
    config.optimizer.batch = 16
    probe = Probe("diffusion", config, data, 0, networks=None, make=None)
    gradient = probe.gradient("float32", Training())
    assert (gradient != 0).float().mean() > 0.9


def test_what_other_tests_go_without(
    whole_trainings: dict[str, Callable[..., Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe itself on this machine, and the counts that users' trainings have (see conftest.py)."""
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("trilemma.training.probe.bf16_possible", lambda: True)
    settings = {"training.threads": 1}
    plan = tl.train(moons(), model="vae", out=tmp_path / "run", budget="1k", size="xs", dry_run=True, quiet=True,
                    settings=settings)  # fmt: skip
    (file,) = (tmp_path / "cache" / "probe").glob("*.json")
    found = json.loads(file.read_text())
    assert plan.dtype == found["dtype"] and found["dtype"] in ("float32", "bfloat16")  # type: ignore[union-attr]
    assert ("bfloat16" in found) == ("float32" in found)
    data = open_data(pictures())
    assert whole_trainings["trilemma.training.features.examples_for"](data) == 20_000
    samples = whole_trainings["trilemma.training.plan.default_samples"]
    for calls, count in ((1, 2000), (40, 600), (500, 256)):
        assert samples(SimpleNamespace(calls=lambda options, calls=calls: calls)) == count


# --- kills ------------------------------------------------------------------------------------------------------------

# Processes that have imported everything already: a kill test would otherwise wait for imports most of its time.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["trilemma.training.start", "trilemma.modalities.image", "trilemma.tasks.load"])


def train_pictures(source: str, model: str, out: str, budget: str) -> None:
    torch.set_num_threads(1)
    settings = {**PLAIN, "training.save_every": 4}
    tl.train(source, model=model, out=out, budget=budget, size="xs", settings=settings, quiet=True)


def wait_for(condition: Callable[[], bool], child: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition() and child.is_alive():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


@pytest.mark.parametrize("model", ["autoencoder", "vae", "gan", "diffusion"])
def test_killed_at_any_moment(model: str, tmp_path: Path) -> None:
    """Bit-identical weights however often and whenever it was killed. (A longer one is in benchmarks/.)"""
    source, whole, killed = str(tmp_path / "x.npy"), tmp_path / "whole", tmp_path / "killed"
    np.save(source, pictures())
    begin = time.monotonic()
    train_pictures(source, model, str(whole), "1600")
    spent = time.monotonic() - begin
    effective = 0
    # One kill after the first safe state, one at a moment that nobody chose.
    for moment in (None, random.uniform(0, spent)):
        child = CHILDREN.Process(target=train_pictures, args=(source, model, str(killed), "1600"))
        child.start()
        if moment is None:
            wait_for(lambda: any((killed / "state").glob("step-*/facts.json")), child)
        else:
            child.join(moment)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        effective += child.exitcode == -signal.SIGKILL and not (killed / "weights.safetensors").exists()
    assert effective >= 1, "no kill came in time"
    train_pictures(source, model, str(killed), "1600")
    assert (killed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert Run(killed).choices()["options"] == Run(whole).choices()["options"]


def test_ctrl_c_leaves_a_usable_run(tmp_path: Path) -> None:
    source, out = str(tmp_path / "x.npy"), tmp_path / "run"
    np.save(source, pictures())
    child = CHILDREN.Process(target=train_pictures, args=(source, "vae", str(out), "400k"))
    child.start()
    wait_for(lambda: any((out / "state").glob("step-*/facts.json")), child)
    os.kill(child.pid, signal.SIGINT)
    child.join(60)
    assert not child.is_alive() and child.exitcode not in (None, 0, -signal.SIGINT)
    run = Run.at(out)
    assert not run.finished
    loaded = tl.load(out)
    assert loaded.generate(4).shape == (4, 8, 8) and loaded.generate(4).dtype == np.uint8
    assert loaded.info()["finished"] is False
    stopped = run.latest_state()
    assert stopped is not None and stopped[1]["seen"] > 0
    assert not list(out.rglob("*.part"))


# --- golden losses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_losses.names())
def test_golden_losses(name: str) -> None:
    """Twenty steps in float64 give the numbers that they gave before: see golden_losses.py where they do not."""
    expected = json.loads(golden_losses.FILE.read_text())[name]
    found = golden_losses.losses(name)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert np.isfinite(values).all()
        # The last bit of a logarithm may differ between processors, and every step carries it on: 1e-7 to 1e-4.
        allowed = np.abs(values) * np.geomspace(1e-7, 1e-4, len(values)) + 1e-10
        assert len(found[key]) == len(values)
        assert (np.abs(np.subtract(found[key], values)) <= allowed).all(), f"{name}: {key}: {found[key]} not {values}"


def test_golden_losses_cover_every_preset() -> None:
    assert set(json.loads(golden_losses.FILE.read_text())) == set(golden_losses.names())
    assert CASES["image"].spaces["x"].shape == (1, 10, 9) and toy.COUNT == 8


@pytest.mark.parametrize("drift", ["steady", "slower", "faster", "jump", "pause"])
def test_the_clock_keeps_a_time_budget(drift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that changes its pace in the middle of a training, step by step in simulated time."""
    now = [0.0]
    monkeypatch.setattr("trilemma.training.plan.time.monotonic", lambda: now[0])
    after, budget, batch, examples, step, stepping = 20.0, 600.0, 64, 7600 * 64, 0, 0.0
    clock = Clock(budget, 0.0, after)
    while step * batch < examples:
        if clock.due(step, batch, examples, step):
            new = clock.corrected(step, batch, examples, stepping, step, 0.0)
            examples = examples if new is None else new
        share = step / 7600
        pace = 0.0763 * {"slower": 1 + 0.4 * share, "faster": 1 - 0.4 * share, "jump": 2.0 if share > 0.5 else 1.0}.get(
            drift, 1.0
        )
        now[0] += pace + (30.0 if drift == "pause" and step == 3000 else 0.0)
        stepping, step = stepping + pace, step + 1
    assert abs(now[0] + after - budget) < 0.04 * budget


@pytest.mark.parametrize(
    ("fixed", "each", "left", "least", "batch"),
    [
        (0.0, 1e-3, 1000.0, 1500, 128),  # enough steps as it is
        (0.0, 1e-3, 100.0, 1500, 64),  # halved once: 1,562 steps
        (0.0, 1e-3, 100.0, 3000, 32),  # a model that wants more of them
        (0.0, 1e-3, 1.0, 1500, 16),  # never below the least
        (0.1, 1e-4, 100.0, 1500, 128),  # steps cost the same at any batch: a smaller one would only lose examples
    ],
)
def test_short_budgets_get_smaller_batches(fixed: float, each: float, left: float, least: int, batch: int) -> None:
    optimizer = Optimizer(batch=128, least_steps=least)

    def seconds(*_: Any) -> float:
        return fixed + each * optimizer.batch

    probe: Any = SimpleNamespace(config=SimpleNamespace(optimizer=optimizer), loop=lambda *_: None, seconds=seconds)
    assert _smaller_batches(probe, Training(), seconds(), 0.1, left) == pytest.approx(seconds())
    assert optimizer.batch == batch


def test_a_busy_moment_does_not_leave_the_batch_large() -> None:
    optimizer, slow = Optimizer(batch=128, least_steps=1500), [1.0, 3.0]  # the first half batch meets other work

    def seconds(*_: Any) -> float:
        return 1e-3 * optimizer.batch * (slow.pop() if slow else 1.0)

    probe: Any = SimpleNamespace(config=SimpleNamespace(optimizer=optimizer), loop=lambda *_: None, seconds=seconds)
    assert _smaller_batches(probe, Training(), 0.128, 0.1, 20.0) == pytest.approx(0.016)
    assert optimizer.batch == 16


def test_processes_have_an_example_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without one would leave the others waiting: refused; and none is planned, with many processes."""
    with pytest.raises(InputError, match="3 processes share a batch"):
        three: Any = SimpleNamespace(world=3)
        Loop(Fragile(lambda step: False), None, Optimizer(batch=2), Training(), three, seed=0)  # type: ignore[arg-type]
    monkeypatch.setattr("trilemma.training.plan.processes", lambda: 40)
    optimizer = Optimizer(batch=128, least_steps=1500)
    probe: Any = SimpleNamespace(
        config=SimpleNamespace(optimizer=optimizer), loop=lambda *_: None, seconds=lambda *_: 1e-3 * optimizer.batch
    )
    _smaller_batches(probe, Training(), 0.128, 0.1, 1.0)
    assert optimizer.batch == 64


def test_the_time_of_imports_is_not_taken_for_that_of_codes() -> None:
    """The first density of a process is slow: a tenth of the codes, and a quarter of the quality, once followed."""

    class Slow:
        calls: list[int] = []

        def fit(self, train: Any, *, seed: int, limit: int) -> None:
            self.calls.append(limit)
            now[0] += (2.0 if len(self.calls) == 1 else 0.0) + 1e-4 * limit

        def judged(self, held: Any, count: int, **_: Any) -> range:
            now[0] += 0.01
            return range(count)

    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trilemma.training.plan.time.perf_counter", lambda: now[0])
        data: Any = SimpleNamespace(splits={"train": range(50_000)}, split=lambda name: None)
        sampler: Any = Slow()
        _, fit = _rates(sampler, data, Training(), 1.0)
    assert fit == pytest.approx(2.0, rel=1e-6), Slow.calls


def test_a_batch_that_was_asked_for_is_kept() -> None:
    plan = tl.train("digits", model="vae", out="nowhere", budget="4s", size="xs", dry_run=True, quiet=True,
                    settings={"optimizer.batch": 96})  # fmt: skip
    assert plan.examples == 96 * plan.steps


def test_a_budget_that_the_probe_has_spent_still_gives_a_run(tmp_path: Path) -> None:
    """On a busy machine the probe alone may take longer than a short budget: one step is taken, nothing fails."""
    run = tl.train(moons(), model="autoencoder", out=tmp_path / "run", budget="0.01s", size="xs", quiet=True)
    assert run.finished and run.config()["training"]["examples"] > 0


def test_choices_do_not_eat_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network behind the choices would cost more than a part of the budget, the defaults are taken."""
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("trilemma.training.plan.seconds_for", lambda *_: 60.0)  # a slow machine
    x = np.random.default_rng(0).integers(0, 256, (400, 48, 48, 3), dtype=np.uint8)
    begin = time.monotonic()
    run = tl.train(x, model="vae", out=tmp_path / "run", budget="5s", size="xs", quiet=True)
    assert isinstance(run, Run)
    assert run.config()["training"]["choose_samples"] == 0 and run.choices()["options"]["prior"] is not None
    assert time.monotonic() - begin < 15


def test_a_short_budget_chooses_little_instead_of_nothing(tmp_path: Path) -> None:
    """Too few seconds for all averages and options: the middle average, and of the options the first two."""
    data = open_data("digits")
    model = build("diffusion", configure("diffusion", data.spaces, size="xs"), data.spaces, 0)
    left = {}
    for rate in (1.0, 200.0, 1e5):
        training = Training(examples=1000)
        _, left[rate] = _set_aside(model, data, training, rate, 0.0, 30.0)
        assert training.choose_few == (rate < 1e5)
        assert (training.choose_samples == 0) == (rate == 1.0)
    assert left[1.0] < 1 < left[200.0] < 0.08 * 30 + 4  # with the network behind the choices


def test_a_dead_denoiser_is_told(tmp_path: Path) -> None:
    """A network whose weights do not reach its output: the run says so in its events."""

    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            return torch.relu(-self.weight.abs() - x**2) + 0 * embedding.sum()

    run = tl.train("digits", model="diffusion", out=tmp_path / "run", budget="4k", size="xs", quiet=True,
                   networks={"network": Dead()}, settings={**PLAIN, "training.choose_samples": 0})  # fmt: skip
    assert isinstance(run, Run)
    assert [r["event"] for r in run.stats() if "event" in r and r["event"] not in ("start", "end")].count("dead") == 1
    assert run.choices()["events"]["dead"] == 1


@pytest.mark.parametrize(
    ("side", "threads", "budget", "size"),
    [
        (28, 2, 40, "xs"),
        (28, 2, 50, "s"),
        (56, 2, 50, "xs"),  # four times the places: a quarter of the examples
        (56, 2, 200, "s"),
        (28, 1, 80, "xs"),
        (28, 8, 40, "s"),
        (28, 64, 20, "xs"),  # small networks gain nothing from so many
        (28, 2, 1600, "m"),
        (112, 2, 1600, "s"),
        (8, 2, 100, "xs"),
        (8, 2, 200, "s"),
    ],
)
def test_the_size_follows_the_examples_that_a_budget_holds(
    side: int, threads: int, budget: float, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trilemma.training.plan.all_threads", lambda: threads)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    data = tl.open_data(np.random.default_rng(0).integers(0, 256, (32, side, side), dtype=np.uint8))
    assert choose_size(data, "seconds", budget) == size
    assert choose_size(data, "seconds", budget * 8, find("diffusion:flow")[0]) == size, "it is hungrier"


@pytest.mark.parametrize(("rate", "size"), [(225e9, "s"), (50e9, "xs")])
def test_a_slow_processor_takes_a_smaller_size(
    rate: float, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_trainings: dict[str, Any]
) -> None:
    """A GAN of size s saw 11,000 garments in two minutes of one old core: Fréchet distance 17; of size xs 8."""
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tried: list[int] = []

    def convolution_rate(*_: Any, **__: Any) -> float:
        tried.append(torch.get_num_threads())
        return rate

    monkeypatch.setattr("trilemma.training.probe.convolution_rate", convolution_rate)
    monkeypatch.setattr("trilemma.training.plan.all_threads", lambda: 2)
    pictures = tl.open_data(np.random.default_rng(0).integers(0, 256, (32, 28, 28), dtype=np.uint8))
    assert [choose_size(pictures, "seconds", 120.0) for _ in range(2)] == [size, size]
    assert tried == [1], "one thread, and it is remembered"
    small = tl.open_data(np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8))
    assert choose_size(small, "seconds", 200.0) == "s", "convolutions are not what takes their time"


def test_sampling_is_chosen_one_question_after_the_other(tmp_path: Path) -> None:
    """Guidance first, then steps with the guidance that won; among equals the fewest network calls."""
    settings = {"training.choose_samples": 120, "training.previews": 1, "training.preview_samples": 4}
    run = tl.train(
        "digits", model="diffusion", size="xs", out=tmp_path / "run", budget="3k", settings=settings, quiet=True
    )
    assert isinstance(run, Run)
    chosen, tried = run.choices()["options"], run.choices()["chosen_by"]["tried"]
    of_average, of_guidance, of_steps = tried[:3], tried[3:6], tried[6:]
    assert len({row["average"] for row in of_average}) == 3 and len(of_steps) == 3
    best = min(of_average, key=lambda row: row["frechet"])
    assert run.choices()["average"] == best["average"]

    def taken(rows: list[dict[str, Any]]) -> dict[str, Any]:
        good = [row for row in rows if row["frechet"] <= 1.02 * min(row["frechet"] for row in rows)]
        return min(good, key=lambda row: (row["calls"], row["frechet"]))

    guided = taken([best, *of_guidance])
    assert {row["guidance"] for row in of_steps} == {guided["guidance"]}
    final = taken([guided, *of_steps])
    assert (chosen["guidance"], chosen["steps"]) == (final["guidance"], final["steps"])
    assert len({row["calls"] for row in of_steps}) == 3


@pytest.mark.parametrize(
    ("figures", "guidance"),
    [
        ((1.0, 0.9), 1.0),  # unguided wins: nothing else is asked
        ((1.0, 1.5, 0.8), 2.0),  # guidance helps, and more of it more
        ((1.0, 1.5, 1.2), 1.5),
        ((1.0, 1.01), 1.0),  # equal: the cheaper one
    ],
)
def test_a_short_budget_asks_for_more_guidance_where_guidance_helps(
    figures: tuple[float, ...], guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(figures)
    data = open_data("digits")
    model = build("diffusion", configure("diffusion", data.spaces, size="xs"), data.spaces, 0)
    training = Training(examples=1000, choose_few=True, choose_samples=200)
    loop: Any = SimpleNamespace(training=training, model=model, averages=Averages(model, training.averages), seed=0)
    sampler: Any = SimpleNamespace(fit=lambda *_, **__: None, judged=lambda *_, **__: None)

    class Features:
        name, hash = "judge", "none"

        def __call__(self, x: Any) -> None:
            return None

        shaped = __call__

    monkeypatch.setattr("trilemma.training.choose.feature_network", lambda *_, **__: Features())
    monkeypatch.setattr("trilemma.metrics.fidelity.frechet_distance", lambda *_: SimpleNamespace(value=left.pop(0)))
    average, option, told = choose(loop, data, sampler, quiet=True)
    assert (average, option.guidance) == ("0.10", guidance) and not left and len(told["tried"]) == len(figures)
