"""Every verb over trained models, by the command line and from Python: what it writes, and what it refuses."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import call
from PIL import Image

import trilemma as tl
from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.maths.signals import estimated_noise, spherical
from trilemma.models.diffusion import Diffusion
from trilemma.tasks.abilities import TASKS, models_that
from trilemma.tasks.load import Loaded
from trilemma.training.run import Run, write_json

SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
}
LABELS = {"bar": 120, "dot": 72, "edge": 48}
BUDGETS = {"autoencoder:denoising": "10k", "vae": "4k", "gan": "1k", "diffusion": "1k"}


def written(*arguments: object) -> np.ndarray:
    """What a verb wrote to its `--out x.npy`, the last argument."""
    said = call(*arguments)
    assert said.code == 0, said.err
    assert said.out.splitlines() == [str(arguments[-1])]
    return np.load(Path(str(arguments[-1])))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 grey pictures of 8 x 8 in three class folders: 50 %, 30 % and 20 %."""
    folder, generator = tmp_path_factory.mktemp("data") / "shapes", np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    for label, count in LABELS.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            a, b = generator.normal(size=2)
            x = {
                "bar": np.exp(-((rows - 4 + b) ** 2) / 2),
                "dot": np.exp(-((rows - 4 + a) ** 2 + (columns - 4 + b) ** 2) / 4),
                "edge": 1 / (1 + np.exp(-3 * (columns - 4 + a))),
            }[label]
            Image.fromarray((255 * x).astype(np.uint8)).save(folder / label / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run folder of a model on the shapes, trained when it is first asked for."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def get(model: str) -> Path:
        if model not in done:
            done[model] = folder / model.replace(":", "-")
            tl.train(
                shapes,
                model=model,
                out=done[model],
                budget=BUDGETS[model],
                size="xs",
                settings=dict(SETTINGS),
                quiet=True,
            )
        return done[model]

    return get


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN on colour pictures of 6 x 5 without labels."""
    folder = tmp_path_factory.mktemp("plain")
    x = np.random.default_rng(0).integers(0, 256, (200, 6, 5, 3), dtype=np.uint8)
    tl.train(x, model="gan", out=folder / "run", budget="256", size="xs", settings=dict(SETTINGS), quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE on points in the plane."""
    x = np.random.default_rng(0).normal(size=(240, 2)).astype(np.float32) * [1.0, 0.2] + [3.0, 0.0]
    folder = tmp_path_factory.mktemp("points")
    tl.train(x, model="vae", out=folder / "run", budget="4k", size="xs", settings=dict(SETTINGS), quiet=True)
    return folder / "run"


def some(shapes: Path, count: int = 4) -> np.ndarray:
    """A few pictures of each label, one label after the other: (3 * count, 8, 8) uint8."""
    files = [file for label in LABELS for file in sorted((shapes / label).iterdir())[:count]]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def psnr(x: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((x.astype(np.float64) - clean) ** 2)))


# --- generate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", BUDGETS)
def test_generate_writes_arrays(run: Callable[[str], Path], model: str, tmp_path: Path) -> None:
    x = written("generate", run(model), "-n", 5, "--seed", 3, "--out", tmp_path / "x.npy")
    assert x.dtype == np.uint8 and x.shape == (5, 8, 8)
    assert np.array_equal(written("generate", run(model), "-n", 5, "--seed", 3, "--out", tmp_path / "y.npy"), x)
    assert not np.array_equal(written("generate", run(model), "-n", 5, "--seed", 4, "--out", tmp_path / "z.npy"), x)
    assert len({one.tobytes() for one in x}) == 5, "five samples, not one five times"


@pytest.mark.parametrize("model", BUDGETS)
def test_a_sample_depends_on_its_seed_and_number_alone(run: Callable[[str], Path], model: str) -> None:
    loaded = tl.load(run(model))
    few, many = loaded.generate(3, seed=5), loaded.generate(5, seed=5)
    assert np.abs(few.astype(int) - many[:3]).max() <= 1
    assert np.abs(loaded.generate(2, seed=5, start=3).astype(int) - many[3:]).max() <= 1
    first, second = (loaded.sampler.request(5, np.arange(count)) for count in (3, 5))
    assert torch.equal(first.raw["label"], second.raw["label"][:3])
    assert torch.equal(first.noise.normal(7), second.noise.normal(7)[:3])


