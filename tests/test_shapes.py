"""Coloured shapes: pictures show what their captions say, and the judge reads it there, and nothing that is not."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    place = Path(__file__).parents[1] / "benchmarks" / "shapes.py"
    about = importlib.util.spec_from_file_location("coloured_shapes", place)
    assert about is not None and about.loader is not None
    module = importlib.util.module_from_spec(about)
    sys.modules["coloured_shapes"] = module  # dataclasses look themselves up there
    about.loader.exec_module(module)
    return module


def test_captions_are_read_back(shapes: ModuleType) -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        scene = shapes.any_scene(random)
        assert shapes.Scene.read(str(scene)) == scene
    scene = shapes.Scene(2, "small", "red", "cross", "left of", "blue", "square")
    assert str(scene) == "two small red crosses left of a blue square"


def test_the_judge_reads_what_was_drawn(shapes: ModuleType) -> None:
    random = np.random.default_rng(2)
    scenes = [shapes.any_scene(random) for _ in range(80)]
    right = [all(shapes.answers(scene, shapes.look(shapes.draw(scene, random))).values()) for scene in scenes]
    assert np.mean(right) >= 0.97


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ("two small blue circles above a red square", {"colour"}),
        ("two small red squares above a red square", {"shape"}),
        ("two large red circles above a red square", {"size"}),
        ("three small red circles above a red square", {"count"}),
        ("two small red circles below a red square", {"relation"}),
        ("two small red circles left of a red square", {"relation"}),
    ],
)
def test_the_judge_sees_what_is_wrong(shapes: ModuleType, told: str, wrong: set[str]) -> None:
    """Every attribute can fail, and alone."""
    drawn = shapes.Scene.read("two small red circles above a red square")
    picture = shapes.draw(drawn, np.random.default_rng(3))
    found = shapes.answers(shapes.Scene.read(told), shapes.look(picture))
    assert {name for name, right in found.items() if not right} == {*wrong, "all"}


def test_nothing_and_too_much_are_wrong(shapes: ModuleType) -> None:
    scene = shapes.Scene.read("a large green circle")
    side = shapes.SIDE
    assert not any(shapes.answers(scene, shapes.look(np.full((side, side, 3), 30, np.uint8))).values())
    both = shapes.draw(shapes.Scene.read("a large green circle above a red square"), np.random.default_rng(0))
    found = shapes.answers(scene, shapes.look(both))
    assert not found["count"] and not found["all"]


def test_the_set_keeps_held_out_pairs_out_and_is_a_function_of_its_seed(shapes: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "again"):
        shapes.make(tmp_path / name, count=30, prompts=10, seed=5)
    first = (tmp_path / "one" / "pictures" / "metadata.csv").read_text()
    assert first == (tmp_path / "again" / "pictures" / "metadata.csv").read_text()
    rows = list(csv.DictReader(first.splitlines()))
    assert not any(shapes.Scene.read(row["text"]).held_out for row in rows)
    held_out = (tmp_path / "one" / "held_out.txt").read_text().splitlines()
    assert len(set(held_out)) == 10 and all(shapes.Scene.read(text).held_out for text in held_out)
    seen = (tmp_path / "one" / "seen.txt").read_text().splitlines()
    assert set(seen) <= {row["text"] for row in rows}
    pictures = [Image.open(tmp_path / name / "pictures" / "00007.png") for name in ("one", "again")]
    assert (np.asarray(pictures[0]) == np.asarray(pictures[1])).all()
