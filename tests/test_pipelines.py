"""Pipelines of `diffusers` in a comparison, and runs as such pipelines. Most need the extra `diffusers`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_cli import call
from test_compare import bars, refused
from test_words import squares

import trilemma as tl
from trilemma.errors import InputError
from trilemma.modalities.contract import Data
from trilemma.modalities.door import open_data
from trilemma.report.asked import samples_of
from trilemma.report.pipelines import Pipeline, pipeline_of
from trilemma.tasks.load import Loaded
from trilemma.tasks.pipeline import PIPELINE, export_pipeline, pictures

PLAIN = {"training.previews": 1, "training.preview_samples": 16, "training.choose_samples": 0}


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(bars())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of coloured 16 x 16 pictures with random weights."""
    diffusers = pytest.importorskip("diffusers")
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    network = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, **blocks
    )
    folder = tmp_path_factory.mktemp("pipelines") / "theirs"
    diffusers.DDIMPipeline(network, diffusers.DDIMScheduler()).save_pretrained(folder)
    return folder


def test_a_pipeline_makes_the_samples_of_its_row(theirs: Path, data: Data, tmp_path: Path) -> None:
    given = samples_of(data, "theirs", f"{theirs}:3")
    one = given.samples
    assert isinstance(one, Pipeline) and given.figures == {} and one.steps == 3
    x, speed = one.samples(data, 17, tmp_path / "made.npy", quiet=True)
    assert x.shape == (17, 1, 8, 8) and x.dtype == data.x.dtype and x.std() > 0
    assert speed["calls"] == 3 and speed["samples_per_second"] > 0 and speed["model_bytes"] > speed["parameters"]
    assert one.facts() == {
        "pipeline": "DDIMPipeline",
        "scheduler": "DDIMScheduler",
        "steps": 3,
        "seed": one.facts()["seed"],
    }
    # Picture i depends on the seed and i alone.
    fewer, _ = one.samples(data, 11, tmp_path / "fewer.npy", quiet=True)
    np.testing.assert_array_equal(fewer, x[:11])


