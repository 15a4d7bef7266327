"""Sources that are maps of classes: recognised, asked for, never mixed; what is read off outputs made from them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import contract_cases as toy
import numpy as np
import pytest
import torch
from PIL import Image

import trilemma as tl
from trilemma.batches import Arrays
from trilemma.errors import InputError
from trilemma.metrics.translation import map_agreement
from trilemma.modalities.classes import Palette, parse
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.door import open_data
from trilemma.modalities.inspection import of_data
from trilemma.modalities.pixels import resize
from trilemma.models.bridge import Bridge
from trilemma.report.baselines_of_translation import did_nothing, nearest_target
from trilemma.report.outlook import inspect
from trilemma.spaces import Categorical, Continuous
from trilemma.training import reading
from trilemma.training.opening import seen_by
from trilemma.training.preview import rows

COUNT, SIDE = 24, 16
COLOURS = np.array([[20, 40, 90], [120, 160, 80], [60, 110, 200]], np.uint8)


def maps(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """(COUNT, side, side) classes 0 ... 2 in blocks, all of them in each."""
    coarse = np.random.default_rng(seed).integers(0, 3, (COUNT, side // 4, side // 4))
    coarse[:, 0, :3] = [0, 1, 2]
    return coarse.repeat(4, 1).repeat(4, 2)


def folder(place: Path, x: np.ndarray) -> Path:
    place.mkdir()
    for number, one in enumerate(x.astype(np.uint8)):
        Image.fromarray(one).save(place / f"{number:03d}.png")
    return place


def sides(place: Path, *, side: int = SIDE, grey: bool = False) -> tuple[Path, Path, np.ndarray]:
    """Folders of maps and of pictures in which each class has its own brightness, and the maps' classes."""
    classes = maps(side=side)
    noise = np.random.default_rng(1).integers(0, 20, classes.shape)
    targets = classes * 80 + noise
    targets = targets if grey else targets[..., None].repeat(3, 3) // [1, 2, 3]
    place.mkdir()
    return folder(place / "a", COLOURS[classes]), folder(place / "b", targets), classes


def opened(*places: Any, **settings: Any) -> Data:
    return open_data(places[0], data2=places[1], opening=Opening(**settings))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_maps_are_recognised_and_never_mixed(cached: Path) -> None:
    """In their own size and in another one, at first and from the cache; targets keep their own mode."""
    one, two, classes = sides(cached / "x", grey=True)
    for _ in range(2):
        data = opened(one, two)
        space = data.spaces["source"]
        assert isinstance(space, Categorical) and space.count == 3 and data.spaces["x"].shape == (1, SIDE, SIDE)
        # Classes are numbered by colour: those of COLOURS by their red, 20, 60, 120.
        want = {np.array([0, 2, 1])[each].tobytes() for each in classes}
        found = np.concatenate([data.sources(name)[:] for name in data.splits])  # type: ignore[index]
        assert found.dtype == np.uint8 and {each.astype(np.int64).tobytes() for each in found[:, 0]} == want
        painted = data.pictured(found, colour=True).transpose(0, 2, 3, 1)
        assert {each.tobytes() for each in painted} == {each.tobytes() for each in COLOURS[classes]}
        assert data.pictured(found).shape[1] == 1
        assert any("maps of 3 classes" in note for note in data.notes)
    small = opened(one, two, resolution=8, fit="pad")
    blocks = small.sources("train")[:]  # type: ignore[index]
    assert blocks.shape[1:] == (1, 8, 8)
    assert (blocks[..., ::2, ::2] == blocks[..., 1::2, 1::2]).all()  # whole blocks of two, no border between
    assert small.hash != data.hash != opened(one, two, classes="none").hash
    assert isinstance(opened(one, two, classes="none").spaces["source"], Continuous)
    assert "3 in the sources" in of_data(data).text()