def test_generate_writes_a_folder_of_pictures(run: Callable[[str], Path], tmp_path: Path) -> None:
    x = written("generate", run("gan"), "-n", 5, "--out", tmp_path / "x.npy")
    said = call("generate", run("gan"), "-n", 5, "--out", tmp_path / "folder")
    assert said.code == 0 and said.out.splitlines() == [str(tmp_path / "folder")]
    files = sorted((tmp_path / "folder").glob("*.png"))
    assert len(files) == 5
    for one, file in zip(x, files, strict=True):
        with Image.open(file) as image:
            assert image.mode == "L" and np.array_equal(np.asarray(image), one)
    assert call("generate", run("gan"), "-n", 2, "--out", tmp_path / "folder").code == 0
    assert len(list((tmp_path / "folder").glob("*.png"))) == 2, "our own earlier pictures are replaced"


def test_generate_writes_a_grid(run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("generate", run("gan"), "-n", 9)
    assert said.code == 0 and said.out.splitlines() == ["samples.png"]
    with Image.open(tmp_path / "samples.png") as image:
        assert image.width >= 24 and image.height >= 24 and len(np.unique(np.asarray(image))) > 2


def test_colour_pictures_have_their_channels_last(plain: Path, tmp_path: Path) -> None:
    x = written("generate", plain, "-n", 3, "--out", tmp_path / "x.npy")
    assert x.dtype == np.uint8 and x.shape == (3, 6, 5, 3)
    assert call("generate", plain, "-n", 2, "--out", tmp_path / "folder").code == 0
    with Image.open(tmp_path / "folder" / "00000.png") as image:
        assert image.mode == "RGB" and image.size == (5, 6)
        assert np.array_equal(np.asarray(image), x[0])


def test_points_are_written_as_they_came(points: Path, tmp_path: Path) -> None:
    x = written("generate", points, "-n", 300, "--out", tmp_path / "x.npy")
    assert x.dtype == np.float32 and x.shape == (300, 2)
    assert np.abs(x.mean(0) - [3.0, 0.0]).max() < 0.5
    assert call("generate", points, "-n", 30, "--out", tmp_path / "x.png").code == 0
    assert call("generate", points, "-n", 30, "--out", tmp_path / "folder").code == 0
    # Written in parts of 4, 16 and 10: products of other sizes are rounded in another way on some processors.
    np.testing.assert_allclose(np.load(tmp_path / "folder" / "points.npy"), tl.load(points).generate(30), atol=1e-5)
    rows = written("traverse", points, "--dimensions", 2, "--steps", 3, "--out", tmp_path / "t.npy")
    assert rows.shape == (2, 3, 2)
    again = written("reconstruct", points, tmp_path / "x.npy", "--out", tmp_path / "r.npy")
    assert again.shape == (300, 2) and np.corrcoef(again[:, 0], x[:, 0])[0, 1] > 0.5
    assert written("interpolate", points, "--steps", 4, "--out", tmp_path / "i.npy").shape == (4, 2)


def test_labels_by_name_and_by_number(run: Callable[[str], Path], tmp_path: Path) -> None:
    by_name = written("generate", run("vae"), "-n", 4, "--label", "dot", "--out", tmp_path / "a.npy")
    by_number = written("generate", run("vae"), "-n", 4, "--label", "1", "--out", tmp_path / "b.npy")
    assert np.array_equal(by_name, by_number)
    assert not np.array_equal(
        by_name, written("generate", run("vae"), "-n", 4, "--label", "bar", "--out", tmp_path / "c.npy")
    )


def test_a_label_gives_what_it_names(run: Callable[[str], Path], shapes: Path) -> None:
    """Samples of a label look more like its own pictures than like those of any other."""
    loaded, real = tl.load(run("vae")), some(shapes, 40).reshape(3, 40, -1).mean(1)
    for number, label in enumerate(LABELS):
        mean = loaded.generate(40, label=label).reshape(40, -1).mean(0)
        assert np.abs(real - mean).mean(1).argmin() == number, label


@pytest.mark.parametrize("label", ["triangle", "3", "-1", "1.0"])
def test_unknown_labels(run: Callable[[str], Path], label: str) -> None:
    error = call("generate", run("gan"), f"--label={label}").error
    assert label in error and "bar, dot, edge" in error


def test_without_label_the_training_frequencies(run: Callable[[str], Path]) -> None:
    loaded = tl.load(run("diffusion"))
    shares = np.array(loaded.config["data"]["frequencies"])
    assert np.abs(shares - [0.5, 0.3, 0.2]).max() < 0.05
    labels = loaded.sampler.request(2, np.arange(200)).raw["label"][:, 0].numpy()
    assert np.abs(np.bincount(labels, minlength=3) - 200 * shares).max() < 5
    # And these labels are those that the samples are made with.
    free = loaded.generate(12, seed=2)
    for number in range(3):
        mine = labels[:12] == number
        named = loaded.generate(12, seed=2, label=number)
        assert mine.any() and np.abs(free[mine].astype(int) - named[mine]).max() <= 1
        assert not np.array_equal(free[~mine], named[~mine])


def test_no_labels_no_label(plain: Path) -> None:
    assert "without labels" in call("generate", plain, "--label", "bar").error
    assert tl.load(plain).info()["labels"] == []


def test_steps_auto_is_chosen_on_held_out_data(run: Callable[[str], Path], tmp_path: Path) -> None:
    """The rule applied to the recorded figures gives the recorded number; it is kept, and found once."""
    folder = tmp_path / "run"
    shutil.copytree(run("diffusion"), folder)
    answer = call("generate", folder, "--steps", "auto", "-n", "3", "--out", tmp_path / "x.npy")
    assert answer.code == 0, answer.error
    kept = Run.at(folder).choices()
    found = kept["fewest_steps"]
    assert [row["steps"] for row in found["tried"]] == [4, 6, 8, 12, 16, 24]
    good = [r for r in found["tried"] if r["frechet"] <= 1.02 * min(r["frechet"] for r in found["tried"])]
    assert found["steps"] == kept["options"]["steps"] == min(good, key=lambda r: r["calls"])["steps"]
    loaded = tl.load(folder)
    assert (loaded.generate(3, steps=found["steps"]) == np.load(tmp_path / "x.npy")).all()
    found["steps"] = kept["options"]["steps"] = 5  # what is there is not looked for again
    write_json(folder / "choices.json", kept)
    assert tl.load(folder).fewest_steps() == 5


def test_steps_that_cannot_be_found_are_told(run: Callable[[str], Path]) -> None:
    assert "one call" in call("generate", run("gan"), "--steps", "auto").error
    assert "number of steps, or auto" in call("generate", run("diffusion"), "--steps", "few").error


def test_a_stream_gives_the_same_samples_and_the_first_ones_soon(run: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = tl.load(run("gan"))
    parts = loaded.stream(100, seed=3)
    first = next(parts)
    assert len(first) == 4
    whole = np.concatenate([first, *parts])
    assert abs(whole.astype(int) - loaded.generate(100, seed=3)).max() <= 1  # rounding may depend on the batch
    assert len(whole) == 100
    with pytest.raises(InputError, match="at least one"):
        loaded.stream(0)
    assert call("generate", run("gan"), "-n", "30", "--out", tmp_path / "many").code == 0
    assert call("generate", run("gan"), "-n", "30", "--out", tmp_path / "many.npy").code == 0
    names = sorted(path.name for path in (tmp_path / "many").glob("*.png"))
    assert names == [f"{index:05d}.png" for index in range(30)]
    array = np.load(tmp_path / "many.npy")
    assert (np.asarray(Image.open(tmp_path / "many" / "00029.png")) == array[29]).all()


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"guidance": 1.0}, 12),
        ({"guidance": 1.0, "steps": 3}, 3),
        ({"guidance": 1.0, "steps": 3, "sampler": "euler"}, 3),
        ({"guidance": 1.0, "steps": 4, "sampler": "heun"}, 7),
        ({"guidance": 1.0, "steps": 5, "sampler": "ddim"}, 5),
        ({"guidance": 1.0, "steps": 6, "sampler": "adams-bashforth"}, 6),
        ({"steps": 6, "sampler": "euler"}, None),  # guided: the default where there are labels
        ({"steps": 6, "sampler": "euler", "guidance": 3.0}, None),
        ({"steps": 4, "sampler": "heun", "guidance": 3.0}, None),
        ({"steps": 4, "sampler": "heun", "guidance": 3.0, "interval": (0.0, 100.0)}, 14),
    ],
    ids=str,
)
def test_diffusion_options_cost_what_they_say(
    run: Callable[[str], Path], options: dict, calls: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, output = [0], Diffusion.output

    def counting(self: Diffusion, *arguments: object) -> torch.Tensor:
        counted[0] += 1
        return output(self, *arguments)  # type: ignore[arg-type]

    loaded = tl.load(run("diffusion"))
    monkeypatch.setattr(Diffusion, "output", counting)
    loaded.options = Options()
    x = loaded.generate(2, label=0, **options)
    assert x.shape == (2, 8, 8)
    assert counted[0] == loaded.model.calls(Options(**options))
    assert counted[0] == calls if calls is not None else 6 < counted[0] <= 12


def test_guidance_to_nothing_costs_nothing(
    run: Callable[[str], Path], shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, output = [0], Diffusion.output

    def counting(self: Diffusion, *arguments: object) -> torch.Tensor:
        counted[0] += 1
        return output(self, *arguments)  # type: ignore[arg-type]

    loaded, x = tl.load(run("diffusion")), some(shapes, 1)
    monkeypatch.setattr(Diffusion, "output", counting)
    loaded.options = Options(guidance=3.0)
    loaded.vary(x, steps=6, strength=1.0)
    assert counted[0] == 6
    loaded.vary(x, steps=6, strength=1.0, label=0)
    assert counted[0] > 12
    with pytest.raises(InputError, match="--guidance 2: leads to what is asked for"):
        loaded.vary(x, guidance=2.0)


def test_options_change_the_samples(run: Callable[[str], Path], tmp_path: Path) -> None:
    seen = []
    more_options = [
        ["--sampler", "ddim"],
        ["--sampler", "ddim", "--eta", 1],
        ["--guidance", 4, "--interval", "0.01,70"],
    ]
    for number, more in enumerate([[], ["--steps", 4], ["--sampler", "heun"], ["--guidance", 4], *more_options]):
        seen.append(
            written("generate", run("diffusion"), "-n", 2, *more, "--out", tmp_path / f"{number}.npy").tobytes()
        )
    assert len(set(seen)) == 7
    priors = [
        written("generate", run("vae"), "--prior", p, "--out", tmp_path / f"{p}.npy") for p in ("normal", "mixture")
    ]
    assert not np.array_equal(*priors)


def test_variations_differ_and_are_the_same_however_many_are_asked_for(
    run: Callable[[str], Path], shapes: Path
) -> None:
    loaded, x = tl.load(run("diffusion")), some(shapes, 1)
    three, two = (loaded.vary(x, n=n, seed=5, steps=3).reshape(3, n, 8, 8).astype(int) for n in (3, 2))
    assert np.abs(three[:, :2] - two).max() <= 1 and (three[:, 0] != three[:, 2]).any((1, 2)).all()
    assert np.array_equal(loaded.vary(x, strength=0.0, steps=1), x)
    assert (loaded.vary(x, strength=0.1, steps=1) != x).any((1, 2)).all(), "a step that is asked for is taken"


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("diffusion", ["--sampler", "hoin"], ["hoin", "heun"]),
        ("diffusion", ["--steps", "0"], ["--steps 0"]),
        ("diffusion", ["--steps", "-3"], ["--steps -3"]),
        ("diffusion", ["--guidance", "nan"], ["--guidance nan"]),
        ("diffusion", ["--eta", "2"], ["--eta 2"]),
        ("diffusion", ["--interval", "5,1"], ["--interval 5,1"]),
        ("diffusion", ["--interval", "5"], ["--interval 5", "0.3,5"]),
        ("diffusion", ["--eta", "1"], ["--eta 1", "ddim", "dpm++2m"]),
        ("diffusion", ["--guidance", "1", "--interval", "0.3,5"], ["--interval", "it is 1: give --guidance 3"]),
        ("vae", ["--eta", "1"], ["--eta 1", "vae"]),
        ("gan", ["--noise-seed", "1"], ["--noise-seed 1", "no noise in its layers"]),
        ("diffusion", ["--prior", "mixture"], ["mixture", "normal"]),
        ("diffusion", ["-n", "0"], ["-n 0"]),
        ("vae", ["--prior", "uniform"], ["uniform", "mixture", "normal"]),
        ("vae", ["--steps", "5"], ["--steps 5", "vae"]),
        ("gan", ["--sampler", "heun"], ["--sampler heun", "gan"]),
        ("gan", ["--guidance", "2"], ["--guidance 2", "gan"]),
    ],
)
def test_options_that_a_model_does_not_have(
    run: Callable[[str], Path], model: str, options: list[str], words: list[str], tmp_path: Path
) -> None:
    error = call("generate", run(model), *options, "--out", tmp_path / "x.npy").error
    for word in words:
        assert word in error
    assert not list(tmp_path.iterdir())


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["autoencoder:denoising", "vae"])
def test_reconstruct(run: Callable[[str], Path], shapes: Path, model: str, tmp_path: Path) -> None:
    """Pictures of every label come back, though nobody says which label they have."""
    x = some(shapes)
    np.save(tmp_path / "x.npy", x)
    again = written("reconstruct", run(model), tmp_path / "x.npy", "--out", tmp_path / "again.npy")
    assert again.dtype == np.uint8 and again.shape == x.shape
    share = ((again.astype(float) - x) ** 2).mean((1, 2)) / ((x.mean(0) - x) ** 2).mean((1, 2))
    assert np.median(share) < 0.25 and (share < 1).all(), share
    alone = tl.load(run(model)).reconstruct(x[:1])
    assert np.abs(alone.astype(int) - again[:1]).max() <= 1
    assert call("reconstruct", run(model), shapes / "dot", "--out", tmp_path / "folder").code == 0
    assert len(list((tmp_path / "folder").glob("*.png"))) == LABELS["dot"]


