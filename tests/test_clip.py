"""Pictures and captions in one space: the loss, retrieval, the verbs, the figures of `compare`, and bad captions."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from contract_cases import CASES
from PIL import Image

import trilemma as tl
from trilemma.batches import Options
from trilemma.errors import InputError
from trilemma.maths.losses import matching_sigmoid, matching_softmax
from trilemma.metrics.matching import caption_score, caption_variety, found_among, shuffled
from trilemma.metrics.protocol import Measure
from trilemma.modalities.door import open_data
from trilemma.models.contract import configure
from trilemma.report.asked import models_for
from trilemma.training import matcher as matchers
from trilemma.training.captions import worded
from trilemma.training.engine import Engine
from trilemma.training.sampling import Sampler
from trilemma.words import Words

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
TINY = {
    "model.network.width": 8,
    "model.network.depth": 1,
    "model.embedding": 16,
    "model.reading": 16,
    "model.layers": 1,
    "model.augment": 0.0,
    "optimizer.rate": 3e-3,
    "training.previews": 1,
}


def draw(colour: str, shape: str, number: int) -> np.ndarray:
    """(8, 8, 3): a bar or a dot of a colour on white, somewhere."""
    x, (row, column) = np.full((8, 8, 3), 255, dtype=np.uint8), divmod(number % 9, 3)
    if shape == "bar":
        x[2 * row + 1, :] = COLOURS[colour]
    else:
        x[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] = COLOURS[colour]
    return x


def folder_of(folder: Path, texts: dict[str, str] | None = None, count: int = 120) -> Path:
    """Pictures with captions such as "a red bar"; `texts`: other captions of some files."""
    folder.mkdir()
    rows = []
    for number in range(count):
        colour, shape = [*COLOURS][number % 3], ("bar", "dot")[number // 3 % 2]
        Image.fromarray(draw(colour, shape, number // 6)).save(folder / f"{number:03d}.png")
        rows.append((f"{number:03d}.png", f"a {colour} {shape}"))
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "text"), *((n, (texts or {}).get(n, t)) for n, t in rows)])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of coloured bars and dots that has learned what it can."""
    place = tmp_path_factory.mktemp("clip")
    pictures = folder_of(place / "pictures")
    settings = {**TINY, "optimizer.batch": 32}
    tl.train(pictures, model="clip", out=place / "run", budget=3_000, settings=settings, quiet=True)
    return place


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_without_equal_captions_it_is_cross_entropy_both_ways() -> None:
    logits = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = matching_softmax(logits, torch.eye(5).bool(), torch.ones(5).bool())
    own = torch.arange(5)
    rows = torch.nn.functional.cross_entropy(logits, own, reduction="none")
    columns = torch.nn.functional.cross_entropy(logits.T, own, reduction="none")
    torch.testing.assert_close(error, (rows + columns) / 2)


def test_equal_captions_are_each_others_answers() -> None:
    """With two of three alike the best value is the entropy of not knowing which; the perfect answer reaches it."""
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    perfect = torch.where(same, 50.0, -50.0).double()
    error = matching_softmax(perfect, same, torch.ones(3).bool())
    assert error.tolist() == pytest.approx([math.log(2), math.log(2), 0.0])
    assert float(matching_sigmoid(perfect, same, torch.ones(3).bool()).sum()) == pytest.approx(0.0, abs=1e-12)
    alone = matching_softmax(perfect, torch.eye(3).bool(), torch.ones(3).bool())
    assert float(alone[0]) == pytest.approx(math.log(2))  # and no more than that is ever asked


@pytest.mark.parametrize("loss", [matching_softmax, matching_sigmoid])
def test_examples_without_captions_neither_count_nor_disturb(loss) -> None:
    logits = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    here = torch.tensor([True, True, False, True])
    error = loss(logits, torch.eye(4).bool(), here)
    kept = loss(logits[here][:, here], torch.eye(3).bool(), torch.ones(3).bool())
    assert float(error[2]) == 0
    torch.testing.assert_close(error[here] / 4, kept / 3)
    nobody = loss(logits, torch.eye(4).bool(), torch.zeros(4).bool())
    assert torch.equal(nobody, torch.zeros(4).double())


