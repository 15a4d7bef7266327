"""The main job on tiny data: a whole table under one protocol, that goes on where it stopped and survives failures."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trilemma as tl
from trilemma import cli
from trilemma.errors import InputError
from trilemma.modalities.door import open_data
from trilemma.report import compare as comparing
from trilemma.report.baselines import BASELINES, FLOOR, pca_gaussian, real, resampled
from trilemma.report.outlook import outlook
from trilemma.training import features

MODELS = ["autoencoder", "gan"]
SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
}
QUICK = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
OTHERS = [*BASELINES, FLOOR]


def call(*arguments: object) -> tuple[int, str, str]:
    """`trilemma compare ARGUMENTS` in this process: exit code, stdout, stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["trilemma", "compare", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def refused(*arguments: object) -> str:
    """The one line with which a command is refused."""
    code, out, err = call(*arguments)
    assert code == 2 and out == "", (code, out, err)
    assert err.startswith("error: ") and len(err.splitlines()) == 1, err
    return err


def bars(count: int = 240) -> np.ndarray:
    """(count, 8, 8) uint8: a bright bar at a random place and angle."""
    generator = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    slope, place = generator.normal(size=(2, count, 1, 1))
    return (255 * np.exp(-((rows - 4 + slope * (columns - 4) + place) ** 2) / 2)).astype(np.uint8)


def clusters(count: int = 600) -> np.ndarray:
    """(count, 2) float32: eight Gaussians on a circle."""
    generator = np.random.default_rng(0)
    angle = generator.integers(0, 8, count) * np.pi / 4
    centres = np.stack([np.cos(angle), np.sin(angle)], 1) * 2
    return (centres + 0.1 * generator.normal(size=centres.shape)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def short_features() -> Iterator[None]:
    """Networks for features of a few steps: what is tested here is the table, not how well it sees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "examples_for", lambda data: 512)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "bars.npy"
    np.save(file, bars())
    return file


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "clusters.npy"
    np.save(file, clusters())
    return file


@pytest.fixture(scope="module")
def report(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[object]]:
    """A finished comparison of pictures by the command line: its folder, its stdout, its command."""
    folder = tmp_path_factory.mktemp("report") / "bars"
    command: list[object] = [pictures, "--models", ", ".join(MODELS), "--budget-each", "1k", "--out", folder, *QUICK]
    code, out, err = call(*command)
    assert code == 0, err
    return folder, out, command


@pytest.fixture(scope="module")
def scatter(points: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of points from Python, two seeds of each model."""
    folder = tmp_path_factory.mktemp("report") / "clusters"
    page = tl.compare(
        points, models=["vae", "diffusion:flow"], budget_each="1k", seeds=2, seed=5, out=folder,
        settings=dict(SETTINGS), prefer="diversity", need=["likelihood"], quiet=True,
    )  # fmt: skip
    assert page == folder / "index.html"
    return folder


def results(folder: Path) -> dict[str, Any]:
    def strict(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((folder / "results.json").read_text(encoding="utf-8"), parse_constant=strict)


# --- a whole comparison -----------------------------------------------------------------------------------------------


def test_the_last_line_is_the_page(report: tuple[Path, str, list[object]]) -> None:
    folder, out, _ = report
    assert out.splitlines()[-1] == str(folder / "index.html")
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in [*MODELS, *OTHERS]:
        assert name in page
    assert not list(folder.rglob("*.part"))


def test_every_row_is_there(report: tuple[Path, str, list[object]], scatter: Path) -> None:
    rows = results(report[0])["rows"]
    assert [(row["name"], row["kind"], row["seed"]) for row in rows] == [
        *((name, "model", 0) for name in MODELS),
        *((name, "baseline", None) for name in BASELINES),
        (FLOOR, "floor", None),
    ]
    rows = results(scatter)["rows"]
    assert [(row["name"], row["seed"]) for row in rows] == [
        *[("vae", 5), ("diffusion:flow", 5), ("vae", 6), ("diffusion:flow", 6)],
        *((name, None) for name in OTHERS),
    ]
    for folder in (report[0], scatter):
        told = results(folder)
        assert told["finished"] is True and {row["status"] for row in told["rows"]} == {"ok"}
        assert told["answer"]["sentences"], "an answer in words"


def test_every_figure_is_finite_and_in_its_interval(report: tuple[Path, str, list[object]], scatter: Path) -> None:
    wanted = {
        "frechet",
        "kernel",
        "precision",
        "recall",
        "density",
        "coverage",
        "classifier",
        "memorisation",
        "diversity",
    }
    for folder in (report[0], scatter):
        rows = results(folder)["rows"]
        names = [set(row["metrics"]) for row in rows]
        assert all(wanted <= mine for mine in names)
        for row in rows:
            for name, measure in row["metrics"].items():
                assert measure["value"] is not None and math.isfinite(measure["value"]), (row["name"], name)
                if measure["low"] is not None:
                    assert measure["low"] <= measure["value"] <= measure["high"], (row["name"], name)
            if row["kind"] == "model":
                for name, value in row["speed"].items():
                    assert value is not None and math.isfinite(value) and value > 0, (row["name"], name)


def test_metrics_of_what_a_model_can(report: tuple[Path, str, list[object]], scatter: Path) -> None:
    rows = {row["name"]: row["metrics"] for row in results(report[0])["rows"]}
    assert {"sharpness", "frechet@random", "reconstruction"} <= set(rows["autoencoder"])
    assert "reconstruction" not in rows["gan"]
    rows = {row["name"]: row["metrics"] for row in results(scatter)["rows"]}
    assert {"log_likelihood", "reconstruction"} <= set(rows["vae"]) and "log_likelihood" in rows["diffusion:flow"]
    assert "sharpness" not in rows["vae"] and "log_likelihood" not in rows[FLOOR]


def test_one_protocol_in_all_rows(report: tuple[Path, str, list[object]], scatter: Path) -> None:
    keys = []
    for folder in (report[0], scatter):
        told = results(folder)
        assert {row["column"] for row in told["rows"]} == {told["protocol_key"]}
        assert told["protocol"]["split"] == "test"
        assert told["protocol"]["reference_count"] == told["data"]["counts"]["test"]
        keys.append(told["protocol_key"])
    assert keys[0] != keys[1]


def test_baselines_say_what_they_are(report: tuple[Path, str, list[object]], scatter: Path) -> None:
    for folder in (report[0], scatter):
        rows = {row["name"]: row for row in results(folder)["rows"]}
        assert rows["resampled training set"]["verdicts"]["memorisation"] == "copies"
        assert rows["PCA-Gaussian"]["verdicts"]["memorisation"] != "copies"
        # Real examples are nearer to real ones than a Gaussian is, in the data's own space.
        assert rows[FLOOR]["metrics"]["frechet"]["value"] < rows["PCA-Gaussian"]["metrics"]["frechet"]["value"]


def test_files_that_rows_name_are_there(report: tuple[Path, str, list[object]], scatter: Path) -> None:
    for folder in (report[0], scatter):
        told = results(folder)
        named = [told["real"]]
        for row in told["rows"]:
            named += [row["samples"], row["film"], row["strip"], *(row["nearest"] or {}).values()]
            if row["kind"] == "model":
                assert (folder / row["run"] / "weights.safetensors").is_file()
                assert row["samples"] and row["losses"] and row["config"] and row["training"]["examples"] >= 1000
        assert all((folder / file).is_file() for file in named if file)


def test_the_table_as_csv(report: tuple[Path, str, list[object]]) -> None:
    folder = report[0]
    with open(folder / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = results(folder)["rows"]
    assert [line["name"] for line in lines] == [row["name"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert float(line["frechet"]) == pytest.approx(row["metrics"]["frechet"]["value"])
        assert float(line["frechet_low"]) <= float(line["frechet"]) <= float(line["frechet_high"])
        assert line["protocol"] == row["column"]
        assert bool(line["samples_per_second"]) == (row["kind"] == "model")


def test_preferences_and_needs_reach_the_answer(scatter: Path) -> None:
    answer = results(scatter)["answer"]["why"]
    assert answer["prefer"] == "diversity" and answer["need"] == ["likelihood"]
    with pytest.raises(InputError, match=r"qualty.*quality"):
        tl.compare(clusters(), prefer="qualty", quiet=True)
    with pytest.raises(InputError, match=r"encod.*encode"):
        tl.compare(clusters(), need=["encod"], quiet=True)


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were trained; nothing else changes."""
    done: list[str] = []

    def watched(*arguments: object, model: str, **more: Any) -> object:
        done.append(model)
        return train(*arguments, model=model, **more)

    train = comparing.train
    monkeypatch.setattr(comparing, "train", watched)
    return done


def test_a_finished_comparison_trains_nothing(report: tuple[Path, str, list[object]], trainings: list[str]) -> None:
    folder, out, command = report
    before = results(folder)
    code, again, _ = call(*command, "--prefer", "speed")
    assert code == 0 and again.splitlines()[-1] == out.splitlines()[-1] and trainings == []
    after = results(folder)
    assert after["rows"] == before["rows"] and after["finished"] is True
    assert after["answer"]["why"]["prefer"] == "speed", "another preference is another answer, not another comparison"


def test_interrupted_it_goes_on_where_it_stopped(
    points: Path, tmp_path: Path, trainings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [points, "--models", "autoencoder,vae,gan", "--budget-each", "256", "--out", tmp_path / "r", *QUICK]
    keep = comparing.Comparison._keep

    def keep_and_stop(self: comparing.Comparison, row: dict[str, Any]) -> None:
        keep(self, row)
        if row["name"] == "vae":
            raise KeyboardInterrupt

    monkeypatch.setattr(comparing.Comparison, "_keep", keep_and_stop)
    code, _, err = call(*command)
    assert code == 130 and "Traceback" not in err
    told = results(tmp_path / "r")
    assert [row["status"] for row in told["rows"]] == ["ok", "ok", "pending"] and told["finished"] is False
    assert (tmp_path / "r" / "index.html").is_file(), "what is there is shown"
    assert trainings == ["autoencoder", "vae"]
    first = told["rows"][0]
    monkeypatch.setattr(comparing.Comparison, "_keep", keep)
    code, _, err = call(*command)
    assert code == 0, err
    assert trainings == ["autoencoder", "vae", "gan"]
    after = results(tmp_path / "r")
    assert after["rows"][0] == first and after["finished"] is True and after["started"] == told["started"]
    assert [row["name"] for row in after["rows"]] == ["autoencoder", "vae", "gan", *OTHERS]
    assert after["seconds"] > told["seconds"]


def test_rows_of_another_protocol_are_measured_again(
    scatter: Path, points: Path, tmp_path: Path, trainings: list[str]
) -> None:
    """After an update of NumPy, say: all rows of the column under the new protocol, and none is lost."""
    folder = tmp_path / "r"
    shutil.copytree(scatter, folder)
    told = results(folder)
    for row in told["rows"][:2]:
        row["column"] = "another"
    told["rows"] = [row for row in told["rows"] if row["name"] != "PCA-Gaussian" and row["seed"] != 6]
    (folder / "results.json").write_text(json.dumps(told))
    tl.compare(
        points, models=["vae", "diffusion:flow"], budget_each="1k", seeds=2, seed=5, out=folder,
        settings=dict(SETTINGS), quiet=True,
    )  # fmt: skip
    after = results(folder)
    assert [(row["name"], row["seed"], row["status"]) for row in after["rows"]] == [
        (row["name"], row["seed"], "ok") for row in results(scatter)["rows"]
    ]
    assert {row["column"] for row in after["rows"]} == {after["protocol_key"]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", 1], ["seed: 0 -> 1"]),
        (["--seeds", 2], ["seeds: 1 -> 2"]),
        (["--models", "gan"], ["models", "autoencoder"]),
        (["--budget-each", "2k"], ["budget_each", "'1k' -> '2k'"]),
        (["--set", "optimizer.rate=0.01"], ["set", "optimizer.rate"]),
    ],
    ids=lambda value: str(value[0]),
)
def test_other_settings_in_the_same_folder(
    report: tuple[Path, str, list[object]], options: list[object], words: list[str], trainings: list[str]
) -> None:
    folder, _, command = report
    before = (folder / "results.json").read_bytes()
    error = refused(*command, *options)
    for word in [str(folder), "--out", *words]:
        assert word in error
    assert trainings == [] and (folder / "results.json").read_bytes() == before


def test_other_data_in_the_same_folder(report: tuple[Path, str, list[object]], tmp_path: Path) -> None:
    _, _, command = report
    np.save(tmp_path / "bars.npy", bars(200))
    assert "other data" in refused(tmp_path / "bars.npy", *command[1:])


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_a_model_that_fails_is_a_row_and_the_rest_goes_on(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = comparing.train

    def failing(*arguments: object, model: str, **more: Any) -> object:
        if model == "gan":
            raise RuntimeError("the critic has left the building")
        return train(*arguments, model=model, **more)

    monkeypatch.setattr(comparing, "train", failing)
    command = [points, "--models", "gan,autoencoder", "--budget-each", "256", "--out", tmp_path / "r", *QUICK]
    code, out, err = call(*command)
    assert code == 0 and "Traceback" not in err and "gan: failed: the critic has left" in err
    assert out.splitlines()[-1] == str(tmp_path / "r" / "index.html")
    told = results(tmp_path / "r")
    assert [(row["name"], row["status"]) for row in told["rows"]] == [
        *[("gan", "failed"), ("autoencoder", "ok")],
        *((name, "ok") for name in OTHERS),
    ]
    assert "the critic has left" in told["rows"][0]["error"]
    assert "Traceback" in (tmp_path / "r" / "errors.log").read_text()
    assert "the critic has left" in (tmp_path / "r" / "index.html").read_text()
    monkeypatch.setattr(comparing, "train", train)
    assert call(*command)[0] == 0
    assert {row["status"] for row in results(tmp_path / "r")["rows"]} == {"ok"}, "what failed is tried again"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--models", "autoencoder,difusion"], ["difusion", "diffusion"]),
        (["--models", "features"], ["features"]),
        (["--prefer", "qualty"], ["qualty", "quality"]),
        (["--need", "encod"], ["encod", "encode"]),
        (["--seeds", "0"], ["--seeds 0"]),
        (["--budget", "10x"], ["10x", "10m"]),
        (["--budget", "+10m"], ["+10m", "leave out the +"]),
        (["--budget-each", "+1k"], ["+1k", "leave out the +"]),
        (["--budget-each", "0"], ["'0'", "40k"]),
        (["--budget-each", "abc"], ["abc", "40k"]),
        (["--budget", "6s"], ["6s", "1.0 s", "--models"]),
        (["--budget", "10m", "--budget-each", "1k"], ["--budget", "--budget-each"]),
        (["--set", "model.betta=4", "--models", "vae"], ["vae", "model.betta", "model.beta"]),
        (["--set", "model.beta=4", "--models", "vae,gan"], ["model gan", "model.beta", "--models"]),
        (["--set", "training.preview=4", "--budget-each", "64"], ["training.preview", "training.previews"]),
        (["--set", "optimizer=adamm", "--budget-each", "64"], ["adamm", "adam"]),
        (["--kind", "imag"], ["imag", "image"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_what_compare_does_not_know(points: Path, tmp_path: Path, options: list[str], words: list[str]) -> None:
    error = refused(points, "--out", tmp_path / "r", *options)
    for word in words:
        assert word in error
    assert not (tmp_path / "r").exists(), "refused before anything is begun"


def test_out_is_something_else(points: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("mine")
    for name in ("file", "folder"):
        assert str(tmp_path / name) in refused(points, "--out", tmp_path / name)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["letter.txt"]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "results.json").write_text('{"rows": [')
    assert "damaged" in refused(points, "--out", tmp_path / "torn")


# --- budgets and baselines --------------------------------------------------------------------------------------------


def test_the_total_is_shared() -> None:
    data = open_data(clusters())
    assert comparing.budget_for_each(data, "10m", None, 6) == "100s"
    assert comparing.budget_for_each(data, "60k", None, 6) == "10000"
    assert comparing.budget_for_each(data, None, "40k", 6) == "40k"
    assert comparing.budget_for_each(data, None, None, 6) == "30s", "three minutes in all for toys"
    assert comparing.budget_for_each(open_data("moons"), None, None, 6) == "30s", "those with a name too"
    photographs = open_data(np.random.default_rng(0).integers(0, 256, (32, 20, 20), dtype=np.uint8))
    assert comparing.budget_for_each(photographs, None, None, 6) == "300s"
    assert "30s each" in " ".join(outlook(data)) and "300s each" in " ".join(outlook(photographs))


def test_the_gaussian_has_the_data_s_moments() -> None:
    """On two numbers all components are kept: mean and covariance are those of the training set."""
    data = open_data(clusters(4000))
    x, train = pca_gaussian(data, 20_000, seed=0), data.rows("train")
    assert np.allclose(x.mean(0), train.mean(0), atol=0.05)
    assert np.allclose(np.cov(x.T), np.cov(train.T), atol=0.08)


@pytest.mark.parametrize("make", [resampled, real, pca_gaussian])
@pytest.mark.parametrize("source", [bars, clusters])
def test_baselines(make: Callable[..., np.ndarray], source: Callable[[], np.ndarray]) -> None:
    data = open_data(source())
    x = make(data, 300, seed=1)
    assert x.shape == (300, *data.x.shape[1:]) and x.dtype == data.x.dtype
    assert np.array_equal(x, make(data, 300, seed=1)) and not np.array_equal(x, make(data, 300, seed=2))
    assert len(make(data, 10, seed=-1)) == 10, "any whole number is a seed"
    training = {row.tobytes() for row in data.rows("train")}
    mine = [row.tobytes() for row in x]
    if make is pca_gaussian:
        assert not training & set(mine)
        if data.x.dtype == np.uint8:
            return  # cut to 0 ... 255, it has less spread than it was drawn with
        spread = data.rows("train").astype(float).reshape(len(data.rows("train")), -1).var(0).sum()
        assert x.astype(float).reshape(300, -1).var(0).sum() == pytest.approx(spread, rel=0.2)
    else:
        assert set(mine) <= training
    if make is real:
        assert len(set(mine[: len(training)])) == min(len(training), 300), "each once, before any comes twice"


# --- corners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [16, 40])
def test_few_images_end_in_a_report(count: int, tmp_path: Path) -> None:
    file = tmp_path / "few.npy"
    np.save(file, bars()[:count])
    code, _, err = call(file, "--models", "vae", "--budget-each", "256", "--out", tmp_path / "report", *QUICK)
    assert code == 0, err
    rows = {row["name"]: row for row in results(tmp_path / "report")["rows"]}
    assert rows["vae"]["status"] == "ok", rows["vae"]["error"]
    assert "frechet" in rows["vae"]["metrics"]


def test_a_model_file_of_one_s_own(points: Path, tmp_path: Path) -> None:
    """A path as a model's name: its run and its samples lie in the report's folder."""
    own = tmp_path / "my model.py"
    own.write_text((Path(comparing.__file__).parents[1] / "models" / "vae.py").read_text())
    out = tmp_path / "report"
    code, _, err = call(points, "--models", own, "--budget-each", "512", "--out", out, *QUICK)
    assert code == 0, err
    (row,) = [row for row in results(out)["rows"] if row["kind"] == "model"]
    assert row["status"] == "ok" and row["name"] == str(own)
    assert (out / row["run"] / "weights.safetensors").is_file() and (out / row["samples"]).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my model.py", "report"]


def test_settings_with_tuples_go_on(points: Path, tmp_path: Path, trainings: list[str]) -> None:
    command = [points, "--models", "vae", "--budget-each", "512", "--out", tmp_path / "report", *QUICK]
    command += ["--set", "optimizer.betas=(0.5,0.9)"]
    assert call(*command)[0] == 0
    trainings.clear()
    code, _, err = call(*command)
    assert code == 0, err
    assert trainings == []


def test_the_second_judges_are_in_the_protocol(report: tuple[Path, str, list[object]]) -> None:
    protocol = results(report[0])["protocol"]
    assert set(protocol["judges"]) == {"random"} and len(protocol["judges"]["random"]) == 16