def test_files_keep_their_names_and_ranges(run: Callable[[str], Path], shapes: Path, tmp_path: Path) -> None:
    """What comes out is named after what went in; a dark batch is not taken for black and white on its way out."""
    dark = tmp_path / "dark"
    for name, picture in zip(("a/1", "b/1", "b/2"), some(shapes, 1), strict=True):
        (dark / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture > 99).astype(np.uint8)).save(dark / f"{name}.png")
    for verb, model in (("reconstruct", "vae"), ("denoise", "diffusion")):
        out = tmp_path / verb
        assert call(verb, run(model), dark, "--out", out).code == 0
        assert sorted(path.name for path in out.glob("*.png")) == ["a-1.png", "b-1.png", "b-2.png"]
    loaded = tl.load(run("vae"))
    expected = loaded.reconstruct(dark)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "reconstruct" / "b-2.png")), expected[2])
    error = call("embed", run("vae"), shapes / "no-such", "--out", tmp_path / "x.npy").error
    assert "--skip-bad" not in error


def test_denoise(run: Callable[[str], Path], shapes: Path, tmp_path: Path) -> None:
    clean = some(shapes, 8)
    model, generator = run("autoencoder:denoising"), np.random.default_rng(1)
    deviation = float(tl.load(model).space.deviation)
    noisy = np.clip(clean + 0.6 * deviation * generator.normal(size=clean.shape), 0, 255).round().astype(np.uint8)
    np.save(tmp_path / "noisy.npy", noisy)
    before = psnr(noisy, clean)
    for sigma in ([], ["--sigma", 0.6]):
        cleaned = written("denoise", model, tmp_path / "noisy.npy", *sigma, "--out", tmp_path / "clean.npy")
        assert cleaned.dtype == np.uint8 and cleaned.shape == clean.shape
        assert psnr(cleaned, clean) > before + 1, (psnr(cleaned, clean), before)
    mild, strong = (tl.load(run("diffusion")).denoise(noisy, sigma=sigma) for sigma in (0.01, 2.0))
    change = [np.abs(x.astype(float) - noisy).mean() for x in (mild, strong)]
    assert change[0] < 3 < change[1], "little noise, little change"
    for sigma in ("0", "-1", "nan"):
        assert f"--sigma {sigma}" in call("denoise", model, tmp_path / "noisy.npy", f"--sigma={sigma}").error