def test_what_is_no_map_stays_a_picture(cached: Path) -> None:
    x = np.random.default_rng(0)
    (cached / "n").mkdir()
    noisy = folder(cached / "n" / "a", x.integers(0, 256, (COUNT, SIDE, SIDE, 3)))  # many colours
    drawing = folder(cached / "n" / "d", 255 * (maps() > 0))  # two: thin lines would be torn
    grain = folder(cached / "n" / "g", 60 * x.integers(0, 4, (COUNT, SIDE, SIDE)))  # few greys, no regions
    targets = folder(cached / "n" / "b", x.integers(0, 256, (COUNT, SIDE, SIDE, 3)))
    for place in (noisy, drawing, grain):
        assert isinstance(opened(place, targets).spaces["source"], Continuous)
    two = opened(drawing, targets, classes="2")
    assert isinstance(two.spaces["source"], Categorical) and two.spaces["source"].count == 2


def test_colours_that_are_asked_for(cached: Path) -> None:
    one, two, classes = sides(cached / "x")
    listed = cached / "palette.txt"
    listed.write_text("# what is what\n60,110,200,lake\n#14285a ocean\n120 160 80 land\n")
    data = opened(one, two, classes=str(listed))
    assert data.modality.palette.names == ("lake", "ocean", "land")  # type: ignore[attr-defined]
    again = type(data.modality).from_description(data.modality.describe())
    assert again.describe() == data.modality.describe()
    want = {np.array([1, 2, 0])[each].astype(np.uint8).tobytes() for each in classes}
    assert {each.tobytes() for each in data.sources("train")[:][:, 0]} <= want  # type: ignore[index]
    few = opened(one, two, classes="2")
    assert any("other colours" in note for note in few.notes) and few.spaces["source"].count == 2  # type: ignore[attr-defined]
    for asked, words in (
        ("9", "3 colours only"),
        ("1", "from 2 to 256"),
        ("red,nocolour", "'nocolour' is no colour"),
        ("red", "holds 1 colours"),
        ("red,#ff0000", "twice"),
    ):
        with pytest.raises(InputError, match=words):
            opened(one, two, classes=asked)
    assert parse("0,128,255").colours.tolist() == [[0] * 3, [128] * 3, [255] * 3]
    for places, settings in (((two, None), {}), ((one, two), {"pairs": "none"})):
        with pytest.raises(InputError, match="--classes is for pairs"):
            open_data(places[0], data2=places[1], opening=Opening(classes="3", **settings))


def test_files_of_any_mode_give_the_same_classes() -> None:
    palette = Palette(COLOURS)
    classes = maps()[0]
    image = Image.fromarray(COLOURS[classes].astype(np.uint8))
    for mode in ("RGB", "RGBA"):
        found, foreign = palette.numbers(np.asarray(image.convert(mode)))
        assert (found == classes).all() and foreign == 0
    found, foreign = palette.numbers(COLOURS[classes] + 3)
    assert (found == classes).all() and foreign == 1
    tall = resize(classes[:, :8, None].astype(np.uint8), (16, 16), "pad", nearest=True)
    assert set(np.unique(tall)) <= {0, 1, 2}


def test_two_sets_and_baselines_see_pictures(cached: Path) -> None:
    one, two, _ = sides(cached / "x", grey=True)
    data = opened(one, two)
    apart = seen_by("cut", data)
    assert isinstance(apart.spaces["other"], Continuous) and apart.spaces["other"].shape == data.spaces["x"].shape
    assert apart.modality.palette is None and data.modality.palette is not None  # type: ignore[attr-defined]
    assert did_nothing(data, 5, seed=0).shape == (5, 1, SIDE, SIDE) == nearest_target(data, 5, seed=0).shape
    sheet, columns = rows(data, data.sources("choose")[:2], data.rows("choose", 2))  # type: ignore[index]
    assert sheet.shape == (6, 3, SIDE, SIDE) and columns == 9
    # What is to be translated is read as classes by a run that learned them, and as pictures by one that did not.
    names, whole = data.modality.whole(one)
    first = next(whole)
    assert first.shape == (1, SIDE, SIDE) and first.max() == 2 and len(names) == COUNT
    assert next(apart.modality.whole(one)[1]).max() > 2


