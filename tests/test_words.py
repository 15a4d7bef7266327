"""Captions: byte pairs, what is not known, where captions come from, and a model that reads them."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from contract_cases import CASES, build, randomise, settings
from PIL import Image
from test_cli import call

import trilemma as tl
from trilemma.batches import Options
from trilemma.conditions import Conditioner
from trilemma.errors import InputError
from trilemma.mixed import space_from
from trilemma.modalities.door import open_data
from trilemma.models.contract import Samples
from trilemma.models.gan import GAN
from trilemma.tasks.travel import taken_along
from trilemma.training.captions import captions_of, worded
from trilemma.words import KEPT, Tokenizer, Words, normal, words_of

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
PLAIN = {"training.previews": 1, "training.choose_samples": 0, "training.dtype": "float32", "training.threads": 1}


def squares(folder: Path, count: int = 90, *, captions: str = "csv") -> Path:
    """Pictures of one colour each, with captions that say which."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        name, value = list(COLOURS.items())[number % 3]
        shade = np.clip(np.array(value) + number // 3, 0, 255).astype(np.uint8)
        Image.fromarray(np.broadcast_to(shade, (8, 8, 3)).copy()).save(folder / f"{number:03d}.png")
        rows.append((f"{number:03d}.png", f"A {name} square."))
        if captions == "txt":
            (folder / f"{number:03d}.txt").write_text(rows[-1][1] + "\n", encoding="utf-8")
    if captions == "csv":
        with (folder / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file_name", "text"), *rows])
    return folder


def test_byte_pairs_join_what_stands_together_most_often() -> None:
    tokenizer = Tokenizer.fit(["aaab", "aaab", "ab"], merges=2)
    one = 1 + ord("a")
    # ' a' stands in all three words, 'aa' (twice in each of two) more often: 4 times against 3.
    assert tokenizer.merges[0] == (one, one)
    assert tokenizer.decode(tokenizer.encode("aaab ab")) == "aaab ab"


@pytest.mark.parametrize("text", ["A red bird.", "ein grüner Vogel!", "红色的鸟", "two  small\tred circles", "😀 ok"])
def test_every_text_is_read_back_in_its_normal_writing(text: str) -> None:
    space = Words.fit(["a red bird", "two small circles", text])
    (again,) = space.read(space.write([text]))
    assert again.replace(" ", "") == "".join(text.lower().split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("लाल चिड़िया पेड़ पर", 4),  # vowels and the virama are marks
        ("นกสีแดงบนต้นไม้", 1),
        ("עֵץ יָרֹק", 2),
        ("طَائِرٌ أَحْمَرُ", 2),
        ("چراغ می\u200cدرخشد", 2),
        ("two ❤\ufe0f .", 3),
    ],
)
def test_marks_join_what_they_are_written_on(text: str, words: int) -> None:
    assert len(words_of(text)) == words
    space = Words.fit([text, "a red bird"])
    assert space.read(space.write([text])) == [normal(text)]
    assert space.unseen(text) == []
    old = Tokenizer([], marks=False)  # as runs of before have learned
    assert Words.described({**space.describe(), "merges": [], "marks": False}).tokenizer.encode(text) == old.encode(
        text
    )
    assert len(old.encode(normal("चिड़िया"))) > len(Tokenizer([]).encode(normal("चिड़िया")))


def test_of_scripts_without_spaces_signs_are_unseen_not_phrases() -> None:
    space = Words.fit(["红色的鸟", "นกสีแดง", "लाल चिड़िया"])
    assert space.unseen("红鸟") == [] and space.unseen("绿色的鸟, 绿") == ["绿"]
    assert space.unseen("นกแดง") == []
    assert space.unseen("लाल पेड़") == [normal("पेड़")]


def test_a_space_is_the_same_after_it_was_written_down() -> None:
    space = Words.fit(["a red bird", "a blue bird", "two birds"])
    other = space_from(space.describe())
    assert isinstance(other, Words)
    other.load_state_dict(space.state_dict())
    assert (other.write(["blue birds"]) == space.write(["blue birds"])).all()
    assert other.unseen("a green bird") == ["green"]
    assert len(other.kept) == KEPT
    assert set(other.read(other.kept)) == {"a red bird", "a blue bird", "two birds"}


def test_long_captions_are_cut_and_empty_ones_stay_empty() -> None:
    space = Words.fit(["red " * 10_000, "blue"])
    assert space.shape[1] <= 64
    assert space.cut("red " * 100) > 0
    assert (space.write([""]) == 0).all()


def test_an_absent_caption_is_the_null_token_whatever_was_written() -> None:
    space = Words.fit(["red bird", "blue bird"])
    torch.manual_seed(0)
    conditioner = Conditioner({"x": space, "caption": space}, 16)
    told = torch.from_numpy(space.write(["red bird", "blue bird"]))
    here = torch.tensor([True, False])
    cond = conditioner({"caption": told}, {"caption": here}, 2)
    none = conditioner({}, {}, 2)
    assert cond.tokens is not None and cond.token_mask is not None and cond.vector is not None
    assert none.tokens is not None and none.vector is not None
    assert cond.token_mask[1].tolist() == [True] + [False] * (told.shape[2] - 1)
    torch.testing.assert_close(cond.tokens[1, 0], none.tokens[1, 0])
    torch.testing.assert_close(cond.vector[1], none.vector[1])
    assert not torch.allclose(cond.vector[0], none.vector[0])


def test_padding_says_nothing() -> None:
    space = Words.fit(["red bird on a tree", "bird"])
    torch.manual_seed(0)
    tower = Conditioner({"x": space, "caption": space}, 16).maps["caption"]
    told = torch.from_numpy(space.write(["bird", "red bird on a tree"]))[:1, 0]
    length = int((told > 0).sum())
    assert length < told.shape[1]
    tokens, whole = tower(told)
    alone, shorter = tower(told[:, :length])
    torch.testing.assert_close(tokens[:, :length], alone)
    torch.testing.assert_close(whole, shorter)
    with torch.no_grad():
        tower.embedding.weight[0] += 1.0  # of padding
    again, same = tower(told)
    torch.testing.assert_close(tokens[:, :length], again[:, :length])
    torch.testing.assert_close(whole, same)


@pytest.mark.parametrize("captions", ["csv", "txt"])
def test_captions_from_a_table_and_from_files_beside_the_pictures(tmp_path: Path, captions: str) -> None:
    data = open_data(squares(tmp_path / "pictures", captions=captions))
    assert data.captions is not None
    assert data.captions[0] == "A red square." and len(data.captions) == 90
    seen = worded(data, "diffusion:text", {})
    assert isinstance(seen.spaces["caption"], Words)
    assert seen.spaces["caption"].read(seen.conditions["caption"][:2]) == ["a red square .", "a green square ."]
    assert worded(data, "diffusion", {}) is data


def test_captions_made_of_labels(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        squares(tmp_path / "pets" / name, 20, captions="none")
    assert set(captions_of(open_data(tmp_path / "pets"))) == {"cat", "dog"}
    from trilemma.modalities.contract import opening_of

    opening = opening_of({"data.template": "a photo of a {label}"}, None, None, False)
    data = open_data(tmp_path / "pets", opening=opening)
    assert set(captions_of(data)) == {"a photo of a cat", "a photo of a dog"}
    with pytest.raises(InputError, match="where the label goes"):
        captions_of(open_data(tmp_path / "pets", opening=opening_of({"data.template": "a cat"}, None, None, False)))


def test_no_captions_is_an_error_that_says_where_to_put_them(tmp_path: Path) -> None:
    data = open_data(squares(tmp_path / "pictures", captions="none"))
    with pytest.raises(InputError, match=r"no captions; put a metadata\.csv"):
        worded(data, "diffusion:text", {})


@pytest.mark.parametrize(
    ("name", "case"),
    [("diffusion:text", "captions"), ("diffusion:clip-guided", "impressions"), ("unclip", "impressions")],
)
def test_guidance_under_captions_is_not_chosen_by_distances(name: str, case: str) -> None:
    model = build(name, CASES[case], settings(name, CASES[case]))
    assert isinstance(model, Samples)
    questions = model.choices()
    assert questions and all(answer.guidance is None for question in questions for answer in question)
    labelled = build("diffusion", CASES["image"], settings("diffusion", CASES["image"]))
    assert isinstance(labelled, Samples) and labelled.choices()[0][0].guidance is not None


def test_a_model_that_reads_makes_what_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tl.train(
        squares(tmp_path / "pictures"), model="diffusion:text", out=tmp_path / "run", budget="4000", size="xs",
        quiet=True, settings={**PLAIN, "network.width": 16, "optimizer.rate": 5e-3},
    )  # fmt: skip
    loaded = tl.load(run.folder)
    for name, value in COLOURS.items():
        made = loaded.generate(6, prompt=f"a {name} square", seed=1).reshape(-1, 3).mean(0)
        assert made.argmax() == np.argmax(value), (name, made)
    (first, same) = (loaded.generate(2, prompt="red", seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, same)
    red = open_data(tmp_path / "pictures").x[:1]
    assert (loaded.vary(loaded.modality.export(red), strength=0.0) == loaded.modality.export(red)).all()
    turned = loaded.vary(loaded.modality.export(red), n=6, prompt="a blue square", strength=0.95)
    assert turned.reshape(-1, 3).mean(0).argmax() == 2
    with pytest.raises(InputError, match="--strength 2"):
        loaded.vary(loaded.modality.export(red), strength=2.0)
    away = loaded.generate(6, prompt="a square", negative="a red square", seed=1).reshape(-1, 3).mean(0)
    towards = loaded.generate(6, prompt="a square", negative="a blue square", seed=1).reshape(-1, 3).mean(0)
    assert away[0] < towards[0]
    loaded.generate(1, prompt="a purple square")
    assert "'purple'" in capsys.readouterr().err
    with pytest.raises(InputError, match="no word"):
        loaded.generate(1, prompt="  ")
    with pytest.raises(InputError, match="say with --prompt"):
        loaded.generate(1, negative="red")
    loaded.options = Options(guidance=1.0)  # as the choices of a training may be
    for asking in (loaded.generate, partial(loaded.vary, loaded.modality.export(red))):
        with pytest.raises(
            InputError, match="--negative: needs guidance above 1, and this run's is 1: add --guidance 3"
        ):
            asking(n=1, prompt="a square", negative="red")


def test_the_critic_rejects_real_data_under_captions_of_others() -> None:
    case = CASES["captions"]
    model = build("gan", case, settings("gan", case))
    assert isinstance(model, GAN)
    randomise(model)
    batch = case.batch()
    words = model.spaces["caption"]
    assert isinstance(words, Words)
    real = model.space.embed(batch.x)
    on_real = model.judge(real, batch.raw, batch.present)
    kept = torch.from_numpy(words.write(["red bird"])[0])
    words.kept.zero_()[:, : kept.shape[1]] = kept
    loss = model.mismatch(real, on_real, batch)
    own = words.read(batch.raw["caption"])
    assert [bool(value != 0) for value in loss] == [text not in ("", "red bird") for text in own]


def test_prompts_of_a_model_that_does_not_read_are_an_error(tmp_path: Path) -> None:
    run = tl.train(
        squares(tmp_path / "pictures"), model="diffusion", out=tmp_path / "run", budget="256", size="xs", quiet=True,
        settings={**PLAIN, "network.width": 16},
    )  # fmt: skip
    with pytest.raises(InputError, match="has not learned from captions"):
        tl.load(run.folder).generate(1, prompt="a cat")


def test_codes_are_made_of_captions_too(tmp_path: Path) -> None:
    folder, out = squares(tmp_path / "pictures"), tmp_path / "run"
    settings = {**PLAIN, "text": "words", "network.width": 16, "optimizer.rate": 1e-2}
    tl.train(folder, model="diffusion:latent", out=out, budget="1000", size="xs", quiet=True, settings=settings)
    loaded, red = tl.load(out), folder / "000.png"
    assert loaded.generate(2, prompt="a red square").shape == (2, 8, 8, 3)
    # Others of a picture are made of its codes: with nothing taken away it is what the autoencoder gives back.
    given = open_data(folder).x[:1]
    with torch.no_grad():
        space = loaded.model.space
        back = space.decode(space.embed(torch.tensor(given)))  # type: ignore[operator]
    same = loaded.vary(red, n=2, strength=0.0, raw=True)
    assert np.abs(same.astype(float) - back.numpy()).max() <= 1
    others = loaded.vary(red, n=3, strength=0.5)
    assert others.shape == (3, 8, 8, 3) and len(np.unique(others.reshape(3, -1), axis=0)) == 3
    asked = [loaded.vary(red, n=1, prompt=f"a {name} square", strength=0.9, guidance=4.0) for name in ("red", "blue")]
    assert not np.array_equal(*asked), "it is deaf to what it is asked"
    said = call("edit", out, red, "--prompt", "a blue square", "--strength", 0.9, "--guidance", 4,
                "--out", tmp_path / "blue.npy")  # fmt: skip
    assert said.code == 0, said.err
    np.testing.assert_array_equal(np.load(tmp_path / "blue.npy"), asked[1])


def test_a_way_between_samples_begins_and_ends_with_them(tmp_path: Path) -> None:
    folder, out = squares(tmp_path / "pictures"), tmp_path / "run"
    tl.train(folder, model="gan:text", out=out, budget="256", size="xs", quiet=True, settings=PLAIN)
    loaded = tl.load(out)
    np.testing.assert_array_equal(loaded.interpolate(0, 1, steps=2), loaded.generate(2))
    assert "captions of training examples" in taken_along(loaded)[0]
    ends = loaded.generate(3, prompt="a red square", truncation=0.0), loaded.generate(3, truncation=0.0)
    assert (ends[0] == ends[0][0]).all() and not (ends[1] == ends[0][0]).all(), "a mean for each caption"
    assert loaded.mix([0, 1], truncation=0.5).shape == (3, 3, 8, 8, 3)
    with pytest.raises(InputError, match="no guidance"):
        loaded.generate(2, prompt="a red square", negative="blue")


def test_half_a_sign_is_read_as_a_question_mark() -> None:
    space = Words.fit(["a red bird", "half \ud800 a sign"])
    assert (space.write(["a red \udcff"]) == space.write(["a red ?"])).all()