def test_noise_is_estimated() -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 32).expand(4, 1, 32, 32)
    for sigma in (0.1, 0.5):
        noisy = ramp + sigma * torch.randn(ramp.shape, generator=generator)
        assert estimated_noise(noisy) == pytest.approx([sigma] * 4, rel=0.15)


def test_embed(run: Callable[[str], Path], shapes: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", some(shapes))
    codes = written("embed", run("vae"), tmp_path / "x.npy", "--out", tmp_path / "codes.npy")
    assert codes.shape == (12, tl.load(run("vae")).model.config.latent) and np.isfinite(codes).all()
    assert len(np.unique(codes.round(5), axis=0)) == 12
    assert call("embed", run("vae"), tmp_path / "x.npy", "--out", tmp_path / "codes.csv").code == 0
    with open(tmp_path / "codes.csv") as file:
        rows = [[float(v) for v in row] for row in csv.reader(file)]
    np.testing.assert_allclose(rows, codes, rtol=1e-6)
    error = call("embed", run("vae"), tmp_path / "x.npy", "--out", tmp_path / "codes.png").error
    assert "codes.png" in error and ".csv" in error


def test_score(run: Callable[[str], Path], shapes: Path, tmp_path: Path) -> None:
    """The VAE finds pictures likelier than their pixels in another order."""
    x = some(shapes)
    shuffled = x.reshape(len(x), -1)[:, np.random.default_rng(0).permutation(64)].reshape(x.shape)
    np.save(tmp_path / "x.npy", np.concatenate([x, shuffled]))
    assert call("score", run("vae"), tmp_path / "x.npy", "--out", tmp_path / "scores.csv").code == 0
    scores = np.loadtxt(tmp_path / "scores.csv")
    assert scores.shape == (24,) and np.isfinite(scores).all()
    assert scores[:12].mean() > scores[12:].mean() + 1
    other = tl.load(run("diffusion")).score(x[:2])
    assert other.shape == (2,) and np.isfinite(other).all()


def test_the_score_of_a_vae_is_a_bound_over_labels(run: Callable[[str], Path], shapes: Path) -> None:
    """No label is known, so that its own probability belongs to the bound: log p(x) >= log p(x | y) + log p(y)."""
    loaded, x = tl.load(run("vae")), some(shapes, 2)
    found = loaded.score(x)
    batch = next(iter(loaded.prepared(x, 0)))
    assert [loaded.label_names[i] for i in batch.raw["label"][:, 0]] == [name for name in LABELS for _ in range(2)]
    shares = np.array(loaded.config["data"]["frequencies"])
    with torch.no_grad():
        under = loaded.model.score(batch).numpy()
    np.testing.assert_allclose(found, under + np.log(shares)[batch.raw["label"][:, 0].numpy()], rtol=1e-5)


def test_interpolate_between_sample_numbers(run: Callable[[str], Path], tmp_path: Path) -> None:
    """The ends of a GAN's way are its samples of these numbers, labels included."""
    loaded = tl.load(run("gan"))
    samples = loaded.generate(8, seed=6)
    labels = loaded.sampler.request(6, np.arange(8)).raw["label"][:, 0].tolist()
    second = next(number for number in range(8) if labels[number] != labels[2])
    out = tmp_path / "way.npy"
    way = written("interpolate", run("gan"), 2, second, "--steps", 5, "--seed", 6, "--out", out)
    assert way.dtype == np.uint8 and way.shape == (5, 8, 8)
    assert np.abs(way[0].astype(int) - samples[2]).max() <= 1
    assert np.abs(way[-1].astype(int) - samples[second]).max() <= 1
    assert len({one.tobytes() for one in way}) == 5
    assert "--steps 1" in call("interpolate", run("gan"), "--steps", 1).error


def test_interpolate_starts_where_the_chosen_options_do(run: Callable[[str], Path]) -> None:
    loaded = tl.load(run("vae"))
    ways = []
    for prior in ("mixture", "normal"):
        loaded.options = Options(prior=prior)
        ways.append(loaded.interpolate(0, 1, steps=3, seed=4))
        end = loaded.generate(1, seed=4)
        assert np.abs(ways[-1][0].astype(int) - end[0]).max() <= 1
    assert not np.array_equal(*ways)


def test_interpolate_between_files(run: Callable[[str], Path], shapes: Path, tmp_path: Path) -> None:
    first, second = shapes / "bar" / "001.png", shapes / "edge" / "002.png"
    way = written("interpolate", run("vae"), first, second, "--steps", 4, "--out", tmp_path / "way.npy")
    loaded = tl.load(run("vae"))
    for got, file in ((way[0], first), (way[-1], second)):
        assert np.abs(got.astype(int) - loaded.reconstruct(file)[0]).max() <= 1
    error = call("interpolate", run("gan"), first, second).error
    assert "gan has no codes of files" in error and "add --space w" in error and "vae" in error
    said = call("interpolate", run("vae"), first, second, "--out", tmp_path / "way.png")
    assert said.code == 0 and (tmp_path / "way.png").is_file()


def test_spherical_keeps_the_norm_and_meets_the_ends() -> None:
    one, two = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    way = spherical(one, two, torch.linspace(0, 1, 5).unsqueeze(1))
    torch.testing.assert_close(way.norm(dim=1), torch.full((5,), 3.0))
    torch.testing.assert_close(way[[0, -1]], torch.cat([one, two]))
    torch.testing.assert_close(way[2], torch.tensor([3.0, 3.0]) / 2**0.5)
    same = spherical(one, one, torch.linspace(0, 1, 3).unsqueeze(1))
    torch.testing.assert_close(same, one.expand(3, -1), atol=1e-3, rtol=0)


def test_traverse(run: Callable[[str], Path], tmp_path: Path) -> None:
    rows = written("traverse", run("vae"), "--dimensions", 3, "--steps", 4, "--out", tmp_path / "x.npy")
    assert rows.dtype == np.uint8 and rows.shape == (3, 4, 8, 8)
    change = np.abs(np.diff(rows.astype(float), axis=1)).mean((1, 2, 3))
    assert change[0] > 0.5, "the most used dimension changes the picture"
    said = call("traverse", run("vae"), "--dimensions", 3, "--steps", 4, "--out", tmp_path / "x.png")
    assert said.code == 0
    with Image.open(tmp_path / "x.png") as image:
        assert image.width > image.height, "one row a dimension, one column a value"
    for wrong in (["--dimensions", 0], ["--steps", 0], ["--steps", 1]):
        assert f"{wrong[0]} {wrong[1]}" in call("traverse", run("vae"), *wrong).error


def strict(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("model", BUDGETS)
def test_info_is_json(run: Callable[[str], Path], model: str) -> None:
    said = call("info", run(model))
    assert said.code == 0
    told = json.loads(said.out, parse_constant=strict)
    assert told["model"] == model and told["finished"] is True and told["shape"] == [1, 8, 8]
    assert told["labels"] == list(LABELS) and told["parameters"] > 1000
    seen, _, of = told["examples"].partition(" of ")
    assert seen == of
    assert "generate" in told["tasks"] and set(told["tasks"]) <= set(TASKS)


# --- what a model cannot do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "task", "able"),
    [
        ("gan", "reconstruct", ["autoencoder", "bigan", "codec", "diffusion", "vae"]),
        ("diffusion", "traverse", ["autoencoder", "bigan", "codec", "vae"]),
        ("diffusion", "embed", ["autoencoder", "bigan", "clip", "codec", "vae"]),
        ("gan", "embed", ["autoencoder", "bigan", "clip", "codec", "vae"]),
        ("gan", "score", ["diffusion", "vae"]),
        ("vae", "denoise", ["autoencoder", "diffusion"]),
        ("autoencoder:denoising", "score", ["diffusion", "vae"]),
    ],
)
def test_a_verb_that_a_model_cannot_do_names_those_that_can(
    run: Callable[[str], Path], shapes: Path, model: str, task: str, able: list[str], tmp_path: Path
) -> None:
    source = [shapes / "bar"] if task in ("reconstruct", "embed", "score", "denoise") else []
    error = call(task, run(model), *source, "--out", tmp_path / "x.npy").error
    assert f"{model} cannot {task}" in error
    assert error.endswith("models that can: " + ", ".join(able))
    assert able == models_that(task)
    assert task not in tl.load(run(model)).can()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "nowhere"], ["nowhere", "does not exist"]),
        (["generate", "DATA"], ["is not a run", "config.json"]),
        (["reconstruct", "RUN", "nowhere.png"], ["nowhere.png"]),
        (["reconstruct", "RUN", "TEXT"], ["letter.txt"]),
        (["interpolate", "RUN", "nowhere.png", "0"], ["nowhere.png"]),
        (["generate", "RUN", "--out", "TEXT/x"], ["letter.txt"]),
        (["generate", "RUN", "--out", "missing/x.npy"], ["missing", "does not exist"]),
        (["generate", "RUN", "--out", "x.jpg"], ["x.jpg", ".png"]),
        (["generate", "RUN", "--out", "x.csv"], ["x.csv", ".npy"]),
        (["generate", "RUN", "--out", "DATA"], ["something else"]),
        (["generate", "RUN", "--out", "TEXT"], ["letter.txt"]),
        (["embed", "RUN", "DATA", "--out", "codes"], ["codes", ".npy"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_files(
    run: Callable[[str], Path], shapes: Path, arguments: list[str], words: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter.txt").write_text("mine")
    held = sorted(shapes.rglob("*"))
    known = {"RUN": str(run("vae")), "DATA": str(shapes), "TEXT": "letter.txt", "TEXT/x": "letter.txt/x"}
    error = call(*(known.get(word, word) for word in arguments)).error
    for word in words:
        assert word in error
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert (tmp_path / "letter.txt").read_text() == "mine" and sorted(shapes.rglob("*")) == held


@pytest.mark.parametrize("verb", ["generate", "embed", "reconstruct"])
def test_a_full_disk_leaves_nothing(
    run: Callable[[str], Path], shapes: Path, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: io.BufferedWriter, x: object) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    source = [] if verb == "generate" else [shapes / "bar" / "000.png"]
    said = call(verb, run("vae"), *source, "--out", tmp_path / "x.npy")
    assert "disk is full" in said.error and "x.npy" in said.error
    assert not list(tmp_path.iterdir())


def test_damaged_runs_are_named(run: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("config.json", "weights.safetensors"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        for file in ("config.json", "weights.safetensors", "choices.json"):
            (folder / file).write_bytes((run("gan") / file).read_bytes())
        assert call("info", folder).code == 0
        (folder / name).write_bytes((run("gan") / name).read_bytes()[:100])
        error = call("generate", folder, "--out", tmp_path / "x.npy").error
        assert name in error and "damaged" in error


def test_the_same_methods_in_python(run: Callable[[str], Path], shapes: Path) -> None:
    loaded = tl.load(run("vae"))
    assert isinstance(loaded, Loaded) and loaded.can() == [
        *("generate", "reconstruct", "interpolate", "embed", "traverse", "score", "detect", "info")
    ]
    x = some(shapes)
    codes = loaded.embed(x)
    assert codes.shape == (12, loaded.model.config.latent)
    for given in (x, torch.from_numpy(x), [Image.fromarray(one) for one in x]):
        assert np.array_equal(loaded.embed(given), codes)
    assert np.array_equal(loaded.reconstruct(x[0]), loaded.reconstruct(x[:1]))
    strip = tl.load(run("diffusion")).film(2, frames=5)
    assert strip.shape == (5, 2, 1, 8, 8) and strip.dtype == np.uint8
    # The way into the noise: it begins with the picture itself, and its end does not tell one from the other.
    way = tl.load(run("diffusion")).noised(x[:2], frames=6)
    assert way.shape == (6, 2, 1, 8, 8) and np.array_equal(way[0, :, 0], x[:2])
    distances = [np.corrcoef(way[0].ravel(), frame.ravel())[0, 1] for frame in way]
    assert all(a > b for a, b in itertools.pairwise(distances)) and abs(distances[-1]) < 0.3
    with pytest.raises(InputError, match="cannot denoise"):
        loaded.denoise(x)


@pytest.fixture(autouse=True)
def nothing_moves(run: Callable[[str], Path]) -> Iterator[None]:
    """No verb changes the weights of a run."""
    folder = run("gan")
    before = (folder / "weights.safetensors").read_bytes()
    yield
    assert (folder / "weights.safetensors").read_bytes() == before
