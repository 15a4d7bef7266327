"""A GAN with an encoder: both players' turns, and what the tasks make of its codes."""

from __future__ import annotations

from pathlib import Path

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES
from sklearn.datasets import load_digits

import trilemma as tl
from trilemma.models.bigan import BiGAN
from trilemma.models.contract import Now
from trilemma.tasks import styles

PLAIN = {"training.previews": 1, "training.preview_samples": 16, "training.choose_samples": 0,
         "training.dtype": "float32", "training.threads": 1}  # fmt: skip


@pytest.mark.parametrize("play", ["relativistic", "non-saturating"])
def test_the_players_pull_their_pairs_together(play: str) -> None:
    """The generator raises the scores of fakes, the encoder lowers those of real pairs; the critic is left alone."""
    case = CASES["image"]
    model = toy.build("bigan", case, toy.settings("bigan", case, play=play, codes=0.0, cycle=0.0, penalty="none"))
    assert isinstance(model, BiGAN)
    toy.randomise(model)
    batch = case.batch()

    def scores() -> tuple[float, float]:
        with torch.no_grad():
            z = model.prior(case.batch().noise)
            x = batch.embedded(model.space)
            fake = batch.holed(model.generate(z, batch.raw, batch.present, None), model.space)
            real = model.judge_pair(x, model.code(x), batch.raw, batch.present)
            return float(real.mean()), float(model.judge_pair(fake, z, batch.raw, batch.present).mean())

    turns = model.losses(case.batch(), Now(0, 0, 1000))
    assert next(turns).group == "critic"
    players = model.groups()["generator"]
    gradients = torch.autograd.grad(next(turns).loss, players, allow_unused=True)
    # Conditioners of the critic and its layers are no players; all that are have a part in the game.
    assert all(gradient is not None for gradient in gradients)
    before, steep = scores(), sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    with torch.no_grad():
        for weight, gradient in zip(players, gradients, strict=True):
            weight -= 0.01 / steep * gradient
    after = scores()
    assert after[1] > before[1] and after[0] < before[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on three classes of digits."""
    digits = load_digits()
    x = (digits.images[digits.target < 3] * 15).astype(np.uint8)
    out = tmp_path_factory.mktemp("bigan") / "run"
    tl.train(x, model="bigan", size="xs", budget="3k", out=out, settings=PLAIN, quiet=True)
    return out


def test_digits_come_back_from_their_codes(run: Path) -> None:
    digits = load_digits()
    x = (digits.images[digits.target < 3][:60] * 15).astype(np.uint8)
    loaded = tl.load(run)
    again = loaded.reconstruct(x).astype(float)
    error, spread = np.square(again - x).mean(), np.square(x - x.mean(0)).mean()
    assert error < 0.5 * spread
    codes = loaded.embed(x)
    assert codes.shape[0] == 60 and 0.3 < codes.std() < 3
    assert {"reconstruct", "embed", "interpolate", "traverse", "project"} <= set(loaded.can())
    assert loaded.interpolate(x[:1], x[1:2], steps=5).shape == (5, 8, 8)


def test_projection_begins_with_what_the_encoder_finds(run: Path) -> None:
    digits = load_digits()
    x = (digits.images[digits.target < 3][:8] * 15).astype(np.uint8)[:, None]
    loaded = tl.load(run)
    found = styles.project(loaded.sampler, x, steps=1, quiet=True)
    again = loaded.reconstruct(x[:, 0]).astype(float)[:, None]
    ours = styles.decibels(x, again, 255.0)
    # One step moves little away from the codes.
    np.testing.assert_allclose(found.psnr, ours, atol=1.5)
    assert styles.project(loaded.sampler, x, steps=30, quiet=True).psnr.mean() > found.psnr.mean()
