"""What learns of a run that is there: low-rank additions in every model, and a new word; the rest stays bit for bit."""

from __future__ import annotations

from pathlib import Path

import contract_cases as toy
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_words import PLAIN, squares

import trilemma as tl
from trilemma.config import Training, Tuning
from trilemma.errors import InputError
from trilemma.mixed import space_from
from trilemma.models.contract import Model, Samples, model_files
from trilemma.networks import low_rank
from trilemma.training.engine import Engine
from trilemma.training.loop import Loop
from trilemma.training.run import Run
from trilemma.training.tuning import frozen_but, tuning_of
from trilemma.words import Tokenizer, Words

NEW = (220, 200, 20)  # the colour of the few


def tuned(name: str, case: toy.Case) -> tuple[Model, Loop]:
    """A model of random weights, as it was, and a loop that tunes it."""
    config = toy.settings(name, case)
    before = toy.build(name, case, config)
    toy.randomise(before)
    model = toy.build(name, case, config)
    model.load_state_dict(before.state_dict())
    frozen_but(model, Tuning(lora=2))
    training = Training(examples=toy.COUNT * 100, averages=(0.1,), average_every=1)
    engine = Engine(dtype="float32", device="cpu")
    return before, Loop(model, case.data, config.optimizer, training, engine, seed=0)


