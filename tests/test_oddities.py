"""Strange pictures: the arithmetic against brute force, alarms as often as was promised, places that are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.errors import InputError
from trilemma.tasks.conformal import p_values, strangeness
from trilemma.tasks.oddities import DEAD, Normal, gathered, worst


def test_normal_maps_are_measured_against_all_others() -> None:
    maps = torch.rand(7, 3, 4, generator=torch.Generator().manual_seed(0))
    maps[:, 0, 0] = 0.0  # a place that never changes
    normal = Normal.of(maps)
    least = DEAD * maps.double().std(0, correction=0).mean()
    found = torch.cat([normal.apart(slice(0, 5)), normal.apart(slice(5, 10))])
    for index in range(7):
        others = torch.cat([maps[:index], maps[index + 1 :]]).double()
        spread = torch.maximum(others.std(0, correction=0), least)
        torch.testing.assert_close(found[index].double(), (maps[index] - others.mean(0)) / spread, atol=1e-5, rtol=1e-5)
    spread = torch.maximum(maps.double().std(0, correction=0), least)
    wanted = (torch.ones(1, 3, 4) - maps.double().mean(0)) / spread
    torch.testing.assert_close(normal.of_others(torch.ones(1, 3, 4)).double(), wanted, atol=1e-5, rtol=1e-5)


def test_neighbourhoods_and_their_strangest_places() -> None:
    maps = torch.zeros(2, 16, 24)
    maps[0, 3, 20] = 9.0
    maps[1, 15, 0] = 9.0
    spots, parts, whole = gathered(maps)
    assert spots[0, 3, 20] == 1.0 and spots[0, 2, 21] == 1.0 and spots[0, 3, 18] == 0.0  # 3 x 3
    assert spots[1, 15, 0] == 9 / 4  # at the edge of those that there are
    assert parts[0, 3, 20] == pytest.approx(9 / 25) and whole.shape == (2, 1, 1)
    assert whole[0, 0, 0] == pytest.approx(9 / (16 * 24))
    values, places = worst([maps])
    assert values[:, 0].tolist() == [9.0, 9.0]
    np.testing.assert_allclose(places[:, 0], [[3.5 / 16, 20.5 / 24], [15.5 / 16, 0.5 / 24]])


def test_alarms_come_as_often_as_was_promised() -> None:
    """Maps of normal pictures, 40 of them known: over 400 repeats as many new ones raise an alarm as may, no more."""
    generator, alarms = torch.Generator().manual_seed(1), []
    for _ in range(400):
        maps = torch.randn(45, 6, 6, generator=generator).exp() * torch.linspace(0.1, 2, 6)
        known, new = (gathered(part) for part in (maps[:40], maps[40:]))
        reaches = [Normal.of(one) for one in known]
        ruler, _ = worst([one.apart() for one in reaches])
        found, _ = worst([one.of_others(other) for one, other in zip(reaches, new, strict=True)])
        alarms.append(chances(found, ruler))
    # 2,000 new pictures in 400 groups: the deviation of each share is .01, .005. The promises are 4/41 and 1/41.
    assert 0.07 < np.mean(np.array(alarms) <= 0.1) < 0.115
    assert 0.01 < np.mean(np.array(alarms) <= 1 / 41) < 0.034


def test_whoever_is_ahead_in_one_of_three_is_not_ahead_of_all() -> None:
    """Three columns without anything in common: 1 of 41 may be the strangest in all, though 3 of 41 are in one."""
    random, alarms = np.random.default_rng(2), []
    for _ in range(800):
        values = random.exponential(size=(45, 3))
        alarms.append(chances(values[40:], values[:40]))
    assert 0.012 < np.mean(np.array(alarms) <= 1 / 41) < 0.03  # 4,000 of them: a deviation of .003


def chances(found: np.ndarray, ruler: np.ndarray) -> np.ndarray:
    """The p-values of `detect`."""
    mask = np.ones(ruler.shape, dtype=bool)
    inner, outer = (
        strangeness(each, ruler, itself=own, known=mask).max(1) for each, own in ((ruler, True), (found, False))
    )
    return p_values(outer, inner)


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Digits 0 to 4 to learn, and what is asked: 60 more of them, 60 of the others, 20 with a bright block."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, low = (digits.images * 15).astype(np.uint8), digits.target < 5
    block = x[low][760:780].copy()
    block[:, :3, :2] = 240
    return x[low][:700], np.concatenate([x[low][700:760], x[~low][:60], block])


@pytest.fixture(scope="module")
def run(pictures: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oddities")
    np.save(folder / "learn.npy", pictures[0])
    settings = {"training.choose_samples": 0, "training.previews": 0, "model.components": 1}
    tl.train(
        folder / "learn.npy", model="vae", out=folder / "run", budget="30k", size="xs", quiet=True, settings=settings
    )
    return folder / "run"


def test_strange_pictures_are_found_and_where(run: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    found = tl.load(run).anomalies(pictures[1], false_alarms=0.05)
    kinds = np.repeat(["normal", "other", "block"], [60, 60, 20])
    assert found.alarms[kinds == "normal"].mean() < 0.2 and found.alarms[kinds == "other"].mean() > 0.6
    assert found.alarms[kinds == "block"].mean() > 0.9
    y, x = np.unravel_index(found.maps[120:].reshape(20, -1).argmax(1), found.maps.shape[1:])
    assert ((y <= 3) & (x <= 2)).mean() > 0.9  # in the block, or next to it
    red = found.overlays(np.arange(120, 140)).astype(int)
    assert (red[:, 1, 1, 0] - red[:, 1, 1, 2]).mean() > 50 > abs((red[:, 7, 7, 0] - red[:, 7, 7, 2]).mean())
    frame = tl.load(run).detect(pictures[1], false_alarms=0.05)
    assert list(frame.columns) == ["name", "anomaly", "p_value", "alarm", "because", "x", "y"] and len(frame) == 140
    assert (frame["because"] != "").tolist() == frame["alarm"].tolist()
    one = tl.load(run).detect(pictures[1][70:71], false_alarms=0.05)  # what is found depends on the picture alone
    assert one["anomaly"][0] == frame["anomaly"][70] and one["p_value"][0] == frame["p_value"][70]
    again = tl.load(run).detect(pictures[1][60:], false_alarms=0.05, normal=pictures[1][:60])
    assert again["alarm"].mean() > 0.6


def test_detect_from_the_command_line(run: Path, pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    given = tmp_path / "new"
    given.mkdir()
    for index, one in enumerate(pictures[1][110:130]):
        Image.fromarray(one).save(given / f"part {index}.png")
    out, maps = tmp_path / "found.csv", tmp_path / "maps"

    def asked(*more: str) -> Any:
        return CliRunner().invoke(app, ["detect", str(run), str(given), "--out", str(out), *more])

    done = asked("--false-alarms", "5%", "--maps", str(maps))
    assert done.exit_code == 0, done.output
    assert "of 20 pictures raise an alarm" in done.stderr
    assert done.stdout.split() == [str(out), str(tmp_path / "found.strange.png"), str(maps)]
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("name,anomaly,p_value,alarm") and len(lines) == 21 and "part 7," in "\n".join(lines)
    sheet = Image.open(tmp_path / "found.strange.png").size
    assert sheet[0] > 4 * sheet[1]  # ten beside each other, in two rows
    assert sorted(path.name for path in maps.glob("*.png"))[0] == "part 0.png" and len(list(maps.glob("*.png"))) == 20
    few = asked("--false-alarms", "0.01%")
    assert few.exit_code != 0 and "normal pictures cannot tell" in str(few.exception)
    for folder in (given, tmp_path):
        elsewhere = asked("--false-alarms", "5%", "--maps", str(folder))
        assert elsewhere.exit_code != 0 and "--maps" in str(elsewhere.exception)
    for share in ("0", "1.5", "much"):
        refused = asked("--false-alarms", share)
        assert refused.exit_code != 0 and "--false-alarms" in str(refused.exception)


def test_a_model_that_is_never_surprised_says_who_is(tmp_path: Path) -> None:
    tl.train("digits", model="gan", out=tmp_path / "run", budget=64, size="xs", quiet=True)
    with pytest.raises(InputError, match="gan cannot detect; models that can: autoencoder"):
        tl.load(tmp_path / "run").detect(np.zeros((3, 8, 8), dtype=np.uint8))
