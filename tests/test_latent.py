"""Two stages: codes of unit variance, one run that holds both, exact resume in either, and what cannot be coded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import trilemma as tl
from trilemma.batches import Arrays
from trilemma.errors import InputError
from trilemma.latent import Latent
from trilemma.modalities.contract import Data
from trilemma.modalities.door import open_data
from trilemma.models.codec import Codec, Config
from trilemma.networks.layers import Network
from trilemma.report.asked import check_settings
from trilemma.report.coding import coding
from trilemma.spaces import Continuous, fit_continuous
from trilemma.tasks.load import load
from trilemma.training import choose as choosing
from trilemma.training import start as starting
from trilemma.training.branch import branch
from trilemma.training.loop import Loop
from trilemma.training.run import Run
from trilemma.training.stages import Stage, autoencoder_of, coded, coded_by, first_stage, hash_of, is_run

PLAIN = {"training.previews": 1, "training.choose_samples": 0, "training.dtype": "float32", "training.threads": 1}


def pictures() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    x = np.kron(digits.images[:400] * 15, np.ones((2, 2))).astype(np.uint8)
    return x, digits.target[:400]


def trained(out: Path, **changes: Any) -> Run:
    settings = {"model": "diffusion:latent", "budget": "1500", "size": "xs", "quiet": True, "settings": dict(PLAIN)}
    run = tl.train(changes.pop("source", pictures()), out=out, **{**settings, **changes})
    assert isinstance(run, Run)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("latent") / "run")


def fresh(x: np.ndarray) -> tuple[Data, Codec]:
    """Data of these pictures, and a codec that has learned nothing; its weights are not zero anywhere."""
    data = open_data(x)
    torch.manual_seed(0)
    codec = Codec(Config(network=Network(width=16, depth=1, multipliers=(1, 2), patch=2)), {"x": data.spaces["x"]})
    return data, codec.eval()


def test_a_codec_is_chosen_and_shown_by_what_it_gives_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[np.ndarray] = []

    class Eyes:
        name, hash = "eyes", "0"

        def __call__(self, x: np.ndarray) -> np.ndarray:
            looked.append(x)
            return x.reshape(len(x), -1)[:, ::32].astype(np.float64)

        def shaped(self, seen: np.ndarray) -> np.ndarray:
            return seen

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("samples of a codec are no measure of it")

    monkeypatch.setattr(choosing, "feature_network", lambda *_, **__: Eyes())
    monkeypatch.setattr(Codec, "sample", never)
    settings = {**PLAIN, "training.choose_samples": 200}
    run = trained(tmp_path / "run", model="codec", settings=settings, budget="640", source=pictures()[0])
    data = open_data(pictures()[0])
    rows = data.rows("choose", 200)
    reference, *made = looked
    assert len(rows) >= 32 and (reference == rows).all() and len(made) == 3
    choices = run.choices()
    tried = choices["chosen_by"]["tried"]
    best = int(np.argmin([row["frechet"] for row in tried]))
    assert choices["average"] == tried[best]["average"]
    again = load(run.folder).reconstruct(data.modality.export(rows), raw=True)
    assert np.abs(again.astype(int) - made[best].astype(int)).max() <= 1
    assert list(run.samples_folder.glob("[0-9]*.png"))


def test_codes_have_unit_variance_and_are_those_of_the_examples() -> None:
    data, codec = fresh(pictures()[0])
    made = coded(data, codec, "codec", {})
    space = made.spaces["x"]
    assert isinstance(space, Latent) and isinstance(space.outer, Continuous)
    assert space.shape == codec.code_shape == (4, 4, 4) and space.outer.shape == (1, 16, 16)
    train = made.split("train")
    batch = train.gather(np.arange(len(train)))
    embedded = space.embed(batch.x)
    torch.testing.assert_close(embedded.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded.std((0, 2, 3), correction=0), torch.ones(4), atol=1e-4, rtol=0)
    # Codes made beforehand are those of the pictures themselves.
    raw = Arrays(data.x, rows=data.splits["train"]).gather(np.arange(5))
    torch.testing.assert_close(space.embed(raw.x), embedded[:5], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(space.decode(embedded[:5]), codec.restored(codec.codes(raw.x)))
    # Measures look at pictures, not at codes; and nothing of the autoencoder learns any more.
    assert made.split("test").x is data.x and made.rows("choose").shape[1:] == (1, 16, 16)
    assert not any(p.requires_grad for p in space.parameters())
    space.train()
    assert not space.autoencoder.training


def test_levels_are_few_and_all_within_reach() -> None:
    """Rounded codes are on the grid of their levels, 0 among those of an odd number; each level can be reached."""
    space = fit_continuous(np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32))
    settings = Config(codes="fsq", levels=(8, 5, 2), network=Network(width=16, depth=1, multipliers=(1,), patch=2))
    codec = Codec(settings, {"x": space})
    for channel, count in enumerate(settings.levels):
        sweep = torch.linspace(-6, 6, 4001).reshape(-1, 1, 1, 1).repeat(1, 3, 1, 1)
        codec.encoder.forward = lambda x, sweep=sweep: sweep  # type: ignore[method-assign,misc]
        reached = codec.coded(torch.zeros(1))[:, channel].unique()
        assert len(reached.round(decimals=4).unique()) == count
        assert reached.min() >= -1.001 and reached.max() <= 1.001
        assert bool((reached.abs() < 1e-4).any()) == (count % 2 == 1)
        gaps = reached.round(decimals=4).unique().diff()
        torch.testing.assert_close(gaps, torch.full_like(gaps, 2 / (count - 1)), atol=1e-3, rtol=0)
        # What a second model makes of them is brought to the nearest level before it is decoded.
        levels = torch.linspace(-1, 1, count).reshape(-1, 1, 1, 1).repeat(1, 3, 1, 1)
        for shift in (0.0, 0.4, -0.4):
            torch.testing.assert_close(
                codec.quantiser.nearest(levels + shift * gaps[0])[:, channel], levels[:, channel]
            )
        assert codec.quantiser.nearest(torch.full((1, 3, 1, 1), 3.0)).max() == 1
    shown: list[torch.Tensor] = []
    codec.decoder.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    codec.restored(torch.randn(2, *codec.code_shape))
    torch.testing.assert_close(shown[0], codec.quantiser.nearest(shown[0]))
    with pytest.raises(InputError, match="two levels"):
        Codec(Config(codes="fsq", levels=(8, 1)), {"x": space})


def test_figures_of_codes_are_those_of_the_autoencoder_within(run: Run, tmp_path: Path) -> None:
    """Bits, error and distance of a model of codes are those of its autoencoder; of whole numbers also their use."""
    data = open_data(pictures())

    class Stub:
        count, test = 20, data.rows("test", 20)

        def network(self, x: np.ndarray) -> np.ndarray:
            return x.reshape(len(x), -1)[:, ::40].astype(np.float64)

    ruler: Any = Stub()
    ruler.features = ruler.network(ruler.test)
    within = coding(load(run.folder), data, ruler)
    alone = coding(load(run.folder / "autoencoder"), data, ruler)
    assert set(within) == {"rate", "reconstruction_psnr", "reconstruction_frechet"}
    for name in within:
        assert within[name].value == pytest.approx(alone[name].value, rel=1e-4)
    assert load(run.folder).info()["codes"] == {"shape": [4, 4, 4]}
    quantised = trained(tmp_path / "vq", model="codec:vq", settings={**PLAIN, "model.entries": 32}, budget="300")
    found = coding(load(quantised.folder), data, ruler)
    assert found["rate"].value == 16 * 5 and 1 / 32 <= found["codebook_use"].value <= 1
    assert 1 <= found["perplexity"].value <= 32
    assert load(quantised.folder).info()["codes"] == {"shape": [4, 4, 4], "entries": 32, "bits an example": 80.0}


def test_tokens_are_numbers_of_codes() -> None:
    """Every token has a code and that code this token; a picture's codes are those of its tokens; `kl` has none."""
    space = fit_continuous(np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32))
    network = Network(width=16, depth=1, multipliers=(1,), patch=2)
    codec = Codec(Config(codes="fsq", levels=(8, 5, 2), network=network), {"x": space})
    every = torch.arange(codec.token_count).reshape(5, 1, 4, 4)
    codes = codec.from_tokens(every)
    assert codec.token_count == 80 and len(codes.movedim(1, -1).reshape(-1, 3).unique(dim=0)) == 80
    assert torch.equal(codec.quantiser.tokens(codes), every)
    torch.testing.assert_close(codec.quantiser.nearest(codes), codes)
    x = torch.randn(6, 1, 8, 8)
    tokens = codec.tokens(x)
    assert tokens.shape == (6, 1, *codec.code_shape[1:]) and tokens.dtype == torch.int64
    torch.testing.assert_close(codec.from_tokens(tokens), codec.codes(x))
    plain = Codec(Config(network=network), {"x": space})
    assert plain.token_count == 0
    with pytest.raises(InputError, match="codec:fsq"):
        plain.tokens(x)


