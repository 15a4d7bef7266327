"""What a metadata file says of pictures beside their label: a condition of which any part can be asked for."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from trilemma.modalities.columns import Column
from trilemma.modalities.contract import Opening
from trilemma.report.compare import compare
from trilemma.report.of_attributes import AttributeRuler
from trilemma.report.of_styles import of_styles
from trilemma.report.variants import Variant, data_of, moments
from trilemma.spaces import Categorical, Continuous
from trilemma.tasks import styles
from trilemma.training import features as networks
from trilemma.training.opening import seen_by
from trilemma.training.sampling import Sampler

SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
    "network.width": 16,
    "network.depth": 1,
}
COUNT = 400
COLUMNS = [Column("smile", "category", values=["no", "yes"]), Column("old", "category", values=["no", "yes"]),
           Column("hair", "number", shares=[0.0, 1.0], knots=[0.0, 1.0])]  # fmt: skip


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
        "value > 999": "'value' reaches from 70 to 230",
        "value > big": "'big' is no integer",
        "place = top or place = bottom": "joined by 'and' alone",
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


def test_from_the_command_line(run: Path, folder: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["edit", str(run), "--where", "place = top"])
    assert told.exit_code and "name the picture to edit" in str(told.exception)
    told = CliRunner().invoke(app, ["edit", str(run), str(folder / "0000.png")])
    assert told.exit_code and "edit RUN FILE --where" in str(told.exception)
    out = tmp_path / "top.npy"
    told = CliRunner().invoke(app, ["generate", str(run), "-n", "20", "--where", "place = top", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert read(np.load(out))[0].mean() > 0.9
    bottom = tmp_path / "bottom"
    bottom.mkdir()
    for row in [row for row in rows() if row["place"] == "bottom"][:20]:
        shutil.copy(folder / row["file_name"], bottom)
    asked = ["edit", str(run), str(bottom), "--where", "place = top", "--out", str(out), "--strength"]
    for strength, least, most in (("0.9", 0.8, 1.0), ("0.1", 0.0, 0.2)):
        told = CliRunner().invoke(app, [*asked, strength])
        assert told.exit_code == 0, told.output
        found = read(np.load(out))[0]
        assert len(found) == 20 and least <= found.mean() <= most


def test_who_publishes_is_told_that_rows_go_along(run: Path) -> None:
    told = CliRunner().invoke(app, ["push", str(run), "me/bars", "--dry-run"])
    assert told.exit_code == 0
    count = len(tl.load(run).model.spaces["attributes"].pool()[0])  # type: ignore[operator, union-attr]
    assert f"{count:,} rows of attributes (place, shade, value) of training examples" in told.stderr


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


def written(out: Path, told: dict[int, dict[str, str]], *, count: int = 60, name: str = "{:03d}.png") -> Path:
    """Pictures of which number i has these cells; no row where there are none."""
    out.mkdir()
    for number in range(count):
        x = np.random.default_rng(number).integers(0, 255, size=(8, 8)).astype(np.uint8)
        Image.fromarray(x).save(out / name.format(number))
    rows = [{"file_name": name.format(number), **cells} for number, cells in told.items()]
    with (out / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_new_names_of_values_are_other_data(tmp_path: Path) -> None:
    told = {i: {"sex": "mw"[i % 2]} for i in range(60)}
    folder = written(tmp_path / "set", told)
    first = tl.open_data(folder)
    text = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").write_text(text.replace(",m", ",man").replace(",w", ",woman"))
    for _ in range(2):  # read anew, and from the cache
        data = tl.open_data(folder)
        assert data.attributes[0].values == ["man", "woman"] and data.hash != first.hash


def test_names_of_files_change_nothing(tmp_path: Path) -> None:
    told = {i: {"age": str(20 + i % 15)} for i in range(60)}
    one = tl.open_data(written(tmp_path / "one", told))
    other = tl.open_data(written(tmp_path / "other", told, name="x{:03d}.png"))
    folder = tmp_path / "turned"
    folder.mkdir()
    names = {f"{i:03d}.png": f"{59 - i:03d}.png" for i in range(60)}
    for mine, theirs in names.items():
        (folder / theirs).write_bytes((tmp_path / "one" / mine).read_bytes())
    lines = (tmp_path / "one" / "metadata.csv").read_text().splitlines()
    lines[1:] = [f"{names[line.split(',')[0]]},{line.split(',')[1]}" for line in lines[1:]]
    (folder / "metadata.csv").write_text("\n".join(lines))
    assert one.hash == other.hash == tl.open_data(folder).hash


def test_pictures_without_a_row_are_told_nothing(tmp_path: Path) -> None:
    data = tl.open_data(written(tmp_path / "set", {i: {"sex": "mw"[i % 2]} for i in range(40)}))
    assert (data.present["attributes"] == ~np.isnan(data.conditions["attributes"]).all(1)).all()
    assert data.present["attributes"].sum() == 40


def test_samples_of_a_label_have_all_attributes_of_that_label(tmp_path: Path) -> None:
    told = {i: {"label": "abcde"[i % 5], "kind": "xy"[(i // 5) % 2], "value": str(i * 7 % 97)} for i in range(300)}
    folder = written(tmp_path / "set", told, count=300)
    run = tl.train(folder, model="vae", size="xs", budget="128", out=tmp_path / "run", settings=SETTINGS, quiet=True)
    loaded = tl.load(run)
    request = loaded.sampler.request(0, np.arange(1500))
    labels, rows = request.raw["label"][:, 0].numpy(), request.raw["attributes"].numpy()
    pool, theirs = loaded.model.spaces["attributes"].pool()
    for label in range(5):
        seen = {tuple(row) for row in rows[labels == label].tolist()}
        assert seen <= {tuple(row) for row in pool[theirs == label].tolist()} and len(seen) > 35  # of about 48
    # What is asked for decides the label, where nobody names one.
    asked = loaded.sampler.request(0, np.arange(90), prompt=loaded.pooled("value < 5"))
    assert set(asked.raw["label"][:, 0].tolist()) <= {0, 1, 2, 3, 4}
    named = loaded.sampler.request(0, np.arange(9), label=3, prompt=loaded.pooled("kind = x", "d"))
    assert set(named.raw["label"][:, 0].tolist()) == {3}


def test_a_part_of_the_data_is_asked_for_what_it_has(folder: Path) -> None:
    data = tl.open_data(folder)
    part = data_of(Variant("v", "vae", "vae", "subsample", "", share=0.1), data)
    ours, theirs = data.spaces["attributes"], part.spaces["attributes"]
    assert isinstance(ours, Attributes) and isinstance(theirs, Attributes)
    assert len(theirs.pool()[0]) == len(part.splits["train"]) < len(ours.pool()[0])
    with pytest.raises(InputError, match=r"Known: order, value$"):
        moments(data, "attributes")


def test_features_with_and_without_attributes_are_two_networks(folder: Path) -> None:
    data = tl.open_data(folder)
    plain = seen_by("bridge", replace(data, conditions={**data.conditions, "source": data.x},
                                      spaces={**data.spaces, "source": data.spaces["x"]}))  # fmt: skip
    assert plain.hash == data.hash and networks.place(plain, "choose") != networks.place(data, "choose")


def test_another_run_begins_with_the_same_attributes(run: Path, tmp_path: Path) -> None:
    told = {
        i: {"place": ("top", "left")[i % 2], "shade": ("dark", "light")[i % 3 == 0], "value": str(i)} for i in range(60)
    }
    few = written(tmp_path / "few", told)
    with pytest.raises(InputError, match=r"'place' is \['bottom', 'top'\] there, 'place' is \['left', 'top'\] here"):
        tl.train(few, start=run, budget="64", out=tmp_path / "out", quiet=True)
    bare = written(tmp_path / "bare", {i: {"url": str(i)} for i in range(60)})
    with pytest.raises(InputError, match="there is no 'place' here"):
        tl.train(bare, start=run, budget="64", out=tmp_path / "out", quiet=True)


def test_a_column_that_is_called_as_a_direction(tmp_path: Path) -> None:
    told = {i: {"brightness": "ab"[i % 2], "x": str(i % 40)} for i in range(60)}
    folder = written(tmp_path / "set", told)
    run = tl.train(folder, model="stylegan", size="xs", budget="128", out=tmp_path / "run", quiet=True,
                   settings={k: v for k, v in SETTINGS.items() if not k.startswith("network")})  # fmt: skip
    loaded = tl.load(run)
    assert {"brightness", "brightness=a", "x"} <= set(loaded.direction_names())
    assert loaded.edit(direction="brightness", amount=[1.0]).shape == (1, 8, 8)
    assert loaded.edit(direction="brightness=b", amount=[1.0]).shape == (1, 8, 8)


@pytest.fixture
def frank(monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """Of a model whose styles, and pictures, are z and what it is told: label, smile, age, hair, all of which hang
    together in the data."""
    generator, space = np.random.default_rng(0), Attributes([2, 2, 0])
    old = generator.integers(0, 2, 600)
    smile, hair = np.where(generator.random((2, 600)) < 0.95, old, 1 - old)
    space.keep(np.stack([smile, old, np.where(hair, 1, -1) + generator.normal(0, 0.1, 600)], 1).astype("f"), old)
    model = SimpleNamespace(
        spaces={"label": Categorical((1,), 2), "attributes": space},
        affines=lambda: [torch.zeros(1, 8)],
        layer_noise=lambda noise: torch.zeros(len(noise), 0),
        synthesise=lambda styles, noise: styles.mean(1).reshape(-1, 1, 2, 4),
        draw=lambda request: request.noise.normal(4),
        # Who is not told them makes what goes along with the label, as the data have it.
        style=lambda z, request: torch.cat(
            [z, label := request.raw["label"].float(), request.raw.get("attributes", label).float().expand(-1, 3)], 1
        ).unsqueeze(1),
    )
    sampler = Sampler(model, SimpleNamespace(device="cpu"), frequencies=[0.5, 0.5], dtype=np.dtype("u1"))  # type: ignore[arg-type]
    monkeypatch.setattr(styles, "capable", lambda sampler: sampler.model)
    return sampler


def test_the_direction_of_an_attribute_or_label_moves_nothing_that_goes_along_with_it(frank: Sampler) -> None:
    for name, own, way in (("smile=yes", 5, 0.5), ("old=no", 6, -0.5), ("hair", 7, 1.0), ("a", 4, -0.5), ("b", 4, 0.5)):
        step = styles.direction(frank, name, ["a", "b"], COLUMNS).step
        assert float(step[own]) == pytest.approx(way, abs=0.1)
        assert step.abs().sum() - step[own].abs() < 1e-4, "something else was moved"


def test_a_report_says_what_directions_of_attributes_change_and_keep(frank: Sampler) -> None:
    def reader(place: int) -> SimpleNamespace:
        return SimpleNamespace(classes_=np.arange(2), predict=lambda x: (x[:, place] > (0.5 if place < 7 else 0)) * 1)

    told = SimpleNamespace(
        columns=COLUMNS,
        readers={place: reader(5 + place) for place in range(3)},
        values=lambda cells: ((cells > [0.5, 0.5, 0]).astype(int), ~np.isnan(cells)),
    )
    ruler: Any = SimpleNamespace(
        network=lambda x: x.reshape(len(x), -1).astype(float), reader=reader(4), attributes=told,
        protocol=SimpleNamespace(moved_count=100),
    )  # fmt: skip
    loaded: Any = SimpleNamespace(sampler=frank, model=frank.model, space=Continuous((1, 2, 4)))
    found = {name: record["value"] for name, record in of_styles(loaded, ruler).items()}
    for name in ("smile", "old", "hair", "label"):
        assert found[f"changed@{name}"] == 1 and found[f"kept@{name}"] > 0.85 and found[f"replaced@{name}"] < 0.6
    assert found["attributes_changed"] == 1 and found["attributes_kept"] > 0.85

    # Whoever smiles is old and of the other label: as asked, and nothing else kept.
    plain = frank.model.synthesise
    tied = torch.tensor([0, 1, 2, 3, 5, 5, 5, 7])
    frank.model.synthesise = lambda styles, noise: plain(styles[..., tied], noise)  # type: ignore[assignment]
    tangled = {name: record["value"] for name, record in of_styles(loaded, ruler).items()}
    assert tangled["changed@smile"] == 1 and tangled["kept@smile"] < found["kept@smile"] - 0.3
    # One that makes another picture of each: nothing is left of the one before.
    frank.model.synthesise = lambda styles, noise: plain(styles, noise) + torch.randn(len(styles), 1, 2, 4) * 10  # type: ignore[assignment]
    anew = {name: record["value"] for name, record in of_styles(loaded, ruler).items()}
    assert anew["replaced@smile"] == pytest.approx(1, abs=0.15) == anew["replaced@label"]


def test_numbers_are_above_their_median_or_not_whatever_their_rank(tmp_path: Path) -> None:
    told = {i: {"n": str(0 if i % 10 < 7 else 5 + i)} for i in range(200)}
    data = tl.open_data(written(tmp_path / "set", told, count=200))
    ruler = AttributeRuler(data, np.zeros((50, 2)) + np.arange(50)[:, None], np.zeros((5, 2)))
    values, known = ruler.values(data.conditions["attributes"])
    zero = np.array([told[i]["n"] == "0" for i in range(200)])
    assert known.all() and (values[:, 0] == ~zero).all()


def test_explicit_settings_stay_and_unusual_wishes_are_errors(run: Path, folder: Path, tmp_path: Path) -> None:
    asked = {"training.previews": 8, "training.fit_examples": 20_000, "training.choose_samples": 0}
    dry = tl.train(folder, model="vae", size="xs", budget="2k", out=tmp_path / "dry", quiet=True, settings=asked)
    plan = dry.config()
    assert plan["training"]["previews"] == 8 and plan["training"]["fit_examples"] == 20_000
    loaded = tl.load(run)
    with pytest.raises(InputError, match="has not learned from captions"):
        loaded.vary(folder / "0000.png", where="place = top", prompt="a bar")
    assert "place" in loaded.info()["attributes"]


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
