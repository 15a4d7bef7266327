"""Export: every graph of every model gives in onnxruntime what PyTorch gives, and together they do the run's work."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import contract_cases as toy
import numpy as np
import pytest
import torch
from contract_cases import CASES
from sklearn.datasets import load_digits
from test_cli import SETTINGS, call

import trilemma as tl
from trilemma.batches import Options, Request
from trilemma.errors import InputError
from trilemma.maths.noise import Noise
from trilemma.models.contract import Decodes, Denoises, Encodes, Styles, Translates, find
from trilemma.tasks.export import _told, _write, checked, export
from trilemma.tasks.graphs import Fed, Graph, graphs

KINDS = (Decodes, Denoises, Encodes, Translates)
WHERE = ("image", "series", "table", "captions", "pairs", "unpaired")
PAIRS = [(n, c) for n, c in toy.accepted() if issubclass(find(n)[0], KINDS) and c in WHERE]


def graphs_of(name: str, case: str, options: Options | None = None) -> tuple[Any, dict[str, Graph]]:
    model = toy.build(name, CASES[case])
    toy.randomise(model)
    with torch.no_grad():
        found, _ = graphs(model.eval(), options or Options())
    return model, {graph.name: graph for graph in found}


@pytest.mark.parametrize(("name", "case"), PAIRS, ids=[f"{n}-{c}" for n, c in PAIRS])
@torch.no_grad()
def test_every_graph_is_what_the_model_is(name: str, case: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, found = graphs_of(name, case)
    alone = not (isinstance(model, Translates) and model.can_translate())
    assert ("decoder" in found) == (alone and isinstance(model, Decodes))
    assert ("encoder" in found) == (alone and isinstance(model, Encodes))
    assert ({"mapping", "synthesis"} <= found.keys()) == isinstance(model, Styles)
    assert alone or {"translate", "denoiser"} & found.keys()
    for graph in found.values():
        path = tmp_path / f"{graph.name}.onnx"
        _write(model, graph, path, "")
        assert graph.check is not None and graph.check["share_different"] < 0.01
        assert float(graph.run(graph.values(3)).float().nan_to_num().std()) > 0, "nothing to compare"


@torch.no_grad()
def test_a_file_of_other_weights_is_found_out(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, found = graphs_of("stylegan", "image")
    _write(model, found["mapping"], tmp_path / "mapping.onnx", "")
    next(model.mapping.parameters()).mul_(1.5)
    with pytest.raises(InputError, match=r"mapping\.onnx gives other numbers than the model: .* differ"):
        checked(found["mapping"], tmp_path / "mapping.onnx")


@torch.no_grad()
def test_a_network_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model, found = graphs_of("gan", "vector")
    graph = found["mapping"]
    graph.call = lambda values, noise: torch.linalg.svd(values["codes"].unsqueeze(2) @ values["codes"].unsqueeze(1))[1]
    with pytest.raises(InputError, match="mapping cannot be written as ONNX, of your own: "):
        _write(model, graph, tmp_path / "x.onnx", ", of your own")


@pytest.mark.parametrize(("name", "case"), [("stylegan", "image"), ("gan", "vector"), ("vae", "image")])
@torch.no_grad()
def test_codes_give_what_the_model_samples(name: str, case: str) -> None:
    model, found = graphs_of(name, case)
    request = toy.request(CASES[case], 4)
    if isinstance(model, Styles):
        request = request.having(Options(truncation=0.6))
    codes = model.draw(replace(request, noise=Noise(3, np.arange(4))))
    expected = model.decode(codes, request)
    values = {"codes": codes, "label": torch.eye(2)[request.raw["label"][:, 0]], "truncation": torch.full((4,), 0.6)}
    if name == "stylegan":
        values["noise"] = model.layer_noise(request.noise)
        styles = found["mapping"].run(values)
        torch.testing.assert_close(found["synthesis"].run({"styles": styles, **values}), expected)
    torch.testing.assert_close(found["decoder"].run(values), expected)
    assert {port.name for port in found["decoder"].inputs} <= values.keys()
    values["label"] = torch.zeros(4, 2)  # not told
    untold = replace(request, present={"label": torch.zeros(4, dtype=torch.bool)})
    torch.testing.assert_close(found["decoder"].run(values), model.decode(codes, untold))


@torch.no_grad()
def test_the_prior_draws_codes_of_the_mixture() -> None:
    model, found = graphs_of("vae", "image")
    model.mixture.fit(np.random.default_rng(0).normal(3, 1, (400, model.config.latent)), None, seed=0)
    request = toy.request(CASES["image"], 4)
    noise = Noise(3, np.arange(3, 7))
    values = {"noise": noise.normal(model.config.latent), "uniform": noise.uniform(1)}
    values["label"] = torch.eye(2)[[0, 1, 0, 1]]
    request.raw["label"] = torch.tensor([[0], [1], [0], [1]])
    request = replace(request, noise=Noise(3, np.arange(3, 7)))
    torch.testing.assert_close(found["prior"].run(values), model.draw(request))
    _, plain = graphs_of("gan", "vector")
    assert "prior" not in plain, "codes are the noise itself"


@torch.no_grad()
def test_the_noise_of_every_step_is_an_input() -> None:
    """A bridge walks several steps: all its draws, in their order, are one input of the graph."""
    model, found = graphs_of("bridge", "pairs", Options(steps=3))
    request = toy.request(CASES["pairs"], 3, options=Options(steps=3))
    seen: list[torch.Tensor] = []

    class Kept(Noise):
        def normal(self, *shape: int) -> torch.Tensor:
            seen.append(super().normal(*shape))
            return seen[-1]

    kept = Kept(request.noise.seed, request.noise.index)
    expected = model.translate(replace(request, noise=kept))
    noise = torch.cat([one.flatten(1) for one in seen], 1)
    assert len(seen) == 3 and found["translate"].inputs[-1].shape == (noise.shape[1],)
    torch.testing.assert_close(found["translate"].run({"source": request.raw["source"], "noise": noise}), expected)


@pytest.mark.parametrize(("case", "guidance"), [("image", 1.0), ("image", 3.0), ("pairs", 1.0)])
@torch.no_grad()
def test_the_note_says_how_to_sample(case: str, guidance: float) -> None:
    """Euler steps with the two graphs of a denoiser, as export.json describes them, are the model's own samples."""
    model, found = graphs_of("diffusion", case)
    options = Options(steps=5, sampler="euler", guidance=guidance, interval=(0.3, 5.0))
    request = toy.request(CASES[case], 3, options=options)
    y = Noise(3, np.arange(3)).normal(model.space.width, *model.space.grid)
    expected = model.sample(replace(request, noise=Noise(3, np.arange(3))))
    told = {"source": request.raw.get("source")}
    told |= {"label": torch.eye(2)[request.raw["label"][:, 0]]} if case == "image" else {}
    levels = model.grid(5).tolist()
    y = y * (levels[0] ** 2 + 1) ** 0.5
    for s, t in pairwise(levels):
        x0 = found["denoiser"].run({"y": y, "sigma": torch.full((3,), s), **told})
        if guidance != 1 and 0.3 < s <= 5.0:
            untold = {"label": torch.zeros(3, 2)}
            u = found["denoiser"].run({"y": y, "sigma": torch.full((3,), s), **untold})
            x0 = u + guidance * (x0 - u)
        y = x0 + t / s * (y - x0)
    torch.testing.assert_close(found["to_data"].run({"x0": y}), expected)


