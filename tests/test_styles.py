"""Styles: modulated layers, steered augmentation, and control of what a trained generator makes."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from test_cli import call
from torch import Tensor

import trilemma as tl
from trilemma.config import SIZES
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.metrics import control
from trilemma.models.contract import Now, configure
from trilemma.models.gan import GAN
from trilemma.models.stylegan import StyleGAN, path_lengths
from trilemma.networks.augment import GREATEST, _resampled, risen, vary
from trilemma.networks.layers import Network
from trilemma.networks.stylegan import CONVOLVE, Mapping, Modulated, Synthesis
from trilemma.report.measure import SEED, moved_for
from trilemma.report.of_styles import has_control, of_styles, sheet
from trilemma.spaces import Categorical, Continuous
from trilemma.tasks import styles
from trilemma.tasks.load import Loaded

# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_modulation_is_the_convolution_by_modulated_weights(dims: int) -> None:
    """Scaled inputs and divided outputs against equations 1 and 3, with a kernel for each example."""
    torch.manual_seed(0)
    layer = Modulated(4, 6, dims, 3, style=5, pace=10.0, gain=2.0, last=False).double()
    assert layer.strength is not None
    layer.strength.data.fill_(0.3)
    grid = (5, 4, 3)[:dims]
    x, w, noise = (torch.randn(3, *shape, dtype=torch.float64) for shape in ((4, *grid), (5,), (1, *grid)))
    made = layer(x, w, noise)
    scaled, style = layer.convolution.scaled(), layer.affine(w)
    for number in range(3):
        own = scaled * style[number].reshape(1, -1, *[1] * dims)
        own = own / (own.square().flatten(1).sum(1) + 1e-8).sqrt().reshape(-1, 1, *[1] * dims)
        plain = CONVOLVE[dims](x[number : number + 1], own, **({"padding": 1} if dims else {}))
        bias = layer.convolution.bias.reshape(-1, *[1] * dims)
        torch.testing.assert_close(made[number : number + 1], 2 * plain + bias + 0.3 * noise[number : number + 1])


def test_the_synthesis_keeps_variance_and_its_rates_are_equal() -> None:
    torch.manual_seed(0)
    network = Network(width=32, multipliers=(1, 2, 3), depth=2, patch=2, activation="leaky_relu")
    synthesis = Synthesis(3, (32, 20), network, style=64, pace=10.0)
    w = Mapping(16, 0, 64, 2, pace=10.0)(torch.randn(64, 16)).unsqueeze(1).expand(-1, synthesis.layers, -1)
    x = synthesis(w, torch.randn(64, sum(synthesis.noises)))
    assert x.shape == (64, 3, 32, 20) and 0.3 < float(x.detach().std()) < 1.5
    assert torch.equal(x, synthesis(w, None)), "the noise's strength is 0 at the start"
    stored = [layer.convolution.weight.detach().std() for layer in synthesis.modulated]
    stored += [layer.affine.weight.detach().std() for layer in synthesis.modulated]
    assert all(float(deviation) == pytest.approx(0.1, rel=0.1) for deviation in stored)


def test_mixed_styles_act_from_their_layer_on() -> None:
    model = toy.build("stylegan", CASES["image"], toy.settings("stylegan", CASES["image"], mixing=0.5))
    batch = CASES["image"].batch()
    assert isinstance(model, StyleGAN)
    z, other = batch.noise.normal(2, model.config.latent).unbind(1)
    always = torch.stack([torch.zeros(8), torch.linspace(0, 0.99, 8)], 1)  # mixed; from every layer but the first
    w = model.styles(z, other, always, batch)
    one, two = (model.mapped(codes, batch.raw, batch.present) for codes in (z, other))
    for row, styles_of_row in enumerate(w):
        layers = model.synthesis.layers
        crossing = 1 + int(always[row, 1] * (layers - 1))
        assert torch.equal(styles_of_row[:crossing], one[row].expand(crossing, -1))
        assert torch.equal(styles_of_row[crossing:], two[row].expand(layers - crossing, -1))
    never = model.styles(z, other, torch.ones(8, 2) * 0.999, batch)
    assert torch.equal(never, one.unsqueeze(1).expand_as(never))


def test_path_lengths_of_a_linear_generator() -> None:
    """x = M w: J^T y = M^T y, whose mean square is |M|^2 / numbers of x."""
    torch.manual_seed(0)
    matrix, w = torch.randn(6, 4, dtype=torch.float64), torch.randn(4000, 1, 4, dtype=torch.float64, requires_grad=True)
    x = torch.einsum("ij,blj->bi", matrix, w)
    lengths = path_lengths(x, w, Noise(0, np.arange(4000)))
    assert float(lengths.square().mean()) == pytest.approx(float(matrix.square().sum()) / 6, rel=0.05)


# --- augmentation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (2, 9), (3, 8, 8), (1, 8, 6), (1, 4, 4, 3)], ids=str)
def test_the_pipe_leaves_alone_with_probability_zero(shape: tuple[int, ...]) -> None:
    x, noise = torch.randn(5, *shape), Noise(0, np.arange(5))
    torch.testing.assert_close(vary(x, noise, torch.tensor(0.0)), x, rtol=1e-5, atol=1e-5)
    x.requires_grad_(True)
    changed = vary(x, Noise(0, np.arange(5)), torch.tensor(0.8))
    assert changed.shape == x.shape and torch.isfinite(changed).all()
    part = vary(x[2:4], Noise(0, np.arange(2, 4)), torch.tensor(0.8))
    torch.testing.assert_close(part, changed[2:4])
    (gradient,) = torch.autograd.grad(changed.square().sum(), x)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    if len(shape) > 1:
        assert not torch.allclose(changed, x)


def test_the_pipe_rounds_nothing_under_autocast() -> None:
    x = torch.randn(5, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        left = vary(x, Noise(0, np.arange(5)), torch.tensor(0.0))
    torch.testing.assert_close(left, x, rtol=1e-5, atol=1e-5)


def test_augmentation_rises_with_the_examples_seen() -> None:
    assert [risen(0.8, seen, 1000) for seen in (0, 250, 1000, 5000)] == pytest.approx([0.0, 0.2, 0.8, 0.8])
    assert risen(0.8, 0, 0) == 0.8  # at once
    settings = GAN.adapt({"x": Continuous((1, 28, 28))}, "s", 2000)
    assert (settings["augment"], settings["augment_over"]) == (1.0, 50 * 2000)
    assert "augment" not in GAN.adapt({"x": Continuous((1, 28, 28))}, "s", 20_000)
    with pytest.raises(InputError, match="augment_over"):
        configure("gan", {"x": Continuous((1, 28, 28))}, changes={"augment_over": -5})


@pytest.mark.parametrize(
    ("shape", "count", "steered", "gamma", "falls", "levels", "patch"),
    [
        ((1, 8, 8), 500, True, 1.0, 0.1, 2, 1),  # so small that few examples need no stronger penalty
        ((1, 28, 28), 60_000, False, 1.0, 0.1, 2, 2),
        ((1, 28, 28), 9_999, True, 1.0, 0.2, 2, 2),
        ((3, 32, 32), 50_000, False, 3.07, 0.1, 3, 2),
        ((3, 32, 32), 1_000, True, 9.71, 0.2, 3, 2),  # ten times too few: sqrt(10) times as much
        ((3, 32, 32), 100, True, 9.71, 0.2, 3, 2),  # and no more than that
        ((3, 64, 64), 50_000, False, 12.29, 0.1, 4, 2),
        ((3, 64, 20), 50_000, False, 3.84, 0.1, 4, 2),
        ((3, 256, 256), 50_000, False, 196.61, 0.1, 6, 2),
    ],
)
def test_settings_of_stylegan_follow_the_data(
    shape: tuple[int, ...], count: int, steered: bool, gamma: float, falls: float, levels: int, patch: int
) -> None:
    """The penalty follows the numbers of an example and how few there are; steered augmentation is for few; the
    synthesis starts from 4 to 8 places a side."""
    config = configure("stylegan", {"x": Continuous(shape)}, count=count)
    assert (config.target > 0) is steered and config.augment == 0
    assert config.gamma == pytest.approx(gamma, rel=0.01) and config.gamma_end == pytest.approx(falls * gamma, rel=0.02)
    assert (len(config.network.multipliers), config.network.patch) == (levels, patch)
    synthesis = Synthesis(shape[0], shape[1:], config.network, style=8, pace=1.0)
    assert min(map(max, synthesis.sides)) <= 8 and max(map(max, synthesis.sides)) >= max(shape[1:]) // patch


def test_settings_of_stylegan_follow_size_labels_and_the_user() -> None:
    image = {"x": Continuous((1, 28, 28))}
    widths = [configure("stylegan", image, size=size).network.width for size in SIZES]
    assert widths == sorted(set(widths))
    labels = {**image, "label": Categorical((1,), 10)}
    clusters = [configure("stylegan", each, count=count).clusters
                for each, count in ((image, 20_000), (image, 1_000_000), (image, 1_000), (labels, 20_000))]  # fmt: skip
    assert clusters == [40, 100, 0, 0]
    asked = [configure(name, image, count=1000).target for name in ("stylegan", "stylegan:ada", "stylegan:plain")]
    assert asked[0] == asked[1] > asked[2] == 0
    assert configure("stylegan:ada", image, count=50_000).target == asked[0], "asked for, many or few"
    assert configure("stylegan", image, count=1000, changes={"gamma": 5.0, "target": 0.0}).gamma == 5.0
    vector = configure("stylegan", {"x": Continuous((5,))}, count=500)
    assert (vector.network.kind, vector.target, vector.optimizer.batch) == ("mlp", 0.0, 256)


def test_reading_along_an_axis() -> None:
    x = torch.arange(6.0).reshape(1, 1, 6)
    one, zero = torch.ones(1), torch.zeros(1)
    torch.testing.assert_close(_resampled(x, 2, scale=-one, shift=zero), x.flip(2))
    torch.testing.assert_close(_resampled(x, 2, scale=one, shift=2 * one)[0, 0], torch.tensor([2.0, 1, 0, 1, 2, 3]))
    torch.testing.assert_close(
        _resampled(x, 2, scale=2 * one, shift=zero)[0, 0, 1:5], torch.tensor([1.75, 2.25, 2.75, 3.25])
    )


def test_hues_turn_around_grey() -> None:
    """Brightness is not moved by hue and saturation: grey stays what it is, up to brightness and contrast."""
    grey = torch.rand(64, 1, 4, 4).expand(-1, 3, -1, -1)
    changed = vary(grey, Noise(0, np.arange(64)), torch.tensor(0.8))
    torch.testing.assert_close(changed[:, :1].expand_as(changed), changed, rtol=1e-4, atol=1e-4)


def test_augmentation_follows_the_critic() -> None:
    model = toy.build("stylegan:ada", CASES["image"])
    assert isinstance(model, StyleGAN)
    now, step = Now(0, 0, 800), model.config.optimizer.batch / (model.config.rise * 800)
    high, low, right = torch.tensor([0.9, 0.1, model.config.target], dtype=torch.float64)
    model.adjust({"wins": high}, now)
    assert float(model.probability) == pytest.approx(step)
    model.adjust({"wins": right}, now)
    assert float(model.probability) == pytest.approx(step)
    for _ in range(100):
        model.adjust({"wins": high}, now)
    assert float(model.probability) == pytest.approx(GREATEST)
    for _ in range(200):
        model.adjust({"wins": low}, now)
    assert float(model.probability) == 0.0
    model.probability = model.probability.to("meta")  # where a value that is looked at is an error
    model.adjust({"wins": high.to("meta")}, now)


# --- a trained generator ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of digits with their labels, after seconds."""
    digits = load_digits()
    images = (digits.images[:600] * 15).astype(np.uint8)
    out = tmp_path_factory.mktemp("styles") / "run"
    settings = {
        "training.previews": 1,
        "training.choose_samples": 0,
        "training.dtype": "float32",
        "network.width": 16,
        "critic.width": 24,
    }
    data = {"x": images, "labels": digits.target[:600]}
    tl.train(data, model="stylegan", out=out, budget="4k", size="xs", settings=settings, quiet=True)
    return out


