"""`push` and `pull` against a server on this machine, and the card. Skipped where the extra `hub` is not installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_stand_in import TOKEN, Repositories, serving
from test_compare import bars, call, refused
from torch import nn

import trilemma as tl
from trilemma.errors import InputError
from trilemma.tasks.hub import measured
from trilemma.tasks.travel import check_code, without_places
from trilemma.training.card import card
from trilemma.training.run import Run

PLAIN = {"training.previews": 1, "training.preview_samples": 16, "training.choose_samples": 0}
FILES = {"config.json", "weights.safetensors", "choices.json", "README.md", "samples.png", ".gitattributes"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished VAE on pictures that lie in a folder of this machine."""
    folder = tmp_path_factory.mktemp("secret-place")
    np.save(folder / "bars.npy", bars())
    out = folder / "runs" / "bars"
    tl.train(str(folder / "bars.npy"), model="vae", out=out, budget="640", size="xs", settings=dict(PLAIN), quiet=True)
    return out


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repositories]:
    pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in takes large files as git-lfs does
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as (address, held):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.chdir(tmp_path)
        yield held


def test_a_run_goes_there_and_comes_back(run: Path, hub: Repositories, tmp_path: Path) -> None:
    code, out, _ = call(run, "me/bars", "--license", "mit", verb="push")
    assert code == 0 and out.strip().endswith("/me/bars")
    there = hub.commits["me/bars"][hub.head("me/bars")]
    assert set(there) == FILES, "no state, no data, no pickle"
    assert there["weights.safetensors"] == (run / "weights.safetensors").read_bytes()
    assert b"secret-place" not in b"".join(there.values()), "paths of this machine stay here"
    words = there["README.md"].decode()
    assert words.startswith("---\n") and 'license: "mit"' in words and "trilemma pull me/bars" in words
    code, out, _ = call("me/bars", "--out", "again", verb="pull")
    assert code == 0 and out.strip() == "again"
    mine, theirs = tl.load(run), tl.load(tmp_path / "again")
    np.testing.assert_array_equal(mine.generate(8, seed=3), theirs.generate(8, seed=3))
    assert theirs.info()["examples"] == "640 of 640"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"], "nothing lies beside it"
    assert (tmp_path / "again" / "card.md").read_text() == words
    # A second push is a second commit, and the first one can still be had.
    first = hub.head("me/bars")
    tl.push(run, "me/bars", licence="apache-2.0")
    assert hub.head("me/bars") != first
    old = tl.pull(f"me/bars@{first}", out=tmp_path / "old")
    assert "mit" in (old.folder / "card.md").read_text()


