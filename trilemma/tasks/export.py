"""`export`: what a run is used for as ONNX files that need neither Trilemma nor PyTorch, checked against the model.

Which files there are follows from the model's capabilities (tasks/graphs.py); `export.json` beside them says what goes
in and out.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

import trilemma
from trilemma.errors import InputError, first_line, unknown
from trilemma.modalities.writing import own_folder
from trilemma.models.contract import Model
from trilemma.spaces import Space
from trilemma.tasks.graphs import Graph, graphs
from trilemma.tasks.pipeline import export_pipeline
from trilemma.tasks.travel import without_places

Loaded = Any  # a run as `load` gives it; imports point downward

FORMATS = ("onnx", "diffusers")
OPSET = 18
BATCHES = (1, 3)  # that files are checked with; graphs are made from one example
CLOSE = 1e-3  # numbers that differ by less, in parts of their size (or of 1), are equal
FEW = 0.01  # share of numbers that may differ: a value between two levels, or two tokens, is rounded either way
LICENCE = (
    "The weights follow the licence of the training data. Samples may resemble training examples: measure before you "
    "publish (trilemma compare reports memorisation)."
)


class Traced(nn.Module):
    """A graph as a module of inputs in their order, which the exporter follows."""

    def __init__(self, model: nn.Module, graph: Graph):
        super().__init__()
        self.model, self.graph = model, graph

    def forward(self, *values: Tensor) -> Tensor:
        return self.graph.run(dict(zip([port.name for port in self.graph.inputs], values, strict=True)))


def export(loaded: Loaded, out: str | Path, *, to: str = "onnx") -> list[Path]:
    """Write all graphs of a run into a folder, check them, and say in export.json what they are.

    Raises:
        InputError: a format that is not known; a folder with other things in it; the extra is not installed; a network
            (of your own) that cannot be written, or whose file gives other numbers than the model.
    """
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    if to == "diffusers":
        return export_pipeline(loaded, Path(out))
    try:
        import onnx
    except ImportError:
        raise InputError("export: writing ONNX needs the extra: pip install 'trilemma[onnx]'") from None
    model = copy.deepcopy(loaded.model).cpu().float().eval()
    out = Path(out)
    with torch.no_grad():
        found, notes = graphs(model, loaded.options)
        files = [out / f"{graph.name}.onnx" for graph in found]
        with own_folder(out, [*files, out / "export.json"]):
            for graph, path in zip(found, files, strict=True):
                own = ", ".join(loaded.config["own"]["networks"])
                _write(model, graph, path, f" (it has your own networks: {own})" if own else "")
            told = _told(loaded, found, notes, onnx.__version__)
            (out / "export.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*files, out / "export.json"]


def _write(model: Model, graph: Graph, path: Path, own: str) -> None:
    import onnx

    values, names = graph.values(1), [port.name for port in graph.inputs]
    axes = {name: {0: "batch"} for name in [*names, graph.output]}
    # PyTorch's own rule for it asks for the rank in the graph, and runtimes refuse that.
    torch.onnx.register_custom_op_symbolic("aten::scatter_reduce", _scatter_reduce, OPSET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes of one example are constants: what the check below is for
            torch.onnx.export(
                Traced(model, graph).eval(), tuple(values.values()), str(path), dynamo=False, opset_version=OPSET,
                input_names=names, output_names=[graph.output], dynamic_axes=axes,
            )  # fmt: skip
    except InputError:
        raise
    except Exception as problem:
        raise InputError(f"export: {graph.name} cannot be written as ONNX{own}: {first_line(problem)}") from problem
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::scatter_reduce", OPSET)
    # What a graph does not use is not among its inputs.
    used = {one.name for one in onnx.load(str(path), load_external_data=False).graph.input}
    graph.unused = set(names) - used
    graph.check = checked(graph, path, own)


def _scatter_reduce(g: Any, x: Any, dim: Any, index: Any, values: Any, reduce: Any, include_self: Any) -> Any:
    """The largest of the values that fall on each channel, as Mixed asks for."""
    return g.op("ScatterElements", x, index, values, axis_i=1, reduction_s="max")


def checked(graph: Graph, path: Path, own: str = "") -> dict[str, Any] | None:
    """How far the file's outputs are from the model's; None without onnxruntime.

    Raises:
        InputError: too far.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    largest, differ, many = 0.0, 0, 0
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        for count in BATCHES:
            values = graph.values(count, seed=count)
            (made,) = session.run(None, {n: value.numpy() for n, value in values.items() if n not in graph.unused})
            expected = graph.run(values).numpy()
            assert made.shape == expected.shape, f"shape {made.shape} instead of {expected.shape}"
            both = np.isnan(made.astype(np.float64)) & np.isnan(expected.astype(np.float64))
            apart = np.where(both, 0.0, np.abs(made.astype(np.float64) - expected))
            largest = max(largest, float(np.nan_to_num(apart, nan=np.inf).max()))
            size = np.maximum(np.abs(np.nan_to_num(expected.astype(np.float64))), 1.0)
            differ, many = differ + int((~(apart <= CLOSE * size)).sum()), many + made.size
    except Exception as problem:
        raise InputError(f"export: {path.name} does not run{own}: {first_line(problem)}") from problem
    if differ > FEW * many:
        raise InputError(
            f"export: {path.name} gives other numbers than the model{own}: {differ / many:.1%} of them differ, by up "
            f"to {largest:.3g}"
        )
    return {"batches": list(BATCHES), "largest_difference": largest, "share_different": differ / many}


def _told(loaded: Loaded, found: list[Graph], notes: list[str], version: str) -> dict[str, Any]:
    """export.json"""
    versions = {"trilemma": trilemma.__version__, "torch": torch.__version__, "onnx": version}
    try:
        import onnxruntime

        versions["onnxruntime"] = onnxruntime.__version__
    except ImportError:
        notes = [*notes, "These files were not checked: onnxruntime is not installed."]
    spaces = {name: dict(_statistics(cast(Space, space))) for name, space in loaded.model.spaces.items()}
    return {
        "format": "onnx",
        "opset": OPSET,
        "versions": versions,
        "licence": LICENCE,
        "model": loaded.config["model"],
        "run": loaded.run.folder.name,
        "data": loaded.config["data"]["name"],
        "labels": loaded.label_names,
        "files": {f"{graph.name}.onnx": _file(graph) for graph in found},
        "notes": notes,
        "options": {key: value for key, value in asdict(loaded.options).items() if value is not None},
        "settings": {
            k: v
            for k, v in without_places(loaded.config)["config"].items()
            if isinstance(v, (int, float, str, bool, list))
        },
        "spaces": spaces,
        "modality": loaded.config["data"]["modality"],
    }


def _file(graph: Graph) -> dict[str, Any]:
    example = graph.values(1)
    output = graph.run(example)

    def port(name: str, value: Tensor, told: str) -> dict[str, Any]:
        kind = str(value.dtype).removeprefix("torch.")
        return {"name": name, "type": kind, "shape": ["batch", *value.shape[1:]], "values": told}

    return {
        "does": graph.does,
        "inputs": [port(p.name, example[p.name], p.values) for p in graph.inputs if p.name not in graph.unused],
        "outputs": [port(graph.output, output, graph.gives)],
        "check": graph.check,
    }


def _statistics(space: Space) -> Iterator[tuple[str, Any]]:
    """A Space in numbers, its mean and deviation by channel."""
    yield from space.describe().items()
    for name in ("mean", "deviation"):
        value = getattr(space, name, None)
        if isinstance(value, Tensor):
            yield name, value.flatten().tolist()