@pytest.mark.parametrize("name", ["bridge", "pix2pix", "reader"])
def test_models_learn_from_planes_of_classes(name: str) -> None:
    generator = np.random.default_rng(0)
    source = generator.integers(0, 3, (toy.COUNT, 1, 9, 8)).astype(np.uint8)
    x = np.concatenate([source, -1.0 * source], 1).astype(np.float32)
    spaces = {**copy.deepcopy(toy.CASES["pairs"].spaces), "source": Categorical((1, 9, 8), 3)}
    case = toy.Case("maps", spaces, Arrays(x, {"source": source}))
    loop = toy.loop(name, case, steps=3)
    for _ in range(3):
        assert all(np.isfinite(value) for value in loop.take_step().values())
    if name != "reader":
        loop.model.eval()
        with torch.no_grad():
            made = loop.model.translate(toy.request(case, 4))  # type: ignore[operator]
        assert made.shape == (4, 2, 9, 8) and made.isfinite().all()
    if name == "bridge":
        with pytest.raises(InputError, match="3 channels, x 2"):
            Bridge(toy.settings("bridge", case, start="source"), spaces)


def test_a_map_that_can_be_read_off(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader learns to tell classes by their brightness; what is of other maps agrees less."""
    monkeypatch.setattr(reading, "examples_for", lambda data: 640)
    one, two, _ = sides(cached / "x")
    data = opened(one, two)
    reader = reading.source_reader(data, quiet=True)
    x, held = data.rows("train"), data.sources("train")[:]  # type: ignore[index]
    own = map_agreement(held, reader(x), 3).value
    assert own > 0.8 > 0.6 > map_agreement(held, reader(np.roll(x, 1, 0)), 3).value
    np.testing.assert_array_equal(reading.source_reader(data, quiet=True)(x[:3]), reader(x[:3]))  # from the cache


def test_a_table_says_how_well_maps_can_be_read_off(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model, of what does nothing for it, and of the hidden partners, which are the best that can be reached."""
    monkeypatch.setattr(reading, "examples_for", lambda data: 640)
    one, two, _ = sides(cached / "x")
    settings = {"training.previews": 1, "training.choose_samples": 0, "network.width": 8, "critic.width": 8}
    asked = {"models": ["pix2pix:spade"], "budget_each": "64", "settings": settings, "out": cached / "report"}
    tl.compare(one, two, quiet=True, **asked)  # type: ignore[arg-type]
    rows = json.loads((cached / "report" / "results.json").read_text())["rows"]
    assert not [row["problems"] for row in rows if row["problems"]]
    found = {row["name"]: row["metrics"].get("agreement", {}).get("value") for row in rows}
    assert found["real against real"] > 0.7 > found["mean target"] >= 0
    assert 0 <= found["pix2pix:spade"] < found["real against real"], "trained for two steps"
    assert found["nearest target"] < found["real against real"]
    assert "Map read off" in (cached / "report" / "index.html").read_text(encoding="utf-8")


def test_agreement_by_hand() -> None:
    """Class 0 in 2 places of which 1 is found, class 1 in 2 places of which all are, with one too many; no class 2."""
    true = np.array([0, 0, 1, 1]).reshape(1, 1, 2, 2)
    found = np.array([0, 1, 1, 1]).reshape(1, 1, 2, 2)
    assert map_agreement(true, found, 3).value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert map_agreement(true, true, 3).value == 1
    many = map_agreement(true.repeat(8, 0), np.concatenate([found.repeat(4, 0), true.repeat(4, 0)]), 3)
    assert many.low is not None and many.high is not None and many.low < many.value < many.high <= 1


def test_inspection_names_files_without_partners(cached: Path) -> None:
    one, two, _ = sides(cached / "x")
    (two / "003.png").unlink()
    (one / "007.png").unlink()
    text = inspect(one, two).text()
    assert "2 files have none" in text and str(one / "003.png") in text and str(two / "007.png") in text


def test_a_list_longer_than_any_name_of_a_file_is_a_list() -> None:
    assert len(parse(",".join(f"#{value:06x}" for value in range(100)))) == 100