@pytest.mark.parametrize("name", model_files())
def test_additions_of_low_rank_are_all_that_learns(name: str) -> None:
    case = toy.usual(name)
    before, loop = tuned(name, case)
    fresh = low_rank.merged(loop.model)
    assert all(torch.equal(fresh[key], value) for key, value in before.state_dict().items())
    learning = [p for group in loop.groups.values() for p in group]
    assert learning and all(loop.groups.values())
    assert sum(p.numel() for p in learning) < sum(p.numel() for p in before.parameters()) / 2
    for _ in range(2):
        loop.take_step()
    state, layers = low_rank.merged(loop.model), {f"{key}.weight" for key, _ in low_rank.adapted(loop.model)}
    changed = set()
    for key, weight in before.named_parameters():
        if not torch.equal(state[key], weight):
            changed.add(key)
            assert torch.linalg.matrix_rank((state[key] - weight).flatten(1).double(), atol=1e-5) <= 2, key
    assert changed and changed <= layers
    plain = toy.build(name, case, loop.model.config)
    plain.load_state_dict(state)
    if isinstance(plain, Samples):
        one, two = (model.eval().sample(toy.request(case, 2)).double() for model in (plain, loop.model))  # type: ignore[union-attr]
        torch.testing.assert_close(one, two, atol=1.01 if one.max() > 50 else 1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", ["gan", "diffusion"])
def test_tuning_goes_on_to_the_bit(name: str) -> None:
    case = toy.usual(name)
    _, loop = tuned(name, case)
    _, other = tuned(name, case)
    for _ in range(3):
        loop.take_step()
    held = {key: tensor.clone() for key, tensor in loop.tensors().items()}, loop.facts()
    for _ in range(3):
        loop.take_step()
    other.load(*held)
    for _ in range(3):
        other.take_step()
    assert all(torch.equal(value, other.tensors()[key]) for key, value in loop.tensors().items())


def test_a_word_that_is_added_changes_no_other() -> None:
    space = Words.fit(["a red bird", "a blue bird", "two birds"])
    more = Words.fit(["a Zork", "red Zork!"], space, word="Zork")
    assert more.count == space.count + 1 and more.shape == space.shape
    for text in ("a red bird", "zorks", "zo rk", "blue"):
        assert more.tokenizer.encode(text) == space.tokenizer.encode(text)
    assert more.tokenizer.encode("a ZORK bird")[1] == space.count
    assert more.read(more.write(["a zork bird"])) == ["a zork bird"]
    assert more.unseen("zork blue") == [] and not space.knows("zork") and more.knows("Zork")
    again = space_from(more.describe())
    assert isinstance(again, Words) and (again.write(["a zork"]) == more.write(["a zork"])).all()
    two = Words.fit(["a blip"], more, word="blip")
    assert two.tokenizer.encode("zork blip") == [space.count, space.count + 1]
    assert Tokenizer([]).encode("zork") == [1 + byte for byte in b" zork"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows three colours."""
    folder = tmp_path_factory.mktemp("tuning")
    settings = {**PLAIN, "network.width": 16, "optimizer.rate": 5e-3, "optimizer.batch": 32}
    return tl.train(
        squares(folder / "pictures"), model="diffusion:text", out=folder / "base", budget="2500", size="xs", quiet=True,
        settings=settings,
    ).folder  # fmt: skip


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight larger pictures of a fourth colour, without captions."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(8):
        Image.new("RGB", (16, 16), (NEW[0] - number, *NEW[1:])).save(folder / f"{number}.png")
    return folder


def colour(run: Path, prompt: str) -> np.ndarray:
    return tl.load(run).generate(6, prompt=prompt, seed=1).reshape(-1, 3).mean(0)


def far(run: Path, prompt: str) -> float:
    return float(np.abs(colour(run, prompt) - NEW).mean())


def test_a_new_word_for_a_new_thing(base: Path, few: Path, tmp_path: Path) -> None:
    settings = {**PLAIN, "word": "zork", "data.template": "a {label} square", "training.save_every": 20}
    run = tl.train(few, out=tmp_path / "run", start=base, budget="900", settings=settings, quiet=True)
    assert far(run.folder, "a zork square") < 0.85 * far(base, "a zork square")
    for prompt in ("a red square", "blue"):
        one, two = (tl.load(folder).generate(3, prompt=prompt, seed=4) for folder in (base, run.folder))
        np.testing.assert_array_equal(one, two)
    old, new = load_file(base / "weights.safetensors"), load_file(run.folder / "weights.safetensors")
    rows = "conditioner.maps.caption.embedding.weight"
    assert len(new[rows]) == len(old[rows]) + 1 and torch.equal(new[rows][:-1], old[rows])
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old if key != rows and not key.endswith("caption.kept"))
    assert run.config()["plan"]["parameters"] == old[rows].shape[1]
    assert "only the word 'zork'" in (run.folder / "card.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="knows that word already"):
        tl.train(few, out=tmp_path / "again", start=run.folder, budget="100", settings=settings, quiet=True)


def test_a_prior_learns_a_new_word_beside_a_clip_that_reads_none(few: Path, tmp_path: Path) -> None:
    settings = {**PLAIN, "network.width": 16, "prior_width": 32, "prior_depth": 1, "optimizer.batch": 16}
    settings["optimizer.micro"] = 8  # of both its models; their CLIP needs its batches whole
    base = tl.train(
        squares(tmp_path / "pictures", 40), model="unclip", out=tmp_path / "base", budget="256", size="xs", quiet=True,
        settings=settings,
    ).folder  # fmt: skip
    asked = {**PLAIN, "word": "zork", "data.template": "a {label} square"}
    run = tl.train(few, out=tmp_path / "run", start=base, budget="64", settings=asked, quiet=True)
    old, new = load_file(base / "weights.safetensors"), load_file(run.folder / "weights.safetensors")
    (rows,) = (key for key in old if old[key].shape != new[key].shape and key.endswith("weight"))
    assert rows.startswith("prior.") and torch.equal(new[rows][:-1], old[rows])
    fresh = old[rows][tl.load(base).model.spaces["caption"].tokenizer.encode("zork")].mean(0)
    assert not torch.equal(new[rows][-1], fresh)
    assert all(torch.equal(old[key], new[key]) for key in old if key != rows and not key.endswith("caption.kept"))
    assert tl.load(run.folder).generate(1, prompt="a zork square").shape == (1, 8, 8, 3)


def test_additions_to_a_run_and_where_they_are_stopped(base: Path, few: Path, tmp_path: Path) -> None:
    """An unfinished run is used as it is then, a finished one has plain weights; both by the same file of settings."""
    settings = {**PLAIN, "lora": 4, "word": "zork", "data.template": "a {label} square", "training.save_every": 5}
    given = {"start": base, "settings": settings, "quiet": True, "budget": "480"}
    run = tl.train(few, out=tmp_path / "run", **given)
    assert far(run.folder, "a zork square") < 0.85 * far(base, "a zork square")
    assert set(load_file(run.folder / "weights.safetensors")) == set(load_file(base / "weights.safetensors"))
    assert run.config()["tuning"]["lora"] == 4

    from trilemma.training import loop

    steps, take = [], loop.Loop.take_step

    def stopped(self: Loop) -> dict[str, float]:
        steps.append(1)
        self.stop = self.stop or (len(steps) == 12 and self.step > 5)
        return take(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "take_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            tl.train(few, out=tmp_path / "stopped", **given)
    half = Run(tmp_path / "stopped")
    assert not half.finished and tl.load(half.folder).generate(1, prompt="a zork").shape == (1, 8, 8, 3)
    tl.train(few, out=half.folder, **given)
    assert half.weights_file.read_bytes() == run.weights_file.read_bytes()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora": 8}, "--from RUN"),
        ({"word": "zork"}, "--from RUN"),
        ({"lora_alpha": 3.0}, "says nothing without lora"),
        ({"word_like": "red"}, "says nothing without word"),
        ({"lora": -1}, "must be at least 0"),
        ({"lora": "many"}, "expected int"),
    ],
)
def test_settings_that_cannot_be(settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tuning_of(settings, None)


def test_what_does_not_fit_is_said_before_anything_is_written(base: Path, few: Path, tmp_path: Path) -> None:
    for settings, given, said in (
        ({"word": "two words"}, {}, "one word"),
        ({"word": "red"}, {}, "knows that word"),
        ({"word": "zork", "word_like": "purple"}, {}, "'purple'"),
        ({"lora": 4, "word": "zork"}, {"model": "gan:text"}, "leave --model out"),
        ({"lora": 4, "word": "zork"}, {"size": "m"}, "leave --size out"),
        ({"lora": 4, "word": "zork"}, {"resolution": 16}, "examples of 3 x 8 x 8; these are 3 x 16 x 16"),
        ({"lora": 4}, {}, "no captions"),
    ):
        with pytest.raises(InputError, match=said):
            tl.train(few, out=tmp_path / "run", start=base, settings={**PLAIN, **settings}, quiet=True, **given)
    assert not (tmp_path / "run").exists()