def test_one_run_holds_both_stages(run: Run, tmp_path: Path) -> None:
    """It samples, streams, takes labels and says what it is; also where the first stage's folder is gone."""
    loaded = tl.load(run.folder)
    samples = loaded.generate(6, seed=3)
    assert samples.shape == (6, 16, 16) and samples.dtype == np.uint8
    assert len(np.unique(samples.reshape(6, -1), axis=0)) == 6
    fours = loaded.generate(6, seed=3, label=4)
    np.testing.assert_array_equal(fours[2:4], loaded.generate(2, seed=3, label=4, start=2))
    assert loaded.info()["shape"] == [1, 16, 16] and not {"score", "denoise"} & set(loaded.can())
    with pytest.raises(InputError, match="takes noise off codes"):
        loaded.require("denoise")
    found = loaded.anomalies(loaded.generate(5, seed=1), false_alarms=0.1, normal=loaded.generate(30, seed=2))
    assert found.maps.shape == (5, 16, 16) and np.isfinite(found.scores).all()  # of codes there are 4 x 4
    first = Run.at(run.folder / "autoencoder")
    assert first.finished and first.config()["model"] == "codec"
    spent = first.config()["training"]["examples"]
    assert 500 <= spent <= 700 and 800 <= run.config()["training"]["examples"] <= 1100
    moved = tmp_path / "moved"
    run.folder.rename(moved)
    try:
        (moved / "autoencoder").rename(tmp_path / "away")
        np.testing.assert_array_equal(tl.load(moved).generate(6, seed=3), samples)
        again = trained(moved, settings=dict(PLAIN))  # nothing to do, and nothing amiss
        assert again.finished
        (tmp_path / "away").rename(moved / "autoencoder")
    finally:
        moved.rename(run.folder)