@pytest.mark.parametrize(
    ("name", "case", "words"),
    [("diffusion", "image", "low < s <= high"), ("diffusion:clip-guided", "impressions", "CLIP that leads")],
)
def test_the_notes_say_how_samples_are_guided(name: str, case: str, words: str) -> None:
    notes = graphs(toy.build(name, CASES[case]).eval(), Options())[1]
    assert sum(words in note for note in notes) == 1 and sum("uidance" in note for note in notes) == 1
    assert not any("uidance" in note for note in graphs(toy.build("diffusion", CASES["pairs"]).eval(), Options())[1])


def test_settings_have_the_interval_of_guidance(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    out = tmp_path / "run"
    tl.train(x, model="diffusion", size="xs", budget=256, settings=SETTINGS, out=out, quiet=True)
    told = json.loads(json.dumps(_told(tl.load(out), [], [], "")))
    assert told["settings"]["interval"] == [0.3, 5.0] and told["settings"]["sampler"] == "dpm++2m"


def test_a_model_with_nothing_to_export() -> None:
    class Nothing(torch.nn.Module):
        spaces = torch.nn.ModuleDict()

    with pytest.raises(InputError, match="neither decodes, encodes, denoises nor translates"):
        graphs(Nothing(), Options())  # type: ignore[arg-type]


def test_noise_that_is_handed_in_comes_back_in_order() -> None:
    given = {"noise": torch.arange(14.0).reshape(2, 7), "uniform": torch.full((2, 2), 0.75)}
    noise = Fed(2, given)
    assert torch.equal(noise.normal(2, 3)[1], torch.arange(7.0, 13).reshape(2, 3))
    assert noise.normal().tolist() == [6.0, 13.0] and noise.integers(4).tolist() == [3, 3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    digits = load_digits()
    x = (digits.images[:400] * 15).astype(np.uint8)
    out = tmp_path_factory.mktemp("run") / "vae"
    tl.train(x, model="vae", size="xs", budget=2_000, settings=SETTINGS, out=out, quiet=True)
    return out


def test_the_verb_and_its_files(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    said = call("export", run, "--out", tmp_path / "out")
    assert "decoder.onnx: codes -> x; differs by" in said.err
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["files"].keys() == {"prior.onnx", "decoder.onnx", "encoder.onnx"} and "licence" in told
    assert told["versions"].keys() == {"trilemma", "torch", "onnx", "onnxruntime"}
    loaded = tl.load(run)
    x = (load_digits().images[:5] * 15).astype(np.float32)[:, None]

    def session(name: str, **values: np.ndarray) -> np.ndarray:
        session = runtime.InferenceSession(tmp_path / "out" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        file = told["files"][f"{name}.onnx"]
        assert [one.name for one in session.get_inputs()] == [one["name"] for one in file["inputs"]]
        (made,) = session.run(None, values)
        assert list(made.shape[1:]) == file["outputs"][0]["shape"][1:]
        return made

    codes = session("encoder", x=x)
    np.testing.assert_allclose(codes, loaded.embed(x[:, 0].astype(np.uint8)), atol=1e-4)
    again = loaded.reconstruct(x[:, 0].astype(np.uint8), raw=True).astype(np.float32)
    assert np.abs(session("decoder", codes=codes) - again).max() <= 1
    call("export", run, "--out", tmp_path / "out")  # its own earlier files give way


def test_what_cannot_be_exported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unknown format 'onx'. Did you mean 'onnx'" in call("export", run, "--to", "onx").error
    assert "not a run" in call("export", tmp_path, "--out", tmp_path / "out").error
    assert "name a folder" in call("export", run, "--out", tmp_path / "net.onnx").error
    with pytest.raises(InputError, match="unknown format"):
        export(tl.load(run), tmp_path / "out", to="torchscript")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'trilemma[onnx]'" in call("export", run, "--out", tmp_path / "out").error
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_left_alone(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "photo.png").write_text("mine")
    assert "holds something else (photo.png)" in call("export", run, "--out", tmp_path).error
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_without_onnxruntime_files_are_written_unchecked(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "decoder.onnx: codes -> x; not checked: no onnxruntime" in call("export", run, "--out", tmp_path / "o").err
    told = json.loads((tmp_path / "o" / "export.json").read_text())
    assert told["files"]["decoder.onnx"]["check"] is None and "were not checked" in told["notes"][-1]


def test_own_networks_are_asked_for(tmp_path: Path) -> None:
    """A run of your own networks: the command line cannot have them, Python can."""
    own = {"encoder": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16)),
           "decoder": torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Unflatten(1, (1, 8, 8)))}  # fmt: skip
    x = (load_digits().images[:200] * 15).astype(np.uint8)
    settings = {**SETTINGS, "model.latent": 8}
    tl.train(x, model="vae", budget=500, settings=settings, out=tmp_path / "run", networks=own, quiet=True)
    said = call("export", tmp_path / "run", "--out", tmp_path / "out").error
    assert "trained with your own networks (decoder, encoder)" in said or "(encoder, decoder)" in said
    pytest.importorskip("onnx")
    files = tl.load(tmp_path / "run", networks=own).export(tmp_path / "out")
    assert [file.name for file in files] == ["prior.onnx", "decoder.onnx", "encoder.onnx", "export.json"]


def test_requests_name_their_conditions() -> None:
    """Shares of labels are told as labels are: all zeros are none."""
    _, found = graphs_of("diffusion", "image")
    graph = found["denoiser"]
    values = graph.values(3)
    assert values["label"].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert isinstance(graph.inputs[2].values, str) and Request(Fed(3)).noise.index.tolist() == [0, 1, 2]