@pytest.fixture(scope="module")
def run(folder: Path) -> Loaded:
    return tl.load(folder)


def test_truncation(run: Loaded) -> None:
    plain, half, mean = (run.generate(20, truncation=psi).astype(float) for psi in (1.0, 0.5, 0.0))
    assert np.array_equal(plain, run.generate(20).astype(float))
    spread = [float(x.std(0).mean()) for x in (plain, half, mean)]
    assert spread[0] > spread[1] > spread[2]
    one = run.generate(6, label=3, truncation=0.0, noise_seed=1)
    assert np.abs(one.astype(float) - one[0]).mean() < 20, "the mean of one label differs by the layers' noise only"
    with pytest.raises(InputError, match="--truncation nan"):
        run.generate(2, truncation=math.nan)
    with pytest.raises(InputError, match="'nonsense': StyleGAN draws its codes from 'normal'"):
        run.generate(2, prior="nonsense")


def test_noise_of_layers_alone(folder: Path) -> None:
    run = tl.load(folder)
    for name, weight in run.model.named_parameters():
        if name.endswith("strength"):
            weight.data.fill_(0.5)
    plain, other = run.generate(8).astype(float), run.generate(8, noise_seed=5).astype(float)
    apart = np.abs(plain - other).mean((1, 2))
    assert (apart > 0).all() and apart.mean() < np.abs(plain - run.generate(8, seed=9)).mean()
    assert np.array_equal(other, run.generate(8, noise_seed=5)) and np.array_equal(other[3:5], run.generate(
        2, noise_seed=5, start=3
    ))  # fmt: skip


