"""The translate verb: pictures of any size by tiles, draws, directions, names, and what cannot be done."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import trilemma as tl
from trilemma.batches import Request
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.models.contract import Translates
from trilemma.tasks.load import Loaded
from trilemma.tasks.translate import OVERLAP, Field, Plan, at_scale, blended, direction, tiles, translated


@pytest.mark.parametrize(
    ("size", "grid"), [((8, 8), (8, 8)), ((9, 8), (8, 8)), ((100, 37), (16, 12)), ((64, 200), (64, 64))]
)
def test_tiles_cover_a_picture_and_blend_back_into_it(size: tuple[int, int], grid: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(3, *size))
    corners = tiles(size, grid)
    parts = np.stack([x[:, top : top + grid[0], left : left + grid[1]] for top, left in corners])
    assert parts.shape[2:] == grid
    np.testing.assert_allclose(blended(parts, corners, size), x, atol=1e-5)
    for axis in range(2):
        places = sorted({corner[axis] for corner in corners})
        assert max(np.diff(places), default=0) <= grid[axis] * (1 - OVERLAP) + 1


def test_tiles_that_disagree_leave_no_seam() -> None:
    """A model that makes every tile of another brightness: neighbouring pixels differ little wherever a tile ends."""
    corners = tiles((64, 256), (64, 64))
    parts = np.stack([np.full((1, 64, 64), 100.0 * (number % 2)) for number in range(len(corners))])
    mixed = blended(parts, corners, (64, 256))
    assert np.abs(np.diff(mixed, axis=2)).max() < 100 / (OVERLAP * 64) * 1.5


def test_draws_differ_as_much_in_a_large_picture_as_in_one_tile() -> None:
    """A model whose pictures are noise, fine and coarse, and a code: tiles have the same where they overlap."""

    class Drawing(Translates):
        def eval(self) -> None: ...

        def translate(self, request: Request, *, back: bool = False) -> torch.Tensor:
            fine, coarse = request.noise.normal(2, 16, 8), request.noise.normal(2, 4, 2)
            code = request.noise.normal(2)
            return torch.cat([fine, coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)], 1) + code.repeat(
                1, 2
            ).reshape(-1, 4, 1, 1)

    engine = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext)
    sampler = cast(Any, SimpleNamespace(model=Drawing(), engine=engine, array=lambda x: x.numpy()))
    plan, draws = Plan((16, 8), 1.0, None), 40

    def made(height: int, width: int) -> np.ndarray:
        files = cast(Any, SimpleNamespace(whole=lambda x: (["one"], iter([x]))))
        return next(translated(sampler, files, np.zeros((1, height, width), np.uint8), plan, draws=draws)[1])

    one, large = made(16, 8), made(88, 40)
    assert one.shape == (draws, 4, 16, 8) and large.shape == (draws, 4, 88, 40)
    np.testing.assert_allclose(large[:, :2, :16, :8], one[:, :2], atol=1e-5)  # however large the picture
    apart = large - large.mean((2, 3), keepdims=True)
    assert apart[:, :2].std() == pytest.approx(1, abs=0.02)
    assert abs(large.std(0).mean() / one.std(0).mean() - 1) < 0.05
    # White everywhere: neither neighbours nor places a tile apart have anything in common.
    for lag in (1, 4, 8, 16):
        assert abs((apart[:, :2, lag:] * apart[:, :2, :-lag]).mean()) < 0.02
        assert abs((apart[..., lag:] * apart[..., :-lag])[:, :2].mean()) < 0.02


def test_tiles_see_one_field_whatever_their_batch() -> None:
    corners = tiles((40, 40), (8, 8))
    both = [Field(3, part, (8, 8), torch.device("cpu")).normal(2, 8, 8) for part in (corners, corners[5:])]
    assert torch.equal(both[0][5:], both[1])


def test_a_picture_comes_at_the_scale_that_was_learned() -> None:
    x = np.zeros((3, 100, 60), np.uint8)
    assert at_scale(x, Plan((16, 16), 0.5, None)).shape == (3, 50, 30)
    assert at_scale(x, Plan((16, 16), None, None)).shape == (3, 27, 16)
    assert at_scale(x[:, :10, :6], Plan((16, 16), 0.5, None)).shape == (3, 27, 16)
    assert at_scale(x, Plan((16, 16), 0.5, "downscale 4")).shape == (3, 400, 240)
    assert at_scale(x, Plan((16, 16), 1.0, "noise 4")).shape == (3, 100, 60)


def test_directions() -> None:
    assert not direction(None, ("a1", "b1")) and not direction("B", ("a1", "b1")) and not direction("b1", ("a1", "b1"))
    assert direction("a1", ("a1", "b1"))
    with pytest.raises(InputError, match="--to c"):
        direction("c", ("a1", "b1"))
    # Folders that are called as the letters: `train b/ a/` makes a of b. One that both sides are called says nothing.
    assert not direction("a", ("b", "a")) and direction("b", ("b", "a"))
    assert not direction("b", ("a", "b")) and direction("A", ("a", "b"))
    assert direction("a", ("train", "a")) is False and direction("b", ("b", "train")) is True
    assert not direction("b", ("train", "train")) and direction("a", ("train", "train"))
    with pytest.raises(InputError, match="--to train: both sides are called so; give b"):
        direction("train", ("train", "train"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A denoiser that turns pictures into their negatives, learned from two folders."""
    place = tmp_path_factory.mktemp("negatives")
    random = np.random.default_rng(0)
    for number in range(64):
        x = np.kron(random.integers(0, 2, (2, 2)), np.ones((4, 4))) * random.integers(100, 255)
        for name, one in (("dark", x), ("light", 255 - x)):
            (place / name).mkdir(exist_ok=True)
            Image.fromarray(one.astype(np.uint8)).save(place / name / f"{number}.png")
    done = CliRunner().invoke(
        app,
        f"train {place}/dark {place}/light --model diffusion --size xs --budget 6k --set training.previews=1 "
        f"--set training.choose_samples=0 --out {place}/run",
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    return tl.load(place / "run")


def test_translates_files_and_arrays(run: Loaded, tmp_path: Path) -> None:
    dark, light = run.run.folder.parent / "dark", run.run.folder.parent / "light"
    x, y = (np.stack([np.asarray(Image.open(side / f"{n}.png")) for n in range(8)]) for side in (dark, light))
    made = run.translate(x)
    assert made.shape == x.shape and made.dtype == np.uint8
    wrong = np.abs(made.astype(float) - y).mean()
    assert wrong < 0.5 * np.abs(x.astype(float) - y).mean(), "no nearer to the negatives than the pictures themselves"
    assert np.abs(made[3].astype(float) - run.translate(x[:4])[3]).max() <= 1
    several = run.translate(x[:2], n=3, seed=5)
    assert several.shape == (2, 3, 8, 8) and (several[:, 0] != several[:, 1]).any()
    np.testing.assert_array_equal(several, run.translate(x[:2], n=3, seed=5))
    still, vivid = (
        run.translate(x[:2], n=6, sampler="ddim", eta=eta, steps=8).astype(float).std(1).mean() for eta in (0, 1)
    )
    assert still != vivid
    again = run.translate(x[:2], seed=5)
    assert np.abs(several[:, 0].astype(float) - again).max() <= 1  # however many draws are asked for
    out = tmp_path / "out"
    folder, told = str(run.run.folder), ["-n", "2", "--steps", "2", "--sampler", "ddim", "--eta", "0.5"]
    done = CliRunner().invoke(app, ["translate", folder, str(dark), *told, "--out", str(out)])
    assert done.exit_code == 0 and len(list(out.glob("*.png"))) == 128
    assert (out / "17-2.png").is_file()


def test_the_way_back_of_a_degradation_enlarges_nothing(tmp_path: Path) -> None:
    """Sharp pictures come at their own scale, small ones at that of what they were made from."""
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    settings = {"training.previews": 0, "training.choose_samples": 0, "training.dtype": "float32"}
    settings |= {"network.width": 8, "critic.width": 8, "data.degradation": "downscale 2"}
    (tmp_path / "sharp").mkdir()
    for number, one in enumerate(x):
        Image.fromarray(one).save(tmp_path / "sharp" / f"{number}.png")
    run = tl.train(
        tmp_path / "sharp", model="cyclegan", size="xs", budget="48", out=tmp_path / "run", resolution=8, quiet=True,
        settings=settings,
    )  # fmt: skip
    loaded = tl.load(run.folder)
    assert loaded.translate(x[:1]).shape == (1, 32, 32) and loaded.translate(x[:1], to="a").shape == (1, 8, 8)
    said = [
        CliRunner()
        .invoke(app, f"translate {run.folder} {tmp_path}/sharp/0.png --to {to} --out {tmp_path}/{to}.png")
        .stderr
        for to in ("a", "b")
    ]
    assert "at 0.5 of their size" in said[0] and "of their size" not in said[1]


def test_pictures_of_any_size(run: Loaded, tmp_path: Path) -> None:
    large = np.full((30, 21), 0, np.uint8)
    large[:, 10:] = 200
    Image.fromarray(large).convert("RGB").save(tmp_path / "large.jpg")
    done = CliRunner().invoke(
        app, ["translate", str(run.run.folder), str(tmp_path / "large.jpg"), "--out", str(tmp_path / "made.png")]
    )
    assert done.exit_code == 0
    made = np.asarray(Image.open(tmp_path / "made.png"))
    assert made.shape == (30, 21)
    assert made[:, :9].mean() > made[:, 12:].mean() + 60


def test_what_cannot_be_translated(run: Loaded, tmp_path: Path) -> None:
    x = np.zeros((1, 8, 8), np.uint8)
    for settings, words in (
        ({"to": "dark"}, "one direction"),
        ({"to": "elsewhere"}, "--to elsewhere"),
        ({"n": 0}, "at least one"),
        ({"steps": 0}, "at least one step"),
        ({"eta": 2.0}, "--eta 2"),
        ({"sampler": "nonsense"}, "nonsense"),
    ):
        with pytest.raises(InputError, match=words):
            run.translate(x, **settings)
    with pytest.raises(InputError, match="no such file"):
        run.translate(tmp_path / "nothing.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"bad\.png"):
        run.translate(tmp_path / "bad.png")
    dark = str(run.run.folder.parent / "dark")
    done = CliRunner().invoke(app, ["translate", str(run.run.folder), dark, "--out", str(tmp_path / "a.png")])
    assert isinstance(done.exception, InputError) and "name a folder" in str(done.exception)
    with pytest.raises(InputError, match="has learned to translate"):
        run.generate(2)
