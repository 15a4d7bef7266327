"""What a metadata file says of pictures beside their label: a condition of which any part can be asked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import trilemma as tl
from trilemma.cli import app
from trilemma.conditions import hide
from trilemma.errors import InputError
from trilemma.metrics.classes import mean_control
from trilemma.mixed import Attributes, space_from
from trilemma.modalities import cache
from trilemma.modalities.contract import Opening
from trilemma.report.compare import compare
from trilemma.report.of_attributes import AttributeRuler

SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
    "network.width": 16,
    "network.depth": 1,
}
COUNT = 400


def rows() -> list[dict[str, str]]:
    """A bar that is at the top or at the bottom, dark or light; how light it is stands in a column of numbers."""
    generator = np.random.default_rng(0)
    made = []
    for number in range(COUNT):
        place, shade = ("top", "bottom")[number % 2], ("dark", "light")[(number // 2) % 2]
        value = (90 if shade == "dark" else 210) + int(generator.integers(-20, 21))
        known = shade if number % 10 else ""
        made.append(
            {
                "file_name": f"{number:04d}.png",
                "place": place,
                "shade": known,
                "value": str(value),
                "file": f"https://example.org/{number}",
                "licence": "CC0",
            }
        )
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bars") / "bars"
    out.mkdir()
    for number, row in enumerate(rows()):
        x = np.random.default_rng(number).integers(0, 30, size=(8, 8)).astype(np.uint8)
        x[slice(0, 3) if row["place"] == "top" else slice(5, 8)] = int(row["value"])
        Image.fromarray(x).save(out / row["file_name"])
    with (out / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows()[0]))
        writer.writeheader()
        writer.writerows(rows())
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "diffusion"
    return tl.train(folder, model="diffusion", size="xs", budget="6k", out=out, settings=SETTINGS, quiet=True).folder


def read(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which bars (n, 8, 8) are at the top, and how light they are, from the pictures themselves."""
    top, bottom = x[:, :3].astype(float).mean((1, 2)), x[:, 5:].astype(float).mean((1, 2))
    return top > bottom, np.maximum(top, bottom)