@pytest.mark.parametrize(
    ("captions", "mirrored"),
    [
        (["a red bird", "it's a bird on a tree", "T-shirt"], True),
        (["a bird on the left"], False),
        (["flag of East Timor"], False),
        (["clockwise arrows"], False),
        (["waxing crescent moon"], False),
        (["b", "d"], False),
        (["a photo of the digit 3"], False),
        (["route 66"], False),
        (["右边的鸟"], False),
    ],
)
def test_what_captions_tell_of_sides_and_signs_is_not_mirrored(captions: list[str], mirrored: bool) -> None:
    spaces = {**CASES["captions"].spaces, "caption": Words.fit(captions)}
    assert configure("clip", spaces).flip is mirrored


# --- the measures -----------------------------------------------------------------------------------------------------


def test_recall_is_that_of_drawing_the_others() -> None:
    """Against drawing 99 of 299 others many times; all in order, and nothing told apart at all."""
    random = np.random.default_rng(0)
    cosines = random.normal(size=(300, 300))
    cosines[np.diag_indices(300)] += 2
    found = found_among(cosines, np.arange(300), most=5)
    tried = []
    for query in range(300):
        for _ in range(10):
            drawn = np.delete(np.arange(300), query)[random.permutation(299)[:99]]
            tried.append((cosines[query, drawn] > cosines[query, query]).sum() < 5)
    assert found.value == pytest.approx(np.mean(tried), abs=0.02)
    assert found.low is not None and found.low < found.value < found.high
    assert found_among(np.eye(200), np.arange(200), most=1).value == 1
    flat = found_among(np.zeros((250, 250)), np.arange(250), most=5)
    assert flat.value == pytest.approx(0.05, abs=1e-9)  # one picture for all captions finds nothing
    same = found_among(np.zeros((50, 50)), np.zeros(50), most=1)
    assert same.value == 1  # nobody else's caption is another one
    assert found_among(-np.eye(4), np.arange(4), most=5).value == 1  # there are no five


def test_the_interval_of_recall_covers() -> None:
    """Of twenty-four sets of one law, nearly all intervals hold what a large set gives."""

    def drawn(count: int, seed: int):
        random = np.random.default_rng(seed)
        seen, told = random.normal(size=(2, count, 8))
        told += 1.2 * seen
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (told, seen)]
        return found_among(unit[0] @ unit[1].T, np.arange(count), most=5)

    truth = drawn(1500, 99).value
    held = [one.low <= truth <= one.high for one in (drawn(200, seed) for seed in range(24))]
    assert np.mean(held) > 0.85


def test_scores_and_shuffled_pairs() -> None:
    score = caption_score(np.array([0.5, 0.7, 0.6, 0.6]))
    assert score.value == pytest.approx(0.6)
    # Student's t with three degrees of freedom.
    half = 3.182446 * np.std([0.5, 0.7, 0.6, 0.6], ddof=1) / 2
    assert (score.low, score.high) == pytest.approx((0.6 - half, 0.6 + half))
    kinds = np.array([0, 0, 0, 1, 2, 2])
    other = shuffled(6, kinds)
    assert (kinds[other] != kinds).all()
    with pytest.raises(ValueError, match="cosine"):
        caption_score(np.zeros(0))


def test_how_varied_samples_of_one_caption_are() -> None:
    random = np.random.default_rng(0)
    kinds = np.repeat(np.arange(8), 5)
    centres = random.normal(size=(8, 16))[kinds]
    assert caption_variety(centres, kinds).value == 0  # one picture for each caption
    deaf = caption_variety(random.normal(size=(40, 16)), kinds)
    assert deaf.low is not None and deaf.high is not None and deaf.low < 1 < deaf.high and deaf.value < 1.1
    # Deviations 1 of captions and 1/2 within: distances go as sqrt(1/4) to sqrt(5/4).
    many = np.repeat(np.arange(60), 5)
    x = random.normal(size=(60, 400))[many] + random.normal(size=(300, 400)) / 2
    assert caption_variety(x, many).value == pytest.approx(0.2**0.5, rel=0.02)
    assert math.isnan(caption_variety(np.ones((4, 2)), [0, 0, 1, 1]).value)
    with pytest.raises(ValueError, match="two or more of each"):
        caption_variety(np.ones((3, 2)), [0, 0, 1])


