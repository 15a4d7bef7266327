"""The notebook's plain loops and the library compute the same numbers, in float64.

The cells run as they are. Whatever they draw from torch is written down and handed to the library as the noise of its
batches, with copies of the notebook's networks and its order of the data; then the library trains beside them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trilemma.batches import Batch, Options, Request
from trilemma.config import Optimizer
from trilemma.models.contract import Model, Now, configure, find
from trilemma.models.gan import Mapping
from trilemma.networks.layers import sinusoids
from trilemma.spaces import Continuous
from trilemma.training import optimizers

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "three_families.ipynb"
EPOCHS = 2
CELLS = {c["id"]: "".join(c["source"]) for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"}


class Replayed:
    """Noise that gives out again what the notebook has drawn, in its order."""

    def __init__(self, draws: list[Tensor]):
        self.draws, self.seed, self.count = draws, 0, len(draws[0])

    def __len__(self) -> int:
        return self.count

    def normal(self, *shape: int) -> Tensor:
        draw = self.draws.pop(0)
        self.count = len(draw)
        assert draw.shape[1:] == shape
        return draw

    def uniform(self, *shape: int) -> Tensor:
        return torch.zeros(len(self), *shape)  # asked for by the choice of a mixture's component: not used here

    def spread(self) -> Tensor:
        """The middle of the interval of [0, 1) that means the notebook's step."""
        return (self.draws.pop(0).double() - 0.5) / 1000


class Plain(nn.Module):
    """A network that takes x alone, where the library also offers a condition."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is None
        return self.net(x)


class BySteps(nn.Module):
    """The library tells its network the noise level, the textbook the step: look the step up."""

    def __init__(self, net: nn.Module, levels: Tensor):
        super().__init__()
        self.net = net
        self.table = functional.silu(sinusoids(levels.log() / 4, 64).double())

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        distance, place = torch.cdist(embedding, self.table).min(1)
        assert float(distance.max()) < 1e-3
        return self.net(x, place + 1)


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[dict[str, Any], dict[str, list[tuple[str, Tensor]]], dict[str, Any]]]:
    """The notebook's variables at its end, the draws of each cell, and copies of the networks before training."""
    matplotlib.use("Agg")
    patch = pytest.MonkeyPatch()
    log: list[tuple[str, Tensor]] = []
    usual = {name: getattr(torch, name) for name in ("randn", "randint", "randperm")}
    for name in usual:

        def recording(*args: Any, name: str = name, **settings: Any) -> Tensor:
            log.append((name, usual[name](*args, **settings)))
            return log[-1][1].clone()

        patch.setattr(torch, name, recording)
    scope, draws, fresh = {}, {}, {}
    precision = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for cell, source in CELLS.items():
            log.clear()
            exec(compile(source.replace("EPOCHS, BATCH = 100,", f"EPOCHS, BATCH = {EPOCHS},"), cell, "exec"), scope)
            draws[cell] = list(log)
            if cell.endswith("-networks"):
                names = ("encoder", "decoder", "generator", "critic", "denoiser")
                fresh |= {name: copy.deepcopy(scope[name]) for name in names if name in scope and name not in fresh}
        assert scope["EPOCHS"] == EPOCHS
        patch.undo()
        yield scope, draws, fresh
    finally:
        torch.set_default_dtype(precision)
        patch.undo()


def own(name: str, changes: dict[str, Any], networks: dict[str, nn.Module]) -> Model:
    """A model of the library on these 64 numbers, with the textbook's settings and the notebook's networks."""
    spaces = {"x": Continuous((64,))}
    return find(name)[0](configure(name, spaces, changes=changes), spaces, networks=networks).double()  # type: ignore[call-arg]


