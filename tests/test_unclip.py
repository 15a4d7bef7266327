"""A CLIP as the first stage: impressions, guidance by its slope, and what a run keeps of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contract_cases import CASES, build, randomise, settings
from safetensors.torch import load_file
from test_words import COLOURS, PLAIN, squares

import trilemma as tl
from trilemma.batches import Options, Request
from trilemma.config import SIZES
from trilemma.errors import InputError
from trilemma.impressions import GUIDE, Impression
from trilemma.maths import guidance
from trilemma.maths.noise import Noise
from trilemma.models.contract import configure
from trilemma.models.unclip import UnCLIP
from trilemma.training import restore
from trilemma.training.guides import clip_of
from trilemma.training.loop import Loop
from trilemma.training.run import Run
from trilemma.words import Tokenizer, Words


def test_the_slope_is_that_of_the_logit() -> None:
    case = CASES["impressions"]
    guide = case.spaces[GUIDE]
    assert isinstance(guide, Impression)
    matcher = guide.matcher
    randomise(matcher, seed=3)
    matcher.double(), guide.double()
    batch = case.batch()
    y = case.space.double().embed(batch.x.double())[:2]
    sigma = torch.tensor([0.5, 1.5], dtype=torch.float64)
    captions = batch.raw["caption"][:2]

    def logit(y: torch.Tensor) -> torch.Tensor:
        return matcher.scale * (matcher.images(y, sigma) * matcher.texts(captions)).sum(1)

    # lean() works in float32: half of its digits must agree with differences of the logit in float64.
    slope = guide.float().lean(y.float(), sigma.float(), captions, case.space.float()).double()
    guide.double()
    way = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = 1e-4
    difference = (logit(y + step * way) - logit(y - step * way)) / (2 * step)
    torch.testing.assert_close((slope * way).flatten(1).sum(1), difference, rtol=1e-3, atol=1e-5)
    guide.float(), case.space.float()


def test_guidance_by_a_slope_is_exact_on_a_gaussian() -> None:
    """x ~ N(0, 1), a condition with ln p(c | x) = a x + b: then p(x | c) = N(a, 1), and D(y, s) is known."""
    a = 0.7
    # y = x + s n: p(x | y) = N(y / (1 + s^2), s^2 / (1 + s^2)), so that ln p(c | y) = a y / (1 + s^2) + constant.
    denoise = guidance.led(
        lambda y, s: y / (1 + s**2), lambda y, s: torch.full_like(y, a / (1 + s**2)), weight=1.0
    )  # fmt: skip
    y = torch.tensor([[5.0], [-7.0]], dtype=torch.float64)
    for s in (0.3, 1.0, 2.0):
        torch.testing.assert_close(denoise(y, s), (y + s**2 * a) / (1 + s**2))  # E[x | y, c]
    outside = guidance.led(lambda y, s: y, lambda y, s: torch.ones_like(y), weight=1.0, interval=(0.5, 1.0))
    torch.testing.assert_close(outside(y, 2.0), y)


def test_what_guides_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    assert clip_of("diffusion", {}) == ""
    assert clip_of("diffusion:clip-guided", {}) == "clip:noise-aware"
    assert clip_of("diffusion:unclip", {}) == clip_of("unclip", {}) == "clip"
    with pytest.raises(InputError, match="setting clip"):
        clip_of("unclip", {"model.clip": str(tmp_path / "nowhere")})
    folder = squares(tmp_path / "pictures")
    run = tl.train(folder, model="vae", out=tmp_path / "vae", budget="256", size="xs", quiet=True, settings=PLAIN)
    assert isinstance(run, Run)
    with pytest.raises(InputError, match="knows no captions"):
        clip_of("unclip", {"clip": str(run.folder)})


def trained(folder: Path, out: Path, model: str, budget: str, *, start: Run | None = None, **more: str | int) -> Run:
    run = tl.train(
        folder, model=model, out=out, budget=budget, size="xs", quiet=True, start=start and start.folder,
        settings={**PLAIN, "network.width": 16, "optimizer.rate": 5e-3, **more},
    )  # fmt: skip
    assert isinstance(run, Run)
    return run


def test_unclip_makes_what_it_is_told_and_others_like_what_it_is_shown(tmp_path: Path) -> None:
    folder = squares(tmp_path / "pictures")
    clip = tl.train(folder, model="clip", out=tmp_path / "clip", budget="8000", size="xs", quiet=True, settings=PLAIN)
    assert isinstance(clip, Run)
    run = trained(folder, tmp_path / "run", "unclip", "5000", clip=str(clip.folder))
    shutil.rmtree(clip.folder)  # the run holds it
    loaded = tl.load(run.folder)
    made = np.stack([loaded.generate(6, prompt=f"a {name} square", seed=1).reshape(-1, 3).mean(0) for name in COLOURS])
    own = np.array([np.argmax(value) for value in COLOURS.values()])
    assert (made[:, own].argmax(0) == np.arange(3)).all(), made  # each colour is nowhere as strong as under its prompt
    blue = str(folder / "002.png")
    again = loaded.vary(blue, n=6, strength=1.0).reshape(-1, 3).mean(0)
    assert again.argmax() == 2
    assert loaded.vary(blue, n=6, strength=1.0, prompt="a red square").reshape(-1, 3).mean(0).argmax() == 0


def test_what_to_lead_away_from_moves_no_noise() -> None:
    """Without guidance samples are the same ones, whatever stands under --negative."""
    case = CASES["impressions"]
    model = build("unclip", case).eval()
    randomise(model)
    captions = case.batch().raw["caption"]

    def made(strength: float, *against: int) -> torch.Tensor:
        told = {"caption": captions[[1, 4]]}, {"caption": torch.ones(2, dtype=torch.bool)}
        options, noise = Options(guidance=strength), Noise(3, np.arange(2))
        away = {"caption": captions[list(against)]} if against else {}
        with torch.no_grad():
            return model.sample(Request(noise, *told, options, against=away))  # type: ignore[operator]

    assert torch.equal(made(1.0), made(1.0, 0, 2))
    assert not torch.equal(made(3.0, 1, 4), made(3.0, 0, 2))


def test_of_two_impressions_the_one_that_goes_with_the_caption_is_kept() -> None:
    """Each draw depends on (seed, i) alone, and the decoder's noise on neither; what the CLIP cannot read decides
    nothing; a prior of before hears captions alone."""
    case = CASES["impressions"]
    model = build("unclip", case).eval()
    assert isinstance(model, UnCLIP)
    randomise(model, scale=1.0)
    captions = torch.from_numpy(np.asarray(case.data.conditions["caption"]))
    here = torch.arange(len(captions)) != 3  # an empty one

    def request(rows: slice = slice(None)) -> Request:
        noise = Noise(5, np.arange(len(captions))[rows])
        return Request(noise, {"caption": captions[rows]}, {"caption": here[rows]}, Options(guidance=1.0, steps=2))

    with torch.no_grad():
        told, _ = model.seen.read(captions)
        made, fits = {}, {}
        for draws in (1, 2, 3):
            model.config.prior_draws = draws
            assert model.calls(Options()) == model.decoder.calls(Options()) + draws * model.prior.calls(Options())
            impressions = model.imagined(request())
            torch.testing.assert_close(impressions[2:4], model.imagined(request(slice(2, 4))))
            made[draws], fits[draws] = model.sample(request()), (impressions * told).sum(1)
        assert (fits[1] <= fits[2]).all() and (fits[2] <= fits[3]).all() and (fits[2] > fits[1])[here].any()
        same = fits[1] == fits[2]
        assert same[3] and not same.all() and torch.equal(made[1][same], made[2][same])
        assert all(not torch.equal(made[1][i], made[2][i]) for i in range(len(same)) if not same[i])
    words = case.spaces["caption"]
    assert isinstance(words, Words)
    more = Words(words.shape[1], Tokenizer(words.tokenizer.merges, ["zork"]))  # type: ignore[union-attr]
    longer = build("unclip", replace(case, spaces={**case.spaces, "caption": more}))
    assert isinstance(longer, UnCLIP) and longer.reads
    raw, present = longer.heard(torch.from_numpy(more.write(["red bird", "red zork"])), torch.ones(2).bool())
    assert present["told"].tolist() == [True, False] and torch.isfinite(raw["told"]).all()
    guide = case.spaces[GUIDE]
    assert isinstance(guide, Impression) and guide.describe()["told"]
    before = Impression(guide.matcher, 16, made_by={})
    plain = build("unclip", replace(case, spaces={**case.spaces, GUIDE: before}))
    assert isinstance(plain, UnCLIP) and plain.draws == 1 and plain.prior.conditioner.names == ["caption"]
    assert "told" not in before.describe()


def test_the_prior_follows_the_size_dial() -> None:
    spaces = CASES["impressions"].spaces
    found = [configure("unclip", spaces, size=size) for size in SIZES]
    widths, depths = ([getattr(one, f"prior_{what}") for one in found] for what in ("width", "depth"))
    assert widths == sorted(set(widths)) and depths == sorted(depths) and depths[0] < depths[-1]
    assert configure("unclip", spaces, size="xl", changes={"prior_width": 32}).prior_width == 32
    with pytest.raises(InputError, match="prior_draws"):
        configure("unclip", spaces, changes={"prior_draws": 0})


def test_a_clip_guides_a_model_that_is_there_and_a_run_goes_on_without_its_folder(tmp_path: Path) -> None:
    folder = squares(tmp_path / "pictures")
    run = trained(folder, tmp_path / "run", "diffusion:clip-guided", "1000")
    again = trained(folder, tmp_path / "again", "diffusion:clip-guided", "1000")
    one, two = load_file(run.weights_file), load_file(again.weights_file)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    shutil.rmtree(run.folder / "clip")
    loaded = tl.load(run.folder)
    plain = loaded.generate(6, prompt="a green square", seed=1, guidance=1.0)
    led = loaded.generate(6, prompt="a green square", seed=1, guidance=20.0)
    assert not np.array_equal(plain, led)
    given = trained(folder, tmp_path / "given", "diffusion:text", "256")
    with pytest.raises(InputError, match="knows no captions"):
        tl.train(
            folder, model="unclip", out=tmp_path / "no", budget="256", quiet=True, settings={"clip": str(given.folder)}
        )


@pytest.mark.parametrize("model", ["unclip", "diffusion:clip-guided"])
def test_resume_is_exact_within_the_stage_of_the_clip(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while its CLIP learns, a run goes on with the same command, and ends as if nothing had been."""
    folder, step, stop = squares(tmp_path / "pictures", 40), Loop.take_step, [True]

    def stopping(self: Loop) -> dict[str, float]:
        self.stop = stop[0] and type(self.model).__name__ == "Clip" and self.step == 3
        return step(self)

    whole = trained(folder, tmp_path / "whole", model, "960")
    monkeypatch.setattr(Loop, "take_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, tmp_path / "run", model, "960")
    clip = Run(tmp_path / "run" / "clip")
    assert clip.exists and not clip.finished and clip.latest_state() is not None
    assert not Run(tmp_path / "run").exists or not Run(tmp_path / "run").states()
    stop[0] = False
    again = trained(folder, tmp_path / "run", model, "960")
    for name in ("weights.safetensors", "clip/weights.safetensors"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_run_that_reads_captions_may_begin_one_that_a_clip_leads() -> None:
    case = CASES["impressions"]
    led = build("diffusion:clip-guided", case, settings("diffusion:clip-guided", case))
    plain = {name: space for name, space in led.spaces.items() if name != GUIDE}
    config = replace(led.config, clip="")
    start = restore.build("diffusion:text", config, plain, 1)
    model = restore.build("diffusion:clip-guided", led.config, dict(led.spaces.items()), 2, start=start)
    learned = {id(p) for group in model.groups().values() for p in group}
    theirs = dict(start.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in model.named_parameters() if id(p) in learned)
    mine, kept = model.spaces[GUIDE].state_dict(), led.spaces[GUIDE].state_dict()
    assert mine and all(torch.equal(mine[name], kept[name]) for name in kept)
    back = restore.build("diffusion:text", config, plain, 3, start=model)
    assert torch.equal(back.level[0].weight, start.level[0].weight)
    other = replace(config, embedding=2 * config.embedding)
    with pytest.raises(InputError, match="another model"):
        restore.build("diffusion:text", other, plain, 4, start=model)


def test_a_training_goes_on_from_a_run_that_reads_with_a_clip_that_leads(tmp_path: Path) -> None:
    """A CLIP is trained in the run's vocabulary, a second training takes it along; what does not fit trains none."""
    folder, other = squares(tmp_path / "pictures", 40), squares(tmp_path / "others", 48)
    text = trained(folder, tmp_path / "text", "diffusion:text", "64")
    with pytest.raises(InputError, match="do not fit"):
        trained(other, tmp_path / "no", "diffusion:clip-guided", "64", start=text, embedding=32)
    assert not (tmp_path / "no").exists()
    led = trained(other, tmp_path / "led", "diffusion:clip-guided", "64", start=text)
    (merges,) = {
        json.dumps(run.config()["spaces"]["caption"]["merges"]) for run in (text, led, Run(led.folder / "clip"))
    }
    assert len(json.loads(merges)) > 3
    after = trained(folder, tmp_path / "after", "diffusion:clip-guided", "64", start=led)
    assert not (after.folder / "clip").exists()
    one, two = load_file(led.weights_file), load_file(after.weights_file)
    matcher = [key for key in one if key.startswith(f"spaces.{GUIDE}.matcher.")]
    assert matcher and all(torch.equal(one[key], two[key]) for key in matcher)


def test_a_clip_of_another_vocabulary_leads_nothing() -> None:
    case = CASES["impressions"]
    words = case.spaces["caption"]
    assert isinstance(words, Words)
    other = Words.fit(["ein roter Vogel", "ein blauer Vogel"])
    assert words.holds(words) and not words.holds(other) and not other.holds(words)
    with pytest.raises(InputError, match="another vocabulary"):
        configure("diffusion:clip-guided", {**case.spaces, "caption": other})
    configure("unclip", {**case.spaces, "caption": other})  # it has impressions of a CLIP, not its words


def test_an_untrained_guide_conditions_nothing() -> None:
    case = CASES["impressions"]
    model = build("unclip", case, settings("unclip", case))
    assert set(model.groups()) == {"decoder", "prior"}
    held = {id(p) for p in model.spaces[GUIDE].parameters()}
    assert held and not held & {id(p) for group in model.groups().values() for p in group}


def test_a_run_goes_on_without_the_clip_that_it_was_given_and_hands_its_own_on(tmp_path: Path) -> None:
    folder = squares(tmp_path / "pictures")
    given = tl.train(folder, model="clip", out=tmp_path / "clip", budget="256", size="xs", quiet=True, settings=PLAIN)
    assert isinstance(given, Run)
    told = {**PLAIN, "network.width": 16, "clip": str(given.folder)}
    asked = {"model": "unclip", "size": "xs", "quiet": True}
    run = tl.train(folder, out=tmp_path / "run", budget="512", settings=told, **asked)  # type: ignore[arg-type]
    assert isinstance(run, Run)
    shutil.rmtree(given.folder)
    tl.train(folder, out=run.folder, budget="+512", settings=told, **asked)  # type: ignore[arg-type]
    assert run.finished and run.config()["extended"] == ["+512"]

    # Weights that have learned from one CLIP's impressions would mistake those of another.
    own = {**PLAIN, "network.width": 16}
    other = squares(tmp_path / "others", 60)
    after = tl.train(other, out=tmp_path / "after", budget="256", start=run.folder, settings=own, **asked)  # type: ignore[arg-type]
    assert isinstance(after, Run) and not (after.folder / "clip").exists()
    one, two = load_file(run.weights_file), load_file(after.weights_file)
    matcher = [key for key in one if key.startswith(f"spaces.{GUIDE}.matcher.")]
    assert matcher and all(torch.equal(one[key], two[key]) for key in matcher)
    with pytest.raises(InputError, match="know its own clip"):
        tl.train(other, out=tmp_path / "no", budget="256", start=run.folder, settings={**own, "clip": "clip"}, **asked)  # type: ignore[arg-type]


def test_a_clip_and_an_autoencoder_are_refused_before_either_is_trained(tmp_path: Path) -> None:
    folder = squares(tmp_path / "pictures")
    with pytest.raises(InputError, match="not codes"):
        tl.train(
            folder, model="diffusion:clip-guided", out=tmp_path / "run", budget="256", quiet=True,
            settings={"autoencoder": "codec"},
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_what_not_to_make_leads_the_decoder_away() -> None:
    case = CASES["impressions"]
    model = build("unclip", case, settings("unclip", case))
    randomise(model, seed=1)
    batch = case.batch()
    raw, present = {"caption": batch.raw["caption"]}, {"caption": batch.present["caption"]}

    def made(against: dict[str, torch.Tensor]) -> torch.Tensor:
        noise = Noise(0, np.arange(len(batch.x)))
        return model.sample(Request(noise, raw, present, Options(guidance=3.0, steps=3), against=against))  # type: ignore[operator]

    assert not torch.equal(made({}), made({"caption": batch.raw["caption"].flip(0)}))


def test_a_clip_that_sees_no_noise_is_refused_as_a_guide_before_it_is_trained(tmp_path: Path) -> None:
    folder = squares(tmp_path / "pictures")
    with pytest.raises(InputError, match="learned to see noise"):
        tl.train(
            folder, model="diffusion:clip-guided", out=tmp_path / "run", budget="256", quiet=True,
            settings={"clip": "clip"},
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