def test_mixtures(run: Loaded) -> None:
    sheet = run.mix([3, 7], columns=[1, 2, 4], layers="2-3", raw=True)
    assert sheet.shape[:2] == (3, 4)
    count = styles.layers_count(run.sampler)
    everything = run.mix([3, 7], layers=f"1-{count}", raw=True)
    for place in (1, 2):
        assert np.array_equal(everything[1, place], everything[0, place]), "all layers are the column's"
        assert np.array_equal(run.mix([3, 7], raw=True)[place, place], everything[0, place])
    for wrong in ("0-2", "3-99", "fine"):
        with pytest.raises(InputError, match="--layers"):
            run.mix([3, 7], layers=wrong)


def test_directions(run: Loaded, folder: Path) -> None:
    names = run.direction_names()
    assert {"3", "brightness", "pca-1", "sefa-1"} <= set(names)
    still = run.edit(direction="pca-1", amount=0.0, seed=4, raw=True)[0]
    assert np.abs(still - run.generate(1, seed=4, raw=True)[0].astype(float)).max() <= 1
    levels = [run.edit(direction="brightness", amount=[-2.0, 0.0, 2.0], number=n).mean((1, 2)) for n in range(8)]
    low, middle, high = np.mean(levels, 0)
    assert low < middle < high
    assert run.directions(["pca-1", "sefa-2", "7"], steps=3).shape[:2] == (3, 3)
    sheet = run.directions(steps=2, raw=True)
    assert len(sheet) == 12 and np.array_equal(sheet[:4], run.directions(run.label_names[:4], steps=2, raw=True))
    with pytest.raises(InputError, match="--direction smile"):
        run.edit(direction="smile")


