"""Captions in the words of a package: its tokens and vectors in place of a vocabulary of the captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trilemma as tl
from trilemma import borrowed
from trilemma.errors import InputError
from trilemma.mixed import space_from
from trilemma.words import Words

COLOURS = {"crimson": (220, 20, 30), "navy": (10, 20, 120), "scarlet": (230, 40, 20), "azure": (30, 110, 240)}
PLAIN = {"training.previews": 1, "training.preview_samples": 4, "training.choose_samples": 0,
         "training.dtype": "float32", "model.text": "wordllama"}  # fmt: skip


def pictures(out: Path) -> Path:
    out.mkdir()
    names, generator = list(COLOURS), np.random.default_rng(0)
    for number in range(80):
        name = names[number % 4]
        x = np.clip(np.array(COLOURS[name]) + generator.integers(-9, 10, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(x).save(out / f"{number:03d}.png")
        (out / f"{number:03d}.txt").write_text(f"a {name} square")
    return out


def test_a_space_reads_and_writes_in_the_words_of_the_package() -> None:
    pytest.importorskip("tokenizers")
    space = Words.fit(["A red bird.", "a blue BIRD on a tree"], table="wordllama")
    assert space.read(space.write(["A red Bird."])) == ["a red bird."]
    assert space.table is not None and space.table.shape == (space.count, 256)
    assert not space.table[0].any() and abs(float(space.table.square().mean()) - 1) < 0.01
    kin, far = (
        torch.cosine_similarity(*(space.table[space.tokenizer.encode(word)].mean(0, keepdim=True) for word in pair))
        for pair in (("cat", "dog"), ("cat", "twelve"))
    )
    assert kin > far + 0.1  # what the table knows and no caption says
    assert space.unseen("a scarlet bird") == ["scarlet"]
    again = space_from(json.loads(json.dumps(space.describe())))
    assert isinstance(again, Words) and (again.write(["blue tree"]) == space.write(["blue tree"])).all()


@pytest.mark.parametrize("model", ["clip", "diffusion:text", "gan:text"])
def test_models_read_them_and_resume(model: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    folder = pictures(tmp_path / "pictures")
    run = tl.train(folder, model=model, size="xs", budget="300", out=tmp_path / "run", settings=PLAIN, quiet=True)
    loaded = tl.load(run)
    table = [name for name in loaded.model.state_dict() if "table" in name]
    assert not table, "the package brings it, not the run"
    if model == "clip":
        assert len(loaded.search("scarlet", folder, n=3).names) == 3
    else:
        assert loaded.generate(2, prompt="a scarlet square").shape == (2, 8, 8, 3)
    config = json.loads((run.folder / "config.json").read_text())
    config["spaces"]["caption"]["table_digest"] = "0" * 16
    (run.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="another version of wordllama"):
        tl.load(run)


def test_without_the_package_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowed, "find_spec", lambda name: None)
    borrowed._opened.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'trilemma\[text\]'"):
        tl.train(pictures(tmp_path / "pictures"), model="clip", budget="100", out=tmp_path / "run", settings=PLAIN)
    borrowed._opened.cache_clear()


def test_a_run_goes_on_in_its_own_words() -> None:
    pytest.importorskip("tokenizers")
    own = Words.fit(["a red bird"])
    with pytest.raises(InputError, match="text=wordllama: the run to begin with has text=words"):
        Words.fit(["a blue bird"], own, table="wordllama")
    theirs = Words.fit(["a red bird"], table="wordllama")
    with pytest.raises(InputError, match="text=words: the run to begin with has text=wordllama"):
        Words.fit(["a blue bird"], theirs)
    assert Words.fit(["a blue bird"], theirs, table="wordllama").table is not None


def test_new_words_are_for_vocabularies_of_ones_own() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(InputError, match="no new words"):
        Words.fit(["a red bird"], table="wordllama", word="zork")
