"""Noise as a code: closed form on a Gaussian, order of the round trip, and the tasks that diffusion does by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

import trilemma as tl
from tests.test_tasks import call
from trilemma.batches import Options, Request
from trilemma.conditions import tell
from trilemma.errors import InputError
from trilemma.maths.inversion import from_noise, to_noise
from trilemma.maths.noise import Noise
from trilemma.maths.paths import karras_sigmas
from trilemma.maths.signals import spherical
from trilemma.models.contract import Decodes, Encodes, Inverts

PLAIN = {"training.previews": 0, "training.choose_samples": 0, "training.dtype": "float32"}
LOW, HIGH = 0.006, 80.0


class Gaussian:
    """x_0 ~ N(mean, A A^T) in three dimensions, of about unit variance, with its exact denoiser and flow."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        turned = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
        self.mean = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
        self.axes, self.variances = turned, torch.tensor([2.0, 0.9, 0.1], dtype=torch.float64)

    def denoise(self, y: Tensor, s: float) -> Tensor:
        shrink = self.variances / (self.variances + s**2)
        return self.mean + (y - self.mean) @ self.axes @ shrink.diag() @ self.axes.T

    def flow(self, y: Tensor, start: float, end: float) -> Tensor:
        """Where dy/ds = (y - D) / s carries y from level `start` to level `end`: a linear map."""
        grow = ((self.variances + end**2) / (self.variances + start**2)).sqrt()
        return self.mean + (y - self.mean) @ self.axes @ grow.diag() @ self.axes.T

    def draw(self, count: int) -> Tensor:
        z = torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return self.mean + z @ self.variances.sqrt().diag() @ self.axes.T


def test_the_way_up_is_the_exact_linear_map() -> None:
    law = Gaussian()
    x, scale = law.draw(5), (HIGH**2 + 1) ** 0.5
    noise = to_noise(law.denoise, x, karras_sigmas(1000, low=LOW, high=HIGH))
    exact = law.flow(x, LOW, HIGH) / scale
    torch.testing.assert_close(noise, exact, atol=2e-4, rtol=0)
    many = to_noise(law.denoise, law.draw(4000), karras_sigmas(100, low=LOW, high=HIGH))
    torch.testing.assert_close(many.T.cov(), torch.eye(3, dtype=torch.float64), atol=0.08, rtol=0)
    # A way down undoes it: x comes back, but for what the lowest level blurs.
    again = from_noise(law.denoise, exact, karras_sigmas(1000, low=LOW, high=HIGH))
    torch.testing.assert_close(again, x, atol=2e-3, rtol=0)


def test_the_round_trip_is_of_second_order() -> None:
    law, x = Gaussian(), Gaussian().draw(64)

    def errors(count: int) -> tuple[float, float]:
        levels = karras_sigmas(count, low=1e-4, high=HIGH)
        noise = to_noise(law.denoise, x, levels)
        there = (noise - law.flow(x, 1e-4, HIGH) / (HIGH**2 + 1) ** 0.5).abs().mean()
        return float(there), float((from_noise(law.denoise, noise, levels) - x).abs().mean())

    found = np.array([errors(count) for count in (40, 80, 160, 320)])
    orders = np.log2(found[:-1] / found[1:])
    assert (orders > 1.6).all(), (found, orders)