def trained(
    model: Model, digits: Tensor, log: list[tuple[str, Tensor]], settings: Optimizer, size: int
) -> dict[str, list[float]]:
    """Train the library's model on the notebook's batches; each group's loss, one mean an epoch."""
    movers = {group: optimizers.make(settings, weights) for group, weights in model.groups().items()}
    means: dict[str, list[float]] = {group: [] for group in movers}
    perms = [place for place, (name, _) in enumerate(log) if name == "randperm"]
    for start, stop in zip(perms, [*perms[1:], len(log)], strict=True):
        draws = [draw for _, draw in log[start + 1 : stop]]
        sums = dict.fromkeys(movers, 0.0)
        for rows in log[start][1].split(size):
            batch = Batch(digits[rows], Replayed(draws), rows)  # type: ignore[arg-type]
            for turn in model.losses(batch, Now(0, 0, 1)):
                turn.loss.backward()
                for weight in model.groups()[turn.group]:
                    if weight.grad is not None:
                        weight.grad /= turn.weight
                movers[turn.group].step()
                model.zero_grad()
                sums[turn.group] += float(turn.loss.detach())
        assert not draws, "the notebook has drawn more than the library"
        for group, total in sums.items():
            means[group].append(total / len(digits))
    return means


def same(mine: list[float], theirs: list[float]) -> None:
    assert len(mine) == len(theirs) >= EPOCHS and np.isfinite(mine).all()
    np.testing.assert_allclose(mine, theirs, rtol=1e-9)


def test_variational_autoencoder(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scope, draws, fresh = told
    monkeypatch.setattr(optimizers, "SWIFT", 1.0)  # the textbook's deviation learns at the rate of weights
    changes = {"latent": scope["LATENT"], "likelihood": "gaussian", "beta": 1.0, "warm_up": 0.0, "free_bits": 0.0}
    model = own("vae", changes, {name: Plain(fresh[name]) for name in ("encoder", "decoder")})
    settings = Optimizer(kind="adam", rate=1e-3, betas=(0.9, 0.999))
    means = trained(model, scope["digits"], draws["vae-training"], settings, scope["BATCH"])
    same(means["model"], scope["vae_losses"])
    # And its samples: decoded draws from the prior.
    request = Request(Replayed([draw for _, draw in draws["vae-samples"]]), options=Options(prior="normal"))  # type: ignore[arg-type]
    torch.testing.assert_close(model.sample(request).detach(), scope["vae_samples"], rtol=1e-7, atol=1e-7)  # type: ignore[attr-defined]


def test_generative_adversarial_network(told: Any) -> None:
    scope, draws, fresh = told
    body, score = fresh["critic"][:-1], fresh["critic"][-1]
    changes = {"play": "non-saturating", "penalty": "none", "critic_steps": 1, "latent": scope["NOISE"], "augment": 0.0}
    changes["one_pass"] = False
    model = own("gan", {**changes, "style": score.in_features}, {"generator": fresh["generator"], "critic": body})
    model.score, model.mapping = score, Mapping(1, 0, 1, layers=0)  # the textbook's generator has no network before it
    settings = Optimizer(kind="adam", rate=1e-3, betas=(0.5, 0.999))
    means = trained(model, scope["digits"], draws["gan-training"], settings, scope["BATCH"])
    same(means["critic"], scope["critic_losses"])
    same(means["generator"], scope["generator_losses"])


def test_diffusion(told: Any) -> None:
    scope, draws, fresh = told
    alpha_bar = scope["alpha_bar"]
    network = BySteps(fresh["denoiser"], ((1 - alpha_bar) / alpha_bar).sqrt())
    model = own("diffusion:ddpm", {"embedding": 64, "steps": 1000, "variance": "large"}, {"network": network})
    told_level = nn.Linear(64, 64)
    nn.init.eye_(told_level.weight)
    nn.init.zeros_(told_level.bias)
    model.level = told_level.requires_grad_(False)  # the level itself, so that the step can be looked up
    settings = Optimizer(kind="adam", rate=1e-3, betas=(0.9, 0.999))
    means = trained(model, scope["digits"], draws["ddpm-training"], settings, scope["BATCH"])
    same(means["model"], scope["ddpm_losses"])
    # Algorithm 2 with all its thousand steps and the same noise ends at the same samples.
    request = Request(Replayed([draw for _, draw in draws["ddpm-samples"]]))  # type: ignore[arg-type]
    with torch.no_grad():
        samples = model.sample(request)  # type: ignore[attr-defined]
    torch.testing.assert_close(samples, scope["ddpm_samples"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["vae", "gan", "ddpm"])
def test_a_family_is_at_most_sixty_lines(family: str) -> None:
    source = "\n".join(text for cell, text in CELLS.items() if cell.startswith(family))
    assert len([line for line in source.splitlines() if line.strip()]) <= 60