# --- the verbs --------------------------------------------------------------------------------------------------------


def test_a_word_is_no_folder_of_that_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tl.load(run / "run")
    (tmp_path / "red").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(loaded.search("red", np.stack([draw("red", "bar", 0), draw("blue", "bar", 0)]), n=2).names) == 2
    with pytest.raises(InputError, match="is a folder"):
        loaded.search("./red")


def test_search_finds_pictures_by_words(run: Path) -> None:
    loaded = tl.load(run / "run")
    assert loaded.can() == ["embed", "search", "classify", "info"]
    hits = loaded.search("a red bar", n=6)
    assert len(hits.names) == 6 and (np.diff(hits.scores) <= 0).all() and hits.x.shape == (6, 3, 8, 8)
    for name in hits.names:
        number = int(name)
        assert number % 3 == 0 and number // 3 % 2 == 0, f"{name} is no red bar"
    new = np.stack([draw(colour, "dot", 4) for colour in COLOURS])
    assert loaded.search("green dot", new, n=1).names == [loaded.read(new).names[2]]
    backwards = loaded.search(draw("blue", "bar", 3), n=2)
    assert backwards.names[0] == "a blue bar" and backwards.x is None


def test_classify_asks_for_labels_nobody_trained_for(run: Path) -> None:
    loaded = tl.load(run / "run")
    pictures = np.stack([draw(colour, "bar", number) for number in range(3) for colour in COLOURS])
    made = loaded.classify(pictures, ["red", "blue", "green"])
    assert made.found == ["red", "blue", "green"] * 3
    np.testing.assert_allclose(made.probabilities.sum(1), 1)
    assert set(loaded.classify(pictures).labels) == {f"a {c} {s}" for c in COLOURS for s in ("bar", "dot")}
    codes = loaded.embed(pictures)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-4)