@pytest.mark.parametrize("stage", ["codec", "diffusion"])
def test_resume_is_exact_in_either_stage(run: Run, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, stop = Loop.take_step, [True]

    def stopping(self: Loop) -> dict[str, float]:
        here = type(self.model).__name__.lower() == stage
        self.stop = here and stop[0] and self.step == 5
        return step(self)

    if stage == "diffusion":
        shutil.copytree(run.folder / "autoencoder", tmp_path / "run" / "autoencoder")
    monkeypatch.setattr(Loop, "take_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run")
    stop[0] = False
    if stage == "codec":
        with pytest.raises(InputError, match="only its first stage"):
            tl.load(tmp_path / "run")
    else:  # from here on the run itself has all that it needs
        shutil.rmtree(tmp_path / "run" / "autoencoder")
    again = trained(tmp_path / "run")
    for name in ("weights.safetensors", "autoencoder/weights.safetensors")[: 2 if stage == "codec" else 1]:
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes(), name


def test_an_autoencoder_that_is_given(run: Run, tmp_path: Path) -> None:
    """A run of one's own codes the data: nothing is trained before, and all the budget is for the model."""
    first = run.folder / "autoencoder"
    made = trained(
        tmp_path / "run", budget="600", model="diffusion", settings={**PLAIN, "model.autoencoder": str(first)}
    )
    assert not (tmp_path / "run" / "autoencoder").exists()
    assert made.config()["training"]["examples"] >= 600
    assert tl.load(made.folder).generate(2).shape == (2, 16, 16)
    small = open_data(pictures()[0][:, ::2, ::2])
    with pytest.raises(InputError, match="1 x 16 x 16, these are 1 x 8 x 8"):
        trained(tmp_path / "b", source=small, model="diffusion", settings={"autoencoder": str(first)})


def test_settings_reach_the_first_stage(tmp_path: Path) -> None:
    settings = {**PLAIN, "autoencoder.channels": 2, "training.branches": (0.5,)}
    made = trained(tmp_path / "run", budget="1000", settings=settings)
    assert Run.at(made.folder / "autoencoder").config()["config"]["channels"] == 2
    assert made.config()["spaces"]["x"]["shape"][0] == 2
    # A branch learns from codes as its run did.
    short = branch(open_data(pictures()), made, 0.5, quiet=True)
    assert tl.load(short.folder).generate(2).shape == (2, 16, 16)
    plan = tl.train(pictures(), model="diffusion:latent", out=tmp_path / "c", budget="10m", dry_run=True, quiet=True)
    assert not (tmp_path / "c").exists() and plan.examples > 0  # type: ignore[union-attr]
    data = open_data(pictures())
    check_settings(["diffusion:latent"], data, {"autoencoder.channels": 2, "model.steps": 10})
    with pytest.raises(InputError, match="chanels"):
        check_settings(["diffusion:latent"], data, {"autoencoder.chanels": 2})
    with pytest.raises(InputError, match="gan trains no autoencoder"):
        check_settings(["diffusion:latent", "gan"], data, {"autoencoder.channels": 2})
    with pytest.raises(InputError, match="chanels"):
        trained(tmp_path / "c", settings={"autoencoder.chanels": 2}, dry_run=True)


def test_what_cannot_be_coded(tmp_path: Path) -> None:
    assert first_stage("diffusion", {}) == "" and first_stage("diffusion:latent", {}) == "codec"
    for settings, words in (
        ({"autoencoder": "codek"}, "codec"),
        ({"autoencoder": "vae"}, "codec"),
    ):
        with pytest.raises(InputError, match=words):
            tl.train(pictures(), model="diffusion", out=tmp_path / "a", budget="1k", settings=settings, quiet=True)
    with pytest.raises(InputError, match="needs data on a grid"):
        tl.train("moons", model="diffusion:latent", out=tmp_path / "a", budget="1k", quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a run"):
        tl.train(
            pictures(), model="diffusion", out=tmp_path / "a", budget="1k", quiet=True,
            settings={"autoencoder": str(tmp_path / "empty")},
        )  # fmt: skip
    assert not (tmp_path / "a").exists()


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be trained in this test."""

    def never(self: Loop) -> dict[str, float]:
        raise RuntimeError("a step was taken")

    monkeypatch.setattr(Loop, "take_step", never)


@pytest.mark.usefixtures("untrained")
def test_all_is_checked_before_anything_is_trained(run: Run, tmp_path: Path) -> None:
    data, first = open_data(pictures()), run.folder / "autoencoder"
    gaps = replace(data, observed=np.ones(data.x.shape, dtype=bool))
    space = fit_continuous(data.x)
    pairs = replace(data, spaces={**data.spaces, "source": space}, conditions={**data.conditions, "source": data.x})
    settings: dict[str, tuple[dict[str, Any], str]] = {
        "model.widht": ({}, "widht"),
        "training.flip": ({}, "mirrored"),
        "autoencoder.chanels": ({}, "chanels"),
        "autoencoder.channels": ({"model": "diffusion"}, "trains no autoencoder"),
    }
    cases = [(f"{words}", {**more, "settings": {**PLAIN, key: True}}) for key, (more, words) in settings.items()]
    cases += [
        ("size", {"size": "huge"}),
        ("gaps", {"source": gaps}),
        ("pairs", {"source": pairs}),
        ("has none", {"budget": "+10m"}),
        ("learned no codes", {"start": first}),
        ("trained already", {"settings": {"autoencoder": str(first), "autoencoder.channels": 2}}),
        ("deleted or moved", {"settings": {"autoencoder": str(tmp_path / "moved")}}),
        ("two levels", {"settings": {"autoencoder": "codec:fsq", "autoencoder.levels": (8, 1)}}),
        ("autoencoder", {"model": "gan", "settings": {"model.autoencoder": "codec"}}),
        ("its own autoencoder", {"start": run.folder, "settings": {"autoencoder": "codec"}}),
    ]
    for words, changes in cases:
        with pytest.raises(InputError, match=words):
            trained(tmp_path / "a", **changes)
        assert not (tmp_path / "a").exists(), words


@pytest.mark.usefixtures("untrained")
def test_a_finished_first_stage_is_taken_for_the_same_command_only(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder / "autoencoder", tmp_path / "a" / "autoencoder")
    x, labels = pictures()
    for words, changes in (
        ("other data", {"source": (x[::-1].copy(), labels)}),
        ("seed", {"seed": 1}),
        ("budget", {"budget": "1000"}),
        ("channels", {"settings": {**PLAIN, "autoencoder.channels": 2}}),
    ):
        with pytest.raises(InputError, match=words):
            trained(tmp_path / "a", **changes)
    assert not Run(tmp_path / "a").exists


def test_a_run_goes_on_with_the_autoencoder_within_it(run: Run, tmp_path: Path) -> None:
    """`+N` without its first stage, with other threads around; and `--from`, in the code space of that run."""
    data, first = open_data(pictures()), Run(run.folder / "autoencoder")
    codes = coded_by(data, first).codes
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    inside = coded_by(data, run)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(inside.codes, codes)
    assert inside.spaces["x"].describe() == run.config()["spaces"]["x"]
    assert inside.spaces["x"].describe()["made_by"]["threads"] == 1
    shutil.copytree(run.folder, tmp_path / "long")
    shutil.rmtree(tmp_path / "long" / "autoencoder")
    longer = trained(tmp_path / "long", budget="+700")
    assert longer.finished and longer.config()["training"]["examples"] > run.config()["training"]["examples"]
    other = trained(tmp_path / "from", start=run.folder, budget="200")
    assert not (tmp_path / "from" / "autoencoder").exists()
    assert len({hash_of(autoencoder_of(one)[0]) for one in (first, run, longer, other)}) == 1


def test_a_run_killed_before_its_first_state(
    run: Run, tmp_path: Path, untrained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the autoencoder that it began with or not at all, and keeps what was left of its budget."""
    shutil.copytree(run.folder / "autoencoder", tmp_path / "a" / "autoencoder")
    with pytest.raises(RuntimeError, match="a step was taken"):
        trained(tmp_path / "a")
    made, first = Run.at(tmp_path / "a"), Run(tmp_path / "a" / "autoencoder")
    assert not made.states()
    config = made.config()
    config["asked"]["budget"] = "100s"
    made.config_file.write_text(json.dumps(config))
    found: dict[str, Any] = {}
    coding: Callable[..., Data] = Stage.coded

    def slowly(self: Stage, data: Data, **settings: Any) -> Data:
        found["before"] = time.monotonic()
        return coding(self, data, **settings)

    monkeypatch.setattr(Stage, "coded", slowly)
    monkeypatch.setattr(starting, "carry_out", lambda *_, **given: found.update(given))
    trained(made.folder, budget="100s")
    assert found["limit"] == pytest.approx(100 - first.choices()["seconds"]["total"])
    assert found["begun"] <= found["before"]  # coding is a part of what the budget pays for
    weights = first.weights_file.read_bytes()
    first.weights_file.write_bytes(weights[:-4] + b"\0\0\x80\x3f")
    with pytest.raises(InputError, match="another one than it was"):
        trained(made.folder, budget="100s")
    shutil.rmtree(first.folder)
    with pytest.raises(InputError, match="not there any more"):
        trained(made.folder, budget="100s")


def test_names_of_models_come_before_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codec").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "own.py").write_text("from trilemma.models.codec import Codec\n\n\nclass Own(Codec):\n    pass\n")
    (tmp_path / "no.py").write_text("from trilemma.models.vae import VAE\n\n\nclass No(VAE):\n    pass\n")
    assert not is_run("codec") and first_stage("diffusion:latent", {}) == "codec"
    assert not is_run("own.py") and first_stage("diffusion", {"autoencoder": "own.py"}) == "own.py"
    assert is_run("mine") and first_stage("diffusion", {"autoencoder": "mine"}) == "mine"
    with pytest.raises(InputError, match="no codes on a grid"):
        first_stage("diffusion", {"autoencoder": "no.py"})
