"""The command line with captions: what `generate`, `vary` and `edit` write is what they were asked for in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import call
from test_words import COLOURS, PLAIN, squares

import trilemma as tl
from trilemma.tasks.load import Loaded

RED, GREEN, BLUE = range(3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "pictures")


@pytest.fixture(scope="module")
def folder(pictures: Path) -> Path:
    """A run that knows its colours by their names."""
    settings = {**PLAIN, "network.width": 16, "optimizer.rate": 5e-3}
    out = pictures.parent / "run"
    tl.train(pictures, model="diffusion:text", out=out, budget="4000", size="xs", quiet=True, settings=settings)
    return out


@pytest.fixture(scope="module")
def run(folder: Path) -> Loaded:
    return tl.load(folder)


def made(out: Path, *command: object) -> np.ndarray:
    """The array (n, 8, 8, 3) that a command writes."""
    said = call(*command, "--out", out)
    assert said.code == 0 and said.out.split() == [str(out)], said.err
    return np.load(out)


def colour(x: np.ndarray) -> int:
    """Which channel is the strongest."""
    return int(x.reshape(-1, 3).mean(0).argmax())


def test_a_prompt(folder: Path, run: Loaded, tmp_path: Path) -> None:
    x = made(tmp_path / "x.npy", "generate", folder, "--prompt", "a blue square", "-n", 6, "--seed", 1)
    assert len(x) == 6 and colour(x) == BLUE
    np.testing.assert_array_equal(x, run.generate(6, prompt="a blue square", seed=1))


def test_a_file_of_prompts(folder: Path, run: Loaded, tmp_path: Path) -> None:
    """So many of each line, in the file's order; empty lines are none."""
    (tmp_path / "list.txt").write_text("a green square\n\n  a red square\n", encoding="utf-8")
    x = made(tmp_path / "x.npy", "generate", folder, "--prompts", tmp_path / "list.txt", "-n", 4, "--seed", 1)
    assert len(x) == 8 and (colour(x[:4]), colour(x[4:])) == (GREEN, RED)
    np.testing.assert_array_equal(x[4:], run.generate(4, prompt="a red square", seed=1))
    assert call("generate", folder, "--prompts", tmp_path / "list.txt", "-n", 2, "--out", tmp_path / "many").code == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 4


def test_what_to_lead_away_from_and_how_strongly(folder: Path, run: Loaded, tmp_path: Path) -> None:
    asked = ["generate", folder, "--prompt", "a square", "-n", 6, "--seed", 1]
    away = {
        name: made(tmp_path / f"{name}.npy", *asked, "--guidance", 4, "--negative", f"a {name} square").mean((0, 1, 2))
        for name in COLOURS
    }
    assert all(away[name][k] < min(away[other][k] for other in COLOURS if other != name)
               for k, name in enumerate(COLOURS))  # fmt: skip
    weak, strong = (made(tmp_path / "x.npy", *asked, "--guidance", value) for value in (1, 6))
    np.testing.assert_array_equal(strong, run.generate(6, prompt="a square", seed=1, guidance=6.0))
    assert not np.array_equal(weak, strong)


def test_others_like_a_picture(folder: Path, pictures: Path, tmp_path: Path) -> None:
    red = pictures / "000.png"
    given = tl.open_data(pictures).x[0].transpose(1, 2, 0)
    same = made(tmp_path / "same.npy", "vary", folder, red, "-n", 2, "--strength", 0)
    np.testing.assert_array_equal(same, np.stack([given, given]))
    others = made(tmp_path / "x.npy", "vary", folder, red, "-n", 3, "--strength", 0.3)
    assert len(others) == 3 and colour(others) == RED and len(np.unique(others.reshape(3, -1), axis=0)) == 3
    turned = made(tmp_path / "x.npy", "vary", folder, red, "--prompt", "a blue square", "--strength", 0.95)
    assert len(turned) == 4 and colour(turned) == BLUE
    assert call("vary", folder, red, "-n", 2, "--out", tmp_path / "others").code == 0
    assert {path.name for path in (tmp_path / "others").glob("*.png")} == {"000.1.png", "000.2.png"}


def test_a_picture_turned_into_what_is_said(folder: Path, pictures: Path, run: Loaded, tmp_path: Path) -> None:
    """As far as the strength allows: one picture, under the name of the given one."""
    red, asked = pictures / "000.png", ("--prompt", "a green square")
    far = made(tmp_path / "x.npy", "edit", folder, red, *asked, "--strength", 0.95, "--guidance", 4, "--seed", 2)
    assert len(far) == 1 and colour(far) == GREEN
    wanted = run.vary(red, n=1, prompt="a green square", strength=0.95, guidance=4.0, seed=2)
    np.testing.assert_array_equal(far, wanted)
    near = made(tmp_path / "x.npy", "edit", folder, red, *asked, "--strength", 0.1)
    assert colour(near) == RED
    assert "edit RUN FILE --prompt" in call("edit", folder, red).error  # it knows no directions
    assert "say it with --prompt" in call("edit", folder, red, "--where", "colour = green").error
    usual, told = (made(tmp_path / "x.npy", "edit", folder, red, *asked, *more) for more in ((), ("--strength", 0.6)))
    np.testing.assert_array_equal(usual, told)