def test_the_command_line(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from trilemma.cli import main

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["trilemma", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    out = run / "found.png"
    lines = call("search", str(run / "run"), "green dot", str(run / "pictures"), "-n", "3", "--out", str(out))
    assert len(lines.splitlines()) == 3 and Image.open(out).size[0] > 8
    lines = call("search", str(run / "run"), str(run / "pictures" / "001.png"), "-n", "2")
    assert lines.splitlines()[0].endswith("a blue bar")
    table = run / "classified.csv"
    call("classify", str(run / "run"), str(run / "pictures"), "--labels", "red,blue,green", "--out", str(table))
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 120 and list(rows[0]) == ["file", "label", "probability", "red", "blue", "green"]
    assert np.mean([row["label"] == [*COLOURS][number % 3] for number, row in enumerate(rows)]) > 0.9


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda one: one.search(" "), "no word"),
        (lambda one: one.search(""), "no word"),
        (lambda one: one.search("nowhere/red-bird.png"), "nowhere/red-bird.png"),
        (lambda one: one.search("red", n=0), "-n 0"),
        (lambda one: one.search(draw("red", "bar", 0), draw("red", "bar", 0)), "leave DATA out"),
        (lambda one: one.classify(draw("red", "bar", 0), ["red"]), "at least two"),
        (lambda one: one.classify(draw("red", "bar", 0), ["red", " "]), "no word"),
        (lambda one: one.generate(2), "cannot generate"),
    ],
)
def test_what_cannot_be_asked(run: Path, ask, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ask(tl.load(run / "run"))


def test_unknown_and_endless_words_are_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = tl.load(run / "run")
    assert len(loaded.search("rde bar", n=2).names) == 2
    assert "no training caption has 'rde'; near ones: red" in capsys.readouterr().err
    assert len(loaded.search("кошка", n=2).names) == 2
    assert len(loaded.search("red " * 3000, n=2).names) == 2
    assert "the rest is not read" in capsys.readouterr().err


# --- bad captions -----------------------------------------------------------------------------------------------------


def test_captions_of_every_kind_are_learned_from(tmp_path: Path) -> None:
    """Empty, of 10,000 characters, in other scripts, of signs alone: learned from, or said to be missing."""
    texts = {"000.png": "", "001.png": "  ", "002.png": "red " * 2500, "003.png": "赤い鳥", "004.png": "красная птица"}
    texts |= {"005.png": "🐦🔴", "006.png": "...", "007.png": "a" * 10_000}
    pictures = folder_of(tmp_path / "odd", texts, count=40)
    made = tl.train(pictures, model="clip", out=tmp_path / "run", budget=128, settings=TINY, quiet=True)
    assert made.finished
    loaded = tl.load(tmp_path / "run")
    assert np.isfinite(loaded.search("赤い鳥", n=3).scores).all()
    assert "赤い鳥" in loaded.search(draw("red", "bar", 0), n=40).names


@pytest.mark.parametrize(
    ("texts", "said"),
    [({f"{n:03d}.png": "" for n in range(40)}, "no captions"), ({f"{n:03d}.png": " " for n in range(40)}, "captions")],
)
def test_no_captions_is_an_error_that_says_what_to_do(tmp_path: Path, texts: dict[str, str], said: str) -> None:
    pictures = folder_of(tmp_path / "bare", texts, count=40)
    with pytest.raises(InputError, match=said) as error:
        tl.train(pictures, model="clip", out=tmp_path / "run", budget=128, settings=TINY, quiet=True)
    assert "metadata.csv" in str(error.value)
    with pytest.raises(InputError, match=r"whole batch|micro"):
        good = folder_of(tmp_path / "good", count=40)
        tl.train(
            good, model="clip", out=tmp_path / "two", budget=128, settings={**TINY, "optimizer.micro": 8}, quiet=True
        )


def test_what_is_no_clip_cannot_search(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    tl.train(x, model="autoencoder", out=tmp_path / "run", budget=64, size="xs", quiet=True)
    with pytest.raises(InputError, match="models that can: clip"):
        tl.load(tmp_path / "run").search("red")
    with pytest.raises(InputError, match="captions"):
        tl.train(x, model="clip", out=tmp_path / "clip", budget=64, quiet=True)


def test_compare_takes_no_clip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown model 'clip'"):
        tl.compare(folder_of(tmp_path / "some", count=40), models=["clip"], out=tmp_path / "out", budget_each="64")


# --- in the table -----------------------------------------------------------------------------------------------------


def test_captioned_data_are_compared_with_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusion:text is among the rows; real pairs are found, shuffled ones and noise are not; twice is once."""
    from trilemma.report.of_text import TextRuler

    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(matchers, "examples_for", lambda data: 3000)
    monkeypatch.setattr(matchers, "WIDTH", 8)
    data = open_data(folder_of(tmp_path / "pictures"))
    assert "diffusion:text" in models_for(data)
    assert "diffusion:text" not in models_for(open_data("digits"))

    def features(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1).astype(np.float64)

    ruler = TextRuler(data, features, 100, quiet=True)  # type: ignore[arg-type]
    real = ruler.floor()
    assert set(real) == {"clip_score", "clip_shuffled", "retrieval_1", "retrieval_5", "caption_variety"}
    assert real["caption_variety"].value < 0.5  # bars of one colour are alike
    assert real["clip_score"].value > real["clip_shuffled"].value + 0.1
    assert real["retrieval_1"].value > 0.4
    noise = np.random.default_rng(0).integers(0, 255, ruler.real[0].shape, dtype=np.uint8)
    assert ruler.measure(noise, ruler.real[1])["clip_score"].value < real["clip_score"].value - 0.1
    again = TextRuler(data, features, 100, quiet=True)  # type: ignore[arg-type]
    assert again.matcher.hash == ruler.matcher.hash


def test_samples_are_measured_under_captions_that_the_judge_has_not_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sample i is asked for the caption of the i-th real pair of the test split, again and again."""
    from trilemma.report import of_text

    monkeypatch.setattr(of_text, "matcher", lambda data, quiet: SimpleNamespace(hash="0", model=None))
    own = {f"{n:03d}.png": f"a bar called {n}" for n in range(120)} | {"007.png": ""}
    data = open_data(folder_of(tmp_path / "pictures", own))
    ruler = of_text.TextRuler(data, lambda x: x.reshape(len(x), -1), 10, quiet=True)  # type: ignore[arg-type]
    model: Any = SimpleNamespace(spaces=worded(data, "diffusion:text", {}).spaces)
    loaded: Any = SimpleNamespace(model=model, sampler=Sampler(model, Engine(), frequencies=None, dtype=data.x.dtype))
    ruler.ask(loaded)
    assert data.captions is not None
    held = [data.captions[row] for row in data.splits["test"] if data.captions[row]][:10]
    asked = model.spaces["caption"].read(loaded.sampler.captions(3, np.arange(13)))
    assert asked == [held[i % len(held)] for i in range(13)]
    assert not {data.captions[row] for row in data.splits["train"]} & set(asked)
    monkeypatch.setattr(ruler, "measure", lambda samples, captions: dict.fromkeys(captions, float(len(samples))))
    made: list[list[str]] = []

    def samples(count: int, *, seed: int, start: int, options: Options) -> np.ndarray:
        made.append(model.spaces["caption"].read(loaded.sampler.captions(seed, np.arange(start, start + count))))
        return np.random.default_rng(start).normal(size=(count, 3, 8, 8))

    loaded.sampler.samples, loaded.options = samples, Options()
    found = ruler.of_model(loaded, samples(13, seed=3, start=0, options=Options()), 3)
    assert list(found) == [*held, "caption_variety"]
    assert made[1:] == [held] * (of_text.EACH - 1)  # further samples of the same captions
    assert found["caption_variety"].value == pytest.approx(1, abs=0.05)  # whatever they say
    plain: Any = SimpleNamespace(model=SimpleNamespace(spaces={"x": data.spaces["x"]}))
    assert ruler.of_model(plain, np.zeros((13, 3, 8, 8)), 3) == {}


def _array(folder: Path) -> Path:
    """The same pictures as an array: without captions."""
    x = np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))])
    np.save(folder.with_suffix(".npy"), x)
    return folder.with_suffix(".npy")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_captions_of_samples_from_elsewhere(tmp_path: Path, kind: str) -> None:
    """Those of the test split count, what the CLIP that measures has learned by heart does not, and notes say so."""
    import json

    from trilemma.report.of_text import captions_beside

    own = {f"{n:03d}.png": f"a bar called {n}" for n in range(40)}
    data = open_data(folder_of(tmp_path / "pictures", own, count=40))
    assert data.captions is not None
    test, train = (data.captions[data.splits[split][0]] for split in ("test", "train"))
    theirs = folder_of(tmp_path / "theirs", count=5)
    told = [test, train, "", "A strange  one", test.upper()]
    rows = [(f"{n:03d}.png", caption) for n, caption in enumerate(told)]
    if kind == "csv":
        with open(theirs / "metadata.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file_name", "text"), *rows])
    else:
        (theirs / "metadata.csv").unlink()
    if kind == "jsonl":
        lines = [json.dumps({"file_name": name, "prompt": caption}) for name, caption in rows]
        (theirs / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    if kind == "txt":
        for name, caption in rows:
            (theirs / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    notes: list[str] = []
    found = captions_beside(data, theirs, notes)
    assert found is not None and [one.lower().split() for one in found] == [
        test.split(), [], [], ["a", "strange", "one"], test.split()
    ]  # fmt: skip
    assert [note.split(" samples ")[0] for note in notes] == ["1 of 5"] * 3
    assert "captions.txt" in notes[1] and captions_beside(data, _array(theirs), []) is None
    plain, said = (
        open_data(np.zeros((40, 8, 8, 3), dtype=np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None]),
        [],
    )
    assert captions_beside(plain, theirs, said) is None and "have none" in said[0]


def test_guidance_is_measured_of_what_reads_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quality over guidance of a model without labels has how captions are followed, under each strength."""
    from trilemma.report import probes
    from trilemma.report.teller import Teller

    told: list[float | None] = []

    def of_model(loaded: object, x: np.ndarray, seed: int, options: Options) -> dict[str, Measure]:
        told.append(options.guidance)
        return {"clip_score": caption_score(np.full(len(x), 0.5))}

    text = SimpleNamespace(of_model=of_model)
    network: Any = lambda x: x  # noqa: E731
    ruler: Any = SimpleNamespace(reader=None, attributes=None, text=text, count=100, network=network)
    monkeypatch.setattr(probes, "of_features", lambda ruler, features: {"frechet": {"value": 1.0}})
    data = open_data(folder_of(tmp_path / "pictures", count=40))
    sampler = SimpleNamespace(
        samples=lambda count, **_: np.zeros((count, 4)), labels=lambda *_: None, frequencies=None
    )  # fmt: skip
    loaded: Any = SimpleNamespace(
        sampler=sampler, options=Options(), attributes=[], config={"config": {"guidance": 3.0}},
        model=SimpleNamespace(spaces=worded(data, "diffusion:text", {}).spaces),
    )  # fmt: skip
    row: dict[str, Any] = {}
    Teller._climb(SimpleNamespace(), row, loaded, ruler)  # type: ignore[arg-type]
    assert told == [1.0, 2.0, 4.0]
    assert [point["metrics"]["clip_score"]["value"] for point in row["guided"]] == [0.5] * 3


def test_the_table_says_whether_samples_are_of_their_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that reads has the figures, what does not read has none, and the floor has those of real pairs."""
    import json

    from trilemma.training import features

    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(matchers, "examples_for", lambda data: 2400)
    monkeypatch.setattr(matchers, "WIDTH", 8)
    monkeypatch.setattr(features, "examples_for", lambda data: 512)
    pictures = folder_of(tmp_path / "pictures", count=72)
    settings = {"training.previews": 1, "training.choose_samples": 0, "model.network.width": 8, "model.steps": 2}
    names = ["diffusion:text"]
    out, theirs = tmp_path / "report", folder_of(tmp_path / "theirs", count=72)
    others = {number: f"a {colour} bar" for number, colour in enumerate(["blue", "green", "red"])}
    wrong = folder_of(tmp_path / "wrong", {f"{n:03d}.png": others[n % 3] for n in range(72)}, count=72)
    include = {"theirs": theirs, "wrong": wrong, "silent": np.load(_array(theirs))}
    tl.compare(pictures, models=names, budget_each="64", settings=settings, include=include, out=out, quiet=True)
    results = json.loads((out / "results.json").read_text())
    rows = {row["name"]: row for row in results["rows"]}
    assert not [row["problems"] for row in rows.values() if row["problems"]]
    figures = {"clip_score", "clip_shuffled", "retrieval_1", "retrieval_5", "caption_variety"}
    assert figures <= rows["diffusion:text"]["metrics"].keys()
    assert not any(figures & row["metrics"].keys() for row in results["rows"] if row["kind"] == "baseline")
    floor = next(row for row in results["rows"] if row["kind"] == "floor")
    assert floor["metrics"]["clip_score"]["value"] > rows["diffusion:text"]["metrics"]["clip_score"]["value"]
    near = {
        name: rows[name]["metrics"]["near_copies"]["value"] for name in ("resampled training set", "diffusion:text")
    }
    assert near["resampled training set"] > 0.9 > 0.1 > near["diffusion:text"], "noise is no copy of captioned pictures"
    assert "memorisation" in rows["diffusion:text"]["metrics"]
    # Another tool's pictures and their captions, alike: these are real ones of captions that the test split has.
    assert figures <= rows["theirs"]["metrics"].keys() and not figures & rows["silent"]["metrics"].keys()
    scores = {
        name: row["metrics"]["clip_score"]["value"] for name, row in rows.items() if figures <= row["metrics"].keys()
    }
    assert scores["theirs"] > floor["metrics"]["clip_score"]["value"] - 0.1  # real pictures, too
    assert max(scores["wrong"], scores["diffusion:text"]) < scores["theirs"] - 0.1
    asked = (out / "captions.txt").read_text().splitlines()
    assert asked and set(asked) <= {f"a {colour} {shape}" for colour in COLOURS for shape in ("bar", "dot")}
    judged = tl.measure(pictures, theirs, quiet=True)
    assert judged.metrics["clip_score"]["value"] == scores["theirs"] and "clip_score" in judged.floor
    assert "captions of test" in results["protocol"]["judges"]["captions"]
    page = (out / "index.html").read_text()
    assert "Caption score" in page and "Found by caption" in page