def test_columns_become_attributes_and_what_says_nothing_is_left_out(folder: Path) -> None:
    data = tl.open_data(folder)
    assert [(one.name, one.kind) for one in data.attributes] == [
        ("place", "category"), ("shade", "category"), ("value", "integer"),
    ]  # fmt: skip
    note = next(note for note in data.notes if note.startswith("columns not used"))
    assert "file (identifier)" in note and "licence (constant)" in note
    cells = data.conditions["attributes"]
    assert cells.shape == (COUNT, 3) and np.isnan(cells).sum(0).tolist() == [0, COUNT // 10, 0]
    assert data.conditions["value"].shape == (COUNT, 1)  # an order that a drift can follow
    again = tl.open_data(folder)  # from the cache
    assert [vars(one) for one in again.attributes] == [vars(one) for one in data.attributes]
    assert np.array_equal(again.conditions["attributes"], cells, equal_nan=True) and again.hash == data.hash
    theirs, ours = again.spaces["attributes"], data.spaces["attributes"]
    assert isinstance(theirs, Attributes) and isinstance(ours, Attributes)
    assert np.array_equal(theirs.pool()[0], ours.pool()[0], equal_nan=True)
    assert len(ours.pool()[0]) == len(data.splits["train"])


def test_a_user_names_kinds_of_attributes(folder: Path) -> None:
    assert cache.FORMAT > 2  # of caches without attributes
    opening = Opening(columns=(("place", "text"), ("value", "category")))
    data = tl.open_data(folder, opening=opening)
    assert [one.name for one in data.attributes] == ["shade"]  # more than 64 values are no category
    with pytest.raises(InputError, match=r"data.columns.plase.*did you mean 'place'|plase"):
        tl.open_data(folder, opening=Opening(columns=(("plase", "text"),)))
    with pytest.raises(InputError, match="an attribute is one of"):
        tl.open_data(folder, opening=Opening(columns=(("place", "identifier"),)))


def test_any_part_is_hidden_in_training_and_the_same_part_again(folder: Path) -> None:
    data = tl.open_data(folder)
    batch = data.split("train").gather(np.arange(300), seed=3)
    before = batch.raw["attributes"].clone()
    spaces = torch.nn.ModuleDict(data.spaces)
    gone = hide(spaces, batch).raw["attributes"].isnan() & ~before.isnan()
    assert 0.1 < gone.all(1).float().mean() < 0.25 and 0.1 < gone.float().mean(0).min() < 0.4
    partly = gone.any(1) & ~gone.all(1)
    assert 0.05 < partly.float().mean() < 0.3
    assert torch.equal(batch.present["attributes"], ~batch.raw["attributes"].isnan().all(1))
    part = data.split("train").gather(np.arange(100, 200), seed=3)
    assert torch.equal(
        hide(spaces, part).raw["attributes"].nan_to_num(-9), batch.raw["attributes"][100:200].nan_to_num(-9)
    )
    space = space_from(data.spaces["attributes"].describe())
    assert isinstance(space, Attributes) and space.columns == [2, 2, 0]


def test_samples_are_what_is_asked_of_them(run: Path) -> None:
    loaded = tl.load(run)
    for place in ("top", "bottom"):
        top, _ = read(loaded.generate(48, where=f"place = {place}"))
        assert (top == (place == "top")).mean() > 0.9
    _, light = read(loaded.generate(48, where="place = top and shade = light"))
    _, dark = read(loaded.generate(48, where="place = top and shade = dark"))
    assert light.mean() > dark.mean() + 60
    _, high = read(loaded.generate(48, where="value > 200"))
    assert high.mean() > read(loaded.generate(48, where="value < 100"))[1].mean() + 60
    parts = np.concatenate(list(loaded.stream(24, where="place = top")))
    assert np.array_equal(parts, loaded.generate(24, where="place = top"))


def test_without_being_asked_samples_have_the_attributes_of_training_examples(run: Path) -> None:
    loaded = tl.load(run)
    request = loaded.sampler.request(0, np.arange(200))
    drawn = request.raw["attributes"].numpy()
    pool, _ = loaded.model.spaces["attributes"].pool()
    known = {tuple(np.nan_to_num(row, nan=-9).tolist()) for row in pool}
    assert all(tuple(np.nan_to_num(row, nan=-9).tolist()) in known for row in drawn)
    assert 0.45 < np.mean(drawn[:, 0] == 0) < 0.55
    one = loaded.sampler.request(0, np.array([7])).raw["attributes"].numpy()
    assert np.array_equal(one[0], drawn[7], equal_nan=True)


def test_a_picture_is_turned_into_what_is_asked_and_nothing_is_said_of_the_rest(run: Path, folder: Path) -> None:
    loaded = tl.load(run)
    prompt = loaded.pooled("place = top", alone=True)
    assert prompt.pool is not None and np.isnan(prompt.pool[0]).mean(0).tolist() == [0, 1, 1]
    bottom = [str(folder / row["file_name"]) for row in rows()[:40] if row["place"] == "bottom"]
    turned = np.concatenate([loaded.vary(one, strength=0.9, where="place = top") for one in bottom])
    left = np.concatenate([loaded.vary(one, strength=0.1, where="place = top") for one in bottom])
    assert read(turned)[0].mean() > 0.8 and read(left)[0].mean() < 0.2


def test_a_combination_that_no_example_has(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = tl.load(run)
    prompt = loaded.pooled("shade = dark and value > 200")
    assert prompt.pool is not None and "no training example has all of this" in capsys.readouterr().err
    rows = prompt.pool[0]
    assert (rows[:, 1] == loaded.attributes[1].values.index("dark")).all()
    values = loaded.attributes[2].from_scores(rows[:, 2].astype(float))
    assert (values > 200).all()


def test_what_cannot_be_asked_for_is_an_error(run: Path, tmp_path: Path) -> None:
    loaded = tl.load(run)
    for where, words in {
        "plase = top": "plase",
        "place = middle": "middle",
        "value > 999": "no training example meets it",
        "place": "is no condition",
    }.items():
        with pytest.raises(InputError, match=words):
            loaded.generate(4, where=where)
    plain = tl.train(
        np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8), model="vae", budget="200", size="xs",
        out=tmp_path / "plain", settings=SETTINGS, quiet=True,
    )  # fmt: skip
    with pytest.raises(InputError, match="--where"):
        tl.load(plain).generate(4, where="place = top")


def test_from_the_command_line(run: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["edit", str(run), "--where", "place = top"])
    assert told.exit_code and "name the picture to edit" in str(told.exception)
    out = tmp_path / "top.npy"
    told = CliRunner().invoke(app, ["generate", str(run), "-n", "20", "--where", "place = top", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert read(np.load(out))[0].mean() > 0.9


@pytest.mark.parametrize("model", ["vae", "autoencoder", "gan", "stylegan", "gan:wasserstein"])
def test_every_family_is_told_attributes(model: str, folder: Path, tmp_path: Path) -> None:
    run = tl.train(folder, model=model, size="xs", budget="300", out=tmp_path / "run", settings={
        key: value for key, value in SETTINGS.items() if not key.startswith("network")
    }, quiet=True)  # fmt: skip
    loaded = tl.load(run)
    assert loaded.generate(4, where="place = top").shape == (4, 8, 8)
    one, other = (
        loaded.sampler.request(0, np.arange(4), prompt=loaded.pooled(f"place = {place}")) for place in ("top", "bottom")
    )
    other.noise.draw = one.noise.draw
    with torch.no_grad():
        assert not torch.equal(loaded.model.sample(one), loaded.model.sample(other))  # it makes a difference
    if model == "vae":  # an input comes without attributes
        assert loaded.reconstruct(folder / "0000.png").shape == (1, 8, 8)
    if model == "stylegan":
        assert {"place=top", "shade=dark", "value"} <= set(loaded.direction_names())
        assert loaded.edit(direction="place=top", amount=[0.0, 1.0]).shape == (2, 8, 8)


def test_the_mean_over_attributes_and_its_interval() -> None:
    hits = np.array([[1, 1], [1, 0], [0, np.nan], [np.nan, np.nan], [1, 1], [1, 0]], dtype=float)
    found = mean_control(hits)
    each = np.array([1, 0.5, 0, 1, 0.5])
    assert found.value == pytest.approx(each.mean())
    half = 2.776445 * each.std(ddof=1) / 5**0.5
    assert (found.low, found.high) == pytest.approx((max(0.6 - half, 0), min(0.6 + half, 1)), abs=1e-5)
    with pytest.raises(ValueError, match="attributes"):
        mean_control(np.full((3, 2), np.nan))


def test_attributes_are_read_off_real_data_and_of_samples_in_another_order_they_are_not(folder: Path) -> None:
    data = tl.open_data(folder)
    train, test = data.rows("train"), data.rows("test")

    def features(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), 8, 8).mean(2) + 0.0

    ruler = AttributeRuler(data, features(train), features(test))
    assert {"control@place", "control@shade", "control@value", "attributes"} == set(ruler.real)
    assert ruler.real["control@place"].value == 1 and ruler.real["attributes"].value > 0.95
    asked = data.conditions["attributes"][data.splits["test"]]
    turned = np.where(np.isnan(asked[:, :1]), np.nan, np.concatenate([1 - asked[:, :1], asked[:, 1:]], 1))
    assert ruler.measure(features(test), turned)["control@place"].value == 0


def test_a_comparison_says_whether_attributes_are_as_asked(folder: Path, tmp_path: Path) -> None:
    page = compare(
        folder, models=["diffusion"], budget_each="2k", out=tmp_path / "report", settings=SETTINGS, quiet=True
    )
    results = json.loads((page.parent / "results.json").read_text())
    rows = {row["name"]: row for row in results["rows"]}
    assert rows["diffusion"]["status"] == "ok" and not rows["diffusion"]["problems"]
    for name in ("diffusion", "real against real"):
        assert {"control@place", "control@shade", "control@value", "attributes"} <= set(rows[name]["metrics"])
    assert rows["real against real"]["metrics"]["control@place"]["value"] > 0.9
    assert "Attributes as asked" in page.read_text()