def digits() -> np.ndarray:
    return (load_digits().images * 15).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A run of digits by the preset, trained when it is first asked for; those of codes are twice as large."""
    folder, done = tmp_path_factory.mktemp("inversion"), {}

    def get(model: str) -> Any:
        if model not in done:
            out, x = folder / model.replace(":", "-"), digits()
            latent = model == "diffusion:latent"
            x = np.kron(x[:600], np.ones((2, 2), dtype=np.uint8)) if latent else x
            tl.train(x, model=model, out=out, budget="3k", size="xs", settings=dict(PLAIN), quiet=True)
            done[model] = tl.load(out)
        return done[model]

    return get


def psnr(x: np.ndarray, again: np.ndarray) -> float:
    return float(20 * np.log10(255) - 10 * np.log10(max(np.square(x.astype(float) - again).mean(), 1e-3)))


@pytest.mark.parametrize("model", ["diffusion", "diffusion:flow", "diffusion:ddpm-learned"])
def test_pictures_come_back(run: Callable[[str], Any], model: str) -> None:
    """Unseen pictures, too; the more steps, the nearer; and the noise of data is like noise."""
    loaded, x = run(model), digits()[-40:]
    near = [psnr(x, loaded.reconstruct(x, steps=steps)) for steps in (4, 8, 32)]
    assert near[0] < near[1] < near[2] and near[2] > 35, near
    codes = torch.cat([code for code, _ in loaded._codes(x, options=Options(steps=32, guidance=1.0))])
    assert codes.shape == (40, 64) and 0.5 < float(codes.square().mean()) < 1.5


def test_latent_pictures_come_back_as_their_codes_do(run: Callable[[str], Any]) -> None:
    loaded = run("diffusion:latent")
    x = np.kron(digits()[600:620], np.ones((2, 2), dtype=np.uint8))
    space, raw = loaded.space, torch.from_numpy(x).unsqueeze(1)
    coded = space.decode(space.embed(raw)).squeeze(1).round().clamp(0, 255).numpy()
    again = loaded.reconstruct(x, steps=32)
    assert psnr(coded, again) > 30 and psnr(x, again) > psnr(x, coded) - 1
    assert loaded.interpolate(x[:1], x[1:2], steps=3, sampler_steps=8).shape == (3, 16, 16)


def test_the_ends_of_a_way(run: Callable[[str], Any]) -> None:
    """Of files: what `reconstruct` makes of them; of numbers: what `generate` does; between them other pictures."""
    loaded, x = run("diffusion"), digits()
    way = loaded.interpolate(x[:1], x[1:2], steps=5, sampler_steps=16)
    ends = loaded.reconstruct(x[:2], steps=16)
    assert np.abs(way[[0, -1]].astype(int) - ends).max() <= 2
    mixed = (x[0].astype(float) + x[1]) / 2
    assert psnr(mixed, way[2]) < 25, "half-way is no cross-fade"
    way, samples = loaded.interpolate(0, 3, steps=4, seed=5), loaded.generate(4, seed=5)
    assert np.abs(way[[0, -1]].astype(int) - samples[[0, 3]]).max() <= 2
    assert len({one.tobytes() for one in way}) == 4


def test_the_noise_of_the_way_keeps_its_size(run: Callable[[str], Any]) -> None:
    loaded = run("diffusion")
    request = loaded.sampler.request(0, np.arange(2))
    codes = loaded.model.draw(request)
    way = spherical(codes[:1], codes[1:], torch.linspace(0, 1, 5).unsqueeze(1))
    assert float(way.std(1).min()) > 0.85 * float(codes.std(1).min())


def test_conditions_count(tmp_path: Path) -> None:
    """A picture comes back under its own label; with another one at the way down it becomes another."""
    x, y = digits(), load_digits().target
    tl.train((x, y), model="diffusion", out=tmp_path / "run", budget="4k", size="xs", settings=dict(PLAIN), quiet=True)
    loaded = tl.load(tmp_path / "run")
    batch = loaded.prepared(x[:16], 0)[0]
    tell(loaded.model.spaces, batch)
    own = {"label": torch.from_numpy(y[:16]).long().unsqueeze(1)}
    other = {"label": (own["label"] + 3) % 10}
    here, options = {"label": torch.ones(16, dtype=torch.bool)}, Options(guidance=1.0, steps=24)
    with torch.no_grad():
        codes = loaded.model.invert(batch.x, Request(batch.noise, own, here, options))
        again, another = (loaded.model.decode(codes, Request(batch.noise, raw, here, options)) for raw in (own, other))
    near, far = (psnr(x[:16], made.numpy()[:, 0]) for made in (again, another))
    assert near > 30 and far < near - 6, (near, far)
    assert loaded.reconstruct(x[:3]).shape == (3, 8, 8)  # files come without labels


def test_tables_come_back(tmp_path: Path) -> None:
    import pandas as pd

    generator = np.random.default_rng(0)
    a = generator.normal(size=600).round(3)
    frame = pd.DataFrame({"a": a, "b": (a + generator.normal(size=600)).round(3), "c": np.where(a > 0, "up", "down")})
    tl.train(frame, model="diffusion", out=tmp_path / "run", budget="10k", size="xs", settings=dict(PLAIN), quiet=True)
    again = tl.load(tmp_path / "run").reconstruct(frame.head(100))
    assert (again["c"] == frame["c"].head(100)).mean() > 0.95
    assert (again["a"] - frame["a"].head(100)).abs().median() < 0.1


def test_the_command_line(run: Callable[[str], Any], tmp_path: Path) -> None:
    folder, x = run("diffusion").run.folder, digits()
    for number in range(2):
        Image.fromarray(x[number]).save(tmp_path / f"{number}.png")
    for steps in (6, 48):
        said = call("reconstruct", folder, tmp_path / "0.png", "--steps", steps, "--out", tmp_path / "again.npy")
        again = np.load(tmp_path / "again.npy")
        near = "every value" if np.array_equal(again[0], x[0]) else f"{psnr(x[:1], again):.1f} dB"
        assert said.code == 0 and near in said.err, said.err
    assert psnr(x[:1], again) > 40
    files = tmp_path / "0.png", tmp_path / "1.png"
    for out in ("way.png", "way.gif"):
        said = call("interpolate", folder, *files, "--sampler-steps", 16, "--steps", 4, "--out", tmp_path / out)
        assert said.code == 0 and (tmp_path / out).is_file(), said.err
    assert call("interpolate", folder, 0, 1, "--steps", 3, "--out", tmp_path / "seeds.png").code == 0
    for steps, words in ((1, "two steps"), (0, "--steps 0")):
        assert words in call("reconstruct", folder, files[0], "--steps", steps, "--out", tmp_path / "no.npy").error
    assert "cannot embed" in call("embed", folder, files[0], "--out", tmp_path / "no.npy").error
    assert not (tmp_path / "no.npy").exists()


def test_codes_of_noise_are_no_few_numbers(run: Callable[[str], Any]) -> None:
    """What asks for few numbers does not take noise for them."""
    model = run("diffusion").model
    assert isinstance(model, Inverts) and not isinstance(model, Encodes | Decodes)
    assert {"reconstruct", "interpolate"} <= set(run("diffusion").can())
    assert not {"embed", "traverse"} & set(run("diffusion").can())
    with pytest.raises(InputError, match="steps"):
        model.invert(torch.zeros(1, 1, 8, 8), Request(Noise(0, np.zeros(1)), options=Options(steps=1)))


def test_series_say_why_not(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=300).cumsum().round(3)})
    frame["day"] = pd.date_range("2020-01-01", periods=300).strftime("%Y-%m-%d")
    settings = dict(PLAIN) | {"data.window": 16}
    tl.train(frame, model="diffusion", out=tmp_path / "run", budget="500", size="xs", settings=settings, quiet=True)
    loaded = tl.load(tmp_path / "run")
    for ask in (lambda: loaded.reconstruct(frame), lambda: loaded.interpolate(0, 1)):
        with pytest.raises(InputError, match=r"calendar.*vae"):
            ask()
