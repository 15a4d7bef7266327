"""Another library's autoencoder as the first stage. Most needs the extra `diffusers`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_compare import bars

import trilemma as tl
from trilemma.errors import InputError
from trilemma.modalities.door import open_data
from trilemma.training.outside import Outside, opened, place_of
from trilemma.training.run import Run
from trilemma.training.stages import autoencoder_of, chosen_stage, hash_of

PLAIN = {"training.previews": 1, "training.preview_samples": 16, "training.choose_samples": 0, "training.threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny AutoencoderKL with random weights, of coloured pictures."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    made = diffusers.AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, sample_size=8, **blocks)
    folder = tmp_path_factory.mktemp("outside") / "kl"
    made.save_pretrained(folder)
    return folder


def trained(out: Path, chosen: str | Path, *, settings: dict[str, Any] | None = None) -> Run:
    settings = {**PLAIN, "model.autoencoder": str(chosen), **(settings or {})}
    run = tl.train(bars(), model="diffusion", out=out, budget="500", size="xs", settings=settings, quiet=True)
    assert isinstance(run, Run)
    return run


def test_a_run_on_its_codes_holds_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "kl")
    run = trained(tmp_path / "run", tmp_path / "kl")
    about = run.config()["spaces"]["x"]
    assert about["made_by"]["model"] == "diffusers" and about["shape"] == [4, 4, 4]
    before = tl.load(run.folder).generate(4, seed=1, steps=3)
    shutil.rmtree(tmp_path / "kl")
    np.testing.assert_array_equal(tl.load(run.folder).generate(4, seed=1, steps=3), before)
    assert before.shape == (4, 8, 8) and before.dtype == np.uint8
    # Another run learns from the same codes.
    second = trained(tmp_path / "second", run.folder)
    mine, theirs = autoencoder_of(run)[0], autoencoder_of(second)[0]
    assert isinstance(theirs, Outside) and hash_of(mine) == hash_of(theirs)


def test_a_run_that_was_stopped_at_once_goes_on(folder: Path, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    shutil.copytree(folder, tmp_path / "kl")
    whole = trained(tmp_path / "whole", tmp_path / "kl")
    (tmp_path / "stopped").mkdir()
    shutil.copyfile(whole.config_file, tmp_path / "stopped" / "config.json")  # written before step 1
    again = trained(tmp_path / "stopped", tmp_path / "kl")
    assert again.weights_file.read_bytes() == whole.weights_file.read_bytes()
    # Where another autoencoder lies now, its codes would be others.
    (tmp_path / "other").mkdir()
    shutil.copyfile(whole.config_file, tmp_path / "other" / "config.json")
    theirs = diffusers.AutoencoderKL.from_pretrained(folder)
    with torch.no_grad():
        theirs.quant_conv.weight += 1
    theirs.save_pretrained(tmp_path / "kl")
    with pytest.raises(InputError, match="another one than it was"):
        trained(tmp_path / "other", tmp_path / "kl")


def test_its_codes_are_those_of_the_library(folder: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    data = open_data(bars())
    mine, theirs = opened(folder, data.spaces["x"]), diffusers.AutoencoderKL.from_pretrained(folder)
    x = torch.from_numpy(data.x[:3]).float()
    seen = (x / 127.5 - 1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        codes = theirs.encode(seen).latent_dist.mode()
        torch.testing.assert_close(mine.codes(x), codes)
        made = ((theirs.decode(codes).sample.mean(1, keepdim=True) + 1) * 127.5).round().clamp(0, 255)
        torch.testing.assert_close(mine.restored(codes), made)
    assert not any(weight.requires_grad for weight in mine.parameters())


def test_what_it_cannot_code(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in steps of 2: give --resolution"):
        opened(folder, open_data(bars()[:, :7, :7]).spaces["x"])
    points = open_data(np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32))
    with pytest.raises(InputError, match="codes pictures"):
        opened(folder, points.spaces["x"])
    with pytest.raises(InputError, match="trained already"):
        trained(tmp_path / "run", folder, settings={"autoencoder.channels": 8})
    shutil.copytree(folder, tmp_path / "pickled")
    (tmp_path / "pickled" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "pickled" / "diffusion_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        trained(tmp_path / "run", tmp_path / "pickled")
    with pytest.raises(InputError, match="hf download nobody/nothing"):
        trained(tmp_path / "run", "hub:nobody/nothing")
    assert not (tmp_path / "run").exists()


# --- Without the library ----------------------------------------------------------------------------------------------


def test_folders_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vae").mkdir()
    file = tmp_path / "vae" / "config.json"
    file.write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    assert place_of(str(tmp_path)) == place_of(str(tmp_path / "vae")) == tmp_path / "vae"
    stage = chosen_stage("diffusion", {"model.autoencoder": str(tmp_path)})
    assert stage is not None and stage.outside == tmp_path / "vae" and not stage.to_train
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'trilemma\[diffusers\]'"):
        trained(tmp_path / "run", tmp_path)
    for other in ('{"_class_name": "VQModel"}', '{"format": 1}', "[]", "{"):
        file.write_text(other)
        assert place_of(str(tmp_path)) is None