def test_the_direction_of_a_label_leads_to_its_mean(run: Loaded) -> None:
    """From the mean of all labels a step of 1 is the mean style under the label."""
    model, request = styles.capable(run.sampler), run.sampler.request(0, np.arange(1), label=3)
    assert run.sampler.frequencies is not None
    under = torch.stack(
        [model.mean_style(run.sampler.request(0, np.arange(1), label=k))[0, 0] for k in range(10)]
    ).double()
    middle = torch.tensor(run.sampler.frequencies).double() @ under
    step = styles.direction(run.sampler, "3", run.label_names).step.double()
    torch.testing.assert_close(middle + step, model.mean_style(request)[0, 0].double(), rtol=1e-3, atol=1e-3)


def test_sefa_finds_what_the_layers_amplify(run: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = styles.capable(run.sampler)
    matrix = torch.zeros(3, model.config.style)
    matrix[:, 5] = torch.tensor([1.0, -1.0, 1.0])
    monkeypatch.setattr(model, "affines", lambda: [matrix] * model.synthesis.layers)
    step = styles.direction(run.sampler, "sefa-1", run.label_names).step
    assert int(step.abs().argmax()) == 5 and float(step.abs().max() / step.norm()) > 0.999


def test_projection_of_a_sample_finds_it(run: Loaded) -> None:
    given = run.generate(2, seed=11)
    short, long = (run.project(given, steps=steps) for steps in (2, 120))
    assert (long.psnr > short.psnr + 3).all() and long.psnr.min() > 18, (short.psnr, long.psnr)
    assert all(weight.grad is None and weight.requires_grad for weight in run.model.parameters())
    tuned = run.project(given, steps=2, tune=60)
    assert (tuned.psnr > short.psnr + 1).all()
    assert np.array_equal(run.generate(2, seed=11), given), "tuning is of a copy"
    again = run.edit(given[0], direction="pca-1", amount=[0.0], steps=60)
    assert np.abs(again[0].astype(float) - given[0]).mean() < 40
    with pytest.raises(InputError, match="one example"):
        run.edit(given, direction="pca-1")


def test_projection_in_parts_is_projection(run: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given = run.generate(5, seed=11)
    whole = run.project(given, steps=4, tune=2)
    monkeypatch.setattr(styles, "PART", 2)
    parts = run.project(given, steps=4, tune=2)
    for one, two in ((whole.styles, parts.styles), (whole.noise, parts.noise), (whole.decoded(), parts.decoded())):
        torch.testing.assert_close(one.float(), two.float(), rtol=1e-3, atol=1e-3 * float(one.float().abs().max()))
    np.testing.assert_allclose(whole.psnr, parts.psnr, atol=0.01)


def test_the_way_between_files_has_their_projections_as_ends(
    run: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(styles, "project", partial(styles.project, steps=5))
    made = run.generate(2, seed=11)
    for name, one in zip("ab", made, strict=True):
        Image.fromarray(one).save(tmp_path / f"{name}.png")
    way = run.interpolate(tmp_path / "a.png", tmp_path / "b.png", space="w", steps=3, raw=True)
    ends = run.sampler.array(run.project(made, steps=5).decoded())
    assert way.shape == (3, 1, 8, 8)
    assert np.abs(way[[0, 2]].astype(float) - ends).max() <= 1 and np.abs(way[1].astype(float) - ends).max() > 1
    with pytest.raises(InputError, match="add --space w"):
        run.interpolate(tmp_path / "a.png", tmp_path / "b.png")


def test_the_way_in_styles_has_the_ends_of_that_in_codes(run: Loaded) -> None:
    z, w = (run.interpolate(0, 1, steps=5, space=space).astype(float) for space in ("z", "w"))
    assert z.shape == w.shape and np.abs(z[0] - w[0]).max() <= 1
    assert np.abs(z[2] - w[2]).max() > 1
    with pytest.raises(InputError, match="--space x"):
        run.interpolate(0, 1, space="x")


@pytest.mark.parametrize("space", ["z", "w"])
def test_ways_stay_on_the_model_s_device(space: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one that has nothing in common with the processor: mixing the two is an error there."""
    run = tl.load(folder)
    run.model.to("meta")
    run.engine.device = torch.device("meta")
    monkeypatch.setattr(run.sampler, "array", lambda x: np.zeros(x.shape))
    assert run.interpolate(0, 1, steps=4, space=space, raw=True).shape == (4, 1, 8, 8)


def test_the_verbs(folder: Path, run: Loaded, tmp_path: Path) -> None:
    picture = tmp_path / "digit.png"
    Image.fromarray(run.generate(1, seed=2)[0]).save(picture)
    for command in (
        ("generate", folder, "-n", 4, "--truncation", 0.7, "--out", tmp_path / "few.png"),
        ("mix", folder, "--seeds", "3,7", "--layers", "2-3", "--out", tmp_path / "mixed.png"),
        ("project", folder, picture, "--steps", 3, "--tune", 2, "--out", tmp_path / "projected.png"),
        ("edit", folder, picture, "--direction", "3", "--amount", "0,1", "--steps", 3, "--out", tmp_path / "edit.png"),
        ("edit", folder, "--seed", 5, "--direction", "sefa-1", "--out", tmp_path / "other.png"),
        ("directions", folder, "--names", "pca-1,7", "--steps", 3, "--out", tmp_path / "directions.png"),
        ("interpolate", folder, 0, 1, "--space", "w", "--steps", 4, "--out", tmp_path / "film.gif"),
        ("interpolate", folder, 0, 1, "--steps", 4, "--out", tmp_path / "codes.gif"),
    ):
        said = call(*command)
        assert said.code == 0, said.err
        assert Path(said.out.split()[-1]).is_file()
    assert "dB" in call("project", folder, picture, "--steps", 2, "--out", tmp_path / "projected.png").err
    films = []
    for name in ("film.gif", "codes.gif"):
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 6  # there and back
            frames = []
            for number in range(6):
                film.seek(number)
                frames.append(np.asarray(film.convert("L").resize((8, 8), Image.Resampling.BOX)).astype(float))
            films.append(np.stack(frames))
    styled, coded = films
    for film, space in ((styled, "w"), (coded, "z")):
        way = run.interpolate(0, 1, steps=4, space=space).astype(float)
        assert np.abs(film - way[[0, 1, 2, 3, 2, 1]]).mean() < 3, (
            "a film is the way there and back, but for its palette"
        )
    assert np.abs(styled[1:3] - coded[1:3]).mean() > 1, "ways of their own"
    assert "--amount much" in call("edit", folder, "--amount", "much").error
    for told in ("--direction", "--amount", "--layers", "--number", "--tune"):
        error = call("edit", folder, picture, "--prompt", "a seven", told, 1).error
        assert f"{told} 1: moves along a direction" in error and "with --prompt" in error
    for told in ("--strength", "--negative", "--guidance"):
        assert (
            f"{told} 1" in (error := call("edit", folder, told, 1).error) and "goes with --prompt or --where" in error
        )
    assert "--seeds a" in call("mix", folder, "--seeds", "a").error


# --- measures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["z", "w"])
def test_steps_on_ways_scale_with_their_length(run: Loaded, space: str) -> None:
    """Half the step, half the way: the path length is that of the model, not of the step."""
    lengths = []
    for step in (0.02, 0.01):
        here, there = styles.nearby(run.sampler, 60, step=step, space=space)
        found = control.perceptual_path_length(here.reshape(60, -1), there.reshape(60, -1), step=step)
        lengths.append(found.value)
    assert lengths[0] > 0 and lengths[1] == pytest.approx(lengths[0], rel=0.1)


def test_measures_of_control() -> None:
    asked = np.array(["3"] * 8 + ["5"] * 2)
    assert control.changed_as_asked(asked, np.array(["3"] * 10)).value == 0.8
    before = np.stack([np.arange(10), np.arange(10) % 2], 1)
    after = before.copy()
    after[0, 1] += 1
    found = control.kept(before, after)
    assert found.value == 0.9 and found.low is not None and found.low < 0.9
    x = np.random.default_rng(0).normal(size=(50, 3))
    groups = np.arange(50) % 2
    assert control.replaced(x, x, groups).value == 0 and 0.2 < control.replaced(x, x + 0.3, groups).value < 0.4
    anew = np.random.default_rng(1).normal(size=(50, 3))
    assert control.replaced(x, anew, groups).value == pytest.approx(1, abs=0.15)
    assert control.perceptual_path_length(x, x + 0.01, step=0.01).value == pytest.approx(3.0)
    with pytest.raises(ValueError, match="shapes"):
        control.kept(before, after[:3])


def judge() -> Any:
    """What a report measures by, on digits: values for features, a classifier for a reader."""
    digits = load_digits()
    reader = LogisticRegression(max_iter=200).fit(digits.images.reshape(-1, 64) / 16, digits.target)
    network = lambda x: np.asarray(x, dtype=np.float64).reshape(len(x), -1) / 240  # noqa: E731
    return SimpleNamespace(network=network, reader=reader, attributes=None, protocol=SimpleNamespace(moved_count=60))


def test_a_report_says_what_styles_control(run: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_control(run)
    found = {name: record["value"] for name, record in of_styles(run, judge()).items()}
    of_labels = {"changed@label", "kept@label", "replaced@label"}
    assert found.keys() == {"changed", "kept", "separability", "path_length@z", "path_length@w"} | of_labels
    assert 0 < found["kept@label"] <= 1 and 0 < found["replaced@label"] < 1
    assert found["changed"] > 0.6 and found["changed@label"] > 0.2 and 0 < found["kept"] <= 1
    assert found["path_length@z"] > 0 and found["path_length@w"] > 0 and found["separability"] > 1
    names, moved = sheet(run)
    assert names == [*run.label_names[:4], "brightness", "pca-1", "pca-2", "pca-3"]
    assert moved.shape[:2] == (8, 7) and moved.dtype == np.uint8
    still = run.generate(1, seed=SEED, raw=True)[0].astype(float)
    assert np.abs(moved[:, 3] - still).max() <= 1, "the sample itself is in the middle"

    # A generator that is deaf to its styles: nothing is changed, all is kept, no way has a length.
    monkeypatch.setattr(run.model, "synthesise", lambda styles, noise: torch.zeros(len(styles), 1, 8, 8))
    deaf = {name: record["value"] for name, record in of_styles(run, judge()).items()}
    assert deaf["changed"] == 0 and deaf["kept"] == deaf["kept@label"] == 1 and deaf["changed@label"] < 0.3
    assert "replaced@label" not in deaf, "there is nothing to hold it against"
    assert deaf["path_length@z"] == deaf["path_length@w"] == 0


def test_how_many_samples_are_moved_follows_from_their_size_alone() -> None:
    def of(*shape: int) -> int:
        return moved_for(SimpleNamespace(x=np.empty((1, *shape), "u1")))  # type: ignore[arg-type]

    assert (of(1, 8, 8), of(3, 96, 96), of(3, 512, 512), of(5)) == (60, 54, 40, 0)


def test_separability_is_one_for_planes_and_more_for_rings() -> None:
    random = np.random.default_rng(0)
    w = random.normal(size=(400, 4))
    plane, ring = w[:, 0] > 0, (w[:, :2] ** 2).sum(1) > 1.4
    assert control.separability(w, plane).value < 1.15
    assert control.separability(w, ring).value > 1.6
    both = control.separability(w, np.stack([plane, ring], 1)).value
    product = control.separability(w, plane).value * control.separability(w, ring).value
    assert both == pytest.approx(product)


def test_means_of_a_turn_reach_the_model_once() -> None:
    """Two micro-batches and the whole: the same probability and the same mean path, moved once a step."""
    found: list[tuple[Tensor, Tensor]] = []
    for micro in (0, 4):
        config = toy.settings("stylegan:ada", CASES["image"], path_length=1.0, path_every=1)
        loop = toy.loop("stylegan:ada", CASES["image"], steps=20, dtype="float64", config=config, micro=micro)
        for _ in range(3):
            loop.take_step()
        assert isinstance(loop.model, StyleGAN)
        found.append((loop.model.probability, loop.model.path_mean))
    assert float(found[0][1]) > 0
    torch.testing.assert_close(found[0], found[1])