def test_private_ones_need_the_token(run: Path, hub: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    tl.push(run, "me/hidden", private=True)
    assert hub.private == {"me/hidden"}
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "log in" in refused("me/hidden", "--out", "x", verb="pull")
    assert "refuses this token (401)" in refused(run, "me/bars", verb="push")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "the OWNER must be you" in refused(run, "somebody/bars", verb="push")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no token" in refused(run, "me/bars", verb="push")


def test_sheets_that_show_real_data_stay_here(hub: Repositories, tmp_path: Path) -> None:
    out, points = tmp_path / "points", np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    tl.train(points, model="vae", out=out, budget="300", size="xs", settings=dict(PLAIN), quiet=True)
    assert list((out / "samples").glob("*.png")), "with the data behind the samples"
    tl.push(out, "me/points")
    assert set(hub.commits["me/points"][hub.head("me/points")]) == FILES - {"samples.png"}
    assert "samples.png" not in tl.pull("me/points", out=tmp_path / "again").folder.joinpath("card.md").read_text()


def test_what_is_no_run_is_told(run: Path, hub: Repositories, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    weights = (run / "weights.safetensors").read_bytes()

    def told(name: str, files: dict[str, bytes]) -> str:
        hub.put(name, files)
        words = refused(name, "--out", "x", verb="pull")
        assert not any(tmp_path.iterdir()), "nothing half-written"
        return words

    def changed(**entries: Any) -> dict[str, bytes]:
        return {"config.json": json.dumps(config | entries).encode(), "weights.safetensors": weights}

    assert "not found" in refused("me/nothing", "--out", "x", verb="pull")
    assert "has no config.json" in told("me/empty", {"pytorch_model.bin": b"pickle"})
    assert "something else" in told("me/other", {"config.json": b'{"model_type": "bert"}', "weights.safetensors": b"x"})
    assert "newer version" in told("me/new", changed(format=99))
    assert "own networks" in told("me/own", changed(own={"networks": ["encoder"], "optimizer": False}))
    assert "a Python file (evil.py)" in told("me/code", changed(model="/tmp/evil.py"))
    assert "not known here" in told("me/later", changed(model="miracle"))
    assert "cannot load it" in told("me/odd", {**changed(), "weights.safetensors": b"nonsense"})
    hub.put("me/bars", changed())
    assert "no such revision" in refused("me/bars@v9", "--out", "x", verb="pull")
    hub.damaged.add("weights.safetensors")
    assert "checksum" in refused("me/bars", "--out", "x", verb="pull")
    hub.damaged.clear()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "is there already" in refused("me/bars", "--out", "full", verb="pull")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_no_network(run: Path, hub: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refused(run, "me/bars", verb="push")
    assert "cannot be reached" in refused("me/bars", "--out", "x", verb="pull")


# --- Without the library ----------------------------------------------------------------------------------------------


def test_the_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert "pip install 'trilemma[hub]'" in refused(run, "me/bars", verb="push")
    assert "pip install 'trilemma[hub]'" in refused("me/bars", "--out", "x", verb="pull")
    code, out, _ = call(run, "me/bars", "--dry-run", verb="push")
    assert code == 0 and "# vae on bars" in out


@pytest.mark.parametrize("name", ["bars", "me/", "a/b/c", "me/bars@", "me/b ars"])
def test_a_bad_name(name: str, run: Path) -> None:
    assert "write OWNER/NAME" in refused(run, name, verb="push")


def test_what_does_not_travel(run: Path, tmp_path: Path) -> None:
    config = Run.at(run).config()
    with pytest.raises(InputError, match="own networks in Python"):
        check_code(config | {"own": {"networks": ["encoder"], "optimizer": False}}, "run")
    within = {"x": {"kind": "latent", "made_by": {"model": "mine.py"}}}
    with pytest.raises(InputError, match="Python file"):
        check_code(config | {"spaces": within}, "run")
    with pytest.raises(InputError, match="Python file"):
        check_code(config | {"spaces": {"guide": {"kind": "impression", "made_by": {"model": "mine.py"}}}}, "run")
    check_code(config | {"model": "diffusion:unclip"}, "run")  # another name for unclip
    for evil in ("diffusers:evil.py", "diffusers/evil.py:preset", "vae:evil.py:x"):
        for made in (
            config | {"model": evil},
            config | {"spaces": {"x": {"kind": "latent", "made_by": {"model": evil}}}},
        ):
            with pytest.raises(InputError, match="Python file"):
                check_code(made, "run")
    with pytest.raises(InputError, match="not known here"):
        check_code(config | {"model": "diffusers:other"}, "run")
    check_code(config | {"spaces": {"x": {"kind": "latent", "made_by": {"model": "diffusers"}}}}, "run")
    out = tmp_path / "own"
    networks = {"encoder": nn.Sequential(nn.Flatten(), nn.Linear(64, 32))}
    tl.train(bars(), model="vae", out=out, budget="300", size="xs", settings=dict(PLAIN), networks=networks, quiet=True)
    assert "own networks" in refused(out, "me/own", verb="push")
    (out / "weights.safetensors").unlink()
    assert "not finished" in refused(out, "me/own", verb="push")


def test_paths_become_names() -> None:
    config = {
        "asked": {"source": "/gone/photos", "settings": {"model.autoencoder": "/gone/runs/a"}},
        "config": {"clip": "/gone/runs/clip", "rate": 0.1},
        "x": ["/", "/m/food"],
    }
    assert without_places(config) == {
        "asked": {"source": "photos", "settings": {"model.autoencoder": "a"}},
        "config": {"clip": "clip", "rate": 0.1},
        "x": ["/", "/m/food"],
    }
    assert config["asked"]["source"] == "/gone/photos"  # type: ignore[index]


# --- The card ---------------------------------------------------------------------------------------------------------


def test_the_card_tells_what_was_measured(run: Path, tmp_path: Path) -> None:
    config, choices = Run.at(run).config(), Run.at(run).choices()
    words = card(config, choices)
    assert config["data"]["hash"][:16] in words and "stands in no comparison" in words and "not looked for" in words
    assert measured(Run.at(run)) is None
    # The same run as a row of a comparison: the folder above is that of the report.
    report = run.parent.parent
    row = {
        "name": "vae", "kind": "model", "status": "ok", "run": "runs/bars", "column": "k",
        "verdicts": {"memorisation": "copies"},
        "metrics": {"frechet": {"value": 1.234, "low": 1.1, "high": 1.4}}, "speed": {"samples_per_second": 321.0},
        "training": {"examples": config["training"]["examples"]},
    }  # fmt: skip
    results: dict[str, Any] = {
        "rows": [row, {"kind": "floor", "metrics": {"frechet": {"value": 0.5}}, "status": "ok"}], "protocol_key": "k",
        "protocol": {"sample_count": 200, "reference_count": 24, "split": "test", "features": "random"},
        "data": {"hash": config["data"]["hash"]}, "settings": {"seeds": 1},
    }  # fmt: skip
    file = report / "results.json"
    file.write_text(json.dumps(results))
    words = card(config, choices, measured=measured(Run.at(run)))
    assert "| 1.23 (1.1 to 1.4) | 0.5 |" in words and "Copies were found" in words and "another seed" in words
    row["training"] = {"examples": 1}  # it has gone on since then
    file.write_text(json.dumps(results))
    assert measured(Run.at(run)) is None
    file.unlink()
