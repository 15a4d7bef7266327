"""The main job on tiny data: a whole table under one protocol, that goes on where it stopped and survives failures."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trilemma as tl
from trilemma import cli
from trilemma.errors import InputError
from trilemma.modalities import download
from trilemma.modalities.door import open_data
from trilemma.report import compare as comparing
from trilemma.report import places
from trilemma.report.advise import advise
from trilemma.report.baselines import BASELINES, FLOOR, pca_gaussian, real, resampled
from trilemma.report.judge import readvise
from trilemma.report.measure import Ruler
from trilemma.report.outlook import outlook
from trilemma.report.teller import Teller
from trilemma.training import features
from trilemma.training.run import claimed, disk_errors

MODELS = ["autoencoder", "gan"]
SETTINGS = {
    "training.previews": 1,
    "training.preview_samples": 16,
    "training.choose_samples": 0,
    "training.dtype": "float32",
}
QUICK = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
OTHERS = [*BASELINES, FLOOR]


def call(*arguments: object, verb: str = "compare") -> tuple[int, str, str]:
    """`trilemma VERB ARGUMENTS` in this process: exit code, stdout, stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["trilemma", verb, *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def refused(*arguments: object, verb: str = "compare") -> str:
    """The one line with which a command is refused."""
    code, out, err = call(*arguments, verb=verb)
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
        points, models="vae, diffusion:flow", budget_each="1k", seeds=2, seed=5, out=folder,
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
        assert all(wanted <= mine for mine in names[:-1])
        assert wanted - names[-1] == {"memorisation"}, "the floor is what copies are measured against"
        for row in rows:
            for name, measure in row["metrics"].items():
                assert measure["value"] is not None and math.isfinite(measure["value"]), (row["name"], name)
                if measure["low"] is not None:
                    assert measure["low"] <= measure["value"] <= measure["high"], (row["name"], name)
            if row["kind"] == "model":
                for name, value in row["speed"].items():
                    least = 0 if name == "sample_memory_bytes" else 1e-9  # a few samples fit in what there is
                    assert value is not None and math.isfinite(value) and value >= least, (row["name"], name)


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
            if row["strip"] and row["kind"] == "model" and folder is scatter:
                assert np.load(folder / row["strip"]).shape[1] > 8, "of points not just a handful"
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
        column = f"frechet_{row['column']}"
        assert float(line[column]) == pytest.approx(row["metrics"]["frechet"]["value"])
        assert float(line[f"{column}_low"]) <= float(line[column]) <= float(line[f"{column}_high"])
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

    train = places.train
    monkeypatch.setattr(places, "train", watched)
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
    keep, spent = comparing.Comparison._keep, []

    def keep_and_stop(self: comparing.Comparison, row: dict[str, Any]) -> None:
        keep(self, row)
        spent.append(results(tmp_path / "r")["seconds"])
        if row["name"] == "vae":
            raise KeyboardInterrupt

    monkeypatch.setattr(comparing.Comparison, "_keep", keep_and_stop)
    code, _, err = call(*command)
    assert code == 130 and "Traceback" not in err
    assert re.search(r"1 of 3 trainings done, about [\d.]+ (ms|s|min) left", err)
    told = results(tmp_path / "r")
    assert [row["status"] for row in told["rows"]] == ["ok", "ok", "pending"] and told["finished"] is False
    assert 0 < spent[0] < spent[1] <= told["seconds"], "a row that is kept says what it took, whatever ends the next"
    assert (tmp_path / "r" / "index.html").is_file(), "what is there is shown"
    assert trainings == ["autoencoder", "vae"]
    first = told["rows"][0]
    monkeypatch.setattr(comparing.Comparison, "_keep", keep)
    code, _, err = call(*command)
    assert code == 0, err
    assert "trainings done" not in err, "it was the last one"
    assert trainings == ["autoencoder", "vae", "gan"]
    after = results(tmp_path / "r")
    assert after["rows"][0] == first and after["finished"] is True and after["started"] == told["started"]
    assert [row["name"] for row in after["rows"]] == ["autoencoder", "vae", "gan", *OTHERS]
    assert after["seconds"] > told["seconds"]
    assert call(*command, "--remeasure")[0] == 0 and results(tmp_path / "r")["seconds"] == after["seconds"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_another_judge_measures_all_rows_and_trains_nothing(
    report: tuple[Path, str, list[object]], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One judge of the user's own, and one whose weights cannot be fetched: it is left out with a line."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU()).eval()
    torch.jit.script(layers).save(str(tmp_path / "mine.pt"))
    monkeypatch.setenv("TRILEMMA_MIRROR", (tmp_path / "nowhere").as_uri())
    monkeypatch.setattr(download, "PAUSE", 0.0)
    old, _, command = report
    folder = tmp_path / "r"
    shutil.copytree(old, folder)
    command = [folder if word == old else word for word in command]
    code, _, err = call(*command, "--features", tmp_path / "mine.pt", "--features", "clip")
    assert code == 0, err
    assert "no figures by clip: its weights could not be downloaded" in err and "--features clip=FILE" in err
    told, before = results(folder), results(old)
    assert told["protocol_key"] != before["protocol_key"] and set(told["judges_left_out"]) == {"clip"}
    assert "TorchScript, sha256 " in told["protocol"]["judges"]["mine"]
    assert [row["name"] for row in told["rows"]] == [row["name"] for row in before["rows"]]
    for row, same in zip(told["rows"], before["rows"], strict=True):
        assert row["column"] == told["protocol_key"]
        assert set(row["metrics"]) - set(same["metrics"]) == {"kernel@mine", "frechet@mine"}
        assert row["metrics"]["frechet"] == same["metrics"]["frechet"]
        if row["kind"] == "model":
            stats, others = (folder / row["run"] / "stats.jsonl", old / row["run"] / "stats.jsonl")
            assert stats.read_bytes() == others.read_bytes(), "nothing was trained"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Ranking under each judge" in page and "No figures by clip" in page
    assert "frechet@mine" in told["answer"]["why"]["judges"]


@pytest.mark.parametrize(
    ("word", "words"),
    [("dinov", "unknown feature network"), ("lost.pt", "lost.pt is no file")],
)
def test_wrong_judges_are_found_before_anything_is_trained(
    pictures: Path, tmp_path: Path, trainings: list[str], word: str, words: str
) -> None:
    assert words in refused(pictures, "--features", word, "--out", tmp_path / "r")
    assert trainings == [] and not (tmp_path / "r").exists()


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
        (["--models", "gan:minimax"], ["models", "autoencoder"]),  # one more: what is given twice is joined
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


def test_a_comparison_that_another_process_makes_is_left_alone(
    report: tuple[Path, str, list[object]], trainings: list[str]
) -> None:
    pytest.importorskip("fcntl")
    folder, _, command = report
    before = (folder / "results.json").read_bytes()
    with claimed(folder):
        assert "being trained by another process" in refused(*command)
    assert trainings == [] and (folder / "results.json").read_bytes() == before


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_a_model_that_fails_is_a_row_and_the_rest_goes_on(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, tried = places.train, []

    def failing(*arguments: object, model: str, **more: Any) -> object:
        tried.append(model)
        if model == "gan":
            raise RuntimeError("the critic has left the building")
        return train(*arguments, model=model, **more)

    monkeypatch.setattr(places, "train", failing)
    command = [points, "--models", "gan,autoencoder", "--budget-each", "256", "--out", tmp_path / "r", *QUICK]
    code, out, err = call(*command)
    assert code == 0 and "Traceback" not in err and "gan: failed: the critic has left" in err
    assert out.splitlines()[-1] == str(tmp_path / "r" / "index.html")
    told = results(tmp_path / "r")
    assert [(row["name"], row["status"]) for row in told["rows"]] == [
        *[("gan", "failed"), ("autoencoder", "ok")],
        *((name, "ok") for name in OTHERS),
    ]
    assert tried == ["gan", "autoencoder"], "a failure before the first success is not tried twice"
    assert "the critic has left" in told["rows"][0]["error"]
    assert "Traceback" in (tmp_path / "r" / "errors.log").read_text()
    assert "the critic has left" in (tmp_path / "r" / "index.html").read_text()
    monkeypatch.setattr(places, "train", train)
    assert call(*command)[0] == 0
    assert {row["status"] for row in results(tmp_path / "r")["rows"]} == {"ok"}, "what failed is tried again"


def test_where_nothing_is_left_the_answer_says_so(
    report: tuple[Path, str, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another protocol all rows are taken anew: none that fails then is recommended by the figures it had."""
    folder, _, command = report
    here = tmp_path / "bars"
    shutil.copytree(folder, here)
    told = results(here)
    (here / "results.json").write_text(json.dumps({**told, "rows": [{**row, "column": "x"} for row in told["rows"]]}))

    def failing(*arguments: object, **more: Any) -> object:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(places, "train", failing)
    monkeypatch.setattr(comparing, "baselines_for", lambda data, **_: {})
    code, _, err = call(*(here if word == folder else word for word in command))
    assert code == 0, err
    answer = results(here)["answer"]
    assert told["answer"]["winner"] in MODELS and answer["winner"] is None
    assert answer["sentences"][0].startswith("No model can be recommended"), answer
    assert "No model can be recommended" in (here / "index.html").read_text(encoding="utf-8")


def test_a_full_disk_is_no_model_s_failure(points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next training would meet it, too: the comparison stops, and goes on when there is space."""
    tried: list[str] = []

    def full(*arguments: object, model: str, **more: Any) -> None:
        tried.append(model)
        with disk_errors(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(places, "train", full)
    code, _, err = call(points, "--models", "gan,vae", "--budget-each", "256", "--out", tmp_path / "r", *QUICK)
    assert code == 2 and "the disk is full" in err.splitlines()[-1] and tried == ["gan"], err
    assert [row["status"] for row in results(tmp_path / "r")["rows"]] == ["pending", "pending"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--models", "autoencoder,difusion"], ["difusion", "diffusion"]),
        (["--models", "features"], ["features"]),
        (["--prefer", "qualty"], ["qualty", "quality"]),
        (["--need", "encod"], ["encod", "encode"]),
        (["--need", "encod", "--need", "encode"], ["encod", "encode"]),
        (["--models", "difusion", "--models", "vae"], ["difusion", "diffusion"]),
        (["--subsample", "0%", "--subsample", "30%"], ["--subsample '0%'"]),
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


@pytest.mark.parametrize("side", [2, 3])
def test_pictures_of_few_pixels_are_measured(side: int) -> None:
    data = open_data(np.random.default_rng(0).integers(0, 256, (200, side, side, 1), dtype=np.uint8))
    metrics = Ruler(data, 20, quiet=True).measure(data.rows("train", 20))[0]
    assert "frechet" in metrics and ("sharpness" in metrics) == (side == 3)


def test_what_cannot_be_said_is_left_out() -> None:
    """Beside real examples that are all flat and equal nothing has so many times their sharpness or variety."""
    data = open_data(np.random.default_rng(0).integers(0, 256, (200, 3, 3, 1), dtype=np.uint8))
    ruler = Ruler(data, 20, quiet=True)
    ruler.test, ruler.features, ruler.shaped = (np.zeros_like(x) for x in (ruler.test, ruler.features, ruler.shaped))
    metrics = ruler.measure(data.rows("train", 20))[0]
    assert not {"diversity", "sharpness", "spectrum"} & metrics.keys() and {"frechet", "vendi"} <= metrics.keys()
    assert all(np.isfinite(entry["value"]) for entry in metrics.values())


def test_the_total_is_shared() -> None:
    data = open_data(clusters())
    assert comparing.budget_for_each(data, "10m", None, 6) == "100s"
    assert comparing.budget_for_each(data, "60k", None, 6) == "10000"
    assert comparing.budget_for_each(data, "1800h", None, 6) == "1080000s", "a budget that can be read again"
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


COUNTING = {"precision", "recall", "density", "coverage", "alpha_precision", "beta_recall"}


@pytest.mark.parametrize(("count", "tests"), [(16, 3), (45, 9), (90, 12), (122, 19)])
def test_few_images_end_in_a_report_of_what_can_be_said(count: int, tests: int, tmp_path: Path) -> None:
    """Below ten test examples no neighbours are counted, below twenty their shares have no interval."""
    file = tmp_path / "few.npy"
    np.save(file, bars()[:count])
    code, _, err = call(file, "--models", "vae", "--budget-each", "256", "--out", tmp_path / "report", *QUICK)
    assert code == 0, err
    told = results(tmp_path / "report")
    assert told["data"]["counts"]["test"] == tests
    vae = next(row for row in told["rows"] if row["name"] == "vae")
    assert vae["status"] == "ok", vae["error"]
    assert vae["verdicts"] == {"memorisation": "cannot tell"}, "so few examples"
    for row in told["rows"]:
        known = {name: entry["low"] is not None for name, entry in row["metrics"].items()}
        assert "frechet" in known and "frechet_extrapolated" not in known, row["name"]
        assert (COUNTING | {"classifier", "vendi"}) & set(known) == (
            COUNTING | {"classifier", "vendi"} if tests >= 10 else set()
        ), row["name"]
        assert not [name for name in COUNTING if known.get(name)], row["name"]
        assert known["frechet"] == (tests >= 9), "of three examples not even a distance has an interval"
    said = told["answer"]["sentences"][2]
    wide = "intervals are wide" if tests >= 9 else "they give no interval"
    assert f"only {tests} test examples are few to measure with: {wide}" in said
    assert ("variety was not measured" in said) == (tests < 10)


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
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"my model.py", "report"}


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


# --- samples of any origin, and the answer again ----------------------------------------------------------------------


def test_measured_alone_samples_get_the_figures_of_their_row(
    report: tuple[Path, str, list[object]], pictures: Path, tmp_path: Path
) -> None:
    """The floor and a baseline, as files by the command line, under the protocol of the comparison."""
    data, found = open_data(pictures), results(report[0])
    count = found["protocol"]["sample_count"]
    for name, make in {**BASELINES, FLOOR: real}.items():
        row = next(row for row in found["rows"] if row["name"] == name)
        data.modality.save(make(data, count, seed=0), tmp_path / "samples.npy")
        code, out, err = call(pictures, tmp_path / "samples.npy", "--json", verb="measure")
        assert code == 0, err
        said = json.loads(out)
        assert {key: said["metrics"][key] for key in row["metrics"]} == row["metrics"], name
        if name == FLOOR:  # training rows, which as anybody's samples would be copies
            assert row["verdicts"] == {} and "memorisation" not in row["metrics"]
        else:
            assert said["verdicts"] == row["verdicts"] and said["metrics"].keys() == row["metrics"].keys()
        assert said["protocol"] == {**found["protocol"], "key": found["protocol_key"], "floor": FLOOR}
        assert said["floor"] == next(row for row in found["rows"] if row["name"] == FLOOR)["metrics"]
        assert said["notes"] == []


def test_more_or_fewer_samples_than_the_protocol_takes(pictures: Path, report: tuple[Path, str, list[object]]) -> None:
    data, found = open_data(pictures), results(report[0])
    count = found["protocol"]["sample_count"]
    noise = np.random.default_rng(1).integers(0, 256, (count + 50, 8, 8), dtype=np.uint8)
    many, few = tl.measure(data, noise, quiet=True), tl.measure(data, noise[:40], quiet=True)
    assert many.protocol["key"] == found["protocol_key"] != few.protocol["key"]
    assert f"{count} of {count + 50} samples" in many.notes[0] and "40 samples" in few.notes[0]
    assert few.protocol["sample_count"] == 40
    assert many.metrics["frechet"]["low"] > many.floor["frechet"]["high"], "noise is no picture"
    text = many.text()
    assert re.search(r"^Fréchet +[\d.,]+ +[\d.,]+ to [\d.,]+ +[\d.,]+ +Distance between", text, re.M), text
    assert "copies of training data: " in text and "note: " in text
    assert f"of each metric's expectation at {len(data.splits['test'])} test examples and {count} samples" in text


def test_a_table_for_people_and_a_folder_of_files(pictures: Path, points: Path, tmp_path: Path) -> None:
    data = open_data(pictures)
    data.modality.save(real(data, 30, seed=0), tmp_path / "made")
    code, out, err = call(pictures, tmp_path / "made", verb="measure")
    assert code == 0 and "Recall" in out and "note: 30 samples" in out, err
    np.save(tmp_path / "points.npy", clusters(300)[:100])
    for given in (tmp_path / "points.npy", tmp_path):  # or the folder in which `generate` puts them
        code, out, err = call(points, given, "--json", verb="measure")
        assert code == 0 and json.loads(out)["protocol"]["features"] == "cosines", err


def test_how_samples_were_read_is_said(pictures: Path) -> None:
    data = open_data(pictures)
    larger = tl.measure(data, np.repeat(np.repeat(bars(40), 2, 1), 2, 2), quiet=True)
    assert "40 of other sizes (such as 16x16) brought to 8x8" in larger.notes
    signed = bars(40) / 127.5 - 1
    same = tl.measure(data, signed.astype(np.float32), quiet=True)
    assert "floats in [-1, 1] read as 8-bit values" in same.notes
    with pytest.raises(InputError, match="rescale them"):  # a network's raw output: black, if it were read as 0..255
        tl.measure(data, (1.3 * signed).astype(np.float32), quiet=True)
    dark = (bars(40).astype(np.uint16) * 257) // 300
    deep = open_data(np.concatenate([bars().astype(np.uint16) * 257]))
    assert dark.max() <= 255
    assert deep.modality.read(dark, deep.spaces["x"])[0].max() == dark.max(), "dark, not eight bits deep"


def test_samples_that_cannot_be_measured(pictures: Path, points: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", bars()[:9])
    assert "9 samples are too few" in refused(pictures, tmp_path / "few.npy", verb="measure")
    assert "no such file" in refused(pictures, tmp_path / "none.npy", verb="measure")
    assert "model.beta" in refused(pictures, pictures, "--set", "model.beta=4", verb="measure")
    np.save(tmp_path / "wide.npy", np.zeros((50, 3), np.float32))
    assert "rows of 3 numbers" in refused(points, tmp_path / "wide.npy", verb="measure")


def test_the_answer_again_under_another_preference(scatter: Path, tmp_path: Path) -> None:
    known = results(scatter)
    same = readvise(scatter / "results.json", prefer="diversity", need=["likelihood"])
    assert same == known["answer"]
    code, out, err = call(scatter, "--prefer", "speed", "--json", verb="advise")
    assert code == 0, err
    assert json.loads(out) == advise(known, prefer="speed", folder=scatter)
    code, out, err = call(scatter, "--need", "training<0.001s", verb="advise")
    assert code == 0 and "No model can be recommended" in out, err
    code, twice, _ = call(scatter, "--need", "likelihood", "--need", "encode, rate>1", "--json", verb="advise")
    assert code == 0 and json.loads(twice)["why"]["need"] == ["likelihood", "encode", "rate>1"]
    code, out, _ = call(scatter, verb="advise")
    assert code == 0 and out.startswith("Use ") and "next: trilemma generate" in out
    (tmp_path / "results.json").write_text('{"rows": 3}')
    for wrong in (tmp_path, tmp_path / "results.json", tmp_path / "none.json", scatter / "index.html"):
        assert "results.json" in refused(wrong, verb="advise")
    assert "qualty" in refused(scatter, "--prefer", "qualty", verb="advise")


def test_samples_of_another_tool_stand_in_the_table(report: tuple[Path, str, list[object]], tmp_path: Path) -> None:
    """Added to a finished comparison: measured alike, shown, never the answer, and nothing is trained again."""
    folder, _, command = report
    before, data = results(folder), open_data(str(command[0]))
    count, here = before["protocol"]["sample_count"], tmp_path / "bars"
    shutil.copytree(folder, here)
    again = [here if word == folder else word for word in command]
    data.modality.save(real(data, count, seed=3), tmp_path / "theirs.npy")
    code, _, err = call(*again, "--include", f"theirs={tmp_path / 'theirs.npy'}")
    assert code == 0, err
    after = results(here)
    rows = {row["name"]: row for row in after["rows"]}
    assert [row for row in after["rows"] if row["kind"] != "included"] == before["rows"]
    assert rows["theirs"]["kind"] == "included" and rows["theirs"]["column"] == before["protocol_key"]
    assert rows["theirs"]["verdicts"]["memorisation"] == "copies", "they are training rows"
    assert after["answer"]["winner"] in MODELS
    page = (here / "index.html").read_text(encoding="utf-8")
    assert "from elsewhere</small>" in page and page.count("theirs") > 3
    code, _, err = call(*again)
    assert code == 0 and results(here)["rows"] == before["rows"], err


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("theirs", "NAME=FOLDER"),
        ("theirs=none.npy", "none.npy"),
        ("theirs=few.npy", "50 samples"),
        ("gan=few.npy", "50 samples"),
    ],
)
def test_included_samples_that_do_not_fit(pictures: Path, tmp_path: Path, pair: str, words: str) -> None:
    np.save(tmp_path / "few.npy", bars()[:50])
    name, equals, file = pair.partition("=")
    given = f"{name}={tmp_path / file}" if equals and file else pair
    assert words in refused(pictures, "--models", "gan", "--include", given, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_included_samples_need_a_name_of_their_own(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row of that name"):
        tl.compare(pictures, models=["gan"], include={"gan": bars()}, out=tmp_path / "out", quiet=True)
    with pytest.raises(InputError, match=r"--include real=...: the held-out pictures of the quiz have that name"):
        tl.compare(pictures, models=["gan"], include={"real": bars()}, out=tmp_path / "out", quiet=True)


def test_old_runs_are_measured_anew(report: tuple[Path, str, list[object]], tmp_path: Path) -> None:
    """Figures that are wrong (or of an older version) go, and no weight moves."""
    folder, _, command = report
    here = tmp_path / "bars"
    shutil.copytree(folder, here)
    again = [here if word == folder else word for word in command]
    before, damaged = results(here), results(here)
    damaged["rows"][0]["metrics"]["frechet"]["value"] = -1.0
    (here / "results.json").write_text(json.dumps(damaged))
    weights = {file: file.read_bytes() for file in here.rglob("weights.safetensors")}
    code, _, err = call(*again)
    assert code == 0 and results(here)["rows"][0]["metrics"]["frechet"]["value"] == -1.0, err
    assert "holds no comparison" in refused(command[0], "--out", tmp_path / "none", "--remeasure")
    code, _, err = call(*again, "--remeasure")
    assert code == 0, err
    assert "--remeasure" not in results(here)["command"]
    for old, new in zip(before["rows"], results(here)["rows"], strict=True):
        assert old["metrics"] == new["metrics"] and old["verdicts"] == new["verdicts"], old["name"]
    assert len(weights) == len(MODELS) and all(file.read_bytes() == bytes for file, bytes in weights.items())


def test_measured_anew_after_a_move_and_what_fails_keeps_its_figures(
    report: tuple[Path, str, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk, another path: the data are the same. A row of good figures outlives a failure beside it."""
    folder, _, (source, *options) = report
    here = tmp_path / "bars"
    shutil.copytree(folder, here)
    shutil.copy(Path(str(source)), tmp_path / "moved.npy")
    again = [tmp_path / "moved.npy", *(here if word == folder else word for word in options), "--remeasure"]
    of_run = Teller.of_run

    def failing(self: Teller, row: dict[str, Any], *rest: Any) -> None:
        of_run(self, row, *rest)
        if row["name"] == "gan":
            raise RuntimeError("no memory left")

    monkeypatch.setattr(Teller, "of_run", failing)
    code, _, err = call(*again)
    assert code == 0, err
    before, after = results(folder)["rows"], results(here)["rows"]
    assert [row["metrics"] for row in after] == [row["metrics"] for row in before]
    assert [row["status"] for row in after] == ["ok"] * len(before)
    assert [row["problems"] for row in after if row["problems"]] == [["its figures anew: RuntimeError: no memory left"]]