def test_samples_are_made_once(theirs: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Pipeline("theirs", theirs, 1)
    first, speed = one.samples(data, 10, tmp_path / "made.npy", quiet=True)
    monkeypatch.setattr(Pipeline, "_make", lambda *_, **__: pytest.fail("made again"))
    again, kept = one.samples(data, 10, tmp_path / "made.npy", quiet=True)
    np.testing.assert_array_equal(first, again)
    assert kept == speed
    with pytest.raises(pytest.fail.Exception):  # other steps, other samples
        Pipeline("theirs", theirs, 2).samples(data, 10, tmp_path / "made.npy", quiet=True)


def test_a_row_of_a_comparison(theirs: Path, tmp_path: Path) -> None:
    page = tl.compare(
        bars(), models=["vae"], budget_each="300", include={"theirs": f"{theirs}:2"}, settings=dict(PLAIN),
        out=tmp_path / "report", quiet=True,
    )  # fmt: skip
    rows = json.loads((page.parent / "results.json").read_text())["rows"]
    row = next(one for one in rows if one["name"] == "theirs")
    assert row["status"] == "ok" and row["kind"] == "included" and row["metrics"]["frechet"]["value"] > 0
    assert row["speed"]["calls"] == 2 and "theirs" in page.read_text()


def test_what_asks_for_more_than_a_count(theirs: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    diffusers = pytest.importorskip("diffusers")
    with pytest.raises(InputError, match="at least one step"):
        samples_of(data, "theirs", f"{theirs}:0")

    def told(self: Any, prompt: Any = None, batch_size: int = 1, generator: Any = None) -> None:
        raise AssertionError

    monkeypatch.setattr(diffusers.DDIMPipeline, "__call__", told)
    with pytest.raises(InputError, match="asks for prompt"):
        samples_of(data, "theirs", theirs)


def test_what_cannot_be_loaded(theirs: Path, data: Data, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(theirs, tmp_path / "pickled")
    (tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.safetensors").rename(
        tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(InputError, match="safetensors"):
        samples_of(data, "theirs", tmp_path / "pickled")
    with pytest.raises(InputError, match="hf download nobody/nothing"):
        samples_of(data, "theirs", "hub:nobody/nothing")
    points = open_data(np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32))
    with pytest.raises(InputError, match="makes pictures"):
        samples_of(points, "theirs", theirs)


# --- Without the library ----------------------------------------------------------------------------------------------


def index(folder: Path, **entries: Any) -> Path:
    folder.mkdir(exist_ok=True)
    whole = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], **entries}
    (folder / "model_index.json").write_text(json.dumps(whole))
    return folder


def test_code_from_a_folder_is_not_run(tmp_path: Path) -> None:
    assert pipeline_of("a", index(tmp_path / "a")) == Pipeline("a", tmp_path / "a")
    for entries in ({"_class_name": ["pipeline", "Mine"]}, {"unet": ["my_unet", "Mine"]}):
        with pytest.raises(InputError, match="code of its own"):
            pipeline_of("a", index(tmp_path / "a", **entries))
    (tmp_path / "a" / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        pipeline_of("a", tmp_path / "a")
    assert pipeline_of("a", tmp_path) is None and pipeline_of("a", bars()) is None


def test_a_pipeline_that_reads_is_given_the_captions_of_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Reading:
        components: dict[str, Any] = {}

        @classmethod
        def from_pretrained(cls, folder: str, **_: Any) -> Reading:
            return cls()

        def set_progress_bar_config(self, **_: Any) -> None: ...

        def to(self, device: str) -> None: ...

        def __call__(self, prompt: Any = None, generator: Any = None, output_type: str = "pil") -> Any:
            assert len(generator) == len(prompt)
            asked.extend(prompt)
            red = np.array(["red" in one for one in prompt])
            return SimpleNamespace(images=np.broadcast_to(red.reshape(-1, 1, 1, 1), (len(prompt), 8, 8, 3)))

    library: Any = ModuleType("diffusers")
    library.DiffusionPipeline = library.Reading = Reading
    library.utils = SimpleNamespace(logging=SimpleNamespace(disable_progress_bar=lambda: None))
    monkeypatch.setitem(sys.modules, "diffusers", library)
    folder = index(tmp_path / "theirs", _class_name="Reading")
    data = open_data(squares(tmp_path / "pictures", 90))
    assert data.captions is not None
    one = samples_of(data, "theirs", folder).samples
    assert isinstance(one, Pipeline) and one.reads
    held = [data.captions[row] for row in data.splits["test"]]
    assert one.captions == held
    asked.clear()
    x, _ = one.samples(data, 20, tmp_path / "made.npy", quiet=True)
    assert asked[2:] == [held[i % len(held)] for i in range(20)]  # after two to take the time by
    assert [bool(each.all()) for each in x == 255] == ["red" in caption for caption in asked[2:]]
    with pytest.raises(InputError, match="asks for prompt"):
        samples_of(open_data(bars()), "theirs", folder)


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    np.save(tmp_path / "bars.npy", bars())
    words = refused(tmp_path / "bars.npy", "--include", f"a={index(tmp_path / 'a')}", "--out", tmp_path / "report")
    assert "pip install 'trilemma[diffusers]'" in words


# --- Runs as pipelines ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    out = tmp_path_factory.mktemp("runs") / "bars"
    tl.train(bars(), model="diffusion", out=out, budget="300", size="xs", settings=dict(PLAIN), quiet=True)
    return tl.load(out)


def test_a_run_is_loaded_as_a_pipeline(run: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diffusers = pytest.importorskip("diffusers")
    import torch
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    written = export_pipeline(run, tmp_path / "theirs")
    assert {path.suffix for path in written} == {".json", ".md", ".py", ".safetensors"}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(tmp_path / "theirs"), trust_remote_code=True)
    pipeline.to("cpu")
    made = pipeline(batch_size=3, generator=torch.Generator().manual_seed(5), num_inference_steps=4).images
    assert [one.size for one in made] == [(8, 8)] * 3
    seed = int(torch.randint(2**31 - 1, (1,), generator=torch.Generator().manual_seed(5)))
    np.testing.assert_array_equal(np.stack([np.asarray(one) for one in made]), run.generate(3, seed=seed, steps=4))
    again = pipeline(batch_size=2, generator=[torch.Generator().manual_seed(5)] * 2, output_type="np").images
    assert again.shape == (2, 8, 8, 1) and again.min() >= 0 and again.max() <= 1


def test_the_command_line_writes_a_pipeline(run: Loaded, tmp_path: Path) -> None:
    """The folder that `export_pipeline` writes; the other format, and none at all, are other commands."""
    said = call("export", run.run.folder, "--to", "diffusers", "--out", tmp_path / "theirs")
    assert said.code == 0 and said.out.split() == [str(tmp_path / "theirs")], said.err
    index = json.loads((tmp_path / "theirs" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "TrilemmaPipeline"]
    export_pipeline(run, tmp_path / "again")
    held = {path.relative_to(tmp_path / "again"): path.read_bytes() for path in _files(tmp_path / "again")}
    assert held == {path.relative_to(tmp_path / "theirs"): path.read_bytes() for path in _files(tmp_path / "theirs")}
    assert "is there already" in call("export", run.run.folder, "--to", "diffusers", "--out", tmp_path / "theirs").error
    assert "diffusers" in call("export", run.run.folder, "--to", "difusers", "--out", tmp_path / "x").error


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_pipeline_of_ours_gives_numbers(run: Loaded) -> None:
    import torch

    first = pictures(run, 2, generator=[torch.Generator().manual_seed(i) for i in (1, 2)], steps=2)
    other = pictures(run, 1, generator=[torch.Generator().manual_seed(2)], steps=2)
    np.testing.assert_array_equal(first[1:], other)
    with pytest.raises(InputError, match="class_labels"):
        pictures(run, 2, labels=[0])


def test_a_run_that_reads_is_prompted_as_pipelines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the code that the folder holds, with as much of the library as it calls."""
    import torch

    class Stand:
        def register_modules(self, **parts: Any) -> None:
            self.__dict__ |= parts

    library: Any = ModuleType("diffusers")
    library.DiffusionPipeline, library.ImagePipelineOutput = Stand, SimpleNamespace
    monkeypatch.setitem(sys.modules, "diffusers", library)
    code: dict[str, Any] = {}
    exec(PIPELINE, code)
    folder = squares(tmp_path / "pictures", 30)
    settings = {**PLAIN, "network.width": 8, "steps": 3}
    tl.train(
        folder, model="diffusion:text", out=tmp_path / "run", budget="64", size="xs", settings=settings, quiet=True
    )
    loaded = tl.load(tmp_path / "run")
    pipeline = code["TrilemmaPipeline"](SimpleNamespace(loaded=loaded))

    def made(*prompt: Any, **told: Any) -> np.ndarray:
        return pipeline(*prompt, generator=torch.Generator().manual_seed(5), output_type="np", **told).images

    seed = int(torch.randint(2**31 - 1, (1,), generator=torch.Generator().manual_seed(5)))
    both = ["a red square", "a blue square"]
    mine = [loaded.generate(1, seed=seed, start=i, prompt=one, negative="green") for i, one in enumerate(both)]
    np.testing.assert_array_equal(made(both, negative_prompt="green"), np.concatenate(mine).astype(np.float32) / 255)
    assert made("a red square", batch_size=3).shape == (3, 8, 8, 3) and made().shape == (1, 8, 8, 3)
    assert not np.array_equal(made("a red square"), made("a blue square", guidance_scale=5.0))
    with pytest.raises(InputError, match="prompt: 2 of them for 3"):
        made(both, batch_size=3)


def test_what_is_no_pipeline(run: Loaded, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_pipeline(run, tmp_path)
    out, points = tmp_path / "points", np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    tl.train(points, model="vae", out=out, budget="300", size="xs", settings=dict(PLAIN), quiet=True)
    with pytest.raises(InputError, match="makes pictures"):
        export_pipeline(tl.load(out), tmp_path / "x")
